/* Archive files: sorted runs of older batches, made by "unweaving" closed segments.
 *
 * Driven by the log's byte budget only: when the closed segments exceed their share, the oldest ones are
 * rewritten as one run, by partition, then offset, without what expired or was dropped meanwhile. The run is one
 * sequential O_DIRECT write with at most ARCHIVE_UNSYNCED_BYTES not yet synced, fdatasync, rename, directory sync, and
 * only then named by a checkpoint (TABLE_ARCHIVES: the manifest). Files that no checkpoint names are deleted at
 * start; a named one that is missing is damage. A file is unlinked when nothing in it is live and both kept checkpoints
 * have forgotten it; when less than half is live it is rewritten together with the next run. */
#ifndef SLUICE_STORAGE_ARCHIVE_H
#define SLUICE_STORAGE_ARCHIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/format.h"
#include "storage/index.h"
#include "storage/table.h"

#define ARCHIVE_UNSYNCED_BYTES ((uint64_t)(4 * MIB))
#define ARCHIVE_RUN_BYTES_MAX (256 * MIB) // of one run: 4 segments of 64 MiB

struct disk_archive_row { // row of TABLE_ARCHIVES
    le64 number;     // never 0
    le64 file_bytes;
    le64 base_lsn;   // of the segments it came from
    le64 end_lsn;
    le64 data_bytes; // of batches, when it was made
    le64 live_bytes; // of those still at or above their log start
    le64 dropped;    // 1: superseded or dead; unlinked when both checkpoints say so
    le64 reserved;
};
static_assert(sizeof(struct disk_archive_row) == 64, "disk");

#endif
