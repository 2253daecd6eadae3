/* base/arena.h. Arenas here have one huge page: each test is a process of its own. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/status.h"

static struct arena arena;

static void init_arena(void)
{
    cr_assert_eq(arena_init(&arena, 1, true), 0);
}

static void deinit_arena(void)
{
    arena_deinit(&arena);
}

TestSuite(arena, .init = init_arena, .fini = deinit_arena);

Test(arena, is_rounded_up_and_aligned_to_huge_pages)
{
    cr_assert_eq(arena.size, 2 * MIB);
    cr_assert_eq((uintptr_t)arena.base % (2 * MIB), 0);
    arena_deinit(&arena);
    cr_assert_eq(arena_init(&arena, 2 * MIB + 1, false), 0);
    cr_assert_eq(arena.size, 4 * MIB);
    cr_assert_eq((uintptr_t)arena.base % (2 * MIB), 0);
}

Test(arena, allocations_are_zeroed_aligned_and_apart)
{
    uint8_t *a = arena_alloc(&arena, 3, 1);
    uint8_t *b = arena_alloc(&arena, 100, 64);
    uint8_t *c = arena_alloc(&arena, 4096, 4096);
    cr_assert_eq((uintptr_t)b % 64, 0);
    cr_assert_eq((uintptr_t)c % 4096, 0);
    cr_assert(a + 3 <= b && b + 100 <= c && c + 4096 <= arena.base + arena.size);
    for (int i = 0; i < 4096; i++)
        cr_assert_eq(c[i], 0);
    memset(a, 1, 3);
    memset(b, 2, 100);
    memset(c, 3, 4096);
    cr_assert_eq(a[2], 1);
    cr_assert_eq(b[99], 2);
}

static size_t resident_bytes(const struct arena *of)
{
    static unsigned char pages[64 * MIB / 4096];
    size_t count = 0;
    cr_assert_eq(mincore(of->base, of->size, pages), 0);
    for (size_t i = 0; i < of->size / 4096; i++)
        count += pages[i] & 1;
    return count * 4096;
}

Test(arena, its_pages_come_little_by_little_and_what_is_in_them_stays)
{
    arena_deinit(&arena);
    cr_assert_eq(arena_init(&arena, 64 * MIB, true), 0);
    uint8_t *all = arena_alloc(&arena, 64 * MIB, 1);
    for (size_t at = 0; at < 64 * MIB; at += 1000003)
        all[at] = (uint8_t)(at % 251);
    int steps = 0;
    while (arena_touch(&arena))
        steps++;
    cr_assert(steps == 31 || steps == 0, "%d",
              steps); // 0: the kernel can't, so they were there at once
    cr_assert_eq(resident_bytes(&arena), 64 * MIB);
    for (size_t at = 0; at < 64 * MIB; at += 1000003)
        cr_assert_eq(all[at], (uint8_t)(at % 251));
    arena_deinit(&arena);
    cr_assert_eq(arena_init(&arena, 64 * MIB, false), 0);
    cr_assert_not(arena_touch(&arena));
    cr_assert_leq(resident_bytes(&arena), 2 * MIB);
}

Test(arena, can_be_used_to_its_last_byte)
{
    uint8_t *all = arena_alloc(&arena, 2 * MIB, 2 * MIB);
    all[2 * MIB - 1] = 1;
    cr_assert_eq(arena.used, arena.size);
}

Test(arena, one_byte_too_many_is_a_mistake_of_ours, .signal = SIGABRT)
{
    arena_alloc(&arena, 2 * MIB, 1);
    arena_alloc(&arena, 1, 1);
}

Test(arena, a_size_near_the_largest_number_does_not_wrap, .signal = SIGABRT)
{
    arena_alloc(&arena, 100, 1);
    arena_alloc(&arena, SIZE_MAX - 50, 1);
}

Test(arena, a_sealed_arena_gives_nothing, .signal = SIGABRT)
{
    arena_seal(&arena);
    arena_alloc(&arena, 1, 1);
}

Test(arena, an_alignment_that_is_no_power_of_two_is_refused, .signal = SIGABRT)
{
    arena_alloc(&arena, 1, 48);
}

Test(arena, more_than_the_address_space_is_no_memory)
{
    struct arena huge;
    cr_assert_eq(arena_init(&huge, SIZE_MAX, false), E_NO_MEMORY);
    cr_assert_eq(arena_init(&huge, SIZE_MAX - 4 * MIB, false), E_NO_MEMORY);
    cr_assert_eq(arena_init(&huge, (size_t)1 << 47, false), E_NO_MEMORY);
}

Test(arena, touched_pages_are_resident_and_untouched_ones_are_not)
{
    struct arena lazy;
    cr_assert_eq(arena_init(&lazy, 2 * MIB, false), 0);
    unsigned char resident[512];
    cr_assert_eq(mincore(arena.base, arena.size, resident), 0);
    for (int i = 0; i < 512; i++)
        cr_assert(resident[i] & 1, "page %d", i);
    cr_assert_eq(mincore(lazy.base, lazy.size, resident), 0);
    for (int i = 0; i < 512; i++)
        cr_assert_not(resident[i] & 1, "page %d", i);
    arena_deinit(&lazy);
}

Test(arena, deinit_twice_is_harmless)
{
    arena_deinit(&arena);
    arena_deinit(&arena);
    cr_assert_null(arena.base);
}
