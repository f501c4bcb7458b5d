/* A host whose wall clock somebody sets, and sets right again. */
#include "host.h"
#include <sys/syscall.h>

/* Seconds that the wall clock is ahead. */
static volatile long ahead;

/* Takes the place of the C library's, for the library too. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return failed;
}

/* time() may be behind by a moment. */
static int64_t seconds(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return now.tv_sec;
}

/* A token that a server accepts now. */
static void expect_valid_token(pgiam_client *client)
{
    char *token = NULL;
    int64_t expires_at = 0;
    CHECK(pgiam_client_generate_token(client, ENDPOINT, 5432, NULL, "app_user", &token, &expires_at, NULL) == PGIAM_OK);
    int64_t now = seconds();
    CHECK(expires_at > now && expires_at <= now + 900);
    struct tm made = {0};
    const char *date = strstr(token, "X-Amz-Date=");
    CHECK(date && strptime(date + strlen("X-Amz-Date="), "%Y%m%dT%H%M%SZ", &made));
    int64_t age = now - timegm(&made);
    CHECK(age >= 0 && age <= 60);
    pgiam_string_free(token);
}

static void set(int loops)
{
    const long steps[] = {-2 * 3600L, 7 * 3600L, 365 * 24 * 3600L};
    struct census before = take_census();
    pgiam_client *client = new_client();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        expect_valid_token(client);
        ahead = steps[i % 3];
        /* Cached credentials sign with the time that the clock shows, unless they seem to have expired. */
        if (ahead < 0)
            expect_valid_token(client);
        else
            make_token(client, NULL);
        if (i % 2)
            pgiam_client_refresh(client, NULL);
        make_token(client, NULL);
        ahead = 0;
        expect_valid_token(client);
        expect_refresh(client);
    }
    pgiam_client_free(client);
    settle(before);
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"set", set}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
