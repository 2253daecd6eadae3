/* What inspection says of archive files: those that the newest checkpoint names must be there and be
 * good; others are about to be deleted, whatever they hold. */
#include "tests/unit/storage/store_fixture.h"

#include "storage/disk_header.h"
#include "storage/inspect.h"

#define ARCHIVE_DIR SF_DIR "/shard-002/archive"

static struct store_fixture f;
static struct inspect_item archives[64], damage;
static char damage_path[128];
static uint32_t archive_count, damage_count;
static char text[512];

/* DIR/store: the fixture makes one shard's folders only. */
static void put_identity(void)
{
    static struct disk_store block;
    struct disk_expect expect = {
        .magic = DISK_MAGIC_STORE, .store_id = f.options.store_id, .shard_id = UINT32_MAX};
    disk_header_make(&block.common, &expect, 1700000000000);
    block.state = le32_make(DISK_STORE_READY);
    block.shard_count = le32_make(3);
    block.segment_bytes = le64_make(f.options.segment_bytes);
    disk_header_seal(&block);
    sim_disk_put(f.disk, SF_DIR "/store", &block, 0, sizeof(block));
}

/* A store that has unwoven some of its segments, and has stopped. */
static void make_store(void)
{
    store_fixture_init(&f, 1);
    cr_assert_eq(store_fixture_open(&f), 0);
    for (uint32_t i = 0; i < 5; i++)
        cr_assert_eq(sf_open_partition(&f, 1, i), 0);
    sf_load(&f, 70 * MIB);
    sf_flush(&f);
    for (int i = 0; i < 100000 &&
                    (store_stats(f.store).archives < 2 || archives_is_unweaving(f.store->archives));
         i++)
        sf_turn(&f);
    cr_assert_geq(store_stats(f.store).archives, 2);
    cr_assert_eq(store_fixture_close(&f), 0);
    put_identity();
}

static void free_store(void)
{
    store_fixture_deinit(&f);
}
TestSuite(inspect_archive, .init = make_store, .fini = free_store);

static void report(void *context, const struct inspect_item *item)
{
    cr_assert(item->text && item->path);
    if (item->is_damage && damage_count++ == 0) {
        damage = *item;
        snprintf(damage_path, sizeof(damage_path), "%s", item->path);
    }
    if (item->kind == INSPECT_ARCHIVE) {
        cr_assert_lt(archive_count, ARRAY_COUNT(archives));
        archives[archive_count++] = *item;
    }
}

static int inspect(bool verify)
{
    struct inspect_options options = {
        .dir = SF_DIR, .shard = 2, .verify = verify, .report = report};
    uint64_t before = sim_disk_hash(f.disk);
    archive_count = damage_count = 0;
    int status = inspect_run(f.io, &options, text);
    cr_assert_eq(sim_disk_hash(f.disk), before, "inspection wrote");
    return status;
}

static const char *path_of(uint64_t number)
{
    static char path[128];
    snprintf(path, sizeof(path), ARCHIVE_DIR "/%016lx.arc", number);
    return path;
}

Test(inspect_archive, all_that_the_checkpoint_names_are_shown_as_live)
{
    for (int verify = 0; verify < 2; verify++) {
        cr_assert_eq(inspect(verify), 0, "%s", text);
        cr_assert_geq(archive_count, 2);
        for (uint32_t i = 0; i < archive_count; i++) {
            cr_assert_str_eq(archives[i].role, "live");
            cr_assert_eq(archives[i].status, 0);
            cr_assert_eq(archives[i].shard, 2);
            cr_assert_not_null(sim_disk_find(f.disk, path_of(archives[i].number)));
            cr_assert_gt(archives[i].size_bytes, DISK_BLOCK);
            cr_assert_eq(archives[i].batches > 0, verify);
        }
    }
}

