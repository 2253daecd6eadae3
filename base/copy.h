/* Memory that no cache holds, such as a ring of buffers larger than any: copying to it, and asking for it in time.
 *
 * A store to a line that isn't there waits for it, and a processor waits for some tens of lines at most: memcpy() of a few
 * KiB then goes at the latency of memory. Here the lines are asked for COPY_AHEAD_BYTES before they are
 * written, also those behind the end, which the next copy of a stream writes (asking for an
 * address that is not mapped is harmless). Numbers: docs/decisions/046. */
#ifndef SLUICE_BASE_COPY_H
#define SLUICE_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

#define COPY_AHEAD_BYTES 2048
#define COPY_COLD_BYTES_MIN 512 // below it memcpy() is as good

/* memcpy(), for a destination that is not in the cache. */
static inline void copy_cold(void *to, const void *from, size_t len)
{
    uint8_t *at = to;
    const uint8_t *source = from;
    for (; len >= CACHE_LINE; len -= CACHE_LINE) {
        __builtin_prefetch(at + COPY_AHEAD_BYTES, 1);
        memcpy(at, source, CACHE_LINE);
        at += CACHE_LINE;
        source += CACHE_LINE;
    }
    memcpy(at, source, len);
}

/* Asks for the lines of [at, at + bytes), which will be touched soon. Any address will do, also none. */
static inline void fetch_lines(const void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += CACHE_LINE)
        __builtin_prefetch((const void *)((uintptr_t)at + i), 1);
}

#endif
