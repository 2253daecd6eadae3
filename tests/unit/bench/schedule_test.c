/* When records are due. */
#include "bench/engine/schedule.h"

#include <criterion/criterion.h>
#include <math.h>

#include "base/check.h"

Test(bench_schedule, uniform_times_are_exact_however_many_there_were)
{
    struct schedule schedule;
    schedule_init(&schedule, 1000, 3e6, 0, false, 1);
    for (uint64_t i = 0; i < 3000000; i++) {
        uint64_t due = schedule_due(&schedule);
        cr_assert(due + 1 >= 1000 + i * 1000 / 3 && due <= 1000 + i * 1000 / 3 + 1, "%lu", i);
        schedule_advance(&schedule);
    }
    cr_assert_leq(1000 + NS_PER_S - schedule_due(&schedule), 1);
}

Test(bench_schedule, a_phase_moves_all_of_them)
{
    struct schedule schedule;
    schedule_init(&schedule, 0, 1000, 0.5, false, 1);
    cr_assert_eq(schedule_due(&schedule), NS_PER_MS / 2);
    schedule_advance(&schedule);
    cr_assert_eq(schedule_due(&schedule), NS_PER_MS * 3 / 2);
}

/* Of exponential gaps the standard deviation equals the mean, and a share of 1/e is longer than it. */
Test(bench_schedule, poisson_gaps_are_exponential)
{
    enum { COUNT = 200000 };
    struct schedule schedule;
    schedule_init(&schedule, 0, 10000, 0, true, 42);
    double sum = 0, squares = 0, mean = 100000;
    uint64_t last = 0, longer = 0;
    for (int i = 0; i < COUNT; i++) {
        double gap = (double)(schedule_due(&schedule) - last);
        last = schedule_due(&schedule);
        sum += gap;
        squares += gap * gap;
        longer += gap > mean;
        schedule_advance(&schedule);
    }
    cr_assert_float_eq(sum / COUNT / mean, 1, 0.01);
    cr_assert_float_eq(sqrt(squares / COUNT - mean * mean) / mean, 1, 0.02);
    cr_assert_float_eq((double)longer / COUNT, exp(-1), 0.005);
}

Test(bench_schedule, a_seed_gives_the_same_times_again)
{
    struct schedule a, b;
    schedule_init(&a, 7, 500, 0, true, 9);
    schedule_init(&b, 7, 500, 0, true, 9);
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(schedule_due(&a), schedule_due(&b));
        schedule_advance(&a);
        schedule_advance(&b);
    }
}

/* As many as going through them would count, at rates whose interval is no whole number, too. */
Test(bench_schedule, what_is_due_before_a_moment_is_counted_without_going_there)
{
    static const double rates[] = {1, 3, 1000, 7e5, 3e6};
    for (size_t i = 0; i < ARRAY_COUNT(rates); i++) {
        struct schedule schedule;
        uint64_t end = 1000 + NS_PER_S + NS_PER_S / 3;
        schedule_init(&schedule, 1000, rates[i], 0.25, false, 1);
        schedule_advance(&schedule);
        uint64_t told = schedule_due_before(&schedule, end), counted = 0;
        for (; schedule_due(&schedule) < end; schedule_advance(&schedule))
            counted++;
        cr_expect_eq(told, counted, "at %g/s %lu, not %lu", rates[i], told, counted);
        cr_expect_eq(schedule_due_before(&schedule, end), 0);
        cr_expect_eq(schedule_due_before(&schedule, 0), 0);
    }
}

Test(bench_schedule, of_poisson_arrivals_the_expected_number_is_counted)
{
    struct schedule schedule;
    schedule_init(&schedule, 0, 1e9, 0, true, 5);
    uint64_t told = schedule_due_before(&schedule, 86400 * NS_PER_S);
    cr_expect_float_eq((double)told, 86400e9, 1e6);
}
