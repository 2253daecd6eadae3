/* Retention by time and by size, its parts alone (time marks, disk room), and what it frees. */
#include "tests/unit/storage/store_fixture.h"

#include "storage/disk_room.h"
#include "storage/time_marks.h"

#define DAY_MS (24 * 3600 * 1000ull)

/* ---- time marks ---- */

Test(time_marks, a_cut_never_takes_what_is_younger)
{
    struct time_marks times;
    struct random random;
    random_init(&random, 1);
    for (int round = 0; round < 50; round++) {
        time_marks_clear(&times);
        uint64_t ms[5000], now = 1000;
        uint32_t count = 1 + (uint32_t)random_below(&random, 5000);
        for (uint32_t i = 0; i < count; i++) {
            now += random_below(&random, round % 5 ? 50 : 5000);
            ms[i] = now;
            time_marks_add(&times, now, i * 10);
        }
        for (int n = 0; n < 100; n++) {
            uint64_t at = 900 + random_below(&random, now);
            uint64_t cut = time_marks_cut(&times, at);
            for (uint32_t i = 0; i < count && i * 10 < cut; i++)
                cr_assert_leq(ms[i], at);
        }
        uint64_t cut = time_marks_cut(&times, now + 1);
        cr_assert_geq(cut, count * 10 * 9 / 10 >= 1000 ? count * 10 / 2 : 0, "not useless either");
    }
}

/* ---- disk room ---- */

Test(disk_room, changes_its_mind_only_a_quarter_above_the_border)
{
    struct disk_room room;
    disk_room_init(&room, 5, 2);
    cr_assert_not(disk_room_judge(&room, 5000, 100000));
    cr_assert(disk_room_judge(&room, 4999, 100000));
    cr_assert_eq(room.room, STORE_ROOM_LOW);
    cr_assert_not(disk_room_judge(&room, 6200, 100000), "still inside");
    cr_assert(disk_room_judge(&room, 1999, 100000));
    cr_assert_eq(room.room, STORE_ROOM_FULL);
    cr_assert_not(disk_room_judge(&room, 2400, 100000));
    cr_assert(disk_room_judge(&room, 2500, 100000));
    cr_assert_eq(room.room, STORE_ROOM_LOW);
    cr_assert(disk_room_judge(&room, 6250, 100000));
    cr_assert_eq(room.room, STORE_ROOM_OK);
    cr_assert(disk_room_judge(&room, 0, 100000));
    cr_assert_eq(room.room, STORE_ROOM_FULL);
    cr_assert(disk_room_judge(&room, 100000, 100000));
    cr_assert_eq(room.room, STORE_ROOM_OK);
}

/* ---- time ---- */

static struct partition *of(struct store_fixture *f, uint32_t i)
{
    return store_partition(f->store, f->partitions[i].topic_id, f->partitions[i].partition);
}

static void age(struct store_fixture *f, uint64_t ms)
{
    cr_assert_eq(store_fixture_close(f), 0);
    f->now_ns += ms * NS_PER_MS;
    io_free(f->io);
    sf_io(f);
    cr_assert_eq(store_fixture_open(f), 0, "%s", f->text);
}

static bool is_batch_border(const struct sf_partition *p, uint64_t offset)
{
    uint32_t at = sf_batch_at(p, offset);
    return at == p->count || p->batches[at].base_offset == offset;
}

Test(retention, closed_files_expire_for_the_topics_that_keep_less)
{
    struct store_fixture f;
    store_fixture_init(&f, 1);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_open_partition_as(&f, 1, 0, sf_settings(1, DAY_MS, UINT64_MAX)), 0);
    cr_assert_eq(sf_open_partition_as(&f, 2, 0, sf_settings(1, 9 * DAY_MS, UINT64_MAX)), 0);
    cr_assert_eq(sf_open_partition_as(&f, 3, 0, sf_settings(1, UINT64_MAX, UINT64_MAX)), 0);
    sf_load(&f, 9 * MIB);
    sf_flush(&f);
    sf_idle(&f, 3 * NS_PER_S);
    cr_assert_eq(of(&f, 0)->log_start, 0, "nothing is old yet");
    age(&f, 2 * DAY_MS);
    sf_load(&f, 1 * MIB);
    sf_flush(&f);
    sf_idle(&f, 3 * NS_PER_S);
    cr_assert_gt(of(&f, 0)->log_start, 0);
    cr_assert_eq(of(&f, 1)->log_start, 0);
    cr_assert_eq(of(&f, 2)->log_start, 0);
    cr_assert(is_batch_border(&f.partitions[0], of(&f, 0)->log_start));
    store_fixture_verify(&f);
    uint32_t hint = INDEX_NONE;
    cr_assert_eq(sf_read(&f, of(&f, 0), 0, SF_READ_BYTES, &hint).status, E_INVALID);
    age(&f, 9 * DAY_MS);
    sf_idle(&f, 3 * NS_PER_S);
    cr_assert_gt(of(&f, 1)->log_start, 0);
    cr_assert_eq(of(&f, 2)->log_start, 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(retention, batches_expire_in_the_open_segment_too)
{
    struct store_fixture f;
    store_fixture_init(&f, 2);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_open_partition_as(&f, 1, 0, sf_settings(1, 10000, UINT64_MAX)), 0);
    for (int i = 0; i < 30; i++) {
        cr_assert_eq(sf_produce(&f, &f.partitions[0], 2, 500), 0);
        sf_idle(&f, NS_PER_S);
    }
    struct partition *partition = of(&f, 0);
    cr_assert_geq(partition->log_start, 30,
                  "fifteen of thirty are older than ten seconds and slack");
    cr_assert_leq(partition->log_start, 40, "ten are younger");
    cr_assert(is_batch_border(&f.partitions[0], partition->log_start));
    cr_assert_eq(partition->bytes,
                 (uint64_t)f.partitions[0].batches[0].size * (60 - partition->log_start) / 2);
    store_fixture_verify(&f);
    sf_idle(&f, 30 * NS_PER_S);
    cr_assert_eq(partition->log_start, 60, "a silent broker forgets as well");
    cr_assert_eq(partition->bytes, 0);
    store_fixture_deinit(&f);
}

