/* Unweaving: the oldest closed segments become one file, sorted by partition, then offset.
 *
 * The happy path:
 *
 *     LOAD -> COUNT -> OPEN -> (PLAN -> READ -> VERIFY -> WRITE)... -> (INDEX -> WRITE)... -> SYNC -> CLOSE -> RENAME
 *          -> SYNC_DIR -> the row is added, what was rewritten is dropped, on_run(0)
 *
 * Each step is bounded (some ten microseconds of work, or waiting for I/O) and runs in archives_turn(), never inside of a
 * completion. Nothing changes before the end: until the row is in a durable checkpoint, the segments are the data.
 *
 * Reading in the order of the output would be one small read for each batch; sorting in memory would need memory for
 * all. So the output is made in bands that fit into the buffer, and each band reads what it needs of the sources in file
 * order (unweave_private.h). Batches of 256 KiB are read once; small ones of many partitions as often as there are bands,
 * which is why a run of small batches takes half as many segments. docs/decisions has the numbers.
 *
 * Which files are rewritten: the newest archive files together with the run that follows them in the log, others
 * among themselves after a run that went well; always neighbours, so that files never overlap in LSN and a reader never has to
 * merge.
 *
 * Pace: ARCHIVE_CALM some I/Os at a time; ARCHIVE_BUSY one, and then nothing for three times as long as it took, which
 * is a quarter of the device whatever its speed; ARCHIVE_URGENT all. */
#include "storage/unweave.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "storage/unweave_private.h"

#define SMALL_BATCH_BYTES ((uint64_t)(32 * KIB)) // below: half a run
#define REWRITE_INDEX_BYTES_MAX (8 * MIB)        // of index of the archive files in one run
#define PAUSE_FACTOR 3

struct offer { // what a run would take
    uint32_t segments;
    uint64_t bytes;
};

static struct offer offer_within(const struct unweave_source *sources, uint32_t count,
                                 uint64_t bytes_max);
static uint32_t segments_choose(const struct unweave_source *sources, uint32_t count);
static bool is_sparse(const struct archive *archive);
static uint32_t tail_choose(const struct archives *archives, uint64_t bytes);
static void run_begin(struct unweave *unweave, bool is_rewrite);
static void input_add_segment(struct unweave *unweave, struct unweave_source *source);
static void input_add_archive(struct unweave *unweave, struct archive *archive);
static void input_add(struct unweave *unweave, struct unweave_input input, uint64_t base_lsn,
                      uint64_t end_lsn);
static bool rewrite_begin(struct unweave *unweave);
static int rewrite_choose(const struct archives *archives, uint32_t *first);
static int step_load(struct unweave *unweave);
static int step_count(struct unweave *unweave);
static int step_open(struct unweave *unweave);
static int step_plan(struct unweave *unweave);
static int step_read(struct unweave *unweave);
static int step_verify(struct unweave *unweave);
static int step_write(struct unweave *unweave);
static int step_reserve(struct unweave *unweave);
static int step_index(struct unweave *unweave);
static int step_sync(struct unweave *unweave);
static int step_close(struct unweave *unweave);
static int step_rename(struct unweave *unweave);
static int step_sync_dir(struct unweave *unweave);
static int step_fail_drain(struct unweave *unweave);
static int step_fail_close(struct unweave *unweave);
static int step_fail_unlink(struct unweave *unweave);
static void load_done(struct archive_image_load *load);
static bool op_pending(const struct unweave *unweave);
static void op_begin(struct unweave *unweave, enum unweave_step step);
static void op_done(struct io_op *op);
static void pace(struct unweave *unweave);
static struct archive *archive_of_run(struct unweave *unweave);
static void install(struct unweave *unweave);
static void inputs_release(struct unweave *unweave, bool superseded);
static void report(struct unweave *unweave, int status);

