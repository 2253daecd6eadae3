/* Life of cursors and subscriptions: beginning, parking, waking, ending. See cursor.h for the places. */
#include "broker/cursor_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/plant.h"

static struct list *bucket_of(struct cursors *cursors, struct conn_id conn, uint64_t id);
static struct subscription *find(struct cursors *cursors, struct conn_id conn, uint64_t id);
static struct subscription *subscription_new(struct cursors *cursors, struct shard *shard,
                                             struct request *request,
                                             const struct msg_fetch *fetch);
static uint16_t add_cursor(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription, const struct fetch_item *item,
                           struct request *request);
static bool is_named_before(struct shard *shard, const struct msg_fetch *fetch, uint32_t index);
static void wait_insert(struct cursors *cursors, struct subscription *subscription);

struct cursors *cursors_new(void)
{
    struct cursors *cursors = calloc(1, sizeof(*cursors));
    if (!cursors)
        return NULL;
    int status = pool_init_heap(&cursors->cursor_pool, CURSORS_PER_SHARD, sizeof(struct cursor));
    if (status == 0)
        status = pool_init_heap(&cursors->subscription_pool, SUBSCRIPTIONS_PER_SHARD,
                                sizeof(struct subscription));
    if (status) {
        cursors_free(cursors);
        return NULL;
    }
    for (uint32_t i = 0; i < SUBSCRIPTION_BUCKETS; i++)
        list_init(&cursors->buckets[i]);
    list_init(&cursors->ready);
    list_init(&cursors->waiting);
    list_init(&cursors->unsent);
    return cursors;
}

void cursors_free(struct cursors *cursors)
{
    if (!cursors)
        return;
    if (cursors->cursor_pool.objects)
        pool_deinit_heap(&cursors->cursor_pool);
    if (cursors->subscription_pool.objects)
        pool_deinit_heap(&cursors->subscription_pool);
    free(cursors);
}

uint16_t cursor_start(const struct partition *partition, enum start_kind start, uint64_t value,
                      uint64_t *offset)
{
    switch (start) {
    case START_BEGINNING:
        *offset = partition->log_start;
        return PE_NONE;
    case START_END:
    case START_TIMESTAMP:
        *offset = partition->visible_end;
        return PE_NONE;
    case START_OFFSET:
        *offset = value;
        return value >= partition->log_start && value <= partition->visible_end
                   ? PE_NONE
                   : PE_OFFSET_OUT_OF_RANGE;
    }
    return PE_INVALID_ARGUMENT;
}

uint16_t cursors_begin(struct cursors *cursors, struct shard *shard, struct request *request,
                       const struct msg_fetch *fetch)
{
    cursors->shard = shard;
    if (find(cursors, request->conn, request->correlation)) {
        snprintf(request->text, sizeof(request->text), "correlation id %llu is in use",
                 (unsigned long long)request->correlation);
        return PE_INVALID_ARGUMENT;
    }
    struct subscription *subscription = subscription_new(cursors, shard, request, fetch);
    if (!subscription) {
        snprintf(request->text, sizeof(request->text), "at most %u readers per shard",
                 SUBSCRIPTIONS_PER_SHARD);
        return PE_OVERLOADED;
    }
    for (uint32_t i = 0; i < fetch->item_count; i++) {
        uint16_t error = add_cursor(cursors, shard, subscription, &fetch->items[i], request);
        if (!error && is_named_before(shard, fetch, i)) {
            error = PE_INVALID_ARGUMENT;
            snprintf(request->text, sizeof(request->text), "topic id %u partition %u: named twice",
                     le32_get(fetch->items[i].topic_id), le32_get(fetch->items[i].partition));
        }
        if (error) {
            cursors_end(cursors, shard, subscription);
            return error;
        }
    }
    subscription_ready(cursors, subscription);
    if (subscription->is_fetch)
        wait_insert(cursors, subscription);
    return PE_NONE;
}

