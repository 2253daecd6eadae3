/* Transactions of all lengths among plain batches, drops, retention, full disks, and every kind of end.
 *
 * A failure names its seed: tests/unit/seeds.h. */
#include "tests/unit/storage/store_txn_fixture.h"
#include "tests/unit/seeds.h"

#define OPEN_MAX 8u

struct run {
    struct tx_fixture t;
    struct tx *open[OPEN_MAX];
    bool drops, limits_size, fills_disk;
    uint32_t batch_bytes;
};

static uint64_t roll(struct run *run, uint64_t below)
{
    return random_below(&run->t.f.dice, below);
}

static void open_one(struct run *run)
{
    struct store_fixture *f = &run->t.f;
    uint64_t bytes = run->limits_size && roll(run, 2) ? 200 * KIB << roll(run, 8) : UINT64_MAX;
    if (f->partition_count < SF_PARTITIONS_MAX)
        cr_assert_eq(
            sf_open_partition_as(f, 1 + f->partition_count, 0, sf_settings(1, UINT64_MAX, bytes)),
            0);
}

static void drop_one(struct run *run)
{
    struct store_fixture *f = &run->t.f;
    struct sf_partition *p = sf_any(f);
    if (partitions_count(store_partitions(f->store)) > 2)
        cr_assert_eq(sf_drop_partition(f, p->topic_id, p->partition), 0);
}

/* True when the disk was full: then it grows. */
static bool made_room(struct run *run, int status)
{
    struct store_fixture *f = &run->t.f;
    cr_assert(status == 0 || status == E_NO_SPACE, "seed %lu: %s", f->seed, status_name(status));
    if (status == 0)
        return false;
    f->disk->capacity_blocks += 8 * MIB / SIM_BLOCK;
    sf_idle(f, 100 * NS_PER_MS);
    return true;
}

static void transaction_step(struct run *run)
{
    struct store_fixture *f = &run->t.f;
    struct tx **tx = &run->open[roll(run, OPEN_MAX)];
    if (!*tx)
        *tx = tx_begin(&run->t);
    bool ends = roll(run, 12) == 0;
    if (ends && tx - run->open < 6 + (int)roll(run, 3)) { // some stay open for long
        cr_assert_eq(tx_end(&run->t, *tx, roll(run, 4) > 0), 0);
        *tx = NULL;
        return;
    }
    uint64_t staged = staged_sum_all(store_staged(f->store)).bytes;
    uint32_t size = 1u << roll(run, run->batch_bytes);
    if (staged + 2 * size < store_staged_bytes_max(f->store))
        made_room(run, tx_stage(&run->t, *tx, sf_any(f), 1 + (uint32_t)roll(run, 5), size));
}

static void work(struct run *run, uint64_t bytes)
{
    struct store_fixture *f = &run->t.f;
    uint64_t end = store_reserved_lsn(f->store) + bytes;
    for (uint32_t i = 0; store_reserved_lsn(f->store) < end && i < 20000; i++) {
        uint32_t size = 1u << roll(run, run->batch_bytes);
        if (roll(run, 3) == 0)
            transaction_step(run);
        else
            made_room(run, sf_produce(f, sf_any(f), 1 + (uint32_t)roll(run, 9), size));
        if (roll(run, 3) == 0)
            sf_turn(f);
        if (roll(run, 400) == 0)
            store_checkpoint(f->store);
    }
}

static void end_somehow(struct run *run)
{
    struct store_fixture *f = &run->t.f;
    uint64_t how = roll(run, 4);
    if (how == 0)
        cr_assert_eq(store_fixture_close(f), 0);
    else if (how == 1)
        store_fixture_kill(f);
    else
        store_fixture_crash(f);
    for (uint64_t number = 1; number < 200 && roll(run, 40); number++) {
        char path[100];
        snprintf(path, sizeof(path), SF_DIR "/shard-002/wal/%016lx.idx", number);
        if (roll(run, 3) == 0 && io_unlink_wait(f->io, path) < 0)
            continue;
    }
}

static void life(struct run *run, uint32_t round)
{
    struct store_fixture *f = &run->t.f;
    work(run, roll(run, 24 * MIB));
    if (run->drops && roll(run, 2))
        drop_one(run);
    open_one(run);
    sf_idle(f, roll(run, 4) ? roll(run, 5 * NS_PER_MS) : roll(run, 2 * NS_PER_S));
    cr_assert_eq(f->on_failed, 0);
    uint64_t digest = store_digest(f->store);
    bool is_quiet = store_committed_lsn(f->store) == store_reserved_lsn(f->store);
    end_somehow(run);
    tx_open(&run->t);
    cr_assert(!is_quiet || store_digest(f->store) == digest, "seed %lu, round %u", f->seed, round);
    for (uint32_t i = 0; i < OPEN_MAX;
         i++) // an end that was lost leaves it open for good: others go on
        if (run->open[i] && run->open[i]->state != TX_OPEN)
            run->open[i] = NULL;
    for (uint32_t i = 0; i < run->t.count; i++) {
        struct tx *tx = &run->t.transactions[i];
        bool is_held = false;
        for (uint32_t k = 0; k < OPEN_MAX; k++)
            is_held |= run->open[k] == tx;
        if (tx->state == TX_OPEN && !is_held)
            cr_assert_eq(tx_end(&run->t, tx, roll(run, 2)), 0);
    }
    sf_flush(f);
    store_fixture_verify(f);
}

static void run_seed(uint64_t seed)
{
    struct run *run = calloc(1, sizeof(*run));
    struct store_fixture *f = &run->t.f;
    tx_init(&run->t, seed);
    run->drops = roll(run, 2);
    run->limits_size = roll(run, 2);
    run->fills_disk = roll(run, 4) == 0;
    run->batch_bytes = 8 + (uint32_t)roll(run, 11);
    f->options.wal_bytes_budget = (4 + roll(run, 12)) * 4 * MIB;
    f->options.index_cache_bytes = roll(run, 2) ? 4 * MIB : 20 * KIB;
    tx_open(&run->t);
    for (uint64_t i = 3 + roll(run, 8); i > 0; i--)
        open_one(run);
    sf_flush(f);
    if (run->fills_disk)
        f->disk->capacity_blocks = f->disk->allocated_blocks + 60 * MIB / SIM_BLOCK;
    for (uint32_t round = 0; round < 5; round++)
        life(run, round);
    for (uint32_t i = 0; i < OPEN_MAX; i++)
        if (run->open[i])
            cr_assert_eq(tx_end(&run->t, run->open[i], true), 0);
    sf_flush(f);
    store_fixture_verify(f);
    tx_deinit(&run->t);
    free(run);
}

Test(store_txn_random, transactions_survive_everything_at_once)
{
    uint64_t first = first_seed(1);
    uint64_t count = seeds(8);
    for (uint64_t seed = first; seed < first + count; seed++) {
        if (count > 50)
            fprintf(stderr, "seed %lu\n", seed);
        run_seed(seed);
    }
}
