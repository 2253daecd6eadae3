#include "tests/sim/simulation/state_log.h"

#include <stdlib.h>
#include <string.h>

#include "broker/shard.h"
#include "storage/store_private.h"
#include "storage/wal_private.h"
#include "tests/sim/world/log_hook.h"
#include "tests/sim/world/own_memory.h"

struct log_place {
    uint64_t lsn, digest;
    uint64_t chain;      // of what lies before
    bool is_chain_known; // else that was not written yet
};

struct shard_log {
    struct log_place *places; // by LSN
    uint32_t count, capacity;
    struct log_place end; // of the last life's log
    uint64_t durable_lsn; // below it everything was on stable storage when that ended
    uint32_t life;        // of the broker, when it was last opened; 0: never
};

static struct {
    struct sim_broker *broker;
    struct shard_log shards[SHARDS_MAX];
    uint32_t starts, compared;
} states;

static void on_append(const struct wal *wal, const struct wal_view *view);
static void on_freed(struct store *store);

void state_log_begin(struct sim_broker *broker)
{
    memset(&states, 0, sizeof(states));
    states.broker = broker;
    log_observe((struct log_observer){on_append, on_freed});
}

void state_log_end(void)
{
    log_observe((struct log_observer){0});
    for (uint32_t i = 0; i < SHARDS_MAX; i++)
        free(states.shards[i].places);
    memset(states.shards, 0, sizeof(states.shards));
}

/* It outlives the process that appends. */
static void add(struct shard_log *log, struct log_place place)
{
    uint32_t owner = memory_outside();
    if (log->count == log->capacity) {
        log->capacity = 2 * log->capacity + 256;
        log->places = realloc(log->places, log->capacity * sizeof(*log->places));
        ASSERT(log->places != NULL);
    }
    ASSERT(log->count == 0 || log->places[log->count - 1].lsn < place.lsn);
    log->places[log->count++] = place;
    memory_inside(owner);
}

static void on_append(const struct wal *wal, const struct wal_view *view)
{
    struct broker *broker = states.broker->broker;
    if (broker == NULL || wal->fill_entries != 1)
        return;
    bool is_stamped = wal->queue_stamped + 1 == wal->queue_tail; // all but the one being filled
    for (uint16_t i = 0; i < broker->shard_count; i++) {
        struct shard *shard = &broker->shards[i];
        if (shard->store && shard->store->wal == wal && states.shards[i].life > 0)
            add(&states.shards[i],
                (struct log_place){view->lsn, shard_digest(shard), wal->chain, is_stamped});
    }
}

/* Not while a group is filled or waits to be written: what its chain will be is not known. */
static void note_end(struct shard_log *log, struct store *store)
{
    const struct wal *wal = store->wal;
    log->durable_lsn = wal->marks.durable;
    if (wal->filling == NULL && wal->queue_stamped == wal->queue_tail)
        log->end =
            (struct log_place){store_reserved_lsn(store), store_digest(store), wal->chain, true};
}

void state_log_note_end(void)
{
    struct broker *broker = states.broker->broker;
    for (uint16_t i = 0; i < broker->shard_count; i++)
        if (broker->shards[i].store)
            note_end(&states.shards[i], broker->shards[i].store);
}

/* A broker that drains, or ends by itself. */
static void on_freed(struct store *store)
{
    struct shard_log *log = &states.shards[store->options.shard_id];
    if (log->life > 0 && log->life == states.broker->lives && store->wal)
        note_end(log, store);
}

/* Between two places nothing is appended: the next one's state is that of every LSN before it. */
static const struct log_place *place_at(const struct shard_log *log, uint64_t lsn)
{
    uint32_t low = 0, high = log->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (log->places[middle].lsn < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < log->count)
        return &log->places[low];
    return log->end.lsn == lsn ? &log->end : NULL;
}

/* A start that came to nothing may have cut off what it found and written a CUT in its place: then an LSN does not say what lies
 * below it, and only an equal chain does. */
uint64_t state_log_opened(uint16_t shard)
{
    struct shard_log *log = &states.shards[shard];
    const struct sim_state *now = &states.broker->opened[shard];
    const struct log_place *then = place_at(log, now->end_lsn);
    bool is_next_life = log->life + 1 == states.broker->lives;
    bool is_same = log->life > 0 && then &&
                   (is_next_life || (then->is_chain_known && then->chain == now->chain));
    bool differs = is_same && then->digest != now->digest;
    states.starts += log->life > 0;
    states.compared += is_same;
    while (log->count > 0 && log->places[log->count - 1].lsn >= now->end_lsn)
        log->count--;
    log->end = (struct log_place){now->end_lsn, now->digest, now->chain, true};
    log->durable_lsn = now->end_lsn;
    log->life = states.broker->lives;
    return differs ? now->end_lsn : UINT64_MAX;
}

uint64_t state_log_durable_lsn(uint16_t shard)
{
    return states.shards[shard].durable_lsn;
}

uint32_t state_log_starts(void)
{
    return states.starts;
}

uint32_t state_log_compared(void)
{
    return states.compared;
}
