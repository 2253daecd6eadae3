/* A load from its first record to its last ack: what publish, end-to-end, sweep, transactions and the claims have in common.
 *
 *     consumers ready -> publishers start -> warm-up -> windows -> publishers stop, all acks -> consumers have all -> checks
 *
 * The main thread looks at the counters at the end of each slice (a second, or less in a short run) and keeps a row of each: that is the
 * series. Latencies belong to the window that a record was due in; whatever becomes of it later, it counts there. */
#ifndef SLUICE_BENCH_ENGINE_RUN_H
#define SLUICE_BENCH_ENGINE_RUN_H

#include "bench/engine/publishers.h"
#include "bench/engine/resources.h"
#include "bench/engine/windows.h"

#define SLICES_MAX 4096u

struct run_plan {
    uint64_t rate;           // records a second; 0: as fast as possible, or a closed loop
    uint32_t consumer_count; // from the end; 0: nobody reads
    bool is_publishing;      // false: the consumers alone, or transactions
    bool is_transactional;   // the records are those of transactions, as the options say
    uint64_t
        delivery_timeout_ns; // how long nothing may come while acked records are missing; 0: 20 s
    bool may_overload;       // a rate that can't be kept is a finding, not an anomaly
};

struct run_latency {
    uint64_t count; // of the samples; 0: nothing was measured
    double p50_us, p90_us, p99_us, p99_9_us, p99_99_us, max_us, mean_us;
};

struct run_window {
    double seconds;
    uint64_t acked, received; // records; of transactions those that were committed
    uint64_t commits, aborts;
    uint64_t received_bytes;
    struct run_latency ack;      // due (or sent) to ack
    struct run_latency delivery; // due to consumer
    struct resources before, after;
};

struct
    run_slice { // what happened between `begin_s` and `end_s` behind the begin of the first window
    double begin_s, end_s;
    uint64_t acked, received;
    double p50_us, p99_us, max_us; // of acks that came then; 0: none was timed
};

struct run_result {
    uint64_t record_bytes;
    const char *latency_from; // the moment that acks are timed from; NULL: none are
    uint32_t window_count;
    struct run_window windows[WINDOWS_MAX];
    uint32_t slice_count;
    struct run_slice slices[SLICES_MAX];
    struct histogram ack_ns, delivery_ns, slip_ns; // of all windows
    uint64_t not_sent; // records that were due and never sent: the rate was too high
};

/* Thread: main. Returns 0, or -1 after a message: nothing was measured. What was unexpected is in the report. */
MUST_USE int run_load(struct driver_session *session, const struct run_plan *plan,
                      struct report *report, struct run_result *result);

/* Reads what the topic holds, from the beginning, to where its end is now; or for the duration, if that is said and over first. The clock starts
 * before the consumers connect. One window; as run_load() otherwise. */
MUST_USE int run_catch_up(struct driver_session *session, uint32_t consumer_count,
                          struct report *report, struct run_result *result);

struct run_latency run_latency_of(struct histogram *histogram);

/* One figure of each window that has samples: `at` is its offset in struct run_latency. Returns how many there are. */
uint32_t run_latencies(const struct run_result *run, bool of_delivery, size_t at,
                       double values[WINDOWS_MAX]);

#endif
