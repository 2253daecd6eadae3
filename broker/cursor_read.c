/* Reading for subscriptions: fills a buffer with DELIVER frames, one partition each, and sends it.
 *
 * Happy path: the first ready cursor's batches are read behind the last frame in the delivery; the frame is sealed;
 * the next cursor's follow; when there is no more room, credit or ready cursor the delivery goes to the connection.
 * A read that must go to disk suspends this until its completion; other subscriptions go on.
 *
 * The buffer's size follows the consumer: one that gets little at a time is served from small buffers. A
 * batch that is larger than the buffer makes the next delivery as large as it needs. */
#include "broker/cursor_private.h"

#include "base/plant.h"
enum step { STEP_NEXT, STEP_SEND, STEP_SUSPENDED, STEP_SHORT, STEP_STARVED };

static enum step read_one(struct cursors *cursors, struct shard *shard,
                          struct subscription *subscription);
static enum step finish_read(struct cursors *cursors, struct shard *shard,
                             struct subscription *subscription);
static enum step deliver_error(struct cursors *cursors, struct subscription *subscription,
                               struct cursor *cursor, uint16_t error);
static enum step make_room(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription, struct cursor *cursor);
static uint32_t seal(struct subscription *subscription, const struct cursor *cursor, uint16_t error,
                     uint32_t bytes);
static bool begin(struct cursors *cursors, struct shard *shard, struct subscription *subscription,
                  uint32_t bytes);
static int search(struct shard *shard, struct cursor *cursor);

bool subscription_serve(struct cursors *cursors, struct shard *shard,
                        struct subscription *subscription)
{
    if (subscription->reading || subscription->in_flight >= DELIVERIES_IN_FLIGHT_MAX)
        return true; // comes back with the completion
    for (;;) {
        enum step step = STEP_SEND;
        if (!list_is_empty(&subscription->ready))
            step = read_one(cursors, shard, subscription);
        if (step == STEP_NEXT)
            continue;
        if (step == STEP_SUSPENDED)
            return true;
        if (subscription->delivery && subscription->fill > 0)
            delivery_send(cursors, shard, subscription, false);
        else if (subscription->delivery)
            delivery_drop(cursors, shard, subscription);
        bool more = step == STEP_SEND && !list_is_empty(&subscription->ready) &&
                    subscription->in_flight < DELIVERIES_IN_FLIGHT_MAX;
        if (!more)
            return step != STEP_SHORT;
    }
}

/* Takes the first ready cursor one step on. */
static enum step read_one(struct cursors *cursors, struct shard *shard,
                          struct subscription *subscription)
{
    if (subscription->credit < DELIVER_HEAD + BATCH_HEADER_SIZE)
        return STEP_STARVED; // cursors_credit() makes it ready again
    if (!subscription->delivery &&
        !delivery_begin(cursors, shard, subscription, subscription->size_wish,
                        subscription->size_wish))
        return STEP_SHORT;
    uint32_t room = delivery_capacity(subscription) - subscription->fill;
    if (room < DELIVER_HEAD + BATCH_HEADER_SIZE)
        return STEP_SEND;
    struct cursor *cursor = CONTAINER_OF(subscription->ready.next, struct cursor, place_link);
    if (!cursor->partition)
        return deliver_error(cursors, subscription, cursor, PE_UNKNOWN_PARTITION);
    uint32_t capacity = (uint32_t)min_u64(room, subscription->credit) - DELIVER_HEAD;
    uint8_t *place = subscription->delivery->buffer->bytes + subscription->fill + DELIVER_HEAD;
    int started = cursor_read(shard, cursor, place, capacity);
    if (started == E_FULL)
        return STEP_SHORT;
    list_remove(&cursor->place_link);
    subscription->reading = cursor;
    return started == 0 ? STEP_SUSPENDED : finish_read(cursors, shard, subscription);
}

int cursor_read(struct shard *shard, struct cursor *cursor, uint8_t *place, uint32_t capacity)
{
    struct subscription *subscription = cursor->subscription;
    if (PLANTED(SKIP_OFFSET) && cursor->offset + 1 < cursor->partition->visible_end)
        cursor->offset++;
    subscription->read = (struct store_read){
        .partition = cursor->partition,
        .offset = cursor->offset,
        .buffer = place,
        .capacity = capacity,
        .done = on_read_done,
        .hint = cursor->hint,
    };
    list_init(&subscription->read.link);
    if (cursor->is_searching)
        return search(shard, cursor);
    return store_read(shard->store, &subscription->read);
}

