/* Walks the groups of a segment from its bytes: for an index that has to be made anew.
 *
 * The caller reads, this decides what is whole and intact, and shows the entries. It trusts nothing: groups are
 * checked as at recovery. Pure: no I/O. */
#ifndef SLUICE_STORAGE_SEGMENT_SCAN_H
#define SLUICE_STORAGE_SEGMENT_SCAN_H

#include <stdint.h>

#include "proto/batch.h"
#include "storage/index.h"
#include "storage/segment.h"
#include "storage/staged.h"
#include "storage/wal.h"

struct segment_scan {
    /* in */
    uint64_t generation;
    uint64_t file_number;
    uint64_t lsn;                                             // of the next group; moves on
    uint64_t end_lsn;                                         // stop here
    int (*entry)(void *context, const struct wal_view *view); // negative: stop with this status
    void *context;
    /* out */
    uint64_t append_ms_last; // of the last group seen
};

/* `bytes` lie at scan->lsn. Returns how many bytes of whole groups were consumed (0: give more, at least a whole
 * group), or CORRUPT: what lies at scan->lsn is no intact group; or the status of entry(). */
MUST_USE int64_t segment_scan_feed(struct segment_scan *scan, uint8_t *bytes, uint32_t len);

/* What of a segment's index comes from an entry: a plain batch, or those that a COMMIT lists. A staged batch gives
 * nothing: it has no place yet. */

/* The index entry of an ENTRY_BATCH view. False when its payload can't be a batch. */
bool segment_scan_batch(const struct wal_view *view, struct index_entry *entry);

struct committed { // one item of a COMMIT
    uint32_t topic_id, partition;
    struct index_entry entry;
};
/* Of an ENTRY_COMMIT view. False when its payload is not well-formed. */
bool segment_scan_commit(const struct wal_view *view, uint32_t *batch_count);
struct committed segment_scan_committed(const struct wal_view *view, uint32_t i);

/* Gives what an entry adds to the index of its segment to add(), batch by batch; what lies in a hole of the log that
 * `wal salvage` made is left out. Returns 0; CORRUPT; or the negative status of add(). */
MUST_USE int segment_scan_index(const struct wal_view *view, const struct segment_hole *holes,
                                uint32_t hole_count,
                                int (*add)(void *context, const struct committed *batch),
                                void *context);

/* Does the log's copy of a batch lack its offset? */
static inline bool batch_is_staged(const uint8_t *batch)
{
    return be64_get(((const struct batch_header *)batch)->base_offset) == STAGED_OFFSET;
}

/* The row of an ENTRY_STAGED view. False when its payload can't be one. */
bool segment_scan_staged(const struct wal_view *view, struct disk_staged *row);
/* The batch of an ENTRY_STAGED or ENTRY_STAGED_MOVED view, and the LSN of its first byte. False: it can't be one. */
bool segment_scan_staged_batch(const struct wal_view *view, uint64_t *position,
                               struct batch_info *info);

#endif
