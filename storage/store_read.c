/* The read path: whole batches of one partition, from wherever they lie.
 *
 *     store_read()
 *       open index, bytes still in group buffers        copied at once: 1
 *       else a job:  LOOKUP -> (LOAD_INDEX) -> (OPEN) -> READ -> check and copy -> done
 *
 * A job reads one window of a file: from the first wanted batch to the last one that fits into READ_PIECE_BYTES, the
 * caller's buffer and BATCHES_MAX, as long as the gaps between (other partitions' batches) are small. A batch that
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

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "storage/group.h"

/* ---- from group buffers ---- */

static int tail_read(struct store *store, struct store_read *read);
static bool read_is_over(struct store_read *read);
static bool is_in_open(const struct partition *partition, uint64_t offset);
static bool read_add(struct store_read *read, const uint8_t *bytes,
                     const struct index_entry *entry);

/* ---- jobs ---- */

static struct read_job *job_acquire(struct store *store, struct store_read *read);
static int job_start(struct read_job *job);
static void job_run(struct read_job *job);
static bool job_is_stale(struct read_job *job);
static void job_lookup(struct read_job *job);
static void job_image_loaded(struct image_load *load);
static void job_absent(struct read_job *job);
static int told_status(int status);
static void gather_open(struct read_job *job, uint32_t i);
static void gather_image(struct read_job *job);
static bool gather_add(struct read_job *job, const struct index_entry *entry);
static void window_read(struct read_job *job);
static bool window_from_tail(struct read_job *job);
static bool window_buffer(struct read_job *job);
static void window_start(struct read_job *job);
static void window_start_segment(struct read_job *job);
static void cold_opened(struct io_op *op);
static void window_read_done(struct io_op *op);
static void window_archive_done(struct archive_read *read);
static void window_done(struct read_job *job, int status, uint32_t len);
static bool batch_is_wanted(const struct index_entry *entry, const uint8_t *bytes);
static void damage_tell(struct read_job *job, const struct index_entry *entry);
static void jumbo_wake(struct read_jobs *reads);

int store_read(struct store *store, struct store_read *read)
{
    read->status = 0;
    read->bytes = read->batch_count = read->needed_bytes = 0;
    read->next_offset = read->offset;
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
            read_add(read, NULL, &entry);
            break;
        }
        const uint8_t *bytes = wal_tail(store->wal, entry.position, entry.size);
        if (!bytes)
            break;
        read_add(read, bytes, &entry);
        read->hint = i;
    }
    if (read->bytes > 0)
        store->stats.reads_tail++;
    return read->bytes > 0 || read->status != 0;
}

/* False when it doesn't fit; if it is the first one the caller learns how much room it needs. */
static bool read_add(struct store_read *read, const uint8_t *bytes, const struct index_entry *entry)
{
    if (entry->size > read->capacity - read->bytes) {
        if (read->bytes == 0) {
            read->status = E_TOO_LARGE;
            read->needed_bytes = entry->size;
        }
        return false;
    }
    memcpy(read->buffer + read->bytes, bytes, entry->size);
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

/* Also after each wait: everything may have changed. */
static void job_run(struct read_job *job)
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
        uint32_t i = index_open_find(job->store->open, partition, read->offset, read->hint);
        gather_open(job, i);
        window_read(job);
        return;
    }
    if (!job->in_lookup)
        lookup_init(&job->lookup, partition, read->offset, read->hint);
    job->in_lookup = true;
    job_lookup(job);
}

static bool job_is_stale(struct read_job *job)
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
        gather_image(job);
        if (job->entry_count > 0)
            window_read(job);
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

