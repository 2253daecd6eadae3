/* Handles of closed segments' indexes: sealing, lookups, recycling. The jobs that write and load files are in
 * index_job.c; phases in segment_index.h.
 *
 * Happy path: the log rolls, segment_index_seal() takes the open index and makes the image; the last batch becomes
 * visible, the open index is a spare again; the segment is durable to its end, the image is written and moves to
 * the cache.
 *
 * Failure modes: no memory for an image: the index is UNKNOWN and will be made anew when somebody asks; a file that
 * can't be written: a warning, and the same; a damaged segment: CORRUPT for those who ask. */
#include "storage/segment_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "storage/index_job.h"
#include "storage/store_private.h"

static uint64_t cache_key(const struct segment *segment);
static void index_free(struct segment_index *index);
static uint32_t entries_max(const struct store *store);
static void write_wanted(struct segment_indexes *indexes, struct segment_index *index);
static void remember_newest(struct store *store, const struct index_image *image);

static int lead_entry(void *context, const struct wal_view *view);
static int lead_add(void *context, const struct committed *batch);
static int lead_add_to(struct store *store, struct partition *partition,
                       const struct index_entry *entry, uint64_t lsn);
static int lead_follow(struct store *store, struct index_open *replayed);
static bool lead_is_whole(struct store *store);
static bool leads_to(const struct wal_position *at, const struct wal_position *checkpoint);
static int tidy_visit(void *context, const char *name, uint64_t size_bytes);

int segment_indexes_init(struct segment_indexes *indexes, struct store *store)
{
    *indexes = (struct segment_indexes){.store = store};
    list_init(&indexes->sealed);
    list_init(&indexes->to_write);
    list_init(&indexes->to_load);
    indexes->writer = (struct index_job){.store = store, .fd = -1};
    indexes->loader = (struct index_job){.store = store, .fd = -1};
    while (indexes->spare_count < SEALED_MAX) {
        struct index_open *spare = index_open_new(entries_max(store));
        if (!spare)
            return E_NO_MEMORY;
        indexes->spares[indexes->spare_count++] = spare;
    }
    return 0;
}

void segment_indexes_deinit(struct segment_indexes *indexes)
{
    struct store *store = indexes->store;
    if (!store)
        return;
    for (uint32_t i = 0; store->wal && i < wal_segment_count(store->wal); i++) {
        struct segment *segment = wal_segment_at(store->wal, i);
        if (segment->index)
            index_free(TAKE(segment->index));
    }
    free(TAKE(indexes->spare_handle));
    while (indexes->spare_count > 0)
        index_open_free(indexes->spares[--indexes->spare_count]);
}

bool segment_indexes_are_idle(const struct segment_indexes *indexes)
{
    return indexes->writer.step == INDEX_JOB_IDLE && indexes->loader.step == INDEX_JOB_IDLE &&
           list_is_empty(&indexes->to_load);
}

int segment_indexes_turn(struct segment_indexes *indexes)
{
    return index_writer_turn(indexes) + index_loader_turn(indexes);
}

bool segment_indexes_can_roll(struct segment_indexes *indexes)
{
    if (UNLIKELY(!indexes->spare_handle))
        indexes->spare_handle = malloc(sizeof(*indexes->spare_handle));
    return indexes->spare_count > 0 && indexes->spare_handle;
}

struct index_open *segment_indexes_take(struct segment_indexes *indexes)
{
    ASSERT(indexes->spare_count > 0);
    return indexes->spares[--indexes->spare_count];
}

struct segment_index *segment_index_of(struct segment_indexes *indexes, struct segment *segment)
{
    if (segment->index)
        return segment->index;
    struct segment_index *index = malloc(sizeof(*index));
    if (!index && !(index = TAKE(indexes->spare_handle)))
        return NULL;
    *index = (struct segment_index){.segment = segment, .cold_fd = -1};
    list_init(&index->sealed_link);
    list_init(&index->work_link);
    list_init(&index->loads);
    return segment->index = index;
}

/* ---- a closed segment's first moments ---- */

