/* The job that makes a spare segment, as a chain of steps; see spares.h for their order.
 *
 * The happy path: spares_step_start() starts the step's one I/O operation, spares_step_next() looks
 * at its result and goes to the next step, until the segment is READY.
 *
 * It can fail at any step; step_failed() says what that costs: the file (closed, unlinked, tried
 * again later with another one), or, for a directory that could not be made durable, the log. A
 * recycled segment that can't be renamed away stays where it is and is tried again.
 *
 * Why names come last: a file that has a number is trusted by recovery, so header and zeros are
 * durable before the rename; and a recycled file loses its old number durably before its header
 * changes, else a crash could leave the new header under the old name. */
#include "storage/spares_private.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/log.h"
#include "base/plant.h"

#define BACKOFF_NS_MAX (4 * NS_PER_S) // service is back within 5 s of free space
#define PACE_FACTOR 3                 // pause after a zero write, in lengths of that write

static void step_done(struct io_op *op);
static enum spares_step after_open(struct spares *spares);
static enum spares_step after_zero(struct spares *spares, const struct spares_load *load);
static enum spares_step after_zero_sync(struct spares *spares);
static enum spares_step after_name_sync(struct spares *spares);
static enum spares_step after_unlink(struct spares *spares);
static void retire_start(struct spares *spares);
static void zero_start(struct spares *spares, const struct spares_load *load);
static void header_start(struct spares *spares, const struct spares_load *load);
static void step_failed(struct spares *spares, const struct spares_load *load);

static const char *const step_names[] = {
    [SPARES_RETIRE] = "retire",
    [SPARES_RETIRE_SYNC] = "retire_sync",
    [SPARES_OPEN] = "open",
    [SPARES_ZERO] = "zero",
    [SPARES_ZERO_SYNC] = "zero_sync",
    [SPARES_HEADER] = "header",
    [SPARES_HEADER_SYNC] = "header_sync",
    [SPARES_NAME] = "name",
    [SPARES_NAME_SYNC] = "name_sync",
    [SPARES_CLOSE] = "close",
    [SPARES_UNLINK] = "unlink",
};

/* ---- steps ---- */

/* Starts the operation of the current step. False: not now. */
bool spares_step_start(struct spares *spares, const struct spares_load *load)
{
    const struct spares_options *options = &spares->options;
    struct segment *segment = spares->making;
    switch (spares->step) {
    case SPARES_RETIRE:
        retire_start(spares);
        break;
    case SPARES_RETIRE_SYNC:
    case SPARES_NAME_SYNC:
        io_sync_dir(options->io, &spares->op, options->dir, step_done);
        break;
    case SPARES_OPEN:
        io_open(options->io, &spares->op, segment->path,
                segment_open_flags(options->no_direct, false) | O_CREAT, 0640, step_done);
        break;
    case SPARES_ZERO:
        if (load->now_ns < spares->pace_ns && !load->starved && load->busy)
            return false;
        zero_start(spares, load);
        break;
    case SPARES_ZERO_SYNC:
    case SPARES_HEADER_SYNC:
        io_fdatasync(options->io, &spares->op, segment->fd, step_done);
        break;
    case SPARES_HEADER:
        header_start(spares, load);
        break;
    case SPARES_NAME:
        segment_path_make(spares->path_to, options->dir, segment->number);
        io_rename(options->io, &spares->op, segment->path, spares->path_to, step_done);
        break;
    case SPARES_CLOSE:
        io_close(options->io, &spares->op, segment->fd, step_done);
        break;
    case SPARES_UNLINK:
        io_unlink(options->io, &spares->op, segment->path, step_done);
        break;
    case SPARES_IDLE:
        return false;
    }
    return true;
}

static void step_done(struct io_op *op)
{
    struct spares *spares = CONTAINER_OF(op, struct spares, op);
    spares->op_done = true;
}

/* What was done has ended well or badly; decides what comes next. */
void spares_step_next(struct spares *spares, const struct spares_load *load)
{
    struct segment *segment = spares->making;
    if (spares->op.result < 0) {
        step_failed(spares, load);
        return;
    }
    switch (spares->step) {
    case SPARES_RETIRE:
        memcpy(segment->path, spares->path_to, SEGMENT_PATH_MAX);
        spares->step = SPARES_RETIRE_SYNC;
        break;
    case SPARES_RETIRE_SYNC:
        segment->number = 0;
        spares->step = segment->fd < 0 ? SPARES_OPEN : after_open(spares);
        break;
    case SPARES_OPEN:
        segment->fd = spares->op.result;
        (void)io_lock_fd(spares->options.io, segment->fd);
        spares->step = after_open(spares);
        break;
    case SPARES_ZERO:
        spares->step = after_zero(spares, load);
        break;
    case SPARES_ZERO_SYNC:
        spares->step = after_zero_sync(spares);
        break;
    case SPARES_HEADER:
        spares->step = SPARES_HEADER_SYNC;
        break;
    case SPARES_HEADER_SYNC:
        spares->step = SPARES_NAME;
        break;
    case SPARES_NAME:
        memcpy(segment->path, spares->path_to, SEGMENT_PATH_MAX);
        spares->step = PLANTED(NAME_NOT_SYNCED) ? after_name_sync(spares) : SPARES_NAME_SYNC;
        break;
    case SPARES_NAME_SYNC:
        spares->step = after_name_sync(spares);
        break;
    case SPARES_CLOSE:
        segment->fd = -1;
        spares->step = SPARES_UNLINK;
        break;
    case SPARES_UNLINK:
        spares->step = after_unlink(spares);
        break;
    case SPARES_IDLE:
        break;
    }
}

