/* Polling: from received items to messages. The polling thread's.
 *
 * The happy path: take an item, check its batch's CRC, walk its records, point a message at each;
 * uncompressed records stay where the kernel put them. What the messages point at lives until the
 * next poll, which first gives back what the last one used up. A compressed batch needs the scratch
 * buffer, and there is one, so a poll returns what it has before it opens another compressed one.
 *
 * A batch that fails its checksum or can't be decoded stops its partition and is returned as an
 * error; so is what the broker said about a partition. The others go on. One that finds no memory
 * to be decompressed to waits for the next poll. */
#include <stdlib.h>

#include "base/status.h"
#include "client/consumer_private.h"

#define DECOMPRESSED_BYTES_MAX ((uint32_t)(256 * MIB))

static int poll_group(struct sluice_consumer *consumer, uint64_t deadline_ns);
static int fill(struct sluice_consumer *consumer, struct sluice_message *messages, int max);
static void check_current(struct sluice_consumer *consumer);
static struct item *next_item(struct sluice_consumer *consumer);
static void wait_for_items(struct sluice_consumer *consumer, uint64_t deadline_ns);
static int open_batch(struct sluice_consumer *consumer, bool have_messages);
static int reserve_scratch(struct sluice_consumer *consumer, uint32_t bytes);
static int take_records(struct sluice_consumer *consumer, struct sluice_message *messages, int max);
static bool is_wanted(struct feed *feed, const struct record_view *view, uint64_t position);
static void write_message(struct sluice_message *message, const struct feed *feed,
                          struct record_view *view);
static void finish_item(struct sluice_consumer *consumer);
static void store_position(struct sluice_consumer *consumer, uint64_t position);
static int fail(struct sluice_consumer *consumer, int status);
static void release_used(struct sluice_consumer *consumer);
static int take_failure(struct sluice_consumer *consumer);

int sluice_consumer_poll(struct sluice_consumer *consumer, struct sluice_message *messages, int max,
                         uint32_t timeout_ms)
{
    if (max <= 0 || !messages)
        return SLUICE_E_INVALID;
    release_used(consumer);
    check_current(consumer);
    uint64_t deadline_ns = 0;
    for (;;) {
        int status = consumer->group ? poll_group(consumer, deadline_ns) : SLUICE_OK;
        if (status != SLUICE_OK)
            return status;
        int count = fill(consumer, messages, max);
        if (count != 0)
            return count;
        int failure = take_failure(consumer);
        if (failure != SLUICE_OK)
            return failure;
        if (deadline_ns == 0)
            deadline_ns = client_deadline(consumer->client, timeout_ms);
        if (timeout_ms == 0 || clock_mono_ns(consumer->client->clock) >= deadline_ns)
            return 0;
        wait_for_items(consumer, deadline_ns);
    }
}

/* What was given up is returned no more, not even the rest of a batch. */
static int poll_group(struct sluice_consumer *consumer, uint64_t deadline_ns)
{
    int status = group_poll(consumer, deadline_ns);
    check_current(consumer);
    if (status != SLUICE_OK && consumer->error_feed) { // it is about the group
        pthread_mutex_lock(&consumer->mutex);
        feeds_release(TAKE(consumer->error_feed));
        pthread_mutex_unlock(&consumer->mutex);
    }
    return status;
}

void sluice_consumer_error(struct sluice_consumer *consumer, const char **topic,
                           uint32_t *partition)
{
    if (topic)
        *topic = consumer->error_feed ? consumer->error_feed->topic : "";
    if (partition)
        *partition = consumer->error_feed ? consumer->error_feed->partition : SLUICE_PARTITION_ANY;
}

int sluice_message_header(const struct sluice_message *message, uint32_t i, const char **key,
                          size_t *key_len, const void **value, size_t *value_len)
{
    if (i >= message->header_count)
        return SLUICE_E_INVALID;
    /* Decoding the record has walked its headers: they are well-formed, and end within the batch.
     */
    struct record_view view = {.header_count = message->header_count,
                               .headers = reader_make(message->internal, BLOCK_BYTES_MAX)};
    struct record_header header;
    for (uint32_t n = 0; n <= i; n++)
        record_view_header(&view, &header);
    *key = (const char *)header.key.bytes;
    *key_len = header.key.len;
    *value = header.value.bytes;
    *value_len = header.value.len;
    return SLUICE_OK;
}