static struct subscription *subscription_new(struct cursors *cursors, struct shard *shard,
                                             struct request *request, const struct msg_fetch *fetch)
{
    struct subscription *subscription = pool_acquire(&cursors->subscription_pool);
    if (!subscription)
        return NULL;
    *subscription = (struct subscription){
        .owner = cursors,
        .conn = request->conn,
        .id = request->correlation,
        .credit = fetch->credit,
        .window = fetch->credit,
        .size_wish = BUFFER_MEDIUM_BYTES,
        .is_fetch = request->op == OP_FETCH,
        .deadline_ns = shard->now_ns + fetch->wait_ms * NS_PER_MS,
        .bytes_max = fetch->bytes_max,
    };
    list_init(&subscription->ready_link);
    list_init(&subscription->wait_link);
    list_init(&subscription->all);
    list_init(&subscription->ready);
    list_init(&subscription->hash_link);
    list_push_back(bucket_of(cursors, request->conn, request->correlation),
                   &subscription->hash_link);
    cursors->subscription_count++;
    return subscription;
}

static uint16_t add_cursor(struct cursors *cursors, struct shard *shard,
                           struct subscription *subscription, const struct fetch_item *item,
                           struct request *request)
{
    uint32_t topic_id = le32_get(item->topic_id), number = le32_get(item->partition);
    struct partition *partition = store_partition(shard->store, topic_id, number);
    if (!partition) {
        snprintf(request->text, sizeof(request->text), "topic id %u partition %u", topic_id,
                 number);
        bool known = shard->topics && topics_find_id(shard->topics, topic_id);
        return known || !shard->topics ? PE_UNKNOWN_PARTITION : PE_UNKNOWN_TOPIC;
    }
    uint64_t offset;
    uint16_t error = cursor_start(partition, item->start, le64_get(item->value), &offset);
    if (error) {
        snprintf(request->text, sizeof(request->text), "partition %u: offset %llu, have %llu..%llu",
                 number, (unsigned long long)le64_get(item->value),
                 (unsigned long long)partition->log_start,
                 (unsigned long long)partition->visible_end);
        return error;
    }
    struct cursor *cursor = pool_acquire(&cursors->cursor_pool);
    if (!cursor) {
        snprintf(request->text, sizeof(request->text), "at most %u cursors per shard",
                 CURSORS_PER_SHARD);
        return PE_OVERLOADED;
    }
    *cursor = (struct cursor){
        .subscription = subscription,
        .partition = partition,
        .topic_id = topic_id,
        .number = number,
        .offset = offset,
        .timestamp = (int64_t)le64_get(item->value),
        .is_searching = item->start == START_TIMESTAMP,
        .hint = INDEX_NONE,
        .bytes_max = le32_get(item->bytes_max),
    };
    list_init(&cursor->all_link);
    list_init(&cursor->place_link);
    list_push_back(&subscription->all, &cursor->all_link);
    subscription->cursor_count++;
    cursor_ready(cursor);
    return PE_NONE;
}

/* Called for each item in its order. A table of item numbers, open-addressed, in the shard's scratch: it may be
 * so simple since only partitions that exist get into it, of which nobody can make enough that collide. */
static bool is_named_before(struct shard *shard, const struct msg_fetch *fetch, uint32_t index)
{
    enum { NAME_BYTES = offsetof(struct fetch_item, start) }; // topic_id, partition
    static_assert(4 * FETCH_ITEM_COUNT_MAX * sizeof(uint32_t) <= SHARD_SCRATCH_BYTES, "fits");
    uint32_t *table = (uint32_t *)shard->scratch;
    uint32_t size = 2;
    while (size < 2 * fetch->item_count)
        size *= 2;
    if (index == 0)
        memset(table, 0, size * sizeof(*table));
    const struct fetch_item *items = fetch->items;
    uint64_t place = hash_xxh3(&items[index], NAME_BYTES);
    for (; table[place % size] != 0; place++) {
        if (memcmp(&items[table[place % size] - 1], &items[index], NAME_BYTES) == 0)
            return true;
    }
    table[place % size] = index + 1;
    return false;
}

void cursor_park(struct cursor *cursor)
{
    list_remove(&cursor->place_link);
    list_push_back(&cursor->partition->waiters, &cursor->place_link);
}

void cursor_ready(struct cursor *cursor)
{
    list_remove(&cursor->place_link);
    list_push_back(&cursor->subscription->ready, &cursor->place_link);
}