static enum spares_step after_open(struct spares *spares)
{
    spares->zero_offset = 0;
    return spares->making->written ? SPARES_HEADER : SPARES_ZERO;
}

static enum spares_step after_zero(struct spares *spares, const struct spares_load *load)
{
    spares->pace_ns = load->now_ns + PACE_FACTOR * (load->now_ns - spares->zero_began_ns);
    spares->zero_offset += spares->op.len;
    return spares->zero_offset < spares->options.segment_bytes ? SPARES_ZERO : SPARES_ZERO_SYNC;
}

static enum spares_step after_zero_sync(struct spares *spares)
{
    struct segment *segment = spares->making;
    segment->written = true;
    if (!spares_is_named(segment))
        return SPARES_HEADER;
    segment->state = SEGMENT_READY;
    spares->making = NULL;
    return SPARES_IDLE;
}

static enum spares_step after_name_sync(struct spares *spares)
{
    struct segment *segment = spares->making;
    segment->state = SEGMENT_READY;
    spares_add_named(spares, segment);
    spares->making = NULL;
    spares->made++;
    spares->backoff_ns = SPARES_BACKOFF_NS_MIN;
    return SPARES_IDLE;
}

static enum spares_step after_unlink(struct spares *spares)
{
    spares_segment_drop(spares, spares->making);
    spares->making = NULL;
    return SPARES_IDLE;
}

/* ---- what the steps start ---- */

/* <n>.wal loses its number: recycled-<n>.tmp if every block of it was written, so that it needs no
 * zeros. */
static void retire_start(struct spares *spares)
{
    struct segment *segment = spares->making;
    int len = snprintf(spares->path_to, SEGMENT_PATH_MAX, "%s/%s-%016llx.tmp", spares->options.dir,
                       segment->written ? "recycled" : "void", (unsigned long long)segment->number);
    ASSERT(len > 0 && len < SEGMENT_PATH_MAX);
    io_rename(spares->options.io, &spares->op, segment->path, spares->path_to, step_done);
}

static void zero_start(struct spares *spares, const struct spares_load *load)
{
    uint64_t left = spares->options.segment_bytes - spares->zero_offset;
    uint32_t len = (uint32_t)min_u64(left, SPARES_ZERO_BYTES);
    spares->zero_began_ns = load->now_ns;
    io_write(spares->options.io, &spares->op, spares->making->fd, spares->options.zeros, len,
             spares->zero_offset, step_done);
}

static void header_start(struct spares *spares, const struct spares_load *load)
{
    const struct spares_options *options = &spares->options;
    struct segment *segment = spares->making;
    segment->number = spares->next_number;
    segment->generation = random_u64(options->random);
    struct segment_head head = {.shard_id = options->shard_id,
                                .number = segment->number,
                                .generation = segment->generation,
                                .segment_bytes = options->segment_bytes,
                                .written = segment->written};
    memcpy(head.store_id, options->store_id, sizeof(head.store_id));
    segment_head_make(options->header, &head, load->now_wall_ms);
    io_write(options->io, &spares->op, segment->fd, options->header, DISK_SEGMENT_DATA, 0,
             step_done);
}

/* ---- failure ---- */

static void step_failed(struct spares *spares, const struct spares_load *load)
{
    int status = spares->op.result;
    int os_error = spares->op.os_error;
    switch (spares->step) {
    case SPARES_RETIRE_SYNC:
    case SPARES_NAME_SYNC:
        spares->stopped = true;
        spares->options.on_failed(spares->options.context, status, os_error);
        return;
    case SPARES_CLOSE: // the descriptor is gone all the same
        spares->making->fd = -1;
        spares->step = SPARES_UNLINK;
        return;
    case SPARES_UNLINK: // the next start finds it
        spares->step = after_unlink(spares);
        return;
    default:
        spares_back_off(spares, load, status, os_error);
    }
}

/* Gives the file up, or, if it has a number, leaves it for later; then a pause. */
void spares_back_off(struct spares *spares, const struct spares_load *load, int status,
                     int os_error)
{
    struct segment *segment = spares->making;
    LOG_WARN("wal.spare_failed", LOG_STR("step", step_names[spares->step]),
             LOG_STR("file", segment->path), LOG_STATUS(status), LOG_I64("os_error", os_error),
             LOG_U64("retry_ms", spares->backoff_ns / NS_PER_MS));
    spares->retry_ns = load->now_ns + spares->backoff_ns;
    spares->backoff_ns = min_u64(spares->backoff_ns * 2, BACKOFF_NS_MAX);
    if (spares_is_named(segment)) { // its zeros again, from the beginning
        spares->making = NULL;
        spares->step = SPARES_IDLE;
    } else if (segment->number != 0 && segment->fd >= 0 && spares->step == SPARES_RETIRE) {
        spares_add_raw(spares, segment);
        spares->making = NULL;
        spares->step = SPARES_IDLE;
    } else {
        spares->step = segment->fd >= 0 ? SPARES_CLOSE : SPARES_UNLINK;
    }
}
