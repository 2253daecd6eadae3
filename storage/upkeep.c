/* What a store does in the background: checkpoints, recycling, unweaving, and watching the disk.
 *
 * The rule of recycling. Each checkpoint says which segment is the lowest that its state still needs
 * (upkeep_first_file()): the one its position lies in, and any older one that holds a batch which is neither below
 * its log start, nor dropped, nor in an archive file that this checkpoint names. A segment goes back to the spares when
 * the *older* of the two kept checkpoints no longer needs it, and nobody reads it: so either of the two is a good start.
 *
 * The reserve. A disk that fills up must leave room for what is no batch: offsets, log starts, drops, settings. While
 * it may become full, batches leave the last spares alone; when it is full, they are refused and the log rolls.
 * Segments without batches come back as soon as checkpoints have passed them, so three of them go round for ever,
 * once the batches before them have been unwoven, one segment at a time, with the space kept back for that.
 *
 * Pressure. Above three quarters of the log's budget the oldest segments are unwoven. Then it takes two checkpoints
 * until their files come back; under pressure these are made at once, else with the next ones.
 *
 * Failure modes: no space for a checkpoint or a run: tried again a second later; a damaged source: no more
 * unweaving until it is salvaged (the log stops growing at its budget, readers of other data go on); any other
 * failure of a checkpoint is final for the shard. */
#include "storage/upkeep.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/status.h"
#include "storage/store_private.h"

#define RETRY_NS (1 * NS_PER_S)
#define RECYCLE_MAX 8u // in one turn

static int room_turn(struct store *store);
static void room_changed(struct store *store);
static void reserve_mind(struct store *store);
static void discard_mind(struct store *store);
static uint64_t run_bytes(const struct store *store);
static int recycle_turn(struct store *store);
static int checkpoint_begin_turn(struct store *store);
static bool checkpoint_is_due(struct store *store);
static bool checkpoint_would_free(struct store *store);
static void checkpoint_done(void *context, int status, const struct checkpoint_head *head);
static bool is_pressed(const struct store *store);
static uint64_t live_bytes(const struct store *store);
static bool segment_is_needed(struct store *store, struct segment *segment);
static bool keeper_lives(struct store *store, const struct segment_index *index);
static bool image_is_dead(struct store *store, struct segment_index *index,
                          const struct index_image *image);
static void image_want(struct store *store, struct segment *segment);
static void image_loaded(struct image_load *load);
static int unweave_turn(struct store *store);
static bool is_high(const struct store *store);
static uint32_t unweave_count(struct store *store, uint32_t first);
static bool run_has_room(struct store *store, uint32_t count);
static bool unweave_sources(struct store *store, uint32_t first, uint32_t count,
                            struct unweave_source *sources);

int upkeep_turn(struct store *store)
{
    int work = room_turn(store);
    work += retention_turn(&store->retention);
    work += recycle_turn(store);
    work += unweave_turn(store);
    work += checkpoint_begin_turn(store);
    return work;
}

uint64_t upkeep_deadline_ns(const struct store *store)
{
    const struct upkeep *upkeep = &store->upkeep;
    uint64_t deadline = min_u64(store->room.next_poll_ns, retention_deadline_ns(&store->retention));
    if (upkeep->retry_ns > store->now_ns)
        deadline = min_u64(deadline, upkeep->retry_ns);
    if (upkeep->unweave_retry_ns > store->now_ns)
        deadline = min_u64(deadline, upkeep->unweave_retry_ns);
    return deadline;
}

/* ---- disk ---- */

static int room_turn(struct store *store)
{
    struct disk_room *room = &store->room;
    struct upkeep *upkeep = &store->upkeep;
    if (store->now_ns < room->next_poll_ns)
        return 0;
    if (wal_is_starved(store->wal) || (store->append_waits && upkeep->is_tight))
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
static void discard_mind(struct store *store)
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
    uint64_t need = 2 * DISK_BLOCK + ENTRY_HEADER_BYTES;
    for (uint32_t i = 0; i < entry->piece_count; i++)
        need += entry->pieces[i].len;
    struct segment *last = wal_segment_at(store->wal, wal_segment_count(store->wal) - 1);
    uint64_t end_lsn = last->base_lsn + store->options.segment_bytes - DISK_SEGMENT_DATA;
    return store_reserved_lsn(store) + need > end_lsn && !upkeep_has_reserve(store);
}

