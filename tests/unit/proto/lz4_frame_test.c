/* proto/lz4_frame.h, compared with the library's own frame functions in both directions. */
#include <criterion/criterion.h>
#include <lz4frame.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/status.h"
#include "proto/lz4_frame.h"

#define CONTENT_MAX (1u << 20)

static uint8_t content[CONTENT_MAX];
static uint8_t frame[2 * CONTENT_MAX];
static uint8_t back[CONTENT_MAX];

/* Content that compresses in parts: runs, repeats and noise by turns. */
static void fill(uint32_t len, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    for (uint32_t i = 0; i < len;) {
        uint32_t piece = (uint32_t)random_below(&random, 3000) + 1;
        uint64_t kind = random_below(&random, 3);
        uint8_t byte = (uint8_t)random_u32(&random);
        for (uint32_t k = 0; k < piece && i < len; k++, i++)
            content[i] = kind == 0   ? byte
                         : kind == 1 ? (uint8_t)("abcdefg"[k % 7])
                                     : (uint8_t)random_u32(&random);
    }
}

/* Compresses with the library, with the options that other producers' writers use. */
static size_t library_encode(uint32_t len, const LZ4F_frameInfo_t *info)
{
    LZ4F_preferences_t options = {.frameInfo = *info};
    size_t size = LZ4F_compressFrame(frame, sizeof(frame), content, len, &options);
    cr_assert_not(LZ4F_isError(size));
    return size;
}

static size_t library_decode(size_t frame_len)
{
    LZ4F_dctx *context;
    size_t size = sizeof(back);
    cr_assert_not(LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)));
    size_t hint = LZ4F_decompress(context, back, &size, frame, &frame_len, NULL);
    cr_assert_eq(hint, 0, "the frame is whole");
    LZ4F_freeDecompressionContext(context);
    return size;
}

/* Decodes from and into heap blocks of exactly their size. */
static int64_t decode_exact(size_t frame_len, uint32_t capacity)
{
    uint8_t *src = malloc(frame_len + !frame_len);
    uint8_t *dst = malloc(capacity + !capacity);
    memcpy(src, frame, frame_len);
    int64_t size = lz4_frame_decode(src, frame_len, dst, capacity);
    if (size > 0)
        memcpy(back, dst, (size_t)size);
    free(dst);
    free(src);
    return size;
}

static const uint32_t lengths[] = {0,     1,     7,      100,    65535,      65536,
                                   65537, 70000, 131072, 200000, CONTENT_MAX};

Test(lz4_frame, what_we_write_the_library_reads)
{
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        fill(lengths[i], i);
        uint32_t size = lz4_frame_encode(content, lengths[i], frame, sizeof(frame));
        cr_assert_gt(size, 0);
        cr_assert_eq(frame[4], 0x60);
        cr_assert_eq(frame[5], 0x40);
        cr_assert_eq(library_decode(size), lengths[i]);
        cr_assert_eq(memcmp(back, content, lengths[i]), 0);
    }
}

Test(lz4_frame, what_the_library_writes_we_read)
{
    static const LZ4F_blockSizeID_t sizes[] = {LZ4F_max64KB, LZ4F_max256KB, LZ4F_max1MB,
                                               LZ4F_max4MB};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        fill(lengths[i], i);
        for (unsigned options = 0; options < 4 * 8; options++) {
            LZ4F_frameInfo_t info = {
                .blockSizeID = sizes[options / 8],
                .blockMode = LZ4F_blockIndependent,
                .contentChecksumFlag = options & 1 ? LZ4F_contentChecksumEnabled : 0,
                .blockChecksumFlag = options & 2 ? LZ4F_blockChecksumEnabled : 0,
                .contentSize = options & 4 ? lengths[i] : 0,
            };
            size_t size = library_encode(lengths[i], &info);
            cr_assert_eq(lz4_frame_size(frame, size, CONTENT_MAX), lengths[i]);
            cr_assert_geq(lz4_frame_bound(frame, size), lengths[i]);
            cr_assert_eq(decode_exact(size, lengths[i]), lengths[i]);
            cr_assert_eq(memcmp(back, content, lengths[i]), 0);
        }
    }
}

