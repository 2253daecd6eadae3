/* FETCH: one answer over up to FETCH_ITEMS_MAX partitions, at once, or when something becomes visible, or at the
 * deadline (then possibly empty).
 *
 * A pass walks the cursors in the request's order and reads each one's batches behind what is there already; every
 * partition has its item in the answer, with or without data. A pass that found nothing gives its buffer back and
 * parks all cursors; a wake-up starts the next pass. The first batch of an answer is sent even when it is
 * larger than bytes_max, so that a reader always gets on. */
#include "broker/cursor_private.h"

enum pass { PASS_NEXT, PASS_END, PASS_SUSPENDED, PASS_SHORT };

static enum pass pass_begin(struct cursors *cursors, struct shard *shard,
                            struct subscription *subscription);
static enum pass pass_read(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription);
static enum pass pass_take(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription);
static void pass_end(struct cursors *cursors, struct shard *shard,
                     struct subscription *subscription);
static void answer(struct cursors *cursors, struct shard *shard, struct subscription *subscription);

static uint32_t head_bytes(const struct subscription *subscription)
{
    return FRAME_HEADER_SIZE + DELIVER_META_FIXED +
           subscription->cursor_count * (uint32_t)sizeof(struct deliver_item);
}

static bool run(struct cursors *cursors, struct shard *shard, struct subscription *subscription)
{
    enum pass pass = PASS_NEXT;
    while (pass == PASS_NEXT)
        pass = pass_read(cursors, shard, subscription);
    if (pass == PASS_END)
        pass_end(cursors, shard, subscription);
    return pass != PASS_SHORT;
}

bool fetch_serve(struct cursors *cursors, struct shard *shard, struct subscription *subscription)
{
    if (subscription->reading)
        return true;
    if (!subscription->fetch_pass && pass_begin(cursors, shard, subscription) == PASS_SHORT)
        return false;
    return run(cursors, shard, subscription);
}

void fetch_read_done(struct cursors *cursors, struct shard *shard,
                     struct subscription *subscription)
{
    if (subscription->is_dead) {
        cursor_free(cursors, TAKE(subscription->reading));
        subscription_free_when_quiet(cursors, shard, subscription);
        return;
    }
    if (pass_take(cursors, shard, subscription) == PASS_END)
        pass_end(cursors, shard, subscription);
    else
        subscription_ready(cursors, subscription);
}

/* Lays out the head: an item for each cursor, without data. */
static enum pass pass_begin(struct cursors *cursors, struct shard *shard,
                            struct subscription *subscription)
{
    uint32_t head = head_bytes(subscription);
    uint32_t allowed =
        (uint32_t)min_u64((uint64_t)head + subscription->bytes_max, BUFFER_LARGE_BYTES);
    uint32_t wish = (uint32_t)max_u64(subscription->size_wish, allowed);
    if (!delivery_begin(cursors, shard, subscription, wish, subscription->size_wish))
        return PASS_SHORT;
    memset(subscription->delivery->buffer->bytes, 0, head);
    subscription->fill = head;
    subscription->fetch_next = CONTAINER_OF(subscription->all.next, struct cursor, all_link);
    subscription->fetch_index = 0;
    subscription->fetch_bytes = 0;
    subscription->fetch_failed = false;
    subscription->fetch_pass = true;
    return PASS_NEXT;
}

static struct deliver_item *item_of(struct subscription *subscription)
{
    uint8_t *items = subscription->delivery->buffer->bytes + FRAME_HEADER_SIZE + DELIVER_META_FIXED;
    return (struct deliver_item *)items + subscription->fetch_index;
}

static void set_item(struct subscription *subscription, const struct cursor *cursor, uint16_t error,
                     uint32_t bytes)
{
    const struct partition *partition = cursor->partition;
    uint64_t visible_end = partition ? partition->visible_end : 0;
    *item_of(subscription) = (struct deliver_item){
        .topic_id = le32_make(cursor->topic_id),
        .partition = le32_make(cursor->number),
        .error = le16_make(error),
        .flags = le16_make(cursor->offset == visible_end ? DELIVER_END : 0),
        .bytes = le32_make(bytes),
        .next_offset = le64_make(cursor->offset),
        .log_start = le64_make(partition ? partition->log_start : 0),
        .visible_end = le64_make(visible_end),
    };
}

static enum pass go_on(struct subscription *subscription)
{
    struct list *next = subscription->fetch_next->all_link.next;
    subscription->fetch_index++;
    if (next == &subscription->all)
        return PASS_END;
    subscription->fetch_next = CONTAINER_OF(next, struct cursor, all_link);
    return PASS_NEXT;
}

/* What this cursor may still bring. The first data of an answer may use the whole buffer. */
static uint32_t room_for(const struct subscription *subscription, const struct cursor *cursor)
{
    uint32_t room = delivery_capacity(subscription) - subscription->fill;
    if (subscription->fetch_bytes == 0)
        return room;
    uint64_t allowed = subscription->bytes_max > subscription->fetch_bytes
                           ? subscription->bytes_max - subscription->fetch_bytes
                           : 0;
    if (cursor->bytes_max > 0)
        allowed = min_u64(allowed, cursor->bytes_max);
    return (uint32_t)min_u64(room, allowed);
}

