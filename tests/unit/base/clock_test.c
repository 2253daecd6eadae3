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
    cr_assert_leq(ms / 1000, s);
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
