/* The store as a whole, on the simulated disk: what was appended is visible when it is durable, comes back byte for
 * byte from memory, segments and archive files, and after every kind of end. */
#include <errno.h>

#include "tests/unit/storage/store_fixture.h"
#include "tests/unit/seeds.h"

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

Test(store, a_read_ends_where_visibility_ends)
{
    for (int from_file = 0; from_file < 2; from_file++) {
        struct store_fixture f;
        store_fixture_init(&f, 18);
        f.options.group_slot_count = 4;
        cr_assert_eq(store_fixture_open(&f), 0);
        open_partitions(&f, 2);
        cr_assert_eq(sf_produce(&f, &f.partitions[0], 3, 1000), 0);
        sf_flush(&f);
        for (int i = 0; from_file && i < 8; i++) { // small groups push it out of memory
            cr_assert_eq(sf_produce(&f, &f.partitions[1], 1, 300), 0);
            sf_flush(&f);
        }
        cr_assert_eq(sf_produce(&f, &f.partitions[0], 2, 1000), 0);
        struct sf_read r = {.read = {.partition = store_partition(f.store, 1, 0),
                                     .buffer = f.buffer,
                                     .capacity = SF_READ_BYTES,
                                     .done = sf_read_done,
                                     .hint = INDEX_NONE}};
        cr_assert_eq(store_read(f.store, &r.read), !from_file);
        while (from_file && !r.done)
            (void)io_poll(f.io, NS_PER_MS);
        cr_assert_eq(r.read.status, 0);
        cr_assert_eq(r.read.batch_count, 1);
        cr_assert_eq(r.read.next_offset, 3);
        store_fixture_deinit(&f);
    }
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
    for (uint64_t seed = 1; seed <= seeds(12); seed++) {
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

/* ---- archive, recycling ---- */

static void run_until(struct store_fixture *f, bool (*reached)(struct store_fixture *f))
{
    for (int i = 0; i < 100000 && !reached(f); i++)
        sf_turn(f);
    cr_assert(reached(f));
}

static bool has_archives(struct store_fixture *f)
{
    return store_stats(f->store).archives > 0 && !archives_is_unweaving(f->store->archives);
}

static bool has_recycled(struct store_fixture *f)
{
    return wal_segment_at(f->store->wal, 0)->number > 1;
}

Test(store, beyond_the_budget_segments_are_unwoven_and_recycled)
{
    struct store_fixture f;
    store_fixture_init(&f, 5);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 9);
    sf_load(&f, 150 * MIB);
    sf_flush(&f);
    run_until(&f, has_archives);
    run_until(&f, has_recycled);
    struct store_stats stats = store_stats(f.store);
    cr_assert_leq(stats.segments * 4 * MIB, 48 * MIB, "the budget holds");
    cr_assert_gt(stats.checkpoints, 1);
    store_fixture_verify(&f);
    cr_assert_gt(store_stats(f.store).reads_archive, 0);
    store_fixture_deinit(&f);
}

Test(store, archive_files_survive_crashes)
{
    for (uint64_t seed = 1; seed <= seeds(4); seed++) {
        struct store_fixture f;
        store_fixture_init(&f, 200 + seed);
        cr_assert_eq(store_fixture_open(&f), 0);
        open_partitions(&f, 9);
        sf_flush(&f);
        for (int round = 0; round < 5; round++) {
            sf_load(&f, 20 * MIB + random_below(&f.dice, 20 * MIB));
            sf_idle(&f, random_below(&f.dice, 30 * NS_PER_MS));
            if (round % 3 == 2)
                cr_assert_eq(store_fixture_close(&f), 0);
            else
                store_fixture_crash(&f);
            cr_assert_eq(store_fixture_open(&f), 0, "seed %lu: %s", seed, f.text);
            store_fixture_verify(&f);
        }
        cr_assert_gt(store_stats(f.store).archives, 0);
        store_fixture_deinit(&f);
    }
}

Test(store, one_old_record_is_kept_while_everything_else_expires)
{
    struct store_fixture f;
    store_fixture_init(&f, 19);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_open_partition(&f, 1, 0), 0);
    cr_assert_eq(sf_open_partition_as(&f, 1, 1, sf_settings(1, UINT64_MAX, 100 * KIB)), 0);
    cr_assert_eq(sf_produce(&f, &f.partitions[0], 1, 100), 0);
    f.partitions[0].is_open = false; // for sf_load()
    for (int round = 0; round < 30; round++) {
        sf_load(&f, 4 * MIB);
        sf_idle(&f, 100 * NS_PER_MS);
    }
    f.partitions[0].is_open = true;
    cr_assert_gt(wal_segment_at(f.store->wal, 0)->number, 1, "its segment is long gone");
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

/* ---- dropped partitions ---- */

Test(store, a_dropped_partition_is_gone_and_its_reads_are_canceled)
{
    struct store_fixture f;
    store_fixture_init(&f, 6);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 3);
    sf_load(&f, 12 * MIB);
    sf_flush(&f);
    struct partition *partition = store_partition(f.store, 1, 1);
    struct sf_read r = {.read = {.partition = partition,
                                 .buffer = f.buffer,
                                 .capacity = SF_READ_BYTES,
                                 .done = sf_read_done,
                                 .hint = INDEX_NONE}};
    cr_assert_eq(store_read(f.store, &r.read), 0, "from a file, so it waits");
    cr_assert_eq(sf_drop_partition(&f, 1, 1), 0);
    cr_assert_eq(f.on_drop, 1);
    cr_assert_null(store_partition(f.store, 1, 1));
    for (int i = 0; i < 10000 && !r.done; i++)
        sf_turn(&f);
    cr_assert(r.done);
    cr_assert_eq(r.read.status, E_CANCELED);
    sf_flush(&f);
    store_fixture_verify(&f);
    uint64_t digest = store_digest(f.store);
    store_fixture_crash(&f);
    cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
    cr_assert_null(store_partition(f.store, 1, 1));
    cr_assert_eq(store_digest(f.store), digest);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(store, a_partition_dropped_before_its_batches_are_durable_is_never_told)
{
    struct store_fixture f;
    store_fixture_init(&f, 7);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 2);
    sf_flush(&f);
    cr_assert_eq(sf_produce(&f, &f.partitions[0], 1, 100), 0);
    cr_assert_eq(sf_produce(&f, &f.partitions[1], 1, 100), 0);
    cr_assert_eq(sf_drop_partition(&f, 1, 0), 0);
    sf_flush(&f);
    cr_assert_eq(f.partitions[0].on_visible, 0);
    cr_assert_eq(f.partitions[1].on_visible, 1);
    store_fixture_deinit(&f);
}

