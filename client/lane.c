/* Filling batches: from a record to a closed parcel in its lane's queue.
 *
 * The happy path of an append: lock, write the record behind the others in the open batch, unlock.
 * Now and then the block is full: it grows (blocks begin as large as the lane's last batches were,
 * so seldom) up to batch_bytes, and beyond that the batch is closed and a new one begun. The open
 * batch needs no closing to be sent: the I/O thread takes it as soon as the lane's window has room,
 * so batches are small when the broker is fast and grow while it is busy, without a timer.
 *
 * An append fails with FULL when the producer's memory is used up; then nothing was taken. */
#include "client/producer_private.h"

#include <stdlib.h>

#include "base/status.h"
#include "client/parcel_add.h"

static inline bool add_to_open(struct lane *lane, const struct lane_record *record);
static int make_room(struct lane *lane, const struct record *record, struct parcel **closed);
static int open_parcel(struct lane *lane, const struct record *record);
static bool grow_open(struct lane *lane, const struct record *record);
static struct parcel *close_open(struct lane *lane);
static bool signal_needed(struct lane *lane, bool closed);
static bool finish_compression(struct lane *lane, struct parcel *parcel);
static void compress(struct sluice_producer *producer, struct parcel *parcel);
static uint8_t *scratch_acquire(struct sluice_producer *producer, uint32_t bytes);
static void scratch_release(struct sluice_producer *producer, uint8_t *scratch, uint32_t bytes);
static bool may_go(const struct lane *lane, uint64_t now_ns);

struct lane *lane_new(struct sluice_producer *producer, struct topic *topic, uint32_t partition)
{
    struct lane *lane = aligned_alloc(CACHE_LINE, align_up(sizeof(*lane), CACHE_LINE));
    if (!lane)
        return NULL;
    memset(lane, 0, sizeof(*lane));
    lane->producer = producer;
    lane->topic = topic;
    lane->partition = partition;
    list_init(&lane->queue);
    list_init(&lane->active_link);
    list_init(&lane->turn_link);
    list_init(&lane->unacked);
    return lane;
}

void lane_free(struct lane *lane)
{
    ASSERT(!lane->open && list_is_empty(&lane->queue) && list_is_empty(&lane->unacked));
    free(lane);
}

int lane_append(struct lane *lane, const struct lane_record *records, uint32_t count,
                uint32_t *taken, bool *signal)
{
    struct parcel *closed = NULL;
    int status = SLUICE_OK;
    uint32_t i = 0;
    spinlock_take(&lane->lock);
    while (i < count) {
        if (UNLIKELY(!add_to_open(lane, &records[i]))) {
            status = make_room(lane, &records[i].record, &closed);
            if (status != SLUICE_OK)
                break;
            continue; // it fits now
        }
        i++;
        if (UNLIKELY(lane->open->record_count >= lane->producer->batch_records)) {
            ASSERT(!closed); // making room left a new batch with one record of two or more
            closed = close_open(lane);
        }
        if (UNLIKELY(closed))
            break;
    }
    /* Once the lock is free, what was closed may be sent, acked and gone; unless it has to be
     * compressed. */
    bool compressing = closed && closed->compressing;
    *signal = signal_needed(lane, closed && !compressing);
    spinlock_release(&lane->lock);
    if (compressing)
        *signal |= finish_compression(lane, closed);
    *taken = i;
    return status;
}

enum lane_answer lane_take(struct lane *lane, uint64_t now_ns, struct parcel **parcel,
                           uint64_t *wake_ns)
{
    enum lane_answer answer = LANE_PARCEL;
    spinlock_take(&lane->lock);
    if (list_is_empty(&lane->queue) && lane->open && may_go(lane, now_ns)) {
        struct parcel *open = close_open(lane);
        open->compressing = false; // this thread does it, below
    }
    lane->wants_close = false;
    if (!list_is_empty(&lane->queue)) {
        *parcel = CONTAINER_OF(lane->queue.next, struct parcel, link);
        if ((*parcel)->compressing)
            answer = LANE_COMPRESSING;
        else
            list_remove(&(*parcel)->link);
        parcel_fetch(CONTAINER_OF(lane->queue.next, struct parcel, link)); // if any
    } else if (lane->open) {
        *wake_ns = lane->open->opened_ns + lane->producer->linger_ns;
        answer = LANE_LATER;
    } else {
        answer = LANE_EMPTY;
        lane->signalled = false;
    }
    lane->wants_close = answer == LANE_LATER || answer == LANE_COMPRESSING;
    spinlock_release(&lane->lock);
    if (answer == LANE_PARCEL && !(*parcel)->compressed)
        compress(lane->producer, *parcel);
    return answer;
}

