/* What log entries do to a shard's tables: one function per entry type, used at append and at replay alike,
 * asking neither clock nor random, so that the same log gives the same tables.
 *
 * Storage has applied its own part (offsets, partitions) before. A negative answer at replay means damage:
 * an entry that no version of this program can have written. */
#include "broker/shard_state.h"

#include <stdio.h>

#include "base/log.h"
#include "broker/groups.h"
#include "broker/participants.h"
#include "broker/transactions.h"

#define SPARE_NS_MAX (30 * NS_PER_S) // to write one segment with zeros

static void scalar_set(struct shard *shard, enum scalar scalar, uint64_t value);
static int apply_batch(struct shard *shard, const struct wal_view *view);
static int apply_topic(struct shard *shard, const struct wal_view *view);
static int apply_topic_drop(struct shard *shard, const struct wal_view *view);
static int apply_slot_table(struct shard *shard, const struct wal_view *view);
static int apply_pid_block(struct shard *shard, const struct wal_view *view);
static int apply_expire(struct shard *shard, const struct wal_view *view);
static int apply_staged(struct shard *shard, const struct wal_view *view);
static int apply_offset_commit(struct shard *shard, const struct wal_view *view);
static int apply_prepare(struct shard *shard, const struct wal_view *view);
static int apply_decide(struct shard *shard, const struct wal_view *view);
static int apply_txn_end(struct shard *shard, const struct wal_view *view);
static bool names_transaction(const struct disk_txn_name *name);
static bool is_coordinated_here(const struct shard *shard, const struct wal_view *view);

int shard_state_new(struct shard *shard)
{
    shard->producers = producers_new(PRODUCERS_PER_SHARD);
    shard->transactions = transactions_new(TRANSACTIONS_PER_SHARD);
    shard->participants = participants_new(PARTICIPANTS_PER_SHARD);
    shard->groups = groups_new();
    shard->scalars = table_new(&(struct table_options){.id = TABLE_SCALARS,
                                                       .row_bytes = sizeof(struct disk_scalar),
                                                       .row_count_max = SCALAR_COUNT});
    if (!shard->producers || !shard->scalars || !shard->transactions || !shard->participants ||
        !shard->groups)
        return E_NO_MEMORY;
    if (shard->id != 0)
        return 0;
    shard->topics = topics_new();
    shard->slots = table_new(&(struct table_options){
        .id = TABLE_SLOTS, .row_bytes = sizeof(struct disk_slot), .row_count_max = SLOT_COUNT});
    return shard->topics && shard->slots ? 0 : E_NO_MEMORY;
}

void shard_state_free(struct shard *shard)
{
    producers_free(TAKE(shard->producers));
    transactions_free(TAKE(shard->transactions));
    participants_free(TAKE(shard->participants));
    groups_free(TAKE(shard->groups));
    topics_free(TAKE(shard->topics));
    if (shard->scalars)
        table_free(TAKE(shard->scalars));
    if (shard->slots)
        table_free(TAKE(shard->slots));
}

uint32_t shard_state_tables(struct shard *shard, struct table *tables[SHARD_TABLES_MAX])
{
    uint32_t count = 0;
    tables[count++] = producers_table(shard->producers);
    tables[count++] = shard->scalars;
    tables[count++] = transactions_table(shard->transactions);
    tables[count++] = participants_table(shard->participants);
    groups_tables(shard->groups, &tables[count]);
    count += GROUPS_TABLES;
    if (shard->topics) {
        tables[count++] = topics_table(shard->topics);
        tables[count++] = shard->slots;
    }
    return count;
}

/* Scalars are rows 0..SCALAR_COUNT-1, made together the first time. */
static int make_scalars(struct shard *shard)
{
    while (table_row_count(shard->scalars) < SCALAR_COUNT) {
        uint32_t index;
        struct disk_scalar *row = table_row_new(shard->scalars, &index);
        if (!row)
            return E_NO_MEMORY;
        row->used = le64_make(1);
        row->value = le64_make(index == SCALAR_TOPIC_ID_NEXT ? 1 : 0);
    }
    return 0;
}

int shard_state_loaded(void *context, const char **why)
{
    struct shard *shard = context;
    *why = "out of memory";
    int status = make_scalars(shard);
    if (status == 0)
        status = producers_rebuild(shard->producers, why);
    if (status == 0)
        status = transactions_rebuild(shard->transactions, why);
    if (status == 0)
        status = participants_rebuild(shard->participants, why);
    if (status == 0)
        status = groups_rebuild(shard->groups, why);
    if (status == 0 && shard->topics)
        status = topics_rebuild(shard->topics, why);
    return status;
}

