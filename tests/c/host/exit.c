/* A host that ends while fetches run, in every way in which a program ends: its status is the one it wanted. */
#include "host.h"

static pgiam_client *client;

static void make_token_at_exit(void)
{
    expect_token(client);
    expect_token_without_waiting(client);
    pgiam_client *other = new_client();
    start_fetch(other);
    pgiam_client_free(client);
}

static void *refresh_forever(void *argument)
{
    (void)argument;
    for (;;)
        pgiam_client_refresh(client, NULL);
    return NULL;
}

static void *exit_soon(void *argument)
{
    (void)argument;
    pause_up_to(6000);
    exit(7);
}

static void *exit_after_a_token(void *argument)
{
    (void)argument;
    expect_token(client);
    exit(7);
}

static void in_thread(void *(*work)(void *))
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
    CHECK(pthread_detach(thread) == 0);
}

/* One program, which ends with status 7. */
static void end(int way)
{
    alarm(20);
    client = new_client();
    switch (way) {
    case 0: /* A background thread fetches. */
        start_fetch(client);
        break;
    case 1: /* Two threads are in a call. */
        in_thread(refresh_forever);
        in_thread(refresh_forever);
        break;
    case 2: /* Another thread ends the program while this one is in a call. */
        in_thread(exit_soon);
        refresh_forever(NULL);
        break;
    case 3: /* A handler calls the library. */
        start_fetch(client);
        atexit(make_token_at_exit);
        break;
    case 4: /* The same, while another thread is in a call. */
        in_thread(refresh_forever);
        atexit(make_token_at_exit);
        break;
    case 5: /* The first thread ends, and another one goes on. */
        start_fetch(client);
        in_thread(exit_after_a_token);
        pthread_exit(NULL);
    case 6:
        start_fetch(client);
        pause_up_to(6000);
        at_quick_exit(make_token_at_exit);
        quick_exit(7);
    }
    pause_up_to(6000);
    exit(7);
}

static void exits(int loops)
{
    adopt_orphans();
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pid_t child = fork();
        if (child == 0) {
            srandom((unsigned)i);
            end(i % 7);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
            fprintf(stderr, "way %d: status %#x\n", i % 7, status);
            _exit(1);
        }
        /* A credential_process that was running ends by itself: its output has no reader. */
        reap_orphans();
        settle(before);
    }
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"exits", exits}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
