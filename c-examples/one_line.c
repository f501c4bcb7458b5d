/* Any libpq program, with one line changed: one_line CONNINFO
 * pgiam_connectdb is PQconnectdb, with a fresh token for every connection to RDS, Aurora or Aurora DSQL. */
#include <pgiam-libpq.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    char *error;
    PGconn *connection = pgiam_connectdb(argc > 1 ? argv[1] : "", &error);
    if (connection == NULL) {
        fprintf(stderr, "%s\n", error);
        free(error);
        return 1;
    }
    int ok = PQstatus(connection) == CONNECTION_OK;
    if (ok)
        printf("logged in as %s\n", PQuser(connection));
    else
        fprintf(stderr, "%s", PQerrorMessage(connection));
    PQfinish(connection);
    return ok ? 0 : 1;
}
