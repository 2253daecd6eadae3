/* The durable state of a shard outside storage: its tables, and what each log entry does to them. Private to shard.c and the handlers. */
#ifndef SLUICE_BROKER_SHARD_STATE_H
#define SLUICE_BROKER_SHARD_STATE_H

#include "broker/shard.h"

#define SHARD_TABLES_MAX 9

MUST_USE int shard_state_new(struct shard *shard); // 0 or NO_MEMORY
void shard_state_free(struct shard *shard);
uint32_t shard_state_tables(struct shard *shard, struct table *tables[SHARD_TABLES_MAX]);

/* store_options.loaded and .apply. */
int shard_state_loaded(void *context, const char **why);
int shard_state_apply(void *context, const struct wal_view *view, struct partition *partition);

/* After recovery: a new shard 0 logs its slot table. */
MUST_USE int shard_state_begin(struct shard *shard, char text[512]);

#endif
