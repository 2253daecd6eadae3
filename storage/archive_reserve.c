/* reserve.tmp: blocks kept back from a disk that fills up.
 *
 * Rewriting a file that is mostly dead gives space back, but needs space first. So blocks for one
 * run are taken when there is room, and given back in the moment a run finds none. Taken in calm
 * moments, a stretch at a time; taken again when the caller says that there is room.
 *
 * Failure modes: no space for it, or an I/O error: what there is of it is deleted, and there is no
 * reserve. */
#include "storage/archive_private.h"

#include <fcntl.h>

#include "base/log.h"
#include "storage/unweave.h"

#define STRETCH_BYTES ((uint64_t)(16 * MIB)) // blocks taken in one step
#define NAME "reserve.tmp"

static void step(struct archives *archives);
static void stretch_take(struct archives *archives);
static void fail(struct archives *archives, int status);
static void op_start(struct archives *archives, enum archive_reserve_state state);
static void op_done(struct io_op *op);

void archives_make_reserve(struct archives *archives)
{
    archives->reserve.wanted = archives->options.reserve_bytes > 0;
}

int archive_reserve_turn(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    if (reserve->state == RESERVE_READY || io_op_is_active(&reserve->op))
        return 0;
    if (reserve->state != RESERVE_NONE) {
        step(archives);
        return 1;
    }
    if (!reserve->wanted || archives->pressure != ARCHIVE_CALM ||
        unweave_is_running(archives->unweave))
        return 0;
    reserve->wanted = false; // one attempt
    reserve->taken = 0;
    op_start(archives, RESERVE_OPENING);
    return 1;
}

bool archive_reserve_found(struct archives *archives, const char *name, uint64_t size_bytes)
{
    if (strcmp(name, NAME) != 0 || archives->options.reserve_bytes == 0 ||
        size_bytes < archives->options.reserve_bytes)
        return false;
    archives->reserve.state = RESERVE_READY;
    return true;
}

bool archive_reserve_release(struct archives *archives)
{
    if (archives->reserve.state != RESERVE_READY)
        return false;
    LOG_WARN("archive.reserve_used", LOG_U64("bytes", archives->options.reserve_bytes));
    archives->reserve.wanted = false;
    op_start(archives, RESERVE_RELEASING);
    return true;
}

void archive_reserve_deinit(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    bool is_open = reserve->state == RESERVE_TAKING;
    if (reserve->state == RESERVE_OPENING && reserve->op.result >= 0) {
        reserve->fd = reserve->op.result;
        is_open = true;
    }
    if (is_open)
        io_close_wait(archives->options.io, reserve->fd);
}

/* What comes behind the operation that just ended. */
static void step(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    switch (reserve->state) {
    case RESERVE_OPENING:
        if (reserve->op.result < 0) {
            fail(archives, reserve->op.result);
            return;
        }
        reserve->fd = reserve->op.result;
        reserve->state = RESERVE_TAKING;
        break;
    case RESERVE_TAKING:
        stretch_take(archives);
        break;
    case RESERVE_CLOSING:
        reserve->state = RESERVE_READY;
        break;
    case RESERVE_FAILING:
        op_start(archives, RESERVE_RELEASING);
        break;
    default:
        reserve->state = RESERVE_NONE;
    }
}

static void stretch_take(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    uint64_t all = archives->options.reserve_bytes;
    uint64_t wanted = min_u64(reserve->taken + STRETCH_BYTES, all);
    int status = io_allocate(archives->options.io, reserve->fd, wanted);
    if (status != 0) {
        fail(archives, status);
        return;
    }
    reserve->taken = wanted;
    if (wanted == all)
        op_start(archives, RESERVE_CLOSING);
}

static void fail(struct archives *archives, int status)
{
    LOG_WARN("archive.reserve_not_made", LOG_STATUS(status),
             LOG_U64("bytes", archives->options.reserve_bytes));
    if (archives->reserve.state == RESERVE_OPENING)
        archives->reserve.state = RESERVE_NONE;
    else
        op_start(archives, RESERVE_FAILING);
}

static void op_start(struct archives *archives, enum archive_reserve_state state)
{
    struct archive_reserve *reserve = &archives->reserve;
    struct io *io = archives->options.io;
    snprintf(reserve->path, sizeof(reserve->path), "%s/" NAME, archives->options.dir);
    reserve->state = state;
    archives->ops++;
    if (state == RESERVE_OPENING)
        io_open(io, &reserve->op, reserve->path, O_RDWR | O_CREAT | O_TRUNC, 0600, op_done);
    else if (state == RESERVE_RELEASING)
        io_unlink(io, &reserve->op, reserve->path, op_done);
    else
        io_close(io, &reserve->op, reserve->fd, op_done);
}

static void op_done(struct io_op *op)
{
    CONTAINER_OF(op, struct archives, reserve.op)->ops--;
}
