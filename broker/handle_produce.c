/* PRODUCE: a run of publishes; each batch is checked, deduplicated, and appended to the log.
 *
 * A publish that is staged is a request of its own (dispatch_produce.c): its batches go into the log under their
 * transaction's name, and it is answered when its coordinator knows of this shard (participants.h).
 *
 * Happy path of a batch: its partition is ours, batch_check() finds it well-formed, producers_check() says it is the
 * next of its producer, store_append() copies it into the filling group. When the run is through, the request waits until
 * the log is committed up to here. A duplicate waits as well: its original may not be durable yet.
 *
 * The outcome of each batch is written over its item in the frame (struct produce_outcome). When the log is
 * full the handler remembers its place and is called again: nothing before it is done twice. */
#include <stdio.h>

#include "broker/shard.h"

#include "base/hash.h"
#include "base/plant.h"
#include "broker/participants.h"

enum item_result { ITEM_DONE, ITEM_BLOCKED };
#define EXPIRIES_PER_TURN 16 // of idle producers: keeps a turn short

static enum handled handle_frame(struct shard *shard, struct request *request, uint8_t *frame);
static enum item_result handle_item(struct shard *shard, struct request *request,
                                    const struct produce_item *item,
                                    const struct disk_txn_name *name, uint8_t *batch,
                                    uint64_t *base_offset, uint16_t *error);
static uint16_t check_batch(struct shard *shard, struct request *request,
                            const struct partition *partition, const uint8_t *batch, uint32_t size,
                            bool staged, struct batch_info *info);
static uint16_t check_staged(struct shard *shard, struct request *request,
                             const struct disk_txn_name *name, const struct batch_info *info);
static uint16_t check_staged_limits(struct shard *shard, struct request *request,
                                    const struct disk_txn_name *name, uint32_t size);
static bool is_staged_in(struct shard *shard, const struct disk_txn_name *name,
                         const struct produce_item *item, const struct batch_info *info);
static void answer_staged(struct shard *shard, struct request *request,
                          const struct disk_txn_name *name);
static uint16_t check_records(struct shard *shard, const uint8_t *batch, uint32_t size);
static void stamp_append_time(struct shard *shard, uint8_t *batch, uint32_t size,
                              struct batch_info *info);
static int expire_one(struct shard *shard, const struct disk_producer *victim);
static bool publish_txn_name(const uint8_t *frame, struct disk_txn_name *name);

enum handled handle_produce(struct shard *shard, struct request *request)
{
    while (request->u.produce.frame_offset < request->frame_bytes) {
        uint8_t *frame = request->frames + request->u.produce.frame_offset;
        if (handle_frame(shard, request, frame) == BLOCKED)
            return BLOCKED;
        le32 length;
        memcpy(&length, frame, sizeof(length));
        request->u.produce.frame_offset += le32_get(length);
        request->u.produce.item = 0;
        request->u.produce.data_offset = 0;
    }
    struct disk_txn_name name;
    if (publish_txn_name(request->frames, &name)) {
        answer_staged(shard, request, &name);
        return HANDLED;
    }
    request_give_buffer_back(request, shard->buffers);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
    return HANDLED;
}

/* Of a publish's frame, whose meta was checked: its items, their count, and the transaction's name. */
static struct produce_item *publish_items(uint8_t *frame, uint16_t *count)
{
    struct disk_txn_name name;
    uint8_t *meta = frame + FRAME_HEADER_SIZE;
    le16 batch_count;
    memcpy(&batch_count, meta, sizeof(batch_count));
    *count = le16_get(batch_count);
    uint32_t fixed = PRODUCE_META_FIXED + (publish_txn_name(frame, &name) ? sizeof(name) : 0);
    return (struct produce_item *)(meta + fixed);
}

static bool publish_txn_name(const uint8_t *frame, struct disk_txn_name *name)
{
    const uint8_t *meta = frame + FRAME_HEADER_SIZE;
    le16 flags;
    memcpy(&flags, meta + sizeof(le16), sizeof(flags));
    if (!(le16_get(flags) & PRODUCE_STAGED))
        return false;
    memcpy(name, meta + PRODUCE_META_FIXED, sizeof(*name));
    return true;
}

/* Only these two fields: the item's size may be read by other shards of the same frame meanwhile. */
static void set_outcome(struct produce_outcome *outcome, uint64_t base_offset, uint16_t error)
{
    outcome->base_offset = le64_make(base_offset);
    outcome->error = le16_make(error);
}

