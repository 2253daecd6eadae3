/* The read path: whole batches of one partition, from wherever they lie.
 *
 *     store_read()
 *       open index, bytes still in group buffers        copied at once: 1
 *       else a job:  LOOKUP -> (LOAD_INDEX) -> (OPEN) -> READ -> check and copy -> done
 *
 * A job reads one window of a file: from the first wanted batch to the last one that fits into READ_PIECE_BYTES, the
 * caller's buffer and READ_BATCHES_MAX, as long as the gaps between (other partitions' batches) are small. A batch that
 * is larger than a piece is read alone into the one large buffer, for which jobs queue.
 *
 * What comes from a file is checked batch by batch before it is copied: place, length and CRC-32C. Group buffers are
 * not checked: they were when they were filled. The active segment is read with O_DIRECT, what is closed through the
 * page cache. A segment is pinned while it is read.
 *
 * Failure modes: all jobs busy (FULL: the caller tries again later); a damaged batch, or an offset that no file holds
 * (CORRUPT, one line with file, offset, LSN and partition; what lay before it is delivered first); I/O errors; the
 * partition is dropped meanwhile (CANCELED). */
#include "storage/store_read.h"

#include <string.h>

#include "base/log.h"
#include "base/status.h"

/* ---- from group buffers ---- */

static int tail_read(struct store *store, struct store_read *read);
static bool read_is_over(struct store_read *read);
static bool is_in_open(const struct partition *partition, uint64_t offset);

/* ---- jobs ---- */

static struct read_job *job_acquire(struct store *store, struct store_read *read);
static int job_start(struct read_job *job);
static void job_run_open(struct read_job *job);
static void job_lookup(struct read_job *job);
static void job_image_loaded(struct image_load *load);
static bool gap_step_over(struct read_job *job);
static void job_absent(struct read_job *job);
static void job_missing(struct read_job *job);
static int told_status(int status);

int store_read(struct store *store, struct store_read *read)
{
    read->status = 0;
    read->bytes = read->batch_count = read->needed_bytes = 0;
    read->next_offset = read->offset;
    read->damage = (struct store_damage){0};
    if (read_is_over(read))
        return 1;
    if (is_in_open(read->partition, read->offset) && tail_read(store, read))
        return 1;
    struct read_job *job = job_acquire(store, read);
    if (!job)
        return E_FULL;
    return job_start(job);
}

int store_find_time(struct store *store, struct store_read *read, int64_t timestamp,
                    int64_t *found_timestamp)
{
    read->status = 0;
    read->bytes = read->batch_count = read->needed_bytes = 0;
    struct read_job *job = job_acquire(store, read);
    if (!job)
        return E_FULL;
    job->is_search = true;
    job->timestamp = timestamp;
    job->found_timestamp = found_timestamp;
    return job_start(job);
}

/* ---- from group buffers ---- */

/* True when there is nothing to read: `status` says whether that is an error. */
static bool read_is_over(struct store_read *read)
{
    const struct partition *partition = read->partition;
    if (read->offset < partition->log_start || read->offset > partition->visible_end)
        read->status = E_INVALID;
    return read->status != 0 || read->offset == partition->visible_end;
}

static bool is_in_open(const struct partition *partition, uint64_t offset)
{
    return partition->open_first != INDEX_NONE && offset >= partition->open_first_offset;
}

/* Returns 1 when something was copied or the buffer is too small, 0 when the first batch has left memory. */
static int tail_read(struct store *store, struct store_read *read)
{
    const struct partition *partition = read->partition;
    uint32_t i = index_open_find(store->open, partition, read->offset, read->hint);
    for (; i != INDEX_NONE; i = index_open_next(store->open, i)) {
        struct index_entry entry = index_open_at(store->open, i);
        if (entry.base_offset + entry.record_count > partition->visible_end)
            break;
        if (entry.size > read->capacity - read->bytes) {
            read_batch_add(read, NULL, &entry);
            break;
        }
        const uint8_t *bytes = wal_tail(store->wal, entry.position, entry.size);
        if (!bytes)
            break;
        read_batch_add(read, bytes, &entry);
        read->hint = i;
    }
    if (read->bytes > 0)
        store->stats.reads_tail++;
    return read->bytes > 0 || read->status != 0;
}

bool read_batch_add(struct store_read *read, const uint8_t *bytes, const struct index_entry *entry)
{
    if (entry->size > read->capacity - read->bytes) {
        if (read->bytes == 0) {
            read->status = E_TOO_LARGE;
            read->needed_bytes = entry->size;
        }
        return false;
    }
    uint8_t *copy = read->buffer + read->bytes;
    if (copy != bytes)
        memmove(copy, bytes, entry->size); // maybe read into the same buffer, further back
    if (UNLIKELY(batch_is_staged(copy)))   // its offset came with the COMMIT
        batch_set_head(copy, entry->base_offset, STORED_LEADER_EPOCH);
    read->bytes += entry->size;
    read->batch_count++;
    read->next_offset = entry->base_offset + entry->record_count;
    return true;
}

/* ---- jobs: from the start to the end ---- */

