/* Reads the stream: XREAD, which the server holds while there is nothing behind the last entry that was read.
 *
 * The happy path: a reply's values are copied from the parser's buffer, which moves, into the consumer's own as they arrive,
 * and handed out from there. When the reply is whole the next XREAD is sent at once, so that the server works on it
 * while the caller looks at what it has.
 *
 * Each consumer reads by itself, without a group, as everyone is to get everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/redis/redis.h"
#include "bench/engine/place.h"

#define IN_BYTES ((size_t)128 * KIB)
#define OUT_BYTES 1024
#define READ_BYTES MIB // of values in a reply, about
#define READ_RECORDS 1024
#define BLOCK_MS 1000 // then the server says that there was nothing
#define ID_MAX 48
#define REASON_MAX 128

/* Where a string is in the reply: [[key, [[id, [field, value]], ...]]]. */
#define DEPTH_ID 4
#define DEPTH_FIELD 5

struct found {
    size_t at; // in values
    uint32_t len;
};

struct driver_consumer {
    struct driver_session *session;
    struct redis_connection connection;
    uint32_t records_per_read;
    bool has_asked;    // an XREAD has no whole reply yet
    char last[ID_MAX]; // entry that was read

    /* ---- what arrived, until it is handed out ---- */
    struct found *found;
    uint32_t found_count, found_size, given_count;
    char *values;
    size_t values_len, values_size;
    char reason[REASON_MAX]; // the server's words; empty: none
};

static int first_id(struct driver_consumer *consumer, enum driver_start start);
static int ask(struct driver_consumer *consumer);
static int progress(struct driver_consumer *consumer);
static int hand_out(struct driver_consumer *consumer, struct driver_message *messages,
                    uint32_t count);
static void *on_string(const redisReadTask *task, char *text, size_t len);
static void *on_array(const redisReadTask *task, int count);
static void *on_integer(const redisReadTask *task, long long value);
static void *on_nil(const redisReadTask *task);
static void on_free(void *reply);

static redisReplyObjectFunctions functions = {.createString = on_string,
                                              .createArray = on_array,
                                              .createInteger = on_integer,
                                              .createNil = on_nil,
                                              .freeObject = on_free};
static char done; // the reply that the parser makes of everything

/* ---- the driver's functions ---- */

int redis_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                       struct driver_consumer **consumer)
{
    (void)index;
    struct driver_consumer *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return driver_fail(session, "out of memory");
    made->session = session;
    made->records_per_read =
        (uint32_t)max_u64(1, min_u64(READ_BYTES / session->options->record_bytes, READ_RECORDS));
    if (redis_connection_open(session, &made->connection,
                              OUT_BYTES + 2 * strlen(session->options->topic), IN_BYTES, &functions,
                              made) ||
        first_id(made, start)) {
        redis_consumer_free(made);
        return DRIVER_FAILED;
    }
    *consumer = made;
    return 0;
}

/* "$" would mean the end at the time of each XREAD: what came between two of them would be lost. */
static int first_id(struct driver_consumer *consumer, enum driver_start start)
{
    if (start == DRIVER_FROM_BEGINNING) {
        snprintf(consumer->last, sizeof(consumer->last), "0-0");
        return 0;
    }
    redisContext *context = redis_connect(consumer->session);
    if (context == NULL)
        return DRIVER_FAILED;
    int status = redis_stream_info(consumer->session, context, "last-generated-id", consumer->last,
                                   sizeof(consumer->last));
    redisFree(context);
    return status;
}

int redis_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                        uint32_t count, uint32_t timeout_ms)
{
    uint64_t now = now_ns(), end_ns = now + timeout_ms * NS_PER_MS;
    if (consumer->given_count < consumer->found_count)
        return hand_out(consumer, messages, count);
    consumer->given_count = consumer->found_count = 0;
    consumer->values_len = 0;
    for (;;) {
        int moved = progress(consumer);
        if (moved < 0)
            return DRIVER_FAILED;
        if (consumer->found_count > 0)
            return hand_out(consumer, messages, count);
        if (moved > 0)
            continue;
        now = now_ns();
        if (now >= end_ns)
            return 0;
        if (redis_connection_wait(&consumer->connection, (end_ns - now) / NS_PER_US + 1))
            return DRIVER_FAILED;
    }
}

void redis_consumer_free(struct driver_consumer *consumer)
{
    redis_connection_close(&consumer->connection);
    free(consumer->found);
    free(consumer->values);
    free(consumer);
}

