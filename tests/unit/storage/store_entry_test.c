/* Entries in a log whose checksums are right and that cannot be: replay refuses them, names the place,
 * and writes nothing. They are put into the log past store_append(), which never lets them through. */
#include "tests/unit/storage/store_fixture.h"

static struct store_fixture f;

static void open_store(void)
{
    store_fixture_init(&f, 1);
    log_set_level(LOG_LEVEL_ERROR + 1);
    cr_assert_eq(store_fixture_open(&f), 0);
    cr_assert_eq(sf_open_partition(&f, 1, 0), 0);
    cr_assert_eq(sf_produce(&f, &f.partitions[0], 3, 100), 0);
    sf_flush(&f);
}

static void free_store(void)
{
    store_fixture_deinit(&f);
}
TestSuite(store_entry, .init = open_store, .fini = free_store);

static void put(uint8_t type, uint32_t topic_id, const void *payload, uint32_t bytes)
{
    struct wal_entry entry = {
        .type = type, .topic_id = topic_id, .pieces = {{payload, bytes}}, .piece_count = bytes > 0};
    struct wal_view view;
    int status;
    while ((status = wal_append(f.store->wal, &entry, &view)) == E_FULL)
        sf_turn(&f);
    cr_assert_eq(status, 0);
}

static void put_batch(uint32_t topic_id, uint64_t base_offset)
{
    uint32_t size = sf_make_batch(&f, 2, 100, 1000);
    batch_set_head(f.batch, base_offset, 0);
    put(ENTRY_BATCH, topic_id, f.batch, size);
}

static void put_log_start(uint32_t topic_id, uint64_t log_start, uint32_t bytes)
{
    struct disk_log_start payload = {.log_start = le64_make(log_start)};
    put(ENTRY_LOG_START, topic_id, &payload, bytes);
}

/* The process is killed, and the next one replays. */
static int restart(void)
{
    sf_flush(&f);
    store_fixture_kill(&f);
    sim_disk_settle(f.disk);
    f.partitions[0].count = 0; // the fixture's model doesn't know what was put
    return store_fixture_open(&f);
}

static void is_refused(void)
{
    cr_assert_eq(restart(), E_CORRUPT);
    cr_assert_eq(f.result.damage, DAMAGE_BAD_ENTRY, "%s", damage_kind_name(f.result.damage));
    cr_assert_neq(f.text[0], '\0');
    uint64_t before = sim_disk_hash(f.disk);
    cr_assert_eq(store_fixture_open(&f), E_CORRUPT, "the second start is refused as the first");
    cr_assert_eq(sim_disk_hash(f.disk), before, "a refused start wrote");
}

Test(store_entry, good_ones_that_came_this_way_are_taken)
{
    put_batch(1, 3);
    put_log_start(1, 4, sizeof(struct disk_log_start));
    cr_assert_eq(restart(), 0, "%s", f.text);
    struct partition *partition = store_partition(f.store, 1, 0);
    cr_assert_eq(partition->next_offset, 5);
    cr_assert_eq(partition->log_start, 4);
}

Test(store_entry, a_batch_of_no_partition_is_refused)
{
    put_batch(9, 0);
    is_refused();
}

Test(store_entry, a_batch_that_leaves_out_offsets_is_refused)
{
    put_batch(1, 4);
    is_refused();
}

Test(store_entry, a_batch_that_repeats_offsets_is_refused)
{
    put_batch(1, 0);
    is_refused();
}

Test(store_entry, bytes_that_are_no_batch_are_refused)
{
    static const uint8_t bytes[200];
    put(ENTRY_BATCH, 1, bytes, sizeof(bytes));
    is_refused();
}

Test(store_entry, a_batch_shorter_than_it_says_is_refused)
{
    uint32_t size = sf_make_batch(&f, 2, 100, 1000);
    batch_set_head(f.batch, 3, 0);
    put(ENTRY_BATCH, 1, f.batch, size - 1);
    is_refused();
}

Test(store_entry, settings_of_another_length_are_refused)
{
    struct disk_partition_open settings = sf_settings(1, 0, 0);
    put(ENTRY_PARTITION_OPEN, 2, &settings, sizeof(settings) - 1);
    is_refused();
}

Test(store_entry, settings_of_topic_zero_are_refused)
{
    struct disk_partition_open settings = sf_settings(1, 0, 0);
    put(ENTRY_PARTITION_OPEN, 0, &settings, sizeof(settings));
    is_refused();
}

Test(store_entry, more_partitions_than_the_limit_are_refused)
{
    struct disk_partition_open settings = sf_settings(1, 0, 0);
    for (uint32_t topic_id = 2; topic_id <= f.options.partition_count_max + 1; topic_id++)
        put(ENTRY_PARTITION_OPEN, topic_id, &settings, sizeof(settings));
    is_refused();
}

Test(store_entry, a_log_start_of_no_partition_is_refused)
{
    put_log_start(9, 0, sizeof(struct disk_log_start));
    is_refused();
}

Test(store_entry, a_log_start_of_another_length_is_refused)
{
    put_log_start(1, 1, sizeof(struct disk_log_start) - 8);
    is_refused();
}

Test(store_entry, a_log_start_behind_the_end_is_refused)
{
    put_log_start(1, 4, sizeof(struct disk_log_start));
    is_refused();
}

Test(store_entry, a_log_start_that_goes_back_is_refused)
{
    put_log_start(1, 2, sizeof(struct disk_log_start));
    put_log_start(1, 1, sizeof(struct disk_log_start));
    is_refused();
}
