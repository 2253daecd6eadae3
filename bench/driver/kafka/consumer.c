/* Reads all partitions through one queue of the library, which fetches ahead by threads of its own. No group: offsets
 * are asked for at the start, and everybody gets everything.
 *
 * Messages belong to the library's buffers and are given back with the next poll. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/kafka/kafka.h"

#define POLL_MAX 1024
#define RECORD_OVERHEAD 1024

struct driver_consumer {
    struct driver_session *session;
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    uint32_t started_count; // partitions, from 0 on
    bool has_failed;
    char last_error[KAFKA_ERROR_MAX]; // of a connection
    uint32_t held_count;
    rd_kafka_message_t *held[POLL_MAX];
};

static int start_handle(struct driver_consumer *consumer);
static int start_partitions(struct driver_consumer *consumer, enum driver_start start);
static void give_back(struct driver_consumer *consumer);
static void on_error(rd_kafka_t *handle, int error, const char *reason, void *opaque);

int kafka_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                       struct driver_consumer **consumer)
{
    (void)index;
    struct driver_consumer *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return driver_fail(session, "out of memory");
    made->session = session;
    if (start_handle(made) || start_partitions(made, start)) {
        kafka_consumer_free(made);
        return DRIVER_FAILED;
    }
    *consumer = made;
    return 0;
}

static int start_handle(struct driver_consumer *consumer)
{
    const struct bench_options *options = consumer->session->options;
    char largest[24];
    snprintf(largest, sizeof(largest), "%llu",
             (unsigned long long)max_u64(MIB, max_u64(options->batch_bytes, options->record_bytes) +
                                                  RECORD_OVERHEAD));
    const struct kafka_setting settings[] = {
        {"fetch.message.max.bytes", largest}, // of a partition in one answer
        {"fetch.error.backoff.ms", "10"},
        {"auto.offset.reset", "error"}, // what is not there any more must not be passed over
        {NULL, NULL},
    };
    consumer->handle =
        kafka_handle(consumer->session, RD_KAFKA_CONSUMER, settings, consumer, on_error);
    if (consumer->handle == NULL)
        return DRIVER_FAILED;
    consumer->queue = rd_kafka_queue_new(consumer->handle);
    consumer->topic = rd_kafka_topic_new(consumer->handle, options->topic, NULL);
    if (consumer->topic == NULL)
        return kafka_fail(consumer->session, "starting a consumer", rd_kafka_last_error());
    return 0;
}

/* The library would look for the end when it fetches for the first time: what came until then would be lost. */
static int start_partitions(struct driver_consumer *consumer, enum driver_start start)
{
    struct driver_session *session = consumer->session;
    int64_t which = start == DRIVER_FROM_END ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING;
    int64_t *offsets = calloc(session->partition_count, sizeof(*offsets));
    if (offsets == NULL)
        return driver_fail(session, "out of memory");
    int status = kafka_offsets(session, consumer->handle, which, offsets);
    while (status == 0 && consumer->started_count < session->partition_count) {
        uint32_t partition = consumer->started_count;
        if (rd_kafka_consume_start_queue(consumer->topic, (int32_t)partition, offsets[partition],
                                         consumer->queue))
            status = kafka_fail(session, "reading a partition", rd_kafka_last_error());
        else
            consumer->started_count++;
    }
    free(offsets);
    return status;
}

/* The batch call waits until it has as many as it may return: so one is waited for, and others are taken that are there, too. */
int kafka_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                        uint32_t count, uint32_t timeout_ms)
{
    give_back(consumer);
    if (consumer->has_failed)
        return DRIVER_FAILED;
    rd_kafka_message_t *first = rd_kafka_consume_queue(consumer->queue, (int)timeout_ms);
    if (first == NULL) {
        (void)rd_kafka_poll(consumer->handle, 0); // on_error()
        return consumer->has_failed ? DRIVER_FAILED : 0;
    }
    consumer->held[consumer->held_count++] = first;
    ssize_t more = rd_kafka_consume_batch_queue(consumer->queue, 0, consumer->held + 1,
                                                (size_t)min_u64(count, POLL_MAX) - 1);
    if (more > 0)
        consumer->held_count += (uint32_t)more;
    for (uint32_t i = 0; i < consumer->held_count; i++) {
        const rd_kafka_message_t *message = consumer->held[i];
        if (message->err) {
            consumer->has_failed = true;
            return driver_fail(consumer->session, "reading partition %d: %s", message->partition,
                               rd_kafka_message_errstr(message));
        }
        messages[i] = (struct driver_message){.value = message->payload,
                                              .value_len = (uint32_t)message->len,
                                              .partition = (uint32_t)message->partition,
                                              .offset = (uint64_t)message->offset};
    }
    return (int)consumer->held_count;
}

void kafka_consumer_free(struct driver_consumer *consumer)
{
    give_back(consumer);
    for (uint32_t i = 0; i < consumer->started_count; i++)
        (void)rd_kafka_consume_stop(consumer->topic, (int32_t)i);
    if (consumer->queue)
        rd_kafka_queue_destroy(consumer->queue);
    if (consumer->topic)
        rd_kafka_topic_destroy(consumer->topic);
    if (consumer->handle)
        rd_kafka_destroy(consumer->handle);
    free(consumer);
}

static void give_back(struct driver_consumer *consumer)
{
    for (uint32_t i = 0; i < consumer->held_count; i++)
        rd_kafka_message_destroy(consumer->held[i]);
    consumer->held_count = 0;
}

/* Thread: the one that polls. What the library mends by itself is only remembered. */
static void on_error(rd_kafka_t *handle, int error, const char *reason, void *opaque)
{
    struct driver_consumer *consumer = opaque;
    (void)handle;
    if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        snprintf(consumer->last_error, sizeof(consumer->last_error), "%s", reason);
        return;
    }
    consumer->has_failed = true;
    (void)driver_fail(consumer->session, "%s%s%s", reason, consumer->last_error[0] ? ": " : "",
                      consumer->last_error);
}
