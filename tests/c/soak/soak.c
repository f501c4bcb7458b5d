/* A program that logs in again and again, while tests/deep/soak.rs disturbs the services of AWS, the server and the clock:
 *
 *     soak NAME SECONDS THREADS WORKERS COLD PAUSE DIRECTORY CONNINFO...
 *
 * Each thread uses one client, which the forked workers inherit; each worker ends after ten seconds and a new one takes its
 * place. One in COLD logins uses a new client. Each pauses PAUSE milliseconds on average. A line `SECONDS` on standard
 * input sets the wall clock so far ahead and is answered with `set`. CONNINFO are keywords and values of the connection.
 *
 * DIRECTORY/NAME.logins has a line for each login: when it began and ended, in milliseconds of the real clock; the time
 * that its token took, in microseconds; `cold` or `warm`; `ok`, `token` or `login` (what failed); the message.
 * DIRECTORY/NAME.samples has a line for each second: when, private memory in KiB, threads, descriptors. At the end the
 * process has the threads, children and descriptors that it had at the start, or it fails. */
#include "../host/host.h"
#include <fcntl.h>
#include <libpq-fe.h>
#include <sys/syscall.h>

enum { MOST_THREADS = 64, WORKER_LIVES = 10 * 1000, MOST_WORDS = 32 };

static volatile long ahead;
static volatile int stopping;
static int logins_to, samples_to;
static int cold_every, pause_for;
static long ends;
static const char *keywords[MOST_WORDS], *values[MOST_WORDS];
static int password_at;
static pgiam_client *shared;

/* Takes the place of the C library's, for the library too. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return failed;
}

static long real_milliseconds(void)
{
    struct timespec now;
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &now) == 0);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

static long microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000L;
}

/* In one write, so that lines do not mix. */
static void write_line(int to, const char *line)
{
    CHECK(write(to, line, strlen(line)) == (ssize_t)strlen(line));
}

static const char *value_of(const char *keyword)
{
    for (int i = 0; keywords[i]; i++)
        if (strcmp(keywords[i], keyword) == 0)
            return values[i];
    CHECK(!"a keyword is missing");
    return NULL;
}

struct login {
    long began, token_took;
    int cold;
    const char *result;
    char message[1000];
};

static void keep_message(struct login *login, const char *message)
{
    snprintf(login->message, sizeof login->message, "%s", message);
    for (char *c = login->message; *c; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
}

static void log_in(struct login *login)
{
    pgiam_client *client = login->cold ? new_client() : shared;
    char *token = NULL;
    pgiam_error *error = NULL;
    login->began = real_milliseconds();
    long began = microseconds();
    pgiam_status status = pgiam_client_generate_token(client, value_of("host"), atoi(value_of("port")), NULL,
                                                      value_of("user"), &token, NULL, &error);
    login->token_took = microseconds() - began;
    CHECK((status == PGIAM_OK) == (token != NULL));
    if (token) {
        const char *own_values[MOST_WORDS];
        memcpy(own_values, values, sizeof own_values);
        own_values[password_at] = token;
        PGconn *connection = PQconnectdbParams(keywords, own_values, 0);
        login->result = PQstatus(connection) == CONNECTION_OK ? "ok" : "login";
        keep_message(login, PQerrorMessage(connection));
        /* As the header advises. */
        if (strstr(login->message, "authentication failed") && !login->cold)
            pgiam_client_refresh(client, NULL);
        PQfinish(connection);
    } else {
        login->result = "token";
        keep_message(login, pgiam_error_message(error));
    }
    pgiam_string_free(token);
    pgiam_error_free(error);
    if (login->cold)
        pgiam_client_free(client);
}

static void log_in_until(long end, unsigned seed)
{
    while (!stopping && milliseconds() < end) {
        struct login login = {.cold = rand_r(&seed) % cold_every == 0};
        log_in(&login);
        char line[1200];
        snprintf(line, sizeof line, "%ld\t%ld\t%ld\t%s\t%s\t%s\n", login.began, real_milliseconds(), login.token_took,
                 login.cold ? "cold" : "warm", login.result, login.message);
        write_line(logins_to, line);
        usleep((useconds_t)(rand_r(&seed) % (2 * pause_for)) * 1000);
    }
}

static void *thread(void *seed)
{
    log_in_until(ends, (unsigned)(size_t)seed);
    return NULL;
}

static pid_t start_worker(unsigned seed)
{
    pid_t worker = fork();
    CHECK(worker >= 0);
    if (worker > 0)
        return worker;
    alarm(WORKER_LIVES / 1000 + 60);
    long end = milliseconds() + WORKER_LIVES;
    log_in_until(end < ends ? end : ends, seed);
    _exit(0);
}

/* Starts a worker in the place of each that has ended. */
static void replace_workers(pid_t *workers, int count)
{
    for (int i = 0; i < count; i++) {
        int status;
        if (workers[i] && waitpid(workers[i], &status, WNOHANG) != workers[i])
            continue;
        CHECK(!workers[i] || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        workers[i] = start_worker((unsigned)random());
    }
}

static long private_memory(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    CHECK(status);
    char line[256];
    long size = -1;
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "RssAnon: %ld", &size) == 1)
            break;
    fclose(status);
    CHECK(size > 0);
    return size;
}

