/* Rows of transactional ids, two maps to them (by id, by the LSN of what is open), and what each entry does to a row.
 *
 * Failure modes at replay: an entry about an id, or a transaction, that no entry before it made: damage. At append the
 * handlers have looked first. */
#include "broker/transactions.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/row_map.h"
#include "broker/txn_job.h"

struct transactions {
    struct table *table;
    struct row_map by_id;
    struct row_map by_open; // rows with open_lsn
    struct transaction *memory;
    struct list open; // those with a deadline
    uint32_t open_count;
    uint64_t look_ns; // no deadline before this
};

static const struct txn_rule rules[TXN_STATE_ABORTING + 1][TXN_EVENT_COUNT] = {
#define RULE(state, event, action, error)                                                          \
    [TXN_STATE_##state][TXN_EVENT_##event] = {TXN_DO_##action, PE_##error},
#include "broker/transaction_rules.def"
#undef RULE
};

static struct disk_transaction *row_mut(struct transactions *transactions, uint32_t row);
static struct slice id_of(const struct disk_transaction *row);
static uint64_t hash_of_id(struct slice id);
static uint64_t hash_of_lsn(uint64_t lsn);
static void open_begin(struct transactions *transactions, uint32_t row);
static void open_end(struct transactions *transactions, uint32_t row, enum txn_outcome outcome,
                     uint64_t append_time_ms);
static const char *row_check(const struct transactions *transactions,
                             const struct disk_transaction *row);
static int entry_is_bad(const struct wal_view *view, const char *why);

struct txn_rule transaction_rule(enum txn_state state, enum txn_event event)
{
    ASSERT(state <= TXN_STATE_ABORTING && event < TXN_EVENT_COUNT);
    return rules[state][event];
}

struct transactions *transactions_new(uint32_t row_count_max)
{
    struct transactions *transactions = calloc(1, sizeof(*transactions));
    if (!transactions)
        return NULL;
    list_init(&transactions->open);
    transactions->look_ns = UINT64_MAX;
    transactions->table =
        table_new(&(struct table_options){.id = TABLE_TRANSACTIONS,
                                          .row_bytes = sizeof(struct disk_transaction),
                                          .row_count_max = row_count_max});
    transactions->memory = calloc(row_count_max, sizeof(*transactions->memory));
    if (transactions->table && transactions->memory &&
        row_map_init(&transactions->by_id, row_count_max) == 0 &&
        row_map_init(&transactions->by_open, row_count_max) == 0)
        return transactions;
    transactions_free(transactions);
    return NULL;
}

void transactions_free(struct transactions *transactions)
{
    if (!transactions)
        return;
    if (transactions->table)
        table_free(transactions->table);
    row_map_deinit(&transactions->by_id);
    row_map_deinit(&transactions->by_open);
    free(transactions->memory);
    free(transactions);
}

struct table *transactions_table(struct transactions *transactions)
{
    return transactions->table;
}

static void memory_init(struct transactions *transactions, uint32_t row)
{
    struct transaction *memory = &transactions->memory[row];
    *memory = (struct transaction){0};
    list_init(&memory->open_link);
    list_init(&memory->inits);
}

int transactions_rebuild(struct transactions *transactions, const char **why)
{
    for (uint32_t row = 0; row < table_row_count(transactions->table); row++) {
        if (!table_row_is_used(transactions->table, row))
            continue;
        const struct disk_transaction *disk = table_row(transactions->table, row);
        *why = row_check(transactions, disk);
        if (*why)
            return E_CORRUPT;
        memory_init(transactions, row);
        row_map_add(&transactions->by_id, hash_of_id(id_of(disk)), row);
        if (le64_get(disk->open_lsn) != 0)
            open_begin(transactions, row);
    }
    return 0;
}

static const char *row_check(const struct transactions *transactions,
                             const struct disk_transaction *row)
{
    if (row->id_length == 0 || row->id_length > TRANSACTIONAL_ID_BYTES_MAX)
        return "a transactional id of an impossible length";
    if (row->state > TXN_STATE_ABORTING || row->state == TXN_STATE_PREPARING ||
        (row->state == TXN_STATE_EMPTY) != (le64_get(row->open_lsn) == 0))
        return "a transaction in an impossible state";
    if (transactions_find(transactions, id_of(row)) != TABLE_ROW_NONE)
        return "two rows for one transactional id";
    if (le64_get(row->open_lsn) != 0 &&
        transactions_find_open(transactions, le64_get(row->open_lsn)) != TABLE_ROW_NONE)
        return "two transactions of one name";
    return NULL;
}

/* ---- looking ---- */

uint32_t transactions_find(const struct transactions *transactions, struct slice id)
{
    uint64_t hash = hash_of_id(id);
    uint32_t at, row = row_map_first(&transactions->by_id, hash, &at);
    for (; row != ROW_MAP_NONE; row = row_map_next(&transactions->by_id, hash, &at)) {
        struct slice other = id_of(table_row(transactions->table, row));
        if (other.len == id.len && memcmp(other.bytes, id.bytes, id.len) == 0)
            return row;
    }
    return TABLE_ROW_NONE;
}

uint32_t transactions_find_open(const struct transactions *transactions, uint64_t open_lsn)
{
    uint64_t hash = hash_of_lsn(open_lsn);
    uint32_t at, row = row_map_first(&transactions->by_open, hash, &at);
    for (; row != ROW_MAP_NONE; row = row_map_next(&transactions->by_open, hash, &at)) {
        const struct disk_transaction *disk = table_row(transactions->table, row);
        if (le64_get(disk->open_lsn) == open_lsn)
            return row;
    }
    return TABLE_ROW_NONE;
}

const struct disk_transaction *transactions_row(const struct transactions *transactions,
                                                uint32_t row)
{
    return table_row(transactions->table, row);
}

const char *transactions_id_text(const struct disk_transaction *row,
                                 char text[TRANSACTIONAL_ID_BYTES_MAX + 1])
{
    memcpy(text, row->id, row->id_length);
    text[row->id_length] = '\0';
    return text;
}

struct transaction *transactions_memory(struct transactions *transactions, uint32_t row)
{
    ASSERT(table_row_is_used(transactions->table, row));
    return &transactions->memory[row];
}

uint32_t transactions_row_count(const struct transactions *transactions)
{
    return table_row_count(transactions->table);
}

uint32_t transactions_open_count(const struct transactions *transactions)
{
    return transactions->open_count;
}

bool transactions_is_full(const struct transactions *transactions)
{
    return table_is_full(transactions->table);
}

uint32_t transactions_idlest(const struct transactions *transactions)
{
    uint32_t found = TABLE_ROW_NONE;
    uint64_t used_ms = UINT64_MAX;
    for (uint32_t row = 0; row < table_row_count(transactions->table); row++) {
        if (!table_row_is_used(transactions->table, row))
            continue;
        const struct disk_transaction *disk = table_row(transactions->table, row);
        bool is_idle = disk->state == TXN_STATE_EMPTY && !transactions->memory[row].job &&
                       list_is_empty(&transactions->memory[row].inits);
        if (is_idle && le64_get(disk->used_ms) < used_ms) {
            used_ms = le64_get(disk->used_ms);
            found = row;
        }
    }
    return found;
}

static int compare_ids(struct slice a, struct slice b)
{
    int order = memcmp(a.bytes, b.bytes, min_u64(a.len, b.len));
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_rows(const struct transactions *transactions, uint32_t a, uint32_t b)
{
    return compare_ids(id_of(table_row(transactions->table, a)),
                       id_of(table_row(transactions->table, b)));
}

/* Where a row belongs among those that are in order. */
static uint32_t place_of(const struct transactions *transactions, const uint32_t *rows,
                         uint32_t count, uint32_t row)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_rows(transactions, row, rows[middle]) < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Keeps the smallest `max` in order: a walk over all rows, with an insertion for each that belongs there. */
uint32_t transactions_next_many(const struct transactions *transactions, struct slice after,
                                uint32_t *rows, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t row = 0; row < table_row_count(transactions->table); row++) {
        if (!table_row_is_used(transactions->table, row) ||
            (after.len > 0 && compare_ids(id_of(table_row(transactions->table, row)), after) <= 0))
            continue;
        uint32_t place = place_of(transactions, rows, count, row);
        if (place == max)
            continue;
        count += count < max;
        memmove(&rows[place + 1], &rows[place], (count - 1 - place) * sizeof(*rows));
        rows[place] = row;
    }
    return count;
}

enum txn_state transactions_state(const struct transactions *transactions, uint32_t row)
{
    const struct disk_transaction *disk = table_row(transactions->table, row);
    const struct txn_job *job = transactions->memory[row].job;
    if (!job || (disk->state != TXN_STATE_OPEN && disk->state != TXN_STATE_PREPARED))
        return (enum txn_state)disk->state;
    if (txn_job_goal(job) == TXN_GOAL_ABORT)
        return TXN_STATE_ABORTING;
    return disk->state == TXN_STATE_OPEN ? TXN_STATE_PREPARING : TXN_STATE_COMMITTING;
}

uint16_t transactions_check_producer(const struct transactions *transactions, uint32_t row,
                                     uint64_t producer_id, uint16_t epoch, char text[72])
{
    const struct disk_transaction *disk = table_row(transactions->table, row);
    uint64_t known = le64_get(disk->producer_id_plus_1) - 1;
    if (producer_id != known) {
        snprintf(text, 72, "producer id %llu, this transactional id has %llu",
                 (unsigned long long)producer_id, (unsigned long long)known);
        return producer_id < known ? PE_FENCED_PRODUCER : PE_UNKNOWN_PRODUCER;
    }
    if (epoch == le16_get(disk->epoch))
        return PE_NONE;
    snprintf(text, 72, "epoch %u, the newest is %u", epoch, le16_get(disk->epoch));
    return epoch < le16_get(disk->epoch) ? PE_FENCED_PRODUCER : PE_INVALID_ARGUMENT;
}

/* ---- deadlines ---- */

void transactions_arm(struct transactions *transactions, uint32_t row, uint64_t deadline_ns)
{
    struct transaction *memory = transactions_memory(transactions, row);
    memory->deadline_ns = deadline_ns;
    transactions->look_ns = min_u64(transactions->look_ns, deadline_ns);
}

/* A look at all that are open happens only when the earliest deadline known has passed; most transactions end before
 * theirs, so that is rare. */
uint32_t transactions_due(struct transactions *transactions, uint64_t now_ns)
{
    if (now_ns < transactions->look_ns)
        return TABLE_ROW_NONE;
    uint64_t next_ns = UINT64_MAX;
    LIST_EACH(link, &transactions->open)
    {
        struct transaction *memory = CONTAINER_OF(link, struct transaction, open_link);
        if (memory->deadline_ns <= now_ns) {
            memory->deadline_ns = UINT64_MAX;
            return (uint32_t)(memory - transactions->memory);
        }
        next_ns = min_u64(next_ns, memory->deadline_ns);
    }
    transactions->look_ns = next_ns;
    return TABLE_ROW_NONE;
}

uint64_t transactions_deadline_ns(const struct transactions *transactions)
{
    return transactions->look_ns;
}

/* ---- apply ---- */

static struct slice rest_of(const struct wal_view *view, size_t fixed)
{
    return (struct slice){view->payload + fixed, view->payload_bytes - fixed};
}

int transactions_apply_producer(struct transactions *transactions, const struct wal_view *view)
{
    struct disk_producer_open payload;
    if (view->payload_bytes <= sizeof(payload) ||
        view->payload_bytes > sizeof(payload) + TRANSACTIONAL_ID_BYTES_MAX)
        return entry_is_bad(view, "not the producer of a transactional id");
    memcpy(&payload, view->payload, sizeof(payload));
    struct slice id = rest_of(view, sizeof(payload));
    if (le64_get(payload.producer_id) > INT64_MAX || le16_get(payload.epoch) > EPOCH_MAX)
        return entry_is_bad(view, "an impossible producer id or epoch");
    uint32_t index = transactions_find(transactions, id);
    struct disk_transaction *row;
    if (index == TABLE_ROW_NONE) {
        row = table_row_new(transactions->table, &index);
        if (!row)
            return entry_is_bad(view, "more transactional ids than the limit");
        row->id_length = (uint8_t)id.len;
        memcpy(row->id, id.bytes, id.len);
        memory_init(transactions, index);
        row_map_add(&transactions->by_id, hash_of_id(id), index);
    } else {
        row = row_mut(transactions, index);
    }
    row->producer_id_plus_1 = le64_make(le64_get(payload.producer_id) + 1);
    row->epoch = payload.epoch;
    row->used_ms = le64_make(view->append_time_ms);
    return 0;
}

int transactions_apply_open(struct transactions *transactions, const struct wal_view *view)
{
    struct disk_txn_open payload;
    if (view->payload_bytes <= sizeof(payload))
        return entry_is_bad(view, "not the beginning of a transaction");
    memcpy(&payload, view->payload, sizeof(payload));
    uint32_t index = transactions_find(transactions, rest_of(view, sizeof(payload)));
    if (index == TABLE_ROW_NONE)
        return entry_is_bad(view, "a transaction of an unknown transactional id");
    struct disk_transaction *row = row_mut(transactions, index);
    if (row->state != TXN_STATE_EMPTY)
        return entry_is_bad(view, "a transaction begins while another one is open");
    row->state = TXN_STATE_OPEN;
    row->open_lsn = le64_make(view->lsn);
    row->opened_ms = row->used_ms = le64_make(view->append_time_ms);
    row->timeout_ms = payload.timeout_ms;
    row->shards = le64_make(0);
    open_begin(transactions, index);
    return 0;
}

int transactions_apply_join(struct transactions *transactions, const struct wal_view *view)
{
    struct disk_txn_join payload;
    if (view->payload_bytes != sizeof(payload))
        return entry_is_bad(view, "not a join");
    memcpy(&payload, view->payload, sizeof(payload));
    uint32_t index = transactions_find_open(transactions, le64_get(payload.name.open_lsn));
    if (index == TABLE_ROW_NONE || le32_get(payload.shard) >= SHARDS_MAX)
        return entry_is_bad(view, "a join of an unknown transaction or shard");
    struct disk_transaction *row = row_mut(transactions, index);
    if (row->state != TXN_STATE_OPEN)
        return entry_is_bad(view, "a join of a transaction that is being ended");
    row->shards = le64_make(le64_get(row->shards) | (uint64_t)1 << le32_get(payload.shard));
    return 0;
}

void transactions_apply_staged_here(struct transactions *transactions, uint64_t open_lsn,
                                    uint16_t shard)
{
    uint32_t index = transactions_find_open(transactions, open_lsn);
    if (index == TABLE_ROW_NONE)
        return; // ended: its participant drops it
    const struct disk_transaction *row = table_row(transactions->table, index);
    uint64_t shards = le64_get(row->shards) | (uint64_t)1 << shard;
    if (shards != le64_get(row->shards))
        row_mut(transactions, index)->shards = le64_make(shards);
}

int transactions_apply_decide(struct transactions *transactions, const struct wal_view *view)
{
    static const uint8_t states[] = {
        [TXN_DECIDE_COMMIT] = TXN_STATE_COMMITTING,
        [TXN_DECIDE_ABORT] = TXN_STATE_ABORTING,
        [TXN_DECIDE_PREPARED] = TXN_STATE_PREPARED,
    };
    struct disk_txn_decide payload;
    if (view->payload_bytes < sizeof(payload))
        return entry_is_bad(view, "not a decision");
    memcpy(&payload, view->payload, sizeof(payload));
    uint32_t decision = le32_get(payload.decision), count = le32_get(payload.participant_count);
    if (decision < TXN_DECIDE_COMMIT || decision > TXN_DECIDE_PREPARED || count > SHARDS_MAX ||
        view->payload_bytes != sizeof(payload) + count * sizeof(struct disk_txn_participant))
        return entry_is_bad(view, "an impossible decision");
    for (uint32_t i = 0; i < count; i++) {
        struct disk_txn_participant participant;
        memcpy(&participant, view->payload + sizeof(payload) + i * sizeof(participant),
               sizeof(participant));
        if (le32_get(participant.shard) >= SHARDS_MAX)
            return entry_is_bad(view, "a decision over a shard that cannot be");
    }
    uint32_t index = transactions_find_open(transactions, le64_get(payload.name.open_lsn));
    if (index ==
        TABLE_ROW_NONE) // one that nobody knows is aborted before its participant is told so
        return decision == TXN_DECIDE_ABORT ? 0 : entry_is_bad(view, "of an unknown transaction");
    const struct disk_transaction *row = table_row(transactions->table, index);
    if (row->state == TXN_STATE_COMMITTING || row->state == TXN_STATE_ABORTING ||
        row->state == states[decision])
        return entry_is_bad(view, "a second decision");
    row_mut(transactions, index)->state = states[decision];
    return 0;
}

int transactions_apply_end(struct transactions *transactions, const struct wal_view *view)
{
    struct disk_txn_name name;
    if (view->payload_bytes != sizeof(name))
        return entry_is_bad(view, "not the end of a transaction");
    memcpy(&name, view->payload, sizeof(name));
    uint32_t index = transactions_find_open(transactions, le64_get(name.open_lsn));
    if (index == TABLE_ROW_NONE)
        return entry_is_bad(view, "the end of an unknown transaction");
    const struct disk_transaction *row = table_row(transactions->table, index);
    if (row->state != TXN_STATE_COMMITTING && row->state != TXN_STATE_ABORTING)
        return entry_is_bad(view, "the end of a transaction that was not decided");
    open_end(transactions, index, row->state == TXN_STATE_COMMITTING ? TXN_COMMITTED : TXN_ABORTED,
             view->append_time_ms);
    return 0;
}

void transactions_apply_decided_here(struct transactions *transactions, uint64_t open_lsn,
                                     enum txn_outcome outcome, uint64_t append_time_ms)
{
    uint32_t index = transactions_find_open(transactions, open_lsn);
    if (index != TABLE_ROW_NONE)
        open_end(transactions, index, outcome, append_time_ms);
}

void transactions_apply_forget(struct transactions *transactions, uint64_t producer_id)
{
    for (uint32_t row = 0; row < table_row_count(transactions->table); row++) {
        if (!table_row_is_used(transactions->table, row))
            continue;
        const struct disk_transaction *disk = table_row(transactions->table, row);
        if (le64_get(disk->producer_id_plus_1) - 1 != producer_id || disk->state != TXN_STATE_EMPTY)
            continue;
        row_map_remove(&transactions->by_id, hash_of_id(id_of(disk)), row);
        table_row_delete(transactions->table, row);
        return;
    }
}

static void open_begin(struct transactions *transactions, uint32_t row)
{
    struct transaction *memory = &transactions->memory[row];
    const struct disk_transaction *disk = table_row(transactions->table, row);
    row_map_add(&transactions->by_open, hash_of_lsn(le64_get(disk->open_lsn)), row);
    memory->deadline_ns = UINT64_MAX; // until it is armed
    memory->alarm_given = false;
    list_push_back(&transactions->open, &memory->open_link);
    transactions->open_count++;
}

static void open_end(struct transactions *transactions, uint32_t index, enum txn_outcome outcome,
                     uint64_t append_time_ms)
{
    struct disk_transaction *row = row_mut(transactions, index);
    row_map_remove(&transactions->by_open, hash_of_lsn(le64_get(row->open_lsn)), index);
    row->last_open_lsn = row->open_lsn;
    row->last_outcome = (uint8_t)outcome;
    row->open_lsn = row->shards = le64_make(0);
    row->state = TXN_STATE_EMPTY;
    row->used_ms = le64_make(append_time_ms);
    list_remove(&transactions->memory[index].open_link);
    transactions->open_count--;
}

/* ---- small things ---- */

static struct disk_transaction *row_mut(struct transactions *transactions, uint32_t row)
{
    return table_row_mut(transactions->table, row);
}

static struct slice id_of(const struct disk_transaction *row)
{
    return (struct slice){row->id, row->id_length};
}

static uint64_t hash_of_id(struct slice id)
{
    return hash_xxh3(id.bytes, id.len);
}

static uint64_t hash_of_lsn(uint64_t lsn)
{
    return hash_xxh3(&lsn, sizeof(lsn));
}

static int entry_is_bad(const struct wal_view *view, const char *why)
{
    LOG_ERROR("transactions.entry_bad", LOG_U64("lsn", view->lsn), LOG_U64("type", view->type),
              LOG_STR("why", why));
    return E_CORRUPT;
}
