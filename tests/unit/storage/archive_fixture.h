/* A shard's archive with a model beside it: batches are made, put into segment files at random, and
 * remembered. */
#ifndef SLUICE_TESTS_ARCHIVE_FIXTURE_H
#define SLUICE_TESTS_ARCHIVE_FIXTURE_H

#include "base/hash.h"
#include "base/random.h"
#include "base/status.h"
#include "proto/batch.h"
#include "storage/archive.h"
#include "tests/sim/io_sim.h"
#include "tests/unit/storage/disk_fixture.h"

#define WORLD_PARTITIONS_MAX 2000u
#define WORLD_SEGMENTS_MAX 40u
#define WORLD_CACHE_BYTES (8 * MIB)

struct world_batch {
    uint32_t topic_id, partition;
    uint64_t base_offset;
    uint32_t record_count;
    uint32_t size;
    uint64_t digest; // of its bytes
    uint64_t lsn;
};

struct world_segment {
    struct segment segment;
    struct index_image image; // the test's own
    uint64_t append_ms_last;
};

struct world {
    struct disk_fixture disk; // where `sim` is set only io and dir of it
    struct sim_disk *sim;
    struct arena arena;
    struct index_cache *cache;
    struct archives_options options;
    struct archives *archives;
    struct random random;
    uint64_t now_ns;
    enum archive_pressure pressure;

    uint32_t partition_count;
    uint64_t next_offset[WORLD_PARTITIONS_MAX];
    uint64_t log_start[WORLD_PARTITIONS_MAX]; // UINT64_MAX: dropped
    struct world_batch *batches;
    uint32_t batch_count, batch_capacity;
    struct world_segment segments[WORLD_SEGMENTS_MAX];
    uint32_t segment_count;
    uint64_t lsn;
    uint32_t size_min, size_max; // of batches to be made

    bool run_done;
    int run_status;
    uint64_t run_end_lsn;
};

static inline uint32_t world_topic(uint32_t p)
{
    return 1 + p / 7;
}

static inline uint32_t world_index(uint32_t topic_id, uint32_t partition)
{
    return (topic_id - 1) * 7 + partition;
}

static inline uint64_t world_log_start(void *context, uint32_t topic_id, uint32_t partition)
{
    struct world *world = context;
    uint32_t p = world_index(topic_id, partition);
    cr_assert_lt(p, world->partition_count);
    return world->log_start[p];
}

static inline void world_on_run(void *context, int status, uint64_t end_lsn)
{
    struct world *world = context;
    world->run_done = true;
    world->run_status = status;
    world->run_end_lsn = end_lsn;
}

/* Starts the archive from what is in the directory; `rows` is a table image, or NULL. */
DISK_UNUSED static int world_open(struct world *world, const uint8_t *rows, uint64_t rows_len,
                                  char text[512])
{
    const char *why;
    cr_assert_eq(arena_init(&world->arena, archives_arena_bytes(&world->options), false), 0);
    world->options.arena = &world->arena;
    world->cache = index_cache_new(WORLD_CACHE_BYTES);
    world->options.cache = world->cache;
    world->archives = archives_new(&world->options);
    cr_assert_not_null(world->archives);
    if (rows)
        cr_assert_gt(table_load(archives_table(world->archives), rows, rows_len, &why), 0);
    return archives_open(world->archives, false, text);
}

DISK_UNUSED static void world_close(struct world *world)
{
    archives_quiesce(world->archives);
    archives_free(world->archives);
    index_cache_free(world->cache);
    arena_deinit(&world->arena);
}

DISK_UNUSED static void world_prepare(struct world *world, uint32_t partition_count,
                                      size_t job_bytes)
{
    random_init(&world->random, 11);
    world->partition_count = partition_count;
    world->size_min = 200;
    world->size_max = 20000;
    world->now_ns = 1;
    world->options = (struct archives_options){
        .io = world->disk.io,
        .dir = world->disk.dir,
        .shard_id = 3,
        .file_count_max = 100,
        .job_bytes = job_bytes,
        .batch_bytes_max = (uint32_t)(job_bytes - 4 * MIB),
        .context = world,
        .log_start = world_log_start,
        .on_run = world_on_run,
    };
    memcpy(world->options.store_id, disk_store_id, 16);
}

