/* Unweaving as seen from the store: when the oldest segments are rewritten, and which.
 *
 * Happy path: what is needed of the log exceeds three quarters of its budget (what is not comes back with the next
 * checkpoints anyhow); the oldest segments that are still needed are chosen and pinned, the images of their indexes are copied as they come, and archives_unweave() takes them over; when the run
 * has ended, a checkpoint names the new file.
 *
 * Failure modes: no space or memory: tried again a second later. A damaged source: told, and tried again each minute, since a disk may give
 * wrong bytes once; until it is read well, or salvaged, the log stops growing at its budget, and readers of other data go on. */
#include "storage/upkeep.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/status.h"
#include "storage/store_private.h"

static bool sources_choose(struct store *store);
static void open_close(struct store *store);
static uint32_t unweave_count(struct store *store, uint32_t first);
static bool run_has_room(struct store *store, uint32_t count);
static bool sources_gather(struct store *store);
static int run_start(struct store *store);
static uint64_t sources_lowest(const struct upkeep *upkeep);
static bool source_take(struct upkeep *upkeep, const struct index_image *image);
static void sources_unpin(struct upkeep *upkeep, uint32_t from);
static uint64_t retry_ns(const struct store *store, int status);

int upkeep_unweave_turn(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    if (upkeep->loading || archives_is_unweaving(store->archives))
        return 0;
    if (!upkeep_log_is_high(store) || store->is_closing) {
        upkeep_sources_drop(upkeep, 0);
        return 0;
    }
    if (store->now_ns < upkeep->unweave_retry_ns)
        return 0;
    if (upkeep->source_wanted == 0 && !sources_choose(store))
        return 0;
    if (!sources_gather(store))
        return 0;
    int taken = run_start(store);
    upkeep_sources_drop(upkeep, taken > 0 ? (uint32_t)taken : 0);
    if (taken < 0)
        upkeep->unweave_retry_ns = store->now_ns + UPKEEP_RETRY_NS;
    return 1;
}

/* With the segments in front of the sources down to the oldest in which a batch of theirs lies. */
static int run_start(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    uint64_t lowest_lsn = sources_lowest(upkeep);
    uint32_t end = 0, first = 0;
    while (wal_segment_at(store->wal, end) != upkeep->sources[0].segment)
        end++;
    while (first < end && wal_segment_at(store->wal, first)->end_lsn <= lowest_lsn)
        first++;
    struct unweave_older older = {.count = end - first};
    older.segments = malloc((end - first + 1) * sizeof(*older.segments));
    if (!older.segments)
        return E_NO_MEMORY;
    for (uint32_t i = first; i < end; i++)
        older.segments[i - first] = wal_segment_at(store->wal, i);
    upkeep->run_lsn = store_reserved_lsn(store);
    int taken = archives_unweave(store->archives, upkeep->sources, upkeep->source_count, &older,
                                 store->now_wall_ms);
    free(older.segments);
    return taken;
}

static uint64_t sources_lowest(const struct upkeep *upkeep)
{
    uint64_t lowest_lsn = UINT64_MAX;
    for (uint32_t i = 0; i < upkeep->source_count; i++)
        lowest_lsn = min_u64(lowest_lsn, upkeep->sources[i].image.lowest_position);
    return lowest_lsn;
}

