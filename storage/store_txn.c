/* The store's part of transactions: batches that are staged, and what becomes of them.
 *
 * Happy path: ENTRY_STAGED brings a batch without offset, and a row says where it lies. store_append_commit() makes one
 * entry of the rows: each batch's place in its partition, in the order of staging. Applying it puts the batches into the
 * index of the segment that *the COMMIT* lies in; the bytes stay where they are, and whoever reads sets the base offset
 * in the copy. They are visible when the COMMIT is committed, not before: the index knows its LSN.
 *
 * A COMMIT that lists batches of older segments pins these until its own segment has been unwoven, and that one has to be
 * closed for it. So it is only appended while the log can still roll afterwards; otherwise it waits (FULL): unweaving and
 * the mover (staged_mover.c) give segments back without it.
 *
 * Failure modes of an append: those of store.c. At replay: a COMMIT that lists what was not staged, or that leaves a hole in
 * the offsets, is damage; behind what `wal salvage` gave up it is taken as far as it goes, and what lay in the hole is
 * lost as a part of it. */
#include "storage/store_private.h"

#include "base/status.h"

#define COMMIT_BYTES_MAX                                                                           \
    (sizeof(struct disk_txn_end) + STAGED_PER_TRANSACTION_MAX * sizeof(struct disk_committed))
static_assert(COMMIT_BYTES_MAX <= WAL_PAYLOAD_BYTES_MIN, "any log takes a COMMIT");

struct commit { // being made
    uint32_t batch_count;
    uint64_t lowest; // position of its batches
};

static struct commit commit_fill(struct store *store, const struct disk_txn_name *name,
                                 uint32_t flags);
static void committed_fill(struct store *store, struct commit *commit,
                           const struct disk_staged *row, struct partition *partition);
static bool commit_waits(struct store *store, const struct commit *commit, bool must_roll);
static uint32_t commit_bytes(uint32_t batch_count);
static int apply_committed(struct store *store, const struct wal_view *view,
                           const struct committed *batch);
static bool was_staged(struct store *store, const struct committed *batch, uint32_t *row);

size_t txn_arena_bytes(void)
{
    return align_up(COMMIT_BYTES_MAX, DISK_BLOCK);
}

int txn_init(struct store *store)
{
    store->commit = arena_alloc(store->options.arena, txn_arena_bytes(), DISK_BLOCK);
    store->staged = staged_new();
    return store->staged ? 0 : E_NO_MEMORY;
}

const struct staged *store_staged(const struct store *store)
{
    return store->staged;
}

/* ---- staging ---- */

/* Nothing of it goes into the index, and it needs no offset: so neither makes it wait. */
int txn_append_staged(struct store *store, const struct wal_entry *entry, struct wal_view *view)
{
    uint8_t head[BATCH_HEAD_SIZE];
    struct wal_entry stamped = *entry;
    ASSERT(entry->piece_count == 2 && entry->pieces[0].len == sizeof(struct disk_txn_name) &&
           entry->pieces[1].len >= BATCH_HEADER_SIZE && !staged_is_full(store->staged));
    if (store->room.room == STORE_ROOM_FULL)
        return E_NO_SPACE;
    if (!partitions_find(store->partitions, entry->topic_id, entry->partition))
        return E_NOT_FOUND;
    if (store->upkeep.minds_reserve && upkeep_batch_waits(store, entry)) {
        store->append_waits = true;
        return E_FULL;
    }
    const uint8_t *batch = entry->pieces[1].bytes;
    memcpy(head, batch, sizeof(head));
    batch_set_head(head, STAGED_OFFSET, STORED_LEADER_EPOCH);
    stamped.pieces[1].bytes = head;
    stamped.pieces[1].len = sizeof(head);
    stamped.pieces[2].bytes = batch + sizeof(head);
    stamped.pieces[2].len = entry->pieces[1].len - (uint32_t)sizeof(head);
    stamped.piece_count = 3;
    int status = wal_append(store->wal, &stamped, view);
    if (status < 0)
        return status;
    status = store_apply(store, view);
    ASSERT(status == 0);
    return 0;
}

