/* What all threads of the broker share, and its life from start to exit.
 *
 *     main thread   configuration, data directory, listening socket, signals, waiting
 *     core threads  everything a client asks for
 *     HTTP thread   reads counters
 *     log thread    writes lines
 *
 * The main thread is woken through `event_fd` by cores that change their state, and by signals. */
#ifndef SLUICE_BROKER_BROKER_H
#define SLUICE_BROKER_BROKER_H

#include <stdatomic.h>

#include "broker/config.h"
#include "broker/core.h"
#include "broker/metrics.h"

#define EXIT_DRAINED 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_REFUSED 3

struct http;

struct broker {
    /* ---- constant after start ---- */
    const struct config *config;
    uint8_t store_id[16];
    uint64_t segment_bytes;      // as the store was made
    _Atomic uint16_t core_count; // 0 until the cores are there
    uint16_t shard_count;
    uint32_t connections_max; // config's, lowered to what the descriptors allow
    uint64_t started_ns;
    struct core *cores;
    struct shard shards[SHARDS_MAX];
    struct shard_gauges gauges[SHARDS_MAX]; // published by the shards' cores
    uint16_t shard_core[SHARDS_MAX];
    uint16_t slot_shard[SLOT_COUNT]; // filled before the cores serve
    struct mesh *mesh;
    int listen_fd;
    int lock_fd;
    int event_fd;
    char listen_text[ADDRESS_TEXT_MAX], http_text[ADDRESS_TEXT_MAX];
    struct http *http;
    uint64_t memory_bytes; // the sum of the limits

    /* ---- read by all ---- */
    _Atomic bool is_ready; // the ready line was written, and no drain has begun
    _Atomic bool is_draining;
};

/* Runs until a drain or a failure; returns the exit status. argc and argv are read again at
 * SIGHUP. */
int broker_run(struct config *config, int argc, char *const argv[]);

/* A core's state has changed: the main thread looks at all of them. Thread: any. */
void broker_notify(struct broker *broker);

#endif
