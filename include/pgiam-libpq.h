/* pgiam-libpq.h: libpq's connection functions with an IAM token for a password.
 *
 * In a libpq program, change one line:
 *
 *     PGconn *connection = PQconnectdb(conninfo);
 *
 * becomes
 *
 *     char *error;
 *     PGconn *connection = pgiam_connectdb(conninfo, &error);
 *     if (connection == NULL) { fprintf(stderr, "%s\n", error); free(error); }
 *
 * and link with both libraries: cc program.c $(pkg-config --cflags --libs pgiam libpq)
 *
 * Conventions
 *
 * - Which connections. Those to endpoint names of RDS, Aurora and Aurora DSQL that have no password: none in the
 *   arguments, the service file, PGPASSWORD or the password file. A password that is the word rds-iam asks for a token,
 *   too. All other connections are made as libpq makes them, errors included. The settings below widen or narrow that.
 * - Settings. As keywords in the conninfo, or as environment variables; a keyword beats its variable:
 *
 *       iam          PGIAM          off: never; auto (default): as above; on: every host that is not a socket
 *       iam_host     PGIAM_HOST     the endpoint's name to sign for, behind a tunnel, a bastion or a CNAME
 *       iam_port     PGIAM_PORT     the port to sign for
 *       iam_region   PGIAM_REGION   the region to sign for
 *       iam_profile  PGIAM_PROFILE  the AWS profile whose credentials sign
 *       iam_hosts    PGIAM_HOSTS    more names to serve under auto, by commas; * stands for any characters
 *
 *   With several hosts, iam_host and iam_port may be lists like libpq's host and port.
 * - TLS. A token is a password: sslmode disable, allow and prefer are refused, and an absent one becomes require (or
 *   verify-full with sslrootcert=system). Use verify-full with sslrootcert=FILE.
 * - Errors. A NULL connection means that no token could be made, that a setting is wrong, or that memory is short;
 *   *error then holds the reason, to be freed with free(). A connection that is not NULL is libpq's: ask PQstatus and
 *   PQerrorMessage, and end it with PQfinish. *error is then NULL. error itself may be NULL.
 * - Blocking. pgiam_connectdb and pgiam_connectdb_params wait for credentials, the first time at most 10 seconds, and
 *   then as PQconnectdb. pgiam_connect_start and pgiam_connect_start_params never wait for credentials, and libpq's poll
 *   asks for none: see there.
 * - Threads. Every function may be called from any thread at the same time. Fork: as pgiam.h says.
 * - Reset. PQreset logs in with the token of the first connect, which is good for 15 minutes. Connect anew instead.
 *
 * Everything is static inline; what begins with pgiam_libpq_ is not for you. C99 and C++11, GCC and Clang, Linux.
 */
#ifndef PGIAM_LIBPQ_H
#define PGIAM_LIBPQ_H

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <libpq-fe.h>
#include "pgiam.h"

