/* The store's data path: append, apply, what becomes visible, and the turn.
 *
 * Happy path of a publish: store_append() lets the log copy the batch into the filling group, sets its base offset
 * there, and store_apply() moves the partition's end, adds the batch to the open index and calls the broker. When a
 * sync round has ended, store_on_committed() walks the index up to the durable mark, moves each partition's visible
 * end, and tells the broker once per partition.
 *
 * Replay goes through store_apply() alone, entry by entry; what can't be (an unknown partition, an offset that leaves
 * a hole) is damage there, and a programmer's error at append.
 *
 * Failure modes of an append: FULL (slot, spare segment, open index, or the reserve for what is no batch), NO_SPACE
 * (disk), CLOSED. */
#include "storage/store_private.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"

static int apply_own(struct store *store, const struct wal_view *view, struct partition *partition);
static int apply_batch(struct store *store, const struct wal_view *view,
                       struct partition *partition);
static int apply_open(struct store *store, const struct wal_view *view,
                      struct partition *partition);
static int apply_log_start(struct store *store, const struct wal_view *view,
                           struct partition *partition);
static bool visible_walk(struct store *store, const struct index_open *index, uint32_t *visible,
                         uint64_t lsn);
static void visible_tell(struct store *store);
static int room_turn(struct store *store);
static enum archive_pressure pressure(const struct store *store);
static int append_batch(struct store *store, const struct wal_entry *entry, uint64_t base_offset,
                        struct wal_view *view);

/* ---- append ---- */

int store_append(struct store *store, const struct wal_entry *entry, struct wal_view *view,
                 uint64_t *base_offset)
{
    struct partition *partition = NULL;
    if (UNLIKELY(store->indexes.spare_count == 0 || !segment_indexes_can_roll(&store->indexes))) {
        store->append_waits = true;
        return E_FULL;
    }
    if (LIKELY(entry->type == ENTRY_BATCH)) {
        if (UNLIKELY(store->room.room == STORE_ROOM_FULL))
            return E_NO_SPACE;
        partition = partitions_find(store->partitions, entry->topic_id, entry->partition);
        if (UNLIKELY(!partition))
            return E_NOT_FOUND;
        if (UNLIKELY(index_open_is_full(store->open)) && !wal_wants_roll(store->wal)) {
            if (!upkeep_may_roll(store)) {
                store->append_waits = true;
                return E_FULL;
            }
            wal_roll(store->wal);
        }
        if (UNLIKELY(store->upkeep.minds_reserve && upkeep_batch_waits(store, entry))) {
            store->append_waits = true;
            return E_FULL;
        }
    } else if (entry->type == ENTRY_STAGED) {
        return txn_append_staged(store, entry, view);
    }
    int status = partition ? append_batch(store, entry, partition->next_offset, view)
                           : wal_append(store->wal, entry, view);
    if (UNLIKELY(status < 0))
        return status;
    if (partition)
        *base_offset = partition->next_offset;
    status = store_apply(store, view);
    ASSERT(status == 0);
    return 0;
}

/* Base offset and leader epoch are the shard's; they lie outside the batch's CRC. */
static int append_batch(struct store *store, const struct wal_entry *entry, uint64_t base_offset,
                        struct wal_view *view)
{
    const uint8_t *batch = entry->pieces[0].bytes;
    uint8_t head[BATCH_HEAD_SIZE];
    struct wal_entry stamped = *entry;
    ASSERT(entry->piece_count == 1 && entry->pieces[0].len >= BATCH_HEADER_SIZE);
    memcpy(head, batch, sizeof(head));
    batch_set_head(head, base_offset, STORED_LEADER_EPOCH);
    stamped.pieces[0].bytes = head;
    stamped.pieces[0].len = sizeof(head);
    stamped.pieces[1].bytes = batch + sizeof(head);
    stamped.pieces[1].len = entry->pieces[0].len - (uint32_t)sizeof(head);
    stamped.piece_count = 2;
    return wal_append(store->wal, &stamped, view);
}

