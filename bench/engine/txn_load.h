/* The load of `transactions` and of `claim open-transaction`: threads that begin, send, and commit or abort.
 *
 * A lane is one thread with a transactional producer of its own. Records of a transaction go to one partition after the
 * other. The latency of a commit is taken from the call of sluice_txn_commit(), which sends what is still in the buffer,
 * to its return: then all of it is durable and visible.
 *
 * Samples are kept apart by slot: the one that was set when the commit was called, if it still is when it returns. */
#ifndef SLUICE_BENCH_ENGINE_TXN_LOAD_H
#define SLUICE_BENCH_ENGINE_TXN_LOAD_H

#include "base/histogram.h"
#include "bench/driver/sluice.h"
#include "bench/report/report.h"

enum txn_slot { TXN_SLOT_NONE = 0, TXN_SLOT_FIRST = 1, TXN_SLOT_SECOND = 2, TXN_SLOT_COUNT = 3 };

struct txn_totals { // so far, of all lanes
    uint64_t commits;
    uint64_t aborts;  // asked for
    uint64_t records; // of committed transactions
};

struct txn_load;

/* Prepares lanes and producers. Returns NULL after a message. */
struct txn_load *txn_load_new(struct driver_session *session, uint32_t abort_percent);
void txn_load_free(struct txn_load *load);

/* Starts the threads. Returns 0, or -1 after a message. */
MUST_USE int txn_load_start(struct txn_load *load);
void txn_load_slot(struct txn_load *load, enum txn_slot slot);

/* Each lane ends its transaction; waits for them. */
void txn_load_stop(struct txn_load *load);

struct txn_totals txn_load_totals(struct txn_load *load);

/* After txn_load_stop(): commit latencies of a slot, added to *latency_ns; and what was unexpected. */
void txn_load_latency(struct txn_load *load, enum txn_slot slot, struct histogram *latency_ns);
void txn_load_check(struct txn_load *load, struct report *report);

/* Every value begins with the time of its transaction's begin, when it is long enough. */
#define TXN_STAMP_BYTES 8u
static inline uint64_t txn_stamp_read(const void *value)
{
    uint64_t time_ns;
    __builtin_memcpy(&time_ns, value, TXN_STAMP_BYTES);
    return time_ns;
}

#endif