Test(inspect_archive, one_that_is_missing_is_damage)
{
    cr_assert_eq(inspect(false), 0);
    uint64_t gone = archives[1].number;
    uint32_t count = archive_count;
    sim_disk_remove(f.disk, path_of(gone));
    for (int verify = 0; verify < 2; verify++) {
        cr_assert_eq(inspect(verify), E_CORRUPT, "NOT_FOUND would say that there is no store");
        cr_assert_eq(damage_count, 1);
        cr_assert_eq(damage.kind, INSPECT_ARCHIVE);
        cr_assert_eq(damage.status, E_NOT_FOUND);
        cr_assert_eq(damage.number, gone);
        cr_assert_str_eq(damage_path, path_of(gone));
        cr_assert_eq(archive_count, count, "the others are shown, too");
    }
    cr_assert_neq(store_fixture_open(&f), 0, "the broker goes on without it");
}

Test(inspect_archive, a_header_block_that_is_wrong_is_damage_at_once)
{
    cr_assert_eq(inspect(false), 0);
    uint64_t number = archives[0].number;
    sim_disk_flip(f.disk, path_of(number), 100, 1);
    for (int verify = 0; verify < 2; verify++) {
        cr_assert_eq(inspect(verify), E_CORRUPT);
        cr_assert_eq(damage.number, number);
    }
}

Test(inspect_archive, one_batch_that_is_wrong_is_found_by_verify)
{
    cr_assert_eq(inspect(false), 0);
    sim_disk_flip(f.disk, path_of(archives[0].number), DISK_BLOCK + 200, 1);
    cr_assert_eq(inspect(false), 0);
    cr_assert_eq(inspect(true), E_CORRUPT);
    cr_assert_eq(damage.number, archives[0].number);
    cr_assert_geq(damage.offset, DISK_BLOCK);
}

Test(inspect_archive, one_that_is_cut_off_within_its_header_is_damage)
{
    cr_assert_eq(inspect(false), 0);
    sim_disk_resize(f.disk, path_of(archives[0].number), 512);
    cr_assert_eq(inspect(false), E_CORRUPT);
    cr_assert_neq(damage.text[0], '\0');
    cr_assert_eq(inspect(true), E_CORRUPT);
}

Test(inspect_archive, one_that_belongs_to_another_name_is_damage)
{
    cr_assert_eq(inspect(false), 0);
    uint64_t first = archives[0].number, second = archives[1].number;
    sim_disk_remove(f.disk, path_of(first));
    char from[128];
    snprintf(from, sizeof(from), "%s", path_of(second));
    sim_disk_move(f.disk, from, path_of(first));
    cr_assert_eq(inspect(false), E_CORRUPT);
    cr_assert_eq(damage_count, 2); // one is missing, the other is not what its name says
}

Test(inspect_archive, one_that_no_checkpoint_names_is_raw_and_no_damage_whatever_it_holds)
{
    static const uint8_t garbage[100] = "not an archive file";
    cr_assert_eq(inspect(false), 0);
    uint32_t count = archive_count;
    sim_disk_put(f.disk, path_of(0xabcd), garbage, 0, sizeof(garbage));
    for (int verify = 0; verify < 2; verify++) {
        cr_assert_eq(inspect(verify), 0, "%s", text);
        cr_assert_eq(archive_count, count + 1);
        cr_assert_eq(damage_count, 0);
        const struct inspect_item *raw = &archives[count];
        cr_assert_eq(raw->number, 0xabcd);
        cr_assert_str_eq(raw->role, "raw");
        cr_assert_lt(raw->status, 0);
    }
}

/* Only its header and body are read: what lies behind them means nothing. */
Test(inspect_archive, a_checkpoint_in_a_file_of_gigabytes_is_read)
{
    for (uint32_t i = 0; i < f.disk->seen.count; i++)
        if (strstr(f.disk->seen.names[i].path, ".ckpt"))
            sim_disk_resize(f.disk, f.disk->seen.names[i].path, 2 * GIB + MIB);
    cr_assert_eq(inspect(false), 0, "%s", text);
    cr_assert_geq(archive_count, 2);
    cr_assert_str_eq(archives[0].role, "live");
}