static void take_sample(void)
{
    char line[200];
    struct census census = take_census();
    snprintf(line, sizeof line, "%ld\t%ld\t%d\t%d\n", real_milliseconds(), private_memory(), census.threads,
             census.descriptors);
    write_line(samples_to, line);
}

static void obey(void)
{
    char command[32] = "";
    ssize_t length = read(0, command, sizeof command - 1);
    if (length == 0)
        stopping = 1;
    if (length <= 0)
        return;
    ahead = atol(command);
    write_line(1, "set\n");
}

static int append_to(const char *directory, const char *name, const char *kind)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", directory, name, kind);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    CHECK(file >= 0);
    return file;
}

int main(int argc, char **argv)
{
    CHECK(argc > 9);
    int threads = atoi(argv[3]), workers = atoi(argv[4]);
    cold_every = atoi(argv[5]);
    pause_for = atoi(argv[6]);
    CHECK(threads <= MOST_THREADS && workers <= MOST_THREADS && (argc - 8) / 2 < MOST_WORDS - 1);
    logins_to = append_to(argv[7], argv[1], "logins");
    samples_to = append_to(argv[7], argv[1], "samples");
    for (int i = 8; i + 1 < argc; i += 2) {
        keywords[password_at] = argv[i];
        values[password_at++] = argv[i + 1];
    }
    keywords[password_at] = "password";
    CHECK(fcntl(0, F_SETFL, O_NONBLOCK) == 0);
    srandom((unsigned)time(NULL));

    shared = new_client();
    struct login first = {0};
    log_in(&first);
    struct census before = take_census();
    ends = milliseconds() + atol(argv[2]) * 1000;
    pthread_t started[MOST_THREADS];
    pid_t forked[MOST_THREADS] = {0};
    for (int i = 0; i < threads; i++)
        CHECK(pthread_create(&started[i], NULL, thread, (void *)(size_t)random()) == 0);
    while (!stopping && milliseconds() < ends) {
        replace_workers(forked, workers);
        /* So that refreshes run in the parent of the workers, too. */
        try_token(shared);
        take_sample();
        for (int i = 0; i < 20 && !stopping; i++) {
            obey();
            usleep(50 * 1000);
        }
    }
    for (int i = 0; i < threads; i++)
        pthread_join(started[i], NULL);
    for (int i = 0; i < workers; i++)
        if (forked[i])
            expect_success(forked[i]);
    settle(before);
    pgiam_client_free(shared);
    puts("nothing left over");
    return 0;
}