#ifdef __cplusplus
extern "C" {
#else
/* unistd.h keeps it from strict C99. */
extern long syscall(long number, ...);
#endif

/* ---- texts ---------------------------------------------------------------------------------------------------- */

static inline void pgiam_libpq_wipe_and_free(char *text)
{
    if (text != NULL) {
        volatile char *byte = text;
        while (*byte != '\0')
            *byte++ = '\0';
        free(text);
    }
}

/* Wipes what a text that became shorter left behind its end. */
static inline void pgiam_libpq_wipe(char *from, const char *end)
{
    volatile char *byte = from;
    while (byte < end)
        *byte++ = '\0';
}

/* Text in three pieces, any of them "". NULL: out of memory. */
static inline char *pgiam_libpq_text(const char *a, const char *b, const char *c)
{
    size_t la = strlen(a), lb = strlen(b), lc = strlen(c);
    char *text = (char *)malloc(la + lb + lc + 1);
    if (text != NULL) {
        memcpy(text, a, la);
        memcpy(text + la, b, lb);
        memcpy(text + la + lb, c, lc + 1);
    }
    return text;
}

/* Item number index of a list by commas, or its only one, without the spaces around it. NULL: none, or no memory. */
static inline char *pgiam_libpq_item(const char *list, int index)
{
    if (list == NULL || *list == '\0')
        return NULL;
    if (strchr(list, ',') != NULL)
        for (; index > 0; index--) {
            list = strchr(list, ',');
            if (list == NULL)
                return NULL;
            list++;
        }
    while (isspace((unsigned char)*list))
        list++;
    size_t length = strcspn(list, ",");
    while (length > 0 && isspace((unsigned char)list[length - 1]))
        length--;
    char *item = length == 0 ? NULL : (char *)malloc(length + 1);
    if (item != NULL) {
        memcpy(item, list, length);
        item[length] = '\0';
    }
    return item;
}

static inline int pgiam_libpq_count(const char *list)
{
    int count = 1;
    for (; list != NULL && *list != '\0'; list++)
        count += *list == ',';
    return count;
}

static inline int pgiam_libpq_lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* Whether a name matches a pattern of which length characters count. */
static inline int pgiam_libpq_matches(const char *pattern, size_t length, const char *name)
{
    if (length == 0)
        return *name == '\0' || (name[0] == '.' && name[1] == '\0');
    if (*pattern == '*') {
        for (;; name++) {
            if (pgiam_libpq_matches(pattern + 1, length - 1, name))
                return 1;
            if (*name == '\0')
                return 0;
        }
    }
    return pgiam_libpq_lower(*pattern) == pgiam_libpq_lower(*name) && *name != '\0' &&
           pgiam_libpq_matches(pattern + 1, length - 1, name + 1);
}

static inline int pgiam_libpq_matches_any(const char *patterns, const char *name)
{
    while (patterns != NULL && *patterns != '\0') {
        size_t length = strcspn(patterns, ",");
        size_t start = 0, end = length;
        while (start < end && isspace((unsigned char)patterns[start]))
            start++;
        while (end > start && isspace((unsigned char)patterns[end - 1]))
            end--;
        if (end > start && pgiam_libpq_matches(patterns + start, end - start, name))
            return 1;
        patterns += length + (patterns[length] == ',');
    }
    return 0;
}

/* Endpoint names of RDS, Aurora and Aurora DSQL, in all partitions: enough labels before the service's domain. */
static inline int pgiam_libpq_is_endpoint(const char *name)
{
    return pgiam_libpq_matches_any("*.*.*.rds.amazonaws.com,*.*.*.rds-fips.amazonaws.com,*.*.*.rds.amazonaws.au,"
                                   "*.*.*.rds.amazonaws.eu,*.*.*.rds.amazonaws.uk,*.*.*.rds.amazonaws.com.cn,"
                                   "*.*.rds.*.amazonaws.com,*.*.rds.*.amazonaws.com.cn,*.*.rds.*.c2s.ic.gov,"
                                   "*.*.rds.*.sc2s.sgov.gov,*.dsql.*.on.aws,*.dsql-*.*.on.aws",
                                   name);
}

/* ---- what the caller says ------------------------------------------------------------------------------------- */

enum { PGIAM_LIBPQ_IAM, PGIAM_LIBPQ_HOST, PGIAM_LIBPQ_PORT, PGIAM_LIBPQ_REGION, PGIAM_LIBPQ_PROFILE, PGIAM_LIBPQ_HOSTS,
       PGIAM_LIBPQ_OWN };

static inline const char *pgiam_libpq_own_name(int which, int variable)
{
    static const char *const names[PGIAM_LIBPQ_OWN][2] = {
        {"iam", "PGIAM"}, {"iam_host", "PGIAM_HOST"}, {"iam_port", "PGIAM_PORT"},
        {"iam_region", "PGIAM_REGION"}, {"iam_profile", "PGIAM_PROFILE"}, {"iam_hosts", "PGIAM_HOSTS"},
    };
    return names[which][variable];
}

/* A connection in preparation: arguments for PQconnectdbParams, and what belongs to them. */
typedef struct {
    const char **keywords;
    const char **values;
    int count;
    char *own[PGIAM_LIBPQ_OWN]; /* settings given as keywords */
    char *conninfo;             /* the caller's, without pgiam's keywords */
    char *secret;               /* the token, if there is one host */
    char passfile[64];
    int descriptor;             /* of the password file, if there are several */
    char *error;
} pgiam_libpq_plan;

static inline int pgiam_libpq_fail(pgiam_libpq_plan *plan, const char *a, const char *b, const char *c)
{
    if (plan->error == NULL)
        plan->error = pgiam_libpq_text(a, b, c);
    return 0;
}

/* Which of pgiam's settings a keyword of some length is; -1: none. */
static inline int pgiam_libpq_own_index(const char *keyword, size_t length)
{
    for (int which = 0; which < PGIAM_LIBPQ_OWN; which++) {
        const char *name = pgiam_libpq_own_name(which, 0);
        if (strlen(name) == length && strncmp(name, keyword, length) == 0)
            return which;
    }
    return -1;
}

static inline int pgiam_libpq_set_own(pgiam_libpq_plan *plan, int which, const char *value, size_t length)
{
    char *copy = (char *)malloc(length + 1);
    if (copy == NULL)
        return 0;
    memcpy(copy, value, length);
    copy[length] = '\0';
    free(plan->own[which]);
    plan->own[which] = copy;
    return 1;
}

static inline int pgiam_libpq_hex(int c)
{
    c = pgiam_libpq_lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes pgiam's keywords out of a URI's query. */
static inline int pgiam_libpq_split_uri(pgiam_libpq_plan *plan, char *uri)
{
    char *query = strchr(uri, '?');
    const char *end_of_uri = uri + strlen(uri);
    if (query == NULL)
        return 1;
    char *to = query + 1, *from = query + 1;
    int kept = 0;
    while (*from != '\0') {
        size_t length = strcspn(from, "&");
        size_t name = strcspn(from, "=&");
        int which = name < length ? pgiam_libpq_own_index(from, name) : -1;
        if (which >= 0) {
            /* Decoded in place; it becomes shorter. */
            char *out = from + name + 1;
            const char *end = from + length;
            char *start = out;
            for (const char *in = out; in < end; in++) {
                int high = *in == '%' && end - in > 2 ? pgiam_libpq_hex(in[1]) : -1;
                int low = high >= 0 ? pgiam_libpq_hex(in[2]) : -1;
                if (low >= 0) {
                    *out++ = (char)(high * 16 + low);
                    in += 2;
                } else {
                    *out++ = *in;
                }
            }
            if (!pgiam_libpq_set_own(plan, which, start, (size_t)(out - start)))
                return 0;
        } else {
            if (kept)
                *to++ = '&';
            memmove(to, from, length);
            to += length;
            kept = 1;
        }
        from += length + (from[length] == '&');
    }
    if (!kept)
        to = query;
    pgiam_libpq_wipe(to, end_of_uri);
    return 1;
}

/* Takes pgiam's keywords out of "keyword = 'value' ...", by libpq's rules of quoting. What libpq would refuse is left
 * to it. */
static inline int pgiam_libpq_split_keywords(pgiam_libpq_plan *plan, char *text)
{
    char *to = text, *from = text;
    const char *end_of_text = text + strlen(text);
    while (*from != '\0') {
        char *start = from;
        while (isspace((unsigned char)*from))
            from++;
        char *name = from;
        while (*from != '\0' && *from != '=' && !isspace((unsigned char)*from))
            from++;
        size_t name_length = (size_t)(from - name);
        while (isspace((unsigned char)*from))
            from++;
        if (*from != '=') {
            size_t rest = strlen(start);
            memmove(to, start, rest);
            pgiam_libpq_wipe(to + rest, end_of_text);
            return 1;
        }
        from++;
        while (isspace((unsigned char)*from))
            from++;
        int quoted = *from == '\'';
        from += quoted;
        char *value = (char *)malloc(strlen(from) + 1);
        if (value == NULL)
            return 0;
        size_t length = 0;
        while (*from != '\0' && (quoted ? *from != '\'' : !isspace((unsigned char)*from))) {
            if (*from == '\\' && from[1] != '\0')
                from++;
            value[length++] = *from++;
        }
        if (quoted && *from == '\'')
            from++;
        value[length] = '\0';
        int which = pgiam_libpq_own_index(name, name_length);
        int kept = which < 0 || pgiam_libpq_set_own(plan, which, value, length);
        pgiam_libpq_wipe_and_free(value);
        if (!kept)
            return 0;
        if (which < 0) {
            memmove(to, start, (size_t)(from - start));
            to += from - start;
        }
    }
    pgiam_libpq_wipe(to, end_of_text);
    return 1;
}

static inline int pgiam_libpq_is_uri(const char *text)
{
    return strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0;
}

/* Keeps a copy of a connection string without pgiam's keywords. */
static inline const char *pgiam_libpq_split(pgiam_libpq_plan *plan, const char *conninfo)
{
    plan->conninfo = pgiam_libpq_text(conninfo, "", "");
    if (plan->conninfo == NULL)
        return NULL;
    int done = pgiam_libpq_is_uri(conninfo) ? pgiam_libpq_split_uri(plan, plan->conninfo)
                                            : pgiam_libpq_split_keywords(plan, plan->conninfo);
    return done ? plan->conninfo : NULL;
}

/* A setting: the keyword's value, else the variable's; NULL if neither says anything. */
static inline const char *pgiam_libpq_setting(const pgiam_libpq_plan *plan, int which)
{
    const char *value = plan->own[which];
    if (value == NULL || *value == '\0')
        value = getenv(pgiam_libpq_own_name(which, 1));
    return value == NULL || *value == '\0' ? NULL : value;
}

/* ---- what libpq would do -------------------------------------------------------------------------------------- */

static inline const char *pgiam_libpq_option(const PQconninfoOption *options, const char *keyword)
{
    for (; options != NULL && options->keyword != NULL; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val == NULL ? "" : options->val;
    return "";
}

static inline void pgiam_libpq_add(pgiam_libpq_plan *plan, const char *keyword, const char *value)
{
    plan->keywords[plan->count] = keyword;
    plan->values[plan->count] = value;
    plan->count++;
    plan->keywords[plan->count] = NULL;
    plan->values[plan->count] = NULL;
}

/* A connection that libpq has prepared and not begun, for a word it does not know stops it before the network. */
static inline PGconn *pgiam_libpq_rehearse(pgiam_libpq_plan *plan, int expand_dbname)
{
    pgiam_libpq_add(plan, "target_session_attrs", "pgiam-rehearsal");
    PGconn *rehearsal = PQconnectStartParams(plan->keywords, plan->values, expand_dbname);
    plan->count--;
    plan->keywords[plan->count] = NULL;
    plan->values[plan->count] = NULL;
    return rehearsal;
}

/* What libpq would find in the user's password file for one of several hosts; to be wiped and freed. NULL: nothing. */
static inline char *pgiam_libpq_own_password(pgiam_libpq_plan *plan, int expand_dbname, const char *host,
                                             const char *address, const char *port)
{
    int count = plan->count;
    pgiam_libpq_add(plan, "host", host);
    pgiam_libpq_add(plan, "hostaddr", address);
    pgiam_libpq_add(plan, "port", port);
    PGconn *rehearsal = pgiam_libpq_rehearse(plan, expand_dbname);
    const char *password = rehearsal == NULL ? NULL : PQpass(rehearsal);
    char *copy = password == NULL || *password == '\0' ? NULL : pgiam_libpq_text(password, "", "");
    PQfinish(rehearsal);
    plan->count = count;
    plan->keywords[count] = NULL;
    plan->values[count] = NULL;
    return copy;
}

/* ---- tokens --------------------------------------------------------------------------------------------------- */

typedef struct pgiam_libpq_client {
    struct pgiam_libpq_client *next;
    pgiam_client *client;
    char *profile;
} pgiam_libpq_client;

/* The client of a profile ("": none), made once and kept, as pgiam's default client is. No lock is taken: of two
 * threads that make one at the same time both may be kept. */
static inline pgiam_client *pgiam_libpq_client_of(const char *profile, pgiam_error **error)
{
    static pgiam_libpq_client *first;
    pgiam_libpq_client *head = __atomic_load_n(&first, __ATOMIC_ACQUIRE);
    for (pgiam_libpq_client *node = head; node != NULL; node = node->next)
        if (strcmp(node->profile, profile) == 0)
            return node->client;
    const char *keywords[] = {"profile", NULL}, *values[] = {profile, NULL};
    pgiam_client *client = NULL;
    if (pgiam_client_new(keywords, values, &client, error) != PGIAM_OK)
        return NULL;
    pgiam_libpq_client *node = (pgiam_libpq_client *)malloc(sizeof *node);
    char *copy = pgiam_libpq_text(profile, "", "");
    if (node == NULL || copy == NULL) {
        free(node);
        free(copy);
        pgiam_client_free(client);
        return NULL;
    }
    node->client = client;
    node->profile = copy;
    node->next = head;
    while (!__atomic_compare_exchange_n(&first, &node->next, node, 0, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE)) {
    }
    return client;
}

/* A token for one host. NULL: plan->error says why, or it is NULL and there is none yet. */
static inline char *pgiam_libpq_token(pgiam_libpq_plan *plan, int index, const char *host, const char *port,
                                      const char *user, int may_wait)
{
    const char *profile = pgiam_libpq_setting(plan, PGIAM_LIBPQ_PROFILE);
    char *sign_host = pgiam_libpq_item(pgiam_libpq_setting(plan, PGIAM_LIBPQ_HOST), index);
    char *sign_port = pgiam_libpq_item(pgiam_libpq_setting(plan, PGIAM_LIBPQ_PORT), index);
    const char *name = sign_host != NULL ? sign_host : host;
    const char *digits = sign_port != NULL ? sign_port : port == NULL || *port == '\0' ? "5432" : port;
    const char *region = pgiam_libpq_setting(plan, PGIAM_LIBPQ_REGION);
    char *end = NULL, *token = NULL;
    long number = strtol(digits, &end, 10);
    pgiam_error *error = NULL;
    pgiam_client *client = NULL;
    if (*end != '\0' || number < 1 || number > 65535) {
        pgiam_libpq_fail(plan, "pgiam: port \"", digits, "\" is not a number from 1 to 65535");
    } else if ((client = pgiam_libpq_client_of(profile == NULL ? "" : profile, &error)) != NULL) {
        pgiam_status status =
            may_wait ? pgiam_client_generate_token(client, name, (int)number, region, user, &token, NULL, &error)
                     : pgiam_client_try_generate_token(client, name, (int)number, region, user, &token, NULL, &error);
        if (status == PGIAM_ERROR_WOULD_BLOCK) {
            pgiam_error_free(error);
            error = NULL;
        }
    } else if (error == NULL) {
        pgiam_libpq_fail(plan, "pgiam: out of memory", "", "");
    }
    if (error != NULL)
        pgiam_libpq_fail(plan, "pgiam: ", pgiam_error_message(error), "");
    pgiam_error_free(error);
    free(sign_host);
    free(sign_port);
    return token;
}

/* Writes a field of a password file, with ':' and '\' escaped. */
static inline int pgiam_libpq_write_field(int descriptor, const char *text, char after)
{
    char buffer[512];
    size_t used = 0;
    int lone = strcmp(text, "*") == 0;
    for (; *text != '\0'; text++) {
        if (*text == '\n' || *text == '\r')
            return 0;
        if (*text == ':' || *text == '\\' || lone)
            buffer[used++] = '\\';
        buffer[used++] = *text;
        if (used > sizeof buffer - 3) {
            if (write(descriptor, buffer, used) != (ssize_t)used)
                return 0;
            used = 0;
        }
    }
    buffer[used++] = after;
    int written = write(descriptor, buffer, used) == (ssize_t)used;
    pgiam_libpq_wipe(buffer, buffer + sizeof buffer);
    return written;
}

/* A line of the password file in anonymous memory, which nobody but this user can open. */
static inline int pgiam_libpq_add_line(pgiam_libpq_plan *plan, const char *host, const char *port, const char *user,
                                       const char *token)
{
    if (plan->descriptor < 0) {
        plan->descriptor = (int)syscall(SYS_memfd_create, "pgiam", 1U /* close on exec */);
        if (plan->descriptor < 0 || syscall(SYS_fchmod, plan->descriptor, 0600) != 0)
            return pgiam_libpq_fail(plan, "pgiam: no anonymous file for the tokens of several hosts: ",
                                    strerror(errno), "");
        snprintf(plan->passfile, sizeof plan->passfile, "/proc/self/fd/%d", plan->descriptor);
    }
    int fd = plan->descriptor;
    if (!pgiam_libpq_write_field(fd, host, ':') ||
        !pgiam_libpq_write_field(fd, port == NULL || *port == '\0' ? "5432" : port, ':') ||
        write(fd, "*:", 2) != 2 || !pgiam_libpq_write_field(fd, user, ':') ||
        !pgiam_libpq_write_field(fd, token, '\n'))
        return pgiam_libpq_fail(plan, "pgiam: a host, user or token does not fit into a password file", "", "");
    return 1;
}

static inline int pgiam_libpq_serves(const pgiam_libpq_plan *plan, int index, const char *host)
{
    const char *mode = pgiam_libpq_setting(plan, PGIAM_LIBPQ_IAM);
    if (*host == '\0' || *host == '/' || *host == '@' || (mode != NULL && strcmp(mode, "off") == 0))
        return 0;
    if (mode != NULL && strcmp(mode, "on") == 0)
        return 1;
    char *sign_for = pgiam_libpq_item(pgiam_libpq_setting(plan, PGIAM_LIBPQ_HOST), index);
    int named = sign_for != NULL;
    free(sign_for);
    return named || pgiam_libpq_is_endpoint(host) ||
           pgiam_libpq_matches_any(pgiam_libpq_setting(plan, PGIAM_LIBPQ_HOSTS), host);
}

/* Adds sslmode and password to the arguments where they are wanted. 0: plan->error says why not, or it is NULL and the
 * credentials are not there yet. */
static inline int pgiam_libpq_prepare(pgiam_libpq_plan *plan, int expand_dbname, int may_wait)
{
    const char *mode = pgiam_libpq_setting(plan, PGIAM_LIBPQ_IAM);
    if (mode != NULL && strcmp(mode, "off") != 0 && strcmp(mode, "auto") != 0 && strcmp(mode, "on") != 0)
        return pgiam_libpq_fail(plan, "pgiam: iam or PGIAM is \"", mode, "\"; it must be off, auto or on");

    PGconn *rehearsal = pgiam_libpq_rehearse(plan, expand_dbname);
    PQconninfoOption *options = rehearsal == NULL ? NULL : PQconninfo(rehearsal);
    const char *hosts = pgiam_libpq_option(options, "host"), *ports = pgiam_libpq_option(options, "port");
    const char *user = pgiam_libpq_option(options, "user"), *sslmode = pgiam_libpq_option(options, "sslmode");
    const char *addresses = pgiam_libpq_option(options, "hostaddr");
    const char *password = pgiam_libpq_option(options, "password");
    int done = 1, served = 0, count = pgiam_libpq_count(hosts);
    if (*password == '\0' && count == 1 && rehearsal != NULL && PQpass(rehearsal) != NULL)
        password = PQpass(rehearsal);
    int asked = strcmp(password, "rds-iam") == 0;
    /* Without a user libpq has found something wrong, and will say what. */
    if (*user != '\0' && (*password == '\0' || asked))
        for (int index = 0; index < count; index++) {
            char *host = pgiam_libpq_item(hosts, index);
            served += host != NULL && pgiam_libpq_serves(plan, index, host);
            free(host);
        }
    if (served > 0) {
        const char *environment = getenv("PGSSLMODE");
        int explicit_prefer = environment != NULL && strcmp(environment, "prefer") == 0;
        if (strcmp(sslmode, "prefer") == 0 && !explicit_prefer) {
            /* libpq's default, or the caller's word? Put in first, require gives way to the caller's word alone. */
            for (int at = plan->count; at > 0; at--) {
                plan->keywords[at] = plan->keywords[at - 1];
                plan->values[at] = plan->values[at - 1];
            }
            plan->keywords[0] = "sslmode";
            plan->values[0] = strcmp(pgiam_libpq_option(options, "sslrootcert"), "system") == 0 ? "verify-full"
                                                                                                : "require";
            plan->count++;
            plan->keywords[plan->count] = NULL;
            plan->values[plan->count] = NULL;
            PGconn *second = pgiam_libpq_rehearse(plan, expand_dbname);
            PQconninfoOption *again = second == NULL ? NULL : PQconninfo(second);
            explicit_prefer = strcmp(pgiam_libpq_option(again, "sslmode"), "prefer") == 0;
            PQconninfoFree(again);
            PQfinish(second);
        }
        if (explicit_prefer || strcmp(sslmode, "disable") == 0 || strcmp(sslmode, "allow") == 0)
            done = pgiam_libpq_fail(plan, "pgiam: sslmode=", sslmode,
                                    " could send the token in clear, and a token is a password; use "
                                    "sslmode=verify-full with sslrootcert=FILE, or at least sslmode=require");
        else if (asked && count > 1)
            done = pgiam_libpq_fail(plan, "pgiam: with several hosts leave the password rds-iam out", "", "");
    }
    for (int index = 0; done && served > 0 && index < count; index++) {
        char *host = pgiam_libpq_item(hosts, index), *port = pgiam_libpq_item(ports, index);
        char *address = pgiam_libpq_item(addresses, index), *own = NULL;
        /* The tokens' file takes the place of the user's, so his own passwords go into it too. */
        if (count > 1 && (host != NULL || address != NULL) && !asked)
            own = pgiam_libpq_own_password(plan, expand_dbname, host, address, port);
        if (own != NULL) {
            done = pgiam_libpq_add_line(plan, host != NULL ? host : address, port, user, own);
            pgiam_libpq_wipe_and_free(own);
        } else if (host != NULL && pgiam_libpq_serves(plan, index, host)) {
            char *token = pgiam_libpq_token(plan, index, host, port, user, may_wait);
            if (token == NULL)
                done = 0;
            else if (count == 1)
                plan->secret = token;
            else {
                done = pgiam_libpq_add_line(plan, host, port, user, token);
                pgiam_string_free(token);
            }
        }
        free(host);
        free(port);
        free(address);
    }
    if (done && plan->secret != NULL)
        pgiam_libpq_add(plan, "password", plan->secret);
    else if (done && plan->descriptor >= 0)
        pgiam_libpq_add(plan, "passfile", plan->passfile);
    PQconninfoFree(options);
    PQfinish(rehearsal);
    return done;
}

typedef PGconn *(*pgiam_libpq_connect)(const char *const *keywords, const char *const *values, int expand_dbname);

static inline PGconn *pgiam_libpq_go(const char *const *keywords, const char *const *values, int expand_dbname,
                                     int may_wait, pgiam_libpq_connect connect, char **error)
{
    pgiam_libpq_plan plan;
    PGconn *connection = NULL;
    int count = 0, whole = 1;
    memset(&plan, 0, sizeof plan);
    plan.descriptor = -1;
    if (error != NULL)
        *error = NULL;
    while (keywords != NULL && keywords[count] != NULL)
        count++;
    /* Room for sslmode, the password, and a rehearsal's host, hostaddr, port and word. */
    plan.keywords = (const char **)calloc((size_t)count + 8, sizeof *plan.keywords);
    plan.values = (const char **)calloc((size_t)count + 8, sizeof *plan.values);
    for (int at = 0; whole && plan.keywords != NULL && plan.values != NULL && at < count; at++) {
        const char *value = values[at];
        int which = pgiam_libpq_own_index(keywords[at], strlen(keywords[at]));
        if (which >= 0) {
            whole = value == NULL || pgiam_libpq_set_own(&plan, which, value, strlen(value));
            continue;
        }
        /* As libpq: the first database name that is a connection string is one. */
        if (expand_dbname && plan.conninfo == NULL && value != NULL && strcmp(keywords[at], "dbname") == 0 &&
            (pgiam_libpq_is_uri(value) || strchr(value, '=') != NULL)) {
            value = pgiam_libpq_split(&plan, value);
            whole = value != NULL;
            /* Nothing but pgiam's own keywords was in it. */
            if (whole && !pgiam_libpq_is_uri(value) && strchr(value, '=') == NULL)
                continue;
        }
        pgiam_libpq_add(&plan, keywords[at], value);
    }
    if (!whole || plan.keywords == NULL || plan.values == NULL)
        pgiam_libpq_fail(&plan, "pgiam: out of memory", "", "");
    else if (pgiam_libpq_prepare(&plan, expand_dbname, may_wait))
        connection = connect(plan.keywords, plan.values, expand_dbname);

    pgiam_string_free(plan.secret);
    if (plan.descriptor >= 0)
        close(plan.descriptor);
    for (int which = 0; which < PGIAM_LIBPQ_OWN; which++)
        free(plan.own[which]);
    pgiam_libpq_wipe_and_free(plan.conninfo);
    free((void *)plan.keywords);
    free((void *)plan.values);
    if (error != NULL)
        *error = plan.error;
    else
        free(plan.error);
    return connection;
}

static inline PGconn *pgiam_libpq_go_with(const char *conninfo, int may_wait, pgiam_libpq_connect connect,
                                          char **error)
{
    const char *keywords[] = {"dbname", NULL}, *values[] = {conninfo, NULL};
    const char *text = conninfo == NULL ? "" : conninfo;
    while (isspace((unsigned char)*text))
        text++;
    /* As PQconnectdb, and not as a database's name: a string that is not empty and has no '=' is an error. */
    if (*text == '\0')
        values[0] = "";
    else if (!pgiam_libpq_is_uri(conninfo) && strchr(text, '=') == NULL) {
        if (error != NULL)
            *error = NULL;
        return PQconnectStart(conninfo);
    }
    return pgiam_libpq_go(keywords, values, *text != '\0', may_wait, connect, error);
}

/* ---- for you -------------------------------------------------------------------------------------------------- */

/* As PQconnectdb, with a token where the conventions above say so. Waits for credentials if none are held. */
static inline PGconn *pgiam_connectdb(const char *conninfo, char **error)
{
    return pgiam_libpq_go_with(conninfo, 1, PQconnectdbParams, error);
}

/* As PQconnectdbParams, with a token where the conventions above say so. Waits for credentials if none are held. */
static inline PGconn *pgiam_connectdb_params(const char *const *keywords, const char *const *values,
                                             int expand_dbname, char **error)
{
    return pgiam_libpq_go(keywords, values, expand_dbname, 1, PQconnectdbParams, error);
}

/* As PQconnectStart, for event loops: go on with PQconnectPoll. Never waits for credentials: a NULL connection whose
 * *error is NULL too means that they are being fetched beside; call again, not sooner than 20 ms later. error must not
 * be NULL, or the two cannot be told apart. */
static inline PGconn *pgiam_connect_start(const char *conninfo, char **error)
{
    return pgiam_libpq_go_with(conninfo, 0, PQconnectStartParams, error);
}

/* As PQconnectStartParams, in the manner of pgiam_connect_start. */
static inline PGconn *pgiam_connect_start_params(const char *const *keywords, const char *const *values,
                                                 int expand_dbname, char **error)
{
    return pgiam_libpq_go(keywords, values, expand_dbname, 0, PQconnectStartParams, error);
}

#ifdef __cplusplus
}
#endif

#endif /* PGIAM_LIBPQ_H */