/* ---- the end ---- */

int store_append_commit(struct store *store, const struct disk_txn_name *name, uint32_t flags,
                        struct wal_view *view)
{
    struct commit commit = commit_fill(store, name, flags);
    bool must_roll = index_open_room(store->open) < commit.batch_count;
    if (commit_waits(store, &commit, must_roll))
        return E_FULL;
    if (must_roll)
        wal_roll(store->wal);
    struct wal_entry entry = {.type = ENTRY_COMMIT,
                              .pieces = {{store->commit, commit_bytes(commit.batch_count)}},
                              .piece_count = 1};
    return store_append(store, &entry, view, NULL);
}

int store_append_abort(struct store *store, const struct disk_txn_name *name, uint32_t flags,
                       struct wal_view *view)
{
    struct disk_txn_end end = {.name = *name, .flags = le32_make(flags)};
    struct wal_entry entry = {
        .type = ENTRY_ABORT, .pieces = {{&end, sizeof(end)}}, .piece_count = 1};
    return store_append(store, &entry, view, NULL);
}

/* Two rounds over the rows: each partition's next offset is taken once, then counted on. */
static struct commit commit_fill(struct store *store, const struct disk_txn_name *name,
                                 uint32_t flags)
{
    struct commit commit = {.lowest = UINT64_MAX};
    const struct staged *staged = store->staged;
    struct partition *partition;
    for (int round = 0; round < 2; round++)
        for (uint32_t i = staged_first(staged, name); i != TABLE_ROW_NONE;
             i = staged_next(staged, i)) {
            const struct disk_staged *row = staged_row(staged, i);
            partition = partitions_find(store->partitions, le32_get(row->topic_id),
                                        le32_get(row->partition));
            if (partition && round == 0)
                partition->commit_end = partition->next_offset;
            else if (partition)
                committed_fill(store, &commit, row, partition);
        }
    struct disk_txn_end end = {
        .name = *name, .flags = le32_make(flags), .batch_count = le32_make(commit.batch_count)};
    memcpy(store->commit, &end, sizeof(end));
    return commit;
}

static void committed_fill(struct store *store, struct commit *commit,
                           const struct disk_staged *row, struct partition *partition)
{
    ASSERT(commit->batch_count < STAGED_PER_TRANSACTION_MAX);
    struct disk_committed batch = {.topic_id = row->topic_id,
                                   .partition = row->partition,
                                   .base_offset = le64_make(partition->commit_end),
                                   .position = row->position,
                                   .max_timestamp = row->max_timestamp,
                                   .size = row->size,
                                   .record_count = row->record_count};
    memcpy(store->commit + commit_bytes(commit->batch_count++), &batch, sizeof(batch));
    commit->lowest = min_u64(commit->lowest, le64_get(row->position));
    partition->commit_end += le32_get(row->record_count);
}

static uint32_t commit_bytes(uint32_t batch_count)
{
    return (uint32_t)(sizeof(struct disk_txn_end) + batch_count * sizeof(struct disk_committed));
}

/* What lists batches of older segments must leave room for its own segment to be closed: the last two spares are one
 * to enter and its successor. */
static bool commit_waits(struct store *store, const struct commit *commit, bool must_roll)
{
    uint64_t base_lsn = wal_segment_at(store->wal, wal_segment_count(store->wal) - 1)->base_lsn;
    bool rolls = must_roll || upkeep_would_roll(store, commit_bytes(commit->batch_count));
    if (commit->batch_count == 0 || (!rolls && commit->lowest >= base_lsn))
        return false;
    uint32_t spares = 2 + rolls;
    if (LIKELY(upkeep_spares(store) >= spares))
        return false;
    store->commit_spares = spares;
    return true;
}

/* ---- apply ---- */

