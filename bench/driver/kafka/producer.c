/* Sends by rd_kafka_produce(), a call for each record as an application does; the library makes batches and requests of them.
 *
 * A producer of the engine is not one of the library: --clients of those are shared, each with a thread that takes acks and errors from the
 * library's queue. An ack finds its way by the record's opaque, which is the producer itself; a record that is timed carries a
 * `timed` instead, marked by the lowest bit.
 *
 * A full buffer is told (0 records taken), and the engine comes again. When all brokers are gone, or the library gives up,
 * everything in flight is purged, which brings an ack for each record, and the client has failed for good: the library would
 * try again for ever, but a measurement that has lost its server is none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/driver/kafka/kafka.h"
#include "bench/engine/place.h"

#define BUFFER_DEFAULT (32 * MIB) // the library's own is 1 GiB
#define IN_FLIGHT_DEFAULT 5       // requests of a connection
#define EVENT_MS 100
#define ANSWER_MS_TEXT "30000" // for a record, with all attempts
#define PURGE_MS 5000
#define RECORD_OVERHEAD 1024 // of a request with one record, generously

struct driver_producer {
    struct driver_session *session;
    struct kafka_client *client;
    driver_ack_fn ack;
    void *context;

    /* ---- who sends ---- */
    uint64_t sent;
    uint8_t pad[CACHE_LINE];

    /* ---- both ---- */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t acked; // under lock
};

struct timed {
    struct driver_producer *producer;
    uint64_t opaque;
};
#define TIMED_BIT ((uintptr_t)1)

static struct kafka_client *client_of(struct driver_session *session, uint32_t index);
static int client_start(struct kafka_client *client);
static void *client_main(void *context);
static void on_error(struct kafka_client *client, rd_kafka_event_t *event);
static void on_acks(rd_kafka_event_t *event);
static struct driver_producer *producer_of(const rd_kafka_message_t *message);
static struct driver_producer *tell(const rd_kafka_message_t *message);
static bool await_acks(struct driver_producer *producer, uint64_t timeout_ms);

/* ---- a client ---- */

/* Started when its first producer is. Thread: the main one. */
static struct kafka_client *client_of(struct driver_session *session, uint32_t index)
{
    struct kafka_session *self = session->self;
    struct kafka_client *client = &self->clients[index % self->client_count];
    if (client->has_thread)
        return client;
    client->session = session;
    if (client_start(client) == 0)
        return client;
    kafka_client_stop(client);
    return NULL;
}

static int client_start(struct kafka_client *client)
{
    struct driver_session *session = client->session;
    const struct bench_options *options = session->options;
    uint64_t buffer = options->buffer_bytes ? options->buffer_bytes : BUFFER_DEFAULT;
    uint32_t in_flight =
        options->batches_in_flight ? options->batches_in_flight : IN_FLIGHT_DEFAULT;
    char linger[24], batch[24], buffered[24], flight[24], largest[24];
    snprintf(linger, sizeof(linger), "%.3f", options->linger_us / 1000.0);
    snprintf(batch, sizeof(batch), "%llu", (unsigned long long)options->batch_bytes);
    snprintf(buffered, sizeof(buffered), "%llu", (unsigned long long)max_u64(1, buffer / KIB));
    snprintf(flight, sizeof(flight), "%u", in_flight);
    snprintf(largest, sizeof(largest), "%llu",
             (unsigned long long)max_u64(MIB, max_u64(options->batch_bytes, options->record_bytes) +
                                                  RECORD_OVERHEAD));
    const struct kafka_setting settings[] = {
        {"enable.idempotence", options->not_idempotent ? "false" : "true"},
        {"acks", "all"},
        {"linger.ms", linger},
        {"batch.size", batch},
        {"batch.num.messages", options->own_request ? "1" : "1000000"},
        {"message.max.bytes", largest},
        {"queue.buffering.max.kbytes", buffered},
        // Bytes are the limit; but requests of one record each would queue for minutes.
        {"queue.buffering.max.messages", options->own_request ? "1000" : "10000000"},
        {"max.in.flight.requests.per.connection", flight},
        {"compression.codec", options->compression_lz4 ? "lz4" : "none"},
        {"message.timeout.ms", ANSWER_MS_TEXT},
        {NULL, NULL},
    };
    client->handle = kafka_handle(session, RD_KAFKA_PRODUCER, settings, client, NULL);
    if (client->handle == NULL)
        return DRIVER_FAILED;
    client->events = rd_kafka_queue_get_main(client->handle);
    client->topic = rd_kafka_topic_new(client->handle, options->topic, NULL);
    if (client->topic == NULL)
        return kafka_fail(session, "starting a producer", rd_kafka_last_error());
    int error = pthread_create(&client->thread, NULL, client_main, client);
    if (error)
        return driver_fail(session, "pthread_create: %s", strerror(error));
    client->has_thread = true;
    return 0;
}

