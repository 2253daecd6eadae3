/* Publishing into a stream.
 *
 * The happy path of a record: send() copies it into a message of the library and notes it at the tail of a ring; the library writes it;
 * the server's answer comes on a thread that the library has for each producer, which finds it in the ring, mostly at its
 * head, and tells. The ring is there because an answer brings back the message and nothing that is ours.
 *
 * send() waits while as much is unanswered as may be, and goes on when a quarter of that is answered: waking it for each answer
 * would cost more than the record. When the connection is lost, what is in the ring has failed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "bench/driver/nats/jetstream.h"
#include "bench/engine/place.h"

#define BYTES_IN_FLIGHT_DEFAULT                                                                    \
    (4 * MIB) // 4,096 records of 1 KiB: about the default of the server's own client library
#define RECORDS_IN_FLIGHT_MAX 65536u
#define ROOM_WAIT_MS 100 // then the caller looks whether it is over

struct pending {
    natsMsg *message; // NULL: has been told
    uint64_t opaque;
    uint32_t partition;
};

struct driver_producer {
    /* ---- constant ---- */
    struct driver_session *session;
    driver_ack_fn ack;
    void *context;
    jsCtx *jetstream;
    natsConnection *connection;
    uint32_t limit; // records without an answer
    uint32_t mask;  // of the ring
    struct driver_producer *next_parked;

    /* ---- under lock ---- */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t wanted; // somebody waits until no more than this is unanswered
    bool has_waiter;
    bool is_dead;        // told as failed: answers that come are ignored
    uint64_t head, tail; // of the ring, which is pending[i & mask]
    struct pending pending[];
};

static void on_answer(jsCtx *context, natsMsg *message, jsPubAck *ack, jsPubAckErr *error,
                      void *closure);
static bool wait_until_below(struct driver_producer *producer, uint32_t wanted,
                             uint32_t timeout_ms);
static natsStatus send_one(struct driver_producer *producer, const struct driver_record *record);
static int die(struct driver_producer *producer, const char *what, natsStatus status);

uint32_t jetstream_records_in_flight(const struct bench_options *options)
{
    uint64_t bytes = options->buffer_bytes ? options->buffer_bytes : BYTES_IN_FLIGHT_DEFAULT;
    return (uint32_t)max_u64(1, min_u64(bytes / options->record_bytes, RECORDS_IN_FLIGHT_MAX));
}

int jetstream_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                           void *context, struct driver_producer **producer)
{
    struct jetstream *self = session->self;
    uint32_t limit = jetstream_records_in_flight(session->options), slots = 1;
    while (slots < limit)
        slots *= 2;
    struct driver_producer *made =
        calloc(1, sizeof(*made) + (size_t)slots * sizeof(struct pending));
    if (made == NULL)
        return jetstream_fail(session, "starting a producer", NATS_NO_MEMORY);
    made->session = session;
    made->ack = ack;
    made->context = context;
    made->connection = self->connections[index % self->connection_count];
    made->limit = limit;
    made->mask = slots - 1;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->changed, NULL);
    jsOptions options;
    jsOptions_Init(&options);
    options.Wait = JETSTREAM_WAIT_MS;
    options.PublishAsync.AckHandler = on_answer;
    options.PublishAsync.AckHandlerClosure = made;
    *producer = made;
    return jetstream_context(self, made->connection, &options, &made->jetstream);
}

int jetstream_producer_send(struct driver_producer *producer, const struct driver_record *records,
                            uint32_t count)
{
    if (!wait_until_below(producer, producer->limit - 1, ROOM_WAIT_MS))
        return producer->is_dead || natsConnection_IsClosed(producer->connection)
                   ? die(producer, "sending", NATS_CONNECTION_CLOSED)
                   : 0;
    uint32_t taken = 0;
    pthread_mutex_lock(&producer->lock);
    uint32_t room = producer->limit - (uint32_t)(producer->tail - producer->head);
    pthread_mutex_unlock(&producer->lock);
    for (; taken < count && taken < room; taken++) {
        natsStatus status = send_one(producer, &records[taken]);
        if (status != NATS_OK) {
            (void)die(producer, "sending", status);
            break;
        }
    }
    return taken > 0 ? (int)taken : DRIVER_FAILED;
}

int jetstream_producer_flush(struct driver_producer *producer, uint32_t timeout_ms)
{
    uint64_t end_ns = now_ns() + timeout_ms * NS_PER_MS;
    while (!wait_until_below(producer, 0, ROOM_WAIT_MS)) {
        if (natsConnection_IsClosed(producer->connection))
            return die(producer, "waiting for acks", NATS_CONNECTION_CLOSED);
        if (now_ns() >= end_ns)
            return die(producer, "waiting for acks", NATS_TIMEOUT);
    }
    return producer->is_dead ? DRIVER_FAILED : 0;
}

