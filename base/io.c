/* The public side of the I/O seam: fills the operation, passes it to the backend, chooses the
 * backend.
 *
 * Injected faults (base/fault.def, IO_*) strike here, in one place for every backend, so that
 * they hit ring operations as well: an operation that shall fail is not started at all; a timer
 * that is due at once takes its place and delivers the error from io_poll(). Nothing of it
 * reaches the disk. A short read or write is started with half of its length, and the backend has
 * to go on with the rest. */
#include "base/io_private.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "base/log.h"

static void start(struct io *io, struct io_op *op, enum io_kind kind, io_done_fn done);
static int injected_error(struct io_op *op);
static void start_failing(struct io *io, struct io_op *op, int os_error);
static void fail_done(struct io_op *op);
static int open_uring(const struct io_options *options, struct io **io_out,
                      struct io_refusal *refusal);
static int refused(const struct io_options *options, const struct io_refusal *refusal,
                   struct io **io_out);
static const char *refusal_hint(int os_error);
static int run(struct io *io, struct io_op *op);
static void run_done(struct io_op *op);

int io_new(const struct io_options *options, struct io **io_out)
{
    struct io_refusal refusal = {0};

    ASSERT(options->ops_max >= 64 && options->ops_max <= 65536);
    ASSERT(options->file_threads <= 64);
    *io_out = NULL;
    if (options->backend == IO_BACKEND_EPOLL)
        return io_epoll_new(options, io_out);
    int status = open_uring(options, io_out, &refusal);
    return status == E_UNSUPPORTED ? refused(options, &refusal, io_out) : status;
}

void io_free(struct io *io)
{
    if (io)
        io->ops->free(io);
}

const char *io_name(const struct io *io)
{
    return io->ops->name;
}

int io_poll(struct io *io, uint64_t timeout_ns)
{
    return io->ops->poll(io, timeout_ns);
}

void io_wake(struct io *io, struct io *from)
{
    /* Who comes after this needs not wake it a second time. */
#ifdef IO_FENCE_UNKNOWN // see below
    (void)atomic_exchange_explicit(&io->sleeping, 0, memory_order_acq_rel);
#else
    atomic_store_explicit(&io->sleeping, 0, memory_order_release);
#endif
    io->ops->wake(io, from);
}

/* A full barrier on both sides. W1: `sleeping` is set before the owner's last look at its rings;
 * W2: the producer's publication comes before its look at `sleeping`. So one of them sees the
 * other. ThreadSanitizer does not know fences; there, read-modify-writes of the one word do it,
 * which would cost every producer a contended cache line. There no plain store may come between two of
 * them, or the later one would not see what came before the earlier. */
#ifdef IO_FENCE_UNKNOWN
void io_prepare_wait(struct io *io)
{
    (void)atomic_exchange(&io->sleeping, 1); // W1
}

bool io_sleeping(struct io *io)
{
    return atomic_fetch_add(&io->sleeping, 0) != 0; // W2
}
#else
void io_prepare_wait(struct io *io)
{
    atomic_store_explicit(&io->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); // W1
}

bool io_sleeping(struct io *io)
{
    atomic_thread_fence(memory_order_seq_cst); // W2
    return atomic_load_explicit(&io->sleeping, memory_order_relaxed) != 0;
}
#endif

/* ---- sockets ---- */

void io_accept(struct io *io, struct io_op *op, int listen_fd, io_done_fn done)
{
    op->fd = listen_fd;
    start(io, op, IO_ACCEPT, done);
}

void io_connect(struct io *io, struct io_op *op, const struct address *address, io_done_fn done)
{
    static_assert(sizeof address->sockaddr <= sizeof op->backend, "the address travels in the op");
    ASSERT(address->len <= sizeof address->sockaddr);
    op->fd = -1;
    op->len = address->len;
    memcpy(op->backend, &address->sockaddr, sizeof address->sockaddr);
    start(io, op, IO_CONNECT, done);
}

void io_readable(struct io *io, struct io_op *op, int fd, io_done_fn done)
{
    op->fd = fd;
    start(io, op, IO_READABLE, done);
}

void io_recv(struct io *io, struct io_op *op, int fd, void *buf, uint32_t len, io_done_fn done)
{
    ASSERT(len > 0 && len <= INT32_MAX);
    op->fd = fd;
    op->buf = buf;
    op->len = len;
    start(io, op, IO_RECV, done);
}

void io_send(struct io *io, struct io_op *op, int fd, const void *buf, uint32_t len,
             io_done_fn done)
{
    ASSERT(len <= INT32_MAX);
    op->fd = fd;
    op->buf = (void *)(uintptr_t)buf; // only read from
    op->len = len;
    start(io, op, IO_SEND, done);
}

