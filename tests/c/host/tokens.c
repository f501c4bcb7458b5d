/* A host that makes tokens, for situations that the test prepares around it. */
#include "host.h"

static void tokens(int loops)
{
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = new_client();
        expect_token(client);
        expect_refresh(client);
        pgiam_client_free(client);
        settle(before);
    }
}

/* One call that must fail. The reason goes to standard output. */
static void failure(int loops)
{
    struct census before = take_census();
    for (int i = 0; i < loops; i++) {
        alarm(60);
        pgiam_client *client = new_client();
        char *reason = NULL;
        CHECK(make_token(client, &reason) != PGIAM_OK);
        puts(reason);
        free(reason);
        pgiam_client_free(client);
        settle(before);
    }
}

int main(int argc, char **argv)
{
    const struct scenario scenarios[] = {{"tokens", tokens}, {"failure", failure}};
    return RUN_SCENARIO(argc, argv, scenarios);
}
