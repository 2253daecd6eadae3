/* base/pool.h */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "base/poison.h"
#include "base/pool.h"
#include "base/random.h"
#include "base/status.h"

#define OBJECT_COUNT 8
#define OBJECT_SIZE 48

static struct pool pool;

static void init_pool(void)
{
    cr_assert_eq(pool_init_heap(&pool, OBJECT_COUNT, OBJECT_SIZE), 0);
}

static void deinit_pool(void)
{
    pool_deinit_heap(&pool);
}

TestSuite(pool, .init = init_pool, .fini = deinit_pool);

Test(pool, gives_each_object_once_and_then_null)
{
    uint8_t *seen[OBJECT_COUNT];
    for (int i = 0; i < OBJECT_COUNT; i++) {
        seen[i] = pool_acquire(&pool);
        cr_assert_not_null(seen[i]);
        for (int j = 0; j < i; j++)
            cr_assert(seen[i] >= seen[j] + OBJECT_SIZE || seen[j] >= seen[i] + OBJECT_SIZE);
        memset(seen[i], i, OBJECT_SIZE);
    }
    cr_assert_null(pool_acquire(&pool));
    cr_assert_eq(pool_used(&pool), OBJECT_COUNT);
    for (int i = 0; i < OBJECT_COUNT; i++)
        cr_assert_eq(seen[i][OBJECT_SIZE - 1], i);
}

Test(pool, the_object_released_last_comes_first)
{
    void *a = pool_acquire(&pool);
    void *b = pool_acquire(&pool);
    pool_release(&pool, a);
    pool_release(&pool, b);
    cr_assert_eq(pool_acquire(&pool), b);
    cr_assert_eq(pool_acquire(&pool), a);
}

Test(pool, keeps_its_low_water_mark)
{
    void *a = pool_acquire(&pool);
    void *b = pool_acquire(&pool);
    void *c = pool_acquire(&pool);
    pool_release(&pool, a);
    pool_release(&pool, b);
    pool_release(&pool, c);
    cr_assert_eq(pool.free_count, OBJECT_COUNT);
    cr_assert_eq(pool.free_count_min, OBJECT_COUNT - 3);
}

Test(pool, objects_from_an_arena_have_its_alignment)
{
    struct arena arena;
    struct pool pages;
    cr_assert_eq(arena_init(&arena, MIB, false), 0);
    (void)arena_alloc(&arena, 1, 1);
    pool_init(&pages, &arena, 10, 5000, 4096);
    cr_assert_eq(pages.object_size, 8192);
    for (int i = 0; i < 10; i++)
        cr_assert_eq((uintptr_t)pool_acquire(&pages) % 4096, 0);
    cr_assert_null(pool_acquire(&pages));
    arena_deinit(&arena);
}

Test(pool, tiny_objects_have_room_for_the_link)
{
    struct pool tiny;
    cr_assert_eq(pool_init_heap(&tiny, 3, 1), 0);
    for (int i = 0; i < 3; i++)
        cr_assert_not_null(pool_acquire(&tiny));
    cr_assert_null(pool_acquire(&tiny));
    pool_deinit_heap(&tiny);
}

Test(pool, more_than_the_address_space_is_no_memory)
{
    struct pool huge;
    cr_assert_eq(pool_init_heap(&huge, UINT32_MAX, SIZE_MAX / 2), E_NO_MEMORY);
#ifndef SLUICE_ASAN // whose allocator ends the process instead of refusing
    cr_assert_eq(pool_init_heap(&huge, 1, SIZE_MAX / 2), E_NO_MEMORY);
#endif
}

Test(pool, a_second_release_is_caught, .signal = SIGABRT)
{
    void *a = pool_acquire(&pool);
    pool_release(&pool, a);
    pool_release(&pool, a);
}

Test(pool, a_second_release_is_caught_under_other_objects, .signal = SIGABRT)
{
    void *a = pool_acquire(&pool);
    void *b = pool_acquire(&pool);
    void *c = pool_acquire(&pool);
    pool_release(&pool, a);
    pool_release(&pool, b);
    pool_release(&pool, c);
    pool_release(&pool, a);
}

Test(pool, an_object_of_another_pool_is_refused, .signal = SIGABRT)
{
    uint64_t other[8];
    pool_release(&pool, other);
}

Test(pool, an_address_inside_an_object_is_refused, .signal = SIGABRT)
{
    uint8_t *a = pool_acquire(&pool);
    pool_release(&pool, a + 16);
}

/* What a peer sends may equal the mark of a free object; that must not stop the broker. */
Test(pool, contents_that_look_free_are_released_all_the_same)
{
    uint64_t *a = pool_acquire(&pool);
    pool_release(&pool, a);
    uint64_t mark;
    unpoison(a, OBJECT_SIZE);
    mark = a[1];
    cr_assert_eq(pool_acquire(&pool), a);
    cr_assert_neq(a[1], mark, "acquire clears the mark");
    a[1] = mark;
    pool_release(&pool, a);
    cr_assert_eq(pool_acquire(&pool), a);
}

#if defined(SLUICE_SLOW_CHECKS) && !defined(SLUICE_ASAN)
Test(pool, released_objects_are_filled_with_ab)
{
    uint8_t *a = pool_acquire(&pool);
    memset(a, 7, OBJECT_SIZE);
    pool_release(&pool, a);
    for (int i = 16; i < OBJECT_SIZE; i++)
        cr_assert_eq(a[i], 0xab);
}

Test(pool, a_write_after_release_is_caught_at_the_next_acquire, .signal = SIGABRT)
{
    uint8_t *a = pool_acquire(&pool);
    pool_release(&pool, a);
    a[OBJECT_SIZE - 1] = 0;
    pool_acquire(&pool);
}
#endif

#ifdef SLUICE_ASAN
Test(pool, released_objects_are_poisoned_from_end_to_end)
{
    uint8_t *a = pool_acquire(&pool);
    cr_assert_null(__asan_region_is_poisoned(a, OBJECT_SIZE));
    pool_release(&pool, a);
    for (int i = 0; i < OBJECT_SIZE; i++)
        cr_assert(__asan_address_is_poisoned(a + i), "byte %d", i);
}
#endif

/* The model: a flag per object. */
Test(pool, agrees_with_flags_on_random_operations)
{
    struct random random;
    random_init(&random, 1);
    void *held[OBJECT_COUNT];
    uint32_t held_count = 0;
    for (int step = 0; step < 20000; step++) {
        if (random_below(&random, 2) == 0) {
            void *object = pool_acquire(&pool);
            cr_assert_eq(object == NULL, held_count == OBJECT_COUNT);
            for (uint32_t i = 0; i < held_count; i++)
                cr_assert_neq(held[i], object);
            if (object != NULL) {
                memset(object, step, OBJECT_SIZE);
                held[held_count++] = object;
            }
        } else if (held_count > 0) {
            uint64_t at = random_below(&random, held_count);
            pool_release(&pool, held[at]);
            held[at] = held[--held_count];
        }
        cr_assert_eq(pool_used(&pool), held_count);
    }
}
