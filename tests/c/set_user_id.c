/* What a program gets from the library: tests/deep/set_user_id.rs runs it with and without the set-user-id bit. */
#include <net/if.h>
#include <pgiam.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* In a new network namespace even the loopback interface is down. */
static int start_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int socket_to_kernel = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(socket_to_kernel, SIOCSIFFLAGS, &request) != 0) {
        perror("loopback");
        return 1;
    }
    return 0;
}

/* A part of the token, which is no secret. */
static void print_part(const char *name, const char *token, const char *after)
{
    const char *part = strstr(token, after);
    int length = part ? (int)strcspn(part + strlen(after), "%&") : 0;
    printf("%s=%.*s\n", name, length, part ? part + strlen(after) : "");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "start-loopback") == 0)
        return start_loopback();
    if (argc != 2) {
        fprintf(stderr, "usage: %s HOST | start-loopback\n", argv[0]);
        return 2;
    }
    printf("secure=%lu\nuser=%d\neffective=%d\n", getauxval(AT_SECURE), (int)getuid(), (int)geteuid());
    char *token = NULL;
    pgiam_error *error = NULL;
    pgiam_status status = pgiam_generate_token(argv[1], 5432, NULL, "app_user", &token, &error);
    printf("status=%s\n", pgiam_status_name(status));
    if (token) {
        print_part("key", token, "X-Amz-Credential=");
        const char *date = strstr(token, "%2F");
        if (date)
            print_part("region", date + 3, "%2F");
    } else {
        printf("reason=%s\n", pgiam_error_message(error));
    }
    pgiam_string_free(token);
    pgiam_error_free(error);
    return 0;
}