/* ---- replay ---- */

Test(store, replayed_state_equals_live_state)
{
    for (uint64_t seed = 1; seed <= seeds(8); seed++) {
        struct store_fixture f;
        store_fixture_init(&f, 300 + seed);
        cr_assert_eq(store_fixture_open(&f), 0);
        open_partitions(&f, 12);
        for (int round = 0; round < 3; round++) {
            sf_load(&f, random_below(&f.dice, 8 * MIB));
            if (round == 1)
                cr_assert_eq(sf_drop_partition(&f, 1, (uint32_t)(seed % 4)), 0);
            if (random_below(&f.dice, 2))
                sf_checkpoint(&f);
            sf_flush(&f);
            sf_idle(&f, 20 * NS_PER_MS);
            sf_flush(&f);
            uint64_t digest = store_digest(f.store);
            store_fixture_crash(&f);
            cr_assert_eq(store_fixture_open(&f), 0, "seed %lu: %s", seed, f.text);
            cr_assert_eq(store_digest(f.store), digest, "seed %lu, round %d", seed, round);
        }
        store_fixture_deinit(&f);
    }
}

Test(store, what_lies_before_a_checkpoint_inside_the_open_segment_can_be_read)
{
    struct store_fixture f;
    store_fixture_init(&f, 8);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 3);
    sf_load(&f, 1 * MIB);
    sf_checkpoint(&f);
    sf_load(&f, 1 * MIB);
    sf_flush(&f);
    cr_assert_eq(store_stats(f.store).segments, 1);
    store_fixture_crash(&f);
    cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
    cr_assert_gt(f.store->upkeep.kept[0].position.lsn, 0);
    cr_assert_gt(f.result.entries, 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

static void newest_checkpoint(struct store_fixture *f, char *path)
{
    uint64_t number = f->store->upkeep.kept[0].number;
    snprintf(path, 100, SF_DIR "/shard-002/checkpoint/%016lx.ckpt", number);
}

Test(store, the_older_checkpoint_is_as_good_a_start)
{
    for (uint64_t seed = 1; seed <= seeds(4); seed++) {
        struct store_fixture f;
        char path[100];
        store_fixture_init(&f, 400 + seed);
        cr_assert_eq(store_fixture_open(&f), 0);
        open_partitions(&f, 6);
        for (int round = 0; round < 3; round++) {
            sf_load(&f, 30 * MIB + random_below(&f.dice, 20 * MIB));
            sf_flush(&f);
            sf_idle(&f, random_below(&f.dice, 50 * NS_PER_MS));
            uint64_t digest = store_digest(f.store);
            newest_checkpoint(&f, path);
            if (round % 2)
                cr_assert_eq(store_fixture_close(&f), 0);
            else
                store_fixture_kill(&f);
            sim_disk_settle(f.disk);
            sim_disk_flip(f.disk, path, 100 + random_below(&f.dice, 3000), 1);
            cr_assert_eq(store_fixture_open(&f), 0, "seed %lu: %s", seed, f.text);
            cr_assert_eq(store_digest(f.store), digest);
            store_fixture_verify(&f);
        }
        store_fixture_deinit(&f);
    }
}

Test(store, without_any_good_checkpoint_it_refuses_and_writes_nothing)
{
    struct store_fixture f;
    char path[100];
    store_fixture_init(&f, 16);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 2);
    sf_load(&f, 1 * MIB);
    sf_checkpoint(&f);
    newest_checkpoint(&f, path);
    sf_flush(&f);
    store_fixture_kill(&f);
    sim_disk_settle(f.disk);
    sim_disk_flip(f.disk, path, 77, 1);
    uint64_t hash = sim_disk_hash(f.disk);
    cr_assert_eq(store_fixture_open(&f), E_CORRUPT);
    cr_assert_not_null(strstr(f.text, path), "names the file: %s", f.text);
    cr_assert_eq(sim_disk_hash(f.disk), hash);
    store_fixture_deinit(&f);
}

