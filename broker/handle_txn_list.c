/* TXN_LIST and TXN_DESCRIBE: what an operator sees. One shard answers for itself: LIST for the transactional ids it
 * coordinates, DESCRIBE for what it holds of one transaction. Who wants the whole picture asks each. */
#include <stdlib.h>

#include "broker/groups.h"
#include "broker/handle_txn.h"
#include "broker/participants.h"

#define LIST_ITEMS_MAX 256u     // of one answer
#define DESCRIBE_ITEMS_MAX 512u // partitions of one answer; the sums are of all

static void refuse(struct shard *shard, struct request *request, uint16_t error)
{
    shard_reply_error(shard, request, error, "%s", "");
}

static struct msg_txn_list_item item_of(struct shard *shard, uint32_t row)
{
    const struct disk_transaction *disk = transactions_row(shard->transactions, row);
    uint64_t since_ms =
        le64_get(disk->open_lsn) ? le64_get(disk->opened_ms) : le64_get(disk->used_ms);
    return (struct msg_txn_list_item){
        .id = {disk->id, disk->id_length},
        .producer_id = le64_get(disk->producer_id_plus_1) - 1,
        .epoch = le16_get(disk->epoch),
        .state = (uint8_t)transactions_state(shard->transactions, row),
        .coordinator = shard->id,
        .open_lsn = le64_get(disk->open_lsn),
        .age_ms = shard->now_wall_ms > since_ms ? shard->now_wall_ms - since_ms : 0,
        .timeout_ms = le32_get(disk->timeout_ms),
        .shards = le64_get(disk->shards),
    };
}

enum handled handle_txn_list(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_txn_list m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_txn_list(&frame, &m);
    if (error) {
        refuse(shard, request, error);
        return HANDLED;
    }
    uint32_t rows[LIST_ITEMS_MAX];
    uint32_t count = transactions_next_many(shard->transactions, m.after, rows, LIST_ITEMS_MAX);
    struct writer w = shard_reply_writer(request);
    write_txn_list_reply_begin(&w, shard->shard_count, count == LIST_ITEMS_MAX, (uint16_t)count);
    for (uint32_t i = 0; i < count; i++) {
        struct msg_txn_list_item item = item_of(shard, rows[i]);
        write_txn_list_item(&w, &item);
    }
    shard_reply_seal(request, &w);
    shard_reply(shard, request);
    return HANDLED;
}

/* Batches of one partition are mostly staged one behind the other, but may come back to it: gathered by a walk over what
 * was found so far. */
static uint32_t gather(struct shard *shard, const struct disk_txn_name *name,
                       struct txn_part_item *items)
{
    const struct staged *staged = store_staged(shard->store);
    uint32_t count = 0, last = 0;
    for (uint32_t row = staged_first(staged, name); row != TABLE_ROW_NONE;
         row = staged_next(staged, row)) {
        const struct disk_staged *batch = staged_row(staged, row);
        uint32_t topic_id = le32_get(batch->topic_id), partition = le32_get(batch->partition), i;
        for (i = last; i < count; i++)
            if (le32_get(items[i].topic_id) == topic_id &&
                le32_get(items[i].partition) == partition)
                break;
        for (uint32_t k = 0; i == count && k < last; k++)
            if (le32_get(items[k].topic_id) == topic_id &&
                le32_get(items[k].partition) == partition)
                i = k;
        if (i == count && count == DESCRIBE_ITEMS_MAX)
            continue;
        if (i == count)
            items[count++] =
                (struct txn_part_item){.topic_id = batch->topic_id, .partition = batch->partition};
        last = i;
        items[i].batch_count = le32_make(le32_get(items[i].batch_count) + 1);
        items[i].record_count =
            le32_make(le32_get(items[i].record_count) + le32_get(batch->record_count));
        items[i].bytes = le64_make(le64_get(items[i].bytes) + le32_get(batch->size));
    }
    return count;
}

enum handled handle_txn_describe(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_txn_describe m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_txn_describe(&frame, &m);
    if (error) {
        refuse(shard, request, error);
        return HANDLED;
    }
    struct disk_txn_name name = {.coordinator = le32_make(m.coordinator),
                                 .open_lsn = le64_make(m.open_lsn)};
    struct txn_part_item items[DESCRIBE_ITEMS_MAX];
    uint32_t row = participants_find(shard->participants, &name);
    struct msg_txn_describe_reply reply = {
        .state = row == TABLE_ROW_NONE ? TXN_PART_NONE
                                       : participants_row(shard->participants, row)->state,
        .offset_count = groups_staged_count(shard->groups, &name),
        .batch_bytes = staged_sum(store_staged(shard->store), &name).bytes,
        .item_count = gather(shard, &name, items),
    };
    struct writer w = shard_reply_writer(request);
    write_txn_describe_reply_begin(&w, &reply);
    for (uint32_t i = 0; i < reply.item_count; i++)
        write_txn_part_item(&w, &items[i]);
    shard_reply_seal(request, &w);
    shard_reply(shard, request);
    return HANDLED;
}
