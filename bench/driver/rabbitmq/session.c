/* The drivers of RabbitMQ, by librabbitmq over AMQP 0-9-1: a quorum queue, and a stream.
 *
 * Each producer and consumer has a connection; --clients does not matter. Acks are publisher confirms. What a confirm is worth is fixed by
 * the type of the queue and the server's configuration, of which AMQP tells nothing: only the type itself is certain,
 * because the server refuses a queue.declare that differs from what is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/drivers.h"
#include "bench/driver/rabbitmq/rabbit.h"

struct rabbit {
    struct rabbit_link link; // for what is asked and made
};

static int make_topic(struct driver_session *session);
static void describe(struct driver_session *session);

bool rabbit_is_stream(const struct driver_session *session)
{
    return session->driver == &driver_rabbitmq_stream;
}

/* ---- session ---- */

static int session_open(struct driver_session *session)
{
    const struct bench_options *options = session->options;
    if (options->partition_count > 1)
        return driver_fail(session, "--partitions %u: a %s has no partitions",
                           options->partition_count,
                           rabbit_is_stream(session) ? "stream" : "queue");
    if (strlen(options->topic) > 200)
        return driver_fail(session, "--topic: names of queues have up to 200 bytes here");
    struct rabbit *self = calloc(1, sizeof(*self));
    if (self == NULL)
        return driver_fail(session, "preparing: out of memory");
    session->self = self;
    session->partition_count = 1;
    if (rabbit_link_open(&self->link, session) || make_topic(session))
        return DRIVER_FAILED;
    describe(session);
    return 0;
}

static void session_close(struct driver_session *session)
{
    struct rabbit *self = session->self;
    rabbit_link_close(&self->link);
    free(self);
}

/* ---- queues ---- */

int rabbit_queue_make(struct rabbit_link *link, const char *name)
{
    bool is_stream = rabbit_is_stream(link->session);
    amqp_table_entry_t entry = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8,
                  .value.bytes = amqp_cstring_bytes(is_stream ? "stream" : "quorum")}};
    amqp_table_t arguments = {.num_entries = 1, .entries = &entry};
    amqp_queue_declare(link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(name), false, true,
                       false, false, arguments);
    if (rabbit_link_answer(link, "making the queue"))
        return DRIVER_FAILED;
    if (is_stream)
        return 0;
    amqp_queue_bind(link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(name),
                    amqp_cstring_bytes(link->session->options->topic), amqp_empty_bytes,
                    amqp_empty_table);
    return rabbit_link_answer(link, "binding the queue");
}

/* A stream is published to through the default exchange; a queue through one that fills those of more readers, too. */
static int make_topic(struct driver_session *session)
{
    struct rabbit_link *link = &((struct rabbit *)session->self)->link;
    const char *topic = session->options->topic;
    if (!rabbit_is_stream(session)) {
        amqp_exchange_declare(link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(topic),
                              amqp_cstring_bytes("fanout"), false, true, false, false,
                              amqp_empty_table);
        if (rabbit_link_answer(link, "making the exchange"))
            return DRIVER_FAILED;
    }
    return rabbit_queue_make(link, topic);
}

/* What was acked by a reader is gone, so this is not what the queue ever held. */
static int queue_available(struct driver_session *session, uint64_t *records)
{
    struct rabbit_link *link = &((struct rabbit *)session->self)->link;
    const amqp_queue_declare_ok_t *answer = amqp_queue_declare(
        link->connection, RABBIT_CHANNEL, amqp_cstring_bytes(session->options->topic), true, true,
        false, false, amqp_empty_table);
    if (rabbit_link_answer(link, "asking for the queue"))
        return DRIVER_FAILED;
    *records = answer ? answer->message_count : 0;
    rabbit_link_release(link);
    return 0;
}

/* Each file of a stream (500 MB) takes an offset for itself, and how many files there were is not told: with records of up to 4 MiB there
 * is no more than one for each hundred records. So a hundredth is left out, rather than waited for in vain. */
static int stream_available(struct driver_session *session, uint64_t *records)
{
    uint64_t begin, end;
    int status = rabbit_stream_bounds(session, &begin, &end);
    *records = end - begin - (end - begin) / 100;
    return status;
}

/* ---- what the server says ---- */

/* Of a table that the server sends when it greets: product, version, cluster_name. */
static void add_property(struct driver_session *session, const char *name)
{
    struct rabbit_link *link = &((struct rabbit *)session->self)->link;
    const amqp_table_t *properties = amqp_get_server_properties(link->connection);
    for (int i = 0; i < properties->num_entries; i++) {
        const amqp_table_entry_t *entry = &properties->entries[i];
        amqp_bytes_t value = entry->value.value.bytes;
        if (entry->value.kind == AMQP_FIELD_KIND_UTF8 && entry->key.len == strlen(name) &&
            memcmp(entry->key.bytes, name, entry->key.len) == 0)
            driver_fact(session, true, name, "%.*s", (int)value.len, (const char *)value.bytes);
    }
}

static void describe(struct driver_session *session)
{
    struct rabbit_link *link = &((struct rabbit *)session->self)->link;
    bool is_stream = rabbit_is_stream(session);
    add_property(session, "product");
    add_property(session, "version");
    add_property(session, "cluster_name");
    driver_fact(session, true, "x-queue-type", "%s", is_stream ? "stream" : "quorum");
    driver_fact(session, true, "durable", "true");
    driver_fact(session, true, "frame_max", "%d", amqp_get_frame_max(link->connection));
    driver_fact(session, false, "members_and_flushing", "not told over AMQP");
    driver_fact(session, false, "delivery_mode", "2 (persistent)");
    driver_fact(session, false, "records_in_flight", "%u",
                rabbit_records_in_flight(session->options));
    driver_fact(session, false, "prefetch", "%d", RABBIT_PREFETCH);
    driver_fact(session, false, "connections", "one for each producer and consumer");
    session->ack_means =
        is_stream ? "written to the page cache by a majority of the members; no fsync"
                  : "written and fdatasynced by a majority of the members (the server's default)";
}

const struct bench_driver driver_rabbitmq = {
    .name = "rabbitmq",
    .library = "librabbitmq " AMQP_VERSION_STRING,
    .open = session_open,
    .close = session_close,
    .available = queue_available,
    .producer_new = rabbit_producer_new,
    .producer_send = rabbit_producer_send,
    .producer_poll = rabbit_producer_poll,
    .producer_flush = rabbit_producer_flush,
    .producer_free = rabbit_producer_free,
    .consumer_new = rabbit_consumer_new,
    .consumer_poll = rabbit_consumer_poll,
    .consumer_free = rabbit_consumer_free,
};

const struct bench_driver driver_rabbitmq_stream = {
    .name = "rabbitmq_stream",
    .library = "librabbitmq " AMQP_VERSION_STRING,
    .open = session_open,
    .close = session_close,
    .available = stream_available,
    .producer_new = rabbit_producer_new,
    .producer_send = rabbit_producer_send,
    .producer_poll = rabbit_producer_poll,
    .producer_flush = rabbit_producer_flush,
    .producer_free = rabbit_producer_free,
    .consumer_new = rabbit_consumer_new,
    .consumer_poll = rabbit_consumer_poll,
    .consumer_free = rabbit_consumer_free,
};