static struct read_job *job_acquire(struct store *store, struct store_read *read)
{
    struct read_jobs *reads = store->reads;
    struct list *link = store->is_closing ? NULL : list_pop_front(&reads->free);
    if (!link)
        return NULL;
    struct read_job *job = CONTAINER_OF(link, struct read_job, link);
    reads->active++;
    job->read = read;
    job->topic_id = read->partition->topic_id;
    job->partition = read->partition->partition;
    job->incarnation = read->partition->incarnation;
    job->is_search = false;
    job->has_retried = false;
    job->uses_jumbo = false;
    job->segment = NULL;
    job->lookup.load.done = job_image_loaded;
    read->job = job;
    return job;
}

/* 1 when it ended without waiting: then `done` is not called. */
static int job_start(struct read_job *job)
{
    job->is_starting = true;
    job->is_ended = false;
    job->in_lookup = false;
    job_run(job);
    job->is_starting = false;
    return job->is_ended ? 1 : 0;
}

void job_run(struct read_job *job)
{
    struct store_read *read = job->read;
    struct partition *partition = read->partition;
    if (job_is_stale(job))
        return;
    if (job->is_search) {
        search_run(job);
        return;
    }
    if (read_is_over(read)) {
        job_finish(job, read->status);
        return;
    }
    job->entry_count = 0;
    if (is_in_open(partition, read->offset)) {
        job_run_open(job);
        return;
    }
    if (!job->in_lookup)
        lookup_init(&job->lookup, partition, read->offset, read->hint);
    job->in_lookup = true;
    job_lookup(job);
}

/* Behind the last batch of the open index may lie what was given up with a part of the log. */
static void job_run_open(struct read_job *job)
{
    struct store_read *read = job->read;
    const struct partition *partition = read->partition;
    uint32_t i = index_open_find(job->store->open, partition, read->offset, read->hint);
    if (i != INDEX_NONE && read_gather_open(job, i)) {
        read_window(job);
    } else if (i == INDEX_NONE && read->offset < partition->gap_end) {
        read->next_offset = read->offset = partition->visible_end;
        job_finish(job, 0);
    } else {
        job_missing(job);
    }
}

bool job_is_stale(struct read_job *job)
{
    if (job->read->partition->incarnation == job->incarnation)
        return false;
    job_finish(job, E_CANCELED);
    return true;
}

static void job_lookup(struct read_job *job)
{
    switch (lookup_step(job->store, &job->lookup)) {
    case LOOKUP_PENDING:
        return;
    case LOOKUP_FAILED:
        job_finish(job, job->lookup.load.status);
        return;
    case LOOKUP_ABSENT:
        job_absent(job);
        return;
    case LOOKUP_FOUND:
        job->in_lookup = false;
        if (read_gather_image(job))
            read_window(job);
        else
            job_absent(job);
        return;
    }
}

static void job_image_loaded(struct image_load *load)
{
    struct read_job *job = CONTAINER_OF(load, struct read_job, lookup.load);
    if (job_is_stale(job))
        return;
    if (load->status != 0)
        job_finish(job, load->status);
    else
        job_run(job);
}

/* An offset that was lost with a part of the log: goes on with the first one behind that is there. */
static bool gap_step_over(struct read_job *job)
{
    struct store_read *read = job->read;
    const struct partition *partition = read->partition;
    uint64_t next = job->lookup.next_offset;
    if (read->offset >= partition->gap_end)
        return false;
    if (next == UINT64_MAX)
        next = partition->open_first != INDEX_NONE ? partition->open_first_offset
                                                   : partition->visible_end;
    job->in_lookup = false;
    read->next_offset = read->offset = min_u64(next, partition->visible_end);
    return true;
}

static void job_absent(struct read_job *job)
{
    if (!job->has_retried) {
        job->has_retried = true;
        job->in_lookup = false;
        job_run(job);
        return;
    }
    if (gap_step_over(job)) {
        job_run(job);
        return;
    }
    job_missing(job);
}

static void job_missing(struct read_job *job)
{
    LOG_ERROR("read.offset_missing", LOG_U64("shard", job->store->options.shard_id),
              LOG_U64("topic_id", job->topic_id), LOG_U64("partition", job->partition),
              LOG_U64("offset", job->read->offset),
              LOG_U64("log_start", job->read->partition->log_start),
              LOG_U64("visible_end", job->read->partition->visible_end));
    job_finish(job, E_CORRUPT);
}

void job_finish(struct read_job *job, int status)
{
    struct store_read *read = job->read;
    struct read_jobs *reads = job->store->reads;
    if (job->segment)
        TAKE(job->segment)->pins--;
    if (job->uses_jumbo)
        read_jobs_jumbo_give(reads);
    job->uses_jumbo = false;
    job->is_ended = true;
    job->read = NULL;
    read->job = NULL;
    read->status = told_status(status);
    list_push_front(&reads->free, &job->link);
    reads->active--;
    if (!job->is_starting)
        read->done(read);
}

/* What callers know about. A file that is gone is damage; too many descriptors are this machine's affair. */
static int told_status(int status)
{
    switch (status) {
    case 0:
    case E_INVALID:
    case E_TOO_LARGE:
    case E_CORRUPT:
    case E_CANCELED:
    case E_NO_MEMORY:
        return status;
    case E_NOT_FOUND:
    case E_TRUNCATED:
        return E_CORRUPT;
    default:
        return E_IO;
    }
}
