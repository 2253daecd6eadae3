/* The checker of histories: is what the clients saw what the broker promises?
 *
 * It takes events one by one (checker_add), finds at once what an event alone shows to be wrong, and at the end
 * (checker_finish) what only the whole shows. Each finding has a kind of anomalies.def and a sentence that names the
 * records. One anomaly may be found in several ways and then counts more than once; none of a kind means that there is none.
 *
 * What is not known is never held against the broker: a record without an answer may be there or not, and so may a
 * transaction whose commit was asked for and not answered, but then all of it or nothing.
 *
 * Memory: 8 bytes and a bit for each record, 16 bytes for each run of records of one transaction in one partition, 40 for
 * each transaction: 190 MB for ten million records in transactions of ten, and a third of a second.
 *
 * Thread: one. It ends the process when there is no memory. */
#ifndef SLUICE_TESTS_CHECKER_H
#define SLUICE_TESTS_CHECKER_H

#include <stdbool.h>

#include "tests/checker/history.h"

enum anomaly {
#define ANOMALY(name, text) ANOMALY_##name,
#include "tests/checker/anomalies.def"
#undef ANOMALY
    ANOMALY_COUNT
};

const char *anomaly_name(enum anomaly anomaly);
const char *anomaly_text(enum anomaly anomaly);

struct checker_options {
    /* Each finding; NULL: the first ten of each kind go to standard output. */
    void (*on_anomaly)(void *context, enum anomaly anomaly, const char *sentence);
    void *context;
};

struct checker;

struct checker *checker_new(const struct checker_options *options);
void checker_free(struct checker *checker);
void checker_add(struct checker *checker, const struct history_event *event);
void checker_finish(struct checker *checker); // nothing may be added behind it

uint64_t checker_count(const struct checker *checker, enum anomaly anomaly);
uint64_t checker_count_all(const struct checker *checker);

/* What was looked at, so that a test can see that it tested something. */
struct checker_totals {
    uint64_t records_sent;
    uint64_t records_seen; // by at least one reader
    uint64_t committed;    // transactions of which the answer is known
    uint64_t aborted;
    uint64_t unknown_seen; // whose commit's answer is not known: visible
    uint64_t unknown_unseen;
};
struct checker_totals checker_totals(const struct checker *checker);

/* Checks a whole history, prints totals and findings. True: no anomaly. */
bool history_check(const struct history *history);

/* Only whether the history has that anomaly; the first of each kind is printed. */
bool history_has(const struct history *history, enum anomaly anomaly);

#endif
