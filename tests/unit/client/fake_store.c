/* The fake broker's memory. It gives what a real broker promises: dense offsets per partition, a
 * retry gets the offset of the first copy, a gap is refused. Running out of memory ends the test
 * program. */
#include "tests/unit/client/fake_store.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define SEQUENCE_MODULO (1u << 31)

static uint16_t check_sequence(const struct fake_store *store, struct fake_partition *partition,
                               const struct batch_info *info, struct fake_producer **producer,
                               uint64_t *duplicate_of);
static uint16_t check_batch(const struct fake_store *store, const uint8_t *bytes, uint32_t size,
                            bool staged, struct batch_info *info);
static void move_on(struct fake_store *store, struct fake_producer *producer,
                    const struct batch_info *info, uint64_t offset);
static struct fake_producer *find_producer(struct fake_partition *partition, uint64_t id);
static struct fake_producer *add_producer(struct fake_partition *partition, uint64_t id);
static void free_producers(struct fake_partition *partition);

struct fake_topic *fake_store_topic(struct fake_store *store, const char *name)
{
    for (uint32_t i = 0; i < FAKE_TOPICS_MAX; i++) {
        if (store->topics[i].id != 0 && strcmp(store->topics[i].name, name) == 0)
            return &store->topics[i];
    }
    return NULL;
}

struct fake_topic *fake_store_add_topic(struct fake_store *store, const char *name,
                                        uint32_t partition_count)
{
    if (fake_store_topic(store, name) || strlen(name) >= sizeof(store->topics[0].name))
        return NULL;
    for (uint32_t i = 0; i < FAKE_TOPICS_MAX; i++) {
        struct fake_topic *topic = &store->topics[i];
        if (topic->id != 0)
            continue;
        strcpy(topic->name, name);
        topic->id = ++store->topic_ids;
        topic->partition_count = partition_count;
        topic->partitions = calloc(partition_count, sizeof(*topic->partitions));
        ASSERT(topic->partitions);
        return topic;
    }
    return NULL;
}

void fake_store_add_partition(struct fake_topic *topic)
{
    topic->partition_count++;
    topic->partitions =
        realloc(topic->partitions, topic->partition_count * sizeof(*topic->partitions));
    ASSERT(topic->partitions);
    topic->partitions[topic->partition_count - 1] = (struct fake_partition){0};
}

void fake_store_remove_topic(struct fake_topic *topic)
{
    for (uint32_t p = 0; p < topic->partition_count; p++) {
        struct fake_partition *partition = &topic->partitions[p];
        for (uint64_t i = 0; i < partition->batch_count; i++)
            free(partition->batches[i].bytes);
        free(partition->batches);
        free_producers(partition);
    }
    free(topic->partitions);
    *topic = (struct fake_topic){0};
}

struct fake_partition *fake_store_partition(struct fake_store *store, uint32_t topic_id,
                                            uint32_t partition, uint16_t *error)
{
    *error = PE_UNKNOWN_TOPIC;
    for (uint32_t i = 0; i < FAKE_TOPICS_MAX; i++) {
        struct fake_topic *topic = &store->topics[i];
        if (topic->id == 0 || topic->id != topic_id)
            continue;
        *error = partition < topic->partition_count ? PE_NONE : PE_UNKNOWN_PARTITION;
        return *error == PE_NONE ? &topic->partitions[partition] : NULL;
    }
    return NULL;
}

uint16_t fake_store_append(struct fake_store *store, struct fake_partition *partition,
                           const uint8_t *bytes, uint32_t size, uint64_t *offset)
{
    struct batch_info info;
    uint16_t error = check_batch(store, bytes, size, false, &info);
    if (error != PE_NONE)
        return error;
    struct fake_producer *producer = NULL;
    uint64_t duplicate_of = UINT64_MAX;
    if (info.producer_id != PRODUCER_NONE)
        error = check_sequence(store, partition, &info, &producer, &duplicate_of);
    if (error != PE_NONE || duplicate_of != UINT64_MAX) {
        *offset = duplicate_of;
        return error;
    }
    *offset = partition->end;
    if (producer)
        move_on(store, producer, &info, *offset);
    fake_store_put(store, partition, bytes, &info);
    return PE_NONE;
}

uint16_t fake_store_stage(struct fake_store *store, struct fake_partition *partition,
                          const uint8_t *bytes, uint32_t size, struct batch_info *info,
                          bool *is_new)
{
    struct fake_producer *producer = NULL;
    uint64_t duplicate_of = UINT64_MAX;
    uint16_t error = check_batch(store, bytes, size, true, info);
    if (error == PE_NONE && !(info->attributes & BATCH_TRANSACTIONAL))
        error = PE_INVALID_RECORD;
    if (error == PE_NONE)
        error = check_sequence(store, partition, info, &producer, &duplicate_of);
    *is_new = error == PE_NONE && duplicate_of == UINT64_MAX;
    if (*is_new)
        move_on(store, producer, info, UINT64_C(1) << 63);
    return error;
}