/* ---- index files ---- */

static void paths_of(struct store_fixture *f, uint64_t number, char *index, char *segment)
{
    snprintf(index, 100, SF_DIR "/shard-002/wal/%016lx.idx", number);
    snprintf(segment, 100, SF_DIR "/shard-002/wal/%016lx.wal", number);
}

static void two_closed_segments(struct store_fixture *f, uint64_t seed)
{
    store_fixture_init(f, seed);
    cr_assert_eq(store_fixture_open(f), 0);
    open_partitions(f, 3);
    sf_load(f, 9 * MIB);
    sf_flush(f);
    sf_idle(f, 50 * NS_PER_MS);
    cr_assert_eq(store_fixture_close(f), 0);
    sim_disk_settle(f->disk);
}

/* Found by fuzzing. Without checkpoints nobody names the archive files; with the checkpoints back they are the only
 * place of what is in them. */
Test(store, a_start_that_refuses_deletes_no_archive_file)
{
    struct store_fixture f;
    char path[100];
    store_fixture_init(&f, 17);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 2);
    sf_load(&f, 1 * MIB);
    sf_checkpoint(&f);
    sf_flush(&f);
    newest_checkpoint(&f, path);
    store_fixture_kill(&f);
    sim_disk_settle(f.disk);
    sim_disk_put(f.disk, SF_DIR "/shard-002/archive/0000000000000007.arc", "older batches", 0, 13);
    sim_disk_remove(f.disk, path); // the only one
    sim_disk_remove(f.disk, SF_DIR "/shard-002/wal/0000000000000001.wal");
    uint64_t before = sim_disk_hash(f.disk);
    cr_assert_eq(store_fixture_open(&f), E_CORRUPT, "%s", f.text);
    cr_assert_eq(sim_disk_hash(f.disk), before, "a refused start has changed something");
    store_fixture_deinit(&f);
}

