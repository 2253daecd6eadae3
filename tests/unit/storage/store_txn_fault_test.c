/* Transactions with each I/O operation failing once, while a long one is copied forward. */
#include <errno.h>

#include "tests/unit/storage/store_txn_fixture.h"

static void sweep_init(struct tx_fixture *t)
{
    tx_init(t, 21);
    t->f.options.wal_bytes_budget = 24 * MIB;
    t->f.options.group_slot_count = 4;
    tx_open(t);
    tx_open_partitions(t, 3);
    struct tx *stays = tx_begin(t);
    for (uint32_t i = 0; i < 12; i++)
        cr_assert_eq(tx_stage(t, stays, tx_partition(t, i % 3), 2, 30 * KIB), 0);
    for (uint32_t i = 0; i < 120; i++) {
        cr_assert_eq(sf_produce(&t->f, sf_any(&t->f), 3, 100000), 0);
        sf_turn(&t->f);
    }
    sf_flush(&t->f);
}

/* Ends early when the log has failed. */
static void scenario(struct tx_fixture *t)
{
    struct store_fixture *f = &t->f;
    for (int round = 0; round < 3; round++) {
        struct tx *tx = tx_begin(t);
        for (uint32_t i = 0; i < 30; i++) {
            struct sf_partition *p = tx_partition(t, i % 3);
            if ((i % 5 == 0 && tx_stage(t, tx, p, 1, 20 * KIB) < 0) ||
                sf_produce(f, sf_any(f), 3, 130000) < 0)
                return;
            sf_turn(f);
        }
        if (f->on_failed || tx_end(t, tx, round != 1) < 0)
            return;
    }
    sf_flush(f);
    sf_idle(f, 10 * NS_PER_MS);
}

static void sweep(enum io_kind kind, int os_error, uint32_t points)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    sweep_init(t);
    uint64_t before = io_sim_count(t->f.io, kind);
    scenario(t);
    uint64_t count = io_sim_count(t->f.io, kind) - before, moved = 0;
    tx_deinit(t);
    cr_assert_gt(count, 0);
    for (uint64_t n = 1; n <= count; n += count / points + 1) {
        sweep_init(t);
        io_sim_fail(t->f.io, kind, n, n, os_error);
        scenario(t);
        moved += store_stats(t->f.store).moved_batches;
        store_fixture_crash(&t->f);
        tx_open(t);
        store_fixture_verify(&t->f);
        cr_assert_eq(t->transactions[0].count, 12, "point %lu", n);
        cr_assert_eq(tx_end(t, &t->transactions[0], true), 0);
        sf_flush(&t->f);
        store_fixture_verify(&t->f);
        tx_deinit(t);
    }
    cr_assert_gt(moved, 0);
    free(t);
}

Test(store_txn_sweep, a_failed_read_loses_nothing)
{
    sweep(IO_READ, EIO, 10);
}

Test(store_txn_sweep, a_failed_write_loses_nothing_that_was_durable)
{
    sweep(IO_WRITE, EIO, 10);
}

Test(store_txn_sweep, a_failed_fdatasync_loses_nothing_that_was_durable)
{
    sweep(IO_FDATASYNC, EIO, 10);
}
