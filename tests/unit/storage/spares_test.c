/* Spare segments: made, paced, recycled, given up and tried again. On the simulated disk. */
#include "tests/unit/storage/wal_fixture.h"

#include <errno.h>

#include "base/fault.h"

static uint32_t files_with(struct fixture *f, const char *part)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->disk->seen.count; i++)
        count += strstr(f->disk->seen.names[i].path, part) != NULL;
    return count;
}

static uint32_t spares_made(struct fixture *f)
{
    return wal_spare_count(f->wal) + wal_segment_count(f->wal);
}

Test(spares, idle_time_fills_the_budget_and_then_rests)
{
    struct fixture f;
    fixture_init(&f, 1);
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, 2 * NS_PER_S);
    cr_assert_eq(spares_made(&f), 8); // 32 MiB of 4 MiB files
    cr_assert_eq(files_with(&f, ".wal"), 8);
    cr_assert_eq(files_with(&f, ".tmp"), 0);
    cr_assert_eq(wal_deadline_ns(f.wal), UINT64_MAX);
    uint64_t writes = io_sim_count(f.io, IO_WRITE);
    fixture_idle(&f, NS_PER_S);
    cr_assert_eq(io_sim_count(f.io, IO_WRITE), writes);
    fixture_deinit(&f);
}

Test(spares, headers_are_valid_and_generations_all_different)
{
    struct fixture f;
    uint64_t generations[8];
    fixture_init(&f, 2);
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, 2 * NS_PER_S);
    for (uint64_t number = 1; number <= 8; number++) {
        uint8_t blocks[DISK_SEGMENT_DATA];
        struct segment_head head;
        char path[64];
        snprintf(path, sizeof(path), "wal/%016llx.wal", (unsigned long long)number);
        sim_file_read(sim_disk_find(f.disk, path), blocks, 0, sizeof(blocks));
        cr_assert_eq(segment_head_parse(blocks, &head), 0);
        cr_assert_eq(head.number, number);
        cr_assert_eq(head.written, number > 2, "the first two are made before their zeros");
        generations[number - 1] = head.generation;
        for (uint64_t i = 1; i < number; i++)
            cr_assert_neq(generations[i - 1], head.generation);
    }
    fixture_deinit(&f);
}

Test(spares, nothing_is_entered_before_its_zeros_are_written)
{
    struct fixture f;
    fixture_init(&f, 3);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(wal_spare_count(f.wal), 0, "the successor has a number but no zeros yet");
    cr_assert_eq(fixture_append(&f, 100), 0);
    wal_roll(f.wal);
    cr_assert_eq(fixture_append(&f, 100), E_FULL);
    fixture_idle(&f, NS_PER_S);
    cr_assert_eq(f.on_room, 1);
    cr_assert_eq(fixture_append(&f, 100), 0);
    fixture_flush(&f);
    fixture_deinit(&f);
}

/* Beside a busy log a zero write is followed by a pause of three times its length. */
Test(spares, zeroing_takes_at_most_a_quarter_of_a_busy_device)
{
    struct fixture f;
    fixture_init(&f, 4);
    cr_assert_eq(fixture_open(&f), 0);
    struct spares *spares = &f.wal->spares;
    uint64_t began = io_sim_now_ns(f.io), zeroing = 0, since = 0;
    bool was_active = false;
    for (int i = 0; i < 3000 && wal_spare_count(f.wal) < 4; i++) {
        (void)fixture_append(&f, 2000);
        (void)wal_turn(f.wal, io_sim_now_ns(f.io), 0);
        bool is_active = io_op_is_active(&spares->op) && spares->step == SPARES_ZERO;
        if (is_active && !was_active)
            since = io_sim_now_ns(f.io);
        (void)io_poll(f.io, 10 * NS_PER_US);
        is_active = io_op_is_active(&spares->op) && spares->step == SPARES_ZERO;
        if (was_active && !is_active)
            zeroing += io_sim_now_ns(f.io) - since;
        was_active = is_active;
    }
    uint64_t passed = io_sim_now_ns(f.io) - began;
    cr_assert_gt(zeroing, 0);
    cr_assert_lt(zeroing * 100, passed * 28, "%llu of %llu ns", (unsigned long long)zeroing,
                 (unsigned long long)passed);
    fixture_deinit(&f);
}

