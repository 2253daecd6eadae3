/* The log in life: appending, group commit, rolling, the tail, failure. On the simulated disk. */
#include "tests/unit/storage/wal_fixture.h"
#include "tests/unit/seeds.h"

static void open_new(struct fixture *f, uint64_t seed)
{
    fixture_init(f, seed);
    cr_assert_eq(fixture_open(f), 0, "%s %s", f->result.path, f->result.text);
    fixture_idle(f, NS_PER_S); // spares
}

/* One turn without any I/O completing. */
static void turn_only(struct fixture *f)
{
    (void)wal_turn(f->wal, io_sim_now_ns(f->io), io_sim_now_wall_ms(f->io));
}

/* A turn, and all writes that it started end before the next one. */
static void turn_and_writes(struct fixture *f)
{
    turn_only(f);
    for (int i = 0; i < 20; i++)
        (void)io_poll(f->io, NS_PER_MS);
}

/* ---- appending ---- */

Test(wal, new_log_opens_empty_and_takes_entries)
{
    struct fixture f;
    fixture_init(&f, 1);
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert_eq(f.result.end_lsn, 0);
    cr_assert_eq(fixture_append(&f, 100), 0);
    fixture_flush(&f);
    cr_assert_eq(f.committed, 4096);
    cr_assert_eq(f.on_failed, 0);
    fixture_deinit(&f);
}

Test(wal, entries_come_back_after_close)
{
    struct fixture f;
    open_new(&f, 2);
    for (int i = 0; i < 500; i++)
        cr_assert_eq(fixture_append(&f, (uint32_t)(i * 7 % 900)), 0);
    fixture_end_life(&f, 2); // wal_close() makes durable what was appended
    f.committed = UINT64_MAX;
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert_eq(f.count, 500);
    cr_assert_eq(f.result.cut, false);
    cr_assert_eq(f.result.rule, 'P');
    fixture_deinit(&f);
}

Test(wal, what_arrives_in_one_turn_shares_one_group_and_one_sync)
{
    struct fixture f;
    open_new(&f, 3);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(fixture_append(&f, 100), 0);
    struct wal_stats before = wal_stats(f.wal);
    fixture_flush(&f);
    struct wal_stats after = wal_stats(f.wal);
    cr_assert_eq(after.groups - before.groups, 1);
    cr_assert_eq(after.syncs - before.syncs, 1);
    cr_assert_eq(after.entries - before.entries, 100);
    cr_assert_eq(f.on_committed, 1);
    fixture_deinit(&f);
}

Test(wal, a_small_group_waits_for_what_is_in_flight_and_a_large_one_does_not)
{
    struct fixture f;
    open_new(&f, 4);
    cr_assert_eq(fixture_append(&f, 100), 0);
    turn_only(&f);
    uint64_t submitted = wal_marks(f.wal).submitted;
    cr_assert_eq(submitted, 4096);
    cr_assert_eq(fixture_append(&f, 100), 0);
    turn_only(&f);
    cr_assert_eq(wal_marks(f.wal).submitted, submitted, "a small group went out behind another");
    cr_assert_eq(fixture_append(&f, GROUP_SUBMIT_BYTES), 0);
    turn_only(&f);
    cr_assert_gt(wal_marks(f.wal).submitted, submitted, "256 KiB waited");
    fixture_deinit(&f);
}

Test(wal, at_most_sixteen_writes_are_in_flight)
{
    struct fixture f;
    fixture_init(&f, 5);
    f.options.group_slot_count = 40;
    f.options.segment_bytes = 64 * MIB;
    f.options.bytes_budget = 256 * MIB;
    sim_disk_free(f.disk); // larger files than the fixture made
    io_free(f.io);
    f.disk = sim_disk_new(5, 1 * GIB);
    fixture_io(&f, 5);
    cr_assert_eq(io_mkdir(f.io, FIXTURE_DIR), 0);
    cr_assert_eq(wal_create(&f.options), 0);
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 0; i < 30; i++) {
        cr_assert_eq(fixture_append(&f, 700 * 1024), 0);
        wal_group_end(f.wal);
    }
    uint64_t before = io_sim_count(f.io, IO_WRITE);
    turn_only(&f);
    cr_assert_leq(io_sim_count(f.io, IO_WRITE) - before, WAL_WRITES_MAX + 1); // + a zero write
    fixture_flush(&f);
    fixture_deinit(&f);
}

