/*
 * pgiam: AWS IAM tokens as PostgreSQL passwords.
 *
 * Amazon RDS, Aurora and Aurora DSQL accept, instead of a password, a token that is valid for 15 minutes: a request
 * signed with the program's AWS credentials. This library finds the credentials as the AWS CLI does (environment,
 * profiles with roles, SSO and processes, web identity, container endpoint, EC2 instance role), keeps them fresh and
 * makes a token per call:
 *
 *     #include <libpq-fe.h>
 *     #include <pgiam.h>
 *     #include <stdio.h>
 *
 *     int main(int argc, char **argv)
 *     {
 *         const char *host = argc > 1 ? argv[1] : "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
 *         char *token;
 *         pgiam_error *error;
 *         if (pgiam_generate_token(host, 5432, NULL, "app_user", &token, &error) != PGIAM_OK) {
 *             fprintf(stderr, "%s\n", pgiam_error_message(error));
 *             pgiam_error_free(error);
 *             return 1;
 *         }
 *         const char *keywords[] = {"host", "port", "user", "dbname", "sslmode", "password", NULL};
 *         const char *values[] = {host, "5432", "app_user", "app", "verify-full", token, NULL};
 *         PGconn *connection = PQconnectdbParams(keywords, values, 0);
 *         pgiam_string_free(token);
 *         if (PQstatus(connection) != CONNECTION_OK)
 *             fprintf(stderr, "%s", PQerrorMessage(connection));
 *         PQfinish(connection);
 *         return 0;
 *     }
 *
 * A token is a password: send it over TLS only (sslmode=verify-full, or at least require). The server checks it at login;
 * a connection stays open when its token expires. Make a new token for every new connection.
 *
 * Conventions
 *   Texts    are NUL-terminated UTF-8. The library copies what it needs of its arguments.
 *   Outputs  that are not NULL are set to NULL or 0 on entry and filled only on PGIAM_OK.
 *   Errors   go to *error if error is not NULL; the caller owns them. There is no thread-local or global last error.
 *   Frees    you free what a function returns, once: a token with pgiam_string_free (it is wiped), a client with
 *            pgiam_client_free, an error with pgiam_error_free. All three accept NULL. Do not free the results of
 *            pgiam_error_message, pgiam_version and pgiam_status_name.
 *   Threads  every function may be called from any thread at any time. Any number of threads may share a client or an
 *            error; free one when no other thread uses it. Cancellation (pthread_cancel), deferred or asynchronous, takes
 *            effect when the function returns. Not async-signal-safe: do not call from a signal handler.
 *   Time     a function that makes tokens waits while there are no valid cached credentials, at most for timeout_ms (10 s;
 *            EC2 metadata alone 2 s). If timeout_ms is not set, a credential_process that can ask a person at the
 *            terminal may take 2 minutes. With cached credentials a call waits in two cases, under the same limit: keys
 *            from the profile files are checked for changes if the last check was 30 seconds ago or more, and the
 *            region of an endpoint name that contains none may have to be read from EC2 metadata, once.
 *            pgiam_client_try_generate_token never waits. Credentials are renewed before they expire by a background
 *            thread, which takes no signals and ends afterwards.
 *   fork     a child may use everything that it inherits: pgiam waits for no lock of the parent and uses none of its
 *            connections. POSIX allows the child of a program with several threads to call only async-signal-safe
 *            functions until exec; pgiam needs malloc there, which works with glibc.
 *   Exit     a program may end while calls and fetches run, and may call from its exit handlers. A credential_process
 *            that is running is not killed then: it ends by itself. The library stays loaded after dlclose.
 *   Signals  a call that a signal handler interrupts goes on, with and without SA_RESTART. Do not leave a call with
 *            longjmp or pthread_exit from a handler. SIGCHLD may be ignored and children may be reaped: the only child
 *            that the library starts is a credential_process, whose output then counts without its exit status.
 *   Stack    64 KB are enough for every call, except for a look-up of a host name where no thread can be started.
 *   Memory   when malloc fails, the program ends with SIGABRT. A call that fails for lack of descriptors or threads says
 *            so, and the next one works if they are there again.
 *   Files    descriptors are closed on exec, and none stays open after a fetch. The only files that the library writes
 *            are PGIAM_LOG_FILE and the caches of aws sso login and aws login, each in one step.
 *   Variables
 *            of the environment are read once, by the first call that needs them, and again by pgiam_client_refresh. Do
 *            not call setenv in another thread meanwhile. A credential_process gets the environment as it was then. The
 *            environment of a set-user-id program is not read, and such a program starts no credential_process.
 *   Log      PGIAM_LOG=warn, info or debug writes a line for each event, such as which credentials are used, to standard
 *            error or to the file PGIAM_LOG_FILE. No line has a secret. A program that closes descriptor 2 and opens a
 *            file of its own that gets this number should do so after the first call, and with O_CLOEXEC: then no line
 *            is written to it.
 *   errno    is not changed. No function throws, exits or installs a signal handler. There is nothing to initialise.
 *   ABI      functions and statuses are only added within one SONAME. Names starting with pgiam_libpq_ are private to
 *            pgiam-libpq.h.
 */

