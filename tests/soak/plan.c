#include "tests/soak/plan.h"

#include <stdio.h>
#include <string.h>

#include "base/random.h"

static const struct {
    const char *name;
    uint32_t weight;
    unsigned places;
} kinds[] = {
#define SOAK_FAULT(NAME, name, weight, places, text) {name, weight, places},
#include "tests/soak/faults.def"
#undef SOAK_FAULT
};
static const char *const places[PLACE_COUNT] = {"plain", "ext4", "xfs", "fuse"};

const char *fault_name(enum fault_kind kind)
{
    return kinds[kind].name;
}

const char *place_name(enum place_kind kind)
{
    return places[kind];
}

bool fault_is_possible(enum fault_kind kind, enum place_kind place)
{
    return kinds[kind].places & 1u << place;
}

int fault_by_name(const char *name)
{
    for (int i = 0; i < SOAK_FAULT_COUNT; i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return i;
    }
    return -1;
}

int place_by_name(const char *name)
{
    for (int i = 0; i < PLACE_COUNT; i++) {
        if (strcmp(places[i], name) == 0)
            return i;
    }
    return -1;
}

bool plan_has(const struct plan *plan, enum fault_kind kind)
{
    for (uint32_t i = 0; i < plan->fault_count; i++) {
        if (plan->faults[i].kind == kind)
            return true;
    }
    return false;
}

static uint32_t between(struct random *random, uint32_t low, uint32_t high)
{
    return low + (uint32_t)random_below(random, high - low + 1);
}

/* The durations: long enough to be felt, short enough for a thousand episodes in two hours. */
static void choose_extent(struct planned_fault *fault, struct random *random, bool alone)
{
    fault->count = 1;
    switch (fault->kind) {
    case SOAK_KILL:
    case SOAK_POWER_CUT:
        fault->count = between(random, 1, 4);
        break;
    case SOAK_STOP: // mostly seconds; one of four as long as a session and longer
        fault->for_ms =
            random_below(random, 4) ? between(random, 1000, 4000) : between(random, 4000, 20000);
        break;
    case SOAK_CLIENT_KILL:
        fault->count = between(random, 2, 8);
        break;
    case SOAK_STORM:
        fault->count = between(random, 2000, 6000);
        fault->for_ms = between(random, 2500, 4000);
        break;
    case SOAK_SLOWLORIS: // alone it lasts beyond the broker's deadline for HELLO, or that for a frame
        fault->count = between(random, 50, 250);
        fault->for_ms = between(random, 2000, 5000);
        if (alone)
            fault->for_ms = fault->count % 4 ? 14000 : 34000;
        break;
    case SOAK_NOT_READING:
        fault->count = between(random, 10, 40);
        fault->for_ms = between(random, 3000, 6000);
        break;
    case SOAK_MEMORY: // for the whole episode: pages stay with the group that they were first charged to
        fault->at_ms = 0;
        fault->for_ms = between(random, 3000, 6000);
        break;
    case SOAK_DISK_FULL:
    case SOAK_CPU:
    case SOAK_DISK_DELAY:
        fault->for_ms = between(random, 2000, 6000);
        break;
    default:
        break;
    }
}

/* One that is possible there and not chosen yet. */
static enum fault_kind choose_kind(const struct plan *plan, struct random *random)
{
    uint32_t sum = 0, at = 0, weights[SOAK_FAULT_COUNT];
    for (int i = 0; i < SOAK_FAULT_COUNT; i++) {
        bool possible = fault_is_possible((enum fault_kind)i, plan->place) &&
                        !plan_has(plan, (enum fault_kind)i);
        weights[i] = possible ? kinds[i].weight : 0;
        sum += weights[i];
    }
    uint32_t chosen = (uint32_t)random_below(random, sum);
    while (chosen >= weights[at])
        chosen -= weights[at++];
    return (enum fault_kind)at;
}

static void choose_faults(struct plan *plan, struct random *random)
{
    uint32_t wanted = between(random, 1, PLAN_FAULTS_MAX);
    for (uint32_t i = 0; i < wanted; i++) {
        struct planned_fault fault = {.kind = choose_kind(plan, random),
                                      .at_ms = between(random, 200, 2500),
                                      .choice = random_u64(random)};
        choose_extent(&fault, random, wanted == 1);
        plan->faults[plan->fault_count++] = fault;
    }
}

/* Rounds go through the places that the machine has; all else is chance. */
static enum place_kind choose_place(const struct plan_options *options, uint32_t round)
{
    unsigned allowed = options->places;
    if (options->only >= 0)
        allowed &= kinds[options->only].places;
    if (options->forced != PLACE_COUNT)
        return options->forced;
    enum place_kind list[PLACE_COUNT];
    uint32_t count = 0;
    for (int i = PLACE_COUNT - 1; i >= 0; i--) {
        if (allowed & 1u << i)
            list[count++] = (enum place_kind)i;
    }
    return count ? list[(round + options->seed) % count] : PLACE_PLAIN;
}

void plan_make(struct plan *plan, const struct plan_options *options, uint32_t number)
{
    static const char *const backends[] = {"uring", "epoll"};
    struct random random, of_round;
    uint32_t round = number / ROUND_EPISODES;
    random_init(&of_round, options->seed * 1000003 + round);
    random_init(&random, options->seed * 7919 + number);
    *plan = (struct plan){.seed = options->seed, .number = number};
    plan->place = choose_place(options, round);
    plan->shards = random_below(&of_round, 4) ? 3 : 1;
    plan->io = options->io ? options->io : backends[(number + options->seed) % 2];
    if (options->only < 0) {
        choose_faults(plan, &random);
        return;
    }
    struct planned_fault *fault = &plan->faults[plan->fault_count++];
    *fault = (struct planned_fault){
        .kind = (enum fault_kind)options->only, .at_ms = 100, .choice = random_u64(&random)};
    choose_extent(fault, &random, true);
    if (options->only_count)
        fault->count = options->only_count;
}

void plan_describe(const struct plan *plan, char *text, uint32_t size)
{
    uint32_t length = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < plan->fault_count && length < size; i++) {
        const struct planned_fault *fault = &plan->faults[i];
        length += (uint32_t)snprintf(text + length, size - length, "%s%s", i ? "+" : "",
                                     kinds[fault->kind].name);
        if (fault->count > 1 && length < size)
            length += (uint32_t)snprintf(text + length, size - length, "x%u", fault->count);
        if (fault->for_ms && length < size)
            length +=
                (uint32_t)snprintf(text + length, size - length, "/%.1fs", fault->for_ms / 1000.0);
    }
}
