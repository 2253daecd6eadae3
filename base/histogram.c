/* Histograms of latencies and sizes, log-linear.
 *
 * With B = HISTOGRAM_SUB_BITS = 7 the values 0..127 have a bucket each; above that every power of two
 * is cut into 128 equal buckets, so a bucket is at most 1/128 of its values wide:
 *
 *     0..127     buckets 0..127      width 1
 *     128..255   buckets 128..255    width 1
 *     256..511   buckets 256..383    width 2
 *     ...
 *     2^39..     the last 128        width 2^32
 *
 * Values of 2^40 and more are counted in the last bucket; `max` keeps the largest as it was. */
#include "base/histogram.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

static_assert(HISTOGRAM_BUCKET_COUNT == (40 - HISTOGRAM_SUB_BITS + 1) * SUB_COUNT,
              "one row of values below 128, then one for each power of two up to 2^39");

static uint32_t bucket_of(uint64_t value);
static uint64_t upper_bound(uint32_t bucket);

void histogram_add(struct histogram *histogram, uint64_t value)
{
    counter_add(&histogram->buckets[bucket_of(value)], 1);
    counter_add(&histogram->sum, value);
    if (value > counter_get(&histogram->max))
        counter_set(&histogram->max, value);
}

void histogram_merge(struct histogram *into, struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++)
        counter_add(&into->buckets[i], counter_get(&from->buckets[i]));
    counter_add(&into->sum, counter_get(&from->sum));
    counter_set(&into->max, max_u64(counter_get(&into->max), counter_get(&from->max)));
}

uint64_t histogram_count(struct histogram *histogram)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++)
        count += counter_get(&histogram->buckets[i]);
    return count;
}

/* The smallest bucket with at least quantile * count values at or below it; no answer is above the
 * largest value seen. The writer may go on meanwhile: the count is taken once, and a bucket read
 * later can only have grown, so the loop ends. */
uint64_t histogram_quantile(struct histogram *histogram, double quantile)
{
    ASSERT(quantile >= 0.0 && quantile <= 1.0);
    uint64_t count = histogram_count(histogram);
    if (count == 0)
        return 0;
    double exact = quantile * (double)count;
    uint64_t rank = exact <= 1 ? 1 : min_u64((uint64_t)exact, count);
    if (rank < count && exact - (double)rank > 1e-6) // 0.276 * 5000 is 1380.0000000000002
        rank++;
    uint64_t max = counter_get(&histogram->max);
    uint64_t below = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT - 1; i++) {
        below += counter_get(&histogram->buckets[i]);
        if (below >= rank)
            return min_u64(upper_bound(i), max);
    }
    return max; // the last bucket has no upper bound
}

/* The place of the leading bit chooses the row, the bits after it the bucket in the row. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < SUB_COUNT)
        return (uint32_t)value;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    uint32_t bucket = (shift + 1) * SUB_COUNT + (uint32_t)((value >> shift) & (SUB_COUNT - 1));
    return bucket < HISTOGRAM_BUCKET_COUNT ? bucket : HISTOGRAM_BUCKET_COUNT - 1;
}

static uint64_t upper_bound(uint32_t bucket)
{
    if (bucket < SUB_COUNT)
        return bucket;
    uint32_t shift = bucket / SUB_COUNT - 1;
    uint64_t first = (uint64_t)(SUB_COUNT + bucket % SUB_COUNT) << shift;
    return first + ((uint64_t)1 << shift) - 1;
}
