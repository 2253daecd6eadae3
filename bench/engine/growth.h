/* Nothing lost, nothing twice: what a topic grew by is what was acked. Valid as long as nobody else publishes to it. */
#ifndef SLUICE_BENCH_ENGINE_GROWTH_H
#define SLUICE_BENCH_ENGINE_GROWTH_H

#include "bench/driver/driver.h"
#include "bench/report/report.h"

struct growth {
    bool is_counted; // the driver can
    uint64_t before;
};

/* Returns 0, or -1 after a message. */
MUST_USE int growth_begin(struct growth *growth, struct driver_session *session);
/* Another number than `records` is an anomaly. */
void growth_check(const struct growth *growth, struct driver_session *session, uint64_t records,
                  struct report *report);

#endif
