/* Checkpoints when the power goes at any moment: what was reported as done is there, and what is
 * there is whole. */
#include <errno.h>

#include <criterion/criterion.h>

#include "base/log.h"
#include "base/random.h"
#include "base/status.h"
#include "storage/checkpoint.h"
#include "tests/sim/io_sim.h"
#include "tests/unit/seeds.h"

#define DIR "/c"
#define ROW_BYTES 64u
#define NUMBERS_MAX 400u

/* One life after the other on one disk; the model remembers what each checkpoint holds. */
struct lives {
    struct sim_disk *disk;
    struct io *io;
    struct checkpoint_identity identity;
    struct checkpoint_writer *writer;
    struct table *table;
    struct random random;
    uint64_t digests[NUMBERS_MAX]; // by number, of the last attempt
    uint64_t begun;                // number
    uint64_t done;                 // highest number reported as done
    uint64_t newest;               // as this life knows it
    uint64_t durable;              // of the log
    int failed;
};

static struct lives lives;

static void quiet(void)
{
    log_set_level(LOG_LEVEL_ERROR + 1);
}

TestSuite(checkpoint_crash, .init = quiet, .timeout = 300);

static void on_done(void *context, int status, const struct checkpoint_head *head)
{
    (void)context;
    lives.failed = status;
    if (status == 0)
        lives.newest = lives.done = head->number;
}

/* Rows come, change and go. */
static void change_state(void)
{
    uint32_t index;
    for (int i = 0; i < 40; i++) {
        uint64_t *row = table_row_new(lives.table, &index);
        for (uint32_t word = 0; word < ROW_BYTES / 8; word++)
            row[word] = random_u64(&lives.random) | 1;
    }
    for (int i = 0; i < 10; i++) {
        index = (uint32_t)random_below(&lives.random, table_row_count(lives.table));
        if (table_row_is_used(lives.table, index))
            ((uint64_t *)table_row_mut(lives.table, index))[3] ^= 99;
    }
}

static struct table *table_make(void)
{
    struct table *table = table_new(&(struct table_options){
        .id = TABLE_PRODUCERS, .row_bytes = ROW_BYTES, .row_count_max = 200000});
    cr_assert_not_null(table);
    return table;
}

static void begin(void)
{
    change_state();
    lives.begun = lives.newest + 1;
    cr_assert_lt(lives.begun, NUMBERS_MAX);
    lives.digests[lives.begun] = table_digest(lives.table);
    struct checkpoint_head head = {.number = lives.begun,
                                   .position = {.lsn = 100 * lives.begun, .file_number = 1}};
    checkpoint_begin(lives.writer, &head, &lives.table, 1, on_done, NULL);
}

/* What a start does: look, load, tidy, go on. */
static void life_begin(uint64_t seed, bool is_first)
{
    static struct checkpoint_set set;
    const char *why;
    lives.io = io_sim_new(lives.disk, &(struct io_sim_options){.seed = seed});
    cr_assert_eq(checkpoint_scan(lives.io, DIR, &lives.identity, &set), 0);
    cr_assert_eq(set.bad_count, 0, "%s: %s, seed %d", set.bad_path, set.bad_why, (int)seed);
    cr_assert_geq(set.count, min_u64(lives.done, 2), "two are kept");
    lives.newest = set.count > 0 ? set.heads[0].number : 0;
    cr_assert_geq(lives.newest, lives.done, "what was reported as done is there");
    cr_assert(is_first || lives.newest <= lives.begun);
    for (uint32_t i = 0; i < min_u64(set.count, 2); i++) {
        if (lives.table)
            table_free(lives.table);
        lives.table = table_make();
        uint64_t number = set.heads[1 - i < set.count ? 1 - i : 0].number;
        cr_assert_eq(checkpoint_load(lives.io, DIR, number, &lives.identity, &lives.table, 1, &why),
                     0);
        cr_assert_eq(table_digest(lives.table), lives.digests[number]);
    }
    if (!lives.table)
        lives.table = table_make();
    lives.done = lives.newest;
    cr_assert_eq(checkpoint_tidy(lives.io, DIR, &lives.identity, &set), 0);
    lives.writer = checkpoint_writer_new(lives.io, DIR, &lives.identity);
    cr_assert_not_null(lives.writer);
}

/* Some steps, in which checkpoints are made one behind the other. */
static void life_go_on(uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        if (!checkpoint_is_running(lives.writer))
            begin();
        if (checkpoint_turn(lives.writer, UINT64_MAX) == 0)
            io_poll(lives.io, UINT64_MAX);
    }
}