void segment_index_seal(struct segment_indexes *indexes, struct segment *segment,
                        struct index_open *open, uint32_t visible, uint64_t append_ms_last)
{
    struct segment_index *index = segment_index_of(indexes, segment);
    ASSERT(index && !index->open);
    index->append_ms_last = append_ms_last;
    index->lowest = index_open_lowest(open);
    index->open = open;
    index->visible = visible;
    list_push_back(&indexes->sealed, &index->sealed_link);
    struct index_identity identity = index_job_identity(indexes->store, segment, append_ms_last);
    if (index_open_image(open, &identity, &index->image) == 0) {
        index->state = SEGMENT_INDEX_SEALED;
        remember_newest(indexes->store, &index->image);
        if (segment->state == SEGMENT_CLOSED)
            write_wanted(indexes, index); // a MARK had rolled the log, before an entry told us
    }
    index_open_detach(open);
    if (visible == index_open_count(open))
        segment_index_all_visible(indexes, index);
}

/* A reader near the tail finds its file at once, however rare its partition is. */
static void remember_newest(struct store *store, const struct index_image *image)
{
    for (uint32_t i = 0; i < image->partition_count; i++) {
        const struct disk_index_partition *p = &image->directory[i];
        struct partition *partition =
            partitions_find(store->partitions, le32_get(p->topic_id), le32_get(p->partition));
        if (partition)
            partition->closed_lsn = image->base_lsn + 1;
    }
}

void segment_index_all_visible(struct segment_indexes *indexes, struct segment_index *index)
{
    ASSERT(index->visible == index_open_count(index->open));
    ASSERT(indexes->spare_count < SEALED_MAX);
    list_remove(&index->sealed_link);
    struct index_open *open = TAKE(index->open);
    index_open_clear(open);
    indexes->spares[indexes->spare_count++] = open;
}

void segment_index_closed(struct segment_indexes *indexes, struct segment *segment)
{
    struct segment_index *index = segment_index_of(indexes, segment);
    if (index && index->state == SEGMENT_INDEX_SEALED)
        write_wanted(indexes, index);
}

static void write_wanted(struct segment_indexes *indexes, struct segment_index *index)
{
    index->state = SEGMENT_INDEX_WRITING;
    list_push_back(&indexes->to_write, &index->work_link);
}

/* ---- lookups ---- */

const struct index_image *segment_index_image(struct segment_indexes *indexes,
                                              struct segment *segment)
{
    struct segment_index *index = segment->index;
    if (index && index->image.bytes)
        return &index->image;
    return index_cache_get(indexes->store->cache, cache_key(segment));
}

int segment_index_load(struct segment_indexes *indexes, struct segment *segment,
                       struct image_load *load)
{
    load->status = 0;
    load->image = segment_index_image(indexes, segment);
    if (load->image)
        return 1;
    struct segment_index *index = segment_index_of(indexes, segment);
    if (!index) {
        load->status = E_NO_MEMORY;
        return 1;
    }
    list_push_back(&index->loads, &load->link);
    if (indexes->loader.index != index && !list_is_linked(&index->work_link)) {
        segment->pins++;
        list_push_back(&indexes->to_load, &index->work_link);
    }
    return 0;
}

/* ---- the end ---- */

bool segment_index_is_idle(const struct segment_index *index)
{
    return !index || (!index->open && index->state != SEGMENT_INDEX_SEALED &&
                      index->state != SEGMENT_INDEX_WRITING && list_is_empty(&index->loads));
}

void segment_index_drop(struct segment_indexes *indexes, struct segment *segment)
{
    struct segment_index *index = TAKE(segment->index);
    char path[SEGMENT_PATH_MAX];
    index_job_path(indexes->store, segment->number, "idx", path);
    store_chore_unlink(indexes->store, path);
    index_cache_drop(indexes->store->cache, cache_key(segment));
    if (!index)
        return;
    ASSERT(segment_index_is_idle(index) && !list_is_linked(&index->work_link));
    if (index->cold_fd >= 0)
        store_chore_close(indexes->store, index->cold_fd);
    index->cold_fd = -1;
    index_free(index);
}

