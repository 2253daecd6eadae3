/* The start of a store. Everything here blocks.
 *
 *     checkpoint -> tables -> archive files -> replay (recover.h) -> index of the open segment ->
 *     spares for checkpoints, and a first checkpoint when the last stop was clean
 *
 * The open segment's index. A checkpoint's position mostly lies inside a segment, and the replay shows only what
 * comes after it. When that segment is still the open one, its leading part is read once more (less than a segment),
 * feeding nothing but the index. Closed segments need no such care: their .idx is loaded when somebody asks, and made
 * anew from the whole segment when it is missing.
 *
 * After a clean stop, anything behind the last checkpoint is damage. That would no longer be true once something was
 * appended, so a start writes a checkpoint without the clean mark before it serves.
 *
 * Failure modes: all that recover.h, checkpoint.h and archive.h name; each refuses with a text that says what and
 * where, and writes nothing. */
#include "storage/store_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"

struct opening {
    struct store *store;
    struct checkpoint_set set;
    struct checkpoint_identity identity;
    struct recover_result *result;
    char *text; // 512 bytes
};

static struct store *store_new(const struct store_options *options);
static int store_make_parts(struct store *store);
static void paths_make(struct store *store);
static int tables_make(struct store *store);
static struct archives_options archives_options_of(const struct store *store);
static struct wal_options wal_options_of(struct store *store);

static int open_all(struct opening *opening);
static int checkpoint_find(struct opening *opening);
static int state_load(struct opening *opening);
static int log_replay(struct opening *opening);
static void log_refusal(struct opening *opening, int status);
static int index_complete(struct opening *opening);
static void lead_blame(struct opening *opening, const struct segment *segment, uint64_t at_lsn);
static void everything_visible(struct store *store);
static int upkeep_begin(struct opening *opening);
static int refuse(struct opening *opening, int status, const char *what);

size_t store_arena_bytes(const struct store_options *options)
{
    struct store store = {.options = *options};
    struct wal_options wal = wal_options_of(&store);
    struct archives_options archives = archives_options_of(&store);
    return wal_arena_bytes(&wal) + archives_arena_bytes(&archives) +
           read_jobs_arena_bytes(options) + txn_arena_bytes() + staged_mover_arena_bytes();
}

int store_open(const struct store_options *options, struct recover_result *result, char text[512],
               struct store **store_out)
{
    struct opening *opening = calloc(1, sizeof(*opening));
    struct store *store = opening ? store_new(options) : NULL;
    text[0] = 0;
    if (!store) {
        free(opening);
        snprintf(text, 512, "out of memory");
        return E_NO_MEMORY;
    }
    uint64_t began_ns = clock_mono_ns(store->clock);
    opening->store = store;
    opening->result = result;
    opening->text = text;
    int status = open_all(opening);
    free(opening);
    if (status < 0) {
        if (store->wal)
            wal_abandon(store->wal);
        store_free(store);
        return status;
    }
    store->stats.recovered_lsn = result->end_lsn;
    store->stats.recovered_chain = result->end_chain;
    store->stats.recovery_ms = (clock_mono_ns(store->clock) - began_ns) / NS_PER_MS;
    *store_out = store;
    return 0;
}

/* ---- parts ---- */

static struct store *store_new(const struct store_options *options)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store)
        return NULL;
    store->options = *options;
    store->clock = options->clock ? options->clock : clock_system();
    list_init(&store->visible);
    list_init(&store->chores);
    paths_make(store);
    if (store_make_parts(store) == 0)
        return store;
    store_free(store);
    return NULL;
}

