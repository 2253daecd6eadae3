/* Which moments of a recording lie in a two-phase commit: from when the first PREPARE of a transaction over more than one shard
 * began to be written until the COMMIT of its last participant was durable. Only of transactions that were decided to
 * commit: what aborts is none, and what one entry of one shard ends neither. A broker that is down meanwhile changes
 * nothing: the moment is a matter of the logs.
 *
 * Thread: one. */
#ifndef SLUICE_TESTS_CRASH_TWO_PHASE_H
#define SLUICE_TESTS_CRASH_TWO_PHASE_H

#include "tests/sim/crash/trace.h"

void two_phase_begin(void);
/* An entry was appended to the log of this shard. */
void two_phase_on_entry(const struct broker *broker, const struct shard *shard,
                        const struct wal_view *view);
/* Event number `event` is about to happen to the disk of a broker that is up. */
void two_phase_on_event(const struct broker *broker, uint32_t event);
/* A start found this shard's log to end here: what was appended behind is gone. */
void two_phase_on_opened(uint16_t shard, uint64_t end_lsn);
/* Sets the trace's known.two_phase. Behind its last event. */
void two_phase_mark(struct trace *trace);

#endif
