#include "tests/sim/crash/contents.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "broker/groups_private.h"
#include "proto/batch.h"
#include "storage/index.h"
#include "tests/sim/world/own_memory.h"

#define READ_BYTES ((uint32_t)(2 * MIB))
#define READ_STEP_NS (2 * NS_PER_US)

struct sent { // a record
    uint64_t txn;
    uint64_t sent_at, acked_at; // places in the history; UINT64_MAX: never
    uint64_t offset;            // acked
    bool is_refused;
    uint32_t found; // in check number so much
};
struct lane { // of a producer to a partition
    struct sent *sent;
    uint32_t count;
    uint64_t next; // sequence that may come next, in this check
    uint32_t check;
};
struct txn {
    uint64_t commit_asked_at, committed_at, aborted_at;
    uint32_t sent, found; // records
    uint32_t check;
};
struct asked { // a group's offset
    uint32_t group, partition;
    uint64_t at, offset, txn;
};
struct answered {
    uint32_t group, partition;
    uint64_t at, offset;
};

static struct {
    const struct trace *trace;
    uint32_t partitions, producers;
    struct lane *lanes; // by producer and partition
    struct txn *txns;   // by number
    uint64_t txn_count; // numbers, with 0
    struct asked *asked;
    uint32_t asked_count;
    struct answered *answered;
    uint32_t answered_count;
    uint32_t check; // number of the present one
    uint64_t hash;
} all;
static _Alignas(4096) uint8_t read_buffer[READ_BYTES];
static uint8_t records_buffer[16 * MIB];

/* ---- the history, sorted ---- */

static struct lane *lane_of(uint32_t producer, uint32_t partition)
{
    return &all.lanes[(size_t)producer * all.partitions + partition];
}

static void *new_array(uint64_t count, size_t size)
{
    void *array = calloc(count + 1, size);
    ASSERT(array != NULL);
    return array;
}

static void measure(const struct history *history)
{
    all.producers = 0;
    all.txn_count = 1;
    for (uint64_t i = 0; i < history_count(history); i++) {
        const struct history_event *event = history_at(history, i);
        if (event->kind == HISTORY_SEND)
            all.producers = (uint32_t)max_u64(all.producers, event->producer + 1);
        all.txn_count = max_u64(all.txn_count, event->txn + 1);
        all.asked_count += event->kind == HISTORY_OFFSET_COMMIT_ASKED;
        all.answered_count += event->kind == HISTORY_OFFSET_COMMITTED;
    }
    all.lanes = new_array((uint64_t)all.producers * all.partitions, sizeof(*all.lanes));
    all.txns = new_array(all.txn_count, sizeof(*all.txns));
    all.asked = new_array(all.asked_count, sizeof(*all.asked));
    all.answered = new_array(all.answered_count, sizeof(*all.answered));
    for (uint64_t i = 0; i < all.txn_count; i++)
        all.txns[i] = (struct txn){UINT64_MAX, UINT64_MAX, UINT64_MAX, 0, 0, 0};
    for (uint64_t i = 0; i < history_count(history); i++) {
        const struct history_event *event = history_at(history, i);
        if (event->kind != HISTORY_SEND)
            continue;
        struct lane *lane = lane_of(event->producer, event->partition);
        lane->count = (uint32_t)max_u64(lane->count, event->sequence + 1);
    }
    for (uint64_t i = 0; i < (uint64_t)all.producers * all.partitions; i++)
        all.lanes[i].sent = new_array(all.lanes[i].count, sizeof(struct sent));
}

static void take_sent(const struct history_event *event, uint64_t at)
{
    struct sent *sent = &lane_of(event->producer, event->partition)->sent[event->sequence];
    *sent = (struct sent){.txn = event->txn, .sent_at = at, .acked_at = UINT64_MAX};
    all.txns[event->txn].sent++;
}

static void take_acked(const struct history_event *event, uint64_t at)
{
    struct lane *lane = lane_of(event->producer, event->partition);
    for (uint64_t i = 0; i < max_u64(event->count, 1); i++) {
        struct sent *sent = &lane->sent[event->sequence + i];
        sent->acked_at = at;
        sent->offset = event->offset + i;
    }
}

