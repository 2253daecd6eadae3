/* A consumer's subscription, and what arrives on it. I/O thread.
 *
 * There is one subscription for all of a consumer's partitions, with one credit. The happy path:
 * SUBSCRIBE from where each feed was received to; DELIVER frames go into the ready list; CREDIT as
 * they are used up. When the set of partitions changes (subscribe, seek, pause, resume,
 * unsubscribe) the old subscription is ended and a new one made from where the old one had come to,
 * so nothing is missed and nothing comes twice; the same after a reconnect. What is received
 * between is taken as long as the feed still wants it: each feed knows the subscription whose items
 * it takes.
 *
 * A paused feed keeps what it received, up to a quarter of the buffer; then it is left out of the
 * subscription until it is resumed, so it never uses up the credit of the others.
 *
 * A subscription or a partition that fails with a retriable error is tried again after a backoff;
 * another error of a partition stops that feed and is returned by a poll. */
#include <stdlib.h>

#include "client/consumer_private.h"

#define SUBSCRIBE_FIXED_BYTES 64
#define CREDIT_BYTES 32u // more than the meta of a CREDIT or UNSUBSCRIBE
#define BACKOFF_NS (100 * NS_PER_MS)
#define REMOVE_WAIT_NS (1 * NS_PER_S)

static void send_unsubscribe(struct sluice_consumer *consumer);
static uint64_t finish_removing(struct sluice_consumer *consumer);
static struct sluice_consumer *find_consumer(struct sluice_client *client, uint64_t correlation);
static bool wants_data(const struct feed *feed);
static uint64_t wanted_credit(struct sluice_consumer *consumer);
static void subscribe(struct sluice_consumer *consumer);
static uint32_t write_items(struct sluice_consumer *consumer, struct writer *w);
static void subscribe_done(struct call *call, int status, const struct frame *reply);
static void unsubscribe(struct sluice_consumer *consumer);
static void unsubscribe_done(struct call *call, int status, const struct frame *reply);
static void give_credit(struct sluice_consumer *consumer);
static void back_off(struct sluice_consumer *consumer);
static struct delivery *copy_frame(struct sluice_consumer *consumer, const struct frame *frame);
static const uint8_t *frame_start(const struct frame *frame);
static void take_items(struct sluice_consumer *consumer, const struct frame *frame,
                       const struct msg_deliver *m, struct delivery *delivery);
static bool take_item(struct sluice_consumer *consumer, struct feed *feed,
                      const struct deliver_item *wire, struct item *item);
static void leave_out_from_here(struct sluice_consumer *consumer, struct feed *feed);
static int item_error(struct sluice_consumer *consumer, struct feed *feed, uint16_t error);

void consumer_add(struct sluice_consumer *consumer)
{
    list_push_back(&consumer->client->consumers, &consumer->link);
}

/* Whatever still comes for its subscription finds no consumer and is passed over. Only a frame that
 * is being received into its memory is waited for, but not for ever. */
void consumer_remove(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    calls_cancel(&consumer->subscribe_call);
    calls_cancel(&consumer->unsubscribe_call);
    if (consumer->group)
        group_remove(consumer);
    if (consumer->subscription != 0 && connection_is_up(&client->connection))
        send_unsubscribe(consumer);
    consumer->subscription = 0;
    consumer->removing = true;
    consumer->wake_ns = client->now_ns + REMOVE_WAIT_NS;
}

static void send_unsubscribe(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    struct msg_credit end = {.subscription = consumer->subscription};
    uint8_t *frame = connection_reserve(client, CREDIT_BYTES);
    if (!frame)
        return;
    struct writer w = writer_make(frame + FRAME_HEADER_SIZE, CREDIT_BYTES);
    write_credit(&w, &end);
    connection_queue(client, OP_UNSUBSCRIBE, ++client->correlation, writer_length(&w));
}

/* Returns when to come back; afterwards the consumer may be gone. */
static uint64_t finish_removing(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    struct delivery *receiving = client->connection.large_delivery;
    if (receiving && receiving->consumer == consumer) {
        if (client->now_ns >= consumer->wake_ns)
            connection_close(client, "a frame for a freed consumer does not end");
        return consumer->wake_ns;
    }
    list_remove(&consumer->link);
    pthread_mutex_lock(&consumer->mutex);
    consumer->removed = true;
    pthread_cond_broadcast(&consumer->arrived);
    pthread_mutex_unlock(&consumer->mutex);
    return UINT64_MAX;
}

