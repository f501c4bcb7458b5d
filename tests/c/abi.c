/* Tests what include/pgiam.h promises; also run under Valgrind and AddressSanitizer. Needs static keys in the
 * environment for the default client. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <pgiam.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOST "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com"
#define STALE ((void *)(size_t)0xdead)

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

/* A failure sets every output and has a reason. */
static void fails(const char *host, int32_t port, const char *region, const char *user, pgiam_status expected,
                  const char *expected_text)
{
    char *token = STALE;
    pgiam_error *error = STALE;
    errno = 1234;
    CHECK(pgiam_generate_token(host, port, region, user, &token, &error) == expected);
    CHECK(errno == 1234);
    CHECK(token == NULL);
    CHECK(error != NULL && error != STALE);
    if (!strstr(pgiam_error_message(error), expected_text)) {
        fprintf(stderr, "message: %s\nexpected in it: %s\n", pgiam_error_message(error), expected_text);
        exit(1);
    }
    pgiam_error_free(error);
    /* The same without asking for the reason. */
    token = STALE;
    CHECK(pgiam_generate_token(host, port, region, user, &token, NULL) == expected);
    CHECK(token == NULL);
}

static void arguments_are_checked(void)
{
    const pgiam_status invalid = PGIAM_ERROR_INVALID_ARGUMENT;
    fails(NULL, 5432, NULL, "app_user", invalid, "host is NULL");
    fails(HOST, 5432, NULL, NULL, invalid, "user is NULL");
    fails("", 5432, NULL, "app_user", invalid, "host is empty");
    fails(HOST, 0, NULL, "app_user", invalid, "port 0");
    fails(HOST, -1, NULL, "app_user", invalid, "port -1");
    fails(HOST, 70968, NULL, "app_user", invalid, "port 70968");
    fails(HOST ":5432", 5432, NULL, "app_user", invalid, "includes a port");
    fails(HOST, 5432, "eu-west-1", "app_user", invalid, "contradicts");
    fails(HOST, 5432, "eu west", "app_user", invalid, "region");
    fails(HOST, 5432, NULL, "", invalid, "user is empty");
    fails(HOST, 5432, NULL, "a\nb", invalid, "control");
    fails(HOST, 5432, NULL, "\xff\xfe", invalid, "not UTF-8");
    fails("127.0.0.1", 5432, NULL, "app_user", invalid, "IP address");
    fails("localhost", 5432, NULL, "app_user", invalid, "hostaddr");
    pgiam_error *error = STALE;
    CHECK(pgiam_generate_token(HOST, 5432, NULL, "app_user", NULL, &error) == invalid);
    CHECK(strstr(pgiam_error_message(error), "token is NULL"));
    pgiam_error_free(error);
}

static void a_token_is_made(void)
{
    char *token = STALE;
    pgiam_error *error = STALE;
    errno = 1234;
    CHECK(pgiam_generate_token(HOST, 5432, NULL, "jane@corp.com", &token, &error) == PGIAM_OK);
    CHECK(errno == 1234);
    CHECK(error == NULL);
    const char start[] = HOST ":5432/?Action=connect&DBUser=jane%40corp.com&";
    CHECK(strncmp(token, start, sizeof start - 1) == 0);
    pgiam_string_free(token);
}

static void frees_take_null(void)
{
    pgiam_string_free(NULL);
    pgiam_error_free(NULL);
    pgiam_client_free(NULL);
    CHECK(strcmp(pgiam_error_message(NULL), "") == 0);
}

static void versions_agree(void)
{
    CHECK(strcmp(pgiam_version(), PGIAM_VERSION) == 0);
    CHECK(strcmp(pgiam_status_name(PGIAM_OK), "PGIAM_OK") == 0);
    CHECK(strcmp(pgiam_status_name(PGIAM_ERROR_TIMEOUT), "PGIAM_ERROR_TIMEOUT") == 0);
    CHECK(strcmp(pgiam_status_name(-1), "PGIAM_ERROR_UNKNOWN") == 0);
}

static void a_client_takes_settings(void)
{
    const char *keywords[] = {"region", "timeout_ms", "timeout_ms", "profile", NULL};
    const char *values[] = {"us-east-1", "1", "5000", "", NULL};
    pgiam_client *client = STALE;
    pgiam_error *error = STALE;
    CHECK(pgiam_client_new(keywords, values, &client, &error) == PGIAM_OK);
    CHECK(client != NULL && error == NULL);

    char *token = STALE;
    int64_t expires_at = -1;
    CHECK(pgiam_client_generate_token(client, "db.example.com", 5432, NULL, "app_user", &token, &expires_at, &error) == PGIAM_OK);
    CHECK(strstr(token, "%2Fus-east-1%2F"));
    CHECK(expires_at > (int64_t)time(NULL) + 890 && expires_at <= (int64_t)time(NULL) + 900);
    pgiam_string_free(token);

    /* Static keys are available at once, or one fetch later. */
    pgiam_status status;
    while ((status = pgiam_client_try_generate_token(client, HOST, 5432, NULL, "app_user", &token, NULL, NULL)) ==
           PGIAM_ERROR_WOULD_BLOCK)
        usleep(20000);
    CHECK(status == PGIAM_OK);
    pgiam_string_free(token);

    expires_at = -1;
    token = STALE;
    CHECK(pgiam_client_generate_token(client, "", 5432, NULL, "app_user", &token, &expires_at, NULL) != PGIAM_OK);
    CHECK(token == NULL && expires_at == 0);
    CHECK(pgiam_client_refresh(client, &error) == PGIAM_OK);
    pgiam_client_free(client);

    CHECK(pgiam_client_new(NULL, NULL, &client, NULL) == PGIAM_OK);
    pgiam_client_free(client);
}

