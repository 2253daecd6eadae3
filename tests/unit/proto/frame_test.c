/* proto/frame.h */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/hash.h"
#include "proto/frame.h"
#include "tests/unit/proto/samples.h"

static uint8_t bytes[SAMPLE_BYTES_MAX];

/* A frame with 5 bytes of meta and 3 of data. */
static uint32_t make_frame(uint8_t flags)
{
    memcpy(bytes + FRAME_HEADER_SIZE, "meta!dat", 8);
    return frame_seal(bytes, OP_PRODUCE, flags, 0x0102030405060708, 5, 3);
}

static void reseal(void)
{
    struct frame_header *header = (struct frame_header *)bytes;
    uint64_t seed = hash_xxh3(bytes, 24);
    header->checksum = le64_make(hash_xxh3_seeded(bytes + 32, le32_get(header->meta_length), seed));
}

Test(frame, header_lies_as_the_table_says)
{
    cr_assert_eq(make_frame(0), 40);
    static const uint8_t expected[24] = {40,   0,    0,    0,    8,    0,    1, 0, 0x08, 0x07,
                                         0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 5, 0, 0,    0};
    cr_assert_arr_eq(bytes, expected, sizeof(expected));
}

Test(frame, decodes_what_was_sealed)
{
    struct frame frame;
    uint32_t len = make_frame(FRAME_REPLY | FRAME_ERROR);
    cr_assert_eq(frame_peek(bytes, len, UINT32_MAX), len);
    cr_assert_eq(frame_decode(bytes, &frame), PE_NONE);
    cr_assert_eq(frame.length, len);
    cr_assert_eq(frame.op, OP_PRODUCE);
    cr_assert_eq(frame.version, 1);
    cr_assert_eq(frame.flags, FRAME_REPLY | FRAME_ERROR);
    cr_assert_eq(frame.correlation, 0x0102030405060708);
    cr_assert_eq(frame.meta_length, 5);
    cr_assert_arr_eq(frame.meta, "meta!", 5);
    cr_assert_eq(frame.data_length, 3);
    cr_assert_arr_eq(frame.data, "dat", 3);
}

