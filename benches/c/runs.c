/* Whole processes: runs COUNT PROGRAM [ARGUMENT]...
 * Runs a program as often as asked, its output thrown away, and prints a line for each run: nanoseconds from before the
 * fork to after the wait, and the peak of its resident memory in KiB. Linked statically, so that little of this process
 * is in the peak, which the kernel takes over from the parent. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    for (int run = atoi(argv[1]); run > 0; run--) {
        pid_t child;
        int status;
        struct rusage usage;
        long long began = now();
        int failure = posix_spawn(&child, argv[2], &actions, NULL, argv + 2, environ);
        if (failure) {
            fprintf(stderr, "%s: %s\n", argv[2], strerror(failure));
            return 1;
        }
        if (wait4(child, &status, 0, &usage) != child || status != 0) {
            fprintf(stderr, "%s: ended with status %#x\n", argv[2], status);
            return 1;
        }
        printf("%lld %ld\n", now() - began, usage.ru_maxrss);
    }
    return 0;
}
