/* For the programs of this directory, which are hosts of the library: they put it into a difficult situation again and
 * again, and compare the threads, children and descriptors of the process before and after. `PROGRAM SCENARIO LOOPS`;
 * tests/deep/host_process.rs sets the environment, kills what hangs, and compares the files. */
#ifndef HOST_H
#define HOST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <pgiam.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ENDPOINT "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com"
#define HELPER static __attribute__((unused))

/* _exit: other threads may be in the library. */
#define CHECK(condition)                                                                                      \
    do {                                                                                                      \
        if (!(condition)) {                                                                                   \
            dprintf(report_to, "%s:%d: failed: %s (%s)\n", __FILE__, __LINE__, #condition, strerror(errno));  \
            _exit(1);                                                                                         \
        }                                                                                                     \
    } while (0)

/* Where failures are reported. */
static int report_to = 2;

/* --- the process --- */

struct census {
    int threads, has_children, descriptors;
};

HELPER int entries(const char *directory)
{
    DIR *open = opendir(directory);
    CHECK(open != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(open)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(open);
    return count;
}

HELPER struct census take_census(void)
{
    siginfo_t info;
    struct census census = {
        .threads = entries("/proc/self/task"),
        .has_children = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0,
        .descriptors = entries("/proc/self/fd"),
    };
    return census;
}

/* Waits until the process has what it had before: background threads end by themselves. */
HELPER void settle(struct census before)
{
    struct census now = {0};
    for (int waited = 0; waited < 10000; waited++) {
        now = take_census();
        if (memcmp(&now, &before, sizeof now) == 0)
            return;
        usleep(1000);
    }
    dprintf(report_to, "left over: %d threads (before: %d), children: %d (%d), %d descriptors (%d)\n", now.threads,
            before.threads, now.has_children, before.has_children, now.descriptors, before.descriptors);
    _exit(1);
}

/* So that what a child leaves behind becomes a child of this process. */
HELPER void adopt_orphans(void)
{
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
}

/* Waits for the processes that a child left behind. */
HELPER void reap_orphans(void)
{
    while (waitpid(-1, NULL, 0) > 0)
        ;
    CHECK(errno == ECHILD);
}

/* Waits for a child that must succeed. */
HELPER void expect_success(pid_t child)
{
    int status = 0;
    CHECK(child > 0);
    while (waitpid(child, &status, 0) != child)
        CHECK(errno == EINTR);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        dprintf(report_to, "a child ended with %s %d\n", WIFEXITED(status) ? "status" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        _exit(1);
    }
}

HELPER void pause_up_to(int microseconds)
{
    int length = microseconds > 0 ? (int)(random() % microseconds) : 0;
    struct timespec pause = {0, length * 1000L};
    nanosleep(&pause, NULL);
}

HELPER long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/* --- the library --- */

HELPER pgiam_client *new_client(void)
{
    pgiam_client *client = NULL;
    CHECK(pgiam_client_new(NULL, NULL, &client, NULL) == PGIAM_OK);
    return client;
}

HELPER pgiam_client *new_client_with(const char *keyword, const char *value)
{
    const char *keywords[] = {keyword, NULL}, *values[] = {value, NULL};
    pgiam_client *client = NULL;
    CHECK(pgiam_client_new(keywords, values, &client, NULL) == PGIAM_OK);
    return client;
}

/* The status of a call that waits; a failure has a reason. */
HELPER pgiam_status make_token(pgiam_client *client, char **reason)
{
    char *token = NULL;
    pgiam_error *error = NULL;
    pgiam_status status = pgiam_client_generate_token(client, ENDPOINT, 5432, NULL, "app_user", &token, NULL, &error);
    CHECK((status == PGIAM_OK) == (token != NULL));
    CHECK((status == PGIAM_OK) == (error == NULL));
    if (token)
        CHECK(strstr(token, "X-Amz-Signature=") != NULL);
    if (error) {
        CHECK(pgiam_error_message(error)[0] != '\0');
        if (reason)
            *reason = strdup(pgiam_error_message(error));
    }
    pgiam_string_free(token);
    pgiam_error_free(error);
    return status;
}

HELPER void expect_token(pgiam_client *client)
{
    char *reason = NULL;
    pgiam_status status = make_token(client, &reason);
    if (status != PGIAM_OK) {
        dprintf(report_to, "%s: %s\n", pgiam_status_name(status), reason);
        _exit(1);
    }
}

HELPER void expect_refresh(pgiam_client *client)
{
    pgiam_error *error = NULL;
    if (pgiam_client_refresh(client, &error) != PGIAM_OK) {
        dprintf(report_to, "refresh: %s\n", pgiam_error_message(error));
        _exit(1);
    }
}

/* The status of a call that never waits. */
HELPER pgiam_status try_token(pgiam_client *client)
{
    char *token = NULL;
    pgiam_status status =
        pgiam_client_try_generate_token(client, ENDPOINT, 5432, NULL, "app_user", &token, NULL, NULL);
    CHECK((status == PGIAM_OK) == (token != NULL));
    pgiam_string_free(token);
    return status;
}

/* With a client that has nothing cached this starts a fetch on a background thread. */
HELPER void start_fetch(pgiam_client *client)
{
    pgiam_status status = try_token(client);
    CHECK(status == PGIAM_ERROR_WOULD_BLOCK || status == PGIAM_OK);
}

HELPER void expect_token_without_waiting(pgiam_client *client)
{
    pgiam_status status;
    while ((status = try_token(client)) == PGIAM_ERROR_WOULD_BLOCK)
        usleep(500);
    CHECK(status == PGIAM_OK);
}

/* --- the program --- */

typedef void scenario_function(int loops);

struct scenario {
    const char *name;
    scenario_function *run;
};

/* Runs the scenario that the arguments name. */
HELPER int run_scenario(int argc, char **argv, const struct scenario *scenarios, size_t count)
{
    for (size_t i = 0; argc == 3 && i < count; i++) {
        if (strcmp(argv[1], scenarios[i].name) == 0) {
            srandom((unsigned)time(NULL));
            int loops = atoi(argv[2]);
            CHECK(loops > 0);
            long began = milliseconds();
            scenarios[i].run(loops);
            printf("%s: %d loops in %ld ms\n", argv[1], loops, milliseconds() - began);
            return 0;
        }
    }
    fprintf(stderr, "usage: %s SCENARIO LOOPS\n", argv[0]);
    return 2;
}

#define RUN_SCENARIO(argc, argv, scenarios) run_scenario(argc, argv, scenarios, sizeof(scenarios) / sizeof(scenarios)[0])

#endif
