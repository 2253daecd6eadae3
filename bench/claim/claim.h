/* What is said of the broker, each as a command that shows it or shows that it does not hold. A claim measures both sides of its comparison in
 * one run, in turns, so that whatever the machine does meets both.
 *
 * Most start brokers of their own (private_broker.h), because they are about a broker's life or its settings. The others take --server. */
#ifndef SLUICE_BENCH_CLAIM_CLAIM_H
#define SLUICE_BENCH_CLAIM_CLAIM_H

#include "bench/engine/run.h"
#include "bench/report/report.h"

struct claim {
    const char *name;
    const char *summary;
    /* Measures; sets report->claim with claim_set(). Returns 0, or -1 after a message: nothing was measured. */
    int (*run)(struct bench_options *options, struct report *report);
};

extern const struct claim claim_open_transaction; // one that is held open delays nobody
extern const struct claim claim_flat_partitions;  // 10,000 partitions are as fast as one
extern const struct claim claim_durability_price; // what fdatasync before the ack costs
extern const struct claim claim_cold_start;       // an empty store, and one that was closed
extern const struct claim claim_recovery;         // kill -9 under load, and ready again
extern const struct claim claim_idle_connections; // what a connection costs that does nothing
extern const struct claim claim_memory_bound;     // resident memory under everything at once
extern const struct claim claim_disk_full;        // publishers wait or are told, readers go on

/* A latency that a claim judges by must have been measured: without a sample it reads 0 us, and that is an anomaly. */
void claim_check_timed(struct report *report, const struct run_result *result);

/* Begins report->claim: {name, holds}. `figures` is an object, its members follow; it is taken over. */
void claim_set(struct report *report, bool holds, json_t *figures);

#endif