void consumer_connected(struct sluice_consumer *consumer)
{
    if (!consumer->removing)
        consumer->wake_ns = 0;
}

void consumer_lost(struct sluice_consumer *consumer)
{
    calls_cancel(&consumer->subscribe_call);
    calls_cancel(&consumer->unsubscribe_call);
    consumer->state = SUBSCRIPTION_NONE;
    consumer->subscription = 0;
    pthread_mutex_lock(&consumer->mutex);
    consumer->set_changed = true;
    if (consumer->client->connect_status == SLUICE_E_OTHER_STORE) { // waiting may help no more
        consumer->failure = SLUICE_E_OTHER_STORE;
        pthread_cond_broadcast(&consumer->arrived);
    }
    pthread_mutex_unlock(&consumer->mutex);
}

uint64_t consumer_turn(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    if (consumer->removing)
        return finish_removing(consumer);
    uint64_t wake_ns = consumer->group ? group_turn(consumer) : UINT64_MAX;
    if (!connection_is_up(&client->connection))
        return wake_ns;
    if (client->now_ns < consumer->wake_ns)
        return min_u64(wake_ns, consumer->wake_ns);
    pthread_mutex_lock(&consumer->mutex);
    bool changed = consumer->set_changed;
    bool credit = feeds_credit_is_worth_it(consumer);
    pthread_mutex_unlock(&consumer->mutex);
    if (changed && consumer->state == SUBSCRIPTION_OPEN)
        unsubscribe(consumer);
    if (changed && consumer->state == SUBSCRIPTION_NONE)
        subscribe(consumer);
    if (credit && consumer->state == SUBSCRIPTION_OPEN)
        give_credit(consumer);
    return wake_ns;
}

/* ---- subscribing ---- */

static bool wants_data(const struct feed *feed)
{
    return !feed->stopped && !feed->left_out;
}

/* What the new subscription may send. 0 when that may be too little for the next batch: then
 * reading must go on first. A buffer that is too small altogether is the broker's to refuse
 * (CREDIT_TOO_SMALL). */
static uint64_t wanted_credit(struct sluice_consumer *consumer)
{
    uint64_t buffer_bytes = consumer->buffer_bytes;
    uint64_t credit = buffer_bytes - min_u64(consumer->held_bytes, buffer_bytes);
    uint64_t least = min_u64(atomic_load(&consumer->client->credit_min), buffer_bytes);
    return credit >= least ? credit : 0;
}

static void subscribe(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    pthread_mutex_lock(&consumer->mutex);
    uint32_t room =
        SUBSCRIBE_FIXED_BYTES + consumer->feed_count * (uint32_t)sizeof(struct fetch_item);
    uint64_t credit = wanted_credit(consumer);
    uint8_t *meta = credit > 0 ? malloc(room) : NULL;
    uint32_t count = 0;
    for (uint32_t i = 0; i < consumer->feed_count; i++)
        count += wants_data(consumer->feeds[i]);
    struct writer w = writer_make(meta, meta ? room : 0);
    if (meta && count > 0) {
        write_fetch_begin(&w, 0, 0, credit, count);
        write_items(consumer, &w);
        consumer->set_changed = false;
        consumer->credit_due = 0;
    } else if (count == 0) {
        consumer->set_changed = false;
    }
    pthread_mutex_unlock(&consumer->mutex);
    free(consumer->subscribe_meta);
    consumer->subscribe_meta = meta;
    if (!meta || count == 0)
        return; // nothing to read, or the buffer is full: reading it brings the next turn
    ASSERT(!w.failed);
    consumer->subscribe_call = (struct call){
        .op = OP_SUBSCRIBE,
        .deadline_ns = UINT64_MAX,
        .meta = meta,
        .meta_bytes = writer_length(&w),
        .done = subscribe_done,
    };
    list_init(&consumer->subscribe_call.link);
    consumer->state = SUBSCRIPTION_OPEN;
    calls_start(client, &consumer->subscribe_call);
    consumer->subscription = consumer->subscribe_call.correlation;
    ASSERT(consumer->subscription == consumer->next_subscription ||
           !connection_is_up(&client->connection));
}

/* The correlation id is known before the call is sent: ids are given in order. */
static uint32_t write_items(struct sluice_consumer *consumer, struct writer *w)
{
    consumer->next_subscription = consumer->client->correlation + 1;
    for (uint32_t i = 0; i < consumer->feed_count; i++) {
        struct feed *feed = consumer->feeds[i];
        feed->subscription = 0;
        if (!wants_data(feed))
            continue;
        feed->subscription = consumer->next_subscription;
        write_fetch_item(w, feed->topic_id, feed->partition, START_OFFSET, 0, feed->received);
    }
    return writer_length(w);
}