/* The connection's core has checked header, counts and sums: the walk can't leave the frame. */
static enum handled handle_frame(struct shard *shard, struct request *request, uint8_t *frame)
{
    const struct frame_header *header = (const struct frame_header *)frame;
    struct disk_txn_name name;
    bool staged = publish_txn_name(frame, &name);
    uint16_t count;
    struct produce_item *items = publish_items(frame, &count);
    uint8_t *data = frame + FRAME_HEADER_SIZE + le32_get(header->meta_length);

    for (; request->u.produce.item < count; request->u.produce.item++) {
        struct produce_item *item = &items[request->u.produce.item];
        uint32_t size = le32_get(item->batch_bytes);
        struct produce_outcome *outcome = (struct produce_outcome *)item;
        if (le16_get(outcome->shard) != shard->id) { // another request's, at its own shard
            request->u.produce.data_offset += size;
            continue;
        }
        uint64_t base_offset = 0;
        uint16_t error = PE_NONE;
        if (handle_item(shard, request, item, staged ? &name : NULL,
                        data + request->u.produce.data_offset, &base_offset,
                        &error) == ITEM_BLOCKED)
            return BLOCKED;
        if (error) {
            request->error = request->error ? request->error : error;
            counter_add(&shard->counters.batches_refused_total, 1);
        }
        set_outcome(outcome, base_offset, error);
        request->u.produce.data_offset += size;
    }
    return HANDLED;
}

static uint16_t refuse_partition(struct shard *shard, struct request *request,
                                 const struct produce_item *item)
{
    uint32_t topic_id = le32_get(item->topic_id);
    bool known = shard->topics && topics_find_id(shard->topics, topic_id);
    snprintf(request->text, sizeof(request->text), "topic id %u partition %u: no such %s", topic_id,
             le32_get(item->partition), known ? "partition" : "topic");
    return known ? PE_UNKNOWN_PARTITION : PE_UNKNOWN_TOPIC;
}

static enum item_result handle_item(struct shard *shard, struct request *request,
                                    const struct produce_item *item,
                                    const struct disk_txn_name *name, uint8_t *batch,
                                    uint64_t *base_offset, uint16_t *error)
{
    uint32_t size = le32_get(item->batch_bytes);
    if (shard->state == SHARD_DRAINING) {
        *error = PE_SHUTTING_DOWN;
        return ITEM_DONE;
    }
    struct partition *partition =
        store_partition(shard->store, le32_get(item->topic_id), le32_get(item->partition));
    if (!partition) {
        *error = refuse_partition(shard, request, item);
        return ITEM_DONE;
    }
    struct batch_info info;
    *error = check_batch(shard, request, partition, batch, size, name != NULL, &info);
    if (!*error && name)
        *error = check_staged(shard, request, name, &info);
    if (*error)
        return ITEM_DONE;
    switch (producers_check(shard->producers, partition->topic_id, partition->partition, &info,
                            base_offset, error)) {
    case PRODUCER_REFUSE:
        return ITEM_DONE;
    case PRODUCER_DUPLICATE:
        counter_add(&shard->counters.batches_duplicate_total, 1);
        /* Its number was used for another transaction, or for none: it is not stored here, and never will be. */
        if ((name != NULL) != (*base_offset == STAGED_OFFSET) ||
            (name && !is_staged_in(shard, name, item, &info)))
            *error = PE_DUPLICATE_SEQUENCE;
        return ITEM_DONE;
    case PRODUCER_APPEND:
        if (!name && PLANTED(LOSE_BATCH)) {
            *base_offset = partition->next_offset;
            return ITEM_DONE;
        }
        break;
    }
    if (name)
        *error = check_staged_limits(shard, request, name, size);
    if (*error)
        return ITEM_DONE;
    struct disk_producer victim;
    if (producers_must_expire(shard->producers, partition->topic_id, partition->partition, &info,
                              &victim) &&
        expire_one(shard, &victim) == E_FULL)
        return ITEM_BLOCKED;
    struct batch_header
        sent; // as the producer sent it: what can't be appended now is checked again later
    memcpy(&sent, batch, sizeof(sent));
    if (partition->settings.timestamp_type == 1)
        stamp_append_time(shard, batch, size, &info);

    struct wal_entry entry = {.type = ENTRY_BATCH,
                              .topic_id = partition->topic_id,
                              .partition = partition->partition,
                              .pieces = {{batch, size}},
                              .piece_count = 1};
    if (name) {
        entry.type = ENTRY_STAGED;
        entry.pieces[0].bytes = name;
        entry.pieces[0].len = sizeof(*name);
        entry.pieces[1].bytes = batch;
        entry.pieces[1].len = size;
        entry.piece_count = 2;
        *base_offset = STAGED_OFFSET;
    }
    struct wal_view view;
    int status = store_append(shard->store, &entry, &view, base_offset);
    if (status == E_FULL) {
        memcpy(batch, &sent, sizeof(sent));
        return ITEM_BLOCKED;
    }
    if (status) {
        *error = proto_error_from_status(status);
        return ITEM_DONE;
    }
    counter_add(&shard->counters.batches_appended_total, 1);
    counter_add(&shard->counters.batches_staged_total, name != NULL);
    counter_add(&shard->counters.bytes_appended_total, size);
    counter_add(&shard->counters.records_appended_total, info.record_count);
    return ITEM_DONE;
}