#ifndef PGIAM_H
#define PGIAM_H

#include <stdint.h>

#define PGIAM_VERSION "0.1.0"
#define PGIAM_VERSION_MAJOR 0
#define PGIAM_VERSION_MINOR 1
#define PGIAM_VERSION_PATCH 0

/**
 * Settings and cached credentials. Any number of threads may use one at the same time. Free it once, when no thread uses
 * it any more. A child process may use it after fork.
 */
typedef struct pgiam_client pgiam_client;

/**
 * Why a call failed. Immutable, so threads may share it. Free it once with pgiam_error_free.
 */
typedef struct pgiam_error pgiam_error;

/**
 * The result of a call: PGIAM_OK (0) or one of PGIAM_ERROR_*. Values are never changed or reused, only added: treat an
 * unknown one as a failure.
 */
typedef int32_t pgiam_status;

/**
 * Success.
 */
#define PGIAM_OK 0

/**
 * A host, port, region or user that no token can be made for, or NULL where a value is required. Calling again with the
 * same arguments will fail again.
 */
#define PGIAM_ERROR_INVALID_ARGUMENT 1

/**
 * A setting, an environment variable or a profile file is wrong, or a keyword is unknown; the message names it.
 */
#define PGIAM_ERROR_INVALID_CONFIGURATION 2

/**
 * No credential source is configured; the message lists the sources that were tried.
 */
#define PGIAM_ERROR_NO_CREDENTIALS 3

/**
 * The endpoint name contains no region, and neither the configuration nor EC2 metadata has one.
 */
#define PGIAM_ERROR_NO_REGION 4

/**
 * A configured credential source refused or failed; the message names it.
 */
#define PGIAM_ERROR_PROVIDER 5

/**
 * The time limit was reached (setting timeout_ms) or a service did not answer in time. Calling again may help.
 */
#define PGIAM_ERROR_TIMEOUT 6

/**
 * The only credentials found have expired.
 */
#define PGIAM_ERROR_CREDENTIALS_EXPIRED 7

/**
 * Only from functions that never wait: credentials are being fetched in the background; call again after 20 ms or more.
 */
#define PGIAM_ERROR_WOULD_BLOCK 8

/**
 * A bug of this library, or a failure of the operating system.
 */
#define PGIAM_ERROR_INTERNAL 9

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a token for host, port and user. Pass it to libpq as the password; it is valid for at most 15 minutes. Uses the
 * process-wide default client, which reads the environment and the AWS profile files at the first call and is shared with
 * pgiam-libpq.h. The first call waits for credentials, later ones usually take microseconds: see Blocking above.
 * Returns PGIAM_OK or any error except PGIAM_ERROR_WOULD_BLOCK.
 *
 * @param host    the endpoint name, as the RDS console shows it; case and one trailing dot do not matter
 * @param port    1 to 65535
 * @param region  NULL or "": taken from the endpoint name, else AWS_REGION, AWS_DEFAULT_REGION, the profile or the EC2
 *                instance metadata
 * @param user    the database user, who has been granted rds_iam
 * @param token   receives the token, or NULL on failure; free it with pgiam_string_free
 * @param error   receives NULL, or on failure the reason; free it with pgiam_error_free; may be NULL
 */
pgiam_status pgiam_generate_token(const char *host,
                                  int32_t port,
                                  const char *region,
                                  const char *user,
                                  char **token,
                                  pgiam_error **error);

/**
 * Wipes and frees a token. NULL is allowed.
 */
void pgiam_string_free(char *string);

