/* The io_uring backend's state. For base/io_uring*.c only. */
#ifndef SLUICE_BASE_IO_URING_PRIVATE_H
#define SLUICE_BASE_IO_URING_PRIVATE_H

#include <liburing.h>
#include <pthread.h>

#include "base/io_private.h"
#include "base/timer_heap.h"

/* What a completion means is in the low bits of its user_data; the rest is a pointer. */
enum {
    UDATA_OP = 0,          // struct io_op
    UDATA_IGNORE = 1,      // cancels, and closes that nobody waits for
    UDATA_WOKEN = 2,       // another ring's message
    UDATA_EVENTFD = 3,     // the standing read of wake_fd
    UDATA_WAKE_FAILED = 4, // struct uring that could not be reached by a message
    UDATA_MASK = 7,
};

struct uring {
    struct io io; // other threads look at this line

    /* ---- owner ---- */
    _Alignas(CACHE_LINE) struct io_uring ring;
    struct list backlog;      // started, waiting for a submission slot
    struct list cancels;      // in flight; their cancel waits for a submission slot
    struct list ready;        // ended without the kernel; result is -errno, done() is missing
    struct timer_heap timers; // offset is the deadline
    uint32_t in_flight;       // started and not yet delivered
    bool wake_armed;          // the read of wake_fd is with the kernel
    bool woken;               // the next poll shall not wait
    bool skips_success;       // IOSQE_CQE_SKIP_SUCCESS is known
    uint64_t wake_count;      // where that read puts what it reads

    /* ---- constant after set-up ---- */
    pthread_t owner;   // made it, and is the only one that polls it
    int wake_fd;       // eventfd, for threads without a ring
    bool has_msg_ring; // rings can be woken by a message
};

/* io_uring_setup.c: from options to a ring that works, and back. */
MUST_USE int uring_open(struct uring *uring, uint32_t ops_max, struct io_refusal *refusal);
void uring_close(struct uring *uring);

/* io_uring_prepare.c: fill an entry for an operation, or for its cancel. */
void uring_prepare(struct io_uring_sqe *sqe, struct io_op *op);
void uring_prepare_cancel(struct io_uring_sqe *sqe, struct io_op *op);

static inline struct uring *uring_of(struct io *io)
{
    return CONTAINER_OF(io, struct uring, io);
}

#endif
