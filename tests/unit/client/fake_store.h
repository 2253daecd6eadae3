/* What the fake broker keeps: topics, partitions with their batches, producers with their
 * sequences. Under the broker's mutex, all of it. */
#ifndef SLUICE_TESTS_FAKE_STORE_H
#define SLUICE_TESTS_FAKE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/batch.h"

#define FAKE_TOPICS_MAX 64u
#define FAKE_REMEMBERED 4096u // batches of a producer in a partition whose offset is known

struct fake_batch {
    uint8_t *bytes; // NULL: discarded
    uint32_t size;
    uint32_t record_count;
    uint64_t base_offset;
    int64_t max_timestamp;
};

struct fake_remembered {
    uint32_t sequence;
    uint64_t offset;
};

struct fake_producer { // in one partition
    struct fake_producer *next;
    uint64_t id;
    uint16_t epoch;
    uint32_t expected;
    struct fake_remembered remembered[FAKE_REMEMBERED]; // by count % FAKE_REMEMBERED
    uint64_t count;
};

struct fake_partition {
    struct fake_batch *batches;
    uint64_t batch_count, batch_capacity;
    uint64_t log_start, end;
    struct fake_producer *producers;
};

struct fake_topic {
    char name[256];
    uint32_t id; // 0: free
    uint32_t partition_count;
    struct fake_partition *partitions;
};

struct fake_store {
    struct fake_topic topics[FAKE_TOPICS_MAX];
    uint32_t topic_ids;
    uint64_t producer_ids;
    bool discard;
    bool any_first_sequence;
    uint32_t record_bytes_max;
    uint16_t last_epoch;
    uint64_t last_producer;
};

struct fake_topic *fake_store_topic(struct fake_store *store, const char *name);
struct fake_topic *fake_store_add_topic(struct fake_store *store, const char *name,
                                        uint32_t partition_count); // NULL: exists, or no room
void fake_store_add_partition(struct fake_topic *topic);
void fake_store_remove_topic(struct fake_topic *topic);
struct fake_partition *fake_store_partition(struct fake_store *store, uint32_t topic_id,
                                            uint32_t partition, uint16_t *error);

/* Checks and stores one batch. Returns PE_NONE with its offset (of the first copy when it was
 * stored before), or the error a real broker gives. */
uint16_t fake_store_append(struct fake_store *store, struct fake_partition *partition,
                           const uint8_t *bytes, uint32_t size, uint64_t *offset);
/* Checks one batch of a transaction, and moves its producer's sequence on. *is_new: it was not
 * staged before. */
uint16_t fake_store_stage(struct fake_store *store, struct fake_partition *partition,
                          const uint8_t *bytes, uint32_t size, struct batch_info *info,
                          bool *is_new);
/* Without a check. */
void fake_store_put(struct fake_store *store, struct fake_partition *partition,
                    const uint8_t *bytes, const struct batch_info *info);
void fake_store_forget_producers(struct fake_store *store);

/* The batch that holds `offset`, or NULL. */
struct fake_batch *fake_store_batch(struct fake_partition *partition, uint64_t offset);
void fake_store_free(struct fake_store *store);

#endif
