/* Making and checking of values. */
#include "bench/engine/content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

#define SEED 7 // the same pool in every process

static void fill_random(uint8_t *pool, size_t size);
static void fill_lines(uint8_t *pool, size_t size);

int content_init(struct content *content, uint64_t value_bytes, bool is_compressible)
{
    uint64_t slot_bytes = align_up(max_u64(value_bytes, 1), CACHE_LINE);
    uint64_t slot_count = max_u64(2, CONTENT_POOL_BYTES / slot_bytes);
    *content = (struct content){.pool = malloc(slot_bytes * slot_count),
                                .value_bytes = value_bytes,
                                .slot_bytes = slot_bytes,
                                .slot_count = slot_count,
                                .is_compressible = is_compressible};
    if (content->pool == NULL)
        return -1;
    (is_compressible ? fill_lines : fill_random)(content->pool, slot_bytes * slot_count);
    return 0;
}

void content_deinit(struct content *content)
{
    free(content->pool);
    *content = (struct content){.pool = NULL};
}

bool content_verify(const struct content pools[2], const uint8_t *value, size_t value_bytes,
                    struct stamp *stamp, const char **why)
{
    size_t stamped = stamp_bytes(value_bytes);
    *why = "no stamp: sluice-bench did not publish it";
    if (value == NULL || value_bytes < STAMP_BYTES_MIN)
        return false;
    *stamp = (struct stamp){.due_ns = le64_make(0)};
    memcpy(stamp, value, stamped);
    if (stamp->magic != STAMP_MAGIC || (stamp->flags & ~STAMP_COMPRESSIBLE) != 0)
        return false;
    const struct content *pool = &pools[stamp->flags & STAMP_COMPRESSIBLE];
    *why = "larger than any value that sluice-bench makes";
    if (value_bytes > pool->value_bytes)
        return false;
    uint64_t slot_bytes = align_up(value_bytes, CACHE_LINE);
    uint64_t slot = le64_get(stamp->sequence) % max_u64(2, CONTENT_POOL_BYTES / slot_bytes);
    *why = "its content is not what was published";
    return memcmp(value + stamped, pool->pool + slot * slot_bytes + stamped,
                  value_bytes - stamped) == 0;
}

static void fill_random(uint8_t *pool, size_t size)
{
    struct random random;
    random_init(&random, SEED);
    for (size_t at = 0; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t word = random_u64(&random);
        memcpy(pool + at, &word, sizeof(word));
    }
}

/* Few words, changing numbers: what logs look like to a compressor. */
static void fill_lines(uint8_t *pool, size_t size)
{
    static const char *const levels[] = {"INFO", "WARN", "DEBUG"};
    static const char *const places[] = {"orders", "payment.gateway", "session", "inventory"};
    struct random random;
    char line[160];
    random_init(&random, SEED);
    for (size_t at = 0; at < size;) {
        int length =
            snprintf(line, sizeof(line),
                     "time=2026-01-01T00:00:%02u.%06uZ level=%s place=%s id=%08x took_us=%u\n",
                     random_u32(&random) % 60, random_u32(&random) % 1000000,
                     levels[random_u32(&random) % ARRAY_COUNT(levels)],
                     places[random_u32(&random) % ARRAY_COUNT(places)], random_u32(&random),
                     random_u32(&random) % 5000);
        size_t part = min_u64((uint64_t)length, size - at);
        memcpy(pool + at, line, part);
        at += part;
    }
}
