/* Pool of equal objects with a LIFO free list: the object used last is warm in the cache, and what was never needed
 * was never touched.
 *
 * An empty pool answers NULL, and NULL means "stop reading", not "fail". Released objects are filled
 * with 0xab in debug and sanitizer builds (poisoned under ASan). Thread: the owner. */
#ifndef SLUICE_BASE_POOL_H
#define SLUICE_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"

struct pool {
    void *free_list; // given back: next pointer in the object's first word
    uint8_t *objects;
    uint32_t fresh;     // from this one on never handed out yet, and so never touched
    size_t object_size; // rounded up to the alignment
    uint32_t object_count;
    uint32_t free_count;
    uint32_t free_count_min; // low-water mark, for metrics
};

/* Takes object_count objects from the arena (aligned as asked: 64 for structs, 4096 for I/O). */
void pool_init(struct pool *pool, struct arena *arena, uint32_t object_count, size_t object_size,
               size_t alignment);
/* The same from the heap, for small control objects. Returns 0 or NO_MEMORY. */
MUST_USE int pool_init_heap(struct pool *pool, uint32_t object_count, size_t object_size);
void pool_deinit_heap(struct pool *pool);

/* Contents are undefined. NULL when empty. */
void *pool_acquire(struct pool *pool);
void pool_release(struct pool *pool, void *object); // asserts that it is one of this pool's

static inline uint32_t pool_used(const struct pool *pool)
{
    return pool->object_count - pool->free_count;
}

#endif