static void take(const struct history_event *event, uint64_t at)
{
    switch (event->kind) {
    case HISTORY_SEND:
        take_sent(event, at);
        break;
    case HISTORY_REFUSED:
        lane_of(event->producer, event->partition)->sent[event->sequence].is_refused = true;
        break;
    case HISTORY_ACKED:
        take_acked(event, at);
        break;
    case HISTORY_COMMIT_ASKED:
        all.txns[event->txn].commit_asked_at = at;
        break;
    case HISTORY_COMMITTED:
        all.txns[event->txn].committed_at = at;
        break;
    case HISTORY_ABORTED:
        all.txns[event->txn].aborted_at = at;
        break;
    case HISTORY_OFFSET_COMMIT_ASKED:
        all.asked[all.asked_count++] =
            (struct asked){event->group, event->partition, at, event->offset, event->txn};
        break;
    case HISTORY_OFFSET_COMMITTED:
        all.answered[all.answered_count++] =
            (struct answered){event->group, event->partition, at, event->offset};
        break;
    default:
        break;
    }
}

void contents_begin(const struct trace *trace)
{
    const struct history *history = trace->world->history;
    memset(&all, 0, sizeof(all));
    all.trace = trace;
    all.partitions = world_partitions(trace->world);
    measure(history);
    all.asked_count = all.answered_count = 0;
    for (uint64_t i = 0; i < history_count(history); i++)
        take(history_at(history, i), i);
}

/* ---- reading ---- */

struct reading {
    struct store_read read;
    bool is_done;
};

static void read_done(struct store_read *read)
{
    CONTAINER_OF(read, struct reading, read)->is_done = true;
}

/* By the store, on its core's I/O; what it allocates is the broker's. */
static void read_some(struct sim_broker *broker, struct shard *shard, struct reading *reading)
{
    struct io *io = broker->broker->cores[shard->core].io;
    uint32_t owner = memory_owner_set(broker->process->id);
    reading->is_done = false;
    reading->read.done = read_done;
    int status = store_read(shard->store, &reading->read);
    memory_owner_set(owner);
    if (status < 0)
        fail("a read does not begin: %s", status_name(status));
    while (status == 0 && !reading->is_done) {
        world_wake_io(io, world_now_ns());
        thread_sleep(READ_STEP_NS);
    }
}

/* ---- records ---- */

static void check_record(const struct trace_known *known, uint32_t partition,
                         const struct record_view *record)
{
    struct value value;
    if (!value_read(record->value.bytes, record->value.len, &value) ||
        value.partition != partition || value.producer >= all.producers)
        fail("partition %u, offset %" PRIu64 ": a record that nobody wrote", partition,
             record->offset);
    struct lane *lane = lane_of(value.producer, partition);
    struct sent *sent = value.sequence < lane->count ? &lane->sent[value.sequence] : NULL;
    if (!sent || sent->sent_at >= known->asked || sent->is_refused || sent->txn != value.txn)
        fail("partition %u, offset %" PRIu64 ": record %" PRIu64
             " of producer %u was never sent by then",
             partition, record->offset, value.sequence, value.producer);
    if (lane->check != all.check) {
        lane->check = all.check;
        lane->next = 0;
    }
    if (value.sequence < lane->next)
        fail("partition %u, offset %" PRIu64 ": record %" PRIu64
             " of producer %u comes twice, or after a later one",
             partition, record->offset, value.sequence, value.producer);
    if (value.txn == 0 && value.sequence != lane->next)
        fail("partition %u, offset %" PRIu64 ": record %" PRIu64 " of producer %u comes, %" PRIu64
             " is missing",
             partition, record->offset, value.sequence, value.producer, lane->next);
    lane->next = value.sequence + 1;
    sent->found = all.check;
    if (sent->acked_at < known->history && sent->offset != record->offset)
        fail("partition %u: record %" PRIu64 " of producer %u was acked at offset %" PRIu64
             " and lies at %" PRIu64,
             partition, value.sequence, value.producer, sent->offset, record->offset);
    struct txn *txn = &all.txns[value.txn];
    if (txn->check != all.check) {
        txn->check = all.check;
        txn->found = 0;
    }
    txn->found++;
}

