/* pgiam-libpq.h: libpq's connection functions with an IAM token as the password.
 *
 * In a libpq program, change one line:
 *
 *     PGconn *connection = PQconnectdb(conninfo);
 *
 * becomes
 *
 *     char *error;
 *     PGconn *connection = pgiam_connectdb(conninfo, &error);
 *     if (connection == NULL) { fprintf(stderr, "%s\n", error); free(error); }
 *
 * and link with both libraries: cc program.c $(pkg-config --cflags --libs pgiam libpq)
 *
 * Conventions
 *
 * - Which connections. Those to endpoint names of RDS, Aurora and Aurora DSQL without a password in the arguments, the
 *   service file, PGPASSWORD or the password file. The password rds-iam asks for a token; it is never sent to a server.
 *   A token found as the password is replaced by a fresh one. All other connections are made as libpq makes them,
 *   errors included. The settings below change which hosts get tokens. A password may have any bytes; host and user must
 *   be UTF-8 for a token.
 * - Settings. As keywords in the conninfo, or as environment variables; a keyword overrides its variable:
 *
 *       iam          PGIAM          off: never; auto (default): as above; on: every host, except Unix sockets
 *       iam_host     PGIAM_HOST     the endpoint name to sign for, behind a tunnel, a bastion or a CNAME
 *       iam_port     PGIAM_PORT     the port to sign for
 *       iam_region   PGIAM_REGION   the region to sign for
 *       iam_profile  PGIAM_PROFILE  the AWS profile whose credentials sign
 *       iam_hosts    PGIAM_HOSTS    more host names that get tokens under auto, separated by commas; * matches any
 *                                   sequence of characters, including none
 *
 *   With several hosts, iam_host and iam_port may be lists like libpq's host and port.
 * - TLS. A token is a password: sslmode disable, allow and prefer are refused, and an absent one becomes require (or
 *   verify-full with sslrootcert=system). Use verify-full with sslrootcert=FILE.
 * - Errors. A NULL connection means that no token could be made or that a setting is wrong; *error is then the reason, to
 *   be freed with free(). A connection that is not NULL is libpq's: use PQstatus and PQerrorMessage, and end it with
 *   PQfinish. *error is then NULL. error itself may be NULL.
 * - Blocking. pgiam_connectdb and pgiam_connectdb_params wait for credentials as pgiam_generate_token does, with which
 *   they share them: 10 seconds for all hosts together, or 2 minutes for a credential_process that can ask a person. Then
 *   they behave like PQconnectdb. pgiam_connect_start and pgiam_connect_start_params never wait for credentials; the
 *   first use of a profile reads the AWS profile files on the calling thread.
 * - Threads. Every function may be called from any thread at the same time. For fork see pgiam.h. If a thread is cancelled
 *   (pthread_cancel) while libpq waits for the server, the memory of that call stays allocated, its token included.
 * - Reset. PQreset logs in with the token of the first connect, which is valid for 15 minutes. Make a new connection
 *   instead.
 *
 * The functions are static inline; the rules are in libpgiam.so. Names starting with pgiam_libpq_ are private. C99 and
 * C++11, GCC and Clang, Linux.
 */
#ifndef PGIAM_LIBPQ_H
#define PGIAM_LIBPQ_H

#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>
#include "pgiam.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- private ---------------------------------------------------------------------------------------------------- */

/* Fields are only added, at the end. */
typedef struct {
    size_t size;
    int (*lib_version)(void);
    PGconn *(*connect_start_params)(const char *const *keywords, const char *const *values, int expand_dbname);
    ConnStatusType (*status)(const PGconn *connection);
    char *(*pass)(const PGconn *connection);
    PQconninfoOption *(*conninfo)(PGconn *connection);
    void (*conninfo_free)(PQconninfoOption *options);
    void (*finish)(PGconn *connection);
} pgiam_libpq_functions;

typedef struct pgiam_libpq_plan pgiam_libpq_plan;

pgiam_status pgiam_libpq_plan_new(const pgiam_libpq_functions *libpq, const char *conninfo,
                                  const char *const *keywords, const char *const *values, int expand_dbname,
                                  int may_wait, pgiam_libpq_plan **plan, pgiam_error **error);
