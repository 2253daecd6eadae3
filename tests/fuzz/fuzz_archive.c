/* An archive file from anywhere: verify, open as a named one, read its index, and unweave a segment
 * whose index is this one.
 *
 * Input: first byte: 1 = give header, footer and index right checksums, so that what lies behind
 * them is reached; the rest is the file. Held against: what verifies also opens, and its index can
 * be read; a run over a segment that makes no sense ends, with an archive file that verifies or with
 * a refusal. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "storage/archive.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/io_sim.h"

#define FLAG_SEAL 1
#define SHARD_ID 3
#define JOB_BYTES (5 * MIB)
#define BATCH_BYTES_MAX ((uint32_t)(1 * MIB))

struct world {
    struct sim_disk *disk;
    struct io *io;
    struct arena arena;
    struct index_cache *cache;
    struct archives *archives;
    const uint8_t *file;
    size_t size;
    bool done;
    int status;
};

static const uint8_t store_id[16] = "the store itself";

static void seal(uint8_t *file, size_t size);
static void seal_block(uint8_t *block);
static void world_open(struct world *world, const char *dir);
static void world_close(struct world *world);
static int open_named(struct world *world);
static void read_index(struct world *world);
static void unweave(struct world *world);
static bool index_of(struct world *world, struct index_image *image);
static uint64_t first_wanted(void *context, uint32_t topic_id, uint32_t partition);
static void on_run(void *context, int status, uint64_t end_lsn);
static void image_done(struct archive_image_load *load);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct archive_report report;
    log_set_level(LOG_LEVEL_ERROR + 1);
    if (size < 2)
        return 0;
    uint8_t *file = malloc(size - 1);
    ASSERT(file != NULL);
    memcpy(file, data + 1, size - 1);
    if (data[0] & FLAG_SEAL)
        seal(file, size - 1);
    struct world world = {.disk = sim_disk_new(1, 64 * MIB), .file = file, .size = size - 1};
    sim_disk_create(world.disk, "/a", true);
    sim_disk_create(world.disk, "/run", true);
    sim_disk_put(world.disk, "/a/0000000000000001.arc", file, 0, size - 1);
    sim_disk_put(world.disk, "/segment", file, 0, size - 1);
    sim_disk_settle(world.disk);
    world.io = io_sim_new(world.disk, &(struct io_sim_options){.seed = 1});
    int verified =
        archive_verify(world.io, "/a/0000000000000001.arc", store_id, SHARD_ID, 1, &report);
    ASSERT(verified == 0 || report.why != NULL);
    world_open(&world, "/a");
    int opened = open_named(&world);
    ASSERT(verified != 0 || opened == 0);
    if (opened == 0)
        read_index(&world);
    world_close(&world);
    unweave(&world);
    io_free(world.io);
    sim_disk_free(world.disk);
    free(file);
    return 0;
}

static void world_open(struct world *world, const char *dir)
{
    world->cache = index_cache_new(1 * MIB);
    struct archives_options options = {
        .io = world->io,
        .arena = &world->arena,
        .dir = dir,
        .shard_id = SHARD_ID,
        .cache = world->cache,
        .file_count_max = 8,
        .job_bytes = JOB_BYTES,
        .batch_bytes_max = BATCH_BYTES_MAX,
        .context = world,
        .log_start = first_wanted,
        .on_run = on_run,
    };
    memcpy(options.store_id, store_id, sizeof(store_id));
    ASSERT(arena_init(&world->arena, archives_arena_bytes(&options), false) == 0);
    world->archives = archives_new(&options);
    ASSERT(world->archives != NULL);
}

static void world_close(struct world *world)
{
    archives_quiesce(world->archives);
    archives_free(world->archives);
    index_cache_free(world->cache);
    arena_deinit(&world->arena);
}

/* With the row that a checkpoint would have for it, if its footer is right. */
static int open_named(struct world *world)
{
    char text[512];
    uint32_t index;
    struct disk_archive_row *row = table_row_new(archives_table(world->archives), &index);
    uint64_t data_bytes = 0;
    if (world->size >= DISK_BLOCK) {
        const struct disk_archive_footer *footer =
            (const struct disk_archive_footer *)(world->file + world->size - DISK_BLOCK);
        data_bytes = min_u64(le64_get(footer->data_bytes), world->size);
    }
    *row = (struct disk_archive_row){
        .number = le64_make(1),
        .file_bytes = le64_make(world->size),
        .end_lsn = le64_make(DISK_BLOCK * 2),
        .data_bytes = le64_make(data_bytes),
    };
    int status = archives_open(world->archives, true, text);
    ASSERT(status == 0 || text[0] != 0);
    return status;
}

