/* The recording: a broker and its clients as they are in simulations, watched at the disk's seam, at the log's appends, and at
 * what clients are told. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_private.h"
#include "storage/upkeep.h"
#include "tests/sim/crash/trace.h"
#include "tests/sim/crash/two_phase.h"
#include "tests/sim/world/net.h"
#include "tests/sim/world/log_hook.h"
#include "tests/sim/world/own_memory.h"

#define HISTORY_EVENTS_MAX 200000
#define ACTORS_MAX 16
#define RECORD_NS_MAX (20 * NS_PER_S)
#define EVENTS_OF_BIRTH 700
/* Where a partition or a name lies is decided by hashes. With four partitions of each topic all three shards have some; of
 * workers 3, 4 and 5 each shard coordinates one. */
#define PARTITIONS 4
#define FIRST_WORKER 3

static const char *const topics[] = {"alpha", "beta", "gamma"};
static const char *const mix_names[TRACE_MIX_COUNT] = {"plain", "transactions", "groups", "files",
                                                       "birth"};
static struct {
    struct trace *trace;
    struct sim_broker broker;
    char values[SIM_BROKER_SETTINGS_MAX][32];
    struct actor actors[ACTORS_MAX];
    uint32_t actor_count;
    uint32_t events_wanted;
    struct trace_known known;
} rec;

static void plan(struct trace *trace, uint64_t seed);
static void on_event(void *context, const struct sim_event *event);
static void on_append(const struct wal *wal, const struct wal_view *view);
static struct trace_known known_now(void);
static void on_opened(struct sim_broker *b, uint16_t shard);
static void *direct(void *argument);

const char *trace_mix_name(enum trace_mix mix)
{
    return mix_names[mix];
}

void trace_record(struct trace *trace, uint64_t seed)
{
    memset(&rec, 0, sizeof(rec));
    rec.trace = trace;
    plan(trace, seed);
    world_begin(&(struct world_options){.seed = seed});
    net_set(world_net(),
            &(struct net_options){.latency_ns = 2 * NS_PER_US, .latency_ns_max = 10 * NS_PER_US});
    trace->world = world_new(topics, ARRAY_COUNT(topics),
                             trace->mix == TRACE_PLAIN ? 2 : PARTITIONS, HISTORY_EVENTS_MAX);
    trace->stage.world = trace->world;
    snprintf(trace->world->server, sizeof(trace->world->server), "127.0.0.1:%d", SIM_BROKER_PORT);
    rec.broker.disk = sim_disk_new(seed, GIB);
    rec.broker.disk->observe = on_event;
    log_observe((struct log_observer){.appended = on_append});
    rec.broker.on_opened = on_opened;
    trace_settings(trace, &rec.broker, trace->cores, rec.values);
    two_phase_begin();
    (void)thread_new(process_new("director", NULL), direct, NULL);
    if (!world_run(RECORD_NS_MAX))
        fail("the recording stood still, or did not end, at %.3f s", (double)world_now_ns() / 1e9);
    rec.broker.disk->observe = NULL;
    log_observe((struct log_observer){0});
    world_end();
    sim_disk_free(rec.broker.disk);
}

/* ---- what it is ---- */

static void add_actors(enum actor_kind kind, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rec.actors[rec.actor_count++] =
            (struct actor){.stage = &rec.trace->stage,
                           .kind = kind,
                           .number = i + (kind == ACTOR_WORKER ? FIRST_WORKER : 0)};
}

static void plan_actors(enum trace_mix mix, struct random *random)
{
    switch (mix) {
    case TRACE_PLAIN:
        add_actors(ACTOR_PLAIN, 1 + (uint32_t)random_below(random, 3));
        break;
    case TRACE_TRANSACTIONS:
        add_actors(ACTOR_WORKER, 2 + (uint32_t)random_below(random, 3));
        add_actors(ACTOR_PLAIN, (uint32_t)random_below(random, 2));
        break;
    case TRACE_GROUPS_MIX:
        add_actors(ACTOR_PLAIN, 1);
        add_actors(ACTOR_MEMBER, 2);
        add_actors(ACTOR_MOVER, 1);
        break;
    case TRACE_FILES:
        add_actors(ACTOR_PLAIN, 1);
        add_actors(ACTOR_WORKER, 1);
        add_actors(ACTOR_CHURNER, 1);
        break;
    case TRACE_BIRTH:
    case TRACE_MIX_COUNT:
        add_actors(ACTOR_PLAIN, 1);
        add_actors(ACTOR_WORKER, 1);
        break;
    }
}