struct parcel *lane_take_older(struct lane *lane, uint64_t before_ns)
{
    spinlock_take(&lane->lock);
    struct parcel *parcel = lane->open;
    if (!list_is_empty(&lane->queue))
        parcel = CONTAINER_OF(lane->queue.next, struct parcel, link);
    if (parcel && (parcel->opened_ns > before_ns || parcel->compressing))
        parcel = NULL;
    if (parcel && parcel == lane->open)
        lane->open = NULL;
    else if (parcel)
        list_remove(&parcel->link);
    spinlock_release(&lane->lock);
    return parcel;
}

bool lane_close(struct lane *lane)
{
    spinlock_take(&lane->lock);
    struct parcel *closed = lane->open ? close_open(lane) : NULL;
    bool compressing = closed && closed->compressing;
    bool signal = signal_needed(lane, closed && !compressing);
    spinlock_release(&lane->lock);
    if (compressing)
        signal |= finish_compression(lane, closed);
    return signal;
}

void lane_forget_signal(struct lane *lane)
{
    spinlock_take(&lane->lock);
    lane->signalled = false;
    spinlock_release(&lane->lock);
}

uint64_t lane_accepted(struct lane *lane)
{
    spinlock_take(&lane->lock);
    uint64_t accepted = lane->accepted;
    spinlock_release(&lane->lock);
    return accepted;
}

void lane_release(struct lane *lane, struct parcel *parcel)
{
    blocks_release(&lane->producer->blocks, parcel);
}

/* ---- under the lane's lock ---- */

static inline bool add_to_open(struct lane *lane, const struct lane_record *record)
{
    if (UNLIKELY(!lane->open || lane->closed) ||
        UNLIKELY(parcel_add(lane->open, &record->record, record->opaque, lane->producer->opaques) <
                 0))
        return false;
    lane->accepted++;
    return true;
}

/* Grows the open batch, or closes it and begins one that this record fits into. */
static int make_room(struct lane *lane, const struct record *record, struct parcel **closed)
{
    if (lane->closed)
        return SLUICE_E_CLOSED;
    if (lane->open && grow_open(lane, record))
        return SLUICE_OK;
    if (lane->open)
        *closed = close_open(lane);
    return open_parcel(lane, record);
}

static int open_parcel(struct lane *lane, const struct record *record)
{
    struct sluice_producer *producer = lane->producer;
    int gate = atomic_load_explicit(&producer->gate, memory_order_relaxed);
    if (UNLIKELY(gate != SLUICE_OK)) // shut since the record was checked
        return gate;
    struct batch_builder empty = {.len = BATCH_HEADER_SIZE};
    uint32_t record_bytes = batch_builder_record_size(&empty, record);
    uint32_t needed = parcel_bytes_needed(record_bytes, producer->opaques);
    uint64_t alone = (uint64_t)BATCH_HEADER_SIZE + record_bytes; // may exceed batch_bytes
    if (needed > BLOCK_BYTES_MAX || needed > producer->blocks.total_bytes / 2)
        return SLUICE_E_TOO_LARGE;
    uint32_t wanted = lane->size_hint > needed ? lane->size_hint : needed;
    uint32_t block_bytes;
    void *block = blocks_acquire(&producer->blocks, wanted, needed, &block_bytes);
    if (!block)
        return SLUICE_E_FULL;
    lane->open = parcel_init(block, block_bytes, lane);
    lane->open->batch_bytes_max = (uint32_t)max_u64(producer->batch_bytes, alone);
    if (producer->txn)
        lane->open->builder.attributes = BATCH_TRANSACTIONAL;
    if (producer->compression == SLUICE_COMPRESSION_NONE)
        batch_builder_sum_early(&lane->open->builder);
    lane->open->opened_ns = client_now_ns(producer->client);
    lane->open->record_index = lane->accepted;
    return SLUICE_OK;
}

