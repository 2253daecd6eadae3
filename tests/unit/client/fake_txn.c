/* The fake broker's side of TXN_ requests. One shard, everything durable at once; the rules of
 * docs/protocol.md, section 11. */
#include "tests/unit/client/fake_txn.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/client/fake_private.h"

#define SHARD_COUNT 1

static uint16_t on_init(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_begin(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_offsets(struct fake_broker *broker, const struct frame *frame);
static uint16_t on_end(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_abort(struct fake_broker *broker, const struct frame *frame);
static uint16_t on_list(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_describe(struct fake_broker *broker, const struct frame *frame,
                            struct writer *w);
static struct fake_txn *find(struct fake_txns *txns, struct slice id, bool add);
static uint16_t check_name(const struct fake_txn *txn, const struct msg_txn *m);
static bool is_all(const struct fake_txn *txn, const struct msg_txn_end *m);
static uint64_t make_visible(struct fake_broker *broker, struct fake_txn *txn, uint32_t topic_id,
                             uint32_t partition);
static void commit(struct fake_broker *broker, struct fake_txn *txn);
static void finish(struct fake_txn *txn, bool committed);

uint16_t fake_on_txn(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    switch (frame->op) {
    case OP_TXN_INIT:
        return on_init(broker, frame, w);
    case OP_TXN_BEGIN:
        return on_begin(broker, frame, w);
    case OP_TXN_OFFSETS:
        return on_offsets(broker, frame);
    case OP_TXN_PREPARE:
    case OP_TXN_COMMIT:
        return on_end(broker, frame, w);
    case OP_TXN_ABORT:
        return on_abort(broker, frame);
    case OP_TXN_LIST:
        return on_list(broker, frame, w);
    case OP_TXN_DESCRIBE:
        return on_describe(broker, frame, w);
    default:
        return PE_UNKNOWN_OPERATION;
    }
}

struct fake_txn *fake_txn_open(struct fake_txns *txns, uint64_t open_lsn)
{
    for (uint32_t i = 0; i < FAKE_TXN_IDS_MAX; i++) {
        if (open_lsn != 0 && txns->ids[i].open_lsn == open_lsn)
            return &txns->ids[i];
    }
    return NULL;
}

void fake_txn_stage(struct fake_txn *txn, uint32_t topic_id, uint32_t partition,
                    const uint8_t *bytes, const struct batch_info *info)
{
    txn->staged = realloc(txn->staged, (txn->staged_count + 1) * sizeof(*txn->staged));
    uint8_t *copy = malloc(info->size);
    ASSERT(txn->staged && copy);
    memcpy(copy, bytes, info->size);
    txn->staged[txn->staged_count++] = (struct fake_staged){
        .topic_id = topic_id, .partition = partition, .bytes = copy, .info = *info};
}

void fake_txns_free(struct fake_txns *txns)
{
    for (uint32_t i = 0; i < FAKE_TXN_IDS_MAX; i++)
        finish(&txns->ids[i], false);
}

/* ---- requests ---- */

static uint16_t on_init(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_txn_init m;
    ASSERT(read_txn_init(frame, &m) == PE_NONE);
    struct fake_txn *txn = find(&broker->txns, m.id, true);
    if (txn->producer_id == 0)
        txn->producer_id = ++broker->store.producer_ids;
    else
        txn->epoch++;
    if (txn->state == TXN_STATE_OPEN)
        finish(txn, false);
    bool waits = txn->state == TXN_STATE_PREPARED;
    struct msg_txn_init_reply reply = {.producer_id = txn->producer_id,
                                       .epoch = txn->epoch,
                                       .state = waits ? TXN_INIT_PREPARED : TXN_INIT_NONE,
                                       .open_lsn = waits ? txn->open_lsn : 0};
    write_txn_init_reply(w, &reply);
    return PE_NONE;
}

static uint16_t on_begin(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_txn_begin m;
    ASSERT(read_txn_begin(frame, &m) == PE_NONE);
    struct fake_txn *txn = find(&broker->txns, m.id, false);
    if (!txn)
        return PE_UNKNOWN_TRANSACTIONAL_ID;
    if (m.producer_id != txn->producer_id || m.epoch < txn->epoch)
        return PE_FENCED_PRODUCER;
    if (txn->state == TXN_STATE_PREPARED)
        return PE_TRANSACTION_PREPARED;
    if (txn->state == TXN_STATE_OPEN)
        return PE_TRANSACTION_OPEN;
    txn->state = TXN_STATE_OPEN;
    txn->open_lsn = broker->txns.lsns += 4096;
    txn->timeout_ms = m.timeout_ms ? m.timeout_ms : 60000;
    struct msg_txn_begin_reply reply = {.timeout_ms = txn->timeout_ms, .open_lsn = txn->open_lsn};
    write_txn_begin_reply(w, &reply);
    return PE_NONE;
}

static uint16_t on_offsets(struct fake_broker *broker, const struct frame *frame)
{
    struct msg_txn_offsets m;
    ASSERT(read_txn_offsets(frame, &m) == PE_NONE);
    struct fake_txn *txn = find(&broker->txns, m.txn.id, false);
    uint16_t error = check_name(txn, &m.txn);
    if (error == PE_NONE && txn->state != TXN_STATE_OPEN)
        error = txn->state == TXN_STATE_PREPARED ? PE_TRANSACTION_PREPARED : PE_UNKNOWN_TRANSACTION;
    if (error == PE_NONE)
        error = fake_group_check(&broker->groups, m.group, m.member, m.generation);
    if (error != PE_NONE)
        return error;
    size_t total = txn->offset_count + m.item_count;
    txn->offsets = realloc(txn->offsets, total * sizeof(*txn->offsets));
    ASSERT(txn->offsets);
    for (uint32_t i = 0; i < m.item_count; i++) {
        struct fake_staged_offset *offset = &txn->offsets[txn->offset_count++];
        *offset = (struct fake_staged_offset){.topic_id = le32_get(m.items[i].topic_id),
                                              .partition = le32_get(m.items[i].partition),
                                              .offset = le64_get(m.items[i].offset)};
        memcpy(offset->group, m.group.bytes, m.group.len);
    }
    return PE_NONE;
}

static uint16_t on_end(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_txn_end m;
    ASSERT(read_txn_end(frame, &m) == PE_NONE);
    bool by_name = m.txn.producer_id == TXN_BY_NAME;
    struct fake_txn *txn = find(&broker->txns, m.txn.id, false);
    uint16_t error = check_name(txn, &m.txn);
    if (error == PE_TRANSACTION_COMMITTED && frame->op == OP_TXN_COMMIT) {
        write_txn_commit_reply_begin(w, m.item_count); // again
        for (uint32_t i = 0; i < m.item_count; i++)
            write_txn_result_item(w, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition),
                                  UINT64_MAX);
        return PE_NONE;
    }
    if (error != PE_NONE)
        return error;
    if (txn->state == TXN_STATE_OPEN && !by_name && !is_all(txn, &m)) {
        finish(txn, false);
        return PE_STAGED_MISMATCH;
    }
    if (frame->op == OP_TXN_PREPARE) {
        txn->state = TXN_STATE_PREPARED;
        return PE_NONE;
    }
    write_txn_commit_reply_begin(w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        uint32_t topic_id = le32_get(m.items[i].topic_id);
        uint32_t partition = le32_get(m.items[i].partition);
        write_txn_result_item(w, topic_id, partition,
                              make_visible(broker, txn, topic_id, partition));
    }
    commit(broker, txn);
    return PE_NONE;
}

static uint16_t on_abort(struct fake_broker *broker, const struct frame *frame)
{
    struct msg_txn m;
    ASSERT(read_txn_abort(frame, &m) == PE_NONE);
    struct fake_txn *txn = find(&broker->txns, m.id, false);
    uint16_t error = check_name(txn, &m);
    if (error == PE_TRANSACTION_ABORTED)
        return PE_NONE;
    if (error == PE_NONE)
        finish(txn, false);
    return error;
}

static uint16_t on_list(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_txn_list m;
    ASSERT(read_txn_list(frame, &m) == PE_NONE);
    uint16_t count = 0;
    for (uint32_t i = 0; i < FAKE_TXN_IDS_MAX; i++)
        count += broker->txns.ids[i].id[0] != '\0';
    write_txn_list_reply_begin(w, SHARD_COUNT, false, count);
    for (uint32_t i = 0; i < FAKE_TXN_IDS_MAX; i++) {
        struct fake_txn *txn = &broker->txns.ids[i];
        if (txn->id[0] == '\0')
            continue;
        struct msg_txn_list_item item = {.id = slice_of_text(txn->id),
                                         .producer_id = txn->producer_id,
                                         .epoch = txn->epoch,
                                         .state = (uint8_t)txn->state,
                                         .open_lsn = txn->open_lsn,
                                         .age_ms = 7,
                                         .timeout_ms = txn->timeout_ms,
                                         .shards = 1};
        write_txn_list_item(w, &item);
    }
    return PE_NONE;
}

/* One item for each batch: a list may name a partition more than once here. */
static uint16_t on_describe(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_txn_describe m;
    ASSERT(read_txn_describe(frame, &m) == PE_NONE);
    struct fake_txn *txn = fake_txn_open(&broker->txns, m.open_lsn);
    if (!txn || m.shard >= SHARD_COUNT)
        return txn ? PE_UNKNOWN_SHARD : PE_UNKNOWN_TRANSACTION;
    struct msg_txn_describe_reply reply = {.state = TXN_PART_STAGING,
                                           .offset_count = txn->offset_count,
                                           .item_count = txn->staged_count};
    for (uint32_t i = 0; i < txn->staged_count; i++)
        reply.batch_bytes += txn->staged[i].info.size;
    write_txn_describe_reply_begin(w, &reply);
    for (uint32_t i = 0; i < txn->staged_count; i++) {
        const struct fake_staged *staged = &txn->staged[i];
        struct txn_part_item item = {.topic_id = le32_make(staged->topic_id),
                                     .partition = le32_make(staged->partition),
                                     .batch_count = le32_make(1),
                                     .record_count = le32_make(staged->info.record_count),
                                     .bytes = le64_make(staged->info.size)};
        write_txn_part_item(w, &item);
    }
    return PE_NONE;
}

/* ---- transactions ---- */

static struct fake_txn *find(struct fake_txns *txns, struct slice id, bool add)
{
    struct fake_txn *free_one = NULL;
    for (uint32_t i = 0; i < FAKE_TXN_IDS_MAX; i++) {
        struct fake_txn *txn = &txns->ids[i];
        if (txn->id[0] != '\0' && slice_equals(slice_of_text(txn->id), id))
            return txn;
        if (txn->id[0] == '\0' && !free_one)
            free_one = txn;
    }
    if (!add)
        return NULL;
    ASSERT(free_one);
    memcpy(free_one->id, id.bytes, id.len);
    return free_one;
}

/* PE_NONE: it is open or prepared; otherwise how it ended. */
static uint16_t check_name(const struct fake_txn *txn, const struct msg_txn *m)
{
    if (!txn)
        return PE_UNKNOWN_TRANSACTIONAL_ID;
    bool by_name = m->producer_id == TXN_BY_NAME;
    if (!by_name && (m->producer_id != txn->producer_id || m->epoch < txn->epoch))
        return PE_FENCED_PRODUCER;
    if (txn->open_lsn == m->open_lsn && m->open_lsn != 0)
        return PE_NONE;
    if (txn->last_lsn == m->open_lsn && m->open_lsn != 0)
        return txn->last_committed ? PE_TRANSACTION_COMMITTED : PE_TRANSACTION_ABORTED;
    return PE_UNKNOWN_TRANSACTION;
}

static bool is_all(const struct fake_txn *txn, const struct msg_txn_end *m)
{
    uint32_t named = 0;
    for (uint32_t i = 0; i < m->item_count; i++) {
        uint32_t count = 0;
        for (uint32_t b = 0; b < txn->staged_count; b++)
            count += txn->staged[b].topic_id == le32_get(m->items[i].topic_id) &&
                     txn->staged[b].partition == le32_get(m->items[i].partition);
        if (count == 0 || count != le32_get(m->items[i].batch_count))
            return false;
        named += count;
    }
    struct reader groups = m->groups;
    uint32_t offsets = 0;
    for (uint32_t i = 0; i < m->group_count; i++) {
        struct slice group = read_string(&groups);
        for (uint32_t o = 0; o < txn->offset_count; o++)
            offsets += slice_equals(slice_of_text(txn->offsets[o].group), group);
    }
    return named == txn->staged_count && offsets == txn->offset_count;
}

/* The offset of the first record. */
static uint64_t make_visible(struct fake_broker *broker, struct fake_txn *txn, uint32_t topic_id,
                             uint32_t partition_index)
{
    uint16_t error;
    struct fake_partition *partition =
        fake_store_partition(&broker->store, topic_id, partition_index, &error);
    uint64_t first = partition ? partition->end : UINT64_MAX;
    for (uint32_t i = 0; i < txn->staged_count; i++) {
        struct fake_staged *staged = &txn->staged[i];
        if (staged->topic_id != topic_id || staged->partition != partition_index || !staged->bytes)
            continue;
        if (partition)
            fake_store_put(&broker->store, partition, staged->bytes, &staged->info);
        free(TAKE(staged->bytes));
    }
    return first;
}

static void commit(struct fake_broker *broker, struct fake_txn *txn)
{
    for (uint32_t i = 0; i < txn->staged_count; i++)
        make_visible(broker, txn, txn->staged[i].topic_id, txn->staged[i].partition);
    for (uint32_t i = 0; i < txn->offset_count; i++)
        fake_group_set_offset(&broker->groups, slice_of_text(txn->offsets[i].group),
                              txn->offsets[i].topic_id, txn->offsets[i].partition,
                              txn->offsets[i].offset);
    finish(txn, true);
    fake_wake(broker);
}

static void finish(struct fake_txn *txn, bool committed)
{
    for (uint32_t i = 0; i < txn->staged_count; i++)
        free(txn->staged[i].bytes);
    free(txn->staged);
    free(txn->offsets);
    txn->staged = NULL;
    txn->offsets = NULL;
    txn->staged_count = txn->offset_count = 0;
    txn->last_lsn = txn->open_lsn;
    txn->last_committed = committed;
    txn->open_lsn = 0;
    txn->state = TXN_STATE_EMPTY;
}

/* ---- what tests do ---- */

void fake_txn_time_out(struct fake_broker *broker, const char *id)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_txn *txn = find(&broker->txns, slice_of_text(id), false);
    ASSERT(txn && txn->state == TXN_STATE_OPEN);
    finish(txn, false);
    pthread_mutex_unlock(&broker->mutex);
}

void fake_txn_forget_id(struct fake_broker *broker, const char *id)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_txn *txn = find(&broker->txns, slice_of_text(id), false);
    ASSERT(txn);
    finish(txn, false);
    *txn = (struct fake_txn){0};
    pthread_mutex_unlock(&broker->mutex);
}

uint32_t fake_txn_staged_count(struct fake_broker *broker, const char *id)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_txn *txn = find(&broker->txns, slice_of_text(id), false);
    uint32_t count = txn ? txn->staged_count : 0;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

bool fake_txn_is_open(struct fake_broker *broker, const char *id)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_txn *txn = find(&broker->txns, slice_of_text(id), false);
    bool open = txn && txn->state == TXN_STATE_OPEN;
    pthread_mutex_unlock(&broker->mutex);
    return open;
}