static int store_make_parts(struct store *store)
{
    const struct store_options *options = &store->options;
    store->partitions = partitions_new(options->partition_count_max);
    store->cache = index_cache_new(options->index_cache_bytes);
    store->reads = read_jobs_new(store);
    store->mover = staged_mover_new(store);
    if (!store->partitions || !store->cache || !store->reads || !store->mover ||
        txn_init(store) < 0)
        return E_NO_MEMORY;
    struct archives_options archives = archives_options_of(store);
    store->archives = archives_new(&archives);
    if (!store->archives || segment_indexes_init(&store->indexes, store) < 0 ||
        retention_init(&store->retention, store) < 0)
        return E_NO_MEMORY;
    store->open = segment_indexes_take(&store->indexes);
    time_marks_clear(&store->times);
    disk_room_init(&store->room, options->disk_free_throttle_percent,
                   options->disk_free_refuse_percent);
    return tables_make(store);
}

static void paths_make(struct store *store)
{
    const struct store_options *options = &store->options;
    unsigned id = options->shard_id;
    snprintf(store->wal_dir, STORE_PATH_MAX, "%.4000s/shard-%03u/wal", options->dir, id);
    snprintf(store->checkpoint_dir, STORE_PATH_MAX, "%.4000s/shard-%03u/checkpoint", options->dir,
             id);
    snprintf(store->archive_dir, STORE_PATH_MAX, "%.4000s/shard-%03u/archive", options->dir, id);
}

static int tables_make(struct store *store)
{
    const struct store_options *options = &store->options;
    if (options->table_count + 3 > CHECKPOINT_TABLES_MAX)
        return E_INVALID;
    store->tables[store->table_count++] = partitions_table(store->partitions);
    store->tables[store->table_count++] = archives_table(store->archives);
    store->tables[store->table_count++] = staged_table(store->staged);
    for (uint32_t i = 0; i < options->table_count; i++)
        store->tables[store->table_count++] = options->tables[i];
    return 0;
}

static struct archives_options archives_options_of(const struct store *store)
{
    const struct store_options *options = &store->options;
    struct archives_options archives = {
        .io = options->io,
        .arena = options->arena,
        .dir = store->archive_dir,
        .shard_id = options->shard_id,
        .cache = store->cache,
        .batch_bytes_max = options->batch_bytes_max,
        .reserve_bytes = upkeep_reserve_bytes(options->segment_bytes),
        .no_direct = options->no_direct,
        .context = (void *)store,
        .log_start = upkeep_log_start,
        .on_run = upkeep_on_run,
    };
    memcpy(archives.store_id, options->store_id, sizeof(archives.store_id));
    return archives;
}

static struct wal_options wal_options_of(struct store *store)
{
    const struct store_options *options = &store->options;
    struct wal_options wal = {
        .io = options->io,
        .random = options->random,
        .arena = options->arena,
        .dir = store->wal_dir,
        .shard_id = options->shard_id,
        .segment_bytes = options->segment_bytes,
        .batch_bytes_max = options->batch_bytes_max,
        .group_slot_count = options->group_slot_count,
        .bytes_budget = options->wal_bytes_budget,
        .relaxed = options->relaxed,
        .no_direct = options->no_direct,
        .context = store,
        .on_committed = store_on_committed,
        .on_room = store_on_room,
        .on_segment_closed = store_on_segment_closed,
        .on_failed = store_on_failed,
    };
    memcpy(wal.store_id, options->store_id, sizeof(wal.store_id));
    return wal;
}

/* ---- open ---- */

static int open_all(struct opening *opening)
{
    struct store *store = opening->store;
    int status = checkpoint_find(opening);
    if (status == 0)
        status = state_load(opening);
    if (status == 0)
        status = log_replay(opening);
    if (status == 0)
        status = index_complete(opening);
    if (status == 0) // not earlier: a start that refuses leaves everything as it was
        status = archives_tidy(store->archives, opening->text);
    if (status < 0)
        return status;
    everything_visible(store);
    return upkeep_begin(opening);
}

