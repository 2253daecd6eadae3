/* A history: what the clients of a test did and saw, as one stream of events.
 *
 * It lies in memory that is shared with child processes, so a client that is killed with SIGKILL leaves all it has said. The
 * place of an event in the stream is its time: an event written before another one was begun, in whatever process,
 * comes before it. That is all the checker needs; no clock is read.
 *
 * Happy path: history_new() before the forks, history_add() anywhere, history_check() (checker.h) when the clients are
 * gone. It fails, by ending the process with a message, when there is no memory or the history is full. */
#ifndef SLUICE_TESTS_HISTORY_H
#define SLUICE_TESTS_HISTORY_H

#include <stdint.h>
#include <stdio.h>

#define HISTORY_NO_OFFSET UINT64_MAX

enum history_kind {
    HISTORY_NONE = 0, // claimed by a process that died before it had written it
#define EVENT(name, fields, when) HISTORY_##name,
#include "tests/checker/events.def"
#undef EVENT
    HISTORY_KIND_COUNT
};

/* All numbers are the test's own, small and dense from 0 (transactions from 1). A partition is one of one topic: the test
 * numbers them through. */
struct history_event {
    uint32_t kind;
    uint32_t partition;
    uint32_t reader; // or whoever asks
    uint32_t producer;
    uint32_t group;
    uint32_t count; // 0 counts as 1
    uint64_t sequence;
    uint64_t offset;
    uint64_t txn;
};

struct history;

struct history *history_new(uint64_t event_count_max);
void history_free(struct history *history);

/* Thread and process: any. Wait-free. */
void history_add(struct history *history, struct history_event event);

/* Those written so far, in their order; only when nobody adds any more. */
uint64_t history_count(const struct history *history);
const struct history_event *history_at(const struct history *history, uint64_t i);

/* One line an event, for people. */
void history_print(const struct history *history, FILE *file);
const char *history_kind_name(uint32_t kind);

#endif