DISK_UNUSED static void world_init(struct world *world, uint32_t partition_count, size_t job_bytes)
{
    char text[512];
    memset(world, 0, sizeof(*world));
    disk_setup(&world->disk);
    world_prepare(world, partition_count, job_bytes);
    cr_assert_eq(world_open(world, NULL, 0, text), 0, "%s", text);
}

/* On a simulated disk; nothing is opened. */
DISK_UNUSED static void world_init_sim(struct world *world, uint32_t partition_count,
                                       size_t job_bytes, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    log_set_level(LOG_LEVEL_ERROR + 1);
    world->sim = sim_disk_new(seed, 256 * MIB);
    strcpy(world->disk.dir, "/archive");
    sim_disk_create(world->sim, "/archive", true);
    sim_disk_settle(world->sim);
    world_prepare(world, partition_count, job_bytes);
}

DISK_UNUSED static void world_deinit(struct world *world)
{
    world_close(world);
    for (uint32_t i = 0; i < world->segment_count; i++) {
        index_image_free(&world->segments[i].image);
        cr_assert_eq(world->segments[i].segment.pins, 0);
        io_close_wait(world->disk.io, world->segments[i].segment.fd);
    }
    free(world->batches);
    disk_teardown(&world->disk);
}

/* ---- making data ---- */

DISK_UNUSED static uint32_t world_make_batch(struct world *world, uint8_t *out, uint32_t p,
                                             uint32_t size)
{
    struct batch_builder builder;
    uint32_t value_len = size > 80 ? size - 80 : 1;
    uint8_t *value = malloc(value_len);
    for (uint32_t i = 0; i < value_len; i++)
        value[i] = (uint8_t)(world->batch_count * 31 + i);
    uint32_t capacity = value_len + 200;
    uint8_t *bytes = malloc(capacity);
    batch_builder_init(&builder, bytes, capacity);
    struct record record = {.timestamp_ms = 1700000000000ll + world->batch_count,
                            .value = {.bytes = value, .len = value_len}};
    cr_assert_eq(batch_builder_add(&builder, &record), 0);
    uint8_t *batch;
    uint32_t len = batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, 0, 0, NULL, 0, &batch);
    batch_set_head(batch, world->next_offset[p], STORED_LEADER_EPOCH);
    memcpy(out, batch, len);
    free(value);
    free(bytes);
    return len;
}

DISK_UNUSED static void world_note(struct world *world, const struct world_batch *batch)
{
    if (world->batch_count == world->batch_capacity) {
        world->batch_capacity = world->batch_capacity ? 2 * world->batch_capacity : 1024;
        world->batches = realloc(world->batches, world->batch_capacity * sizeof(*world->batches));
    }
    world->batches[world->batch_count++] = *batch;
}

DISK_UNUSED static void world_open_segment(struct world *world, struct segment *segment)
{
    segment->fd = io_open_wait(world->disk.io, segment->path, O_RDWR | O_DIRECT, 0);
    cr_assert_geq(segment->fd, 0);
}

