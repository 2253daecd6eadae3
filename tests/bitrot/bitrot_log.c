/* The log under test, made by the real store.
 *
 *     file 1     closed   plain and staged batches, an older checkpoint      not replayed
 *     file 2     closed   COMMITs of what file 1 holds; the checkpoint in the middle of it
 *     file 3     open     more of the same, to the durable LSN; behind it groups that were written, never synced
 *     file 4     spare
 *
 * Groups are as large as chance wants, from a block to some hundred KiB. */
#include "tests/bitrot/bitrot.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/status.h"
#include "storage/store_private.h"

#define PARTITIONS 4
#define TOPIC_BASE 7
#define BATCH_BYTES_MAX ((uint32_t)(256 * KIB))
#define TAIL_GROUPS 3

struct staged_batch {
    struct bitrot_batch batch;
    uint8_t *bytes;
};

struct maker {
    struct bitrot *rot;
    struct io *io;
    struct arena arena;
    struct store *store;
    struct recover_result result;
    uint64_t next_offset[PARTITIONS];
    struct disk_txn_name open_txn; // with `staged`
    struct staged_batch staged[64];
    uint32_t staged_count;
    uint32_t txns;
    uint32_t batch_capacity;
    uint8_t *bytes;
};

static void options_make(struct bitrot *rot);
static void life_begin(struct maker *maker);
static void log_fill(struct maker *maker);
static void tail_write(struct maker *maker);
static void life_end(struct maker *maker);
static void spares_remove(struct bitrot *rot);
static void produce_one(struct maker *maker, uint32_t bytes);
static void stage_one(struct maker *maker, uint32_t bytes);
static void txn_end(struct maker *maker, bool commits);
static void fill_to(struct maker *maker, uint64_t lsn);
static void checkpoint(struct maker *maker);
static void flush(struct maker *maker);
static void idle(struct maker *maker, uint64_t ns);

_Noreturn void bitrot_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED: ");
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    va_end(arguments);
    exit(1);
}

void bitrot_make(struct bitrot *rot, uint64_t seed)
{
    struct maker maker = {.rot = rot};
    memset(rot, 0, sizeof(*rot));
    rot->disk = sim_disk_new(seed, 1 * GIB);
    rot->wall_ms = 1700000000000;
    random_init(&rot->random, seed);
    random_init(&rot->dice, seed ^ 0xd1ce);
    options_make(rot);
    life_begin(&maker);
    log_fill(&maker);
    tail_write(&maker);
    life_end(&maker);
    spares_remove(rot);
    bitrot_groups_find(rot);
}

void bitrot_make_archived(struct bitrot *rot, uint64_t seed)
{
    struct maker maker = {.rot = rot};
    memset(rot, 0, sizeof(*rot));
    rot->disk = sim_disk_new(seed, 1 * GIB);
    rot->wall_ms = 1700000000000;
    random_init(&rot->random, seed);
    random_init(&rot->dice, seed ^ 0xa7c4);
    options_make(rot);
    life_begin(&maker);
    for (uint64_t lsn = 4 * MIB; lsn <= 32 * MIB; lsn += 4 * MIB)
        fill_to(&maker, lsn);
    flush(&maker);
    idle(&maker, NS_PER_S);
    if (store_stats(maker.store).archives == 0)
        bitrot_fail("nothing was archived");
    checkpoint(&maker);
    checkpoint(&maker);
    rot->durable_lsn = store_committed_lsn(maker.store);
    life_end(&maker);
}

void bitrot_free(struct bitrot *rot)
{
    sim_disk_free(rot->disk);
    free(rot->batches);
    free(rot->groups);
    free(rot->entries);
}

/* One spare is enough for recovery; each more would be read for each flip. */
static void spares_remove(struct bitrot *rot)
{
    char path[SEGMENT_PATH_MAX];
    for (uint64_t number = 5; number < 9; number++) {
        segment_path_make(path, rot->wal_dir, number);
        if (sim_disk_find(rot->disk, path))
            sim_disk_remove(rot->disk, path);
    }
}

/* ---- the store's life ---- */

static int apply_nothing(void *context, const struct wal_view *view, struct partition *partition)
{
    (void)context, (void)view, (void)partition;
    return 0;
}

static void on_partition(void *context, struct partition *partition)
{
    (void)context, (void)partition;
}

