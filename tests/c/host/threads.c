/* A host whose threads end, are cancelled, or have a stack of 64 KB. */
#include "host.h"

static pthread_key_t key;

/* Runs while its thread ends: the C library has run the destructors of other keys before or will run them later. */
static void call_while_ending(void *client)
{
    expect_token(client);
    pgiam_client_free(client);
    pgiam_client *other = new_client();
    start_fetch(other);
    pgiam_client_free(other);
}

/* Starts a fetch and ends. */
static void *end_at_once(void *client)
{
    start_fetch(client);
    return NULL;
}

static void *exit_at_once(void *client)
{
    start_fetch(client);
    pthread_exit(NULL);
}

static void *call_in_destructor(void *client)
{
    CHECK(pthread_setspecific(key, client) == 0);
    return NULL;
}

static void *call_before_and_in_destructor(void *client)
{
    CHECK(pthread_setspecific(key, client) == 0);
    expect_token(client);
    pthread_exit(NULL);
}

static void ending(int loops)
{
    CHECK(pthread_key_create(&key, call_while_ending) == 0);
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        void *(*const ways[])(void *) = {end_at_once, exit_at_once, call_in_destructor, call_before_and_in_destructor};
        int way = i % 4;
        pgiam_client *client = new_client();
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, ways[way], client) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        if (way < 2) {
            expect_token(client);
            pgiam_client_free(client);
        }
        settle(before);
    }
}

/* A thread that is cancelled asynchronously between two calls loses the token of the first one. */
static void *call_until_cancelled(void *client)
{
    for (;;) {
        char *token = NULL;
        pgiam_client_generate_token(client, ENDPOINT, 5432, NULL, "app_user", &token, NULL, NULL);
        pgiam_string_free(token);
        pgiam_client_refresh(client, NULL);
        pgiam_client_try_generate_token(client, ENDPOINT, 5432, NULL, "app_user", &token, NULL, NULL);
        pgiam_string_free(token);
        pthread_testcancel();
    }
    return NULL;
}

static void *call_until_cancelled_anywhere(void *client)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    return call_until_cancelled(client);
}

static void cancel(int loops, void *(*work)(void *))
{
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = new_client();
        pthread_t threads[2];
        for (int t = 0; t < 2; t++)
            CHECK(pthread_create(&threads[t], NULL, work, client) == 0);
        pause_up_to(8000);
        for (int t = 0; t < 2; t++) {
            CHECK(pthread_cancel(threads[t]) == 0);
            void *result = NULL;
            CHECK(pthread_join(threads[t], &result) == 0);
            CHECK(result == PTHREAD_CANCELED);
        }
        /* The fetch that a cancelled thread made has ended for everybody. */
        expect_token(client);
        pgiam_client_free(client);
        settle(before);
    }
}

static void cancelled(int loops)
{
    cancel(loops, call_until_cancelled);
}

static void cancelled_asynchronously(int loops)
{
    cancel(loops, call_until_cancelled_anywhere);
}

static void *call_everything(void *argument)
{
    (void)argument;
    pgiam_client *client = new_client();
    expect_token(client);
    expect_refresh(client);
    expect_token_without_waiting(client);
    pgiam_client_free(client);
    pgiam_error *error = NULL;
    client = new_client_with("profile", "no-such-profile");
    CHECK(pgiam_client_refresh(client, &error) != PGIAM_OK);
    CHECK(strstr(pgiam_error_message(error), "no-such-profile") != NULL);
    pgiam_error_free(error);
    pgiam_client_free(client);
    return NULL;
}

static void small_stacks(int loops)
{
    struct census before = take_census();
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 64 * 1024) == 0);
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pthread_t threads[4];
        for (int t = 0; t < 4; t++)
            CHECK(pthread_create(&threads[t], &attributes, call_everything, NULL) == 0);
        for (int t = 0; t < 4; t++)
            CHECK(pthread_join(threads[t], NULL) == 0);
        settle(before);
    }
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {
        {"ending", ending},
        {"cancelled", cancelled},
        {"cancelled_asynchronously", cancelled_asynchronously},
        {"small_stacks", small_stacks},
    };
    return RUN_SCENARIO(argc, argv, scenarios);
}
