/* Background jobs for .idx files.
 *
 * Writing:  open <n>.idx.tmp, write, fdatasync, close, rename. Any failure: one warning, the tmp file is deleted,
 *           and the image stays available through the cache as long as it is there.
 * Loading:  open <n>.idx, read, close, check. Missing or bad: the segment is read from its start to its end, its
 *           groups checked as at recovery, and the index made anew (and written again).
 *
 * A scan uses the one large read buffer; it waits while a read of a large batch has it. A scan that meets damage ends
 * in CORRUPT with one line that names file, offset and LSN; who asks again gets the same again. */
#include "storage/index_job.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/status.h"
#include "storage/store_private.h"

static void writer_start(struct index_job *job, struct segment_index *index);
static void writer_done(struct io_op *op);
static void writer_step(struct index_job *job);
static void writer_finish(struct index_job *job);

static void loader_start(struct index_job *job, struct segment_index *index);
static void loader_opened(struct io_op *op);
static void loader_read(struct index_job *job);
static void loader_read_done(struct io_op *op);
static void loader_close(struct index_job *job);
static void loader_closed(struct io_op *op);
static int loader_parse(struct index_job *job, struct index_image *image);
static int loader_scan_begin(struct index_job *job);
static void loader_scan(struct index_job *job);
static void loader_scan_done(struct io_op *op);
static int loader_scan_entry(void *context, const struct wal_view *view);
static int loader_scan_add(void *context, const struct committed *batch);
static void loader_scan_end(struct index_job *job, int status);
static void loader_finish(struct index_job *job, int status, struct index_image *image);

void index_job_path(const struct store *store, uint64_t number, const char *suffix, char *path)
{
    snprintf(path, SEGMENT_PATH_MAX, "%.4000s/%016" PRIx64 ".%s", store->wal_dir, number, suffix);
}

struct index_identity index_job_identity(const struct store *store, const struct segment *segment,
                                         uint64_t append_ms_last)
{
    struct index_identity identity = {.shard_id = store->options.shard_id,
                                      .number = segment->number,
                                      .generation = segment->generation,
                                      .base_lsn = segment->base_lsn,
                                      .end_lsn = segment->end_lsn,
                                      .append_ms_last = append_ms_last};
    memcpy(identity.store_id, store->options.store_id, sizeof(identity.store_id));
    return identity;
}

/* ---- writing ---- */

int index_writer_turn(struct segment_indexes *indexes)
{
    if (indexes->writer.step != INDEX_JOB_IDLE || list_is_empty(&indexes->to_write) ||
        indexes->store->is_closing)
        return 0;
    struct list *link = list_pop_front(&indexes->to_write);
    writer_start(&indexes->writer, CONTAINER_OF(link, struct segment_index, work_link));
    return 1;
}

static void writer_start(struct index_job *job, struct segment_index *index)
{
    job->index = index;
    job->status = 0;
    job->progress = 0;
    job->step = INDEX_JOB_OPEN;
    index_job_path(job->store, index->segment->number, "idx", job->path);
    index_job_path(job->store, index->segment->number, "idx.tmp", job->path_tmp);
    io_open(job->store->options.io, &job->op, job->path_tmp, O_WRONLY | O_CREAT | O_TRUNC, 0640,
            writer_done);
}

static void writer_done(struct io_op *op)
{
    struct index_job *job = CONTAINER_OF(op, struct index_job, op);
    if (op->result < 0 && job->status == 0) {
        job->status = op->result;
        LOG_WARN("index.write_failed", LOG_STR("path", job->path_tmp), LOG_STATUS(op->result),
                 LOG_I64("os_error", op->os_error));
    }
    writer_step(job);
}

/* What just ended decides what comes next; after a failure only the close is left. */
static void writer_step(struct index_job *job)
{
    struct io *io = job->store->options.io;
    const struct index_image *image = &job->index->image;
    if (job->step == INDEX_JOB_OPEN)
        job->fd = job->op.result;
    else if (job->step == INDEX_JOB_WRITE && job->status == 0)
        job->progress += job->op.len;

    if (job->fd >= 0 && job->status == 0 && job->step <= INDEX_JOB_WRITE &&
        job->progress < image->len) {
        job->step = INDEX_JOB_WRITE;
        uint32_t len = (uint32_t)min_u64(image->len - job->progress, 1 * MIB);
        io_write(io, &job->op, job->fd, image->bytes + job->progress, len, job->progress,
                 writer_done);
    } else if (job->step == INDEX_JOB_WRITE && job->status == 0) {
        job->step = INDEX_JOB_SYNC;
        io_fdatasync(io, &job->op, job->fd, writer_done);
    } else if (job->fd >= 0) {
        job->step = INDEX_JOB_CLOSE;
        io_close(io, &job->op, job->fd, writer_done);
        job->fd = -1;
    } else if (job->step == INDEX_JOB_CLOSE && job->status == 0) {
        job->step = INDEX_JOB_RENAME;
        io_rename(io, &job->op, job->path_tmp, job->path, writer_done);
    } else {
        writer_finish(job);
    }
}

