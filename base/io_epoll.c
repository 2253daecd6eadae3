/* The I/O backend on epoll and a few threads, for where the kernel refuses io_uring.
 *
 * The happy path: start() only queues; poll() tries each socket operation at once, non-blocking,
 * which under load is all it takes; what has to wait is parked at its descriptor. File operations
 * go to the threads of file_pool.c. Then one wait, then parked operations whose descriptors have
 * become ready are tried again, and all that ended is delivered.
 *
 * Descriptors are registered edge-triggered, once, when something first has to wait on them: since
 * every operation is tried before it is parked, an edge that nobody waited for needs no memory, and
 * no operation costs an epoll_ctl (one-shot would cost one each). The price: a descriptor closed
 * behind our back stays "registered", hence the rule in io.h that it is closed here.
 *
 * It fails like the ring: starting never does; the errors of a call are its operation's result. */
#include "base/io_private.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd_table.h"
#include "base/file_pool.h"
#include "base/io_epoll_try.h"
#include "base/timer_heap.h"

#define EVENTS_PER_WAIT 256
#define FILE_THREADS_DEFAULT 4

struct epoll {
    struct io io; // other threads look at this line

    /* ---- owner ---- */
    _Alignas(CACHE_LINE) int epoll_fd;
    int wake_fd;              // eventfd, edge-triggered too: it is never read
    pthread_t owner;          // made it, and is the only one that polls it
    bool woken;               // the next poll shall not wait
    bool waits_in_ms;         // epoll_pwait2() is missing
    uint32_t in_flight;       // started and not yet delivered
    struct list started;      // not yet tried, in order
    struct list ready;        // ended; result is raw, done() is missing
    struct timer_heap timers; // offset is the deadline
    struct fd_table fds;
    struct file_pool files;
};

static void epoll_free(struct io *io);
static void epoll_start(struct io *io, struct io_op *op);
static void epoll_cancel(struct io *io, struct io_op *op);
static int epoll_poll(struct io *io, uint64_t timeout_ns);
static void epoll_wake(struct io *io, struct io *from);

static int open_descriptors(struct epoll *epoll);
static void close_descriptors(struct epoll *epoll);

static void try_started(struct epoll *epoll);
static void try_socket(struct epoll *epoll, struct io_op *op);
static int32_t park(struct epoll *epoll, struct io_op *op);
static int32_t register_fd(struct epoll *epoll, struct fd_entry *entry, int fd);
static bool try_close(struct epoll *epoll, struct io_op *op);
static void end_parked(struct epoll *epoll, struct list *parked);
static void settle(struct epoll *epoll, struct io_op *op, int32_t raw);

static void wait_for_events(struct epoll *epoll, uint64_t timeout_ns);
static uint64_t wait_budget(struct epoll *epoll, uint64_t timeout_ns);
static int wait_in_kernel(struct epoll *epoll, struct epoll_event *events, uint64_t wait_ns);
static void on_event(struct epoll *epoll, const struct epoll_event *event);
static void try_parked(struct epoll *epoll, struct list *parked);
static void take_due_timers(struct epoll *epoll);
static int deliver_ready(struct epoll *epoll);

static const struct io_ops epoll_ops = {
    .name = "epoll",
    .free = epoll_free,
    .start = epoll_start,
    .cancel = epoll_cancel,
    .poll = epoll_poll,
    .wake = epoll_wake,
    .list = io_files_list,
    .mkdir = io_files_mkdir,
    .fs_info = io_files_fs_info,
    .file_size = io_files_file_size,
    .lock_file = io_files_lock_file,
};

static inline struct epoll *epoll_of(struct io *io)
{
    return CONTAINER_OF(io, struct epoll, io);
}

/* ---- backend ---- */

int io_epoll_new(const struct io_options *options, struct io **io_out)
{
    struct epoll *epoll = aligned_alloc(_Alignof(struct epoll), sizeof *epoll);
    if (!epoll)
        return E_NO_MEMORY;
    memset(epoll, 0, sizeof *epoll);
    epoll->io.ops = &epoll_ops;
    epoll->owner = pthread_self();
    list_init(&epoll->started);
    list_init(&epoll->ready);
    int status = open_descriptors(epoll);
    if (status != 0)
        goto fail;
    status = timer_heap_init(&epoll->timers, options->ops_max);
    if (status != 0)
        goto fail_descriptors;
    uint32_t threads = options->file_threads > 0 ? options->file_threads : FILE_THREADS_DEFAULT;
    status = file_pool_init(&epoll->files, &epoll->io, threads);
    if (status != 0)
        goto fail_timers;
    *io_out = &epoll->io;
    return 0;

fail_timers:
    timer_heap_deinit(&epoll->timers);
fail_descriptors:
    close_descriptors(epoll);
fail:
    free(epoll);
    return status;
}

