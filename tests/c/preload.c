/* An unmodified libpq program, run with libpgiam_preload.so: preload MODE CONNINFO, or preload tokens HOST ... */
#define _GNU_SOURCE
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *conninfo;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int report(const char *what, PGconn *connection)
{
    int ok = PQstatus(connection) == CONNECTION_OK;
    PGresult *result = ok ? PQexec(connection, "select current_user") : NULL;
    ok = ok && PQresultStatus(result) == PGRES_TUPLES_OK;
    if (ok)
        printf("%s: %s\n", what, PQgetvalue(result, 0, 0));
    else
        printf("%s: %s", what, PQerrorMessage(connection));
    PQclear(result);
    fflush(stdout);
    return ok ? 0 : 1;
}

/* A line on standard input says when to continue: the test waits until the token has expired. */
static void wait_for_line(void)
{
    int c;
    while ((c = getchar()) != '\n' && c != EOF)
        ;
}

static int finish_polling(PGconn *connection, PostgresPollingStatusType (*step)(PGconn *))
{
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED) {
        struct pollfd fd = {PQsocket(connection), state == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};
        poll(&fd, 1, -1);
        state = step(connection);
    }
    return state == PGRES_POLLING_OK;
}

static int reset(void)
{
    PGconn *connection = PQconnectdb(conninfo);
    int bad = report("connected", connection);
    wait_for_line();
    PQreset(connection);
    bad |= report("reset", connection);
    wait_for_line();
    if (PQresetStart(connection))
        finish_polling(connection, PQresetPoll);
    bad |= report("reset by polling", connection);
    PQfinish(connection);
    return bad;
}

static int start(void)
{
    double began = seconds();
    PGconn *connection = PQconnectStart(conninfo);
    printf("started after %d ms\n", (int)((seconds() - began) * 1000));
    if (PQstatus(connection) != CONNECTION_BAD)
        finish_polling(connection, PQconnectPoll);
    int bad = report("connected", connection);
    PQfinish(connection);
    return bad;
}

/* Starts a connection and returns whether it has a token. Nothing is sent. */
static int starts_with_a_token(void)
{
    PGconn *connection = PQconnectStart(conninfo);
    int good = strstr(PQpass(connection), "&X-Amz-Signature=") != NULL;
    if (!good)
        fprintf(stderr, "no token: %s", PQerrorMessage(connection));
    PQfinish(connection);
    return good;
}

static void *start_often(void *unused)
{
    (void)unused;
    long bad = 0;
    for (int i = 0; i < 50; i++)
        bad += !starts_with_a_token();
    return (void *)bad;
}

/* Children are forked while other threads connect: an inherited lock would block them. They stop before TLS, because
 * OpenSSL has such locks. */
static int threads_and_forks(void)
{
    pthread_t threads[4];
    long bad = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, start_often, NULL);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(!starts_with_a_token());
        }
        int status = 1;
        waitpid(child, &status, 0);
        if (status != 0)
            fprintf(stderr, "a child ended with status %#x\n", (unsigned)status);
        bad += status != 0;
    }
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        bad += (long)failed;
    }
    PGconn *connection = PQconnectdb(conninfo);
    bad += report("connected", connection);
    PQfinish(connection);
    printf("%ld connections failed\n", bad);
    return bad != 0;
}

/* Every function that connects, and those that programs call before and afterwards. */
static int names(void)
{
    int bad = 0;
    char *error = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &error);
    if (!options) {
        printf("parse: %s", error);
        return 1;
    }
    const char *keywords[64], *values[64];
    int count = 0;
    for (PQconninfoOption *option = options; option->keyword; option++) {
        if (option->val) {
            keywords[count] = option->keyword;
            values[count++] = option->val;
        }
    }
    keywords[count] = values[count] = NULL;

    PGconn *connection = PQconnectdbParams(keywords, values, 0);
    bad |= report("PQconnectdbParams", connection);
    PQfinish(connection);

    connection = PQconnectStartParams(keywords, values, 1);
    finish_polling(connection, PQconnectPoll);
    bad |= report("PQconnectStartParams", connection);
    PQconninfoFree(options);
    options = PQconninfo(connection);
    for (PQconninfoOption *option = options; option->keyword; option++)
        if (!strcmp(option->keyword, "passfile") || !strncmp(option->keyword, "iam", 3))
            printf("%s is %s\n", option->keyword, option->val ? option->val : "not set");
    PQconninfoFree(options);
    PQfinish(connection);

    connection = PQsetdbLogin(NULL, NULL, NULL, NULL, conninfo, NULL, NULL);
    bad |= report("PQsetdbLogin", connection);
    PQfinish(connection);

    const char *ping_keywords[] = {"dbname", NULL}, *ping_values[] = {conninfo, NULL};
    if (PQping(conninfo) != PQPING_OK || PQpingParams(ping_keywords, ping_values, 1) != PQPING_OK) {
        printf("the server does not answer\n");
        bad = 1;
    }
    return bad;
}