/* Two of three are about transactions over three shards. */
static void plan(struct trace *trace, uint64_t seed)
{
    static const enum trace_mix mixes[] = {TRACE_TRANSACTIONS, TRACE_FILES,     TRACE_GROUPS_MIX,
                                           TRACE_TRANSACTIONS, TRACE_PLAIN,     TRACE_BIRTH,
                                           TRACE_TRANSACTIONS, TRACE_GROUPS_MIX};
    struct random random;
    random_init(&random, seed);
    *trace = (struct trace){.seed = seed, .mix = mixes[seed % ARRAY_COUNT(mixes)]};
    trace->shards = trace->mix == TRACE_PLAIN ? 1 : TRACE_SHARDS_MAX;
    trace->cores = (uint16_t)(1 + random_below(&random, trace->shards));
    trace->wal_bytes_budget = 24 * MIB * trace->shards;
    trace->events = calloc(TRACE_EVENTS_MAX, sizeof(*trace->events));
    trace->stage.moves = calloc(STAGE_MOVES_MAX, sizeof(*trace->stage.moves));
    ASSERT(trace->events != NULL && trace->stage.moves != NULL);
    trace->stage.pause_ms_max = 1 + (uint32_t)random_below(&random, 5);
    trace->stage.record_bytes_max = 2000;
    trace->stage.abort_percent = 30;
    plan_actors(trace->mix, &random);
    rec.events_wanted = trace->mix == TRACE_BIRTH   ? EVENTS_OF_BIRTH
                        : trace->mix == TRACE_FILES ? 2500
                                                    : 1200;
}

static void set(struct sim_broker *broker, uint32_t i, char value[32], const char *key,
                uint64_t number)
{
    snprintf(value, 32, "%" PRIu64, number);
    broker->settings[i][0] = key;
    broker->settings[i][1] = value;
}

void trace_settings(const struct trace *trace, struct sim_broker *broker, uint16_t cores,
                    char values[SIM_BROKER_SETTINGS_MAX][32])
{
    broker->settings[0][0] = "data_dir";
    broker->settings[0][1] = "/data";
    set(broker, 1, values[1], "shards", trace->shards);
    set(broker, 2, values[2], "cores", cores);
    set(broker, 3, values[3], "segment_bytes", 4 * MIB);
    set(broker, 4, values[4], "batch_bytes_max", MIB);
    set(broker, 5, values[5], "wal_bytes_budget", trace->wal_bytes_budget);
    set(broker, 6, values[6], "wal_buffer_bytes", 20 * MIB);
    set(broker, 7, values[7], "connections_max", 32);
    set(broker, 8, values[8], "request_bytes_max", MIB);
    set(broker, 9, values[9], "index_cache_bytes", MIB);
}

/* ---- what is written down ---- */

static void *copy_of(const void *bytes, uint64_t len)
{
    void *copy = malloc(len);
    ASSERT(copy != NULL);
    return memcpy(copy, bytes, len);
}

static void on_event(void *context, const struct sim_event *event)
{
    struct trace *trace = rec.trace;
    (void)context;
    if (trace->count == TRACE_EVENTS_MAX)
        fail("a recording has more than %d events", TRACE_EVENTS_MAX);
    struct trace_known known = known_now();
    uint32_t owner = memory_outside();
    struct sim_event copy = *event;
    if (event->path)
        copy.path = strdup(event->path);
    if (event->path_to)
        copy.path_to = strdup(event->path_to);
    if (event->bytes)
        copy.bytes = copy_of(event->bytes, event->len);
    trace->events[trace->count++] = (struct trace_event){copy, known};
    memory_inside(owner);
}

/* What was acked stays acked while the broker is down. */
static struct trace_known known_now(void)
{
    struct broker *broker = rec.broker.state == SIM_BROKER_READY ? rec.broker.broker : NULL;
    if (broker)
        two_phase_on_event(broker, rec.trace->count);
    for (uint16_t i = 0; broker && i < rec.trace->shards; i++) {
        const struct shard *shard = &broker->shards[i];
        rec.known.committed[i] = max_u64(rec.known.committed[i], store_committed_lsn(shard->store));
    }
    rec.known.history = rec.known.asked = history_count(rec.trace->world->history);
    return rec.known;
}

static struct shard *shard_of(const struct wal *wal)
{
    struct broker *broker = rec.trace ? rec.broker.broker : NULL;
    for (uint16_t i = 0; broker && i < rec.trace->shards; i++)
        if (broker->shards[i].store && broker->shards[i].store->wal == wal)
            return &broker->shards[i];
    return NULL;
}

static void note_entry(struct trace_log *log, struct trace_entry entry)
{
    uint32_t owner = memory_outside();
    while (log->count > 0 && log->entries[log->count - 1].lsn >= entry.lsn)
        log->count--; // of an earlier life, and lost
    if (log->count == log->capacity) {
        log->capacity = log->capacity * 2 + 1024;
        log->entries = realloc(log->entries, log->capacity * sizeof(*log->entries));
        ASSERT(log->entries != NULL);
    }
    log->entries[log->count++] = entry;
    memory_inside(owner);
}

static void on_append(const struct wal *wal, const struct wal_view *view)
{
    struct shard *shard = shard_of(wal);
    if (!shard)
        return;
    note_entry(&rec.trace->logs[rec.known.life][shard->id],
               (struct trace_entry){view->lsn, trace_state_of(shard)});
    two_phase_on_entry(rec.broker.broker, shard, view);
}

