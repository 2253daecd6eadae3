/* The background job that makes spare segments, as a chain of steps; see spares.h for the order and
 * why.
 *
 * The happy path: job_begin() chooses the material (a successor that still needs its zeros, a
 * recycled segment, a new file), step_start() starts the step's one I/O operation, the next turn
 * looks at its result and goes to the next step, until the segment is READY.
 *
 * It can fail at any step; step_failed() says what that costs: the file (closed, unlinked, tried
 * again later with another one), or, for a directory that could not be made durable, the log. A
 * recycled segment that can't be renamed away stays where it is and is tried again.
 *
 * Why names come last: a file that has a number is trusted by recovery, so header and zeros are
 * durable before the rename; and a recycled file loses its old number durably before its header
 * changes, else a crash could leave the new header under the old name. */
#include "storage/spares.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "storage/wal.h"

#define BACKOFF_NS_MIN (100 * NS_PER_MS)
#define BACKOFF_NS_MAX (4 * NS_PER_S) // service is back within 5 s of free space
#define LOOK_NS (1 * NS_PER_S)        // between looks at the free space, when nothing hurries
#define PACE_FACTOR 3                 // pause after a zero write, in lengths of that write
#define WANTED_COUNT 2          // fewer named spares than this are made of the last free bytes
#define SURPLUS_FREE_PERCENT 10 // more are made only while so much of the disk stays free

static int job_begin(struct spares *spares, const struct spares_load *load);
static bool job_is_discard(struct spares *spares, const struct segment *segment);
static struct segment *job_unzeroed(struct spares *spares);
static struct segment *job_new_file(struct spares *spares, const struct spares_load *load);
static bool disk_has_room(struct spares *spares, const struct spares_load *load);
static enum spares_step first_step(const struct spares *spares, const struct segment *segment);
static bool step_start(struct spares *spares, const struct spares_load *load);
static void step_done(struct io_op *op);
static void step_next(struct spares *spares, const struct spares_load *load);
static enum spares_step after_open(struct spares *spares);
static enum spares_step after_zero(struct spares *spares, const struct spares_load *load);
static enum spares_step after_zero_sync(struct spares *spares);
static enum spares_step after_name_sync(struct spares *spares);
static enum spares_step after_unlink(struct spares *spares);
static void step_failed(struct spares *spares, const struct spares_load *load);
static void back_off(struct spares *spares, const struct spares_load *load, int status,
                     int os_error);
static void zero_start(struct spares *spares, const struct spares_load *load);
static void header_start(struct spares *spares, const struct spares_load *load);
static void retire_start(struct spares *spares);
static bool is_named(const struct spares *spares, const struct segment *segment);

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

/* ---- set-up ---- */

static bool queue_init(struct segment_queue *queue, uint32_t capacity)
{
    uint32_t size = 1;
    while (size < capacity)
        size *= 2;
    queue->items = calloc(size, sizeof(*queue->items));
    queue->mask = size - 1;
    queue->head = queue->tail = 0;
    return queue->items != NULL;
}

int spares_init(struct spares *spares, const struct spares_options *options, uint32_t capacity)
{
    *spares = (struct spares){.options = *options, .backoff_ns = BACKOFF_NS_MIN};
    spares->pool = calloc(capacity, sizeof(*spares->pool));
    spares->pool_free = calloc(capacity, sizeof(*spares->pool_free));
    bool named = queue_init(&spares->named, capacity);
    bool raw = queue_init(&spares->raw, capacity);
    if (spares->pool == NULL || spares->pool_free == NULL || !named || !raw) {
        spares_deinit(spares);
        return E_NO_MEMORY;
    }
    spares->pool_count = capacity;
    for (uint32_t i = capacity; i > 0; i--)
        spares->pool_free[spares->pool_free_count++] = &spares->pool[i - 1];
    return 0;
}

void spares_deinit(struct spares *spares)
{
    free(spares->pool);
    free(spares->pool_free);
    free(spares->named.items);
    free(spares->raw.items);
    spares->pool = NULL;
}

struct segment *spares_segment_new(struct spares *spares)
{
    ASSERT(spares->pool_free_count > 0);
    struct segment *segment = spares->pool_free[--spares->pool_free_count];
    memset(segment, 0, sizeof(*segment));
    segment->fd = -1;
    return segment;
}

