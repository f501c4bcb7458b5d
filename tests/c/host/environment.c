/* A host that changes its environment in one thread while another makes tokens. The environment was read before: for the
 * default client by its first call, for the others by pgiam_client_new. */
#include "host.h"

extern char **environ;

static volatile int stop;

static void *change_until_stopped(void *argument)
{
    (void)argument;
    char name[32], value[200];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (unsigned i = 0; !stop; i++) {
        /* The list grows, moves, and is dropped as a whole. */
        snprintf(name, sizeof name, "HOST_%u", i % 300);
        CHECK(setenv(name, value + i % 190, 1) == 0);
        CHECK(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1) == 0);
        CHECK(setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1", 1) == 0);
        CHECK(setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1) == 0);
        CHECK(setenv("AWS_ACCESS_KEY_ID", "AKIDOFTHEOTHERTHREAD", 1) == 0);
        CHECK(setenv("AWS_SECRET_ACCESS_KEY", value, 1) == 0);
        CHECK(setenv("PATH", "/nonexistent", 1) == 0);
        CHECK(unsetenv(name) == 0);
        if (i % 3 == 0)
            CHECK(clearenv() == 0);
    }
    return NULL;
}

/* The default client. */
static void expect_default_token(void)
{
    char *token = NULL;
    CHECK(pgiam_generate_token(ENDPOINT, 5432, NULL, "app_user", &token, NULL) == PGIAM_OK);
    CHECK(strstr(token, "AKIDOFTHEOTHERTHREAD") == NULL);
    pgiam_string_free(token);
}

/* In rounds, since a client is made before the environment is changed. */
static void changed(int loops)
{
    enum { CLIENTS = 50 };
    /* What the clients read. The C library never changes or frees this list: its own is a copy. */
    char **first = environ;
    expect_default_token();
    struct census before = take_census();
    for (int done = 0; done < loops; done += CLIENTS) {
        alarm(120);
        pgiam_client *clients[CLIENTS];
        for (int i = 0; i < CLIENTS; i++)
            clients[i] = new_client();
        stop = 0;
        pthread_t other;
        CHECK(pthread_create(&other, NULL, change_until_stopped, NULL) == 0);
        for (int i = 0; i < CLIENTS; i++) {
            start_fetch(clients[i]);
            expect_token(clients[i]);
            expect_default_token();
        }
        stop = 1;
        CHECK(pthread_join(other, NULL) == 0);
        environ = first;
        for (int i = 0; i < CLIENTS; i++)
            pgiam_client_free(clients[i]);
        settle(before);
    }
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"changed", changed}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
