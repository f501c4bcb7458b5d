/* Drives pgiam-libpq.h: libpq connectdb CONNINFO | params KEYWORD VALUE ... | start CONNINFO | both CONNINFO HOST |
 * tokens HOST ... ; both makes a token for the host before it connects.
 * Prints "user U, sslmode M, ticks N" or the reason, and the number of files left open. tokens prints for each host
 * whether a connection to it has a token. Included twice on purpose. */
#define _POSIX_C_SOURCE 200809L
#include <pgiam-libpq.h>
#include <pgiam-libpq.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int open_files(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static const char *option(PGconn *connection, const char *keyword, PQconninfoOption **options)
{
    *options = PQconninfo(connection);
    for (PQconninfoOption *at = *options; at->keyword != NULL; at++)
        if (strcmp(at->keyword, keyword) == 0)
            return at->val;
    return NULL;
}

/* Nothing listens on port 1, so the connections fail immediately. */
static int has_token(const char *host)
{
    const char *keywords[] = {"host", "hostaddr", "port", "user", NULL};
    const char *values[] = {host, "127.0.0.1", "1", "app_user", NULL};
    PGconn *connection = pgiam_connectdb_params(keywords, values, 0, NULL);
    int has = connection != NULL && strstr(PQpass(connection), "&X-Amz-Signature=") != NULL;
    PQfinish(connection);
    return has;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "tokens") == 0) {
        for (int at = 2; at < argc; at++)
            printf("%s %s\n", argv[at], has_token(argv[at]) ? "true" : "false");
        return 0;
    }
    int before = open_files(), ticks = 0;
    char *error = NULL;
    PGconn *connection = NULL;
    if (strcmp(argv[1], "both") == 0) {
        char *token;
        if (pgiam_generate_token(argv[3], 5432, NULL, "app_user", &token, NULL) != PGIAM_OK)
            return 3;
        pgiam_string_free(token);
        connection = pgiam_connectdb(argv[2], &error);
    } else if (strcmp(argv[1], "connectdb") == 0) {
        connection = pgiam_connectdb(argv[2], &error);
    } else if (strcmp(argv[1], "params") == 0) {
        const char *keywords[32] = {NULL}, *values[32] = {NULL};
        for (int at = 0; at < 31 && 2 * at + 3 < argc; at++) {
            keywords[at] = argv[2 * at + 2];
            values[at] = argv[2 * at + 3];
        }
        connection = pgiam_connectdb_params(keywords, values, 1, &error);
    } else {
        while ((connection = pgiam_connect_start(argv[2], &error)) == NULL && error == NULL && ticks < 500) {
            ticks++;
            poll(NULL, 0, 20);
        }
        PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
        while (connection != NULL && wants != PGRES_POLLING_OK && wants != PGRES_POLLING_FAILED) {
            struct pollfd event = {PQsocket(connection), 0, 0};
            event.events = wants == PGRES_POLLING_READING ? POLLIN : POLLOUT;
            if (PQstatus(connection) == CONNECTION_BAD || poll(&event, 1, 10000) <= 0)
                break;
            wants = PQconnectPoll(connection);
        }
    }
    if (connection == NULL) {
        printf("refused: %s\n", error == NULL ? "no reason" : error);
        free(error);
        return 1;
    }
    int ok = PQstatus(connection) == CONNECTION_OK;
    if (ok) {
        PQconninfoOption *options;
        const char *sslmode = option(connection, "sslmode", &options);
        printf("user %s, sslmode %s, ticks %d\n", PQuser(connection), sslmode, ticks);
        PQconninfoFree(options);
    } else {
        printf("libpq: %s", PQerrorMessage(connection));
    }
    PQfinish(connection);
    if (open_files() != before)
        printf("left open: %d\n", open_files() - before);
    return ok ? 0 : 1;
}
