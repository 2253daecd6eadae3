/* A consumer's partitions: the sorted table, and what happens to received items when one is moved,
 * paused or taken out. Everything here runs under the consumer's mutex. Only adding can fail, for
 * want of memory. */
#include <stdlib.h>

#include "client/consumer_private.h"

static void keep_ready(struct sluice_consumer *consumer, struct feed *feed);
static struct item *copy_item(const struct item *item);
static uint32_t place_of(const struct sluice_consumer *consumer, uint32_t topic_id,
                         uint32_t partition);
static void void_items(struct sluice_consumer *consumer, struct feed *feed);
static void void_list(struct sluice_consumer *consumer, struct list *items, struct feed *feed);

struct feed *feeds_find(struct sluice_consumer *consumer, uint32_t topic_id, uint32_t partition)
{
    uint32_t place = place_of(consumer, topic_id, partition);
    if (place == consumer->feed_count)
        return NULL;
    struct feed *feed = consumer->feeds[place];
    return feed->topic_id == topic_id && feed->partition == partition ? feed : NULL;
}

struct feed *feeds_find_by_name(struct sluice_consumer *consumer, const char *topic,
                                uint32_t partition)
{
    for (uint32_t i = 0; i < consumer->feed_count; i++) {
        struct feed *feed = consumer->feeds[i];
        if (feed->partition == partition && strcmp(feed->topic, topic) == 0)
            return feed;
    }
    return NULL;
}

int feeds_add(struct sluice_consumer *consumer, const char *topic, uint32_t topic_id,
              uint32_t partition, uint64_t position, int64_t skip_before_ms)
{
    struct feed *feed = feeds_find(consumer, topic_id, partition);
    if (feed) {
        feeds_move(consumer, feed, position, skip_before_ms);
        return SLUICE_OK;
    }
    size_t bytes = (consumer->feed_count + 1) * sizeof(struct feed *);
    struct feed **feeds = realloc(consumer->feeds, bytes);
    if (feeds)
        consumer->feeds = feeds;
    feed = calloc(1, sizeof(*feed));
    char *name = strdup(topic);
    if (!feeds || !feed || !name) {
        free(feed);
        free(name);
        return SLUICE_E_NO_MEMORY;
    }
    *feed = (struct feed){.topic = name,
                          .topic_id = topic_id,
                          .partition = partition,
                          .refs = 1,
                          .position = position,
                          .received = position,
                          .skip_before_ms = skip_before_ms,
                          .committed = UINT64_MAX};
    list_init(&feed->kept);
    uint32_t place = place_of(consumer, topic_id, partition);
    memmove(&feeds[place + 1], &feeds[place],
            (consumer->feed_count - place) * sizeof(struct feed *));
    feeds[place] = feed;
    consumer->feed_count++;
    consumer->set_changed = true;
    return SLUICE_OK;
}

void feeds_remove(struct sluice_consumer *consumer, struct feed *feed)
{
    void_items(consumer, feed);
    feed->removed = true;
    uint32_t place = place_of(consumer, feed->topic_id, feed->partition);
    consumer->feed_count--;
    memmove(&consumer->feeds[place], &consumer->feeds[place + 1],
            (consumer->feed_count - place) * sizeof(struct feed *));
    consumer->set_changed = true;
    feeds_release(feed);
}

void feeds_release(struct feed *feed)
{
    if (--feed->refs > 0)
        return;
    free(feed->topic);
    free(feed);
}

void feeds_move(struct sluice_consumer *consumer, struct feed *feed, uint64_t position,
                int64_t skip_before_ms)
{
    void_items(consumer, feed);
    feed->position = feed->received = position;
    feed->skip_before_ms = skip_before_ms;
    feed->stopped = false;
    consumer->set_changed = true;
}

void feeds_pause(struct sluice_consumer *consumer, struct feed *feed, bool paused)
{
    if (feed->paused == paused)
        return;
    feed->paused = paused;
    if (paused) {
        keep_ready(consumer, feed);
        return;
    }
    if (feed->left_out)
        consumer->set_changed = true;
    feed->left_out = false;
    consumer->kept_bytes -= feed->kept_bytes;
    feed->kept_bytes = 0;
    while (!list_is_empty(&feed->kept)) {
        struct list *last = feed->kept.prev;
        list_remove(last);
        list_push_front(&consumer->ready, last); // before what came since
    }
    pthread_cond_signal(&consumer->arrived);
}

