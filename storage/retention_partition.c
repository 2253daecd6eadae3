/* Retention of one partition, batch by batch: by time in the open segment, by size anywhere.
 *
 * Happy path: two comparisons say that nothing is to be done. By size, the batches from the log start on are
 * counted, in the open index or in the image of the file that holds the log start, as long as what they take away
 * leaves the limit; what lies in the next file is found by the next step.
 *
 * Failure modes: as in retention.c; a log start that no file holds is left to the readers, who tell. */
#include "storage/retention.h"

#include "storage/store_lookup.h"
#include "storage/store_private.h"

struct cut { // what goes, from the log start on
    uint64_t bytes_max;
    uint64_t log_start;
    uint64_t bytes_gone;
};

static bool time_cut(struct store *store, struct partition *partition, struct cut *cut);
static bool size_is_over(const struct partition *partition, uint64_t *excess);
static enum retention_step size_cut(struct retention *retention, struct partition *partition,
                                    struct cut *cut);
static void cut_open(struct store *store, struct partition *partition, uint64_t end_lsn,
                     struct cut *cut);
static void cut_image(const struct lookup *lookup, const struct partition *partition,
                      struct cut *cut);
static bool cut_take(struct cut *cut, const struct partition *partition,
                     const struct index_entry *entry);
static bool starts_in_open(const struct partition *partition);
static bool goes_on(const struct retention *retention, const struct partition *partition);
static void size_image_loaded(struct image_load *load);

enum retention_step retention_check_partition(struct retention *retention,
                                              struct partition *partition)
{
    struct store *store = retention->store;
    uint64_t excess;
    struct cut cut;
    if (time_cut(store, partition, &cut) &&
        retention_move(retention, partition, cut.log_start, cut.bytes_gone) == RETENTION_WAIT)
        return RETENTION_WAIT;
    if (!size_is_over(partition, &excess))
        return RETENTION_NEXT;
    cut = (struct cut){.bytes_max = excess, .log_start = partition->log_start};
    if (size_cut(retention, partition, &cut) == RETENTION_WAIT)
        return RETENTION_WAIT;
    if (cut.log_start == partition->log_start)
        return RETENTION_NEXT;
    if (retention_move(retention, partition, cut.log_start, cut.bytes_gone) == RETENTION_WAIT)
        return RETENTION_WAIT;
    return size_is_over(partition, &excess) ? RETENTION_MORE : RETENTION_NEXT;
}

/* ---- time ---- */

/* Nothing until the oldest batch is an eighth older than it may be; then all that are too old. */
static bool time_cut(struct store *store, struct partition *partition, struct cut *cut)
{
    uint64_t keep_ms = le64_get(partition->settings.retention_ms), now_ms = store->now_wall_ms;
    if (!starts_in_open(partition) || keep_ms > now_ms || keep_ms / 8 > now_ms - keep_ms)
        return false;
    uint32_t i = index_open_find(store->open, partition, partition->log_start, INDEX_NONE);
    uint64_t late_lsn = time_marks_cut(&store->times, now_ms - keep_ms - keep_ms / 8);
    if (i == INDEX_NONE || index_open_lsn(store->open, i) >= late_lsn)
        return false;
    *cut = (struct cut){.bytes_max = UINT64_MAX, .log_start = partition->log_start};
    cut_open(store, partition, time_marks_cut(&store->times, now_ms - keep_ms), cut);
    return cut->log_start > partition->log_start;
}

/* ---- size ---- */

static bool size_is_over(const struct partition *partition, uint64_t *excess)
{
    uint64_t limit = le64_get(partition->settings.retention_bytes);
    if (partition->bytes <= limit)
        return false;
    *excess = partition->bytes - limit;
    return *excess >= max_u64(limit / 8, 64 * KIB);
}

static enum retention_step size_cut(struct retention *retention, struct partition *partition,
                                    struct cut *cut)
{
    struct store *store = retention->store;
    struct lookup *lookup = retention->lookup;
    if (starts_in_open(partition)) {
        cut_open(store, partition, UINT64_MAX, cut);
        return RETENTION_NEXT;
    }
    if (!goes_on(retention, partition)) {
        lookup_init(lookup, partition, partition->log_start, INDEX_NONE);
        lookup->guess_lsn = partition->start_lsn;
        lookup->load = (struct image_load){.done = size_image_loaded};
        lookup->owner = retention;
    }
    retention->in_lookup = false;
    switch (lookup_step(store, lookup)) {
    case LOOKUP_PENDING:
        retention->loading = retention->in_lookup = true;
        return RETENTION_WAIT;
    case LOOKUP_FOUND:
        partition->start_lsn = lookup->place.base_lsn;
        cut_image(lookup, partition, cut);
        return RETENTION_NEXT;
    default:
        return RETENTION_NEXT;
    }
}

/* A search that waited for an image goes on where it was: with a small cache it would never end otherwise. */
static bool goes_on(const struct retention *retention, const struct partition *partition)
{
    const struct lookup *lookup = retention->lookup;
    return retention->in_lookup && lookup->topic_id == partition->topic_id &&
           lookup->partition == partition->partition && lookup->offset == partition->log_start;
}

/* A partition whose image can't be had is passed over. */
static void size_image_loaded(struct image_load *load)
{
    struct lookup *lookup = CONTAINER_OF(load, struct lookup, load);
    struct retention *retention = lookup->owner;
    retention->loading = false;
    if (load->status != 0)
        retention->partition++;
}

/* ---- batches ---- */

static bool starts_in_open(const struct partition *partition)
{
    return partition->open_first != INDEX_NONE &&
           partition->log_start >= partition->open_first_offset;
}

static void cut_open(struct store *store, struct partition *partition, uint64_t end_lsn,
                     struct cut *cut)
{
    uint32_t i = index_open_find(store->open, partition, partition->log_start, INDEX_NONE);
    for (; i != INDEX_NONE; i = index_open_next(store->open, i)) {
        struct index_entry entry = index_open_at(store->open, i);
        if (index_open_lsn(store->open, i) >= end_lsn || !cut_take(cut, partition, &entry))
            return;
    }
}

static void cut_image(const struct lookup *lookup, const struct partition *partition,
                      struct cut *cut)
{
    const struct disk_index_partition *p = lookup->entries;
    uint32_t end = le32_get(p->entry_start) + le32_get(p->entry_count);
    for (uint32_t i = index_image_find(lookup->image, p, partition->log_start); i < end; i++) {
        struct index_entry entry = index_image_at(lookup->image, i);
        if (!cut_take(cut, partition, &entry))
            return;
    }
}

static bool cut_take(struct cut *cut, const struct partition *partition,
                     const struct index_entry *entry)
{
    uint64_t end_offset = entry->base_offset + entry->record_count;
    if (end_offset > partition->visible_end || entry->size > cut->bytes_max - cut->bytes_gone)
        return false;
    cut->log_start = end_offset;
    cut->bytes_gone += entry->size;
    return true;
}
