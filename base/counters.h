/* Counters and gauges that one thread writes and any thread may read: the source of metrics.
 *
 * The owner registers them in a set of its own (so that no two cores share a line) and adds with plain relaxed
 * stores; readers load relaxed. No broker words here: names come from the caller. Distributions: base/histogram.h. */
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

#endif
