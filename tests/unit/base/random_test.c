/* base/random.h */
#include <criterion/criterion.h>

#include "base/random.h"

/* The first numbers of the reference implementation's demo, pcg32_srandom(42, 54). */
Test(random, numbers_are_those_of_the_reference)
{
    static const uint32_t expected[] = {0xa15c02b7, 0x7b47f409, 0xba1d3330,
                                        0x83d2f293, 0xbfa4784b, 0xcbed606e};
    struct random random = {.state = 0, .stream = 54u << 1 | 1};
    (void)random_u32(&random);
    random.state += 42;
    (void)random_u32(&random);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        cr_assert_eq(random_u32(&random), expected[i], "number %zu", i);
}

Test(random, a_seed_replays)
{
    struct random a, b;
    random_init(&a, 7);
    random_init(&b, 7);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(random_u64(&a), random_u64(&b));
}

Test(random, neighbouring_seeds_differ_from_the_first_number)
{
    struct random a, b;
    random_init(&a, 1);
    random_init(&b, 2);
    int equal = 0;
    for (int i = 0; i < 1000; i++)
        equal += random_u32(&a) == random_u32(&b);
    cr_assert_leq(equal, 2);
}

Test(random, below_stays_below_and_reaches_every_value)
{
    struct random random;
    random_init(&random, 3);
    unsigned seen[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t value = random_below(&random, 7);
        cr_assert_lt(value, 7);
        seen[value]++;
    }
    for (int i = 0; i < 7; i++) // 10,000 each; the deviation is about 93
        cr_assert(seen[i] > 9500 && seen[i] < 10500, "value %d came %u times", i, seen[i]);
}

Test(random, below_has_no_bias_for_large_limits)
{
    struct random random;
    random_init(&random, 4);
    const uint64_t limit = UINT64_C(3) << 62; // plain % would favour the lower third 2:1
    unsigned low = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t value = random_below(&random, limit);
        cr_assert_lt(value, limit);
        low += value < limit / 3;
    }
    cr_assert(low > 9500 && low < 10500, "%u of 30000 in the lower third", low);
}

Test(random, below_one_is_zero)
{
    struct random random;
    random_init(&random, 5);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(random_below(&random, 1), 0);
}

Test(random, below_accepts_the_ends_of_both_widths)
{
    struct random random;
    random_init(&random, 6);
    for (int i = 0; i < 1000; i++) {
        cr_assert_lt(random_below(&random, UINT32_MAX), UINT32_MAX);
        cr_assert_lt(random_below(&random, (uint64_t)UINT32_MAX + 1), (uint64_t)UINT32_MAX + 1);
        cr_assert_lt(random_below(&random, UINT64_MAX), UINT64_MAX);
    }
}

Test(random, system_seeds_differ)
{
    cr_assert_neq(random_seed_system(), random_seed_system());
}
