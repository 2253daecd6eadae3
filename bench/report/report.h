/* What a run found, for people and as JSON. The keys of the JSON object are an interface: scripts
 * compare runs by them. What was not measured is null, never 0.
 *
 *     command, driver
 *     records, bytes, seconds, records_per_s, bytes_per_s      payload: keys and values only
 *     latency_us   {p50, p90, p99, p99_9, p99_99, max}
 *     limits       {socket_bytes_per_s, wal_bytes_per_s, pipeline_bytes_per_s, fraction}
 *     bare_us      {write_sync_p50, write_sync_p99, round_trip_p50, round_trip_p99}
 *     broker       {cpu_s, rss_bytes, fdatasyncs, device_bytes}
 *     transactions {commits, commits_per_s, aborts}
 *     claim        null, or {name, holds, and what it is judged by}
 *     settings     {what was asked for}
 *     anomalies    [text, ...]     empty: nothing unexpected happened
 *
 * fraction = bytes_per_s / pipeline_bytes_per_s. */
#ifndef SLUICE_BENCH_REPORT_REPORT_H
#define SLUICE_BENCH_REPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/histogram.h"
#include "bench/options.h"

/* A number that may not have been measured. */
struct figure {
    bool known;
    double value;
};

static inline struct figure figure_of(double value)
{
    return (struct figure){true, value};
}

struct limits_figures {
    struct figure socket_bytes_per_s;
    struct figure wal_bytes_per_s;
    struct figure pipeline_bytes_per_s;
    struct figure write_sync_p50_us, write_sync_p99_us;
    struct figure round_trip_p50_us, round_trip_p99_us;
};

struct broker_figures { // of the measured time, as the broker itself counts
    struct figure cpu_s;
    struct figure rss_bytes; // at the end
    struct figure fdatasyncs;
    struct figure device_bytes; // written to the log, with headers and padding
    struct figure
        waits_for_spare; // appends that found no prepared file; reported as an anomaly only
    struct figure delivered_bytes; // batches sent to consumers; used by claims only
};

struct transactions_figures { // of the measured time
    struct figure commits;    // answered
    struct figure commits_per_s;
    struct figure aborts; // asked for
};

struct claim_figures { // of open-transaction
    const char *name;
    bool known;
    bool holds;
    double commit_p99_without_us,
        commit_p99_with_us; // of the others, while none or one is held open
    double delivery_p99_without_us, delivery_p99_with_us; // begin to consumer
    double commit_change_percent, delivery_change_percent;
    uint64_t aborts; // in the second part, where half of the transactions are
    uint64_t committed_records, received_records;
    uint64_t received_value_bytes;
    uint64_t committed_batch_bytes, received_batch_bytes; // as the broker stores and sends them
    uint64_t gaps;                                        // offsets that did not follow
    uint64_t lag;                                         // behind the visible ends, afterwards
};

#define ANOMALIES_MAX 32
#define ANOMALY_TEXT_MAX 256

struct anomalies {
    char texts[ANOMALIES_MAX][ANOMALY_TEXT_MAX];
    uint32_t count; // may exceed what is kept
};

struct report {
    const struct bench_options *options;
    uint32_t partition_count; // that the topic has; 0: no topic was used
    bool has_load;            // records .. bytes_per_s
    uint64_t records;
    uint64_t bytes;
    double seconds;
    struct histogram *latency_ns; // NULL: not measured
    struct limits_figures limits;
    struct broker_figures broker;
    struct transactions_figures transactions;
    struct claim_figures claim;
    struct anomalies anomalies;
};

/* Notes something that should not have happened. Thread: main. */
void anomaly(struct report *report, const char *format, ...) PRINTF_LIKE(2, 3);

struct figure report_fraction(const struct report *report);

/* Both return 0, or 1 after a message on standard error: the file can't be written. */
int report_print(struct report *report); // to standard output, unless the JSON goes there
int report_write_json(struct report *report);

/* The JSON object alone. */
void report_json(struct report *report, FILE *file);

#endif