static void subscribe_done(struct call *call, int status, const struct frame *reply)
{
    struct sluice_consumer *consumer = CONTAINER_OF(call, struct sluice_consumer, subscribe_call);
    if (status == SLUICE_OK) {
        consumer->attempt = 0;
        return;
    }
    consumer->state = SUBSCRIPTION_NONE;
    consumer->subscription = 0;
    if (status == SLUICE_E_CLOSED)
        return; // the connection is gone; consumer_lost() knows
    back_off(consumer);
    pthread_mutex_lock(&consumer->mutex);
    consumer->set_changed = true;
    if (!sluice_is_retriable(status))
        consumer->failure = status;
    pthread_cond_broadcast(&consumer->arrived);
    pthread_mutex_unlock(&consumer->mutex);
}

static void unsubscribe(struct sluice_consumer *consumer)
{
    if (call_is_active(&consumer->subscribe_call))
        return; // its reply brings the next turn
    struct msg_credit end = {.subscription = consumer->subscription};
    struct writer w = writer_make(consumer->unsubscribe_meta, sizeof(consumer->unsubscribe_meta));
    write_credit(&w, &end);
    ASSERT(!w.failed);
    consumer->unsubscribe_call = (struct call){
        .op = OP_UNSUBSCRIBE,
        .deadline_ns = UINT64_MAX,
        .meta = consumer->unsubscribe_meta,
        .meta_bytes = writer_length(&w),
        .done = unsubscribe_done,
    };
    list_init(&consumer->unsubscribe_call.link);
    consumer->state = SUBSCRIPTION_CLOSING;
    calls_start(consumer->client, &consumer->unsubscribe_call);
}

/* Whatever the answer, the subscription is no more. */
static void unsubscribe_done(struct call *call, int status, const struct frame *reply)
{
    struct sluice_consumer *consumer = CONTAINER_OF(call, struct sluice_consumer, unsubscribe_call);
    consumer->state = SUBSCRIPTION_NONE;
    consumer->subscription = 0;
}

static void give_credit(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    pthread_mutex_lock(&consumer->mutex);
    struct msg_credit credit = {.subscription = consumer->subscription,
                                .bytes = consumer->credit_due};
    consumer->credit_due = 0;
    pthread_mutex_unlock(&consumer->mutex);
    uint8_t *frame = connection_reserve(client, CREDIT_BYTES);
    if (!frame)
        return;
    struct writer w = writer_make(frame + FRAME_HEADER_SIZE, CREDIT_BYTES);
    write_credit(&w, &credit);
    connection_queue(client, OP_CREDIT, 0, writer_length(&w));
}

static void back_off(struct sluice_consumer *consumer)
{
    uint64_t wait_ns = BACKOFF_NS << (consumer->attempt < 4 ? consumer->attempt : 4);
    consumer->attempt++;
    consumer->wake_ns = consumer->client->now_ns + min_u64(wait_ns, NS_PER_S);
}

/* ---- receiving ---- */

struct delivery *consumer_claim(struct sluice_client *client, uint64_t correlation, uint32_t length)
{
    struct sluice_consumer *consumer = find_consumer(client, correlation);
    if (!consumer)
        return NULL;
    uint64_t bytes = sizeof(struct delivery) + (uint64_t)length;
    uint32_t got;
    struct delivery *delivery = NULL;
    if (bytes <= BLOCK_BYTES_MAX)
        delivery = blocks_acquire(&consumer->blocks, (uint32_t)bytes, (uint32_t)bytes, &got);
    bool on_heap = delivery == NULL;
    if (on_heap)
        delivery = malloc(bytes);
    if (!delivery)
        return NULL;
    *delivery = (struct delivery){.consumer = consumer,
                                  .on_heap = on_heap,
                                  .frame_bytes = length,
                                  .bytes = (uint8_t *)(delivery + 1)};
    return delivery;
}

void consumer_unclaim(struct delivery *delivery)
{
    free(delivery->items);
    if (delivery->on_heap)
        free(delivery);
    else
        blocks_release(&delivery->consumer->blocks, delivery);
}

