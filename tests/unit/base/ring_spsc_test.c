/* base/ring_spsc.h, with four slots and counts that wrap at once. Threads: ring_spsc_stress.c. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>

#include "base/random.h"
#include "base/ring_spsc.h"

#define SLOT_COUNT 4
#define SLOT_SIZE 8

static struct ring_spsc ring;
static alignas(CACHE_LINE) uint8_t slots[SLOT_COUNT * SLOT_SIZE];

static void init_near_wrap(void)
{
    ring_spsc_init(&ring, slots, SLOT_COUNT, SLOT_SIZE, UINT64_MAX - 1);
}

TestSuite(ring_spsc, .init = init_near_wrap);

static bool push(uint64_t value)
{
    void *slot = ring_spsc_reserve(&ring);
    if (slot == NULL)
        return false;
    memcpy(slot, &value, sizeof(value));
    ring_spsc_commit(&ring);
    return true;
}

static bool pop(uint64_t *value)
{
    const void *slot = ring_spsc_peek(&ring);
    if (slot == NULL)
        return false;
    memcpy(value, slot, sizeof(*value));
    ring_spsc_release(&ring);
    return true;
}

Test(ring_spsc, a_new_ring_is_empty_and_consistent)
{
    cr_assert_null(ring_spsc_peek(&ring));
    cr_assert_eq(ring_spsc_count(&ring), 0);
    cr_assert(ring_spsc_check(&ring));
}

Test(ring_spsc, what_goes_in_comes_out_in_order_across_the_wrap)
{
    uint64_t value;
    for (uint64_t i = 0; i < SLOT_COUNT; i++)
        cr_assert(push(i));
    for (uint64_t i = 0; i < SLOT_COUNT; i++) {
        cr_assert(pop(&value));
        cr_assert_eq(value, i);
    }
    cr_assert_eq(atomic_load(&ring.tail), 2, "the count has wrapped");
}

Test(ring_spsc, full_ring_refuses_a_reserve_without_side_effect)
{
    for (uint64_t i = 0; i < SLOT_COUNT; i++)
        cr_assert(push(i));
    uint8_t before[sizeof(slots)];
    memcpy(before, slots, sizeof(slots));
    uint64_t tail = atomic_load(&ring.tail);
    cr_assert_null(ring_spsc_reserve(&ring));
    cr_assert_null(ring_spsc_reserve(&ring));
    cr_assert_eq(atomic_load(&ring.tail), tail);
    cr_assert_arr_eq(slots, before, sizeof(slots));
    cr_assert_eq(ring_spsc_count(&ring), SLOT_COUNT);
    cr_assert(ring_spsc_check(&ring));
}

Test(ring_spsc, empty_ring_refuses_a_peek_without_side_effect)
{
    uint64_t value;
    cr_assert(push(1));
    cr_assert(pop(&value));
    uint64_t head = atomic_load(&ring.head);
    cr_assert_null(ring_spsc_peek(&ring));
    cr_assert_null(ring_spsc_peek(&ring));
    cr_assert_eq(atomic_load(&ring.head), head);
    cr_assert(ring_spsc_check(&ring));
}

Test(ring_spsc, a_full_ring_takes_one_more_after_a_release)
{
    uint64_t value;
    for (uint64_t i = 0; i < SLOT_COUNT; i++)
        cr_assert(push(i));
    cr_assert_not(push(99));
    cr_assert(pop(&value));
    cr_assert(push(4));
    cr_assert_not(push(99));
    for (uint64_t i = 1; i <= SLOT_COUNT; i++) {
        cr_assert(pop(&value));
        cr_assert_eq(value, i);
    }
}

Test(ring_spsc, a_reserve_that_is_not_committed_is_not_seen)
{
    void *first = ring_spsc_reserve(&ring);
    cr_assert_not_null(first);
    cr_assert_eq(ring_spsc_reserve(&ring), first);
    cr_assert_null(ring_spsc_peek(&ring));
    cr_assert_eq(ring_spsc_count(&ring), 0);
}

Test(ring_spsc, a_peek_that_is_not_released_gives_the_same_slot)
{
    cr_assert(push(5));
    cr_assert(push(6));
    const void *slot = ring_spsc_peek(&ring);
    cr_assert_eq(ring_spsc_peek(&ring), slot);
    cr_assert_eq(ring_spsc_count(&ring), 2);
}

Test(ring_spsc, check_sees_a_head_that_passed_the_tail)
{
    atomic_store(&ring.head, atomic_load(&ring.tail) + 1);
    cr_assert_not(ring_spsc_check(&ring));
}

Test(ring_spsc, check_sees_more_than_there_is_room_for)
{
    atomic_store(&ring.tail, atomic_load(&ring.head) + SLOT_COUNT + 1);
    cr_assert_not(ring_spsc_check(&ring));
}

Test(ring_spsc, check_sees_cached_counts_that_are_ahead)
{
    ring.tail_cached = atomic_load(&ring.tail) + 1;
    cr_assert_not(ring_spsc_check(&ring));
    init_near_wrap();
    ring.head_cached = atomic_load(&ring.head) + 1;
    cr_assert_not(ring_spsc_check(&ring));
}

/* The model: two numbers, the next to push and the next to pop. Payloads are their positions. */
Test(ring_spsc, agrees_with_a_counter_on_random_operations)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random random;
        random_init(&random, seed);
        ring_spsc_init(&ring, slots, SLOT_COUNT, SLOT_SIZE, random_u64(&random));
        uint64_t pushed = 0, popped = 0, value;
        for (int step = 0; step < 2000; step++) {
            if (random_below(&random, 2) == 0) {
                bool taken = push(pushed);
                cr_assert_eq(taken, pushed - popped < SLOT_COUNT);
                pushed += taken;
            } else {
                bool got = pop(&value);
                cr_assert_eq(got, pushed > popped);
                cr_assert(!got || value == popped);
                popped += got;
            }
            cr_assert_eq(ring_spsc_count(&ring), pushed - popped);
            cr_assert(ring_spsc_check(&ring));
        }
    }
}

Test(ring_spsc, a_slot_count_that_is_no_power_of_two_is_refused, .signal = SIGABRT)
{
    ring_spsc_init(&ring, slots, 3, SLOT_SIZE, 0);
}

Test(ring_spsc, slots_that_share_a_cache_line_with_others_are_refused, .signal = SIGABRT)
{
    ring_spsc_init(&ring, slots + 8, 2, SLOT_SIZE, 0);
}