struct unweave *unweave_new(struct archives *archives)
{
    const struct archives_options *options = &archives->options;
    struct unweave *unweave = calloc(1, sizeof(*unweave));
    if (!unweave)
        return NULL;
    size_t pieces = (size_t)UNWEAVE_READS_MAX * UNWEAVE_PIECE_BYTES;
    ASSERT(options->job_bytes >= options->batch_bytes_max + 4 * MIB);
    uint8_t *memory = arena_alloc(options->arena, options->job_bytes, DISK_BLOCK);
    unweave->archives = archives;
    unweave->fd = -1;
    unweave->band = memory + pieces;
    unweave->band_capacity = (uint32_t)align_down(options->job_bytes - pieces, DISK_BLOCK);
    for (uint32_t i = 0; i < UNWEAVE_READS_MAX; i++) {
        unweave->reads[i].unweave = unweave;
        unweave->reads[i].buffer = memory + (size_t)i * UNWEAVE_PIECE_BYTES;
    }
    for (uint32_t i = 0; i < UNWEAVE_WRITES_MAX; i++)
        unweave->writes[i].unweave = unweave;
    return unweave;
}

void unweave_free(struct unweave *unweave)
{
    if (!unweave)
        return;
    unweave_give_up(unweave);
    free(unweave);
}

bool unweave_is_running(const struct unweave *unweave)
{
    return unweave->step != UNWEAVE_IDLE;
}

bool archives_is_unweaving(const struct archives *archives)
{
    return unweave_is_running(archives->unweave);
}

/* ---- beginning ---- */

int archives_unweave(struct archives *archives, struct unweave_source *sources, uint32_t count,
                     uint64_t now_wall_ms)
{
    struct unweave *unweave = archives->unweave;
    ASSERT(count > 0 && !archives->quiesced);
    if (unweave_is_running(unweave) || archives->count == archives->options.file_count_max ||
        table_used_count(archives->table) == archives->options.file_count_max)
        return E_FULL;
    if (sources[0].segment->base_lsn < archives->end_lsn)
        return E_INVALID;
    uint32_t segments = segments_choose(sources, count);
    uint64_t bytes = offer_within(sources, segments, UINT64_MAX).bytes;
    uint32_t tail = tail_choose(archives, bytes);
    archives->wall_ms = now_wall_ms;
    run_begin(unweave, false);
    for (uint32_t i = archives->count - tail; i < archives->count; i++)
        input_add_archive(unweave, archives->used[i]);
    for (uint32_t i = 0; i < segments; i++)
        input_add_segment(unweave, &sources[i]);
    return (int)segments;
}

static uint32_t segments_choose(const struct unweave_source *sources, uint32_t count)
{
    struct offer offer = offer_within(sources, count, ARCHIVE_RUN_BYTES_MAX);
    uint64_t batches = 0;
    for (uint32_t i = 0; i < offer.segments; i++)
        batches += sources[i].image.entry_count;
    if (offer.bytes < batches * SMALL_BATCH_BYTES)
        offer = offer_within(sources, count, ARCHIVE_RUN_BYTES_MAX / 2);
    return offer.segments;
}

/* As many as fit, at least one. */
static struct offer offer_within(const struct unweave_source *sources, uint32_t count,
                                 uint64_t bytes_max)
{
    struct offer offer = {0};
    uint64_t entries = 0;
    while (offer.segments < count && offer.segments < ARCHIVE_RUN_SEGMENTS_MAX) {
        const struct unweave_source *source = &sources[offer.segments];
        uint64_t bytes = source->segment->end_lsn - source->segment->base_lsn;
        entries += source->image.entry_count;
        if (offer.segments > 0 &&
            (offer.bytes + bytes > bytes_max || entries > ARCHIVE_RUN_ENTRIES_MAX))
            break;
        offer.bytes += bytes;
        offer.segments++;
    }
    return offer;
}

static bool is_sparse(const struct archive *archive)
{
    return archive->live_bytes < archive->data_bytes / 2;
}