Test(store, a_lost_index_is_made_anew)
{
    struct store_fixture f;
    char index[100], segment[100];
    two_closed_segments(&f, 9);
    paths_of(&f, 1, index, segment);
    cr_assert_not_null(sim_disk_find(f.disk, index), "it had been written");
    sim_disk_remove(f.disk, index);
    cr_assert_eq(store_fixture_open(&f), 0);
    store_fixture_verify(&f);
    sf_idle(&f, 50 * NS_PER_MS);
    cr_assert_not_null(sim_disk_find(f.disk, index), "and is written again");
    store_fixture_deinit(&f);
}

Test(store, a_damaged_index_is_never_believed)
{
    struct store_fixture f;
    char index[100], segment[100];
    two_closed_segments(&f, 10);
    paths_of(&f, 1, index, segment);
    uint64_t size = sim_disk_find(f.disk, index)->size;
    for (int round = 0; round < 40; round++) {
        sim_disk_flip(f.disk, index, random_below(&f.dice, size), 1 << random_below(&f.dice, 8));
        cr_assert_eq(store_fixture_open(&f), 0);
        store_fixture_verify(&f);
        sf_idle(&f, 50 * NS_PER_MS);
        cr_assert_eq(store_fixture_close(&f), 0);
        sim_disk_settle(f.disk);
    }
    for (uint64_t cut = 0; cut < size; cut += size / 7 + 1) {
        sim_disk_resize(f.disk, index, cut);
        cr_assert_eq(store_fixture_open(&f), 0);
        store_fixture_verify(&f);
        sf_idle(&f, 50 * NS_PER_MS);
        cr_assert_eq(store_fixture_close(&f), 0);
        sim_disk_settle(f.disk);
    }
    store_fixture_deinit(&f);
}

Test(store, an_index_of_another_segment_is_not_believed)
{
    struct store_fixture f;
    char index[100], other[100], segment[100];
    two_closed_segments(&f, 11);
    paths_of(&f, 1, index, segment);
    paths_of(&f, 2, other, segment);
    sim_disk_remove(f.disk, index);
    sim_disk_move(f.disk, other, index);
    cr_assert_eq(store_fixture_open(&f), 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(store, an_index_is_not_made_from_damaged_groups)
{
    struct store_fixture f;
    char index[100], segment[100];
    two_closed_segments(&f, 20);
    paths_of(&f, 1, index, segment);
    sim_disk_remove(f.disk, index);
    struct sf_batch *batch = &f.partitions[0].batches[5];
    uint64_t count_at = DISK_SEGMENT_DATA + batch->lsn + ENTRY_HEADER_BYTES +
                        offsetof(struct batch_header, record_count) + 3;
    sim_disk_flip(f.disk, segment, count_at, 1);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_verify_from(&f, &f.partitions[0], 0, 256 * KIB), E_CORRUPT);
    store_fixture_deinit(&f);
}

/* ---- damage ---- */

Test(store, damaged_data_is_reported_and_never_skipped)
{
    struct store_fixture f;
    char index[100], segment[100];
    two_closed_segments(&f, 12);
    paths_of(&f, 1, index, segment);
    struct sf_partition *p = &f.partitions[1];
    struct sf_batch *bad = NULL;
    for (uint32_t i = 0; i < p->count && p->batches[i].lsn < 3 * MIB; i++)
        bad = &p->batches[i];
    uint64_t at = DISK_SEGMENT_DATA + bad->lsn + ENTRY_HEADER_BYTES + bad->size / 2;
    sim_disk_flip(f.disk, segment, at, 4);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_verify_from(&f, p, 0, 256 * KIB), E_CORRUPT);
    cr_assert_eq(sf_verify_from(&f, p, bad->base_offset, 256 * KIB), E_CORRUPT);
    struct partition *partition = store_partition(f.store, p->topic_id, p->partition);
    uint32_t hint = INDEX_NONE;
    struct store_damage damage = sf_read(&f, partition, bad->base_offset, 256 * KIB, &hint).damage;
    cr_assert_eq(damage.file_number, 1);
    cr_assert_eq(damage.lsn, bad->lsn + ENTRY_HEADER_BYTES);
    cr_assert_eq(damage.file_offset, DISK_SEGMENT_DATA + damage.lsn);
    cr_assert_eq(sf_verify_from(&f, p, bad->base_offset + bad->record_count, 256 * KIB), 0);
    cr_assert_eq(sf_verify_from(&f, &f.partitions[0], 0, 256 * KIB), 0, "others go on");
    cr_assert_eq(sf_verify_from(&f, &f.partitions[2], 0, 256 * KIB), 0);
    store_fixture_deinit(&f);
}

