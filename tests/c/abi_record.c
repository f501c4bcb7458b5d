/* The binary interface of libpgiam.so.0, as programs have compiled it in. It compiles only while include/ and the
 * library still have it. Lines are only added; a change of one needs a new SONAME. tests/suite/abi_record.rs checks that
 * no function, status or field is missing here. */
#include <pgiam-libpq.h>
#include <pgiam.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define SAME(name, type) _Static_assert(_Generic(&name, type: 1, default: 0), #name " has another type")
#define FIELD(structure, field, offset, type)                                                              \
    _Static_assert(offsetof(structure, field) == (offset), #structure "." #field " is elsewhere");         \
    _Static_assert(_Generic(((structure *)0)->field, type: 1, default: 0), #structure "." #field " has another type")

/* 0.1.0 */
SAME(pgiam_generate_token,
     int32_t (*)(const char *, int32_t, const char *, const char *, char **, pgiam_error **));
SAME(pgiam_string_free, void (*)(char *));
SAME(pgiam_client_new, int32_t (*)(const char *const *, const char *const *, pgiam_client **, pgiam_error **));
SAME(pgiam_client_generate_token, int32_t (*)(pgiam_client *, const char *, int32_t, const char *, const char *, char **,
                                              int64_t *, pgiam_error **));
SAME(pgiam_client_try_generate_token, int32_t (*)(pgiam_client *, const char *, int32_t, const char *, const char *,
                                                  char **, int64_t *, pgiam_error **));
SAME(pgiam_client_refresh, int32_t (*)(pgiam_client *, pgiam_error **));
SAME(pgiam_client_free, void (*)(pgiam_client *));
SAME(pgiam_error_message, const char *(*)(const pgiam_error *));
SAME(pgiam_error_free, void (*)(pgiam_error *));
SAME(pgiam_version, const char *(*)(void));
SAME(pgiam_status_name, const char *(*)(int32_t));

/* 0.1.0, compiled into programs that include pgiam-libpq.h */
SAME(pgiam_libpq_plan_new,
     int32_t (*)(const pgiam_libpq_functions *, const char *, const char *const *, const char *const *, int, int,
                 pgiam_libpq_plan **, pgiam_error **));
SAME(pgiam_libpq_plan_keywords, const char *const *(*)(const pgiam_libpq_plan *));
SAME(pgiam_libpq_plan_values, const char *const *(*)(const pgiam_libpq_plan *));
SAME(pgiam_libpq_plan_expand_dbname, int (*)(const pgiam_libpq_plan *));
SAME(pgiam_libpq_plan_free, void (*)(pgiam_libpq_plan *));

#define WORD sizeof(void *)
FIELD(pgiam_libpq_functions, size, 0, size_t);
FIELD(pgiam_libpq_functions, lib_version, 1 * WORD, int (*)(void));
FIELD(pgiam_libpq_functions, connect_start_params, 2 * WORD,
      PGconn *(*)(const char *const *, const char *const *, int));
FIELD(pgiam_libpq_functions, status, 3 * WORD, ConnStatusType (*)(const PGconn *));
FIELD(pgiam_libpq_functions, pass, 4 * WORD, char *(*)(const PGconn *));
FIELD(pgiam_libpq_functions, conninfo, 5 * WORD, PQconninfoOption *(*)(PGconn *));
FIELD(pgiam_libpq_functions, conninfo_free, 6 * WORD, void (*)(PQconninfoOption *));
FIELD(pgiam_libpq_functions, finish, 7 * WORD, void (*)(PGconn *));
/* A library accepts tables of at least the size that it knows. */
_Static_assert(sizeof(pgiam_libpq_functions) >= 8 * WORD, "the table lost fields");

/* The numbers, in the header and in the library. */
#define STATUS(name, number)                                                                  \
    do {                                                                                      \
        _Static_assert(name == (number), #name " has another number");                        \
        if (strcmp(pgiam_status_name(number), #name) != 0) {                                  \
            fprintf(stderr, "%d is %s, not %s\n", number, pgiam_status_name(number), #name);  \
            return 1;                                                                         \
        }                                                                                     \
    } while (0)

int main(void)
{
    STATUS(PGIAM_OK, 0);
    STATUS(PGIAM_ERROR_INVALID_ARGUMENT, 1);
    STATUS(PGIAM_ERROR_INVALID_CONFIGURATION, 2);
    STATUS(PGIAM_ERROR_NO_CREDENTIALS, 3);
    STATUS(PGIAM_ERROR_NO_REGION, 4);
    STATUS(PGIAM_ERROR_PROVIDER, 5);
    STATUS(PGIAM_ERROR_TIMEOUT, 6);
    STATUS(PGIAM_ERROR_CREDENTIALS_EXPIRED, 7);
    STATUS(PGIAM_ERROR_WOULD_BLOCK, 8);
    STATUS(PGIAM_ERROR_INTERNAL, 9);
    /* Each function is in the library: without them this program would not start (-z now). */
    puts("the recorded interface");
    return 0;
}
