/* What is sent: values of a pool that is made before the run, each with a stamp in front that tells who sent it, as which one of
 * the partition, and when it was due. Every other byte follows from the stamp, so a reader compares all of them.
 *
 * A value lies in a slot of the pool, the slot chosen by its number. Sending copies it, so the stamp is written in place and costs a
 * few stores; the bytes behind it are never changed. A thread has a pool of its own, small enough to stay in the cache, and
 * larger than the window of LZ4, which must not find the slots again. */
#ifndef SLUICE_BENCH_ENGINE_CONTENT_H
#define SLUICE_BENCH_ENGINE_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/check.h"

#define CONTENT_POOL_BYTES (256 * KIB)

struct content {
    uint8_t *pool;
    uint64_t value_bytes;
    uint64_t slot_bytes;
    uint64_t slot_count; // at least 2
    bool is_compressible;
};

struct stamp { // the first 24 bytes of a value; of one that is shorter, the first 16
    uint8_t magic;
    uint8_t flags; // STAMP_COMPRESSIBLE
    le16 producer;
    le32 run;      // random, one for each run of the program
    le64 sequence; // of this run and producer in this partition: 0, 1, 2 ...
    le64 due_ns;   // CLOCK_MONOTONIC; left out of a value that is shorter than 24 bytes
};
static_assert(sizeof(struct stamp) == 24, "wire");

#define STAMP_MAGIC 0x62u // b
#define STAMP_COMPRESSIBLE 1u
#define STAMP_BYTES_MIN 16u // shorter values are not stamped, and not checked
#define PRODUCERS_MAX 65535u

/* Random bytes; or compressible: lines of a made-up log. Returns 0, or -1: no memory. */
MUST_USE int content_init(struct content *content, uint64_t value_bytes, bool is_compressible);
void content_deinit(struct content *content);

static inline bool content_is_stamped(const struct content *content)
{
    return content->value_bytes >= STAMP_BYTES_MIN;
}

static inline size_t stamp_bytes(uint64_t value_bytes)
{
    return value_bytes < sizeof(struct stamp) ? STAMP_BYTES_MIN : sizeof(struct stamp);
}

/* The slot of this number, for who makes another stamp. */
static inline uint8_t *content_slot(struct content *content, uint64_t number)
{
    return content->pool + number % content->slot_count * content->slot_bytes;
}

/* The value of this number. Valid until slot_count others have been made. */
static inline const uint8_t *content_value(struct content *content, const struct stamp *stamp,
                                           uint64_t sequence)
{
    uint8_t *value = content_slot(content, sequence);
    /* Word by word: a stamp that is put together in memory and copied from there is read in larger pieces than it was written
     * in, and that waits for all stores before it. */
    le64 who =
        le64_make(stamp->magic | (uint64_t)stamp->flags << 8 |
                  (uint64_t)le16_get(stamp->producer) << 16 | (uint64_t)le32_get(stamp->run) << 32);
    if (UNLIKELY(!content_is_stamped(content)))
        return value;
    __builtin_memcpy(value, &who, sizeof(who));
    __builtin_memcpy(value + offsetof(struct stamp, sequence), &stamp->sequence, sizeof(le64));
    if (LIKELY(content->value_bytes >= sizeof(struct stamp)))
        __builtin_memcpy(value + offsetof(struct stamp, due_ns), &stamp->due_ns, sizeof(le64));
    return value;
}

/* True when the value is stamped and holds what its stamp says. Otherwise *why tells what is wrong. `pools`: random, and
 * compressible, made with content_init() for values at least as large. */
bool content_verify(const struct content pools[2], const uint8_t *value, size_t value_bytes,
                    struct stamp *stamp, const char **why);

#endif
