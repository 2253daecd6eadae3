/* Golden bytes: what a log of fixed seed, clock and content looks like on disk. A change of these
 * files is a change of the format. SLUICE_GOLDEN_WRITE=1 makes them anew. */
#include "tests/unit/storage/wal_fixture.h"

#include <stdio.h>

#include "storage/disk_header.h"

#define FORMAT_DIR SLUICE_SOURCE_DIR "/tests/format/"

static void compare(const char *name, const uint8_t *bytes, size_t len)
{
    char path[512];
    snprintf(path, sizeof(path), FORMAT_DIR "%s", name);
    FILE *file = fopen(path, getenv("SLUICE_GOLDEN_WRITE") ? "wb+" : "rb");
    cr_assert_not_null(file, "%s", path);
    if (getenv("SLUICE_GOLDEN_WRITE"))
        cr_assert_eq(fwrite(bytes, 1, len, file), len);
    rewind(file);
    uint8_t *golden = malloc(len + 1);
    cr_assert_eq(fread(golden, 1, len + 1, file), len, "%s has another length", name);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(bytes[i], golden[i], "%s differs at byte %zu: %02x, golden %02x", name, i,
                     bytes[i], golden[i]);
    free(golden);
    fclose(file);
}

static void compare_file(struct fixture *f, const char *path, const char *name, size_t len)
{
    uint8_t *bytes = malloc(len);
    cr_assert_eq(sim_file_read(sim_disk_find(f->disk, path), bytes, 0, len), len);
    compare(name, bytes, len);
    free(bytes);
}

static void append(struct fixture *f, uint8_t type, uint8_t flags, const char *text)
{
    struct wal_view view;
    struct wal_entry entry = {.type = type,
                              .flags = flags,
                              .topic_id = 17,
                              .partition = 4,
                              .pieces = {{text, (uint32_t)strlen(text)}},
                              .piece_count = 1};
    cr_assert_eq(wal_append(f->wal, &entry, &view), 0);
}

/* Header twice; a DATA group of three entries; a second one; the MARK that proves it. */
Test(golden, a_segment_with_two_groups_and_a_mark)
{
    struct fixture f;
    fixture_init(&f, 20261121);
    cr_assert_eq(fixture_open(&f), 0);
    (void)wal_turn(f.wal, io_sim_now_ns(f.io), 1795219200000);
    append(&f, ENTRY_BATCH, 0, "first");
    append(&f, ENTRY_LOG_START, 0, "16 bytes of it..");
    append(&f, 200, ENTRY_IGNORABLE, "from another time");
    wal_group_end(f.wal);
    append(&f, ENTRY_TOPIC, 0, "");
    fixture_flush(&f);
    fixture_idle(&f, 20 * NS_PER_MS);
    cr_assert_eq(wal_marks(f.wal).durable, 3 * DISK_BLOCK);
    compare_file(&f, "wal/0000000000000001.wal", "segment.wal", DISK_SEGMENT_DATA + 3 * DISK_BLOCK);
    fixture_deinit(&f);
}

/* The same log after its second group was damaged in the unproven window: a file that begins with a
 * CUT. */
Test(golden, a_cut_and_the_file_that_it_begins)
{
    struct fixture f;
    fixture_init(&f, 20261122);
    cr_assert_eq(fixture_open(&f), 0);
    append(&f, ENTRY_BATCH, 0, "stays");
    wal_group_end(f.wal);
    append(&f, ENTRY_BATCH, 0, "goes");
    fixture_flush(&f);
    f.disk->crash_keep_percent = 100;
    fixture_crash(&f, 20261122);
    sim_disk_flip(f.disk, "wal/0000000000000001.wal", DISK_SEGMENT_DATA + DISK_BLOCK + 150, 1);
    f.recover.apply = NULL;
    random_init(&f.random, 7); // whatever was drawn from it before
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert(f.result.cut);
    compare_file(&f, "wal/0000000000000003.wal", "cut.wal", DISK_SEGMENT_DATA + DISK_BLOCK);
    fixture_deinit(&f);
}

Test(golden, the_identity_of_a_store)
{
    uint8_t block[DISK_BLOCK] = {0};
    struct disk_store *disk = (struct disk_store *)block;
    disk_header_make(&disk->common,
                     &(struct disk_expect){.magic = DISK_MAGIC_STORE,
                                           .store_id = (const uint8_t *)"0123456789abcdef",
                                           .shard_id = UINT32_MAX},
                     0);
    disk->state = le32_make(DISK_STORE_READY);
    disk->shard_count = le32_make(2);
    disk->segment_bytes = le64_make(64 * MIB);
    disk_header_seal(block);
    compare("store.block", block, sizeof(block));
}
