/* What libpgiam.so costs a process that is fresh: probe dlopen|memory|counts LIBRARY
 *
 *   dlopen   prints the nanoseconds of dlopen
 *   memory   prints, in KiB: Rss, Pss and the private pages written to, as added by dlopen and, in a second line,
 *            by the first token too
 *   counts   prints: allocations a warm token, allocations of the first token, threads started by the first token
 *
 * Credentials come from the environment. The functions that count take the place of the C library's, for this program
 * and for the libraries it loads. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pgiam.h>

/* --- counting --- */

/* volatile: the compiler takes the C library's functions for such that change nothing of this file's. */
static volatile long allocations, threads;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *place, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_calloc(count, size);
}

void *realloc(void *place, size_t size)
{
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_realloc(place, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **place, size_t alignment, size_t size)
{
    *place = aligned_alloc(alignment, size);
    return *place ? 0 : ENOMEM;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    int (*original)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&original = dlsym(RTLD_NEXT, "pthread_create");
    threads++;
    return original(thread, attributes, start, argument);
}

/* --- the library --- */

static pgiam_status (*generate_token)(const char *, int32_t, const char *, const char *, char **, pgiam_error **);
static void (*string_free)(char *);
static const char *(*error_message)(const pgiam_error *);

static void fail(const char *why)
{
    fprintf(stderr, "probe: %s\n", why);
    exit(1);
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        fail(dlerror());
    *(void **)&generate_token = dlsym(library, "pgiam_generate_token");
    *(void **)&string_free = dlsym(library, "pgiam_string_free");
    *(void **)&error_message = dlsym(library, "pgiam_error_message");
    if (!generate_token || !string_free || !error_message)
        fail("a function is missing");
}

static void make_token(void)
{
    char *token = NULL;
    pgiam_error *error = NULL;
    if (generate_token("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", 5432, NULL, "app_user", &token, &error))
        fail(error_message(error));
    string_free(token);
}

/* --- memory --- */

struct memory {
    long rss, pss, dirty;
};

/* Read into static room: the reading is not to change what is read. */
static struct memory memory(void)
{
    static char text[4096];
    struct memory found = {0, 0, 0};
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (!file)
        fail("/proc/self/smaps_rollup cannot be read");
    static char buffer[4096];
    setvbuf(file, buffer, _IOFBF, sizeof buffer);
    while (fgets(text, sizeof text, file)) {
        long kib;
        if (sscanf(text, "Rss: %ld", &kib) == 1)
            found.rss = kib;
        else if (sscanf(text, "Pss: %ld", &kib) == 1)
            found.pss = kib;
        else if (sscanf(text, "Private_Dirty: %ld", &kib) == 1)
            found.dirty = kib;
    }
    fclose(file);
    return found;
}

static void print_added(struct memory before)
{
    struct memory after = memory();
    printf("%ld %ld %ld\n", after.rss - before.rss, after.pss - before.pss, after.dirty - before.dirty);
}

/* --- what is asked for --- */

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        fail("usage: probe dlopen|memory|counts LIBRARY");
    if (!strcmp(argv[1], "dlopen")) {
        long long began = now();
        if (!dlopen(argv[2], RTLD_NOW))
            fail(dlerror());
        printf("%lld\n", now() - began);
    } else if (!strcmp(argv[1], "memory")) {
        memory(); /* touches what reading touches */
        struct memory before = memory();
        load(argv[2]);
        print_added(before);
        make_token();
        print_added(before);
    } else if (!strcmp(argv[1], "counts")) {
        enum { TOKENS = 10000 };
        load(argv[2]);
        /* strdup of the C library allocates once: if that is not seen, nothing is. */
        long before = allocations;
        char *volatile copy = strdup("counted");
        free(copy);
        if (allocations != before + 1)
            fail("allocations are not counted");
        before = allocations;
        make_token();
        long first = allocations - before, started = threads;
        before = allocations;
        for (int token = 0; token < TOKENS; token++)
            make_token();
        printf("%g %ld %ld\n", (double)(allocations - before) / TOKENS, first, started);
    } else {
        fail("usage: probe dlopen|memory|counts LIBRARY");
    }
    return 0;
}