static void a_client_refuses_what_it_does_not_know(void)
{
    const char *keywords[] = {"regoin", NULL};
    const char *values[] = {"us-east-1", NULL};
    pgiam_client *client = STALE;
    pgiam_error *error = STALE;
    CHECK(pgiam_client_new(keywords, values, &client, &error) == PGIAM_ERROR_INVALID_CONFIGURATION);
    CHECK(client == NULL && strstr(pgiam_error_message(error), "regoin"));
    pgiam_error_free(error);
    CHECK(pgiam_client_new(keywords, NULL, &client, NULL) == PGIAM_ERROR_INVALID_ARGUMENT);
    CHECK(pgiam_client_new(NULL, NULL, NULL, NULL) == PGIAM_ERROR_INVALID_ARGUMENT);
    char *token = STALE;
    CHECK(pgiam_client_generate_token(NULL, HOST, 5432, NULL, "u", &token, NULL, NULL) == PGIAM_ERROR_INVALID_ARGUMENT);
    CHECK(token == NULL);
    CHECK(pgiam_client_refresh(NULL, NULL) == PGIAM_ERROR_INVALID_ARGUMENT);
}

static void *make_many(void *argument)
{
    for (int i = 0; i < 200; i++) {
        char *token;
        CHECK(pgiam_client_generate_token(argument, HOST, 5432, NULL, "app_user", &token, NULL, NULL) == PGIAM_OK);
        pgiam_string_free(token);
    }
    return NULL;
}

static void threads_share_a_client(void)
{
    pgiam_client *client;
    CHECK(pgiam_client_new(NULL, NULL, &client, NULL) == PGIAM_OK);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, make_many, client) == 0);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    pgiam_client_free(client);
}

static void *make_forever(void *argument)
{
    (void)argument;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    for (;;) {
        char *token = NULL;
        pgiam_generate_token(HOST, 5432, NULL, "app_user", &token, NULL);
        pgiam_string_free(token);
        int state;
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
        CHECK(state == PTHREAD_CANCEL_ENABLE); /* restored by the library */
        pthread_testcancel();
    }
    return NULL;
}

static void a_cancelled_thread_ends_between_calls(void)
{
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, make_forever, NULL) == 0);
    CHECK(pthread_cancel(thread) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
}

/* Every function, but only calls that allocate nothing for the caller: a thread that is cancelled asynchronously loses
 * what it has received. */
static void *call_everything_forever(void *client)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;) {
        char *token;
        int64_t expires_at;
        pgiam_client *none;
        pgiam_generate_token("", 5432, NULL, "app_user", &token, NULL);
        pgiam_client_generate_token(client, HOST, 0, NULL, "app_user", &token, &expires_at, NULL);
        pgiam_client_try_generate_token(client, HOST, 5432, "eu-west-1", "app_user", &token, &expires_at, NULL);
        pgiam_client_new(NULL, NULL, NULL, NULL);
        pgiam_client_new((const char *const[]){"regoin", NULL}, NULL, &none, NULL);
        pgiam_client_refresh(NULL, NULL);
        pgiam_client_free(NULL);
        pgiam_string_free(NULL);
        pgiam_error_free(NULL);
        pgiam_error_message(NULL);
        pgiam_status_name(PGIAM_ERROR_TIMEOUT);
        pgiam_version();
    }
    return NULL;
}

static void asynchronous_cancellation_ends_the_thread_and_not_the_program(void)
{
    pgiam_client *client;
    CHECK(pgiam_client_new(NULL, NULL, &client, NULL) == PGIAM_OK);
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        void *result;
        CHECK(pthread_create(&thread, NULL, call_everything_forever, client) == 0);
        /* Cancel at a different instruction each time. */
        usleep((useconds_t)(i % 100) * 3);
        for (volatile int spin = 0; spin < i * 7; spin++)
            ;
        CHECK(pthread_cancel(thread) == 0);
        CHECK(pthread_join(thread, &result) == 0);
        CHECK(result == PTHREAD_CANCELED);
    }
    pgiam_client_free(client);
}

static void a_forked_child_goes_on(void)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char *token;
        int failed = pgiam_generate_token(HOST, 5432, NULL, "app_user", &token, NULL) != PGIAM_OK;
        pgiam_string_free(token);
        _exit(failed);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    arguments_are_checked();
    a_token_is_made();
    frees_take_null();
    versions_agree();
    a_client_takes_settings();
    a_client_refuses_what_it_does_not_know();
    threads_share_a_client();
    a_cancelled_thread_ends_between_calls();
    asynchronous_cancellation_ends_the_thread_and_not_the_program();
    a_forked_child_goes_on();
    puts("all checks passed");
    return 0;
}
