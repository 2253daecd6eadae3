/* base/histogram.h */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#include "base/histogram.h"
#include "base/random.h"

static struct histogram histogram;

Test(histogram, an_empty_one_answers_zero)
{
    cr_assert_eq(histogram_count(&histogram), 0);
    cr_assert_eq(histogram_quantile(&histogram, 0.5), 0);
    cr_assert_eq(histogram_quantile(&histogram, 1.0), 0);
}

Test(histogram, small_values_are_exact)
{
    for (uint64_t value = 0; value < 32; value++)
        histogram_add(&histogram, value);
    cr_assert_eq(histogram_count(&histogram), 32);
    cr_assert_eq(histogram_quantile(&histogram, 0.0), 0);
    cr_assert_eq(histogram_quantile(&histogram, 0.5), 15);
    cr_assert_eq(histogram_quantile(&histogram, 1.0), 31);
}

Test(histogram, one_value_is_all_its_quantiles)
{
    histogram_add(&histogram, 1000003);
    cr_assert_eq(histogram_quantile(&histogram, 0.0), 1000003);
    cr_assert_eq(histogram_quantile(&histogram, 0.999), 1000003);
    cr_assert_eq(counter_get(&histogram.sum), 1000003);
    cr_assert_eq(counter_get(&histogram.max), 1000003);
}

/* Around every power of two: the answer is at least the value and at most 1/128 above it. */
Test(histogram, a_bucket_is_less_than_a_hundredth_wide)
{
    for (unsigned bits = 0; bits < 40; bits++) {
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t value = (UINT64_C(1) << bits) + (uint64_t)(int64_t)delta;
            histogram = (struct histogram){0};
            histogram_add(&histogram, value);
            histogram_add(&histogram, UINT64_C(1) << 39);
            uint64_t answer = histogram_quantile(&histogram, 0.5);
            cr_assert(answer >= min_u64(value, UINT64_C(1) << 39), "2^%u%+d", bits, delta);
            cr_assert(answer <= value + value / 128, "2^%u%+d", bits, delta);
        }
    }
}

Test(histogram, values_beyond_the_last_bucket_are_counted_and_kept_as_maximum)
{
    histogram_add(&histogram, UINT64_MAX / 2);
    histogram_add(&histogram, UINT64_C(1) << 40);
    cr_assert_eq(histogram_count(&histogram), 2);
    cr_assert_eq(histogram_quantile(&histogram, 1.0), UINT64_MAX / 2);
}

Test(histogram, merging_adds_everything)
{
    static struct histogram other;
    for (uint64_t i = 1; i <= 100; i++) {
        histogram_add(&histogram, i);
        histogram_add(&other, 1000 * i);
    }
    histogram_merge(&histogram, &other);
    cr_assert_eq(histogram_count(&histogram), 200);
    cr_assert_eq(counter_get(&histogram.sum), 5050 + 5050000);
    cr_assert_eq(counter_get(&histogram.max), 100000);
    cr_assert_eq(histogram_quantile(&histogram, 1.0), 100000);
    uint64_t median = histogram_quantile(&histogram, 0.5);
    cr_assert(median == 100, "%llu", (unsigned long long)median);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The model: all values, sorted. */
Test(histogram, agrees_with_a_sorted_array_within_its_precision)
{
    enum { COUNT = 5000 };
    static uint64_t values[COUNT];
    struct random random;
    random_init(&random, 1);
    for (int i = 0; i < COUNT; i++) {
        values[i] = random_u64(&random) >> (24 + random_below(&random, 40));
        histogram_add(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), ascending);
    for (int permille = 1; permille <= 1000; permille++) {
        uint64_t exact = values[permille * COUNT / 1000 - 1];
        uint64_t answer = histogram_quantile(&histogram, permille / 1000.0);
        cr_assert(answer >= exact && answer <= exact + exact / 128,
                  "quantile 0.%03d: %llu, exact %llu", permille, (unsigned long long)answer,
                  (unsigned long long)exact);
    }
}

Test(histogram, a_quantile_outside_zero_to_one_is_refused, .signal = SIGABRT)
{
    histogram_add(&histogram, 1);
    histogram_quantile(&histogram, 1.5);
}
