/* The data directory: made, found again, refused. On the simulated disk. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "base/log.h"
#include "storage/disk_header.h"
#include "storage/store.h"
#include "tests/sim/io_sim.h"
#include "tests/unit/seeds.h"

struct place {
    struct sim_disk *disk;
    struct io *io;
    struct store_identity identity;
    int lock_fd;
    char text[512];
};

static void place_init(struct place *p, uint64_t seed)
{
    *p = (struct place){.disk = sim_disk_new(seed, 256 * MIB),
                        .identity = {.shard_count = 2, .segment_bytes = 4 * MIB}};
    log_set_level(LOG_LEVEL_ERROR);
    p->io = io_sim_new(p->disk, &(struct io_sim_options){.seed = seed});
}

static void place_next_life(struct place *p, uint64_t seed)
{
    io_free(p->io);
    p->io = io_sim_new(p->disk, &(struct io_sim_options){.seed = seed});
    p->identity = (struct store_identity){.shard_count = 2, .segment_bytes = 4 * MIB};
}

static int place_open(struct place *p)
{
    return store_dir_open(p->io, "data", false, &p->identity, &p->lock_fd, p->text);
}

/* A store that is ready has a log in each shard, and recovery finds nothing wrong with it. */
static void check_shards(struct place *p)
{
    for (uint32_t shard = 0; shard < p->identity.shard_count; shard++) {
        struct recover_options recover = {.read_only = true};
        struct recover_result result;
        struct recover_log log;
        char dir[64];
        snprintf(dir, sizeof(dir), "data/shard-%03u/wal", shard);
        struct wal_options options = {
            .io = p->io, .dir = dir, .shard_id = shard, .segment_bytes = p->identity.segment_bytes};
        memcpy(options.store_id, p->identity.store_id, sizeof(options.store_id));
        cr_assert_eq(recover_run(&options, &recover, &result, &log), 0, "%s %s", result.path,
                     result.text);
        recover_log_free(p->io, &log);
    }
}

static void place_deinit(struct place *p)
{
    io_free(p->io);
    sim_disk_free(p->disk);
}

static bool is_same(const struct store_identity *a, const struct store_identity *b)
{
    return memcmp(a->store_id, b->store_id, sizeof(a->store_id)) == 0 &&
           a->shard_count == b->shard_count && a->segment_bytes == b->segment_bytes;
}

Test(store_dir, makes_a_new_store_and_finds_it_again)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(place_open(&p), 0, "%s", p.text);
    cr_assert_geq(p.lock_fd, 0);
    struct store_identity made = p.identity;
    place_next_life(&p, 2);
    p.identity.shard_count = 7; // only a wish
    cr_assert_eq(place_open(&p), 0, "%s", p.text);
    cr_assert(is_same(&made, &p.identity));
    cr_assert_not_null(sim_disk_find(p.disk, "data/shard-001/wal/0000000000000002.wal"));
    cr_assert_null(sim_disk_find(p.disk, "data/shard-002"));
    place_deinit(&p);
}

Test(store_dir, two_stores_have_different_identities)
{
    struct place p, q;
    place_init(&p, 1);
    place_init(&q, 1);
    cr_assert_eq(place_open(&p), 0);
    cr_assert_eq(place_open(&q), 0);
    cr_assert_neq(memcmp(p.identity.store_id, q.identity.store_id, 16), 0);
    place_deinit(&p);
    place_deinit(&q);
}

Test(store_dir, refuses_a_directory_that_holds_something_else)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(io_mkdir(p.io, "data"), 0);
    sim_disk_settle(p.disk);
    sim_disk_put(p.disk, "data/thesis.txt", "precious", 0, 8);
    uint64_t before = sim_disk_hash(p.disk);
    cr_assert_eq(place_open(&p), E_FOREIGN);
    cr_assert_not_null(strstr(p.text, "thesis.txt"));
    cr_assert_eq(sim_disk_hash(p.disk), before);
    place_deinit(&p);
}

Test(store_dir, a_new_file_system_s_lost_and_found_is_no_stranger)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(io_mkdir(p.io, "data"), 0);
    cr_assert_eq(io_mkdir(p.io, "data/lost+found"), 0);
    cr_assert_eq(place_open(&p), 0, "%s", p.text);
    place_deinit(&p);
}

Test(store_dir, shards_without_identity_are_never_made_anew)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(place_open(&p), 0);
    place_next_life(&p, 2);
    sim_disk_settle(p.disk);
    sim_disk_remove(p.disk, "data/store");
    uint64_t before = sim_disk_hash(p.disk);
    cr_assert_eq(place_open(&p), E_CORRUPT);
    cr_assert_not_null(strstr(p.text, "data/store"));
    cr_assert_eq(sim_disk_hash(p.disk), before);
    place_deinit(&p);
}

Test(store_dir, refuses_a_directory_in_use_after_two_seconds)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(place_open(&p), 0);
    struct io *second = io_sim_new(p.disk, &(struct io_sim_options){.seed = 9});
    struct store_identity identity = p.identity;
    int lock_fd;
    cr_assert_eq(store_dir_open(second, "data", false, &identity, &lock_fd, p.text), E_LOCKED);
    cr_assert_eq(io_sim_now_ns(second) / NS_PER_S, 2);
    cr_assert_eq(lock_fd, -1);
    io_free(second);
    place_deinit(&p);
}