int shard_state_apply(void *context, const struct wal_view *view, struct partition *partition)
{
    struct shard *shard = context;
    switch ((enum disk_entry_type)view->type) {
    case ENTRY_BATCH:
        return apply_batch(shard, view);
    case ENTRY_PRODUCER_EXPIRE:
        return apply_expire(shard, view);
    case ENTRY_STAGED:
        return apply_staged(shard, view);
    case ENTRY_STAGED_MOVED:
        return 0; // storage's alone
    case ENTRY_OFFSET_COMMIT:
        return apply_offset_commit(shard, view);
    case ENTRY_GROUP:
        return groups_apply_group(shard->groups, view);
    case ENTRY_TXN_OPEN:
        return transactions_apply_open(shard->transactions, view);
    case ENTRY_TXN_JOIN:
        if (!is_coordinated_here(shard, view))
            return E_CORRUPT;
        return transactions_apply_join(shard->transactions, view);
    case ENTRY_PREPARE:
        return apply_prepare(shard, view);
    case ENTRY_DECIDE:
        return apply_decide(shard, view);
    case ENTRY_COMMIT:
    case ENTRY_ABORT:
        return apply_txn_end(shard, view);
    case ENTRY_TXN_END:
        if (!is_coordinated_here(shard, view))
            return E_CORRUPT;
        return transactions_apply_end(shard->transactions, view);
    case ENTRY_PRODUCER_OPEN:
        return transactions_apply_producer(shard->transactions, view);
    case ENTRY_PARTITION_DROP:
        producers_apply_partition_drop(shard->producers, view->topic_id, view->partition);
        return 0;
    case ENTRY_TOPIC:
        return apply_topic(shard, view);
    case ENTRY_TOPIC_DROP:
        return apply_topic_drop(shard, view);
    case ENTRY_SLOT_TABLE:
        return apply_slot_table(shard, view);
    case ENTRY_PID_BLOCK:
        return apply_pid_block(shard, view);
    case ENTRY_PARTITION_OPEN:
    case ENTRY_LOG_START:
        return 0; // storage's alone
    default:
        /* Types that a later version writes. Storage lets only ignorable ones of unknown type come here. */
        return view->flags & ENTRY_IGNORABLE ? 0 : E_CORRUPT;
    }
}

static int apply_batch(struct shard *shard, const struct wal_view *view)
{
    struct batch_info info;
    if (!batch_peek(view->payload, view->payload_bytes, &info))
        return E_CORRUPT;
    return producers_apply_batch(shard->producers, view->topic_id, view->partition, &info,
                                 view->lsn, view->append_time_ms);
}

/* ---- transactions ---- */

/* Could it be one, on any shard? */
static bool names_transaction(const struct disk_txn_name *name)
{
    return le64_get(name->open_lsn) != 0 && le32_get(name->coordinator) < SHARDS_MAX &&
           le32_get(name->reserved) == 0;
}

/* What coordinators log begins with the name, and is about their own transactions. */
static bool is_coordinated_here(const struct shard *shard, const struct wal_view *view)
{
    struct disk_txn_name name;
    if (view->payload_bytes < sizeof(name))
        return false;
    memcpy(&name, view->payload, sizeof(name));
    return names_transaction(&name) && le32_get(name.coordinator) == shard->id;
}

/* A batch moves its producer's sequence, whatever becomes of its transaction. */
static int apply_staged(struct shard *shard, const struct wal_view *view)
{
    struct disk_txn_name name;
    struct batch_info info;
    if (view->payload_bytes <= sizeof(name))
        return E_CORRUPT;
    memcpy(&name, view->payload, sizeof(name));
    if (!batch_peek(view->payload + sizeof(name), view->payload_bytes - sizeof(name), &info) ||
        info.size != view->payload_bytes - sizeof(name) || !names_transaction(&name) ||
        info.producer_id == PRODUCER_NONE)
        return E_CORRUPT;
    if (participants_apply_staged(shard->participants, &name, &info, view->append_time_ms))
        return E_CORRUPT; // more than the limit
    if (le32_get(name.coordinator) == shard->id)
        transactions_apply_staged_here(shard->transactions, le64_get(name.open_lsn), shard->id);
    return producers_apply_batch(shard->producers, view->topic_id, view->partition, &info,
                                 view->lsn, view->append_time_ms);
}

/* Offsets of a consumer group, plain or staged. */
static int apply_offset_commit(struct shard *shard, const struct wal_view *view)
{
    struct disk_offset_commit head;
    if (view->payload_bytes < sizeof(head))
        return E_CORRUPT;
    memcpy(&head, view->payload, sizeof(head));
    bool is_staged = le64_get(head.name.open_lsn) != 0;
    if (is_staged && !names_transaction(&head.name))
        return E_CORRUPT;
    int status = groups_apply_offset_commit(shard->groups, view);
    if (status || !is_staged)
        return status;
    if (participants_apply_staged(shard->participants, &head.name, NULL, view->append_time_ms))
        return E_CORRUPT; // more than the limit
    if (le32_get(head.name.coordinator) == shard->id)
        transactions_apply_staged_here(shard->transactions, le64_get(head.name.open_lsn),
                                       shard->id);
    return 0;
}

