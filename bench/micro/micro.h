/* Micro-benchmarks: what one operation of a hot path costs, alone, with everything it needs in the cache. They tell where a change went, not
 * how fast a broker is.
 *
 * A case is a table row. run() does `count` operations and returns how many it really did, and the time that counts when
 * not all of it does (0: all of it). */
#ifndef SLUICE_BENCH_MICRO_MICRO_H
#define SLUICE_BENCH_MICRO_MICRO_H

#include <stdint.h>

struct micro_case {
    const char *name;
    const char *unit;  // what an operation is of: record, frame, entry, message, KiB
    int (*open)(void); // 0, or -1: can't run here, after a message
    uint64_t (*run)(uint64_t count, uint64_t *counted_ns);
    void (*close)(void);
};

struct micro_group {
    const char *name;
    const struct micro_case *cases;
    uint32_t case_count;
};

extern const struct micro_group micro_rings, micro_batches, micro_frames, micro_hashes,
    micro_measures, micro_wal;

/* Where micro_wal may make its files. */
extern const char *micro_directory;

/* Keeps a result that nobody uses from being optimised away. */
static inline void micro_use(uint64_t value)
{
    __asm__ volatile("" : : "r"(value) : "memory");
}

#endif
