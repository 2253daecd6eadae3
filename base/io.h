/* The whole I/O surface of Sluice. Nothing else calls the kernel for sockets or files at run time.
 *
 * One `struct io` per thread. An operation lives in a `struct io_op` that the caller embeds in its
 * own object; it belongs to the backend from the call until `done`, and so do buffer and path.
 * Starting never fails and never calls `done` from inside the call: each started operation
 * completes exactly once, from io_poll(). (A full submission queue is the backend's business.)
 *
 * Backends: io_uring.c; io_epoll.c (epoll for sockets, a small thread pool for files; same
 * guarantees, where the kernel refuses io_uring); tests/sim/io_sim.c (in memory, seeded, faulty).
 *
 * Result of an operation, in op->result when done() runs: >= 0 is a byte count, descriptor or 0;
 * < 0 is a status (base/status.h) and op->os_error keeps errno for the log line.
 *
 * A done() may start operations, also its own op again, and may call io_poll() (so the blocking calls
 * below): the inner poll delivers what the outer one had not yet come to.
 *
 * Durability: io_fdatasync() covers exactly the writes whose done() ran before it was started.
 *
 * Thread: everything here belongs to the thread that calls io_poll(), except io_wake(). */
#ifndef SLUICE_BASE_IO_H
#define SLUICE_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "base/status.h"

struct io;
struct io_op;

typedef void (*io_done_fn)(struct io_op *op);

enum io_kind {
    IO_NONE = 0, // not in flight
    IO_ACCEPT,
    IO_CONNECT,
    IO_READABLE,
    IO_RECV,
    IO_SEND,
    IO_OPEN,
    IO_CLOSE,
    IO_READ,
    IO_WRITE,
    IO_FDATASYNC,
    IO_RENAME,
    IO_UNLINK,
    IO_SYNC_DIR,
    IO_TIMER,
};

#define IO_OP_MAGIC 0x6f49736cu // "lsIo"

struct io_op {
    struct list link;  // backend's queues
    io_done_fn done;   // called once from io_poll(); op may be reused inside
    uint32_t magic;    // IO_OP_MAGIC while in flight: what passes through void * is checked
    enum io_kind kind; // IO_NONE when not in flight
    int32_t result;    // set before done()
    int32_t os_error;  // errno behind a negative result, for the log
    int fd;
    uint32_t flags;    // open flags; of all other kinds the backend's own
    uint32_t mode;     // file mode of io_open()
    uint32_t len;      // bytes asked for
    uint32_t progress; // bytes done so far, when the backend continues a partial send or write
    void *buf;
    const char *path;    // borrowed until done()
    const char *path_to; // rename target, borrowed until done()
    uint64_t offset;     // file offset, or deadline_ns of a timer
    uint64_t backend[4]; // backend's own; of IO_CONNECT the address (its length is in len). A timer
                         // may use only the first word: io.c keeps an injected fault in the others
};

/* True from the start of the operation until just before done(). */
static inline bool io_op_is_active(const struct io_op *op)
{
    return op->kind != IO_NONE;
}

enum io_backend { IO_BACKEND_AUTO = 0, IO_BACKEND_URING, IO_BACKEND_EPOLL };

struct io_options {
    enum io_backend
        backend;      // AUTO: io_uring, and when the kernel refuses it epoll + one warning line
    uint32_t ops_max; // operations in flight at once, 64..65536; sizes the rings
    uint32_t file_threads; // epoll only: threads for file operations, 1..64, 0 = 4
};

/* Makes the backend. Returns 0; UNSUPPORTED when `backend` is URING and the kernel refuses (the log
 * line says why and what to do); NO_MEMORY. The calling thread must be the one that polls. */
MUST_USE int io_new(const struct io_options *options, struct io **io_out);

/* No operation may be in flight. Thread: the one that polls, or any after that one has ended. */
void io_free(struct io *io);

/* "uring", "epoll" or "sim". */
const char *io_name(const struct io *io);

/* Submits what was started, waits up to timeout_ns (0: does not wait, UINT64_MAX: for ever) for a
 * first completion or wake-up, and runs done() of everything complete. Returns how many ran. */
int io_poll(struct io *io, uint64_t timeout_ns);

/* Makes the io_poll() that is waiting now, or the next one, return. `from` is the caller's own io (then
 * io_uring uses MSG_RING, and the message leaves with the caller's next io_poll()), or NULL from a thread
 * without one. Thread: any. Cheap, but a system call: call it only when the target sleeps (see
 * io_sleeping). */
void io_wake(struct io *io, struct io *from);

/* ---- sockets: always non-blocking ---- */

/* Result: the new descriptor (close-on-exec; whether it is O_NONBLOCK is the backend's business, so use
 * it only through this interface). */
void io_accept(struct io *io, struct io_op *op, int listen_fd, io_done_fn done);

/* Connects to a numeric IPv4 or IPv6 address (as from address_parse(); copied). Result: the descriptor. */
struct address;
void io_connect(struct io *io, struct io_op *op, const struct address *address, io_done_fn done);

/* Completes with 0 when fd has bytes to read or was closed: so an idle connection owns no buffer. */
void io_readable(struct io *io, struct io_op *op, int fd, io_done_fn done);

/* Receives 1..len bytes. Result: bytes; 0 when the peer closed its side. */
void io_recv(struct io *io, struct io_op *op, int fd, void *buf, uint32_t len, io_done_fn done);

/* Sends all of buf, however many calls it takes. Result: len, or a status. */
void io_send(struct io *io, struct io_op *op, int fd, const void *buf, uint32_t len,
             io_done_fn done);

/* ---- files ---- */

