/* The simulator's own memory, and whose memory it is that the simulated programs take.
 *
 * Programs of the simulator are linked so that malloc() and its like, mmap() and munmap() come here first (the link options of
 * sim_program() in tests/CMakeLists.txt). What a thread of a simulated process takes is written down as that process's, so
 * when the process is killed all of it is given back, wherever its threads stood. What the simulator takes for itself, also
 * while a simulated thread calls into it (memory_outside()), belongs to nobody.
 *
 * The same place makes allocations fail on purpose, and knows how much a process has.
 *
 * Thread: one, and others beside it as above. */
#ifndef SLUICE_TESTS_OWN_MEMORY_H
#define SLUICE_TESTS_OWN_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Never NULL; the program ends without memory. */
void *own_calloc(size_t count, size_t size);
void *own_realloc(void *memory, size_t size);
void own_free(void *memory);
void *own_map(size_t bytes); // zeros, page aligned, never unmapped

/* The calling real thread is the world's; what other ones take is nobody's. */
void memory_thread_is_ours(void);

/* Who takes memory from now on: a process's number, or 0 for the simulator. Returns who it was. */
uint32_t memory_owner_set(uint32_t owner);

/* Around what the simulator does on a simulated thread. They nest. */
uint32_t memory_outside(void);
void memory_inside(uint32_t owner); // what memory_outside() returned

/* Gives back all that the owner has. */
void memory_release(uint32_t owner);

struct memory_use {
    uint64_t count;      // allocations ever, the failed ones as well
    uint64_t bytes;      // held now, of malloc() and its like
    uint64_t bytes_peak; // since memory_fail()
    uint64_t mapped;     // held now, of mmap()
};
struct memory_use memory_use(uint32_t owner);

/* Allocations of that owner fail: the first-th from now (from 1) to the last-th. 0: none. Starts counting anew. */
void memory_fail(uint32_t owner, uint64_t first, uint64_t last);
/* From now on what is mapped to be shared with children is not: a child goes on with a copy. */
void memory_share_nothing(bool on);
/* Asked at each allocation of a simulated process: true, and it fails. NULL: nobody is asked. */
void memory_set_fault(bool (*fault)(void));

#endif
