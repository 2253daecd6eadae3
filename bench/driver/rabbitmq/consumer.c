/* Reading a queue: basic.consume with acks, as far ahead as the prefetch allows; each poll acks what the one before has given.
 *
 * A record comes as the frames deliver, header (its size; of a stream also its offset) and bodies. They are put together in one buffer,
 * which lives until the next poll; what is there of a record whose end has not come moves to its begin then.
 *
 * A quorum queue gives each record to one of its consumers and forgets it. So that everyone reads everything, each reader but the first
 * has a queue of its own for as long as it lives, which the exchange fills, too; from the end means that the first
 * throws away what is in the topic's queue.
 *
 * The number of records that AMQP tells of a stream is some seconds old, so the ends are found by reading there. The offsets are
 * not told to the caller: each new file of a stream takes one for itself, so that a gap says nothing. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/rabbitmq/rabbit.h"
#include "bench/engine/place.h"

#define POLL_MAX 1024
#define CONSUMER_TAG "reader"
#define BUFFER_BYTES (1 * MIB) // to begin with
#define FIRST_MS 2000          // by then the first record has come, or there is none
#define QUIET_MS 300           // by then all records of a chunk have come

struct slot { // a record in the buffer
    size_t at;
    uint32_t length;
    uint64_t offset;
};

struct driver_consumer {
    struct driver_session *session;
    struct rabbit_link link;
    char queue[256];
    bool owns_queue, has_started;
    uint64_t unacked_tag; // the last that was handed out; 0: none since the last ack

    uint8_t *bytes; // [size]
    size_t size, used;
    uint32_t slot_count; // complete ones
    uint64_t tag;        // of the record that is coming
    uint64_t body_left;
    struct slot slots[POLL_MAX + 1]; // the last: the one that is coming
};

static int prepare(struct driver_session *session, struct driver_consumer **consumer);
static int choose_queue(struct driver_consumer *consumer, uint32_t index, enum driver_start start);
static int consume(struct driver_consumer *consumer, const char *from);
static int ack(struct driver_consumer *consumer);
static int ack_and_clear(struct driver_consumer *consumer);
static int receive(struct driver_consumer *consumer, uint32_t most);

int rabbit_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                        struct driver_consumer **consumer)
{
    const char *from = start == DRIVER_FROM_END ? "next" : "first";
    return prepare(session, consumer) || choose_queue(*consumer, index, start) ||
                   consume(*consumer, from)
               ? DRIVER_FAILED
               : 0;
}

int rabbit_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                         uint32_t count, uint32_t timeout_ms)
{
    uint64_t end_ns = now_ns() + timeout_ms * NS_PER_MS;
    uint32_t most = (uint32_t)min_u64(count, POLL_MAX);
    if (ack_and_clear(consumer) || receive(consumer, most))
        return DRIVER_FAILED;
    while (consumer->slot_count == 0) {
        uint64_t now = now_ns();
        if (now >= end_ns)
            return 0;
        rabbit_link_wait(&consumer->link, false, end_ns - now);
        if (receive(consumer, most))
            return DRIVER_FAILED;
    }
    for (uint32_t i = 0; i < consumer->slot_count; i++) {
        const struct slot *slot = &consumer->slots[i];
        messages[i] = (struct driver_message){.value = consumer->bytes + slot->at,
                                              .value_len = slot->length,
                                              .offset = OFFSET_UNKNOWN};
    }
    return (int)consumer->slot_count;
}

/* What was handed out is acked, or a queue would give it to the next one again; the answer to the cancel says that the ack was seen: the end
 * of a connection may overtake it. */
static void leave(struct driver_consumer *consumer)
{
    struct rabbit_link *link = &consumer->link;
    if (link->is_broken || !consumer->has_started || ack(consumer))
        return;
    if (!amqp_basic_cancel(link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(CONSUMER_TAG)))
        link->is_broken = true;
}

void rabbit_consumer_free(struct driver_consumer *consumer)
{
    leave(consumer);
    if (consumer->owns_queue && !consumer->link.is_broken)
        amqp_queue_delete(consumer->link.connection, RABBIT_CHANNEL,
                          amqp_cstring_bytes(consumer->queue), false, false);
    rabbit_link_close(&consumer->link);
    free(consumer->bytes);
    free(consumer);
}