void jetstream_producer_free(struct driver_producer *producer)
{
    struct jetstream *self = producer->session->self;
    pthread_mutex_lock(&producer->lock);
    producer->is_dead = true;
    pthread_mutex_unlock(&producer->lock);
    jsCtx_Destroy(producer->jetstream);
    producer->next_parked = self->parked;
    self->parked = producer;
}

void jetstream_producers_release(struct jetstream *self)
{
    while (self->parked) {
        struct driver_producer *producer = self->parked;
        self->parked = producer->next_parked;
        pthread_mutex_destroy(&producer->lock);
        pthread_cond_destroy(&producer->changed);
        free(producer);
    }
}

/* ---- sending ---- */

/* Noted before it is published: the answer may be faster than the return. */
static natsStatus send_one(struct driver_producer *producer, const struct driver_record *record)
{
    natsMsg *message;
    natsStatus status = natsMsg_Create(&message, producer->session->options->topic, NULL,
                                       record->value, (int)record->value_len);
    if (status != NATS_OK)
        return status;
    pthread_mutex_lock(&producer->lock);
    producer->pending[producer->tail++ & producer->mask] =
        (struct pending){message, record->opaque, record->partition};
    pthread_mutex_unlock(&producer->lock);
    status = js_PublishMsgAsync(producer->jetstream, &message, NULL);
    if (status != NATS_OK) { // then nobody will tell: it was not taken
        pthread_mutex_lock(&producer->lock);
        producer->tail--;
        pthread_mutex_unlock(&producer->lock);
        natsMsg_Destroy(message);
    }
    return status;
}

static bool wait_until_below(struct driver_producer *producer, uint32_t wanted, uint32_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + timeout_ms * NS_PER_MS;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    int error = 0;
    pthread_mutex_lock(&producer->lock);
    if (producer->tail - producer->head > wanted) {
        producer->wanted = (uint32_t)min_u64(wanted, producer->limit - producer->limit / 4);
        producer->has_waiter = true;
        while (producer->has_waiter && error == 0)
            error = pthread_cond_timedwait(&producer->changed, &producer->lock, &until);
        producer->has_waiter = false;
    }
    bool is_below = producer->tail - producer->head <= wanted;
    pthread_mutex_unlock(&producer->lock);
    return is_below;
}

/* ---- answers ---- */

/* Under lock. Answers come in the order of the records, but for refusals of the server's front. */
static struct pending *find(struct driver_producer *producer, const natsMsg *message)
{
    for (uint64_t i = producer->head; i < producer->tail; i++) {
        struct pending *pending = &producer->pending[i & producer->mask];
        if (pending->message == message)
            return pending;
    }
    return NULL;
}

/* Under lock. */
static void tell(struct driver_producer *producer, struct pending *pending, const jsPubAck *ack,
                 const char *error)
{
    producer->ack(producer->context, ack ? 0 : DRIVER_FAILED, pending->opaque, pending->partition,
                  ack ? ack->Sequence - 1 : OFFSET_UNKNOWN, error);
    pending->message = NULL;
}

/* Thread: the library's, one for each producer. The message is ours again. */
static void on_answer(jsCtx *context, natsMsg *message, jsPubAck *ack, jsPubAckErr *error,
                      void *closure)
{
    struct driver_producer *producer = closure;
    (void)context;
    pthread_mutex_lock(&producer->lock);
    struct pending *pending = producer->is_dead ? NULL : find(producer, message);
    if (pending)
        tell(producer, pending, ack, error ? error->ErrText : NULL);
    while (producer->head < producer->tail &&
           producer->pending[producer->head & producer->mask].message == NULL)
        producer->head++;
    if (producer->has_waiter && producer->tail - producer->head <= producer->wanted) {
        producer->has_waiter = false;
        pthread_cond_signal(&producer->changed);
    }
    pthread_mutex_unlock(&producer->lock);
    natsMsg_Destroy(message);
}

/* Everything that is unanswered has failed; the library still owns those messages. */
static int die(struct driver_producer *producer, const char *what, natsStatus status)
{
    (void)jetstream_fail(producer->session, what, status);
    pthread_mutex_lock(&producer->lock);
    producer->is_dead = true;
    for (; producer->head < producer->tail; producer->head++) {
        struct pending *pending = &producer->pending[producer->head & producer->mask];
        if (pending->message)
            tell(producer, pending, NULL, producer->session->error);
    }
    pthread_mutex_unlock(&producer->lock);
    return DRIVER_FAILED;
}
