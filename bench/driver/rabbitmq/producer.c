/* Publishing with confirms.
 *
 * The library sends a record as three frames with three calls of the kernel. Here the frames before a body, which are the same for each
 * record but for its size, are encoded once by the library; records are put behind one another into a buffer, and a call sends
 * as many as there are. The server numbers what it receives from 1 and confirms by number, one or all up to one; a ring has
 * what belongs to each.
 *
 *   | method frame: basic.publish | header frame: body size, delivery mode | body frame(s) |
 *   | 1 type | 2 channel | 4 size | payload | 1 end |       of each frame
 *
 * Every record is mandatory: one that no queue takes comes back, instead of being confirmed though it is nowhere. */
#include <stdlib.h>
#include <string.h>

#include "bench/driver/rabbitmq/rabbit.h"
#include "bench/engine/place.h"

#define BYTES_IN_FLIGHT_DEFAULT (4 * MIB)
#define RECORDS_IN_FLIGHT_MAX 65536u
#define OUT_BYTES (256 * KIB) // handed to the kernel together; or one record, if that is larger
#define HEAD_BYTES_MAX 1024   // frames before the body; names have up to 255 bytes
#define FRAME_OVERHEAD 8
#define FLUSH_LOOK_NS (100 * NS_PER_MS)

struct pending {
    uint64_t opaque;
    uint32_t partition;
    bool is_told;
};

struct driver_producer {
    struct driver_session *session;
    driver_ack_fn ack;
    void *context;
    struct rabbit_link link;
    bool is_dead; // everything has been told

    uint8_t head[HEAD_BYTES_MAX];
    size_t head_length, size_at; // of the 8 bytes for the body's size
    size_t body_max;             // of a frame

    uint8_t *out; // [out_size], what is not yet written is [out_begin, out_end)
    size_t out_size, out_begin, out_end;

    uint64_t first, next; // delivery tags: the oldest without a confirm, the next record's
    uint32_t limit, mask;
    struct pending pending[]; // [tag & mask]
};

static int make_head(struct driver_producer *producer);
static bool put_record(struct driver_producer *producer, const struct driver_record *record);
static int write_out(struct driver_producer *producer);
static int receive(struct driver_producer *producer);
static int die(struct driver_producer *producer);

uint32_t rabbit_records_in_flight(const struct bench_options *options)
{
    uint64_t bytes = options->buffer_bytes ? options->buffer_bytes : BYTES_IN_FLIGHT_DEFAULT;
    return (uint32_t)max_u64(1, min_u64(bytes / options->record_bytes, RECORDS_IN_FLIGHT_MAX));
}

int rabbit_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                        void *context, struct driver_producer **producer)
{
    uint32_t limit = rabbit_records_in_flight(session->options), slots = 1;
    (void)index;
    while (slots < limit)
        slots *= 2;
    struct driver_producer *made =
        calloc(1, sizeof(*made) + (size_t)slots * sizeof(struct pending));
    if (made == NULL)
        return driver_fail(session, "starting a producer: out of memory");
    *producer = made;
    made->session = session;
    made->ack = ack;
    made->context = context;
    made->first = made->next = 1;
    made->limit = limit;
    made->mask = slots - 1;
    if (rabbit_link_open(&made->link, session))
        return DRIVER_FAILED;
    made->body_max = (size_t)amqp_get_frame_max(made->link.connection) - FRAME_OVERHEAD;
    uint64_t body_frames = session->options->record_bytes / made->body_max + 1;
    made->out_size = max_u64(OUT_BYTES, HEAD_BYTES_MAX + session->options->record_bytes +
                                            body_frames * FRAME_OVERHEAD);
    made->out = malloc(made->out_size);
    if (made->out == NULL)
        return driver_fail(session, "starting a producer: out of memory");
    amqp_confirm_select(made->link.connection, RABBIT_CHANNEL);
    return rabbit_link_answer(&made->link, "asking for confirms") ? DRIVER_FAILED : make_head(made);
}

int rabbit_producer_send(struct driver_producer *producer, const struct driver_record *records,
                         uint32_t count)
{
    uint32_t taken = 0;
    if (producer->is_dead)
        return DRIVER_FAILED;
    while (taken < count && put_record(producer, &records[taken]))
        taken++;
    if (write_out(producer) || receive(producer)) {
        (void)die(producer);
        return taken > 0 ? (int)taken : DRIVER_FAILED;
    }
    return (int)taken;
}

