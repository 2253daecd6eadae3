/* Sends records as entries of the stream: XADD, pipelined.
 *
 * The happy path of a record: its command is written behind the others that are to be sent, and it takes a place in a ring; the
 * reply, which comes in the order of commands, takes it out again and is the ack. Nothing waits for a single record.
 *
 * A server with appendfsync always flushes before it answers, once for each round of its event loop, and in a round it reads
 * about 16 KiB of a connection. So that a flush covers more than that, the records of a batch (--batch-size) are then one
 * transaction: MULTI, their XADDs, EXEC, whose reply holds those of all of them. A batch ends when it is full or when the thread
 * has nothing more to send, and one record alone is a plain XADD. Where no flush is waited for, a transaction costs
 * more than it brings.
 *
 * A command that the server refuses is an ack with its words. A connection that is lost ends the producer: what was in flight gets
 * acks that say so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/redis/redis.h"
#include "bench/engine/place.h"

#define BUFFER_DEFAULT (4 * MIB)       // of values without an ack
#define WRITE_BYTES ((size_t)64 * KIB) // together they are worth a call of the kernel
#define IN_BYTES ((size_t)16 * KIB)    // the parser moves what is left of it after each KiB
#define HEAD_MAX 512                   // of an XADD: all but the value
#define RECORDS_MAX (1u << 20)         // in flight
#define FLUSH_STEP_US 10000
#define MULTI "*1\r\n$5\r\nMULTI\r\n"
#define EXEC "*1\r\n$4\r\nEXEC\r\n"
#define MULTI_LEN (sizeof(MULTI) - 1)
#define EXEC_LEN (sizeof(EXEC) - 1)

struct place {
    uint64_t opaque;
    uint32_t value_len;
};

struct driver_producer {
    struct driver_session *session;
    driver_ack_fn ack;
    void *context;
    struct redis_connection connection;
    bool has_failed;

    char head[HEAD_MAX]; // of an XADD whose value has that length, up to the value
    size_t head_len;
    uint32_t head_value_len;

    /* In flight: [acked, sent), counted from 0; the ring has a place for each. */
    struct place *places;
    uint32_t mask;
    uint64_t acked, sent;
    uint64_t bytes, bytes_max; // of values in flight

    /* Batches, where the server flushes before each answer; batch_bytes 0: none. */
    size_t batch_bytes;
    uint64_t open_begin; // the one being filled: [open_begin, sent)
    uint64_t *ends;      // by number & mask: the record behind it
    uint64_t batches_acked, batches_sent;
    char refused[128]; // why a command of the oldest batch was; empty: none was
};

static void make_head(struct driver_producer *producer, uint32_t value_len);
static int ring_init(struct driver_producer *producer);
static bool put(struct driver_producer *producer, const struct driver_record *record);
static void end_batch(struct driver_producer *producer);
static int progress(struct driver_producer *producer);
static void ack_next(struct driver_producer *producer, const char *error);
static int fail_all(struct driver_producer *producer);
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

int redis_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                       void *context, struct driver_producer **producer)
{
    const struct bench_options *options = session->options;
    const struct redis_session *self = session->self;
    (void)index;
    struct driver_producer *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return driver_fail(session, "out of memory");
    *made = (struct driver_producer){
        .session = session,
        .ack = ack,
        .context = context,
        .bytes_max = options->buffer_bytes ? options->buffer_bytes : BUFFER_DEFAULT,
        .batch_bytes = self->is_flushed_always && !options->own_request ? options->batch_bytes : 0,
    };
    size_t out_bytes = 2 * (made->batch_bytes + options->record_bytes + HEAD_MAX) + 4 * WRITE_BYTES;
    if (redis_connection_open(session, &made->connection, out_bytes, IN_BYTES, &functions, made) ||
        ring_init(made)) {
        redis_producer_free(made);
        return DRIVER_FAILED;
    }
    make_head(made, (uint32_t)options->record_bytes);
    *producer = made;
    return 0;
}