/* How many of the newest files are rewritten with a run of `bytes`. */
static uint32_t tail_choose(const struct archives *archives, uint64_t bytes)
{
    uint64_t index_bytes = 0;
    uint32_t count = 0;
    while (count < archives->count && count < UNWEAVE_ARCHIVES_MAX) {
        const struct archive *archive = archives->used[archives->count - 1 - count];
        bytes += archive->live_bytes;
        index_bytes += archive->index_bytes;
        if (!is_sparse(archive) || bytes > ARCHIVE_RUN_BYTES_MAX ||
            index_bytes > REWRITE_INDEX_BYTES_MAX)
            break;
        count++;
    }
    return count;
}

/* The first row of neighbours that are mostly dead. Returns how many; a single one is enough. */
static int rewrite_choose(const struct archives *archives, uint32_t *first)
{
    for (uint32_t i = 0; i < archives->count; i++) {
        if (!is_sparse(archives->used[i]))
            continue;
        uint64_t bytes = 0, index_bytes = 0;
        int count = 0;
        for (*first = i; i < archives->count && count < UNWEAVE_ARCHIVES_MAX; i++, count++) {
            bytes += archives->used[i]->live_bytes;
            index_bytes += archives->used[i]->index_bytes;
            if (!is_sparse(archives->used[i]) ||
                (count > 0 && (bytes > ARCHIVE_RUN_BYTES_MAX ||
                               index_bytes > REWRITE_INDEX_BYTES_MAX)))
                break;
        }
        return count;
    }
    return 0;
}

static bool rewrite_begin(struct unweave *unweave)
{
    uint32_t first;
    unweave->rewrite_wanted = false;
    int count = rewrite_choose(unweave->archives, &first);
    if (count == 0 ||
        table_used_count(unweave->archives->table) == unweave->archives->options.file_count_max)
        return false;
    run_begin(unweave, true);
    for (int i = 0; i < count; i++)
        input_add_archive(unweave, unweave->archives->used[first + (uint32_t)i]);
    return true;
}

static void run_begin(struct unweave *unweave, bool is_rewrite)
{
    unweave->is_rewrite = is_rewrite;
    unweave->begun_ns = unweave->archives->now_ns;
    unweave->number = unweave->archives->next_number;
    unweave->base_lsn = UINT64_MAX;
    unweave->end_lsn = unweave->append_ms_last = 0;
    unweave->log_starts_moved = unweave->archives->log_starts_moved;
    unweave->failure = 0;
    unweave->input_count = unweave->load_next = 0;
    unweave->partition_count = unweave->entry_count = unweave->piece_count = 0;
    unweave->data_bytes = unweave->unsynced = 0;
    unweave->all_planned = unweave->footer_done = false;
    unweave->write_status = 0;
    unweave->write_failed_at = UINT32_MAX;
    unweave->step = UNWEAVE_LOAD;
}

static void input_add_segment(struct unweave *unweave, struct unweave_source *source)
{
    struct segment *segment = source->segment;
    segment->pins++;
    input_add(unweave,
              (struct unweave_input){
                  .segment = segment,
                  .image = source->image,
                  .origin = segment->base_lsn,
                  .end = segment->end_lsn,
                  .file_at = DISK_SEGMENT_DATA,
              },
              segment->base_lsn, segment->end_lsn);
    source->image = (struct index_image){0};
}

static void input_add_archive(struct unweave *unweave, struct archive *archive)
{
    archive_pin(archive);
    input_add(unweave,
              (struct unweave_input){
                  .archive = archive,
                  .origin = DISK_BLOCK,
                  .end = DISK_BLOCK + archive->data_bytes,
                  .file_at = DISK_BLOCK,
              },
              archive->base_lsn, archive->end_lsn);
    unweave->append_ms_last = max_u64(unweave->append_ms_last, archive->append_ms_last);
}