static enum pass pass_read(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription)
{
    struct cursor *cursor = subscription->fetch_next;
    if (!cursor->partition) {
        subscription->fetch_failed = true;
        set_item(subscription, cursor, PE_UNKNOWN_PARTITION, 0);
        return go_on(subscription);
    }
    uint32_t room = room_for(subscription, cursor);
    if (room < BATCH_HEADER_SIZE && !cursor->is_searching) {
        set_item(subscription, cursor, PE_NONE, 0);
        return go_on(subscription);
    }
    /* As much as the request allows of one read, but never less than a first batch needs. */
    if (subscription->fetch_bytes == 0 && subscription->bytes_max >= BATCH_HEADER_SIZE) {
        uint32_t limit = subscription->bytes_max;
        if (cursor->bytes_max > 0)
            limit = (uint32_t)min_u64(limit, cursor->bytes_max);
        room = (uint32_t)min_u64(room, max_u64(limit, subscription->size_wish));
    }
    uint8_t *place = subscription->delivery->buffer->bytes + subscription->fill;
    int started = cursor_read(shard, cursor, place, room);
    if (started == E_FULL)
        return PASS_SHORT;
    list_remove(&cursor->place_link);
    subscription->reading = cursor;
    return started == 0 ? PASS_SUSPENDED : pass_take(cursors, shard, subscription);
}

static enum pass pass_take(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription)
{
    struct cursor *cursor = TAKE(subscription->reading);
    struct store_read *read = &subscription->read;
    cursor->hint = read->hint;
    if (!cursor->partition || read->status == E_CANCELED) {
        subscription->fetch_failed = true;
        set_item(subscription, cursor, PE_UNKNOWN_PARTITION, 0);
        return go_on(subscription);
    }
    if (read->status == E_TOO_LARGE && !cursor->is_searching) {
        if (subscription->fetch_bytes > 0) { // the next answer's first batch
            set_item(subscription, cursor, PE_NONE, 0);
            return go_on(subscription);
        }
        if (subscription->delivery->buffer->class == BUFFER_JUMBO) { // not even in the largest
            subscription->fetch_failed = true;
            set_item(subscription, cursor, PE_BATCH_TOO_LARGE, 0);
            return go_on(subscription);
        }
        subscription->size_wish = head_bytes(subscription) + read->needed_bytes;
        delivery_drop(cursors, shard, subscription);
        subscription->fetch_pass = false;
        subscription_ready(cursors, subscription);
        return PASS_SUSPENDED; // the pass begins anew with a buffer that is large enough
    }
    if (read->status) {
        subscription->fetch_failed = true;
        set_item(subscription, cursor, error_of_read(read->status), 0);
        return go_on(subscription);
    }
    if (cursor->is_searching) {
        cursor->is_searching = false;
        cursor->offset = read->next_offset;
        cursor->hint = INDEX_NONE;
        return PASS_NEXT;
    }
    if (read->bytes > 0) {
        cursor->offset = read->next_offset;
        subscription->fill += read->bytes;
        subscription->fetch_bytes += read->bytes;
        counter_add(&shard->counters.bytes_delivered_total, read->bytes);
    }
    set_item(subscription, cursor, PE_NONE, read->bytes);
    return go_on(subscription);
}

/* Parks all cursors. False when something became visible meanwhile. */
static bool park_all(struct subscription *subscription)
{
    LIST_EACH(node, &subscription->all)
    {
        struct cursor *cursor = CONTAINER_OF(node, struct cursor, all_link);
        if (!cursor->partition || cursor->partition->visible_end > cursor->offset)
            return false;
        cursor_park(cursor);
    }
    return true;
}

static void pass_end(struct cursors *cursors, struct shard *shard,
                     struct subscription *subscription)
{
    bool empty = subscription->fetch_bytes == 0 && !subscription->fetch_failed;
    if (!empty || shard->now_ns >= subscription->deadline_ns) {
        answer(cursors, shard, subscription);
        return;
    }
    delivery_drop(cursors, shard, subscription);
    subscription->fetch_pass = false;
    if (!park_all(subscription))
        subscription_ready(cursors, subscription);
}

static void answer(struct cursors *cursors, struct shard *shard, struct subscription *subscription)
{
    uint8_t *bytes = subscription->delivery->buffer->bytes;
    uint32_t meta = head_bytes(subscription) - FRAME_HEADER_SIZE;
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, DELIVER_META_FIXED);
    write_deliver_begin(&w, subscription->cursor_count);
    frame_seal(bytes, OP_FETCH, FRAME_REPLY, subscription->id, meta, subscription->fetch_bytes);
    counter_add(&shard->counters.deliveries_total, 1);
    delivery_send(cursors, shard, subscription, true);
    cursors_end(cursors, shard, subscription);
}

/* A deadline without data: one more pass, whose empty result is the answer. */
void fetch_expire(struct cursors *cursors, struct shard *shard)
{
    while (cursors_deadline_ns(cursors) <= shard->now_ns) {
        struct subscription *subscription =
            CONTAINER_OF(cursors->waiting.next, struct subscription, wait_link);
        list_remove(&subscription->wait_link);
        subscription_ready(cursors, subscription);
    }
}
