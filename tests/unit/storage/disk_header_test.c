/* storage/disk_header.h: the order in which a header block is disbelieved, and file names. */
#include "storage/disk_header.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "base/status.h"

static const uint8_t ours[16] = "the store itself";
static const struct disk_expect expect = {
    .magic = DISK_MAGIC_ARCHIVE, .store_id = ours, .shard_id = 3, .number = 0x12};

static _Alignas(DISK_BLOCK) uint8_t block[DISK_BLOCK];
static struct disk_common *common = (struct disk_common *)block;
static const char *why;

static void make(void)
{
    memset(block, 0, sizeof(block));
    disk_header_make(common, &expect, 1700000000000);
    memset(block + sizeof(*common), 0x5a, 100); // the file kind's own
    disk_header_seal(block);
}
TestSuite(disk_header, .init = make);

static int check(void)
{
    why = NULL;
    int status = disk_header_check(block, &expect, &why);
    cr_assert(eq(int, why != NULL, status != 0));
    return status;
}

Test(disk_header, what_was_made_is_good)
{
    cr_assert(eq(int, check(), 0));
}

Test(disk_header, every_changed_byte_is_damage)
{
    for (uint32_t i = 0; i < DISK_BLOCK; i++) {
        block[i] ^= 1;
        cr_assert(eq(int, check(), E_CORRUPT), "byte %u", i);
        block[i] ^= 1;
    }
}

Test(disk_header, damage_comes_before_being_newer_or_foreign)
{
    common->version = le16_make(DISK_FORMAT_VERSION + 1);
    common->store_id[0] ^= 1;
    cr_assert(eq(int, check(), E_CORRUPT));
    disk_header_seal(block);
    cr_assert(eq(int, check(), E_NEWER)); // and then nothing that a newer version may have moved
}

Test(disk_header, required_features_are_refused_and_compatible_ones_are_not)
{
    common->features_compatible = le32_make(0x80);
    disk_header_seal(block);
    cr_assert(eq(int, check(), 0));
    common->features_required = le32_make(1);
    disk_header_seal(block);
    cr_assert(eq(int, check(), E_NEWER));
}

Test(disk_header, another_store_or_shard_is_foreign)
{
    common->store_id[15] ^= 1;
    disk_header_seal(block);
    cr_assert(eq(int, check(), E_FOREIGN));
    make();
    common->shard_id = le32_make(4);
    disk_header_seal(block);
    cr_assert(eq(int, check(), E_FOREIGN));
}

Test(disk_header, a_file_under_another_files_name_is_damage)
{
    common->number = le64_make(0x13);
    disk_header_seal(block);
    cr_assert(eq(int, check(), E_CORRUPT));
    make();
    common->magic = le64_make(DISK_MAGIC_STORE);
    disk_header_seal(block);
    cr_assert(eq(int, check(), E_CORRUPT));
}

Test(disk_header, names_are_sixteen_small_hex_digits_and_the_suffix)
{
    cr_assert(eq(u64, disk_name_parse("0000000000000001.wal", ".wal"), 1));
    cr_assert(eq(u64, disk_name_parse("fedcba9876543210.arc", ".arc"), 0xfedcba9876543210));
    static const char *const wrong[] = {
        "",
        ".wal",
        "0000000000000000.wal", // numbers begin at 1
        "0000000000000001.arc",
        "0000000000000001.wal.tmp",
        "0000000000000001",
        "000000000000001.wal",
        "00000000000000001.wal",
        "000000000000000A.wal",
        "000000000000000g.wal",
        "0x00000000000001.wal",
        " 000000000000001.wal",
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        cr_assert(eq(u64, disk_name_parse(wrong[i], ".wal"), 0), "\"%s\"", wrong[i]);
}
