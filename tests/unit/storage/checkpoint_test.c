/* Checkpoints on a real file system: what is written comes back, the rest is refused or passed
 * over. */
#include <errno.h>

#include "base/hash.h"
#include "base/random.h"
#include "base/status.h"
#include "storage/checkpoint.h"
#include "tests/unit/storage/disk_fixture.h"

#define ROW_BYTES 40u

static struct disk_fixture disk;

static void setup(void)
{
    disk_setup(&disk);
}

static void teardown(void)
{
    disk_teardown(&disk);
}

TestSuite(checkpoint, .init = setup, .fini = teardown);

/* ---- a shard in small: two tables and a writer ---- */

struct shard {
    struct checkpoint_identity identity;
    struct checkpoint_writer *writer;
    struct table *tables[2];
    struct random random;
    uint64_t number; // of the last good checkpoint
    int status;
    bool done;
};

static struct table *new_table(enum table_id id, uint32_t row_bytes)
{
    struct table *table = table_new(
        &(struct table_options){.id = id, .row_bytes = row_bytes, .row_count_max = 200000});
    cr_assert_not_null(table);
    return table;
}

static struct checkpoint_identity our_identity(void)
{
    struct checkpoint_identity identity = {.shard_id = 3};
    memcpy(identity.store_id, disk_store_id, 16);
    return identity;
}

static void shard_writer_new(struct shard *shard)
{
    static struct checkpoint_set set;
    cr_assert_eq(checkpoint_scan(disk.io, disk.dir, &shard->identity, &set), 0);
    cr_assert_eq(checkpoint_tidy(disk.io, disk.dir, &shard->identity, &set), 0);
    shard->number = set.count > 0 ? set.heads[0].number : 0;
    shard->writer = checkpoint_writer_new(disk.io, disk.dir, &shard->identity);
    cr_assert_not_null(shard->writer);
}

static void shard_init(struct shard *shard)
{
    *shard = (struct shard){.identity = our_identity()};
    random_init(&shard->random, 7);
    shard->tables[0] = new_table(TABLE_PARTITIONS, ROW_BYTES);
    shard->tables[1] = new_table(TABLE_PRODUCERS, 64);
    shard_writer_new(shard);
}

static void shard_deinit(struct shard *shard)
{
    checkpoint_writer_free(shard->writer);
    table_free(shard->tables[0]);
    table_free(shard->tables[1]);
}

static void add_rows(struct shard *shard, uint32_t table, uint32_t count, uint32_t row_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index;
        uint64_t *row = table_row_new(shard->tables[table], &index);
        for (uint32_t word = 0; word < row_bytes / 8; word++)
            row[word] = random_u64(&shard->random) | 1;
    }
}

static void change_rows(struct shard *shard, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rows = table_row_count(shard->tables[0]);
        uint32_t index = (uint32_t)random_below(&shard->random, rows);
        if (table_row_is_used(shard->tables[0], index) && random_below(&shard->random, 3) == 0)
            table_row_delete(shard->tables[0], index);
        else if (table_row_is_used(shard->tables[0], index))
            ((uint64_t *)table_row_mut(shard->tables[0], index))[2]++;
        else
            add_rows(shard, 0, 1, ROW_BYTES);
    }
}

static void on_done(void *context, int status, const struct checkpoint_head *head)
{
    struct shard *shard = context;
    shard->status = status;
    shard->done = true;
    if (status == 0)
        shard->number = head->number;
}

static struct checkpoint_head head_of(uint64_t number)
{
    return (struct checkpoint_head){
        .number = number,
        .position = {.lsn = 1000 * number,
                     .chain = 0x1122334455667788ull * number,
                     .group_number = 10 * number,
                     .append_time_ms = 1700000000000ull + number,
                     .file_number = number + 4},
        .wal_first_file = number + 1,
        .clean = number % 2 == 0,
    };
}

static void begin(struct shard *shard)
{
    struct checkpoint_head head = head_of(shard->number + 1);
    shard->done = false;
    checkpoint_begin(shard->writer, &head, shard->tables, 2, on_done, shard);
}

