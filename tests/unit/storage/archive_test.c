/* Archive files on a real file system: what segments held comes back from them, batch by batch;
 * what expired does not; damage is named; files come and go with the checkpoints. */
#include <errno.h>

#include "tests/unit/storage/archive_fixture.h"

static struct world world; // large: not on the stack

TestSuite(archive, .timeout = 120);

static const char *name_of(uint64_t number)
{
    static char name[32];
    snprintf(name, sizeof(name), "%016llx.arc", (unsigned long long)number);
    return name;
}

/* One run over everything there is. */
static void run_all(uint32_t first)
{
    int taken = world_unweave(&world, first);
    cr_assert_eq(taken, (int)(world.segment_count - first));
    cr_assert_eq(world_run_to_end(&world), 0);
    cr_assert_eq(world.run_end_lsn, world.lsn);
    cr_assert_eq(archives_end_lsn(world.archives), world.lsn);
}

/* A log start behind all, at the start, or somewhere in the partition. */
static void expire_some(void)
{
    for (uint32_t p = 0; p < world.partition_count; p++) {
        uint64_t choice = random_below(&world.random, 4);
        if (choice == 0)
            world.log_start[p] = UINT64_MAX;
        else if (choice == 1)
            world.log_start[p] = world.next_offset[p];
        else if (choice == 2)
            world.log_start[p] = random_below(&world.random, world.next_offset[p] + 1);
    }
    archives_log_start_moved(world.archives);
}

/* ---- runs ---- */

Test(archive, a_run_holds_every_batch_of_its_segments)
{
    world_init(&world, 60, 8 * MIB);
    for (int i = 0; i < 4; i++)
        world_add_segment(&world, 3 * MIB);
    run_all(0);
    cr_assert_eq(archives_count(world.archives), 1);
    world_check(&world, world.lsn, true);
    int status;
    struct archive_report report = world_verify(&world, 1, &status);
    cr_assert_eq(status, 0, "%s at %d", report.why, (int)report.offset);
    cr_assert_eq(report.batch_count, world.batch_count);
    cr_assert_eq(report.end_lsn, world.lsn);
    world_deinit(&world);
}

