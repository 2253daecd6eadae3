/* Walks all execution graphs of a harness, each once, after Kokologiannakis, Marmanis, Gladstein, Vafeiadis: "Truly Stateless,
 * Optimal Dynamic Partial Order Reduction" (TruSt, 2022).
 *
 * A graph grows by the next event of the first thread that can go on. A load is tried with each write that it may read; a store
 * at each place of its location's modification order. A store may come too late for a load that is there already; so
 * each such load is also tried with the new store: what was added after the load, and the store does not depend on, is taken
 * away first ("revisit"). So that a graph isn't reached in several ways, a revisit happens only from the one graph in which
 * everything that is taken away was chosen as it would be by default, the newest write.
 *
 * The stack holds, for each choice with more than one way, the graph before it. An execution runs from the start: it follows its
 * graph (replay), then adds events. A path is the way taken at each choice. */
#include <stdlib.h>
#include <string.h>

#include "tests/model/explorer_private.h"
#include "tests/model/memory.h"

#define OPTIONS_MAX 256
#define DEPTH_MAX 4096

struct frame {          // a choice
    struct graph graph; // before it
    struct event event; // to be added; none for SCHEDULE
    int thread;
    int count, next;
    struct option options[OPTIONS_MAX];
};

struct run run;
const struct model *explorer_model;
struct model_options explorer_options;
struct model_result *explorer_result;

static struct frame *stack[DEPTH_MAX];
static int depth;
static const char *path_left; // replay of one execution: the ways still to be taken
static int forced = -1;       // the thread that a choice of brute force has taken
static bool was_revisited;    // the graph was made by a revisit, and nobody has looked at it yet
static bool stopped;

static void run_once(void);
static bool replay(void);
static void grow(void);
static bool next_thread(int *thread);
static void complete(void);
static void check_blocked(void);
static bool is_at_newest(int thread);
static bool next_way(void);
static const struct option *push(const struct event *event, int thread,
                                 const struct option *options, int count);
static void apply(const struct frame *frame, const struct option *option);
static void append(const struct event *event, int thread);
static int ways_to_read(const struct event *event, int thread, struct option *options);
static event_id read_of(const struct event *event, int thread);
static int ways_to_write(const struct event *event, int thread, struct option *options);
static int ways_to_revisit(const struct event *event, int thread, struct option *options,
                           int count);
static bool is_default(event_id id, const struct clock *prefix);
static bool was_before(event_id id, uint32_t stamp, const struct clock *prefix);
static bool is_read_before(event_id write, uint32_t stamp, const struct clock *prefix);
static bool cut_for(event_id read, const struct clock *prefix, uint8_t keep[MODEL_THREADS_MAX]);
static void fail(void);
static void write_path(char *text, size_t size);

void explorer_run(const struct model *model, const struct model_options *options,
                  struct model_result *result)
{
    *result = (struct model_result){0};
    explorer_model = model;
    explorer_options = *options;
    explorer_result = result;
    path_left = options->path;
    depth = 0;
    forced = -1;
    stopped = false;
    steps_begin();
    report_begin();
    graph_init(&run.graph, model->thread_count);
    do {
        run_once();
        if (options->executions_max > 0 && result->executions >= options->executions_max)
            result->bounded = stopped = true;
    } while (!stopped && next_way());
    report_end();
}

/* ---- one execution ---- */

static void run_once(void)
{
    memset(run.replayed, 0, sizeof(run.replayed));
    memset(run.call_at, 0, sizeof(run.call_at));
    memset(run.at_rmw, 0, sizeof(run.at_rmw));
    run.extending = -1;
    run.is_refused = run.is_failed = false;
    run.sights = 0;
    run.result_count = run.log_count = 0;
    memory_reset();
    run.is_direct = true;
    explorer_model->setup();
    run.is_direct = false;
    fibers_begin(explorer_model);
    if (!replay())
        explorer_result->refused++;
    else if (run.is_failed)
        fail();
    else
        grow();
}