/* ---- files ---- */

void io_open(struct io *io, struct io_op *op, const char *path, uint32_t flags, uint32_t mode,
             io_done_fn done)
{
    op->fd = -1;
    op->path = path;
    op->mode = mode;
    op->flags = flags | O_CLOEXEC;
    start(io, op, IO_OPEN, done);
}

void io_close(struct io *io, struct io_op *op, int fd, io_done_fn done)
{
    op->fd = fd;
    start(io, op, IO_CLOSE, done);
}

void io_read(struct io *io, struct io_op *op, int fd, void *buf, uint32_t len, uint64_t offset,
             io_done_fn done)
{
    ASSERT(len <= INT32_MAX && offset <= (uint64_t)INT64_MAX - len);
    op->fd = fd;
    op->buf = buf;
    op->len = len;
    op->offset = offset;
    start(io, op, IO_READ, done);
}

void io_write(struct io *io, struct io_op *op, int fd, const void *buf, uint32_t len,
              uint64_t offset, io_done_fn done)
{
    ASSERT(len <= INT32_MAX && offset <= (uint64_t)INT64_MAX - len);
    op->fd = fd;
    op->buf = (void *)(uintptr_t)buf; // only read from
    op->len = len;
    op->offset = offset;
    start(io, op, IO_WRITE, done);
}

void io_fdatasync(struct io *io, struct io_op *op, int fd, io_done_fn done)
{
    op->fd = fd;
    start(io, op, IO_FDATASYNC, done);
}

void io_rename(struct io *io, struct io_op *op, const char *from, const char *to, io_done_fn done)
{
    op->path = from;
    op->path_to = to;
    start(io, op, IO_RENAME, done);
}

void io_unlink(struct io *io, struct io_op *op, const char *path, io_done_fn done)
{
    op->path = path;
    start(io, op, IO_UNLINK, done);
}

void io_sync_dir(struct io *io, struct io_op *op, const char *path, io_done_fn done)
{
    op->fd = -1;
    op->path = path;
    start(io, op, IO_SYNC_DIR, done);
}

/* ---- time ---- */

void io_timer(struct io *io, struct io_op *op, uint64_t deadline_ns, io_done_fn done)
{
    op->offset = deadline_ns;
    start(io, op, IO_TIMER, done);
}

void io_cancel(struct io *io, struct io_op *op)
{
    switch (op->kind) {
    case IO_ACCEPT:
    case IO_CONNECT:
    case IO_READABLE:
    case IO_RECV:
    case IO_SEND:
    case IO_TIMER:
        io->ops->cancel(io, op);
        break;
    default: // inactive, or a file's
        break;
    }
}

/* ---- blocking ---- */

int io_open_wait(struct io *io, const char *path, uint32_t flags, uint32_t mode)
{
    struct io_op op = {0};
    io_open(io, &op, path, flags, mode, run_done);
    return run(io, &op);
}

int io_close_wait(struct io *io, int fd)
{
    struct io_op op = {0};
    io_close(io, &op, fd, run_done);
    return run(io, &op);
}

int io_read_wait(struct io *io, int fd, void *buf, uint32_t len, uint64_t offset)
{
    struct io_op op = {0};
    io_read(io, &op, fd, buf, len, offset, run_done);
    return run(io, &op);
}

int io_write_wait(struct io *io, int fd, const void *buf, uint32_t len, uint64_t offset)
{
    struct io_op op = {0};
    io_write(io, &op, fd, buf, len, offset, run_done);
    return run(io, &op);
}

int io_fdatasync_wait(struct io *io, int fd)
{
    struct io_op op = {0};
    io_fdatasync(io, &op, fd, run_done);
    return run(io, &op);
}

int io_rename_wait(struct io *io, const char *from, const char *to)
{
    struct io_op op = {0};
    io_rename(io, &op, from, to, run_done);
    return run(io, &op);
}

int io_unlink_wait(struct io *io, const char *path)
{
    struct io_op op = {0};
    io_unlink(io, &op, path, run_done);
    return run(io, &op);
}

int io_sync_dir_wait(struct io *io, const char *path)
{
    struct io_op op = {0};
    io_sync_dir(io, &op, path, run_done);
    return run(io, &op);
}

int io_list(struct io *io, const char *path, io_visit_fn visit, void *context)
{
    return io->ops->list(io, path, visit, context);
}

int io_mkdir(struct io *io, const char *path)
{
    return io->ops->mkdir(io, path);
}

int io_fs_info(struct io *io, const char *path, struct io_fs_info *info)
{
    return io->ops->fs_info(io, path, info);
}

int io_file_size(struct io *io, int fd, uint64_t *size_bytes)
{
    return io->ops->file_size(io, fd, size_bytes);
}