static void read_index(struct world *world)
{
    struct archive_image_load load = {
        .archive = archives_at(world->archives, 0), .done = image_done, .status = 1};
    if (archive_image_start(world->archives, &load) == 0) {
        load.status = 1;
        while (load.status == 1)
            io_poll(world->io, UINT64_MAX);
    }
    ASSERT(load.status == 0 || load.status == E_CORRUPT);
}

/* ---- a run over a segment whose index is the file's ---- */

static void unweave(struct world *world)
{
    struct segment segment = {.number = 1, .state = SEGMENT_CLOSED};
    struct unweave_source source = {.segment = &segment};
    struct archive_report report;
    char text[512];
    if (!index_of(world, &source.image))
        return;
    world_open(world, "/run");
    ASSERT(archives_open(world->archives, false, text) == 0);
    segment.end_lsn = world->size;
    segment.fd = io_open_wait(world->io, "/segment", O_RDWR, 0);
    ASSERT(archives_unweave(world->archives, &source, 1, NULL, 1) == 1);
    world->done = false;
    for (uint64_t now = 1; !world->done; now += NS_PER_MS) {
        if (archives_turn(world->archives, now, ARCHIVE_URGENT) == 0)
            io_poll(world->io, NS_PER_MS);
    }
    ASSERT(segment.pins == 0);
    if (world->status == 0 && archives_count(world->archives) == 1)
        ASSERT(archive_verify(world->io, "/run/0000000000000001.arc", store_id, SHARD_ID, 1,
                              &report) == 0);
    world_close(world);
    io_close_wait(world->io, segment.fd);
}

static bool index_of(struct world *world, struct index_image *image)
{
    if (world->size < 3 * DISK_BLOCK)
        return false;
    const struct disk_archive_footer *footer =
        (const struct disk_archive_footer *)(world->file + world->size - DISK_BLOCK);
    uint64_t offset = le64_get(footer->index_offset), len = le64_get(footer->index_bytes);
    if (offset > world->size || len > world->size - offset)
        return false;
    uint8_t *bytes = malloc(len + 1);
    ASSERT(bytes != NULL);
    memcpy(bytes, world->file + offset, len);
    if (index_image_parse(bytes, len, NULL, image) == 0)
        return true;
    free(bytes);
    return false;
}

static uint64_t first_wanted(void *context, uint32_t topic_id, uint32_t partition)
{
    (void)context;
    return topic_id % 5 == 4 ? UINT64_MAX : partition % 3;
}

static void on_run(void *context, int status, uint64_t end_lsn)
{
    struct world *world = context;
    (void)end_lsn;
    world->done = true;
    world->status = status;
}

static void image_done(struct archive_image_load *load)
{
    (void)load;
}

/* ---- checksums ---- */

static void seal(uint8_t *file, size_t size)
{
    if (size < 3 * DISK_BLOCK)
        return;
    struct disk_archive_footer *footer = (struct disk_archive_footer *)(file + size - DISK_BLOCK);
    uint64_t offset = le64_get(footer->index_offset), len = le64_get(footer->index_bytes);
    seal_block(file);
    seal_block(file + size - DISK_BLOCK);
    if (offset > size - DISK_BLOCK || len < DISK_BLOCK || len > size - DISK_BLOCK - offset)
        return;
    struct disk_index *index = (struct disk_index *)(file + offset);
    index->checksum_body = le64_make(hash_xxh3(file + offset + DISK_BLOCK, len - DISK_BLOCK));
    seal_block(file + offset);
}

static void seal_block(uint8_t *block)
{
    le64 checksum = le64_make(hash_xxh3(block, DISK_BLOCK - 8));
    memcpy(block + DISK_BLOCK - 8, &checksum, sizeof(checksum));
}
