/* Where and when threads of a measurement run. */
#ifndef SLUICE_BENCH_ENGINE_PLACE_H
#define SLUICE_BENCH_ENGINE_PLACE_H

#include <stdint.h>

#include "base/clock.h"

/* Pins the calling thread to a processor; CPU_ANY, or one that does not exist: leaves it alone. */
void place_thread(int cpu);

/* Lets timers of this thread be exact: the default slack of 50 us is of the size that is measured. */
void place_exact_timers(void);

void sleep_until_ns(uint64_t mono_ns);

static inline uint64_t now_ns(void)
{
    return clock_mono_ns(clock_system());
}

#endif
