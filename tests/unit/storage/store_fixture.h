/* A store on the simulated disk, and a naive model of it: for each partition the list of batches it was given.
 *
 * store_fixture_open() holds what came back against the model: every batch that was visible is there, in order, and
 * what is there more was appended. store_fixture_verify() reads everything and compares each byte. */
#ifndef SLUICE_TESTS_STORE_FIXTURE_H
#define SLUICE_TESTS_STORE_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"
#include "storage/store_private.h"
#include "tests/sim/io_sim.h"

#define SF_DIR "data"
#define SF_PARTITIONS_MAX 64u
#define SF_READ_BYTES ((uint32_t)(2 * MIB))

struct sf_batch {
    uint64_t base_offset;
    uint64_t digest; // of its bytes as they must come back
    uint32_t size;
    uint32_t record_count;
    uint64_t lsn;
};

struct sf_partition {
    uint32_t topic_id, partition;
    bool is_open;
    uint64_t open_lsn;        // end of the entry that opened it
    struct sf_batch *batches; // all ever appended and not lost
    uint32_t count, capacity;
    uint64_t visible_end; // highest that was ever told
    uint64_t on_visible;
};

struct store_fixture {
    struct sim_disk *disk;
    struct io *io;
    struct arena arena;
    struct random random; // the store's
    struct random dice;   // the test's
    struct store_options options;
    struct recover_result result;
    char text[512];
    struct store *store;
    struct sf_partition partitions[SF_PARTITIONS_MAX];
    uint32_t partition_count;
    uint64_t committed;
    uint32_t on_room, on_failed, on_committed, on_drop;
    struct wal_failure failure;
    uint64_t now_ns, life, seed;
    uint64_t latency_ns_max;
    uint8_t *batch;  // SF_READ_BYTES
    uint8_t *buffer; // SF_READ_BYTES
    bool read_done;
};

static struct sf_partition *sf_find(struct store_fixture *f, uint32_t topic_id, uint32_t partition)
{
    for (uint32_t i = 0; i < f->partition_count; i++)
        if (f->partitions[i].topic_id == topic_id && f->partitions[i].partition == partition)
            return &f->partitions[i];
    return NULL;
}

/* ---- the broker's side ---- */

static int sf_apply(void *context, const struct wal_view *view, struct partition *partition)
{
    if (view->type == ENTRY_BATCH || view->type == ENTRY_PARTITION_OPEN)
        cr_assert_not_null(partition);
    return 0;
}

static void sf_on_visible(void *context, struct partition *partition)
{
    struct store_fixture *f = context;
    struct sf_partition *p = sf_find(f, partition->topic_id, partition->partition);
    cr_assert_not_null(p);
    cr_assert_gt(partition->visible_end, p->visible_end);
    p->visible_end = partition->visible_end;
    p->on_visible++;
}

static void sf_on_committed(void *context, uint64_t lsn)
{
    struct store_fixture *f = context;
    cr_assert_geq(lsn, f->committed);
    f->committed = lsn;
    f->on_committed++;
}

static void sf_on_room(void *context)
{
    ((struct store_fixture *)context)->on_room++;
}

static void sf_on_failed(void *context, const struct wal_failure *failure)
{
    struct store_fixture *f = context;
    f->on_failed++;
    f->failure = *failure;
}

static void sf_on_drop(void *context, struct partition *partition)
{
    ((struct store_fixture *)context)->on_drop++;
}

/* ---- lives ---- */

static inline void sf_io(struct store_fixture *f)
{
    f->io = io_sim_new(f->disk,
                       &(struct io_sim_options){.seed = f->seed * 1000 + f->life++,
                                                .latency_ns_max = f->latency_ns_max,
                                                .start_ns = f->now_ns,
                                                .wall_ms = 1700000000000 + f->now_ns / NS_PER_MS});
    f->options.io = f->io;
    f->options.clock = io_sim_clock(f->io);
}

