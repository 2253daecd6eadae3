/* Memory for the data path: one mapping of huge pages, taken once, then sealed.
 *
 * O_DIRECT writes of more than one 4 KiB page are up to twice as fast from huge pages (a 1 MiB write is
 * then one segment instead of 256). The mapping is 2 MiB aligned with MADV_HUGEPAGE and is touched
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
    bool sealed;
};

/* size is rounded up to 2 MiB. touch: write to each page now. Returns 0 or NO_MEMORY. */
MUST_USE int arena_init(struct arena *arena, size_t size, bool touch);
void arena_deinit(struct arena *arena);

/* Zeroed bytes, aligned (power of two). Asserts that they fit and that the arena isn't sealed: the
 * size is the sum of the limits, so running out is a programmer's error. */
void *arena_alloc(struct arena *arena, size_t size, size_t alignment);

/* From here on arena_alloc() asserts. */
void arena_seal(struct arena *arena);

#endif
