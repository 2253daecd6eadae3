/* The threads of a harness as fibers, and what of an execution is not in its graph. */
#ifndef SLUICE_TESTS_MODEL_FIBERS_H
#define SLUICE_TESTS_MODEL_FIBERS_H

#include "tests/model/graph.h"

enum fiber_state {
    FIBER_READY,    // may run
    FIBER_WAITING,  // replay: the write it reads from is not there yet
    FIBER_FRONTIER, // at an operation that the graph does not have
    FIBER_BLOCKED,  // for good, in this execution
    FIBER_DONE,
    FIBER_DROPPED, // the execution is over: it failed, or is not consistent
};

/* All threads at their beginning. */
void fibers_begin(const struct model *model);
/* Runs one until it gives way. */
enum fiber_state fibers_resume(int thread);
enum fiber_state fibers_state(int thread);

/* Of the one that runs; -1: none does. */
int fibers_self(void);
/* It gives way; comes back when it is resumed. */
void fibers_yield(enum fiber_state state);

/* What the thread that runs knows, and its clocks between operations. */
const struct clock *fibers_clock(void);
struct fiber_clocks {
    struct clock hb, porf;
    struct clock to_acquire; // of relaxed loads, until an acquire fence
    struct clock released;   // at the last release fence
};
struct fiber_clocks *fibers_clocks(int thread);

/* A data race of the thread that runs with an earlier access of `other`. */
void fibers_race(const char *what, int other);

#endif
