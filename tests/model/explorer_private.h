/* What the parts of the explorer share: explorer.c walks the executions, steps.c is one step of a thread, report.c tells. */
#ifndef SLUICE_TESTS_MODEL_EXPLORER_PRIVATE_H
#define SLUICE_TESTS_MODEL_EXPLORER_PRIVATE_H

#include "tests/model/fibers.h"
#include "tests/model/graph.h"

#define LOG_MAX 600

enum option_kind { OPTION_READ, OPTION_PLACE, OPTION_REVISIT, OPTION_CHOOSE, OPTION_SCHEDULE };

struct option {
    uint8_t kind;
    uint8_t index;  // PLACE, REVISIT: in mo. CHOOSE: the value. SCHEDULE: the thread
    event_id event; // READ: rf. REVISIT: the read
};

struct log_entry { // for the trace: in the order of running
    const char *call;
    event_id event;
    uint8_t thread;
};

struct run { // of one execution
    struct graph graph;
    uint8_t replayed[MODEL_THREADS_MAX]; // events of the graph that have happened
    uint8_t call_at[MODEL_THREADS_MAX];  // where the current call of the product began
    bool at_rmw[MODEL_THREADS_MAX];      // its next event is the write of a read-modify-write
    int extending;                       // this thread may add events; -1: replay
    bool is_refused;                     // what was replayed is not consistent
    bool is_failed;
    bool is_direct; // setup or finish: no threads
    uint64_t results[MODEL_RESULTS_MAX];
    int result_count;
    uint32_t sights;
    struct log_entry log[LOG_MAX];
    int log_count;
};

extern struct run run;
extern const struct model *explorer_model;
extern struct model_options explorer_options;
extern struct model_result *explorer_result;

/* An event is to be added by the thread that runs. Adds it to the graph in the first way there is, and keeps the others for
 * later; or gives the execution up, and does not return. */
struct event *explorer_extend(struct event *event);
/* steps.c: another run: no site was touched yet. */
void steps_begin(void);
/* steps.c: sets the clocks of an event that has its place. False: coherence forbids it (replay). */
bool steps_clocks(event_id id);

/* report.c */
void report_begin(void);
void report_log_call(int thread, const char *call);
void report_log_event(event_id id);
void report_execution(void); // a complete one
void report_failure(FILE *to);
void report_end(void);

#endif
