/* The simulated I/O backend: the seam of base/io.h in memory, with its own clock, seeded, faulty.
 *
 * One io_sim is one process's life: its descriptors, its operations in flight, its clock. What
 * survives it is the sim_disk. io_sim_crash() cuts the power: the disk becomes one of its possible
 * images, this io is dead from then on (what was in flight and what is started later ends with
 * CANCELED and changes nothing), and a new io_sim is made for the next life.
 *
 * Operations complete after a random time each, so in random order. fdatasync covers exactly the
 * writes that were delivered before it was started. Buffers are hashed when a write starts and when
 * it ends: whoever touches one in between is found. O_DIRECT demands alignment.
 *
 * An io_sim may be alone, as in tests of storage: then its clock goes on when it is polled, and sockets end with
 * UNSUPPORTED. Or it lives in a world (tests/sim/world) with others: then the world has the clock, a poll lets the others run,
 * and sockets are the world's network. */
#ifndef SLUICE_TESTS_IO_SIM_H
#define SLUICE_TESTS_IO_SIM_H

#include "base/clock.h"
#include "base/io.h"
#include "tests/sim/sim_disk.h"

struct io_sim;

/* What the process of an io_sim has open; several io_sims of one process share it. */
#define IO_SIM_FILES_MAX 4096
#define IO_SIM_FD_BASE 1000 // so that a real descriptor is noticed
struct io_sim_files {
    struct {
        struct sim_file *file;
        void *socket; // the world's
        uint32_t flags;
    } slots[IO_SIM_FILES_MAX];
};
/* A descriptor for a file or a socket, -EMFILE when there is none left. */
int io_sim_files_add(struct io_sim_files *files, struct sim_file *file, void *socket,
                     uint32_t flags);
void io_sim_files_close(struct io_sim_files *files, struct sim_disk *disk); // all files, no socket

/* The world around it. `at` is a time of *now_ns; an operation on a socket is tried when its time has come. */
#define IO_SIM_LATER INT32_MIN
#define IO_SIM_NOTE 30u // of operations and blocking calls, with what was chained of them
struct io_sim_host {
    const uint64_t *now_ns;
    uint64_t (*wall_ms)(void);
    void (*wait)(struct io *io, uint64_t until_ns);             // returns then, or earlier
    void (*wake_at)(struct io *io, uint64_t at_ns);             // makes a wait() end
    void (*socket_start)(struct io *io, struct io_op *op);      // sets its time
    int32_t (*socket_perform)(struct io *io, struct io_op *op); // -errno, or LATER with a new time
    void (*socket_close)(void *socket);
    int (*fault)(struct io *io, const struct io_op *op); // an errno for this operation, or 0
    void (*note)(uint64_t what, uint64_t a, uint64_t b); // into its trace; or NULL
    uint32_t (*outside)(void); // around what needs memory that outlives the process
    void (*inside)(uint32_t owner);
};

/* What blocks is no operation, but the host's fault() is asked for it as if it were one: of kind IO_NONE, with one of these in
 * op->len, and path or descriptor. EWOULDBLOCK is another's lock. */
enum io_sim_call {
    IO_SIM_LIST,
    IO_SIM_MKDIR,
    IO_SIM_FS_INFO,
    IO_SIM_FILE_SIZE,
    IO_SIM_LOCK_FILE,
    IO_SIM_LOCK_FD,
    IO_SIM_ALLOCATE,
    IO_SIM_CALLS
};

/* When an operation is due, and its injected errno. */
static inline uint64_t *io_sim_due(struct io_op *op)
{
    return &op->backend[0];
}
static inline int io_sim_injected(const struct io_op *op)
{
    return (int)op->backend[3];
}

#define IO_SIM_CANCELING (1u << 1) // in op->flags: io_cancel() was called
/* In place of an errno: the first transfer carries half, and the backend has to go on, as the kernel's have; a receive gets a byte. */
#define IO_SIM_SHORT (-1)
#define IO_SIM_STALE (-2) // a read gives what was there before
#define IO_SIM_MISDIRECTED                                                                         \
    (-3) // a read or write goes to another block of the file, and says that it is done

struct io_sim_options {
    uint64_t seed;
    uint64_t latency_ns_max;        // of one operation; default 200 us
    uint64_t start_ns;              // clock at the beginning
    uint64_t wall_ms;               // wall clock at the beginning
    const struct io_sim_host *host; // NULL: alone
    struct io_sim_files *files;     // with a host: its process's
    struct list *siblings;          // with a host: all of its process
};

struct io *io_sim_new(struct sim_disk *disk, const struct io_sim_options *options);
void io_sim_set_latency(struct io *io, uint64_t ns_max); // of what is started from now on
struct clock *io_sim_clock(struct io *io);
uint64_t io_sim_now_ns(struct io *io);
uint64_t io_sim_now_wall_ms(struct io *io);

void io_sim_crash(struct io *io);
/* The same for one of several ios of a process, with or without the power; the disk is the caller's to crash. Afterwards only
 * io_sim_discard() may touch it. */
void io_sim_abandon(struct io *io, bool power);
void io_sim_discard(struct io *io);
struct io *io_sim_of_sibling(struct list *link);
/* The process is killed, the machine goes on: what was in flight reaches the disk or not, nothing
 * else is lost. */
void io_sim_kill(struct io *io);

/* The n-th operation of this kind from now (from 1) up to the last-th fails with os_error; one rule
 * a kind. A write that fails may have changed any of its blocks; an fdatasync that fails
 * loses what it should have covered (sim_file_sync_failed()), and the next one answers 0. */
void io_sim_fail(struct io *io, enum io_kind kind, uint64_t first, uint64_t last, int os_error);
uint64_t io_sim_count(struct io *io, enum io_kind kind); // operations started so far

/* Chained over everything that was started and delivered: kind, file, place, length, result, time, and what was written. The same
 * seed gives the same. */
uint64_t io_sim_trace(struct io *io);

#endif
