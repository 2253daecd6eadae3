/* What a sweep of faults runs again and again: a broker of three shards from its first start on, a client that does a bit of
 * everything, and in between a checkpoint, a kill, a drain and a loss of power, each with a start behind it.
 *
 * It is fixed: without a fault two runs are the same event for event, so "the n-th operation" means something. A sweep strikes
 * one of them (sweep.h), tells the scenario so, and the scenario holds what follows against what is promised:
 *
 *     the broker goes on, or ends by itself with EXIT_FAILED; a start goes on, or says why it does not
 *     after a failed write or fdatasync of a log it ends within a second, says file and LSN, and acks nothing any more
 *     whatever befalls a socket, and whatever is only short, it goes on
 *     when the fault is over it starts, clients come to their ends by themselves, and the checker of histories finds nothing
 *     a client without memory says so, reports each record that it took once, and gives back all that it had
 *
 * A broker that ended by itself loses its machine's power as well, so what was acked and is not durable is missed. Whatever is
 * found wrong ends the process by fail(). */
#ifndef SLUICE_TESTS_SCENARIO_H
#define SLUICE_TESTS_SCENARIO_H

#include "tests/integration/history_client.h"
#include "tests/sim/simulation/sim_broker.h"

enum scenario_stage { // what the client has done; it waits there for what the director does
    SCENARIO_BEGUN,
    SCENARIO_CHECKPOINT, // the broker is asked for one
    SCENARIO_KILL,
    SCENARIO_DRAIN,
    SCENARIO_POWER, // the client is at its end
    SCENARIO_STAGES
};

/* Told by the sweep: the first operation that failed in this life of the broker, or the first of a log. */
struct scenario_strike {
    bool has_struck;
    bool is_over;      // it asks each time; set by the scenario
    bool is_sticky;    // from then on, until it is over
    bool is_of_memory; // an allocation, else an operation on a file
    bool is_borne;     // by the broker: on a socket, its own or the client's, or a short transfer
    bool is_of_client; // that was an allocation of the client
    bool is_of_log;    // a write or fdatasync of a log's file
    bool was_serving;  // the broker
    uint64_t began_ns; // in any life
    uint64_t at_ns;    // the operation ends then, at the earliest
    uint32_t life;     // of the broker
    const char *path;  // of the log's file
};

struct scenario {
    struct sim_broker broker;
    struct process *client; // NULL: not started, or ended
    struct world *world;
    struct scenario_strike strike;
    uint64_t seed;
    /* ---- the client and the director ---- */
    enum scenario_stage asked, done;
    bool client_has_ended;
    /* ---- what was seen, for the sweep's summary ---- */
    uint32_t starts_failed, ended_by_itself, parts_failed;
    uint64_t ended_after_log_ns; // from the failure of a log of a broker that served, at most
    uint64_t ended_after_ns;     // from another one
    bool log_names_place;        // a line about the failure had file and LSN
    uint32_t failure_lines;      // of all lives
};
extern struct scenario scenario;

/* One run from beginning to end, in the calling process; the strike may come at any time in it. `fault` (or NULL) is asked
 * for each operation on a file or a socket. A run that was struck writes its history to history_path (or NULL). */
void scenario_run(world_fault_fn fault, bool is_loud, const char *history_path);

/* The sweep has struck: the first time, or what stays has struck anew. */
void scenario_strikes(struct scenario_strike strike);

/* A core of the broker serves, or has: what it writes now is for clients. */
bool scenario_serves(void);

/* ---- for script.c ---- */

/* The client's program. */
void *script_run(void *argument);
/* Reads everything, once, and looks whether the broker holds something of any transaction. */
void *script_judge(void *done);
/* An ack came just now. */
void scenario_acked(void);

#endif
