/* Threads that read, and check what they read. Each reads all partitions: several are a fan-out.
 *
 * Counted are records and bytes of values; with stamps that carry a time also the latency from the moment a record was due to the
 * return of the poll that brought it, both of one clock. Unexpected is what the stamps tell (checker.h), and an offset that does not
 * follow the one before it. With --unchecked stamps are read for the latency only. */
#ifndef SLUICE_BENCH_ENGINE_CONSUMERS_H
#define SLUICE_BENCH_ENGINE_CONSUMERS_H

#include "base/histogram.h"
#include "bench/driver/driver.h"
#include "bench/engine/windows.h"
#include "bench/report/report.h"

struct consume_totals { // so far, of all
    uint64_t records;
    uint64_t bytes;
};

struct consumers;

/* Makes them, each in the thread that will poll, and waits until all are there: what is published from now on is read.
 * Returns NULL after a message. */
struct consumers *consumers_new(struct driver_session *session, uint32_t count,
                                enum driver_start start);
void consumers_free(struct consumers *consumers);

/* Lets them read. windows: of the latencies; NULL: none are wanted. target: each stops when it has had so many records; UINT64_MAX: none does. */
void consumers_start(struct consumers *consumers, const struct windows *windows, uint64_t target);

/* When the last of them had its target; 0: one has not yet. */
uint64_t consumers_done_ns(struct consumers *consumers);

/* Waits until each has had `each` records, one has failed, or nothing came for timeout_ns. Returns true when they have. */
bool consumers_wait(struct consumers *consumers, uint64_t each, uint64_t timeout_ns);

void consumers_stop(struct consumers *consumers);

struct consume_totals consumers_totals(struct consumers *consumers);
void consumers_latency(struct consumers *consumers, uint32_t window, struct histogram *latency_ns);

/* After consumers_stop(): what was unexpected. */
void consumers_check(struct consumers *consumers, struct report *report);

#endif