Test(lz4_frame, one_byte_of_room_too_few_is_too_large)
{
    for (size_t i = 1; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        fill(lengths[i], i);
        uint32_t size = lz4_frame_encode(content, lengths[i], frame, sizeof(frame));
        cr_assert_eq(decode_exact(size, lengths[i]), lengths[i]);
        cr_assert_eq(decode_exact(size, lengths[i] - 1), E_TOO_LARGE);
        cr_assert_eq(decode_exact(size, 0), E_TOO_LARGE);
        cr_assert_eq(lz4_frame_size(frame, size, lengths[i]), lengths[i]);
        cr_assert_eq(lz4_frame_size(frame, size, lengths[i] - 1), E_TOO_LARGE);
    }
}

Test(lz4_frame, encoding_stops_at_its_room)
{
    fill(200000, 3);
    uint32_t size = lz4_frame_encode(content, 200000, frame, sizeof(frame));
    for (uint32_t capacity = 0; capacity < size + 2; capacity += capacity < 50 ? 1 : 997) {
        uint8_t *exact = malloc(capacity + !capacity);
        uint32_t got = lz4_frame_encode(content, 200000, exact, capacity);
        cr_assert(got == 0 || got <= capacity);
        cr_assert(got > 0 || capacity < size + 64 * 1024);
        free(exact);
    }
    uint8_t *exact = malloc(size);
    cr_assert_eq(lz4_frame_encode(content, 200000, exact, size), size);
    free(exact);
}

/* A bomb: zeros at nearly 255 to 1. Nothing is written that the caller didn't make room for. */
Test(lz4_frame, a_bomb_ends_at_the_callers_room)
{
    memset(content, 0, CONTENT_MAX);
    uint32_t size = lz4_frame_encode(content, CONTENT_MAX, frame, sizeof(frame));
    cr_assert_lt(size, CONTENT_MAX / 200);
    cr_assert_eq(decode_exact(size, 1000), E_TOO_LARGE);
    cr_assert_eq(decode_exact(size, CONTENT_MAX - 1), E_TOO_LARGE);
    cr_assert_eq(decode_exact(size, CONTENT_MAX), CONTENT_MAX);
    cr_assert_eq(lz4_frame_size(frame, size, CONTENT_MAX - 1), E_TOO_LARGE);
    cr_assert_leq(lz4_frame_bound(frame, size), (int64_t)size * 255);
}

/* The same block again and again: content without end from a small input is still bounded by it. */
Test(lz4_frame, many_small_blocks_are_bounded_one_by_one)
{
    static const uint8_t head[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73}; // 4 MiB blocks
    static const uint8_t block[] = {3, 0, 0, 0, 0x20, 'a', 'b'};
    size_t len = sizeof(head);
    memcpy(frame, head, len);
    for (int i = 0; i < 1000; i++, len += sizeof(block))
        memcpy(frame + len, block, sizeof(block));
    memset(frame + len, 0, 4);
    len += 4;
    cr_assert_eq(lz4_frame_size(frame, len, 2000), 2000);
    cr_assert_eq(lz4_frame_bound(frame, len), 1000 * 3 * 255);
    cr_assert_eq(decode_exact(len, 2000), 2000);
    cr_assert_eq(decode_exact(len, 1999), E_TOO_LARGE);
}

Test(lz4_frame, every_cut_is_corrupt)
{
    fill(3000, 9);
    uint32_t size = lz4_frame_encode(content, 3000, frame, sizeof(frame));
    for (uint32_t len = 0; len < size; len++) {
        cr_assert_eq(decode_exact(len, 3000), E_CORRUPT, "%u", len);
        cr_assert_eq(lz4_frame_bound(frame, len), E_CORRUPT);
        cr_assert_eq(lz4_frame_size(frame, len, 3000), E_CORRUPT);
    }
    frame[size] = 0;
    cr_assert_eq(decode_exact(size + 1, 3000), E_CORRUPT, "a byte too many");
}