Test(wal, group_end_separates_lsn_ranges_but_not_syncs)
{
    struct fixture f;
    open_new(&f, 6);
    cr_assert_eq(fixture_append(&f, 100), 0);
    wal_group_end(f.wal);
    cr_assert_eq(fixture_append(&f, 100), 0);
    cr_assert_eq(f.entries[1].lsn - f.entries[0].lsn, 4096);
    struct wal_stats before = wal_stats(f.wal);
    turn_and_writes(&f);
    fixture_flush(&f);
    cr_assert_eq(wal_stats(f.wal).syncs - before.syncs, 1);
    cr_assert_eq(f.on_committed, 1);
    fixture_deinit(&f);
}

Test(wal, the_largest_entry_is_its_own_group_and_one_byte_more_is_refused)
{
    struct fixture f;
    open_new(&f, 7);
    uint32_t max = f.options.batch_bytes_max + 64;
    struct wal_marks before = wal_marks(f.wal);
    cr_assert_eq(fixture_append(&f, max + 1), E_TOO_LARGE);
    cr_assert_eq(wal_marks(f.wal).reserved, before.reserved);
    cr_assert_eq(fixture_append(&f, 10), 0);
    cr_assert_eq(fixture_append(&f, max), 0);
    cr_assert_eq(fixture_append(&f, 10), 0);
    cr_assert_eq(f.entries[1].lsn % DISK_BLOCK, GROUP_HEADER_BYTES);
    cr_assert_eq(f.entries[2].lsn % DISK_BLOCK, GROUP_HEADER_BYTES);
    fixture_crash(&f, 7);
    cr_assert_eq(fixture_open(&f), 0);
    fixture_deinit(&f);
}

Test(wal, empty_payloads_and_every_small_length_come_back)
{
    struct fixture f;
    open_new(&f, 8);
    for (uint32_t len = 0; len < 70; len++)
        cr_assert_eq(fixture_append(&f, len), 0);
    fixture_end_life(&f, 8);
    f.committed = UINT64_MAX;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(f.count, 70);
    fixture_deinit(&f);
}

Test(wal, the_log_s_clock_never_goes_back)
{
    struct fixture f;
    open_new(&f, 9);
    struct wal_view first, second;
    struct wal_entry entry = {.type = ENTRY_BATCH};
    (void)wal_turn(f.wal, io_sim_now_ns(f.io), 5000000000000);
    cr_assert_eq(wal_append(f.wal, &entry, &first), 0);
    wal_group_end(f.wal);
    (void)wal_turn(f.wal, io_sim_now_ns(f.io), 1000); // the wall clock was set back
    cr_assert_eq(wal_append(f.wal, &entry, &second), 0);
    cr_assert_eq(first.append_time_ms, 5000000000000);
    cr_assert_eq(second.append_time_ms, first.append_time_ms);
    fixture_deinit(&f);
}

/* ---- room ---- */

Test(wal, no_free_slot_is_full_and_then_room)
{
    struct fixture f;
    open_new(&f, 10);
    int status;
    uint32_t taken = 0;
    while ((status = fixture_append(&f, 900 * 1024)) == 0)
        taken++;
    cr_assert_eq(status, E_FULL);
    cr_assert_leq(taken, f.options.group_slot_count);
    cr_assert_eq(f.on_room, 0);
    fixture_flush(&f);
    fixture_turn(&f);
    cr_assert_eq(f.on_room, 1);
    cr_assert_eq(fixture_append(&f, 900 * 1024), 0);
    fixture_deinit(&f);
}

Test(wal, without_a_spare_an_append_waits_and_nothing_fails)
{
    struct fixture f;
    fixture_init(&f, 11);
    f.options.bytes_budget = 16 * MIB; // 4 files
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 0; i < 1000; i++) {
        (void)fixture_append(&f, 100000);
        fixture_turn(&f);
    }
    fixture_idle(&f, NS_PER_S);
    cr_assert(wal_is_starved(f.wal));
    cr_assert_eq(wal_segment_count(f.wal), 3, "open and closed ones; the fourth is the successor");
    cr_assert_eq(fixture_append(&f, 100000), E_FULL);
    uint32_t rooms = f.on_room;
    fixture_checkpoint(&f);
    fixture_checkpoint(&f); // the older one lets go of the first files now
    fixture_idle(&f, NS_PER_S);
    cr_assert_not(wal_is_starved(f.wal));
    cr_assert_gt(f.on_room, rooms);
    cr_assert_eq(fixture_append(&f, 100000), 0);
    cr_assert_eq(f.on_failed, 0);
    fixture_deinit(&f);
}