/* Until each thread is where its part of the graph ends. */
static bool replay(void)
{
    bool moved = true;
    while (moved) {
        moved = false;
        for (int thread = 0; thread < explorer_model->thread_count; thread++) {
            enum fiber_state state = fibers_state(thread);
            uint8_t before = run.replayed[thread];
            if (state == FIBER_READY || state == FIBER_WAITING)
                moved |= fibers_resume(thread) != FIBER_WAITING || run.replayed[thread] > before;
        }
    }
    for (int thread = 0; thread < explorer_model->thread_count; thread++)
        if (run.replayed[thread] != run.graph.count[thread] && !run.is_failed) {
            fprintf(stderr, "model: an execution could not be repeated\n");
            exit(2);
        }
    return !run.is_refused && (!was_revisited || graph_sc_is_consistent(&run.graph));
}

static void grow(void)
{
    int thread;
    while (next_thread(&thread)) {
        run.extending = thread;
        enum fiber_state state = fibers_resume(thread);
        run.extending = -1;
        if (run.is_failed) {
            fail();
            return;
        }
        if (state == FIBER_DROPPED)
            return;
    }
    complete();
}

/* The thread that is in the middle of a read-modify-write, else the first one. By brute force: each. */
static bool next_thread(int *thread)
{
    struct option ways[MODEL_THREADS_MAX];
    int count = 0;
    for (int i = 0; i < explorer_model->thread_count; i++) {
        if (fibers_state(i) != FIBER_FRONTIER)
            continue;
        if (run.at_rmw[i]) {
            *thread = i;
            return true;
        }
        ways[count++] = (struct option){.kind = OPTION_SCHEDULE, .index = (uint8_t)i};
    }
    if (count == 0)
        return false;
    *thread = ways[0].index;
    if (forced >= 0)
        *thread = forced;
    else if (explorer_options.brute && count > 1)
        *thread = push(NULL, 0, ways, count)->index;
    forced = -1;
    return true;
}

static void complete(void)
{
    bool all_done = true;
    for (int thread = 0; thread < explorer_model->thread_count; thread++)
        all_done = all_done && fibers_state(thread) == FIBER_DONE;
    if (!all_done) {
        check_blocked();
        return;
    }
    for (int i = 0; i < run.graph.location_count; i++) {
        const struct location *location = &run.graph.locations[i];
        event_id last = location->mo[location->write_count - 1];
        memory_set_word(location->address, location->size,
                        graph_value_of(&run.graph, location, last));
    }
    run.is_direct = true;
    if (explorer_model->finish)
        explorer_model->finish();
    run.is_direct = false;
    if (run.is_failed)
        fail();
    else
        report_execution();
}

/* A thread that waits sees the newest write in the end; so when all that wait have seen it, they wait for ever. */
static void check_blocked(void)
{
    bool newest = true, cut = false;
    for (int thread = 0; thread < explorer_model->thread_count; thread++) {
        if (fibers_state(thread) != FIBER_BLOCKED)
            continue;
        const struct event *last = &run.graph.events[thread][run.graph.count[thread] - 1];
        newest = newest && is_at_newest(thread);
        cut = cut || last->block != BLOCK_WAIT;
    }
    if (cut)
        explorer_result->cut++;
    else
        explorer_result->blocked++;
    if (!newest)
        return;
    model_fail("threads", 0, "everybody waits, and nobody will come");
    fail();
}

static bool is_newest(const struct event *event)
{
    const struct location *location = &run.graph.locations[event->location];
    return event->kind != EVENT_READ || event->rf == location->mo[location->write_count - 1];
}

