/* Copies staged batches forward when nothing else holds their segment back.
 *
 * Happy path: the log is high (upkeep_log_is_high(): when unweaving begins), and the lowest staged batch lies below the first segment
 * that is needed for another reason. Then the stretch from that batch on is read (O_DIRECT, up to a piece), each batch is
 * checked and appended again as STAGED_MOVED, which puts its row on the new place. What ended while the read was on its
 * way is left out. When nothing is left below, the next checkpoints give the segments back.
 *
 * When nearly as much is staged there as would come back, nothing is moved: the log then waits for an end of a transaction.
 * Up to store_staged_bytes_max() that can't be.
 *
 * So a batch is copied once in the time in which the log goes through three quarters of its budget, and only while its
 * transaction is open. The old copy is good until both kept checkpoints know the new place.
 *
 * Pace: one stretch at a time, some batches a turn, and between two stretches a pause of three times the read's duration unless
 * appends are already waiting for files.
 *
 * Failure modes: the log is full: the same batch again in the next turn (batches of producers leave room for this,
 * upkeep_room.c); a read error: again a second later; a damaged batch: one line that says where, and no more moves until a
 * restart. The log then stops growing at its budget, as with damage that unweaving meets. */
#include "storage/staged_mover.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "storage/store_private.h"

#define MOVES_MAX 64u                               // of one stretch
#define MOVE_BYTES_PER_TURN ((uint32_t)(512 * KIB)) // 50 us of checksum and copy
#define PAUSE_FACTOR 3
#define KEEP_BYTES ((uint64_t)(256 * KIB)) // of the log's last room, for what ends transactions

struct move {
    uint32_t row;
    struct disk_staged seen; // the row when the read began
};

struct staged_mover {
    struct store *store;
    struct io_op op;
    bool is_reading;
    uint64_t until_lsn;      // what lies below is moved
    struct segment *segment; // pinned while it is read
    uint64_t start;          // LSN of buffer[0]
    uint64_t end;
    uint8_t *piece;  // READ_PIECE_BYTES (arena)
    uint8_t *buffer; // piece, or the large one of the read path
    struct move moves[MOVES_MAX];
    uint32_t count, next; // of moves; next == count: nothing to do
    uint64_t began_ns;
    uint64_t resume_ns; // nothing before
    bool damage;
    struct staged_mover_stats stats;
};

static bool is_wanted(struct staged_mover *mover);
static uint64_t bytes_below(const struct store *store, uint64_t lsn);
static bool is_worth_while(const struct store *store, uint64_t until_lsn);
static int stretch_begin(struct staged_mover *mover);
static bool stretch_buffer(struct staged_mover *mover);
static void stretch_read_done(struct io_op *op);
static void stretch_end(struct staged_mover *mover, uint64_t pause_ns);
static int moves_turn(struct staged_mover *mover);
static int move_append(struct staged_mover *mover, const struct move *move);
static const char *move_fault(const struct move *move, const uint8_t *batch);

struct staged_mover *staged_mover_new(struct store *store)
{
    struct staged_mover *mover = calloc(1, sizeof(*mover));
    if (!mover)
        return NULL;
    mover->store = store;
    mover->piece = arena_alloc(store->options.arena, READ_PIECE_BYTES, DISK_BLOCK);
    return mover;
}

void staged_mover_free(struct staged_mover *mover)
{
    free(mover);
}

size_t staged_mover_arena_bytes(void)
{
    return READ_PIECE_BYTES + DISK_BLOCK;
}

bool staged_mover_is_idle(const struct staged_mover *mover)
{
    return !mover->is_reading;
}

struct staged_mover_stats staged_mover_stats(const struct staged_mover *mover)
{
    return mover->stats;
}

uint64_t staged_mover_deadline_ns(const struct staged_mover *mover)
{
    bool waits = mover->resume_ns > mover->store->now_ns && !mover->damage;
    return waits ? mover->resume_ns : UINT64_MAX;
}

