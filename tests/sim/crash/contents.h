/* What a recovered broker holds against what clients did and were told.
 *
 *     every acked record lies at its offset, once; no record is there twice, or was never sent, or comes before an earlier
 *     one of its producer; offsets have no gaps
 *     of a transaction all records are there or none: all when its commit was answered, none when its abort was, or when
 *     nobody had asked for a commit
 *     a group's offset is one that was asked for, at least what was last answered, and never of a transaction that is not there
 *
 * Every batch of every partition is read, by the store's own reading, checksums and all. */
#ifndef SLUICE_TESTS_CRASH_CONTENTS_H
#define SLUICE_TESTS_CRASH_CONTENTS_H

#include "tests/sim/crash/trace.h"

/* The trace's history, sorted for questions. Once for each trace. */
void contents_begin(const struct trace *trace);

/* Fails (fail()) when something is wrong. Thread: of a simulated process other than the broker's. Returns a hash of all
 * that was read. */
uint64_t contents_check(struct sim_broker *broker, const struct trace_known *known);

#endif