int rabbit_producer_poll(struct driver_producer *producer, uint32_t timeout_us)
{
    uint64_t first = producer->first;
    if (producer->is_dead)
        return DRIVER_FAILED;
    if (write_out(producer) || receive(producer))
        return die(producer);
    if (producer->first != first)
        return 0;
    rabbit_link_wait(&producer->link, producer->out_begin < producer->out_end,
                     timeout_us * NS_PER_US);
    return write_out(producer) || receive(producer) ? die(producer) : 0;
}

int rabbit_producer_flush(struct driver_producer *producer, uint32_t timeout_ms)
{
    uint64_t end_ns = now_ns() + timeout_ms * NS_PER_MS;
    while (producer->first < producer->next) {
        if (now_ns() >= end_ns) {
            (void)driver_fail(producer->session, "%llu records were not confirmed within %u ms",
                              (unsigned long long)(producer->next - producer->first), timeout_ms);
            return die(producer);
        }
        if (rabbit_producer_poll(producer, FLUSH_LOOK_NS / NS_PER_US))
            return DRIVER_FAILED;
    }
    return producer->is_dead ? DRIVER_FAILED : 0;
}

void rabbit_producer_free(struct driver_producer *producer)
{
    rabbit_link_close(&producer->link);
    free(producer->out);
    free(producer);
}

/* ---- frames ---- */

static size_t put_frame_begin(uint8_t *at, uint8_t type, size_t length)
{
    uint8_t begin[7] = {type,
                        0,
                        RABBIT_CHANNEL,
                        (uint8_t)(length >> 24),
                        (uint8_t)(length >> 16),
                        (uint8_t)(length >> 8),
                        (uint8_t)length};
    memcpy(at, begin, sizeof(begin));
    return sizeof(begin);
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (56 - 8 * i));
}

/* The payloads are the library's encoding: a method is its number and its fields; a header is class, weight, size, properties. */
static int make_head(struct driver_producer *producer)
{
    const char *topic = producer->session->options->topic;
    bool is_stream = rabbit_is_stream(producer->session);
    amqp_basic_publish_t publish = {
        .exchange = is_stream ? amqp_empty_bytes : amqp_cstring_bytes(topic),
        .routing_key = amqp_cstring_bytes(topic),
        .mandatory = true,
    };
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = AMQP_DELIVERY_PERSISTENT};
    uint8_t encoded[HEAD_BYTES_MAX / 2], *at = producer->head;
    amqp_bytes_t room = {.bytes = encoded, .len = sizeof(encoded)};
    static const uint8_t method[] = {
        AMQP_BASIC_PUBLISH_METHOD >> 24, AMQP_BASIC_PUBLISH_METHOD >> 16 & 0xff,
        AMQP_BASIC_PUBLISH_METHOD >> 8 & 0xff, AMQP_BASIC_PUBLISH_METHOD & 0xff};
    static const uint8_t class_and_weight[] = {0, AMQP_BASIC_CLASS, 0, 0};

    int length = amqp_encode_method(AMQP_BASIC_PUBLISH_METHOD, &publish, room);
    if (length < 0)
        return rabbit_link_status(&producer->link, "encoding basic.publish", length);
    at += put_frame_begin(at, AMQP_FRAME_METHOD, sizeof(method) + (size_t)length);
    at = (uint8_t *)mempcpy(at, method, sizeof(method));
    at = (uint8_t *)mempcpy(at, encoded, (size_t)length);
    *at++ = AMQP_FRAME_END;

    length = amqp_encode_properties(AMQP_BASIC_CLASS, &properties, room);
    if (length < 0)
        return rabbit_link_status(&producer->link, "encoding properties", length);
    at += put_frame_begin(at, AMQP_FRAME_HEADER, sizeof(class_and_weight) + 8 + (size_t)length);
    at = (uint8_t *)mempcpy(at, class_and_weight, sizeof(class_and_weight));
    producer->size_at = (size_t)(at - producer->head);
    at = (uint8_t *)mempcpy(at + 8, encoded, (size_t)length);
    *at++ = AMQP_FRAME_END;
    producer->head_length = (size_t)(at - producer->head);
    return 0;
}

