/* What happened to the disk of a broker under load, with what the world outside knew at each moment: the material of crash
 * points.
 *
 *     trace_record()   the real broker and real clients in the simulated world, from a seed
 *     replay_to()      the disk as it was before event n, with all that was not durable then
 *
 * What was known is written down before each event, at the strictest places there are: how far each shard's log was
 * called committed (the mark that answers are released by), and how long the clients' history was (what their libraries
 * had told them; the network is faster than the disk).
 *
 * The live state is written down with each entry that is appended to a log: what the shard's tables were just before it. So
 * for every end that a recovered log can have, it is known what the state must be.
 *
 * Thread: one. */
#ifndef SLUICE_TESTS_CRASH_TRACE_H
#define SLUICE_TESTS_CRASH_TRACE_H

#include "tests/sim/simulation/actors.h"
#include "tests/sim/simulation/sim_broker.h"

#define TRACE_SHARDS_MAX 3
#define TRACE_EVENTS_MAX 6000
#define TRACE_LIVES_MAX 64 // of the recorded broker
#define TRACE_GROUPS STAGE_GROUPS

enum trace_mix {        // what the clients do
    TRACE_PLAIN,        // one shard, idempotent producers
    TRACE_TRANSACTIONS, // three shards, transactions over all of them
    TRACE_GROUPS_MIX,   // members commit offsets, movers commit them in transactions
    TRACE_FILES,        // the log rolls, is recycled, checkpoints are written; topics come and go
    TRACE_BIRTH,        // from the first byte of a new store
    TRACE_MIX_COUNT
};

struct trace_known {                      // before an event
    uint64_t history;                     // events: what clients were told by then
    uint64_t asked;                       // events: what they may have asked for by then
    uint64_t committed[TRACE_SHARDS_MAX]; // by shard
    uint32_t life;                        // of the broker, from 0
    uint32_t two_phase; // in a two-phase commit over so many shards (two_phase.h), or 0
};
struct trace_event {
    struct sim_event event; // its bytes and paths are the trace's
    struct trace_known known;
};
#define TRACE_TABLES_MAX 16
struct trace_state { // a shard's: the digests of its tables
    uint64_t tables[TRACE_TABLES_MAX];
};
struct trace_entry { // of a log
    uint64_t lsn;
    struct trace_state before;
};
struct
    trace_log { // as one life of the broker left it: a later one may give LSNs anew that nobody was told of
    struct trace_entry *entries;
    uint32_t count, capacity;
    struct trace_state end; // behind the last entry
};

struct trace {
    uint64_t seed;
    enum trace_mix mix;
    uint16_t shards, cores;
    uint64_t wal_bytes_budget;
    struct trace_event *events;
    uint32_t count;
    uint32_t first;          // crash points begin here
    struct trace_known last; // behind all events
    struct trace_log logs[TRACE_LIVES_MAX][TRACE_SHARDS_MAX];
    struct world *world; // its history
    struct stage stage;
    uint32_t rolls, checkpoints, kills; // that there were
};

void trace_record(struct trace *trace, uint64_t seed);
const struct trace_known *trace_known_at(const struct trace *trace, uint32_t event);
const char *trace_mix_name(enum trace_mix mix);
/* The settings that all brokers on these disks have. `values` is where their texts lie. */
void trace_settings(const struct trace *trace, struct sim_broker *broker, uint16_t cores,
                    char values[SIM_BROKER_SETTINGS_MAX][32]);
/* What the shard's state was, in that life, when its log ended at this LSN. */
const struct trace_state *trace_state_at(const struct trace *trace, uint32_t life, uint16_t shard,
                                         uint64_t end_lsn);
struct trace_state trace_state_of(const struct shard *shard);
/* The number (enum table_id) of a table in which they differ, or 0. */
int trace_states_differ(const struct shard *shard, const struct trace_state *a,
                        const struct trace_state *b);

/* ---- the disk, event by event ---- */

struct replay {
    const struct trace *trace;
    struct sim_disk *disk;
    struct sim_file **files; // by id, each held
    uint32_t file_count;
    uint32_t at; // events that have happened
};
void replay_begin(struct replay *replay, const struct trace *trace);
void replay_to(struct replay *replay, uint32_t event);
void replay_end(struct replay *replay);

#endif
