/* Transactions as the store sees them: staged, committed, aborted; read from wherever the bytes lie. */
#include "tests/unit/storage/store_txn_fixture.h"
#include "tests/unit/seeds.h"

Test(store_txn, staged_batches_are_invisible_and_a_commit_gives_dense_offsets)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 1);
    tx_open(t);
    tx_open_partitions(t, 2);
    struct sf_partition *p = tx_partition(t, 0), *q = tx_partition(t, 1);
    struct tx *tx = tx_begin(t);
    cr_assert_eq(sf_produce(&t->f, p, 2, 100), 0);
    cr_assert_eq(tx_stage(t, tx, p, 3, 500), 0);
    cr_assert_eq(tx_stage(t, tx, q, 1, 500), 0);
    cr_assert_eq(tx_stage(t, tx, p, 4, 500), 0);
    cr_assert_eq(sf_produce(&t->f, p, 5, 100), 0);
    sf_flush(&t->f);
    struct partition *partition = store_partition(t->f.store, 1, 0);
    cr_assert_eq(partition->visible_end, 7);
    cr_assert_eq(store_partition(t->f.store, 1, 1)->visible_end, 0);
    cr_assert_eq(q->on_visible, 0);
    store_fixture_verify(&t->f);
    cr_assert_eq(tx_end(t, tx, true), 0);
    cr_assert_eq(partition->next_offset, 14);
    cr_assert_eq(partition->visible_end, 7, "not before the COMMIT is durable");
    uint32_t hint = INDEX_NONE;
    cr_assert_eq(sf_read(&t->f, partition, 7, SF_READ_BYTES, &hint).bytes, 0);
    sf_flush(&t->f);
    cr_assert_eq(partition->visible_end, 14);
    cr_assert_eq(q->on_visible, 1);
    cr_assert_eq(sf_produce(&t->f, p, 1, 100), 0);
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

/* The staged batch is durable long before its COMMIT: its position must not make it visible. */
Test(store_txn, a_commit_is_visible_when_it_is_durable_itself)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 2);
    tx_open(t);
    tx_open_partitions(t, 2);
    struct sf_partition *p = tx_partition(t, 0), *q = tx_partition(t, 1);
    struct tx *tx = tx_begin(t);
    cr_assert_eq(tx_stage(t, tx, p, 3, 500), 0);
    sf_flush(&t->f);
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(sf_produce(&t->f, q, 1, 600 * KIB), 0);
        (void)store_turn(t->f.store, io_sim_now_ns(t->f.io), io_sim_now_wall_ms(t->f.io));
    }
    cr_assert_eq(tx_end(t, tx, true), 0);
    struct partition *partition = store_partition(t->f.store, 1, 0);
    uint64_t end_lsn = tx->end_lsn;
    int early = 0;
    while (store_committed_lsn(t->f.store) < end_lsn) {
        early += store_committed_lsn(t->f.store) > 0 && t->f.on_committed > 1;
        cr_assert_eq(partition->visible_end, 0);
        sf_turn(&t->f);
    }
    cr_assert_gt(early, 0, "the log was durable up to some place before the COMMIT");
    cr_assert_eq(partition->visible_end, 3);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

Test(store_txn, an_abort_leaves_nothing)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 3);
    tx_open(t);
    tx_open_partitions(t, 1);
    struct sf_partition *p = tx_partition(t, 0);
    struct tx *tx = tx_begin(t), *empty = tx_begin(t);
    uint64_t digest = store_digest(t->f.store);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(tx_stage(t, tx, p, 3, 500), 0);
    cr_assert_neq(store_digest(t->f.store), digest);
    cr_assert_eq(tx_end(t, tx, false), 0);
    cr_assert_eq(tx_end(t, empty, false), 0);
    cr_assert_eq(tx_end(t, tx_begin(t), true), 0, "a commit of nothing is logged all the same");
    cr_assert_eq(sf_produce(&t->f, p, 2, 100), 0);
    sf_flush(&t->f);
    cr_assert_eq(store_partition(t->f.store, 1, 0)->visible_end, 2);
    store_fixture_verify(&t->f);
    digest = store_digest(t->f.store);
    store_fixture_crash(&t->f);
    tx_open(t);
    cr_assert_eq(store_digest(t->f.store), digest);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

