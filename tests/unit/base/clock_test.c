/* base/clock.h */
#include <criterion/criterion.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"

Test(clock, monotonic_time_never_goes_back)
{
    struct clock *clock = clock_system();
    uint64_t before = clock_mono_ns(clock);
    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_mono_ns(clock);
        cr_assert_geq(now, before);
        before = now;
    }
}

Test(clock, a_sleep_is_seen_in_nanoseconds)
{
    struct clock *clock = clock_system();
    uint64_t before = clock_mono_ns(clock);
    nanosleep(&(struct timespec){.tv_nsec = 20 * (long)NS_PER_MS}, NULL);
    uint64_t took = clock_mono_ns(clock) - before;
    cr_assert_geq(took, 20 * NS_PER_MS);
    cr_assert_lt(took, 20 * NS_PER_S);
}

Test(clock, wall_time_is_in_milliseconds_since_1970)
{
    uint64_t ms = clock_wall_ms(clock_system());
    uint64_t s = (uint64_t)time(NULL);
    cr_assert_leq(ms / 1000, s + 1); // time() is as old as the kernel's last tick
    cr_assert_geq(ms / 1000 + 5, s);
}

static uint64_t frozen(struct clock *clock)
{
    return 42;
}

Test(clock, another_clock_can_take_its_place)
{
    struct clock clock = {.mono_ns = frozen, .wall_ms = frozen};
    cr_assert_eq(clock_mono_ns(&clock), 42);
    cr_assert_eq(clock_wall_ms(&clock), 42);
}

/* ---- the steady wall clock ---- */

#define NOON UINT64_C(1700000000000)
#define YEAR_MS (365 * UINT64_C(86400000))

Test(clock, a_steady_wall_clock_begins_with_the_other_one_and_follows_it)
{
    struct steady_wall steady = {0};
    cr_assert_eq(steady_wall_ms(&steady, 7 * NS_PER_S, NOON), NOON);
    for (uint64_t ms = 1; ms < 5000; ms++)
        cr_assert_eq(steady_wall_ms(&steady, 7 * NS_PER_S + ms * NS_PER_MS, NOON + ms), NOON + ms);
}

Test(clock, a_steady_wall_clock_loses_no_part_of_a_millisecond)
{
    struct steady_wall steady = {0};
    uint64_t now = 0;
    for (uint64_t ns = 1; ns < 50 * NS_PER_MS; ns += 300000) {
        uint64_t wall =
            NOON + ns / NS_PER_MS + YEAR_MS * (ns > 1); // it has jumped: the pace is the other's
        now = steady_wall_ms(&steady, NS_PER_S + ns, wall);
    }
    cr_assert_geq(now, NOON + 49);
    cr_assert_leq(now, NOON + 50);
}

Test(clock, a_steady_wall_clock_takes_small_corrections_but_never_goes_back)
{
    struct steady_wall steady = {0};
    (void)steady_wall_ms(&steady, NS_PER_S, NOON);
    cr_assert_eq(steady_wall_ms(&steady, 2 * NS_PER_S, NOON + 1400), NOON + 1400);
    cr_assert_eq(steady_wall_ms(&steady, 3 * NS_PER_S, NOON + 1300), NOON + 1400);
    cr_assert_eq(steady_wall_ms(&steady, 4 * NS_PER_S, NOON + 2600), NOON + 2600);
}

Test(clock, a_steady_wall_clock_does_not_jump_with_the_other_one)
{
    static const int64_t jumps_ms[] = {(int64_t)YEAR_MS, -(int64_t)YEAR_MS, -(int64_t)NOON, 6000,
                                       -6000};
    for (size_t i = 0; i < ARRAY_COUNT(jumps_ms); i++) {
        struct steady_wall steady = {0};
        (void)steady_wall_ms(&steady, NS_PER_S, NOON);
        for (uint64_t s = 2; s < 100; s++) {
            uint64_t wall = NOON + (s - 1) * 1000 + (uint64_t)(s > 10 ? jumps_ms[i] : 0);
            cr_assert_eq(steady_wall_ms(&steady, s * NS_PER_S, wall), NOON + (s - 1) * 1000);
        }
        cr_assert_eq(steady.behind_ms, jumps_ms[i]);
    }
}

Test(clock, a_steady_wall_clock_goes_with_the_other_one_again_when_that_is_set_back)
{
    struct steady_wall steady = {0};
    (void)steady_wall_ms(&steady, NS_PER_S, NOON);
    (void)steady_wall_ms(&steady, 2 * NS_PER_S, NOON + 1000 + YEAR_MS);
    cr_assert_eq(steady_wall_ms(&steady, 3 * NS_PER_S, NOON + 2000), NOON + 2000);
    cr_assert_eq(steady.behind_ms, 0);
    cr_assert_eq(steady_wall_ms(&steady, 4 * NS_PER_S, NOON + 3100), NOON + 3100);
}