/* Everything a poll holds. Under the mutex. */
void consumer_poll_reset(struct sluice_consumer *consumer)
{
    struct list *link;
    if (consumer->current)
        feeds_item_done(consumer, TAKE(consumer->current));
    while ((link = list_pop_front(&consumer->used)))
        feeds_item_done(consumer, CONTAINER_OF(link, struct item, link));
    if (consumer->error_feed)
        feeds_release(TAKE(consumer->error_feed));
}

/* Up to max messages of what is there. 0: nothing; negative: NO_MEMORY, or an error about
 * error_feed. */
static int fill(struct sluice_consumer *consumer, struct sluice_message *messages, int max)
{
    int count = 0;
    while (count < max) {
        if (!consumer->current && !(consumer->current = next_item(consumer)))
            break;
        struct item *item = consumer->current;
        if (item->error != SLUICE_OK)
            return count > 0 ? count : fail(consumer, item->error);
        if (!consumer->batch_open) {
            if (consumer->current_at == item->bytes) {
                finish_item(consumer);
                continue;
            }
            int status = open_batch(consumer, count > 0);
            if (status == E_AGAIN)
                break;
            if (status == E_NO_MEMORY) // nothing is wrong with it: the next poll opens it
                return count > 0 ? count : SLUICE_E_NO_MEMORY;
            if (status < 0)
                return count > 0 ? count : fail(consumer, error_from_status(status));
        }
        int taken = take_records(consumer, messages + count, max - count);
        if (taken < 0)
            return count > 0 ? count : fail(consumer, SLUICE_E_CORRUPT);
        count += taken;
    }
    return count;
}

/* ---- items ---- */

static struct item *next_item(struct sluice_consumer *consumer)
{
    pthread_mutex_lock(&consumer->mutex);
    struct list *link = list_pop_front(&consumer->ready);
    struct item *item = link ? CONTAINER_OF(link, struct item, link) : NULL;
    if (item)
        consumer->position = item->feed->position;
    pthread_mutex_unlock(&consumer->mutex);
    consumer->current_at = 0;
    consumer->batch_open = false;
    return item;
}

/* Since the last poll the partition may have been moved or taken out (then the rest of its item is
 * void), or paused: then the item waits with the others, and what was returned of it is passed over
 * later. */
static void check_current(struct sluice_consumer *consumer)
{
    struct item *item = consumer->current;
    if (!item)
        return;
    pthread_mutex_lock(&consumer->mutex);
    bool valid = item->generation == item->feed->generation;
    if (!valid)
        feeds_item_done(consumer, item);
    else if (item->feed->paused)
        feeds_keep(consumer, item, true);
    else
        item = NULL; // goes on
    pthread_mutex_unlock(&consumer->mutex);
    if (item) {
        consumer->current = NULL;
        consumer->batch_open = false;
    }
}

static void wait_for_items(struct sluice_consumer *consumer, uint64_t deadline_ns)
{
    bool in_time = true;
    deadline_ns = min_u64(deadline_ns, group_poll_at_ns(consumer));
    pthread_mutex_lock(&consumer->mutex);
    while (list_is_empty(&consumer->ready) && consumer->failure == SLUICE_OK && in_time &&
           !group_needs_poll(consumer->group))
        in_time = client_cond_wait(&consumer->arrived, &consumer->mutex, deadline_ns);
    pthread_mutex_unlock(&consumer->mutex);
}

static void finish_item(struct sluice_consumer *consumer)
{
    struct item *item = TAKE(consumer->current);
    pthread_mutex_lock(&consumer->mutex);
    if (item->generation == item->feed->generation && item->next_offset > item->feed->position)
        item->feed->position = item->next_offset;
    pthread_mutex_unlock(&consumer->mutex);
    list_push_back(&consumer->used, &item->link);
}

static void release_used(struct sluice_consumer *consumer)
{
    if (!consumer->batch_open) /* else its rest is still in there, for the messages of this poll */
        consumer->scratch_used &= consumer->batch_open; // an open batch goes on in it
    if (list_is_empty(&consumer->used))
        return;
    struct list *link;
    pthread_mutex_lock(&consumer->mutex);
    while ((link = list_pop_front(&consumer->used)))
        feeds_item_done(consumer, CONTAINER_OF(link, struct item, link));
    bool tell = feeds_credit_is_worth_it(consumer) || consumer->set_changed;
    pthread_mutex_unlock(&consumer->mutex);
    if (tell)
        client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
}

/* ---- batches ---- */

/* Returns 0, AGAIN (a compressed one while messages point into the scratch buffer), CORRUPT,
 * TOO_LARGE, UNSUPPORTED, NO_MEMORY. */