Test(store_txn, transactions_and_plain_batches_keep_their_order_in_one_partition)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 4);
    tx_open(t);
    tx_open_partitions(t, 1);
    struct sf_partition *p = tx_partition(t, 0);
    for (int round = 0; round < 50; round++) {
        struct tx *a = tx_begin(t), *b = tx_begin(t), *c = tx_begin(t);
        for (uint32_t i = 0; i < 4; i++) {
            cr_assert_eq(tx_stage(t, a, p, 1 + i, 300), 0);
            cr_assert_eq(tx_stage(t, b, p, 2, 300), 0);
            cr_assert_eq(sf_produce(&t->f, p, 1, 100), 0);
            cr_assert_eq(tx_stage(t, c, p, 1, 9000), 0);
        }
        cr_assert_eq(tx_end(t, b, true), 0);
        cr_assert_eq(sf_produce(&t->f, p, 3, 100), 0);
        cr_assert_eq(tx_end(t, a, round % 5 != 0), 0);
        cr_assert_eq(tx_end(t, c, true), 0);
        sf_turn(&t->f);
    }
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    uint64_t digest = store_digest(t->f.store);
    store_fixture_kill(&t->f);
    tx_open(t);
    cr_assert_eq(store_digest(t->f.store), digest);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

Test(store_txn, what_is_refused_for_batches_is_refused_for_staged_ones)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 5);
    tx_open(t);
    tx_open_partitions(t, 1);
    struct tx *tx = tx_begin(t);
    struct sf_partition unknown = {.topic_id = 9};
    cr_assert_eq(tx_stage(t, tx, &unknown, 1, 100), E_NOT_FOUND);
    cr_assert_eq(tx_stage(t, tx, tx_partition(t, 0), 1, 100), 0);
    t->f.store->room.room = STORE_ROOM_FULL;
    uint32_t size = sf_make_batch(&t->f, 1, 100, 1);
    struct wal_entry entry = {.type = ENTRY_STAGED,
                              .topic_id = 1,
                              .pieces = {{&tx->name, sizeof(tx->name)}, {t->f.batch, size}},
                              .piece_count = 2};
    struct wal_view view;
    cr_assert_eq(store_append(t->f.store, &entry, &view, NULL), E_NO_SPACE);
    cr_assert_eq(tx_end(t, tx, true), 0, "the end is never refused for want of space");
    t->f.store->room.room = STORE_ROOM_OK;
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

/* ---- where the bytes lie ---- */

static void staged_then_committed_later(struct tx_fixture *t, uint64_t seed)
{
    tx_init(t, seed);
    tx_open(t);
    tx_open_partitions(t, 3);
    struct sf_partition *p = tx_partition(t, 0), *q = tx_partition(t, 1);
    struct tx *tx = tx_begin(t), *other = tx_begin(t);
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(tx_stage(t, tx, i % 2 ? p : q, 2, 1 + 3000 * i), 0);
        cr_assert_eq(tx_stage(t, other, p, 1, 5000), 0);
        cr_assert_eq(sf_produce(&t->f, p, 1, 2000), 0);
    }
    tx_fill(t, tx_partition(t, 2), 9 * MIB);
    cr_assert_eq(tx_stage(t, tx, p, 2, 700 * KIB), 0);
    cr_assert_eq(tx_stage(t, tx, p, 1, 70), 0);
    cr_assert_eq(sf_produce(&t->f, p, 1, 2000), 0);
    cr_assert_eq(tx_end(t, other, true), 0);
    cr_assert_eq(tx_end(t, tx, true), 0);
    cr_assert_eq(sf_produce(&t->f, p, 1, 2000), 0);
    sf_flush(&t->f);
}

Test(store_txn, a_commit_in_a_later_segment_than_the_staging_is_read_hot_and_cold)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    staged_then_committed_later(t, 10);
    cr_assert_gt(store_stats(t->f.store).segments, 2);
    store_fixture_verify(&t->f);
    cr_assert_gt(store_stats(t->f.store).reads_segment, 0);
    tx_fill(t, tx_partition(t, 2), 6 * MIB); // its index is closed, too
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    for (uint32_t capacity = 1 * MIB; capacity > 1000; capacity /= 3)
        cr_assert_eq(sf_verify_from(&t->f, tx_partition(t, 0), 0, capacity), 0);
    tx_deinit(t);
    free(t);
}

static void remove_indexes(struct store_fixture *f)
{
    for (uint64_t number = 1; number < 40; number++) {
        char path[100];
        snprintf(path, sizeof(path), SF_DIR "/shard-002/wal/%016lx.idx", number);
        int status = io_unlink_wait(f->io, path);
        cr_assert(status == 0 || status == E_NOT_FOUND);
    }
}

