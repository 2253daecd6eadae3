/* The I/O backend on io_uring: one ring per thread, sockets and files alike.
 *
 * The happy path: start() fills a submission entry whose user_data is the operation's address;
 * poll() hands all entries to the kernel and waits, in one system call; each completion that it
 * finds ends an operation or carries it on with the rest (a partial send or write, the next step of
 * a directory sync). Timers are our own heap, and the next deadline bounds the wait.
 *
 * When the submission ring is full, operations wait in `backlog`, in order, and are submitted as
 * soon as entries are free; so starting never fails. When the completion ring is full the kernel
 * keeps the rest (IORING_FEAT_NODROP) and hands it over at the next enter. EBUSY and EAGAIN of an
 * enter mean: reap first, submit again. Errors of single operations arrive as their completions. An
 * enter that fails otherwise means that completions are lost or the ring is broken, and aborts: the
 * log makes that safe.
 *
 * Divisions: backend, submission, waiting, completion, waking. Set-up is in io_uring_setup.c,
 * the entries' contents in io_uring_prepare.c. */
#include "base/io_uring_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static void uring_free(struct io *io);
static void uring_start(struct io *io, struct io_op *op);
static void uring_cancel(struct io *io, struct io_op *op);
static int uring_poll(struct io *io, uint64_t timeout_ns);
static void uring_wake(struct io *io, struct io *from);

static void submit(struct uring *uring, struct io_op *op);
static int open_socket(struct io_op *op);
static bool arm_wake(struct uring *uring);
static bool submit_waiting(struct uring *uring);
static struct io_uring_sqe *get_sqe(struct uring *uring);

static uint64_t wait_budget(struct uring *uring, uint64_t timeout_ns);
static void enter(struct uring *uring, uint64_t wait_ns);
static bool kernel_has_work(struct uring *uring);
static void check_enter(int result);

static int reap(struct uring *uring);
static int complete(struct uring *uring, uint64_t user_data, int32_t raw);
static int deliver_ready(struct uring *uring);
static int deliver_timers(struct uring *uring);
static void deliver(struct uring *uring, struct io_op *op, int32_t raw);
static bool goes_on(struct uring *uring, struct io_op *op, int32_t *raw);
static bool make_blocking(struct io_op *op);
static bool sync_dir_goes_on(struct uring *uring, struct io_op *op, int32_t *raw);
static void close_unwatched(struct uring *uring, int fd);

static void wake_by_eventfd(struct uring *uring);

static const struct io_ops uring_ops = {
    .name = "uring",
    .free = uring_free,
    .start = uring_start,
    .cancel = uring_cancel,
    .poll = uring_poll,
    .wake = uring_wake,
    .list = io_files_list,
    .mkdir = io_files_mkdir,
    .fs_info = io_files_fs_info,
    .file_size = io_files_file_size,
    .lock_file = io_files_lock_file,
};

/* ---- backend ---- */

int io_uring_new(const struct io_options *options, struct io **io_out, struct io_refusal *refusal)
{
    struct uring *uring = aligned_alloc(_Alignof(struct uring), sizeof *uring);
    if (!uring)
        return E_NO_MEMORY;
    memset(uring, 0, sizeof *uring);
    uring->io.ops = &uring_ops;
    uring->owner = pthread_self();
    list_init(&uring->backlog);
    list_init(&uring->cancels);
    list_init(&uring->ready);
    int status = timer_heap_init(&uring->timers, options->ops_max);
    if (status != 0)
        goto fail;
    status = uring_open(uring, options->ops_max, refusal);
    if (status != 0)
        goto fail_timers;
    *io_out = &uring->io;
    return 0;

fail_timers:
    timer_heap_deinit(&uring->timers);
fail:
    free(uring);
    return status;
}

static void uring_free(struct io *io)
{
    struct uring *uring = uring_of(io);

    ASSERT(uring->in_flight == 0);
    uring_close(uring);
    timer_heap_deinit(&uring->timers);
    free(uring);
}