/* All at once, so that what is kept stays in order when more comes. */
static void keep_ready(struct sluice_consumer *consumer, struct feed *feed)
{
    struct list own, *link;
    list_init(&own);
    LIST_EACH(ready, &consumer->ready)
    {
        if (CONTAINER_OF(ready, struct item, link)->feed != feed)
            continue;
        list_remove(ready);
        list_push_back(&own, ready);
    }
    while ((link = list_pop_front(&own))) {
        struct item *item = CONTAINER_OF(link, struct item, link);
        if (feed->left_out)
            feeds_item_done(consumer, item);
        else
            feeds_keep(consumer, item, false);
    }
}

/* The copy has a delivery of its own that takes no credit: a few kept bytes would hold on to a
 * whole frame, and with it to the credit of all. */
void feeds_keep(struct sluice_consumer *consumer, struct item *item, bool first)
{
    struct feed *feed = item->feed;
    struct item *kept = feeds_has_room(consumer, item->bytes) ? copy_item(item) : NULL;
    if (!kept) {
        feeds_leave_out(consumer, feed);
        feeds_item_done(consumer, item);
        return;
    }
    if (first)
        list_push_front(&feed->kept, &kept->link);
    else
        list_push_back(&feed->kept, &kept->link);
    feed->refs++;
    feed->kept_bytes += kept->bytes;
    consumer->kept_bytes += kept->bytes;
    feeds_item_done(consumer, item);
}

bool feeds_has_room(const struct sluice_consumer *consumer, uint64_t bytes)
{
    return consumer->kept_bytes + bytes <= consumer->buffer_bytes / 4;
}

void feeds_leave_out(struct sluice_consumer *consumer, struct feed *feed)
{
    void_items(consumer, feed);
    feed->received = feed->position;
    feed->left_out = true;
    consumer->set_changed = true;
}

void feeds_item_done(struct sluice_consumer *consumer, struct item *item)
{
    struct delivery *delivery = item->delivery;
    list_remove(&item->link);
    feeds_release(item->feed);
    if (--delivery->items_left > 0)
        return;
    consumer->held_bytes -= delivery->frame_bytes;
    consumer->credit_due += delivery->frame_bytes;
    consumer_unclaim(delivery);
}

/* A quarter of the buffer at a time, so that credit doesn't cost a frame per delivery; and always
 * when there is nothing left to read, or the broker could be waiting for the rest while we wait for
 * it. */
bool feeds_credit_is_worth_it(const struct sluice_consumer *consumer)
{
    return consumer->credit_due >= consumer->buffer_bytes / 4 ||
           (consumer->credit_due > 0 && consumer->held_bytes == 0);
}

/* NULL: no memory. */
static struct item *copy_item(const struct item *item)
{
    struct delivery *delivery = malloc(sizeof(*delivery) + item->bytes);
    struct item *copy = malloc(sizeof(*copy));
    if (!delivery || !copy) {
        free(delivery);
        free(copy);
        return NULL;
    }
    *delivery = (struct delivery){.consumer = item->delivery->consumer,
                                  .on_heap = true,
                                  .items_left = 1,
                                  .items = copy,
                                  .bytes = (uint8_t *)(delivery + 1)};
    *copy = *item;
    list_init(&copy->link);
    copy->delivery = delivery;
    copy->batches = delivery->bytes;
    if (item->bytes > 0)
        memcpy(delivery->bytes, item->batches, item->bytes);
    return copy;
}

static uint32_t place_of(const struct sluice_consumer *consumer, uint32_t topic_id,
                         uint32_t partition)
{
    uint32_t low = 0, high = consumer->feed_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct feed *feed = consumer->feeds[middle];
        bool before =
            feed->topic_id != topic_id ? feed->topic_id < topic_id : feed->partition < partition;
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The item that is being decoded stays until its poll notices the new generation. */
static void void_items(struct sluice_consumer *consumer, struct feed *feed)
{
    feed->generation++;
    feed->subscription = 0;
    consumer->kept_bytes -= feed->kept_bytes;
    feed->kept_bytes = 0;
    feed->left_out = false;
    void_list(consumer, &consumer->ready, feed);
    void_list(consumer, &feed->kept, feed);
}

static void void_list(struct sluice_consumer *consumer, struct list *items, struct feed *feed)
{
    LIST_EACH(link, items)
    {
        struct item *item = CONTAINER_OF(link, struct item, link);
        if (item->feed == feed)
            feeds_item_done(consumer, item);
    }
}