/* A larger block for the open batch, or false when it is as large as it may be or memory is short.
 */
static bool grow_open(struct lane *lane, const struct record *record)
{
    struct sluice_producer *producer = lane->producer;
    struct parcel *open = lane->open;
    uint32_t block_max = blocks_round_up(producer->batch_bytes);
    uint64_t len = (uint64_t)open->builder.len + batch_builder_record_size(&open->builder, record);
    if (open->block_bytes >= block_max || len > producer->batch_bytes)
        return false;
    uint32_t wanted = (uint32_t)min_u64((uint64_t)open->block_bytes * 4, block_max);
    uint32_t block_bytes;
    void *block = blocks_acquire(&producer->blocks, wanted, open->block_bytes * 2, &block_bytes);
    if (!block)
        return false;
    lane->open = parcel_move(open, block, block_bytes, producer->opaques);
    blocks_release(&producer->blocks, open);
    return true;
}

static struct parcel *close_open(struct lane *lane)
{
    struct sluice_producer *producer = lane->producer;
    struct parcel *parcel = TAKE(lane->open);
    ASSERT(parcel->record_count > 0);
    uint32_t used = parcel_bytes_needed(parcel->builder.len, false) +
                    (producer->opaques ? parcel->record_count * (uint32_t)sizeof(void *) : 0);
    lane->size_hint = (uint32_t)min_u64(blocks_round_up(used), parcel->block_bytes);
    parcel->compressing = producer->compression == SLUICE_COMPRESSION_LZ4;
    list_push_back(&lane->queue, &parcel->link);
    partitioner_moved_on(lane->topic, lane->partition);
    return parcel;
}

static bool signal_needed(struct lane *lane, bool closed)
{
    bool wanted = closed && lane->wants_close;
    bool needed = wanted || (!lane->signalled && (lane->open || !list_is_empty(&lane->queue)));
    if (needed) {
        lane->signalled = true;
        lane->wants_close = false;
    }
    return needed;
}

static bool may_go(const struct lane *lane, uint64_t now_ns)
{
    struct sluice_producer *producer = lane->producer;
    return producer->linger_ns == 0 || now_ns >= lane->open->opened_ns + producer->linger_ns ||
           atomic_load_explicit(&producer->flushing, memory_order_relaxed) > 0 ||
           atomic_load_explicit(&producer->pressed, memory_order_relaxed);
}

/* ---- compression: by the thread that closed the batch, outside the lock ---- */

static bool finish_compression(struct lane *lane, struct parcel *parcel)
{
    compress(lane->producer, parcel);
    spinlock_take(&lane->lock);
    parcel->compressing = false;
    bool signal = signal_needed(lane, true);
    spinlock_release(&lane->lock);
    return signal;
}

/* Without memory for the scratch buffer the batch is sent as it is. */
static void compress(struct sluice_producer *producer, struct parcel *parcel)
{
    if (producer->compression != SLUICE_COMPRESSION_LZ4)
        return;
    uint32_t bytes = batch_compress_bound(parcel->builder.len);
    uint8_t *scratch = scratch_acquire(producer, bytes);
    if (!scratch)
        return;
    parcel_compress(parcel, scratch, bytes);
    scratch_release(producer, scratch, bytes);
}

static uint8_t *scratch_acquire(struct sluice_producer *producer, uint32_t bytes)
{
    uint32_t usual = batch_compress_bound(producer->batch_bytes);
    for (uint32_t i = 0; bytes <= usual && i < ARRAY_COUNT(producer->scratch); i++) {
        uint8_t *scratch = atomic_exchange(&producer->scratch[i], NULL);
        if (scratch)
            return scratch;
    }
    return malloc(bytes <= usual ? usual : bytes);
}

static void scratch_release(struct sluice_producer *producer, uint8_t *scratch, uint32_t bytes)
{
    if (bytes <= batch_compress_bound(producer->batch_bytes)) {
        for (uint32_t i = 0; i < ARRAY_COUNT(producer->scratch); i++) {
            uint8_t *none = NULL;
            if (atomic_compare_exchange_strong(&producer->scratch[i], &none, scratch))
                return;
        }
    }
    free(scratch);
}
