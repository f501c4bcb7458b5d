/* A host that forks while a refresh runs: child and grandchild fetch and get their tokens. */
#include "host.h"
#include <fcntl.h>
#include <sched.h>

/* A hang; process 1 of a namespace ignores the default action. */
static void on_alarm(int signal)
{
    (void)signal;
    _exit(97);
}

/* What a child does with the client it inherits, in the middle of whatever its parent's threads were doing. */
static void use_inherited(pgiam_client *client)
{
    signal(SIGALRM, on_alarm);
    alarm(20);
    struct census before = take_census();
    expect_token(client);
    expect_refresh(client);
    pgiam_client *own = new_client();
    expect_token_without_waiting(own);
    pgiam_client_free(own);
    settle(before);
}

static void be_child(pgiam_client *client)
{
    use_inherited(client);
    pid_t grandchild = fork();
    if (grandchild == 0) {
        use_inherited(client);
        pgiam_client_free(client);
        _exit(0);
    }
    expect_success(grandchild);
    expect_token(client);
    pgiam_client_free(client);
    _exit(0);
}

/* The parent has one thread, besides the background thread of the fetch. */
static void single_threaded(int loops)
{
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = new_client();
        start_fetch(client);
        pause_up_to(6000);
        pid_t child = fork();
        if (child == 0)
            be_child(client);
        expect_token(client);
        expect_success(child);
        pgiam_client_free(client);
        settle(before);
    }
}

static pgiam_client *shared;
static volatile int stop;

static void *refresh_until_stopped(void *argument)
{
    (void)argument;
    while (!stop) {
        expect_refresh(shared);
        expect_token(shared);
        pgiam_client *own = new_client();
        start_fetch(own);
        expect_token(own);
        pgiam_client_free(own);
    }
    return NULL;
}

static void multi_threaded(int loops)
{
    struct census before = take_census();
    pthread_t threads[3];
    shared = new_client();
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, refresh_until_stopped, NULL) == 0);
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pause_up_to(6000);
        pid_t child = fork();
        if (child == 0)
            be_child(shared);
        expect_success(child);
    }
    stop = 1;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    pgiam_client_free(shared);
    settle(before);
}

/* Children that live on, as the workers of a server do, and have open what was open at the fork: no fetch waits for
 * their end. */
static void workers(int loops)
{
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = new_client();
        start_fetch(client);
        pause_up_to(4000);
        pid_t worker = fork();
        if (worker == 0) {
            /* Not longer than this program, if that fails. */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
        CHECK(worker > 0);
        long began = milliseconds();
        expect_token(client);
        CHECK(milliseconds() - began < 5000);
        pgiam_client_free(client);
        CHECK(kill(worker, SIGKILL) == 0);
        CHECK(waitpid(worker, NULL, 0) == worker);
        settle(before);
    }
}

/* This process is number 1 of a PID namespace, and each child number 1 of another. */
static void namespace(int loops)
{
    CHECK(getpid() == 1);
    signal(SIGALRM, on_alarm);
    int own_namespace = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    CHECK(own_namespace >= 0);
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = new_client();
        start_fetch(client);
        pause_up_to(6000);
        CHECK(unshare(CLONE_NEWPID) == 0);
        pid_t child = fork();
        if (child == 0) {
            CHECK(getpid() == 1);
            be_child(client);
        }
        CHECK(setns(own_namespace, CLONE_NEWPID) == 0);
        expect_token(client);
        expect_success(child);
        pgiam_client_free(client);
        settle(before);
    }
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {
        {"single_threaded", single_threaded},
        {"multi_threaded", multi_threaded},
        {"workers", workers},
        {"namespace", namespace},
    };
    return RUN_SCENARIO(argc, argv, scenarios);
}
