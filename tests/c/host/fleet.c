/* A host with very many threads or forked workers, which all need their first token at the same moment. */
#include "host.h"
#include <sys/mman.h>

static pgiam_client *shared;
static pthread_barrier_t barrier;

/* A line of /proc/self/status, in KiB. */
static long memory(const char *name)
{
    FILE *status = fopen("/proc/self/status", "re");
    CHECK(status);
    char line[256];
    long size = -1;
    while (size < 0 && fgets(line, sizeof line, status))
        if (strncmp(line, name, strlen(name)) == 0)
            size = atol(line + strlen(name));
    fclose(status);
    CHECK(size >= 0);
    return size;
}

static void *take_token(void *took)
{
    pthread_barrier_wait(&barrier);
    long began = milliseconds();
    expect_token(shared);
    *(long *)took = milliseconds() - began;
    return NULL;
}

static long longest(const long *took, int count)
{
    long most = 0;
    for (int i = 0; i < count; i++)
        most = took[i] > most ? took[i] : most;
    return most;
}

static void threads(int count)
{
    struct census before = take_census();
    pthread_t *started = calloc((size_t)count, sizeof *started);
    long *took = calloc((size_t)count, sizeof *took);
    pthread_attr_t attributes;
    CHECK(started && took);
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 128 * 1024) == 0);
    CHECK(pthread_barrier_init(&barrier, NULL, (unsigned)count + 1) == 0);
    shared = new_client();
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&started[i], &attributes, take_token, &took[i]) == 0);
    /* All threads exist before the first call. */
    usleep(100 * 1000);
    long size = memory("VmRSS:");
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < count; i++)
        CHECK(pthread_join(started[i], NULL) == 0);
    printf("slowest %ld ms, memory %ld KiB before, peak %ld KiB more; ", longest(took, count), size,
           memory("VmHWM:") - size);
    pgiam_client_free(shared);
    settle(before);
    free(started);
    free(took);
}

/* Forks workers that all begin when the last one was forked. */
static void fork_workers(int count)
{
    int gate[2];
    long *took = mmap(NULL, (size_t)count * 2 * sizeof *took, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long *grown = took + count;
    pid_t *workers = calloc((size_t)count, sizeof *workers);
    CHECK(workers && took != MAP_FAILED && pipe(gate) == 0);
    for (int i = 0; i < count; i++) {
        workers[i] = fork();
        CHECK(workers[i] >= 0);
        if (workers[i] > 0)
            continue;
        char closed;
        close(gate[1]);
        CHECK(read(gate[0], &closed, 1) == 0);
        long size = memory("RssAnon:"), began = milliseconds();
        expect_token(shared);
        took[i] = milliseconds() - began;
        grown[i] = memory("RssAnon:") - size;
        _exit(0);
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < count; i++)
        expect_success(workers[i]);
    printf("slowest %ld ms, %ld KiB more memory each; ", longest(took, count), longest(grown, count));
    munmap(took, (size_t)count * 2 * sizeof *took);
    free(workers);
}

static void cold_workers(int count)
{
    struct census before = take_census();
    shared = new_client();
    fork_workers(count);
    pgiam_client_free(shared);
    settle(before);
}

static void warm_workers(int count)
{
    struct census before = take_census();
    shared = new_client();
    expect_token(shared);
    fork_workers(count);
    pgiam_client_free(shared);
    settle(before);
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {
        {"threads", threads}, {"cold_workers", cold_workers}, {"warm_workers", warm_workers}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
