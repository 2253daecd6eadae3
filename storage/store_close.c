/* The end of a store. Everything here blocks.
 *
 *     store_close_clean()   nothing new -> what is in flight becomes durable, a MARK proves it -> jobs end -> last
 *                           checkpoint, marked clean: nothing was appended behind it
 *     store_free()          waits for what is in flight, then lets go of everything
 *
 * Failure modes: the log fails (CLOSED), the deadline passes (TIMEOUT): then there is no clean mark, and the next
 * start recovers as after a crash. */
#include "storage/store_private.h"

#include <stdlib.h>

#include "base/status.h"

static int log_settle(struct store *store, uint64_t deadline_ns);
static int checkpoint_end(struct store *store, uint64_t deadline_ns);
static int jobs_end(struct store *store, uint64_t deadline_ns);
static bool jobs_are_idle(const struct store *store);
static void segment_files_close(struct store *store);

int store_close_clean(struct store *store, uint64_t deadline_ns)
{
    store->is_closing = true;
    int status = log_settle(store, deadline_ns);
    if (status == 0)
        status = checkpoint_end(store, deadline_ns);
    if (status == 0)
        status = jobs_end(store, deadline_ns);
    if (status < 0)
        return status;
    status = wal_close(store->wal);
    return status < 0 ? E_CLOSED : store_checkpoint_wait(store, true, deadline_ns);
}

/* Until everything is durable, and a MARK has proven it: should the last checkpoint be lost, the log still knows
 * its end. */
static int log_settle(struct store *store, uint64_t deadline_ns)
{
    uint64_t quiet_ns = UINT64_MAX;
    for (;;) {
        uint64_t now_ns = clock_mono_ns(store->clock);
        wal_turn(store->wal, now_ns, clock_wall_ms(store->clock));
        struct wal_marks marks = wal_marks(store->wal);
        if (wal_is_failed(store->wal))
            return E_CLOSED;
        if (marks.durable < marks.reserved)
            quiet_ns = UINT64_MAX;
        else if (quiet_ns == UINT64_MAX)
            quiet_ns = now_ns;
        else if (now_ns - quiet_ns > 2 * WAL_MARK_IDLE_NS)
            return 0;
        if (now_ns > deadline_ns)
            return E_TIMEOUT;
        io_poll(store->options.io, 1 * NS_PER_MS);
    }
}

/* One that was on its way: what it froze is a good state too. */
static int checkpoint_end(struct store *store, uint64_t deadline_ns)
{
    while (checkpoint_is_running(store->checkpoints)) {
        if (checkpoint_turn(store->checkpoints, wal_marks(store->wal).durable) == 0)
            io_poll(store->options.io, 1 * NS_PER_MS);
        if (clock_mono_ns(store->clock) > deadline_ns)
            return E_TIMEOUT;
    }
    return 0;
}

/* Reads and indexes in flight end by themselves; a run of unweaving is given up. */
static int jobs_end(struct store *store, uint64_t deadline_ns)
{
    while (!jobs_are_idle(store)) {
        segment_indexes_turn(&store->indexes);
        io_poll(store->options.io, 1 * NS_PER_MS);
        if (clock_mono_ns(store->clock) > deadline_ns)
            return E_TIMEOUT;
    }
    if (!store->is_quiesced)
        archives_quiesce(store->archives);
    store->is_quiesced = true;
    return 0;
}

static bool jobs_are_idle(const struct store *store)
{
    return read_jobs_are_idle(store->reads) && segment_indexes_are_idle(&store->indexes) &&
           staged_mover_is_idle(store->mover) && !store->retention.loading &&
           !store->upkeep.loading && list_is_empty(&store->chores);
}

void store_free(struct store *store)
{
    if (!store)
        return;
    store->is_closing = true;
    if (store->wal) {
        (void)jobs_end(store, UINT64_MAX);
        (void)wal_close(store->wal);
    }
    if (store->checkpoints)
        checkpoint_writer_free(store->checkpoints);
    upkeep_sources_drop(&store->upkeep, 0);
    segment_files_close(store);
    segment_indexes_deinit(&store->indexes);
    retention_deinit(&store->retention);
    if (store->archives)
        archives_free(store->archives);
    if (store->wal)
        wal_free(store->wal);
    read_jobs_free(store->reads);
    index_open_free(store->open);
    index_cache_free(store->cache);
    staged_mover_free(store->mover);
    staged_free(store->staged);
    partitions_free(store->partitions);
    free(store);
}

/* Descriptors of cold reads. */
static void segment_files_close(struct store *store)
{
    for (uint32_t i = 0; store->wal && i < wal_segment_count(store->wal); i++) {
        struct segment_index *index = wal_segment_at(store->wal, i)->index;
        if (index && index->cold_fd >= 0)
            (void)io_close_wait(store->options.io, index->cold_fd);
        if (index)
            index->cold_fd = -1;
    }
}

/* Begins one and drives it to its end. Everything below its position is durable already. */
int store_checkpoint_wait(struct store *store, bool clean, uint64_t deadline_ns)
{
    upkeep_checkpoint_begin(store, clean);
    uint64_t durable_lsn = wal_marks(store->wal).durable;
    while (checkpoint_is_running(store->checkpoints)) {
        if (checkpoint_turn(store->checkpoints, durable_lsn) == 0)
            io_poll(store->options.io, 1 * NS_PER_MS);
        if (clock_mono_ns(store->clock) > deadline_ns)
            return E_TIMEOUT;
    }
    return store->upkeep.checkpoint_status;
}
