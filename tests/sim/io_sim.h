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
 * Sockets are not simulated: their operations end with UNSUPPORTED. */
#ifndef SLUICE_TESTS_IO_SIM_H
#define SLUICE_TESTS_IO_SIM_H

#include "base/clock.h"
#include "base/io.h"
#include "tests/sim/sim_disk.h"

struct io_sim;

struct io_sim_options {
    uint64_t seed;
    uint64_t latency_ns_max; // of one operation; default 200 us
    uint64_t start_ns;       // clock at the beginning
    uint64_t wall_ms;        // wall clock at the beginning
};

struct io *io_sim_new(struct sim_disk *disk, const struct io_sim_options *options);
struct clock *io_sim_clock(struct io *io);
uint64_t io_sim_now_ns(struct io *io);
uint64_t io_sim_now_wall_ms(struct io *io);

void io_sim_crash(struct io *io);
/* The process is killed, the machine goes on: what was in flight reaches the disk or not, nothing
 * else is lost. */
void io_sim_kill(struct io *io);

/* The n-th operation of this kind from now (from 1) up to the last-th fails with os_error; one rule
 * a kind. A write that fails may have changed any of its blocks; after an fdatasync that fails,
 * what it should have covered is lost, and the next one answers 0. */
void io_sim_fail(struct io *io, enum io_kind kind, uint64_t first, uint64_t last, int os_error);
uint64_t io_sim_count(struct io *io, enum io_kind kind); // operations started so far

/* Chained over everything that was started and delivered: the same seed gives the same. */
uint64_t io_sim_trace(struct io *io);

#endif