/* Of a loop that repeats itself every load is looked at: those of the current call. */
static bool is_at_newest(int thread)
{
    const struct event *events = run.graph.events[thread];
    int last = run.graph.count[thread] - 1;
    if (events[last].block == BLOCK_WAIT)
        return is_newest(&events[last]);
    if (events[last].block != BLOCK_REPEAT)
        return false;
    int i = last - 1;
    bool newest = is_newest(&events[last]);
    for (; i >= 0 && (events[i].site != events[last].site || events[i].rf != events[last].rf ||
                      events[i].location != events[last].location);
         i--)
        newest = newest && is_newest(&events[i]);
    return newest;
}

/* ---- choices ---- */

/* The next way of the newest choice that has one left. */
static bool next_way(void)
{
    while (depth > 0) {
        struct frame *frame = stack[depth - 1];
        if (frame->next < frame->count) {
            apply(frame, &frame->options[frame->next++]);
            return true;
        }
        depth--;
    }
    return false;
}

/* Remembers a choice; the way that is taken first. On a given path that way is the only one. */
static const struct option *push(const struct event *event, int thread,
                                 const struct option *options, int count)
{
    if (depth == DEPTH_MAX) {
        fprintf(stderr, "model: the harness makes too many choices\n");
        exit(2);
    }
    if (!stack[depth])
        stack[depth] = malloc(sizeof(*stack[depth]));
    struct frame *frame = stack[depth++];
    graph_copy(&frame->graph, &run.graph);
    if (event)
        frame->event = *event;
    frame->thread = thread;
    frame->count = count;
    frame->next = 1;
    memcpy(frame->options, options, (size_t)count * sizeof(*options));
    if (explorer_options.path) {
        int way = (int)strtol(path_left, (char **)(uintptr_t)&path_left, 10);
        path_left += *path_left == '.';
        frame->next = way < count ? way + 1 : 1;
        frame->count = frame->next;
    }
    return &frame->options[frame->next - 1];
}

static void append(const struct event *event, int thread)
{
    int index = run.graph.count[thread];
    if (index == GRAPH_EVENTS_MAX) {
        fprintf(stderr, "model: the harness has too many operations in a thread\n");
        exit(2);
    }
    run.graph.events[thread][index] = *event;
    run.graph.events[thread][index].stamp = run.graph.stamp++;
    run.graph.count[thread]++;
}

static void apply(const struct frame *frame, const struct option *option)
{
    struct event event = frame->event;
    uint8_t keep[MODEL_THREADS_MAX];
    graph_copy(&run.graph, &frame->graph);
    was_revisited = option->kind == OPTION_REVISIT;
    event_id id = event_make(frame->thread, run.graph.count[frame->thread]);
    switch (option->kind) {
    case OPTION_SCHEDULE:
        forced = option->index;
        return;
    case OPTION_READ:
        event.rf = option->event;
        break;
    case OPTION_CHOOSE:
        event.value = option->index;
        break;
    case OPTION_REVISIT:
        (void)cut_for(option->event, &event.porf, keep);
        graph_cut(&run.graph, keep);
        graph_event(&run.graph, option->event)->rf = id;
        break;
    }
    append(&event, frame->thread);
    if (event.kind == EVENT_WRITE)
        graph_mo_insert(&run.graph.locations[event.location], option->index, id);
}

struct event *explorer_extend(struct event *event)
{
    static struct option options[OPTIONS_MAX * 4];
    int thread = fibers_self(), count = 0;
    event_id id = event_make(thread, run.graph.count[thread]);
    if (event->kind == EVENT_READ)
        count = ways_to_read(event, thread, options);
    else if (event->kind == EVENT_WRITE)
        count = ways_to_write(event, thread, options);
    else if (event->kind == EVENT_CHOICE)
        for (; count < event->count; count++)
            options[count] = (struct option){.kind = OPTION_CHOOSE, .index = (uint8_t)count};
    else
        options[count++] = (struct option){.kind = OPTION_CHOOSE};
    if (count > OPTIONS_MAX) {
        fprintf(stderr, "model: an operation of the harness has too many ways\n");
        exit(2);
    }
    const struct option *way = &options[0];
    event->porf = fibers_clocks(thread)->porf; // for a revisit: what has to stay
    if (count > 1 || (count == 1 && way->kind == OPTION_REVISIT))
        way = push(event, thread, options, count);
    if (count == 0)
        explorer_result->refused++;
    else if (way->kind == OPTION_REVISIT)
        stack[depth - 1]->next--; // from the start, with the graph that is cut
    if (count == 0 || way->kind == OPTION_REVISIT)
        for (;;)
            fibers_yield(FIBER_DROPPED);
    event->rf = way->event;
    if (event->kind == EVENT_CHOICE)
        event->value = way->index;
    append(event, thread);
    if (event->kind == EVENT_WRITE)
        graph_mo_insert(&run.graph.locations[event->location], way->index, id);
    (void)steps_clocks(id);
    if (explorer_options.brute)
        run.extending = -1;
    return graph_event(&run.graph, id);
}

