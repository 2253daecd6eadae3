/* The broker's limits, looked at from outside: memory against the bound that it printed, descriptors, and what its log says
 * when it ends. */
#ifndef SLUICE_TESTS_SOAK_WATCH_H
#define SLUICE_TESTS_SOAK_WATCH_H

#include <stdint.h>

#include "bench/engine/broker_process.h"

#define BOUND_SLACK 1.05

struct watch {
    uint64_t bound_bytes; // printed by its last start
    uint64_t rss_bytes;   // the peak of all its lives
    double of_bound;      // the same as a share of the bound
};

/* Behind each start: `from` is where its log began. False: it did not print a bound. */
bool watch_started(struct watch *watch, const struct broker_process *broker, long from);
/* Now and before each end. False: above the bound and 5 %. */
bool watch_look(struct watch *watch, const struct broker_process *broker);

struct descriptors {
    uint32_t sockets, files, others;
};
struct descriptors descriptors_of(const struct broker_process *broker);

long log_length(const struct broker_process *broker);
/* The last line from there on that has all three words; false: there is none. */
bool log_find(const struct broker_process *broker, long from, const char *const words[3],
              char *line, int size);
bool log_last(const struct broker_process *broker, long from, char *line, int size);
uint64_t log_count(const struct broker_process *broker, const char *word); // lines that have it

#endif
