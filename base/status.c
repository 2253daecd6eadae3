/* Names and texts of status codes, and the one table that turns errno into them.
 *
 * The mapping is by what the caller can do about it, not by what the kernel calls it: everything
 * that ends a connection is CLOSED, everything that waits for room is FULL or NO_SPACE. What is
 * not listed is IO, the one that storage treats as final. */
#include "base/status.h"

#include <errno.h>

const char *status_name(int status)
{
    switch (status) {
    case E_OK:
        return "OK";
#define S(name, number, text)                                                                      \
    case -(number):                                                                                \
        return #name;
#include "base/status.def"
#undef S
    default:
        return "UNKNOWN";
    }
}

const char *status_text(int status)
{
    switch (status) {
    case E_OK:
        return "success";
#define S(name, number, text)                                                                      \
    case -(number):                                                                                \
        return text;
#include "base/status.def"
#undef S
    default:
        return "unknown status";
    }
}

int status_from_errno(int os_error)
{
    switch (os_error) {
    case 0:
        return E_OK;
    case EAGAIN: /* nothing to read or no room to send now; for files: a worker could not be had */
    case EINTR:  /* a signal came first; nothing was done */
    case EINPROGRESS: /* started, not yet finished */
        return E_AGAIN;
    case ENOSPC: /* the file system is full */
    case EDQUOT: /* this user's or project's share of it is */
        return E_NO_SPACE;
    case ENOENT:  /* the file, or a directory of its path */
    case ENOTDIR: /* a component of the path is a file */
        return E_NOT_FOUND;
    case EEXIST:     /* O_EXCL, mkdir */
    case ENOTEMPTY:  /* a rename onto a directory in use */
    case EADDRINUSE: /* another socket listens there */
        return E_EXISTS;
    case EINVAL:        /* also O_DIRECT refused, or unaligned */
    case EBADF:         /* a descriptor that was closed already */
    case EFAULT:        /* a buffer outside of memory */
    case EISDIR:        /* a directory where a file was meant */
    case ENOTSOCK:      /* a file where a socket was meant */
    case ESPIPE:        /* an offset on something that has none */
    case ELOOP:         /* symbolic links in a circle */
    case ENAMETOOLONG:  /* more than NAME_MAX or PATH_MAX */
    case EADDRNOTAVAIL: /* this machine does not have that address */
    case EXDEV:         /* a rename across file systems */
        return E_INVALID;
    case EFBIG:     /* above the file size limit of file system or process */
    case EOVERFLOW: /* does not fit the type that the kernel fills */
    case EMSGSIZE:  /* more than one datagram holds */
        return E_TOO_LARGE;
    case ETIMEDOUT: /* the peer did not answer: connect, keepalive or user timeout */
    case ETIME:     /* a wait ended without an event */
        return E_TIMEOUT;
    case ECANCELED: /* io_cancel() caught it, or the ring went away */
        return E_CANCELED;
    case EPIPE:        /* we wrote after the peer had closed */
    case ECONNRESET:   /* the peer closed with data unread, or was killed */
    case ECONNABORTED: /* it did so before we accepted */
    case ENOTCONN:     /* there is no connection any more */
    case ESHUTDOWN:    /* this side was shut down */
        return E_CLOSED;
    case ENOSYS:          /* the kernel is too old or was built without it */
    case EOPNOTSUPP:      /* this file system or socket cannot do it */
    case EAFNOSUPPORT:    /* no IPv6 here */
    case EPROTONOSUPPORT: /* no TCP of that family here */
        return E_UNSUPPORTED;
    case EBUSY:   /* in use by the kernel or another process */
    case ETXTBSY: /* a running program's file */
    case EDEADLK: /* a lock that would wait for itself */
        return E_LOCKED;
    case ENOMEM:  /* kernel memory, or the limit on locked memory */
    case ENOBUFS: /* no room for socket buffers */
        return E_NO_MEMORY;
    case EMFILE: /* RLIMIT_NOFILE of this process */
    case ENFILE: /* the system's table of open files */
        return E_FULL;
    case EACCES: /* mode bits, or a security module */
    case EPERM:  /* a seccomp filter, an immutable file, or a capability is missing */
    case EROFS:  /* mounted read-only, perhaps by the kernel after an error */
        return E_PERMISSION;
    case ECONNREFUSED: /* nobody listens there */
    case EHOSTUNREACH: /* no way to the host */
    case EHOSTDOWN:
    case ENETUNREACH: /* no way to its network */
    case ENETDOWN:
        return E_CONNECT;
    default: /* EIO, ENXIO, ENODEV, EUCLEAN ...: the device or file system failed */
        return E_IO;
    }
}