/* flags: those of open(2); O_CLOEXEC is added. Result: the descriptor. */
void io_open(struct io *io, struct io_op *op, const char *path, uint32_t flags, uint32_t mode,
             io_done_fn done);
/* Every descriptor that an io has worked on is closed through that io. End what is in flight on it
 * first (io_cancel, then io_close at once is in order). */
void io_close(struct io *io, struct io_op *op, int fd, io_done_fn done);

/* Reads up to len bytes at offset; short only at the end of the file. Result: bytes. */
void io_read(struct io *io, struct io_op *op, int fd, void *buf, uint32_t len, uint64_t offset,
             io_done_fn done);

/* Writes all of buf at offset; a short write is continued before done(). Result: len, or a status
 * (then any part may have been written). */
void io_write(struct io *io, struct io_op *op, int fd, const void *buf, uint32_t len,
              uint64_t offset, io_done_fn done);

void io_fdatasync(struct io *io, struct io_op *op, int fd, io_done_fn done);
void io_rename(struct io *io, struct io_op *op, const char *from, const char *to, io_done_fn done);
void io_unlink(struct io *io, struct io_op *op, const char *path, io_done_fn done);

/* Makes the entries of a directory (creates, renames, unlinks) durable. */
void io_sync_dir(struct io *io, struct io_op *op, const char *path, io_done_fn done);

/* ---- time ---- */

/* Completes with 0 at or after deadline_ns (of the monotonic clock). */
void io_timer(struct io *io, struct io_op *op, uint64_t deadline_ns, io_done_fn done);

/* Asks that the operation ends soon; it still completes exactly once, with CANCELED if it was
 * caught. Only for ACCEPT, CONNECT, READABLE, RECV, SEND and TIMER: what touches files always runs
 * to its end. No effect on an inactive op. */
void io_cancel(struct io *io, struct io_op *op);

/* ---- blocking, for start-up, tools and shutdown only: each runs the loop until done ---- */

MUST_USE int io_open_wait(struct io *io, const char *path, uint32_t flags, uint32_t mode);
int io_close_wait(struct io *io, int fd);
MUST_USE int io_read_wait(struct io *io, int fd, void *buf, uint32_t len, uint64_t offset);
MUST_USE int io_write_wait(struct io *io, int fd, const void *buf, uint32_t len, uint64_t offset);
MUST_USE int io_fdatasync_wait(struct io *io, int fd);
MUST_USE int io_rename_wait(struct io *io, const char *from, const char *to);
MUST_USE int io_unlink_wait(struct io *io, const char *path);
MUST_USE int io_sync_dir_wait(struct io *io, const char *path);

/* The directory's entries, without "." and "..", in no order. visit() returns 0 to go on. */
typedef int (*io_visit_fn)(void *context, const char *name, uint64_t size_bytes);
MUST_USE int io_list(struct io *io, const char *path, io_visit_fn visit, void *context);
MUST_USE int io_mkdir(struct io *io, const char *path); // 0 also when it exists as a directory

struct io_fs_info {
    uint64_t total_bytes;
    uint64_t free_bytes; // to unprivileged users
    bool is_memory;      // tmpfs or ramfs: accepts O_DIRECT, survives nothing
    char type[16];       // "ext4", "xfs", "tmpfs", or the magic in hex
};
MUST_USE int io_fs_info(struct io *io, const char *path, struct io_fs_info *info);

MUST_USE int io_file_size(struct io *io, int fd, uint64_t *size_bytes);

/* Takes an exclusive lock on the file (made if missing), held until the descriptor is closed.
 * Result: descriptor, or LOCKED at once (the caller retries). */
MUST_USE int io_lock_file(struct io *io, const char *path);

/* The same lock on a file that is open already. A write of a process that was killed may still be on its way to
 * the device; it holds its open file, and so the lock, until it has ended. Returns 0 or LOCKED. */
int io_lock_fd(struct io *io, int fd);

/* Takes blocks for the file's first size_bytes, and makes it at least so long; what was not written reads as zeros.
 * Returns 0 or NO_SPACE, IO, ... */
MUST_USE int io_allocate(struct io *io, int fd, uint64_t size_bytes);

/* ---- the backend's side: filled by each backend, called by the functions above ---- */

struct io_ops {
    const char *name;
    void (*free)(struct io *io);
    void (*start)(struct io *io, struct io_op *op); // queue op->kind
    void (*cancel)(struct io *io, struct io_op *op);
    int (*poll)(struct io *io, uint64_t timeout_ns);
    void (*wake)(struct io *io, struct io *from);
    int (*list)(struct io *io, const char *path, io_visit_fn visit, void *context);
    int (*mkdir)(struct io *io, const char *path);
    int (*fs_info)(struct io *io, const char *path, struct io_fs_info *info);
    int (*file_size)(struct io *io, int fd, uint64_t *size_bytes);
    int (*lock_file)(struct io *io, const char *path);
    int (*lock_fd)(struct io *io, int fd);                       // NULL: the kernel's flock()
    int (*allocate)(struct io *io, int fd, uint64_t size_bytes); // NULL: posix_fallocate()
};

struct io {
    const struct io_ops *ops;
    _Atomic uint32_t sleeping; // 1 from io_prepare_wait() to the end of the wait, or to a wake
};

/* Sleeping without losing a wake-up. The owner calls io_prepare_wait(), looks at its rings once more, and
 * then calls io_poll(), with timeout 0 if it found something. A producer publishes into the owner's
 * ring, then asks io_sleeping(), and calls io_wake() if that is true. One of the two sees the other:
 * both functions are full barriers. After io_wake() it is false again until the owner's next wait, so of
 * many producers one pays the system call. Thread: owner / any. Wait-free. */
void io_prepare_wait(struct io *io);
bool io_sleeping(struct io *io);

#endif
