/*
 * pgiam: AWS IAM tokens as PostgreSQL passwords.
 *
 * Amazon RDS, Aurora and Aurora DSQL accept, in place of a password, a token that lives 15 minutes: a request signed
 * with the program's AWS credentials. This library finds those credentials as the AWS command line does (environment,
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
 * A token is a password: give it to connections with TLS only (sslmode=verify-full, or at least require). It is checked
 * at login; a connection that is open stays open when the token ends. Ask for a new one for every new connection.
 *
 * Conventions
 *   Texts    are NUL-terminated UTF-8. Inputs are borrowed for the call and copied if need be.
 *   Outputs  that are not NULL are set to NULL or 0 on entry and filled only on PGIAM_OK.
 *   Errors   go to *error, owned by the caller, if error is not NULL. There is no thread-local or global last error.
 *   Frees    what a function hands out, you free, once: a token with pgiam_string_free (it is wiped), a client with
 *            pgiam_client_free, an error with pgiam_error_free. All three accept NULL. What pgiam_error_message,
 *            pgiam_version and pgiam_status_name return is borrowed.
 *   Threads  every function may be called from any thread at any time. Any number of threads may share a client or an
 *            error; freeing one is for when no other thread uses it. Cancellation (pthread_cancel) is held off inside.
 *            Not async-signal-safe: do not call from a signal handler.
 *   Blocking functions block only while no credentials are held, at most timeout_ms (10 s; EC2 metadata alone 2 s).
 *            pgiam_client_try_generate_token never waits. A refresh ahead of the credentials' end runs beside the
 *            callers, on a thread that ends with it and takes no signals.
 *   fork     a child may use everything it inherits: no lock of the parent is taken, no connection of it used. In a
 *            child of a threaded program the usual rule holds until exec: the C library must still be usable there.
 *   Environment is read at the first call that needs it, once, and again by pgiam_client_refresh. Do not call setenv
 *            in another thread meanwhile. A set-user-id program's environment is not read.
 *   errno    is left as it was. No function throws, exits or installs a signal handler. There is nothing to initialise.
 *   ABI      functions and statuses are only ever added within one SONAME.
 */

#ifndef PGIAM_H
#define PGIAM_H

#include <stdint.h>

#define PGIAM_VERSION "0.1.0"
#define PGIAM_VERSION_MAJOR 0
#define PGIAM_VERSION_MINOR 1
#define PGIAM_VERSION_PATCH 0

/**
 * Settings and credentials. Any number of threads may use one at the same time; free it once, when no thread uses it
 * any more. It may be used in a child after fork.
 */
typedef struct pgiam_client pgiam_client;

/**
 * Why a call failed. Immutable, so threads may share it; free it once with pgiam_error_free.
 */
typedef struct pgiam_error pgiam_error;

/**
 * How a call ended: PGIAM_OK (0) or one of PGIAM_ERROR_*. Values are never changed or reused, only appended: treat one
 * that you do not know as a failure.
 */
typedef int32_t pgiam_status;

/**
 * The call did what it says.
 */
#define PGIAM_OK 0

/**
 * A host, port, region or user that no token can be made for, or a NULL where a value is needed. Asking again with the
 * same arguments is of no use.
 */
#define PGIAM_ERROR_INVALID_ARGUMENT 1

/**
 * A setting, an environment variable or a profile file is wrong; the message names it.
 */
#define PGIAM_ERROR_INVALID_CONFIGURATION 2

/**
 * No source of credentials is configured; the message lists those looked at.
 */
#define PGIAM_ERROR_NO_CREDENTIALS 3

/**
 * The endpoint's name carries no region and none is configured.
 */
#define PGIAM_ERROR_NO_REGION 4

/**
 * A configured source of credentials refused or failed; the message names it.
 */
#define PGIAM_ERROR_PROVIDER 5

/**
 * The time-out passed first (setting timeout_ms). Asking again may help.
 */
#define PGIAM_ERROR_TIMEOUT 6