static void job_absent(struct read_job *job)
{
    if (!job->has_retried) {
        job->has_retried = true;
        job->in_lookup = false;
        job_run(job);
        return;
    }
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

/* What callers know about. A file that is gone is damage; too many descriptors or no memory are this machine's affair. */
static int told_status(int status)
{
    switch (status) {
    case 0:
    case E_INVALID:
    case E_TOO_LARGE:
    case E_CORRUPT:
    case E_CANCELED:
        return status;
    case E_NOT_FOUND:
    case E_TRUNCATED:
        return E_CORRUPT;
    default:
        return E_IO;
    }
}

/* ---- which batches one window takes ---- */

static void gather_open(struct read_job *job, uint32_t i)
{
    const struct index_open *open = job->store->open;
    job->archive = NULL;
    job->source = open_segment(job->store);
    ASSERT(i != INDEX_NONE && job->source->number == job->store->open_file);
    for (; i != INDEX_NONE; i = index_open_next(open, i)) {
        struct index_entry entry = index_open_at(open, i);
        if (!gather_add(job, &entry))
            return;
        job->read->hint = i;
    }
}

static void gather_image(struct read_job *job)
{
    const struct lookup *lookup = &job->lookup;
    const struct index_image *image = lookup->image;
    uint32_t i = index_image_find(image, lookup->entries, job->read->offset);
    uint32_t end = le32_get(lookup->entries->entry_start) + le32_get(lookup->entries->entry_count);
    job->source = lookup->place.segment;
    job->archive = lookup->place.archive;
    job->read->hint = lookup_hint(lookup->place.base_lsn);
    if (index_image_at(image, i).base_offset > job->read->offset)
        return; // a hole
    for (; i < end; i++) {
        struct index_entry entry = index_image_at(image, i);
        if (!gather_add(job, &entry))
            return;
    }
}

/* The first one is taken whatever it is; the window grows as long as it is worth while. */
static bool gather_add(struct read_job *job, const struct index_entry *entry)
{
    uint64_t start = align_down(entry->position, DISK_BLOCK);
    uint64_t end = entry->position + entry->size;
    if (job->entry_count == 0) {
        job->window_start = start;
        job->window_bytes_wanted = 0;
    } else {
        if (entry->base_offset + entry->record_count > job->read->partition->visible_end ||
            job->entry_count == READ_BATCHES_MAX ||
            entry->position > job->window_end + READ_GAP_BYTES ||
            align_up(end - job->window_start, DISK_BLOCK) > READ_PIECE_BYTES ||
            job->window_bytes_wanted + entry->size > job->read->capacity)
            return false;
    }
    job->window_end = end;
    job->window_bytes_wanted += entry->size;
    job->entries[job->entry_count++] = *entry;
    return true;
}

/* ---- the window ---- */

static void window_read(struct read_job *job)
{
    if (job->entries[0].size > job->read->capacity) {
        job->read->needed_bytes = job->entries[0].size;
        job_finish(job, E_TOO_LARGE);
        return;
    }
    if (job->source && window_from_tail(job)) {
        job_finish(job, 0);
        return;
    }
    if (window_buffer(job))
        window_start(job);
}

/* A segment that was just closed is mostly still in memory. */
static bool window_from_tail(struct read_job *job)
{
    for (uint32_t i = 0; i < job->entry_count; i++) {
        const struct index_entry *entry = &job->entries[i];
        const uint8_t *bytes = wal_tail(job->store->wal, entry->position, entry->size);
        if (!bytes || !read_add(job->read, bytes, entry))
            break;
    }
    if (job->read->bytes > 0)
        job->store->stats.reads_tail++;
    return job->read->bytes > 0;
}

/* False: the job waits for the large buffer. */
static bool window_buffer(struct read_job *job)
{
    struct read_jobs *reads = job->store->reads;
    uint64_t len = align_up(job->window_end - job->window_start, DISK_BLOCK);
    job->window_len = (uint32_t)len;
    job->buffer = job->piece;
    if (len <= READ_PIECE_BYTES || job->uses_jumbo) {
        if (job->uses_jumbo)
            job->buffer = reads->jumbo;
        return true;
    }
    ASSERT(len <= reads->jumbo_bytes);
    uint32_t capacity;
    job->buffer = read_jobs_jumbo_take(reads, &capacity);
    if (job->buffer) {
        job->uses_jumbo = true;
        return true;
    }
    list_push_back(&reads->jumbo_waiting, &job->link);
    return false;
}

static void window_start(struct read_job *job)
{
    if (job->source) {
        job->segment = job->source;
        job->segment->pins++;
        window_start_segment(job);
        return;
    }
    job->store->stats.reads_archive++;
    job->archive_read =
        (struct archive_read){.archive = job->archive,
                              .offset = job->window_start,
                              .buffer = job->buffer,
                              .len = (uint32_t)(job->window_end - job->window_start),
                              .done = window_archive_done};
    list_init(&job->archive_read.link);
    archive_read_start(job->store->archives, &job->archive_read);
}

/* The active segment is read past the page cache: its pages would be thrown away by the next write. */
static void window_start_segment(struct read_job *job)
{
    struct segment *segment = job->segment;
    struct segment_index *index = segment->index;
    struct io *io = job->store->options.io;
    int fd = segment->fd;
    if (segment->state == SEGMENT_CLOSED && index) {
        if (index->cold_fd < 0) {
            io_open(io, &job->op, segment->path, O_RDONLY, 0, cold_opened);
            return;
        }
        fd = index->cold_fd;
    }
    job->store->stats.reads_segment++;
    io_read(io, &job->op, fd, job->buffer, job->window_len,
            segment_offset(segment, job->window_start), window_read_done);
}

static void cold_opened(struct io_op *op)
{
    struct read_job *job = CONTAINER_OF(op, struct read_job, op);
    struct segment_index *index = job->segment->index;
    if (op->result < 0) {
        window_done(job, op->result, 0);
        return;
    }
    if (index->cold_fd < 0)
        index->cold_fd = op->result;
    else
        store_chore_close(job->store, op->result); // another job was faster
    window_start_segment(job);
}

static void window_read_done(struct io_op *op)
{
    struct read_job *job = CONTAINER_OF(op, struct read_job, op);
    window_done(job, op->result < 0 ? op->result : 0, op->result < 0 ? 0 : (uint32_t)op->result);
}

static void window_archive_done(struct archive_read *read)
{
    struct read_job *job = CONTAINER_OF(read, struct read_job, archive_read);
    window_done(job, read->status, read->status == 0 ? read->len : 0);
}

/* Copies what is intact. Damage behind the first batch is met again, as the first, by the next read. */
static void window_done(struct read_job *job, int status, uint32_t len)
{
    if (job_is_stale(job))
        return;
    if (status < 0) {
        const char *path = job->segment ? job->segment->path : "archive";
        LOG_ERROR("read.failed", LOG_STR("path", path), LOG_U64("position", job->window_start),
                  LOG_U64("topic_id", job->topic_id), LOG_U64("partition", job->partition),
                  LOG_STATUS(status));
        job_finish(job, status);
        return;
    }
    for (uint32_t i = 0; i < job->entry_count; i++) {
        const struct index_entry *entry = &job->entries[i];
        uint64_t at = entry->position - job->window_start;
        bool is_good = at + entry->size <= len && batch_is_wanted(entry, job->buffer + at);
        if (is_good && read_add(job->read, job->buffer + at, entry))
            continue;
        if (!is_good && job->read->bytes == 0) {
            damage_tell(job, entry);
            status = E_CORRUPT;
        }
        break;
    }
    job_finish(job, status);
}

static bool batch_is_wanted(const struct index_entry *entry, const uint8_t *bytes)
{
    struct batch_info info;
    return batch_peek(bytes, entry->size, &info) && info.size == entry->size &&
           info.base_offset == entry->base_offset && info.record_count == entry->record_count &&
           batch_is_intact(bytes, entry->size);
}

static void damage_tell(struct read_job *job, const struct index_entry *entry)
{
    uint64_t offset =
        job->segment ? segment_offset(job->segment, entry->position) : entry->position;
    uint64_t number = job->segment ? job->segment->number : archive_number(job->archive);
    LOG_ERROR("read.damaged",
              LOG_STR("dir", job->segment ? job->store->wal_dir : job->store->archive_dir),
              LOG_HEX("file", number), LOG_U64("file_offset", offset),
              LOG_U64("lsn", job->segment ? entry->position : archive_base_lsn(job->archive)),
              LOG_U64("topic_id", job->topic_id), LOG_U64("partition", job->partition),
              LOG_U64("base_offset", entry->base_offset), LOG_U64("bytes", entry->size));
}

/* ---- slots ---- */

size_t read_jobs_arena_bytes(const struct store_options *options)
{
    return (size_t)options->read_slot_count * READ_PIECE_BYTES +
           read_jumbo_bytes(options->batch_bytes_max) + DISK_BLOCK;
}

struct read_jobs *read_jobs_new(struct store *store)
{
    const struct store_options *options = &store->options;
    struct read_jobs *reads = calloc(1, sizeof(*reads));
    if (!reads)
        return NULL;
    reads->store = store;
    reads->jobs = calloc(options->read_slot_count, sizeof(*reads->jobs));
    if (!reads->jobs) {
        free(reads);
        return NULL;
    }
    list_init(&reads->free);
    list_init(&reads->jumbo_waiting);
    for (uint32_t i = 0; i < options->read_slot_count; i++) {
        struct read_job *job = &reads->jobs[i];
        job->store = store;
        job->piece = arena_alloc(options->arena, READ_PIECE_BYTES, DISK_BLOCK);
        list_push_back(&reads->free, &job->link);
    }
    reads->jumbo_bytes = read_jumbo_bytes(options->batch_bytes_max);
    reads->jumbo = arena_alloc(options->arena, reads->jumbo_bytes, DISK_BLOCK);
    return reads;
}

void read_jobs_free(struct read_jobs *reads)
{
    if (!reads)
        return;
    free(reads->jobs);
    free(reads);
}

bool read_jobs_are_idle(const struct read_jobs *reads)
{
    return reads->active == 0;
}

uint8_t *read_jobs_jumbo_take(struct read_jobs *reads, uint32_t *capacity)
{
    if (reads->jumbo_is_taken)
        return NULL;
    reads->jumbo_is_taken = true;
    *capacity = reads->jumbo_bytes;
    return reads->jumbo;
}

void read_jobs_jumbo_give(struct read_jobs *reads)
{
    ASSERT(reads->jumbo_is_taken);
    reads->jumbo_is_taken = false;
    jumbo_wake(reads);
}

/* What the job knew may be old by now: it starts over, holding the buffer. */
static void jumbo_wake(struct read_jobs *reads)
{
    struct list *link = list_pop_front(&reads->jumbo_waiting);
    if (!link)
        return;
    struct read_job *job = CONTAINER_OF(link, struct read_job, link);
    reads->jumbo_is_taken = true;
    job->uses_jumbo = true;
    job_run(job);
}