/* A log of few files can't keep as many back. */
bool upkeep_has_reserve(const struct store *store)
{
    uint32_t spares = wal_spare_count(store->wal), files = wal_segment_count(store->wal) + spares;
    return spares > min_u64(UPKEEP_RESERVE_SEGMENTS, files - min_u64(files, 4));
}

/* ---- recycling ---- */

static int recycle_turn(struct store *store)
{
    uint64_t needed = store->upkeep.kept[1].number ? store->upkeep.kept[1].wal_first_file : 0;
    uint32_t count = 0;
    while (count < RECYCLE_MAX && closed_count(store) > 0) {
        struct segment *oldest = wal_segment_at(store->wal, 0);
        if (oldest->number >= needed || oldest->state != SEGMENT_CLOSED || oldest->pins > 0 ||
            !segment_index_is_idle(oldest->index))
            break;
        if (store->room.room == STORE_ROOM_FULL)
            discard_mind(store);
        segment_index_drop(&store->indexes, oldest);
        wal_recycle_oldest(store->wal);
        count++;
    }
    return (int)count;
}

uint64_t upkeep_first_file(struct store *store)
{
    uint32_t count = closed_count(store);
    for (uint32_t i = 0; i < count; i++) {
        struct segment *segment = wal_segment_at(store->wal, i);
        if (segment_is_needed(store, segment))
            return segment->number;
    }
    return store->open_file;
}

static bool segment_is_needed(struct store *store, struct segment *segment)
{
    struct segment_index *index = segment->index;
    if (segment->end_lsn <= archives_end_lsn(store->archives))
        return segment->state != SEGMENT_CLOSED;
    if (segment->state != SEGMENT_CLOSED || (index && index->open))
        return true;
    index = segment_index_of(&store->indexes, segment);
    if (!index)
        return true;
    if (index->is_dead)
        return false;
    if (keeper_lives(store, index))
        return true;
    const struct index_image *image = segment_index_image(&store->indexes, segment);
    if (!image) {
        image_want(store, segment);
        return true;
    }
    index->is_dead = image_is_dead(store, index, image);
    return !index->is_dead;
}

/* The batch that was seen alive the last time. */
static bool keeper_lives(struct store *store, const struct segment_index *index)
{
    if (index->keeper_topic_id == 0)
        return false;
    struct partition *partition =
        partitions_find(store->partitions, index->keeper_topic_id, index->keeper_partition);
    return partition && partition->log_start < index->keeper_end;
}

/* Dead stays dead: log starts only rise, and a dropped partition never comes back under its topic's id. */
static bool image_is_dead(struct store *store, struct segment_index *index,
                          const struct index_image *image)
{
    for (uint32_t i = 0; i < image->partition_count; i++) {
        const struct disk_index_partition *p = &image->directory[i];
        index->keeper_topic_id = le32_get(p->topic_id);
        index->keeper_partition = le32_get(p->partition);
        index->keeper_end = le64_get(p->end_offset);
        if (keeper_lives(store, index))
            return false;
    }
    return true;
}

/* One at a time; what it was for is tried again when it is there. */
static void image_want(struct store *store, struct segment *segment)
{
    struct upkeep *upkeep = &store->upkeep;
    if (upkeep->loading)
        return;
    upkeep->load = (struct image_load){.done = image_loaded};
    upkeep->loading = segment_index_load(&store->indexes, segment, &upkeep->load) == 0;
    if (!upkeep->loading)
        image_loaded(&upkeep->load);
}

static void image_loaded(struct image_load *load)
{
    struct upkeep *upkeep = CONTAINER_OF(load, struct upkeep, load);
    struct store *store = CONTAINER_OF(upkeep, struct store, upkeep);
    upkeep->loading = false;
    if (load->status != 0)
        upkeep->unweave_retry_ns = store->now_ns + RETRY_NS;
}

/* ---- checkpoints ---- */