static int apply_prepare(struct shard *shard, const struct wal_view *view)
{
    struct disk_prepare payload;
    int status = participants_apply_prepare(shard->participants, view);
    if (status)
        return status;
    memcpy(&payload, view->payload, sizeof(payload));
    groups_apply_prepare(shard->groups, &payload.name);
    return 0;
}

/* COMMIT or ABORT; storage has looked at the payload's length. */
static int apply_txn_end(struct shard *shard, const struct wal_view *view)
{
    struct disk_txn_end end;
    bool committed = view->type == ENTRY_COMMIT;
    if (view->payload_bytes < sizeof(end))
        return E_CORRUPT;
    memcpy(&end, view->payload, sizeof(end));
    bool decides = le32_get(end.flags) & TXN_END_DECIDES;
    if (!names_transaction(&end.name) || le32_get(end.flags) & ~(uint32_t)TXN_END_DECIDES ||
        (decides && le32_get(end.name.coordinator) != shard->id))
        return E_CORRUPT;
    groups_apply_txn_end(shard->groups, &end.name, committed);
    participants_apply_end(shard->participants, &end.name);
    if (decides)
        transactions_apply_decided_here(shard->transactions, le64_get(end.name.open_lsn),
                                        committed ? TXN_COMMITTED : TXN_ABORTED,
                                        view->append_time_ms);
    return 0;
}

/* What other shards had in their logs when this one decided. */
static int apply_decide(struct shard *shard, const struct wal_view *view)
{
    struct disk_txn_decide decide;
    if (!is_coordinated_here(shard, view))
        return E_CORRUPT;
    int status = transactions_apply_decide(shard->transactions, view);
    if (status)
        return status;
    memcpy(&decide, view->payload, sizeof(decide));
    for (uint32_t i = 0; i < le32_get(decide.participant_count); i++) {
        struct disk_txn_participant participant;
        memcpy(&participant, view->payload + sizeof(decide) + i * sizeof(participant),
               sizeof(participant));
        uint64_t *proof = &shard->prepare_proof[le32_get(participant.shard)];
        *proof = max_u64(*proof, le64_get(participant.prepare_lsn));
    }
    return 0;
}

/* Of a producer in a partition; without a partition, of a transactional id. */
static int apply_expire(struct shard *shard, const struct wal_view *view)
{
    le64 producer_id;
    if (view->payload_bytes != sizeof(producer_id))
        return E_CORRUPT;
    memcpy(&producer_id, view->payload, sizeof(producer_id));
    if (view->topic_id == 0) {
        transactions_apply_forget(shard->transactions, le64_get(producer_id));
        return 0;
    }
    producers_apply_expire(shard->producers, le64_get(producer_id), view->topic_id,
                           view->partition);
    return 0;
}

static int apply_topic(struct shard *shard, const struct wal_view *view)
{
    struct disk_topic topic;
    if (!shard->topics || view->payload_bytes != sizeof(topic))
        return E_CORRUPT;
    memcpy(&topic, view->payload, sizeof(topic));
    uint32_t topic_id = le32_get(topic.topic_id);
    const char *why;
    if (topic_id == 0 || topic.name_length > TOPIC_NAME_BYTES_MAX ||
        topic_name_check((struct slice){topic.name, topic.name_length}, &why) != PE_NONE)
        return E_CORRUPT;
    if (topic_id >= shard_scalar(shard, SCALAR_TOPIC_ID_NEXT))
        scalar_set(shard, SCALAR_TOPIC_ID_NEXT, (uint64_t)topic_id + 1);
    return topics_apply(shard->topics, &topic);
}

static int apply_topic_drop(struct shard *shard, const struct wal_view *view)
{
    if (!shard->topics)
        return E_CORRUPT;
    topics_apply_drop(shard->topics, view->topic_id);
    return 0;
}

static int apply_pid_block(struct shard *shard, const struct wal_view *view)
{
    le64 end;
    if (view->payload_bytes != sizeof(end))
        return E_CORRUPT;
    memcpy(&end, view->payload, sizeof(end));
    scalar_set(shard, SCALAR_PRODUCER_ID_END, le64_get(end));
    return 0;
}

