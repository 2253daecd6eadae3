/* Checkpoints and recycling, and the turn of everything that goes on in the background.
 *
 * The rule of recycling. Each checkpoint says which segment is the lowest that its state still needs
 * (upkeep_first_file()): the one its position lies in, and any older one that holds a batch which is neither below
 * its log start, nor dropped, nor in an archive file that this checkpoint names; and, with all that follow it, the oldest
 * one in which a staged batch lies, or a batch that the index of a later segment lists (it was staged, and committed
 * there), as long as that later one is needed itself. A segment goes back to the spares when
 * the *older* of the two kept checkpoints no longer needs it, and nobody reads it: so either of the two is a good start.
 *
 * So it takes two checkpoints until a segment that was unwoven comes back. They are made when the log has grown
 * by an eighth of its budget (512 MiB at most), after each run of unweaving, and under pressure whenever
 * another one gives files back.
 *
 * Failure modes: no space, memory or descriptors for a checkpoint: tried again a second later; any other failure of
 * a checkpoint is final for the shard. */
#include "storage/upkeep.h"

#include "base/log.h"
#include "base/plant.h"
#include "base/status.h"
#include "storage/store_private.h"

#define RECYCLE_MAX 8u // in one turn

static int recycle_turn(struct store *store);
static uint32_t first_needed(struct store *store, uint64_t floor_lsn);
static uint64_t committed_floor(struct store *store);
static uint64_t index_floor(struct store *store, struct segment *segment);
static bool segment_is_dead(struct store *store, struct segment *segment);
static bool keeper_lives(struct store *store, const struct segment_index *index);
static bool image_is_dead(struct store *store, struct segment_index *index,
                          const struct index_image *image);
static void image_loaded(struct image_load *load);
static int checkpoint_begin_turn(struct store *store);
static bool checkpoint_is_due(struct store *store);
static bool checkpoint_would_free(struct store *store);
static void checkpoint_done(void *context, int status, const struct checkpoint_head *head);
static bool is_pressed(const struct store *store);

int upkeep_turn(struct store *store)
{
    int work = upkeep_room_turn(store);
    work += retention_turn(&store->retention);
    work += recycle_turn(store);
    work += upkeep_unweave_turn(store);
    work += staged_mover_turn(store->mover);
    upkeep_reserve_turn(store);
    work += checkpoint_begin_turn(store);
    return work;
}

uint64_t upkeep_deadline_ns(const struct store *store)
{
    const struct upkeep *upkeep = &store->upkeep;
    uint64_t deadline = min_u64(store->room.next_poll_ns, retention_deadline_ns(&store->retention));
    deadline = min_u64(deadline, staged_mover_deadline_ns(store->mover));
    if (upkeep->retry_ns > store->now_ns)
        deadline = min_u64(deadline, upkeep->retry_ns);
    if (upkeep->unweave_retry_ns > store->now_ns)
        deadline = min_u64(deadline, upkeep->unweave_retry_ns);
    return deadline;
}

uint64_t upkeep_live_bytes(const struct store *store)
{
    return wal_segment_count(store->wal) * store->options.segment_bytes;
}

/* Not asked more often than the answer can change: it may want images, and a run wants the same cache for its own. */
uint64_t upkeep_needed_bytes(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    if (store->now_ns >= upkeep->needed_look_ns) {
        upkeep->needed_look_ns = store->now_ns + UPKEEP_LOOK_NS;
        upkeep->needed_first = upkeep_first_file(store);
    }
    uint32_t i = 0, count = wal_segment_count(store->wal);
    while (i < count && wal_segment_at(store->wal, i)->number < upkeep->needed_first)
        i++;
    return (count - i) * store->options.segment_bytes;
}

/* ---- recycling ---- */

static int recycle_turn(struct store *store)
{
    const struct checkpoint_head *older = &store->upkeep.kept[PLANTED(RECYCLED_EARLY) ? 0 : 1];
    uint64_t needed = older->number ? older->wal_first_file : 0;
    uint32_t count = 0;
    while (count < RECYCLE_MAX && closed_count(store) > 0) {
        struct segment *oldest = wal_segment_at(store->wal, 0);
        if (oldest->number >= needed || oldest->state != SEGMENT_CLOSED || oldest->pins > 0 ||
            !segment_index_is_idle(oldest->index))
            break;
        if (store->room.room == STORE_ROOM_FULL)
            upkeep_discard_mind(store);
        segment_index_drop(&store->indexes, oldest);
        wal_recycle_oldest(store->wal);
        count++;
    }
    return (int)count;
}