static int checkpoint_find(struct opening *opening)
{
    struct store *store = opening->store;
    const struct store_options *options = &store->options;
    struct checkpoint_set *set = &opening->set;
    opening->identity = (struct checkpoint_identity){.shard_id = options->shard_id,
                                                     .no_direct = options->no_direct};
    memcpy(opening->identity.store_id, options->store_id, sizeof(opening->identity.store_id));
    int status = checkpoint_scan(options->io, store->checkpoint_dir, &opening->identity, set);
    if (status < 0) {
        snprintf(opening->text, 512, "checkpoint %.300s: %.100s", set->bad_path,
                 set->bad_why ? set->bad_why : status_text(status));
        return status;
    }
    if (set->bad_count == 0)
        return 0;
    LOG_WARN("store.checkpoint_damaged", LOG_STR("path", set->bad_path),
             LOG_STR("why", set->bad_why), LOG_U64("damaged", set->bad_count),
             LOG_U64("intact", set->count));
    if (set->count > 0)
        return 0;
    snprintf(opening->text, 512, "no checkpoint is intact: %.300s: %.100s", set->bad_path,
             set->bad_why);
    return E_CORRUPT;
}

static int state_load(struct opening *opening)
{
    struct store *store = opening->store;
    const char *why = NULL;
    if (opening->set.count > 0) {
        store->upkeep.kept[0] = opening->set.heads[0];
        if (opening->set.count > 1)
            store->upkeep.kept[1] = opening->set.heads[1];
        int status =
            checkpoint_load(store->options.io, store->checkpoint_dir, opening->set.heads[0].number,
                            &opening->identity, store->tables, store->table_count, &why);
        if (status < 0)
            return refuse(opening, status, why);
    }
    int status = partitions_rebuild(store->partitions, &why);
    if (status == 0)
        status = staged_rebuild(store->staged, &why);
    if (status == 0 && store->options.loaded)
        status = store->options.loaded(store->options.context, &why);
    if (status < 0)
        return refuse(opening, status, why);
    return archives_open(store->archives, true, opening->text);
}

static int refuse(struct opening *opening, int status, const char *what)
{
    snprintf(opening->text, 512, "checkpoint %llu in %.300s: %.100s",
             (unsigned long long)opening->store->upkeep.kept[0].number,
             opening->store->checkpoint_dir, what ? what : status_text(status));
    return status;
}

static int replay_entry(void *context, const struct wal_view *view)
{
    return store_apply(context, view);
}

static void replay_hole(void *context, uint64_t from_lsn, uint64_t to_lsn)
{
    struct store *store = context;
    if (store->hole_count < DISK_HOLES_MAX)
        store->holes[store->hole_count++] = (struct segment_hole){from_lsn, to_lsn};
    LOG_WARN("store.hole_passed", LOG_U64("shard", store->options.shard_id),
             LOG_U64("from_lsn", from_lsn), LOG_U64("to_lsn", to_lsn));
}

static int log_replay(struct opening *opening)
{
    struct store *store = opening->store;
    const struct checkpoint_set *set = &opening->set;
    const struct checkpoint_head *head = &set->heads[0];
    struct wal_options options = wal_options_of(store);
    struct recover_options recover = {
        .apply = replay_entry, .on_hole = replay_hole, .context = store};
    if (set->count > 0) {
        recover.has_checkpoint = true;
        recover.from = head->position;
        recover.first_file = head->wal_first_file;
        recover.clean = head->clean && set->bad_count == 0; // a later one may be the bad one
    }
    for (uint32_t i = 0; i < set->count; i++)
        recover.proven_lsn = max_u64(recover.proven_lsn, set->heads[i].position.lsn);
    store->is_replaying = true;
    int status = wal_open(&options, &recover, opening->result, &store->wal);
    store->is_replaying = false;
    if (status < 0)
        log_refusal(opening, status);
    return status;
}

