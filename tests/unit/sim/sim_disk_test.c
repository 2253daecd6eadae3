/* tests/sim/sim_disk.h and io_sim.h: what a disk that lies answers, and that it says so to the test. */
#include "tests/sim/io_sim.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>

#define BLOCKS 4u

static struct sim_disk *disk;
static struct sim_file *file;
static uint8_t bytes[BLOCKS * SIM_BLOCK];

static void make_disk(bool keeps_previous)
{
    disk = sim_disk_new(1, MIB);
    disk->keeps_previous = keeps_previous;
    file = sim_disk_create(disk, "/f", false);
}

static void init(void)
{
    make_disk(true);
}

static void deinit(void)
{
    sim_disk_free(disk);
}
TestSuite(sim_disk, .init = init, .fini = deinit);

static void put(uint32_t block, uint8_t value)
{
    memset(bytes, value, SIM_BLOCK);
    cr_assert(sim_disk_allocate(disk, file, block * SIM_BLOCK, SIM_BLOCK));
    sim_file_write(disk, file, bytes, block * SIM_BLOCK, SIM_BLOCK);
}

static void put_durable(uint32_t block, uint8_t value)
{
    put(block, value);
    sim_file_sync(disk, file, UINT64_MAX);
}

/* One byte of each block, and all of the block is it. */
static void expect(const uint8_t values[BLOCKS])
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        for (uint32_t k = 0; k < SIM_BLOCK; k++)
            cr_assert(eq(u8, bytes[i * SIM_BLOCK + k], values[i]), "block %u, byte %u", i, k);
}

static void read_stale(uint32_t only)
{
    cr_assert(
        eq(u64, sim_file_read_stale(disk, file, bytes, 0, sizeof(bytes), only), sizeof(bytes)));
}

Test(sim_disk, a_stale_read_gives_what_was_durable_before)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        put_durable(i, 1);
    put_durable(1, 2);
    put_durable(2, 2);
    put_durable(2, 3);
    cr_assert(eq(u32, sim_file_stale_blocks(file, 0, sizeof(bytes)), 4));
    read_stale(UINT32_MAX);
    expect((uint8_t[]){0, 1, 2, 0}); // before its first write a block was zeros
}

Test(sim_disk, one_block_of_a_read_may_be_stale)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        put_durable(i, 1);
    read_stale(2);
    expect((uint8_t[]){1, 1, 0, 1});
    cr_assert(eq(u32, disk->lied_count, 1));
    cr_assert(sim_disk_has_lied(disk, file, 2));
    cr_assert(not(sim_disk_has_lied(disk, file, 1)));
}

Test(sim_disk, the_version_before_an_unsynced_one_is_the_durable_one)
{
    put_durable(3, 1);
    put_durable(3, 2);
    put(3, 3);
    read_stale(UINT32_MAX);
    expect((uint8_t[]){0, 0, 0, 2});
}

Test(sim_disk, what_is_written_again_as_it_was_does_not_hide_what_was_before)
{
    put_durable(3, 1);
    put_durable(3, 2);
    put_durable(3, 2);
    read_stale(UINT32_MAX);
    expect((uint8_t[]){0, 0, 0, 1});
}

Test(sim_disk, what_a_crash_made_durable_has_a_past)
{
    put_durable(3, 1);
    sim_disk_settle(disk);
    put(3, 2);
    disk->crash_keep_percent = 100;
    sim_disk_crash(disk);
    cr_assert(eq(u64, sim_file_read(file, bytes, 0, sizeof(bytes)), sizeof(bytes)));
    bool was_kept = bytes[3 * SIM_BLOCK] == 2;
    if (was_kept) { // or torn, by this seed
        read_stale(UINT32_MAX);
        expect((uint8_t[]){0, 0, 0, 1});
    }
    cr_assert(was_kept, "the seed of this test does not keep the write");
}

Test(sim_disk, without_being_asked_a_disk_keeps_no_past)
{
    sim_disk_free(disk);
    make_disk(false);
    put_durable(3, 1);
    put_durable(3, 2);
    cr_assert(eq(u32, sim_file_stale_blocks(file, 0, sizeof(bytes)), 0));
    read_stale(UINT32_MAX);
    expect((uint8_t[]){0, 0, 0, 2});
    cr_assert(eq(u32, disk->lied_count, 0));
}

/* ---- through the backend ---- */

static struct io *io;
static int fd;

static void open_file(void)
{
    io = io_sim_new(disk, &(struct io_sim_options){.seed = 1, .start_ns = NS_PER_S});
    fd = io_open_wait(io, "/f", O_RDWR, 0);
    cr_assert(ge(int, fd, 0));
}

static void close_file(void)
{
    (void)io_close_wait(io, fd);
    io_free(io);
}

Test(sim_disk, the_backend_counts_stale_reads_and_those_that_differed)
{
    put_durable(0, 1);
    open_file();
    io_sim_fail(io, IO_READ, 1, 2, IO_SIM_STALE);
    cr_assert(eq(int, io_read_wait(io, fd, bytes, SIM_BLOCK, 0), (int)SIM_BLOCK));
    cr_assert(eq(u8, bytes[0], 0));
    put_durable(1, 0); // zeros as before
    cr_assert(eq(int, io_read_wait(io, fd, bytes, SIM_BLOCK, SIM_BLOCK), (int)SIM_BLOCK));
    cr_assert(eq(u64, disk->struck[SIM_STALE_READ], 2));
    cr_assert(eq(u64, disk->bit[SIM_STALE_READ], 1));
    cr_assert(eq(int, io_read_wait(io, fd, bytes, SIM_BLOCK, 0), (int)SIM_BLOCK));
    cr_assert(eq(u8, bytes[0], 1)); // this once only
    close_file();
}

Test(sim_disk, a_misdirected_read_gives_another_block_of_full_length)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        put_durable(i, (uint8_t)(i + 1));
    open_file();
    io_sim_fail(io, IO_READ, 1, 64, IO_SIM_MISDIRECTED);
    uint64_t differed = 0;
    for (int i = 0; i < 64; i++) {
        cr_assert(eq(int, io_read_wait(io, fd, bytes, SIM_BLOCK, 0), (int)SIM_BLOCK));
        differed += bytes[0] != 1;
    }
    cr_assert(gt(u64, differed, 0));
    cr_assert(eq(u64, disk->bit[SIM_MISDIRECTED_READ], differed));
    cr_assert(eq(u32, disk->lied_count, (uint32_t)differed));
    close_file();
}

Test(sim_disk, a_misdirected_write_stays_within_its_file_and_leaves_its_place_as_it_was)
{
    for (uint32_t i = 0; i < BLOCKS; i++)
        put_durable(i, 1);
    open_file();
    io_sim_fail(io, IO_WRITE, 1, 1, IO_SIM_MISDIRECTED);
    memset(bytes, 2, SIM_BLOCK);
    cr_assert(eq(int, io_write_wait(io, fd, bytes, SIM_BLOCK, SIM_BLOCK), (int)SIM_BLOCK));
    cr_assert(eq(u64, disk->bit[SIM_MISDIRECTED_WRITE], 1));
    cr_assert(eq(u64, file->size, BLOCKS * SIM_BLOCK));
    cr_assert(eq(u64, sim_file_read(file, bytes, 0, sizeof(bytes)), sizeof(bytes)));
    uint32_t there = 0;
    for (uint32_t i = 0; i < BLOCKS; i++)
        there += bytes[i * SIM_BLOCK] == 2;
    cr_assert(eq(u32, there, 1));
    close_file();
}