int staged_mover_turn(struct staged_mover *mover)
{
    if (mover->is_reading)
        return 0;
    if (mover->next < mover->count)
        return moves_turn(mover);
    return is_wanted(mover) ? stretch_begin(mover) : 0;
}

/* What lies below the first segment that is needed otherwise, all of it once it was begun. Asked rarely when the answer was
 * no: it takes a look at all segments. */
static bool is_wanted(struct staged_mover *mover)
{
    struct store *store = mover->store;
    if (staged_oldest(store->staged) == TABLE_ROW_NONE || mover->damage || store->is_closing ||
        store->now_ns < mover->resume_ns || !upkeep_log_is_high(store))
        return false;
    if (staged_lowest(store->staged) < mover->until_lsn)
        return true;
    mover->until_lsn = upkeep_held_lsn(store);
    if (is_worth_while(store, mover->until_lsn))
        return true;
    mover->until_lsn = 0;
    mover->resume_ns = store->now_ns + UPKEEP_LOOK_NS;
    return false;
}

/* What comes back are whole files, however little of them was used. */
static uint64_t bytes_below(const struct store *store, uint64_t lsn)
{
    uint32_t files = 0;
    while (files < wal_segment_count(store->wal) &&
           wal_segment_at(store->wal, files)->base_lsn < lsn)
        files++;
    return files * store->options.segment_bytes;
}

/* More must come back than is written: otherwise a log with too much staged would go round for ever. */
static bool is_worth_while(const struct store *store, uint64_t until_lsn)
{
    uint64_t bytes = store->options.segment_bytes / 4;
    uint64_t back = bytes_below(store, until_lsn);
    if (staged_lowest(store->staged) >= until_lsn)
        return false;
    uint32_t row = staged_oldest(store->staged);
    for (; row != TABLE_ROW_NONE && bytes <= back; row = staged_newer(store->staged, row)) {
        const struct disk_staged *disk = staged_row(store->staged, row);
        if (le64_get(disk->position) >= until_lsn)
            return true;
        bytes += le32_get(disk->size);
    }
    return bytes <= back;
}

/* ---- a stretch of a segment ---- */

static int stretch_begin(struct staged_mover *mover)
{
    struct store *store = mover->store;
    uint64_t lowest = staged_lowest(store->staged);
    mover->segment = segment_holding(store, lowest);
    ASSERT(mover->segment); // a staged batch holds its segment
    mover->start = align_down(lowest, DISK_BLOCK);
    mover->count = mover->next = 0;
    uint64_t end_lsn = min_u64(mover->until_lsn, mover->segment->end_lsn);
    for (uint32_t row = staged_oldest(store->staged);
         row != TABLE_ROW_NONE && mover->count < MOVES_MAX;
         row = staged_newer(store->staged, row)) {
        const struct disk_staged *seen = staged_row(store->staged, row);
        uint64_t position = le64_get(seen->position), end = position + le32_get(seen->size);
        if (position >= end_lsn ||
            (mover->count > 0 && align_up(end, DISK_BLOCK) - mover->start > READ_PIECE_BYTES))
            break;
        mover->moves[mover->count++] = (struct move){.row = row, .seen = *seen};
        mover->end = end;
    }
    if (!stretch_buffer(mover)) {
        mover->count = 0;
        return 0;
    }
    mover->is_reading = true;
    mover->segment->pins++;
    mover->began_ns = store->now_ns;
    io_read(store->options.io, &mover->op, mover->segment->fd, mover->buffer,
            (uint32_t)(align_up(mover->end, DISK_BLOCK) - mover->start),
            segment_offset(mover->segment, mover->start), stretch_read_done);
    return 1;
}

/* False: a batch larger than a piece needs the buffer that a read has. */
static bool stretch_buffer(struct staged_mover *mover)
{
    uint32_t capacity;
    mover->buffer = mover->piece;
    if (align_up(mover->end, DISK_BLOCK) - mover->start > READ_PIECE_BYTES)
        mover->buffer = read_jobs_jumbo_take(mover->store->reads, &capacity);
    return mover->buffer != NULL;
}