Test(store_txn, restarts_find_committed_batches_with_and_without_index_files)
{
    for (int how = 0; how < 8; how++) {
        struct tx_fixture *t = malloc(sizeof(*t));
        staged_then_committed_later(t, 20 + (uint64_t)how);
        if (how & 1)
            sf_checkpoint(&t->f); // behind the COMMIT, in its segment: the index is led
        if (how & 2)
            tx_fill(t, tx_partition(t, 2), 6 * MIB);
        sf_flush(&t->f);
        sf_idle(&t->f, 20 * NS_PER_MS);
        sf_flush(&t->f);
        uint64_t digest = store_digest(t->f.store);
        store_fixture_crash(&t->f);
        if (how & 4)
            remove_indexes(&t->f);
        tx_open(t);
        cr_assert_eq(store_digest(t->f.store), digest);
        store_fixture_verify(&t->f);
        store_fixture_close(&t->f);
        tx_open(t);
        store_fixture_verify(&t->f);
        tx_deinit(t);
        free(t);
    }
}

Test(store_txn, a_checkpoint_between_staging_and_commit_is_a_good_start)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 30);
    tx_open(t);
    tx_open_partitions(t, 2);
    struct tx *open[6];
    for (int i = 0; i < 6; i++)
        open[i] = tx_begin(t);
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 6; i++)
            cr_assert_eq(tx_stage(t, open[i], tx_partition(t, (uint32_t)i % 2), 1, 20 * KIB), 0);
        if (round % 3 == 1)
            sf_checkpoint(&t->f);
        if (round % 4 == 2) {
            cr_assert_eq(tx_end(t, open[round % 6], round % 8 == 2), 0);
            open[round % 6] = tx_begin(t);
        }
        tx_fill(t, tx_partition(t, 0), 300 * KIB);
        sf_flush(&t->f);
        uint64_t digest = store_digest(t->f.store);
        if (round % 2)
            store_fixture_crash(&t->f);
        else
            cr_assert_eq(store_fixture_close(&t->f), 0);
        tx_open(t);
        cr_assert_eq(store_digest(t->f.store), digest, "round %d", round);
    }
    for (int i = 0; i < 6; i++)
        cr_assert_eq(tx_end(t, open[i], true), 0);
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

Test(store_txn, batches_of_a_dropped_partition_vanish_and_the_rest_commits)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 31);
    tx_open(t);
    tx_open_partitions(t, 3);
    struct tx *tx = tx_begin(t);
    for (uint32_t i = 0; i < 9; i++)
        cr_assert_eq(tx_stage(t, tx, tx_partition(t, i % 3), 1 + i, 1000), 0);
    cr_assert_eq(sf_drop_partition(&t->f, 1, 1), 0);
    cr_assert_eq(tx_end(t, tx, true), 0);
    sf_flush(&t->f);
    cr_assert_eq(store_partition(t->f.store, 1, 0)->visible_end, 1 + 4 + 7);
    cr_assert_eq(store_partition(t->f.store, 1, 2)->visible_end, 3 + 6 + 9);
    store_fixture_verify(&t->f);
    uint64_t digest = store_digest(t->f.store);
    store_fixture_crash(&t->f);
    tx_open(t);
    cr_assert_eq(store_digest(t->f.store), digest);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

/* The largest COMMIT that there is, and an index that has no room for it although the segment has. */
Test(store_txn, a_commit_that_does_not_fit_into_the_open_index_rolls_the_log)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init_as(t, 32, 32 * MIB);
    tx_open(t);
    tx_open_partitions(t, 2);
    struct tx *tx = tx_begin(t);
    for (uint32_t i = 0; i < STAGED_PER_TRANSACTION_MAX; i++)
        cr_assert_eq(tx_stage(t, tx, tx_partition(t, i % 2), 1, 1), 0);
    sf_idle(&t->f, 500 * NS_PER_MS); // spares are made
    while (index_open_room(t->f.store->open) >= STAGED_PER_TRANSACTION_MAX) {
        cr_assert_eq(sf_produce(&t->f, tx_partition(t, 0), 1, 1), 0);
        if (index_open_count(t->f.store->open) % 1024 == 0)
            sf_turn(&t->f);
    }
    cr_assert_eq(t->f.store->open_file, 1);
    cr_assert(!upkeep_would_roll(t->f.store, 1 * MIB), "there is room for its bytes");
    cr_assert_eq(tx_end(t, tx, true), 0);
    cr_assert_eq(t->f.store->open_file, 2);
    sf_flush(&t->f);
    cr_assert_eq(sf_verify_from(&t->f, tx_partition(t, 1), 0, SF_READ_BYTES), 0);
    store_fixture_crash(&t->f);
    tx_open(t);
    cr_assert_eq(sf_verify_from(&t->f, tx_partition(t, 1), 0, SF_READ_BYTES), 0);
    tx_deinit(t);
    free(t);
}

/* ---- unweaving and recycling ---- */

