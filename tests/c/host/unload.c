/* A host that loads the library when it needs it and unloads it while a fetch runs. It is not linked to it. */
#include "host.h"
#include <dlfcn.h>
#include <fcntl.h>

#define LIBRARY "libpgiam.so.0"

struct library {
    void *handle;
    pgiam_status (*new_client)(const char *const *, const char *const *, pgiam_client **, pgiam_error **);
    pgiam_status (*try_token)(pgiam_client *, const char *, int32_t, const char *, const char *, char **, int64_t *,
                              pgiam_error **);
    pgiam_status (*token)(pgiam_client *, const char *, int32_t, const char *, const char *, char **, int64_t *,
                          pgiam_error **);
    void (*free_string)(char *);
    void (*free_client)(pgiam_client *);
};

static struct library load(int flags)
{
    struct library library = {.handle = dlopen(LIBRARY, flags)};
    if (!library.handle) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(1);
    }
    /* POSIX's way to make a function of what dlsym returns. */
    *(void **)&library.new_client = dlsym(library.handle, "pgiam_client_new");
    *(void **)&library.try_token = dlsym(library.handle, "pgiam_client_try_generate_token");
    *(void **)&library.token = dlsym(library.handle, "pgiam_client_generate_token");
    *(void **)&library.free_string = dlsym(library.handle, "pgiam_string_free");
    *(void **)&library.free_client = dlsym(library.handle, "pgiam_client_free");
    CHECK(library.new_client && library.try_token && library.token && library.free_string && library.free_client);
    return library;
}

/* Loads, fetches in the background, unloads. Odd loops also wait for a token. */
static void use(int i)
{
    struct library library = load(i % 4 < 2 ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY | RTLD_GLOBAL);
    pgiam_client *client = NULL;
    char *token = NULL;
    CHECK(library.new_client(NULL, NULL, &client, NULL) == PGIAM_OK);
    CHECK(library.try_token(client, ENDPOINT, 5432, NULL, "app_user", &token, NULL, NULL) == PGIAM_ERROR_WOULD_BLOCK);
    if (i % 2) {
        CHECK(library.token(client, ENDPOINT, 5432, NULL, "app_user", &token, NULL, NULL) == PGIAM_OK);
        library.free_string(token);
        pgiam_client *other = NULL;
        CHECK(library.new_client(NULL, NULL, &other, NULL) == PGIAM_OK);
        CHECK(library.try_token(other, ENDPOINT, 5432, NULL, "app_user", &token, NULL, NULL) ==
              PGIAM_ERROR_WOULD_BLOCK);
        library.free_client(other);
    }
    library.free_client(client);
    pause_up_to(6000);
    CHECK(dlclose(library.handle) == 0);
}

static void unloads(int loops)
{
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        use(i);
        settle(before);
    }
}

/* The program ends between loading and the end of the fetch. */
static void unloads_and_exits(int loops)
{
    adopt_orphans();
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pid_t child = fork();
        if (child == 0) {
            srandom((unsigned)i);
            use(i);
            exit(0);
        }
        expect_success(child);
        reap_orphans();
        settle(before);
    }
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"unloads", unloads}, {"unloads_and_exits", unloads_and_exits}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