uint64_t upkeep_first_file(struct store *store)
{
    uint64_t floor_lsn = min_u64(committed_floor(store), staged_lowest(store->staged));
    uint32_t i = first_needed(store, floor_lsn);
    uint64_t first =
        i < closed_count(store) ? wal_segment_at(store->wal, i)->number : store->open_file;
    /* While an index's lowest place is not known it counts as 0. What an earlier checkpoint has let go stays let go all
     * the same: recycling goes by that one, and nothing newer can lie there. */
    return max_u64(first, store->upkeep.kept[0].number ? store->upkeep.kept[0].wal_first_file : 0);
}

uint64_t upkeep_held_lsn(struct store *store)
{
    return wal_segment_at(store->wal, first_needed(store, committed_floor(store)))->base_lsn;
}

/* The place of the lowest live segment that is needed; floor_lsn and what lies behind is. */
static uint32_t first_needed(struct store *store, uint64_t floor_lsn)
{
    uint32_t i = 0, count = closed_count(store);
    while (i < count) {
        struct segment *segment = wal_segment_at(store->wal, i);
        if (segment->end_lsn > floor_lsn || upkeep_segment_is_needed(store, segment))
            break;
        i++;
    }
    return i;
}

/* The lowest LSN at which something lies that an index lists which is still needed. */
static uint64_t committed_floor(struct store *store)
{
    uint64_t floor_lsn = index_open_lowest(store->open);
    uint64_t archived_lsn = archives_end_lsn(store->archives);
    for (uint32_t i = closed_count(store); i > 0; i--) {
        struct segment *segment = wal_segment_at(store->wal, i - 1);
        if (segment->end_lsn <= archived_lsn)
            break;
        floor_lsn = min_u64(floor_lsn, index_floor(store, segment));
    }
    return floor_lsn;
}

/* 0 while nobody knows: the image says it. */
static uint64_t index_floor(struct store *store, struct segment *segment)
{
    struct segment_index *index = segment_index_of(&store->indexes, segment);
    if (!index)
        return 0;
    if (index->lowest == 0 && !index->is_dead)
        upkeep_image_want(store, segment);
    if (index->is_dead || index->lowest >= segment->base_lsn)
        return UINT64_MAX;
    return index->lowest > 0 && segment_is_dead(store, segment) ? UINT64_MAX : index->lowest;
}

bool upkeep_segment_is_needed(struct store *store, struct segment *segment)
{
    struct segment_index *index = segment->index;
    if (segment->state != SEGMENT_CLOSED)
        return true;
    if (segment->end_lsn <= archives_end_lsn(store->archives))
        return false;
    return (index && index->open) || !segment_is_dead(store, segment);
}

static bool segment_is_dead(struct store *store, struct segment *segment)
{
    struct segment_index *index = segment_index_of(&store->indexes, segment);
    if (!index || index->is_dead || keeper_lives(store, index))
        return index && index->is_dead;
    const struct index_image *image = segment_index_image(&store->indexes, segment);
    if (image)
        index->is_dead = image_is_dead(store, index, image);
    else
        upkeep_image_want(store, segment);
    return index->is_dead;
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

/* What it is for is done when it comes: a small cache may have lost it a moment later. */
void upkeep_image_want(struct store *store, struct segment *segment)
{
    struct upkeep *upkeep = &store->upkeep;
    if (upkeep->loading)
        return;
    upkeep->load = (struct image_load){.done = image_loaded};
    upkeep->load_segment = segment;
    upkeep->loading = true;
    if (segment_index_load(&store->indexes, segment, &upkeep->load) == 1)
        image_loaded(&upkeep->load);
}

static void image_loaded(struct image_load *load)
{
    struct upkeep *upkeep = CONTAINER_OF(load, struct upkeep, load);
    struct store *store = CONTAINER_OF(upkeep, struct store, upkeep);
    struct segment *segment = TAKE(upkeep->load_segment);
    struct segment_index *index = segment->index;
    upkeep->loading = false;
    upkeep->look_ns = 0; // what was not known may be known now
    if (load->status == 0 && index)
        index->is_dead = image_is_dead(store, index, load->image);
    upkeep_source_loaded(store, segment, load);
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
    upkeep->retry_ns = store->now_ns + UPKEEP_RETRY_NS;
    if (status == E_NO_SPACE || status == E_NO_MEMORY || status == E_FULL || status == E_AGAIN)
        return; // descriptors and memory come back
    struct wal_failure failure = {.status = status,
                                  .what = "checkpoint",
                                  .path = store->checkpoint_dir,
                                  .lsn = wal_marks(store->wal).durable};
    store_on_failed(store, &failure);
}

/* Files should come back soon: fewer spares than live segments, or none at all. */
static bool is_pressed(const struct store *store)
{
    return store_is_urgent(store) ||
           upkeep_live_bytes(store) > store->options.wal_bytes_budget / 2 ||
           store->room.room == STORE_ROOM_FULL;
}
