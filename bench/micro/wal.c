/* Appending to the log: what an entry costs before the disk has anything to do with it. The log is real, in a directory of its own; only
 * the time inside wal_append() counts, and a turn of writing and syncing comes between stretches of appends. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "bench/micro/micro.h"
#include "storage/recover.h"
#include "storage/segment.h"
#include "storage/wal.h"

#define STRETCH_BYTES (256 * KIB) // appended before the log has a turn
#define SEGMENT_BYTES (16 * MIB)

static struct {
    char dir[512];
    struct io *io;
    struct random random;
    struct arena arena;
    struct wal_options options;
    struct wal *wal;
    uint8_t *payload;
    uint32_t payload_bytes;
} log_under_test;

static void ignore(void *context, uint64_t lsn)
{
    (void)context;
    (void)lsn;
}

static void ignore_room(void *context)
{
    (void)context;
}

static void ignore_segment(void *context, struct segment *segment)
{
    (void)context;
    (void)segment;
}

static void fail(void *context, const struct wal_failure *failure)
{
    (void)context;
    fprintf(stderr, "sluice-micro: %s of %s failed\n", failure->what, failure->path);
    exit(1);
}

static int apply(void *context, const struct wal_view *view)
{
    (void)context;
    (void)view;
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static int complain(const char *what, int status)
{
    fprintf(stderr, "sluice-micro: %s in %s: status %d\n", what, micro_directory, status);
    return -1;
}

static int open_log(uint32_t payload_bytes)
{
    struct recover_options recover = {.apply = apply};
    struct recover_result result;
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(log_under_test.dir, sizeof(log_under_test.dir), "%s/sluice-micro-XXXXXX",
             micro_directory);
    if (mkdtemp(log_under_test.dir) == NULL)
        return complain(strerror(errno), -errno);
    int status = io_new(&(struct io_options){.ops_max = 1024}, &log_under_test.io);
    if (status)
        return complain("starting I/O", status);
    random_init(&log_under_test.random, 1);
    log_under_test.options = (struct wal_options){
        .io = log_under_test.io,
        .random = &log_under_test.random,
        .arena = &log_under_test.arena,
        .dir = log_under_test.dir,
        .store_id = "sluice-micro-log",
        .segment_bytes = SEGMENT_BYTES,
        .batch_bytes_max = 1 * MIB,
        .group_slot_count = 40,
        .bytes_budget = 16 * SEGMENT_BYTES,
        .on_committed = ignore,
        .on_room = ignore_room,
        .on_segment_closed = ignore_segment,
        .on_failed = fail,
    };
    status = wal_create(&log_under_test.options);
    if (status == 0)
        status = arena_init(&log_under_test.arena, wal_arena_bytes(&log_under_test.options), true);
    if (status == 0)
        status = wal_open(&log_under_test.options, &recover, &result, &log_under_test.wal);
    log_under_test.payload_bytes = payload_bytes;
    log_under_test.payload = calloc(1, payload_bytes);
    return status || log_under_test.payload == NULL ? complain("opening a log", status) : 0;
}

static void close_log(void)
{
    wal_close(log_under_test.wal);
    wal_free(log_under_test.wal);
    io_free(log_under_test.io);
    arena_deinit(&log_under_test.arena);
    free(log_under_test.payload);
    nftw(log_under_test.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What is durable and in a closed file is given back at once: nobody reads this log. */
static void turn(void)
{
    struct wal *wal = log_under_test.wal;
    struct clock *clock = clock_system();
    while (wal_segment_count(wal) > 2 && wal_segment_at(wal, 0)->end_lsn <= wal_marks(wal).durable)
        wal_recycle_oldest(wal);
    (void)wal_turn(wal, clock_mono_ns(clock), clock_wall_ms(clock));
    (void)io_poll(log_under_test.io, NS_PER_MS);
}

static uint64_t append_run(uint64_t count, uint64_t *counted_ns)
{
    struct wal_entry entry = {
        .type = ENTRY_BATCH,
        .topic_id = 1,
        .pieces = {{log_under_test.payload, log_under_test.payload_bytes}},
        .piece_count = 1,
    };
    uint64_t stretch = max_u64(1, STRETCH_BYTES / log_under_test.payload_bytes), done = 0;
    *counted_ns = 0;
    while (done < count) {
        struct wal_view view;
        uint64_t begin = clock_mono_ns(clock_system()), before = done;
        while (done - before < stretch && wal_append(log_under_test.wal, &entry, &view) == 0)
            done++;
        *counted_ns += clock_mono_ns(clock_system()) - begin;
        turn();
    }
    return done;
}

static int open_100(void)
{
    return open_log(100);
}

static int open_4k(void)
{
    return open_log(4 * KIB);
}

static int open_256k(void)
{
    return open_log(256 * KIB);
}

static const struct micro_case cases[] = {
    {"append_100", "entry", open_100, append_run, close_log},
    {"append_4k", "entry", open_4k, append_run, close_log},
    {"append_256k", "entry", open_256k, append_run, close_log},
};

const struct micro_group micro_wal = {"wal", cases, ARRAY_COUNT(cases)};
