/* Unweaving: the oldest closed segments become one file, sorted by partition, then offset.
 *
 * The happy path:
 *
 *     LOAD -> COUNT -> OPEN -> (PLAN -> READ -> VERIFY -> WRITE)... -> (INDEX -> WRITE)... -> SYNC
 *          -> CLOSE -> RENAME -> SYNC_DIR -> the row is added, what was rewritten is dropped,
 *          on_run(0)
 *
 * Each step is bounded (some ten microseconds of work, or waiting for I/O) and runs in
 * archives_turn(), never inside of a completion. Nothing changes before the end: until the row is
 * in a durable checkpoint, the segments are the data.
 *
 * Reading in the order of the output would be one small read for each batch; sorting in memory
 * would need memory for all. So the output is made in bands that fit into the buffer, and each band
 * reads what it needs of the sources in file order (unweave_private.h). Batches of 256 KiB are read
 * once; small ones of many partitions as often as there are bands, which is why a run of small
 * batches takes half as many segments. docs/decisions has the numbers.
 *
 * Pace: ARCHIVE_CALM some I/Os at a time; ARCHIVE_BUSY one, and then nothing for three times as
 * long as it took, which is a quarter of the device whatever its speed; ARCHIVE_URGENT all. */
#include "storage/unweave.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "storage/unweave_private.h"

#define PAUSE_FACTOR 3

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

struct unweave_input *unweave_holder(struct unweave *unweave, struct unweave_input *input,
                                     uint64_t position)
{
    if (position >= input->origin || input->archive)
        return input;
    for (uint32_t i = 0; i < unweave->input_count; i++) {
        struct unweave_input *other = &unweave->inputs[i];
        if (other->segment && position >= other->origin && position < other->end)
            return other;
    }
    for (uint32_t i = 0; i < unweave->older_count; i++)
        if (position >= unweave->older[i].origin && position < unweave->older[i].end)
            return &unweave->older[i];
    return NULL;
}

bool archives_is_unweaving(const struct archives *archives)
{
    return unweave_is_running(archives->unweave);
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
        return unweave_rewrite_begin(unweave);
    }
    pace(unweave);
    return steps[unweave->step](unweave);
}

uint64_t unweave_deadline_ns(const struct unweave *unweave)
{
    bool waits_for_others = unweave->step == UNWEAVE_RESERVE || unweave->load.read.archive != NULL;
    bool is_pausing = unweave->step != UNWEAVE_IDLE && unweave->in_flight == 0;
    return is_pausing && !waits_for_others ? unweave->pause_until_ns : UINT64_MAX;
}

/* ---- pace ---- */

/* The end of an I/O is seen here, so its duration includes the way to this turn: a little more
 * pause, never less. */
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
        unweave_report(unweave, 0);
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
    unweave_install(unweave);
    return 1;
}

/* ---- failing ---- */

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
        unweave_report(unweave, unweave->failure);
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
    unweave_report(unweave, unweave->failure); // what could not be unlinked goes at the next start
    return 1;
}