void kafka_client_stop(struct kafka_client *client)
{
    atomic_store(&client->is_stopping, true);
    if (client->has_thread)
        pthread_join(client->thread, NULL);
    client->has_thread = false;
    if (client->topic)
        rd_kafka_topic_destroy(client->topic);
    if (client->events)
        rd_kafka_queue_destroy(client->events);
    if (client->handle)
        rd_kafka_destroy(client->handle);
    client->topic = NULL;
    client->events = NULL;
    client->handle = NULL;
}

static void *client_main(void *context)
{
    struct kafka_client *client = context;
    while (!atomic_load_explicit(&client->is_stopping, memory_order_relaxed)) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(client->events, EVENT_MS);
        if (event == NULL)
            continue;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            on_acks(event);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            on_error(client, event);
        rd_kafka_event_destroy(event);
    }
    return NULL;
}

/* What the library mends by itself is only remembered. */
static void on_error(struct kafka_client *client, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    const char *words = rd_kafka_event_error_string(event);
    if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && !rd_kafka_event_error_is_fatal(event)) {
        snprintf(client->last_error, sizeof(client->last_error), "%s", words);
        return;
    }
    (void)driver_fail(client->session, "%s%s%s", words, client->last_error[0] ? ": " : "",
                      client->last_error);
    atomic_store(&client->has_failed, true);
    (void)rd_kafka_purge(client->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

/* Producers learn how many of theirs are done once for each stretch of their records: nobody waits for a single one of many. A
 * producer may be gone as soon as it has learnt of its last. */
static void on_acks(rd_kafka_event_t *event)
{
    const rd_kafka_message_t *message = rd_kafka_event_message_next(event);
    while (message) {
        struct driver_producer *producer = tell(message);
        uint64_t count = 1;
        while ((message = rd_kafka_event_message_next(event)) != NULL) {
            if (producer_of(message) != producer)
                break;
            (void)tell(message);
            count++;
        }
        pthread_mutex_lock(&producer->lock);
        producer->acked += count;
        pthread_cond_signal(&producer->changed);
        pthread_mutex_unlock(&producer->lock);
    }
}

static struct timed *timed_of(const rd_kafka_message_t *message)
{
    uintptr_t mark = (uintptr_t)message->_private;
    return mark & TIMED_BIT ? (struct timed *)(mark & ~TIMED_BIT) : NULL;
}

static struct driver_producer *producer_of(const rd_kafka_message_t *message)
{
    const struct timed *timed = timed_of(message);
    return timed ? timed->producer : message->_private;
}

static struct driver_producer *tell(const rd_kafka_message_t *message)
{
    struct timed *timed = timed_of(message);
    struct driver_producer *producer = producer_of(message);
    producer->ack(producer->context, message->err ? DRIVER_FAILED : 0, timed ? timed->opaque : 0,
                  (uint32_t)message->partition,
                  message->offset >= 0 ? (uint64_t)message->offset : OFFSET_UNKNOWN,
                  message->err ? rd_kafka_err2str(message->err) : NULL);
    free(timed);
    return producer;
}

/* ---- the driver's functions ---- */

int kafka_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                       void *context, struct driver_producer **producer)
{
    struct kafka_client *client = client_of(session, index);
    struct driver_producer *made = client ? calloc(1, sizeof(*made)) : NULL;
    if (made == NULL)
        return driver_fail(session, "out of memory"); // or what client_of() has noted
    *made = (struct driver_producer){
        .session = session, .client = client, .ack = ack, .context = context};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&made->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&made->lock, NULL);
    *producer = made;
    return 0;
}