void cursor_free(struct cursors *cursors, struct cursor *cursor)
{
    list_remove(&cursor->place_link);
    list_remove(&cursor->all_link);
    cursor->subscription->cursor_count--;
    pool_release(&cursors->cursor_pool, cursor);
}

void subscription_ready(struct cursors *cursors, struct subscription *subscription)
{
    if (!list_is_linked(&subscription->ready_link))
        list_push_back(&cursors->ready, &subscription->ready_link);
}

/* Most fetches wait equally long, so the back is almost always the place. */
static void wait_insert(struct cursors *cursors, struct subscription *subscription)
{
    struct list *place = &cursors->waiting;
    while (place->prev != &cursors->waiting &&
           CONTAINER_OF(place->prev, struct subscription, wait_link)->deadline_ns >
               subscription->deadline_ns)
        place = place->prev;
    list_push_back(place, &subscription->wait_link);
}

uint64_t cursors_deadline_ns(const struct cursors *cursors)
{
    if (list_is_empty(&cursors->waiting))
        return UINT64_MAX;
    return CONTAINER_OF(cursors->waiting.next, struct subscription, wait_link)->deadline_ns;
}

void cursors_wake(struct cursors *cursors, struct partition *partition)
{
    if (PLANTED(NO_WAKE))
        return;
    LIST_EACH(node, &partition->waiters)
    {
        struct cursor *cursor = CONTAINER_OF(node, struct cursor, place_link);
        cursor_ready(cursor);
        subscription_ready(cursors, cursor->subscription);
    }
}

int cursors_turn(struct cursors *cursors, struct shard *shard)
{
    cursors->shard = shard;
    int work = 0;
    while (!list_is_empty(&cursors->unsent)) {
        struct request *delivery = CONTAINER_OF(cursors->unsent.next, struct request, link);
        list_remove(&delivery->link);
        if (mailbox_send(shard->mailbox, delivery)) {
            list_push_front(&cursors->unsent, &delivery->link);
            break;
        }
        work++;
    }
    fetch_expire(cursors, shard);
    cursors->buffers_missed = false;
    cursors->searches = 0;
    struct list round; // what becomes ready again meanwhile is served next turn
    list_init(&round);
    while (!list_is_empty(&cursors->ready))
        list_push_back(&round, list_pop_front(&cursors->ready));
    while (!list_is_empty(&round)) {
        struct subscription *subscription =
            CONTAINER_OF(list_pop_front(&round), struct subscription, ready_link);
        if (subscription->is_dead)
            continue;
        bool served = subscription->is_fetch ? fetch_serve(cursors, shard, subscription)
                                             : subscription_serve(cursors, shard, subscription);
        work += served;
        if (!served)
            subscription_ready(cursors, subscription);
    }
    if (atomic_load_explicit(&shard->readers_wait, memory_order_relaxed) != cursors->buffers_missed)
        atomic_store_explicit(&shard->readers_wait, cursors->buffers_missed, memory_order_relaxed);
    return work + (int)cursors->searches; // who found none left is not woken by anything else
}

/* ---- ending ---- */

bool cursors_credit(struct cursors *cursors, struct conn_id conn, uint64_t id, uint64_t bytes)
{
    struct subscription *subscription = find(cursors, conn, id);
    if (!subscription || subscription->is_fetch)
        return false;
    /* A client can't have more out than a window holds; saturating keeps a hostile one harmless. */
    uint64_t credit = subscription->credit + bytes;
    subscription->credit = credit < bytes ? UINT64_MAX : credit;
    subscription_ready(cursors, subscription);
    return true;
}

bool cursors_unsubscribe(struct cursors *cursors, struct shard *shard, struct conn_id conn,
                         uint64_t id)
{
    struct subscription *subscription = find(cursors, conn, id);
    if (!subscription || subscription->is_fetch)
        return false;
    cursors_end(cursors, shard, subscription);
    return true;
}

void cursors_conn_closed(struct cursors *cursors, struct shard *shard, struct conn_id conn)
{
    for (uint32_t i = 0; i < SUBSCRIPTION_BUCKETS; i++) {
        LIST_EACH(node, &cursors->buckets[i])
        {
            struct subscription *subscription = CONTAINER_OF(node, struct subscription, hash_link);
            if (subscription->conn.core == conn.core && subscription->conn.slot == conn.slot &&
                subscription->conn.life == conn.life)
                cursors_end(cursors, shard, subscription);
        }
    }
}

