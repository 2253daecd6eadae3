/* The store as a whole, on the simulated disk: what was appended is visible when it is durable, comes back byte for
 * byte from memory, segments and archive files, and after every kind of end. */
#include "tests/unit/storage/store_fixture.h"

static void open_partitions(struct store_fixture *f, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(sf_open_partition(f, 1 + i / 4, i % 4), 0);
}

Test(store, a_batch_is_visible_when_it_is_durable)
{
    struct store_fixture f;
    store_fixture_init(&f, 1);
    cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
    open_partitions(&f, 1);
    struct sf_partition *p = &f.partitions[0];
    cr_assert_eq(sf_produce(&f, p, 3, 1000), 0);
    struct partition *partition = store_partition(f.store, 1, 0);
    cr_assert_eq(partition->next_offset, 3);
    cr_assert_eq(partition->visible_end, 0);
    uint32_t hint = INDEX_NONE;
    struct store_read read = sf_read(&f, partition, 0, SF_READ_BYTES, &hint);
    cr_assert_eq(read.status, 0);
    cr_assert_eq(read.bytes, 0);
    sf_flush(&f);
    cr_assert_eq(partition->visible_end, 3);
    cr_assert_eq(p->on_visible, 1);
    store_fixture_verify(&f);
    cr_assert_eq(store_stats(f.store).reads_tail, 1);
    store_fixture_deinit(&f);
}

Test(store, offsets_outside_of_the_partition_are_refused)
{
    struct store_fixture f;
    store_fixture_init(&f, 2);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 1);
    cr_assert_eq(sf_produce(&f, &f.partitions[0], 3, 100), 0);
    sf_flush(&f);
    struct partition *partition = store_partition(f.store, 1, 0);
    uint32_t hint = INDEX_NONE;
    cr_assert_eq(sf_read(&f, partition, 4, SF_READ_BYTES, &hint).status, E_INVALID);
    cr_assert_eq(sf_read(&f, partition, 3, SF_READ_BYTES, &hint).status, 0);
    struct store_read read = sf_read(&f, partition, 2, SF_READ_BYTES, &hint);
    cr_assert_eq(read.batch_count, 1, "the batch that holds the offset");
    cr_assert_eq(sf_read(&f, partition, 0, 50, &hint).status, E_TOO_LARGE);
    cr_assert_eq(sf_produce(&f, &(struct sf_partition){.topic_id = 9}, 1, 10), E_NOT_FOUND);
    store_fixture_deinit(&f);
}

Test(store, everything_comes_back_from_closed_segments_too)
{
    struct store_fixture f;
    store_fixture_init(&f, 3);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 7);
    sf_load(&f, 20 * MIB);
    sf_flush(&f);
    store_fixture_verify(&f);
    struct store_stats stats = store_stats(f.store);
    cr_assert_gt(stats.reads_segment, 0);
    cr_assert_gt(stats.segments, 4);
    store_fixture_deinit(&f);
}

Test(store, a_clean_stop_brings_everything_back)
{
    struct store_fixture f;
    store_fixture_init(&f, 4);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 5);
    for (int round = 0; round < 4; round++) {
        sf_load(&f, 3 * MIB);
        uint64_t digest = store_digest(f.store);
        cr_assert_eq(store_fixture_close(&f), 0);
        cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
        cr_assert_eq(f.result.entries, 0, "nothing to replay");
        cr_assert_eq(store_digest(f.store), digest);
        store_fixture_verify(&f);
    }
    store_fixture_deinit(&f);
}

Test(store, kill_and_power_cut_lose_nothing_that_was_visible)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct store_fixture f;
        store_fixture_init(&f, 100 + seed);
        cr_assert_eq(store_fixture_open(&f), 0);
        open_partitions(&f, 6);
        sf_flush(&f);
        for (int round = 0; round < 5; round++) {
            sf_load(&f, random_below(&f.dice, 6 * MIB));
            if (random_below(&f.dice, 2))
                store_checkpoint(f.store);
            sf_idle(&f, random_below(&f.dice, 3 * NS_PER_MS));
            if (random_below(&f.dice, 2))
                store_fixture_crash(&f);
            else
                store_fixture_kill(&f);
            cr_assert_eq(store_fixture_open(&f), 0, "seed %lu: %s", seed, f.text);
            store_fixture_verify(&f);
        }
        store_fixture_deinit(&f);
    }
}
