/* Counters and gauges that one thread writes and any thread may read: the source of metrics.
 *
 * The owner registers them in a set of its own (so that no two cores share a line) and adds with plain relaxed
 * stores; readers load relaxed. No broker words here: names come from the caller. */
#ifndef SLUICE_BASE_COUNTERS_H
#define SLUICE_BASE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/check.h"

typedef _Atomic uint64_t counter;

/* Thread: the counter's one writer. Wait-free. */
static inline void counter_add(counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void counter_set(counter *c, uint64_t value)
{
    atomic_store_explicit(c, value, memory_order_relaxed);
}

/* Thread: any. */
static inline uint64_t counter_get(counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

/* Latencies: log-linear buckets, 1/16 precision (HdrHistogram's idea with 4 bits), values 0..2^40.
 * Writer: one thread. Readers: any; sums may be torn by a few samples, never by much. */
#define HISTOGRAM_SUB_BITS 4
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