static bool fill_until_unwoven(struct tx_fixture *t, uint64_t lsn)
{
    for (int i = 0; i < 400 && archives_end_lsn(t->f.store->archives) < lsn; i++)
        tx_fill(t, tx_partition(t, 2), 500 * KIB);
    return archives_end_lsn(t->f.store->archives) >= lsn;
}

/* Staged in segment 1, committed some segments later. */
static struct tx *staged_far_back(struct tx_fixture *t, uint64_t seed)
{
    tx_init(t, seed);
    tx_open(t);
    tx_open_partitions(t, 3);
    struct sf_partition *p = tx_partition(t, 0), *q = tx_partition(t, 1);
    struct tx *tx = tx_begin(t);
    for (uint32_t i = 0; i < 30; i++) {
        cr_assert_eq(tx_stage(t, tx, i % 2 ? p : q, 2, 1 + 3000 * i), 0);
        cr_assert_eq(sf_produce(&t->f, p, 1, 2000), 0);
    }
    cr_assert_eq(t->f.store->open_file, 1);
    tx_fill(t, tx_partition(t, 2), 22 * MIB);
    cr_assert_eq(tx_stage(t, tx, p, 2, 700 * KIB), 0);
    cr_assert_eq(tx_end(t, tx, true), 0);
    cr_assert_eq(sf_produce(&t->f, p, 1, 2000), 0);
    sf_flush(&t->f);
    return tx;
}

/* As long as the segment with the COMMIT is in no archive file, whatever checkpoints are written. */
static bool first_is_kept(struct tx_fixture *t, const struct tx *tx)
{
    int looks = 0;
    for (int i = 0; i < 2000; i++) {
        store_checkpoint(t->f.store);
        if (archives_safe_lsn(t->f.store->archives) >= tx->end_lsn)
            break;
        looks++;
        if (wal_segment_at(t->f.store->wal, 0)->number != 1)
            return false;
        sf_turn(&t->f);
    }
    return looks > 10;
}

Test(store_txn, committed_batches_are_read_before_between_and_after_unweaving)
{
    for (int how = 0; how < 3; how++) {
        struct tx_fixture *t = malloc(sizeof(*t));
        struct tx *tx = staged_far_back(t, 40);
        uint64_t commit_file = t->f.store->open_file;
        cr_assert_gt(commit_file, 5);
        cr_assert(fill_until_unwoven(t, 4 * MIB));
        if (how == 2) {
            store_fixture_crash(&t->f);
            tx_open(t);
        }
        cr_assert_lt(archives_end_lsn(t->f.store->archives), tx->end_lsn, "only the first");
        if (how == 0)
            cr_assert_eq(sf_verify_from(&t->f, tx_partition(t, 0), 0, SF_READ_BYTES), 0);
        else
            cr_assert(first_is_kept(t, tx), "the COMMIT's index needs it");
        cr_assert(fill_until_unwoven(t, tx->end_lsn));
        store_fixture_verify(&t->f);
        for (int i = 0; i < 40 && wal_segment_at(t->f.store->wal, 0)->number <= commit_file; i++) {
            tx_fill(t, tx_partition(t, 2), 1 * MIB);
            sf_idle(&t->f, 10 * NS_PER_MS);
        }
        cr_assert_gt(wal_segment_at(t->f.store->wal, 0)->number, commit_file, "all come back");
        store_fixture_verify(&t->f);
        cr_assert_gt(store_stats(t->f.store).reads_archive, 0);
        store_fixture_crash(&t->f);
        tx_open(t);
        store_fixture_verify(&t->f);
        tx_deinit(t);
        free(t);
    }
}

/* ---- transactions that stay open ---- */

static uint64_t moved(struct tx_fixture *t)
{
    return store_stats(t->f.store).moved_batches;
}

/* Small batches, some that share a stretch, and one larger than a piece. */
static struct tx *staged_for_long(struct tx_fixture *t)
{
    struct tx *tx = tx_begin(t);
    for (uint32_t i = 0; i < 150; i++)
        cr_assert_eq(tx_stage(t, tx, tx_partition(t, i % 2), 1 + i % 3, 1 + 40 * i), 0);
    cr_assert_eq(tx_stage(t, tx, tx_partition(t, 0), 2, 1020 * KIB), 0);
    cr_assert_eq(tx_stage(t, tx, tx_partition(t, 1), 2, 400 * KIB), 0);
    return tx;
}

