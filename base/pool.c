/* Equal objects on a free list, last in first out.
 *
 * A free object holds the list's link and a mark in its first two words; the rest of it is filled
 * with 0xab in builds with slow checks, and poisoned under ASan:
 *
 *     [ next free | address ^ FREE_MARK | ab ab ab ab ... ]
 *
 * The happy path of release is: is it ours, is it free already, push. The mark is what makes the
 * second question cheap. Contents of an object in use may equal it (they may come from a peer), so it
 * is only a suspicion, and walking the list decides. Acquire clears the mark. */
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "base/status.h"

#define FREE_MARK 0x5f656572665f6c70u
#define FILL 0xab
#define HEAP_ALIGNMENT 16
#define POISONED ((uint64_t)(1 * MIB)) // of what was never handed out, from the front

struct free_object {
    struct free_object *next;
    uint64_t mark;
};

static void *acquire_fresh(struct pool *pool);
static void count_acquired(struct pool *pool);
static void *object_at(const struct pool *pool, uint32_t i);
static void set_up(struct pool *pool, uint8_t *objects, uint32_t object_count, size_t object_size);
static bool is_ours(const struct pool *pool, const void *object);
static uint64_t mark_of(const void *object);
static bool is_listed(const struct pool *pool, const void *object);
static void push(struct pool *pool, void *object);
static void fill(struct free_object *object, size_t size);
static bool is_untouched(const struct free_object *object, size_t size);

void pool_init(struct pool *pool, struct arena *arena, uint32_t object_count, size_t object_size,
               size_t alignment)
{
    ASSERT(object_count > 0 && object_size > 0);
    size_t size = align_up(max_u64(object_size, sizeof(struct free_object)), alignment);
    ASSERT(size <= SIZE_MAX / object_count);
    set_up(pool, arena_alloc(arena, size * object_count, alignment), object_count, size);
}

int pool_init_heap(struct pool *pool, uint32_t object_count, size_t object_size)
{
    ASSERT(object_count > 0 && object_size > 0);
    size_t size = align_up(max_u64(object_size, sizeof(struct free_object)), HEAP_ALIGNMENT);
    size_t bytes;
    if (__builtin_mul_overflow(size, object_count, &bytes) || bytes > SIZE_MAX - CACHE_LINE)
        return E_NO_MEMORY;
    uint8_t *objects = aligned_alloc(CACHE_LINE, align_up(bytes, CACHE_LINE));
    if (objects == NULL)
        return E_NO_MEMORY;
    set_up(pool, objects, object_count, size);
    return 0;
}

void pool_deinit_heap(struct pool *pool)
{
    if (pool->objects != NULL)
        unpoison(pool->objects, pool->object_size * pool->object_count);
    free(pool->objects);
    *pool = (struct pool){0};
}

void *pool_acquire(struct pool *pool)
{
    struct free_object *object = pool->free_list;
    if (object == NULL)
        return acquire_fresh(pool);
    unpoison(object, pool->object_size);
    ASSERT(object->mark == mark_of(object)); // else somebody wrote to it after its release
    ASSERT_SLOW(is_untouched(object, pool->object_size));
    pool->free_list = object->next;
    object->mark = 0;
    count_acquired(pool);
    return object;
}

static void *acquire_fresh(struct pool *pool)
{
    if (pool->fresh == pool->object_count)
        return NULL;
    struct free_object *object = object_at(pool, pool->fresh++);
    unpoison(object, pool->object_size);
    object->mark = 0;
    count_acquired(pool);
    return object;
}

static void count_acquired(struct pool *pool)
{
    pool->free_count--;
    if (pool->free_count < pool->free_count_min)
        pool->free_count_min = pool->free_count;
}

void pool_release(struct pool *pool, void *object)
{
    ASSERT(is_ours(pool, object));
    struct free_object *suspect = object;
    unpoison(suspect, sizeof(*suspect)); // so that a second release comes to the assertion
    if (UNLIKELY(suspect->mark == mark_of(suspect)))
        ASSERT(!is_listed(pool, object)); // released twice
    push(pool, object);
}

static void *object_at(const struct pool *pool, uint32_t i)
{
    return pool->objects + (size_t)i * pool->object_size;
}

static void set_up(struct pool *pool, uint8_t *objects, uint32_t object_count, size_t object_size)
{
    *pool = (struct pool){
        .objects = objects,
        .object_size = object_size,
        .object_count = object_count,
        .free_count = object_count,
        .free_count_min = object_count,
    };
    poison(objects, min_u64(object_size * object_count, POISONED)); // see arena.c
}

static bool is_ours(const struct pool *pool, const void *object)
{
    uintptr_t offset = (uintptr_t)object - (uintptr_t)pool->objects;
    return (uintptr_t)object >= (uintptr_t)pool->objects &&
           offset < pool->object_size * pool->fresh && offset % pool->object_size == 0;
}

static uint64_t mark_of(const void *object)
{
    return (uintptr_t)object ^ FREE_MARK;
}

static bool is_listed(const struct pool *pool, const void *object)
{
    const struct free_object *at = pool->free_list;
    for (uint32_t i = 0; i < pool->fresh && at != NULL; i++) {
        if (at == object)
            return true;
        unpoison(at, sizeof(*at));
        const struct free_object *next = at->next;
        poison(at, sizeof(*at));
        at = next;
    }
    return false;
}

static void push(struct pool *pool, void *object)
{
    struct free_object *freed = object;
    fill(freed, pool->object_size);
    freed->next = pool->free_list;
    freed->mark = mark_of(freed);
    pool->free_list = freed;
    pool->free_count++;
    poison(freed, pool->object_size);
}

#ifdef SLUICE_SLOW_CHECKS
static void fill(struct free_object *object, size_t size)
{
    memset(object, FILL, size);
}
#else
static void fill(struct free_object *object, size_t size)
{
}
#endif

/* A write after the release would show between the two words and the end. */
static __attribute__((unused)) bool is_untouched(const struct free_object *object, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)object;
    for (size_t i = sizeof(*object); i < size; i++) {
        if (bytes[i] != FILL)
            return false;
    }
    return true;
}
