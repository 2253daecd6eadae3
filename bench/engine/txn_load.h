/* The load of `transactions` and of `claim open-transaction`: threads that begin, send, and commit or abort.
 *
 * A lane is one thread with a transactional producer of its own. Records of a transaction go to one partition after the
 * other. The latency of a commit ends when sluice_txn_commit() returns: then all of it is durable and visible.
 *
 * With windows it counts, as that of records does (publishers.h), from the moment that the transaction was due, if there is a --rate, and belongs to
 * the window of that moment. A lane does one transaction at a time: one that is late is begun as soon as the lane is free.
 *
 * Without windows, and without a rate, it counts from the call, which also sends what is still in the buffer. Without windows samples are kept
 * apart by slot: the one that was set when the commit was called, if it still is when it returns. */
#ifndef SLUICE_BENCH_ENGINE_TXN_LOAD_H
#define SLUICE_BENCH_ENGINE_TXN_LOAD_H

#include "base/histogram.h"
#include "bench/driver/sluice.h"
#include "bench/engine/windows.h"
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

/* Starts the threads; schedules begin now. windows: NULL: there are slots. Returns 0, or -1 after a message. */
MUST_USE int txn_load_start(struct txn_load *load, const struct windows *windows);
void txn_load_slot(struct txn_load *load, enum txn_slot slot);

/* Each lane ends its transaction; waits for them. */
void txn_load_stop(struct txn_load *load);

struct txn_totals txn_load_totals(struct txn_load *load);

/* Commit latencies of a slot or a window, added to *latency_ns. Thread: main, at any time. */
void txn_load_latency(struct txn_load *load, uint32_t slot, struct histogram *latency_ns);

/* After txn_load_stop(): how late transactions were begun, behind the moment that they were due; those that were due in a window and never
 * begun; and what was unexpected otherwise. */
void txn_load_slip(struct txn_load *load, struct histogram *slip_ns);
uint64_t txn_load_not_begun(const struct txn_load *load);
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