static int ring_init(struct driver_producer *producer)
{
    uint64_t wanted = producer->bytes_max / producer->session->options->record_bytes + 1;
    uint32_t count = 64;
    while (count < wanted && count < RECORDS_MAX)
        count *= 2;
    producer->mask = count - 1;
    producer->places = malloc(count * sizeof(producer->places[0]));
    producer->ends = malloc(count * sizeof(producer->ends[0]));
    if (producer->places && producer->ends)
        return 0;
    return driver_fail(producer->session, "out of memory");
}

int redis_producer_send(struct driver_producer *producer, const struct driver_record *records,
                        uint32_t count)
{
    struct redis_connection *connection = &producer->connection;
    uint32_t taken = 0;
    if (UNLIKELY(producer->has_failed))
        return DRIVER_FAILED;
    while (taken < count && put(producer, &records[taken]))
        taken++;
    if (taken < count)
        end_batch(producer);
    if (producer->batch_bytes == 0)
        redis_connection_release(connection);
    bool has_much = connection->out_end - connection->out_begin >= WRITE_BYTES;
    if ((has_much || taken < count) && progress(producer) < 0 && taken == 0)
        return DRIVER_FAILED;
    return (int)taken;
}

int redis_producer_poll(struct driver_producer *producer, uint32_t timeout_us)
{
    if (producer->has_failed)
        return DRIVER_FAILED;
    end_batch(producer);
    int moved = progress(producer);
    if (moved != 0 || timeout_us == 0)
        return moved < 0 ? moved : 0;
    if (redis_connection_wait(&producer->connection, timeout_us))
        return fail_all(producer);
    return progress(producer) < 0 ? DRIVER_FAILED : 0;
}

int redis_producer_flush(struct driver_producer *producer, uint32_t timeout_ms)
{
    uint64_t end_ns = now_ns() + timeout_ms * NS_PER_MS;
    while (producer->acked < producer->sent) {
        if (redis_producer_poll(producer, FLUSH_STEP_US))
            return DRIVER_FAILED;
        if (producer->acked < producer->sent && now_ns() >= end_ns)
            return driver_fail(producer->session, "%llu records got no answer within %u ms",
                               (unsigned long long)(producer->sent - producer->acked), timeout_ms);
    }
    return producer->has_failed ? DRIVER_FAILED : 0;
}

void redis_producer_free(struct driver_producer *producer)
{
    redis_connection_close(&producer->connection);
    free(producer->places);
    free(producer->ends);
    free(producer);
}

/* ---- sending ---- */