uint64_t store_reserved_lsn(const struct store *store)
{
    return wal_marks(store->wal).reserved;
}

uint64_t store_committed_lsn(const struct store *store)
{
    return wal_marks(store->wal).committed;
}

struct partition *store_partition(struct store *store, uint32_t topic_id, uint32_t partition)
{
    return partitions_find(store->partitions, topic_id, partition);
}

struct partitions *store_partitions(struct store *store)
{
    return store->partitions;
}

/* ---- apply ---- */

int store_apply(struct store *store, const struct wal_view *view)
{
    if (UNLIKELY(view->file_number != store->open_file))
        store_index_roll(store, view->file_number);
    store->append_ms_last = view->append_time_ms;
    time_marks_add(&store->times, view->append_time_ms, view->lsn);
    struct partition *partition =
        partitions_find(store->partitions, view->topic_id, view->partition);
    int status = apply_own(store, view, partition);
    if (status < 0)
        return status;
    if (view->type == ENTRY_PARTITION_OPEN)
        partition = partitions_find(store->partitions, view->topic_id, view->partition);
    status = store->options.apply(store->options.context, view, partition);
    if (view->type == ENTRY_PARTITION_DROP && partition) {
        store->options.on_partition_drop(store->options.context, partition);
        partitions_apply_drop(store->partitions, partition);
    }
    return status;
}

/* The log went on in another file. A replay keeps only the index of the file it is in: those of closed segments are
 * on disk, or made anew when they are asked for. */
void store_index_roll(struct store *store, uint64_t file_number)
{
    if (store->is_replaying) {
        index_open_detach(store->open);
        index_open_clear(store->open);
    } else {
        struct segment *segment = open_segment(store);
        ASSERT(segment->number == store->open_file);
        segment_index_seal(&store->indexes, segment, store->open, store->open_visible,
                           store->append_ms_last);
        store->open = segment_indexes_take(&store->indexes);
        retention_kick(&store->retention, store->now_ns);
    }
    store->room.next_poll_ns = 0; // a segment's worth may have been taken from the disk
    store->open_file = file_number;
    store->open_visible = 0;
    time_marks_clear(&store->times);
}

static int apply_own(struct store *store, const struct wal_view *view, struct partition *partition)
{
    switch (view->type) {
    case ENTRY_BATCH:
        return apply_batch(store, view, partition);
    case ENTRY_PARTITION_OPEN:
        return apply_open(store, view, partition);
    case ENTRY_LOG_START:
        return apply_log_start(store, view, partition);
    case ENTRY_STAGED:
        return txn_apply_staged(store, view, partition);
    case ENTRY_STAGED_MOVED:
        return txn_apply_moved(store, view);
    case ENTRY_COMMIT:
    case ENTRY_ABORT:
        return txn_apply_end(store, view);
    default:
        return 0; // the broker's
    }
}

/* Behind a hole in the log, entries are missing; what comes next says where the partition stands. */
bool store_offsets_may_skip(const struct store *store)
{
    return store->is_replaying && store->hole_count > 0;
}

static int apply_batch(struct store *store, const struct wal_view *view,
                       struct partition *partition)
{
    struct index_entry entry;
    if (UNLIKELY(!partition))
        return store_entry_is_bad(view, "a batch of a partition that was not opened");
    if (UNLIKELY(!segment_scan_batch(view, &entry)))
        return store_entry_is_bad(view, "not a batch");
    if (UNLIKELY(entry.base_offset > partition->next_offset && store_offsets_may_skip(store)))
        partitions_apply_gap(store->partitions, partition, entry.base_offset);
    if (UNLIKELY(entry.base_offset != partition->next_offset))
        return store_entry_is_bad(view, "a batch that does not follow the one before");
    if (UNLIKELY(index_open_add(store->open, partition, &entry, view->lsn) == INDEX_NONE))
        return E_NO_MEMORY;
    partitions_apply_batch(store->partitions, partition, entry.record_count, entry.size,
                           entry.max_timestamp);
    return 0;
}

