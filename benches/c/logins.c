/* Logins in pairs: logins PAIRS CONNINFO HOST PORT USER
 * One login of a pair has its token made by pgiam within the time that is taken, the other uses a token made before;
 * which comes first alternates. Prints for each pair the nanoseconds of the first kind, of the second, and of making the
 * token alone, which are part of the first. */
#define _GNU_SOURCE
#include <libpq-fe.h>
#include <pgiam.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *conninfo, *host, *user;
static int port;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static char *make_token(void)
{
    char *token = NULL;
    pgiam_error *error = NULL;
    if (pgiam_generate_token(host, port, NULL, user, &token, &error) != PGIAM_OK) {
        fprintf(stderr, "logins: %s\n", pgiam_error_message(error));
        exit(1);
    }
    return token;
}

/* With the token given, or with a fresh one. */
static long long log_in(const char *fixed, long long *token_took)
{
    long long began = now();
    char *fresh = fixed ? NULL : make_token();
    *token_took = now() - began;
    const char *keywords[] = {"dbname", "password", NULL};
    const char *values[] = {conninfo, fixed ? fixed : fresh, NULL};
    PGconn *connection = PQconnectdbParams(keywords, values, 1);
    pgiam_string_free(fresh);
    long long took = now() - began;
    if (PQstatus(connection) != CONNECTION_OK) {
        fprintf(stderr, "logins: %s", PQerrorMessage(connection));
        exit(1);
    }
    PQfinish(connection);
    return took;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    conninfo = argv[2], host = argv[3], port = atoi(argv[4]), user = argv[5];
    char *fixed = make_token();
    long long token_took, no_token;
    for (int warm = 0; warm < 5; warm++)
        log_in(fixed, &no_token);
    for (int pair = 0; pair < atoi(argv[1]); pair++) {
        long long fresh_took, fixed_took;
        if (pair % 2) {
            fresh_took = log_in(NULL, &token_took);
            fixed_took = log_in(fixed, &no_token);
        } else {
            fixed_took = log_in(fixed, &no_token);
            fresh_took = log_in(NULL, &token_took);
        }
        printf("%lld %lld %lld\n", fresh_took, fixed_took, token_took);
    }
    pgiam_string_free(fixed);
    return 0;
}
