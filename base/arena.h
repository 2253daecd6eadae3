/* Memory for the data path: one mapping of huge pages, taken once, then sealed.
 *
 * O_DIRECT writes of more than one 4 KiB page are up to twice as fast from huge pages (a 1 MiB write is
 * then one segment instead of 256). The mapping is 2 MiB aligned with MADV_HUGEPAGE and gets its pages
 * at start, so it counts as RSS from the first second: the bound that is printed is what is used. */
#ifndef SLUICE_BASE_ARENA_H
#define SLUICE_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct arena {
    uint8_t *base;
    size_t size;
    size_t used;
    size_t touched; // pages up to here are there, or are not to be asked for
    bool sealed;
};

/* size is rounded up to 2 MiB. touch: pages are to be there before they are used, which takes 20 ms for 100 MiB: the first now, the
 * others with arena_touch(); all of them now where the kernel can't bring pages that may be in use (before Linux 5.14).
 * Returns 0 or NO_MEMORY. */
MUST_USE int arena_init(struct arena *arena, size_t size, bool touch);

/* Brings the next pages, for less than a millisecond, and leaves what is in them. Returns whether there was something to do; what is
 * used before its turn comes at that moment. */
bool arena_touch(struct arena *arena);
void arena_deinit(struct arena *arena);

/* Zeroed bytes, aligned (power of two). Asserts that they fit and that the arena isn't sealed: the
 * size is the sum of the limits, so running out is a programmer's error. */
void *arena_alloc(struct arena *arena, size_t size, size_t alignment);

/* From here on arena_alloc() asserts. */
void arena_seal(struct arena *arena);

#endif
