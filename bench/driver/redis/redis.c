/* The driver of Redis: a record is an entry of a stream with one field, a topic is the stream's key.
 *
 * Every producer and every consumer has a connection of its own, as a thread of an application has: --clients means nothing
 * here, nor does --linger-us: what a thread has written is sent when it has nothing more to write, or 64 KiB of it.
 *
 * What an ack is worth follows from two settings, which are asked for. The server answers after the round of its event loop that ran the
 * command, and before that it has written its log, if it has one, and with appendfsync always flushed it (fdatasync). With everysec a thread
 * flushes it once a second; while that is under way the write itself is put off, up to 2 s.
 *
 * An entry's id is a time and a number, not a dense count: gaps do not show in it. The stream stays in memory, all of it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "bench/driver/drivers.h"
#include "bench/driver/redis/redis.h"

#define PORT_DEFAULT 6379
#define CONNECT_S 10
#define ANSWER_S 30 // a server that writes its log anew or loads it may take a while
#define TOPIC_MAX 256
#define TEXT_MAX 64
#define WORD_OF(x) #x
#define WORD(x) WORD_OF(x)

static int make_stream(struct driver_session *session);
static int refuse_options(struct driver_session *session);
static redisReply *ask(struct driver_session *session, redisContext *context, const char *what,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));

/* ---- connecting, asking ---- */

/* HOST, HOST:PORT, [ADDRESS]:PORT. */
static int split_server(const char *server, char *host, size_t size, int *port)
{
    const char *colon = strrchr(server, ':'), *end = colon ? colon : server + strlen(server);
    char rest;
    *port = PORT_DEFAULT;
    if (colon && (sscanf(colon + 1, "%d%c", port, &rest) != 1 || *port < 1 || *port > 65535))
        return -1;
    if (*server == '[' && end > server + 1 && end[-1] == ']')
        server++, end--;
    return snprintf(host, size, "%.*s", (int)(end - server), server) < (int)size ? 0 : -1;
}

redisContext *redis_connect(struct driver_session *session)
{
    const char *server = session->options->server ? session->options->server : "127.0.0.1";
    char host[256];
    int port;
    if (split_server(server, host, sizeof(host), &port)) {
        (void)driver_fail(session, "--server %s: want HOST or HOST:PORT", server);
        return NULL;
    }
    redisContext *context =
        redisConnectWithTimeout(host, port, (struct timeval){.tv_sec = CONNECT_S});
    if (context && context->err == 0 &&
        redisSetTimeout(context, (struct timeval){.tv_sec = ANSWER_S}) == REDIS_OK) {
        address_tune_socket(context->fd);
        return context;
    }
    (void)driver_fail(session, "connecting to %s:%d: %s", host, port,
                      context ? context->errstr : "out of memory");
    if (context)
        redisFree(context);
    return NULL;
}

/* NULL: failed and noted, with the server's words if it has some. */
static redisReply *ask(struct driver_session *session, redisContext *context, const char *what,
                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(context, format, arguments);
    va_end(arguments);
    if (reply && reply->type != REDIS_REPLY_ERROR)
        return reply;
    (void)driver_fail(session, "%s: %s", what, reply ? reply->str : context->errstr);
    if (reply)
        freeReplyObject(reply);
    return NULL;
}

int redis_stream_info(struct driver_session *session, redisContext *context, const char *field,
                      char *text, size_t size)
{
    redisReply *reply =
        ask(session, context, "XINFO STREAM", "XINFO STREAM %s", session->options->topic);
    bool is_found = false;
    if (reply == NULL)
        return DRIVER_FAILED;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const redisReply *value = reply->element[i + 1];
        if (reply->element[i]->str == NULL || strcmp(reply->element[i]->str, field) != 0)
            continue;
        is_found = true;
        if (value->type == REDIS_REPLY_INTEGER)
            snprintf(text, size, "%lld", value->integer);
        else
            snprintf(text, size, "%s", value->str ? value->str : "");
    }
    freeReplyObject(reply);
    if (is_found)
        return 0;
    return driver_fail(session, "XINFO STREAM: the server tells no %s: too old?", field);
}

