/* A transaction is followed from its first PREPARE on, by the entries that logs get and by how far they are written and durable. */
#include "tests/sim/crash/two_phase.h"

#include <stdlib.h>
#include <string.h>

#include "broker/transactions.h"
#include "storage/store_private.h"
#include "tests/sim/world/own_memory.h"

struct followed {
    uint32_t coordinator;
    uint64_t open_lsn;
    uint64_t shards;                     // that take part, a bit each
    uint64_t prepares[TRACE_SHARDS_MAX]; // LSNs; 0: none
    uint64_t commits[TRACE_SHARDS_MAX];  // LSNs; 0: none
    uint64_t decided;                    // LSN of the DECIDE that says commit; 0: none
    uint64_t durable;                    // COMMITs, a bit each
    uint32_t first, end;                 // events; UINT32_MAX: not yet
};

static struct {
    struct followed *all;
    uint32_t count, capacity;
} txns;

static struct followed *find(const struct disk_txn_name *name);
static void begin(const struct broker *broker, const struct disk_txn_name *name);

void two_phase_begin(void)
{
    memset(&txns, 0, sizeof(txns));
}

/* ---- entries ---- */

void two_phase_on_entry(const struct broker *broker, const struct shard *shard,
                        const struct wal_view *view)
{
    if (view->type != ENTRY_PREPARE && view->type != ENTRY_DECIDE && view->type != ENTRY_COMMIT)
        return;
    struct disk_txn_name name; // all three begin with it
    memcpy(&name, view->payload, sizeof(name));
    struct followed *txn = find(&name);
    if (view->type == ENTRY_PREPARE && !txn) {
        begin(broker, &name);
        txn = find(&name);
    }
    if (!txn)
        return;
    if (view->type == ENTRY_PREPARE) {
        txn->prepares[shard->id] = view->lsn;
    } else if (view->type == ENTRY_COMMIT) {
        txn->commits[shard->id] = view->lsn;
    } else {
        struct disk_txn_decide decide;
        memcpy(&decide, view->payload, sizeof(decide));
        if (le32_get(decide.decision) == TXN_DECIDE_COMMIT)
            txn->decided = view->lsn;
    }
}

static struct followed *find(const struct disk_txn_name *name)
{
    for (uint32_t i = txns.count; i-- > 0;)
        if (txns.all[i].coordinator == le32_get(name->coordinator) &&
            txns.all[i].open_lsn == le64_get(name->open_lsn))
            return &txns.all[i];
    return NULL;
}

/* No other shard joins from now on. */
static void begin(const struct broker *broker, const struct disk_txn_name *name)
{
    uint32_t coordinator = le32_get(name->coordinator);
    const struct transactions *transactions = broker->shards[coordinator].transactions;
    uint32_t row = transactions_find_open(transactions, le64_get(name->open_lsn));
    if (row == TABLE_ROW_NONE)
        return;
    uint64_t shards = le64_get(transactions_row(transactions, row)->shards);
    if (__builtin_popcountll(shards) < 2)
        return;
    if (txns.count == txns.capacity) {
        uint32_t owner = memory_outside();
        txns.capacity = txns.capacity * 2 + 64;
        txns.all = realloc(txns.all, txns.capacity * sizeof(*txns.all));
        ASSERT(txns.all != NULL);
        memory_inside(owner);
    }
    txns.all[txns.count++] = (struct followed){.coordinator = coordinator,
                                               .open_lsn = le64_get(name->open_lsn),
                                               .shards = shards,
                                               .first = UINT32_MAX,
                                               .end = UINT32_MAX};
}

/* ---- moments ---- */

static bool has_begun(const struct followed *txn, const struct wal_marks *marks)
{
    for (uint32_t i = 0; i < TRACE_SHARDS_MAX; i++)
        if (txn->prepares[i] != 0 && txn->prepares[i] < marks[i].submitted)
            return true;
    return false;
}

/* Submitted is said right before the event that begins the write; durable, behind the flush. */
static void follow(struct followed *txn, const struct wal_marks *marks, uint32_t event)
{
    if (txn->first == UINT32_MAX && has_begun(txn, marks))
        txn->first = event + 1;
    for (uint32_t i = 0; i < TRACE_SHARDS_MAX; i++)
        if (txn->commits[i] != 0 && txn->commits[i] < marks[i].durable)
            txn->durable |= UINT64_C(1) << i;
    if (txn->durable == txn->shards)
        txn->end = event;
}

void two_phase_on_event(const struct broker *broker, uint32_t event)
{
    struct wal_marks marks[TRACE_SHARDS_MAX] = {{0}};
    for (uint16_t i = 0; i < broker->shard_count; i++)
        marks[i] = wal_marks(broker->shards[i].store->wal);
    for (uint32_t i = 0; i < txns.count; i++)
        if (txns.all[i].end == UINT32_MAX)
            follow(&txns.all[i], marks, event);
}

static void forget_from(uint64_t *lsn, uint64_t end_lsn)
{
    if (*lsn >= end_lsn)
        *lsn = 0;
}

void two_phase_on_opened(uint16_t shard, uint64_t end_lsn)
{
    for (uint32_t i = 0; i < txns.count; i++) {
        forget_from(&txns.all[i].prepares[shard], end_lsn);
        forget_from(&txns.all[i].commits[shard], end_lsn);
        if (txns.all[i].coordinator == shard)
            forget_from(&txns.all[i].decided, end_lsn);
    }
}

static void see(struct trace_known *known, const struct followed *txn)
{
    known->two_phase =
        (uint32_t)max_u64(known->two_phase, (uint64_t)__builtin_popcountll(txn->shards));
}

void two_phase_mark(struct trace *trace)
{
    for (uint32_t i = 0; i < txns.count; i++) {
        const struct followed *txn = &txns.all[i];
        if (txn->decided == 0)
            continue;
        for (uint32_t event = txn->first; event < trace->count && event < txn->end; event++)
            see(&trace->events[event].known, txn);
        if (txn->first <= trace->count && txn->end == UINT32_MAX)
            see(&trace->last, txn);
    }
    free(txns.all);
    two_phase_begin();
}