static uint16_t check_batch(struct shard *shard, struct request *request,
                            const struct partition *partition, const uint8_t *batch, uint32_t size,
                            bool staged, struct batch_info *info)
{
    struct batch_limits limits = shard->limits;
    limits.batch_bytes_max =
        (uint32_t)min_u64(limits.batch_bytes_max, le32_get(partition->settings.batch_bytes_max));
    const char *why = "";
    uint16_t error = batch_check(batch, size, &limits, staged, info, &why);
    if (error == PE_BATCH_TOO_LARGE)
        snprintf(request->text, sizeof(request->text), "batch of %u bytes, allowed up to %u", size,
                 limits.batch_bytes_max);
    else if (error)
        snprintf(request->text, sizeof(request->text), "partition %u: %s", partition->partition,
                 why);
    if (error || partition->settings.validation != 0)
        return error;
    bool compressed = (info->attributes & BATCH_CODEC_MASK) != CODEC_NONE;
    error = compressed ? check_records(shard, batch, size) : PE_NONE;
    if (error)
        snprintf(request->text, sizeof(request->text), "partition %u: %s", partition->partition,
                 proto_error_text(error));
    return error;
}

/* ---- transactions ---- */

static uint16_t check_staged(struct shard *shard, struct request *request,
                             const struct disk_txn_name *name, const struct batch_info *info)
{
    if (info->producer_id == PRODUCER_NONE) {
        snprintf(request->text, sizeof(request->text), "a staged batch needs a producer id");
        return PE_INVALID_RECORD;
    }
    return participants_check(shard, name, info->producer_id, info->producer_epoch, request->text);
}

/* Of a batch that is not staged yet: a repeated one takes no more room. */
static uint16_t check_staged_limits(struct shard *shard, struct request *request,
                                    const struct disk_txn_name *name, uint32_t size)
{
    const struct staged *staged = store_staged(shard->store);
    struct staged_sum sum = staged_sum(staged, name);
    if (sum.batch_count >= STAGED_PER_TRANSACTION_MAX) {
        snprintf(request->text, sizeof(request->text), "%u batches on one shard, at most %u",
                 sum.batch_count, STAGED_PER_TRANSACTION_MAX);
        return PE_TRANSACTION_TOO_LARGE;
    }
    uint64_t shard_max = store_staged_bytes_max(shard->store);
    uint64_t bytes_max = min_u64(shard->txn.staged_bytes_max, shard_max);
    if (sum.bytes + size > bytes_max) {
        snprintf(request->text, sizeof(request->text), "%llu bytes on one shard, at most %llu",
                 (unsigned long long)(sum.bytes + size), (unsigned long long)bytes_max);
        return PE_TRANSACTION_TOO_LARGE;
    }
    if (staged_is_full(staged) || staged_sum_all(staged).bytes + size > shard_max) {
        snprintf(request->text, sizeof(request->text),
                 "open transactions hold all that may be staged");
        return PE_OVERLOADED;
    }
    return PE_NONE;
}

static bool is_staged_in(struct shard *shard, const struct disk_txn_name *name,
                         const struct produce_item *item, const struct batch_info *info)
{
    const struct staged *staged = store_staged(shard->store);
    for (uint32_t row = staged_first(staged, name); row != TABLE_ROW_NONE;
         row = staged_next(staged, row)) {
        const struct disk_staged *batch = staged_row(staged, row);
        if (le32_get(batch->topic_id) == le32_get(item->topic_id) &&
            le32_get(batch->partition) == le32_get(item->partition) &&
            le32_get(batch->base_sequence) == info->base_sequence)
            return true;
    }
    return false;
}