static int checkpoint_begin_turn(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    if (checkpoint_is_running(store->checkpoints) || store->now_ns < upkeep->retry_ns ||
        store->is_closing || !checkpoint_is_due(store))
        return 0;
    upkeep_checkpoint_begin(store, false);
    return 1;
}

static bool checkpoint_is_due(struct store *store)
{
    const struct upkeep *upkeep = &store->upkeep;
    uint64_t grown = store_reserved_lsn(store) - upkeep->kept[0].position.lsn;
    uint64_t interval = max_u64(store->options.wal_bytes_budget / 8, store->options.segment_bytes);
    return upkeep->checkpoint_wanted || upkeep->archive_unnamed ||
           grown >= min_u64(interval, CHECKPOINT_WAL_BYTES) ||
           (is_pressed(store) && checkpoint_would_free(store));
}

/* Another checkpoint gives files back: because the newest one, which needs fewer than the older one, becomes the
 * older one; or because fewer are needed now than the newest one says. Not asked more often than the answer can
 * change. */
static bool checkpoint_would_free(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    uint64_t oldest = wal_segment_at(store->wal, 0)->number;
    uint64_t newer = upkeep->kept[0].number ? upkeep->kept[0].wal_first_file : 0;
    uint64_t older = upkeep->kept[1].number ? upkeep->kept[1].wal_first_file : 0;
    if (newer > oldest && older <= oldest)
        return true;
    if (store->now_ns < upkeep->look_ns)
        return false;
    upkeep->look_ns = store->now_ns + UPKEEP_LOOK_NS;
    return upkeep_first_file(store) > max_u64(newer, oldest);
}

void upkeep_checkpoint_begin(struct store *store, bool clean)
{
    struct upkeep *upkeep = &store->upkeep;
    struct checkpoint_head head = {.number = upkeep->kept[0].number + 1,
                                   .position = wal_position(store->wal),
                                   .wal_first_file = upkeep_first_file(store),
                                   .clean = clean};
    upkeep->checkpoint_wanted = false;
    upkeep->archive_unnamed = false;
    archives_checkpoint_begin(store->archives);
    checkpoint_begin(store->checkpoints, &head, store->tables, store->table_count, checkpoint_done,
                     store);
}

static void checkpoint_done(void *context, int status, const struct checkpoint_head *head)
{
    struct store *store = context;
    struct upkeep *upkeep = &store->upkeep;
    upkeep->checkpoint_status = status;
    if (status == 0) {
        upkeep->kept[1] = upkeep->kept[0];
        upkeep->kept[0] = *head;
        upkeep->checkpoint_count++;
        archives_checkpoint_done(store->archives);
        return;
    }
    LOG_ERROR("store.checkpoint_failed", LOG_STR("dir", store->checkpoint_dir), LOG_STATUS(status));
    upkeep->checkpoint_wanted = true;
    upkeep->retry_ns = store->now_ns + RETRY_NS;
    if (status == E_NO_SPACE || status == E_NO_MEMORY || status == E_FULL || status == E_AGAIN)
        return; // descriptors and memory come back
    struct wal_failure failure = {.status = status,
                                  .what = "checkpoint",
                                  .path = store->checkpoint_dir,
                                  .lsn = head->position.lsn};
    store_on_failed(store, &failure);
}

/* ---- pressure ---- */

static uint64_t live_bytes(const struct store *store)
{
    return wal_segment_count(store->wal) * store->options.segment_bytes;
}

/* Files should come back soon: fewer spares than live segments, or none at all. */
static bool is_pressed(const struct store *store)
{
    return wal_is_starved(store->wal) || store->append_waits ||
           live_bytes(store) > store->options.wal_bytes_budget / 2 ||
           store->room.room == STORE_ROOM_FULL;
}

/* ---- unweaving ---- */

