/* Log in from an event loop that never blocks: nonblocking HOST PORT USER DBNAME
 * pgiam_client_try_generate_token never waits for the network, and neither does PQconnectPoll (with a numeric hostaddr:
 * libpq's name resolution blocks). A timer shows that the loop keeps running. */
#define _POSIX_C_SOURCE 200809L
#include <libpq-fe.h>
#include <pgiam.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { TICK_MS = 20, MAX_TICKS = 1500 };

static int ticks;

/* The rest of the program; here it only counts. Returns 0 when it has waited long enough. */
static int tick(void)
{
    return ++ticks < MAX_TICKS;
}

/* A token, without ever waiting longer than a tick. NULL: the reason is printed. */
static char *token_for(pgiam_client *client, char **argv)
{
    for (;;) {
        char *token = NULL;
        pgiam_error *error = NULL;
        pgiam_status status =
            pgiam_client_try_generate_token(client, argv[1], atoi(argv[2]), NULL, argv[3], &token, NULL, &error);
        if (status == PGIAM_OK)
            return token;
        if (status != PGIAM_ERROR_WOULD_BLOCK)
            fprintf(stderr, "%s\n", pgiam_error_message(error));
        pgiam_error_free(error);
        if (status != PGIAM_ERROR_WOULD_BLOCK || !tick())
            return NULL;
        poll(NULL, 0, TICK_MS); /* the program's other events go here */
    }
}

/* Drives libpq's state machine; the socket may change between two calls, so PQsocket is called each time. */
static int finish_connecting(PGconn *connection)
{
    PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
    while (wants != PGRES_POLLING_OK) {
        if (wants == PGRES_POLLING_FAILED || PQstatus(connection) == CONNECTION_BAD)
            return 0;
        struct pollfd event = {PQsocket(connection), 0, 0};
        event.events = wants == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (poll(&event, 1, TICK_MS) > 0)
            wants = PQconnectPoll(connection);
        else if (!tick())
            return 0;
    }
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s HOST PORT USER DBNAME\n", argv[0]);
        return 2;
    }
    pgiam_client *client = NULL;
    pgiam_error *error = NULL;
    if (pgiam_client_new(NULL, NULL, &client, &error) != PGIAM_OK) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        pgiam_error_free(error);
        return 1;
    }
    int ok = 0;
    char *token = token_for(client, argv);
    if (token) {
        const char *keywords[] = {"host", "port", "user", "dbname", "sslmode", "password", NULL};
        const char *values[] = {argv[1], argv[2], argv[3], argv[4], "verify-full", token, NULL};
        PGconn *connection = PQconnectStartParams(keywords, values, 0);
        ok = connection && finish_connecting(connection);
        if (ok)
            printf("logged in as %s after %d ticks\n", PQuser(connection), ticks);
        else
            fprintf(stderr, "%s", PQerrorMessage(connection));
        PQfinish(connection);
        pgiam_string_free(token);
    }
    pgiam_client_free(client);
    return ok ? 0 : 1;
}