/* A few in each turn: each may walk the whole index of the open segment. */
static int search(struct shard *shard, struct cursor *cursor)
{
    struct subscription *subscription = cursor->subscription;
    struct cursors *cursors = subscription->owner;
    if (cursors->searches >= SEARCHES_PER_TURN)
        return E_FULL;
    int started = store_find_time(shard->store, &subscription->read, cursor->timestamp,
                                  &subscription->found_timestamp);
    cursors->searches += started != E_FULL;
    return started;
}

void on_read_done(struct store_read *read)
{
    struct subscription *subscription = CONTAINER_OF(read, struct subscription, read);
    struct cursors *cursors = subscription->owner;
    if (subscription->is_fetch)
        fetch_read_done(cursors, cursors->shard, subscription);
    else
        subscription_read_done(cursors, cursors->shard, subscription);
}

void subscription_read_done(struct cursors *cursors, struct shard *shard,
                            struct subscription *subscription)
{
    if (subscription->is_dead) {
        cursor_free(cursors, TAKE(subscription->reading));
        subscription_free_when_quiet(cursors, shard, subscription);
        return;
    }
    enum step step = finish_read(cursors, shard, subscription);
    bool is_full = step == STEP_SEND || step == STEP_STARVED;
    if (is_full && subscription->delivery && subscription->fill > 0)
        delivery_send(cursors, shard, subscription, false);
    else if (step == STEP_STARVED && subscription->delivery)
        delivery_drop(cursors, shard, subscription);
    if (step != STEP_STARVED) // then only credit helps
        subscription_ready(cursors, subscription);
}

/* What the read brought: a frame, the end, an error, or the wish for more room. */
static enum step finish_read(struct cursors *cursors, struct shard *shard,
                             struct subscription *subscription)
{
    struct cursor *cursor = TAKE(subscription->reading);
    struct store_read *read = &subscription->read;
    cursor->hint = read->hint;
    if (!cursor->partition)
        return deliver_error(cursors, subscription, cursor, PE_UNKNOWN_PARTITION);
    if (read->status == E_TOO_LARGE && !cursor->is_searching)
        return make_room(cursors, shard, subscription, cursor);
    if (read->status)
        return deliver_error(cursors, subscription, cursor, error_of_read(read->status));
    if (cursor->is_searching) {
        cursor->is_searching = false;
        cursor->offset = read->next_offset;
        cursor->hint = INDEX_NONE;
        cursor_ready(cursor);
        return STEP_NEXT;
    }
    if (read->bytes == 0) {
        if (cursor->partition->visible_end > cursor->offset)
            cursor_ready(cursor); // moved while we read
        else
            cursor_park(cursor);
        return STEP_NEXT;
    }
    cursor->offset = read->next_offset;
    uint32_t length = seal(subscription, cursor, PE_NONE, read->bytes);
    subscription->fill += length;
    subscription->credit -= length;
    counter_add(&shard->counters.bytes_delivered_total, read->bytes);
    counter_add(&shard->counters.deliveries_total, 1);
    cursor_ready(cursor); // behind the others: partitions take turns
    return STEP_NEXT;
}

/* The next batch is larger than what is left of the buffer, of the credit, or of both. */
static enum step make_room(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription, struct cursor *cursor)
{
    uint64_t needed = (uint64_t)subscription->read.needed_bytes + DELIVER_HEAD;
    list_push_front(&subscription->ready, &cursor->place_link);
    if (needed > subscription->credit) {
        if (needed <= subscription->window || subscription->fill > 0)
            return STEP_STARVED;
        return deliver_error(cursors, subscription, cursor, PE_CREDIT_TOO_SMALL);
    }
    subscription->size_wish =
        (uint32_t)max_u64(needed, BUFFER_MEDIUM_BYTES); // until a small delivery
    if (subscription->fill > 0)
        return STEP_SEND;
    if (subscription->delivery->buffer->class == BUFFER_JUMBO) // there is none larger
        return deliver_error(cursors, subscription, cursor, PE_BATCH_TOO_LARGE);
    delivery_drop(cursors, shard, subscription);
    return STEP_NEXT;
}

/* An error ends the cursor; the others of its subscription go on. */
static enum step deliver_error(struct cursors *cursors, struct subscription *subscription,
                               struct cursor *cursor, uint16_t error)
{
    uint32_t length = seal(subscription, cursor, error, 0);
    subscription->fill += length;
    subscription->credit -= min_u64(length, subscription->credit);
    cursor_free(cursors, cursor);
    return STEP_NEXT;
}

