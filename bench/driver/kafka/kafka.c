/* The driver of any server that speaks Kafka's protocol, by librdkafka.
 *
 * An ack (acks=all) says that all in-sync replicas have the record. What that is worth follows from the topic's settings, which are
 * asked for: a Kafka broker flushes before it answers only with flush.messages=1. --server mock starts a cluster of
 * librdkafka in this process, to try the driver with; the facts say so. */
#include <stdlib.h>

#include "bench/driver/drivers.h"
#include "bench/driver/kafka/kafka.h"

static int session_open(struct driver_session *session)
{
    const struct bench_options *options = session->options;
    uint32_t count = options->client_count;
    struct kafka_session *self = calloc(1, sizeof(*self) + count * sizeof(self->clients[0]));
    if (self == NULL)
        return driver_fail(session, "out of memory");
    self->client_count = count;
    session->self = self;
    driver_fact(session, false, "librdkafka", "%s", rd_kafka_version_str());
    driver_fact(session, false, "acks", "all");
    driver_fact(session, false, "idempotent", "%s", options->not_idempotent ? "no" : "yes");
    if (kafka_mock_start(session) || kafka_asker_start(session))
        return DRIVER_FAILED;
    return kafka_topic_make(session);
}

static void session_close(struct driver_session *session)
{
    struct kafka_session *self = session->self;
    for (uint32_t i = 0; i < self->client_count; i++)
        kafka_client_stop(&self->clients[i]);
    kafka_asker_stop(self);
    kafka_mock_stop(self);
    free(self);
}

static int topic_count(struct driver_session *session, uint64_t *records)
{
    uint64_t begins;
    return kafka_topic_offsets(session, &begins, records);
}

static int topic_available(struct driver_session *session, uint64_t *records)
{
    uint64_t begins, ends;
    if (kafka_topic_offsets(session, &begins, &ends))
        return DRIVER_FAILED;
    *records = ends - begins;
    return 0;
}

const struct bench_driver driver_kafka = {
    .name = "kafka",
    .library = "librdkafka",
    .open = session_open,
    .close = session_close,
    .fetch_facts = kafka_topic_facts,
    .count = topic_count,
    .available = topic_available,
    .producer_new = kafka_producer_new,
    .producer_send = kafka_producer_send,
    .producer_flush = kafka_producer_flush,
    .producer_free = kafka_producer_free,
    .consumer_new = kafka_consumer_new,
    .consumer_poll = kafka_consumer_poll,
    .consumer_free = kafka_consumer_free,
};