/* An end lies behind all entries that begin below it. */
const struct trace_state *trace_state_at(const struct trace *trace, uint32_t life, uint16_t shard,
                                         uint64_t end_lsn)
{
    const struct trace_log *log = &trace->logs[life][shard];
    uint32_t low = 0, high = log->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (log->entries[middle].lsn < end_lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low < log->count ? &log->entries[low].before : &log->end;
}

struct trace_state trace_state_of(const struct shard *shard)
{
    struct trace_state state = {{0}};
    const struct store *store = shard->store;
    ASSERT(store->table_count <= TRACE_TABLES_MAX);
    for (uint32_t i = 0; i < store->table_count; i++)
        state.tables[i] = table_digest(store->tables[i]);
    return state;
}

int trace_states_differ(const struct shard *shard, const struct trace_state *a,
                        const struct trace_state *b)
{
    for (uint32_t i = 0; i < shard->store->table_count; i++)
        if (a->tables[i] != b->tables[i])
            return table_id_of(shard->store->tables[i]);
    return 0;
}

/* ---- what happens ---- */

static void on_opened(struct sim_broker *b, uint16_t shard)
{
    two_phase_on_opened(shard, b->opened[shard].end_lsn);
}

static void start_broker(void)
{
    sim_broker_start(&rec.broker);
    if (!sim_broker_wait_ready(&rec.broker))
        fail("the recorded broker did not start: %s", rec.broker.text);
}

static void *make_topics(void *argument)
{
    world_make_topics(rec.trace->world);
    *(bool *)argument = true;
    process_exit(0);
}

static void do_as_client(void *(*what)(void *done))
{
    static bool done;
    done = false;
    (void)thread_new(process_new("client", NULL), what, &done);
    while (!done)
        thread_sleep(NS_PER_MS / 4);
}

/* The log's next file is entered, in place of 4 MiB of records; only where files are left for what has to be copied forward,
 * as records would have left them. */
static void roll_all(void)
{
    for (uint16_t i = 0; i < rec.trace->shards; i++) {
        struct store *store = rec.broker.broker->shards[i].store;
        if (upkeep_spares(store) < 3 || wal_spare_count(store->wal) < 2)
            continue;
        wal_roll(store->wal);
        rec.trace->rolls++;
    }
}

static void checkpoint_all(void)
{
    assembly_post(rec.broker.broker, INBOX_RELOAD, 0);
    rec.trace->checkpoints++;
}

static void note_ends(void)
{
    for (uint16_t i = 0; i < rec.trace->shards; i++)
        rec.trace->logs[rec.known.life][i].end = trace_state_of(&rec.broker.broker->shards[i]);
}

/* The next life goes on from these entries, or from some of them. */
static void next_life(void)
{
    struct trace_log *now = rec.trace->logs[rec.known.life++];
    if (rec.known.life == TRACE_LIVES_MAX)
        fail("a recording has more than %d lives", TRACE_LIVES_MAX);
    uint32_t owner = memory_outside();
    for (uint16_t i = 0; i < rec.trace->shards; i++) {
        struct trace_log *next = &rec.trace->logs[rec.known.life][i];
        *next = now[i];
        next->capacity = now[i].count + 1;
        next->entries = calloc(next->capacity, sizeof(*next->entries));
        ASSERT(next->entries != NULL);
        for (uint32_t k = 0; k < next->count; k++)
            next->entries[k] = now[i].entries[k];
    }
    memory_inside(owner);
}

static void kill_and_start(void)
{
    note_ends();
    sim_broker_end(&rec.broker, PROCESS_KILLED);
    on_event(NULL, &(struct sim_event){SIM_LIFE_ENDS});
    next_life();
    rec.trace->kills++;
    start_broker();
}

static void something(void)
{
    uint64_t chance = world_below(100);
    if (rec.trace->mix == TRACE_FILES && chance < 30)
        roll_all();
    else if (chance < 40)
        checkpoint_all();
    else if (chance < 42)
        kill_and_start();
}

static void *direct(void *argument)
{
    struct trace *trace = rec.trace;
    (void)argument;
    start_broker();
    do_as_client(make_topics);
    if (trace->mix != TRACE_BIRTH)
        trace->first = trace->count;
    for (uint32_t i = 0; i < rec.actor_count; i++)
        actor_start(&rec.actors[i]);
    uint32_t end = trace->first + rec.events_wanted, next = trace->count;
    while (trace->count < end) {
        thread_sleep(NS_PER_MS / 10);
        if (trace->count < next || rec.broker.state != SIM_BROKER_READY)
            continue;
        next = trace->count + 40;
        something();
    }
    trace->last = known_now();
    note_ends();
    two_phase_mark(trace);
    rec.trace = NULL;
    world_stop();
    return NULL;
}
