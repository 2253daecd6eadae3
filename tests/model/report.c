/* What is kept of the executions: outcomes, sights, how many are different; and how a failing one is shown. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/model/explorer_private.h"

#define OUTCOMES_MAX 64
#define OUTCOME_BYTES 64

static char outcomes[OUTCOMES_MAX][OUTCOME_BYTES];
static int outcome_count;
static uint64_t *seen; // hashes of graphs; 0: free
static size_t seen_capacity, seen_count;

static bool is_new_graph(uint64_t hash);

void report_begin(void)
{
    outcome_count = 0;
    seen_count = 0;
    if (seen)
        memset(seen, 0, seen_capacity * sizeof(*seen));
}

/* ---- complete executions ---- */

static void note_outcome(void)
{
    char text[OUTCOME_BYTES] = "";
    int used = 0;
    for (int i = 0; i < run.result_count; i++)
        used += snprintf(text + used, sizeof(text) - (size_t)used, "%s%llu", i ? "," : "",
                         (unsigned long long)run.results[i]);
    for (int i = 0; i < outcome_count; i++)
        if (strcmp(outcomes[i], text) == 0)
            return;
    if (outcome_count < OUTCOMES_MAX)
        memcpy(outcomes[outcome_count++], text, sizeof(text));
}

void report_execution(void)
{
    explorer_result->executions++;
    explorer_result->sights |= run.sights;
    if (explorer_options.count_distinct && is_new_graph(graph_hash(&run.graph)))
        explorer_result->distinct++;
    if (run.result_count > 0)
        note_outcome();
}

static void seen_grow(void)
{
    uint64_t *old = seen;
    size_t old_capacity = seen_capacity;
    seen_capacity = old_capacity ? 2 * old_capacity : 4096;
    seen = calloc(seen_capacity, sizeof(*seen));
    seen_count = 0;
    if (!seen)
        abort();
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i])
            (void)is_new_graph(old[i]);
    free(old);
}

static bool is_new_graph(uint64_t hash)
{
    if (2 * seen_count >= seen_capacity)
        seen_grow();
    hash += hash == 0;
    size_t at = hash % seen_capacity;
    for (; seen[at]; at = (at + 1) % seen_capacity)
        if (seen[at] == hash)
            return false;
    seen[at] = hash;
    seen_count++;
    return true;
}

static int compare_outcomes(const void *a, const void *b)
{
    return strcmp(a, b);
}

void report_end(void)
{
    size_t used = 0;
    qsort(outcomes, (size_t)outcome_count, sizeof(outcomes[0]), compare_outcomes);
    for (int i = 0; i < outcome_count; i++)
        used += (size_t)snprintf(explorer_result->outcomes + used,
                                 sizeof(explorer_result->outcomes) - used, "%s%s", i ? " " : "",
                                 outcomes[i]);
}

/* ---- failures ---- */

static const char *base_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

/* During a replay the graph may turn out to be impossible: then nothing has failed. A thread that found something wrong does not
 * go on, unless it only raced. */
void model_fail(const char *file, int line, const char *what)
{
    int self = fibers_self();
    if (!run.is_failed) {
        int used =
            snprintf(explorer_result->what, sizeof(explorer_result->what), "%s", base_name(file));
        if (line)
            used += snprintf(explorer_result->what + used,
                             sizeof(explorer_result->what) - (size_t)used, ":%d", line);
        snprintf(explorer_result->what + used, sizeof(explorer_result->what) - (size_t)used, ": %s",
                 what);
    }
    run.is_failed = true;
    if (self < 0 || (line == 0 && run.extending != self))
        return;
    for (;;)
        fibers_yield(run.extending == self ? FIBER_DROPPED : FIBER_BLOCKED);
}

/* The product's assertions. */
void check_failed(const char *file, int line, const char *expression)
{
    model_fail(file, line, expression);
    fprintf(stderr, "%s:%d: %s, outside of the threads\n", file, line, expression);
    abort();
}

void report_log_call(int thread, const char *call)
{
    if (run.log_count < LOG_MAX)
        run.log[run.log_count++] = (struct log_entry){.call = call, .thread = (uint8_t)thread};
}

void report_log_event(event_id id)
{
    if (run.log_count < LOG_MAX)
        run.log[run.log_count++] =
            (struct log_entry){.event = id, .thread = (uint8_t)event_thread(id)};
}

static void show_source(FILE *to, event_id write)
{
    if (write == EVENT_INIT)
        fprintf(to, "from the beginning");
    else
        fprintf(to, "from T%d.%d", event_thread(write), event_index(write));
}

static void show_event(FILE *to, event_id id)
{
    static const char *const orders[] = {"relaxed", "consume", "acquire",
                                         "release", "acq_rel", "seq_cst"};
    const struct event *event = graph_event(&run.graph, id);
    fprintf(to, "    T%d.%-3d ", event_thread(id), event_index(id));
    if (!event->site) {
        fprintf(to, "chance: %llu\n", (unsigned long long)event->value);
        return;
    }
    if (event->kind == EVENT_FENCE) {
        fprintf(to, "fence %s", orders[event->order]);
    } else {
        fprintf(to, "%s %s %s = %#llx", event->kind == EVENT_READ ? "load " : "store",
                orders[event->order], event->site->text, (unsigned long long)event->value);
        if (event->kind == EVENT_READ) {
            fprintf(to, " ");
            show_source(to, event->rf);
        } else {
            const struct location *location = &run.graph.locations[event->location];
            fprintf(to, " (number %d there)", graph_mo_index(location, id));
        }
    }
    fprintf(to, "  [%s:%d]%s\n", base_name(event->site->file), event->site->line,
            event->block ? "  ... and waits" : "");
}

void report_failure(FILE *to)
{
    fprintf(to, "  %s: %s\n", explorer_model->name, explorer_result->what);
    for (int i = 0; i < run.log_count; i++) {
        if (run.log[i].call)
            fprintf(to, "  T%d %s\n", run.log[i].thread, run.log[i].call);
        else
            show_event(to, run.log[i].event);
    }
    fprintf(to, "  again: sluice_model replay %s %s\n", explorer_model->name,
            explorer_result->path[0] ? explorer_result->path : "0");
}