/* What comes back are files, however little of each was used. */
Test(store_txn, a_long_transaction_never_stops_a_log_of_short_segments)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 51);
    tx_open(t);
    tx_open_partitions(t, 6);
    struct tx *tx = staged_for_long(t);
    for (int round = 0; round < 60; round++) {
        sf_load(&t->f, 64 * KIB);
        if (upkeep_may_roll(t->f.store))
            wal_roll(t->f.store->wal);
    }
    sf_load(&t->f, 64 * KIB); // until there is room again
    cr_assert_gt(moved(t), 0);
    cr_assert_gt(wal_segment_at(t->f.store->wal, 0)->number, 25);
    cr_assert_eq(tx_end(t, tx, true), 0);
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

Test(store_txn, a_long_transaction_never_stops_the_log)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 50);
    tx_open(t);
    tx_open_partitions(t, 6);
    struct tx *tx = staged_for_long(t), *aborted = staged_for_long(t);
    for (int round = 0; round < 7; round++) {
        sf_load(&t->f, 24 * MIB);
        cr_assert_leq(store_stats(t->f.store).segments * 4 * MIB, 48 * MIB, "the budget holds");
    }
    cr_assert_gt(wal_segment_at(t->f.store->wal, 0)->number, 25);
    uint64_t batches = moved(t);
    cr_assert_eq(store_stats(t->f.store).staged_batches, 304);
    cr_assert_gt(batches, 2 * 304, "each was copied more than once");
    cr_assert_leq(batches, 6 * 304, "and about once in a budget");
    cr_assert_eq(tx_end(t, aborted, false), 0);
    cr_assert_eq(tx_end(t, tx, true), 0);
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    store_fixture_crash(&t->f);
    tx_open(t);
    store_fixture_verify(&t->f);
    sf_load(&t->f, 100 * MIB);
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    cr_assert_eq(moved(t), 0);
    tx_deinit(t);
    free(t);
}

Test(store_txn, crashes_while_batches_are_moved_lose_nothing)
{
    for (uint64_t seed = 1; seed <= seeds(2); seed++) {
        struct tx_fixture *t = malloc(sizeof(*t));
        tx_init(t, 600 + seed);
        tx_open(t);
        tx_open_partitions(t, 5);
        struct tx *tx = staged_for_long(t);
        sf_flush(&t->f);
        uint64_t all = 0;
        for (int round = 0; round < 8; round++) {
            sf_load(&t->f, 10 * MIB + random_below(&t->f.dice, 20 * MIB));
            all += moved(t);
            bool is_quiet = random_below(&t->f.dice, 2);
            if (is_quiet) {
                sf_flush(&t->f);
                sf_idle(&t->f, 20 * NS_PER_MS);
                sf_flush(&t->f);
            }
            is_quiet = store_committed_lsn(t->f.store) == store_reserved_lsn(t->f.store);
            uint64_t digest = store_digest(t->f.store);
            store_fixture_crash(&t->f);
            tx_open(t);
            cr_assert(!is_quiet || store_digest(t->f.store) == digest);
        }
        cr_assert_gt(all, 0);
        cr_assert_eq(tx->count, 152);
        cr_assert_eq(tx_end(t, tx, true), 0);
        sf_flush(&t->f);
        store_fixture_verify(&t->f);
        tx_deinit(t);
        free(t);
    }
}

Test(store_txn, what_ends_while_it_is_read_is_not_moved)
{
    uint64_t met = 0;
    for (uint64_t seed = 1; seed <= seeds(4); seed++) {
        struct tx_fixture *t = malloc(sizeof(*t));
        tx_init(t, 700 + seed);
        t->f.latency_ns_max = 20 * NS_PER_MS;
        io_free(t->f.io);
        sf_io(&t->f);
        tx_open(t);
        tx_open_partitions(t, 5);
        struct tx *tx = staged_for_long(t), *stays = staged_for_long(t);
        for (int i = 0; i < 4000 && staged_mover_is_idle(t->f.store->mover); i++)
            sf_load(&t->f, 20 * KIB);
        if (!staged_mover_is_idle(t->f.store->mover)) {
            met++;
            cr_assert_eq(tx_end(t, tx, seed % 2), 0);
            struct tx *other = staged_for_long(t); // takes the same rows
            sf_load(&t->f, 30 * MIB);
            cr_assert_eq(tx_end(t, other, true), 0);
        }
        cr_assert_eq(tx_end(t, stays, true), 0);
        sf_flush(&t->f);
        store_fixture_verify(&t->f);
        store_fixture_crash(&t->f);
        tx_open(t);
        store_fixture_verify(&t->f);
        tx_deinit(t);
        free(t);
    }
    cr_assert_geq(met * 2, seeds(4));
}

