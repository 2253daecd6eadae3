/* Is there an order of the sequentially consistent operations? RC11 (Lahav, Vafeiadis, Kang, Hur, Dreyer: "Repairing Sequential
 * Consistency in C/C++11", 2017) asks that psc has no cycle:
 *
 *     scb      = sb | sb_other;hb;sb_other | hb_same | mo | fr
 *     psc_base = ([Esc] | [Fsc];hb?) ; scb ; ([Esc] | hb?;[Fsc])
 *     psc_F    = [Fsc] ; (hb | hb;eco;hb) ; [Fsc]            eco = (rf | mo | fr)+
 *     psc      = psc_base | psc_F
 *
 * sb is program order, _other between different locations, _same at one location. Relations are matrices of bits over the
 * events of one graph. */
#include <stdlib.h>
#include <string.h>

#include "tests/model/graph.h"

#define NODES_MAX 384
#define WORDS (NODES_MAX / 64)

struct row {
    uint64_t words[WORDS];
};

static int node_count, row_words;
static event_id nodes[NODES_MAX];
static int at_mo[NODES_MAX]; // of accesses: where in mo the write stands that they are, or read
static struct row hb[NODES_MAX], eco[NODES_MAX], scb[NODES_MAX], temporary[NODES_MAX];
static struct row psc[NODES_MAX];

static void set(struct row *row, int node)
{
    row->words[node / 64] |= (uint64_t)1 << node % 64;
}

static bool has(const struct row *row, int node)
{
    return row->words[node / 64] >> node % 64 & 1;
}

static void add(struct row *row, const struct row *other)
{
    for (int i = 0; i < row_words; i++)
        row->words[i] |= other->words[i];
}

static void clear(struct row *row)
{
    memset(row->words, 0, (size_t)row_words * sizeof(row->words[0]));
}

/* to |= all that `over` reaches from what `from` has. */
static void compose(struct row *to, const struct row *from, const struct row *over)
{
    for (int i = 0; i < row_words; i++)
        for (uint64_t bits = from->words[i]; bits; bits &= bits - 1)
            add(to, &over[i * 64 + __builtin_ctzll(bits)]);
}

static struct event *node_event(struct graph *graph, int node)
{
    return graph_event(graph, nodes[node]);
}

static bool is_access(const struct event *event)
{
    return event->kind <= EVENT_WRITE;
}

static bool is_sc(const struct event *event)
{
    return event->order == MODEL_SEQ_CST && event->kind != EVENT_CHOICE;
}

static bool is_sc_fence(const struct event *event)
{
    return event->kind == EVENT_FENCE && event->order == MODEL_SEQ_CST;
}

static int collect(struct graph *graph)
{
    int sc_count = 0;
    node_count = 0;
    for (int thread = 0; thread < graph->thread_count; thread++)
        for (int i = 0; i < graph->count[thread]; i++) {
            if (node_count == NODES_MAX) {
                fprintf(stderr, "model: the harness has too many events\n");
                exit(2);
            }
            struct event *event = &graph->events[thread][i];
            nodes[node_count] = event_make(thread, i);
            at_mo[node_count] = is_access(event)
                                    ? graph_mo_index(&graph->locations[event->location],
                                                     graph_write_of(graph, nodes[node_count]))
                                    : 0;
            sc_count += is_sc(event);
            node_count++;
        }
    row_words = (node_count + 63) / 64;
    return sc_count;
}

/* Is a before b by (rf | mo | fr)+? Both are accesses to one location. */
static bool eco_has(const struct event *a, int a_at, const struct event *b, int b_at)
{
    if (a->kind == EVENT_WRITE && b->kind == EVENT_READ)
        return a_at <= b_at;
    return a_at < b_at;
}

static void relate(struct graph *graph)
{
    for (int a = 0; a < node_count; a++) {
        const struct event *left = node_event(graph, a);
        clear(&hb[a]);
        clear(&eco[a]);
        clear(&scb[a]);
        clear(&temporary[a]);
        for (int b = 0; b < node_count; b++) {
            const struct event *right = node_event(graph, b);
            if (a == b)
                continue;
            bool same = is_access(left) && is_access(right) && left->location == right->location;
            bool in_order = event_thread(nodes[a]) == event_thread(nodes[b]) && a < b;
            bool is_eco = same && eco_has(left, at_mo[a], right, at_mo[b]);
            bool is_hb = clock_has(&right->hb, nodes[a]);
            if (is_hb)
                set(&hb[a], b);
            if (is_eco)
                set(&eco[a], b);
            if (in_order && !same)
                set(&temporary[a], b); // sb_other
            if (in_order || (same && is_hb) ||
                (is_eco && right->kind == EVENT_WRITE)) // mo, or fr: both end in a write
                set(&scb[a], b);
        }
    }
    for (int a = 0; a < node_count; a++) { // sb_other;hb;sb_other
        struct row first = {0};
        compose(&first, &temporary[a], hb);
        compose(&scb[a], &first, temporary);
    }
}

/* hb?;[Fsc] : every fence behind what `row` has, or in it; [Esc] : those in it. */
static void end_at_sc(struct graph *graph, const struct row *row, struct row *ends)
{
    struct row behind = *row;
    compose(&behind, row, hb);
    for (int b = 0; b < node_count; b++) {
        const struct event *event = node_event(graph, b);
        if ((is_sc(event) && has(row, b)) || (is_sc_fence(event) && has(&behind, b)))
            set(ends, b);
    }
}

static void relate_sc(struct graph *graph)
{
    for (int a = 0; a < node_count; a++) {
        const struct event *event = node_event(graph, a);
        struct row starts = {0}, reached = {0}, by_eco = {0}, behind = {0};
        clear(&psc[a]);
        if (!is_sc(event))
            continue;
        set(&starts, a);
        if (is_sc_fence(event))
            add(&starts, &hb[a]);
        compose(&reached, &starts, scb);
        end_at_sc(graph, &reached, &psc[a]);
        if (!is_sc_fence(event))
            continue;
        compose(&by_eco, &hb[a], eco);
        compose(&behind, &by_eco, hb);
        add(&behind, &hb[a]);
        for (int b = 0; b < node_count; b++)
            if (has(&behind, b) && is_sc_fence(node_event(graph, b)))
                set(&psc[a], b);
    }
}

static bool is_acyclic(void)
{
    for (int via = 0; via < node_count; via++)
        for (int a = 0; a < node_count; a++)
            if (has(&psc[a], via))
                add(&psc[a], &psc[via]);
    for (int a = 0; a < node_count; a++)
        if (has(&psc[a], a))
            return false;
    return true;
}

bool graph_sc_is_consistent(struct graph *graph)
{
    if (collect(graph) < 2)
        return true;
    relate(graph);
    relate_sc(graph);
    return is_acyclic();
}