const char *consumer_deliver(struct sluice_client *client, const struct frame *frame,
                             struct delivery *delivery)
{
    struct msg_deliver m;
    uint16_t error = read_deliver(frame, &m);
    struct sluice_consumer *consumer = find_consumer(client, frame->correlation);
    if (error == PE_NONE && consumer && !delivery)
        delivery = copy_frame(consumer, frame);
    bool usable = error == PE_NONE && consumer && delivery;
    if (usable && m.item_count > 0)
        delivery->items = malloc(m.item_count * sizeof(struct item));
    if (usable && delivery->items) {
        m.batches = delivery->bytes + (m.batches - frame_start(frame));
        take_items(consumer, frame, &m, delivery);
        return NULL;
    }
    if (delivery)
        consumer_unclaim(delivery);
    if (error != PE_NONE)
        return "received a malformed DELIVER";
    return usable && m.item_count > 0 ? "out of memory" : NULL;
}

static struct sluice_consumer *find_consumer(struct sluice_client *client, uint64_t correlation)
{
    LIST_EACH(link, &client->consumers)
    {
        struct sluice_consumer *consumer = CONTAINER_OF(link, struct sluice_consumer, link);
        if (consumer->subscription == correlation && correlation != 0)
            return consumer;
    }
    return NULL;
}

static const uint8_t *frame_start(const struct frame *frame)
{
    return frame->meta - FRAME_HEADER_SIZE;
}

static struct delivery *copy_frame(struct sluice_consumer *consumer, const struct frame *frame)
{
    struct delivery *delivery =
        consumer_claim(consumer->client, consumer->subscription, frame->length);
    if (delivery)
        memcpy(delivery->bytes, frame_start(frame), frame->length);
    return delivery;
}

static void take_items(struct sluice_consumer *consumer, const struct frame *frame,
                       const struct msg_deliver *m, struct delivery *delivery)
{
    const uint8_t *batches = m->batches;
    pthread_mutex_lock(&consumer->mutex);
    consumer->held_bytes += delivery->frame_bytes;
    delivery->items_left = 1; // this function's own
    struct item *item = delivery->items;
    for (uint32_t i = 0; i < m->item_count; i++) {
        const struct deliver_item *wire = &m->items[i];
        struct feed *feed =
            feeds_find(consumer, le32_get(wire->topic_id), le32_get(wire->partition));
        *item = (struct item){.delivery = delivery, .feed = feed, .batches = batches};
        batches += le32_get(wire->bytes);
        if (feed && feed->subscription == frame->correlation &&
            take_item(consumer, feed, wire, item))
            item++;
    }
    if (item != delivery->items)
        pthread_cond_signal(&consumer->arrived);
    if (--delivery->items_left == 0) {
        consumer->held_bytes -= delivery->frame_bytes;
        consumer->credit_due += delivery->frame_bytes;
        consumer_unclaim(delivery);
    }
    pthread_mutex_unlock(&consumer->mutex);
}

/* True when the item was filled and is queued. */
static bool take_item(struct sluice_consumer *consumer, struct feed *feed,
                      const struct deliver_item *wire, struct item *item)
{
    uint16_t error = le16_get(wire->error);
    feed->visible_end = le64_get(wire->visible_end);
    item->generation = feed->generation;
    item->bytes = le32_get(wire->bytes);
    item->next_offset = le64_get(wire->next_offset);
    list_init(&item->link);
    if (error != PE_NONE)
        item->error = item_error(consumer, feed, error);
    if (item->error == SLUICE_OK && item->bytes == 0)
        return false;
    if (feed->paused && !feeds_has_room(consumer, item->bytes)) {
        leave_out_from_here(consumer, feed);
        return false;
    }
    if (item->error == SLUICE_OK)
        feed->received = item->next_offset;
    feed->refs++;
    item->delivery->items_left++;
    if (feed->paused)
        feeds_keep(consumer, item, false);
    else
        list_push_back(&consumer->ready, &item->link);
    return true;
}

/* What was kept is enough; this item and what follows it come again when the feed is resumed. */
static void leave_out_from_here(struct sluice_consumer *consumer, struct feed *feed)
{
    feed->left_out = true;
    feed->subscription = 0;
    consumer->set_changed = true;
}

/* The broker has ended this partition's part of the subscription. */
static int item_error(struct sluice_consumer *consumer, struct feed *feed, uint16_t error)
{
    feed->subscription = 0;
    if (proto_error_is_retriable(error)) {
        consumer->set_changed = true;
        back_off(consumer);
        return SLUICE_OK;
    }
    feed->stopped = true;
    return error_from_broker(error);
}
