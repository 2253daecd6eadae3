/* Watching the disk: when batches are refused, what is kept back, and what gives room on a full disk.
 *
 * Spares are kept back from batches for two reasons: a disk that fills up, and staged batches, which have to be copied
 * forward before the log's last file is in use.
 *
 * A disk that fills up must leave room for what is no batch: offsets, log starts, drops, settings. While it may become
 * full (it is tight), batches leave the last spares alone; when it is full they are refused and the log rolls.
 * Segments without batches come back as soon as checkpoints have passed them, so three of them go round for ever,
 * once the batches before them have been unwoven: one segment at a time, with the space kept back for that
 * (archives_make_reserve()), which the file of the segment that was unwoven gives back.
 *
 * Failure mode: the space is taken by somebody else before it could be kept back. Then what is no batch has the spares
 * that are left, and waits when they are used up. */
#include "storage/upkeep.h"

#include "base/log.h"
#include "storage/store_private.h"

static void room_changed(struct store *store);
static void reserve_mind(struct store *store);
static uint64_t run_bytes(const struct store *store);
static uint64_t open_room(const struct store *store);
static bool staged_has_room(const struct store *store);
static uint64_t staged_keep(const struct store *store);
static uint64_t staged_keep_max(const struct store *store);

int upkeep_room_turn(struct store *store)
{
    struct disk_room *room = &store->room;
    struct upkeep *upkeep = &store->upkeep;
    if (store->now_ns < room->next_poll_ns)
        return 0;
    if (wal_is_starved(store->wal) || (store_append_was_refused(store) && upkeep->is_tight))
        room->needed_bytes = run_bytes(store);
    room->missing_bytes = archives_stats(store->archives).has_reserve ? 0 : run_bytes(store);
    if (disk_room_poll(room, store->options.io, store->wal_dir, store->now_ns))
        room_changed(store);
    upkeep->is_tight = room->total_bytes > 0 &&
                       room->free_bytes < UPKEEP_TIGHT_SEGMENTS * store->options.segment_bytes;
    reserve_mind(store);
    return 1;
}

/* With the disk full the log goes on in a segment without batches: such segments can be recycled as soon as the
 * checkpoints have passed them, so what is not a batch always finds room. */
static void room_changed(struct store *store)
{
    static const char *const names[] = {"ok", "low", "full"};
    const struct disk_room *room = &store->room;
    LOG_WARN("store.disk_room_changed", LOG_U64("shard", store->options.shard_id),
             LOG_STR("room", names[room->room]), LOG_U64("free_bytes", room->free_bytes),
             LOG_U64("total_bytes", room->total_bytes));
    wal_hold_files(store->wal, room->room == STORE_ROOM_FULL);
    if (room->room == STORE_ROOM_FULL)
        wal_roll(store->wal);
}

/* Room for one more run is kept back. */
static void reserve_mind(struct store *store)
{
    bool is_full = store->room.room == STORE_ROOM_FULL;
    if (store->room.free_bytes >= (is_full ? 1 : 2) * run_bytes(store) &&
        !archives_stats(store->archives).has_reserve)
        archives_make_reserve(store->archives);
}

/* On a full disk the file of a segment that was unwoven gives its blocks back: they are what the next run needs. */
void upkeep_discard_mind(struct store *store)
{
    bool can_run =
        store->room.free_bytes >= run_bytes(store) || archives_stats(store->archives).has_reserve;
    if (upkeep_has_reserve(store) || !can_run)
        wal_discard_next(store->wal);
    store->room.next_poll_ns = 0;
}

/* A segment's batches and their index. */
static uint64_t run_bytes(const struct store *store)
{
    return upkeep_reserve_bytes(store->options.segment_bytes);
}

/* A batch that fits into the open segment goes there; entering the next one must leave the reserve. */
bool upkeep_batch_waits(struct store *store, const struct wal_entry *entry)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < entry->piece_count; i++)
        bytes += entry->pieces[i].len;
    if (store->upkeep.is_tight && upkeep_would_roll(store, bytes) && !upkeep_has_reserve(store))
        return true;
    return !staged_has_room(store);
}

bool upkeep_would_roll(const struct store *store, uint64_t payload_bytes)
{
    return 2 * DISK_BLOCK + ENTRY_HEADER_BYTES + payload_bytes > open_room(store);
}

