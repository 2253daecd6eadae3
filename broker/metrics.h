/* Figures of the broker for people and machines: /metrics and STATUS.
 *
 * Cores count for themselves (core_counters.def, shard_counters.def). What a shard's storage knows
 * can be asked only on its core, which publishes it into struct shard_gauges at most every
 * METRICS_PERIOD_NS and before it sleeps. */
#ifndef SLUICE_BROKER_METRICS_H
#define SLUICE_BROKER_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/counters.h"
#include "proto/cursor.h"

#define METRICS_PERIOD_NS (20 * NS_PER_MS)

struct broker;
struct shard;

struct shard_gauges { // written by the shard's core, read by all
#define SHARD_GAUGE(name, type, source, help) counter name;
#include "broker/shard_gauges.def"
#undef SHARD_GAUGE
    _Atomic(const char *) reason; // why producing is not possible; "" when it is. Static text
};

/* Thread: the shard's core. */
void metrics_publish_shard(struct shard_gauges *gauges, struct shard *shard);

/* Prometheus text format into a heap buffer, which the caller frees; NULL: out of memory. Thread:
 * any. */
char *metrics_text(struct broker *broker, size_t *length);

/* STATUS's reply (meta). Thread: any. */
void metrics_write_status(struct broker *broker, struct writer *w);

/* True when all shards can; else *reason says why the first can't. Thread: any. */
bool metrics_can_produce(struct broker *broker, const char **reason);

#endif