/* Transactions that end late, in a log of the fewest files that there may be: nothing may ever wait for itself. */
Test(store_txn, the_smallest_log_goes_on_with_commits_of_old_batches)
{
    for (uint64_t files = 4; files <= 7; files++) {
        struct tx_fixture *t = malloc(sizeof(*t));
        tx_init(t, 800 + files);
        t->f.options.wal_bytes_budget = files * 4 * MIB;
        tx_open(t);
        tx_open_partitions(t, 4);
        struct tx *open[4] = {0};
        for (uint32_t round = 0; round < 120; round++) {
            struct tx **tx = &open[round % 4];
            if (*tx)
                cr_assert_eq(tx_end(t, *tx, round % 7 != 0), 0);
            *tx = tx_begin(t);
            for (uint32_t i = 0; i < 3; i++)
                cr_assert_eq(tx_stage(t, *tx, sf_any(&t->f), 1, 50 * KIB), 0);
            sf_load(&t->f, random_below(&t->f.dice, 1 * MIB));
        }
        sf_flush(&t->f);
        store_fixture_verify(&t->f);
        store_fixture_crash(&t->f);
        tx_open(t);
        store_fixture_verify(&t->f);
        tx_deinit(t);
        free(t);
    }
}

/* A batch of partition 1/1, or a staged one, tried for so many turns. */
static int append_within(struct tx_fixture *t, const struct disk_txn_name *name, uint32_t size,
                         int turns)
{
    struct wal_view view;
    uint64_t base_offset;
    struct wal_entry entry = {.type = name ? ENTRY_STAGED : ENTRY_BATCH,
                              .topic_id = 1,
                              .partition = 1,
                              .pieces = {{t->f.batch, size}},
                              .piece_count = 1};
    if (name) {
        entry.pieces[1] = entry.pieces[0];
        entry.pieces[0].bytes = name;
        entry.pieces[0].len = sizeof(*name);
        entry.piece_count = 2;
    }
    int status = E_FULL;
    for (int i = 0; i < turns && status == E_FULL; i++) {
        status = store_append(t->f.store, &entry, &view, &base_offset);
        sf_turn(&t->f);
    }
    return status;
}

static int produce_within(struct tx_fixture *t, int turns)
{
    return append_within(t, NULL, sf_make_batch(&t->f, 1, 64 * KIB, 1), turns);
}

Test(store_txn, a_commit_of_old_batches_waits_until_its_segment_could_be_closed)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 60);
    t->f.options.wal_bytes_budget = 16 * MIB;
    tx_open(t);
    tx_open_partitions(t, 2);
    struct sf_partition *p = tx_partition(t, 0);
    struct tx *tx = tx_begin(t);
    cr_assert_eq(tx_stage(t, tx, p, 3, 50 * KIB), 0);
    t->f.store->upkeep.unweave_retry_ns = UINT64_MAX; // so that no segment comes back
    while (wal_segment_count(t->f.store->wal) < 3) {
        t->f.store->upkeep.minds_reserve = false; // as if batches left no room
        int status = append_within(t, NULL, sf_make_batch(&t->f, 1, 60 * KIB, 1), 1);
        cr_assert(status == 0 || status == E_FULL);
    }
    struct wal_view view;
    uint64_t reserved_lsn = store_reserved_lsn(t->f.store);
    cr_assert_eq(store_append_commit(t->f.store, &tx->name, 0, &view), E_FULL);
    cr_assert_eq(store_reserved_lsn(t->f.store), reserved_lsn);
    cr_assert_eq(staged_sum(store_staged(t->f.store), &tx->name).batch_count, 1);
    uint32_t on_room = t->f.on_room;
    t->f.store->upkeep.unweave_retry_ns = 0;
    cr_assert_eq(tx_end(t, tx, true), 0);
    sf_flush(&t->f);
    sf_idle(&t->f, 100 * NS_PER_MS);
    cr_assert_gt(t->f.on_room, on_room, "who waits is told");
    cr_assert_eq(sf_verify_from(&t->f, p, 0, SF_READ_BYTES), 0);
    tx_deinit(t);
    free(t);
}

/* Batches wait for files; the files wait for the open segment, whose index lists what lies in the first one; and without
 * batches nothing fills it. */
Test(store_txn, an_open_segment_that_holds_back_all_others_is_closed_early)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 61);
    t->f.options.wal_bytes_budget = 24 * MIB;
    tx_open(t);
    tx_open_partitions(t, 2);
    struct sf_partition *p = tx_partition(t, 0);
    struct tx *tx = tx_begin(t), *stays = tx_begin(t);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(tx_stage(t, tx, p, 1, 100 * KIB), 0);
    for (int i = 0; i < 15; i++)
        cr_assert_eq(tx_stage(t, stays, p, 1, 100 * KIB), 0);
    while (wal_segment_count(t->f.store->wal) < 4)
        cr_assert_eq(sf_produce(&t->f, p, 1, 60 * KIB), 0);
    cr_assert_eq(tx_end(t, tx, true), 0);
    cr_assert_lt(index_open_lowest(t->f.store->open), 4 * MIB, "it lies in the first segment");
    for (int i = 0; i < 400; i++)
        cr_assert_eq(sf_produce(&t->f, p, 1, 60 * KIB), 0);
    cr_assert_eq(tx_end(t, stays, true), 0);
    sf_flush(&t->f);
    store_fixture_verify(&t->f);
    tx_deinit(t);
    free(t);
}