Test(retention, a_shorter_time_reaches_files_that_were_done_with)
{
    struct store_fixture f;
    store_fixture_init(&f, 3);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_open_partition_as(&f, 1, 0, sf_settings(1, DAY_MS, UINT64_MAX)), 0);
    cr_assert_eq(sf_open_partition_as(&f, 2, 0, sf_settings(1, 9 * DAY_MS, UINT64_MAX)), 0);
    sf_load(&f, 9 * MIB);
    sf_flush(&f);
    age(&f, 2 * DAY_MS);
    sf_idle(&f, 3 * NS_PER_S);
    cr_assert_gt(of(&f, 0)->log_start, 0);
    cr_assert_eq(of(&f, 1)->log_start, 0);
    cr_assert_eq(sf_open_partition_as(&f, 2, 0, sf_settings(2, DAY_MS, UINT64_MAX)), 0);
    sf_idle(&f, 3 * NS_PER_S);
    cr_assert_gt(of(&f, 1)->log_start, 0);
    store_fixture_deinit(&f);
}

/* ---- size ---- */

Test(retention, a_partition_keeps_at_least_its_limit_and_not_much_more)
{
    struct store_fixture f;
    store_fixture_init(&f, 4);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_open_partition_as(&f, 1, 0, sf_settings(1, UINT64_MAX, 2 * MIB)), 0);
    cr_assert_eq(sf_open_partition_as(&f, 2, 0, sf_settings(1, UINT64_MAX, 300 * KIB)), 0);
    cr_assert_eq(sf_open_partition_as(&f, 3, 0, sf_settings(1, UINT64_MAX, UINT64_MAX)), 0);
    sf_load(&f, 30 * MIB);
    sf_flush(&f);
    sf_idle(&f, 20 * NS_PER_S);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t limit = i == 0 ? 2 * MIB : 300 * KIB;
        struct partition *partition = of(&f, i);
        uint64_t bytes = 0;
        for (uint32_t b = sf_batch_at(&f.partitions[i], partition->log_start);
             b < f.partitions[i].count; b++)
            bytes += f.partitions[i].batches[b].size;
        cr_assert_eq(partition->bytes, bytes, "the row knows its bytes");
        cr_assert_geq(bytes, limit);
        cr_assert_leq(bytes, limit + limit / 8 + 256 * KIB);
        cr_assert(is_batch_border(&f.partitions[i], partition->log_start));
    }
    cr_assert_eq(of(&f, 2)->log_start, 0);
    store_fixture_verify(&f);
    uint64_t digest = store_digest(f.store);
    store_fixture_crash(&f);
    cr_assert_eq(store_fixture_open(&f), 0, "%s", f.text);
    cr_assert_eq(store_digest(f.store), digest, "log starts are replayed");
    store_fixture_deinit(&f);
}