/**
 * The only credentials found have expired.
 */
#define PGIAM_ERROR_CREDENTIALS_EXPIRED 7

/**
 * From pgiam_client_try_generate_token only: a fetch has been started; ask again, not sooner than 20 ms.
 */
#define PGIAM_ERROR_WOULD_BLOCK 8

/**
 * A fault of this library or of the operating system.
 */
#define PGIAM_ERROR_INTERNAL 9

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a token for host, port and user: the password to give to libpq, good for at most 15 minutes. Uses the
 * process-wide default client, which reads the environment and the AWS profile files at the first call. Blocks until
 * credentials are at hand: the first call at most 10 seconds, later ones microseconds.
 *
 * @param host    the endpoint's name, as the RDS console shows it; case and one trailing dot do not matter
 * @param port    1 to 65535
 * @param region  NULL or "": found from the endpoint's name, else AWS_REGION, AWS_DEFAULT_REGION, the profile or the
 *                EC2 instance metadata
 * @param user    the database user, granted rds_iam
 * @param token   receives the token, or NULL on failure; free it with pgiam_string_free
 * @param error   receives NULL, or on failure the reason; free it with pgiam_error_free; NULL if you do not want it
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
 * Makes a client from settings given as two arrays that end with NULL, in the habit of PQconnectdbParams. Reads the
 * environment and the AWS profile files, once; nothing is fetched yet. Does not block on the network.
 *
 *     keyword      value
 *     profile      a profile of the AWS config and credentials files; keys in the environment are then skipped
 *     region       region for endpoint names that carry none
 *     service      auto (default): Aurora DSQL for its endpoint names, RDS for all others; rds; dsql
 *     timeout_ms   milliseconds that one call may wait, 1 to 3600000 (default 10000)
 *     role_arn     a role to assume with the credentials found, through STS
 *     external_id  the external id that the role's trust policy asks for
 *     role_session_name
 *                  the name of that session in AWS' logs (default pgiam- and the time)
 *
 * An unknown keyword is an error. A NULL or empty value means the default; of a repeated keyword the last counts.
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
 * As pgiam_generate_token, with a client of one's own. Blocks at most the client's timeout_ms; while credentials are
 * held, not at all.
 *
 * @param expires_at  receives the Unix time in seconds at which the server stops accepting the token for new logins:
 *                    15 minutes ahead, or the end of the credentials if that comes first; 0 on failure; may be NULL
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
 * As pgiam_client_generate_token, for event loops: never waits for the network. PGIAM_ERROR_WOULD_BLOCK means that a
 * fetch has been started on a thread beside; ask again, not sooner than 20 milliseconds. A fetch that failed is
 * reported once, by the next call; then it is tried again after a pause that grows from 1 to 32 seconds.
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
 * Reads the environment and the profile files again and fetches credentials now: after a login was refused, say, or
 * when the keys were changed. Blocks at most timeout_ms. If it fails, what is held stays in use.
 */
pgiam_status pgiam_client_refresh(pgiam_client *client,
                                  pgiam_error **error);

/**
 * Frees a client and wipes its credentials. NULL is allowed. Does not wait for a fetch that still runs beside.
 */
void pgiam_client_free(pgiam_client *client);

/**
 * What went wrong and what to do, in one line of UTF-8 without a newline; never a secret. Borrowed: valid until
 * pgiam_error_free. For NULL: an empty string.
 */
const char *pgiam_error_message(const pgiam_error *error);

/**
 * Frees an error. NULL is allowed.
 */
void pgiam_error_free(pgiam_error *error);

/**
 * The library's version, as in "0.1.0". Static: do not free. Compare with PGIAM_VERSION, which is the header's.
 */
const char *pgiam_version(void);

/**
 * The name of a status, as in "PGIAM_ERROR_TIMEOUT"; "PGIAM_ERROR_UNKNOWN" for a number that is none. Static: do not
 * free.
 */
const char *pgiam_status_name(pgiam_status status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PGIAM_H */
