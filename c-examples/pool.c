/* A small threaded pool: pool HOST PORT USER DBNAME
 * All threads share one client. Each new connection gets its own token: a token is for a login, not for a pool. Credentials
 * are fetched once. */
#include <libpq-fe.h>
#include <pgiam.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONNECTIONS = 4, THREADS = 8, QUERIES_EACH = 25 };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t returned;
    PGconn *idle[CONNECTIONS];
    int idle_count;
    int opened;
    int queries;
    pgiam_client *client;
    char **argv;
};

static PGconn *open_connection(struct pool *pool)
{
    char *token = NULL;
    pgiam_error *error = NULL;
    if (pgiam_client_generate_token(pool->client, pool->argv[1], atoi(pool->argv[2]), NULL, pool->argv[3], &token, NULL,
                                    &error) != PGIAM_OK) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        pgiam_error_free(error);
        return NULL;
    }
    const char *keywords[] = {"host", "port", "user", "dbname", "sslmode", "password", NULL};
    const char *values[] = {pool->argv[1], pool->argv[2], pool->argv[3], pool->argv[4], "verify-full", token, NULL};
    PGconn *connection = PQconnectdbParams(keywords, values, 0);
    pgiam_string_free(token);
    if (PQstatus(connection) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(connection));
        PQfinish(connection);
        return NULL;
    }
    return connection;
}

/* An idle connection, a new one while there are fewer than CONNECTIONS, or the next that is returned. */
static PGconn *take(struct pool *pool)
{
    PGconn *connection = NULL;
    int open = 0;
    pthread_mutex_lock(&pool->lock);
    while (pool->idle_count == 0 && pool->opened == CONNECTIONS)
        pthread_cond_wait(&pool->returned, &pool->lock);
    if (pool->idle_count > 0) {
        connection = pool->idle[--pool->idle_count];
    } else {
        pool->opened++;
        open = 1;
    }
    pthread_mutex_unlock(&pool->lock);
    /* Outside the lock: logging in takes a while, and other threads have work. */
    if (open && !(connection = open_connection(pool))) {
        pthread_mutex_lock(&pool->lock);
        pool->opened--;
        pthread_cond_signal(&pool->returned);
        pthread_mutex_unlock(&pool->lock);
    }
    return connection;
}

static void give_back(struct pool *pool, PGconn *connection)
{
    pthread_mutex_lock(&pool->lock);
    pool->idle[pool->idle_count++] = connection;
    pool->queries++;
    pthread_cond_signal(&pool->returned);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument)
{
    struct pool *pool = argument;
    for (int i = 0; i < QUERIES_EACH; i++) {
        PGconn *connection = take(pool);
        if (!connection)
            return argument;
        PGresult *result = PQexec(connection, "select current_user");
        int ok = PQresultStatus(result) == PGRES_TUPLES_OK;
        if (!ok)
            fprintf(stderr, "%s", PQerrorMessage(connection));
        PQclear(result);
        give_back(pool, connection);
        if (!ok)
            return argument;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s HOST PORT USER DBNAME\n", argv[0]);
        return 2;
    }
    struct pool pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .returned = PTHREAD_COND_INITIALIZER, .argv = argv};
    pgiam_error *error = NULL;
    if (pgiam_client_new(NULL, NULL, &pool.client, &error) != PGIAM_OK) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        pgiam_error_free(error);
        return 1;
    }
    pthread_t threads[THREADS];
    int started = 0, failed = 0;
    while (started < THREADS && pthread_create(&threads[started], NULL, work, &pool) == 0)
        started++;
    for (int i = 0; i < started; i++) {
        void *outcome = NULL;
        pthread_join(threads[i], &outcome);
        failed += outcome != NULL;
    }
    printf("%d queries as %s over %d connections by %d threads\n", pool.queries, argv[3], pool.opened, started);
    while (pool.idle_count > 0)
        PQfinish(pool.idle[--pool.idle_count]);
    pgiam_client_free(pool.client);
    return failed || started < THREADS ? 1 : 0;
}