int txn_apply_staged(struct store *store, const struct wal_view *view, struct partition *partition)
{
    struct disk_staged row;
    if (!partition)
        return store_entry_is_bad(view, "a staged batch of a partition that was not opened");
    if (!segment_scan_staged(view, &row))
        return store_entry_is_bad(view, "not a staged batch");
    if (staged_apply(store->staged, &row) < 0)
        return store_entry_is_bad(view, "more staged batches than the limit");
    return 0;
}

/* The partition may have been dropped meanwhile: the row goes when its transaction does. */
int txn_apply_moved(struct store *store, const struct wal_view *view)
{
    struct disk_staged_moved moved;
    struct batch_info info;
    uint64_t position;
    if (!segment_scan_staged_batch(view, &position, &info))
        return store_entry_is_bad(view, "not a staged batch");
    memcpy(&moved, view->payload, sizeof(moved));
    int status = staged_apply_moved(store->staged, &moved.name, le64_get(moved.from), position);
    if (status < 0 && !store_offsets_may_skip(store))
        return store_entry_is_bad(view, "moves a batch that is not staged there");
    return 0;
}

int txn_apply_end(struct store *store, const struct wal_view *view)
{
    struct disk_txn_end end;
    uint32_t batch_count;
    if (!segment_scan_commit(view, &batch_count) || (view->type == ENTRY_ABORT && batch_count > 0))
        return store_entry_is_bad(view, "not the end of a transaction");
    memcpy(&end, view->payload, sizeof(end));
    uint32_t row = staged_first(store->staged, &end.name);
    for (uint32_t i = 0; i < batch_count; i++) {
        struct committed batch = segment_scan_committed(view, i);
        if (!was_staged(store, &batch, &row))
            return store_entry_is_bad(view, "commits a batch that was not staged");
        int status = apply_committed(store, view, &batch);
        if (status < 0)
            return status;
    }
    staged_apply_end(store->staged, &end.name);
    return 0;
}

/* Both are in the order of staging; what a dropped partition had is passed over. */
static bool was_staged(struct store *store, const struct committed *batch, uint32_t *row)
{
    if (UNLIKELY(store_offsets_may_skip(store)))
        return true;
    for (; *row != TABLE_ROW_NONE; *row = staged_next(store->staged, *row)) {
        const struct disk_staged *staged = staged_row(store->staged, *row);
        if (le64_get(staged->position) != batch->entry.position)
            continue;
        *row = staged_next(store->staged, *row);
        return le32_get(staged->topic_id) == batch->topic_id &&
               le32_get(staged->partition) == batch->partition &&
               le32_get(staged->size) == batch->entry.size &&
               le32_get(staged->record_count) == batch->entry.record_count;
    }
    return false;
}

static int apply_committed(struct store *store, const struct wal_view *view,
                           const struct committed *batch)
{
    const struct index_entry *entry = &batch->entry;
    bool may_skip = store_offsets_may_skip(store);
    struct partition *partition =
        partitions_find(store->partitions, batch->topic_id, batch->partition);
    if (UNLIKELY(!partition))
        return may_skip ? 0 : store_entry_is_bad(view, "commits to a partition that is not open");
    if (UNLIKELY(entry->base_offset > partition->next_offset && may_skip))
        partitions_apply_gap(store->partitions, partition, entry->base_offset);
    if (UNLIKELY(entry->base_offset != partition->next_offset))
        return store_entry_is_bad(view, "commits a batch that does not follow the one before");
    if (UNLIKELY(may_skip && segment_hole_has(store->holes, store->hole_count, entry->position))) {
        partitions_apply_gap(store->partitions, partition,
                             entry->base_offset + entry->record_count);
        return 0;
    }
    if (UNLIKELY(index_open_add(store->open, partition, entry, view->lsn) == INDEX_NONE))
        return E_NO_MEMORY;
    partitions_apply_batch(store->partitions, partition, entry->record_count, entry->size,
                           entry->max_timestamp);
    return 0;
}