static void stretch_read_done(struct io_op *op)
{
    struct staged_mover *mover = CONTAINER_OF(op, struct staged_mover, op);
    mover->is_reading = false;
    TAKE(mover->segment)->pins--;
    if (op->result >= 0 && (uint64_t)op->result >= mover->end - mover->start)
        return;
    LOG_ERROR("staged.read_failed", LOG_STR("dir", mover->store->wal_dir),
              LOG_U64("lsn", mover->start), LOG_STATUS(op->result < 0 ? op->result : E_TRUNCATED),
              LOG_I64("errno", op->os_error));
    stretch_end(mover, UPKEEP_RETRY_NS);
}

static void stretch_end(struct staged_mover *mover, uint64_t pause_ns)
{
    mover->count = mover->next = 0;
    mover->resume_ns = mover->store->now_ns + pause_ns;
    if (mover->buffer != mover->piece)
        read_jobs_jumbo_give(mover->store->reads);
    mover->buffer = mover->piece;
}

/* ---- its batches ---- */

static int moves_turn(struct staged_mover *mover)
{
    struct store *store = mover->store;
    uint64_t until = mover->stats.bytes + MOVE_BYTES_PER_TURN;
    uint64_t took_ns = store->now_ns - mover->began_ns;
    int work = 0;
    for (; mover->next < mover->count && mover->stats.bytes < until; mover->next++, work++) {
        const struct move *move = &mover->moves[mover->next];
        if (!staged_row_is(store->staged, move->row, &move->seen))
            continue; // it ended meanwhile
        int status = store->is_closing ? E_CLOSED : move_append(mover, move);
        if (status == E_FULL && mover->buffer == mover->piece)
            return work;
        if (status < 0) { // the large buffer is given back even when it is only for later
            mover->damage = status == E_CORRUPT;
            stretch_end(mover, status == E_FULL ? UPKEEP_LOOK_NS : UPKEEP_RETRY_NS);
            return work;
        }
    }
    if (mover->next == mover->count)
        stretch_end(mover, store_is_urgent(store) ? 0 : PAUSE_FACTOR * took_ns);
    return work;
}

static int move_append(struct staged_mover *mover, const struct move *move)
{
    const struct disk_staged *row = &move->seen;
    const uint8_t *batch = mover->buffer + (le64_get(row->position) - mover->start);
    const char *why = move_fault(move, batch);
    if (why) {
        LOG_ERROR("staged.damaged", LOG_STR("dir", mover->store->wal_dir), LOG_STR("why", why),
                  LOG_U64("lsn", le64_get(row->position)), LOG_U64("bytes", le32_get(row->size)),
                  LOG_U64("topic_id", le32_get(row->topic_id)),
                  LOG_U64("partition", le32_get(row->partition)));
        return E_CORRUPT;
    }
    struct disk_staged_moved moved = {.name = row->name, .from = row->position};
    struct wal_entry entry = {.type = ENTRY_STAGED_MOVED,
                              .topic_id = le32_get(row->topic_id),
                              .partition = le32_get(row->partition),
                              .pieces = {{&moved, sizeof(moved)}, {batch, le32_get(row->size)}},
                              .piece_count = 2};
    struct wal_view view;
    if (upkeep_free_bytes(mover->store) < le32_get(row->size) + KEEP_BYTES)
        return E_FULL;
    int status = store_append(mover->store, &entry, &view, NULL);
    if (status < 0)
        return status;
    mover->stats.batches++;
    mover->stats.bytes += le32_get(row->size);
    return 0;
}

/* As with unweaving: damage is never spread. */
static const char *move_fault(const struct move *move, const uint8_t *batch)
{
    struct batch_info info;
    uint32_t size = le32_get(move->seen.size);
    if (!batch_peek(batch, size, &info) || info.size != size)
        return "no batch of that size where the row says";
    if (!batch_is_staged(batch) || info.record_count != le32_get(move->seen.record_count))
        return "another batch than the row says";
    if (!stored_epoch_is_good(batch))
        return "batch of another leader epoch than is ever stored";
    return batch_is_intact(batch, size) ? NULL : "batch fails its checksum";
}