/* ---- the ends of a stream ---- */

/* The offset of the first record that comes; with `last` also of the last before nothing more comes. Returns 1, 0 when none
 * came, or DRIVER_FAILED. */
static int read_offsets(struct driver_consumer *consumer, uint64_t *first, uint64_t *last)
{
    struct driver_message messages[POLL_MAX];
    int got = rabbit_consumer_poll(consumer, messages, POLL_MAX, FIRST_MS);
    if (got <= 0)
        return got;
    *first = consumer->slots[0].offset;
    while (last && got > 0) {
        *last = consumer->slots[got - 1].offset;
        got = rabbit_consumer_poll(consumer, messages, POLL_MAX, QUIET_MS);
    }
    return got < 0 ? DRIVER_FAILED : 1;
}

static int read_at(struct driver_session *session, const char *from, uint64_t *first,
                   uint64_t *last)
{
    struct driver_consumer *consumer = NULL;
    int got = prepare(session, &consumer) || consume(consumer, from)
                  ? DRIVER_FAILED
                  : read_offsets(consumer, first, last);
    if (consumer)
        rabbit_consumer_free(consumer);
    return got;
}

int rabbit_stream_bounds(struct driver_session *session, uint64_t *begin, uint64_t *end)
{
    uint64_t first, last = 0;
    *begin = *end = 0;
    int got = read_at(session, "last", &first, &last);
    if (got <= 0)
        return got;
    *end = last + 1;
    return read_at(session, "first", begin, NULL) < 0 ? DRIVER_FAILED : 0;
}

/* ---- start ---- */

static int prepare(struct driver_session *session, struct driver_consumer **consumer)
{
    struct driver_consumer *made = calloc(1, sizeof(*made));
    if (made == NULL || (made->bytes = malloc(BUFFER_BYTES)) == NULL) {
        free(made);
        return driver_fail(session, "starting a consumer: out of memory");
    }
    *consumer = made;
    made->session = session;
    made->size = BUFFER_BYTES;
    snprintf(made->queue, sizeof(made->queue), "%s", session->options->topic);
    return rabbit_link_open(&made->link, session);
}

static int choose_queue(struct driver_consumer *consumer, uint32_t index, enum driver_start start)
{
    struct rabbit_link *link = &consumer->link;
    const char *topic = consumer->session->options->topic;
    if (rabbit_is_stream(consumer->session))
        return 0;
    if (start == DRIVER_FROM_BEGINNING)
        return index == 0 ? 0
                          : driver_fail(consumer->session,
                                        "a queue gives each record to one consumer only: read "
                                        "what it holds with --consumers 1");
    if (index == 0) {
        amqp_queue_purge(link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(topic));
        return rabbit_link_answer(link, "emptying the queue");
    }
    snprintf(consumer->queue, sizeof(consumer->queue), "%.200s.reader.%u", topic, index);
    consumer->owns_queue = true;
    if (rabbit_queue_make(link, consumer->queue))
        return DRIVER_FAILED;
    amqp_queue_purge(link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(consumer->queue));
    return rabbit_link_answer(link, "emptying a queue that was left");
}

static int consume(struct driver_consumer *consumer, const char *from)
{
    struct rabbit_link *link = &consumer->link;
    amqp_table_entry_t entry = {
        .key = amqp_cstring_bytes("x-stream-offset"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(from)}};
    amqp_table_t arguments = amqp_empty_table;
    if (rabbit_is_stream(consumer->session))
        arguments = (amqp_table_t){.num_entries = 1, .entries = &entry};
    amqp_basic_qos(link->connection, RABBIT_CHANNEL, 0, RABBIT_PREFETCH, false);
    if (rabbit_link_answer(link, "setting the prefetch"))
        return DRIVER_FAILED;
    amqp_basic_consume(link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(consumer->queue),
                       amqp_cstring_bytes(CONSUMER_TAG), false, false, false, arguments);
    consumer->has_started = true;
    return rabbit_link_answer(link, "starting a consumer");
}

/* ---- records ---- */