static void life_end(void (*how)(struct io *io))
{
    how(lives.io);
    checkpoint_writer_free(lives.writer);
    io_free(lives.io);
}

static void lives_init(uint64_t seed)
{
    lives = (struct lives){.disk = sim_disk_new(seed, 256 * MIB), .identity = {.shard_id = 1}};
    random_init(&lives.random, seed);
    sim_disk_create(lives.disk, DIR, true);
    sim_disk_settle(lives.disk);
}

static void lives_deinit(void)
{
    table_free(lives.table);
    sim_disk_free(lives.disk);
}

/* Every step of the first checkpoints, then ever new lives on the same disk. */
static void crash_at_every_step(uint64_t seed, void (*how)(struct io *io))
{
    lives_init(seed);
    for (uint32_t steps = 0; steps < 90; steps++) {
        life_begin(seed * 1000 + steps, steps == 0);
        life_go_on(steps);
        life_end(how);
    }
    lives_deinit();
}

Test(checkpoint_crash, a_power_cut_at_any_step_leaves_the_newest_that_was_done)
{
    for (uint64_t seed = 1; seed <= seeds(12); seed++)
        crash_at_every_step(seed, io_sim_crash);
}

Test(checkpoint_crash, a_kill_at_any_step_leaves_the_newest_that_was_done)
{
    for (uint64_t seed = 1; seed <= seeds(4); seed++)
        crash_at_every_step(seed, io_sim_kill);
}

/* After a sync that failed the next one answers 0 although the bytes are gone: another attempt must
 * write them again, all of them. */
static void fail_then_crash(enum io_kind kind, int os_error, uint64_t seed, uint64_t hit)
{
    lives_init(seed);
    life_begin(seed, true);
    while (lives.done < 3) // so that a spare is used again
        life_go_on(1);
    while (checkpoint_is_running(lives.writer))
        life_go_on(1);
    io_sim_fail(lives.io, kind, hit, hit, os_error);
    begin();
    while (checkpoint_is_running(lives.writer))
        if (checkpoint_turn(lives.writer, UINT64_MAX) == 0)
            io_poll(lives.io, UINT64_MAX);
    cr_assert_leq(lives.failed, 0);
    uint64_t before = lives.done;
    while (lives.done == before)
        life_go_on(1);
    life_end(io_sim_crash);
    life_begin(seed + 1, false);
    life_end(io_sim_crash);
    lives_deinit();
}

Test(checkpoint_crash, after_a_failure_the_next_attempt_is_as_safe_as_any)
{
    for (uint64_t seed = 1; seed <= seeds(8); seed++) {
        for (uint64_t hit = 1; hit <= 4; hit++) {
            fail_then_crash(IO_FDATASYNC, EIO, seed, hit);
            fail_then_crash(IO_WRITE, EIO, seed, hit);
            fail_then_crash(IO_WRITE, ENOSPC, seed, hit);
            fail_then_crash(IO_RENAME, EIO, seed, hit);
            fail_then_crash(IO_SYNC_DIR, EIO, seed, hit);
        }
    }
}

/* The disk is full to the last block: the spares carry checkpoints on for ever. */
Test(checkpoint_crash, a_full_disk_does_not_end_them)
{
    lives_init(5);
    life_begin(5, true);
    while (lives.done < 2)
        life_go_on(1);
    while (checkpoint_is_running(lives.writer))
        life_go_on(1);
    lives.disk->capacity_blocks = lives.disk->allocated_blocks;
    uint64_t before = lives.done;
    while (lives.done < before + 20) {
        life_go_on(1);
        cr_assert_eq(lives.failed, 0);
    }
    life_end(io_sim_crash);
    life_begin(6, false);
    life_end(io_sim_crash);
    lives_deinit();
}

/* Nor do crashes on a full disk: what a crash left in the middle of its way becomes a spare again. */
Test(checkpoint_crash, a_full_disk_and_crashes_do_not_end_them)
{
    lives_init(9);
    life_begin(9, true);
    while (lives.done < 2)
        life_go_on(1);
    while (checkpoint_is_running(lives.writer))
        life_go_on(1);
    life_end(io_sim_crash);
    lives.disk->capacity_blocks = lives.disk->allocated_blocks;
    for (uint32_t steps = 1; steps < 60; steps++) {
        life_begin(100 + steps, false);
        uint64_t before = lives.done;
        while (lives.done == before) {
            life_go_on(1);
            cr_assert_eq(lives.failed, 0, "after %u steps", steps);
        }
        life_go_on(steps);
        life_end(steps % 3 ? io_sim_crash : io_sim_kill);
    }
    lives_deinit();
}
