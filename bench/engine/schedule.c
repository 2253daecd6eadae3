/* Uniform times are made from the record's number, so that rounding never adds up. */
#include "bench/engine/schedule.h"

#include <math.h>

#include "base/check.h"
#include "base/clock.h"

static double gap(struct schedule *schedule);

void schedule_init(struct schedule *schedule, uint64_t begin_ns, double rate, double phase,
                   bool is_poisson, uint64_t seed)
{
    ASSERT(rate > 0 && phase >= 0 && phase <= 1);
    double interval_ns = (double)NS_PER_S / rate;
    *schedule = (struct schedule){.begin_ns = begin_ns,
                                  .interval_ns = interval_ns,
                                  .phase_ns = phase * interval_ns,
                                  .is_poisson = is_poisson};
    random_init(&schedule->random, seed);
    schedule->next_ns = is_poisson ? gap(schedule) : schedule->phase_ns;
}

void schedule_advance(struct schedule *schedule)
{
    schedule->number++;
    if (schedule->is_poisson)
        schedule->next_ns += gap(schedule);
    else
        schedule->next_ns = schedule->phase_ns + (double)schedule->number * schedule->interval_ns;
}

uint64_t schedule_due_before(const struct schedule *schedule, uint64_t time_ns)
{
    double span_ns = time_ns > schedule->begin_ns ? (double)(time_ns - schedule->begin_ns) : 0;
    if (schedule->next_ns >= span_ns)
        return 0;
    return (uint64_t)ceil((span_ns - schedule->next_ns) / schedule->interval_ns);
}

/* -ln(u), u in (0, 1]: at most 44 intervals. */
static double gap(struct schedule *schedule)
{
    double u = ((double)(random_u64(&schedule->random) >> 11) + 1) / 9007199254740992.0; // 2^53
    return -log(u) * schedule->interval_ns;
}
