/* Every function of the library with every kind of argument that a faulty program can pass: NULL, empty, not UTF-8, 1 MB,
 * 100 MB, arrays of different lengths, incomplete tables. Each call returns; what is refused has a reason of one printable
 * line. Needs static keys in the environment. Prints the number of calls. */
#include <errno.h>
#include <pgiam-libpq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com"
#define STALE ((void *)(size_t)0xdead)
#define COUNT(array) (sizeof(array) / sizeof *(array))

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

static unsigned calls;

static char *repeated(const char *piece, size_t bytes)
{
    size_t length = strlen(piece), at = 0;
    char *text = malloc(bytes + length + 1);
    CHECK(text != NULL);
    for (; at < bytes; at += length)
        memcpy(text + at, piece, length);
    text[at] = '\0';
    return text;
}

static const char *hostile[23];

static void make_hostile(void)
{
    const char *short_ones[] = {NULL, "", " ", "\xff\xfe", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\x80",
                                "a\nb", "\x1b[31m", "'", "=", "%00", "..", "\xe2\x80\xae"};
    const char *pieces[] = {"a", "a.", " ", "\xc3\xa4", "=", "\n", "\xff"};
    for (size_t i = 0; i < COUNT(short_ones); i++)
        hostile[i] = short_ones[i];
    for (size_t i = 0; i < COUNT(pieces); i++)
        hostile[COUNT(short_ones) + i] = repeated(pieces[i], 1000 * 1000);
}

/* The outputs of a call agree with its status, and a reason is one printable line of a bounded length. */
static void agrees(pgiam_status status, const void *output, pgiam_error *error)
{
    calls++;
    CHECK(strcmp(pgiam_status_name(status), "PGIAM_ERROR_UNKNOWN") != 0);
    CHECK(status != PGIAM_ERROR_INTERNAL);
    CHECK((status == PGIAM_OK) == (output != NULL));
    CHECK((status == PGIAM_OK) == (error == NULL));
    const char *message = pgiam_error_message(error);
    /* Every byte of 4,500 may be escaped. */
    CHECK(strlen(message) < 9000);
    CHECK((status == PGIAM_OK) == (*message == '\0'));
    for (; *message; message++)
        CHECK((unsigned char)*message >= ' ' && *message != 0x7f);
    pgiam_error_free(error);
}

static void token_functions(pgiam_client *client, const char *host, int32_t port, const char *region, const char *user)
{
    char *token = STALE;
    pgiam_error *error = STALE;
    errno = 1234;
    pgiam_status status = pgiam_generate_token(host, port, region, user, &token, &error);
    agrees(status, token, error);
    pgiam_string_free(token);
    int64_t expires_at = -1;
    token = STALE, error = STALE;
    CHECK(pgiam_client_generate_token(client, host, port, region, user, &token, &expires_at, &error) == status);
    CHECK((status == PGIAM_OK) == (expires_at > 0));
    agrees(status, token, error);
    pgiam_string_free(token);
    token = STALE, error = STALE;
    status = pgiam_client_try_generate_token(client, host, port, region, user, &token, &expires_at, &error);
    agrees(status, token, error);
    pgiam_string_free(token);
    /* The same without optional outputs. */
    pgiam_client_try_generate_token(client, host, port, region, user, &token, NULL, NULL);
    pgiam_string_free(token);
    pgiam_client_generate_token(client, host, port, region, user, NULL, NULL, NULL);
    CHECK(errno == 1234);
}

static void tokens(void)
{
    pgiam_client *client;
    CHECK(pgiam_client_new(NULL, NULL, &client, NULL) == PGIAM_OK);
    CHECK(pgiam_client_refresh(client, NULL) == PGIAM_OK);
    for (size_t i = 0; i < COUNT(hostile); i++) {
        token_functions(client, hostile[i], 5432, NULL, "app_user");
        token_functions(client, "db.example.com", 5432, hostile[i], "app_user");
        token_functions(client, HOST, 5432, "eu-central-1", hostile[i]);
        token_functions(client, hostile[i], -1, hostile[i], hostile[i]);
        token_functions(NULL, hostile[i], 5432, hostile[i], hostile[i]);
    }
    const int32_t ports[] = {INT32_MIN, -1, 0, 65536, INT32_MAX};
    for (size_t i = 0; i < COUNT(ports); i++)
        token_functions(client, HOST, ports[i], NULL, "app_user");
    pgiam_client_free(client);
}

static void one_client(const char *const *keywords, const char *const *values)
{
    pgiam_client *client = STALE;
    pgiam_error *error = STALE;
    pgiam_status status = pgiam_client_new(keywords, values, &client, &error);
    agrees(status, client, error);
    pgiam_client_free(client);
    pgiam_client_new(keywords, values, NULL, NULL);
}

static void clients(void)
{
    const char *known[] = {"profile", "region", "timeout_ms", "service", "imds_endpoint", "role_arn", "external_id",
                           "role_session_name"};
    for (size_t i = 0; i < COUNT(hostile); i++) {
        one_client((const char *const[]){hostile[i], NULL}, (const char *const[]){hostile[i], NULL});
        for (size_t k = 0; k < COUNT(known); k++)
            one_client((const char *const[]){known[k], "region", NULL}, (const char *const[]){hostile[i], "eu-central-1", NULL});
    }
    one_client(NULL, (const char *const[]){"eu-central-1", NULL});
    one_client((const char *const[]){"region", NULL}, NULL);
    one_client((const char *const[]){NULL}, NULL);
    /* The keywords end first: what is behind them is not read. */
    one_client((const char *const[]){"region", NULL, "regoin"}, (const char *const[]){"eu-central-1", STALE});
    /* The same keyword 100,000 times. */
    const size_t many = 100 * 1000;
    const char **keywords = calloc(many + 1, sizeof *keywords), **values = calloc(many + 1, sizeof *values);
    for (size_t i = 0; i < many; i++)
        keywords[i] = "region", values[i] = "eu-central-1";
    one_client(keywords, values);
    free(keywords);
    free(values);
    pgiam_error *error = STALE;
    CHECK(pgiam_client_refresh(NULL, &error) == PGIAM_ERROR_INVALID_ARGUMENT);
    agrees(PGIAM_ERROR_INVALID_ARGUMENT, NULL, error);
}

