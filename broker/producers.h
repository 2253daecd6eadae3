/* Idempotent producers: what was the last batch of each (producer, partition), and where it went.
 *
 * Row = one producer in one partition: epoch and the last five batches. A retry gets its original offset. The table
 * is bounded: when it is full the row used longest ago (by LSN) is expired by a logged PRODUCER_EXPIRE entry, so
 * that replay expires the same one; so is one that was not used for producer_retention. The producer then gets
 * UNKNOWN_PRODUCER, never a silent duplicate. */
#ifndef SLUICE_BROKER_PRODUCERS_H
#define SLUICE_BROKER_PRODUCERS_H

#include <stdint.h>

#include "proto/batch.h"
#include "storage/format.h"
#include "storage/table.h"

#define EPOCH_MAX 32767   // of a producer: the batch's field is a signed 16-bit number
#define PRODUCER_WINDOW 5 // batches in flight that a client may have per partition

struct disk_producer {       // row of TABLE_PRODUCERS
    le64 producer_id_plus_1; // never 0
    le32 topic_id;
    le32 partition;
    le16 epoch;
    uint8_t count; // batches remembered, oldest first
    uint8_t zero[5];
    le64 last_lsn; // of its newest batch: the expiry order
    le64 last_ms;  // the log's clock then
    struct {
        le32 sequence_first;
        le32 sequence_last;
        le64 base_offset;
    } batches[PRODUCER_WINDOW];
};
static_assert(sizeof(struct disk_producer) == 120, "disk");

enum producer_verdict {
    PRODUCER_APPEND,    // next in order (or first of an epoch)
    PRODUCER_DUPLICATE, // seen: *base_offset is the original's
    PRODUCER_REFUSE,    // *error says why
};

struct producers;
struct producers *producers_new(uint32_t row_count_max); // NULL: out of memory
void producers_free(struct producers *producers);
struct table *producers_table(struct producers *producers);
MUST_USE int producers_rebuild(struct producers *producers, const char **why);

/* Looks only. Batches without producer id: APPEND. Sequences wrap from 2^31-1 to 0. */
enum producer_verdict producers_check(const struct producers *producers, uint32_t topic_id,
                                      uint32_t partition, const struct batch_info *info,
                                      uint64_t *base_offset, uint16_t *error);
/* When appending this batch needs a new row and the table is full: the row to expire first. */
bool producers_must_expire(const struct producers *producers, uint32_t topic_id, uint32_t partition,
                           const struct batch_info *info, struct disk_producer *victim);
/* The row used longest ago. False: there is none. */
bool producers_oldest(const struct producers *producers, struct disk_producer *oldest);
uint32_t producers_count(const struct producers *producers);

/* ---- apply: at append and replay ---- */
/* FULL: the table is full, which only damage can bring: a handler expires a row first. */
MUST_USE int producers_apply_batch(struct producers *producers, uint32_t topic_id,
                                   uint32_t partition, const struct batch_info *info, uint64_t lsn,
                                   uint64_t append_time_ms);
void producers_apply_expire(struct producers *producers, uint64_t producer_id, uint32_t topic_id,
                            uint32_t partition);
void producers_apply_partition_drop(struct producers *producers, uint32_t topic_id,
                                    uint32_t partition);

#endif