/* Adds the event for a look: could it be so? Then takes it back. The newest always can: nothing then comes after the
 * event, in any of the orders. So can a fence. */
static bool is_consistent_with(const struct event *event, int thread, int mo_index)
{
    event_id id = event_make(thread, run.graph.count[thread]);
    struct fiber_clocks before = *fibers_clocks(thread);
    struct location *location = &run.graph.locations[event->location];
    if (event->kind == EVENT_READ ? event->rf == location->mo[location->write_count - 1]
                                  : mo_index == location->write_count)
        return true;
    append(event, thread);
    if (event->kind == EVENT_WRITE)
        graph_mo_insert(location, mo_index, id);
    bool consistent = steps_clocks(id) && graph_sc_is_consistent(&run.graph);
    if (event->kind == EVENT_WRITE) {
        location->write_count--;
        memmove(&location->mo[mo_index], &location->mo[mo_index + 1],
                (size_t)(location->write_count - mo_index) * sizeof(location->mo[0]));
    }
    run.graph.count[thread]--;
    run.graph.stamp--;
    *fibers_clocks(thread) = before;
    return consistent;
}

/* The newest first: what happens when one thread runs after the other. */
static int ways_to_read(const struct event *event, int thread, struct option *options)
{
    const struct location *location = &run.graph.locations[event->location];
    int count = 0;
    int lowest = graph_mo_lowest(&run.graph, event->location, &fibers_clocks(thread)->hb);
    for (int index = location->write_count - 1; index >= lowest; index--) {
        struct event tried = *event;
        tried.rf = location->mo[index];
        if (is_consistent_with(&tried, thread, 0))
            options[count++] = (struct option){.kind = OPTION_READ, .event = tried.rf};
    }
    return count;
}

static event_id read_of(const struct event *event, int thread)
{
    return event->is_rmw ? run.graph.events[thread][run.graph.count[thread] - 1].rf : EVENT_INIT;
}

/* The write of a read-modify-write stands directly behind what it read; nothing else may come between the two. */
static bool may_stand(struct graph *graph, const struct event *event, event_id read_from, int index)
{
    const struct location *location = &graph->locations[event->location];
    if (event->is_rmw && location->mo[index - 1] != read_from)
        return false;
    return graph_rmw_of(graph, event->location, location->mo[index - 1]) == EVENT_INIT;
}

static int ways_to_write(const struct event *event, int thread, struct option *options)
{
    const struct location *location = &run.graph.locations[event->location];
    int count = 0;
    int lowest = graph_mo_lowest(&run.graph, event->location, &fibers_clocks(thread)->hb);
    for (int index = location->write_count; index > lowest; index--)
        if (may_stand(&run.graph, event, read_of(event, thread), index) &&
            is_consistent_with(event, thread, index))
            options[count++] = (struct option){.kind = OPTION_PLACE, .index = (uint8_t)index};
    return explorer_options.brute ? count : ways_to_revisit(event, thread, options, count);
}

/* What stays when the read shall read from a store that has `prefix` before it: what was there before the read, and the prefix.
 * False: this graph is not the one from which that is done. */
