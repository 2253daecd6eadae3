/* The production broker as a process of the simulated world: cores, shards, protocol and storage as they are, on a disk that
 * outlives it. Its main thread does what broker.c does with a process around it.
 *
 * Thread: the test's own (process 0), or none. */
#ifndef SLUICE_TESTS_SIM_BROKER_H
#define SLUICE_TESTS_SIM_BROKER_H

#include "broker/assembly.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/world/world.h"

struct sim_state { // of a shard
    uint64_t digest;
    uint64_t end_lsn; // all that was appended, durable or not; after a start: all that was found
    uint64_t chain;   // up to there: logs of one length and one chain are equal
    uint64_t durable_lsn; // below it everything is on stable storage
    bool is_known;        // false: the group that is being filled has no chain yet
};

#define SIM_BROKER_PORT 7650
#define SIM_BROKER_SETTINGS_MAX 16

enum sim_broker_state {
    SIM_BROKER_DOWN,
    SIM_BROKER_STARTING,
    SIM_BROKER_READY,
    SIM_BROKER_DRAINING,
    SIM_BROKER_ENDED, // by itself: exit_status, and text when it refused to start
};

struct sim_broker {
    /* ---- set by the caller before the first start ---- */
    struct sim_disk *disk;
    const char *settings[SIM_BROKER_SETTINGS_MAX][2]; // key and value, as in --set
    void (*on_opened)(struct sim_broker *b,
                      uint16_t shard); // recovered, nothing served yet; or NULL
    /* ---- read by the caller ---- */
    enum sim_broker_state state;
    struct process *process; // NULL: down
    struct broker *broker;   // of this life, from STARTING on; its memory is the process's
    uint32_t lives;
    int exit_status;
    int start_status; // of a start that was refused
    char text[1024];
    uint64_t started_ns, ready_ns;
    struct sim_state opened[SHARDS_MAX]; // what recovery gave, before anything was served
};

void sim_broker_start(struct sim_broker *b);
/* As SIGTERM: it is ENDED when it has drained. */
void sim_broker_drain(struct sim_broker *b);
/* At once. */
void sim_broker_end(struct sim_broker *b, enum process_end how);

/* Waits, with the calling (test's) thread, until it is READY or ENDED. True: READY. */
bool sim_broker_wait_ready(struct sim_broker *b);

/* What a shard has now, to be compared with what a later life's recovery gives. */
struct sim_state sim_broker_state_of(struct sim_broker *b, uint16_t shard);

#endif
