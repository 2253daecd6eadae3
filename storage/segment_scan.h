/* Walks the groups of a segment from its bytes: for an index that has to be made anew.
 *
 * The caller reads, this decides what is whole and intact, and shows the entries. It trusts nothing: groups are
 * checked as at recovery. Pure: no I/O. */
#ifndef SLUICE_STORAGE_SEGMENT_SCAN_H
#define SLUICE_STORAGE_SEGMENT_SCAN_H

#include <stdint.h>

#include "storage/index.h"
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

/* The index entry of an ENTRY_BATCH view. False when its payload can't be a batch. */
bool segment_scan_batch(const struct wal_view *view, struct index_entry *entry);

#endif
