/* Checks what a consumer gets against the stamps of `publish --verify`: content, gaps, duplicates.
 *
 * Each run of publish numbers the records of each producer in each partition from 0 on, so along a
 * partition the numbers of one (run, producer) must count up by one. A first number above 0 is fine:
 * retention may have taken the beginning. */
#ifndef SLUICE_BENCH_ENGINE_SEQUENCES_H
#define SLUICE_BENCH_ENGINE_SEQUENCES_H

#include "bench/engine/payload.h"

struct sequence_row {
    uint64_t run;
    uint64_t next;
    uint32_t producer;
    uint32_t partition;
    bool used;
};

struct sequences {
    struct payload pools[2];   // random, compressible
    struct sequence_row *rows; // open addressing
    uint32_t row_count;        // used
    uint32_t capacity;         // power of two

    /* ---- findings ---- */
    uint64_t checked;
    uint64_t damaged; // no stamp, or other content
    uint64_t missing;
    uint64_t duplicates;
    const char *first_damage; // why
    uint32_t first_damage_partition;
    uint64_t first_damage_offset;
};

/* Returns 0, or -1: no memory. */
MUST_USE int sequences_init(struct sequences *sequences);
void sequences_deinit(struct sequences *sequences);

/* Returns 0, or -1: no memory for another producer. */
MUST_USE int sequences_check(struct sequences *sequences, uint32_t partition, uint64_t offset,
                             const void *value, size_t value_bytes);

#endif
