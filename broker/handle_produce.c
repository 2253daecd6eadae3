/* PRODUCE: a run of publishes; each batch is checked, deduplicated, and appended to the log.
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

enum item_result { ITEM_DONE, ITEM_BLOCKED };

static enum handled handle_frame(struct shard *shard, struct request *request, uint8_t *frame);
static enum item_result handle_item(struct shard *shard, struct request *request,
                                    const struct produce_item *item, uint8_t *batch,
                                    uint64_t *base_offset, uint16_t *error);
static uint16_t check_batch(struct shard *shard, struct request *request,
                            const struct partition *partition, const uint8_t *batch, uint32_t size,
                            struct batch_info *info);
static uint16_t check_records(struct shard *shard, const uint8_t *batch, uint32_t size);
static void stamp_append_time(struct shard *shard, uint8_t *batch, uint32_t size,
                              struct batch_info *info);
static int expire_one(struct shard *shard, const struct disk_producer *victim);

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
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
    return HANDLED;
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
    uint8_t *meta = frame + FRAME_HEADER_SIZE;
    le16 count, flags;
    memcpy(&count, meta, sizeof(count));
    memcpy(&flags, meta + sizeof(count), sizeof(flags));
    bool staged = le16_get(flags) & PRODUCE_STAGED;
    uint32_t meta_fixed =
        PRODUCE_META_FIXED + (staged ? (uint32_t)sizeof(struct disk_txn_name) : 0);
    struct produce_item *items = (struct produce_item *)(meta + meta_fixed);
    uint8_t *data = meta + le32_get(header->meta_length);

    for (; request->u.produce.item < le16_get(count); request->u.produce.item++) {
        struct produce_item *item = &items[request->u.produce.item];
        uint32_t size = le32_get(item->batch_bytes);
        struct produce_outcome *outcome = (struct produce_outcome *)item;
        if (le16_get(outcome->shard) != shard->id) { // another request's, at its own shard
            request->u.produce.data_offset += size;
            continue;
        }
        uint64_t base_offset = 0;
        uint16_t error = PE_NONE;
        if (staged) {
            error = PE_UNSUPPORTED_VERSION;
            snprintf(request->text, sizeof(request->text), "this broker has no transactions");
        } else if (handle_item(shard, request, item, data + request->u.produce.data_offset,
                               &base_offset, &error) == ITEM_BLOCKED) {
            return BLOCKED;
        }
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
                                    const struct produce_item *item, uint8_t *batch,
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
    *error = check_batch(shard, request, partition, batch, size, &info);
    if (*error)
        return ITEM_DONE;
    switch (producers_check(shard->producers, partition->topic_id, partition->partition, &info,
                            base_offset, error)) {
    case PRODUCER_REFUSE:
        return ITEM_DONE;
    case PRODUCER_DUPLICATE:
        counter_add(&shard->counters.batches_duplicate_total, 1);
        return ITEM_DONE;
    case PRODUCER_APPEND:
        break;
    }
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
    counter_add(&shard->counters.bytes_appended_total, size);
    counter_add(&shard->counters.records_appended_total, info.record_count);
    return ITEM_DONE;
}

static uint16_t check_batch(struct shard *shard, struct request *request,
                            const struct partition *partition, const uint8_t *batch, uint32_t size,
                            struct batch_info *info)
{
    struct batch_limits limits = shard->limits;
    limits.batch_bytes_max =
        (uint32_t)min_u64(limits.batch_bytes_max, le32_get(partition->settings.batch_bytes_max));
    const char *why = "";
    uint16_t error = batch_check(batch, size, &limits, false, info, &why);
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