static bool cut_for(event_id read, const struct clock *prefix, uint8_t keep[MODEL_THREADS_MAX])
{
    uint32_t stamp = graph_event(&run.graph, read)->stamp;
    if (!is_default(read, prefix))
        return false;
    for (int thread = 0; thread < MODEL_THREADS_MAX; thread++) {
        keep[thread] = 0;
        if (thread >= run.graph.thread_count)
            continue;
        const struct event *events = run.graph.events[thread];
        int i = run.graph.count[thread];
        for (; i > prefix->of[thread] && events[i - 1].stamp > stamp; i--)
            if (!is_default(event_make(thread, i - 1), prefix))
                return false;
        keep[thread] = (uint8_t)i;
    }
    return true;
}

/* Is the event as it would be chosen first, at its time: nothing newer was there to read, nothing stood behind the write, and
 * nobody read it who was there before it? */
static bool is_default(event_id id, const struct clock *prefix)
{
    const struct event *event = graph_event(&run.graph, id);
    if (event->kind >= EVENT_FENCE)
        return event->kind == EVENT_FENCE || event->value == 0;
    const struct location *location = &run.graph.locations[event->location];
    event_id write = graph_write_of(&run.graph, id);
    if (!was_before(write, event->stamp, prefix))
        return false;
    for (int i = graph_mo_index(location, write) + 1; i < location->write_count; i++)
        if (was_before(location->mo[i], event->stamp, prefix))
            return false;
    return event->kind == EVENT_READ || !is_read_before(id, event->stamp, prefix);
}

static bool was_before(event_id id, uint32_t stamp, const struct clock *prefix)
{
    return clock_has(prefix, id) || graph_event(&run.graph, id)->stamp <= stamp;
}

static bool is_read_before(event_id write, uint32_t stamp, const struct clock *prefix)
{
    for (int thread = 0; thread < run.graph.thread_count; thread++)
        for (int i = 0; i < run.graph.count[thread]; i++) {
            const struct event *event = &run.graph.events[thread][i];
            if (event->kind == EVENT_READ && event->rf == write &&
                was_before(event_make(thread, i), stamp, prefix))
                return true;
        }
    return false;
}

/* For each load that is there already: what else would be there, and where in what is left of the modification order. */
static int ways_to_revisit(const struct event *event, int thread, struct option *options, int count)
{
    static struct graph rest;
    const struct fiber_clocks *clocks = fibers_clocks(thread);
    uint8_t keep[MODEL_THREADS_MAX];
    for (int other = 0; other < run.graph.thread_count; other++)
        for (int i = clocks->porf.of[other]; i < run.graph.count[other]; i++) {
            const struct event *at = &run.graph.events[other][i];
            event_id read = event_make(other, i);
            if (at->kind != EVENT_READ || at->location != event->location ||
                !cut_for(read, &clocks->porf, keep))
                continue;
            graph_copy(&rest, &run.graph);
            graph_cut(&rest, keep);
            int lowest = graph_mo_lowest(&rest, event->location, &clocks->hb);
            for (int index = rest.locations[event->location].write_count; index > lowest; index--)
                if (may_stand(&rest, event, read_of(event, thread), index))
                    options[count++] = (struct option){
                        .kind = OPTION_REVISIT, .index = (uint8_t)index, .event = read};
        }
    return count;
}

/* ---- failures ---- */

/* The way taken at each choice; zeros at the end are left out. */
static void write_path(char *text, size_t size)
{
    int length = depth;
    size_t used = 0;
    while (length > 0 && stack[length - 1]->next == 1)
        length--;
    text[0] = '\0';
    for (int i = 0; i < length && used + 8 < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%d", i ? "." : "", stack[i]->next - 1);
}

static void fail(void)
{
    explorer_result->failed = true;
    stopped = true;
    write_path(explorer_result->path, sizeof(explorer_result->path));
    if (explorer_options.trace)
        report_failure(explorer_options.trace);
}