static void uring_start(struct io *io, struct io_op *op)
{
    struct uring *uring = uring_of(io);

    uring->in_flight++;
    if (op->kind == IO_TIMER) {
        if (timer_heap_push(&uring->timers, op) != 0)
            io_op_settle(op, -ENOMEM, &uring->ready);
        return;
    }
    int os_error = op->kind == IO_CONNECT ? open_socket(op) : 0;
    if (os_error != 0)
        io_op_settle(op, -os_error, &uring->ready);
    else
        submit(uring, op);
}

static void uring_cancel(struct io *io, struct io_op *op)
{
    struct uring *uring = uring_of(io);

    if (op->flags & (IO_OP_SETTLED | IO_OP_CANCELING))
        return;
    op->flags |= IO_OP_CANCELING;
    if (op->kind == IO_TIMER) {
        timer_heap_remove(&uring->timers, op);
        io_op_settle(op, -ECANCELED, &uring->ready);
    } else if (list_is_linked(&op->link)) { // in the backlog: the kernel has not seen it
        (void)goes_on(uring, op, &(int32_t){-ECANCELED});
        io_op_settle(op, -ECANCELED, &uring->ready);
    } else {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
        if (sqe)
            uring_prepare_cancel(sqe, op);
        else
            list_push_back(&uring->cancels, &op->link);
    }
}

static int uring_poll(struct io *io, uint64_t timeout_ns)
{
    struct uring *uring = uring_of(io);

    /* The ring's registered descriptor is a number of this thread's; another's would enter its
     * own. */
    ASSERT(pthread_equal(uring->owner, pthread_self()));
    bool all_submitted = arm_wake(uring) && submit_waiting(uring);
    enter(uring, all_submitted ? wait_budget(uring, timeout_ns) : 0);
    io_awake(io);
    int count = reap(uring);
    count += deliver_ready(uring);
    count += deliver_timers(uring);
    return count;
}

/* ---- submission ---- */

static void submit(struct uring *uring, struct io_op *op)
{
    struct io_uring_sqe *sqe =
        list_is_empty(&uring->backlog) ? io_uring_get_sqe(&uring->ring) : NULL;
    if (LIKELY(sqe))
        uring_prepare(sqe, op);
    else
        list_push_back(&uring->backlog, &op->link);
}

/* Returns errno, or 0. */
static int open_socket(struct io_op *op)
{
    int family = ((const struct sockaddr *)op->backend)->sa_family;

    op->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return op->fd < 0 ? errno : 0;
}

/* Keeps one read of wake_fd with the kernel. */
static bool arm_wake(struct uring *uring)
{
    if (LIKELY(uring->wake_armed))
        return true;
    struct io_uring_sqe *sqe = get_sqe(uring);
    if (!sqe)
        return false;
    io_uring_prep_read(sqe, uring->wake_fd, &uring->wake_count, sizeof uring->wake_count, 0);
    io_uring_sqe_set_data64(sqe, UDATA_EVENTFD);
    uring->wake_armed = true;
    return true;
}

/* Submits what had found no slot, in as many rounds as it takes. Returns false when the kernel
 * takes no more before completions are reaped. */
static bool submit_waiting(struct uring *uring)
{
    while (UNLIKELY(!list_is_empty(&uring->cancels) || !list_is_empty(&uring->backlog))) {
        struct io_uring_sqe *sqe = get_sqe(uring);
        if (!sqe)
            return false;
        struct list *node = list_pop_front(&uring->cancels);
        if (node)
            uring_prepare_cancel(sqe, IO_OP_OF_LINK(node));
        else
            uring_prepare(sqe, IO_OP_OF_LINK(list_pop_front(&uring->backlog)));
    }
    return true;
}

static struct io_uring_sqe *get_sqe(struct uring *uring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    if (sqe)
        return sqe;
    check_enter(io_uring_submit(&uring->ring));
    return io_uring_get_sqe(&uring->ring);
}

/* ---- waiting ---- */