static char *append(char *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static void make_head(struct driver_producer *producer, uint32_t value_len)
{
    const char *topic = producer->session->options->topic;
    int len = snprintf(producer->head, sizeof(producer->head),
                       "*5\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$%zu\r\n%s\r\n$%u\r\n",
                       strlen(topic), topic, sizeof(REDIS_FIELD) - 1, REDIS_FIELD, value_len);
    ASSERT(len > 0 && len < HEAD_MAX); // session_open() has looked at the topic's length
    producer->head_len = (size_t)len;
    producer->head_value_len = value_len;
}

/* Takes the record if it has room. */
static bool put(struct driver_producer *producer, const struct driver_record *record)
{
    struct redis_connection *connection = &producer->connection;
    uint64_t in_flight = producer->sent - producer->acked;
    if (in_flight > producer->mask ||
        (in_flight > 0 && producer->bytes + record->value_len > producer->bytes_max))
        return false;
    char *begin = redis_connection_reserve(connection,
                                           HEAD_MAX + MULTI_LEN + EXEC_LEN + record->value_len + 2);
    if (begin == NULL)
        return false;
    char *at = begin;
    if (producer->batch_bytes > 0 && producer->open_begin == producer->sent)
        at = append(at, MULTI, MULTI_LEN);
    if (UNLIKELY(record->value_len != producer->head_value_len))
        make_head(producer, record->value_len);
    at = append(at, producer->head, producer->head_len);
    at = append(at, record->value, record->value_len);
    at = append(at, "\r\n", 2);
    connection->out_held += (size_t)(at - begin);
    producer->places[producer->sent++ & producer->mask] =
        (struct place){.opaque = record->opaque, .value_len = record->value_len};
    producer->bytes += record->value_len;
    if (producer->batch_bytes > 0 && connection->out_held >= producer->batch_bytes)
        end_batch(producer);
    return true;
}

/* What put() has held for the batch may be sent: with EXEC behind it, or, of one record, without the MULTI before it. */
static void end_batch(struct driver_producer *producer)
{
    struct redis_connection *connection = &producer->connection;
    uint64_t count = producer->sent - producer->open_begin;
    if (producer->batch_bytes == 0 || count == 0)
        return;
    char *begin = connection->out + connection->out_end;
    if (count == 1) {
        connection->out_held -= MULTI_LEN;
        memmove(begin, begin + MULTI_LEN, connection->out_held);
    } else {
        memcpy(begin + connection->out_held, EXEC, EXEC_LEN); // put() has left room
        connection->out_held += EXEC_LEN;
    }
    redis_connection_release(connection);
    producer->open_begin = producer->sent;
    producer->ends[producer->batches_sent++ & producer->mask] = producer->sent;
}

/* Sends and receives what can be; acks. Returns the number of bytes moved, or DRIVER_FAILED. */
static int progress(struct driver_producer *producer)
{
    int moved = redis_connection_exchange(&producer->connection), replies = 1;
    while (moved > 0 && replies > 0)
        replies = redis_connection_reply(&producer->connection);
    return moved < 0 || replies < 0 ? fail_all(producer) : moved;
}

/* ---- replies ---- */

static void ack_next(struct driver_producer *producer, const char *error)
{
    if (producer->acked == producer->sent) {
        producer->has_failed = true;
        (void)driver_fail(producer->session, "the server sent a reply too many: %s",
                          error ? error : "an entry's id");
        return;
    }
    struct place place = producer->places[producer->acked++ & producer->mask];
    producer->bytes -= place.value_len;
    while (producer->batches_acked < producer->batches_sent &&
           producer->acked >= producer->ends[producer->batches_acked & producer->mask])
        producer->batches_acked++;
    producer->ack(producer->context, error ? DRIVER_FAILED : 0, place.opaque, 0, OFFSET_UNKNOWN,
                  error);
}

/* The connection is lost, and session->error says why. */
static int fail_all(struct driver_producer *producer)
{
    producer->has_failed = true;
    while (producer->acked < producer->sent)
        ack_next(producer, producer->session->error);
    return DRIVER_FAILED;
}

/* A transaction's error is noted where a command is queued, and belongs to all of its records when EXEC is refused for it. */
static void refuse_batch(struct driver_producer *producer, const char *words)
{
    bool is_end = strncmp(words, "EXECABORT", 9) == 0 || strncmp(words, "ERR EXEC", 8) == 0;
    if (producer->refused[0] == '\0')
        snprintf(producer->refused, sizeof(producer->refused), "%s", words);
    if (!is_end)
        return;
    uint64_t end = producer->ends[producer->batches_acked & producer->mask];
    while (producer->acked < end)
        ack_next(producer, producer->refused);
    producer->refused[0] = '\0';
}

static bool is_in_transaction(const struct driver_producer *producer)
{
    return producer->batches_acked < producer->batches_sent &&
           producer->ends[producer->batches_acked & producer->mask] - producer->acked > 1;
}

/* A string is an entry's id: an ack. A status is that of MULTI, or of a command that was queued behind it. */
static void *on_string(const redisReadTask *task, char *text, size_t len)
{
    struct driver_producer *producer = task->privdata;
    char words[128];
    if (task->type == REDIS_REPLY_STRING)
        ack_next(producer, NULL);
    if (task->type != REDIS_REPLY_ERROR)
        return &done;
    snprintf(words, sizeof(words), "%.*s", (int)min_u64(len, sizeof(words) - 1), text);
    if (task->parent == NULL && is_in_transaction(producer))
        refuse_batch(producer, words);
    else
        ack_next(producer, words);
    return &done;
}

static void *on_array(const redisReadTask *task, int count)
{
    (void)task, (void)count;
    return &done;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    (void)value;
    return on_nil(task);
}

static void *on_nil(const redisReadTask *task)
{
    ack_next(task->privdata, "the reply is not an entry's id");
    return &done;
}

static void on_free(void *reply)
{
    (void)reply;
}
