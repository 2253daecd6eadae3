/* Distributions of latencies and sizes: log-linear buckets, 1/128 precision (HdrHistogram's idea with 7 bits), values
 * 0..2^40, which are 18 minutes in nanoseconds. 34 KiB each.
 *
 * Writer: one thread. Readers: any; sums may be torn by a few samples, never by much. */
#ifndef SLUICE_BASE_HISTOGRAM_H
#define SLUICE_BASE_HISTOGRAM_H

#include "base/counters.h"

#define HISTOGRAM_SUB_BITS 7 // less than 1 %: differences of 5 % are told apart
#define HISTOGRAM_BUCKET_COUNT ((40 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    counter buckets[HISTOGRAM_BUCKET_COUNT];
    counter sum;
    counter max;
};

void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *into, struct histogram *from);
uint64_t histogram_count(struct histogram *histogram);
/* The upper bound of the bucket that holds the given quantile, 0.0..1.0; 0 when empty. */
uint64_t histogram_quantile(struct histogram *histogram, double quantile);

#endif
