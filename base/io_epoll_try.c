/* The system calls of sockets, one kind of operation each. EINTR repeats, EAGAIN means
 * MUST_WAIT, all other errors end the operation. */
#include "base/io_epoll_try.h"

#include <poll.h>
#include <sys/socket.h>

static int32_t try_accept(struct io_op *op);
static int32_t try_connect(struct io_op *op);
static int32_t begin_connect(struct io_op *op);
static int32_t try_recv(struct io_op *op);
static int32_t try_send(struct io_op *op);
static bool is_ready(int fd, short events);

int32_t io_epoll_try(struct io_op *op)
{
    switch (op->kind) {
    case IO_ACCEPT:
        return try_accept(op);
    case IO_CONNECT:
        return op->flags & IO_OP_STARTED ? try_connect(op) : begin_connect(op);
    case IO_READABLE:
        return is_ready(op->fd, POLLIN) ? 0 : MUST_WAIT;
    case IO_RECV:
        return try_recv(op);
    case IO_SEND:
        return try_send(op);
    default:
        ASSERT(!"not a socket operation");
        return -EINVAL;
    }
}

/* Asks first, since nothing says that the listener is O_NONBLOCK. */
static int32_t try_accept(struct io_op *op)
{
    while (is_ready(op->fd, POLLIN)) {
        int fd = accept4(op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno != EAGAIN && !io_accept_again(-errno))
            return -errno;
    }
    return MUST_WAIT;
}

static int32_t begin_connect(struct io_op *op)
{
    const struct sockaddr *address = (const struct sockaddr *)op->backend;

    op->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (op->fd < 0)
        return -errno;
    op->flags |= IO_OP_STARTED;
    if (connect(op->fd, address, op->len) == 0)
        return op->fd;
    return errno == EINPROGRESS || errno == EINTR ? MUST_WAIT : -errno;
}

/* How did it end? */
static int32_t try_connect(struct io_op *op)
{
    int os_error = 0;
    socklen_t len = sizeof os_error;

    if (!is_ready(op->fd, POLLOUT))
        return MUST_WAIT;
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &os_error, &len) != 0)
        return -errno;
    return os_error == 0 ? op->fd : -os_error;
}

static int32_t try_recv(struct io_op *op)
{
    ssize_t result;

    do {
        result = recv(op->fd, op->buf, op->len, MSG_DONTWAIT);
    } while (result < 0 && errno == EINTR);
    if (result >= 0)
        return (int32_t)result;
    return errno == EAGAIN ? MUST_WAIT : -errno;
}

static int32_t try_send(struct io_op *op)
{
    int32_t raw;

    do {
        ssize_t result =
            send(op->fd, io_op_rest(op), io_op_rest_len(op), MSG_DONTWAIT | MSG_NOSIGNAL);
        raw = result < 0 ? -errno : (int32_t)result;
        if (raw == -EAGAIN)
            return MUST_WAIT;
    } while (io_op_advance(op, &raw));
    return raw;
}

/* Errors and hang-ups count as ready: the call that follows tells them. */
static bool is_ready(int fd, short events)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    return poll(&pollfd, 1, 0) != 0;
}