uint16_t error_of_read(int status)
{
    switch (status) {
    case E_INVALID:
        return PE_OFFSET_OUT_OF_RANGE;
    case E_CANCELED:
        return PE_UNKNOWN_PARTITION;
    case E_NO_MEMORY: // nothing is wrong with what is stored
        return PLANTED(SHORTAGE_OF_READ) ? PE_STORAGE_ERROR : PE_OVERLOADED;
    default:
        return PE_STORAGE_ERROR;
    }
}

/* Writes header and meta in front of the data that lie at fill + DELIVER_HEAD. Returns the frame's length. */
static uint32_t seal(struct subscription *subscription, const struct cursor *cursor, uint16_t error,
                     uint32_t bytes)
{
    const struct partition *partition = cursor->partition;
    uint64_t visible_end = partition ? partition->visible_end : 0;
    uint8_t *frame = subscription->delivery->buffer->bytes + subscription->fill;
    struct writer w = writer_make(frame + FRAME_HEADER_SIZE, DELIVER_META);
    write_deliver_begin(&w, 1);
    struct deliver_item item = {
        .topic_id = le32_make(cursor->topic_id),
        .partition = le32_make(cursor->number),
        .error = le16_make(error),
        .flags = le16_make(cursor->offset == visible_end ? DELIVER_END : 0),
        .bytes = le32_make(bytes),
        .next_offset = le64_make(cursor->offset),
        .log_start = le64_make(partition ? partition->log_start : 0),
        .visible_end = le64_make(visible_end),
    };
    write_bytes(&w, &item, sizeof(item));
    ASSERT(!w.failed);
    return frame_seal(frame, OP_DELIVER, FRAME_PUSH, subscription->id, DELIVER_META, bytes);
}

/* ---- deliveries ---- */

uint32_t delivery_capacity(const struct subscription *subscription)
{
    return subscription->delivery->buffer->capacity;
}

bool delivery_begin(struct cursors *cursors, struct shard *shard, struct subscription *subscription,
                    uint32_t wish, uint32_t least)
{
    bool begun = begin(cursors, shard, subscription, wish) ||
                 (least < wish && begin(cursors, shard, subscription, least));
    cursors->buffers_missed |= !begun;
    return begun;
}

static bool begin(struct cursors *cursors, struct shard *shard, struct subscription *subscription,
                  uint32_t bytes)
{
    ASSERT(!subscription->delivery);
    if (cursors->pinned_bytes > 0 && cursors->pinned_bytes + bytes > DELIVERY_PINNED_BYTES_MAX)
        return false;
    struct request *delivery = request_acquire(shard->requests, REQUEST_DELIVER, shard->core);
    if (!delivery)
        return false;
    delivery->buffer = buffer_acquire_for(shard->buffers, bytes, BUFFER_FOR_DELIVERY);
    if (!delivery->buffer) {
        request_release(shard->requests, delivery);
        return false;
    }
    delivery->target_core = subscription->conn.core;
    delivery->shard = shard->id;
    delivery->conn = subscription->conn;
    delivery->u.deliver.owner = subscription;
    cursors->pinned_bytes += delivery->buffer->capacity;
    subscription->delivery = delivery;
    subscription->fill = 0;
    return true;
}

void delivery_drop(struct cursors *cursors, struct shard *shard, struct subscription *subscription)
{
    struct request *delivery = TAKE(subscription->delivery);
    cursors->pinned_bytes -= delivery->buffer->capacity;
    buffer_unref(shard->buffers, TAKE(delivery->buffer));
    request_release(shard->requests, delivery);
    subscription->fill = 0;
}

/* The next buffer is small when this one stayed nearly empty, medium when it was well used. */
static void adapt_size(struct subscription *subscription)
{
    if (subscription->fill <= BUFFER_SMALL_BYTES / 2)
        subscription->size_wish = BUFFER_SMALL_BYTES;
    else if (subscription->size_wish < BUFFER_MEDIUM_BYTES)
        subscription->size_wish = BUFFER_MEDIUM_BYTES;
}

void delivery_send(struct cursors *cursors, struct shard *shard, struct subscription *subscription,
                   bool last)
{
    adapt_size(subscription);
    struct request *delivery = TAKE(subscription->delivery);
    delivery->frames = delivery->buffer->bytes;
    delivery->frame_bytes = subscription->fill;
    subscription->fill = 0;
    delivery->u.deliver.subscription = subscription->is_fetch ? 0 : subscription->id;
    delivery->u.deliver.last = last;
    subscription->in_flight++;
    if (!list_is_empty(&cursors->unsent) || mailbox_send(shard->mailbox, delivery))
        list_push_back(&cursors->unsent, &delivery->link);
}
