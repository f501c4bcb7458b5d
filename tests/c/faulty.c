/* Deliberate errors, which Valgrind and AddressSanitizer must report: a token that is never freed or, with an argument, one
 * that is read after it was freed. */
#include <pgiam.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    char *token = NULL;
    (void)argv;
    /* Several, because the last one's address may still be in a register when the search for leaks begins. */
    for (int count = 0; count < 8; count++)
        if (pgiam_generate_token("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", 5432, NULL, "app_user", &token,
                                 NULL))
            return 1;
    if (argc > 1) {
        pgiam_string_free(token);
        printf("%d\n", token[0]);
        return 0;
    }
    memset(&token, 0, sizeof token);
    return 0;
}
