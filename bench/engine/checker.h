/* Checks while it is measured: what a consumer gets against the stamps that the producers made. Content, loss, duplicates, order.
 *
 * Each run numbers the records of each producer in each partition from 0 on, so along a partition the numbers of one
 * (run, producer) must count up by one. A first number above 0 is fine, unless must_begin_at_0: retention may have taken the beginning.
 *
 * A number that comes behind a larger one is late when numbers of its producer are missing there, and a duplicate when none are. */
#ifndef SLUICE_BENCH_ENGINE_CHECKER_H
#define SLUICE_BENCH_ENGINE_CHECKER_H

#include "bench/engine/content.h"

struct checker_row {
    uint64_t next;
    uint64_t missing; // below next
    uint32_t run;
    uint32_t producer;
    uint32_t partition;
    bool used;
};

struct checker {
    struct content pools[2];  // random, compressible
    struct checker_row *rows; // open addressing
    uint32_t row_count;       // used
    uint32_t capacity;        // power of two
    bool must_begin_at_0;     // this consumer was there first

    /* ---- findings ---- */
    uint64_t checked;
    uint64_t damaged; // no stamp, or other content
    uint64_t missing;
    uint64_t late;
    uint64_t duplicates;
    const char *first_damage; // why
    uint32_t first_damage_partition;
    uint64_t first_damage_offset;
};

/* value_bytes_max: larger ones are damage. Returns 0, or -1: no memory. */
MUST_USE int checker_init(struct checker *checker, uint64_t value_bytes_max);
void checker_deinit(struct checker *checker);

/* Returns 0, or -1: no memory for another producer. *stamp: of the value, when it is sound; else all zero. */
MUST_USE int checker_check(struct checker *checker, uint32_t partition, uint64_t offset,
                           const void *value, size_t value_bytes, struct stamp *stamp);

#endif