Test(frame, the_checksum_covers_header_and_meta_but_not_data)
{
    struct frame frame;
    uint32_t len = make_frame(0);
    for (uint32_t i = 0; i < len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            if (frame_peek(bytes, len, len) == len) {
                uint16_t expected = i < FRAME_HEADER_SIZE + 5 ? PE_MALFORMED : PE_NONE;
                cr_assert_eq(frame_decode(bytes, &frame), expected, "byte %u bit %d", i, bit);
            }
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
}

Test(frame, peek_waits_for_the_length_and_for_nothing_else)
{
    uint32_t len = make_frame(0);
    for (uint32_t available = 0; available < 4; available++)
        cr_assert_eq(frame_peek(bytes, available, len), 0);
    for (uint32_t available = 4; available <= len; available++)
        cr_assert_eq(frame_peek(bytes, available, len), len);
}

Test(frame, peek_holds_the_length_to_its_limits)
{
    le32 length;
    uint32_t frame_len = make_frame(0);
    cr_assert_eq(frame_peek(bytes, 4, frame_len - 1), -PE_REQUEST_TOO_LARGE);
    for (uint32_t len = 0; len < FRAME_HEADER_SIZE; len++) {
        length = le32_make(len);
        cr_assert_eq(frame_peek(length.b, 4, UINT32_MAX), -PE_MALFORMED, "%u", len);
    }
    length = le32_make(UINT32_MAX);
    cr_assert_eq(frame_peek(length.b, 4, FRAME_BYTES_MAX_BEFORE_HELLO), -PE_REQUEST_TOO_LARGE);
    cr_assert_eq(frame_peek(length.b, 4, UINT32_MAX), UINT32_MAX);
}

Test(frame, a_meta_beyond_the_frame_is_malformed_as_soon_as_it_can_be_seen)
{
    uint32_t len = make_frame(0);
    struct frame_header *header = (struct frame_header *)bytes;
    struct frame frame;
    static const uint32_t lengths[] = {9, 0x7fffffff, 0xffffffe0, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        header->meta_length = le32_make(lengths[i]);
        cr_assert_eq(frame_peek(bytes, 31, len), len);
        cr_assert_eq(frame_peek(bytes, 32, len), -PE_MALFORMED);
        cr_assert_eq(frame_decode(bytes, &frame), PE_MALFORMED);
    }
    header->meta_length = le32_make(8);
    cr_assert_eq(frame_peek(bytes, 32, len), len);
}

Test(frame, reserved_bits_are_refused_even_under_a_right_checksum)
{
    struct frame frame;
    struct frame_header *header = (struct frame_header *)bytes;
    make_frame(0);
    header->reserved = le32_make(1);
    reseal();
    cr_assert_eq(frame_decode(bytes, &frame), PE_MALFORMED);
    for (int flags = 0; flags < 256; flags++) {
        make_frame(0);
        header->flags = (uint8_t)flags;
        reseal();
        bool allowed = flags == 0 || flags == FRAME_REPLY || flags == (FRAME_REPLY | FRAME_ERROR) ||
                       flags == FRAME_PUSH;
        cr_assert_eq(frame_decode(bytes, &frame), allowed ? PE_NONE : PE_MALFORMED, "%d", flags);
    }
}

/* A stream of all sample frames arrives in two pieces, cut at every place; then byte by byte. */
Test(frame, a_stream_split_at_every_byte_gives_the_same_frames)
{
    static uint8_t stream[64 * 1024];
    size_t total = 0;
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++)
        total += sample_encode(&samples[i], stream + total);
    for (size_t cut = 0; cut <= total; cut++) {
        size_t at = 0;
        size_t found = 0;
        size_t arrived = cut;
        while (at < total) {
            int64_t len = frame_peek(stream + at, arrived - at, SAMPLE_BYTES_MAX);
            cr_assert_geq(len, 0);
            if (len == 0 || (size_t)len > arrived - at) {
                cr_assert_eq(arrived, cut);
                arrived = total;
                continue;
            }
            struct frame frame;
            cr_assert_eq(frame_decode(stream + at, &frame), PE_NONE);
            cr_assert_eq(frame.op, samples[found].op);
            cr_assert_eq(frame.correlation, samples[found].correlation);
            at += (size_t)len;
            found++;
        }
        cr_assert_eq(found, ARRAY_COUNT(samples));
    }
}

Test(frame, a_frame_of_nothing_but_a_header_is_whole)
{
    struct frame frame;
    cr_assert_eq(frame_seal(bytes, OP_PING, 0, 1, 0, 0), FRAME_HEADER_SIZE);
    uint8_t *exact = malloc(FRAME_HEADER_SIZE);
    memcpy(exact, bytes, FRAME_HEADER_SIZE);
    cr_assert_eq(frame_peek(exact, FRAME_HEADER_SIZE, FRAME_HEADER_SIZE), FRAME_HEADER_SIZE);
    cr_assert_eq(frame_decode(exact, &frame), PE_NONE);
    cr_assert_eq(frame.meta_length + frame.data_length, 0);
    free(exact);
}

Test(frame, operations_have_names_and_versions)
{
#define OP(name, number, version_min, version_max, sender)                                         \
    cr_assert_str_eq(op_name(number), #name);                                                      \
    cr_assert(op_is_known(number));                                                                \
    cr_assert(op_version_is_supported(number, version_max));                                       \
    cr_assert_not(op_version_is_supported(number, version_max + 1));
#include "proto/ops.def"
#undef OP
    cr_assert_str_eq(op_name(OP_PRODUCE), "PRODUCE");
    cr_assert_str_eq(op_name(17), "GOAWAY");
    cr_assert_str_eq(op_name(0), "UNKNOWN");
    cr_assert_str_eq(op_name(65535), "UNKNOWN");
    cr_assert(op_is_known(OP_HELLO));
    cr_assert_not(op_is_known(0));
    cr_assert_not(op_is_known(18));
    cr_assert(op_version_is_supported(OP_FETCH, 1));
    cr_assert_not(op_version_is_supported(OP_FETCH, 0));
    cr_assert_not(op_version_is_supported(OP_FETCH, 2));
    cr_assert_not(op_version_is_supported(1000, 1));
}
