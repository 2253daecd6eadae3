/* One mapping, cut from the front, never given back before the end.
 *
 * The happy path is: map size + 2 MiB, give back what lies outside the aligned part, ask for huge
 * pages, bring them in a little at a time. It can fail when there isn't enough address space or, without touching,
 * never: a machine that overcommits kills later, which is why the broker touches, in its first idle moments. Huge pages are a
 * wish; without them the arena works and is slower.
 *
 * Under ASan what lies behind the last allocation is poisoned, so running over its end is found. Not
 * all that was not handed out: the shadow of a hundred megabytes costs more to write than a test's
 * whole life. */
#include "base/arena.h"

#include <sys/mman.h>

#include "base/poison.h"
#include "base/status.h"

#define HUGE_PAGE (2 * MIB)
#define PAGE 4096
#define TOUCH_BYTES HUGE_PAGE
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 // Linux 5.14
#endif
#define POISONED ((size_t)(64 * KIB)) // behind the last allocation

static uint8_t *map_aligned(size_t size);
static bool bring(uint8_t *at, size_t size);
static void touch_pages(uint8_t *base, size_t size);
static void poison_rest(const struct arena *arena);

int arena_init(struct arena *arena, size_t size, bool touch)
{
    ASSERT(size > 0);
    if (size > SIZE_MAX - 2 * HUGE_PAGE)
        return E_NO_MEMORY;
    size = align_up(size, HUGE_PAGE);
    uint8_t *base = map_aligned(size);
    if (base == NULL)
        return E_NO_MEMORY;
    (void)madvise(base, size, MADV_HUGEPAGE);
    *arena = (struct arena){.base = base, .size = size, .touched = size};
    if (touch && bring(base, TOUCH_BYTES))
        arena->touched = TOUCH_BYTES;
    else if (touch)
        touch_pages(base, size);
    poison_rest(arena);
    return 0;
}

bool arena_touch(struct arena *arena)
{
    if (arena->touched == arena->size)
        return false;
    bool is_there = bring(arena->base + arena->touched, TOUCH_BYTES);
    arena->touched = is_there ? arena->touched + TOUCH_BYTES : arena->size;
    return true;
}

void arena_deinit(struct arena *arena)
{
    if (arena->base != NULL) {
        unpoison(arena->base, arena->size); // the addresses may be mapped again
        ASSERT(munmap(arena->base, arena->size) == 0);
    }
    *arena = (struct arena){0};
}

void *arena_alloc(struct arena *arena, size_t size, size_t alignment)
{
    ASSERT(!arena->sealed);
    ASSERT(alignment > 0 && (alignment & (alignment - 1)) == 0 && alignment <= HUGE_PAGE);
    size_t start = align_up(arena->used, alignment);
    ASSERT(start <= arena->size && size <= arena->size - start);
    arena->used = start + size;
    unpoison(arena->base + start, size < POISONED ? size : POISONED);
    poison_rest(arena);
    return arena->base + start;
}

void arena_seal(struct arena *arena)
{
    arena->sealed = true;
}

/* mmap() aligns to 4 KiB only: take one huge page more and return both ends. */
static uint8_t *map_aligned(size_t size)
{
    size_t mapped_size = size + HUGE_PAGE;
    uint8_t *mapped =
        mmap(NULL, mapped_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    size_t before = align_up((uintptr_t)mapped, HUGE_PAGE) - (uintptr_t)mapped;
    size_t after = mapped_size - before - size;
    if (before > 0)
        ASSERT(munmap(mapped, before) == 0);
    if (after > 0)
        ASSERT(munmap(mapped + before + size, after) == 0);
    return mapped + before;
}

/* As if each page had been written to, but nothing is. */
static bool bring(uint8_t *at, size_t size)
{
    return madvise(at, size, MADV_POPULATE_WRITE) == 0;
}

/* A write to each small page: huge pages may not have been granted. Volatile, or the compiler would
 * see that zero over zero is no change. */
static void touch_pages(uint8_t *base, size_t size)
{
    for (size_t at = 0; at < size; at += PAGE)
        *(volatile uint8_t *)(base + at) = 0;
}

static void poison_rest(const struct arena *arena)
{
    size_t left = arena->size - arena->used;
    poison(arena->base + arena->used, left < POISONED ? left : POISONED);
}