/* What an operator needs to find the place: file, offset, range, kind. */
static void log_refusal(struct opening *opening, int status)
{
    const struct recover_result *result = opening->result;
    const char *why = result->text[0] ? result->text : status_text(status);
    const char *path = result->path[0] ? result->path : opening->store->wal_dir;
    if (result->damage == DAMAGE_NONE)
        snprintf(opening->text, 512, "%.250s: %.250s", path, why);
    else
        snprintf(opening->text, 512, "%.200s: %.160s (%s at offset %llu, LSN %llu..%llu)", path,
                 why, damage_kind_name(result->damage), (unsigned long long)result->offset,
                 (unsigned long long)result->lsn_from, (unsigned long long)result->lsn_to);
}

/* ---- the open segment's index ---- */

static int index_complete(struct opening *opening)
{
    struct store *store = opening->store;
    struct segment *segment = wal_segment_at(store->wal, wal_segment_count(store->wal) - 1);
    const struct wal_position *checkpoint = &opening->set.heads[0].position; // zeros: there is none
    if (store->open_file != segment->number) { // the replay ended in an older file
        index_open_detach(store->open);
        index_open_clear(store->open);
        time_marks_clear(&store->times);
        store->open_file = segment->number;
    }
    if (segment->base_lsn >= checkpoint->lsn)
        return 0;
    uint64_t at_lsn;
    int status = segment_index_lead(&store->indexes, segment, checkpoint, &at_lsn);
    if (status == E_CORRUPT)
        lead_blame(opening, segment, at_lsn);
    if (status < 0)
        log_refusal(opening, status);
    return status;
}

static void lead_blame(struct opening *opening, const struct segment *segment, uint64_t at_lsn)
{
    struct recover_result *result = opening->result;
    result->damage = DAMAGE_BAD_GROUP;
    result->offset = segment_offset(segment, at_lsn);
    result->lsn_from = at_lsn;
    result->lsn_to = opening->set.heads[0].position.lsn;
    snprintf(result->path, sizeof(result->path), "%s", segment->path);
    snprintf(
        result->text, sizeof(result->text),
        "a group below the checkpoint is damaged, or not the one that the checkpoint counts with");
}

static void everything_visible(struct store *store)
{
    store->open_visible = index_open_count(store->open);
    for (uint32_t i = 0; i < partitions_count(store->partitions); i++) {
        struct partition *partition = partitions_at(store->partitions, i);
        partition->visible_end = partition->next_offset;
    }
}

/* ---- checkpoints and rest ---- */

static int upkeep_begin(struct opening *opening)
{
    struct store *store = opening->store;
    struct io *io = store->options.io;
    int status = checkpoint_tidy(io, store->checkpoint_dir, &opening->identity, &opening->set);
    if (status == 0)
        status = segment_indexes_tidy(&store->indexes);
    if (status == 0) {
        store->checkpoints = checkpoint_writer_new(io, store->checkpoint_dir, &opening->identity);
        status = store->checkpoints ? 0 : E_NO_MEMORY;
    }
    store->now_ns = clock_mono_ns(store->clock);
    store->now_wall_ms = clock_wall_ms(store->clock);
    if (status == 0 && store->upkeep.kept[0].clean)
        status = store_checkpoint_wait(store, false, UINT64_MAX);
    if (status < 0)
        snprintf(opening->text, 512, "%.300s: %.100s", store->checkpoint_dir, status_text(status));
    return status;
}

/* ---- the first append ---- */

/* A recovery that had to cut the log has used up a spare. */
int store_wait_room(struct store *store, uint64_t timeout_ns)
{
    uint64_t deadline_ns = clock_mono_ns(store->clock) + timeout_ns;
    while (wal_is_starved(store->wal)) {
        uint64_t now_ns = clock_mono_ns(store->clock);
        if (now_ns > deadline_ns)
            return E_TIMEOUT;
        int work = wal_turn(store->wal, now_ns, clock_wall_ms(store->clock));
        if (wal_is_failed(store->wal))
            return E_CLOSED;
        if (work == 0)
            io_poll(store->options.io, 1 * NS_PER_MS);
    }
    return 0;
}
