/* When records are due: the heart of an open loop. The times follow from rate and seed alone, never from what the broker does, so a
 * stall shows in every record that it delayed ("coordinated omission": Gil Tene, How NOT to Measure Latency).
 *
 *   uniform   one every 1/rate seconds
 *   Poisson   independent arrivals of that mean rate: exponential gaps
 *
 * A thread has one schedule for all of its producers: they take turns, which gives each the rate that is its share. Poisson processes
 * that are added are one again. */
#ifndef SLUICE_BENCH_ENGINE_SCHEDULE_H
#define SLUICE_BENCH_ENGINE_SCHEDULE_H

#include <stdbool.h>

#include "base/random.h"

struct schedule {
    uint64_t begin_ns;
    double interval_ns; // the mean gap
    double next_ns;     // of the next record, behind begin_ns
    uint64_t number;    // of that record
    double phase_ns;    // uniform: so that threads don't send at the same moments
    bool is_poisson;
    struct random random;
};

/* rate: records a second, > 0. phase: 0..1 of the interval. */
void schedule_init(struct schedule *schedule, uint64_t begin_ns, double rate, double phase,
                   bool is_poisson, uint64_t seed);

/* When the next record is due. */
static inline uint64_t schedule_due(const struct schedule *schedule)
{
    return schedule->begin_ns + (uint64_t)schedule->next_ns;
}

/* How many records are still due before a moment, without going through them: at a rate that nothing can keep there may be billions. Of Poisson
 * arrivals it is the number to be expected. */
uint64_t schedule_due_before(const struct schedule *schedule, uint64_t time_ns);

/* On to the one behind it. */
void schedule_advance(struct schedule *schedule);

#endif