/* A publish of which nothing was taken has no participant to wait with. */
static void answer_staged(struct shard *shard, struct request *request,
                          const struct disk_txn_name *name)
{
    uint16_t count;
    const struct produce_item *items = publish_items(request->frames, &count);
    const struct frame_header *header = (const struct frame_header *)request->frames;
    const uint8_t *batch = request->frames + FRAME_HEADER_SIZE + le32_get(header->meta_length);
    for (uint16_t i = 0; i < count; batch += le32_get(items[i++].batch_bytes)) {
        const struct produce_outcome *outcome = (const struct produce_outcome *)&items[i];
        struct batch_info info;
        if (le16_get(outcome->shard) != shard->id || le16_get(outcome->error) != PE_NONE)
            continue;
        ASSERT(batch_peek(batch, le32_get(outcome->batch_bytes), &info)); // it was stored
        participants_answer(shard, request, name, info.producer_id, info.producer_epoch);
        return;
    }
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
}

void produce_refuse(const struct shard *shard, struct request *request, uint16_t error)
{
    uint16_t count;
    struct produce_item *items = publish_items(request->frames, &count);
    for (uint16_t i = 0; i < count; i++) {
        struct produce_outcome *outcome = (struct produce_outcome *)&items[i];
        if (le16_get(outcome->shard) == shard->id && le16_get(outcome->error) == PE_NONE)
            set_outcome(outcome, 0, error);
    }
}

/* validation = records: looks into a compressed batch, by the rules of batch_check() for one that isn't. */
static uint16_t check_records(struct shard *shard, const uint8_t *batch, uint32_t size)
{
    struct batch_iterator it;
    struct record_view record;
    int64_t timestamp_max = 0;
    int status = batch_iterator_init(&it, batch, size, shard->scratch, SHARD_SCRATCH_BYTES);
    if (status == E_UNSUPPORTED)
        return PE_UNSUPPORTED_COMPRESSION;
    if (status)
        return PE_INVALID_RECORD;
    while ((status = batch_iterator_next(&it, &record)) > 0) {
        if (record.payload_bytes > shard->limits.record_bytes_max)
            return PE_RECORD_TOO_LARGE;
        if (record.timestamp_ms < 0) // also a sum that has left the range: the base is not negative
            return PE_INVALID_TIMESTAMP;
        timestamp_max = record.timestamp_ms > timestamp_max ? record.timestamp_ms : timestamp_max;
    }
    if (status)
        return PE_INVALID_RECORD;
    return timestamp_max == it.info.max_timestamp ? PE_NONE : PE_INVALID_TIMESTAMP;
}

/* timestamp_type = append: the broker's clock replaces the producer's, inside the CRC. */
static void stamp_append_time(struct shard *shard, uint8_t *batch, uint32_t size,
                              struct batch_info *info)
{
    struct batch_header *header = (struct batch_header *)batch;
    info->attributes |= BATCH_LOG_APPEND_TIME;
    info->max_timestamp = (int64_t)shard->now_wall_ms;
    header->attributes = be16_make(info->attributes);
    header->max_timestamp = be64_make(shard->now_wall_ms);
    uint32_t covered = offsetof(struct batch_header, attributes);
    header->crc = be32_make(hash_crc32c(batch + covered, size - covered));
}

/* Rows are in the order of their last use, and so of the log's clock: only the oldest has to be looked at. The wall clock
 * decides here, once; replay sees the entry. */
void produce_expire_idle(struct shard *shard)
{
    struct disk_producer oldest;
    for (int i = 0; i < EXPIRIES_PER_TURN && producers_oldest(shard->producers, &oldest); i++) {
        uint64_t last_ms = le64_get(oldest.last_ms);
        if (shard->now_wall_ms < last_ms ||
            shard->now_wall_ms - last_ms < shard->producer_retention_ms ||
            expire_one(shard, &oldest) != 0)
            return;
    }
}

static int expire_one(struct shard *shard, const struct disk_producer *victim)
{
    le64 producer_id = le64_make(le64_get(victim->producer_id_plus_1) - 1);
    struct wal_entry entry = {.type = ENTRY_PRODUCER_EXPIRE,
                              .topic_id = le32_get(victim->topic_id),
                              .partition = le32_get(victim->partition),
                              .pieces = {{&producer_id, sizeof(producer_id)}},
                              .piece_count = 1};
    struct wal_view view;
    int status = store_append(shard->store, &entry, &view, NULL);
    if (status == 0)
        counter_add(&shard->counters.producers_expired_total, 1);
    return status;
}