static int send_one(struct driver_producer *producer, const struct driver_record *record)
{
    void *mark = producer;
    struct timed *timed = NULL;
    if (record->opaque) {
        timed = malloc(sizeof(*timed));
        if (timed == NULL)
            return driver_fail(producer->session, "out of memory");
        *timed = (struct timed){.producer = producer, .opaque = record->opaque};
        mark = (void *)((uintptr_t)timed | TIMED_BIT);
    }
    if (LIKELY(rd_kafka_produce(producer->client->topic, (int32_t)record->partition,
                                RD_KAFKA_MSG_F_COPY, (void *)record->value, record->value_len, NULL,
                                0, mark) == 0))
        return 1;
    rd_kafka_resp_err_t error = rd_kafka_last_error();
    free(timed);
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return 0;
    return kafka_fail(producer->session, "sending", error);
}

int kafka_producer_send(struct driver_producer *producer, const struct driver_record *records,
                        uint32_t count)
{
    uint32_t taken = 0;
    int status = 1;
    if (UNLIKELY(atomic_load_explicit(&producer->client->has_failed, memory_order_relaxed)))
        return DRIVER_FAILED;
    while (taken < count && (status = send_one(producer, &records[taken])) > 0)
        taken++;
    producer->sent += taken;
    return taken == 0 && status < 0 ? status : (int)taken;
}

/* What was sent while the client failed may have come behind the purge, so it is purged again. */
int kafka_producer_flush(struct driver_producer *producer, uint32_t timeout_ms)
{
    struct kafka_client *client = producer->client;
    uint64_t end_ns = now_ns() + timeout_ms * NS_PER_MS;
    while (!await_acks(producer, EVENT_MS)) {
        if (atomic_load(&client->has_failed))
            (void)rd_kafka_purge(client->handle,
                                 RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        if (now_ns() >= end_ns)
            return driver_fail(producer->session, "records got no answer within %u ms", timeout_ms);
    }
    return atomic_load(&client->has_failed) ? DRIVER_FAILED : 0;
}

/* Whether all acks have come, within timeout_ms. */
static bool await_acks(struct driver_producer *producer, uint64_t timeout_ms)
{
    uint64_t end_ns = now_ns() + timeout_ms * NS_PER_MS;
    struct timespec until = {.tv_sec = (time_t)(end_ns / NS_PER_S),
                             .tv_nsec = (long)(end_ns % NS_PER_S)};
    int error = 0;
    pthread_mutex_lock(&producer->lock);
    while (producer->acked < producer->sent && error == 0)
        error = pthread_cond_timedwait(&producer->changed, &producer->lock, &until);
    bool has_all = producer->acked == producer->sent;
    pthread_mutex_unlock(&producer->lock);
    return has_all;
}

/* Acks would find no producer any more: all that are not there are made to come. */
void kafka_producer_free(struct driver_producer *producer)
{
    if (!await_acks(producer, 0)) {
        (void)rd_kafka_purge(producer->client->handle,
                             RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        ASSERT(await_acks(producer, PURGE_MS));
    }
    pthread_cond_destroy(&producer->changed);
    pthread_mutex_destroy(&producer->lock);
    free(producer);
}
