/* A host that is interrupted every millisecond, by a handler without SA_RESTART. */
#include "host.h"
#include <sys/time.h>

static volatile sig_atomic_t interruptions;

static void on_alarm(int signal)
{
    (void)signal;
    interruptions++;
}

static void set_timer(int microseconds)
{
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
}

static void interrupted(int loops)
{
    struct sigaction action = {.sa_handler = on_alarm};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        set_timer(1000);
        pgiam_client *client = new_client();
        expect_token(client);
        expect_refresh(client);
        pgiam_client *other = new_client();
        expect_token_without_waiting(other);
        pgiam_client_free(other);
        pgiam_client_free(client);
        set_timer(0);
        settle(before);
    }
    printf("%d interruptions; ", (int)interruptions);
    CHECK(interruptions >= loops);
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"interrupted", interrupted}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