static void segment_drop(struct spares *spares, struct segment *segment)
{
    spares->pool_free[spares->pool_free_count++] = segment;
}

void spares_add_named(struct spares *spares, struct segment *segment)
{
    segment_queue_push(&spares->named, segment);
    spares->next_number = max_u64(spares->next_number, segment->number + 1);
}

void spares_add_raw(struct spares *spares, struct segment *segment)
{
    segment->state = SEGMENT_RAW;
    segment_queue_push(&spares->raw, segment);
}

/* ---- the log's side ---- */

uint32_t spares_named_count(const struct spares *spares)
{
    return segment_queue_count(&spares->named);
}

uint32_t spares_ready_count(const struct spares *spares)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < spares_named_count(spares); i++)
        count += segment_queue_at(&spares->named, i)->state == SEGMENT_READY;
    return count;
}

bool spares_can_enter(const struct spares *spares)
{
    return spares_named_count(spares) >= 2 &&
           segment_queue_at(&spares->named, 0)->state == SEGMENT_READY;
}

struct segment *spares_enter(struct spares *spares)
{
    ASSERT(spares_can_enter(spares));
    return segment_queue_pop(&spares->named);
}

void spares_recycle(struct spares *spares, struct segment *segment)
{
    segment->index = NULL;
    spares_add_raw(spares, segment);
}

int spares_turn(struct spares *spares, const struct spares_load *load)
{
    int work = 0;
    if (spares->step != SPARES_IDLE && spares->op_done) {
        spares->op_done = false;
        step_next(spares, load);
        work++;
    }
    if (spares->step == SPARES_IDLE && !spares->stopped)
        work += job_begin(spares, load);
    if (spares->step != SPARES_IDLE && !io_op_is_active(&spares->op) && !spares->op_done &&
        !spares->stopped)
        work += step_start(spares, load);
    return work;
}

uint64_t spares_deadline_ns(const struct spares *spares)
{
    if (spares->stopped || io_op_is_active(&spares->op))
        return UINT64_MAX;
    if (spares->step == SPARES_ZERO)
        return spares->pace_ns;
    if (spares->step != SPARES_IDLE)
        return 0;
    bool may_begin = segment_queue_count(&spares->raw) > 0 || spares->wants_look;
    return may_begin ? max_u64(spares->retry_ns, spares->look_ns) : UINT64_MAX;
}

bool spares_stop(struct spares *spares)
{
    spares->stopped = true;
    return !io_op_is_active(&spares->op);
}

static void fd_close(struct spares *spares, struct segment *segment)
{
    if (segment->fd >= 0)
        (void)io_close_wait(spares->options.io, segment->fd);
    segment->fd = -1;
}

void spares_close(struct spares *spares)
{
    ASSERT(!io_op_is_active(&spares->op));
    for (uint32_t i = 0; i < spares_named_count(spares); i++)
        fd_close(spares, segment_queue_at(&spares->named, i));
    for (uint32_t i = 0; i < segment_queue_count(&spares->raw); i++)
        fd_close(spares, segment_queue_at(&spares->raw, i));
    if (spares->making)
        fd_close(spares, spares->making);
}

/* ---- choosing the next job ---- */

static int job_begin(struct spares *spares, const struct spares_load *load)
{
    spares->wants_look = load->now_ns < spares->retry_ns;
    if (spares->wants_look)
        return 0;
    struct segment *segment = job_unzeroed(spares);
    if (segment == NULL && segment_queue_count(&spares->raw) > 0)
        segment = segment_queue_pop(&spares->raw);
    if (segment == NULL)
        segment = job_new_file(spares, load);
    if (segment == NULL)
        return 0;
    spares->making = segment;
    if (job_is_discard(spares, segment)) {
        spares->step = segment->fd >= 0 ? SPARES_CLOSE : SPARES_UNLINK;
        return 1;
    }
    spares->step = first_step(spares, segment);
    spares->zero_offset = is_named(spares, segment) ? DISK_SEGMENT_DATA : 0;
    int os_error = fault_check(FAULT_SEGMENT_PREPARE);
    if (os_error != 0) {
        spares->step = SPARES_OPEN;
        back_off(spares, load, status_from_errno(os_error), os_error);
        return 0;
    }
    return 1;
}

