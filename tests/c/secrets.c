/*
 * Makes a token, frees it and the client, and waits while its memory is searched. What the program itself knows of a
 * secret, its environment, is overwritten first, and no copy of the token is made.
 */
#include <pgiam.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int print(const char *text)
{
    size_t length = strlen(text);
    return write(STDOUT_FILENO, text, length) == (ssize_t)length && write(STDOUT_FILENO, "\n", 1) == 1;
}

int main(int argc, char **argv)
{
    pgiam_client *client;
    pgiam_error *error;
    char *token;
    char byte;

    if (argc != 2)
        return 2;
    if (pgiam_client_new(NULL, NULL, &client, &error) != PGIAM_OK ||
        pgiam_client_generate_token(client, argv[1], 5432, NULL, "app_user", &token, NULL, &error) != PGIAM_OK) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        return 1;
    }
    if (!print(token))
        return 1;
    /* While they are in use, the search must find them. */
    if (read(STDIN_FILENO, &byte, 1) != 1)
        return 1;
    pgiam_string_free(token);
    pgiam_client_free(client);
    for (char **variable = environ; *variable; variable++)
        memset(*variable, 0, strlen(*variable));
    if (!print("freed"))
        return 1;
    return read(STDIN_FILENO, &byte, 1) < 0;
}