/* A disk may give wrong bytes once and the right ones later. Found by the simulator: the log grew to its budget and stood still. */
Test(store, a_damaged_source_is_tried_again_after_a_while)
{
    struct store_fixture f;
    char index[100], segment[100];
    store_fixture_init(&f, 14);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 3);
    sf_load(&f, 20 * MIB);
    sf_flush(&f);
    sf_idle(&f, 50 * NS_PER_MS);
    paths_of(&f, 1, index, segment);
    const struct sf_batch *bad = &f.partitions[1].batches[0];
    uint64_t at = DISK_SEGMENT_DATA + bad->lsn + ENTRY_HEADER_BYTES + bad->size / 2;
    sim_disk_settle(f.disk);
    sim_disk_flip(f.disk, segment, at, 4);
    sf_load(&f, 20 * MIB); // over three quarters of the budget
    sf_idle(&f, 3 * NS_PER_S);
    cr_assert_eq(store_stats(f.store).archives, 0);
    cr_assert_eq(f.on_failed, 0, "the log itself is well");
    sim_disk_flip(f.disk, segment, at, 4);
    sf_idle(&f, 2 * UPKEEP_DAMAGE_RETRY_NS);
    cr_assert_gt(store_stats(f.store).archives, 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(store, a_read_error_reaches_only_the_one_who_reads)
{
    struct store_fixture f;
    store_fixture_init(&f, 13);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 3);
    sf_load(&f, 12 * MIB);
    sf_flush(&f);
    sf_idle(&f, 50 * NS_PER_MS);
    struct partition *partition = store_partition(f.store, 1, 0);
    uint32_t hint = INDEX_NONE;
    io_sim_fail(f.io, IO_READ, 1, 1, EIO);
    cr_assert_eq(sf_read(&f, partition, 0, SF_READ_BYTES, &hint).status, E_IO);
    cr_assert_eq(f.on_failed, 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(store, a_segment_that_is_being_read_is_not_recycled)
{
    struct store_fixture f;
    store_fixture_init(&f, 17);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 3);
    sf_load(&f, 20 * MIB);
    sf_flush(&f);
    sf_idle(&f, 50 * NS_PER_MS);
    struct partition *partition = store_partition(f.store, 1, 1);
    uint32_t hint = INDEX_NONE;
    cr_assert_eq(sf_read(&f, partition, 0, SF_READ_BYTES, &hint).status, 0, "index loaded");
    struct sf_read r = {.read = {.partition = partition,
                                 .buffer = f.buffer,
                                 .capacity = SF_READ_BYTES,
                                 .done = sf_read_done,
                                 .hint = INDEX_NONE}};
    cr_assert_eq(store_read(f.store, &r.read), 0);
    cr_assert_eq(wal_segment_at(f.store->wal, 0)->pins, 1);
    /* as if everything had been archived two checkpoints ago */
    f.store->upkeep.kept[1] = (struct checkpoint_head){.number = 1, .wal_first_file = 3};
    (void)store_turn(f.store, io_sim_now_ns(f.io), io_sim_now_wall_ms(f.io));
    cr_assert_eq(wal_segment_at(f.store->wal, 0)->number, 1);
    while (!r.done)
        (void)io_poll(f.io, NS_PER_MS);
    cr_assert_eq(r.read.status, 0);
    uint32_t at = 0;
    sf_compare(&f, &f.partitions[1], &r.read, &at);
    (void)store_turn(f.store, io_sim_now_ns(f.io), io_sim_now_wall_ms(f.io));
    cr_assert_eq(wal_segment_at(f.store->wal, 0)->number, 3);
    store_fixture_deinit(&f);
}

/* It once went back while an index was being read, by which everything may still be needed; the files in between were
 * recycled by the older checkpoint's word, and the newest one asked for them. */
Test(store, a_checkpoint_never_asks_for_files_that_an_earlier_one_has_let_go)
{
    struct store_fixture f;
    store_fixture_init(&f, 18);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 3);
    sf_load(&f, 20 * MIB);
    sf_flush(&f);
    sf_idle(&f, 50 * NS_PER_MS);
    cr_assert_eq(upkeep_first_file(f.store), 1, "nothing is archived: all of it is needed");
    f.store->upkeep.kept[0] = (struct checkpoint_head){.number = 2, .wal_first_file = 3};
    cr_expect_eq(upkeep_first_file(f.store), 3);
    store_fixture_deinit(&f);
}