const char *const *pgiam_libpq_plan_keywords(const pgiam_libpq_plan *plan);
const char *const *pgiam_libpq_plan_values(const pgiam_libpq_plan *plan);
int pgiam_libpq_plan_expand_dbname(const pgiam_libpq_plan *plan);
void pgiam_libpq_plan_free(pgiam_libpq_plan *plan);

/* "pgiam: " and the message, from malloc. */
static inline char *pgiam_libpq_text(const pgiam_error *error)
{
    const char *message = pgiam_error_message(error);
    size_t length = strlen(message) + 1;
    char *text = (char *)malloc(length + 7);
    if (text != NULL) {
        memcpy(text, "pgiam: ", 7);
        memcpy(text + 7, message, length);
    }
    return text;
}

static inline PGconn *pgiam_libpq_connect(const char *conninfo, const char *const *keywords,
                                          const char *const *values, int expand_dbname, int may_wait, char **error)
{
    static const pgiam_libpq_functions libpq = {sizeof(pgiam_libpq_functions), PQlibVersion, PQconnectStartParams,
                                                PQstatus, PQpass, PQconninfo, PQconninfoFree, PQfinish};
    pgiam_libpq_plan *plan = NULL;
    pgiam_error *failure = NULL;
    PGconn *connection = NULL;
    pgiam_status status =
        pgiam_libpq_plan_new(&libpq, conninfo, keywords, values, expand_dbname, may_wait, &plan, &failure);
    if (error != NULL)
        *error = status == PGIAM_OK || status == PGIAM_ERROR_WOULD_BLOCK ? NULL : pgiam_libpq_text(failure);
    pgiam_error_free(failure);
    if (status != PGIAM_OK)
        return NULL;
    if (pgiam_libpq_plan_keywords(plan) != NULL) {
        keywords = pgiam_libpq_plan_keywords(plan);
        values = pgiam_libpq_plan_values(plan);
        expand_dbname = pgiam_libpq_plan_expand_dbname(plan);
    }
    if (keywords != NULL)
        connection = may_wait ? PQconnectdbParams(keywords, values, expand_dbname)
                              : PQconnectStartParams(keywords, values, expand_dbname);
    else
        connection = may_wait ? PQconnectdb(conninfo == NULL ? "" : conninfo)
                              : PQconnectStart(conninfo == NULL ? "" : conninfo);
    pgiam_libpq_plan_free(plan);
    return connection;
}

/* ---- public ----------------------------------------------------------------------------------------------------- */

/* Like PQconnectdb, with a token for connections that get one. Waits for credentials if none are cached. */
static inline PGconn *pgiam_connectdb(const char *conninfo, char **error)
{
    return pgiam_libpq_connect(conninfo, NULL, NULL, 0, 1, error);
}

/* Like PQconnectdbParams, with a token for connections that get one. Waits for credentials if none are cached. */
static inline PGconn *pgiam_connectdb_params(const char *const *keywords, const char *const *values,
                                             int expand_dbname, char **error)
{
    return pgiam_libpq_connect(NULL, keywords, values, expand_dbname, 1, error);
}

/* Like PQconnectStart, for event loops: continue with PQconnectPoll. Never waits for credentials. If the connection and
 * *error are both NULL, credentials are being fetched in the background; call again after 20 ms or more. error must not
 * be NULL, or the two cases cannot be told apart. */
static inline PGconn *pgiam_connect_start(const char *conninfo, char **error)
{
    return pgiam_libpq_connect(conninfo, NULL, NULL, 0, 0, error);
}

/* Like PQconnectStartParams, with the rules of pgiam_connect_start. */
static inline PGconn *pgiam_connect_start_params(const char *const *keywords, const char *const *values,
                                                 int expand_dbname, char **error)
{
    return pgiam_libpq_connect(NULL, keywords, values, expand_dbname, 0, error);
}

#ifdef __cplusplus
}
#endif

#endif /* PGIAM_LIBPQ_H */