/* ---- asking and receiving ---- */

static int ask(struct driver_consumer *consumer)
{
    struct redis_connection *connection = &consumer->connection;
    const char *topic = consumer->session->options->topic;
    char *command;
    int len = redisFormatCommand(&command, "XREAD COUNT %u BLOCK %u STREAMS %s %s",
                                 consumer->records_per_read, BLOCK_MS, topic, consumer->last);
    char *at = len > 0 ? redis_connection_reserve(connection, (size_t)len) : NULL;
    if (at) {
        memcpy(at, command, (size_t)len);
        connection->out_held += (size_t)len;
        redis_connection_release(connection);
        consumer->has_asked = true;
    }
    if (len > 0)
        redisFreeCommand(command);
    return at ? 0 : driver_fail(consumer->session, "XREAD: out of memory");
}

/* Returns the number of bytes that moved, or DRIVER_FAILED. */
static int progress(struct driver_consumer *consumer)
{
    struct redis_connection *connection = &consumer->connection;
    if (!consumer->has_asked && ask(consumer))
        return DRIVER_FAILED;
    int moved = redis_connection_exchange(connection);
    int replies = moved < 0 ? moved : redis_connection_reply(connection);
    if (replies < 0)
        return DRIVER_FAILED;
    if (consumer->reason[0])
        return driver_fail(consumer->session, "XREAD: %s", consumer->reason);
    if (replies == 0)
        return moved;
    consumer->has_asked = false;
    if (ask(consumer) || redis_connection_exchange(connection) < 0)
        return DRIVER_FAILED;
    return moved;
}

static int hand_out(struct driver_consumer *consumer, struct driver_message *messages,
                    uint32_t count)
{
    uint32_t given = 0;
    for (; given < count && consumer->given_count < consumer->found_count; given++) {
        struct found found = consumer->found[consumer->given_count++];
        messages[given] = (struct driver_message){.value = consumer->values + found.at,
                                                  .value_len = found.len,
                                                  .partition = 0,
                                                  .offset = OFFSET_UNKNOWN};
    }
    return (int)given;
}

/* ---- replies ---- */

/* Doubles until `needed` of `size_each` fit. */
static void *grown(void *old, size_t size_each, size_t needed, size_t *size)
{
    size_t wanted = *size ? *size : 1024;
    while (wanted < needed)
        wanted *= 2;
    if (wanted == *size)
        return old;
    void *new = realloc(old, wanted * size_each);
    if (new)
        *size = wanted;
    return new;
}

static int note_value(struct driver_consumer *consumer, const char *text, size_t len)
{
    size_t found_size = consumer->found_size;
    struct found *found =
        grown(consumer->found, sizeof(*found), consumer->found_count + 1ul, &found_size);
    if (found == NULL)
        return -1;
    consumer->found = found;
    consumer->found_size = (uint32_t)found_size;
    char *values = grown(consumer->values, 1, consumer->values_len + len, &consumer->values_size);
    if (values == NULL)
        return -1;
    consumer->values = values;
    memcpy(values + consumer->values_len, text, len);
    found[consumer->found_count++] =
        (struct found){.at = consumer->values_len, .len = (uint32_t)len};
    consumer->values_len += len;
    return 0;
}

static int depth_of(const redisReadTask *task)
{
    int depth = 0;
    while ((task = task->parent) != NULL)
        depth++;
    return depth;
}

/* NULL: out of memory, says the parser then. */
static void *on_string(const redisReadTask *task, char *text, size_t len)
{
    struct driver_consumer *consumer = task->privdata;
    int depth = depth_of(task);
    if (task->type == REDIS_REPLY_ERROR)
        snprintf(consumer->reason, sizeof(consumer->reason), "%.*s",
                 (int)min_u64(len, REASON_MAX - 1), text);
    else if (depth == DEPTH_ID)
        snprintf(consumer->last, sizeof(consumer->last), "%.*s", (int)min_u64(len, ID_MAX - 1),
                 text);
    else if (depth == DEPTH_FIELD && task->idx == 1 && note_value(consumer, text, len))
        return NULL;
    return &done;
}

static void *on_array(const redisReadTask *task, int count)
{
    (void)task, (void)count;
    return &done;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    (void)task, (void)value;
    return &done;
}

/* Nothing came while the server waited. */
static void *on_nil(const redisReadTask *task)
{
    (void)task;
    return &done;
}

static void on_free(void *reply)
{
    (void)reply;
}
