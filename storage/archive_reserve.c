/* reserve.tmp: blocks kept back from a disk that fills up.
 *
 * Rewriting a file that is mostly dead gives space back, but needs space first. So blocks for one run are taken when
 * there is room, and given back in the moment a run finds none. Made in calm moments, 256 KiB a step; made again when
 * the caller says that there is room.
 *
 * Failure modes: no space for it, or an I/O error: what there is of it is deleted, and there is no reserve. */
#include "storage/archive_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "storage/unweave.h"

#define STEP_BYTES ((uint32_t)(256 * KIB))
#define NAME "reserve.tmp"

static void begin(struct archives *archives);
static void step(struct archives *archives);
static void step_write(struct archives *archives);
static void fail(struct archives *archives, int status);
static void op_start(struct archives *archives, enum archive_reserve_state state);
static void op_done(struct io_op *op);
static char *path_make(struct archives *archives);

void archives_make_reserve(struct archives *archives)
{
    archives->reserve.wanted = archives->options.reserve_bytes > 0;
}

int archive_reserve_turn(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    if (io_op_is_active(&reserve->op))
        return 0;
    if (reserve->state == RESERVE_READY)
        return 0;
    if (reserve->state == RESERVE_NONE) {
        if (!reserve->wanted || archives->pressure != ARCHIVE_CALM ||
            unweave_is_running(archives->unweave))
            return 0;
        begin(archives);
        return 1;
    }
    step(archives);
    return 1;
}

bool archive_reserve_found(struct archives *archives, const char *name, uint64_t size_bytes)
{
    if (strcmp(name, NAME) != 0 || archives->options.reserve_bytes == 0 ||
        size_bytes < archives->options.reserve_bytes)
        return false;
    archives->reserve.state = RESERVE_READY;
    archives->stats.has_reserve = true;
    return true;
}

bool archive_reserve_release(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    if (reserve->state == RESERVE_RELEASING)
        return true;
    if (reserve->state != RESERVE_READY)
        return false;
    LOG_WARN("archive.reserve_used", LOG_U64("bytes", archives->options.reserve_bytes));
    archives->stats.has_reserve = false;
    reserve->wanted = false;
    op_start(archives, RESERVE_RELEASING);
    return true;
}

void archive_reserve_deinit(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    bool is_open = reserve->state == RESERVE_WRITING || reserve->state == RESERVE_SYNCING;
    if (reserve->state == RESERVE_OPENING && reserve->op.result >= 0) {
        reserve->fd = reserve->op.result;
        is_open = true;
    }
    if (is_open)
        io_close_wait(archives->options.io, reserve->fd);
    free(TAKE(reserve->zeros));
}

/* ---- making ---- */

static void begin(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    reserve->wanted = false; // one attempt
    reserve->at = reserve->unsynced = 0;
    reserve->zeros = aligned_alloc(DISK_BLOCK, STEP_BYTES);
    if (!reserve->zeros)
        return;
    memset(reserve->zeros, 0, STEP_BYTES);
    op_start(archives, RESERVE_OPENING);
}

/* What comes behind the operation that just ended. */
static void step(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    int result = reserve->op.result;
    if (reserve->state == RESERVE_FAILING) {
        op_start(archives, RESERVE_RELEASING);
        return;
    }
    if (reserve->state == RESERVE_RELEASING) {
        reserve->state = RESERVE_NONE;
        return;
    }
    if (result < 0) {
        fail(archives, result);
        return;
    }
    if (reserve->state == RESERVE_CLOSING) {
        free(TAKE(reserve->zeros));
        reserve->state = RESERVE_READY;
        archives->stats.has_reserve = true;
        return;
    }
    if (reserve->state == RESERVE_OPENING)
        reserve->fd = result;
    else if (reserve->state == RESERVE_SYNCING)
        reserve->unsynced = 0;
    step_write(archives);
}

static void step_write(struct archives *archives)
{
    struct archive_reserve *reserve = &archives->reserve;
    if (reserve->at >= archives->options.reserve_bytes && reserve->unsynced == 0)
        op_start(archives, RESERVE_CLOSING);
    else if (reserve->at >= archives->options.reserve_bytes ||
             reserve->unsynced >= ARCHIVE_UNSYNCED_BYTES)
        op_start(archives, RESERVE_SYNCING);
    else
        op_start(archives, RESERVE_WRITING);
}

static void fail(struct archives *archives, int status)
{
    struct archive_reserve *reserve = &archives->reserve;
    LOG_WARN("archive.reserve_not_made", LOG_STATUS(status),
             LOG_U64("bytes", archives->options.reserve_bytes));
    free(TAKE(reserve->zeros));
    if (reserve->state == RESERVE_OPENING)
        reserve->state = RESERVE_NONE;
    else if (reserve->state == RESERVE_CLOSING)
        op_start(archives, RESERVE_RELEASING);
    else
        op_start(archives, RESERVE_FAILING);
}

static void op_start(struct archives *archives, enum archive_reserve_state state)
{
    struct archive_reserve *reserve = &archives->reserve;
    struct io *io = archives->options.io;
    uint32_t direct = archives->options.no_direct ? 0 : O_DIRECT;
    reserve->state = state;
    archives->ops++;
    switch (state) {
    case RESERVE_OPENING:
        io_open(io, &reserve->op, path_make(archives), O_RDWR | O_CREAT | O_TRUNC | direct, 0600,
                op_done);
        break;
    case RESERVE_WRITING:
        io_write(io, &reserve->op, reserve->fd, reserve->zeros, STEP_BYTES, reserve->at, op_done);
        reserve->at += STEP_BYTES;
        reserve->unsynced += STEP_BYTES;
        break;
    case RESERVE_SYNCING:
        io_fdatasync(io, &reserve->op, reserve->fd, op_done);
        break;
    case RESERVE_CLOSING:
    case RESERVE_FAILING:
        io_close(io, &reserve->op, reserve->fd, op_done);
        break;
    default:
        io_unlink(io, &reserve->op, path_make(archives), op_done);
    }
}

static void op_done(struct io_op *op)
{
    CONTAINER_OF(op, struct archives, reserve.op)->ops--;
}

static char *path_make(struct archives *archives)
{
    snprintf(archives->reserve_path, sizeof(archives->reserve_path), "%s/" NAME,
             archives->options.dir);
    return archives->reserve_path;
}
