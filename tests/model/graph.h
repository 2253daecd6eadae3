/* An execution as a graph: what each thread did (its events, in program order), which write each read has its value from
 * (rf), and the order of the writes to each location (mo, the modification order).
 *
 * Graphs are plain memory of a fixed size: they are copied at each choice. An event is named by thread and index, and the names
 * stay when later events of its thread are taken away. */
#ifndef SLUICE_TESTS_MODEL_GRAPH_H
#define SLUICE_TESTS_MODEL_GRAPH_H

#include "tests/model/explorer.h"

#define GRAPH_EVENTS_MAX 120 // of a thread
#define GRAPH_LOCATIONS_MAX 24
#define GRAPH_WRITES_MAX 40 // to one location

typedef uint16_t event_id; // thread << 8 | index
#define EVENT_INIT 0xffffu // the value before all threads

enum event_kind { EVENT_READ, EVENT_WRITE, EVENT_FENCE, EVENT_CHOICE };
enum event_block { BLOCK_NONE, BLOCK_WAIT, BLOCK_REPEAT, BLOCK_CUT };

struct clock { // of thread u: so many of its events came before
    uint8_t of[MODEL_THREADS_MAX];
};

struct event {
    const struct model_site *site; // NULL: a choice
    uint64_t value;                // read, written or chosen
    uint64_t expected;             // of a compare-and-swap's read
    uint32_t stamp;                // order of being added
    event_id rf;                   // of a read
    uint8_t kind, order;
    uint8_t location;
    uint8_t count;      // CHOICE: of how many
    bool is_rmw;        // WRITE: of a read-modify-write, whose read is the event before
    bool is_cas;        // READ: acts with its order only when it finds `expected`, else as relaxed
    uint8_t block;      // enum event_block: the thread ends here
    struct clock hb;    // what happens before it, itself included
    struct clock porf;  // what is before it by program order and reads-from, itself included
    struct clock gives; // WRITE: what who acquires it gets to know
};

struct location {
    uintptr_t address;
    uint64_t first; // value before all threads
    uint8_t size;
    uint8_t write_count; // of mo, the first one included
    event_id mo[GRAPH_WRITES_MAX];
};

struct graph {
    uint8_t thread_count;
    uint8_t location_count;
    uint8_t count[MODEL_THREADS_MAX];
    uint32_t stamp;
    struct location locations[GRAPH_LOCATIONS_MAX];
    struct event events[MODEL_THREADS_MAX][GRAPH_EVENTS_MAX];
};

static inline int event_thread(event_id id)
{
    return id >> 8;
}

static inline int event_index(event_id id)
{
    return id & 0xff;
}

static inline event_id event_make(int thread, int index)
{
    return (event_id)(thread << 8 | index);
}

static inline struct event *graph_event(struct graph *graph, event_id id)
{
    return &graph->events[event_thread(id)][event_index(id)];
}

static inline bool clock_has(const struct clock *clock, event_id id)
{
    return id == EVENT_INIT || event_index(id) < clock->of[event_thread(id)];
}

static inline void clock_join(struct clock *clock, const struct clock *other)
{
    for (int i = 0; i < MODEL_THREADS_MAX; i++)
        if (other->of[i] > clock->of[i])
            clock->of[i] = other->of[i];
}

static inline bool order_acquires(uint8_t order)
{
    return order == MODEL_ACQUIRE || order == MODEL_CONSUME || order >= MODEL_ACQ_REL;
}

static inline bool order_releases(uint8_t order)
{
    return order >= MODEL_RELEASE;
}

void graph_init(struct graph *graph, int thread_count);
/* Only what is used. */
void graph_copy(struct graph *to, const struct graph *from);

/* The location of a word; made when it is new. */
int graph_location(struct graph *graph, uintptr_t address, size_t size);

/* Place of a write in its location's modification order. */
int graph_mo_index(const struct location *location, event_id write);
uint64_t graph_value_of(struct graph *graph, const struct location *location, event_id write);
/* The write that an access to a location stands at: itself, or what it reads. */
event_id graph_write_of(struct graph *graph, event_id access);

/* The first place in mo that an access may stand at, by coherence: no access that happens before it stands behind it. */
int graph_mo_lowest(struct graph *graph, int location, const struct clock *before);
/* The read-modify-write that reads `write`, if its write is there, too. */
event_id graph_rmw_of(struct graph *graph, int location, event_id write);

void graph_mo_insert(struct location *location, int index, event_id write);
/* Takes away every event that is not kept: of thread t those from keep[t] on. */
void graph_cut(struct graph *graph, const uint8_t keep[MODEL_THREADS_MAX]);

/* The order of sequentially consistent operations exists (RC11's psc is acyclic). All events have their clocks. */
bool graph_sc_is_consistent(struct graph *graph);

/* The same for the same execution, in whatever order it was found. */
uint64_t graph_hash(struct graph *graph);

#endif