/* Which of the test's partitions; UINT32_MAX: one of a topic of which no history is kept. */
static uint32_t number_of_partition(const struct sim_broker *broker,
                                    const struct partition *partition)
{
    const struct disk_topic *topic =
        topics_find_id(broker->broker->shards[0].topics, partition->topic_id);
    const struct world *world = all.trace->world;
    for (uint32_t i = 0; topic && i < world->topic_count; i++)
        if (topic->name_length == strlen(world->topics[i]) &&
            memcmp(topic->name, world->topics[i], topic->name_length) == 0)
            return i * world->partitions_per_topic + partition->partition;
    return UINT32_MAX;
}

static void check_batch(const struct trace_known *known, uint32_t number, const uint8_t *batch,
                        uint32_t len, uint64_t *next)
{
    struct batch_iterator it;
    struct record_view record;
    if (batch_iterator_init(&it, batch, len, records_buffer, sizeof(records_buffer)) != 0)
        fail("partition %u, offset %" PRIu64 ": a batch that is none", number, *next);
    int got;
    while ((got = batch_iterator_next(&it, &record)) == 1) {
        if (record.offset != *next)
            fail("partition %u: offset %" PRIu64 " comes in place of %" PRIu64, number,
                 record.offset, *next);
        ++*next;
        if (number != UINT32_MAX)
            check_record(known, number, &record);
    }
    if (got < 0)
        fail("partition %u, offset %" PRIu64 ": a record that is none", number, *next);
}

static void check_partition(struct sim_broker *broker, struct shard *shard,
                            struct partition *partition, const struct trace_known *known)
{
    uint32_t number = number_of_partition(broker, partition);
    uint64_t next = partition->log_start, end = partition->visible_end;
    if (end != partition->next_offset || (number != UINT32_MAX && next != 0))
        fail("partition %u: it is visible from %" PRIu64 " to %" PRIu64 ", stored to %" PRIu64,
             number, next, end, partition->next_offset);
    struct reading reading = {.read = {.partition = partition,
                                       .buffer = read_buffer,
                                       .capacity = sizeof(read_buffer),
                                       .hint = INDEX_NONE}};
    while (next < end) {
        struct store_read read;
        reading.read.offset = next;
        read_some(broker, shard, &reading);
        read = reading.read;
        if (read.status != 0 || read.bytes == 0)
            fail("partition %u, offset %" PRIu64 " of %" PRIu64 " can't be read: %s", number, next,
                 end, status_name(read.status));
        for (uint32_t at = 0; at < read.bytes;) {
            struct batch_info info;
            if (!batch_peek(read_buffer + at, read.bytes - at, &info))
                fail("partition %u, offset %" PRIu64 ": no batch", number, next);
            all.hash = hash_xxh3_seeded(read_buffer + at, info.size, all.hash);
            check_batch(known, number, read_buffer + at, info.size, &next);
            at += info.size;
        }
    }
}

/* ---- what is missing ---- */

static void check_acked(const struct trace_known *known)
{
    for (uint32_t producer = 0; producer < all.producers; producer++) {
        for (uint32_t partition = 0; partition < all.partitions; partition++) {
            const struct lane *lane = lane_of(producer, partition);
            for (uint32_t i = 0; i < lane->count; i++)
                if (lane->sent[i].acked_at < known->history && lane->sent[i].found != all.check)
                    fail("partition %u: record %u of producer %u was acked at offset %" PRIu64
                         " and is lost",
                         partition, i, producer, lane->sent[i].offset);
        }
    }
}

static uint32_t found_of(const struct txn *txn)
{
    return txn->check == all.check ? txn->found : 0;
}