/* False: too much is unconfirmed, or the buffer has no room for it. */
static bool put_record(struct driver_producer *producer, const struct driver_record *record)
{
    size_t frames = (record->value_len + producer->body_max - 1) / producer->body_max;
    size_t whole = producer->head_length + record->value_len + frames * FRAME_OVERHEAD;
    if (producer->next - producer->first >= producer->limit)
        return false;
    if (producer->out_begin == producer->out_end)
        producer->out_begin = producer->out_end = 0;
    if (producer->out_end + whole > producer->out_size)
        return false;
    uint8_t *at = producer->out + producer->out_end;
    const uint8_t *value = record->value;
    memcpy(at, producer->head, producer->head_length);
    put_u64(at + producer->size_at, record->value_len);
    at += producer->head_length;
    for (size_t left = record->value_len; left > 0;) {
        size_t part = min_u64(left, producer->body_max);
        at += put_frame_begin(at, AMQP_FRAME_BODY, part);
        at = (uint8_t *)mempcpy(at, value, part);
        *at++ = AMQP_FRAME_END;
        value += part;
        left -= part;
    }
    producer->out_end += whole;
    ASSERT(at == producer->out + producer->out_end);
    producer->pending[producer->next++ & producer->mask] =
        (struct pending){.opaque = record->opaque, .partition = record->partition};
    return true;
}

static int write_out(struct driver_producer *producer)
{
    if (producer->out_begin == producer->out_end)
        return 0;
    ssize_t sent = rabbit_link_write(&producer->link, producer->out + producer->out_begin,
                                     producer->out_end - producer->out_begin);
    if (sent < 0)
        return DRIVER_FAILED;
    producer->out_begin += (size_t)sent;
    return 0;
}

/* ---- confirms ---- */

static void tell(struct driver_producer *producer, uint64_t tag, const char *error)
{
    struct pending *pending = &producer->pending[tag & producer->mask];
    if (!pending->is_told)
        producer->ack(producer->context, error ? DRIVER_FAILED : 0, pending->opaque,
                      pending->partition, OFFSET_UNKNOWN, error);
    pending->is_told = true;
}

static int confirm(struct driver_producer *producer, uint64_t tag, bool multiple, const char *error)
{
    if (multiple && tag == 0)
        tag = producer->next - 1;
    if (tag >= producer->next || tag < producer->first)
        return driver_fail(producer->session, "the server confirms %llu, open are %llu to %llu",
                           (unsigned long long)tag, (unsigned long long)producer->first,
                           (unsigned long long)producer->next - 1);
    for (uint64_t i = multiple ? producer->first : tag; i <= tag; i++)
        tell(producer, i, error);
    while (producer->first < producer->next &&
           producer->pending[producer->first & producer->mask].is_told)
        producer->first++;
    return 0;
}

static int on_method(struct driver_producer *producer, amqp_method_t method)
{
    if (method.id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = method.decoded;
        return confirm(producer, ack->delivery_tag, ack->multiple, NULL);
    }
    if (method.id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *nack = method.decoded;
        return confirm(producer, nack->delivery_tag, nack->multiple, "refused (basic.nack)");
    }
    if (method.id == AMQP_BASIC_RETURN_METHOD) {
        const amqp_basic_return_t *back = method.decoded;
        return driver_fail(producer->session, "a record came back, %d: %.*s", back->reply_code,
                           (int)back->reply_text.len, (const char *)back->reply_text.bytes);
    }
    return 0;
}

/* All that has come. */
static int receive(struct driver_producer *producer)
{
    amqp_frame_t frame;
    int got;
    if (producer->first == producer->next)
        return 0;
    while ((got = rabbit_link_next(&producer->link, &frame)) > 0) {
        if (frame.frame_type == AMQP_FRAME_METHOD && on_method(producer, frame.payload.method))
            got = DRIVER_FAILED;
        rabbit_link_release(&producer->link);
        if (got < 0)
            break;
    }
    return got;
}

static int die(struct driver_producer *producer)
{
    for (; producer->first < producer->next; producer->first++)
        tell(producer, producer->first, producer->session->error);
    producer->link.is_broken = producer->is_dead = true;
    return DRIVER_FAILED;
}