Test(archive, batches_from_the_smallest_to_four_mebibytes_in_many_bands)
{
    world_init(&world, 20, 9 * MIB);
    world.size_min = 1;
    world.size_max = 100;
    world_add_segment(&world, 1 * MIB);
    world.size_max = (uint32_t)(4 * MIB);
    for (int i = 0; i < 3; i++)
        world_add_segment(&world, 16 * MIB);
    world.size_max = 70000;
    world_add_segment(&world, 16 * MIB);
    uint32_t smallest = UINT32_MAX, largest = 0;
    for (uint32_t i = 0; i < world.batch_count; i++) {
        smallest = (uint32_t)min_u64(smallest, world.batches[i].size);
        largest = (uint32_t)max_u64(largest, world.batches[i].size);
    }
    cr_assert_leq(smallest, 70);
    cr_assert_geq(largest, 3 * MIB);
    run_all(0);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

Test(archive, many_partitions_of_small_batches)
{
    world_init(&world, WORLD_PARTITIONS_MAX, 8 * MIB);
    world.size_min = 70;
    world.size_max = 400;
    for (int i = 0; i < 3; i++)
        world_add_segment(&world, 4 * MIB);
    run_all(0);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

Test(archive, what_expired_or_was_dropped_is_left_out)
{
    world_init(&world, 60, 8 * MIB);
    for (int i = 0; i < 3; i++)
        world_add_segment(&world, 3 * MIB);
    expire_some();
    run_all(0);
    world_check(&world, world.lsn, true);
    cr_assert_lt(archives_stats(world.archives).live_bytes, 7 * MIB);
    world_deinit(&world);
}

Test(archive, a_run_of_nothing_leaves_no_file)
{
    world_init(&world, 10, 8 * MIB);
    world_add_segment(&world, 1 * MIB);
    for (uint32_t p = 0; p < 10; p++)
        world.log_start[p] = world.next_offset[p];
    run_all(0);
    cr_assert_eq(archives_count(world.archives), 0);
    cr_assert_eq(disk_file_count(&world.disk), 1);
    world_deinit(&world);
}

Test(archive, log_starts_that_move_during_a_run_do_no_harm)
{
    world_init(&world, 60, 8 * MIB);
    for (int i = 0; i < 4; i++)
        world_add_segment(&world, 4 * MIB);
    cr_assert_gt(world_unweave(&world, 0), 0);
    while (!world.run_done) {
        world_turn(&world);
        uint32_t p = (uint32_t)random_below(&world.random, 60);
        if (world.log_start[p] < world.next_offset[p])
            world.log_start[p]++;
        archives_log_start_moved(world.archives);
    }
    cr_assert_eq(world.run_status, 0);
    world_check(&world, world.lsn, false);
    world_deinit(&world);
}

Test(archive, a_run_takes_no_more_segments_than_it_may)
{
    world_init(&world, 10, 8 * MIB);
    for (int i = 0; i < 20; i++)
        world_add_segment(&world, 64 * KIB);
    int taken = world_unweave(&world, 0);
    cr_assert_eq(taken, ARCHIVE_RUN_SEGMENTS_MAX);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(world.segments[i].segment.pins, i < taken);
    cr_assert_eq(world_unweave(&world, 0), E_FULL, "one at a time");
    cr_assert_eq(world_run_to_end(&world), 0);
    cr_assert_eq(world_unweave(&world, 0), E_INVALID, "they are archived already");
    for (int i = 0; i < 20; i++)
        cr_assert_eq(world.segments[i].segment.pins, 0);
    run_all((uint32_t)taken);
    cr_assert_eq(archives_count(world.archives), 2);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

/* Busy: one I/O at a time, and nothing for three times as long as it took. */
Test(archive, a_busy_shard_is_left_three_quarters_of_the_time)
{
    world_init(&world, 60, 8 * MIB);
    for (int i = 0; i < 2; i++)
        world_add_segment(&world, 4 * MIB);
    world.pressure = ARCHIVE_BUSY;
    cr_assert_gt(world_unweave(&world, 0), 0);
    uint64_t waited = 0;
    for (int turn = 0; turn < 200000 && !world.run_done; turn++) {
        uint64_t deadline = archives_deadline_ns(world.archives);
        world_turn(&world);
        if (deadline != UINT64_MAX && deadline > world.now_ns) {
            waited += deadline - world.now_ns;
            world.now_ns = deadline;
        }
    }
    cr_assert_eq(world.run_status, 0);
    cr_assert_gt(waited, 30 * 50 * NS_PER_US);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

Test(archive, an_urgent_run_goes_as_fast_as_it_can)
{
    world_init(&world, 60, 8 * MIB);
    for (int i = 0; i < 4; i++)
        world_add_segment(&world, 4 * MIB);
    world.pressure = ARCHIVE_URGENT;
    run_all(0);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

/* ---- checkpoints, start-up ---- */

Test(archive, segments_are_safe_to_go_after_the_second_checkpoint)
{
    world_init(&world, 10, 8 * MIB);
    world_add_segment(&world, 256 * KIB);
    world_checkpoint(&world);
    archives_checkpoint_begin(world.archives);
    run_all(0); // this checkpoint was begun before
    archives_checkpoint_done(world.archives);
    cr_assert_eq(archives_safe_lsn(world.archives), 0);
    world_checkpoint(&world);
    cr_assert_eq(archives_safe_lsn(world.archives), 0);
    world_checkpoint(&world);
    cr_assert_eq(archives_safe_lsn(world.archives), world.lsn);
    world_deinit(&world);
}

static void restart(const uint8_t *rows, uint64_t len, int expected, const char *named)
{
    char text[512];
    int status = world_open(&world, rows, len, text);
    cr_assert_eq(status, expected, "%s: %s", status_name(status), text);
    cr_assert(!named || strstr(text, named), "%s", text);
}

Test(archive, a_start_finds_what_the_checkpoint_names_and_deletes_the_rest)
{
    uint64_t len;
    world_init(&world, 30, 8 * MIB);
    world_add_segment(&world, 1 * MIB);
    run_all(0);
    uint64_t end_lsn = world.lsn;
    uint8_t *rows = world_rows(&world, &len);
    world_add_segment(&world, 1 * MIB);
    run_all(1); // no checkpoint knows it
    cr_assert(disk_exists(&world.disk, name_of(2)));
    world_close(&world);
    disk_write(&world.disk, "0000000000000007.tmp", "half", 4, 0);
    disk_write(&world.disk, "notes", "mine", 4, 0);
    restart(rows, len, 0, NULL);
    cr_assert_not(disk_exists(&world.disk, name_of(2)));
    cr_assert_not(disk_exists(&world.disk, "0000000000000007.tmp"));
    cr_assert(disk_exists(&world.disk, "notes"));
    cr_assert_eq(archives_end_lsn(world.archives), end_lsn);
    world_check(&world, end_lsn, true);
    run_all(1); // made again
    world_check(&world, world.lsn, true);
    world_checkpoint(&world);
    cr_assert_eq(archives_safe_lsn(world.archives), end_lsn, "what was loaded is the older one");
    free(rows);
    world_deinit(&world);
}

/* Two files, and the second in the state that `change` leaves it in: refused, the file named,
 * nothing deleted. */
static void refused(void (*change)(const char *name), int expected)
{
    uint64_t len;
    char text[512];
    world_init(&world, 30, 8 * MIB);
    for (uint32_t i = 0; i < 2; i++) {
        world_add_segment(&world, 256 * KIB);
        run_all(i);
    }
    uint8_t *rows = world_rows(&world, &len);
    world_close(&world);
    disk_write(&world.disk, "0000000000000009.arc", "unnamed", 7, 0);
    change(name_of(2));
    int status = world_open(&world, rows, len, text);
    cr_assert_eq(status, expected, "%s: %s", status_name(status), text);
    cr_assert_not_null(strstr(text, name_of(2)), "%s", text);
    cr_assert(disk_exists(&world.disk, "0000000000000009.arc"));
    free(rows);
    world_deinit(&world);
}

static void change_delete(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", world.disk.dir, name);
    cr_assert_eq(unlink(path), 0);
}

static void change_cut(const char *name)
{
    size_t len;
    free(disk_read(&world.disk, name, &len));
    disk_truncate(&world.disk, name, (off_t)(len - DISK_BLOCK));
}

static void change_empty(const char *name)
{
    disk_truncate(&world.disk, name, 0);
}

static void change_header(const char *name)
{
    disk_flip(&world.disk, name, 3000);
}

static void change_footer(const char *name)
{
    size_t len;
    free(disk_read(&world.disk, name, &len));
    disk_flip(&world.disk, name, (off_t)len - 2000);
}

static void change_swapped(const char *name)
{
    size_t len;
    uint8_t *other = disk_read(&world.disk, "0000000000000001.arc", &len);
    disk_truncate(&world.disk, name, 0);
    disk_write(&world.disk, name, other, len, 0);
    free(other);
}

static void reseal(const char *name, off_t at, struct disk_archive *header)
{
    header->checksum = le64_make(hash_xxh3(header, DISK_BLOCK - 8));
    disk_write(&world.disk, name, header, DISK_BLOCK, at);
}

static void change_store(const char *name)
{
    size_t len;
    uint8_t *bytes = disk_read(&world.disk, name, &len);
    struct disk_archive *header = (struct disk_archive *)bytes;
    header->common.store_id[0] ^= 1;
    reseal(name, 0, header);
    free(bytes);
}

static void change_version(const char *name)
{
    size_t len;
    uint8_t *bytes = disk_read(&world.disk, name, &len);
    struct disk_archive *header = (struct disk_archive *)bytes;
    header->common.version = le16_make(2);
    reseal(name, 0, header);
    free(bytes);
}

static void change_sizes(const char *name)
{
    size_t len;
    uint8_t *bytes = disk_read(&world.disk, name, &len);
    struct disk_archive_footer *footer = (struct disk_archive_footer *)(bytes + len - DISK_BLOCK);
    footer->index_bytes = le64_make(UINT64_MAX - 5);
    reseal(name, (off_t)len - DISK_BLOCK, (struct disk_archive *)footer);
    free(bytes);
}

Test(archive, a_named_file_that_is_missing_is_damage)
{
    refused(change_delete, E_CORRUPT);
}

Test(archive, a_named_file_that_is_short_or_empty_is_damage)
{
    refused(change_cut, E_CORRUPT);
    refused(change_empty, E_CORRUPT);
}

Test(archive, a_named_file_with_a_bad_header_or_footer_is_damage)
{
    refused(change_header, E_CORRUPT);
    refused(change_footer, E_CORRUPT);
    refused(change_sizes, E_CORRUPT);
    refused(change_swapped, E_CORRUPT);
}

Test(archive, a_file_of_another_store_or_a_newer_format_is_refused)
{
    refused(change_store, E_FOREIGN);
    refused(change_version, E_NEWER);
}

Test(archive, rows_that_contradict_each_other_are_damage)
{
    uint64_t len;
    char text[512];
    world_init(&world, 30, 8 * MIB);
    for (uint32_t i = 0; i < 2; i++) {
        world_add_segment(&world, 256 * KIB);
        run_all(i);
    }
    uint8_t *rows = world_rows(&world, &len);
    world_close(&world);
    struct disk_archive_row *second = (struct disk_archive_row *)(rows + 16) + 1;
    struct disk_archive_row good = *second;
    struct disk_archive_row bad[5];
    for (int i = 0; i < 5; i++)
        bad[i] = good;
    bad[0].base_lsn = le64_make(le64_get(good.base_lsn) - 1); // overlaps the first
    bad[1].end_lsn = bad[1].base_lsn;
    bad[2].live_bytes = le64_make(le64_get(good.data_bytes) + 1);
    bad[3].number = le64_make(1);
    bad[4].dropped = le64_make(2);
    for (int i = 0; i < 5; i++) {
        *second = bad[i];
        cr_assert_eq(world_open(&world, rows, len, text), E_CORRUPT, "case %d", i);
        world_close(&world);
    }
    *second = good;
    cr_assert_eq(world_open(&world, rows, len, text), 0, "%s", text);
    free(rows);
    world_deinit(&world);
}

/* ---- damage in sources and files ---- */

Test(archive, a_damaged_source_stops_the_run_and_loses_nothing)
{
    world_init(&world, 20, 8 * MIB);
    world.size_max = 4000;
    world_add_segment(&world, 512 * KIB);
    world_add_segment(&world, 512 * KIB);
    for (int i = 0; i < 30; i++) {
        uint32_t b = (uint32_t)random_below(&world.random, world.batch_count);
        const struct world_batch *batch = &world.batches[b];
        uint32_t s = batch->lsn >= world.segments[1].segment.base_lsn;
        struct segment *segment = &world.segments[s].segment;
        uint32_t in_batch = (uint32_t)random_below(&world.random, batch->size);
        char name[32];
        snprintf(name, sizeof(name), "%016x.wal", (unsigned)segment->number);
        off_t at = (off_t)(segment_offset(segment, batch->lsn) + in_batch);
        disk_flip(&world.disk, name, at);
        cr_assert_eq(world_unweave(&world, 0), 2);
        cr_assert_eq(world_run_to_end(&world), E_CORRUPT, "byte %u of a batch", in_batch);
        cr_assert_eq(archives_stats(world.archives).damage, E_CORRUPT);
        cr_assert_eq(archives_count(world.archives), 0);
        cr_assert_eq(disk_file_count(&world.disk), 2, "no file is left");
        cr_assert_eq(segment->pins, 0);
        disk_flip(&world.disk, name, at);
    }
    run_all(0);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

/* An index that passes its checksum and yet names what can't be. */
static int run_with_entry(uint32_t segment, uint32_t at, struct disk_index_entry entry)
{
    struct index_image *image = &world.segments[segment].image;
    struct disk_index_entry *entries = (struct disk_index_entry *)(uintptr_t)image->entries;
    struct disk_index_entry good = entries[at];
    entries[at] = entry;
    cr_assert_eq(world_unweave(&world, 0), 2);
    int status = world_run_to_end(&world);
    entries[at] = good;
    return status;
}

Test(archive, an_index_that_lies_stops_the_run)
{
    world_init(&world, 5, 8 * MIB);
    world_add_segment(&world, 256 * KIB);
    world_add_segment(&world, 256 * KIB);
    const struct disk_index_entry *good = &world.segments[1].image.entries[3];
    uint64_t base = world.segments[1].segment.base_lsn, end = world.segments[1].segment.end_lsn;
    struct disk_index_entry bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = *good;
    bad[0].position = le64_make(base - 1);
    bad[1].position = le64_make(end);
    bad[2].position = le64_make(UINT64_MAX);
    bad[3].size = le32_make(UINT32_MAX);
    bad[4].size = le32_make(10);
    bad[5].position = le64_make(le64_get(good->position) + 8);
    bad[6].base_offset = le64_make(0);
    bad[7].position = world.segments[1].image.entries[4].position;
    for (int i = 0; i < 8; i++)
        cr_assert_eq(run_with_entry(1, 3, bad[i]), E_CORRUPT, "case %d", i);
    run_all(0);
    world_deinit(&world);
}

Test(archive, sources_whose_offsets_overlap_stop_the_run)
{
    world_init(&world, 5, 8 * MIB);
    world_add_segment(&world, 256 * KIB);
    world.next_offset[3] -= 1; // given twice
    world_add_segment(&world, 256 * KIB);
    cr_assert_eq(world_unweave(&world, 0), 2);
    cr_assert_eq(world_run_to_end(&world), E_CORRUPT);
    cr_assert_eq(archives_count(world.archives), 0);
    world_deinit(&world);
}

/* Of long rows of zeros every 16th is tried. */
Test(archive, each_flipped_byte_of_a_file_is_found)
{
    int status;
    size_t len;
    world_init(&world, 6, 8 * MIB);
    world.size_max = 600;
    world_add_segment(&world, 4 * KIB);
    run_all(0);
    uint8_t *bytes = disk_read(&world.disk, name_of(1), &len);
    uint64_t data_end = DISK_BLOCK + archive_data_bytes(archives_at(world.archives, 0));
    for (size_t at = 0; at < len; at++) {
        bool in_data = at >= DISK_BLOCK && at < data_end;
        if (bytes[at] == 0 && !in_data && at % 16 != 0)
            continue;
        disk_flip(&world.disk, name_of(1), (off_t)at);
        struct archive_report report = world_verify(&world, 1, &status);
        disk_flip(&world.disk, name_of(1), (off_t)at);
        cr_assert_eq(status, E_CORRUPT, "byte %zu: %s", at, status_name(status));
        cr_assert_leq(report.offset, at);
    }
    free(bytes);
    world_deinit(&world);
}

Test(archive, a_file_cut_short_or_of_another_store_does_not_verify)
{
    struct archive_report report;
    char path[512];
    int status;
    world_init(&world, 6, 8 * MIB);
    world_add_segment(&world, 64 * KIB);
    run_all(0);
    snprintf(path, sizeof(path), "%s/%s", world.disk.dir, name_of(1));
    cr_assert_eq(archive_verify(world.disk.io, path, disk_store_id, 4, 1, &report), E_FOREIGN);
    cr_assert_eq(archive_verify(world.disk.io, path, disk_store_id, 3, 2, &report), E_CORRUPT);
    cr_assert_eq(archive_verify(world.disk.io, "/nowhere.arc", disk_store_id, 3, 1, &report),
                 E_NOT_FOUND);
    size_t len;
    free(disk_read(&world.disk, name_of(1), &len));
    for (size_t cut = len - 1; cut > 0; cut = cut > 3000 ? cut - 3000 : 0) {
        disk_truncate(&world.disk, name_of(1), (off_t)cut);
        report = world_verify(&world, 1, &status);
        cr_assert_eq(status, E_CORRUPT);
        cr_assert_not_null(report.why);
    }
    world_deinit(&world);
}

Test(archive, a_damaged_index_is_told_and_not_believed)
{
    int status;
    world_init(&world, 6, 8 * MIB);
    world_add_segment(&world, 64 * KIB);
    run_all(0);
    size_t len;
    free(disk_read(&world.disk, name_of(1), &len));
    disk_flip(&world.disk, name_of(1), (off_t)(len - 2 * DISK_BLOCK) + 100);
    cr_assert_null(world_image(&world, archives_at(world.archives, 0), &status));
    cr_assert_eq(status, E_CORRUPT);
    cr_assert_eq(archives_stats(world.archives).damage, E_CORRUPT);
    world_deinit(&world);
}

Test(archive, a_read_behind_the_end_or_of_a_lost_file_is_told)
{
    uint8_t buffer[100];
    world_init(&world, 6, 8 * MIB);
    world_add_segment(&world, 64 * KIB);
    run_all(0);
    struct archive *archive = archives_at(world.archives, 0);
    cr_assert_eq(world_read(&world, archive, 1 * MIB, buffer, 100), E_CORRUPT);
    cr_assert_eq(world_read(&world, archive, DISK_BLOCK, buffer, 100), 0);
    world_add_segment(&world, 64 * KIB);
    run_all(1);
    change_delete(name_of(2));
    cr_assert_eq(world_read(&world, archives_at(world.archives, 1), 0, buffer, 100), E_NOT_FOUND);
    cr_assert_eq(archives_stats(world.archives).damage, E_NOT_FOUND);
    world_deinit(&world);
}

/* ---- reading ---- */

Test(archive, descriptors_stay_within_their_limit)
{
    world_init(&world, 10, 8 * MIB);
    world.options.fds_max = 2;
    world_close(&world);
    restart(NULL, 0, 0, NULL);
    for (uint32_t i = 0; i < 6; i++) {
        world_add_segment(&world, 64 * KIB);
        run_all(i);
    }
    for (int round = 0; round < 3; round++) {
        world_check(&world, world.lsn, true);
        cr_assert_leq(archives_stats(world.archives).fds_open, 2);
    }
    /* All at once: more are open while they are needed. */
    struct archive_read reads[6];
    uint8_t buffers[6][DISK_BLOCK];
    for (uint32_t i = 0; i < 6; i++) {
        reads[i] = (struct archive_read){.archive = archives_at(world.archives, i),
                                         .buffer = buffers[i],
                                         .len = DISK_BLOCK,
                                         .done = world_read_done};
        archive_read_start(world.archives, &reads[i]);
    }
    for (uint32_t i = 0; i < 6; i++) {
        while (reads[i].archive)
            io_poll(world.disk.io, NS_PER_MS);
        cr_assert_eq(reads[i].status, 0);
        cr_assert_eq(le64_get(((struct disk_common *)buffers[i])->number), i + 1);
    }
    world_deinit(&world);
}

/* ---- the life of a file ---- */

Test(archive, a_dead_file_goes_when_two_checkpoints_say_so)
{
    world_init(&world, 10, 8 * MIB);
    for (uint32_t i = 0; i < 2; i++) {
        world_add_segment(&world, 128 * KIB);
        run_all(i);
        world_checkpoint(&world);
        for (uint32_t p = 0; i == 0 && p < 10; p++)
            world.log_start[p] = world.next_offset[p];
    }
    world_checkpoint(&world);
    archives_log_start_moved(world.archives);
    world_settle(&world);
    cr_assert_eq(archives_count(world.archives), 1, "out of use");
    cr_assert(disk_exists(&world.disk, name_of(1)), "but there");
    world_checkpoint(&world);
    world_settle(&world);
    cr_assert(disk_exists(&world.disk, name_of(1)), "the older checkpoint still needs it");
    world_checkpoint(&world);
    world_settle(&world);
    cr_assert_not(disk_exists(&world.disk, name_of(1)));
    cr_assert(disk_exists(&world.disk, name_of(2)));
    cr_assert_eq(table_used_count(archives_table(world.archives)), 1);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

Test(archive, a_dropped_file_may_be_gone_at_start_and_goes_after_one_checkpoint)
{
    uint64_t len;
    world_init(&world, 10, 8 * MIB);
    world_add_segment(&world, 128 * KIB);
    run_all(0);
    for (uint32_t p = 0; p < 10; p++)
        world.log_start[p] = world.next_offset[p];
    archives_log_start_moved(world.archives);
    world_settle(&world);
    uint8_t *rows = world_rows(&world, &len);
    world_close(&world);
    restart(rows, len, 0, NULL);
    world_settle(&world);
    cr_assert(disk_exists(&world.disk, name_of(1)), "another checkpoint may still need it");
    world_checkpoint(&world);
    world_settle(&world);
    cr_assert_not(disk_exists(&world.disk, name_of(1)));
    world_close(&world);
    restart(rows, len, 0, NULL); // a crash before the next checkpoint: its row is back
    world_checkpoint(&world);
    world_settle(&world);
    cr_assert_eq(table_used_count(archives_table(world.archives)), 0);
    free(rows);
    world_deinit(&world);
}

Test(archive, live_bytes_are_those_at_or_above_the_log_starts)
{
    world_init(&world, 40, 8 * MIB);
    for (uint32_t i = 0; i < 3; i++) {
        world_add_segment(&world, 1 * MIB);
        run_all(i);
    }
    world_settle(&world);
    expire_some();
    world_settle(&world);
    for (uint32_t f = 0; f < archives_count(world.archives); f++) {
        struct archive *archive = archives_at(world.archives, f);
        uint64_t live = 0;
        for (uint32_t i = 0; i < world.batch_count; i++)
            if (world_is_wanted(&world, &world.batches[i]) &&
                world.batches[i].lsn >= archive_base_lsn(archive) &&
                world.batches[i].lsn < archive_end_lsn(archive))
                live += world.batches[i].size;
        cr_assert_eq(archive_live_bytes(archive), live);
    }
    world_deinit(&world);
}

/* Leaves about every third partition. */
static void expire_two_thirds(void)
{
    for (uint32_t p = 0; p < world.partition_count; p++)
        if (p % 3 != 0)
            world.log_start[p] = world.next_offset[p];
    archives_log_start_moved(world.archives);
}

Test(archive, the_newest_file_is_rewritten_with_the_next_run_when_mostly_dead)
{
    world_init(&world, 30, 8 * MIB);
    world_add_segment(&world, 2 * MIB);
    run_all(0);
    expire_two_thirds();
    world_settle(&world);
    world_add_segment(&world, 1 * MIB);
    run_all(1);
    cr_assert_eq(archives_count(world.archives), 1);
    struct archive *archive = archives_at(world.archives, 0);
    cr_assert_eq(archive_number(archive), 2);
    cr_assert_eq(archive_base_lsn(archive), 0);
    cr_assert_eq(archive_end_lsn(archive), world.lsn);
    cr_assert_eq(archives_stats(world.archives).dropped_files, 1);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

Test(archive, older_files_are_rewritten_among_neighbours_and_order_stays)
{
    world_init(&world, 30, 8 * MIB);
    for (uint32_t i = 0; i < 4; i++) {
        world_add_segment(&world, 1 * MIB);
        run_all(i);
        if (i == 2)
            expire_two_thirds(); // of files 1, 2 and 3; 4 is written after
        world_settle(&world);
    }
    world_settle(&world);
    cr_assert_eq(archives_count(world.archives), 1, "1..3 went into the run of 4");
    world_check(&world, world.lsn, true);
    world_deinit(&world);

    world_init(&world, 30, 8 * MIB);
    uint64_t lsns[6];
    for (uint32_t i = 0; i < 5; i++) {
        world_add_segment(&world, 1 * MIB);
        run_all(i);
        lsns[i] = world.lsn;
    }
    expire_two_thirds();
    for (uint32_t p = 0; p < 30; p++) // what the newest two hold stays: about 3.4 batches a file
        world.log_start[p] -= min_u64(world.log_start[p], 7);
    world_settle(&world);
    world_add_segment(&world, 1 * MIB);
    run_all(5);
    world_settle(&world);
    cr_assert_lt(archives_count(world.archives), 6);
    cr_assert_eq(archive_base_lsn(archives_at(world.archives, 0)), 0);
    cr_assert_geq(archive_end_lsn(archives_at(world.archives, 0)), lsns[1]);
    world_check(&world, world.lsn, false);
    world_checkpoint(&world);
    world_checkpoint(&world);
    world_settle(&world);
    cr_assert_eq(archives_stats(world.archives).dropped_files, 0);
    world_check(&world, world.lsn, false);
    world_deinit(&world);
}

/* ---- failures of the machine ---- */

/* Every I/O of a run fails once: nothing is left but the sources, and another run succeeds. */
static void sweep(enum fault_point point, int os_error, int expected)
{
    uint32_t failures = 0;
    bool ended_well = false;
    world_init(&world, 40, 8 * MIB);
    world_add_segment(&world, 3 * MIB);
    world_add_segment(&world, 3 * MIB);
    for (uint64_t hit = 1; hit < 200 && !ended_well; hit++) {
        fault_arm(point, hit, hit, os_error);
        cr_assert_eq(world_unweave(&world, 0), 2);
        int status = world_run_to_end(&world);
        fault_disarm_all();
        ended_well = status == 0;
        cr_assert(ended_well || status == expected, "hit %d: %s", (int)hit, status_name(status));
        if (ended_well)
            break;
        failures++;
        cr_assert_eq(disk_file_count(&world.disk), 2);
        cr_assert_eq(archives_end_lsn(world.archives), 0);
        cr_assert_eq(world.segments[0].segment.pins, 0);
    }
    cr_assert(ended_well);
    cr_assert_gt(failures, 0);
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

Test(archive, a_failed_read_ends_the_run_and_loses_nothing)
{
    sweep(FAULT_IO_READ, EIO, E_IO);
}

Test(archive, a_failed_write_ends_the_run_and_loses_nothing)
{
    sweep(FAULT_IO_WRITE, EIO, E_IO);
}

Test(archive, a_full_disk_ends_the_run_and_loses_nothing)
{
    sweep(FAULT_IO_WRITE, ENOSPC, E_NO_SPACE);
}

Test(archive, a_failed_sync_ends_the_run_and_loses_nothing)
{
    sweep(FAULT_IO_FDATASYNC, EIO, E_IO);
}

Test(archive, a_failed_open_or_rename_ends_the_run_and_loses_nothing)
{
    sweep(FAULT_IO_OPEN, EIO, E_IO);
    sweep(FAULT_IO_RENAME, EIO, E_IO);
}

Test(archive, the_reserve_carries_a_run_on_a_full_disk)
{
    world_init(&world, 40, 8 * MIB);
    world.options.reserve_bytes = 6 * MIB;
    world_close(&world);
    restart(NULL, 0, 0, NULL);
    cr_assert_not(archives_stats(world.archives).has_reserve);
    archives_make_reserve(world.archives);
    for (int i = 0; i < 2000 && !archives_stats(world.archives).has_reserve; i++)
        world_turn(&world);
    cr_assert(archives_stats(world.archives).has_reserve);
    world_close(&world);
    restart(NULL, 0, 0, NULL);
    cr_assert(archives_stats(world.archives).has_reserve, "it outlives a restart");
    world_add_segment(&world, 3 * MIB);
    fault_arm(FAULT_IO_WRITE, 1, 2, ENOSPC); // both that are in flight
    run_all(0);
    fault_disarm_all();
    cr_assert_not(archives_stats(world.archives).has_reserve);
    cr_assert_not(disk_exists(&world.disk, "reserve.tmp"));
    world_check(&world, world.lsn, true);
    world_deinit(&world);
}

Test(archive, it_may_end_at_any_step)
{
    uint64_t len;
    world_init(&world, 20, 8 * MIB);
    world_add_segment(&world, 1 * MIB);
    run_all(0);
    uint8_t *rows = world_rows(&world, &len);
    world_add_segment(&world, 1 * MIB);
    for (int turns = 0; turns < 80; turns++) {
        world_close(&world);
        restart(rows, len, 0, NULL);
        archives_log_start_moved(world.archives);
        cr_assert_eq(disk_file_count(&world.disk), 3, "two segments and the named file");
        cr_assert_eq(world_unweave(&world, 1), 1);
        world_turns(&world, turns);
    }
    free(rows);
    world_deinit(&world);
}

/* ---- the format ---- */

Test(archive, the_file_is_what_the_format_says)
{
    world_init(&world, 3, 8 * MIB);
    world.size_max = 250;
    world_add_segment(&world, 2 * KIB);
    run_all(0);
    size_t len;
    uint8_t *bytes = disk_read(&world.disk, name_of(1), &len);
    disk_golden("archive.arc", bytes, len);
    free(bytes);
    world_deinit(&world);
}
