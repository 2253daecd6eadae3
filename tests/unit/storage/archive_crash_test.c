/* The archive when the power goes at any moment: every batch that is wanted lies in a file that a
 * checkpoint names, or in a segment that was not given back; by the newest checkpoint and, should
 * that be damaged, by the older one. */
#include <errno.h>

#include "storage/checkpoint.h"
#include "tests/unit/storage/archive_fixture.h"

/* A shard's storage in small: segments, archive, checkpoints; the rule of recycling is the
 * store's. */
struct shard {
    struct checkpoint_writer *writer;
    uint64_t newest;     // checkpoint
    uint32_t first_live; // segments below were given back
    bool checkpoint_due;
    uint64_t runs, unlinked, checkpoints; // over all lives: that the test tests what it says
};

static struct world world;
static struct shard shard;
static struct checkpoint_identity identity = {.shard_id = 3};

TestSuite(archive_crash, .timeout = 300);

/* As world_on_run, but a run that went well wants a checkpoint. */
static void on_run(void *context, int status, uint64_t end_lsn)
{
    world_on_run(context, status, end_lsn);
    shard.checkpoint_due |= status == 0;
}

static void on_checkpoint(void *context, int status, const struct checkpoint_head *head)
{
    (void)context;
    cr_assert_eq(status, 0);
    archives_checkpoint_done(world.archives);
    shard.newest = head->number;
    shard.checkpoints++;
}

/* Loads checkpoint `number` (0: none) and opens the archive with it. */
static void open_with(uint64_t number)
{
    char text[512];
    const char *why;
    cr_assert_eq(arena_init(&world.arena, archives_arena_bytes(&world.options), false), 0);
    world.options.arena = &world.arena;
    world.options.io = world.disk.io;
    world.options.on_run = on_run;
    world.cache = index_cache_new(WORLD_CACHE_BYTES);
    world.options.cache = world.cache;
    world.archives = archives_new(&world.options);
    struct table *table = archives_table(world.archives);
    if (number > 0)
        cr_assert_eq(checkpoint_load(world.disk.io, "/ckpt", number, &identity, &table, 1, &why),
                     0);
    cr_assert_eq(archives_open(world.archives, false, text), 0, "%s", text);
}

/* What is wanted of segments that were given back is in the archive. */
static void check_nothing_lost(void)
{
    uint64_t end_lsn = archives_end_lsn(world.archives);
    if (shard.first_live > 0)
        end_lsn = max_u64(end_lsn, world.segments[shard.first_live - 1].segment.end_lsn);
    world_check(&world, end_lsn, false);
}

static void life_begin(uint64_t seed, bool damage_newest)
{
    static struct checkpoint_set set;
    world.disk.io = io_sim_new(world.sim, &(struct io_sim_options){.seed = seed});
    cr_assert_eq(checkpoint_scan(world.disk.io, "/ckpt", &identity, &set), 0);
    cr_assert_eq(set.bad_count, 0);
    if (damage_newest && set.count > 1) {
        char path[64];
        snprintf(path, sizeof(path), "/ckpt/%016llx.ckpt", (unsigned long long)set.heads[0].number);
        sim_disk_flip(world.sim, path, 100, 1);
        cr_assert_eq(checkpoint_scan(world.disk.io, "/ckpt", &identity, &set), 0);
        cr_assert_eq(set.bad_count, 1);
    }
    shard.newest = set.count > 0 ? set.heads[0].number : 0;
    shard.checkpoint_due = false;
    open_with(shard.newest);
    check_nothing_lost();
    cr_assert_eq(checkpoint_tidy(world.disk.io, "/ckpt", &identity, &set), 0);
    shard.writer = checkpoint_writer_new(world.disk.io, "/ckpt", &identity);
    for (uint32_t i = shard.first_live; i < world.segment_count; i++) {
        world.segments[i].segment.pins = 0;
        world_open_segment(&world, &world.segments[i].segment);
    }
}

static void checkpoint_step(void)
{
    shard.checkpoint_due |= random_below(&world.random, 40) == 0;
    if (!checkpoint_is_running(shard.writer) && shard.checkpoint_due) {
        struct checkpoint_head head = {.number = shard.newest + 1};
        struct table *table = archives_table(world.archives);
        archives_checkpoint_begin(world.archives);
        shard.checkpoint_due = false;
        checkpoint_begin(shard.writer, &head, &table, 1, on_checkpoint, NULL);
    }
    checkpoint_turn(shard.writer, UINT64_MAX);
}

