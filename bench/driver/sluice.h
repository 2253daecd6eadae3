/* libsluice behind its driver, for what only it has: transactions. */
#ifndef SLUICE_BENCH_DRIVER_SLUICE_H
#define SLUICE_BENCH_DRIVER_SLUICE_H

#include "bench/driver/driver.h"
#include "client/include/sluice.h"

/* One of the session's connections; index: any, they take turns. The session's driver must be driver_sluice. */
struct sluice_client *sluice_of(const struct driver_session *session, uint32_t index);

/* The visible end of each partition, [partition_count]. Returns 0, or -1 after a message. */
MUST_USE int sluice_ends(struct driver_session *session, uint64_t *ends);

/* Message on standard error: what failed, the status, the broker's own words. Returns -1. */
int sluice_complain(const char *what, int status);

#endif