static void on_committed(void *context, uint64_t lsn)
{
    (void)context, (void)lsn;
}

static void on_room(void *context)
{
    (void)context;
}

/* Of a life that is killed everything that is in flight fails. */
static void on_failed(void *context, const struct wal_failure *failure)
{
    (void)context;
    if (failure->status != E_CANCELED)
        bitrot_fail("the log failed: %s %s", failure->what, failure->path);
}

static void options_make(struct bitrot *rot)
{
    struct io *io =
        io_sim_new(rot->disk, &(struct io_sim_options){.seed = 1, .wall_ms = rot->wall_ms});
    struct store_identity identity = {.shard_count = 1, .segment_bytes = BITROT_SEGMENT_BYTES};
    int lock_fd;
    char text[512];
    if (io_mkdir(io, BITROT_DIR) < 0 ||
        store_dir_open(io, BITROT_DIR, false, &identity, &lock_fd, text) < 0)
        bitrot_fail("no store: %s", text);
    sim_disk_settle(rot->disk);
    io_free(io);
    snprintf(rot->wal_dir, sizeof(rot->wal_dir), "%s/shard-000/wal", BITROT_DIR);
    rot->options = (struct store_options){
        .dir = BITROT_DIR,
        .segment_bytes = BITROT_SEGMENT_BYTES,
        .batch_bytes_max = BATCH_BYTES_MAX,
        .group_slot_count = 4,
        .wal_bytes_budget = 5 * BITROT_SEGMENT_BYTES,
        .index_cache_bytes = 4 * MIB,
        .read_slot_count = 2,
        .partition_count_max = 16,
        .disk_free_throttle_percent = 5,
        .disk_free_refuse_percent = 2,
        .apply = apply_nothing,
        .on_visible = on_partition,
        .on_committed = on_committed,
        .on_room = on_room,
        .on_failed = on_failed,
        .on_partition_drop = on_partition,
    };
    memcpy(rot->options.store_id, identity.store_id, sizeof(rot->options.store_id));
}

static void life_begin(struct maker *maker)
{
    struct bitrot *rot = maker->rot;
    char text[512];
    maker->io = io_sim_new(
        rot->disk,
        &(struct io_sim_options){.seed = 2, .start_ns = NS_PER_S, .wall_ms = rot->wall_ms});
    struct store_options options = rot->options;
    options.io = maker->io;
    options.clock = io_sim_clock(maker->io);
    options.random = &rot->random;
    options.arena = &maker->arena;
    maker->bytes = malloc(BATCH_BYTES_MAX);
    if (!maker->bytes || arena_init(&maker->arena, store_arena_bytes(&options) + MIB, false) < 0)
        bitrot_fail("no memory");
    if (store_open(&options, &maker->result, text, &maker->store) < 0)
        bitrot_fail("a new store does not open: %s", text);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        struct disk_partition_open settings = {.revision = le64_make(1),
                                               .retention_ms = le64_make(UINT64_MAX),
                                               .retention_bytes = le64_make(UINT64_MAX),
                                               .batch_bytes_max = le32_make(BATCH_BYTES_MAX)};
        struct wal_entry entry = {.type = ENTRY_PARTITION_OPEN,
                                  .topic_id = TOPIC_BASE + p / 2,
                                  .partition = p % 2,
                                  .pieces = {{&settings, sizeof(settings)}},
                                  .piece_count = 1};
        struct wal_view view;
        if (store_append(maker->store, &entry, &view, NULL) < 0)
            bitrot_fail("a partition does not open");
    }
    flush(maker);
    idle(maker, NS_PER_S);
}

static void life_end(struct maker *maker)
{
    io_sim_kill(maker->io);
    store_free(maker->store);
    arena_deinit(&maker->arena);
    io_free(maker->io);
    sim_disk_settle(maker->rot->disk);
    for (uint32_t i = 0; i < maker->staged_count; i++)
        free(maker->staged[i].bytes);
    free(maker->bytes);
}

/* ---- the content ---- */

static void roll(struct maker *maker)
{
    txn_end(maker, false);
    stage_one(maker, 3000); // what the next file's COMMIT reaches back for
    stage_one(maker, 500);
    flush(maker);
    wal_roll(maker->store->wal);
}