/**
 * Makes a client from settings in two arrays that end with NULL, as for PQconnectdbParams. Reads the environment and the
 * AWS profile files, as pgiam_client_refresh does later; what is wrong in them is an error of the first call that needs it. Does not use the network.
 *
 *     keyword      value
 *     profile      a profile of the AWS config and credentials files; keys in the environment are then skipped
 *     region       the region for endpoint names that contain none
 *     service      auto (default): dsql for Aurora DSQL endpoint names, rds for all others; rds; dsql
 *     timeout_ms   milliseconds that one call may wait, 1 to 3600000 (default 10000)
 *     role_arn     a role to assume with the credentials found, through STS
 *     external_id  the external id that the role's trust policy requires
 *     role_session_name
 *                  the name of that session in CloudTrail (default: pgiam- and the time)
 *
 * A NULL or empty value means the default; of a repeated keyword the last counts. Returns PGIAM_OK,
 * PGIAM_ERROR_INVALID_CONFIGURATION for an unknown keyword or a wrong value, PGIAM_ERROR_INVALID_ARGUMENT for a NULL that
 * is not allowed or text that is not UTF-8, or PGIAM_ERROR_INTERNAL.
 *
 * @param keywords  NULL: all defaults
 * @param values    as many as there are keywords; NULL only if keywords is NULL or empty
 * @param client    receives the client, or NULL on failure; free it with pgiam_client_free
 * @param error     as in pgiam_generate_token
 */
pgiam_status pgiam_client_new(const char *const *keywords,
                              const char *const *values,
                              pgiam_client **client,
                              pgiam_error **error);

/**
 * Like pgiam_generate_token, but uses `client` and its timeout_ms. Returns the same statuses.
 *
 * @param expires_at  receives the Unix time in seconds at which the server stops accepting the token for new logins:
 *                    in 15 minutes, or when the credentials expire if that is earlier; 0 on failure; may be NULL
 */
pgiam_status pgiam_client_generate_token(pgiam_client *client,
                                         const char *host,
                                         int32_t port,
                                         const char *region,
                                         const char *user,
                                         char **token,
                                         int64_t *expires_at,
                                         pgiam_error **error);

/**
 * Like pgiam_client_generate_token, but never waits: for event loops. PGIAM_ERROR_WOULD_BLOCK means that a background
 * thread fetches credentials, or checks the files that static keys are from (2 seconds at most); call again after 20
 * milliseconds or more. The next call after a fetch that failed returns its error. Then the fetch pauses, after repeated
 * failures up to 32 seconds, and calls in that pause return PGIAM_ERROR_WOULD_BLOCK.
 *
 * Returns PGIAM_OK or any error.
 */
pgiam_status pgiam_client_try_generate_token(pgiam_client *client,
                                             const char *host,
                                             int32_t port,
                                             const char *region,
                                             const char *user,
                                             char **token,
                                             int64_t *expires_at,
                                             pgiam_error **error);

/**
 * Reads the environment and the profile files again and fetches credentials now, for example after a login was refused
 * or after keys were changed. Blocks at most for timeout_ms, or 2 minutes for a credential_process that can ask a person if
 * timeout_ms is not set. If it fails, the cached credentials stay in use.
 *
 * Returns PGIAM_OK or any error except PGIAM_ERROR_NO_REGION and PGIAM_ERROR_WOULD_BLOCK.
 */
pgiam_status pgiam_client_refresh(pgiam_client *client,
                                  pgiam_error **error);

/**
 * Frees a client and wipes its credentials. NULL is allowed. Does not wait for a background fetch.
 */
void pgiam_client_free(pgiam_client *client);

/**
 * Returns what went wrong and what to do: one line of UTF-8 without a newline and without secrets. The string is valid
 * until pgiam_error_free. For NULL: an empty string.
 */
const char *pgiam_error_message(const pgiam_error *error);

/**
 * Frees an error. NULL is allowed.
 */
void pgiam_error_free(pgiam_error *error);

/**
 * Returns the library's version, such as "0.1.0". Do not free it. PGIAM_VERSION is the header's version.
 */
const char *pgiam_version(void);

/**
 * Returns the name of a status, such as "PGIAM_ERROR_TIMEOUT", or "PGIAM_ERROR_UNKNOWN". Do not free it.
 */
const char *pgiam_status_name(pgiam_status status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PGIAM_H */