/* Turns until it is done; `between` runs between the steps. */
static int finish(struct shard *shard, uint64_t durable, void (*between)(struct shard *))
{
    for (int turn = 0; turn < 100000 && !shard->done; turn++) {
        if (checkpoint_turn(shard->writer, durable) == 0)
            io_poll(disk.io, NS_PER_MS);
        if (between)
            between(shard);
    }
    return shard->done ? shard->status : E_TIMEOUT;
}

static int write_checkpoint(struct shard *shard)
{
    begin(shard);
    return finish(shard, UINT64_MAX, NULL);
}

static struct checkpoint_set *scan(void)
{
    static struct checkpoint_set set;
    struct checkpoint_identity identity = our_identity();
    cr_assert_eq(checkpoint_scan(disk.io, disk.dir, &identity, &set), 0);
    return &set;
}

/* Digest over the tables of a checkpoint. */
static uint64_t loaded_digest(uint64_t number)
{
    struct checkpoint_identity identity = our_identity();
    struct table *tables[2] = {new_table(TABLE_PRODUCERS, 64),
                               new_table(TABLE_PARTITIONS, ROW_BYTES)};
    const char *why = NULL;
    int status = checkpoint_load(disk.io, disk.dir, number, &identity, tables, 2, &why);
    cr_assert_eq(status, 0, "%s: %s", status_name(status), why);
    uint64_t digest = table_digest(tables[1]) ^ table_digest(tables[0]);
    table_free(tables[0]);
    table_free(tables[1]);
    return digest;
}

static uint64_t digest(const struct shard *shard)
{
    return table_digest(shard->tables[0]) ^ table_digest(shard->tables[1]);
}

static const char *name_of(uint64_t number)
{
    static char name[32];
    snprintf(name, sizeof(name), "%016llx.ckpt", (unsigned long long)number);
    return name;
}

/* ---- writing and reading back ---- */

Test(checkpoint, what_was_written_comes_back)
{
    struct shard shard;
    shard_init(&shard);
    add_rows(&shard, 0, 5000, ROW_BYTES);
    add_rows(&shard, 1, 3000, 64);
    table_row_delete(shard.tables[0], 17);
    cr_assert_eq(write_checkpoint(&shard), 0);
    struct checkpoint_set *set = scan();
    struct checkpoint_head head = head_of(1);
    cr_assert_eq(set->count, 1);
    cr_assert_eq(set->bad_count, 0);
    cr_assert_eq(memcmp(&set->heads[0].position, &head.position, sizeof(head.position)), 0);
    cr_assert_eq(set->heads[0].number, 1);
    cr_assert_eq(set->heads[0].wal_first_file, 2);
    cr_assert_not(set->heads[0].clean);
    cr_assert_eq(loaded_digest(1), digest(&shard));
    shard_deinit(&shard);
}

Test(checkpoint, empty_tables_and_the_clean_mark_come_back)
{
    struct shard shard;
    shard_init(&shard);
    cr_assert_eq(write_checkpoint(&shard), 0);
    cr_assert_eq(write_checkpoint(&shard), 0);
    cr_assert_eq(scan()->count, 2);
    cr_assert(scan()->heads[0].clean);
    cr_assert_eq(loaded_digest(2), digest(&shard));
    shard_deinit(&shard);
}

/* The first table ends 8 bytes before the end of a piece: the next one's header does not fit
 * there. */
Test(checkpoint, a_table_header_may_lie_across_a_piece_border)
{
    struct shard shard;
    shard_init(&shard);
    add_rows(&shard, 0, 6553, ROW_BYTES);
    cr_assert_eq(16 + 6553 * ROW_BYTES, CHECKPOINT_PIECE_BYTES - 8);
    add_rows(&shard, 1, 9000, 64);
    cr_assert_eq(write_checkpoint(&shard), 0);
    cr_assert_eq(loaded_digest(1), digest(&shard));
    shard_deinit(&shard);
}

static void change_some(struct shard *shard)
{
    change_rows(shard, 50);
}