static void log_fill(struct maker *maker)
{
    const uint64_t end = BITROT_LOG_BYTES;
    fill_to(maker, end / 6);
    checkpoint(maker);
    fill_to(maker, end / 3);
    roll(maker);
    fill_to(maker, end / 2);
    checkpoint(maker);
    maker->rot->checkpoint_lsn = maker->store->upkeep.kept[0].position.lsn;
    fill_to(maker, end * 2 / 3);
    roll(maker);
    fill_to(maker, end);
    flush(maker);
    idle(maker, 50 * NS_PER_MS); // a MARK proves all of it
    if (store_reserved_lsn(maker->store) < end)
        bitrot_fail("the log is too short");
}

/* Groups that reach the disk although no fdatasync covered them: of one turn, before the sync round that would make them
 * durable has begun. */
static void tail_write(struct maker *maker)
{
    struct bitrot *rot = maker->rot;
    uint32_t acked = rot->batch_count;
    flush(maker);
    rot->durable_lsn = wal_marks(maker->store->wal).durable;
    for (uint32_t i = 0; i < TAIL_GROUPS; i++) {
        produce_one(maker, 600 + 5000 * i);
        wal_group_end(maker->store->wal);
    }
    (void)wal_turn(maker->store->wal, io_sim_now_ns(maker->io), io_sim_now_wall_ms(maker->io));
    while (wal_marks(maker->store->wal).written < store_reserved_lsn(maker->store))
        (void)io_poll(maker->io, 100 * NS_PER_US);
    rot->end_lsn = wal_marks(maker->store->wal).written;
    if (wal_marks(maker->store->wal).durable != rot->durable_lsn)
        bitrot_fail("the tail became durable");
    rot->batch_count = acked;
}

/* Batches of all sizes into all partitions, a third of them staged; a transaction ends when chance wants it. */
static void fill_to(struct maker *maker, uint64_t lsn)
{
    struct random *dice = &maker->rot->dice;
    while (store_reserved_lsn(maker->store) < lsn) {
        uint32_t bytes = 1u << (5 + random_below(dice, 10));
        bytes += (uint32_t)random_below(dice, bytes);
        if (random_below(dice, 3) == 0 && maker->staged_count < 8)
            stage_one(maker, bytes);
        else
            produce_one(maker, bytes);
        if (random_below(dice, 12) == 0)
            txn_end(maker, random_below(dice, 4) != 0);
        if (random_below(dice, 3) == 0)
            flush(maker);
    }
}

static uint32_t batch_make(struct maker *maker, uint32_t bytes)
{
    struct batch_builder builder;
    struct random *dice = &maker->rot->dice;
    uint32_t records = 1 + (uint32_t)random_below(dice, 5), each = bytes / records + 1;
    uint8_t *value = malloc(each), *out;
    batch_builder_init(&builder, maker->bytes, BATCH_BYTES_MAX);
    for (uint32_t i = 0; i < records; i++) {
        for (uint32_t at = 0; at < each; at++)
            value[at] = (uint8_t)random_u32(dice);
        struct record record = {.timestamp_ms = 1000, .value = {value, each}};
        if (batch_builder_add(&builder, &record) < 0)
            bitrot_fail("a record does not fit");
    }
    free(value);
    return batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, 0, 0, NULL, 0, &out);
}

static void append(struct maker *maker, const struct wal_entry *entry, struct wal_view *view,
                   uint64_t *base_offset)
{
    int status = E_FULL;
    for (int i = 0; i < 100000 && status == E_FULL; i++) {
        status = store_append(maker->store, entry, view, base_offset);
        if (status == E_FULL)
            idle(maker, NS_PER_MS);
    }
    if (status < 0)
        bitrot_fail("append: %s", status_name(status));
}

static void batch_note(struct bitrot *rot, const struct bitrot_batch *batch)
{
    if ((rot->batch_count & (rot->batch_count + 1)) == 0) { // a power of two less one, or none
        size_t capacity = 2 * ((size_t)rot->batch_count + 1);
        rot->batches = realloc(rot->batches, capacity * sizeof(*rot->batches));
    }
    rot->batches[rot->batch_count++] = *batch;
}