int io_lock_file(struct io *io, const char *path)
{
    return io->ops->lock_file(io, path);
}

static int run(struct io *io, struct io_op *op)
{
    while (io_op_is_active(op))
        (void)io_poll(io, UINT64_MAX);
    return op->result;
}

static void run_done(struct io_op *op)
{
    (void)op; // run() sees that it is no longer active
}

/* ---- starting, and failing on demand ---- */

static void start(struct io *io, struct io_op *op, enum io_kind kind, io_done_fn done)
{
    ASSERT(!io_op_is_active(op));
    list_init(&op->link);
    op->done = done;
    op->magic = IO_OP_MAGIC;
    op->kind = kind;
    op->progress = 0;
    if (kind != IO_OPEN)
        op->flags = 0;
    int os_error = injected_error(op);
    if (UNLIKELY(os_error != 0))
        start_failing(io, op, os_error);
    else
        io->ops->start(io, op);
}

/* The errno that this operation shall end with, or 0. */
static int injected_error(struct io_op *op)
{
    switch (op->kind) {
    case IO_OPEN:
        return fault_check(FAULT_IO_OPEN);
    case IO_READ:
        if (fault_check(FAULT_IO_SHORT_READ) != 0)
            op->flags |= IO_OP_SHORT;
        return fault_check(FAULT_IO_READ);
    case IO_FDATASYNC:
        return fault_check(FAULT_IO_FDATASYNC);
    case IO_RENAME:
        return fault_check(FAULT_IO_RENAME);
    case IO_WRITE:
        if (fault_check(FAULT_IO_SHORT_WRITE) != 0)
            op->flags |= IO_OP_SHORT;
        return fault_check(FAULT_IO_WRITE);
    default:
        return 0;
    }
}

/* Keeps what the timer takes, and the error, in the words of op->backend that timers do not use. */
static void start_failing(struct io *io, struct io_op *op, int os_error)
{
    static_assert(sizeof op->done <= sizeof op->backend[1], "a function's address fits");
    op->backend[1] = (uintptr_t)op->done;
    op->backend[2] = op->offset;
    op->backend[3] = (uint64_t)os_error;
    op->done = fail_done;
    op->kind = IO_TIMER;
    op->offset = 0;
    io->ops->start(io, op);
}

static void fail_done(struct io_op *op)
{
    op->done = (io_done_fn)(uintptr_t)op->backend[1];
    op->offset = op->backend[2];
    op->os_error = (int)op->backend[3];
    op->result = status_from_errno(op->os_error);
    op->done(op);
}

/* ---- choosing the backend ---- */

static int open_uring(const struct io_options *options, struct io **io_out,
                      struct io_refusal *refusal)
{
    int os_error = fault_check(FAULT_IO_RING_REFUSED);
    if (os_error == 0)
        return io_uring_new(options, io_out, refusal);
    *refusal = (struct io_refusal){.step = "io_uring_setup", .os_error = os_error};
    return E_UNSUPPORTED;
}

/* AUTO takes epoll and says so once, however many cores ask; URING gives up. */
static int refused(const struct io_options *options, const struct io_refusal *refusal,
                   struct io **io_out)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;

    if (options->backend == IO_BACKEND_URING) {
        LOG_ERROR("io.uring_refused", LOG_STR("step", refusal->step),
                  LOG_I64("os_error", refusal->os_error),
                  LOG_STR("reason", strerrordesc_np(refusal->os_error)),
                  LOG_STR("hint", refusal_hint(refusal->os_error)));
        return E_UNSUPPORTED;
    }
    if (!atomic_flag_test_and_set(&told))
        LOG_WARN("io.uring_refused", LOG_STR("using", "epoll"), LOG_STR("step", refusal->step),
                 LOG_I64("os_error", refusal->os_error),
                 LOG_STR("reason", strerrordesc_np(refusal->os_error)),
                 LOG_STR("hint", refusal_hint(refusal->os_error)));
    return io_epoll_new(options, io_out);
}

static const char *refusal_hint(int os_error)
{
    switch (os_error) {
    case EPERM:
    case EACCES: /* containers forbid it by default; so does the sysctl */
        return "allow io_uring in the seccomp profile and set kernel.io_uring_disabled=0, "
               "or use --io epoll";
    case ENOSYS:
        return "this kernel was built without io_uring; use --io epoll";
    case ENOMEM: /* before 5.12 rings count as locked memory */
        return "raise the limit on locked memory (ulimit -l), or use --io epoll";
    case EMFILE:
    case ENFILE:
        return "raise the limit on open files (ulimit -n)";
    default:
        return "Linux 5.11 or newer is needed; use --io epoll";
    }
}
