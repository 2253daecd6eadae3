/* A broker of a claim's own: beside this program, or --broker; on a free port, in a directory that is made below --data-dir (or here) and removed
 * again. */
#ifndef SLUICE_BENCH_CLAIM_PRIVATE_BROKER_H
#define SLUICE_BENCH_CLAIM_PRIVATE_BROKER_H

#include <limits.h>

#include "bench/engine/broker_process.h"
#include "bench/options.h"

#define PRIVATE_ARGUMENTS_MAX 24

struct private_broker {
    struct broker_process process;
    char program[PATH_MAX];
    char place[PATH_MAX]; // holds the store and the log of the process
    char store[PATH_MAX];
    char cores[16];
    const char *arguments[PRIVATE_ARGUMENTS_MAX];
};

/* Makes the directory and the command line; starts nothing. `settings`: key=value, NULL at the end, which must outlive it. Returns 0, or -1
 * after a message. */
MUST_USE int private_broker_init(struct private_broker *broker, const struct bench_options *options,
                                 const char *const *settings);
/* Stops it if it runs, removes the directory. */
void private_broker_deinit(struct private_broker *broker);

/* The same, started, with all its log files prepared: what most claims want. private_broker_deinit() is right also behind a failure. */
MUST_USE int private_broker_open(struct private_broker *broker, const struct bench_options *options,
                                 const char *const *settings);

/* Starts it, or starts it again. Returns 0, or -1 after a message. */
MUST_USE int private_broker_start(struct private_broker *broker);

/* Waits until all log files that the budget allows are prepared: a broker that waits for one measures its preparation. */
MUST_USE int private_broker_wait_for_spares(struct private_broker *broker);

/* The value of a line of its status; 0 when it has none of that name. Returns 0, or -1 after a message. */
MUST_USE int private_broker_value(struct private_broker *broker, const char *name, uint64_t *value);

/* Removes the store of a broker that does not run: the next start makes a new one. */
void private_broker_forget(struct private_broker *broker);

#endif