/* ---- session ---- */

static int session_open(struct driver_session *session)
{
    struct redis_session *self = calloc(1, sizeof(*self));
    if (self == NULL)
        return driver_fail(session, "out of memory");
    session->self = self;
    session->partition_count = 1;
    if (refuse_options(session))
        return DRIVER_FAILED;
    self->context = redis_connect(session);
    return self->context == NULL || make_stream(session) ? DRIVER_FAILED : 0;
}

static void session_close(struct driver_session *session)
{
    struct redis_session *self = session->self;
    if (self->context)
        redisFree(self->context);
    free(self);
}

static int refuse_options(struct driver_session *session)
{
    const struct bench_options *options = session->options;
    if (options->partition_count > 1)
        return driver_fail(session, "--partitions %u: a stream has no partitions, allowed 1",
                           options->partition_count);
    if (options->compression_lz4)
        return driver_fail(session, "--compression lz4: neither Redis nor its client compresses");
    if (strlen(options->topic) > TOPIC_MAX)
        return driver_fail(session, "--topic: %zu bytes, allowed 1..%d", strlen(options->topic),
                           TOPIC_MAX);
    return 0;
}

/* Only a group makes a stream that has no entry yet; it is taken away again. */
static int make_stream(struct driver_session *session)
{
    struct redis_session *self = session->self;
    const char *topic = session->options->topic;
    redisReply *reply = ask(session, self->context, "looking for the stream", "TYPE %s", topic);
    if (reply == NULL)
        return DRIVER_FAILED;
    bool is_missing = strcmp(reply->str, "none") == 0, is_other = strcmp(reply->str, "stream") != 0;
    freeReplyObject(reply);
    if (!is_missing)
        return is_other ? driver_fail(session, "key %s is there and is no stream", topic) : 0;
    reply = ask(session, self->context, "making the stream",
                "XGROUP CREATE %s sluice-bench $ MKSTREAM", topic);
    if (reply == NULL)
        return DRIVER_FAILED;
    freeReplyObject(reply);
    reply =
        ask(session, self->context, "making the stream", "XGROUP DESTROY %s sluice-bench", topic);
    if (reply == NULL)
        return DRIVER_FAILED;
    freeReplyObject(reply);
    return 0;
}

/* ---- facts ---- */

/* A line NAME:VALUE of INFO. */
static int info_line(const char *info, const char *name, char *text, size_t size)
{
    size_t len = strlen(name);
    for (const char *line = info; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) != 0 || line[len] != ':')
            continue;
        const char *value = line + len + 1;
        snprintf(text, size, "%.*s", (int)strcspn(value, "\r\n"), value);
        return 0;
    }
    return -1;
}

/* Notes a setting as a fact, and its value in text ("" if the server does not tell it, which managed ones may not). */
static int fetch_setting(struct driver_session *session, const char *name, char *text, size_t size)
{
    struct redis_session *self = session->self;
    redisReply *reply = redisCommand(self->context, "CONFIG GET %s", name);
    text[0] = '\0';
    if (reply == NULL)
        return driver_fail(session, "CONFIG GET %s: %s", name, self->context->errstr);
    if (reply->type == REDIS_REPLY_ERROR)
        driver_fact(session, true, name, "not told: %s", reply->str);
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[1]->str) {
        snprintf(text, size, "%s", reply->element[1]->str);
        driver_fact(session, true, name, "%s", text[0] ? text : "(none)");
    }
    freeReplyObject(reply);
    return 0;
}

