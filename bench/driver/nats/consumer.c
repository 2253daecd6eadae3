/* Reading a stream: an ordered push consumer, which is the fastest that the server has: no acks, flow control by the library, and
 * a new consumer in the right place when one message is missing. Each has a connection of its own, and so a reading thread. */
#include <limits.h>
#include <stdlib.h>

#include "bench/driver/nats/jetstream.h"

#define POLL_MAX 1024

struct driver_consumer {
    struct driver_session *session;
    natsConnection *connection;
    jsCtx *jetstream;
    natsSubscription *subscription;
    uint32_t held_count;
    natsMsg *held[POLL_MAX]; // until the next poll
};

static void release_held(struct driver_consumer *consumer)
{
    for (uint32_t i = 0; i < consumer->held_count; i++)
        natsMsg_Destroy(consumer->held[i]);
    consumer->held_count = 0;
}

static int subscribe(struct driver_consumer *consumer, enum driver_start start)
{
    jsSubOptions options;
    jsErrCode code = 0;
    jsSubOptions_Init(&options);
    options.Stream = consumer->session->options->topic;
    options.Ordered = true;
    options.Config.DeliverPolicy = start == DRIVER_FROM_END ? js_DeliverNew : js_DeliverAll;
    natsStatus status = js_SubscribeSync(&consumer->subscription, consumer->jetstream,
                                         consumer->session->options->topic, NULL, &options, &code);
    if (status == NATS_OK) // flow control bounds it, not a count above which messages are dropped
        status = natsSubscription_SetPendingLimits(consumer->subscription, -1, -1);
    return status == NATS_OK ? 0 : jetstream_fail(consumer->session, "starting a consumer", status);
}

int jetstream_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                           struct driver_consumer **consumer)
{
    struct jetstream *self = session->self;
    struct driver_consumer *made = calloc(1, sizeof(*made));
    (void)index;
    if (made == NULL)
        return jetstream_fail(session, "starting a consumer", NATS_NO_MEMORY);
    made->session = session;
    *consumer = made;
    jsOptions options;
    jsOptions_Init(&options);
    options.Wait = JETSTREAM_WAIT_MS;
    return jetstream_connect(self, &made->connection) ||
                   jetstream_context(self, made->connection, &options, &made->jetstream) ||
                   subscribe(made, start)
               ? DRIVER_FAILED
               : 0;
}

int jetstream_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                            uint32_t count, uint32_t timeout_ms)
{
    release_held(consumer);
    uint32_t most = (uint32_t)min_u64(count, POLL_MAX);
    natsStatus status = NATS_OK;
    while (consumer->held_count < most && status == NATS_OK) {
        natsMsg *message;
        status = natsSubscription_NextMsg(&message, consumer->subscription,
                                          consumer->held_count == 0 ? timeout_ms : 0);
        if (status != NATS_OK)
            break;
        messages[consumer->held_count] =
            (struct driver_message){.value = natsMsg_GetData(message),
                                    .value_len = (uint32_t)natsMsg_GetDataLength(message),
                                    .offset = natsMsg_GetSequence(message) - 1};
        consumer->held[consumer->held_count++] = message;
    }
    if (status != NATS_OK && status != NATS_TIMEOUT)
        return jetstream_fail(consumer->session, "reading", status);
    return (int)consumer->held_count;
}

void jetstream_consumer_free(struct driver_consumer *consumer)
{
    release_held(consumer);
    if (consumer->subscription && !natsConnection_IsClosed(consumer->connection))
        (void)natsSubscription_Unsubscribe(consumer->subscription);
    natsSubscription_Destroy(consumer->subscription);
    jsCtx_Destroy(consumer->jetstream);
    natsConnection_Destroy(consumer->connection);
    free(consumer);
}