static void produce_one(struct maker *maker, uint32_t bytes)
{
    uint32_t p = (uint32_t)random_below(&maker->rot->dice, PARTITIONS);
    uint32_t size = batch_make(maker, bytes);
    struct wal_entry entry = {.type = ENTRY_BATCH,
                              .topic_id = TOPIC_BASE + p / 2,
                              .partition = p % 2,
                              .pieces = {{maker->bytes, size}},
                              .piece_count = 1};
    struct bitrot_batch batch = {.topic_id = entry.topic_id, .partition = p % 2, .size = size};
    struct batch_info info;
    struct wal_view view;
    (void)batch_peek(maker->bytes, size, &info);
    append(maker, &entry, &view, &batch.base_offset);
    batch_set_head(maker->bytes, batch.base_offset, 0);
    batch.digest = hash_xxh3(maker->bytes, size);
    batch.lsn = view.lsn + sizeof(struct disk_entry);
    batch.record_count = info.record_count;
    batch_note(maker->rot, &batch);
    maker->next_offset[p] = batch.base_offset + info.record_count;
}

static void stage_one(struct maker *maker, uint32_t bytes)
{
    uint32_t p = (uint32_t)random_below(&maker->rot->dice, PARTITIONS);
    uint32_t size = batch_make(maker, bytes);
    if (maker->staged_count == 0)
        maker->open_txn = (struct disk_txn_name){.open_lsn = le64_make(128 + 8 * ++maker->txns)};
    struct wal_entry entry = {
        .type = ENTRY_STAGED,
        .topic_id = TOPIC_BASE + p / 2,
        .partition = p % 2,
        .pieces = {{&maker->open_txn, sizeof(maker->open_txn)}, {maker->bytes, size}},
        .piece_count = 2};
    struct batch_info info;
    struct wal_view view;
    (void)batch_peek(maker->bytes, size, &info);
    append(maker, &entry, &view, NULL);
    struct staged_batch *staged = &maker->staged[maker->staged_count++];
    *staged = (struct staged_batch){
        .batch = {.topic_id = entry.topic_id,
                  .partition = p % 2,
                  .lsn = view.lsn + sizeof(struct disk_entry) + sizeof(struct disk_txn_name),
                  .size = size,
                  .record_count = info.record_count},
        .bytes = malloc(size)};
    memcpy(staged->bytes, maker->bytes, size);
}

static void txn_end(struct maker *maker, bool commits)
{
    struct wal_view view;
    if (maker->staged_count == 0)
        return;
    int status = E_FULL;
    for (int i = 0; i < 100000 && status == E_FULL; i++) {
        status = commits ? store_append_commit(maker->store, &maker->open_txn, 0, &view)
                         : store_append_abort(maker->store, &maker->open_txn, 0, &view);
        if (status == E_FULL)
            idle(maker, NS_PER_MS);
    }
    if (status < 0)
        bitrot_fail("end of a transaction: %s", status_name(status));
    for (uint32_t i = 0; i < maker->staged_count; i++) {
        struct bitrot_batch *batch = &maker->staged[i].batch;
        uint64_t *next = &maker->next_offset[(batch->topic_id - TOPIC_BASE) * 2 + batch->partition];
        if (commits) {
            batch->base_offset = *next;
            batch_set_head(maker->staged[i].bytes, *next, 0);
            batch->digest = hash_xxh3(maker->staged[i].bytes, batch->size);
            *next += batch->record_count;
            batch_note(maker->rot, batch);
        }
        free(maker->staged[i].bytes);
    }
    maker->staged_count = 0;
}

/* ---- turns ---- */

static void turn(struct maker *maker)
{
    (void)store_turn(maker->store, io_sim_now_ns(maker->io), io_sim_now_wall_ms(maker->io));
    (void)io_poll(maker->io, 100 * NS_PER_US);
}

static void flush(struct maker *maker)
{
    while (store_committed_lsn(maker->store) < store_reserved_lsn(maker->store))
        turn(maker);
}

static void idle(struct maker *maker, uint64_t ns)
{
    uint64_t until = io_sim_now_ns(maker->io) + ns;
    while (io_sim_now_ns(maker->io) < until)
        turn(maker);
}

static void checkpoint(struct maker *maker)
{
    uint64_t count = maker->store->upkeep.checkpoint_count + 1;
    while (checkpoint_is_running(maker->store->checkpoints))
        turn(maker);
    store_checkpoint(maker->store);
    for (int i = 0; i < 20000 && maker->store->upkeep.checkpoint_count < count; i++)
        turn(maker);
    if (maker->store->upkeep.checkpoint_count < count)
        bitrot_fail("no checkpoint came about");
}
