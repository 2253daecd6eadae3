/* One step of a thread: an atomic operation that the graph has already (replay) or that is to be added, its value and its
 * clocks. A read-modify-write is two events, one directly behind the other.
 *
 * Happens-before is kept as clocks. A store with release gives what its thread knows; one without it what the thread knew at
 * its last release fence; the write of a read-modify-write also what the write it read gave (the release sequence, as since
 * C++20: a plain store by the same thread does not continue one). A load with acquire takes at once, one without it at the
 * thread's next acquire fence. */
#include <stdlib.h>
#include <string.h>

#include "tests/model/explorer_private.h"
#include "tests/model/memory.h"

#define SITES_MAX 256

static struct model_site *sites[SITES_MAX];
static uint32_t touched[SITES_MAX], run_number;
static uint16_t site_count;

static uint8_t order_of(struct model_site *site);
static struct event *step(struct event *next);
static struct event *read_step(struct model_site *site, const volatile void *place, size_t size,
                               uint8_t order, const uint64_t *expected);
static void write_step(struct model_site *site, volatile void *place, size_t size, uint64_t value,
                       uint8_t order, bool is_rmw);
static void block(struct event *event, enum event_block why);
static enum event_block repeats(int thread, int index);

/* ---- operations ---- */

uint64_t model_load(struct model_site *site, const volatile void *place, size_t size)
{
    uint8_t order = order_of(site);
    if (run.is_direct)
        return memory_word((uintptr_t)place, size);
    return read_step(site, place, size, order, NULL)->value;
}

uint64_t model_await_not(struct model_site *site, const volatile void *place, size_t size,
                         uint64_t value)
{
    struct event *event = read_step(site, place, size, order_of(site), NULL);
    if (event->value == value)
        block(event, BLOCK_WAIT);
    return event->value;
}

void model_store(struct model_site *site, volatile void *place, size_t size, uint64_t value)
{
    uint8_t order = order_of(site);
    if (run.is_direct)
        memory_set_word((uintptr_t)place, size, value);
    else
        write_step(site, place, size, value, order, false);
}

static uint64_t modified(enum model_rmw op, uint64_t value, uint64_t operand, size_t size)
{
    uint64_t all = size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * size) - 1;
    switch (op) {
    case MODEL_ADD:
        return (value + operand) & all;
    case MODEL_SUB:
        return (value - operand) & all;
    case MODEL_OR:
        return value | operand;
    case MODEL_AND:
        return value & operand;
    case MODEL_XOR:
        return value ^ operand;
    case MODEL_EXCHANGE:
        return operand;
    }
    return value;
}

uint64_t model_rmw(struct model_site *site, volatile void *place, size_t size, enum model_rmw op,
                   uint64_t operand)
{
    uint8_t order = order_of(site);
    if (run.is_direct) {
        uint64_t value = memory_word((uintptr_t)place, size);
        memory_set_word((uintptr_t)place, size, modified(op, value, operand, size));
        return value;
    }
    uint64_t value = read_step(site, place, size, order, NULL)->value;
    write_step(site, place, size, modified(op, value, operand, size), order, true);
    return value;
}

bool model_cas(struct model_site *site, volatile void *place, size_t size, uint64_t *expected,
               uint64_t desired, bool is_weak)
{
    uint8_t order = order_of(site);
    if (run.is_direct) {
        uint64_t value = memory_word((uintptr_t)place, size);
        bool is_equal = value == *expected;
        *expected = value;
        if (is_equal)
            memory_set_word((uintptr_t)place, size, desired);
        return is_equal;
    }
    bool fails = is_weak && model_choose(2) == 1; // for no reason, as a weak one may
    struct event *event =
        read_step(site, place, size, fails ? MODEL_RELAXED : order, fails ? NULL : expected);
    bool is_equal = event->value == *expected;
    if (fails && !is_equal)
        block(event, BLOCK_CUT); // it fails for a reason: the other choice
    *expected = event->value;
    if (!is_equal || fails)
        return false;
    write_step(site, place, size, desired, order, true);
    return true;
}