Test(wal, a_file_is_entered_only_when_its_successor_exists)
{
    struct fixture f;
    fixture_init(&f, 12);
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 0; i < 400; i++) {
        (void)fixture_append(&f, 60000);
        fixture_turn(&f);
        uint64_t open = wal_segment_at(f.wal, wal_segment_count(f.wal) - 1)->number;
        char path[64];
        snprintf(path, sizeof(path), "wal/%016llx.wal", (unsigned long long)open + 1);
        cr_assert_not_null(sim_disk_find(f.disk, path), "file %llu was entered too early",
                           (unsigned long long)open);
        if (i % 20 == 0)
            fixture_checkpoint(&f);
    }
    cr_assert_gt(wal_segment_at(f.wal, 0)->number, 1);
    fixture_deinit(&f);
}

/* ---- files ---- */

Test(wal, rolling_closes_segments_in_order_and_wastes_less_than_an_entry)
{
    struct fixture f;
    open_new(&f, 13);
    for (int i = 0; i < 150; i++) {
        while (fixture_append(&f, 100000) == E_FULL)
            fixture_turn(&f);
        fixture_turn(&f);
    }
    fixture_flush(&f);
    uint32_t count = wal_segment_count(f.wal);
    cr_assert_geq(count, 4);
    cr_assert_eq(f.on_closed, count - 1);
    for (uint32_t i = 0; i + 1 < count; i++) {
        struct segment *segment = wal_segment_at(f.wal, i);
        cr_assert_eq(segment->state, SEGMENT_CLOSED);
        cr_assert_eq(segment->end_lsn, wal_segment_at(f.wal, i + 1)->base_lsn);
        cr_assert_eq(segment->number + 1, wal_segment_at(f.wal, i + 1)->number);
        cr_assert_gt(segment->end_lsn - segment->base_lsn,
                     f.options.segment_bytes - DISK_SEGMENT_DATA - 110000);
    }
    fixture_deinit(&f);
}

Test(wal, a_round_at_a_roll_syncs_both_files)
{
    struct fixture f;
    open_new(&f, 14);
    cr_assert_eq(fixture_append(&f, 100), 0);
    wal_roll(f.wal);
    cr_assert_eq(fixture_append(&f, 100), 0);
    struct wal_stats before = wal_stats(f.wal);
    turn_and_writes(&f);
    fixture_flush(&f);
    cr_assert_eq(wal_stats(f.wal).syncs - before.syncs, 2);
    cr_assert_eq(f.on_committed, 1, "shown before both files were durable");
    cr_assert_eq(f.on_closed, 1);
    fixture_deinit(&f);
}

Test(wal, rolling_an_empty_file_does_nothing)
{
    struct fixture f;
    open_new(&f, 15);
    wal_roll(f.wal);
    cr_assert_eq(fixture_append(&f, 100), 0);
    cr_assert_eq(wal_segment_count(f.wal), 1);
    fixture_deinit(&f);
}

/* ---- the tail ---- */

Test(wal, the_tail_is_served_from_memory_until_its_slot_is_needed)
{
    struct fixture f;
    open_new(&f, 16);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(fixture_append(&f, 5000), 0);
        fixture_flush(&f);
    }
    for (int i = 0; i < 3; i++) {
        const uint8_t *bytes = wal_tail(f.wal, f.entries[i].lsn + sizeof(struct disk_entry), 5000);
        fixture_content(f.payload, 5000, f.entries[i].seed);
        cr_assert_not_null(bytes);
        cr_assert_eq(memcmp(bytes, f.payload, 5000), 0);
    }
    cr_assert_null(wal_tail(f.wal, f.entries[0].lsn, 9000), "across two groups");
    cr_assert_null(wal_tail(f.wal, wal_marks(f.wal).reserved, 1), "behind the end");
    for (uint32_t i = 0; i < f.options.group_slot_count; i++) {
        cr_assert_eq(fixture_append(&f, 100), 0);
        fixture_flush(&f);
    }
    cr_assert_null(wal_tail(f.wal, f.entries[0].lsn, 100), "its slot was used again");
    fixture_deinit(&f);
}

