/* Preloaded into postgres: its PAM configuration then comes from the directory in PAM_CONFDIR and not from /etc/pam.d,
   so that a server for tests needs neither root nor a change to the system. libpam has a function for it since 1.4,
   which postgres does not call. Declared by hand, so that libpam's headers need not be installed. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

struct pam_conv;
typedef struct pam_handle pam_handle_t;

enum { PAM_SYSTEM_ERR = 4 };

int pam_start(const char *service, const char *user, const struct pam_conv *conversation, pam_handle_t **handle);

int pam_start(const char *service, const char *user, const struct pam_conv *conversation, pam_handle_t **handle) {
    int (*start)(const char *, const char *, const struct pam_conv *, const char *, pam_handle_t **);
    const char *directory = getenv("PAM_CONFDIR");

    *(void **)&start = dlsym(RTLD_NEXT, "pam_start_confdir");
    if (start == NULL || directory == NULL)
        return PAM_SYSTEM_ERR;
    return start(service, user, conversation, directory, handle);
}
