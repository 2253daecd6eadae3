/* An explorer of all executions of a small concurrent program under a weak memory model.
 *
 * A harness gives two to four threads of a few atomic operations each. The explorer runs them again and again, each time with
 * other values for the loads, until every execution that the memory model allows was seen once. The model, and how it
 * is walked: README.md. The product's own sources run in it: compiled with shim/stdatomic.h in place of the compiler's, each
 * atomic operation comes here; compiled with -fsanitize=thread, each plain access does, too (memory.c).
 *
 * Thread: one; the harness's threads are fibers. */
#ifndef SLUICE_TESTS_MODEL_EXPLORER_H
#define SLUICE_TESTS_MODEL_EXPLORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MODEL_THREADS_MAX 4
#define MODEL_RESULTS_MAX 8

/* ---- what a harness is ---- */

struct model {
    const char *name;
    const char *what; // a line for people
    int thread_count;
    void (*setup)(void);      // alone, before the threads; makes all shared memory
    void (*thread)(int self); // each of them
    void (*finish)(void);     // alone, after all threads; sees everything. May be NULL
    const char *outcomes;     // litmus: the exact set, "0,0 0,1"; NULL: not compared
    const char *sights;       // names for model_saw(): each has to be seen in some execution
    bool is_long;             // more than some seconds: not in the short form
};

/* Shared memory of a harness: the same addresses in every execution, and plain accesses are checked. */
void *model_memory(size_t bytes, size_t alignment);

/* One of the values that an outcome is made of; by index. */
void model_result(int index, uint64_t value);
/* Something that a harness must not be without happened: the n-th of `sights`. */
void model_saw(int sight);
/* A choice of the harness: all of 0..count-1 are tried. */
int model_choose(int count);
/* A call of the product begins: a load that repeats, within one call, what the same loop has just read is cut off, since
 * nothing new can come of it. */
void model_call(const char *name);
/* The property. */
#define MODEL_CHECK(x) ((x) ? (void)0 : model_fail(__FILE__, __LINE__, #x))
void model_fail(const char *file, int line, const char *what);

/* ---- what the shim calls ---- */

enum model_order {
    MODEL_RELAXED,
    MODEL_CONSUME,
    MODEL_ACQUIRE,
    MODEL_RELEASE,
    MODEL_ACQ_REL,
    MODEL_SEQ_CST
};

enum model_kind { MODEL_LOAD, MODEL_STORE, MODEL_RMW, MODEL_CAS, MODEL_FENCE };
enum model_rmw { MODEL_ADD, MODEL_SUB, MODEL_OR, MODEL_AND, MODEL_XOR, MODEL_EXCHANGE };

struct model_site { // one atomic operation in a source
    const char *file;
    int line;
    const char *text;
    uint8_t kind;  // enum model_kind
    uint8_t order; // as written
    uint16_t id;   // the explorer's, from 1; the same for all copies of an inline function
};

uint64_t model_load(struct model_site *site, const volatile void *place, size_t size);
/* Blocks until the word is not `value`; returns what it is then. */
uint64_t model_await_not(struct model_site *site, const volatile void *place, size_t size,
                         uint64_t value);
void model_store(struct model_site *site, volatile void *place, size_t size, uint64_t value);
uint64_t model_rmw(struct model_site *site, volatile void *place, size_t size, enum model_rmw op,
                   uint64_t operand);
bool model_cas(struct model_site *site, volatile void *place, size_t size, uint64_t *expected,
               uint64_t desired, bool is_weak);
void model_fence(struct model_site *site);

/* ---- running ---- */

struct model_options {
    uint16_t weaken; // the site with this id gets `weaken_to`; 0: none
    uint8_t weaken_to;
    const char *path; // replay this one execution
    bool brute;       // every interleaving, to check the explorer against
    bool count_distinct;
    uint64_t executions_max; // 0: no bound
    FILE *trace;             // where a failing execution is shown; NULL: nowhere
};

struct model_result {
    uint64_t executions; // complete ones
    uint64_t distinct;   // of them, different as graphs; counted when asked for
    uint64_t blocked;    // ended in a wait that another execution ends otherwise
    uint64_t cut;        // ended in a repetition
    uint64_t refused;    // not consistent
    bool failed, bounded;
    uint32_t sights;     // a bit each
    char what[200];      // failed: the property
    char path[4000];     // failed: replays it
    char outcomes[1000]; // of a litmus test, sorted
};

void explorer_run(const struct model *model, const struct model_options *options,
                  struct model_result *result);

/* A site that any run has come to, by id; NULL: no more. */
const struct model_site *explorer_site(uint16_t id);
/* The last run has come to it. */
bool explorer_touched(uint16_t id);

#endif
