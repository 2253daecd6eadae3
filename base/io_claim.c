/* What is claimed of an open file before it is used: its lock and its blocks. Both block, both are
 * for start-up only, and both kernel backends do them in the same way, so there is no entry for
 * them in the backends' tables; a simulator has its own. */
#include "base/io_private.h"

#include <fcntl.h>
#include <sys/file.h>

int io_lock_fd(struct io *io, int fd)
{
    if (io->ops->lock_fd)
        return io->ops->lock_fd(io, fd);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? E_LOCKED : status_from_errno(errno);
}

int io_allocate(struct io *io, int fd, uint64_t size_bytes)
{
    if (io->ops->allocate)
        return io->ops->allocate(io, fd, size_bytes);
    int os_error; // posix_fallocate() returns it and leaves errno alone
    do
        os_error = posix_fallocate(fd, 0, (off_t)size_bytes);
    while (os_error == EINTR);
    return status_from_errno(os_error);
}
