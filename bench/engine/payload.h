/* What is published: values cut from one pool of bytes that is made before the run, so that making
 * them costs the producers nothing; and the stamp that --verify puts in front of each.
 *
 * The pool is the same in every process (fixed seed). A value's content therefore follows from its
 * stamp, and a consumer can compare all of it. */
#ifndef SLUICE_BENCH_ENGINE_PAYLOAD_H
#define SLUICE_BENCH_ENGINE_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/check.h"

#define PAYLOAD_POOL_BYTES (1 * MIB) // stays in the second-level cache of the producer's core

struct payload {
    uint8_t *pool; // PAYLOAD_POOL_BYTES + the largest value
    uint64_t value_bytes;
    uint64_t at; // of the next value
};

/* In the first 32 bytes of a verified value. */
struct payload_stamp {
    le32 magic;
    le32 flags; // STAMP_COMPRESSIBLE
    le64 run;   // random, one for each run of publish
    le32 producer;
    le32 pool_at;  // where in the pool the rest of the value was cut
    le64 sequence; // of this run and producer in this partition: 0, 1, 2 ...
};
static_assert(sizeof(struct payload_stamp) == 32, "wire");

#define STAMP_MAGIC 0x62534c53u // "SLSb"
#define STAMP_COMPRESSIBLE 1u

/* Random bytes; or compressible: lines of a made-up log. Returns 0, or -1: no memory. */
MUST_USE int payload_init(struct payload *payload, uint64_t value_bytes, bool compressible);
void payload_deinit(struct payload *payload);

/* The next value: value_bytes of the pool, which nobody writes to. Each producer has a struct of its
 * own with a shared pool; `at` moves by whole cache lines. */
static inline const uint8_t *payload_next(struct payload *payload)
{
    const uint8_t *value = payload->pool + payload->at;
    uint64_t next = payload->at + align_up(payload->value_bytes, CACHE_LINE);
    payload->at = next < PAYLOAD_POOL_BYTES ? next : 0;
    return value;
}

/* Copies the next value to `value` and stamps it. value_bytes >= sizeof(struct payload_stamp). */
void payload_stamped(struct payload *payload, uint8_t *value, struct payload_stamp *stamp);

/* True when the value is stamped and holds what its stamp says; pools: one of random and one of
 * compressible bytes. Otherwise *why says what is wrong. */
bool payload_verify(const struct payload pools[2], const uint8_t *value, size_t value_bytes,
                    struct payload_stamp *stamp, const char **why);

#endif