static int apply_open(struct store *store, const struct wal_view *view, struct partition *partition)
{
    struct disk_partition_open settings;
    if (view->topic_id == 0 || view->payload_bytes != sizeof(settings))
        return store_entry_is_bad(view, "not the settings of a partition");
    memcpy(&settings, view->payload, sizeof(settings));
    if (!partitions_apply_open(store->partitions, view->topic_id, view->partition, &settings))
        return store_entry_is_bad(view, "more partitions than the limit");
    retention_settings_changed(&store->retention, !partition);
    return 0;
}

static int apply_log_start(struct store *store, const struct wal_view *view,
                           struct partition *partition)
{
    struct disk_log_start payload;
    if (!partition || view->payload_bytes != sizeof(payload))
        return store_entry_is_bad(view, "not a log start of a partition");
    memcpy(&payload, view->payload, sizeof(payload));
    uint64_t log_start = le64_get(payload.log_start);
    if (log_start > partition->next_offset && store_offsets_may_skip(store))
        partitions_apply_gap(store->partitions, partition, log_start);
    if (log_start < partition->log_start || log_start > partition->next_offset)
        return store_entry_is_bad(view, "a log start outside of its partition");
    partitions_apply_log_start(store->partitions, partition, log_start,
                               le64_get(payload.bytes_gone));
    return 0;
}

int store_entry_is_bad(const struct wal_view *view, const char *why)
{
    LOG_ERROR("store.entry_bad", LOG_U64("lsn", view->lsn), LOG_U64("type", view->type),
              LOG_U64("topic_id", view->topic_id), LOG_U64("partition", view->partition),
              LOG_STR("why", why));
    return E_CORRUPT;
}

/* ---- what the log tells ---- */

void store_on_committed(void *context, uint64_t lsn)
{
    struct store *store = context;
    struct segment_indexes *indexes = &store->indexes;
    LIST_EACH(link, &indexes->sealed)
    {
        struct segment_index *index = CONTAINER_OF(link, struct segment_index, sealed_link);
        if (!visible_walk(store, index->open, &index->visible, lsn))
            break;
        segment_index_all_visible(indexes, index);
    }
    if (list_is_empty(&indexes->sealed))
        visible_walk(store, store->open, &store->open_visible, lsn);
    visible_tell(store);
    store->options.on_committed(store->options.context, lsn);
}

/* True when all of it is visible. */
static bool visible_walk(struct store *store, const struct index_open *index, uint32_t *visible,
                         uint64_t lsn)
{
    uint32_t count = index_open_count(index), i = *visible;
    for (; i < count; i++) {
        if (index_open_lsn(index, i) >= lsn)
            break;
        struct index_entry entry = index_open_at(index, i);
        struct partition *partition = index_open_partition(index, i);
        if (!partition)
            continue;
        partition->visible_end = entry.base_offset + entry.record_count;
        if (!list_is_linked(&partition->visible_link))
            list_push_back(&store->visible, &partition->visible_link);
    }
    *visible = i;
    return i == count;
}

/* Once per partition, whatever the callback does: it may append, and even drop partitions. */
static void visible_tell(struct store *store)
{
    struct list *link;
    while ((link = list_pop_front(&store->visible))) {
        struct partition *partition = CONTAINER_OF(link, struct partition, visible_link);
        store->options.on_visible(store->options.context, partition);
    }
}

void store_on_room(void *context)
{
    struct store *store = context;
    store->options.on_room(store->options.context);
}

void store_on_segment_closed(void *context, struct segment *segment)
{
    struct store *store = context;
    segment_index_closed(&store->indexes, segment);
}

void store_on_failed(void *context, const struct wal_failure *failure)
{
    struct store *store = context;
    store->options.on_failed(store->options.context, failure);
}

