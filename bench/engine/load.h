/* The load of `publish`: producer threads, and what becomes of their records.
 *
 * A lane is one producer thread with a producer object of its own. Its records are counted when the
 * report says that they are durable; for every n-th one the time is taken as well: n is a prime, so that
 * the samples fall on all places of a batch alike.
 *
 * Time is counted from
 *   --rate R    when the record was due, whether or not the producer could send it then (open loop:
 *               a stall shows in every record that it delayed, not only in the one that met it)
 *   else        the call of send()
 *   to          the report; with --lone to the return of flush(), as a synchronous caller sees it */
#ifndef SLUICE_BENCH_ENGINE_LOAD_H
#define SLUICE_BENCH_ENGINE_LOAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/engine/payload.h"
#include "bench/driver/session.h"

struct load_totals { // so far, of all lanes
    uint64_t sent;
    uint64_t acked;
    uint64_t failed;
};

struct load;

/* Prepares lanes and producers. Returns NULL after a message. */
struct load *load_new(struct session *session);
void load_free(struct load *load);

/* Starts the threads. Samples count from window_begin_ns to window_end_ns (mono). Returns 0 or -1. */
MUST_USE int load_start(struct load *load, uint64_t window_begin_ns, uint64_t window_end_ns);

/* Lets the threads end, waits for all reports. */
void load_stop(struct load *load);

struct load_totals load_totals(struct load *load);

/* After load_stop(): latencies of all lanes, and what was unexpected. */
void load_summarise(struct load *load, struct report *report, struct histogram *latency_ns);

#endif
