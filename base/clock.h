/* Time, behind an interface, so that a simulator owns it.
 *
 * Deadlines use mono_ns (never jumps); only what is shown to people or stored in records uses
 * wall_ms. Code below the core loop gets `now` as an argument and does not ask. */
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    uint64_t (*mono_ns)(struct clock *clock); // CLOCK_MONOTONIC, ns since an arbitrary start
    uint64_t (*wall_ms)(struct clock *clock); // CLOCK_REALTIME, ms since 1970-01-01 UTC
};

/* The system's clock. Thread: any; wait-free. */
struct clock *clock_system(void);

static inline uint64_t clock_mono_ns(struct clock *clock)
{
    return clock->mono_ns(clock);
}

static inline uint64_t clock_wall_ms(struct clock *clock)
{
    return clock->wall_ms(clock);
}

#endif
