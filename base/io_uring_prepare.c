/* From an operation to its submission entry. Everything that a partial transfer has moved
 * already is left out, so the same function serves the start and each continuation. */
#include "base/io_uring_private.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

static void prepare_sync_dir(struct io_uring_sqe *sqe, struct io_op *op);

void uring_prepare(struct io_uring_sqe *sqe, struct io_op *op)
{
    switch (op->kind) {
    case IO_ACCEPT: /* not O_NONBLOCK: a ring waits by itself, and some calls then give EAGAIN */
        io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
        break;
    case IO_CONNECT:
        io_uring_prep_connect(sqe, op->fd, (struct sockaddr *)op->backend, op->len);
        break;
    case IO_READABLE:
        io_uring_prep_poll_add(sqe, op->fd, POLLIN);
        break;
    case IO_RECV:
        io_uring_prep_recv(sqe, op->fd, op->buf, op->len, 0);
        break;
    case IO_SEND:
        io_uring_prep_send(sqe, op->fd, io_op_rest(op), io_op_rest_len(op),
                           MSG_WAITALL | MSG_NOSIGNAL);
        break;
    case IO_OPEN:
        io_uring_prep_openat(sqe, AT_FDCWD, op->path, (int)op->flags, op->mode);
        break;
    case IO_CLOSE:
        io_uring_prep_close(sqe, op->fd);
        break;
    case IO_READ:
        io_uring_prep_read(sqe, op->fd, io_op_rest(op), io_op_rest_len(op),
                           op->offset + op->progress);
        break;
    case IO_WRITE:
        io_uring_prep_write(sqe, op->fd, io_op_rest(op), io_op_rest_len(op),
                            op->offset + op->progress);
        break;
    case IO_FDATASYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_RENAME:
        io_uring_prep_renameat(sqe, AT_FDCWD, op->path, AT_FDCWD, op->path_to, 0);
        break;
    case IO_UNLINK:
        io_uring_prep_unlinkat(sqe, AT_FDCWD, op->path, 0);
        break;
    case IO_SYNC_DIR:
        prepare_sync_dir(sqe, op);
        break;
    case IO_NONE:
    case IO_TIMER:
        ASSERT(!"a kind that the kernel does not see");
    }
    io_uring_sqe_set_data(sqe, op); // UDATA_OP is 0
}

/* Two steps on the ring, open and fsync, so that the thread never waits for the directory. */
static void prepare_sync_dir(struct io_uring_sqe *sqe, struct io_op *op)
{
    if (op->fd < 0)
        io_uring_prep_openat(sqe, AT_FDCWD, op->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    else
        io_uring_prep_fsync(sqe, op->fd, 0);
}

void uring_prepare_cancel(struct io_uring_sqe *sqe, struct io_op *op)
{
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data64(sqe, UDATA_IGNORE);
}