static void input_add(struct unweave *unweave, struct unweave_input input, uint64_t base_lsn,
                      uint64_t end_lsn)
{
    uint64_t bytes = input.file_at + (input.end - input.origin);
    input.piece_first = unweave->piece_count;
    unweave->piece_count += (uint32_t)(bytes / UNWEAVE_PIECE_BYTES) + 1;
    unweave->base_lsn = min_u64(unweave->base_lsn, base_lsn);
    unweave->end_lsn = max_u64(unweave->end_lsn, end_lsn);
    if (input.segment)
        unweave->append_ms_last = max_u64(unweave->append_ms_last, input.image.append_ms_last);
    unweave->inputs[unweave->input_count++] = input;
}

/* ---- the turn ---- */

int unweave_turn(struct unweave *unweave)
{
    static int (*const steps[])(struct unweave *) = {
        [UNWEAVE_LOAD] = step_load,
        [UNWEAVE_COUNT] = step_count,
        [UNWEAVE_OPEN] = step_open,
        [UNWEAVE_PLAN] = step_plan,
        [UNWEAVE_READ] = step_read,
        [UNWEAVE_VERIFY] = step_verify,
        [UNWEAVE_WRITE] = step_write,
        [UNWEAVE_RESERVE] = step_reserve,
        [UNWEAVE_INDEX] = step_index,
        [UNWEAVE_SYNC] = step_sync,
        [UNWEAVE_CLOSE] = step_close,
        [UNWEAVE_RENAME] = step_rename,
        [UNWEAVE_SYNC_DIR] = step_sync_dir,
        [UNWEAVE_FAIL_DRAIN] = step_fail_drain,
        [UNWEAVE_FAIL_CLOSE] = step_fail_close,
        [UNWEAVE_FAIL_UNLINK] = step_fail_unlink,
    };
    if (unweave->step == UNWEAVE_IDLE) {
        if (!unweave->rewrite_wanted || unweave->archives->pressure == ARCHIVE_URGENT)
            return 0;
        return rewrite_begin(unweave);
    }
    pace(unweave);
    return steps[unweave->step](unweave);
}

uint64_t unweave_deadline_ns(const struct unweave *unweave)
{
    bool is_pausing = unweave->step != UNWEAVE_IDLE && unweave->in_flight == 0;
    return is_pausing ? unweave->pause_until_ns : UINT64_MAX;
}

/* ---- pace ---- */

/* The end of an I/O is seen here, so its duration includes the way to this turn: a little more pause, never less. */
static void pace(struct unweave *unweave)
{
    uint64_t now_ns = unweave->archives->now_ns;
    if (unweave->was_in_flight && unweave->in_flight == 0)
        unweave->pause_until_ns = now_ns + PAUSE_FACTOR * (now_ns - unweave->io_began_ns);
    unweave->was_in_flight = unweave->in_flight > 0;
}

uint32_t unweave_room(struct unweave *unweave, uint32_t calm, uint32_t most)
{
    switch (unweave->archives->pressure) {
    case ARCHIVE_URGENT:
        return most - unweave->in_flight;
    case ARCHIVE_CALM:
        return unweave->in_flight < calm ? calm - unweave->in_flight : 0;
    default:
        return unweave->in_flight == 0 && unweave->archives->now_ns >= unweave->pause_until_ns;
    }
}

void unweave_io_begin(struct unweave *unweave)
{
    if (unweave->in_flight++ == 0)
        unweave->io_began_ns = unweave->archives->now_ns;
    unweave->was_in_flight = true;
    unweave->archives->ops++;
}

void unweave_io_end(struct unweave *unweave)
{
    ASSERT(unweave->in_flight > 0);
    unweave->in_flight--;
    unweave->archives->ops--;
}

static bool op_pending(const struct unweave *unweave)
{
    return io_op_is_active(&unweave->op);
}