Test(store_dir, refuses_memory_file_systems_unless_told)
{
    struct place p;
    place_init(&p, 1);
    p.disk->is_memory = true;
    cr_assert_eq(place_open(&p), E_NO_DIRECT);
    cr_assert_not_null(strstr(p.text, "tmpfs"));
    cr_assert_eq(store_dir_open(p.io, "data", true, &p.identity, &p.lock_fd, p.text), 0, "%s",
                 p.text);
    place_deinit(&p);
}

Test(store_dir, refuses_a_file_system_without_direct_io)
{
    struct place p;
    place_init(&p, 1);
    p.disk->no_direct = true;
    cr_assert_eq(place_open(&p), E_NO_DIRECT);
    cr_assert_not_null(strstr(p.text, "O_DIRECT"));
    place_deinit(&p);
}

Test(store_dir, refuses_too_small_a_disk_before_it_writes)
{
    struct place p;
    place_init(&p, 1);
    p.disk->capacity_blocks = 20 * MIB / SIM_BLOCK;
    cr_assert_eq(place_open(&p), E_NO_SPACE);
    cr_assert_not_null(strstr(p.text, "25165824")); // 2 shards x 3 files x 4 MiB
    cr_assert_null(sim_disk_find(p.disk, "data/store"));
    place_deinit(&p);
}

Test(store_dir, impossible_wishes_are_refused_with_the_range)
{
    struct store_identity wishes[] = {{.shard_count = 0, .segment_bytes = 4 * MIB},
                                      {.shard_count = 65, .segment_bytes = 4 * MIB},
                                      {.shard_count = 1, .segment_bytes = 3 * MIB},
                                      {.shard_count = 1, .segment_bytes = 4 * MIB + 4096},
                                      {.shard_count = 1, .segment_bytes = 2 * GIB}};
    for (size_t i = 0; i < ARRAY_COUNT(wishes); i++) {
        struct place p;
        place_init(&p, 1);
        p.identity = wishes[i];
        cr_assert_eq(place_open(&p), E_INVALID);
        cr_assert_not_null(strstr(p.text, "1..64"));
        place_deinit(&p);
    }
}

Test(store_dir, every_flipped_byte_of_the_identity_is_noticed)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(place_open(&p), 0);
    place_next_life(&p, 2);
    sim_disk_settle(p.disk);
    for (uint64_t at = 0; at < DISK_BLOCK; at += at < 128 ? 1 : 61) {
        sim_disk_flip(p.disk, "data/store", at, 0x10);
        cr_assert_eq(place_open(&p), E_CORRUPT, "byte %llu", (unsigned long long)at);
        cr_assert_not_null(strstr(p.text, "data/store"));
        sim_disk_flip(p.disk, "data/store", at, 0x10);
    }
    cr_assert_eq(place_open(&p), 0, "%s", p.text);
    place_deinit(&p);
}

Test(store_dir, a_cut_off_identity_is_refused_at_every_length)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(place_open(&p), 0);
    place_next_life(&p, 2);
    sim_disk_settle(p.disk);
    for (uint64_t size = 0; size < DISK_BLOCK; size += 511) {
        sim_disk_resize(p.disk, "data/store", size);
        cr_assert_eq(place_open(&p), E_CORRUPT);
    }
    place_deinit(&p);
}

Test(store_dir, a_newer_identity_is_left_alone)
{
    struct place p;
    place_init(&p, 1);
    cr_assert_eq(place_open(&p), 0);
    place_next_life(&p, 2);
    sim_disk_settle(p.disk);
    struct disk_store disk;
    sim_file_read(sim_disk_find(p.disk, "data/store"), (uint8_t *)&disk, 0, sizeof(disk));
    disk.common.version = le16_make(DISK_FORMAT_VERSION + 1);
    disk_header_seal(&disk);
    sim_disk_put(p.disk, "data/store", &disk, 0, sizeof(disk));
    uint64_t before = sim_disk_hash(p.disk);
    cr_assert_eq(place_open(&p), E_NEWER);
    sim_disk_settle(p.disk);
    cr_assert_eq(sim_disk_hash(p.disk), before);
    place_deinit(&p);
}

/* Power cut after every number of operations of making a store: the next start makes it, or finds
 * it made. */
Test(store_dir, making_a_store_may_crash_anywhere)
{
    uint32_t made_at_once = 0;
    for (uint64_t seed = 1; seed <= seeds(150); seed++) {
        struct place p;
        place_init(&p, seed);
        io_sim_fail(p.io, IO_FDATASYNC, 1 + seed % 12, UINT64_MAX, 5);
        if (seed % 3 == 0)
            io_sim_fail(p.io, IO_RENAME, 1 + seed % 7, UINT64_MAX, 5);
        if (seed % 3 == 1)
            io_sim_fail(p.io, IO_SYNC_DIR, 2 + seed % 16, UINT64_MAX, 5);
        int status = place_open(&p);
        made_at_once += status == 0;
        io_sim_crash(p.io);
        place_next_life(&p, seed + 1000);
        cr_assert_eq(place_open(&p), 0, "seed %llu: %s", (unsigned long long)seed, p.text);
        check_shards(&p);
        struct store_identity made = p.identity;
        io_sim_crash(p.io);
        place_next_life(&p, seed + 2000);
        cr_assert_eq(place_open(&p), 0, "seed %llu: %s", (unsigned long long)seed, p.text);
        cr_assert(is_same(&made, &p.identity), "made twice");
        check_shards(&p);
        place_deinit(&p);
    }
    cr_assert_lt(made_at_once, seeds(150));
}