Test(wal, a_slot_that_was_given_to_a_reader_is_not_refilled_in_the_same_turn)
{
    struct fixture f;
    open_new(&f, 17);
    for (uint32_t i = 0; i < f.options.group_slot_count; i++) {
        cr_assert_eq(fixture_append(&f, 100), 0);
        fixture_flush(&f);
    }
    const uint8_t *bytes = wal_tail(f.wal, f.entries[0].lsn + 16, 100);
    cr_assert_not_null(bytes);
    cr_assert_eq(fixture_append(&f, 200), E_FULL);
    fixture_content(f.payload, 100, f.entries[0].seed);
    cr_assert_eq(memcmp(bytes, f.payload, 100), 0);
    fixture_turn(&f);
    cr_assert_eq(f.on_room, 1);
    cr_assert_eq(fixture_append(&f, 200), 0);
    fixture_deinit(&f);
}

/* ---- MARK ---- */

Test(wal, silence_is_followed_by_one_mark_and_no_more)
{
    struct fixture f;
    open_new(&f, 18);
    cr_assert_eq(wal_stats(f.wal).marks, 0, "an empty log has nothing to prove");
    cr_assert_eq(fixture_append(&f, 100), 0);
    fixture_flush(&f);
    fixture_idle(&f, 9 * NS_PER_MS);
    cr_assert_eq(wal_stats(f.wal).marks, 0);
    fixture_idle(&f, 2 * NS_PER_MS);
    cr_assert_eq(wal_stats(f.wal).marks, 1);
    fixture_idle(&f, NS_PER_S);
    cr_assert_eq(wal_stats(f.wal).marks, 1);
    fixture_crash(&f, 18);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(f.result.proven_lsn, 4096);
    fixture_idle(&f, NS_PER_S);
    cr_assert_eq(wal_stats(f.wal).marks, 0, "a restart has nothing new to prove");
    fixture_deinit(&f);
}

Test(wal, the_deadline_asks_for_the_turn_that_writes_the_mark)
{
    struct fixture f;
    open_new(&f, 19);
    cr_assert_eq(wal_deadline_ns(f.wal), UINT64_MAX);
    cr_assert_eq(fixture_append(&f, 100), 0);
    fixture_flush(&f);
    uint64_t deadline = wal_deadline_ns(f.wal);
    cr_assert_leq(deadline, io_sim_now_ns(f.io) + WAL_MARK_IDLE_NS);
    cr_assert_gt(deadline, io_sim_now_ns(f.io));
    (void)wal_turn(f.wal, deadline, io_sim_now_wall_ms(f.io));
    cr_assert_eq(wal_stats(f.wal).marks, 1);
    fixture_flush(&f);
    fixture_deinit(&f);
}

Test(wal, closing_writes_a_mark_unless_a_checkpoint_stands_at_the_end)
{
    for (int with_position = 0; with_position < 2; with_position++) {
        struct fixture f;
        open_new(&f, 20);
        cr_assert_eq(fixture_append(&f, 100), 0);
        fixture_flush(&f);
        if (with_position)
            cr_assert_eq(wal_position(f.wal).lsn, 4096);
        cr_assert_eq(wal_close(f.wal), 0);
        cr_assert_eq(wal_stats(f.wal).marks, with_position ? 0 : 1);
        cr_assert_eq(fixture_append(&f, 1), E_CLOSED);
        fixture_deinit(&f);
    }
}

/* ---- position ---- */

Test(wal, replay_can_begin_at_any_position)
{
    struct fixture f;
    open_new(&f, 21);
    for (int i = 0; i < 60; i++) {
        while (fixture_append(&f, 150000) == E_FULL)
            fixture_turn(&f);
        if (i % 7 == 3) {
            struct wal_position position = wal_position(f.wal);
            fixture_flush(&f);
            struct fixture copy = f;
            copy.disk = sim_disk_copy(f.disk, 5);
            fixture_io(&copy, 5);
            copy.wal = NULL;
            copy.options.arena = &copy.arena;
            copy.options.context = copy.recover.context = &copy;
            copy.recover.has_checkpoint = true;
            copy.recover.from = position;
            copy.recover.first_file = 1;
            cr_assert_eq(fixture_open(&copy), 0, "%s %s", copy.result.path, copy.result.text);
            cr_assert_eq(copy.result.entries, 0);
            struct wal_position again = wal_position(copy.wal);
            cr_assert_eq(memcmp(&again, &position, sizeof(again)), 0);
            fixture_free_wal(&copy);
            io_free(copy.io);
            sim_disk_free(copy.disk);
        }
    }
    fixture_deinit(&f);
}