Test(spares, a_recycled_file_needs_no_zeros_and_gets_a_new_life)
{
    struct fixture f;
    fixture_init(&f, 5);
    f.options.bytes_budget = 16 * MIB;
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, NS_PER_S);
    uint64_t writes = 0, groups = 0;
    for (int i = 0; i < 300; i++) {
        while (fixture_append(&f, 100000) == E_FULL) {
            fixture_checkpoint(&f);
            fixture_turn(&f);
        }
        fixture_flush(&f);
        if (i == 100) { // by now every file was written once
            writes = io_sim_count(f.io, IO_WRITE);
            groups = wal_stats(f.wal).groups;
        }
    }
    struct wal_stats stats = wal_stats(f.wal);
    uint64_t recycled_writes = io_sim_count(f.io, IO_WRITE) - writes - (stats.groups - groups);
    cr_assert_geq(stats.segments_recycled, 4);
    cr_assert_leq(recycled_writes, 10, "%llu writes that are no groups: zeros again?",
                  (unsigned long long)recycled_writes);
    cr_assert_leq(files_with(&f, ".wal") + files_with(&f, ".tmp"), 4);
    fixture_deinit(&f);
}

Test(spares, a_full_disk_is_waited_out_and_service_is_back_within_five_seconds)
{
    struct fixture f;
    fixture_init(&f, 6);
    cr_assert_eq(fixture_open(&f), 0);
    f.disk->capacity_blocks = f.disk->allocated_blocks + 100;
    for (int i = 0; i < 300; i++) {
        (void)fixture_append(&f, 100000);
        fixture_turn(&f);
    }
    fixture_idle(&f, 20 * NS_PER_S);
    cr_assert(wal_is_starved(f.wal));
    cr_assert_eq(f.on_failed, 0);
    uint64_t freed = io_sim_now_ns(f.io);
    f.disk->capacity_blocks += 64 * MIB / SIM_BLOCK;
    while (wal_is_starved(f.wal))
        fixture_turn(&f);
    cr_assert_leq(io_sim_now_ns(f.io) - freed, 5 * NS_PER_S);
    cr_assert_eq(fixture_append(&f, 100000), 0);
    fixture_flush(&f);
    fixture_deinit(&f);
}

/* The space is gone between the look and the writing: the half-made file gives its blocks back. */
Test(spares, a_file_that_can_not_be_finished_is_deleted)
{
    struct fixture f;
    fixture_init(&f, 7);
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, 2 * NS_PER_MS);
    io_sim_fail(f.io, IO_WRITE, 1, 1, ENOSPC);
    while (f.wal->spares.backoff_ns == 100 * NS_PER_MS)
        fixture_turn(&f);
    fixture_idle(&f, 50 * NS_PER_MS);
    cr_assert_eq(f.on_failed, 0);
    fixture_idle(&f, 5 * NS_PER_S);
    cr_assert_eq(spares_made(&f), 8);
    fixture_deinit(&f);
}

Test(spares, each_operation_of_the_job_may_fail_and_the_log_lives, .timeout = 120)
{
    static const enum io_kind kinds[] = {IO_OPEN,   IO_WRITE,  IO_FDATASYNC,
                                         IO_RENAME, IO_UNLINK, IO_CLOSE};
    for (size_t k = 0; k < ARRAY_COUNT(kinds); k++) {
        for (uint64_t n = 1; n <= 12; n++) {
            struct fixture f;
            fixture_init(&f, 100 + n);
            cr_assert_eq(fixture_open(&f), 0);
            io_sim_fail(f.io, kinds[k], n, n, EIO);
            if (kinds[k] == IO_UNLINK || kinds[k] == IO_CLOSE)
                io_sim_fail(f.io, IO_WRITE, n, n, ENOSPC); // so that something is unlinked
            fixture_idle(&f, 10 * NS_PER_S);
            cr_assert_eq(f.on_failed, 0, "kind %d, operation %llu", kinds[k],
                         (unsigned long long)n);
            cr_assert_eq(spares_made(&f), 8);
            fixture_crash(&f, n);
            cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
            fixture_idle(&f, 10 * NS_PER_S);
            cr_assert_eq(spares_made(&f), 8);
            fixture_deinit(&f);
        }
    }
}

