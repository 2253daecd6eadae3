/* One simulation: a broker, its clients, what they do, and what befalls them, all from one seed; then a calm, in which
 * everything must come to its end; then the judge.
 *
 * The seed decides first what kind of run it is (a swarm: shards, cores, latencies, which actors, which faults and how often),
 * then each event. Kinds of faults are switched on and off by themselves, since runs in which everything goes wrong at once hide
 * what goes wrong after one thing.
 *
 * A run that fails prints FAILED and a sentence, and ends the process with code 1; an assertion of the product aborts it. So
 * each run is given a process of its own (sim_main.c). */
#ifndef SLUICE_TESTS_SIMULATION_H
#define SLUICE_TESTS_SIMULATION_H

#include "tests/sim/simulation/actors.h"
#include "tests/sim/simulation/lies.h"
#include "tests/sim/simulation/sim_broker.h"
#include "tests/sim/world/net.h"

enum trouble {
#define TROUBLE(name, text) TROUBLE_##name,
#include "tests/sim/simulation/troubles.def"
#undef TROUBLE
    TROUBLE_COUNT
};
const char *trouble_name(enum trouble trouble);
bool trouble_lies_in_wait(enum trouble trouble); // for an operation of the disk

struct simulation_plan { // what the seed decides first
    uint64_t seed;
    uint16_t shards, cores;
    uint32_t actors[ACTOR_KINDS];
    uint64_t storm_ns;         // how long troubles come
    uint64_t trouble_every_ns; // on average
    bool troubles[TROUBLE_COUNT];
    struct net_options net;
    uint64_t disk_latency_ns;
    uint32_t crash_keep_percent;
    uint64_t disk_bytes;
    uint64_t wal_bytes_budget;
    /* The disk lies (lies.h), and does nothing else wrong: the broker need not survive that, but it must see it. No wrong data,
     * nothing acked that is silently gone. */
    bool must_detect;
};
/* lying: must_detect whatever the seed says. */
void simulation_plan(struct simulation_plan *plan, uint64_t seed, bool lying);
void simulation_print_plan(const struct simulation_plan *plan, FILE *file);

/* What brokers did in all their lives: their own counters, so that what a generator never reaches shows as a zero. */
struct simulation_deeds {
#define SHARD_COUNTER(name, help) uint64_t name;
#include "broker/shard_counters.def"
#undef SHARD_COUNTER
#define CORE_COUNTER(name, help) uint64_t name;
#include "broker/core_counters.def"
#undef CORE_COUNTER
#define STORE_DEED(name) uint64_t name;
#include "tests/sim/simulation/store_deeds.def"
#undef STORE_DEED
};
void simulation_print_deeds(const struct simulation_deeds *deeds, FILE *file);

struct simulation_result {
    uint64_t trace;
    uint64_t simulated_ns;
    uint64_t switches;
    uint64_t given_up; // connections of the broker whose client had not answered for 60 s
    uint64_t events;   // of the history
    uint32_t broker_lives;
    uint32_t troubles[TROUBLE_COUNT]; // how often each came
    uint32_t struck[TROUBLE_COUNT];   // of those that lie in wait for an operation of the disk
    uint32_t quiet, unbroken; // runs without any trouble; without a restart before their end
    uint32_t restarts_of_shards;
    uint32_t states_compared; // of them: what the log gave with what the shard had at that LSN
    struct simulation_deeds deeds;
    bool was_broken_off;  // of a run that must detect: the broker saw it, or no broker could
    uint32_t must_detect; // such runs
    struct lies lies[SIM_LIES];
    uint64_t acks, commits, aborts, prepares, group_commits, moves, topics, hoarded;
    uint64_t hoards_trimmed; // of which retention had taken something at the end
};
const struct history *simulation_history(void); // of the one that runs
void simulation_run(const struct simulation_plan *plan, struct simulation_result *result);

#endif