/* ---- relaxed ---- */

Test(wal, relaxed_shows_what_is_written_before_it_is_durable)
{
    struct fixture f;
    fixture_init(&f, 22);
    f.options.relaxed = true;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(fixture_append(&f, 100), 0);
    bool before_sync = false;
    for (int i = 0; i < 100 && !before_sync; i++) {
        fixture_turn(&f);
        struct wal_marks marks = wal_marks(f.wal);
        before_sync = marks.committed > marks.durable;
    }
    cr_assert(before_sync);
    fixture_flush(&f);
    fixture_idle(&f, NS_PER_S);
    cr_assert_eq(wal_stats(f.wal).marks, 1);
    fixture_deinit(&f);
}

/* ---- failure ---- */

static void check_dead(struct fixture *f)
{
    uint32_t told = f->on_committed;
    cr_assert_eq(f->on_failed, 1);
    cr_assert_eq(f->failure.lsn, wal_marks(f->wal).durable);
    cr_assert_eq(fixture_append(f, 1), E_CLOSED);
    uint64_t syncs = io_sim_count(f->io, IO_FDATASYNC);
    for (int i = 0; i < 50; i++)
        fixture_turn(f);
    cr_assert_eq(f->on_committed, told, "an ack after a failure");
    cr_assert_eq(f->on_failed, 1);
    cr_assert_eq(io_sim_count(f->io, IO_FDATASYNC), syncs, "a sync was tried again");
}

/* The n-th write or fdatasync fails, for each n; the failed fdatasync loses what it covered, and
 * later ones would say yes. */
static void sweep(enum io_kind kind, uint64_t last)
{
    uint32_t failed = 0;
    for (uint64_t n = 1; n <= seeds(60); n++) {
        struct fixture f;
        fixture_init(&f, 500 + n);
        cr_assert_eq(fixture_open(&f), 0);
        io_sim_fail(f.io, kind, n, last == UINT64_MAX ? last : n, 5);
        for (int i = 0; i < 400 && !wal_is_failed(f.wal); i++) {
            (void)fixture_append(&f, 30000);
            if (i % 3 == 2)
                fixture_turn(&f);
        }
        if (wal_is_failed(f.wal)) {
            failed++;
            cr_assert_str_eq(f.failure.what, kind == IO_WRITE ? "write" : "fdatasync");
            cr_assert_eq(f.failure.os_error, 5);
            check_dead(&f);
        }
        fixture_crash(&f, n);
        cr_assert_eq(fixture_open(&f), 0, "n %llu: %s %s", (unsigned long long)n, f.result.path,
                     f.result.text);
        fixture_deinit(&f);
    }
    cr_assert_gt(failed, seeds(20), "only %u of the failures hit the log", failed);
}

Test(wal, fault_sweep_each_write_fails_once)
{
    sweep(IO_WRITE, 0);
}

Test(wal, fault_sweep_each_write_fails_for_ever)
{
    sweep(IO_WRITE, UINT64_MAX);
}

Test(wal, fault_sweep_each_fdatasync_fails_once)
{
    sweep(IO_FDATASYNC, 0);
}

Test(wal, fault_sweep_each_fdatasync_fails_for_ever)
{
    sweep(IO_FDATASYNC, UINT64_MAX);
}

/* ---- the same seed ---- */

static uint64_t trace_of(uint64_t seed, uint64_t *disk_hash)
{
    struct fixture f;
    struct random random;
    random_init(&random, seed);
    fixture_init(&f, seed);
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 0; i < 500; i++) {
        (void)fixture_append(&f, (uint32_t)random_below(&random, 50000));
        if (random_below(&random, 3) == 0)
            fixture_turn(&f);
        if (i % 100 == 50)
            fixture_checkpoint(&f);
    }
    fixture_flush(&f);
    uint64_t trace = io_sim_trace(f.io);
    *disk_hash = sim_disk_hash(f.disk);
    fixture_deinit(&f);
    return trace;
}

Test(wal, the_same_seed_gives_the_same_operations_and_the_same_bytes)
{
    uint64_t hashes[3];
    uint64_t first = trace_of(31, &hashes[0]);
    uint64_t second = trace_of(31, &hashes[1]);
    uint64_t other = trace_of(32, &hashes[2]);
    cr_assert_eq(first, second);
    cr_assert_eq(hashes[0], hashes[1]);
    cr_assert_neq(first, other);
}
