/* Threads that publish, and what becomes of their records.
 *
 * A lane is a thread. It drives one producer, or several in turn (--producers above --threads). Three ways to go on:
 *
 *   --rate R           open loop: a schedule says when each record is due (schedule.h), and latency counts from that moment,
 *                      whether or not the producer could send it then
 *   --rate max         as fast as the library takes them; latency counts from the call, and is the length of the library's queue
 *   --closed-loop W    a producer has at most W records without an ack; with 1 it waits for each (--lone). Latency from the call
 *
 * A record is counted when its ack came. Of every n-th one the time is taken as well: n is a prime, so that the samples fall on all
 * places of a batch alike.
 *
 * What can go wrong ends in the report as an anomaly: sends that fail, records that are reported as failed, offsets that do not
 * grow, records that were due but never sent, records without an ack. */
#ifndef SLUICE_BENCH_ENGINE_PUBLISHERS_H
#define SLUICE_BENCH_ENGINE_PUBLISHERS_H

#include "base/histogram.h"
#include "bench/driver/driver.h"
#include "bench/engine/windows.h"
#include "bench/report/report.h"

struct publish_totals { // so far, of all
    uint64_t sent;
    uint64_t acked;
    uint64_t failed;
};

struct publishers;

/* Makes all producers. rate: records a second of all together; 0: none. Returns NULL after a message. */
struct publishers *publishers_new(struct driver_session *session, uint64_t rate);
void publishers_free(struct publishers *publishers);

/* Starts the threads; schedules begin now. Returns 0, or -1 after a message. */
MUST_USE int publishers_start(struct publishers *publishers, const struct windows *windows);

/* Lets the threads end, and waits for all acks. */
void publishers_stop(struct publishers *publishers);

struct publish_totals publishers_totals(struct publishers *publishers);

/* Latencies of what was due in a window, added to *latency_ns. Thread: main, at any time. */
void publishers_latency(struct publishers *publishers, uint32_t window,
                        struct histogram *latency_ns);

/* After publishers_stop(): how late records were sent, behind the moment that they were due. Empty without a rate. */
void publishers_slip(struct publishers *publishers, struct histogram *slip_ns);

/* After publishers_stop(): records that were due in a window, and that no thread came to. */
uint64_t publishers_not_sent(const struct publishers *publishers);

/* After publishers_stop(): what was unexpected, but for records that were not sent. */
void publishers_check(struct publishers *publishers, struct report *report);

#endif
