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

/* A wall clock that does not jump. It follows another one's small corrections; when that is set (by an operator, by a first
 * answer of NTP), it goes on from where it was, at the pace of the monotonic clock, until the process ends. So ages that are
 * computed from it (retention!) are never wrong by the jump. Zero is its initial state. Thread: one. */
#define STEADY_WALL_STEP_MS_MAX                                                                    \
    5000 // of one correction; a leap second or a slewing NTP stay far below
struct steady_wall {
    uint64_t mono_ns, wall_ms; // at the last reading; 0: none yet
    int64_t behind_ms;         // the other clock is ahead by so much since it jumped; 0: it has not
};
uint64_t steady_wall_ms(struct steady_wall *steady, uint64_t mono_ns, uint64_t wall_ms);

#endif
