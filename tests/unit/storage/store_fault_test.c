/* The store when the disk is full, and with each of its I/O operations failing once. */
#include <errno.h>

#include "tests/unit/storage/store_fixture.h"

static void open_partitions(struct store_fixture *f, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(sf_open_partition(f, 1, i), 0);
}

/* Batches until they are refused; blocked ones wait. */
static int fill(struct store_fixture *f, uint64_t bytes_max)
{
    uint64_t end = store_reserved_lsn(f->store) + bytes_max;
    int status = 0;
    while (status == 0 && store_reserved_lsn(f->store) < end)
        status = sf_produce(f, sf_any(f), 3, 60000);
    return status;
}

/* Entries that are no batches: settings, again and again. */
static void other_entries(struct store_fixture *f, uint64_t bytes, uint64_t *revision)
{
    uint64_t end = store_reserved_lsn(f->store) + bytes;
    while (store_reserved_lsn(f->store) < end) {
        struct disk_partition_open settings = sf_settings(++*revision, UINT64_MAX, UINT64_MAX);
        cr_assert_eq(sf_open_partition_as(f, 1, 0, settings), 0);
        if (*revision % 64 == 0) // groups of two blocks
            sf_flush(f);
    }
}

static void limit_disk(struct store_fixture *f, uint64_t free_bytes)
{
    f->disk->capacity_blocks = f->disk->allocated_blocks + free_bytes / SIM_BLOCK;
}

Test(store_full, batches_are_refused_and_everything_else_goes_on)
{
    static const uint64_t frees[] = {0, 3 * MIB, 20 * MIB, 90 * MIB};
    for (uint32_t i = 0; i < ARRAY_COUNT(frees); i++) {
        struct store_fixture f;
        store_fixture_init(&f, 1 + i);
        cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
        open_partitions(&f, 4);
        fill(&f, 2 * MIB);
        sf_idle(&f, NS_PER_S); // spares, archive reserve
        limit_disk(&f, frees[i]);
        cr_assert_eq(fill(&f, 400 * MIB), E_NO_SPACE, "free %lu", frees[i]);
        cr_assert_eq(store_room(f.store), STORE_ROOM_FULL);
        cr_assert_eq(f.on_failed, 0);
        uint64_t revision = 1;
        other_entries(&f, 30 * MIB, &revision);
        cr_assert_eq(f.on_failed, 0);
        store_fixture_verify(&f);
        /* room again: within 5 s */
        f.disk->capacity_blocks += 200 * MIB / SIM_BLOCK;
        uint64_t began_ns = io_sim_now_ns(f.io);
        while (fill(&f, 1) == E_NO_SPACE)
            sf_idle(&f, 100 * NS_PER_MS);
        cr_assert_lt(io_sim_now_ns(f.io) - began_ns, 5 * NS_PER_S);
        cr_assert_eq(fill(&f, 20 * MIB), 0);
        sf_flush(&f);
        store_fixture_verify(&f);
        store_fixture_deinit(&f);
    }
}

Test(store_full, a_full_disk_can_be_restarted)
{
    struct store_fixture f;
    store_fixture_init(&f, 7);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 4);
    fill(&f, 2 * MIB);
    sf_idle(&f, NS_PER_S);
    limit_disk(&f, 10 * MIB);
    cr_assert_eq(fill(&f, 400 * MIB), E_NO_SPACE);
    f.disk->capacity_blocks = f.disk->allocated_blocks;
    for (int round = 0; round < 4; round++) {
        if (round % 2)
            cr_assert_eq(store_fixture_close(&f), 0);
        else
            store_fixture_crash(&f);
        cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
        store_fixture_verify(&f);
        uint64_t revision = 1 + (uint64_t)round * 1000000;
        other_entries(&f, 10 * MIB, &revision);
    }
    store_fixture_deinit(&f);
}

/* ---- each operation fails once ---- */

