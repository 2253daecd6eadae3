/* Watching the disk: when batches are refused, what is kept back, and what gives room on a full disk.
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
    upkeep->minds_reserve = upkeep->is_tight;
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
    return upkeep_would_roll(store, bytes) && !upkeep_has_reserve(store);
}

bool upkeep_would_roll(const struct store *store, uint64_t payload_bytes)
{
    uint64_t need = 2 * DISK_BLOCK + ENTRY_HEADER_BYTES + payload_bytes;
    struct segment *last = wal_segment_at(store->wal, wal_segment_count(store->wal) - 1);
    uint64_t end_lsn = last->base_lsn + store->options.segment_bytes - DISK_SEGMENT_DATA;
    return store_reserved_lsn(store) + need > end_lsn;
}

/* A log of few files can't keep as many back. */
bool upkeep_has_reserve(const struct store *store)
{
    uint32_t spares = wal_spare_count(store->wal), files = wal_segment_count(store->wal) + spares;
    return spares > min_u64(UPKEEP_RESERVE_SEGMENTS, files - min_u64(files, 4));
}