static void check_transactions(const struct trace_known *known)
{
    for (uint64_t i = 1; i < all.txn_count; i++) {
        const struct txn *txn = &all.txns[i];
        uint32_t found = found_of(txn);
        if (txn->committed_at < known->history && found != txn->sent)
            fail("transaction %" PRIu64 " was committed, %u of its %u records are there", i, found,
                 txn->sent);
        if (found == 0)
            continue;
        if (txn->aborted_at < known->history)
            fail("transaction %" PRIu64 " was aborted, %u of its records are there", i, found);
        if (txn->commit_asked_at >= known->asked)
            fail("transaction %" PRIu64
                 ": nobody asked for its commit, %u of its records are there",
                 i, found);
        if (found != txn->sent)
            fail("transaction %" PRIu64 " is torn: %u of its %u records are there", i, found,
                 txn->sent);
    }
}

/* ---- groups ---- */

static const struct disk_group_offset *offset_in(struct sim_broker *broker, uint32_t group,
                                                 uint32_t number)
{
    char name[16];
    const struct world *world = all.trace->world;
    struct broker *b = broker->broker;
    snprintf(name, sizeof(name), "group-%u", group);
    const char *topic_name = world->topics[number / world->partitions_per_topic];
    const struct disk_topic *topic =
        topics_find(b->shards[0].topics,
                    (struct slice){(const uint8_t *)topic_name, (uint32_t)strlen(topic_name)});
    struct slice slice = {(const uint8_t *)name, (uint32_t)strlen(name)};
    struct groups *groups = b->shards[shard_of_name(b->slot_shard, slice)].groups;
    struct group *found = group_find(groups, slice);
    if (!topic || !found)
        return NULL;
    return group_offset_find(groups, found, le32_get(topic->topic_id),
                             number % world->partitions_per_topic);
}

/* Was this offset asked for, alone or in a transaction that is there? */
static bool may_be(const struct trace_known *known, uint32_t group, uint32_t partition,
                   uint64_t offset)
{
    for (uint32_t i = 0; i < all.asked_count; i++) {
        const struct asked *asked = &all.asked[i];
        if (asked->group == group && asked->partition == partition && asked->offset == offset &&
            asked->at < known->asked && (asked->txn == 0 || found_of(&all.txns[asked->txn]) > 0))
            return true;
    }
    return false;
}

static void check_offset(struct sim_broker *broker, const struct trace_known *known, uint32_t group,
                         uint32_t partition, uint64_t least)
{
    const struct disk_group_offset *row = offset_in(broker, group, partition);
    uint64_t offset = row ? le64_get(row->offset) : 0;
    if (offset < least)
        fail("group %u, partition %u: its offset was committed at %" PRIu64 " and is %" PRIu64,
             group, partition, least, offset);
    if (offset > 0 && !may_be(known, group, partition, offset)) // 0: the place where it began
        fail("group %u, partition %u: nobody committed the offset %" PRIu64, group, partition,
             offset);
}

static void check_groups(struct sim_broker *broker, const struct trace_known *known)
{
    for (uint32_t group = 0; group < TRACE_GROUPS && all.asked_count > 0; group++) {
        for (uint32_t partition = 0; partition < all.partitions; partition++) {
            uint64_t least = 0;
            for (uint32_t i = 0; i < all.answered_count; i++)
                if (all.answered[i].group == group && all.answered[i].partition == partition &&
                    all.answered[i].at < known->history)
                    least = max_u64(least, all.answered[i].offset);
            for (uint32_t i = 0; i < all.asked_count; i++)
                if (all.asked[i].group == group && all.asked[i].partition == partition &&
                    all.asked[i].txn && found_of(&all.txns[all.asked[i].txn]) > 0)
                    least = max_u64(least, all.asked[i].offset);
            check_offset(broker, known, group, partition, least);
        }
    }
}

uint64_t contents_check(struct sim_broker *broker, const struct trace_known *known)
{
    all.check++;
    all.hash = 0;
    for (uint16_t i = 0; i < all.trace->shards; i++) {
        struct shard *shard = &broker->broker->shards[i];
        struct partitions *partitions = store_partitions(shard->store);
        for (uint32_t k = 0; k < partitions_count(partitions); k++)
            check_partition(broker, shard, partitions_at(partitions, k), known);
    }
    check_acked(known);
    check_transactions(known);
    check_groups(broker, known);
    return all.hash;
}