void model_fence(struct model_site *site)
{
    uint8_t order = order_of(site);
    if (run.is_direct || order == MODEL_RELAXED)
        return;
    step(&(struct event){.kind = EVENT_FENCE, .order = order, .site = site});
}

int model_choose(int count)
{
    return (int)step(&(struct event){.kind = EVENT_CHOICE, .count = (uint8_t)count})->value;
}

void model_call(const char *name)
{
    int thread = fibers_self();
    if (thread < 0)
        return;
    run.call_at[thread] = run.replayed[thread];
    report_log_call(thread, name);
}

void model_result(int index, uint64_t value)
{
    run.results[index] = value;
    if (index >= run.result_count)
        run.result_count = index + 1;
}

void model_saw(int sight)
{
    run.sights |= (uint32_t)1 << sight;
}

/* ---- steps ---- */

static struct event *read_step(struct model_site *site, const volatile void *place, size_t size,
                               uint8_t order, const uint64_t *expected)
{
    int thread = fibers_self();
    int location = graph_location(&run.graph, (uintptr_t)place, size);
    struct event *event = step(&(struct event){.kind = EVENT_READ,
                                               .order = order,
                                               .site = site,
                                               .location = (uint8_t)location,
                                               .is_cas = expected != NULL,
                                               .expected = expected ? *expected : 0});
    enum event_block why = repeats(thread, run.replayed[thread] - 1);
    if (why != BLOCK_NONE)
        block(event, why);
    return event;
}

static void write_step(struct model_site *site, volatile void *place, size_t size, uint64_t value,
                       uint8_t order, bool is_rmw)
{
    int location = graph_location(&run.graph, (uintptr_t)place, size);
    int thread = fibers_self();
    run.at_rmw[thread] = is_rmw;
    step(&(struct event){.kind = EVENT_WRITE,
                         .order = order,
                         .site = site,
                         .location = (uint8_t)location,
                         .value = value,
                         .is_rmw = is_rmw});
    run.at_rmw[thread] = false;
}

static void not_deterministic(void)
{
    fprintf(stderr, "model: the harness did something else when it ran again\n");
    exit(2);
}

/* What a read reads from has to have happened. */
static void wait_for(const struct event *event)
{
    while (event->kind == EVENT_READ && event->rf != EVENT_INIT &&
           event_index(event->rf) >= run.replayed[event_thread(event->rf)])
        fibers_yield(FIBER_WAITING);
}

static struct event *step(struct event *next)
{
    int thread = fibers_self(), index = run.replayed[thread];
    event_id id = event_make(thread, index);
    if (index >= run.graph.count[thread]) {
        while (run.extending != thread)
            fibers_yield(FIBER_FRONTIER);
        struct event *added = explorer_extend(next);
        run.replayed[thread]++;
        report_log_event(id);
        return added;
    }
    struct event *event = &run.graph.events[thread][index];
    if (event->kind != next->kind || event->site != next->site || event->is_rmw != next->is_rmw ||
        (event->kind <= EVENT_WRITE && event->location != next->location) ||
        (event->kind == EVENT_WRITE && event->value != next->value))
        not_deterministic();
    wait_for(event);
    event->block = BLOCK_NONE;
    if (event->kind == EVENT_READ) {
        event->order = next->order;
        event->expected = next->expected;
        event->is_cas = next->is_cas;
    }
    if (!steps_clocks(id))
        run.is_refused = true;
    run.replayed[thread]++;
    report_log_event(id);
    return event;
}

static void block(struct event *event, enum event_block why)
{
    event->block = (uint8_t)why;
    for (;;)
        fibers_yield(FIBER_BLOCKED);
}

static bool is_the_same(const struct event *a, const struct event *b)
{
    return a->kind == b->kind && a->site == b->site &&
           ((a->kind == EVENT_READ && a->location == b->location && a->rf == b->rf) ||
            (a->kind == EVENT_CHOICE && a->value == b->value));
}

/* The last loads of this call do what the loads just before them did: a loop that goes round without news. Where chance
 * took part, it is no sign that it could go on so for ever. */