Test(checkpoint, state_may_change_while_it_is_written)
{
    struct shard shard;
    shard_init(&shard);
    add_rows(&shard, 0, 60000, ROW_BYTES);
    for (int round = 0; round < 4; round++) {
        uint64_t frozen = digest(&shard);
        begin(&shard);
        cr_assert_eq(finish(&shard, UINT64_MAX, change_some), 0);
        cr_assert_neq(digest(&shard), frozen);
        cr_assert_eq(loaded_digest(shard.number), frozen);
    }
    shard_deinit(&shard);
}

Test(checkpoint, is_not_seen_before_the_log_is_durable_up_to_it)
{
    struct shard shard;
    shard_init(&shard);
    begin(&shard);
    for (int turn = 0; turn < 200; turn++) {
        checkpoint_turn(shard.writer, 999);
        io_poll(disk.io, NS_PER_MS / 10);
    }
    cr_assert_not(shard.done);
    cr_assert(checkpoint_is_running(shard.writer));
    cr_assert_not(disk_exists(&disk, name_of(1)));
    cr_assert_eq(finish(&shard, 1000, NULL), 0);
    cr_assert(disk_exists(&disk, name_of(1)));
    shard_deinit(&shard);
}

Test(checkpoint, three_files_circulate_and_two_are_kept)
{
    struct shard shard;
    shard_init(&shard);
    cr_assert_eq(disk_file_count(&disk), 3, "spares are made with the store");
    for (uint64_t number = 1; number <= 7; number++) {
        add_rows(&shard, 0, 100, ROW_BYTES);
        cr_assert_eq(write_checkpoint(&shard), 0);
        cr_assert_eq(disk_file_count(&disk), 3);
        cr_assert(disk_exists(&disk, name_of(number)));
        cr_assert_not(number > 2 && disk_exists(&disk, name_of(number - 2)));
        if (number == 4) { // a restart goes on with what there is
            checkpoint_writer_free(shard.writer);
            shard_writer_new(&shard);
            cr_assert_eq(disk_file_count(&disk), 3);
        }
    }
    cr_assert_eq(scan()->count, 2);
    cr_assert_eq(scan()->heads[0].number, 7);
    cr_assert_eq(scan()->heads[1].number, 6);
    shard_deinit(&shard);
}

Test(checkpoint, a_file_that_was_outgrown_gets_room_for_a_quarter_more)
{
    struct shard shard;
    shard_init(&shard);
    add_rows(&shard, 0, 60000, ROW_BYTES); // 2.4 MB
    cr_assert_eq(write_checkpoint(&shard), 0);
    size_t len;
    free(disk_read(&disk, name_of(1), &len));
    cr_assert_eq(len, 3 * MIB);
    cr_assert_eq(loaded_digest(1), digest(&shard));
    shard_deinit(&shard);
}

/* A shorter checkpoint in a longer old file: what lies behind it is not read. */
Test(checkpoint, remains_of_an_older_one_behind_the_end_do_no_harm)
{
    struct shard shard;
    shard_init(&shard);
    add_rows(&shard, 0, 20000, ROW_BYTES);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(write_checkpoint(&shard), 0);
    for (uint32_t i = 0; i < 20000; i++)
        table_row_delete(shard.tables[0], i);
    struct table *small[2] = {new_table(TABLE_PARTITIONS, ROW_BYTES), shard.tables[1]};
    struct checkpoint_head head = head_of(4);
    shard.done = false;
    checkpoint_begin(shard.writer, &head, small, 2, on_done, &shard);
    cr_assert_eq(finish(&shard, UINT64_MAX, NULL), 0);
    cr_assert_eq(loaded_digest(4), table_digest(small[0]) ^ table_digest(small[1]));
    table_free(small[0]);
    shard_deinit(&shard);
}

/* ---- files that are not what they should be ---- */

static void two_small_checkpoints(void)
{
    struct shard shard;
    shard_init(&shard);
    add_rows(&shard, 0, 20, ROW_BYTES);
    add_rows(&shard, 1, 10, 64);
    cr_assert_eq(write_checkpoint(&shard), 0);
    add_rows(&shard, 0, 3, ROW_BYTES);
    cr_assert_eq(write_checkpoint(&shard), 0);
    shard_deinit(&shard);
}