/* The store does not promise to go on then, but it promises to wait, and to go on after an end. */
Test(store_txn, when_more_is_staged_than_can_be_moved_the_log_waits_for_an_end)
{
    for (uint32_t kib = 9; kib < 120; kib = kib * 3 / 2) {
        struct tx_fixture *t = malloc(sizeof(*t));
        tx_init(t, 900 + kib);
        t->f.options.wal_bytes_budget = 16 * MIB;
        tx_open(t);
        tx_open_partitions(t, 2);
        struct tx *open[3] = {tx_begin(t), tx_begin(t), tx_begin(t)};
        int status = 0;
        for (uint32_t i = 0; status == 0; i++) {
            uint32_t size = sf_make_batch(&t->f, 1, kib * KIB, 1);
            status = append_within(t, &open[i % 3]->name, size, 3000);
        }
        cr_assert_eq(status, E_FULL);
        cr_assert_gt(store_stats(t->f.store).staged_bytes, store_staged_bytes_max(t->f.store));
        uint64_t moved_bytes = store_stats(t->f.store).moved_bytes;
        cr_assert_eq(append_within(t, NULL, sf_make_batch(&t->f, 1, 100, 1), 20000), E_FULL);
        cr_assert_eq(store_stats(t->f.store).moved_bytes, moved_bytes, "it does not go round");
        for (int i = 0; i < 3; i++) {
            struct wal_view view;
            cr_assert_eq(store_append_abort(t->f.store, &open[i]->name, 0, &view), 0, "%u KiB",
                         kib);
        }
        for (int i = 0; i < 200; i++)
            cr_assert_eq(produce_within(t, 100000), 0, "the log goes on");
        tx_deinit(t);
        free(t);
    }
}

Test(store_txn, a_full_disk_lets_open_transactions_end)
{
    static const uint64_t frees[] = {0, 3 * MIB, 20 * MIB, 90 * MIB};
    for (uint32_t i = 0; i < ARRAY_COUNT(frees); i++) {
        struct tx_fixture *t = malloc(sizeof(*t));
        struct store_fixture *f = &t->f;
        tx_init(t, 70 + i);
        tx_open(t);
        tx_open_partitions(t, 3);
        struct tx *tx = tx_begin(t), *aborted = tx_begin(t);
        for (uint32_t k = 0; k < 20; k++) {
            cr_assert_eq(tx_stage(t, tx, tx_partition(t, k % 2), 1, 10 * KIB), 0);
            cr_assert_eq(tx_stage(t, aborted, tx_partition(t, 0), 1, 10 * KIB), 0);
        }
        sf_idle(f, NS_PER_S);
        f->disk->capacity_blocks = f->disk->allocated_blocks + frees[i] / SIM_BLOCK;
        int status = 0;
        for (int k = 0; k < 8000 && status == 0; k++)
            status = sf_produce(f, tx_partition(t, 2), 3, 60000);
        cr_assert_eq(status, E_NO_SPACE);
        cr_assert_eq(tx_stage(t, tx, tx_partition(t, 0), 1, 100), E_NO_SPACE);
        uint64_t end = store_reserved_lsn(f->store) + 30 * MIB, revision = 1;
        while (store_reserved_lsn(f->store) < end) { // what is no batch goes on
            struct disk_partition_open settings = sf_settings(++revision, UINT64_MAX, UINT64_MAX);
            cr_assert_eq(sf_open_partition_as(f, 1, 0, settings), 0);
            if (revision % 64 == 0)
                sf_flush(f);
        }
        cr_assert_gt(moved(t), 0);
        cr_assert_eq(tx_end(t, aborted, false), 0);
        cr_assert_eq(tx_end(t, tx, true), 0);
        sf_flush(f);
        cr_assert_eq(f->on_failed, 0);
        store_fixture_verify(f);
        store_fixture_crash(f);
        tx_open(t);
        store_fixture_verify(f);
        tx_deinit(t);
        free(t);
    }
}

