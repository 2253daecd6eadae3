/* Spare segments: what there is, which job comes next, and the log's side of it. The jobs' steps are in
 * spares_job.c; see spares.h for their order and why.
 *
 * The happy path of a turn: the step that ended decides the next one; when none is left a new job
 * begins (a successor that still needs its zeros, a recycled segment, a new file); then the step's
 * one I/O operation is started. */
#include "storage/spares.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "storage/spares_private.h"
#include "storage/wal.h"

#define LOOK_NS (1 * NS_PER_S)  // between looks at the free space, when nothing hurries
#define WANTED_COUNT 2          // fewer named spares than this are made of the last free bytes
#define SURPLUS_FREE_PERCENT 10 // more are made only while so much of the disk stays free

static int job_begin(struct spares *spares, const struct spares_load *load);
static bool job_is_discard(struct spares *spares, const struct segment *segment);
static struct segment *job_unzeroed(struct spares *spares);
static struct segment *job_new_file(struct spares *spares, const struct spares_load *load);
static bool disk_has_room(struct spares *spares, const struct spares_load *load);
static enum spares_step first_step(const struct segment *segment);

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
    *spares = (struct spares){.options = *options, .backoff_ns = SPARES_BACKOFF_NS_MIN};
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

void spares_segment_drop(struct spares *spares, struct segment *segment)
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
        spares_step_next(spares, load);
        work++;
    }
    if (spares->step == SPARES_IDLE && !spares->stopped)
        work += job_begin(spares, load);
    if (spares->step != SPARES_IDLE && !io_op_is_active(&spares->op) && !spares->op_done &&
        !spares->stopped)
        work += spares_step_start(spares, load);
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
    spares->step = first_step(segment);
    spares->zero_offset = spares_is_named(segment) ? DISK_SEGMENT_DATA : 0;
    int os_error = fault_check(FAULT_SEGMENT_PREPARE);
    if (os_error != 0) {
        spares->step = SPARES_OPEN;
        spares_back_off(spares, load, status_from_errno(os_error), os_error);
        return 0;
    }
    return 1;
}

/* Is this the file that is to give its blocks back, or one that can't be made a segment? */
static bool job_is_discard(struct spares *spares, const struct segment *segment)
{
    if (segment->is_too_long) {
        LOG_WARN("wal.leftover_unlinked", LOG_STR("file", segment->path),
                 LOG_STR("why", "longer than a segment"));
        return true;
    }
    if (!spares->discard_next || spares_is_named(segment) || segment->path[0] == 0 ||
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

static enum spares_step first_step(const struct segment *segment)
{
    if (spares_is_named(segment))
        return SPARES_ZERO;
    return segment->number != 0 ? SPARES_RETIRE : SPARES_OPEN;
}
