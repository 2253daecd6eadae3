/* The simulated world: one clock, one scheduler, the processes and their threads, from one seed in one real thread.
 *
 * A thread of a simulated process is a fiber. It runs until it waits: for its I/O (io_poll()), for a condition variable, a
 * semaphore, another thread's end, or for time. Then the world goes on with whichever thread is due first; when all of them
 * wait for later, the clock jumps. A wait takes at least a turn's time (1 us or so, by chance), so threads that are due at
 * the same time run in an order that the seed decides, and nobody spins for ever.
 *
 * Processes die at once, wherever their threads stand: everything they had in memory is gone, what they had on their disk
 * and network is what sim_disk.h and net.h make of it. Threads of process 0 are the test's own: they start and kill the
 * others.
 *
 * The trace is a hash chained over everything that happened in its order and at its time, I/O operations with what they gave
 * and wrote: two runs of a seed are the same when their traces are. */
#ifndef SLUICE_TESTS_WORLD_H
#define SLUICE_TESTS_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/io.h"
#include "base/list.h"
#include "base/random.h"
#include "tests/sim/io_sim.h"

#define WORLD_FOREVER UINT64_MAX

struct net;

struct process {
    struct list link;
    char name[32];
    uint32_t id; // of this life; 0: the test
    bool is_alive;
    bool may_have_ghosts;                       // see net.h
    bool wants_to_end;                          // by itself; it is gone at its next wait
    int exit_status;                            // of one that ended by itself
    void (*on_exit)(void *context, int status); // then; NULL: nobody minds
    void *on_exit_context;
    uint64_t paused_until_ns; // SIGSTOP
    uint64_t power_back_ns;   // if its machine loses power: when it has it again; 0: some time
    struct list threads, ios;
    struct io_sim_files files; // its open descriptors, sockets as well
    struct sim_disk *disk;     // NULL: it has none
    struct random random;      // seeds that its program asks the system for
};

struct thread {
    struct list link; // of its process
    struct process *process;
    struct fiber *fiber;
    void *(*run)(void *argument);
    void *argument;
    uint64_t due_ns;       // WORLD_FOREVER: only for what it waits for
    const void *waits_for; // an address: a condition variable, a semaphore, a thread
    bool was_woken;
    bool is_detached;
};

struct world_options {
    uint64_t seed;
    uint64_t turn_ns_max;     // what a turn of a thread takes at most; 0: 4 us
    uint64_t disk_latency_ns; // what an operation on files takes at most; 0: 200 us
};
void world_set_disk_latency(uint64_t ns_max); // also for what exists

/* There is one at a time. */
void world_begin(const struct world_options *options);
void world_end(void); // kills what is alive

/* Runs until world_stop(), or until nothing will ever happen again. False: that, or the clock has reached until_ns. Thread:
 * none of the simulated. */
bool world_run(uint64_t until_ns);
void world_stop(void);

uint64_t world_now_ns(void);
uint64_t world_wall_ms(void);
void world_wall_jump(int64_t ms); // the wall clock is set; the monotonic one knows nothing of it
uint64_t world_below(uint64_t limit); // the world's own chance
uint64_t world_trace(void);
void world_note(uint64_t what, uint64_t a, uint64_t b); // into the trace
uint64_t world_switches(void);                          // of threads, so far

/* ---- processes ---- */

struct process *process_new(const char *name, struct sim_disk *disk);
enum process_end {
    PROCESS_KILLED, // the machine goes on: the kernel closes its sockets, writes may still reach the disk
    PROCESS_POWER, // the machine as well: its disk keeps what it must, the network hears nothing
};
/* Gone when this returns. Thread: not one of its own. */
void process_end(struct process *process, enum process_end how);
_Noreturn void process_exit(int status); // the calling thread's; does not return
void process_pause(struct process *process, uint64_t until_ns);
struct process *process_current(void); // NULL outside of threads

/* ---- threads ---- */

struct thread *thread_new(struct process *process, void *(*run)(void *argument), void *argument);
struct thread *thread_current(void);
void thread_wait_end(struct thread *thread); // and forgets it

/* Waits until then, or for a wake-up (true) of that address if it is not NULL. */
bool thread_wait(const void *address, uint64_t until_ns);
void thread_sleep(uint64_t ns);
void thread_wake(const void *address, bool all);
/* It is due at that time or before. */
void thread_due(struct thread *thread, uint64_t at_ns);

/* ---- for the I/O of the simulated ---- */

struct io *world_io_new(struct process *process);
struct net *world_net(void);
void world_wake_io(struct io *io, uint64_t at_ns); // its io_poll() looks again then, or before
/* Asked for each operation that starts, on files and sockets, and for what blocks (enum io_sim_call): an errno or IO_SIM_..., or 0. */
typedef int (*world_fault_fn)(struct process *process, const struct io_op *op);
void world_set_fault(world_fault_fn fault);

#endif