static int open_batch(struct sluice_consumer *consumer, bool have_messages)
{
    struct item *item = consumer->current;
    const uint8_t *bytes = item->batches + consumer->current_at;
    uint32_t available = item->bytes - consumer->current_at;
    struct batch_info info;
    if (!batch_peek(bytes, available, &info) || info.size > available)
        return E_CORRUPT;
    bool compressed = (info.attributes & BATCH_CODEC_MASK) != CODEC_NONE;
    if (compressed && consumer->scratch_used && have_messages)
        return E_AGAIN;
    if (!batch_is_intact(bytes, info.size))
        return E_CORRUPT;
    int status = E_OK;
    if (compressed) {
        int64_t needed = batch_records_size(bytes, info.size, DECOMPRESSED_BYTES_MAX);
        if (needed < 0)
            return (int)needed;
        status = reserve_scratch(consumer, (uint32_t)needed);
        consumer->scratch_used = true;
    }
    if (status == E_OK)
        status = batch_iterator_init(&consumer->iterator, bytes, info.size, consumer->scratch,
                                     consumer->scratch_bytes);
    if (status != E_OK)
        return status;
    consumer->batch_open = true;
    consumer->current_at += info.size;
    return E_OK;
}

static int reserve_scratch(struct sluice_consumer *consumer, uint32_t bytes)
{
    if (bytes <= consumer->scratch_bytes)
        return E_OK;
    free(consumer->scratch);
    consumer->scratch_bytes = 0;
    consumer->scratch = malloc(bytes);
    if (!consumer->scratch)
        return E_NO_MEMORY;
    consumer->scratch_bytes = bytes;
    return E_OK;
}

/* ---- records ---- */

/* Messages from the open batch. Returns how many (0: its end), or CORRUPT. */
static int take_records(struct sluice_consumer *consumer, struct sluice_message *messages, int max)
{
    struct feed *feed = consumer->current->feed;
    uint64_t position = consumer->position;
    int count = 0, status = 1;
    while (count < max) {
        struct record_view view;
        status = batch_iterator_next(&consumer->iterator, &view);
        if (status <= 0)
            break;
        if (!is_wanted(feed, &view, position))
            continue;
        write_message(&messages[count++], feed, &view);
        position = view.offset + 1;
    }
    consumer->batch_open = status > 0;
    consumer->position = position;
    store_position(consumer, position);
    return status < 0 ? status : count;
}

static bool is_wanted(struct feed *feed, const struct record_view *view, uint64_t position)
{
    if (view->offset < position)
        return false;
    if (LIKELY(feed->skip_before_ms == INT64_MIN))
        return true;
    if (view->timestamp_ms < feed->skip_before_ms)
        return false;
    feed->skip_before_ms = INT64_MIN;
    return true;
}

static void write_message(struct sluice_message *message, const struct feed *feed,
                          struct record_view *view)
{
    *message = (struct sluice_message){
        .topic = feed->topic,
        .partition = feed->partition,
        .offset = view->offset,
        .timestamp_ms = view->timestamp_ms,
        .key = view->key.bytes,
        .key_len = view->key.len,
        .value = view->value.bytes,
        .value_len = view->value.len,
        .header_count = view->header_count,
        .internal = view->headers.at,
    };
}

/* A seek from another thread meanwhile wins. */
static void store_position(struct sluice_consumer *consumer, uint64_t position)
{
    struct item *item = consumer->current;
    pthread_mutex_lock(&consumer->mutex);
    if (item->generation == item->feed->generation)
        item->feed->position = position;
    pthread_mutex_unlock(&consumer->mutex);
}

/* ---- errors ---- */

/* Stops the current item's feed. */
static int fail(struct sluice_consumer *consumer, int status)
{
    struct item *item = TAKE(consumer->current);
    struct feed *feed = item->feed;
    consumer->batch_open = false;
    pthread_mutex_lock(&consumer->mutex);
    if (consumer->error_feed)
        feeds_release(consumer->error_feed);
    consumer->error_feed = feed;
    feed->refs++;
    if (item->generation == feed->generation) {
        feeds_move(consumer, feed, feed->position, feed->skip_before_ms);
        feed->stopped = true;
    }
    feeds_item_done(consumer, item);
    pthread_mutex_unlock(&consumer->mutex);
    client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
    error_set("%s, partition %u: %s", feed->topic, feed->partition, sluice_text(status));
    return status;
}

static int take_failure(struct sluice_consumer *consumer)
{
    pthread_mutex_lock(&consumer->mutex);
    int failure = consumer->failure;
    consumer->failure = SLUICE_OK;
    pthread_mutex_unlock(&consumer->mutex);
    return failure;
}
