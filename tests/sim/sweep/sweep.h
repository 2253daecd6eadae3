/* A sweep: the scenario is run once; at each of its points (an operation on a file or a socket, an allocation) the process forks,
 * the child is struck by a fault there and runs to the scenario's end, the parent goes on without. So point n has the same past in
 * every run, and no run repeats that past.
 *
 * A child that fails (FAILED, an assertion, a signal, no end within 60 s) is told with the command that runs it alone.
 *
 * Thread: one. */
#ifndef SLUICE_TESTS_SWEEP_H
#define SLUICE_TESTS_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

struct sweep_options {
    uint64_t from, to; // points, from 1
    uint64_t sample;   // every so many-th of them, and the first of each kind; 0: all
    uint32_t jobs;
    const char *fault;   // only this one; NULL: each
    bool stops;          // at the first point that fails
    bool is_loud;        // what the broker says
    const char *history; // NULL, or the file for what the clients of a struck run did and saw
    const char *program;
};

/* Each runs all, prints a summary, and returns how many points failed. */
uint64_t sweep_io(const struct sweep_options *options);
uint64_t sweep_sockets(const struct sweep_options *options);
uint64_t sweep_memory(const struct sweep_options *options);

/* ---- for these ---- */

void sweep_begin(const struct sweep_options *options, const char *kind);
/* The next point; true: something is to be tried there. Points of a kind (any number, told apart by it) are as good as each other:
 * a sample has the first of each, wherever that is today. */
bool sweep_point(uint64_t kind);
/* A kind from words and a text, in which digits don't count (or NULL). */
uint64_t sweep_kind(const uint64_t *words, uint32_t count, const char *text);
uint64_t sweep_point_number(void);
/* At a point, for each fault: true in the child that it is to strike. */
bool sweep_fork(const char *fault, const char *what);
bool sweep_is_child(void);
/* After the scenario: a child ends here; the parent waits for its children, says what it found, and returns how many failed. */
uint64_t sweep_end(void);

#endif
