/* State tables: rows of a fixed size in pages, so that a checkpoint can be written in pieces while
 * the state goes on changing.
 *
 * All durable state of a shard (partitions, producers, topics, archive files) lives in such tables and
 * nowhere else; hash maps beside them are rebuilt at load. A checkpoint walks the pages; whoever
 * changes a row goes through table_row_mut(), which copies a page aside when the checkpoint that is
 * running has not written it yet. Rows are the disk layout itself (byte-order types).
 *
 * A row that is not in use is all zeros; one in use has something else in its first 8 bytes: so a loaded
 * image says which rows are free. Free rows are reused lowest first, so that the same entries give the same table,
 * byte for byte (state digest).
 *
 * Thread: the shard's core. Memory: pages from the heap up to row_count_max, taken one page at a time at
 * the moment a new row needs it; table_row_new() answers NULL at the limit. Without memory for a page it ends the process:
 * what asks for a row is in the log already, so there is no way on, and the next start recovers. */
#ifndef SLUICE_STORAGE_TABLE_H
#define SLUICE_STORAGE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "storage/format.h"

#define TABLE_PAGE_BYTES ((size_t)16384)
#define TABLE_ROW_NONE UINT32_MAX

struct table;

struct table_options {
    enum table_id id;
    uint32_t row_bytes;     // 16..4096, a multiple of 8
    uint32_t row_count_max; // limit
};

/* Returns NULL when out of memory. */
struct table *table_new(const struct table_options *options);
void table_free(struct table *table);

/* A zeroed row, or NULL at the limit. *index is its number. The caller marks it as used in a field
 * of its own (first 8 bytes must not stay zero while the row is in use). */
void *table_row_new(struct table *table, uint32_t *index);
void table_row_delete(struct table *table, uint32_t index);

const void *table_row(const struct table *table, uint32_t index); // asserts index < count
void *table_row_mut(struct table *table, uint32_t index);         // for writing: may copy its page
bool table_row_is_used(const struct table *table, uint32_t index);

uint32_t table_row_count(const struct table *table); // highest row ever used + 1
uint32_t table_used_count(const struct table *table);
bool table_is_full(const struct table *table); // table_row_new() would answer NULL for want of rows
uint64_t table_memory_bytes(const struct table *table);
enum table_id table_id_of(const struct table *table);

/* XXH3-64 over all rows in order: equal tables, equal digest. */
uint64_t table_digest(const struct table *table);

/* ---- a checkpoint's side ---- */

/* Freezes the table's content of this moment. One snapshot at a time. */
void table_snapshot_begin(struct table *table);
uint64_t table_snapshot_bytes(const struct table *table); // disk_table header, rows, padding
/* Copies up to `capacity` bytes (at least 16) of the frozen image from where the last call ended. Returns how
 * many; 0 at the end. When memory for a copied page was lacking it ends before table_snapshot_bytes(): give that
 * checkpoint up and try again later. */
uint32_t table_snapshot_read(struct table *table, uint8_t *bytes, uint32_t capacity);
void table_snapshot_end(struct table *table); // also to give up half-way

/* Fills an empty table from an image (header included). Returns bytes consumed, or CORRUPT /
 * TOO_LARGE / NO_MEMORY with *why. */
int64_t table_load(struct table *table, const uint8_t *bytes, uint64_t len, const char **why);

#endif