static void op_begin(struct unweave *unweave, enum unweave_step step)
{
    struct io *io = unweave->archives->options.io;
    const char *dir = unweave->archives->options.dir;
    uint32_t direct = unweave->archives->options.no_direct ? 0 : O_DIRECT;
    unweave->step = step;
    unweave_io_begin(unweave);
    switch (step) {
    case UNWEAVE_OPEN:
        io_open(io, &unweave->op, unweave->tmp_path, O_RDWR | O_CREAT | O_TRUNC | direct, 0600,
                op_done);
        break;
    case UNWEAVE_SYNC:
        io_fdatasync(io, &unweave->op, unweave->fd, op_done);
        break;
    case UNWEAVE_CLOSE:
    case UNWEAVE_FAIL_CLOSE:
        io_close(io, &unweave->op, unweave->fd, op_done);
        break;
    case UNWEAVE_RENAME:
        io_rename(io, &unweave->op, unweave->tmp_path, unweave->path, op_done);
        break;
    case UNWEAVE_SYNC_DIR:
        io_sync_dir(io, &unweave->op, dir, op_done);
        break;
    default:
        ASSERT(step == UNWEAVE_FAIL_UNLINK);
        io_unlink(io, &unweave->op, unweave->tmp_path, op_done);
    }
}

static void op_done(struct io_op *op)
{
    unweave_io_end(CONTAINER_OF(op, struct unweave, op));
}

/* ---- the steps ---- */

/* One image at a time; segments brought theirs. */
static int step_load(struct unweave *unweave)
{
    if (unweave->load.read.archive) // on its way
        return 0;
    while (unweave->load_next < unweave->input_count &&
           unweave->inputs[unweave->load_next].image.bytes)
        unweave->load_next++;
    if (unweave->failure != 0) {
        unweave_fail(unweave, unweave->failure);
        return 1;
    }
    if (unweave->load_next < unweave->input_count) {
        unweave->load.archive = unweave->inputs[unweave->load_next].archive;
        unweave->load.done = load_done;
        archive_image_start_private(unweave->archives, &unweave->load);
        return 1;
    }
    uint64_t partitions = 0;
    for (uint32_t i = 0; i < unweave->input_count; i++)
        partitions += unweave->inputs[i].image.partition_count;
    unweave->log_starts = malloc((partitions + 1) * sizeof(*unweave->log_starts));
    if (!unweave->log_starts) {
        unweave_fail(unweave, E_NO_MEMORY);
        return 1;
    }
    unweave_merge_begin(unweave);
    unweave->step = UNWEAVE_COUNT;
    return 1;
}

static void load_done(struct archive_image_load *load)
{
    struct unweave *unweave = CONTAINER_OF(load, struct unweave, load);
    load->read.archive = NULL;
    if (load->status != 0)
        unweave->failure = load->status;
    else
        unweave->inputs[unweave->load_next].image = load->own;
}

static int step_count(struct unweave *unweave)
{
    if (unweave_count_step(unweave) == 0)
        return 1;
    if (unweave->entry_count == 0) { // all of it expired: there is no file to make
        report(unweave, 0);
        return 1;
    }
    int status = unweave_lists_make(unweave);
    if (status != 0) {
        unweave_fail(unweave, status);
        return 1;
    }
    archive_tmp_path(unweave->tmp_path, unweave->archives->options.dir, unweave->number);
    archive_path(unweave->path, unweave->archives->options.dir, unweave->number);
    op_begin(unweave, UNWEAVE_OPEN);
    return 1;
}

static int step_open(struct unweave *unweave)
{
    if (op_pending(unweave))
        return 0;
    if (unweave->op.result < 0) {
        unweave_fail(unweave, unweave->op.result);
        return 1;
    }
    unweave->fd = unweave->op.result;
    unweave_header_make(unweave);
    unweave_merge_begin(unweave);
    unweave_band_begin(unweave);
    unweave->step = UNWEAVE_PLAN;
    return 1;
}

static int step_plan(struct unweave *unweave)
{
    int status = unweave_plan_step(unweave);
    if (status < 0)
        unweave_fail(unweave, status);
    else if (status > 0)
        unweave->step = UNWEAVE_READ;
    return 1;
}

static int step_read(struct unweave *unweave)
{
    int work = 0;
    int status = unweave_read_step(unweave, &work);
    if (status < 0)
        unweave_fail(unweave, status);
    else if (status > 0)
        unweave->step = UNWEAVE_VERIFY;
    return work + (status != 0);
}