/* A segment of about `bytes` with batches of random partitions and sizes. */
DISK_UNUSED static struct world_segment *world_add_segment(struct world *world, uint64_t bytes)
{
    struct world_segment *made = &world->segments[world->segment_count];
    struct segment *segment = &made->segment;
    uint8_t *file = aligned_alloc(DISK_BLOCK, align_up(DISK_SEGMENT_DATA + bytes, DISK_BLOCK));
    struct index_builder *builder = index_builder_new();
    uint64_t at = DISK_SEGMENT_DATA;
    cr_assert_lt(world->segment_count, WORLD_SEGMENTS_MAX);
    memset(file, 0, align_up(DISK_SEGMENT_DATA + bytes, DISK_BLOCK));
    *segment = (struct segment){
        .number = world->segment_count + 1, .base_lsn = world->lsn, .state = SEGMENT_CLOSED};
    snprintf(segment->path, sizeof(segment->path), "%s/%016x.wal",
             world->sim ? "/wal" : world->disk.dir, (unsigned)segment->number);
    while (true) {
        uint32_t size =
            world->size_min +
            (uint32_t)random_below(&world->random, world->size_max - world->size_min + 1);
        uint32_t p = (uint32_t)random_below(&world->random, world->partition_count);
        at += 16 + random_below(&world->random, 8) * 8; // entry header, other entries
        if (at + size + 100 > DISK_SEGMENT_DATA + bytes)
            break;
        uint32_t len = world_make_batch(world, file + at, p, size);
        struct world_batch batch = {
            .topic_id = world_topic(p),
            .partition = p % 7,
            .base_offset = world->next_offset[p],
            .record_count = 1,
            .size = len,
            .digest = hash_xxh3(file + at, len),
            .lsn = segment->base_lsn + (at - DISK_SEGMENT_DATA),
        };
        struct index_entry entry = {
            .base_offset = batch.base_offset,
            .position = batch.lsn,
            .max_timestamp = 1700000000000ll + world->batch_count,
            .size = len,
            .record_count = 1,
        };
        cr_assert_eq(index_builder_add(builder, batch.topic_id, batch.partition, &entry), 0);
        world_note(world, &batch);
        world->next_offset[p]++;
        at += len;
    }
    world->lsn += align_up(at, DISK_BLOCK) - DISK_SEGMENT_DATA;
    segment->end_lsn = world->lsn;
    struct index_identity identity = {.shard_id = 3,
                                      .number = segment->number,
                                      .base_lsn = segment->base_lsn,
                                      .end_lsn = segment->end_lsn,
                                      .append_ms_last = 1700000000000ull + world->batch_count};
    memcpy(identity.store_id, disk_store_id, 16);
    cr_assert_eq(index_builder_finish(builder, &identity, &made->image), 0);
    index_builder_free(builder);
    char name[32];
    snprintf(name, sizeof(name), "%016x.wal", (unsigned)segment->number);
    if (world->sim)
        sim_disk_put(world->sim, segment->path, file, 0, align_up(at, DISK_BLOCK));
    else
        disk_write(&world->disk, name, file, align_up(at, DISK_BLOCK), 0);
    segment->fd = -1;
    if (world->disk.io)
        world_open_segment(world, segment);
    free(file);
    world->segment_count++;
    return made;
}

/* ---- running ---- */

DISK_UNUSED static void world_turn(struct world *world)
{
    world->now_ns += 50 * NS_PER_US;
    if (archives_turn(world->archives, world->now_ns, world->pressure) == 0)
        io_poll(world->disk.io, NS_PER_MS);
}

/* Begins a run over the segments from `first` on. Returns how many were taken. */
DISK_UNUSED static int world_unweave(struct world *world, uint32_t first)
{
    struct unweave_source sources[WORLD_SEGMENTS_MAX];
    uint32_t count = world->segment_count - first;
    for (uint32_t i = 0; i < count; i++) {
        sources[i].segment = &world->segments[first + i].segment;
        cr_assert_eq(index_image_copy(&world->segments[first + i].image, &sources[i].image), 0);
    }
    world->run_done = false;
    int taken = archives_unweave(world->archives, sources, count, NULL, 1700000001234ull);
    for (uint32_t i = taken > 0 ? (uint32_t)taken : 0; i < count; i++)
        index_image_free(&sources[i].image);
    return taken;
}

DISK_UNUSED static int world_run_to_end(struct world *world)
{
    for (int turn = 0; turn < 2000000 && !world->run_done; turn++)
        world_turn(world);
    return world->run_done ? world->run_status : E_TIMEOUT;
}

DISK_UNUSED static void world_turns(struct world *world, int count)
{
    for (int i = 0; i < count; i++)
        world_turn(world);
}

/* Until neither a run nor the survey has anything to do. */
DISK_UNUSED static void world_settle(struct world *world)
{
    for (int i = 0; i < 400; i++) {
        world->now_ns += 30 * NS_PER_MS;
        do
            world_turn(world);
        while (archives_is_unweaving(world->archives));
    }
}

DISK_UNUSED static void world_checkpoint(struct world *world)
{
    archives_checkpoint_begin(world->archives);
    archives_checkpoint_done(world->archives);
}

/* What a checkpoint would hold of the archive; free() it. */
DISK_UNUSED static uint8_t *world_rows(struct world *world, uint64_t *len)
{
    struct table *table = archives_table(world->archives);
    table_snapshot_begin(table);
    uint64_t bytes = table_snapshot_bytes(table);
    uint8_t *rows = malloc(bytes + 16);
    *len = 0;
    for (uint32_t got; (got = table_snapshot_read(table, rows + *len, 4096 + 16)) > 0;)
        *len += got;
    table_snapshot_end(table);
    cr_assert_eq(*len, bytes);
    return rows;
}

