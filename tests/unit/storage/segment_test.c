/* Segment headers and group headers: made, read back, and every way in which they can be wrong. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/status.h"
#include "storage/group.h"
#include "storage/segment.h"

static const struct segment_head sample = {.store_id = "0123456789abcde",
                                           .shard_id = 5,
                                           .number = 0x1234,
                                           .generation = 0xfeedfacecafebeef,
                                           .segment_bytes = 64 * MIB,
                                           .written = true};

Test(segment, a_header_says_what_it_was_made_of)
{
    uint8_t blocks[DISK_SEGMENT_DATA];
    struct segment_head head;
    segment_head_make(blocks, &sample, 99);
    cr_assert_eq(segment_head_parse(blocks, &head), 0);
    cr_assert_eq(memcmp(head.store_id, sample.store_id, 16), 0);
    cr_assert_eq(head.shard_id, sample.shard_id);
    cr_assert_eq(head.number, sample.number);
    cr_assert_eq(head.generation, sample.generation);
    cr_assert_eq(head.segment_bytes, sample.segment_bytes);
    cr_assert_eq(head.written, true);
}

Test(segment, one_copy_is_enough_whatever_byte_of_the_other_is_wrong)
{
    uint8_t blocks[DISK_SEGMENT_DATA];
    struct segment_head head;
    segment_head_make(blocks, &sample, 99);
    for (uint32_t i = 0; i < DISK_SEGMENT_DATA; i++) {
        blocks[i] ^= 0x20;
        cr_assert_eq(segment_head_parse(blocks, &head), 0, "byte %u", i);
        cr_assert_eq(head.generation, sample.generation);
        cr_assert_eq(head.bad_copies, i < DISK_BLOCK ? 1 : 2, "byte %u", i);
        blocks[i] ^= 0x20;
    }
    cr_assert_eq(segment_head_parse(blocks, &head), 0);
    cr_assert_eq(head.bad_copies, 0);
}

Test(segment, two_bad_copies_are_damage)
{
    uint8_t blocks[DISK_SEGMENT_DATA];
    struct segment_head head;
    segment_head_make(blocks, &sample, 99);
    for (uint32_t i = 0; i < DISK_BLOCK; i++) {
        blocks[i] ^= 1;
        blocks[DISK_SEGMENT_DATA - 1 - i] ^= 1;
        cr_assert_eq(segment_head_parse(blocks, &head), E_CORRUPT, "byte %u", i);
        blocks[i] ^= 1;
        blocks[DISK_SEGMENT_DATA - 1 - i] ^= 1;
    }
    memset(blocks, 0, sizeof(blocks));
    cr_assert_eq(segment_head_parse(blocks, &head), E_CORRUPT);
}

Test(segment, a_required_feature_that_is_unknown_is_newer_and_an_optional_one_is_not)
{
    uint8_t blocks[DISK_SEGMENT_DATA];
    struct segment_head head;
    for (int required = 0; required < 2; required++) {
        segment_head_make(blocks, &sample, 99);
        struct disk_segment *disk = (struct disk_segment *)blocks;
        if (required)
            disk->common.features_required = le32_make(1u << 7);
        else
            disk->common.features_compatible = le32_make(1u << 7);
        disk->checksum = le64_make(hash_xxh3(disk, offsetof(struct disk_segment, checksum)));
        cr_assert_eq(segment_head_parse(blocks, &head), required ? E_NEWER : 0);
    }
}

Test(segment, paths_are_sixteen_hex_digits)
{
    char path[SEGMENT_PATH_MAX];
    segment_path_make(path, "/data/wal", 0xabc);
    cr_assert_str_eq(path, "/data/wal/0000000000000abc.wal");
}

Test(segment, an_lsn_has_one_place_in_its_file)
{
    struct segment segment = {.base_lsn = 1000 * DISK_BLOCK};
    cr_assert_eq(segment_offset(&segment, 1000 * DISK_BLOCK), DISK_SEGMENT_DATA);
    cr_assert_eq(segment_offset(&segment, 1003 * DISK_BLOCK), DISK_SEGMENT_DATA + 3 * DISK_BLOCK);
}

/* ---- groups ---- */

#define GENERATION 0x1122334455667788ull