Test(checkpoint, each_flipped_byte_is_found_and_the_older_one_remains, .timeout = 120)
{
    two_small_checkpoints();
    char name[32];
    snprintf(name, sizeof(name), "%s", name_of(2));
    for (off_t at = 0; at < 2 * DISK_BLOCK; at++) {
        disk_flip(&disk, name, at);
        struct checkpoint_set *set = scan();
        cr_assert_eq(set->count, 1, "byte %ld", (long)at);
        cr_assert_eq(set->heads[0].number, 1);
        cr_assert_eq(set->bad_count, 1);
        cr_assert_not_null(strstr(set->bad_path, name));
        cr_assert_not_null(set->bad_why);
        disk_flip(&disk, name, at);
    }
    cr_assert_eq(scan()->count, 2);
}

Test(checkpoint, both_damaged_leaves_none)
{
    two_small_checkpoints();
    disk_flip(&disk, name_of(1), DISK_BLOCK + 30);
    disk_flip(&disk, name_of(2), DISK_BLOCK + 30);
    cr_assert_eq(scan()->count, 0);
    cr_assert_eq(scan()->bad_count, 2);
    cr_assert_not_null(strstr(scan()->bad_path, name_of(2)), "the newest is named");
}

Test(checkpoint, truncated_and_empty_files_are_bad)
{
    static const off_t lengths[] = {
        2 * DISK_BLOCK - 1, DISK_BLOCK + 1, DISK_BLOCK, 4095, 512, 1, 0};
    two_small_checkpoints();
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        disk_truncate(&disk, name_of(2), lengths[i]);
        cr_assert_eq(scan()->count, 1, "length %ld", (long)lengths[i]);
        cr_assert_eq(scan()->bad_count, 1);
    }
}

Test(checkpoint, a_file_under_anothers_name_is_bad)
{
    two_small_checkpoints();
    char from[128], to[128];
    snprintf(from, sizeof(from), "%s/%s", disk.dir, name_of(2));
    snprintf(to, sizeof(to), "%s/%s", disk.dir, name_of(9));
    cr_assert_eq(rename(from, to), 0);
    cr_assert_eq(scan()->count, 1);
    cr_assert_eq(scan()->bad_count, 1);
}

static void reseal(const char *name, void (*change)(struct disk_checkpoint *header))
{
    size_t len;
    uint8_t *bytes = disk_read(&disk, name, &len);
    struct disk_checkpoint *header = (struct disk_checkpoint *)bytes;
    change(header);
    header->checksum = le64_make(hash_xxh3(header, DISK_BLOCK - 8));
    disk_write(&disk, name, header, DISK_BLOCK, 0);
    free(bytes);
}

static void change_version(struct disk_checkpoint *header)
{
    header->common.version = le16_make(2);
}

static void change_required(struct disk_checkpoint *header)
{
    header->common.features_required = le32_make(8);
}

static void change_compatible(struct disk_checkpoint *header)
{
    header->common.features_compatible = le32_make(8);
}

static void change_shard(struct disk_checkpoint *header)
{
    header->common.shard_id = le32_make(4);
}

static void change_store(struct disk_checkpoint *header)
{
    header->common.store_id[5] ^= 1;
}

static void change_table_count(struct disk_checkpoint *header)
{
    header->table_count = le32_make(3);
}

static void change_table_count_huge(struct disk_checkpoint *header)
{
    header->table_count = le32_make(UINT32_MAX);
}

static void change_body_bytes(struct disk_checkpoint *header)
{
    header->body_bytes = le64_make(UINT64_MAX - 100);
}

static void change_body_bytes_less(struct disk_checkpoint *header)
{
    header->body_bytes = le64_make(le64_get(header->body_bytes) - 8);
}

