/* A host with its own ideas about children: it ignores or reaps them all, or starts some while fetches run. */
#include "host.h"
#include <spawn.h>

extern char **environ;

/* A token, and a credential_process that does not end in time: it is killed. */
static void call(int i)
{
    pgiam_client *client = new_client();
    start_fetch(client);
    expect_token(client);
    expect_refresh(client);
    pgiam_client_free(client);
    if (i % 20 == 0) {
        const char *keywords[] = {"profile", "timeout_ms", NULL}, *values[] = {"slow", "50", NULL};
        CHECK(pgiam_client_new(keywords, values, &client, NULL) == PGIAM_OK);
        CHECK(make_token(client, NULL) == PGIAM_ERROR_TIMEOUT);
        pgiam_client_free(client);
    }
}

static void ignored(int loops)
{
    adopt_orphans();
    signal(SIGCHLD, SIG_IGN);
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        call(i);
        settle(before);
    }
}

static void reap_all(int signal)
{
    (void)signal;
    int before = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = before;
}

static void reaped(int loops)
{
    adopt_orphans();
    struct sigaction action = {.sa_handler = reap_all};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        call(i);
        settle(before);
    }
}

static volatile int stop;

static void *reap_forever(void *argument)
{
    (void)argument;
    while (!stop)
        if (waitpid(-1, NULL, 0) < 0)
            usleep(100);
    return NULL;
}

/* A thread of the host waits for any child. */
static void awaited(int loops)
{
    adopt_orphans();
    struct census before = take_census();
    pthread_t reaper;
    CHECK(pthread_create(&reaper, NULL, reap_forever, NULL) == 0);
    struct census with_reaper = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        call(i);
        settle(with_reaper);
    }
    stop = 1;
    CHECK(pthread_join(reaper, NULL) == 0);
    settle(before);
}

static void *fetch_until_stopped(void *argument)
{
    (void)argument;
    while (!stop) {
        pgiam_client *client = new_client();
        start_fetch(client);
        expect_token(client);
        pgiam_client_free(client);
    }
    return NULL;
}

/* Started with a number as its only argument: this many descriptors are open, and no signal is blocked. */
static int be_child(int descriptors)
{
    /* The list itself has one. */
    int open = entries("/proc/self/fd") - 1;
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    int mask = 0;
    for (int signal = 1; signal < 32; signal++)
        mask += sigismember(&blocked, signal) == 1;
    if (open == descriptors && mask == 0)
        return 0;
    fprintf(stderr, "a child inherited: %d descriptors instead of %d, %d blocked signals\n", open, descriptors, mask);
    return 1;
}

static void executes(int loops)
{
    struct census before = take_census();
    char descriptors[12];
    snprintf(descriptors, sizeof descriptors, "%d", before.descriptors - 1);
    char *const arguments[] = {"/proc/self/exe", descriptors, NULL};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, fetch_until_stopped, NULL) == 0);
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pause_up_to(2000);
        pid_t child;
        if (i % 2) {
            CHECK(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0);
        } else if ((child = fork()) == 0) {
            execv(arguments[0], arguments);
            _exit(127);
        }
        expect_success(child);
    }
    stop = 1;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    settle(before);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return be_child(atoi(argv[1]));
    const struct scenario scenarios[] = {
        {"ignored", ignored},
        {"reaped", reaped},
        {"awaited", awaited},
        {"executes", executes},
    };
    return RUN_SCENARIO(argc, argv, scenarios);
}