Test(spares, a_directory_that_can_not_be_made_durable_is_final)
{
    struct fixture f;
    fixture_init(&f, 8);
    cr_assert_eq(fixture_open(&f), 0);
    io_sim_fail(f.io, IO_SYNC_DIR, 2, 2, EIO);
    for (int i = 0; i < 10000 && f.on_failed == 0; i++)
        fixture_turn(&f);
    cr_assert_eq(f.on_failed, 1);
    cr_assert_str_eq(f.failure.what, "sync of the directory");
    cr_assert_str_eq(f.failure.path, FIXTURE_DIR);
    cr_assert_eq(fixture_append(&f, 1), E_CLOSED);
    fixture_deinit(&f);
}

Test(spares, what_an_earlier_life_left_is_used_first)
{
    struct fixture f;
    fixture_init(&f, 9);
    for (int life = 0; life < 20; life++) { // killed in the middle of making, again and again
        cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
        for (int i = 0; i < 10 + life; i++)
            fixture_turn(&f);
        fixture_crash(&f, 9);
    }
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, 5 * NS_PER_S);
    cr_assert_eq(files_with(&f, ".tmp"), 0);
    cr_assert_eq(files_with(&f, ".wal"), 8);
    fixture_deinit(&f);
}

Test(spares, leftovers_of_a_wrong_length_are_not_trusted)
{
    struct fixture f;
    fixture_init(&f, 10);
    sim_disk_settle(f.disk);
    sim_disk_put(f.disk, "wal/recycled-00000000000000aa.tmp", "short", 0, 5);
    sim_disk_put(f.disk, "wal/recycled-00000000000000ab.tmp", "long", 5 * MIB, 4);
    sim_disk_put(f.disk, "wal/notes.tmp", "of somebody else", 0, 16);
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, 5 * NS_PER_S);
    cr_assert_not_null(sim_disk_find(f.disk, "wal/notes.tmp"));
    cr_assert_eq(files_with(&f, ".tmp"), 1);
    for (uint32_t i = 0; i < f.disk->seen.count; i++)
        if (strstr(f.disk->seen.names[i].path, ".wal"))
            cr_assert_eq(f.disk->seen.names[i].file->size, 4 * MIB);
    fixture_deinit(&f);
}

Test(spares, the_injection_point_strikes_at_the_beginning_of_a_spare)
{
    struct fixture f;
    fixture_init(&f, 11);
    cr_assert_eq(fixture_open(&f), 0);
    fault_arm(FAULT_SEGMENT_PREPARE, 1, 3, ENOSPC);
    fixture_idle(&f, 50 * NS_PER_MS);
    cr_assert_eq(wal_spare_count(f.wal), 0);
    fixture_idle(&f, 5 * NS_PER_S);
    cr_assert_eq(spares_made(&f), 8);
    cr_assert_eq(f.on_failed, 0);
    fault_disarm_all();
    fixture_deinit(&f);
}

Test(spares, a_lowered_budget_keeps_what_is_live)
{
    struct fixture f;
    fixture_init(&f, 12);
    cr_assert_eq(fixture_open(&f), 0);
    fixture_idle(&f, NS_PER_S);
    for (int i = 0; i < 200; i++) {
        while (fixture_append(&f, 100000) == E_FULL)
            fixture_turn(&f);
        fixture_turn(&f);
    }
    fixture_flush(&f);
    fixture_end_life(&f, 12);
    f.options.bytes_budget = 16 * MIB;
    cr_assert_eq(fixture_open(&f), 0, "%s %s", f.result.path, f.result.text);
    cr_assert_eq(f.count, 200);
    fixture_deinit(&f);
}
