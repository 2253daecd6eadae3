/* The two background jobs of segment_index.c: one writes .idx files, one loads them or makes them anew. */
#ifndef SLUICE_STORAGE_INDEX_JOB_H
#define SLUICE_STORAGE_INDEX_JOB_H

#include "storage/segment_index.h"

/* Start the next file when the job is idle. Return work done. */
int index_writer_turn(struct segment_indexes *indexes);
int index_loader_turn(struct segment_indexes *indexes);

/* DIR/shard-NNN/wal/<16 hex>.<suffix> */
void index_job_path(const struct store *store, uint64_t number, const char *suffix, char *path);
struct index_identity index_job_identity(const struct store *store, const struct segment *segment,
                                         uint64_t append_ms_last);

#endif