static void epoll_free(struct io *io)
{
    struct epoll *epoll = epoll_of(io);

    ASSERT(epoll->in_flight == 0);
    file_pool_deinit(&epoll->files);
    timer_heap_deinit(&epoll->timers);
    fd_table_deinit(&epoll->fds);
    close_descriptors(epoll);
    free(epoll);
}

static int open_descriptors(struct epoll *epoll)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    epoll->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll->epoll_fd < 0)
        return status_from_errno(errno);
    epoll->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll->wake_fd < 0)
        goto fail;
    event.data.fd = epoll->wake_fd;
    if (epoll_ctl(epoll->epoll_fd, EPOLL_CTL_ADD, epoll->wake_fd, &event) == 0)
        return 0;
    close(epoll->wake_fd);
fail:
    close(epoll->epoll_fd);
    return status_from_errno(errno);
}

static void close_descriptors(struct epoll *epoll)
{
    close(epoll->wake_fd);
    close(epoll->epoll_fd);
}

static void epoll_start(struct io *io, struct io_op *op)
{
    struct epoll *epoll = epoll_of(io);

    epoll->in_flight++;
    if (op->kind != IO_TIMER)
        list_push_back(&epoll->started, &op->link);
    else if (timer_heap_push(&epoll->timers, op) != 0)
        io_op_settle(op, -ENOMEM, &epoll->ready);
}

static void epoll_cancel(struct io *io, struct io_op *op)
{
    struct epoll *epoll = epoll_of(io);

    if (op->flags & IO_OP_SETTLED)
        return;
    if (op->kind == IO_TIMER)
        timer_heap_remove(&epoll->timers, op);
    settle(epoll, op, -ECANCELED);
}

static int epoll_poll(struct io *io, uint64_t timeout_ns)
{
    struct epoll *epoll = epoll_of(io);

    ASSERT(pthread_equal(epoll->owner, pthread_self())); // a ring would demand it
    try_started(epoll);
    wait_for_events(epoll, timeout_ns);
    file_pool_take_done(&epoll->files, &epoll->ready);
    take_due_timers(epoll);
    return deliver_ready(epoll);
}

/* The counter of the eventfd is never read: every write is an edge, also on a counter above
 * zero. */
