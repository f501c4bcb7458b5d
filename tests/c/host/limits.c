/* A host without descriptors, threads or memory to spare. */
#include "host.h"
#include <fcntl.h>
#include <sys/resource.h>

static void set_limit(int resource, rlim_t soft)
{
    struct rlimit limit;
    CHECK(getrlimit(resource, &limit) == 0);
    limit.rlim_cur = soft;
    CHECK(setrlimit(resource, &limit) == 0);
}

static rlim_t soft_limit(int resource)
{
    struct rlimit limit;
    CHECK(getrlimit(resource, &limit) == 0);
    return limit.rlim_cur;
}

/* From none to enough: each call succeeds or says why not, and the next one after the shortage works. */
static void no_descriptors(int loops)
{
    struct census before = take_census();
    rlim_t usual = soft_limit(RLIMIT_NOFILE);
    int failed = 0;
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = i % 2 ? new_client() : NULL;
        set_limit(RLIMIT_NOFILE, (rlim_t)(i % 16));
        if (!client)
            client = new_client();
        char *reason = NULL;
        pgiam_status status = make_token(client, &reason);
        failed += status != PGIAM_OK;
        pgiam_status other = try_token(client);
        CHECK(status != PGIAM_OK || other == PGIAM_OK);
        pgiam_client_refresh(client, NULL);
        set_limit(RLIMIT_NOFILE, usual);
        free(reason);
        /* The fetch that the call above may have started belongs to the shortage. */
        settle(before);
        expect_token(client);
        expect_refresh(client);
        pgiam_client_free(client);
        settle(before);
    }
    printf("%d failed; ", failed);
    /* With the lowest limits calls fail, with the highest they do not. */
    CHECK(failed > loops / 10);
    CHECK(failed < loops || loops < 16);
}

static void *do_nothing(void *argument)
{
    return argument;
}

/* A call that waits works without a thread; one that does not wait says that it cannot. */
static void no_threads(int loops)
{
    set_limit(RLIMIT_NPROC, 0);
    /* The limit does not hold for root. */
    if (geteuid() == 0)
        CHECK(setresuid(65534, 65534, 65534) == 0);
    /* The change of user made /proc/self another user's. */
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, do_nothing, NULL) == EAGAIN);
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = new_client();
        CHECK(try_token(client) == PGIAM_ERROR_INTERNAL);
        expect_token(client);
        expect_refresh(client);
        CHECK(try_token(client) == PGIAM_OK);
        pgiam_client_free(client);
        settle(before);
    }
}

static long address_space(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    long pages = 0;
    CHECK(file && fscanf(file, "%ld", &pages) == 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* A stack that cannot grow would be a shortage of another kind. */
static void grow_stack(void)
{
    volatile char stack[512 * 1024];
    for (size_t i = 0; i < sizeof stack; i += 1024)
        stack[i] = 1;
}

/* With a little more memory in each loop: a token, an error, or the end by SIGABRT that is documented for a failing
 * malloc. Nothing else. */
static void no_memory(int loops)
{
    adopt_orphans();
    struct census before = take_census();
    int outcomes[3] = {0};
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            grow_stack();
            /* Where Rust's standard library says why it aborts. */
            close(2);
            CHECK(open("/dev/null", O_WRONLY) == 2);
            set_limit(RLIMIT_AS, (rlim_t)(address_space() + i * 1600L / loops * 1024));
            pgiam_client *client = NULL;
            if (pgiam_client_new(NULL, NULL, &client, NULL) != PGIAM_OK)
                _exit(3);
            try_token(client);
            int failed = make_token(client, NULL) != PGIAM_OK;
            pgiam_client_free(client);
            _exit(failed ? 3 : 0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
            outcomes[2]++;
        else if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3))
            outcomes[WEXITSTATUS(status) == 3]++;
        else {
            fprintf(stderr, "%ld KB: status %#x\n", i * 1600L / loops, status);
            _exit(1);
        }
        reap_orphans();
        settle(before);
    }
    printf("%d tokens, %d errors, %d ended by a failing malloc; ", outcomes[0], outcomes[1], outcomes[2]);
    CHECK(outcomes[0] > 0 && outcomes[0] < loops);
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {
        {"no_descriptors", no_descriptors},
        {"no_threads", no_threads},
        {"no_memory", no_memory},
    };
    return RUN_SCENARIO(argc, argv, scenarios);
}
