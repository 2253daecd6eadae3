/* The partitions of one shard: the durable row (offsets, settings) and what hangs on it in memory.
 *
 *     log_start <= visible_end <= next_offset
 *
 * next_offset moves at append, visible_end when the batch is committed (durable), log_start by LOG_START
 * entries. Offsets are dense. Thread: the shard's core. */
#ifndef SLUICE_STORAGE_PARTITIONS_H
#define SLUICE_STORAGE_PARTITIONS_H

#include "base/list.h"
#include "storage/format.h"
#include "storage/table.h"

#define PARTITIONS_MAX 16384u // per shard: 10,000 with room; a row, a map slot and ~200 B each

struct disk_partition { // row of TABLE_PARTITIONS
    le32 topic_id;      // never 0
    le32 partition;
    le64 log_start;
    le64 next_offset;
    le64 bytes;         // of batches at or above log_start, for retention by size
    le64 max_timestamp; // two's complement
    struct disk_partition_open settings;
    le64 gap_end; // below it offsets may be missing: lost with a part of the log (`wal salvage`)
    le64 reserved;
};
static_assert(sizeof(struct disk_partition) == 88, "disk");

struct partition {
    uint32_t row; // in the table
    uint32_t topic_id;
    uint32_t partition;
    uint64_t next_offset; // as the row
    uint64_t log_start;   // as the row
    uint64_t visible_end; // below this readers may read
    uint64_t bytes;       // as the row
    uint64_t gap_end;     // as the row; 0: no offset is missing
    uint32_t open_first;  // its first and last entry in the open segment's index, or INDEX_NONE
    uint32_t open_last;
    uint64_t open_first_offset;          // base offset of open_first
    struct disk_partition_open settings; // as the row
    uint32_t
        incarnation; // rises when the partition is dropped: what an index still holds of it is dead
    uint32_t image_place; // index_open_image()'s own
    uint64_t commit_end;  // store_append_commit()'s own
    uint64_t
        closed_lsn; // 1 + where the newest closed segment that is known to hold some of it begins; 0: none
    uint64_t start_lsn; // where the file begins that held its log start when retention last looked
    struct list visible_link; // the store's: partitions whose visible_end moved in this round
    struct list waiters;      // the broker's: cursors to wake when visible_end moves
    struct list ready_link;   // the broker's: shard's list of partitions with woken cursors
    uint32_t vote_count; // the broker's: batches of a transaction that is voted on; 0 between votes
};

struct partitions;

struct partitions *partitions_new(uint32_t count_max); // NULL: out of memory
void partitions_free(struct partitions *partitions);
struct table *partitions_table(struct partitions *partitions);
/* After table_load(): builds map and partitions; visible_end = next_offset. CORRUPT if two rows name one partition or
 * a row's offsets can't be. */
MUST_USE int partitions_rebuild(struct partitions *partitions, const char **why);

/* NULL when this shard's log did not open it. O(1). */
struct partition *partitions_find(struct partitions *partitions, uint32_t topic_id,
                                  uint32_t partition);
uint32_t partitions_count(const struct partitions *partitions);
uint32_t partitions_count_max(const struct partitions *partitions);
bool partitions_is_full(const struct partitions *partitions);
/* Each partition once: index 0..count-1, order of rows. */
struct partition *partitions_at(struct partitions *partitions, uint32_t index);

/* ---- apply: called by store.c only, at append and at replay alike ---- */

/* Opens a partition, or takes newer settings (higher revision) for one that is open. NULL: the limit is reached. */
struct partition *partitions_apply_open(struct partitions *partitions, uint32_t topic_id,
                                        uint32_t partition,
                                        const struct disk_partition_open *settings);
/* Its address may be another partition's afterwards. */
void partitions_apply_drop(struct partitions *partitions, struct partition *partition);
/* Offsets up to `offset` were lost with a part of the log (`wal salvage`); they are not given out
 * again. */
void partitions_apply_gap(struct partitions *partitions, struct partition *partition,
                          uint64_t offset);
void partitions_apply_batch(struct partitions *partitions, struct partition *partition,
                            uint32_t record_count, uint32_t size, int64_t max_timestamp);
/* log_start lies above the present one and at or below next_offset: the caller has checked. */
void partitions_apply_log_start(struct partitions *partitions, struct partition *partition,
                                uint64_t log_start, uint64_t bytes_gone);

#endif