static void index_free(struct segment_index *index)
{
    index_open_free(index->open);
    index_image_free(&index->image);
    free(index);
}

/* ---- start ---- */

struct lead { // one entry of the leading part
    struct store *store;
    uint64_t lsn;
};

int segment_index_lead(struct segment_indexes *indexes, struct segment *segment,
                       const struct wal_position *checkpoint, uint64_t *at_lsn)
{
    struct store *store = indexes->store;
    struct index_open *replayed = store->open;
    struct time_marks times = store->times;
    index_open_detach(replayed);
    time_marks_clear(&store->times);
    store->open = segment_indexes_take(indexes);
    struct wal_position at;
    uint64_t end_lsn = min_u64(checkpoint->lsn, segment->end_lsn);
    int status = recover_scan_segment(store->options.io, segment, store->options.segment_bytes,
                                      segment->base_lsn, end_lsn, lead_entry, store, &at);
    *at_lsn = status < 0 ? at.lsn : segment->base_lsn;
    if (status == 0)
        status = leads_to(&at, checkpoint) ? lead_follow(store, replayed) : E_CORRUPT;
    if (status == 0 && !lead_is_whole(store))
        status = E_CORRUPT;
    for (uint32_t i = 0; i < times.count; i++)
        time_marks_add(&store->times, times.marks[i].ms, times.marks[i].lsn);
    index_open_clear(replayed);
    indexes->spares[indexes->spare_count++] = replayed;
    return status;
}

static int lead_entry(void *context, const struct wal_view *view)
{
    struct store *store = context;
    struct segment *segment = open_segment(store);
    struct lead lead = {.store = store, .lsn = view->lsn};
    time_marks_add(&store->times, view->append_time_ms, view->lsn);
    store->append_ms_last = max_u64(store->append_ms_last, view->append_time_ms);
    return segment_scan_index(view, segment->holes, segment->hole_count, lead_add, &lead);
}

static int lead_add(void *context, const struct committed *batch)
{
    const struct lead *lead = context;
    struct store *store = lead->store;
    struct partition *partition =
        partitions_find(store->partitions, batch->topic_id, batch->partition);
    if (!partition)
        return 0; // dropped since
    return lead_add_to(store, partition, &batch->entry, lead->lsn);
}

/* Offsets follow each other but for what was given up. */
static int lead_add_to(struct store *store, struct partition *partition,
                       const struct index_entry *entry, uint64_t lsn)
{
    if (partition->open_last != INDEX_NONE) {
        struct index_entry last = index_open_at(store->open, partition->open_last);
        uint64_t end = last.base_offset + last.record_count;
        if (entry->base_offset < end ||
            (entry->base_offset > end && entry->base_offset > partition->gap_end))
            return E_CORRUPT;
    }
    uint32_t i = index_open_add(store->open, partition, entry, lsn);
    return i == INDEX_NONE ? E_NO_MEMORY : 0;
}

static int lead_follow(struct store *store, struct index_open *replayed)
{
    for (uint32_t i = 0; i < index_open_count(replayed); i++) {
        struct partition *partition = index_open_partition(replayed, i);
        struct index_entry entry = index_open_at(replayed, i);
        uint64_t lsn = index_open_lsn(replayed, i);
        int status = partition ? lead_add_to(store, partition, &entry, lsn) : 0;
        if (status < 0)
            return status;
    }
    return 0;
}

/* Each partition that is here ends where the state says, or with batches that were given up. */
static bool lead_is_whole(struct store *store)
{
    for (uint32_t i = 0; i < partitions_count(store->partitions); i++) {
        const struct partition *partition = partitions_at(store->partitions, i);
        if (partition->open_last == INDEX_NONE)
            continue;
        struct index_entry last = index_open_at(store->open, partition->open_last);
        uint64_t end = last.base_offset + last.record_count;
        if (end != partition->next_offset &&
            (end > partition->next_offset || partition->gap_end != partition->next_offset))
            return false;
    }
    return true;
}