static void writer_finish(struct index_job *job)
{
    struct segment_index *index = TAKE(job->index);
    if (job->status != 0)
        store_chore_unlink(job->store, job->path_tmp);
    index->state = job->status == 0 ? SEGMENT_INDEX_STORED : SEGMENT_INDEX_UNKNOWN;
    index_cache_put(job->store->cache, index->segment->number * 2, &index->image);
    job->step = INDEX_JOB_IDLE;
}

/* ---- loading ---- */

int index_loader_turn(struct segment_indexes *indexes)
{
    struct index_job *job = &indexes->loader;
    if (job->step == INDEX_JOB_SCAN && !job->buffer)
        return loader_scan_begin(job);
    if (job->step != INDEX_JOB_IDLE || list_is_empty(&indexes->to_load))
        return 0;
    struct list *link = list_pop_front(&indexes->to_load);
    loader_start(job, CONTAINER_OF(link, struct segment_index, work_link));
    return 1;
}

static void loader_start(struct index_job *job, struct segment_index *index)
{
    job->index = index;
    job->status = 0;
    job->len = job->progress = 0;
    job->step = INDEX_JOB_OPEN;
    index_job_path(job->store, index->segment->number, "idx", job->path);
    io_open(job->store->options.io, &job->op, job->path, O_RDONLY, 0, loader_opened);
}

static void loader_opened(struct io_op *op)
{
    struct index_job *job = CONTAINER_OF(op, struct index_job, op);
    job->status = op->result < 0 ? op->result : 0;
    job->fd = op->result;
    if (job->status < 0) {
        loader_closed(op);
        return;
    }
    job->status = io_file_size(job->store->options.io, job->fd, &job->len);
    /* An index is smaller than what it describes. */
    if (job->status == 0 && (job->len < DISK_BLOCK || job->len > job->store->options.segment_bytes))
        job->status = E_CORRUPT;
    if (job->status == 0 && !(job->bytes = malloc(job->len)))
        job->status = E_NO_MEMORY;
    if (job->status < 0)
        loader_close(job);
    else
        loader_read(job);
}

static void loader_read(struct index_job *job)
{
    job->step = INDEX_JOB_READ;
    uint32_t len = (uint32_t)min_u64(job->len - job->progress, 1 * MIB);
    io_read(job->store->options.io, &job->op, job->fd, job->bytes + job->progress, len,
            job->progress, loader_read_done);
}

static void loader_read_done(struct io_op *op)
{
    struct index_job *job = CONTAINER_OF(op, struct index_job, op);
    if (op->result <= 0)
        job->status = op->result < 0 ? op->result : E_CORRUPT;
    else
        job->progress += (uint32_t)op->result;
    if (job->status == 0 && job->progress < job->len)
        loader_read(job);
    else
        loader_close(job);
}

static void loader_close(struct index_job *job)
{
    job->step = INDEX_JOB_CLOSE;
    io_close(job->store->options.io, &job->op, job->fd, loader_closed);
    job->fd = -1;
}

static void loader_closed(struct io_op *op)
{
    struct index_job *job = CONTAINER_OF(op, struct index_job, op);
    struct index_image image = {0};
    int status = job->status;
    if (status == 0)
        status = loader_parse(job, &image);
    free(TAKE(job->bytes));
    if (status == 0) {
        loader_finish(job, 0, &image);
        return;
    }
    if (status != E_NOT_FOUND)
        LOG_WARN("index.file_unusable", LOG_STR("path", job->path), LOG_STATUS(status),
                 LOG_STR("then", "made anew from the segment"));
    job->step = INDEX_JOB_SCAN;
    loader_scan_begin(job);
}

/* On success the image has taken the bytes. */
static int loader_parse(struct index_job *job, struct index_image *image)
{
    struct index_identity identity = index_job_identity(job->store, job->index->segment, 0);
    int status = index_image_parse(job->bytes, job->len, &identity, image);
    if (status == 0)
        job->bytes = NULL;
    return status;
}

/* ---- making anew ---- */

