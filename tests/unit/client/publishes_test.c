/* The ring of unanswered publishes: numbers are dense, answers come in any order. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "client/parcel.h"
#include "client/publishes.h"

static struct lane *const some_lane = (struct lane *)64; // only compared with NULL

static struct publishes make(void)
{
    struct publishes publishes;
    cr_assert(eq(int, publishes_init(&publishes), 0));
    return publishes;
}

Test(publishes, numbers_are_dense_from_one_and_parcels_get_theirs)
{
    struct publishes publishes = make();
    struct parcel a = {.lane = some_lane}, b = {.lane = some_lane};
    a.publish_next = &b;
    cr_expect(eq(u64, publishes_add(&publishes, &a, 2, 100), 1));
    cr_expect(eq(u64, a.publish, 1));
    cr_expect(eq(u64, b.publish, 1));
    struct parcel c = {.lane = some_lane};
    cr_expect(eq(u64, publishes_add(&publishes, &c, 1, 100), 2));
    cr_expect(eq(u32, publishes_in_flight(&publishes), 2));
    cr_expect(publishes_find(&publishes, 0) == NULL);
    cr_expect(publishes_find(&publishes, 3) == NULL);
    cr_expect(publishes_find(&publishes, 1)->first == &a);
    publishes_deinit(&publishes);
}

Test(publishes, answers_in_any_order_empty_the_ring)
{
    struct publishes publishes = make();
    static struct parcel parcels[5000];
    for (int i = 0; i < 5000; i++) {
        parcels[i].lane = some_lane;
        cr_assert(eq(u64, publishes_add(&publishes, &parcels[i], 1, 100000), (uint64_t)i + 1));
    }
    for (uint64_t i = 0; i < 5000; i++) {
        uint64_t number = 1 + (i * 7919) % 5000;
        cr_assert(publishes_find(&publishes, number)->first == &parcels[number - 1]);
        publishes_settle(&publishes, number);
        cr_assert(publishes_find(&publishes, number) == NULL);
    }
    cr_expect(eq(u32, publishes_in_flight(&publishes), 0));
    cr_expect(eq(u64, publishes.oldest, 5001));
    publishes_deinit(&publishes);
}

Test(publishes, the_limit_holds)
{
    struct publishes publishes = make();
    static struct parcel parcels[4];
    for (int i = 0; i < 3; i++)
        cr_expect(ne(u64, publishes_add(&publishes, &parcels[i], 1, 3), 0));
    cr_expect(eq(u64, publishes_add(&publishes, &parcels[3], 1, 3), 0));
    for (int i = 0; i < 3; i++)
        parcels[i].lane = some_lane;
    publishes_settle(&publishes, 1);
    cr_expect(eq(u64, publishes_add(&publishes, &parcels[3], 1, 3), 4));
    parcels[3].lane = some_lane;
    publishes_deinit(&publishes);
}

Test(publishes, a_ghost_takes_the_place_of_a_parcel_that_goes)
{
    struct publishes publishes = make();
    struct parcel parcels[3];
    for (int i = 0; i < 3; i++)
        parcels[i] =
            (struct parcel){.lane = some_lane, .publish_next = i < 2 ? &parcels[i + 1] : NULL};
    publishes_add(&publishes, &parcels[0], 3, 10);
    cr_assert(eq(int, publishes_disown(&publishes, &parcels[1]), 0));
    cr_expect(eq(u64, parcels[1].publish, 0));
    struct parcel *ghost = publishes_find(&publishes, 1)->first->publish_next;
    cr_expect(ghost != &parcels[1]);
    cr_expect(ghost->lane == NULL);
    cr_expect(ghost->publish_next == &parcels[2]);
    cr_assert(eq(int, publishes_disown(&publishes, &parcels[0]), 0));
    cr_expect(publishes_find(&publishes, 1)->first->publish_next == ghost);
    publishes_reset(&publishes); // frees both ghosts: a leak is for the sanitizer to find
    cr_expect(eq(u64, publishes.next, 1));
    publishes_deinit(&publishes);
}
