/* Log in to PostgreSQL with an IAM token: connect HOST PORT USER DBNAME
 * PGSSLROOTCERT names the RDS certificate bundle, as for every libpq program. */
#include <libpq-fe.h>
#include <pgiam.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s HOST PORT USER DBNAME\n", argv[0]);
        return 2;
    }
    char *token = NULL;
    pgiam_error *error = NULL;
    if (pgiam_generate_token(argv[1], atoi(argv[2]), NULL, argv[3], &token, &error) != PGIAM_OK) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        pgiam_error_free(error);
        return 1;
    }
    const char *keywords[] = {"host", "port", "user", "dbname", "sslmode", "password", NULL};
    const char *values[] = {argv[1], argv[2], argv[3], argv[4], "verify-full", token, NULL};
    PGconn *connection = PQconnectdbParams(keywords, values, 0);
    pgiam_string_free(token); /* libpq has its own copy */

    int ok = PQstatus(connection) == CONNECTION_OK;
    if (ok)
        printf("logged in as %s\n", PQuser(connection));
    else
        fprintf(stderr, "%s", PQerrorMessage(connection));
    PQfinish(connection);
    return ok ? 0 : 1;
}