/* A log that grows by several files between two passes would else outgrow its budget. */
Test(retention, one_pass_takes_as_many_files_as_the_limit_is_exceeded_by)
{
    struct store_fixture f;
    store_fixture_init(&f, 6);
    cr_assert_eq(store_fixture_open(&f), 0);
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(sf_open_partition_as(&f, 1, i, sf_settings(1, UINT64_MAX, UINT64_MAX)), 0);
    sf_load(&f, 20 * MIB);
    sf_flush(&f);
    sf_idle(&f, 2 * RETENTION_PASS_NS);
    cr_assert_gt(wal_segment_count(f.store->wal), 4);
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(sf_open_partition_as(&f, 1, i, sf_settings(2, UINT64_MAX, 300 * KIB)), 0);
    sf_idle(&f,
            RETENTION_PASS_NS + RETENTION_PASS_NS / 2); // the next one, and not the one behind it
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_geq(of(&f, i)->bytes, 300 * KIB);
        cr_assert_leq(of(&f, i)->bytes, 300 * KIB + 300 * KIB / 8 + 256 * KIB);
    }
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(retention, what_expired_within_the_budget_is_never_archived)
{
    struct store_fixture f;
    store_fixture_init(&f, 5);
    cr_assert_eq(store_fixture_open(&f), 0);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert_eq(sf_open_partition_as(&f, 1, i, sf_settings(1, UINT64_MAX, 1 * MIB)), 0);
    for (int round = 0; round < 40; round++) {
        sf_load(&f, 4 * MIB);
        sf_idle(&f, 100 * NS_PER_MS);
    }
    struct store_stats stats = store_stats(f.store);
    cr_assert_eq(stats.archives, 0);
    cr_assert_eq(stats.unweaved_bytes, 0);
    cr_assert_gt(wal_segment_at(f.store->wal, 0)->number, 20, "recycled");
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

/* It comes back with the next checkpoints, and is no reason to archive what is still kept. */
Test(retention, what_has_expired_and_waits_for_a_checkpoint_does_not_make_the_log_high)
{
    struct store_fixture f;
    store_fixture_init(&f, 7);
    cr_assert_eq(store_fixture_open(&f), 0);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert_eq(sf_open_partition_as(&f, 1, i, sf_settings(1, UINT64_MAX, 2 * MIB)), 0);
    f.store->upkeep.retry_ns = UINT64_MAX; // no checkpoint
    for (uint32_t n = 0; wal_segment_count(f.store->wal) < 10; n++) {
        cr_assert_eq(sf_produce(&f, &f.partitions[n % 4], 4, 60000), 0);
        sf_idle(&f, NS_PER_MS);
    }
    sf_idle(&f, NS_PER_S);
    cr_assert_eq(store_stats(f.store).unweaved_bytes, 0);
    f.store->upkeep.retry_ns = 0;
    sf_idle(&f, NS_PER_S);
    cr_assert_leq(wal_segment_count(f.store->wal), 5);
    cr_assert_eq(store_stats(f.store).unweaved_bytes, 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

Test(retention, archive_files_go_when_everything_in_them_has_expired)
{
    struct store_fixture f;
    store_fixture_init(&f, 6);
    cr_assert_eq(store_fixture_open(&f), 0);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(sf_open_partition_as(&f, 1, i, sf_settings(1, DAY_MS, UINT64_MAX)), 0);
    sf_load(&f, 100 * MIB);
    sf_flush(&f);
    sf_idle(&f, NS_PER_S);
    cr_assert_gt(store_stats(f.store).archives, 0);
    age(&f, 2 * DAY_MS);
    sf_idle(&f,
            3 * NS_PER_S); // what is in the log has expired as well, before it could be archived
    sf_load(&f, 20 * MIB);
    sf_flush(&f);
    sf_idle(&f, 3 * NS_PER_S);
    for (int i = 0; i < 6; i++) {
        sf_checkpoint(&f);
        sf_idle(&f, NS_PER_S);
    }
    cr_assert_eq(store_stats(f.store).archives, 0);
    cr_assert_eq(store_stats(f.store).archive_bytes, 0);
    store_fixture_verify(&f);
    store_fixture_deinit(&f);
}

/* ---- searching by time ---- */

static uint64_t find_time(struct store_fixture *f, struct partition *partition, int64_t timestamp,
                          int64_t *found)
{
    struct sf_read r = {.read = {.partition = partition, .done = sf_read_done, .hint = INDEX_NONE}};
    int started = store_find_time(f->store, &r.read, timestamp, found);
    for (int i = 0; started == 0 && !r.done && i < 100000; i++)
        sf_turn(f);
    cr_assert(started == 1 || r.done);
    cr_assert_eq(r.read.status, 0);
    cr_assert_leq(r.read.bytes, 1);
    if (r.read.bytes == 0)
        *found = -1;
    return r.read.next_offset;
}

Test(find_time, gives_the_first_batch_that_is_not_older)
{
    struct store_fixture f;
    store_fixture_init(&f, 7);
    f.options.index_cache_bytes = 64 * KIB;
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_open_partition(&f, 1, 0), 0);
    cr_assert_eq(sf_open_partition(&f, 1, 1), 0);
    struct sf_partition *p = &f.partitions[0];
    int64_t times[3000];
    uint32_t count = 0;
    while (store_reserved_lsn(f.store) < 80 * MIB) {
        cr_assert_lt(count, 3000);
        times[count] = 5000 + 10 * count + (int64_t)random_below(&f.dice, 200) - 100;
        cr_assert_eq(sf_produce_at(&f, p, 2, 30000, times[count++]), 0);
        cr_assert_eq(sf_produce_at(&f, &f.partitions[1], 1, 20000, 1), 0);
        sf_turn(&f);
    }
    sf_flush(&f);
    cr_assert_gt(store_stats(f.store).archives, 0);
    for (int n = 0; n < 60; n++) {
        int64_t wanted = 4800 + (int64_t)random_below(&f.dice, 10 * count + 400), found;
        uint64_t offset = find_time(&f, store_partition(f.store, 1, 0), wanted, &found);
        uint32_t at = 0;
        while (at < count && times[at] < wanted)
            at++;
        cr_assert_eq(offset, 2 * at, "time %ld", wanted);
        cr_assert_eq(found, at < count ? times[at] : -1);
    }
    store_fixture_deinit(&f);
}