static const char *meaning(const char *appendonly, const char *appendfsync, const char *no_flush)
{
    if (strcmp(appendonly, "no") == 0)
        return "in the server's memory";
    if (strcmp(appendonly, "yes") != 0)
        return "accepted by the server, which does not tell whether it has a log";
    if (strcmp(appendfsync, "always") == 0)
        return strcmp(no_flush, "yes") == 0 ? "fdatasync, but not while the log is written anew"
                                            : "fdatasync";
    if (strcmp(appendfsync, "everysec") == 0)
        return "in the page cache (up to 2 s later while a flush is under way), flushed every "
               "second";
    return "in the page cache, flushed when the kernel does";
}

static int fetch_facts(struct driver_session *session)
{
    static const char *const names[] = {
        "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "auto-aof-rewrite-percentage",
        "save",       "maxmemory",   "stream-node-max-bytes",     "io-threads"};
    struct redis_session *self = session->self;
    char values[ARRAY_COUNT(names)][TEXT_MAX], version[TEXT_MAX];
    redisReply *info = ask(session, self->context, "INFO", "INFO server");
    if (info == NULL)
        return DRIVER_FAILED;
    if (info_line(info->str, "redis_version", version, sizeof(version)) == 0)
        driver_fact(session, true, "redis_version", "%s", version);
    freeReplyObject(info);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (fetch_setting(session, names[i], values[i], sizeof(values[i])))
            return DRIVER_FAILED;
    }
    session->ack_means = meaning(values[0], values[1], values[2]);
    self->is_flushed_always = strcmp(values[0], "yes") == 0 && strcmp(values[1], "always") == 0;
    driver_fact(session, false, "commands", "%s",
                self->is_flushed_always && !session->options->own_request
                    ? "XADD, a batch in MULTI and EXEC"
                    : "XADD, pipelined");
    return 0;
}

/* ---- figures ---- */

static int stream_count(struct driver_session *session, uint64_t *records)
{
    struct redis_session *self = session->self;
    char text[TEXT_MAX];
    if (redis_stream_info(session, self->context, "entries-added", text, sizeof(text)))
        return DRIVER_FAILED;
    *records = strtoull(text, NULL, 10);
    return 0;
}

static int stream_available(struct driver_session *session, uint64_t *records)
{
    struct redis_session *self = session->self;
    char text[TEXT_MAX];
    if (redis_stream_info(session, self->context, "length", text, sizeof(text)))
        return DRIVER_FAILED;
    *records = strtoull(text, NULL, 10);
    return 0;
}

/* Called while the load runs: what the server can't answer is not told, and no failure. */
static void server_figures(struct driver_session *session, struct driver_figures *figures)
{
    struct redis_session *self = session->self;
    char user[TEXT_MAX], system[TEXT_MAX], resident[TEXT_MAX];
    redisReply *reply = redisCommand(self->context, "INFO");
    if (reply == NULL)
        return;
    if (reply->type == REDIS_REPLY_STRING &&
        info_line(reply->str, "used_cpu_user", user, sizeof(user)) == 0 &&
        info_line(reply->str, "used_cpu_sys", system, sizeof(system)) == 0)
        figures->cpu_us = (uint64_t)((strtod(user, NULL) + strtod(system, NULL)) * 1e6);
    if (reply->type == REDIS_REPLY_STRING &&
        info_line(reply->str, "used_memory_rss", resident, sizeof(resident)) == 0)
        figures->rss_bytes = strtoull(resident, NULL, 10);
    freeReplyObject(reply);
}

const struct bench_driver driver_redis = {
    .name = "redis",
    .library = "hiredis " WORD(HIREDIS_MAJOR) "." WORD(HIREDIS_MINOR) "." WORD(HIREDIS_PATCH),
    .open = session_open,
    .close = session_close,
    .fetch_facts = fetch_facts,
    .count = stream_count,
    .available = stream_available,
    .figures = server_figures,
    .producer_new = redis_producer_new,
    .producer_send = redis_producer_send,
    .producer_poll = redis_producer_poll,
    .producer_flush = redis_producer_flush,
    .producer_free = redis_producer_free,
    .consumer_new = redis_consumer_new,
    .consumer_poll = redis_consumer_poll,
    .consumer_free = redis_consumer_free,
};
