#include "broker/assembly.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

int assembly_open_directory(struct broker *broker, char *text)
{
    const struct config *config = broker->config;
    struct io_options options = {.backend = (enum io_backend)config->io, .ops_max = 64};
    struct store_identity identity = {.shard_count = (uint32_t)config->shards,
                                      .segment_bytes = config->segment_bytes};
    struct io *io;
    int status = io_new(&options, &io);
    if (status != 0) {
        strcpy(text, "the kernel refuses this I/O backend; see the line before");
        return status;
    }
    *text = '\0';
    status = store_dir_open(io, config->data_dir, config->development, &identity, &broker->lock_fd,
                            text);
    io_free(io);
    if (status != 0) {
        if (!*text)
            strcpy(text, status_text(status));
        return status;
    }
    memcpy(broker->store_id, identity.store_id, sizeof(broker->store_id));
    broker->segment_bytes = identity.segment_bytes;
    broker->shard_count = (uint16_t)identity.shard_count;
    if (identity.shard_count == config->shards && identity.segment_bytes == config->segment_bytes)
        return 0;
    LOG_WARN("broker.store_has_its_own", LOG_U64("shards", identity.shard_count),
             LOG_U64("segment_bytes", identity.segment_bytes),
             LOG_STR("meaning", "both were fixed when the store was made"));
    return 0;
}

/* Shards are dealt out; cores without one serve connections. */
int assembly_start_cores(struct broker *broker, char *text)
{
    uint16_t core_count = (uint16_t)broker->config->cores;
    for (uint16_t i = 0; i < broker->shard_count; i++)
        broker->shard_core[i] = i % core_count;
    broker->mesh = mesh_new(core_count);
    size_t bytes = core_count * sizeof(struct core);
    broker->cores = aligned_alloc(_Alignof(struct core), bytes);
    if (!broker->mesh || !broker->cores) {
        strcpy(text, "out of memory");
        return E_NO_MEMORY;
    }
    memset(broker->cores, 0, bytes);
    atomic_store(&broker->core_count, core_count); // HTTP serves already: it sees all cores or none
    for (uint16_t i = 0; i < broker->core_count; i++) {
        int status = core_start(&broker->cores[i], broker, i);
        if (status != 0) {
            strcpy(text, "cannot start a thread");
            return status;
        }
    }
    return 0;
}

/* The cores rest meanwhile. */
int assembly_check_store(struct broker *broker, char *text)
{
    *text = '\0';
    shard_slot_table(&broker->shards[0], broker->slot_shard);
    for (uint16_t i = 0; i < broker->shard_count; i++) {
        int status = shard_check_partitions(&broker->shards[i], &broker->shards[0], text);
        if (status == 0)
            status = shard_check_decisions(&broker->shards[i], broker->shards, text);
        if (status != 0)
            return status;
    }
    return 0;
}

bool assembly_has_failed(const struct broker *broker)
{
    for (uint16_t i = 0; i < broker->core_count; i++) {
        if (core_state(&broker->cores[i]) == CORE_FAILED)
            return true;
    }
    return false;
}

int assembly_failure(const struct broker *broker, const char **text)
{
    for (uint16_t i = 0; i < broker->core_count; i++) {
        const struct core *core = &broker->cores[i];
        if (core_state(core) != CORE_FAILED)
            continue;
        *text = core->start_text;
        return core->start_status;
    }
    return 0;
}

bool assembly_has_reached(const struct broker *broker, enum core_state state)
{
    for (uint16_t i = 0; i < broker->core_count; i++) {
        if (core_state(&broker->cores[i]) < state)
            return false;
    }
    return true;
}

/* The inbox has room for 256; a core that takes none for so long is seen by its deadline, not by
 * us. */
void assembly_post(struct broker *broker, enum inbox_kind kind, uint64_t value)
{
    struct inbox_message message = {.kind = kind, .value = value};
    for (uint16_t i = 0; i < broker->core_count; i++) {
        if (!mailbox_post(&broker->cores[i].mailbox, &message))
            LOG_WARN("broker.inbox_full", LOG_U64("core", i));
    }
}
