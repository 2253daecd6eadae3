/* The two latencies that a lone synchronous publish can't be faster than. */
#ifndef SLUICE_BENCH_BARE_BARE_LATENCY_H
#define SLUICE_BENCH_BARE_BARE_LATENCY_H

#include "base/histogram.h"
#include "bench/bare/wal_set.h"

#define LATENCY_BLOCK_BYTES (4 * KIB)

struct bare_latency_options {
    struct wal_set *wal_set;
    uint64_t duration_ns; // each
    int cpu_receive;
    int cpu_send;
};

/* pwrite of 4 KiB (O_DIRECT, recycled file) and fdatasync, one after the other. ns into *latency.
 * Returns 0, or -1 after a message on standard error. */
MUST_USE int write_sync_measure(const struct bare_latency_options *options,
                                struct histogram *latency);

/* 4 KiB there and 64 bytes back over TCP loopback, blocking calls on two threads. */
MUST_USE int round_trip_measure(const struct bare_latency_options *options,
                                struct histogram *latency);

#endif
