/* storage/time_marks.h against a naive list of everything that was appended. */
#include "storage/time_marks.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "base/random.h"
#include "tests/unit/seeds.h"

static struct time_marks times;

static void clear(void)
{
    time_marks_clear(&times);
}
TestSuite(time_marks, .init = clear);

Test(time_marks, nothing_is_known_before_the_first_append)
{
    cr_assert(eq(u64, time_marks_cut(&times, 0), 0));
    cr_assert(eq(u64, time_marks_cut(&times, UINT64_MAX), 0));
}

Test(time_marks, a_cut_lies_at_the_last_mark_that_is_old_enough)
{
    time_marks_add(&times, 1000, 10);
    time_marks_add(&times, 1100, 20);
    time_marks_add(&times, 1300, 30);
    cr_assert(eq(u64, time_marks_cut(&times, 999), 0));
    cr_assert(eq(u64, time_marks_cut(&times, 1000), 10));
    cr_assert(eq(u64, time_marks_cut(&times, 1099), 10));
    cr_assert(eq(u64, time_marks_cut(&times, 1100), 20));
    cr_assert(eq(u64, time_marks_cut(&times, 1299), 20));
    cr_assert(eq(u64, time_marks_cut(&times, 9999), 30));
}

Test(time_marks, appends_close_together_share_a_mark)
{
    time_marks_add(&times, 1000, 10);
    time_marks_add(&times, 1000 + TIME_MARKS_GAP_MS - 1, 20);
    cr_assert(eq(u32, times.count, 1));
    time_marks_add(&times, 1000 + TIME_MARKS_GAP_MS, 30);
    cr_assert(eq(u32, times.count, 2));
}

Test(time_marks, a_new_segment_begins_with_the_first_precision)
{
    for (uint64_t i = 0; i < 10 * TIME_MARKS_MAX; i++)
        time_marks_add(&times, i * TIME_MARKS_GAP_MS, i);
    cr_assert(gt(u64, times.gap_ms, TIME_MARKS_GAP_MS));
    time_marks_clear(&times);
    cr_assert(eq(u64, times.gap_ms, TIME_MARKS_GAP_MS));
    cr_assert(eq(u64, time_marks_cut(&times, UINT64_MAX), 0));
}

/* Whatever the times, a cut never lies behind something younger. When appends come evenly, it lies by
 * little more than 1/128 of the time that the segment is open before the place where it could. */
static void check_against_all(uint64_t seed, uint32_t count, uint64_t step_max)
{
    static uint64_t at_ms[20000];
    struct random random;
    random_init(&random, seed);
    uint64_t now = 1700000000000;
    for (uint32_t i = 0; i < count; i++) {
        now += random_below(&random, step_max);
        at_ms[i] = now;
        time_marks_add(&times, now, i + 1);
        cr_assert(le(u32, times.count, TIME_MARKS_MAX));
    }
    bool even = step_max < TIME_MARKS_GAP_MS / 2;
    uint64_t slack = even ? (now - at_ms[0]) / 64 + TIME_MARKS_GAP_MS : now;
    for (uint32_t n = 0; n < 2000; n++) {
        uint64_t ms = at_ms[0] + random_below(&random, now - at_ms[0] + 1);
        uint64_t cut = time_marks_cut(&times, ms);
        for (uint64_t i = 0; i + 1 < cut; i++)
            cr_assert(le(u64, at_ms[i], ms), "seed %lu: %lu is younger", seed, i);
        if (ms - at_ms[0] >= slack)
            cr_assert(cut > 0 && at_ms[cut - 1] + slack >= ms, "seed %lu: cut %lu at %lu", seed,
                      cut, ms);
    }
}

Test(time_marks, cuts_are_safe_and_as_near_as_promised)
{
    for (uint64_t seed = 1; seed <= seeds(8); seed++) {
        time_marks_clear(&times);
        check_against_all(seed, seed % 3 ? 20000 : 500, seed % 2 ? 1 + 5 * seed : 300 * seed);
    }
}