static uint64_t wait_budget(struct uring *uring, uint64_t timeout_ns)
{
    uint64_t next_ns = timer_heap_next_ns(&uring->timers);

    if (uring->woken || !list_is_empty(&uring->ready) || io_uring_cq_ready(&uring->ring) > 0)
        return 0;
    if (timeout_ns == 0 || next_ns == UINT64_MAX)
        return timeout_ns;
    uint64_t now_ns = clock_mono_ns(clock_system());
    return next_ns <= now_ns ? 0 : min_u64(timeout_ns, next_ns - now_ns);
}

/* Submits, runs deferred task work and waits for a first completion, in one system call; in none
 * when there is nothing to do. */
static void enter(struct uring *uring, uint64_t wait_ns)
{
    struct io_uring_cqe *cqe;

    uring->woken = false;
    if (wait_ns == 0) {
        if (io_uring_sq_ready(&uring->ring) > 0 || kernel_has_work(uring))
            check_enter(io_uring_submit_and_get_events(&uring->ring));
        return;
    }
    io_prepare_wait(&uring->io);
    if (wait_ns == UINT64_MAX) {
        check_enter(io_uring_submit_and_wait(&uring->ring, 1));
        return;
    }
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(wait_ns / NS_PER_S),
                                        .tv_nsec = (int64_t)(wait_ns % NS_PER_S)};
    check_enter(io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1, &timeout, NULL));
}