/* The oldest ones that are still needed, as many as one run should have. */
static bool sources_choose(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    uint32_t first = 0, closed = closed_count(store);
    uint64_t end_lsn = archives_end_lsn(store->archives);
    while (first < closed && (wal_segment_at(store->wal, first)->end_lsn <= end_lsn ||
                              !upkeep_segment_is_needed(store, wal_segment_at(store->wal, first))))
        first++;
    if (first == closed)
        open_close(store);
    uint32_t count = unweave_count(store, first);
    if (count == 0 || !run_has_room(store, count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        upkeep->sources[i] =
            (struct unweave_source){.segment = wal_segment_at(store->wal, first + i)};
        upkeep->sources[i].segment->pins++;
    }
    upkeep->source_wanted = count;
    return true;
}

/* Only the open segment is left, and its index lists batches of older ones, which wait for it to be unwoven: it is closed
 * early. A COMMIT left a spare for that (store_txn.c). */
static void open_close(struct store *store)
{
    struct segment *last = wal_segment_at(store->wal, wal_segment_count(store->wal) - 1);
    if (index_open_lowest(store->open) >= open_segment(store)->base_lsn)
        return;
    if (last->number == store->open_file)
        wal_roll_soon(store->wal);
    else if (segment_indexes_can_roll(&store->indexes))
        store_index_roll(store, last->number);
}

/* A run owns its images, so it gets copies. False: one has to be loaded first. */
static bool sources_gather(struct store *store)
{
    struct upkeep *upkeep = &store->upkeep;
    while (upkeep->source_count < upkeep->source_wanted) {
        struct segment *segment = upkeep->sources[upkeep->source_count].segment;
        const struct index_image *image = segment_index_image(&store->indexes, segment);
        if (!image) {
            upkeep_image_want(store, segment);
            return false;
        }
        if (!source_take(upkeep, image)) {
            upkeep->unweave_retry_ns = store->now_ns + UPKEEP_RETRY_NS; // memory
            return false;
        }
    }
    return true;
}

/* It is copied at once: a small cache may lose it before the others have come. */
void upkeep_source_loaded(struct store *store, struct segment *segment,
                          const struct image_load *load)
{
    struct upkeep *upkeep = &store->upkeep;
    if (load->status != 0)
        upkeep->unweave_retry_ns = retry_ns(store, load->status);
    else if (upkeep->source_count < upkeep->source_wanted &&
             upkeep->sources[upkeep->source_count].segment == segment)
        (void)source_take(upkeep, load->image);
}

/* False: out of memory. One run has a limit of batches; what comes behind it stays for the next. */
static bool source_take(struct upkeep *upkeep, const struct index_image *image)
{
    uint64_t entries = image->entry_count;
    for (uint32_t i = 0; i < upkeep->source_count; i++)
        entries += upkeep->sources[i].image.entry_count;
    if (upkeep->source_count > 0 && entries > ARCHIVE_RUN_ENTRIES_MAX) {
        sources_unpin(upkeep, upkeep->source_count);
        upkeep->source_wanted = upkeep->source_count;
        return true;
    }
    if (index_image_copy(image, &upkeep->sources[upkeep->source_count].image) < 0)
        return false;
    upkeep->source_count++;
    return true;
}

static void sources_unpin(struct upkeep *upkeep, uint32_t from)
{
    for (uint32_t i = from; i < upkeep->source_wanted; i++)
        upkeep->sources[i].segment->pins--;
}

/* Images below `taken` have gone into a run, which holds its segments itself. */
void upkeep_sources_drop(struct upkeep *upkeep, uint32_t taken)
{
    sources_unpin(upkeep, 0);
    for (uint32_t i = taken; i < upkeep->source_count; i++)
        index_image_free(&upkeep->sources[i].image);
    upkeep->source_count = upkeep->source_wanted = 0;
}

/* A log that waits for spares is no reason as long as more of them can be made. On a full disk everything is unwoven:
 * only behind what is still needed do segments without batches come back. */
bool upkeep_log_is_high(struct store *store)
{
    uint64_t budget = store->options.wal_bytes_budget;
    bool waits = store_is_urgent(store);
    if (store->room.room == STORE_ROOM_FULL || (waits && store->upkeep.is_tight))
        return true;
    uint64_t high = waits ? budget / 2 - 1 : budget / 4 * 3;
    return upkeep_live_bytes(store) > high && upkeep_needed_bytes(store) > high;
}

bool upkeep_run_is_late(const struct store *store)
{
    uint64_t budget = store->options.wal_bytes_budget;
    uint64_t spare_bytes = wal_spare_count(store->wal) * store->options.segment_bytes;
    uint64_t grown_bytes = store_reserved_lsn(store) - store->upkeep.run_lsn;
    return archives_is_unweaving(store->archives) &&
           (grown_bytes > budget / 16 || spare_bytes < budget / 8);
}

/* As many as brings the log down to half of its budget, within one run; only what is durable and visible. */
static uint32_t unweave_count(struct store *store, uint32_t first)
{
    uint64_t wanted = 1; // what needs little room may find it
    if (!store->upkeep.is_tight && store->room.room != STORE_ROOM_FULL) {
        uint64_t needed = upkeep_needed_bytes(store), half = store->options.wal_bytes_budget / 2;
        uint64_t bytes = min_u64(needed - min_u64(needed, half), ARCHIVE_RUN_BYTES_MAX);
        wanted = max_u64(1, bytes / store->options.segment_bytes);
    }
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
    (void)upkeep_room_turn(store);
    bool is_full = room->room == STORE_ROOM_FULL;
    return room->free_bytes >= count * upkeep_reserve_bytes(store->options.segment_bytes) ||
           (is_full && archives_stats(store->archives).has_reserve);
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
    upkeep->unweave_retry_ns = retry_ns(store, status);
}

static uint64_t retry_ns(const struct store *store, int status)
{
    return store->now_ns + (status == E_CORRUPT ? UPKEEP_DAMAGE_RETRY_NS : UPKEEP_RETRY_NS);
}

uint64_t upkeep_log_start(void *context, uint32_t topic_id, uint32_t partition)
{
    struct store *store = context;
    struct partition *found = partitions_find(store->partitions, topic_id, partition);
    return found ? found->log_start : UINT64_MAX;
}