/* Calls that return immediately, because there is no connection, and that take no lock in libpq. */
static void *call_forever(void *unused)
{
    (void)unused;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;) {
        PQconnectionNeedsPassword(NULL);
        PQconninfo(NULL);
        PQreset(NULL);
        PQresetStart(NULL);
        PQresetPoll(NULL);
        PQfinish(NULL);
    }
    return NULL;
}

/* Asynchronous cancellation ends the thread, at whatever instruction, and not the program. */
static int cancel(void)
{
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        void *result;
        struct timespec pause = {0, i % 100 * 3000};
        pthread_create(&thread, NULL, call_forever, NULL);
        nanosleep(&pause, NULL);
        for (volatile int spin = 0; spin < i * 7; spin++)
            ;
        pthread_cancel(thread);
        pthread_join(thread, &result);
        if (result != PTHREAD_CANCELED) {
            puts("a thread ended without cancellation");
            return 1;
        }
    }
    puts("every thread was cancelled");
    return 0;
}

static PGconn *to_reset;

static void *wait_in_ping(void *unused)
{
    (void)unused;
    PQping(conninfo);
    return NULL;
}

static void *wait_in_ping_params(void *unused)
{
    const char *keywords[] = {"dbname", NULL}, *values[] = {conninfo, NULL};
    (void)unused;
    PQpingParams(keywords, values, 1);
    return NULL;
}

static void *wait_in_connectdb(void *unused)
{
    (void)unused;
    PQconnectdb(conninfo);
    return NULL;
}

static void *wait_in_reset(void *unused)
{
    (void)unused;
    PQreset(to_reset);
    return NULL;
}

/* Cancels a thread that waits for a server that never answers. */
static int ends_when_cancelled(const char *what, void *(*work)(void *))
{
    pthread_t thread;
    void *result = NULL;
    struct timespec limit;
    pthread_create(&thread, NULL, work, NULL);
    pthread_cancel(thread);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 20;
    int ended = pthread_timedjoin_np(thread, &result, &limit) == 0 && result == PTHREAD_CANCELED;
    printf("%s: %s\n", what, ended ? "cancelled" : "not cancelled");
    fflush(stdout);
    return ended;
}

static int cancel_waiting(void)
{
    int ended = ends_when_cancelled("PQping", wait_in_ping);
    ended &= ends_when_cancelled("PQpingParams", wait_in_ping_params);
    ended &= ends_when_cancelled("PQconnectdb", wait_in_connectdb);
    fflush(stdout);
    /* Threads that could not be cancelled still wait. */
    _exit(!ended);
}

/* The server answers the first connection only. */
static int cancel_reset(void)
{
    to_reset = PQconnectdb(conninfo);
    int bad = report("connected", to_reset);
    bad |= !ends_when_cancelled("PQreset", wait_in_reset);
    fflush(stdout);
    _exit(bad);
}

/* Prints "user U, sslmode M" or libpq's message. */
static int connect_once(void)
{
    PGconn *connection = PQconnectdb(conninfo);
    int ok = PQstatus(connection) == CONNECTION_OK;
    if (ok) {
        PQconninfoOption *options = PQconninfo(connection), *at = options;
        while (strcmp(at->keyword, "sslmode") != 0)
            at++;
        printf("user %s, sslmode %s\n", PQuser(connection), at->val);
        PQconninfoFree(options);
    } else {
        printf("libpq: %s", PQerrorMessage(connection));
    }
    PQfinish(connection);
    return !ok;
}

/* Prints for each host whether a connection to it has a token. Nothing listens on port 1. */
static int tokens(char **hosts)
{
    for (; *hosts; hosts++) {
        const char *keywords[] = {"host", "hostaddr", "port", "user", NULL};
        const char *values[] = {*hosts, "127.0.0.1", "1", "app_user", NULL};
        PGconn *connection = PQconnectdbParams(keywords, values, 0);
        printf("%s %s\n", *hosts, strstr(PQpass(connection), "&X-Amz-Signature=") ? "true" : "false");
        PQfinish(connection);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    conninfo = argv[2];
    if (!strcmp(argv[1], "cancel"))
        return cancel();
    if (!strcmp(argv[1], "cancel-waiting"))
        return cancel_waiting();
    if (!strcmp(argv[1], "cancel-reset"))
        return cancel_reset();
    if (!strcmp(argv[1], "connect"))
        return connect_once();
    if (!strcmp(argv[1], "tokens"))
        return tokens(argv + 2);
    if (!strcmp(argv[1], "reset"))
        return reset();
    if (!strcmp(argv[1], "start"))
        return start();
    if (!strcmp(argv[1], "threads"))
        return threads_and_forks();
    return names();
}
