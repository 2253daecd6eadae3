/* Making and checking of values. */
#include "bench/engine/payload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

#define SEED 7

static void fill_random(uint8_t *pool, size_t size);
static void fill_lines(uint8_t *pool, size_t size);

int payload_init(struct payload *payload, uint64_t value_bytes, bool compressible)
{
    size_t size = PAYLOAD_POOL_BYTES + align_up(value_bytes, 8);
    *payload = (struct payload){.pool = malloc(size), .value_bytes = value_bytes};
    if (!payload->pool)
        return -1;
    (compressible ? fill_lines : fill_random)(payload->pool, size);
    return 0;
}

void payload_deinit(struct payload *payload)
{
    free(payload->pool);
    *payload = (struct payload){.pool = NULL};
}

void payload_stamped(struct payload *payload, uint8_t *value, struct payload_stamp *stamp)
{
    ASSERT(payload->value_bytes >= sizeof(*stamp));
    stamp->magic = le32_make(STAMP_MAGIC);
    stamp->pool_at = le32_make((uint32_t)payload->at);
    memcpy(value, payload_next(payload), payload->value_bytes);
    memcpy(value, stamp, sizeof(*stamp));
}

bool payload_verify(const struct payload pools[2], const uint8_t *value, size_t value_bytes,
                    struct payload_stamp *stamp, const char **why)
{
    *why = "no stamp: it was not published with --verify";
    if (!value || value_bytes < sizeof(*stamp))
        return false;
    memcpy(stamp, value, sizeof(*stamp));
    uint64_t pool_at = le32_get(stamp->pool_at);
    if (le32_get(stamp->magic) != STAMP_MAGIC || pool_at >= PAYLOAD_POOL_BYTES)
        return false;
    const struct payload *payload = &pools[le32_get(stamp->flags) & STAMP_COMPRESSIBLE];
    *why = "larger than any value that publish makes";
    if (value_bytes > payload->value_bytes)
        return false;
    *why = "its content is not what was published";
    return memcmp(value + sizeof(*stamp), payload->pool + pool_at + sizeof(*stamp),
                  value_bytes - sizeof(*stamp)) == 0;
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