/* The rule: by the older checkpoint archived. A recycled file's old bytes are gone at once. */
static void recycle_step(void)
{
    while (shard.first_live < world.segment_count &&
           world.segments[shard.first_live].segment.end_lsn <= archives_safe_lsn(world.archives)) {
        struct segment *segment = &world.segments[shard.first_live].segment;
        cr_assert_eq(segment->pins, 0);
        io_close_wait(world.disk.io, segment->fd);
        sim_disk_remove(world.sim, segment->path);
        shard.first_live++;
    }
}

static void run_step(void)
{
    uint32_t first = shard.first_live;
    while (first < world.segment_count &&
           world.segments[first].segment.end_lsn <= archives_end_lsn(world.archives))
        first++;
    /* Two at a time, so that there are several files. */
    uint32_t all = world.segment_count;
    world.segment_count = (uint32_t)min_u64(all, first + 2);
    if (first < world.segment_count && !archives_is_unweaving(world.archives))
        cr_assert_gt(world_unweave(&world, first), 0);
    world.segment_count = all;
}

/* Log starts move for ever, a little at a time: files die, and are rewritten. */
static void expire_step(void)
{
    uint32_t p = (uint32_t)random_below(&world.random, world.partition_count);
    if (random_below(&world.random, 8) != 0 || world.log_start[p] >= world.next_offset[p])
        return;
    world.log_start[p]++;
    archives_log_start_moved(world.archives);
}

static void life_go_on(uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        run_step();
        world.now_ns += 5 * NS_PER_MS;
        world.pressure = i % 7 == 0 ? ARCHIVE_BUSY : i % 3 == 0 ? ARCHIVE_URGENT : ARCHIVE_CALM;
        archives_turn(world.archives, world.now_ns, world.pressure);
        checkpoint_step();
        expire_step();
        io_poll(world.disk.io, 50 * NS_PER_US);
        recycle_step();
    }
}

static void life_end(void (*how)(struct io *io))
{
    how(world.disk.io);
    shard.runs += archives_stats(world.archives).runs;
    shard.unlinked += archives_stats(world.archives).unlinked_files;
    checkpoint_writer_free(shard.writer);
    world_close(&world);
    io_free(world.disk.io);
    world.disk.io = NULL;
}

static void lives(uint64_t seed, void (*how)(struct io *io), bool damage)
{
    shard = (struct shard){0};
    memcpy(identity.store_id, disk_store_id, 16);
    world_init_sim(&world, 12, 8 * MIB, seed);
    random_init(&world.random, seed);
    sim_disk_create(world.sim, "/wal", true);
    sim_disk_create(world.sim, "/ckpt", true);
    sim_disk_settle(world.sim);
    for (uint32_t i = 0; i < 3; i++)
        world_add_segment(&world, 64 * KIB);
    uint32_t ended = 0;
    for (uint32_t steps = 0; steps < 400; steps++) {
        life_begin(seed * 1000 + steps, damage && steps % 2 == 1);
        life_go_on(steps);
        life_end(how);
        if (world.segment_count < WORLD_SEGMENTS_MAX && ++ended % 8 == 0)
            world_add_segment(&world, 64 * KIB);
    }
    cr_assert_gt(shard.first_live, 20, "segments were given back");
    cr_assert_gt(shard.runs, 20);
    cr_assert_gt(shard.unlinked, 10);
    cr_assert_gt(shard.checkpoints, 40);
    for (uint32_t i = 0; i < world.segment_count; i++)
        index_image_free(&world.segments[i].image);
    free(world.batches);
    sim_disk_free(world.sim);
}

Test(archive_crash, a_power_cut_at_any_step_loses_no_batch)
{
    for (uint64_t seed = 1; seed <= 2; seed++)
        lives(seed, io_sim_crash, false);
}

Test(archive_crash, nor_does_a_kill)
{
    lives(7, io_sim_kill, false);
}

Test(archive_crash, nor_does_a_power_cut_and_a_damaged_checkpoint)
{
    for (uint64_t seed = 3; seed <= 4; seed++)
        lives(seed, io_sim_crash, true);
}

/* ---- a full disk ---- */

Test(archive_crash, a_reserve_that_does_not_fit_is_no_failure)
{
    world_init_sim(&world, 12, 8 * MIB, 1);
    world.options.reserve_bytes = 40 * MIB;
    world.sim->capacity_blocks = 30 * MIB / DISK_BLOCK;
    world.disk.io = io_sim_new(world.sim, &(struct io_sim_options){.seed = 1});
    open_with(0);
    archives_make_reserve(world.archives);
    for (int i = 0; i < 300; i++)
        world_turn(&world);
    cr_assert_not(archives_stats(world.archives).has_reserve);
    cr_assert_null(sim_disk_find(world.sim, "/archive/reserve.tmp"));
    world_close(&world);
    io_free(world.disk.io);
    sim_disk_free(world.sim);
}
