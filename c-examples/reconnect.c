/* A connection that is used longer than its token is valid: reconnect HOST PORT USER DBNAME
 * An open connection stays open when the token expires; only the next login needs a new one. PQreset logs in with the
 * password of the first connect, which is then an expired token: make a new connection with a new token instead. Here the
 * server is asked to end the session, so that there is something to recover from. */
#include <libpq-fe.h>
#include <pgiam.h>
#include <stdio.h>
#include <stdlib.h>

static pgiam_client *client;

static PGconn *connect_with_fresh_token(char **argv)
{
    char *token = NULL;
    pgiam_error *error = NULL;
    if (pgiam_client_generate_token(client, argv[1], atoi(argv[2]), NULL, argv[3], &token, NULL, &error) != PGIAM_OK) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        pgiam_error_free(error);
        return NULL;
    }
    const char *keywords[] = {"host", "port", "user", "dbname", "sslmode", "password", NULL};
    const char *values[] = {argv[1], argv[2], argv[3], argv[4], "verify-full", token, NULL};
    PGconn *connection = PQconnectdbParams(keywords, values, 0);
    pgiam_string_free(token);
    if (PQstatus(connection) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(connection));
        PQfinish(connection);
        return NULL;
    }
    return connection;
}

/* Runs a query that changes nothing; on a lost connection once more, on a new one. */
static int query(PGconn **connection, char **argv, const char *text)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        PGresult *result = PQexec(*connection, text);
        int ok = PQresultStatus(result) == PGRES_TUPLES_OK;
        if (ok)
            printf("%s\n", PQgetvalue(result, 0, 0));
        PQclear(result);
        if (ok)
            return 1;
        if (PQstatus(*connection) != CONNECTION_BAD)
            break; /* the query is at fault, not the connection */
        PQfinish(*connection);
        *connection = connect_with_fresh_token(argv);
        if (!*connection)
            return 0;
        printf("reconnected\n");
    }
    fprintf(stderr, "%s", PQerrorMessage(*connection));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s HOST PORT USER DBNAME\n", argv[0]);
        return 2;
    }
    pgiam_error *error = NULL;
    if (pgiam_client_new(NULL, NULL, &client, &error) != PGIAM_OK) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        pgiam_error_free(error);
        return 1;
    }
    int ok = 0;
    PGconn *connection = connect_with_fresh_token(argv);
    if (connection) {
        ok = query(&connection, argv, "select 'logged in as ' || current_user");
        /* What a failover or an idle time-out does, on purpose. */
        PQclear(PQexec(connection, "select pg_terminate_backend(pg_backend_pid())"));
        ok = ok && query(&connection, argv, "select 'logged in as ' || current_user");
        PQfinish(connection);
    }
    pgiam_client_free(client);
    return ok ? 0 : 1;
}