static int unweave_turn(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    if (!is_high(store) || upkeep->damage || upkeep->loading || store->is_closing ||
        store->now_ns < upkeep->unweave_retry_ns || archives_is_unweaving(store->archives))
        return 0;
    uint32_t first = 0, closed = closed_count(store);
    uint64_t end_lsn = archives_end_lsn(store->archives);
    while (first < closed && (wal_segment_at(store->wal, first)->end_lsn <= end_lsn ||
                              !segment_is_needed(store, wal_segment_at(store->wal, first))))
        first++;
    uint32_t count = unweave_count(store, first);
    if (!run_has_room(store, count))
        return 0;
    struct unweave_source sources[ARCHIVE_RUN_SEGMENTS_MAX];
    if (count == 0 || !unweave_sources(store, first, count, sources))
        return 0;
    int taken = archives_unweave(store->archives, sources, count, store->now_wall_ms);
    for (uint32_t i = taken > 0 ? (uint32_t)taken : 0; i < count; i++)
        index_image_free(&sources[i].image);
    if (taken < 0)
        upkeep->unweave_retry_ns = store->now_ns + RETRY_NS;
    return 1;
}

/* A log that waits for spares is no reason as long as more of them can be made. On a full disk everything is unwoven:
 * only behind what is still needed do segments without batches come back. */
static bool is_high(const struct store *store)
{
    uint64_t live = live_bytes(store), budget = store->options.wal_bytes_budget;
    bool waits = wal_is_starved(store->wal) || store->append_waits;
    return live > budget / 4 * 3 || (waits && (live >= budget / 2 || store->upkeep.is_tight)) ||
           store->room.room == STORE_ROOM_FULL;
}

/* As many as brings the log down to half of its budget, within one run; only what is durable and visible. */
static uint32_t unweave_count(struct store *store, uint32_t first)
{
    uint64_t live = live_bytes(store), half = store->options.wal_bytes_budget / 2;
    uint64_t bytes = min_u64(live - min_u64(live, half), ARCHIVE_RUN_BYTES_MAX);
    uint64_t wanted = max_u64(1, bytes / store->options.segment_bytes);
    if (store->upkeep.is_tight || store->room.room == STORE_ROOM_FULL)
        wanted = 1; // what needs little room may find it
    uint32_t count = 0, closed = closed_count(store);
    while (count < min_u64(wanted, ARCHIVE_RUN_SEGMENTS_MAX) && first + count < closed) {
        struct segment *segment = wal_segment_at(store->wal, first + count);
        struct segment_index *index = segment->index;
        if (segment->state != SEGMENT_CLOSED || (index && index->open))
            break;
        count++;
    }
    return count;
}

/* The space that was kept back is for a full disk: before that, a run that would need it waits until the disk is
 * called full, so that nobody else takes what it frees. */
static bool run_has_room(struct store *store, uint32_t count)
{
    struct disk_room *room = &store->room;
    if (!store->upkeep.is_tight && room->room != STORE_ROOM_FULL)
        return true;
    room->next_poll_ns = 0;
    (void)room_turn(store);
    bool is_full = room->room == STORE_ROOM_FULL;
    return room->free_bytes >= count * run_bytes(store) ||
           (is_full && archives_stats(store->archives).has_reserve);
}

/* False: an image has to be loaded first. A run owns its images, so it gets copies. */
static bool unweave_sources(struct store *store, uint32_t first, uint32_t count,
                            struct unweave_source *sources)
{
    for (uint32_t i = 0; i < count; i++) {
        struct segment *segment = wal_segment_at(store->wal, first + i);
        const struct index_image *image = segment_index_image(&store->indexes, segment);
        sources[i].segment = segment;
        if (image && index_image_copy(image, &sources[i].image) == 0)
            continue;
        if (!image)
            image_want(store, segment);
        while (i-- > 0)
            index_image_free(&sources[i].image);
        return false;
    }
    return true;
}

void upkeep_on_run(void *context, int status, uint64_t end_lsn)
{
    struct store *store = context;
    struct upkeep *upkeep = &store->upkeep;
    if (status == 0) {
        upkeep->archive_unnamed = true;
        return;
    }
    LOG_ERROR("store.unweave_failed", LOG_U64("shard", store->options.shard_id),
              LOG_U64("end_lsn", end_lsn), LOG_STATUS(status));
    upkeep->damage = status == E_CORRUPT;
    upkeep->unweave_retry_ns = store->now_ns + RETRY_NS;
}

uint64_t upkeep_log_start(void *context, uint32_t topic_id, uint32_t partition)
{
    struct store *store = context;
    struct partition *found = partitions_find(store->partitions, topic_id, partition);
    return found ? found->log_start : UINT64_MAX;
}