static void epoll_wake(struct io *io, struct io *from)
{
    struct epoll *epoll = epoll_of(io);
    uint64_t one = 1;

    if (from == io) {
        epoll->woken = true;
        return;
    }
    while (write(epoll->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

/* ---- trying ---- */

static void try_started(struct epoll *epoll)
{
    struct list for_threads;
    struct list *node;

    list_init(&for_threads);
    while ((node = list_pop_front(&epoll->started))) {
        struct io_op *op = IO_OP_OF_LINK(node);
        switch (op->kind) {
        case IO_ACCEPT:
        case IO_CONNECT:
        case IO_READABLE:
        case IO_RECV:
        case IO_SEND:
            try_socket(epoll, op);
            break;
        default:
            if (op->kind != IO_CLOSE || !try_close(epoll, op))
                list_push_back(&for_threads, node);
            break;
        }
    }
    if (!list_is_empty(&for_threads))
        file_pool_submit(&epoll->files, &for_threads);
}

static void try_socket(struct epoll *epoll, struct io_op *op)
{
    int32_t raw = io_epoll_try(op);
    if (raw == MUST_WAIT)
        raw = park(epoll, op);
    if (raw != MUST_WAIT)
        settle(epoll, op, raw);
}

/* Leaves op at its descriptor. Returns MUST_WAIT, or -errno when that is impossible. */
static int32_t park(struct epoll *epoll, struct io_op *op)
{
    struct fd_entry *entry = fd_table_get(&epoll->fds, op->fd);
    if (!entry)
        return op->fd < 0 ? -EBADF : -ENOMEM;
    if (!entry->is_registered) {
        int32_t raw = register_fd(epoll, entry, op->fd);
        if (raw < 0)
            return raw;
    }
    bool is_writer = op->kind == IO_SEND || op->kind == IO_CONNECT;
    list_push_back(is_writer ? &entry->writers : &entry->readers, &op->link);
    return MUST_WAIT;
}

/* What became ready since the try is reported as the first edge. */
static int32_t register_fd(struct epoll *epoll, struct fd_entry *entry, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};

    if (epoll_ctl(epoll->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST)
        return -errno;
    entry->is_registered = true;
    return 0;
}

/* Closes what epoll knows, which are sockets: that does not wait. Returns false for other
 * descriptors: the last close of a file may have to free its blocks, so a thread does it. */
static bool try_close(struct epoll *epoll, struct io_op *op)
{
    struct fd_entry *entry = fd_table_find(&epoll->fds, op->fd);
    if (!entry || !entry->is_registered)
        return false;
    end_parked(epoll, &entry->readers);
    end_parked(epoll, &entry->writers);
    entry->is_registered = false;
    int32_t raw = close(op->fd) == 0 || errno == EINTR ? 0 : -errno;
    io_op_settle(op, raw, &epoll->ready);
    return true;
}

static void end_parked(struct epoll *epoll, struct list *parked)
{
    while (!list_is_empty(parked))
        settle(epoll, IO_OP_OF_LINK(parked->next), -ECANCELED);
}

/* Decides the end of an operation. A connection that was not made leaves no socket. */
static void settle(struct epoll *epoll, struct io_op *op, int32_t raw)
{
    if (op->kind == IO_CONNECT && raw < 0 && op->fd >= 0) {
        struct fd_entry *entry = fd_table_find(&epoll->fds, op->fd);
        if (entry)
            entry->is_registered = false;
        close(op->fd);
    }
    io_op_settle(op, raw, &epoll->ready);
}

/* ---- waiting ---- */

static void wait_for_events(struct epoll *epoll, uint64_t timeout_ns)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    uint64_t wait_ns = wait_budget(epoll, timeout_ns);

    if (wait_ns > 0) {
        io_prepare_wait(&epoll->io); // then a last look, for what a file thread finished before
        if (atomic_load_explicit(&epoll->files.done_count, memory_order_relaxed) > 0)
            wait_ns = 0;
    }
    int count = wait_in_kernel(epoll, events, wait_ns);
    io_awake(&epoll->io);
    epoll->woken = false;
    for (int i = 0; i < count; i++)
        on_event(epoll, &events[i]);
}

static uint64_t wait_budget(struct epoll *epoll, uint64_t timeout_ns)
{
    uint64_t next_ns = timer_heap_next_ns(&epoll->timers);

    if (epoll->woken || !list_is_empty(&epoll->ready))
        return 0;
    if (timeout_ns == 0 || next_ns == UINT64_MAX)
        return timeout_ns;
    uint64_t now_ns = clock_mono_ns(clock_system());
    return next_ns <= now_ns ? 0 : min_u64(timeout_ns, next_ns - now_ns);
}

/* Returns the number of events; none when interrupted. */
static int wait_in_kernel(struct epoll *epoll, struct epoll_event *events, uint64_t wait_ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / NS_PER_S),
                               .tv_nsec = (long)(wait_ns % NS_PER_S)};
    int count = -1;

    if (!epoll->waits_in_ms) {
        count = epoll_pwait2(epoll->epoll_fd, events, EVENTS_PER_WAIT,
                             wait_ns == UINT64_MAX ? NULL : &timeout, NULL);
        /* Older than 5.11, or a seccomp filter that does not know the call. */
        epoll->waits_in_ms = count < 0 && (errno == ENOSYS || errno == EPERM);
    }
    if (epoll->waits_in_ms) {
        uint64_t wait_ms = wait_ns / NS_PER_MS + (wait_ns % NS_PER_MS != 0); // never too early
        int timeout_ms = wait_ns == UINT64_MAX ? -1 : (int)min_u64(wait_ms, INT32_MAX);
        count = epoll_wait(epoll->epoll_fd, events, EVENTS_PER_WAIT, timeout_ms);
    }
    ASSERT(count >= 0 || errno == EINTR);
    return count < 0 ? 0 : count;
}

static void on_event(struct epoll *epoll, const struct epoll_event *event)
{
    struct fd_entry *entry = fd_table_find(&epoll->fds, event->data.fd);

    if (!entry) // wake_fd, or it was closed since
        return;
    if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        try_parked(epoll, &entry->readers);
    if (event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        try_parked(epoll, &entry->writers);
}

static void try_parked(struct epoll *epoll, struct list *parked)
{
    while (!list_is_empty(parked)) {
        struct io_op *op = IO_OP_OF_LINK(parked->next);
        int32_t raw = op->kind == IO_READABLE ? 0 : io_epoll_try(op); // the event said so
        if (raw == MUST_WAIT)
            return;
        settle(epoll, op, raw);
    }
}

static void take_due_timers(struct epoll *epoll)
{
    struct io_op *op;

    if (epoll->timers.count == 0)
        return;
    uint64_t now_ns = clock_mono_ns(clock_system());
    while ((op = timer_heap_pop_due(&epoll->timers, now_ns)))
        io_op_settle(op, 0, &epoll->ready);
}

/* A done() may add to the list, and may poll; the bound keeps the turn finite. */
static int deliver_ready(struct epoll *epoll)
{
    int count = 0;

    for (uint32_t left = epoll->in_flight; left > 0; left--) {
        struct list *node = list_pop_front(&epoll->ready);
        if (!node)
            break;
        struct io_op *op = IO_OP_OF_LINK(node);
        ASSERT(epoll->in_flight > 0);
        epoll->in_flight--;
        io_op_finish(op, op->result);
        count++;
    }
    return count;
}