static uint8_t *group_make(uint32_t payload_bytes, struct group_head *head, uint64_t *chain)
{
    uint32_t total = group_total_bytes(payload_bytes);
    uint8_t *bytes = aligned_alloc(DISK_BLOCK, total);
    memset(bytes, 0, total);
    for (uint32_t i = 0; i < payload_bytes; i++)
        bytes[GROUP_HEADER_BYTES + i] = (uint8_t)(i * 31);
    *head = (struct group_head){.type = GROUP_DATA,
                                .payload_bytes = payload_bytes,
                                .entry_count = 3,
                                .lsn = 77 * DISK_BLOCK,
                                .number = 12,
                                .append_time_ms = 1700000000000,
                                .chain = 0xabcdef};
    *chain =
        group_stamp_replicated(bytes, head, group_payload_checksum(bytes, head->payload_bytes));
    group_stamp_local(bytes, GENERATION, 70 * DISK_BLOCK);
    return bytes;
}

Test(group, reads_back_what_was_stamped)
{
    struct group_head made, head;
    uint64_t chain;
    uint8_t *bytes = group_make(5000, &made, &chain);
    cr_assert_eq(group_head_parse(bytes, GENERATION, MIB, &head), GROUP_VERDICT_TORN);
    cr_assert(group_payload_is_good(bytes, &head));
    cr_assert_eq(head.lsn, made.lsn);
    cr_assert_eq(head.number, 12);
    cr_assert_eq(head.entry_count, 3);
    cr_assert_eq(head.payload_bytes, 5000);
    cr_assert_eq(head.durable_lsn, 70 * DISK_BLOCK);
    cr_assert_eq(head.chain, chain);
    cr_assert_eq(group_chain(0xabcdef, bytes), chain);
    cr_assert_neq(group_chain(0xabcdee, bytes), chain);
    free(bytes);
}

Test(group, another_life_of_the_file_is_no_group)
{
    struct group_head head;
    uint64_t chain;
    uint8_t *bytes = group_make(100, &head, &chain);
    cr_assert_eq(group_head_parse(bytes, GENERATION + 1, MIB, &head), GROUP_VERDICT_NONE);
    free(bytes);
}

Test(group, every_flipped_bit_is_noticed)
{
    struct group_head made, head;
    uint64_t chain;
    uint8_t *bytes = group_make(3000, &made, &chain);
    uint32_t total = group_total_bytes(3000);
    for (uint32_t bit = 0; bit < total * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum group_verdict verdict = group_head_parse(bytes, GENERATION, MIB, &head);
        bool good = verdict == GROUP_VERDICT_TORN && group_payload_is_good(bytes, &head);
        cr_assert_not(good, "bit %u", bit);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(bytes);
}

Test(group, a_length_that_does_not_fit_into_the_file_is_not_believed)
{
    struct group_head made, head;
    uint64_t chain;
    uint8_t *bytes = group_make(5000, &made, &chain);
    cr_assert_eq(group_head_parse(bytes, GENERATION, 2 * DISK_BLOCK, &head), GROUP_VERDICT_TORN);
    cr_assert_eq(group_head_parse(bytes, GENERATION, DISK_BLOCK, &head), GROUP_VERDICT_BAD);
    free(bytes);
}

/* An intact header of a later version: not damage, and not to be guessed about. */
Test(group, another_version_is_told_from_damage)
{
    struct group_head made, head;
    uint64_t chain;
    uint8_t *bytes = group_make(100, &made, &chain);
    bytes[offsetof(struct disk_group, version)] = DISK_FORMAT_VERSION + 1;
    cr_assert_eq(group_head_parse(bytes, GENERATION, MIB, &head), GROUP_VERDICT_BAD);
    group_stamp_local(bytes, GENERATION, 70 * DISK_BLOCK); // with the checksum
    cr_assert_eq(group_head_parse(bytes, GENERATION, MIB, &head), GROUP_VERDICT_NEWER);
    free(bytes);
}

Test(group, local_stamps_do_not_change_the_chain)
{
    struct group_head made, head;
    uint64_t chain;
    uint8_t *bytes = group_make(100, &made, &chain);
    group_stamp_local(bytes, GENERATION + 9, 3 * DISK_BLOCK); // another replica's
    cr_assert_eq(group_head_parse(bytes, GENERATION + 9, MIB, &head), GROUP_VERDICT_TORN);
    cr_assert_eq(head.chain, chain);
    cr_assert_eq(group_chain(0xabcdef, bytes), chain);
    free(bytes);
}