static int ack(struct driver_consumer *consumer)
{
    uint64_t tag = consumer->unacked_tag;
    consumer->unacked_tag = 0;
    if (tag == 0)
        return 0;
    int status = amqp_basic_ack(consumer->link.connection, RABBIT_CHANNEL, tag, true);
    return rabbit_link_status(&consumer->link, "acknowledging", status);
}

/* What the caller had is done with. */
static int ack_and_clear(struct driver_consumer *consumer)
{
    struct slot *coming = &consumer->slots[consumer->slot_count];
    if (ack(consumer))
        return DRIVER_FAILED;
    if (consumer->body_left > 0) {
        consumer->used -= coming->at;
        memmove(consumer->bytes, consumer->bytes + coming->at, consumer->used);
        consumer->slots[0] = *coming;
        consumer->slots[0].at = 0;
    } else {
        consumer->used = 0;
    }
    consumer->slot_count = 0;
    return 0;
}

static int make_room(struct driver_consumer *consumer, size_t more)
{
    if (consumer->used + more <= consumer->size)
        return 0;
    size_t size = max_u64(2 * consumer->size, consumer->used + more);
    uint8_t *bytes = realloc(consumer->bytes, size);
    if (bytes == NULL)
        return driver_fail(consumer->session, "reading: out of memory");
    consumer->bytes = bytes;
    consumer->size = size;
    return 0;
}

static void complete(struct driver_consumer *consumer)
{
    consumer->unacked_tag = consumer->tag;
    consumer->slot_count++;
}

static uint64_t offset_of(const amqp_basic_properties_t *properties)
{
    if (!(properties->_flags & AMQP_BASIC_HEADERS_FLAG))
        return OFFSET_UNKNOWN;
    for (int i = 0; i < properties->headers.num_entries; i++) {
        const amqp_table_entry_t *entry = &properties->headers.entries[i];
        if (entry->value.kind == AMQP_FIELD_KIND_I64 &&
            entry->key.len == strlen("x-stream-offset") &&
            memcmp(entry->key.bytes, "x-stream-offset", entry->key.len) == 0)
            return (uint64_t)entry->value.value.i64;
    }
    return OFFSET_UNKNOWN;
}

static int on_frame(struct driver_consumer *consumer, const amqp_frame_t *frame)
{
    struct slot *coming = &consumer->slots[consumer->slot_count];
    if (frame->frame_type == AMQP_FRAME_METHOD) {
        if (frame->payload.method.id == AMQP_BASIC_DELIVER_METHOD)
            consumer->tag =
                ((const amqp_basic_deliver_t *)frame->payload.method.decoded)->delivery_tag;
        return 0;
    }
    if (frame->frame_type == AMQP_FRAME_HEADER) {
        consumer->body_left = frame->payload.properties.body_size;
        if (consumer->body_left > UINT32_MAX)
            return driver_fail(consumer->session, "reading: a record of %llu bytes",
                               (unsigned long long)consumer->body_left);
        *coming = (struct slot){.at = consumer->used,
                                .length = (uint32_t)consumer->body_left,
                                .offset = offset_of(frame->payload.properties.decoded)};
        if (consumer->body_left == 0)
            complete(consumer);
        return make_room(consumer, consumer->body_left);
    }
    amqp_bytes_t part = frame->payload.body_fragment;
    if (frame->frame_type != AMQP_FRAME_BODY || part.len > consumer->body_left)
        return driver_fail(consumer->session, "reading: a frame that does not belong there");
    if (make_room(consumer, consumer->body_left)) // it may have moved since its header
        return DRIVER_FAILED;
    memcpy(consumer->bytes + consumer->used, part.bytes, part.len);
    consumer->used += part.len;
    consumer->body_left -= part.len;
    if (consumer->body_left == 0)
        complete(consumer);
    return 0;
}

/* Until `most` records are there, or nothing more has come. */
static int receive(struct driver_consumer *consumer, uint32_t most)
{
    amqp_frame_t frame;
    while (consumer->slot_count < most) {
        int got = rabbit_link_next(&consumer->link, &frame);
        if (got > 0)
            got = on_frame(consumer, &frame) ? DRIVER_FAILED : 1;
        rabbit_link_release(&consumer->link);
        if (got <= 0)
            return got;
    }
    return 0;
}
