/* Unweaves segments of a given shape on a real disk, checks the file, and prints what it cost.
 *
 *     unweave_stress [BATCH_BYTES [PARTITIONS [SEGMENTS [SEGMENT_MIB [DIR]]]]]
 *
 * Prints one line: bytes of batches, how often the sources were read, MB/s of the run at full speed,
 * and the CPU time of the longest step. Without arguments: several small shapes. Exits 0 when each file is right. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "proto/batch.h"
#include "storage/archive.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct shape {
    uint32_t batch_bytes;
    uint32_t partitions;
    uint32_t segments;
    uint32_t segment_mib;
};

struct stress {
    struct shape shape;
    struct io *io;
    struct arena arena;
    struct index_cache *cache;
    struct archives *archives;
    struct random random;
    char dir[256];
    struct segment segments[ARCHIVE_RUN_SEGMENTS_MAX];
    uint64_t *next_offset; // of each partition
    uint64_t lsn, batches;
    bool done;
    int status;
    uint64_t longest_ns;
};

static const uint8_t store_id[16] = "stress";

static void run_shape(const struct shape *shape, const char *parent);
static void segment_make(struct stress *stress, uint32_t i, struct unweave_source *source);
static uint32_t batch_make(struct stress *stress, uint8_t *out, uint64_t offset);
static void unweave(struct stress *stress, struct unweave_source *sources);
static uint64_t cpu_ns(void);
static void report(struct stress *stress, uint64_t took_ns);
static uint64_t first_wanted(void *context, uint32_t topic_id, uint32_t partition);
static void on_run(void *context, int status, uint64_t end_lsn);

int main(int argc, char **argv)
{
    static const struct shape small[] = {
        {256, 500, 2, 4}, {4096, 100, 2, 8}, {100000, 8, 3, 8}, {3000000, 3, 2, 16}};
    log_set_level(LOG_LEVEL_WARN);
    if (argc > 1) {
        struct shape shape = {.partitions = 8, .segments = 4, .segment_mib = 64};
        uint32_t *fields[] = {&shape.batch_bytes, &shape.partitions, &shape.segments,
                              &shape.segment_mib};
        for (int i = 1; i < argc && i <= 4; i++)
            *fields[i - 1] = (uint32_t)strtoul(argv[i], NULL, 10);
        CHECK(shape.batch_bytes >= 100 && shape.batch_bytes <= 4 * MIB);
        CHECK(shape.partitions > 0 && shape.segments > 0 && shape.segment_mib > 0);
        CHECK(shape.segments <= ARCHIVE_RUN_SEGMENTS_MAX);
        run_shape(&shape, argc > 5 ? argv[5] : "/tmp");
        return 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(small); i++)
        run_shape(&small[i], "/tmp");
    return 0;
}

static void run_shape(const struct shape *shape, const char *parent)
{
    static struct stress stress;
    struct unweave_source sources[ARCHIVE_RUN_SEGMENTS_MAX];
    char text[512];
    stress = (struct stress){.shape = *shape};
    random_init(&stress.random, 5);
    snprintf(stress.dir, sizeof(stress.dir), "%s/sluice-unweave-XXXXXX", parent);
    CHECK(mkdtemp(stress.dir) != NULL);
    CHECK(io_new(&(struct io_options){.ops_max = 256}, &stress.io) == 0);
    stress.next_offset = calloc(shape->partitions, sizeof(*stress.next_offset));
    stress.cache = index_cache_new(32 * MIB);
    struct archives_options options = {
        .io = stress.io,
        .arena = &stress.arena,
        .dir = stress.dir,
        .cache = stress.cache,
        .batch_bytes_max = (uint32_t)(4 * MIB),
        .context = &stress,
        .log_start = first_wanted,
        .on_run = on_run,
    };
    memcpy(options.store_id, store_id, sizeof(store_id));
    CHECK(arena_init(&stress.arena, archives_arena_bytes(&options), true) == 0);
    stress.archives = archives_new(&options);
    CHECK(stress.archives != NULL);
    CHECK(archives_open(stress.archives, false, text) == 0);
    for (uint32_t i = 0; i < shape->segments; i++)
        segment_make(&stress, i, &sources[i]);
    unweave(&stress, sources);
    archives_quiesce(stress.archives);
    archives_free(stress.archives);
    for (uint32_t i = 0; i < shape->segments; i++) {
        io_close_wait(stress.io, stress.segments[i].fd);
        unlink(stress.segments[i].path);
    }
    index_cache_free(stress.cache);
    arena_deinit(&stress.arena);
    io_free(stress.io);
    free(stress.next_offset);
    rmdir(stress.dir);
}

static void segment_make(struct stress *stress, uint32_t i, struct unweave_source *source)
{
    struct segment *segment = &stress->segments[i];
    uint64_t bytes = (uint64_t)stress->shape.segment_mib * MIB;
    uint8_t *file = aligned_alloc(DISK_BLOCK, bytes);
    struct index_builder *builder = index_builder_new();
    uint64_t at = DISK_SEGMENT_DATA;
    CHECK(file != NULL && builder != NULL);
    memset(file, 0, bytes);
    *segment = (struct segment){.number = i + 1, .base_lsn = stress->lsn, .state = SEGMENT_CLOSED};
    while (at + stress->shape.batch_bytes + 1000 <= bytes &&
           index_builder_count(builder) < 262144) {
        uint32_t p = (uint32_t)random_below(&stress->random, stress->shape.partitions);
        at += 16;
        struct index_entry entry = {
            .base_offset = stress->next_offset[p]++,
            .position = segment->base_lsn + (at - DISK_SEGMENT_DATA),
            .record_count = 1,
        };
        entry.size = batch_make(stress, file + at, entry.base_offset);
        CHECK(index_builder_add(builder, 1, p, &entry) == 0);
        at += align_up(entry.size, 8);
        stress->batches++;
    }
    stress->lsn += align_up(at, DISK_BLOCK) - DISK_SEGMENT_DATA;
    segment->end_lsn = stress->lsn;
    struct index_identity identity = {
        .number = i + 1, .base_lsn = segment->base_lsn, .end_lsn = segment->end_lsn};
    CHECK(index_builder_finish(builder, &identity, &source->image) == 0);
    index_builder_free(builder);
    source->segment = segment;
    snprintf(segment->path, sizeof(segment->path), "%s/%u.wal", stress->dir, i + 1);
    segment->fd = io_open_wait(stress->io, segment->path, O_RDWR | O_CREAT | O_DIRECT, 0600);
    CHECK(segment->fd >= 0);
    for (uint64_t done = 0; done < bytes; done += MIB)
        CHECK(io_write_wait(stress->io, segment->fd, file + done, (uint32_t)MIB, done) >= 0);
    CHECK(io_fdatasync_wait(stress->io, segment->fd) == 0);
    free(file);
}

static uint32_t batch_make(struct stress *stress, uint8_t *out, uint64_t offset)
{
    static uint8_t value[4 * MIB], bytes[4 * MIB + 1000];
    struct batch_builder builder;
    uint8_t *batch;
    uint32_t len = stress->shape.batch_bytes > 80 ? stress->shape.batch_bytes - 80 : 1;
    memset(value, (int)(stress->batches & 0xff), len);
    batch_builder_init(&builder, bytes, sizeof(bytes));
    struct record record = {.timestamp_ms = 1, .value = {.bytes = value, .len = len}};
    CHECK(batch_builder_add(&builder, &record) == 0);
    uint32_t size =
        batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, 0, 0, NULL, 0, &batch);
    batch_set_head(batch, offset, 0);
    memcpy(out, batch, size);
    return size;
}

static void unweave(struct stress *stress, struct unweave_source *sources)
{
    struct clock *clock = clock_system();
    uint64_t began = clock_mono_ns(clock), now = began;
    int taken = archives_unweave(stress->archives, sources, stress->shape.segments, NULL, 1);
    CHECK(taken > 0);
    for (uint32_t i = (uint32_t)taken; i < stress->shape.segments; i++)
        index_image_free(&sources[i].image);
    while (!stress->done) {
        uint64_t cpu_began = cpu_ns();
        int work = archives_turn(stress->archives, now, ARCHIVE_URGENT);
        stress->longest_ns = max_u64(stress->longest_ns, cpu_ns() - cpu_began);
        io_poll(stress->io, work ? 0 : NS_PER_MS);
        now = clock_mono_ns(clock);
    }
    CHECK(stress->status == 0);
    report(stress, now - began);
}

/* On a machine that does other things too, only this says how long a step is. */
static uint64_t cpu_ns(void)
{
    struct timespec time;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static void report(struct stress *stress, uint64_t took_ns)
{
    struct archives_stats stats = archives_stats(stress->archives);
    struct archive_report report;
    char path[512];
    snprintf(path, sizeof(path), "%s/%016x.arc", stress->dir, 1);
    CHECK(archive_verify(stress->io, path, store_id, 0, 1, &report) == 0);
    CHECK(stats.run_bytes == report.data_bytes);
    printf("batch %u B, %u partitions: %.1f MB in %u batches, sources read %.2f times, "
           "%.0f MB/s, longest step %.0f us\n",
           stress->shape.batch_bytes, stress->shape.partitions, (double)stats.run_bytes / 1e6,
           report.batch_count, (double)stats.read_bytes / (double)stats.run_bytes,
           (double)stats.run_bytes * 1e3 / (double)took_ns, (double)stress->longest_ns / 1e3);
    unlink(path);
}

static uint64_t first_wanted(void *context, uint32_t topic_id, uint32_t partition)
{
    (void)context;
    (void)topic_id;
    (void)partition;
    return 0;
}

static void on_run(void *context, int status, uint64_t end_lsn)
{
    struct stress *stress = context;
    (void)end_lsn;
    stress->done = true;
    stress->status = status;
}