static uint16_t check_batch(const struct fake_store *store, const uint8_t *bytes, uint32_t size,
                            bool staged, struct batch_info *info)
{
    struct batch_limits limits = {.batch_bytes_max = 4 * MIB,
                                  .record_bytes_max = store->record_bytes_max};
    const char *why;
    if (store->discard)
        return batch_peek(bytes, size, info) && info->size == size ? PE_NONE : PE_INVALID_RECORD;
    return batch_check(bytes, size, &limits, staged, info, &why);
}

static void move_on(struct fake_store *store, struct fake_producer *producer,
                    const struct batch_info *info, uint64_t offset)
{
    producer->remembered[producer->count++ % FAKE_REMEMBERED] =
        (struct fake_remembered){info->base_sequence, offset};
    producer->expected = (info->base_sequence + info->record_count) % SEQUENCE_MODULO;
    store->last_epoch = info->producer_epoch;
    store->last_producer = info->producer_id;
}

void fake_store_put(struct fake_store *store, struct fake_partition *partition,
                    const uint8_t *bytes, const struct batch_info *info)
{
    if (partition->batch_count == partition->batch_capacity) {
        partition->batch_capacity = partition->batch_capacity ? partition->batch_capacity * 2 : 64;
        partition->batches =
            realloc(partition->batches, partition->batch_capacity * sizeof(struct fake_batch));
        ASSERT(partition->batches);
    }
    struct fake_batch batch = {.size = info->size,
                               .record_count = info->record_count,
                               .base_offset = partition->end,
                               .max_timestamp = info->max_timestamp};
    partition->end += info->record_count;
    if (store->discard) { // only the count of batches grows
        partition->batches[0] = batch;
        partition->batch_count = 1;
        return;
    }
    batch.bytes = malloc(info->size);
    ASSERT(batch.bytes);
    memcpy(batch.bytes, bytes, info->size);
    batch_set_head(batch.bytes, batch.base_offset, 0);
    partition->batches[partition->batch_count++] = batch;
}

void fake_store_forget_producers(struct fake_store *store)
{
    for (uint32_t i = 0; i < FAKE_TOPICS_MAX; i++) {
        for (uint32_t p = 0; p < store->topics[i].partition_count; p++)
            free_producers(&store->topics[i].partitions[p]);
    }
}

struct fake_batch *fake_store_batch(struct fake_partition *partition, uint64_t offset)
{
    uint64_t low = 0, high = partition->batch_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct fake_batch *batch = &partition->batches[middle];
        if (offset < batch->base_offset)
            high = middle;
        else if (offset >= batch->base_offset + batch->record_count)
            low = middle + 1;
        else
            return batch;
    }
    return NULL;
}

void fake_store_free(struct fake_store *store)
{
    for (uint32_t i = 0; i < FAKE_TOPICS_MAX; i++) {
        if (store->topics[i].id != 0)
            fake_store_remove_topic(&store->topics[i]);
    }
}

/* The rules of docs/protocol.md, section 8, with a longer memory. */
static uint16_t check_sequence(const struct fake_store *store, struct fake_partition *partition,
                               const struct batch_info *info, struct fake_producer **producer_out,
                               uint64_t *duplicate_of)
{
    struct fake_producer *producer = find_producer(partition, info->producer_id);
    if (!producer && info->base_sequence != 0 && !store->any_first_sequence)
        return PE_UNKNOWN_PRODUCER;
    if (!producer) {
        producer = add_producer(partition, info->producer_id);
        producer->expected = info->base_sequence;
    }
    *producer_out = producer;
    if (info->producer_epoch < producer->epoch)
        return PE_FENCED_PRODUCER;
    if (info->producer_epoch > producer->epoch) {
        if (info->base_sequence != 0)
            return PE_OUT_OF_ORDER_SEQUENCE;
        producer->epoch = info->producer_epoch;
        producer->expected = 0;
        producer->count = 0;
    }
    if (info->base_sequence == producer->expected)
        return PE_NONE;
    uint64_t known = min_u64(producer->count, FAKE_REMEMBERED);
    for (uint64_t i = 0; i < known; i++) {
        if (producer->remembered[i].sequence == info->base_sequence) {
            *duplicate_of = producer->remembered[i].offset;
            return PE_NONE;
        }
    }
    return PE_OUT_OF_ORDER_SEQUENCE;
}

static struct fake_producer *find_producer(struct fake_partition *partition, uint64_t id)
{
    struct fake_producer *producer = partition->producers;
    while (producer && producer->id != id)
        producer = producer->next;
    return producer;
}

static struct fake_producer *add_producer(struct fake_partition *partition, uint64_t id)
{
    struct fake_producer *producer = calloc(1, sizeof(*producer));
    ASSERT(producer);
    producer->id = id;
    producer->next = partition->producers;
    partition->producers = producer;
    return producer;
}

static void free_producers(struct fake_partition *partition)
{
    while (partition->producers) {
        struct fake_producer *producer = partition->producers;
        partition->producers = producer->next;
        free(producer);
    }
}