/* Is this the file that is to give its blocks back? */
static bool job_is_discard(struct spares *spares, const struct segment *segment)
{
    if (!spares->discard_next || is_named(spares, segment) || segment->path[0] == 0 ||
        spares_named_count(spares) < WANTED_COUNT)
        return false;
    spares->discard_next = false;
    return true;
}

/* The first spare that has a number but not all its zeros. */
static struct segment *job_unzeroed(struct spares *spares)
{
    for (uint32_t i = 0; i < spares_named_count(spares); i++) {
        struct segment *segment = segment_queue_at(&spares->named, i);
        if (segment->state == SEGMENT_PREPARING)
            return segment;
    }
    return NULL;
}

static struct segment *job_new_file(struct spares *spares, const struct spares_load *load)
{
    uint32_t count = spares->live_count + spares_named_count(spares);
    if (count >= spares->options.file_count_max || spares->pool_free_count == 0)
        return NULL;
    if (spares->hold_files && count >= WAL_FILES_MIN)
        return NULL;
    if (!disk_has_room(spares, load))
        return NULL;
    struct segment *segment = spares_segment_new(spares);
    segment->state = SEGMENT_RAW;
    int len = snprintf(segment->path, SEGMENT_PATH_MAX, "%s/new-%016llx.tmp", spares->options.dir,
                       (unsigned long long)spares->next_number);
    ASSERT(len > 0 && len < SEGMENT_PATH_MAX);
    return segment;
}

/* The last bytes of a disk are for spares that the log can't do without, and they are not tried for
 * in vain: a file that grows until it fails takes the room of whoever writes beside it. */
static bool disk_has_room(struct spares *spares, const struct spares_load *load)
{
    struct io_fs_info info;
    bool wanted = spares_named_count(spares) < WANTED_COUNT;
    spares->wants_look = true;
    if (load->now_ns < spares->look_ns)
        return false;
    if (io_fs_info(spares->options.io, spares->options.dir, &info) < 0)
        return wanted;
    uint64_t keep = wanted ? 0 : info.total_bytes / 100 * SURPLUS_FREE_PERCENT;
    if (info.free_bytes >= spares->options.segment_bytes + keep)
        return true;
    spares->look_ns = load->now_ns + LOOK_NS;
    if (wanted)
        LOG_WARN("wal.spare_postponed", LOG_STR("dir", spares->options.dir),
                 LOG_STR("why", "no space left"), LOG_U64("free_bytes", info.free_bytes),
                 LOG_U64("needed_bytes", spares->options.segment_bytes));
    return false;
}

static enum spares_step first_step(const struct spares *spares, const struct segment *segment)
{
    if (is_named(spares, segment))
        return SPARES_ZERO;
    return segment->number != 0 ? SPARES_RETIRE : SPARES_OPEN;
}

/* Is it among the spares already, so that only its zeros are missing? */
static bool is_named(const struct spares *spares, const struct segment *segment)
{
    return segment->state == SEGMENT_PREPARING;
}

/* ---- steps ---- */

/* Starts the operation of the current step. False: not now. */
static bool step_start(struct spares *spares, const struct spares_load *load)
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
static void step_next(struct spares *spares, const struct spares_load *load)
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
        spares->step = SPARES_NAME_SYNC;
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
    if (!is_named(spares, segment))
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
    spares->backoff_ns = BACKOFF_NS_MIN;
    return SPARES_IDLE;
}

static enum spares_step after_unlink(struct spares *spares)
{
    segment_drop(spares, spares->making);
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
        back_off(spares, load, status, os_error);
    }
}

/* Gives the file up, or, if it has a number, leaves it for later; then a pause. */
static void back_off(struct spares *spares, const struct spares_load *load, int status,
                     int os_error)
{
    struct segment *segment = spares->making;
    LOG_WARN("wal.spare_failed", LOG_STR("step", step_names[spares->step]),
             LOG_STR("file", segment->path), LOG_STATUS(status), LOG_I64("os_error", os_error),
             LOG_U64("retry_ms", spares->backoff_ns / NS_PER_MS));
    spares->retry_ns = load->now_ns + spares->backoff_ns;
    spares->backoff_ns = min_u64(spares->backoff_ns * 2, BACKOFF_NS_MAX);
    if (is_named(spares, segment)) { // its zeros again, from the beginning
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