/* Behind a hole nothing may be known of the chain. */
static bool leads_to(const struct wal_position *at, const struct wal_position *checkpoint)
{
    return at->group_number == 0 || at->lsn != checkpoint->lsn ||
           (at->group_number == checkpoint->group_number && at->chain == checkpoint->chain);
}

struct tidy {
    struct store *store;
    char name[64]; // of a file to delete; empty: none found
};

int segment_indexes_tidy(struct segment_indexes *indexes)
{
    struct store *store = indexes->store;
    for (;;) {
        struct tidy tidy = {.store = store};
        int status = io_list(store->options.io, store->wal_dir, tidy_visit, &tidy);
        if (status < 0)
            return status;
        if (!tidy.name[0])
            return 0;
        char path[SEGMENT_PATH_MAX];
        snprintf(path, sizeof(path), "%.4000s/%s", store->wal_dir, tidy.name);
        status = io_unlink_wait(store->options.io, path);
        if (status < 0)
            return status;
    }
}

/* Stops the listing at the first file that nobody needs: it is deleted before the next look. */
static int tidy_visit(void *context, const char *name, uint64_t size_bytes)
{
    struct tidy *tidy = context;
    size_t len = strlen(name);
    char *end;
    uint64_t number = strtoull(name, &end, 16);
    if (len >= sizeof(tidy->name) || end != name + 16)
        return 0;
    bool is_index = strcmp(end, ".idx") == 0;
    if (!is_index && strcmp(end, ".idx.tmp") != 0)
        return 0;
    struct wal *wal = tidy->store->wal;
    for (uint32_t i = 0; is_index && i < wal_segment_count(wal); i++)
        if (wal_segment_at(wal, i)->number == number)
            return 0;
    memcpy(tidy->name, name, len + 1);
    return 1;
}

static uint64_t cache_key(const struct segment *segment)
{
    return segment->number * 2;
}

/* No entry of a batch is smaller than its headers and one record. */
static uint32_t entries_max(const struct store *store)
{
    uint64_t fits = store->options.segment_bytes / (ENTRY_HEADER_BYTES + BATCH_HEADER_SIZE + 8);
    return (uint32_t)min_u64(fits, INDEX_ENTRIES_MAX);
}

/* ---- chores ---- */

struct chore {
    struct list link; // in store->chores; the first one is in flight
    struct store *store;
    int fd; // to be closed; -1: path is to be unlinked
    struct io_op op;
    char path[SEGMENT_PATH_MAX];
};

static void chore_begin(struct store *store);

static void chore_done(struct io_op *op)
{
    struct chore *chore = CONTAINER_OF(op, struct chore, op);
    struct store *store = chore->store;
    list_remove(&chore->link);
    free(chore);
    chore_begin(store);
}

/* One at a time: a file system that discards blocks at once takes milliseconds for an unlink, and eight of them, as a recycling has, keep all of the
 * kernel's workers from the log's fdatasync. */
static void chore_begin(struct store *store)
{
    if (list_is_empty(&store->chores))
        return;
    struct chore *chore = CONTAINER_OF(store->chores.next, struct chore, link);
    if (io_op_is_active(&chore->op))
        return;
    if (chore->fd >= 0)
        io_close(store->options.io, &chore->op, chore->fd, chore_done);
    else
        io_unlink(store->options.io, &chore->op, chore->path, chore_done);
}

/* Without memory the file stays until the next start, and the descriptor until the end. */
static void chore_add(struct store *store, int fd, const char *path)
{
    struct chore *chore = calloc(1, sizeof(*chore));
    if (!chore)
        return;
    chore->store = store;
    chore->fd = fd;
    snprintf(chore->path, sizeof(chore->path), "%s", path);
    list_push_back(&store->chores, &chore->link);
    chore_begin(store);
}

void store_chore_close(struct store *store, int fd)
{
    chore_add(store, fd, "");
}

void store_chore_unlink(struct store *store, const char *path)
{
    chore_add(store, -1, path);
}
