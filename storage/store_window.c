/* One window of a file: which batches it takes, reading it, and checking what came.
 *
 * Happy path: entries are gathered as long as it is worth while, the bytes are in group buffers after all, or one
 * read brings them; each batch is held against its index entry and its CRC-32C, then copied.
 *
 * Through the page cache any byte can be read to any place: where there is little between the batches the window comes
 * straight to the caller's buffer, and its batches move together there, the first one not at all.
 *
 * Failure modes: a read that fails ends the job with IO; the first batch being damaged ends it with CORRUPT and one
 * line that names file, offset, LSN and partition. Damage further on is met again, as the first, by the next read. */
#include "storage/store_read.h"

#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "base/status.h"

static bool gather_source(struct read_job *job, uint64_t position);
static bool gather_add(struct read_job *job, const struct index_entry *entry);
static bool window_from_tail(struct read_job *job);
static bool is_through_cache(const struct read_job *job);
static uint64_t span_to(const struct read_job *job, uint64_t end);
static bool window_buffer(struct read_job *job);
static void window_start(struct read_job *job);
static void window_start_segment(struct read_job *job);
static void cold_opened(struct io_op *op);
static void window_read_done(struct io_op *op);
static void window_archive_done(struct archive_read *read);
static void window_done(struct read_job *job, int status, uint32_t len);
static bool batch_is_wanted(const struct read_job *job, const struct index_entry *entry,
                            const uint8_t *bytes);
static void damage_tell(struct read_job *job, const struct index_entry *entry);

bool read_gather_open(struct read_job *job, uint32_t i)
{
    const struct index_open *open = job->store->open;
    job->archive = NULL;
    if (!gather_source(job, index_open_at(open, i).position))
        return false;
    for (; i != INDEX_NONE; i = index_open_next(open, i)) {
        struct index_entry entry = index_open_at(open, i);
        if (!gather_add(job, &entry))
            break;
        job->read->hint = i;
    }
    return true;
}

bool read_gather_image(struct read_job *job)
{
    const struct lookup *lookup = &job->lookup;
    const struct index_image *image = lookup->image;
    uint32_t i = index_image_find(image, lookup->entries, job->read->offset);
    uint32_t end = le32_get(lookup->entries->entry_start) + le32_get(lookup->entries->entry_count);
    job->archive = lookup->place.archive;
    job->read->hint = lookup_hint(lookup->place.base_lsn);
    uint64_t base_offset = index_image_at(image, i).base_offset;
    if (base_offset > job->read->offset && base_offset > job->read->partition->gap_end)
        return false; // a hole that nobody knows of
    if (!gather_source(job, index_image_at(image, i).position))
        return false;
    for (; i < end; i++) {
        struct index_entry entry = index_image_at(image, i);
        if (!gather_add(job, &entry))
            break;
    }
    return true;
}

/* The file of a window is where its first batch lies: what was staged lies in the segment of its COMMIT or in an older
 * one. False: in none that is there. */
static bool gather_source(struct read_job *job, uint64_t position)
{
    const struct store *store = job->store;
    job->source = job->archive ? NULL : segment_holding(store, position);
    job->source_end = UINT64_MAX;
    if (!job->source)
        return job->archive != NULL;
    if (job->source != wal_segment_at(store->wal, wal_segment_count(store->wal) - 1))
        job->source_end = job->source->end_lsn;
    return true;
}

/* The first one is taken whatever it is; the window grows as long as it is worth while. It only grows forwards, within one
 * file. */
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
            entry->position < job->window_end || entry->position >= job->source_end ||
            align_up(end - job->window_start, DISK_BLOCK) > READ_PIECE_BYTES ||
            job->window_bytes_wanted + entry->size > job->read->capacity)
            return false;
        bool is_well_filled = job->window_bytes_wanted >= job->read->capacity / 4 * 3;
        if (is_well_filled && is_through_cache(job) && span_to(job, end) > job->read->capacity)
            return false;
    }
    job->window_end = end;
    job->window_bytes_wanted += entry->size;
    job->entries[job->entry_count++] = *entry;
    return true;
}

static bool is_through_cache(const struct read_job *job)
{
    return !job->source || (job->source->state == SEGMENT_CLOSED && job->source->index);
}

static uint64_t span_to(const struct read_job *job, uint64_t end)
{
    return end - job->entries[0].position;
}

/* ---- the window ---- */

void read_window(struct read_job *job)
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
        if (!bytes || !read_batch_add(job->read, bytes, entry))
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
    uint64_t span = span_to(job, job->window_end);
    if (is_through_cache(job) && span <= job->read->capacity && !job->uses_jumbo) {
        job->window_start = job->entries[0].position;
        job->window_len = (uint32_t)span;
        job->buffer = job->read->buffer;
        return true;
    }
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
    ASSERT(is_through_cache(job) || job->buffer != job->read->buffer); // O_DIRECT needs blocks
    if (is_through_cache(job)) {
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
        bool is_good = at + entry->size <= len && batch_is_wanted(job, entry, job->buffer + at);
        if (is_good && read_batch_add(job->read, job->buffer + at, entry))
            continue;
        if (!is_good && job->read->bytes == 0) {
            damage_tell(job, entry);
            status = E_CORRUPT;
        }
        break;
    }
    job_finish(job, status);
}

/* In a segment, what was staged has no offset: the CRC-32C does not cover it, so the index alone knows. */
static bool batch_is_wanted(const struct read_job *job, const struct index_entry *entry,
                            const uint8_t *bytes)
{
    struct batch_info info;
    if (!batch_peek(bytes, entry->size, &info) || info.size != entry->size ||
        info.record_count != entry->record_count)
        return false;
    bool is_placed = info.base_offset == entry->base_offset;
    return stored_epoch_is_good(bytes) &&
           (is_placed || (job->segment && info.base_offset == STAGED_OFFSET)) &&
           (batch_is_intact(bytes, entry->size) || PLANTED(READ_UNCHECKED));
}

static void damage_tell(struct read_job *job, const struct index_entry *entry)
{
    uint64_t offset =
        job->segment ? segment_offset(job->segment, entry->position) : entry->position;
    struct store_damage damage = {
        .file_number = job->segment ? job->segment->number : archive_number(job->archive),
        .file_offset = offset,
        .lsn = job->segment ? entry->position : archive_base_lsn(job->archive),
        .in_archive = job->segment == NULL,
    };
    job->read->damage = damage;
    LOG_ERROR("read.damaged",
              LOG_STR("dir", job->segment ? job->store->wal_dir : job->store->archive_dir),
              LOG_HEX("file", damage.file_number), LOG_U64("file_offset", offset),
              LOG_U64("lsn", damage.lsn), LOG_U64("topic_id", job->topic_id),
              LOG_U64("partition", job->partition), LOG_U64("base_offset", entry->base_offset),
              LOG_U64("bytes", entry->size));
}