static void scenario(struct store_fixture *f)
{
    for (int round = 0; round < 3 && f->on_failed == 0; round++) {
        for (uint32_t i = 0; i < 40 && f->on_failed == 0; i++) {
            if (sf_produce(f, sf_any(f), 3, 130000) < 0)
                return;
            sf_turn(f);
        }
        if (round == 1 && f->on_failed == 0)
            store_checkpoint(f->store);
        sf_idle(f, 2 * NS_PER_MS);
    }
    if (f->on_failed == 0)
        sf_flush(f);
    sf_idle(f, 10 * NS_PER_MS);
}

static void sweep_init(struct store_fixture *f)
{
    store_fixture_init(f, 21);
    f->options.wal_bytes_budget = 24 * MIB;
    f->options.group_slot_count = 4;
    cr_assert_eq(store_fixture_open(f), 0);
    open_partitions(f, 3);
    for (uint32_t i = 0; i < 150; i++) {
        cr_assert_eq(sf_produce(f, sf_any(f), 3, 100000), 0);
        sf_turn(f);
    }
    sf_flush(f);
}

static void read_what_can_be_read(struct store_fixture *f)
{
    for (uint32_t i = 0; i < f->partition_count; i++) {
        int status = sf_verify_from(f, &f->partitions[i], 0, SF_READ_BYTES);
        cr_assert(status == 0 || status == E_IO || status == E_CORRUPT || status == E_NO_SPACE);
    }
}

/* After whatever failed, the next life finds everything that was visible. */
static void sweep(enum io_kind kind, int os_error, uint32_t points)
{
    struct store_fixture f;
    sweep_init(&f);
    uint64_t before = io_sim_count(f.io, kind);
    scenario(&f);
    read_what_can_be_read(&f);
    uint64_t count = io_sim_count(f.io, kind) - before, failed = 0;
    store_fixture_deinit(&f);
    cr_assert_gt(count, 0);
    uint64_t stride = count / points + 1;
    for (uint64_t n = 1; n <= count; n += stride) {
        sweep_init(&f);
        io_sim_fail(f.io, kind, n, n, os_error);
        scenario(&f);
        failed += f.on_failed > 0;
        if (f.on_failed == 0)
            read_what_can_be_read(&f);
        store_fixture_crash(&f);
        cr_assert_eq(store_fixture_open(&f), 0, "point %lu: %s", n, f.text);
        store_fixture_verify(&f);
        store_fixture_deinit(&f);
    }
    bool is_fatal = kind == IO_FDATASYNC || kind == IO_WRITE;
    cr_assert_eq(failed > 0, is_fatal, "%lu of %lu ended the log", failed, count);
}

/* It may ask again, which it may not when its data is bad. */
Test(store_short, a_reader_without_memory_is_told_so_and_reads_on_when_there_is_some)
{
    struct store_fixture f;
    sweep_init(&f);
    io_sim_fail(f.io, IO_READ, 1, UINT64_MAX, ENOMEM);
    cr_assert_eq(sf_verify_from(&f, &f.partitions[0], 0, SF_READ_BYTES), E_NO_MEMORY);
    io_sim_fail(f.io, IO_READ, 1, 1, 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(store_sweep, a_failed_read_is_not_the_end)
{
    sweep(IO_READ, EIO, 16);
}

Test(store_sweep, a_failed_write_loses_nothing_that_was_visible)
{
    sweep(IO_WRITE, EIO, 24);
}

Test(store_sweep, a_failed_fdatasync_loses_nothing_that_was_visible)
{
    sweep(IO_FDATASYNC, EIO, 24);
}

Test(store_sweep, a_failed_open_is_not_the_end)
{
    sweep(IO_OPEN, EMFILE, 16);
}

Test(store_sweep, a_failed_unlink_is_not_the_end)
{
    sweep(IO_UNLINK, EIO, 8);
}

Test(store_sweep, a_failed_close_is_not_the_end)
{
    sweep(IO_CLOSE, EIO, 8);
}
