/* The measured time, cut into windows of equal length, one behind the other: a repeat each. What is due before or behind them
 * (warm-up, the end) counts for nothing. */
#ifndef SLUICE_BENCH_ENGINE_WINDOWS_H
#define SLUICE_BENCH_ENGINE_WINDOWS_H

#include <stdint.h>

#include "base/clock.h"

#define WINDOWS_MAX 32u
#define LATE_NS_MAX NS_PER_S // behind the end of the windows, for what was due before it

struct windows {
    uint64_t begin_ns; // CLOCK_MONOTONIC
    uint64_t length_ns;
    uint32_t count;
};

static inline uint64_t windows_end_ns(const struct windows *windows)
{
    return windows->begin_ns + windows->count * windows->length_ns;
}

/* The window that a moment lies in; -1: none. */
static inline int window_of(const struct windows *windows, uint64_t time_ns)
{
    if (time_ns < windows->begin_ns || time_ns >= windows_end_ns(windows))
        return -1;
    return (int)((time_ns - windows->begin_ns) / windows->length_ns);
}

#endif