Test(checkpoint, foreign_and_newer_files_end_the_scan)
{
    static void (*const changes[])(struct disk_checkpoint *) = {change_version, change_required,
                                                                change_shard, change_store};
    static const int statuses[] = {E_NEWER, E_NEWER, E_FOREIGN, E_FOREIGN};
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        static struct checkpoint_set set;
        struct checkpoint_identity identity = our_identity();
        disk_empty(&disk);
        two_small_checkpoints();
        reseal(name_of(1), changes[i]);
        cr_assert_eq(checkpoint_scan(disk.io, disk.dir, &identity, &set), statuses[i]);
        cr_assert_not_null(strstr(set.bad_path, name_of(1)));
    }
}

Test(checkpoint, an_unknown_compatible_feature_is_no_obstacle)
{
    two_small_checkpoints();
    reseal(name_of(2), change_compatible);
    cr_assert_eq(scan()->count, 2);
}

Test(checkpoint, headers_that_lie_about_the_body_are_bad)
{
    static void (*const changes[])(struct disk_checkpoint *) = {
        change_table_count, change_table_count_huge, change_body_bytes, change_body_bytes_less};
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        disk_empty(&disk);
        two_small_checkpoints();
        reseal(name_of(2), changes[i]);
        cr_assert_eq(scan()->count, 1, "change %zu", i);
        cr_assert_eq(scan()->bad_count, 1);
    }
}

Test(checkpoint, a_table_that_nobody_takes_is_damage_and_one_that_is_lacking_stays_empty)
{
    two_small_checkpoints();
    struct checkpoint_identity identity = our_identity();
    struct table *tables[3] = {new_table(TABLE_PARTITIONS, ROW_BYTES), new_table(TABLE_TOPICS, 128),
                               new_table(TABLE_PRODUCERS, 64)};
    const char *why;
    cr_assert_eq(checkpoint_load(disk.io, disk.dir, 2, &identity, tables, 2, &why), E_CORRUPT);
    table_free(tables[0]);
    tables[0] = new_table(TABLE_PARTITIONS, ROW_BYTES);
    cr_assert_eq(checkpoint_load(disk.io, disk.dir, 2, &identity, tables, 3, &why), 0);
    cr_assert_eq(table_used_count(tables[0]), 23);
    cr_assert_eq(table_row_count(tables[1]), 0);
    cr_assert_eq(table_used_count(tables[2]), 10);
    for (int i = 0; i < 3; i++)
        table_free(tables[i]);
}

Test(checkpoint, a_file_that_changed_since_the_scan_is_not_loaded)
{
    two_small_checkpoints();
    struct checkpoint_identity identity = our_identity();
    struct table *tables[2] = {new_table(TABLE_PARTITIONS, ROW_BYTES),
                               new_table(TABLE_PRODUCERS, 64)};
    const char *why;
    cr_assert_eq(scan()->count, 2);
    disk_flip(&disk, name_of(2), DISK_BLOCK + 16 + 21);
    cr_assert_eq(checkpoint_load(disk.io, disk.dir, 2, &identity, tables, 2, &why), E_CORRUPT);
    cr_assert_not_null(why);
    table_free(tables[0]);
    table_free(tables[1]);
}

/* ---- tidying ---- */

Test(checkpoint, tidying_removes_what_is_bad_old_or_half_made_and_nothing_else)
{
    two_small_checkpoints();
    disk_write(&disk, "0000000000000009.ckpt", "junk", 4, 0);
    disk_write(&disk, "0000000000000003.tmp", "junk", 4, 0);
    disk_write(&disk, "notes", "mine", 4, 0);
    struct shard shard;
    shard_init(&shard);
    cr_assert(disk_exists(&disk, name_of(1)));
    cr_assert(disk_exists(&disk, name_of(2)));
    cr_assert_not(disk_exists(&disk, "0000000000000009.ckpt"));
    cr_assert_not(disk_exists(&disk, "0000000000000003.tmp"));
    cr_assert(disk_exists(&disk, "notes"));
    cr_assert_eq(disk_file_count(&disk), 4);
    cr_assert_eq(shard.number, 2);
    cr_assert_eq(write_checkpoint(&shard), 0);
    shard_deinit(&shard);
}