static int apply_slot_table(struct shard *shard, const struct wal_view *view)
{
    if (!shard->slots || view->payload_bytes != SLOT_COUNT * sizeof(le16))
        return E_CORRUPT;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        le16 owner;
        memcpy(&owner, view->payload + slot * sizeof(le16), sizeof(owner));
        if (le16_get(owner) >= SHARDS_MAX)
            return E_CORRUPT;
        uint32_t index = slot;
        struct disk_slot *row = slot < table_row_count(shard->slots)
                                    ? table_row_mut(shard->slots, slot)
                                    : table_row_new(shard->slots, &index);
        if (!row || index != slot)
            return E_CORRUPT;
        row->used = le64_make(1);
        row->shard = le64_make(le16_get(owner));
    }
    return 0;
}

/* ---- scalars and slots ---- */

uint64_t shard_scalar(const struct shard *shard, enum scalar scalar)
{
    const struct disk_scalar *row = table_row(shard->scalars, scalar);
    return le64_get(row->value);
}

static void scalar_set(struct shard *shard, enum scalar scalar, uint64_t value)
{
    struct disk_scalar *row = table_row_mut(shard->scalars, scalar);
    row->value = le64_make(value);
}

/* A new store spreads the slots evenly; later only a logged decision moves one. */
static int log_slot_table(struct shard *shard)
{
    le16 owners[SLOT_COUNT];
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        owners[slot] = le16_make((uint16_t)(slot * shard->shard_count / SLOT_COUNT));
    struct wal_entry entry = {
        .type = ENTRY_SLOT_TABLE, .pieces = {{owners, sizeof(owners)}}, .piece_count = 1};
    struct wal_view view;
    int status = store_append(shard->store, &entry, &view, NULL);
    if (status != E_FULL)
        return status;
    /* The power went while the first entry of a new store was written: the cut took the spare. */
    status = store_wait_room(shard->store, SPARE_NS_MAX);
    return status ? status : store_append(shard->store, &entry, &view, NULL);
}

int shard_state_begin(struct shard *shard, char text[512])
{
    if (shard->id != 0)
        return 0;
    if (table_used_count(shard->slots) == 0) {
        int status = log_slot_table(shard);
        if (status) {
            snprintf(text, 512, "shard 0: cannot log the slot table: %s", status_text(status));
            return status;
        }
    }
    if (table_used_count(shard->slots) != SLOT_COUNT) {
        snprintf(text, 512, "shard 0: the slot table has %u of %u slots",
                 table_used_count(shard->slots), SLOT_COUNT);
        return E_CORRUPT;
    }
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        const struct disk_slot *row = table_row(shard->slots, slot);
        if (le64_get(row->shard) >= shard->shard_count) {
            snprintf(text, 512, "shard 0: slot %u belongs to shard %llu, the store has %u", slot,
                     (unsigned long long)le64_get(row->shard), shard->shard_count);
            return E_CORRUPT;
        }
    }
    /* What was left of the last block may have been given out: go on behind it. */
    shard->producer_id_next = shard_scalar(shard, SCALAR_PRODUCER_ID_END);
    return 0;
}

void shard_slot_table(const struct shard *shard, uint16_t slot_shard[])
{
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        const struct disk_slot *row = table_row(shard->slots, slot);
        slot_shard[slot] = (uint16_t)le64_get(row->shard);
    }
}

/* A decision names PREPAREs that were durable: a log that ends before one has lost what was decided over. */
int shard_check_decisions(const struct shard *shard, const struct shard *shards, char text[512])
{
    for (uint16_t i = 0; i < shard->shard_count; i++) {
        uint64_t end_lsn = store_reserved_lsn(shards[i].store);
        if (shard->prepare_proof[i] < end_lsn || shard->prepare_proof[i] == 0)
            continue;
        snprintf(text, 512,
                 "shard %u decided over a transaction that shard %u had prepared at LSN %llu, but "
                 "the log of shard %u "
                 "ends at LSN %llu: it lost its end",
                 shard->id, i, (unsigned long long)shard->prepare_proof[i], i,
                 (unsigned long long)end_lsn);
        return E_CORRUPT;
    }
    return 0;
}

int shard_check_partitions(struct shard *shard, const struct shard *shard_0, char text[512])
{
    struct partitions *partitions = store_partitions(shard->store);
    for (uint32_t i = 0; i < partitions_count(partitions); i++) {
        const struct partition *partition = partitions_at(partitions, i);
        const struct disk_topic *topic = topics_find_id(shard_0->topics, partition->topic_id);
        if (topic && partition->partition < le32_get(topic->partition_count))
            continue;
        snprintf(text, 512,
                 "shard %u holds topic id %u partition %u, which shard 0 never heard of: the logs "
                 "of these shards are not of one store, or shard 0 lost its end",
                 shard->id, partition->topic_id, partition->partition);
        return E_CORRUPT;
    }
    return 0;
}
