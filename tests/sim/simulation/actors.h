/* What clients do in a simulation, each as the main thread of a simulated process with a real libsluice in it. What they do
 * and see is a history (tests/checker); what that can't express is asserted here, by fail().
 *
 *     plain       an idempotent producer to the first topic; each life is a producer of its own
 *     worker      a transactional producer to all topics: commits, aborts, prepares, takes over from its earlier life
 *     reader      everything, from where it was
 *     member      of a group: processes, commits, leaves, comes back; nothing may be skipped, no offset go back
 *     mover       consumes the first topic in a group and produces to the last one, offsets in the same transaction
 *     churner     makes topics, writes to them, deletes them
 *     hoarder     large records into a topic that keeps only the newest; reads it, and judges what is left
 *
 * Every actor may be killed at any time and started again with the same number. */
#ifndef SLUICE_TESTS_ACTORS_H
#define SLUICE_TESTS_ACTORS_H

#include "tests/integration/history_client.h"
#include "tests/sim/simulation/hoard.h"
#include "tests/sim/world/world.h"

#define STAGE_GROUPS 3 // two of members, one of movers
#define STAGE_MOVER_GROUP (STAGE_GROUPS - 1)

enum actor_kind {
    ACTOR_PLAIN,
    ACTOR_WORKER,
    ACTOR_READER,
    ACTOR_MEMBER,
    ACTOR_MOVER,
    ACTOR_CHURNER,
    ACTOR_HOARDER,
    ACTOR_KINDS
};

#define STAGE_HOARDS 2
#define STAGE_MOVES_MAX 65536
struct stage_move { // of one partition, in one transaction: [first, next)
    uint32_t partition;
    uint64_t first, next;
    enum { MOVE_UNKNOWN, MOVE_COMMITTED, MOVE_ABORTED } outcome;
};

struct stage {             // what all actors share; the test's memory
    struct world *world;   // of history_client.h
    uint32_t pause_ms_max; // between what an actor does
    uint32_t record_bytes_max;
    uint32_t abort_percent;
    void (*on_storage_error)(void); // a consumer was told; NULL: it tries again
    bool reads_may_fail;            // of the broker's disk: then a consumer may be told so
    /* by group and partition */
    uint64_t processed[STAGE_GROUPS][WORLD_PARTITIONS_MAX]; // all below, by some member
    struct stage_move *moves;                               // whose commit was asked for
    uint32_t move_count;
    struct hoard hoards[STAGE_HOARDS]; // of each hoarder
    /* what was done, so that a test can see that it tested something */
    uint64_t begins_lost; // nobody knows whether a transaction is open: until its time is over
    uint64_t plain_acks, commits, aborts, prepares, group_commits, topics_made;
};

struct actor {
    struct stage *stage;
    enum actor_kind kind;
    uint32_t number;         // of its kind, from 0
    struct process *process; // NULL: killed, or ended
    bool has_ended;          // its program returned
    uint64_t off_until_ns;   // its machine has no power; 0: it has
};

void actor_start(struct actor *actor);
void actor_kill(struct actor *actor);
/* Its machine loses power and has it again at back_ns: the caller starts it then. */
void actor_lose_power(struct actor *actor, uint64_t back_ns);

/* What movers have moved is each offset once, from 0 on. Fails the test otherwise. */
void stage_check_moves(struct stage *stage);
const char *actor_name(enum actor_kind kind);

/* Producer numbers of the history: workers first, then movers, then lives of plain producers. */
#define ACTOR_WORKERS_MAX 8
#define ACTOR_MOVERS_MAX 4

#endif
