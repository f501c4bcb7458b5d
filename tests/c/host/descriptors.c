/* A host whose descriptors 0 to 2 are closed, or are files of its own, with PGIAM_LOG=debug. */
#include "host.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* A line of the log in one of these descriptors is in somebody else's file. This function takes the place of the C
 * library's, for the library too. */
ssize_t write(int descriptor, const void *bytes, size_t length)
{
    const char mark[] = " pgiam[";
    int is_open = descriptor <= 2 && fcntl(descriptor, F_GETFD) != -1;
    if (is_open && memmem(bytes, length, mark, sizeof mark - 1) != NULL) {
        dprintf(report_to, "a line of the log in descriptor %d: %.*s", descriptor, (int)length, (const char *)bytes);
        _exit(1);
    }
    return syscall(SYS_write, descriptor, bytes, length);
}

static int kept[3];

static void keep_standard_files(void)
{
    for (int number = 0; number < 3; number++)
        CHECK((kept[number] = fcntl(number, F_DUPFD_CLOEXEC, 100)) >= 100);
    report_to = kept[2];
}

static void restore_standard_files(void)
{
    for (int number = 0; number < 3; number++)
        CHECK(dup2(kept[number], number) == number);
}

static void *call(void *argument)
{
    (void)argument;
    pgiam_client *client = new_client();
    expect_token(client);
    expect_refresh(client);
    pgiam_client_free(client);
    client = new_client();
    expect_token_without_waiting(client);
    pgiam_client_free(client);
    return NULL;
}

/* While one thread has a connection, others write lines of the log. */
static void call_in_threads(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, call, NULL) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* The library's own sockets and pipes get the numbers. All three are closed, or the last ones. */
static void closed(int loops)
{
    keep_standard_files();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        for (int number = i % 3; number < 3; number++)
            close(number);
        struct census before = take_census();
        call_in_threads();
        settle(before);
        restore_standard_files();
    }
}

/* Files that the host opened later, after it closed its standard files as a daemon does, got the numbers. */
static void own_files(int loops)
{
    const char *home = getenv("HOME");
    CHECK(home && chdir(home) == 0);
    /* So far 2 was standard error. */
    pgiam_client_free(new_client());
    keep_standard_files();
    for (int number = 0; number < 3; number++)
        close(number);
    for (int number = 0; number < 3; number++)
        CHECK(open("own-file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) == number);
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        call_in_threads();
        settle(before);
    }
    struct stat file;
    CHECK(fstat(2, &file) == 0 && file.st_size == 0);
    CHECK(unlink("own-file") == 0);
    restore_standard_files();
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"closed", closed}, {"own_files", own_files}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