static const pgiam_libpq_functions libpq = {sizeof libpq, PQlibVersion, PQconnectStartParams, PQstatus,
                                            PQpass, PQconninfo, PQconninfoFree, PQfinish};

static void one_plan(const pgiam_libpq_functions *functions, const char *conninfo, const char *const *keywords,
                     const char *const *values, int expand_dbname, int may_wait)
{
    pgiam_libpq_plan *plan = STALE;
    pgiam_error *error = STALE;
    pgiam_status status =
        pgiam_libpq_plan_new(functions, conninfo, keywords, values, expand_dbname, may_wait, &plan, &error);
    agrees(status, plan, error);
    CHECK((pgiam_libpq_plan_keywords(plan) == NULL) == (pgiam_libpq_plan_values(plan) == NULL));
    pgiam_libpq_plan_expand_dbname(plan);
    pgiam_libpq_plan_free(plan);
}

static void plans(void)
{
    const char *known[] = {"host", "hostaddr", "port", "user", "dbname", "password", "sslmode", "passfile", "service",
                           "iam", "iam_host", "iam_port", "iam_region", "iam_profile", "iam_hosts"};
    for (size_t i = 0; i < COUNT(hostile); i++) {
        /* libpq itself takes a time that grows with the square of some texts: the long ones are for iam keywords. */
        int is_long = hostile[i] != NULL && strlen(hostile[i]) > 1000;
        if (!is_long)
            one_plan(&libpq, hostile[i], NULL, NULL, 0, 1);
        for (size_t k = 0; k < COUNT(known); k++)
            for (int expand = -1; expand <= 1; expand++)
                if (!is_long || strncmp(known[k], "iam", 3) == 0)
                    one_plan(&libpq, NULL, (const char *const[]){known[k], "host", "user", NULL},
                             (const char *const[]){hostile[i], HOST, "app_user", NULL}, expand, i % 2);
        if (hostile[i] != NULL && !is_long)
            one_plan(&libpq, NULL, (const char *const[]){hostile[i], NULL}, (const char *const[]){hostile[i], NULL}, 1, 1);
    }
    one_plan(&libpq, NULL, (const char *const[]){"host", NULL}, NULL, 0, 1);
    one_plan(NULL, "host=" HOST, NULL, NULL, 0, 1);
    /* Tables of headers that are older, or not filled. */
    for (size_t size = 0; size < sizeof libpq; size++) {
        pgiam_libpq_functions smaller = libpq;
        smaller.size = size;
        one_plan(&smaller, "host=" HOST, NULL, NULL, 0, 1);
    }
    for (size_t field = 1; field < sizeof libpq / sizeof(void *); field++) {
        pgiam_libpq_functions incomplete = libpq;
        memset((char *)&incomplete + field * sizeof(void *), 0, sizeof(void *));
        one_plan(&incomplete, "host=" HOST, NULL, NULL, 0, 1);
    }
    CHECK(pgiam_libpq_plan_new(&libpq, "host=" HOST, NULL, NULL, 0, 1, NULL, NULL) == PGIAM_ERROR_INVALID_ARGUMENT);
}

/* 100 MB, once for each kind of argument. */
static void huge_texts(void)
{
    char *huge = repeated("a", 100 * 1000 * 1000), *token = STALE;
    pgiam_client *client = STALE;
    pgiam_error *error = STALE;
    CHECK(pgiam_client_new(NULL, NULL, &client, NULL) == PGIAM_OK);
    const char *arguments[][3] = {{huge, NULL, "app_user"}, {"db.example.com", huge, "app_user"}, {HOST, NULL, huge}};
    for (size_t i = 0; i < COUNT(arguments); i++) {
        const char *const *with = arguments[i];
        pgiam_status status = pgiam_client_generate_token(client, with[0], 5432, with[1], with[2], &token, NULL, &error);
        agrees(status, token, error);
        pgiam_string_free(token);
    }
    pgiam_client_free(client);
    one_client((const char *const[]){"profile", NULL}, (const char *const[]){huge, NULL});
    one_client((const char *const[]){huge, NULL}, (const char *const[]){huge, NULL});
    const char *keywords[] = {"iam_host", "iam_region", "iam_profile", "iam_hosts"};
    for (size_t k = 0; k < COUNT(keywords); k++)
        one_plan(&libpq, NULL, (const char *const[]){keywords[k], "host", "user", NULL},
                 (const char *const[]){huge, HOST, "app_user", NULL}, 0, 1);
    free(huge);
}

int main(void)
{
    make_hostile();
    tokens();
    clients();
    plans();
    huge_texts();
    for (int32_t status = -100; status < 100; status++)
        CHECK(strncmp(pgiam_status_name(status), "PGIAM_", 6) == 0);
    for (size_t i = 0; i < COUNT(hostile); i++)
        if (hostile[i] != NULL && strlen(hostile[i]) > 100)
            free((char *)hostile[i]);
    printf("%u calls\n", calls);
    return 0;
}