/* ---- the turn ---- */

int store_turn(struct store *store, uint64_t now_ns, uint64_t now_wall_ms)
{
    store->now_ns = now_ns;
    store->now_wall_ms = now_wall_ms;
    int work = wal_turn(store->wal, now_ns, now_wall_ms);
    if (UNLIKELY(wal_is_failed(store->wal)))
        return work;
    work += segment_indexes_turn(&store->indexes);
    work += archives_turn(store->archives, now_ns, pressure(store));
    work += upkeep_turn(store);
    work += checkpoint_turn(store->checkpoints, wal_marks(store->wal).durable);
    work += room_turn(store);
    return work;
}

/* Who was refused here, and not by the log, is told here. */
static int room_turn(struct store *store)
{
    if (!store_append_was_refused(store) || !segment_indexes_can_roll(&store->indexes))
        return 0;
    bool batch_may = upkeep_batch_may(store);
    bool commit_may = upkeep_spares(store) >= store->commit_spares;
    if (!(store->append_waits && batch_may) && !(store->commit_spares > 0 && commit_may))
        return 0;
    store->append_waits = false;
    store->commit_spares = 0;
    store->options.on_room(store->options.context);
    return 1;
}

bool store_append_was_refused(const struct store *store)
{
    return store->append_waits || store->commit_spares > 0;
}

uint64_t store_deadline_ns(const struct store *store)
{
    uint64_t deadline = min_u64(wal_deadline_ns(store->wal), archives_deadline_ns(store->archives));
    return min_u64(deadline, upkeep_deadline_ns(store));
}

bool store_is_urgent(const struct store *store)
{
    return wal_is_starved(store->wal) || store_append_was_refused(store);
}

static enum archive_pressure pressure(const struct store *store)
{
    struct wal_marks marks = wal_marks(store->wal);
    if (store_is_urgent(store) || upkeep_run_is_late(store))
        return ARCHIVE_URGENT;
    return marks.durable < marks.reserved ? ARCHIVE_BUSY : ARCHIVE_CALM;
}

void store_checkpoint(struct store *store)
{
    store->upkeep.checkpoint_wanted = true;
}

/* ---- inspect ---- */

enum store_room store_room(const struct store *store)
{
    return store->room.room;
}

/* Archive files are a replica's own affair: two equal logs may be unwoven differently. */
uint64_t store_digest(struct store *store)
{
    uint64_t digest = 0;
    for (uint32_t i = 0; i < store->table_count; i++) {
        if (table_id_of(store->tables[i]) == TABLE_ARCHIVES)
            continue;
        uint64_t of_table = table_digest(store->tables[i]);
        digest = hash_xxh3_seeded(&of_table, sizeof(of_table), digest);
    }
    return digest;
}

struct store_stats store_stats(struct store *store)
{
    struct store_stats stats = store->stats;
    struct archives_stats archives = archives_stats(store->archives);
    stats.wal = wal_stats(store->wal);
    stats.marks = wal_marks(store->wal);
    stats.segments = wal_segment_count(store->wal);
    stats.spares = wal_spare_count(store->wal);
    stats.archives = archives.files;
    stats.archive_bytes = archives.file_bytes;
    stats.unweaved_bytes = archives.run_bytes;
    stats.checkpoint_lsn = store->upkeep.kept[0].position.lsn;
    stats.checkpoints = store->upkeep.checkpoint_count;
    stats.index_cache_bytes = index_cache_bytes(store->cache);
    stats.disk_free_bytes = store->room.free_bytes;
    stats.staged_batches = staged_sum_all(store->staged).batch_count;
    stats.staged_bytes = staged_sum_all(store->staged).bytes;
    stats.moved_batches = staged_mover_stats(store->mover).batches;
    stats.moved_bytes = staged_mover_stats(store->mover).bytes;
    return stats;
}