/* ---- failures while writing ---- */

/* Every I/O of a checkpoint fails once, in each way that it can: what was there stays good, and the
 * next attempt succeeds. */
static void sweep(enum fault_point point, int os_error, int expected, bool ends_well)
{
    uint32_t failures = 0;
    for (uint64_t hit = 1; hit < 100; hit++) {
        struct shard shard;
        disk_empty(&disk);
        shard_init(&shard);
        add_rows(&shard, 0, 30000, ROW_BYTES); // grows: five pieces
        for (int i = 0; i < 3; i++)
            cr_assert_eq(write_checkpoint(&shard), 0);
        add_rows(&shard, 0, 30000, ROW_BYTES);
        uint64_t before = digest(&shard);
        fault_arm(point, hit, hit, os_error);
        int status = write_checkpoint(&shard);
        fault_disarm_all();
        cr_assert(status == 0 || status == expected, "hit %d: %s", (int)hit, status_name(status));
        cr_assert_eq(scan()->bad_count, 0);
        cr_assert_eq(scan()->heads[0].number, status == 0 ? 4 : 3);
        cr_assert_geq(scan()->count, 2);
        if (status != 0) {
            failures++;
            cr_assert_eq(write_checkpoint(&shard), 0, "the next attempt");
        }
        cr_assert_eq(loaded_digest(4), before);
        shard_deinit(&shard);
        if (status == 0 && hit > 12)
            break;
    }
    cr_assert(ends_well || failures > 0);
}

Test(checkpoint, a_failed_write_leaves_what_was_there, .timeout = 120)
{
    sweep(FAULT_IO_WRITE, EIO, E_IO, false);
}

Test(checkpoint, a_full_disk_is_no_failure_for_ever, .timeout = 120)
{
    sweep(FAULT_IO_WRITE, ENOSPC, E_NO_SPACE, false);
}

Test(checkpoint, a_failed_sync_leaves_what_was_there, .timeout = 120)
{
    sweep(FAULT_IO_FDATASYNC, EIO, E_IO, false);
}

Test(checkpoint, a_failed_rename_leaves_what_was_there, .timeout = 120)
{
    sweep(FAULT_CHECKPOINT_RENAME, EIO, E_IO, false);
    sweep(FAULT_IO_RENAME, EIO, E_IO, false);
}

Test(checkpoint, a_failed_open_leaves_what_was_there, .timeout = 120)
{
    sweep(FAULT_IO_OPEN, EIO, E_IO, false);
}

Test(checkpoint, a_writer_may_be_freed_at_any_step)
{
    for (int turns = 0; turns < 60; turns++) {
        struct shard shard;
        shard_init(&shard);
        add_rows(&shard, 0, 8000, ROW_BYTES);
        begin(&shard);
        for (int turn = 0; turn < turns; turn++) {
            if (checkpoint_turn(shard.writer, UINT64_MAX) == 0)
                io_poll(disk.io, NS_PER_MS);
        }
        shard_deinit(&shard);
        cr_assert_eq(scan()->bad_count, 0);
    }
}

/* ---- the format ---- */

Test(checkpoint, the_file_is_what_the_format_says)
{
    struct shard shard;
    shard_init(&shard);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t index;
        uint8_t *row = table_row_new(shard.tables[0], &index);
        for (uint32_t byte = 0; byte < ROW_BYTES; byte++)
            row[byte] = (uint8_t)(0x10 * (i + 1) + byte % 16);
    }
    table_row_delete(shard.tables[0], 1);
    cr_assert_eq(write_checkpoint(&shard), 0);
    size_t len;
    uint8_t *bytes = disk_read(&disk, name_of(1), &len);
    cr_assert_eq(len, MIB);
    for (size_t i = 2 * DISK_BLOCK; i < len; i++)
        cr_assert_eq(bytes[i], 0);
    disk_golden("checkpoint.ckpt", bytes, 2 * DISK_BLOCK);
    free(bytes);
    shard_deinit(&shard);
}
