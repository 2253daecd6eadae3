/* One non-blocking try of a socket operation, for the epoll backend. */
#ifndef SLUICE_BASE_IO_EPOLL_TRY_H
#define SLUICE_BASE_IO_EPOLL_TRY_H

#include "base/io_private.h"

/* What a try says besides a count, a descriptor and -errno: wait for the descriptor, try again. */
#define MUST_WAIT INT32_MIN

/* op is an ACCEPT, CONNECT, READABLE, RECV or SEND. A CONNECT makes its socket at the first try,
 * into op->fd; when it fails, closing that is the caller's. Never blocks, never delivers. */
MUST_USE int32_t io_epoll_try(struct io_op *op);

#endif
