/* base/ring_mpsc.h, with four slots and counts that wrap at once. Threads: ring_mpsc_stress.c. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "base/random.h"
#include "base/ring_mpsc.h"

#define SLOT_COUNT 4

static struct ring_mpsc *ring;

static void new_near_wrap(void)
{
    ring = ring_mpsc_new(SLOT_COUNT, sizeof(uint64_t), UINT64_MAX - 1);
    cr_assert_not_null(ring);
}

static void free_ring(void)
{
    ring_mpsc_free(ring);
}

TestSuite(ring_mpsc, .init = new_near_wrap, .fini = free_ring);

static bool push(uint64_t value)
{
    return ring_mpsc_push(ring, &value);
}

static bool pop(uint64_t *value)
{
    return ring_mpsc_pop(ring, value);
}

Test(ring_mpsc, a_new_ring_is_empty_and_consistent)
{
    uint64_t value = 77;
    cr_assert_not(pop(&value));
    cr_assert_eq(value, 77);
    cr_assert(ring_mpsc_is_empty(ring));
    cr_assert_eq(ring_mpsc_count(ring), 0);
    cr_assert(ring_mpsc_check(ring));
}

Test(ring_mpsc, what_goes_in_comes_out_in_order_across_the_wrap)
{
    uint64_t value;
    for (uint64_t i = 0; i < 3 * SLOT_COUNT; i++) {
        cr_assert(push(i));
        cr_assert(push(100 + i));
        cr_assert(pop(&value));
        cr_assert_eq(value, i);
        cr_assert(pop(&value));
        cr_assert_eq(value, 100 + i);
        cr_assert(ring_mpsc_check(ring));
    }
}

Test(ring_mpsc, full_ring_refuses_a_push_without_side_effect)
{
    uint64_t value;
    for (uint64_t i = 0; i < SLOT_COUNT; i++) {
        cr_assert_eq(ring_mpsc_count(ring), i);
        cr_assert(push(i));
    }
    cr_assert_not(push(99));
    cr_assert_not(push(99));
    cr_assert_eq(ring_mpsc_count(ring), SLOT_COUNT);
    cr_assert(ring_mpsc_check(ring));
    for (uint64_t i = 0; i < SLOT_COUNT; i++) {
        cr_assert(pop(&value));
        cr_assert_eq(value, i);
    }
    cr_assert_not(pop(&value));
}

Test(ring_mpsc, a_full_ring_takes_one_more_after_a_pop)
{
    uint64_t value;
    for (uint64_t i = 0; i < SLOT_COUNT; i++)
        cr_assert(push(i));
    cr_assert(pop(&value));
    cr_assert(push(4));
    cr_assert_not(push(5));
}

Test(ring_mpsc, is_empty_has_no_side_effect)
{
    uint64_t value;
    cr_assert(push(8));
    cr_assert_not(ring_mpsc_is_empty(ring));
    cr_assert_not(ring_mpsc_is_empty(ring));
    cr_assert(pop(&value));
    cr_assert_eq(value, 8);
    cr_assert(ring_mpsc_is_empty(ring));
}

static void random_operations(uint64_t seed, uint32_t slot_size)
{
    struct random random;
    random_init(&random, seed);
    ring_mpsc_free(ring);
    ring = ring_mpsc_new(SLOT_COUNT, slot_size, random_u64(&random));
    uint8_t in[4096], out[4096];
    uint64_t pushed = 0, popped = 0;
    for (int step = 0; step < 1000; step++) {
        if (random_below(&random, 2) == 0) {
            memset(in, (int)(pushed & 0xff), slot_size);
            bool taken = ring_mpsc_push(ring, in);
            cr_assert_eq(taken, pushed - popped < SLOT_COUNT);
            pushed += taken;
        } else {
            bool got = ring_mpsc_pop(ring, out);
            cr_assert_eq(got, pushed > popped);
            memset(in, (int)(popped & 0xff), slot_size);
            cr_assert(!got || memcmp(in, out, slot_size) == 0);
            popped += got;
        }
        cr_assert_eq(ring_mpsc_count(ring), pushed - popped);
        cr_assert_eq(ring_mpsc_is_empty(ring), pushed == popped);
        cr_assert(ring_mpsc_check(ring));
    }
}

/* The model: two numbers, the next to push and the next to pop. */
Test(ring_mpsc, agrees_with_a_counter_on_random_operations)
{
    static const uint32_t sizes[] = {1, 7, 8, 9, 63, 64, 1028, 4096};
    for (uint64_t seed = 1; seed <= 16; seed++)
        random_operations(seed, sizes[seed % ARRAY_COUNT(sizes)]);
}

Test(ring_mpsc, two_slots_and_a_million_slots_work)
{
    static const uint32_t counts[] = {2, 1u << 20};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        ring_mpsc_free(ring);
        ring = ring_mpsc_new(counts[i], sizeof(uint64_t), UINT64_MAX);
        cr_assert_not_null(ring);
        uint64_t value;
        for (uint64_t j = 0; j < counts[i]; j++)
            cr_assert(push(j));
        cr_assert_not(push(0));
        for (uint64_t j = 0; j < counts[i]; j++)
            cr_assert(pop(&value) && value == j);
        cr_assert(ring_mpsc_is_empty(ring));
    }
}

Test(ring_mpsc, a_slot_count_that_is_no_power_of_two_is_refused, .signal = SIGABRT)
{
    ring_mpsc_new(6, 8, 0);
}

Test(ring_mpsc, a_slot_beyond_the_limit_is_refused, .signal = SIGABRT)
{
    ring_mpsc_new(4, 4097, 0);
}

Test(ring_mpsc, freeing_nothing_is_allowed)
{
    ring_mpsc_free(NULL);
    cr_assert(ring_mpsc_check(ring));
}
