/* Marks, sync rounds and failure: what turns written into durable.
 *
 * A round: note `written` (every write below it has completed and was looked at), one fdatasync for
 * each file that holds bytes between `durable` and it, and when all have returned, `durable` moves
 * there. The round covers writes that completed before it began and no others, whatever the kernel
 * happens to flush with them. One round is in flight at a time: a device flushes one thing after
 * the other anyway, and what is written meanwhile shares the next.
 *
 * Failure is final. After a failed fdatasync the kernel may have dropped the pages and say yes the
 * next time (seen on Linux 6.18: a later one returned 0 with 16 MiB lost), so nothing is tried
 * again: no mark moves any more, on_failed() is told once, and the process ends; its next start
 * sees what the disk really holds. */
#include "storage/wal_private.h"

#include "base/fault.h"
#include "base/plant.h"

static uint64_t *mark_place(struct wal *wal, enum wal_mark mark);
static uint32_t sync_collect(struct wal *wal);
static void sync_done(struct io_op *op);
static void sync_finish(struct wal *wal);
static void groups_free(struct wal *wal);
static void commit(struct wal *wal, uint64_t lsn);
static void segments_close(struct wal *wal);

static bool shows_what_is_written(const struct wal *wal)
{
    return wal->options.relaxed || PLANTED(ACK_BEFORE_SYNC);
}

void wal_marks_advance(struct wal *wal, enum wal_mark mark, uint64_t lsn)
{
    struct wal_marks *marks = &wal->marks;
    uint64_t *place = mark_place(wal, mark);
    ASSERT(lsn > *place);
    *place = lsn;
    ASSERT(marks->durable <= marks->written && marks->written <= marks->submitted &&
           marks->submitted <= wal->next_lsn);
    /* relaxed: what is written is shown, and a power cut takes it back. */
    ASSERT(marks->committed <= (shows_what_is_written(wal) ? marks->written : marks->durable));
}

static uint64_t *mark_place(struct wal *wal, enum wal_mark mark)
{
    switch (mark) {
    case WAL_COMMITTED:
        return &wal->marks.committed;
    case WAL_DURABLE:
        return &wal->marks.durable;
    case WAL_WRITTEN:
        return &wal->marks.written;
    default:
        return &wal->marks.submitted;
    }
}

bool wal_is_idle(const struct wal *wal)
{
    if (wal->options.relaxed)
        return wal->writes_in_flight == 0;
    return wal->marks.durable == wal->marks.submitted;
}

/* ---- written ---- */

void sync_written(struct wal *wal)
{
    uint64_t written = wal->marks.written;
    while (wal->queue_written != wal->queue_submitted) {
        const struct group *group = wal->queue[wal->queue_written & wal->queue_mask];
        if (group->state != GROUP_WRITTEN)
            break;
        written = group->lsn + group->total_bytes;
        wal->queue_written++;
    }
    if (wal->failed || written == wal->marks.written)
        return;
    wal_marks_advance(wal, WAL_WRITTEN, written);
    if (shows_what_is_written(wal))
        commit(wal, written);
}

/* ---- durable ---- */

int sync_start(struct wal *wal)
{
    if (wal->failed || wal->syncs_in_flight > 0 || wal->marks.written == wal->marks.durable)
        return 0;
    (void)fault_check(FAULT_SHARD_CRASH_SYNC);
    uint32_t count = sync_collect(wal);
    wal->syncs_in_flight = count;
    wal->sync_began_ns = wal->now_ns;
    wal->stats.syncs += count;
    for (uint32_t i = 0; i < count; i++)
        io_fdatasync(wal->options.io, &wal->sync_ops[i].op, wal->sync_ops[i].segment->fd,
                     sync_done);
    return 1;
}

/* The files of the groups between `durable` and `written`, and how far this round goes. */
static uint32_t sync_collect(struct wal *wal)
{
    uint32_t count = 0;
    for (uint32_t i = wal->queue_durable; i != wal->queue_written; i++) {
        const struct group *group = wal->queue[i & wal->queue_mask];
        if (count == 0 || wal->sync_ops[count - 1].segment != group->segment) {
            if (count == WAL_SYNC_FILES_MAX)
                break;
            wal->sync_ops[count++] = (struct wal_sync){.wal = wal, .segment = group->segment};
        }
        wal->sync_target = group->lsn + group->total_bytes;
    }
    return count;
}

static void sync_done(struct io_op *op)
{
    struct wal_sync *sync = CONTAINER_OF(op, struct wal_sync, op);
    struct wal *wal = sync->wal;
    ASSERT(wal->syncs_in_flight > 0);
    wal->syncs_in_flight--;
    if (op->result < 0 && !PLANTED(SYNC_ERROR_IGNORED))
        wal_fail(wal, op->result, op->os_error, "fdatasync", sync->segment->path);
    else if (wal->syncs_in_flight == 0 && !wal->failed)
        sync_finish(wal);
}

static void sync_finish(struct wal *wal)
{
    wal->sync_timed = true;
    wal_marks_advance(wal, WAL_DURABLE, wal->sync_target);
    groups_free(wal);
    if (!shows_what_is_written(wal))
        commit(wal, wal->marks.durable);
    segments_close(wal);
}

/* Their bytes stay where they are, for readers of the tail, until the slot is filled again. */
static void groups_free(struct wal *wal)
{
    while (wal->queue_durable != wal->queue_written) {
        struct group *group = wal->queue[wal->queue_durable & wal->queue_mask];
        if (group->lsn + group->total_bytes > wal->marks.durable)
            return;
        group->state = GROUP_FREE;
        wal->queue_durable++;
    }
}

static void commit(struct wal *wal, uint64_t lsn)
{
    wal_marks_advance(wal, WAL_COMMITTED, lsn);
    wal->options.on_committed(wal->options.context, lsn);
}

static void segments_close(struct wal *wal)
{
    while (wal->closed_count + 1 < segment_queue_count(&wal->live)) {
        struct segment *segment = segment_queue_at(&wal->live, wal->closed_count);
        if (segment->end_lsn > wal->marks.durable)
            return;
        segment->state = SEGMENT_CLOSED;
        wal->closed_count++;
        wal->options.on_segment_closed(wal->options.context, segment);
    }
}

/* ---- failure ---- */

void wal_fail(struct wal *wal, int status, int os_error, const char *what, const char *path)
{
    if (wal->failed)
        return;
    wal->failed = true;
    wal->fill_room = 0;
    wal->failure = (struct wal_failure){.status = status,
                                        .os_error = os_error,
                                        .what = what,
                                        .path = path,
                                        .lsn = wal->marks.durable};
    wal->options.on_failed(wal->options.context, &wal->failure);
}