/* From now on nothing is read for it; it goes when what is in flight has come home. */
void cursors_end(struct cursors *cursors, struct shard *shard, struct subscription *subscription)
{
    subscription->is_dead = true;
    list_remove(&subscription->hash_link);
    list_remove(&subscription->ready_link);
    list_remove(&subscription->wait_link);
    LIST_EACH(node, &subscription->all)
    {
        struct cursor *cursor = CONTAINER_OF(node, struct cursor, all_link);
        if (cursor != subscription->reading)
            cursor_free(cursors, cursor);
    }
    subscription_free_when_quiet(cursors, shard, subscription);
}

void subscription_free_when_quiet(struct cursors *cursors, struct shard *shard,
                                  struct subscription *subscription)
{
    if (!subscription->is_dead || subscription->reading)
        return;
    if (subscription->delivery)
        delivery_drop(cursors, shard, subscription);
    if (subscription->in_flight > 0)
        return;
    ASSERT(subscription->cursor_count == 0);
    list_remove(&subscription->ready_link);
    cursors->subscription_count--;
    pool_release(&cursors->subscription_pool, subscription);
}

void cursors_delivered(struct cursors *cursors, struct shard *shard, struct request *delivery)
{
    struct subscription *subscription = delivery->u.deliver.owner;
    cursors->pinned_bytes -= delivery->buffer->capacity;
    buffer_unref(shard->buffers, TAKE(delivery->buffer));
    request_release(shard->requests, delivery);
    ASSERT(subscription->in_flight > 0);
    subscription->in_flight--;
    if (subscription->is_dead)
        subscription_free_when_quiet(cursors, shard, subscription);
    else
        subscription_ready(cursors, subscription);
}

/* Rare, so all cursors are looked at: a cursor has no link of its own to its partition while it is ready. */
void cursors_partition_dropped(struct cursors *cursors, struct shard *shard,
                               struct partition *partition)
{
    for (uint32_t i = 0; i < SUBSCRIPTION_BUCKETS; i++) {
        LIST_EACH(node, &cursors->buckets[i])
        {
            struct subscription *subscription = CONTAINER_OF(node, struct subscription, hash_link);
            LIST_EACH(place, &subscription->all)
            {
                struct cursor *cursor = CONTAINER_OF(place, struct cursor, all_link);
                if (cursor->partition != partition)
                    continue;
                cursor->partition = NULL;
                if (cursor != subscription->reading)
                    cursor_ready(cursor);
                subscription_ready(cursors, subscription);
            }
        }
    }
}

static struct list *bucket_of(struct cursors *cursors, struct conn_id conn, uint64_t id)
{
    uint64_t key[3] = {((uint64_t)conn.core << 32) | conn.slot, conn.life, id};
    return &cursors->buckets[hash_xxh3(key, sizeof(key)) % SUBSCRIPTION_BUCKETS];
}

static struct subscription *find(struct cursors *cursors, struct conn_id conn, uint64_t id)
{
    LIST_EACH(node, bucket_of(cursors, conn, id))
    {
        struct subscription *subscription = CONTAINER_OF(node, struct subscription, hash_link);
        if (subscription->id == id && subscription->conn.core == conn.core &&
            subscription->conn.slot == conn.slot && subscription->conn.life == conn.life)
            return subscription;
    }
    return NULL;
}

void cursors_check(const struct cursors *cursors)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SUBSCRIPTION_BUCKETS; i++) {
        LIST_EACH(node, &cursors->buckets[i])
        {
            const struct subscription *subscription =
                CONTAINER_OF(node, const struct subscription, hash_link);
            ASSERT(!subscription->is_dead);
            uint32_t cursors_seen = 0;
            LIST_EACH(place, &subscription->all)
            {
                const struct cursor *cursor = CONTAINER_OF(place, const struct cursor, all_link);
                ASSERT(cursor->subscription == subscription);
                cursors_seen++;
            }
            ASSERT(cursors_seen == subscription->cursor_count);
            count++;
        }
    }
    ASSERT(count <= cursors->subscription_count);
}
