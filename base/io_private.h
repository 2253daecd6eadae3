/* What io.c and the two kernel backends share. For base/io*.c and base/file_pool.c only. */
#ifndef SLUICE_BASE_IO_PRIVATE_H
#define SLUICE_BASE_IO_PRIVATE_H

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/io.h"
#include "base/plant.h"

/* Bits of op->flags; for every kind but IO_OPEN, whose flags are the caller's. */
enum {
    IO_OP_SHORT = 1u << 0,     // fault: the first transfer carries only half
    IO_OP_CANCELING = 1u << 1, // io_cancel() was called: no continuation any more
    IO_OP_SETTLED = 1u << 2,   // the end is decided, only done() is missing
    IO_OP_STARTED = 1u << 3,   // a connect() is under way
    IO_OP_UNBLOCKED = 1u << 4, // io_uring: O_NONBLOCK was taken from its descriptor
};

/* Why the kernel refused a ring: where, and with which errno. */
struct io_refusal {
    const char *step;
    int os_error;
};

MUST_USE int io_uring_new(const struct io_options *options, struct io **io_out,
                          struct io_refusal *refusal);
MUST_USE int io_epoll_new(const struct io_options *options, struct io **io_out);

/* ---- io_files.c: calls that block, the same in both backends ---- */

int io_files_list(struct io *io, const char *path, io_visit_fn visit, void *context);
int io_files_mkdir(struct io *io, const char *path);
int io_files_fs_info(struct io *io, const char *path, struct io_fs_info *info);
int io_files_file_size(struct io *io, int fd, uint64_t *size_bytes);
int io_files_lock_file(struct io *io, const char *path);

/* All processors that are online. Kernel workers and file threads inherit the mask of the thread
 * that makes them; bound to one busy core they would wait for it (measured: 352 us in place of
 * 129). */
void io_all_processors(cpu_set_t *set);

/* ---- the common end of every operation ---- */

/* raw is what the kernel said: a count or descriptor, or -errno. The op may be gone afterwards. */
static inline void io_op_finish(struct io_op *op, int32_t raw)
{
    ASSERT(op->magic == IO_OP_MAGIC);
    op->magic = 0;
    op->kind = IO_NONE;
    op->result = raw < 0 ? status_from_errno(-raw) : raw;
    op->os_error = raw < 0 ? -raw : 0;
    op->done(op);
}

/* Decides the end without running done(); the backend delivers it from its `ready` list. */
static inline void io_op_settle(struct io_op *op, int32_t raw, struct list *ready)
{
    if (op->kind != IO_OPEN)
        op->flags |= IO_OP_SETTLED;
    op->result = raw;
    list_remove(&op->link);
    list_push_back(ready, &op->link);
}

#define IO_OP_OF_LINK(node) CONTAINER_OF(node, struct io_op, link)

/* ---- partial transfers ---- */

static inline void *io_op_rest(const struct io_op *op)
{
    return (uint8_t *)op->buf + op->progress;
}

/* Bytes of the next transfer. A short one stays block-aligned where it can, as the kernel's do. */
static inline uint32_t io_op_rest_len(const struct io_op *op)
{
    uint32_t left = op->len - op->progress;
    if (LIKELY(!(op->flags & IO_OP_SHORT)) || left < 2)
        return left;
    return left >= 1024 ? left / 2 & ~511u : left / 2;
}

/* Counts a transfer of a send, read or write. Returns true when it goes on with the rest; otherwise
 * *raw is the operation's end. */
static inline bool io_op_advance(struct io_op *op, int32_t *raw)
{
    op->flags &= ~IO_OP_SHORT;
    if (*raw == -EINTR && !(op->flags & IO_OP_CANCELING))
        return true;
    if (*raw < 0) {
        /* A direct read that stopped off a block boundary stopped at the end of the file; going on
         * from there is refused. */
        if (op->kind == IO_READ && op->progress > 0 && *raw == -EINVAL)
            *raw = (int32_t)op->progress;
        return false;
    }
    op->progress = *raw > 0 && PLANTED(SHORT_TAKEN) ? op->len : op->progress + (uint32_t)*raw;
    if (op->progress<op->len && * raw> 0) {
        *raw = -ECANCELED;
        return !(op->flags & IO_OP_CANCELING);
    }
    /* Nothing more: the end of a file, or a device that takes nothing and does not say why. */
    *raw = op->kind == IO_READ || op->progress == op->len ? (int32_t)op->progress : -EIO;
    return false;
}

/* A connection that died in the queue is no reason to stop accepting: take the next one. */
static inline bool io_accept_again(int32_t raw)
{
    return raw == -ECONNABORTED || raw == -EPROTO || raw == -EINTR;
}

/* ---- sleep ---- */

#if defined(__SANITIZE_THREAD__)
#define IO_FENCE_UNKNOWN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define IO_FENCE_UNKNOWN 1
#endif
#endif

/* The wait is over, or there was none: producers need not wake. */
static inline void io_awake(struct io *io)
{
#ifdef IO_FENCE_UNKNOWN // io.c says why
    (void)atomic_exchange_explicit(&io->sleeping, 0, memory_order_acq_rel);
#else
    atomic_store_explicit(&io->sleeping, 0, memory_order_relaxed);
#endif
}

#endif
