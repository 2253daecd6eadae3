/* The sum of the limits, a line for each consumer with its reason.
 *
 * The arenas are exactly their lines: a core takes its share at start and touches it. Tables grow
 * up to theirs. What the kernel holds for sockets is not ours and not here. */
#include "broker/limits.h"

#include <stdarg.h>
#include <stdio.h>

#include "broker/broker.h"
#include "broker/cursor_private.h"
#include "broker/groups.h"
#include "broker/participants.h"
#include "broker/txn_job.h"

static void add(struct limits_memory *memory, uint64_t bytes, const char *format, ...)
    PRINTF_LIKE(3, 4);
static void add_core(struct limits_memory *memory, const struct config *config, uint64_t cores);
static void add_shard(struct limits_memory *memory, const struct config *config, uint64_t shards);
static void add_process(struct limits_memory *memory, const struct config *config, uint64_t cores);

/* Measured: program, libraries, their data, log ring and the heap's own overhead, in a process that
 * serves nobody. */
#define PROCESS_BYTES (16 * MIB)
#define CORE_IO_BYTES (2 * MIB) // rings or tables of one io with 16,000 operations
#define CORE_STACK_BYTES (1 * MIB)
#define HASH_BYTES_PER_ROW 32u // maps beside the tables: key, row, at most 1/2 full

uint64_t limits_core_arena_bytes(const struct config *config)
{
    return buffers_arena_bytes((uint32_t)config->request_bytes_max) + CACHE_LINE +
           REQUESTS_PER_CORE * align_up(sizeof(struct request), CACHE_LINE);
}

uint64_t limits_shard_arena_bytes(const struct config *config)
{
    struct store_options options;
    core_store_options(config, &options);
    return store_arena_bytes(&options);
}

uint32_t limits_conns_per_core(const struct config *config)
{
    uint64_t cores = config->cores;
    return (uint32_t)((config->connections_max + cores - 1) / cores);
}

void limits_memory(const struct config *config, struct limits_memory *memory)
{
    *memory = (struct limits_memory){0};
    add_core(memory, config, config->cores);
    add_shard(memory, config, config->shards);
    add_process(memory, config, config->cores);
}

static void add(struct limits_memory *memory, uint64_t bytes, const char *format, ...)
{
    va_list arguments;
    ASSERT(memory->line_count < LIMITS_LINES_MAX);
    struct limits_line *line = &memory->lines[memory->line_count++];
    va_start(arguments, format);
    vsnprintf(line->what, sizeof(line->what), format, arguments);
    va_end(arguments);
    line->bytes = bytes;
    memory->sum_bytes += bytes;
}

static void add_core(struct limits_memory *memory, const struct config *config, uint64_t cores)
{
    uint64_t conn_slots = config->connections_max + cores + CONN_REFUSALS_MAX;
    uint64_t requests =
        limits_core_arena_bytes(config) - buffers_arena_bytes((uint32_t)config->request_bytes_max);
    add(memory, cores * buffers_arena_bytes((uint32_t)config->request_bytes_max),
        "receive, reply and delivery buffers, %u core(s)", (unsigned)cores);
    add(memory, cores * requests, "requests, %u for each core", REQUESTS_PER_CORE);
    add(memory, conn_slots * sizeof(struct conn), "connections, %u of %zu bytes",
        (unsigned)conn_slots, sizeof(struct conn));
    add(memory, cores * conns_bytes(0, (uint16_t)config->shards), "subscriptions, %u for each core",
        SUBSCRIPTIONS_PER_CORE);
    add(memory, mesh_bytes((uint16_t)cores), "mailboxes");
    add(memory, cores * (CORE_IO_BYTES + CORE_STACK_BYTES), "rings and stacks");
}

static void add_shard(struct limits_memory *memory, const struct config *config, uint64_t shards)
{
    uint64_t producers = sizeof(struct disk_producer) + HASH_BYTES_PER_ROW;
    uint64_t partitions =
        sizeof(struct disk_partition) + sizeof(struct partition) + HASH_BYTES_PER_ROW;
    uint64_t topics = sizeof(struct disk_topic) + 2 * HASH_BYTES_PER_ROW;
    add(memory, shards * limits_shard_arena_bytes(config),
        "log groups and read buffers, %u shard(s)", (unsigned)shards);
    add(memory, shards * config->index_cache_bytes, "cached indexes");
    add(memory, shards * PRODUCERS_PER_SHARD * producers, "producers, %u for each shard",
        PRODUCERS_PER_SHARD);
    add(memory, shards * PARTITIONS_MAX * partitions, "partitions, %u for each shard",
        PARTITIONS_MAX);
    add(memory, TOPICS_MAX * topics, "topics, %u", TOPICS_MAX);
    uint64_t transactions =
        2 * sizeof(struct disk_transaction) + sizeof(struct transaction) + 2 * HASH_BYTES_PER_ROW;
    uint64_t participants =
        2 * sizeof(struct disk_participant) + sizeof(struct participant) + HASH_BYTES_PER_ROW;
    uint64_t staged = 2 * sizeof(struct disk_staged) + HASH_BYTES_PER_ROW;
    add(memory,
        shards * (TRANSACTIONS_PER_SHARD * transactions + PARTICIPANTS_PER_SHARD * participants +
                  STAGED_MAX * staged + txn_jobs_bytes()),
        "transactions, %u ids, %u batches staged for each shard", TRANSACTIONS_PER_SHARD,
        STAGED_MAX);
    add(memory, shards * groups_bytes(), "groups, %u members and %u offsets for each shard",
        GROUP_MEMBERS_PER_SHARD, GROUP_OFFSETS_PER_SHARD);
    add(memory,
        shards * (CURSORS_PER_SHARD * sizeof(struct cursor) +
                  SUBSCRIPTIONS_PER_SHARD * sizeof(struct subscription) + sizeof(struct cursors)),
        "readers, %u cursors for each shard", CURSORS_PER_SHARD);
    add(memory,
        shards * (PRODUCERS_PER_SHARD * sizeof(struct disk_producer) +
                  PARTITIONS_MAX * sizeof(struct disk_partition)) +
            TOPICS_MAX * sizeof(struct disk_topic),
        "pages that a running checkpoint keeps");
    add(memory, shards * SHARD_SCRATCH_BYTES, "decompressed records under validation");
}

static void add_process(struct limits_memory *memory, const struct config *config, uint64_t cores)
{
    if (!config->http.off)
        add(memory, HTTP_CONNECTIONS_MAX * (HTTP_CONNECTION_BYTES + 16 * KIB),
            "HTTP, %u connections", HTTP_CONNECTIONS_MAX);
    add(memory, PROCESS_BYTES, "program, libraries, logging");
}
