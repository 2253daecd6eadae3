/* Execution graphs: building, cutting, coherence. The axiom about sequentially consistent operations is in graph_sc.c.
 *
 * Failure mode: a harness with more events, locations or writes than fit is a mistake in the harness, and ends the program. */
#include "tests/model/graph.h"

#include <stdlib.h>
#include <string.h>

#include "tests/model/memory.h"

static void too_large(const char *what)
{
    fprintf(stderr, "model: the harness has too many %s\n", what);
    exit(2);
}

void graph_init(struct graph *graph, int thread_count)
{
    graph->thread_count = (uint8_t)thread_count;
    graph->location_count = 0;
    graph->stamp = 0;
    memset(graph->count, 0, sizeof(graph->count));
}

void graph_copy(struct graph *to, const struct graph *from)
{
    to->thread_count = from->thread_count;
    to->location_count = from->location_count;
    to->stamp = from->stamp;
    memcpy(to->count, from->count, sizeof(to->count));
    memcpy(to->locations, from->locations, from->location_count * sizeof(from->locations[0]));
    for (int thread = 0; thread < from->thread_count; thread++)
        memcpy(to->events[thread], from->events[thread],
               from->count[thread] * sizeof(from->events[0][0]));
}

int graph_location(struct graph *graph, uintptr_t address, size_t size)
{
    for (int i = 0; i < graph->location_count; i++)
        if (graph->locations[i].address == address)
            return i;
    if (graph->location_count == GRAPH_LOCATIONS_MAX)
        too_large("locations");
    struct location *location = &graph->locations[graph->location_count];
    location->address = address;
    location->size = (uint8_t)size;
    location->first = memory_word(address, size);
    location->write_count = 1;
    location->mo[0] = EVENT_INIT;
    return graph->location_count++;
}

int graph_mo_index(const struct location *location, event_id write)
{
    for (int i = 0; i < location->write_count; i++)
        if (location->mo[i] == write)
            return i;
    fprintf(stderr, "model: a write that is not in the modification order\n");
    abort();
}

uint64_t graph_value_of(struct graph *graph, const struct location *location, event_id write)
{
    return write == EVENT_INIT ? location->first : graph_event(graph, write)->value;
}

event_id graph_write_of(struct graph *graph, event_id access)
{
    const struct event *event = graph_event(graph, access);
    return event->kind == EVENT_WRITE ? access : event->rf;
}

int graph_mo_lowest(struct graph *graph, int location, const struct clock *before)
{
    const struct location *at = &graph->locations[location];
    int lowest = 0;
    for (int thread = 0; thread < graph->thread_count; thread++) {
        for (int i = before->of[thread] - 1; i >= 0; i--) {
            const struct event *event = &graph->events[thread][i];
            if (event->location != location || event->kind > EVENT_WRITE)
                continue;
            int index = graph_mo_index(at, graph_write_of(graph, event_make(thread, i)));
            if (index > lowest)
                lowest = index;
            break; // what the same thread did earlier stands no later
        }
    }
    return lowest;
}

event_id graph_rmw_of(struct graph *graph, int location, event_id write)
{
    const struct location *at = &graph->locations[location];
    for (int i = 1; i < at->write_count; i++) {
        const struct event *event = graph_event(graph, at->mo[i]);
        if (event->is_rmw && (event - 1)->rf == write)
            return at->mo[i];
    }
    return EVENT_INIT;
}

void graph_mo_insert(struct location *location, int index, event_id write)
{
    if (location->write_count == GRAPH_WRITES_MAX)
        too_large("writes to one location");
    memmove(&location->mo[index + 1], &location->mo[index],
            (size_t)(location->write_count - index) * sizeof(location->mo[0]));
    location->mo[index] = write;
    location->write_count++;
}

void graph_cut(struct graph *graph, const uint8_t keep[MODEL_THREADS_MAX])
{
    for (int i = 0; i < graph->location_count; i++) {
        struct location *location = &graph->locations[i];
        int kept = 0;
        for (int k = 0; k < location->write_count; k++) {
            event_id write = location->mo[k];
            if (write == EVENT_INIT || event_index(write) < keep[event_thread(write)])
                location->mo[kept++] = write;
        }
        location->write_count = (uint8_t)kept;
    }
    memcpy(graph->count, keep, sizeof(graph->count));
}

/* ---- hash ---- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

/* Locations are numbered in the order of being found, which differs; so they count by their address, and the sum over them does
 * not depend on the order. */
uint64_t graph_hash(struct graph *graph)
{
    uint64_t hash = 1, sum = 0;
    for (int thread = 0; thread < graph->thread_count; thread++) {
        for (int i = 0; i < graph->count[thread]; i++) {
            const struct event *event = &graph->events[thread][i];
            hash = mix(hash, event->kind);
            hash = mix(hash, event->value);
            if (event->kind <= EVENT_WRITE)
                hash = mix(hash, graph->locations[event->location].address);
            if (event->kind == EVENT_READ)
                hash = mix(hash, event->rf);
        }
        hash = mix(hash, 0x77);
    }
    for (int i = 0; i < graph->location_count; i++) {
        const struct location *location = &graph->locations[i];
        uint64_t part = mix(3, location->address);
        for (int k = 0; k < location->write_count; k++)
            part = mix(part, location->mo[k]);
        sum += location->write_count > 1 ? part : 0;
    }
    return mix(hash, sum);
}
