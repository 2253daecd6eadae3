/* The system's clock. Both readings go through the vDSO: about 20 ns, no system call. They can fail
 * only for a clock id that the kernel doesn't know, which would be an error of ours. */
#include "base/clock.h"

#include <time.h>

#include "base/check.h"

static uint64_t system_mono_ns(struct clock *clock);
static uint64_t system_wall_ms(struct clock *clock);
static struct timespec read_clock(clockid_t id);

struct clock *clock_system(void)
{
    static struct clock system = {.mono_ns = system_mono_ns, .wall_ms = system_wall_ms};
    return &system;
}

/* The pace is the monotonic clock's; the other one is believed as long as the two agree nearly. Nothing is read in whole
 * milliseconds of the monotonic clock, or each reading would lose a part of one. */
uint64_t steady_wall_ms(struct steady_wall *steady, uint64_t mono_ns, uint64_t wall_ms)
{
    if (steady->mono_ns == 0) {
        *steady = (struct steady_wall){.mono_ns = mono_ns, .wall_ms = wall_ms};
        return wall_ms;
    }
    uint64_t passed_ms = (mono_ns - steady->mono_ns) / NS_PER_MS;
    uint64_t expected_ms = steady->wall_ms + passed_ms;
    int64_t step_ms = (int64_t)(wall_ms - expected_ms) - steady->behind_ms;
    if (step_ms > STEADY_WALL_STEP_MS_MAX || step_ms < -STEADY_WALL_STEP_MS_MAX) {
        steady->behind_ms += step_ms;
        step_ms = 0;
    }
    steady->mono_ns += passed_ms * NS_PER_MS;
    steady->wall_ms = max_u64(steady->wall_ms, expected_ms + (uint64_t)step_ms); // never back
    return steady->wall_ms;
}

static uint64_t system_mono_ns(struct clock *clock)
{
    struct timespec now = read_clock(CLOCK_MONOTONIC);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t system_wall_ms(struct clock *clock)
{
    struct timespec now = read_clock(CLOCK_REALTIME);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

static struct timespec read_clock(clockid_t id)
{
    struct timespec now;
    ASSERT(clock_gettime(id, &now) == 0);
    return now;
}