Test(lz4_frame, flipped_bytes_never_lead_outside)
{
    fill(3000, 10);
    uint32_t size = lz4_frame_encode(content, 3000, frame, sizeof(frame));
    for (uint32_t at = 0; at < size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            frame[at] ^= (uint8_t)(1 << bit);
            int64_t exact = lz4_frame_size(frame, size, 5000);
            int64_t got = decode_exact(size, 5000);
            cr_assert(got >= 0 ? got == exact
                               : got == E_CORRUPT || got == E_TOO_LARGE || got == E_UNSUPPORTED);
            if (at < 7)
                cr_assert(got < 0, "the descriptor has its own check");
            frame[at] ^= (uint8_t)(1 << bit);
        }
    }
}

Test(lz4_frame, dependent_blocks_and_dictionaries_are_not_supported)
{
    fill(200000, 11);
    LZ4F_frameInfo_t linked = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockLinked};
    size_t size = library_encode(200000, &linked);
    cr_assert_eq(decode_exact(size, 200000), E_UNSUPPORTED);
    cr_assert_eq(lz4_frame_bound(frame, size), E_UNSUPPORTED);
    LZ4F_frameInfo_t dictionary = {
        .blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent, .dictID = 7};
    size = library_encode(1000, &dictionary);
    cr_assert_eq(decode_exact(size, 200000), E_UNSUPPORTED);
}

Test(lz4_frame, a_content_size_that_lies_is_corrupt)
{
    fill(1000, 12);
    LZ4F_frameInfo_t info = {
        .blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent, .contentSize = 1000};
    size_t size = library_encode(1000, &info);
    cr_assert_eq(decode_exact(size, 1000), 1000);
    LZ4F_frameInfo_t empty = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent};
    uint8_t claims[15];
    memcpy(claims, frame, sizeof(claims)); // the descriptor that says 1000
    size_t rest = library_encode(500, &empty) - 7;
    memmove(frame + 15, frame + 7, rest);
    memcpy(frame, claims, sizeof(claims));
    cr_assert_eq(decode_exact(15 + rest, 1000), E_CORRUPT);
    cr_assert_eq(lz4_frame_size(frame, 15 + rest, 1000), E_CORRUPT);
}

Test(lz4_frame, other_magics_and_reserved_bits_are_corrupt)
{
    fill(100, 13);
    uint32_t size = lz4_frame_encode(content, 100, frame, sizeof(frame));
    static const struct {
        uint32_t at;
        uint8_t value;
    } cases[] = {
        {0, 0x02},    // the legacy magic's first byte
        {0, 0x50},    // a skippable frame's
        {4, 0x20},    // version 0
        {4, 0xa0},    // version 2
        {4, 0x62},    // reserved bit
        {5, 0x30},    // block size 3
        {5, 0xc0},    // reserved bit
        {5, 0x41},    // reserved bit
        {6, 0x83},    // the descriptor's checksum
        {7 + 3, 0xff} // a block beyond its bound
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t kept = frame[cases[i].at];
        frame[cases[i].at] = cases[i].value;
        cr_assert_eq(decode_exact(size, 1000), E_CORRUPT, "case %zu", i);
        frame[cases[i].at] = kept;
    }
    cr_assert_eq(decode_exact(size, 1000), 100);
}

static const uint8_t our_head[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82};

/* Head, a block with this length word and content, the end mark. */
static size_t make_frame(uint32_t word, const void *block, uint32_t len)
{
    memcpy(frame, our_head, sizeof(our_head));
    memcpy(frame + 7, &word, 4);
    memcpy(frame + 11, block, len);
    memset(frame + 11 + len, 0, 4);
    return 15 + len;
}