static enum event_block repeats(int thread, int index)
{
    const struct event *events = run.graph.events[thread];
    for (int period = 1; index - 2 * period + 1 >= run.call_at[thread]; period++) {
        bool by_chance = false;
        int same = 0;
        for (; same < period; same++) {
            by_chance = by_chance || events[index - same].kind == EVENT_CHOICE;
            if (!is_the_same(&events[index - same], &events[index - same - period]))
                break;
        }
        if (same == period)
            return by_chance ? BLOCK_CUT : BLOCK_REPEAT;
    }
    return BLOCK_NONE;
}

/* ---- clocks ---- */

static bool take(struct event *event, struct fiber_clocks *clocks)
{
    const struct location *location = &run.graph.locations[event->location];
    int lowest = graph_mo_lowest(&run.graph, event->location, &clocks->hb);
    bool coherent = graph_mo_index(location, event->rf) >= lowest;
    event->value = graph_value_of(&run.graph, location, event->rf);
    if (event->is_cas && event->value != event->expected)
        event->order = MODEL_RELAXED;
    if (event->rf == EVENT_INIT)
        return coherent;
    const struct event *write = graph_event(&run.graph, event->rf);
    clock_join(&clocks->porf, &write->porf);
    clock_join(order_acquires(event->order) ? &clocks->hb : &clocks->to_acquire, &write->gives);
    return coherent;
}

static bool has_place(event_id id, const struct event *event, const struct fiber_clocks *clocks)
{
    const struct location *location = &run.graph.locations[event->location];
    int index = graph_mo_index(location, id);
    if (index <= graph_mo_lowest(&run.graph, event->location, &clocks->hb))
        return false;
    return !event->is_rmw || index == graph_mo_index(location, (event - 1)->rf) + 1;
}

static void give(struct event *event, const struct fiber_clocks *clocks)
{
    event->gives = order_releases(event->order) ? clocks->hb : clocks->released;
    if (event->is_rmw && (event - 1)->rf != EVENT_INIT)
        clock_join(&event->gives, &graph_event(&run.graph, (event - 1)->rf)->gives);
}

bool steps_clocks(event_id id)
{
    int thread = event_thread(id);
    struct event *event = graph_event(&run.graph, id);
    struct fiber_clocks *clocks = fibers_clocks(thread);
    bool coherent = true;
    if (event->kind == EVENT_READ)
        coherent = take(event, clocks);
    else if (event->kind == EVENT_WRITE)
        coherent = has_place(id, event, clocks);
    else if (event->kind == EVENT_FENCE && order_acquires(event->order))
        clock_join(&clocks->hb, &clocks->to_acquire);
    clocks->hb.of[thread] = clocks->porf.of[thread] = (uint8_t)(event_index(id) + 1);
    if (event->kind == EVENT_FENCE && order_releases(event->order))
        clocks->released = clocks->hb;
    if (event->kind == EVENT_WRITE)
        give(event, clocks);
    event->hb = clocks->hb;
    event->porf = clocks->porf;
    return coherent;
}

/* ---- sites ---- */

void steps_begin(void)
{
    run_number++;
}

static bool is_same_site(const struct model_site *a, const struct model_site *b)
{
    return a->line == b->line && a->kind == b->kind && strcmp(a->file, b->file) == 0 &&
           strcmp(a->text, b->text) == 0;
}

static void know_site(struct model_site *site)
{
    for (uint16_t i = 0; i < site_count; i++)
        if (is_same_site(site, sites[i])) {
            site->id = (uint16_t)(i + 1);
            return;
        }
    if (site_count == SITES_MAX) {
        fprintf(stderr, "model: more atomic operations in the sources than fit\n");
        exit(2);
    }
    sites[site_count++] = site;
    site->id = site_count;
}

static uint8_t order_of(struct model_site *site)
{
    if (site->id == 0)
        know_site(site);
    if (!run.is_direct)
        touched[site->id - 1] = run_number;
    return site->id == explorer_options.weaken ? explorer_options.weaken_to : site->order;
}

const struct model_site *explorer_site(uint16_t id)
{
    return id <= site_count ? sites[id - 1] : NULL;
}

bool explorer_touched(uint16_t id)
{
    return touched[id - 1] == run_number;
}
