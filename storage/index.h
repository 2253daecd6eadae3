/* Where a partition's batches lie: for the open segment in memory, for closed segments and archive files as
 * a sorted image that is cached within a budget.
 *
 * The open segment's index is one flat array in append order; the entries of one partition are chained
 * forwards and backwards. On close it is sorted by partition, then offset, into the image of
 * struct disk_index (format.h), written to <number>.idx, and rebuilt from the log when that file is missing or bad.
 * Positions are LSNs of batches in segments and file offsets in archive files. Thread: the shard's core.
 *
 * A segment's index lists what became visible in it. A batch that was staged may lie further back in the log than the
 * segment whose COMMIT lists it: so an entry of a segment has two LSNs, its position (where the bytes are) and that of
 * the log entry that made it visible. Only the open index needs both. */
#ifndef SLUICE_STORAGE_INDEX_H
#define SLUICE_STORAGE_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/format.h"
#include "storage/partitions.h"

#define INDEX_NONE UINT32_MAX
/* Batches in one segment; at the limit the log rolls. 256 Ki x 64 bytes = 16 MiB, and 256-byte batches
 * still fill a 64 MiB segment. */
#define INDEX_ENTRIES_MAX (256u * 1024)

struct index_entry {
    uint64_t base_offset;
    uint64_t position;
    int64_t max_timestamp;
    uint32_t size;
    uint32_t record_count;
};

/* ---- the open segment ---- */

struct index_open;
/* Memory for entry_count_max entries is taken from the heap at once (the kernel gives pages as they fill); a replay
 * may add more than that, then it grows. NULL: out of memory. */
struct index_open *index_open_new(uint32_t entry_count_max);
void index_open_free(struct index_open *index);
void index_open_clear(struct index_open *index); // also frees what a replay made it grow by
/* No longer the open segment's: its partitions' chains (open_first, open_last) end, lookups go to the image. */
void index_open_detach(struct index_open *index);
bool index_open_is_full(const struct index_open *index);
uint32_t index_open_count(const struct index_open *index);
/* How many may be added before it is full. */
uint32_t index_open_room(const struct index_open *index);
/* Appends, and links into the partition's chain (open_first, open_last). lsn: of the log entry that makes the batch visible;
 * for a plain batch anything up to its position will do. INDEX_NONE: out of memory, only when full. */
uint32_t index_open_add(struct index_open *index, struct partition *partition,
                        const struct index_entry *entry, uint64_t lsn);
struct index_entry index_open_at(const struct index_open *index, uint32_t i);
/* The batch is visible when everything up to and with this LSN's log entry is committed. */
uint64_t index_open_lsn(const struct index_open *index, uint32_t i);
/* The lowest position that was added; UINT64_MAX: none. */
uint64_t index_open_lowest(const struct index_open *index);
/* NULL when it was dropped meanwhile. */
struct partition *index_open_partition(const struct index_open *index, uint32_t i);
uint32_t index_open_next(const struct index_open *index, uint32_t i); // of the same partition
/* The entry that holds `offset`, or the first behind it; INDEX_NONE when neither is here. `hint` (an entry of this
 * partition near the place, or anything) makes sequential reading O(1). */
uint32_t index_open_find(const struct index_open *index, const struct partition *partition,
                         uint64_t offset, uint32_t hint);
uint32_t index_open_find_time(const struct index_open *index, const struct partition *partition,
                              int64_t timestamp);

/* ---- images: closed segments and archive files ---- */

struct index_image { // owns `bytes`
    uint8_t *bytes;  // struct disk_index, directory, entries
    uint64_t len;
    uint32_t partition_count;
    uint32_t entry_count;
    uint64_t base_lsn, end_lsn;
    uint64_t
        append_ms_last; // the log's clock at the last group covered: what retention by time goes by
    uint64_t lowest_position; // of its entries; UINT64_MAX: it has none
    const struct disk_index_partition *directory;
    const struct disk_index_entry *entries;
};

struct index_identity {
    uint8_t store_id[16];
    uint32_t shard_id;
    uint64_t number;
    uint64_t generation;
    uint64_t base_lsn, end_lsn;
    uint64_t append_ms_last; // not compared by index_image_parse()
};

/* Sorts the open index into an image (heap), without what was dropped. Returns 0 or NO_MEMORY. */
MUST_USE int index_open_image(const struct index_open *index, const struct index_identity *identity,
                              struct index_image *image);
/* Checks every length, order and checksum, and the identity when given. Takes `bytes` over only on success.
 * Returns 0, CORRUPT, FOREIGN, NEWER. */
MUST_USE int index_image_parse(uint8_t *bytes, uint64_t len, const struct index_identity *identity,
                               struct index_image *image);
void index_image_free(struct index_image *image);
MUST_USE int index_image_copy(const struct index_image *image,
                              struct index_image *copy); // 0 or NO_MEMORY

const struct disk_index_partition *index_image_partition(const struct index_image *image,
                                                         uint32_t topic_id, uint32_t partition);
/* First entry of that partition whose batch ends behind `offset`; INDEX_NONE: all end at or before it. */
uint32_t index_image_find(const struct index_image *image, const struct disk_index_partition *p,
                          uint64_t offset);
uint32_t index_image_find_time(const struct index_image *image,
                               const struct disk_index_partition *p, int64_t timestamp);
struct index_entry index_image_at(const struct index_image *image, uint32_t i);

/* Collects entries in any order and makes an image of them: for a segment whose .idx is lost, and for archive files.
 * Grows on the heap: 40 bytes an entry. */
struct index_builder;
struct index_builder *index_builder_new(void); // NULL: out of memory
void index_builder_free(struct index_builder *builder);
uint32_t index_builder_count(const struct index_builder *builder);
MUST_USE int index_builder_add(struct index_builder *builder, uint32_t topic_id, uint32_t partition,
                               const struct index_entry *entry); // 0 or NO_MEMORY
/* The builder is empty afterwards. Returns 0; NO_MEMORY; CORRUPT: batches of one partition overlap. */
MUST_USE int index_builder_finish(struct index_builder *builder,
                                  const struct index_identity *identity, struct index_image *image);

/* ---- cache of images: least recently used goes first ---- */

struct index_cache;
struct index_cache *index_cache_new(uint64_t budget_bytes);
void index_cache_free(struct index_cache *cache);
/* key: file number * 2 + (1 for archive files). NULL: not cached; load it and put it in. The pointer is valid until
 * the next put or drop. */
const struct index_image *index_cache_get(struct index_cache *cache, uint64_t key);
/* Takes the image over, also on failure; may evict others, never the one just put. NULL: out of memory. */
const struct index_image *index_cache_put(struct index_cache *cache, uint64_t key,
                                          struct index_image *image);
void index_cache_drop(struct index_cache *cache, uint64_t key);
uint64_t index_cache_bytes(const struct index_cache *cache);

#endif
