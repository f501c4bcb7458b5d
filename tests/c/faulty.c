/* Deliberate errors of a program that uses the library, which Valgrind and the sanitizers must report: a token that is
 * never freed or, with an argument, something else. */
#include <pgiam.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Signed arithmetic that overflows. */
static int add(int left, int right)
{
    return left + right;
}

/* A number at an address that is not a multiple of its size. */
static uint32_t read_at(const char *place)
{
    return *(const uint32_t *)(const void *)place;
}

int main(int argc, char **argv)
{
    const char *error = argc > 1 ? argv[1] : "leak";
    char *token = NULL;
    /* Several, because the last one's address may still be in a register when the search for leaks begins. */
    for (int count = 0; count < 8; count++) {
        pgiam_string_free(strcmp(error, "leak") == 0 ? NULL : token);
        if (pgiam_generate_token("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", 5432, NULL, "app_user", &token,
                                 NULL))
            return 1;
    }
    if (strcmp(error, "overflow") == 0)
        printf("%d\n", add(2147483647, argc));
    else if (strcmp(error, "misaligned") == 0)
        printf("%u\n", read_at(token + argc - 1));
    if (strcmp(error, "leak") != 0)
        pgiam_string_free(token);
    if (strcmp(error, "overrun") == 0)
        printf("%d\n", token[0]);
    memset(&token, 0, sizeof token);
    return 0;
}