Test(store_txn, retention_by_time_counts_from_the_commit)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 62);
    tx_open(t);
    cr_assert_eq(sf_open_partition_as(&t->f, 1, 0, sf_settings(1, 60000, UINT64_MAX)), 0);
    cr_assert_eq(sf_open_partition(&t->f, 1, 1), 0);
    struct sf_partition *p = tx_partition(t, 0), *q = tx_partition(t, 1);
    struct tx *tx = tx_begin(t);
    cr_assert_eq(sf_produce(&t->f, p, 2, 1000), 0);
    cr_assert_eq(tx_stage(t, tx, p, 3, 1000), 0);
    sf_idle(&t->f, 2 * NS_PER_S);
    cr_assert_eq(sf_produce(&t->f, q, 1, 10), 0); // the log's clock is known at its entries
    sf_idle(&t->f, 57 * NS_PER_S);
    cr_assert_eq(tx_end(t, tx, true), 0);
    sf_idle(&t->f, 2 * NS_PER_S);
    cr_assert_eq(sf_produce(&t->f, q, 1, 10), 0);
    struct partition *partition = store_partition(t->f.store, 1, 0);
    sf_idle(&t->f, 20 * NS_PER_S);
    cr_assert_eq(partition->log_start, 2, "what is older is gone");
    sf_idle(&t->f, 80 * NS_PER_S);
    cr_assert_eq(partition->log_start, 5);
    tx_deinit(t);
    free(t);
}

Test(store_txn, a_damaged_staged_batch_is_never_moved)
{
    struct tx_fixture *t = malloc(sizeof(*t));
    tx_init(t, 63);
    tx_open(t);
    tx_open_partitions(t, 2);
    struct sf_partition *p = tx_partition(t, 0);
    struct tx *tx = tx_begin(t);
    cr_assert_eq(tx_stage(t, tx, p, 1, 5000), 0);
    sf_flush(&t->f);
    uint64_t lsn = staged_lowest(store_staged(t->f.store));
    struct segment *segment = wal_segment_at(t->f.store->wal, 0);
    uint8_t *block = aligned_alloc(DISK_BLOCK, DISK_BLOCK);
    uint64_t at = align_down(segment_offset(segment, lsn), DISK_BLOCK);
    cr_assert_eq(io_read_wait(t->f.io, segment->fd, block, DISK_BLOCK, at), DISK_BLOCK);
    block[lsn % DISK_BLOCK + 100] ^= 1;
    cr_assert_eq(io_write_wait(t->f.io, segment->fd, block, DISK_BLOCK, at), DISK_BLOCK);
    free(block);
    for (int i = 0; i < 2000; i++)
        if (produce_within(t, 2000) != 0)
            break;
    cr_assert_eq(moved(t), 0);
    cr_assert_eq(staged_lowest(store_staged(t->f.store)), lsn);
    cr_assert_eq(wal_segment_at(t->f.store->wal, 0)->number, 1);
    cr_assert_eq(tx_end(t, tx, false), 0);
    for (int i = 0; i < 200; i++)
        cr_assert_eq(produce_within(t, 100000), 0, "the log goes on");
    tx_deinit(t);
    free(t);
}

/* ---- crashes ---- */

Test(store_txn, a_power_cut_anywhere_between_staging_and_commit_leaves_all_or_nothing)
{
    for (uint64_t seed = 1; seed <= seeds(10); seed++) {
        struct tx_fixture *t = malloc(sizeof(*t));
        tx_init(t, 500 + seed);
        tx_open(t);
        tx_open_partitions(t, 4);
        sf_flush(&t->f);
        for (int round = 0; round < 6; round++) {
            struct tx *tx = tx_begin(t);
            uint32_t count = 1 + (uint32_t)random_below(&t->f.dice, 30);
            for (uint32_t i = 0; i < count; i++)
                cr_assert_eq(
                    tx_stage(t, tx, sf_any(&t->f), 1 + i % 3, 1u << random_below(&t->f.dice, 17)),
                    0);
            if (random_below(&t->f.dice, 2))
                sf_flush(&t->f);
            if (random_below(&t->f.dice, 3))
                cr_assert_eq(tx_end(t, tx, random_below(&t->f.dice, 4)), 0);
            for (uint64_t turns = random_below(&t->f.dice, 6); turns > 0; turns--)
                sf_turn(&t->f);
            store_fixture_crash(&t->f);
            tx_open(t);
            store_fixture_verify(&t->f);
            /* The model took its batches when the COMMIT was appended; if that is gone, they must be staged still. */
            for (uint32_t i = 0; i < t->count; i++)
                if (t->transactions[i].state == TX_OPEN && random_below(&t->f.dice, 2))
                    cr_assert_eq(tx_end(t, &t->transactions[i], true), 0);
            sf_flush(&t->f);
            store_fixture_verify(&t->f);
        }
        tx_deinit(t);
        free(t);
    }
}
