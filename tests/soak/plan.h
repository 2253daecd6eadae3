/* What an episode is: where the data lies, which backend, which faults at which time. All of it follows from the seed and the
 * episode's number, so that an episode can be run again. What really happens then also depends on the scheduler; the plan
 * does not. */
#ifndef SLUICE_TESTS_SOAK_PLAN_H
#define SLUICE_TESTS_SOAK_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#define ROUND_EPISODES 6 // share a store, that grows old in them
#define PLAN_FAULTS_MAX 3

enum place_kind { PLACE_PLAIN, PLACE_EXT4, PLACE_XFS, PLACE_FUSE, PLACE_COUNT };
#define ON_ANY ((1u << PLACE_COUNT) - 1)
#define ON_PLAIN (1u << PLACE_PLAIN)
#define ON_IMAGE (ON_ANY & ~ON_PLAIN)
#define ON_FUSE (1u << PLACE_FUSE)

enum fault_kind {
#define SOAK_FAULT(NAME, name, weight, places, text) SOAK_##NAME,
#include "tests/soak/faults.def"
#undef SOAK_FAULT
    SOAK_FAULT_COUNT
};

struct planned_fault {
    enum fault_kind kind;
    uint32_t at_ms;  // since the load runs
    uint32_t for_ms; // 0: an instant
    uint32_t count;  // of what comes in numbers: kills, cuts, connections
    uint64_t choice; // what else the fault has to choose
};

struct plan {
    uint64_t seed;
    uint32_t number;
    enum place_kind place;
    const char *io;
    uint32_t shards; // of the round's store
    uint32_t fault_count;
    struct planned_fault faults[PLAN_FAULTS_MAX];
};

struct plan_options {
    uint64_t seed;
    int only;               // a fault_kind; -1: all
    uint32_t only_count;    // how many of it in an episode
    unsigned places;        // that this machine has, a bit each
    const char *io;         // NULL: alternates
    enum place_kind forced; // PLACE_COUNT: as the seed says
};

void plan_make(struct plan *plan, const struct plan_options *options, uint32_t number);

/* "kill x3 @1.2s + cpu @0.5s 4.0s" */
void plan_describe(const struct plan *plan, char *text, uint32_t size);

const char *fault_name(enum fault_kind kind);
const char *place_name(enum place_kind kind);
bool fault_is_possible(enum fault_kind kind, enum place_kind place);
int fault_by_name(const char *name); // -1: none
int place_by_name(const char *name);
bool plan_has(const struct plan *plan, enum fault_kind kind);

#endif
