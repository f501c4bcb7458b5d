/* A host whose threads use one client, the default client and clients of their own at the same time, in every way.
 * ThreadSanitizer looks for races in it. */
#include "host.h"

enum { THREADS = 8, CALLS = 24 };

static pgiam_client *shared;
static pthread_barrier_t barrier;

/* Of the default client, for a user of its own: the signature is not in the cache. */
static void expect_new_token(unsigned number)
{
    char user[32], *token = NULL;
    snprintf(user, sizeof user, "app_user_%u", number);
    CHECK(pgiam_generate_token(ENDPOINT, 5432, NULL, user, &token, NULL) == PGIAM_OK);
    CHECK(strstr(token, user) != NULL);
    pgiam_string_free(token);
}

static void expect_error(void)
{
    pgiam_error *error = NULL;
    char *token = NULL;
    CHECK(pgiam_client_generate_token(shared, ENDPOINT, 0, NULL, "app_user", &token, NULL, &error) != PGIAM_OK);
    CHECK(pgiam_error_message(error)[0] != '\0');
    pgiam_error_free(error);
}

static void *use(void *argument)
{
    unsigned first = *(const unsigned *)argument;
    pthread_barrier_wait(&barrier);
    for (unsigned call = first; call < first + CALLS; call++) {
        switch (call % 8) {
        case 0:
        case 1:
            expect_token(shared);
            break;
        case 2:
            start_fetch(shared);
            break;
        case 3:
            expect_refresh(shared);
            break;
        case 4:
            expect_new_token(call % 5);
            break;
        case 5:
            expect_new_token(call);
            break;
        case 6:
            expect_error();
            break;
        default: {
            pgiam_client *own = new_client();
            start_fetch(own);
            pgiam_client_free(own);
        }
        }
    }
    return NULL;
}

/* The client is new in each round and is freed while a fetch may be running. */
static void threads(int loops)
{
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (int i = 0; i < loops; i++) {
        alarm(120);
        pthread_t started[THREADS];
        unsigned numbers[THREADS];
        shared = new_client();
        for (unsigned t = 0; t < THREADS; t++) {
            numbers[t] = t;
            CHECK(pthread_create(&started[t], NULL, use, &numbers[t]) == 0);
        }
        for (unsigned t = 0; t < THREADS; t++)
            CHECK(pthread_join(started[t], NULL) == 0);
        start_fetch(shared);
        pgiam_client_free(shared);
    }
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"threads", threads}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