/* ---- looking ---- */

static inline void world_load_done(struct archive_image_load *load)
{
    (void)load;
}

static inline void world_read_done(struct archive_read *read)
{
    read->archive = NULL;
}

DISK_UNUSED static const struct index_image *world_image(struct world *world,
                                                         struct archive *archive, int *status)
{
    struct archive_image_load load = {.archive = archive, .done = world_load_done, .status = 1};
    if (archive_image_start(world->archives, &load) == 0) {
        load.status = 1;
        while (load.status == 1)
            io_poll(world->disk.io, NS_PER_MS);
    }
    *status = load.status;
    return load.image;
}

DISK_UNUSED static int world_read(struct world *world, struct archive *archive, uint64_t offset,
                                  uint8_t *buffer, uint32_t len)
{
    struct archive_read read = {.archive = archive,
                                .offset = offset,
                                .buffer = buffer,
                                .len = len,
                                .done = world_read_done};
    archive_read_start(world->archives, &read);
    while (read.archive)
        io_poll(world->disk.io, NS_PER_MS);
    return read.status;
}

static inline bool world_is_wanted(const struct world *world, const struct world_batch *batch)
{
    uint32_t p = world_index(batch->topic_id, batch->partition);
    return batch->base_offset + batch->record_count > world->log_start[p] &&
           world->log_start[p] != UINT64_MAX;
}

/* Each batch below end_lsn that is still wanted lies in exactly one file in use, byte for byte;
 * when `exact`, nothing else lies there. */
DISK_UNUSED static void world_check(struct world *world, uint64_t end_lsn, bool exact)
{
    uint64_t found = 0, held = 0;
    uint8_t *buffer = malloc(world->options.batch_bytes_max + 1000);
    for (uint32_t f = 0; f < archives_count(world->archives); f++) {
        struct archive *archive = archives_at(world->archives, f);
        int status;
        const struct index_image *image = world_image(world, archive, &status);
        cr_assert_eq(status, 0);
        cr_assert(f == 0 || archive_base_lsn(archive) >=
                                archive_end_lsn(archives_at(world->archives, f - 1)));
        held += image->entry_count;
        struct index_image copy;
        cr_assert_eq(index_image_copy(image, &copy), 0);
        for (uint32_t i = 0; i < world->batch_count; i++) {
            const struct world_batch *batch = &world->batches[i];
            if (!world_is_wanted(world, batch) || batch->lsn >= end_lsn ||
                batch->lsn < archive_base_lsn(archive) || batch->lsn >= archive_end_lsn(archive))
                continue;
            const struct disk_index_partition *p =
                index_image_partition(&copy, batch->topic_id, batch->partition);
            cr_assert_not_null(p);
            uint32_t at = index_image_find(&copy, p, batch->base_offset);
            cr_assert_neq(at, INDEX_NONE);
            struct index_entry entry = index_image_at(&copy, at);
            cr_assert_eq(entry.base_offset, batch->base_offset);
            cr_assert_eq(entry.size, batch->size);
            cr_assert_eq(world_read(world, archive, entry.position, buffer, entry.size), 0);
            cr_assert_eq(hash_xxh3(buffer, entry.size), batch->digest);
            found++;
        }
        index_image_free(&copy);
    }
    uint64_t wanted = 0;
    for (uint32_t i = 0; i < world->batch_count; i++)
        wanted += world_is_wanted(world, &world->batches[i]) && world->batches[i].lsn < end_lsn;
    cr_assert_eq(found, wanted, "%d of %d batches are in the archive", (int)found, (int)wanted);
    cr_assert(!exact || held == wanted, "%d held, %d wanted", (int)held, (int)wanted);
    free(buffer);
}

DISK_UNUSED static struct archive_report world_verify(struct world *world, uint64_t number,
                                                      int *status)
{
    struct archive_report report;
    char path[512];
    snprintf(path, sizeof(path), "%s/%016llx.arc", world->disk.dir, (unsigned long long)number);
    *status = archive_verify(world->disk.io, path, disk_store_id, 3, number, &report);
    return report;
}

#endif