static bool kernel_has_work(struct uring *uring)
{
    unsigned flags = __atomic_load_n(uring->ring.sq.kflags, __ATOMIC_RELAXED);
    return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static void check_enter(int result)
{
    switch (result < 0 ? -result : 0) {
    case 0:
    case ETIME:  /* the timeout passed */
    case EINTR:  /* a signal; the caller polls again */
    case EBUSY:  /* completions overflowed: reap, then submit again */
    case EAGAIN: /* the kernel is short of memory for requests: the same */
    case ENOMEM:
        return;
    default: /* EBADR: completions were lost; the others mean that the ring itself is broken */
        LOG_ERROR("io.enter_failed", LOG_I64("os_error", -result),
                  LOG_STR("reason", strerrordesc_np(-result)));
        ASSERT(!"io_uring_enter");
    }
}

/* ---- completion ---- */

/* Only what is there now, so that a turn is bounded. Each entry is given back before its done()
 * runs, since that may poll again. */
static int reap(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    int count = 0;

    for (unsigned left = io_uring_cq_ready(&uring->ring); left > 0; left--) {
        if (io_uring_cq_ready(&uring->ring) == 0 || io_uring_peek_cqe(&uring->ring, &cqe) != 0)
            break;
        uint64_t user_data = cqe->user_data;
        int32_t raw = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        count += complete(uring, user_data, raw);
    }
    return count;
}

/* Returns how many operations ended: 0 or 1. */
static int complete(struct uring *uring, uint64_t user_data, int32_t raw)
{
    void *pointer = (void *)(uintptr_t)(user_data & ~(uint64_t)UDATA_MASK);

    switch (user_data & UDATA_MASK) {
    case UDATA_OP:
        ASSERT(((struct io_op *)pointer)->magic == IO_OP_MAGIC);
        if (goes_on(uring, pointer, &raw)) {
            submit(uring, pointer);
            return 0;
        }
        deliver(uring, pointer, raw);
        return 1;
    case UDATA_EVENTFD:
        uring->wake_armed = false;
        return 0;
    case UDATA_WAKE_FAILED:
        wake_by_eventfd(pointer);
        return 0;
    default:
        return 0;
    }
}

static int deliver_ready(struct uring *uring)
{
    int count = 0;

    /* A done() may add to the list; the bound keeps the turn finite. */
    for (uint32_t left = uring->in_flight; left > 0; left--) {
        struct list *node = list_pop_front(&uring->ready);
        if (!node)
            break;
        deliver(uring, IO_OP_OF_LINK(node), IO_OP_OF_LINK(node)->result);
        count++;
    }
    return count;
}

static int deliver_timers(struct uring *uring)
{
    int count = 0;

    if (uring->timers.count == 0)
        return 0;
    uint64_t now_ns = clock_mono_ns(clock_system());
    for (size_t left = uring->timers.count; left > 0; left--) {
        struct io_op *op = timer_heap_pop_due(&uring->timers, now_ns);
        if (!op)
            break;
        deliver(uring, op, 0);
        count++;
    }
    return count;
}

static void deliver(struct uring *uring, struct io_op *op, int32_t raw)
{
    ASSERT(uring->in_flight > 0);
    uring->in_flight--;
    list_remove(&op->link); // its cancel, if that still waits
    io_op_finish(op, raw);
}

/* Decides after a completion: true submits the operation again, else *raw is its end. */
static bool goes_on(struct uring *uring, struct io_op *op, int32_t *raw)
{
    switch (op->kind) {
    case IO_ACCEPT:
        if (op->flags & IO_OP_CANCELING)
            return false;
        return io_accept_again(*raw) || (*raw == -EAGAIN && make_blocking(op));
    case IO_RECV:
        return *raw == -EINTR && !(op->flags & IO_OP_CANCELING);
    case IO_SEND:
    case IO_READ:
    case IO_WRITE:
        return io_op_advance(op, raw);
    case IO_CONNECT:
        if (*raw < 0)
            close(op->fd);
        else
            *raw = op->fd;
        return false;
    case IO_READABLE:
        *raw = *raw > 0 ? 0 : *raw; // the events; also those of a closed or broken socket
        return false;
    case IO_SYNC_DIR:
        return sync_dir_goes_on(uring, op, raw);
    case IO_CLOSE:
        *raw = *raw == -EINTR ? 0 : *raw; // the descriptor is gone all the same
        return false;
    default:
        return false;
    }
}

/* Before 5.19 an accept on an O_NONBLOCK listener, which address_listen() makes, answers EAGAIN
 * instead of waiting. The flag is of no use to a ring and goes, once. */
static bool make_blocking(struct io_op *op)
{
    if (op->flags & IO_OP_UNBLOCKED)
        return false;
    op->flags |= IO_OP_UNBLOCKED;
    int flags = fcntl(op->fd, F_GETFL);
    return flags >= 0 && fcntl(op->fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

static bool sync_dir_goes_on(struct uring *uring, struct io_op *op, int32_t *raw)
{
    if (op->fd < 0 && *raw >= 0) { // opened; now the fsync
        op->fd = *raw;
        return true;
    }
    if (op->fd >= 0)
        close_unwatched(uring, op->fd);
    return false;
}

static void close_unwatched(struct uring *uring, int fd)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    if (!sqe) { // a directory's descriptor has nothing to write back, so this does not wait either
        close(fd);
        return;
    }
    io_uring_prep_close(sqe, fd);
    io_uring_sqe_set_data64(sqe, UDATA_IGNORE);
}

/* ---- waking ---- */

/* A message costs its sender no system call of its own: it leaves with the sender's next enter. */
static void uring_wake(struct io *io, struct io *from)
{
    struct uring *target = uring_of(io);

    if (from == io) {
        target->woken = true;
        return;
    }
    struct uring *sender = from && from->ops == &uring_ops ? uring_of(from) : NULL;
    bool by_message = sender && sender->has_msg_ring && sender->skips_success;
    struct io_uring_sqe *sqe = by_message ? io_uring_get_sqe(&sender->ring) : NULL;
    if (!sqe) {
        wake_by_eventfd(target);
        return;
    }
    io_uring_prep_msg_ring(sqe, target->ring.ring_fd, 0, UDATA_WOKEN, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
    io_uring_sqe_set_data64(sqe, (uintptr_t)target | UDATA_WAKE_FAILED);
}

static void wake_by_eventfd(struct uring *uring)
{
    uint64_t one = 1;

    while (write(uring->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}