Test(lz4_frame, a_stored_block_is_no_longer_than_the_blocks_bound)
{
    size_t size = make_frame(65536 | 0x80000000, content, 65536);
    cr_assert_eq(decode_exact(size, CONTENT_MAX), 65536);
    size = make_frame(65537 | 0x80000000, content, 65537);
    cr_assert_eq(decode_exact(size, CONTENT_MAX), E_CORRUPT);
    cr_assert_eq(lz4_frame_bound(frame, size), E_CORRUPT);
    cr_assert_eq(lz4_frame_size(frame, size, CONTENT_MAX), E_CORRUPT);
}

/* Blocks that end inside a sequence. The second round lacks the end mark, so that the block is
 * the last thing in its heap block and AddressSanitizer sees a byte read behind it. */
Test(lz4_frame, blocks_that_end_inside_a_sequence_are_corrupt)
{
    static const struct {
        const char *block;
        uint32_t len;
    } cases[] = {
        {"\x20", 1},             // literals missing
        {"\x20\x61", 2},         //
        {"\xf0", 1},             // their length missing
        {"\xf0\xff", 2},         //
        {"\x0f\x01", 2},         // half an offset
        {"\x1f\x61\x01\x00", 4}, // the match's length missing
        {"\x10\x61\x01\x00", 4}, // nothing behind a match
        {"\x00\x01\x00\x10", 4}, // an offset to before the first byte
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t size = make_frame(cases[i].len, cases[i].block, cases[i].len);
        for (size_t round = 0; round < 2; round++, size -= 4) {
            cr_assert_eq(decode_exact(size, 100), E_CORRUPT, "case %zu", i);
            uint8_t *exact = malloc(size);
            memcpy(exact, frame, size);
            cr_assert_eq(lz4_frame_size(exact, size, 100), E_CORRUPT, "case %zu", i);
            free(exact);
        }
    }
}

/* Found by fuzzing. The last match begins nine bytes before the end instead of twelve: liblz4 reads it or
 * not, by the room that is left. */
Test(lz4_frame, a_block_that_ends_against_the_rules_is_read_the_same_wherever_there_is_slack)
{
    static const uint8_t bytes[] = {
        0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 16,   0, 0, 0, // one block of 16 bytes
        0x10, 'a',  1,    0,    0x00, 1,    0,    0x00, 1, 0,    // three matches of four bytes
        0x50, 'b',  'c',  'd',  'e',  'f',  0,    0,    0, 0};
    memcpy(frame, bytes, sizeof(bytes));
    int64_t size = lz4_frame_size(frame, sizeof(bytes), CONTENT_MAX);
    cr_assert_eq(size, 18);
    for (uint32_t room = (uint32_t)size + LZ4_FRAME_SLACK; room < size + 100; room++)
        cr_assert_eq(decode_exact(sizeof(bytes), room), size, "room for %u", room);
    for (uint32_t room = 0; room < size; room++)
        cr_assert_lt(decode_exact(sizeof(bytes), room), 0, "room for %u", room);
    cr_assert_lt(decode_exact(sizeof(bytes), (uint32_t)size), 0, "else this block shows nothing");
}

Test(lz4_frame, a_block_that_wants_thirteen_bytes_behind_its_end_has_them)
{
    static const uint8_t bytes[60] = {
        0x04, 0x22, 0x4d, 0x18,
        0x60, 0x40, 0x82, 45,
        0,    0,    0,                       // one block of 45 bytes
        0x32, 0x57, 0x32, [11 + 27] = 0xe1}; // matches at no distance, zeros
    memcpy(frame, bytes, sizeof(bytes));
    int64_t size = lz4_frame_size(frame, sizeof(bytes), CONTENT_MAX);
    cr_assert_eq(size, 56);
    cr_assert_lt(decode_exact(sizeof(bytes), (uint32_t)size + 12), 0, "else it shows nothing");
    cr_assert_eq(decode_exact(sizeof(bytes), (uint32_t)size + LZ4_FRAME_SLACK), size);
}
