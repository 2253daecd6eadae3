/* Staged batches: durable, in no partition yet. What a shard holds of transactions that have not ended here.
 *
 * A row says where in the log the batch lies and what its place in a partition will need. COMMIT turns the rows of a
 * transaction into index entries, in the order in which they were staged, without touching the batches; ABORT only drops
 * the rows. A batch whose segment shall be recycled while its transaction is still open is copied forward (STAGED_MOVED):
 * the row then names its new place.
 *
 * Storage knows a transaction by its name only: who may end it, and when, is the broker's to know.
 * Thread: the shard's core. */
#ifndef SLUICE_STORAGE_STAGED_H
#define SLUICE_STORAGE_STAGED_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/format.h"
#include "storage/table.h"

#define STAGED_MAX 131072u                // rows of a shard: 72 bytes each, and a link
#define STAGED_PER_TRANSACTION_MAX 16384u // so that its COMMIT is an entry of at most 640 KiB

struct disk_staged { // row of TABLE_STAGED
    le64 position;   // LSN of the batch, never 0
    struct disk_txn_name name;
    le32 topic_id;
    le32 partition;
    le64 max_timestamp;
    le32 size;
    le32 record_count;
    le64 producer_id;
    le32 base_sequence;
    le16 producer_epoch;
    le16 reserved;
    le32 order; // within its transaction, from 0
    le32 reserved2;
};
static_assert(sizeof(struct disk_staged) == 72, "disk");

struct staged;

struct staged *staged_new(void); // NULL: out of memory
void staged_free(struct staged *staged);
struct table *staged_table(struct staged *staged);
MUST_USE int staged_rebuild(struct staged *staged, const char **why); // after table_load()

struct staged_sum {
    uint32_t batch_count;
    uint64_t bytes;
};
/* What a transaction has staged here; zeros when nothing. O(1). */
struct staged_sum staged_sum(const struct staged *staged, const struct disk_txn_name *name);
struct staged_sum staged_sum_all(const struct staged *staged);

/* Its rows in the order in which they were staged: TABLE_ROW_NONE at the end. */
uint32_t staged_first(const struct staged *staged, const struct disk_txn_name *name);
uint32_t staged_next(const struct staged *staged, uint32_t row);
const struct disk_staged *staged_row(const struct staged *staged, uint32_t row);

bool staged_is_full(const struct staged *staged);
/* The lowest LSN at which a staged batch lies; UINT64_MAX: there is none. */
uint64_t staged_lowest(const struct staged *staged);
/* All rows by position, the lowest first; TABLE_ROW_NONE at the end. */
uint32_t staged_oldest(const struct staged *staged);
uint32_t staged_newer(const struct staged *staged, uint32_t row);
/* Is the row still what it was when `seen` was copied from it? */
bool staged_row_is(const struct staged *staged, uint32_t row, const struct disk_staged *seen);

/* ---- apply: by store.c only, at append and replay ---- */
MUST_USE int staged_apply(struct staged *staged,
                          const struct disk_staged *row); // order is filled in; FULL
/* CORRUPT: no row lies at `from`. */
MUST_USE int staged_apply_moved(struct staged *staged, const struct disk_txn_name *name,
                                uint64_t from, uint64_t to);
void staged_apply_end(struct staged *staged, const struct disk_txn_name *name);

#endif
