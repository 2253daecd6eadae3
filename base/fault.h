/* Named fault injection, for tests of whole processes.
 *
 * SLUICE_FAULT is a comma-separated list of POINT@N=ACTION (the N-th hit, from 1) or POINT@N+=ACTION
 * (from the N-th on); ACTION is EIO, ENOSPC, EAGAIN, ECANCELED, EPERM, CRASH (SIGKILL to itself) or ON
 * (gives 1, for points that only ask yes or no). Points are those of fault.def in lower case. A set
 * variable is announced by one loud warning line. When it is not set, a point costs one load and one
 * never-taken branch. */
#ifndef SLUICE_BASE_FAULT_H
#define SLUICE_BASE_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/check.h"

enum fault_point {
#define FAULT(name, text) FAULT_##name,
#include "base/fault.def"
#undef FAULT
    FAULT_POINT_COUNT
};

extern _Atomic bool fault_enabled; // any point armed

/* Arms what `spec` (the value of SLUICE_FAULT; NULL or empty: nothing) asks for. Returns 0, or INVALID
 * with the offending part on standard error, and then nothing is armed. Thread: main, at start. */
MUST_USE int fault_init(const char *spec);

/* Arms a point from a test: hits first..last (from 1, counted from this call) give os_error (positive
 * errno). A point may have several ranges, FAULT_RULE_MAX in all. Thread: any. */
#define FAULT_RULE_MAX 32
void fault_arm(enum fault_point point, uint64_t first, uint64_t last, int os_error);
void fault_disarm_all(void);

int fault_check_slow(enum fault_point point);

/* 0, or the errno to pretend at this hit. Thread: any. */
static inline int fault_check(enum fault_point point)
{
    bool enabled = atomic_load_explicit(&fault_enabled, memory_order_relaxed);
    return UNLIKELY(enabled) ? fault_check_slow(point) : 0;
}

#endif