static int step_verify(struct unweave *unweave)
{
    int status = unweave_verify_step(unweave);
    if (status < 0) {
        unweave_fail(unweave, status);
    } else if (status > 0) {
        unweave_write_begin(unweave, unweave->all_planned);
        unweave->step = UNWEAVE_WRITE;
    }
    return 1;
}

static int step_write(struct unweave *unweave)
{
    int work = 0;
    int status = unweave_write_step(unweave, &work);
    if (status == 0)
        return work;
    if (status < 0) {
        unweave_fail(unweave, status);
    } else if (!unweave->all_planned) {
        unweave_band_begin(unweave);
        unweave->step = UNWEAVE_PLAN;
    } else if (!unweave->footer_done) {
        if (unweave->band_at + unweave->band_fill ==
            align_up(DISK_BLOCK + unweave->data_bytes, DISK_BLOCK))
            unweave_index_begin(unweave);
        unweave->step = UNWEAVE_INDEX;
    } else {
        op_begin(unweave, UNWEAVE_SYNC);
    }
    return 1;
}

static int step_reserve(struct unweave *unweave)
{
    if (unweave->archives->reserve.state != RESERVE_NONE)
        return 0;
    unweave->step = UNWEAVE_WRITE;
    return 1;
}

static int step_index(struct unweave *unweave)
{
    if (unweave_index_step(unweave) == 0)
        return 1;
    unweave_write_begin(unweave, false);
    unweave->step = UNWEAVE_WRITE;
    return 1;
}

static int step_sync(struct unweave *unweave)
{
    if (op_pending(unweave))
        return 0;
    if (unweave->op.result < 0)
        unweave_fail(unweave, E_IO); // a failed sync is never only a full disk
    else
        op_begin(unweave, UNWEAVE_CLOSE);
    return 1;
}

static int step_close(struct unweave *unweave)
{
    if (op_pending(unweave))
        return 0;
    unweave->fd = -1;
    op_begin(unweave, UNWEAVE_RENAME);
    return 1;
}

static int step_rename(struct unweave *unweave)
{
    if (op_pending(unweave))
        return 0;
    if (unweave->op.result < 0)
        unweave_fail(unweave, unweave->op.result);
    else
        op_begin(unweave, UNWEAVE_SYNC_DIR);
    return 1;
}

static int step_sync_dir(struct unweave *unweave)
{
    if (op_pending(unweave))
        return 0;
    if (unweave->op.result < 0) {
        snprintf(unweave->tmp_path, sizeof(unweave->tmp_path), "%s", unweave->path);
        unweave_fail(unweave, E_IO);
        return 1;
    }
    install(unweave);
    return 1;
}

/* ---- the end ---- */

static void install(struct unweave *unweave)
{
    struct archives *archives = unweave->archives;
    struct archive *archive = archive_of_run(unweave);
    if (!archive) {
        snprintf(unweave->tmp_path, sizeof(unweave->tmp_path), "%s", unweave->path);
        unweave_fail(unweave, E_NO_MEMORY);
        return;
    }
    inputs_release(unweave, true);
    archives_insert(archives, archive);
    archives->next_number++;
    archives->stats.runs++;
    archives->stats.run_bytes += archive->data_bytes;
    LOG_INFO("archive.run_made", LOG_STR("path", archive->path),
             LOG_U64("base_lsn", archive->base_lsn), LOG_U64("end_lsn", archive->end_lsn),
             LOG_U64("bytes", archive->data_bytes), LOG_U64("batches", unweave->entry_count),
             LOG_U64("partitions", unweave->partition_count),
             LOG_U64("took_ms", (archives->now_ns - unweave->begun_ns) / NS_PER_MS));
    report(unweave, 0);
}

