/* A program that knows nothing of pgiam: plain CONNINFO. Connects by libpq and prints who is logged in, and by which
 * version of libpq. */
#include <libpq-fe.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    PGconn *connection = PQconnectdb(argc > 1 ? argv[1] : "");
    int ok = PQstatus(connection) == CONNECTION_OK;
    if (ok)
        printf("logged in as %s, libpq %d\n", PQuser(connection), PQlibVersion() / 10000);
    else
        fprintf(stderr, "%s", PQerrorMessage(connection));
    PQfinish(connection);
    return ok ? 0 : 1;
}