/* None when a roll is wanted: what comes next goes into the next file. */
static uint64_t open_room(const struct store *store)
{
    if (wal_wants_roll(store->wal))
        return 0;
    struct segment *last = wal_segment_at(store->wal, wal_segment_count(store->wal) - 1);
    uint64_t end_lsn = last->base_lsn + store->options.segment_bytes - DISK_SEGMENT_DATA;
    return end_lsn - min_u64(end_lsn, store_reserved_lsn(store));
}

/* A log of few files can't keep as many back. */
bool upkeep_has_reserve(const struct store *store)
{
    uint32_t spares = wal_spare_count(store->wal), files = wal_segment_count(store->wal) + spares;
    return spares > min_u64(UPKEEP_RESERVE_SEGMENTS, files - min_u64(files, 4));
}

bool upkeep_batch_may(const struct store *store)
{
    return (!store->upkeep.is_tight || upkeep_has_reserve(store)) && staged_has_room(store);
}

/* ---- room for what is staged ---- */

/* Files that are not made yet count: they are when the log wants them, unless the disk is tight. */
uint32_t upkeep_spares(const struct store *store)
{
    uint64_t most = store->options.wal_bytes_budget / store->options.segment_bytes;
    uint64_t live = wal_segment_count(store->wal), spares = wal_spare_count(store->wal);
    if (store->upkeep.is_tight || store->room.room == STORE_ROOM_FULL)
        return (uint32_t)spares;
    return (uint32_t)max_u64(spares, most - min_u64(most, live));
}

/* The last spare is only a successor. */
uint64_t upkeep_free_bytes(const struct store *store)
{
    uint32_t spares = upkeep_spares(store);
    uint64_t segment_bytes = store->options.segment_bytes - DISK_SEGMENT_DATA;
    return open_room(store) + (spares - min_u64(spares, 1)) * segment_bytes;
}

/* Spares are counted each turn only where there is something to keep them for. No more can be appended in one turn than
 * the groups hold. */
void upkeep_reserve_turn(struct store *store)
{
    uint64_t turn_bytes = (uint64_t)store->options.group_slot_count * GROUP_BYTES_MAX;
    bool is_staged = staged_sum_all(store->staged).batch_count > 0;
    store->upkeep.minds_reserve =
        store->upkeep.is_tight ||
        (is_staged && upkeep_free_bytes(store) < staged_keep(store) + 2 * turn_bytes);
}

/* Bytes and not only files: a move enters the next segment, and batches would fill it up. */
static bool staged_has_room(const struct store *store)
{
    return staged_sum_all(store->staged).batch_count == 0 ||
           upkeep_free_bytes(store) >= staged_keep(store) + store->options.batch_bytes_max;
}

/* Leaving the open segment early gives up what is left of it. */
bool upkeep_may_roll(const struct store *store)
{
    uint64_t room = upkeep_free_bytes(store) - open_room(store);
    return staged_sum_all(store->staged).batch_count == 0 ||
           room >= staged_keep(store) + store->options.batch_bytes_max;
}

/* What has to be free so that all that is staged can be copied forward, and a segment be closed then. Less than half of the
 * log: batches that wait are to find it high, so that files come back. */
static uint64_t staged_keep(const struct store *store)
{
    struct staged_sum staged = staged_sum_all(store->staged);
    uint64_t bytes = staged.bytes + (uint64_t)staged.batch_count * 64;
    return min_u64(store->options.segment_bytes + bytes / 3 * 4, staged_keep_max(store));
}

static uint64_t staged_keep_max(const struct store *store)
{
    const struct store_options *options = &store->options;
    uint64_t files = wal_segment_count(store->wal) + upkeep_spares(store);
    uint64_t half = min_u64(options->wal_bytes_budget, files * options->segment_bytes) / 2;
    uint64_t taken = options->segment_bytes + options->batch_bytes_max;
    return max_u64(options->segment_bytes / 2, half - min_u64(half, taken));
}

/* By the budget, whatever there is of it at the moment. */
uint64_t store_staged_bytes_max(const struct store *store)
{
    const struct store_options *options = &store->options;
    uint64_t half = options->wal_bytes_budget / 2;
    uint64_t taken = 2 * options->segment_bytes + options->batch_bytes_max;
    return max_u64((half - min_u64(half, taken)) / 4 * 3, options->segment_bytes / 4);
}
