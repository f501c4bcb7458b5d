/* A program that knows nothing of pgiam: plain CONNINFO. Connects by libpq and prints who is logged in. */
#include <libpq-fe.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    PGconn *connection = PQconnectdb(argc > 1 ? argv[1] : "");
    int ok = PQstatus(connection) == CONNECTION_OK;
    if (ok)
        printf("logged in as %s\n", PQuser(connection));
    else
        fprintf(stderr, "%s", PQerrorMessage(connection));
    PQfinish(connection);
    return ok ? 0 : 1;
}