/* Returns 0 when the buffer isn't free: tried again in the next turn. */
static int loader_scan_begin(struct index_job *job)
{
    uint32_t capacity;
    job->buffer = read_jobs_jumbo_take(job->store->reads, &capacity);
    if (!job->buffer)
        return 0;
    struct segment *segment = job->index->segment;
    job->len = capacity;
    job->builder = index_builder_new();
    job->scan = (struct segment_scan){.generation = segment->generation,
                                      .file_number = segment->number,
                                      .lsn = segment->base_lsn,
                                      .end_lsn = segment->end_lsn,
                                      .entry = loader_scan_entry,
                                      .context = job};
    if (job->builder)
        loader_scan(job);
    else
        loader_scan_end(job, E_NO_MEMORY);
    return 1;
}

static void loader_scan(struct index_job *job)
{
    struct segment *segment = job->index->segment;
    job->scan.lsn = segment_step_over(segment, job->scan.lsn);
    if (job->scan.lsn >= job->scan.end_lsn) {
        loader_scan_end(job, 0);
        return;
    }
    uint64_t end_lsn = min_u64(job->scan.end_lsn, segment_next_hole(segment, job->scan.lsn));
    uint32_t len = (uint32_t)min_u64(job->len, end_lsn - job->scan.lsn);
    io_read(job->store->options.io, &job->op, segment->fd, job->buffer, len,
            segment_offset(segment, job->scan.lsn), loader_scan_done);
}

static void loader_scan_done(struct io_op *op)
{
    struct index_job *job = CONTAINER_OF(op, struct index_job, op);
    int64_t status = op->result;
    if (status > 0)
        status = segment_scan_feed(&job->scan, job->buffer, (uint32_t)op->result);
    if (status == 0)
        status = E_CORRUPT; // short read, or a group longer than any can be
    if (status < 0) {
        loader_scan_end(job, (int)status);
        return;
    }
    loader_scan(job);
}

static int loader_scan_entry(void *context, const struct wal_view *view)
{
    struct index_job *job = context;
    const struct segment *segment = job->index->segment;
    return segment_scan_index(view, segment->holes, segment->hole_count, loader_scan_add, job);
}

static int loader_scan_add(void *context, const struct committed *batch)
{
    struct index_job *job = context;
    return index_builder_add(job->builder, batch->topic_id, batch->partition, &batch->entry);
}

static void loader_scan_end(struct index_job *job, int status)
{
    struct segment *segment = job->index->segment;
    struct index_image image = {0};
    read_jobs_jumbo_give(job->store->reads);
    job->buffer = NULL;
    if (status == 0) {
        struct index_identity identity =
            index_job_identity(job->store, segment, job->scan.append_ms_last);
        status = index_builder_finish(job->builder, &identity, &image);
    }
    index_builder_free(TAKE(job->builder));
    if (status == E_NO_MEMORY)
        LOG_WARN("index.not_made", LOG_STR("path", segment->path), LOG_STATUS(status));
    else if (status < 0)
        LOG_ERROR("index.segment_damaged", LOG_STR("path", segment->path),
                  LOG_U64("offset", segment_offset(segment, job->scan.lsn)),
                  LOG_U64("lsn", job->scan.lsn), LOG_STATUS(status));
    else
        LOG_INFO("index.made_anew", LOG_STR("path", segment->path),
                 LOG_U64("batches", image.entry_count));
    loader_finish(job, status, &image);
}

/* Those who wait are told one by one; each may ask for something else. An image that was made anew is written
 * again; until that is done it is kept in the handle. */
static void loader_finish(struct index_job *job, int status, struct index_image *image)
{
    struct segment_index *index = TAKE(job->index);
    struct segment_indexes *indexes = &job->store->indexes;
    bool was_made = job->step == INDEX_JOB_SCAN;
    const struct index_image *found = NULL;
    job->step = INDEX_JOB_IDLE;
    if (status == 0)
        index->lowest = image->lowest_position;
    if (status == 0 && was_made) {
        index->image = *image;
        found = &index->image;
        index->state = SEGMENT_INDEX_SEALED;
        segment_index_closed(indexes, index->segment);
    } else if (status == 0) {
        index->state = SEGMENT_INDEX_STORED;
        found = index_cache_put(job->store->cache, index->segment->number * 2, image);
        status = found ? 0 : E_NO_MEMORY;
    }
    struct list waiting;
    list_init(&waiting);
    while (!list_is_empty(&index->loads))
        list_push_back(&waiting, list_pop_front(&index->loads));
    struct segment *segment = index->segment;
    while (!list_is_empty(&waiting)) {
        struct image_load *load = CONTAINER_OF(list_pop_front(&waiting), struct image_load, link);
        /* Looked up each time: whoever was told before may have pushed it out of the cache. */
        load->image = status == 0 ? segment_index_image(indexes, segment) : NULL;
        load->status = load->image || status != 0 ? status : E_NO_MEMORY;
        load->done(load);
    }
    segment->pins--;
}