static struct archive *archive_of_run(struct unweave *unweave)
{
    struct archive *archive = archive_new(unweave->archives, unweave->number);
    if (!archive)
        return NULL;
    archive->base_lsn = unweave->base_lsn;
    archive->end_lsn = unweave->end_lsn;
    archive->append_ms_last = unweave->append_ms_last;
    archive->data_bytes = archive->live_bytes = unweave->data_bytes;
    archive->index_offset = align_up(DISK_BLOCK + unweave->data_bytes, DISK_BLOCK);
    archive->index_bytes = unweave->out.len;
    archive->file_bytes = unweave->band_at;
    archive->surveyed = unweave->log_starts_moved;
    if (archives_row_add(unweave->archives, archive))
        return archive;
    archive_free(archive);
    return NULL;
}

void unweave_fail(struct unweave *unweave, int status)
{
    LOG_WARN("archive.run_failed", LOG_U64("number", unweave->number),
             LOG_U64("base_lsn", unweave->base_lsn), LOG_U64("end_lsn", unweave->end_lsn),
             LOG_STATUS(status));
    if (status == E_CORRUPT)
        unweave->archives->stats.damage = status;
    unweave->archives->stats.failed_runs++;
    unweave->failure = status;
    unweave->step = UNWEAVE_FAIL_DRAIN;
}

static int step_fail_drain(struct unweave *unweave)
{
    if (unweave->in_flight > 0)
        return 0;
    for (uint32_t i = 0; i < UNWEAVE_READS_MAX; i++)
        unweave->reads[i].state = UNWEAVE_READ_FREE;
    if (unweave->fd >= 0)
        op_begin(unweave, UNWEAVE_FAIL_CLOSE);
    else if (unweave->tmp_path[0])
        op_begin(unweave, UNWEAVE_FAIL_UNLINK);
    else
        report(unweave, unweave->failure);
    return 1;
}

static int step_fail_close(struct unweave *unweave)
{
    if (op_pending(unweave))
        return 0;
    unweave->fd = -1;
    op_begin(unweave, UNWEAVE_FAIL_UNLINK);
    return 1;
}

static int step_fail_unlink(struct unweave *unweave)
{
    if (op_pending(unweave))
        return 0;
    report(unweave, unweave->failure); // what could not be unlinked goes at the next start
    return 1;
}

/* superseded: the run holds what they held. */
static void inputs_release(struct unweave *unweave, bool superseded)
{
    for (uint32_t i = 0; i < unweave->input_count; i++) {
        struct unweave_input *input = &unweave->inputs[i];
        index_image_free(&input->image);
        if (input->segment) {
            input->segment->pins--;
        } else {
            archive_unpin(input->archive);
            if (superseded && !input->archive->dropped) // the survey may have found it dead
                archives_drop(unweave->archives, input->archive);
        }
    }
    unweave->input_count = 0;
}

static void report(struct unweave *unweave, int status)
{
    struct archives *archives = unweave->archives;
    uint64_t end_lsn = unweave->end_lsn;
    inputs_release(unweave, status == 0);
    unweave_give_up(unweave);
    unweave->step = UNWEAVE_IDLE;
    if (status == 0)
        archives->end_lsn = max_u64(archives->end_lsn, end_lsn);
    if (unweave->is_rewrite)
        return;
    unweave->rewrite_wanted = status == 0;
    archives->options.on_run(archives->options.context, status, end_lsn);
}

void unweave_give_up(struct unweave *unweave)
{
    inputs_release(unweave, false);
    index_image_free(&unweave->out);
    free(TAKE(unweave->log_starts));
    free(TAKE(unweave->pieces));
    free(TAKE(unweave->fragments));
    if (unweave->step == UNWEAVE_OPEN && unweave->op.result >= 0)
        unweave->fd = unweave->op.result;
    bool is_closed = unweave->step == UNWEAVE_CLOSE || unweave->step == UNWEAVE_FAIL_CLOSE;
    if (unweave->fd >= 0 && !is_closed)
        io_close_wait(unweave->archives->options.io, unweave->fd);
    unweave->fd = -1;
    unweave->tmp_path[0] = 0;
}