static inline void sf_create(struct store_fixture *f)
{
    static const char *const dirs[] = {SF_DIR, SF_DIR "/shard-002", SF_DIR "/shard-002/wal",
                                       SF_DIR "/shard-002/checkpoint", SF_DIR "/shard-002/archive"};
    for (uint32_t i = 0; i < ARRAY_COUNT(dirs); i++)
        cr_assert_eq(io_mkdir(f->io, dirs[i]), 0);
    sim_disk_settle(f->disk);
    struct wal_options wal = {.io = f->io,
                              .random = &f->random,
                              .dir = SF_DIR "/shard-002/wal",
                              .shard_id = f->options.shard_id,
                              .segment_bytes = f->options.segment_bytes,
                              .batch_bytes_max = f->options.batch_bytes_max,
                              .group_slot_count = f->options.group_slot_count,
                              .bytes_budget = f->options.wal_bytes_budget};
    memcpy(wal.store_id, f->options.store_id, sizeof(wal.store_id));
    cr_assert_eq(wal_create(&wal), 0);
}

static inline void store_fixture_init_as(struct store_fixture *f, uint64_t seed,
                                         uint64_t segment_bytes)
{
    memset(f, 0, sizeof(*f));
    log_set_level(getenv("SF_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    f->seed = seed;
    f->disk = sim_disk_new(seed, 1 * GIB);
    f->now_ns = NS_PER_S;
    random_init(&f->random, seed);
    random_init(&f->dice, seed ^ 0xd1ce);
    f->options = (struct store_options){
        .random = &f->random,
        .arena = &f->arena,
        .dir = SF_DIR,
        .store_id = "store-fixture-1",
        .shard_id = 2,
        .segment_bytes = segment_bytes,
        .batch_bytes_max = 1 * MIB,
        .group_slot_count = 8,
        .wal_bytes_budget = 12 * segment_bytes,
        .index_cache_bytes = 4 * MIB,
        .read_slot_count = 4,
        .partition_count_max = 256,
        .disk_free_throttle_percent = 5,
        .disk_free_refuse_percent = 2,
        .context = f,
        .apply = sf_apply,
        .on_visible = sf_on_visible,
        .on_committed = sf_on_committed,
        .on_room = sf_on_room,
        .on_failed = sf_on_failed,
        .on_partition_drop = sf_on_drop,
    };
    f->batch = malloc(SF_READ_BYTES);
    f->buffer = malloc(SF_READ_BYTES);
    sf_io(f);
    sf_create(f);
}

static inline void store_fixture_init(struct store_fixture *f, uint64_t seed)
{
    store_fixture_init_as(f, seed, 4 * MIB);
}

/* What came back must be a prefix of what was appended, and hold all that was visible. */
static inline void sf_check_recovered(struct store_fixture *f)
{
    for (uint32_t i = 0; i < f->partition_count; i++) {
        struct sf_partition *p = &f->partitions[i];
        struct partition *partition = store_partition(f->store, p->topic_id, p->partition);
        if (p->is_open)
            cr_assert(partition || p->open_lsn > f->committed, "partition %u is gone", i);
        p->is_open = partition != NULL;
        uint64_t end = partition ? partition->next_offset : 0;
        if (partition)
            cr_assert_geq(end, p->visible_end, "%u: end %lu, visible was %lu", i, end,
                          p->visible_end);
        while (p->count > 0 && p->batches[p->count - 1].base_offset >= end)
            p->count--;
        if (p->count > 0 && partition) {
            struct sf_batch *last = &p->batches[p->count - 1];
            cr_assert_eq(last->base_offset + last->record_count, end);
        }
        p->visible_end = end;
        if (partition)
            cr_assert_eq(partition->visible_end, end);
    }
}

static inline int store_fixture_open(struct store_fixture *f)
{
    cr_assert_eq(arena_init(&f->arena, store_arena_bytes(&f->options) + MIB, false), 0);
    int status = store_open(&f->options, &f->result, f->text, &f->store);
    if (status < 0) {
        arena_deinit(&f->arena);
        f->store = NULL;
        return status;
    }
    sf_check_recovered(f);
    return 0;
}

static inline void sf_end_life(struct store_fixture *f)
{
    f->now_ns = io_sim_now_ns(f->io);
    if (f->store) {
        store_free(f->store);
        arena_deinit(&f->arena);
    }
    f->store = NULL;
    f->on_failed = 0; // a crash fails what was in flight
    io_free(f->io);
}

static inline void store_fixture_crash(struct store_fixture *f)
{
    io_sim_crash(f->io);
    sf_end_life(f);
    sf_io(f);
}

static inline void store_fixture_kill(struct store_fixture *f)
{
    io_sim_kill(f->io);
    sf_end_life(f);
    sf_io(f);
}

static inline int store_fixture_close(struct store_fixture *f)
{
    int status = store_close_clean(f->store, UINT64_MAX);
    sf_end_life(f);
    sf_io(f);
    return status;
}

static inline void store_fixture_deinit(struct store_fixture *f)
{
    sf_end_life(f);
    sim_disk_free(f->disk);
    for (uint32_t i = 0; i < f->partition_count; i++)
        free(f->partitions[i].batches);
    free(f->batch);
    free(f->buffer);
}

/* ---- turns ---- */

static inline void sf_turn(struct store_fixture *f)
{
    (void)store_turn(f->store, io_sim_now_ns(f->io), io_sim_now_wall_ms(f->io));
    (void)io_poll(f->io, 100 * NS_PER_US);
}

static inline void sf_flush(struct store_fixture *f)
{
    for (int i = 0; i < 200000 && f->on_failed == 0; i++) {
        if (store_committed_lsn(f->store) >= store_reserved_lsn(f->store))
            return;
        sf_turn(f);
    }
    cr_assert_gt(f->on_failed, 0, "not committed after 200,000 turns");
}

static inline void sf_idle(struct store_fixture *f, uint64_t ns)
{
    uint64_t until = io_sim_now_ns(f->io) + ns;
    while (io_sim_now_ns(f->io) < until && f->on_failed == 0)
        sf_turn(f);
}

static inline bool sf_wait_checkpoints(struct store_fixture *f, uint64_t count)
{
    for (int i = 0; i < 20000 && f->store->upkeep.checkpoint_count < count; i++)
        sf_turn(f);
    return f->store->upkeep.checkpoint_count >= count;
}

static inline void sf_checkpoint(struct store_fixture *f)
{
    uint64_t count = f->store->upkeep.checkpoint_count;
    if (checkpoint_is_running(f->store->checkpoints))
        count++;
    store_checkpoint(f->store);
    cr_assert(sf_wait_checkpoints(f, count + 1));
}

/* ---- appending ---- */

static inline int sf_append(struct store_fixture *f, const struct wal_entry *entry,
                            struct wal_view *view, uint64_t *base_offset)
{
    int status;
    for (int i = 0; i < 200000; i++) {
        status = store_append(f->store, entry, view, base_offset);
        if (status != E_FULL || f->on_failed)
            return status;
        sf_turn(f);
    }
    struct store_stats stats = store_stats(f->store);
    cr_assert_fail(
        "the log was full for 200,000 turns: %lu segments, %lu spares, %lu archive files, "
        "room %d, %lu bytes free, checkpoints %lu, first file needed %lu/%lu, oldest %lu, "
        "unweaving %d, not before %lu ns",
        stats.segments, stats.spares, stats.archives, store_room(f->store), stats.disk_free_bytes,
        stats.checkpoints, f->store->upkeep.kept[0].wal_first_file,
        f->store->upkeep.kept[1].wal_first_file, wal_segment_at(f->store->wal, 0)->number,
        archives_is_unweaving(f->store->archives), f->store->upkeep.unweave_retry_ns);
    return status;
}

static inline struct disk_partition_open sf_settings(uint64_t revision, uint64_t retention_ms,
                                                     uint64_t retention_bytes)
{
    return (struct disk_partition_open){.revision = le64_make(revision),
                                        .retention_ms = le64_make(retention_ms),
                                        .retention_bytes = le64_make(retention_bytes),
                                        .batch_bytes_max = le32_make(1 * MIB)};
}

static inline int sf_open_partition_as(struct store_fixture *f, uint32_t topic_id,
                                       uint32_t partition, struct disk_partition_open settings)
{
    struct wal_entry entry = {.type = ENTRY_PARTITION_OPEN,
                              .topic_id = topic_id,
                              .partition = partition,
                              .pieces = {{&settings, sizeof(settings)}},
                              .piece_count = 1};
    struct wal_view view;
    int status = sf_append(f, &entry, &view, NULL);
    if (status < 0)
        return status;
    struct sf_partition *p = sf_find(f, topic_id, partition);
    if (!p) {
        cr_assert_lt(f->partition_count, SF_PARTITIONS_MAX);
        p = &f->partitions[f->partition_count++];
        *p = (struct sf_partition){.topic_id = topic_id, .partition = partition};
    }
    p->is_open = true;
    p->open_lsn = store_reserved_lsn(f->store);
    return 0;
}

static inline int sf_open_partition(struct store_fixture *f, uint32_t topic_id, uint32_t partition)
{
    return sf_open_partition_as(f, topic_id, partition, sf_settings(1, UINT64_MAX, UINT64_MAX));
}

static inline int sf_drop_partition(struct store_fixture *f, uint32_t topic_id, uint32_t partition)
{
    struct disk_partition_open settings = sf_settings(2, 0, 0);
    struct wal_entry entry = {.type = ENTRY_PARTITION_DROP,
                              .topic_id = topic_id,
                              .partition = partition,
                              .pieces = {{&settings, sizeof(settings)}},
                              .piece_count = 1};
    struct wal_view view;
    int status = sf_append(f, &entry, &view, NULL);
    if (status == 0)
        sf_find(f, topic_id, partition)->is_open = false;
    return status;
}

/* A batch with `records` records of about `bytes` together. */
static inline uint32_t sf_make_batch(struct store_fixture *f, uint32_t records, uint32_t bytes,
                                     int64_t timestamp)
{
    struct batch_builder builder;
    batch_builder_init(&builder, f->batch, SF_READ_BYTES);
    uint32_t each = bytes / records + 1;
    uint8_t *value = malloc(each);
    for (uint32_t i = 0; i < records; i++) {
        uint64_t word = random_u64(&f->dice);
        memset(value, (int)word, each);
        memcpy(value, &word, min_u64(each, sizeof(word)));
        struct record record = {.timestamp_ms = timestamp, .value = {value, each}};
        cr_assert_eq(batch_builder_add(&builder, &record), 0);
    }
    free(value);
    uint8_t *out;
    return batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, 0, 0, NULL, 0, &out);
}

static inline int sf_produce_at(struct store_fixture *f, struct sf_partition *p, uint32_t records,
                                uint32_t bytes, int64_t timestamp)
{
    uint32_t size = sf_make_batch(f, records, bytes, timestamp);
    struct wal_entry entry = {.type = ENTRY_BATCH,
                              .topic_id = p->topic_id,
                              .partition = p->partition,
                              .pieces = {{f->batch, size}},
                              .piece_count = 1};
    struct wal_view view;
    uint64_t base_offset;
    int status = sf_append(f, &entry, &view, &base_offset);
    if (status < 0)
        return status;
    uint64_t expected = 0;
    if (p->count > 0)
        expected = p->batches[p->count - 1].base_offset + p->batches[p->count - 1].record_count;
    cr_assert_eq(base_offset, expected);
    batch_set_head(f->batch, base_offset, 0);
    cr_assert_eq(memcmp(view.payload, f->batch, size), 0);
    if (p->count == p->capacity) {
        p->capacity = p->capacity * 2 + 64;
        p->batches = realloc(p->batches, p->capacity * sizeof(*p->batches));
    }
    p->batches[p->count++] = (struct sf_batch){.base_offset = base_offset,
                                               .digest = hash_xxh3(f->batch, size),
                                               .size = size,
                                               .record_count = records,
                                               .lsn = view.lsn};
    return 0;
}

static inline int sf_produce(struct store_fixture *f, struct sf_partition *p, uint32_t records,
                             uint32_t bytes)
{
    return sf_produce_at(f, p, records, bytes, 1000 + (int64_t)p->count);
}

static inline struct sf_partition *sf_any(struct store_fixture *f)
{
    for (;;) {
        struct sf_partition *p = &f->partitions[random_below(&f->dice, f->partition_count)];
        if (p->is_open)
            return p;
    }
}

/* Batches of random sizes into random partitions until so many bytes are in the log. */
static inline void sf_load(struct store_fixture *f, uint64_t bytes)
{
    uint64_t end = store_reserved_lsn(f->store) + bytes;
    while (store_reserved_lsn(f->store) < end && f->on_failed == 0) {
        uint32_t size = 1u << (6 + random_below(&f->dice, 12));
        uint32_t records = 1 + (uint32_t)random_below(&f->dice, 8);
        if (sf_produce(f, sf_any(f), records, size) < 0)
            return;
        if (random_below(&f->dice, 4) == 0)
            sf_turn(f);
    }
}

/* ---- reading ---- */

static void sf_read_done(struct store_read *read)
{
    *(bool *)((char *)read + sizeof(*read)) = true;
}

struct sf_read {
    struct store_read read;
    bool done;
};
static_assert(offsetof(struct sf_read, done) == sizeof(struct store_read), "sf_read_done()");

/* Reads once, and waits. */
static inline struct store_read sf_read(struct store_fixture *f, struct partition *partition,
                                        uint64_t offset, uint32_t capacity, uint32_t *hint)
{
    struct sf_read r = {.read = {.partition = partition,
                                 .offset = offset,
                                 .buffer = f->buffer,
                                 .capacity = capacity,
                                 .done = sf_read_done,
                                 .hint = *hint}};
    list_init(&r.read.link);
    int started = store_read(f->store, &r.read);
    cr_assert_neq(started, E_FULL);
    for (int i = 0; started == 0 && !r.done && i < 100000; i++)
        sf_turn(f);
    cr_assert(started == 1 || r.done, "a read did not end");
    *hint = r.read.hint;
    return r.read;
}

/* Holds what a read brought against the model. */
static inline void sf_compare(struct store_fixture *f, struct sf_partition *p,
                              const struct store_read *read, uint32_t *at)
{
    uint32_t place = 0;
    for (uint32_t i = 0; i < read->batch_count; i++) {
        struct sf_batch *batch = &p->batches[(*at)++];
        cr_assert_leq(place + batch->size, read->bytes);
        cr_assert_eq(hash_xxh3(f->buffer + place, batch->size), batch->digest,
                     "batch at offset %lu of %u/%u", batch->base_offset, p->topic_id, p->partition);
        place += batch->size;
    }
    cr_assert_eq(place, read->bytes);
}

static inline uint32_t sf_batch_at(const struct sf_partition *p, uint64_t offset)
{
    uint32_t i = 0;
    while (i < p->count && p->batches[i].base_offset + p->batches[i].record_count <= offset)
        i++;
    return i;
}

/* Reads a partition from an offset to its visible end. Returns the first status that is not 0. */
static inline int sf_verify_from(struct store_fixture *f, struct sf_partition *p, uint64_t offset,
                                 uint32_t capacity)
{
    struct partition *partition = store_partition(f->store, p->topic_id, p->partition);
    uint32_t at = sf_batch_at(p, offset), hint = INDEX_NONE;
    while (offset < partition->visible_end) {
        struct store_read read = sf_read(f, partition, offset, capacity, &hint);
        if (read.status == E_TOO_LARGE && read.needed_bytes > capacity) {
            cr_assert_eq(read.needed_bytes, p->batches[at].size);
            capacity = read.needed_bytes;
            continue;
        }
        if (read.status == E_INVALID && offset < partition->log_start) { // expired meanwhile
            offset = partition->log_start;
            at = sf_batch_at(p, offset);
            continue;
        }
        if (read.status != 0)
            return read.status;
        cr_assert_gt(read.bytes, 0);
        sf_compare(f, p, &read, &at);
        cr_assert_gt(read.next_offset, offset);
        offset = read.next_offset;
    }
    return 0;
}

static inline void store_fixture_verify(struct store_fixture *f)
{
    for (uint32_t i = 0; i < f->partition_count; i++) {
        struct sf_partition *p = &f->partitions[i];
        if (!p->is_open)
            continue;
        struct partition *partition = store_partition(f->store, p->topic_id, p->partition);
        uint32_t capacity = 1u << (12 + random_below(&f->dice, 9));
        int status = sf_verify_from(f, p, partition->log_start, capacity);
        cr_assert_eq(status, 0, "reading %u/%u: %s", p->topic_id, p->partition,
                     status_name(status));
    }
}

#endif