/* ---- large batches, many readers ---- */

Test(store, batches_larger_than_a_piece_are_read_one_by_one)
{
    struct store_fixture f;
    store_fixture_init(&f, 14);
    f.options.batch_bytes_max = 1 * MIB;
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 2);
    for (int i = 0; i < 14; i++)
        cr_assert_eq(sf_produce(&f, &f.partitions[i % 2], 2, 1 * MIB - 300 - 1000 * (uint32_t)i),
                     0);
    sf_flush(&f);
    cr_assert_eq(sf_verify_from(&f, &f.partitions[0], 0, SF_READ_BYTES), 0);
    cr_assert_eq(sf_verify_from(&f, &f.partitions[1], 0, 4096), 0);
    store_fixture_deinit(&f);
}

#define READERS 40u

struct consumer {
    struct store_read read;
    bool done;
    struct store_fixture *f;
    uint8_t *buffer;
    struct sf_partition *p;
    uint32_t at;
    uint64_t offset;
};

Test(store, many_readers_share_the_slots)
{
    struct store_fixture f;
    store_fixture_init(&f, 15);
    cr_assert_eq(store_fixture_open(&f), 0);
    open_partitions(&f, 8);
    sf_load(&f, 30 * MIB);
    sf_flush(&f);
    struct consumer *readers = calloc(READERS, sizeof(*readers));
    uint32_t ended = 0, full = 0, started = 0;
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i].p = &f.partitions[i % 8];
        readers[i].buffer = malloc(SF_READ_BYTES);
        readers[i].read.hint = INDEX_NONE;
    }
    for (int turn = 0; turn < 1000000 && ended < READERS; turn++) {
        struct consumer *r = &readers[(uint32_t)turn % READERS];
        if (turn % 16 == 0)
            sf_turn(&f);
        if (!r->p || (r->read.job && !r->done))
            continue;
        struct partition *partition = store_partition(f.store, r->p->topic_id, r->p->partition);
        if (r->read.partition) {
            memcpy(f.buffer, r->buffer, r->read.bytes);
            cr_assert_eq(r->read.status, 0);
            sf_compare(&f, r->p, &r->read, &r->at);
            r->offset = r->read.next_offset;
        }
        r->read.partition = NULL;
        if (r->offset == partition->visible_end) {
            r->p = NULL;
            ended++;
            continue;
        }
        uint32_t hint = r->read.hint;
        r->done = false;
        r->read = (struct store_read){.partition = partition,
                                      .offset = r->offset,
                                      .buffer = r->buffer,
                                      .capacity = 512 * KIB,
                                      .done = sf_read_done,
                                      .hint = hint};
        int status = store_read(f.store, &r->read);
        if (status == E_FULL) {
            full++;
            r->read.partition = NULL;
        }
        started++;
    }
    cr_assert_eq(ended, READERS);
    cr_assert_gt(full, 0, "four slots for forty");
    for (uint32_t i = 0; i < READERS; i++)
        free(readers[i].buffer);
    free(readers);
    store_fixture_deinit(&f);
}
