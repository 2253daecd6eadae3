/* proto/batch.h: the gate, as far as a batch's header goes. Each rule has a batch that breaks
 * nothing else. */
#include "tests/unit/proto/batch_expect.h"
#include "tests/unit/proto/samples.h"

Test(batch_check, a_good_batch_passes_and_is_described)
{
    struct bytes records = {.len = 0}, batch = {.len = 0};
    struct header_fields header = good_header();
    struct batch_info info;
    const char *why = "";
    put_good_records(&records);
    put_batch(&batch, &header, &records);
    cr_assert_eq(batch_check(batch.b, batch.len, &gate_limits, false, &info, &why), PE_NONE);
    cr_assert_null(why);
    cr_assert_eq(info.size, batch.len);
    cr_assert_eq(info.record_count, 2);
    cr_assert_eq(info.attributes, 0);
    cr_assert_eq(info.base_timestamp, TIME);
    cr_assert_eq(info.max_timestamp, TIME + 5);
    cr_assert_eq(info.producer_id, 1000);
    cr_assert_eq(info.producer_epoch, 1);
    cr_assert_eq(info.base_sequence, 0);
}

Test(batch_check, what_the_builder_makes_passes)
{
    static uint8_t bytes[65536];
    struct batch_limits wide = {.batch_bytes_max = 65536, .record_bytes_max = 65536};
    struct batch_info info;
    const char *why;
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    cr_assert_eq(batch_check(bytes, size, &wide, false, &info, &why), PE_NONE, "%s", why);
    size = sample_lz4_build(bytes, sizeof(bytes));
    cr_assert_eq(batch_check(bytes, size, &wide, false, &info, &why), PE_NONE, "%s", why);
    cr_assert_eq(info.attributes, CODEC_LZ4);
    cr_assert_eq(info.record_count, 400);
}

Test(batch_check, base_offset_and_leader_epoch_may_have_any_value)
{
    struct bytes records = {.len = 0};
    struct header_fields header = good_header();
    put_good_records(&records);
    header.base_offset = 0x0102030405060708;
    header.leader_epoch = 0;
    EXPECT_GOOD(header, records);
}

Test(batch_check, every_cut_is_refused)
{
    struct bytes records = {.len = 0}, batch = {.len = 0};
    struct header_fields header = good_header();
    put_good_records(&records);
    put_batch(&batch, &header, &records);
    uint32_t whole = batch.len;
    for (batch.len = 0; batch.len < whole; batch.len++) {
        const char *why;
        cr_assert_eq(check_bytes(&batch, false, &why), PE_INVALID_RECORD, "%u", batch.len);
    }
}

Test(batch_check, two_batches_are_not_one)
{
    struct bytes records = {.len = 0}, batch = {.len = 0};
    struct header_fields header = good_header();
    const char *why;
    put_good_records(&records);
    put_batch(&batch, &header, &records);
    put_batch(&batch, &header, &records);
    cr_assert_eq(check_bytes(&batch, false, &why), PE_INVALID_RECORD);
    batch.len -= batch.len / 2 - 1;
    cr_assert_eq(check_bytes(&batch, false, &why), PE_INVALID_RECORD, "a byte too many");
}

/* Flips below byte 21 are found by framing or CRC field, flips from there on by the CRC; only
 * base offset (0..7) and leader epoch (12..15) are free. */
Test(batch_check, every_flipped_bit_is_found)
{
    struct bytes records = {.len = 0}, batch = {.len = 0};
    struct header_fields header = good_header();
    put_good_records(&records);
    put_batch(&batch, &header, &records);
    for (uint32_t i = 0; i < batch.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            const char *why;
            batch.b[i] ^= (uint8_t)(1 << bit);
            uint16_t expected = i < 8 || (i >= 12 && i < 16) ? PE_NONE
                                : i < 12 || i == 16          ? PE_INVALID_RECORD
                                                             : PE_CORRUPT_BATCH;
            cr_assert_eq(check_bytes(&batch, false, &why), expected, "byte %u bit %d", i, bit);
            batch.b[i] ^= (uint8_t)(1 << bit);
        }
    }
}

Test(batch_check, lengths_at_the_ends_of_their_range_are_refused)
{
    struct bytes batch = {.len = 0};
    static const uint32_t lengths[] = {0,          48,         50,         0x7ffffff3,
                                       0x7ffffff4, 0x80000000, 0xfffffff4, UINT32_MAX};
    struct header_fields header = good_header();
    const char *why;
    put_batch(&batch, &header, &(struct bytes){.len = 0});
    cr_assert_eq(batch.len, 61);
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        batch.len = 8;
        put_be(&batch, lengths[i], 4);
        batch.len = 61;
        cr_assert_eq(check_bytes(&batch, false, &why), PE_INVALID_RECORD, "%x", lengths[i]);
    }
}

Test(batch_check, batches_above_the_limit_are_too_large)
{
    struct bytes records = {.len = 0};
    struct header_fields header = good_header();
    char value[901] = {0};
    memset(value, 'x', 900);
    for (int i = 0; i < 4; i++)
        put_plain_record(&records, 0, i, NULL, value);
    uint32_t left = gate_limits.batch_bytes_max - BATCH_HEADER_SIZE - records.len;
    value[left - 9] = '\0'; // 9: two bytes each for the lengths of record and value, 5 others
    put_plain_record(&records, 0, 4, NULL, value);
    cr_assert_eq(records.len + BATCH_HEADER_SIZE, gate_limits.batch_bytes_max);
    header.record_count = 5;
    header.last_offset_delta = 4;
    header.max_timestamp = TIME;
    EXPECT_GOOD(header, records);
    put_be(&records, 0, 1);
    EXPECT(header, records, PE_BATCH_TOO_LARGE, "batch_bytes_max");
}

Test(batch_check, only_magic_2_is_read)
{
    struct bytes records = {.len = 0};
    put_good_records(&records);
    for (int magic = 0; magic < 256; magic++) {
        struct header_fields header = good_header();
        header.magic = (uint8_t)magic;
        if (magic == 2)
            EXPECT_GOOD(header, records);
        else
            EXPECT(header, records, PE_INVALID_RECORD, "magic");
    }
}

Test(batch_check, attributes_that_clients_must_not_set_are_refused)
{
    struct bytes records = {.len = 0};
    struct header_fields header = good_header();
    put_good_records(&records);
    for (uint16_t codec = 5; codec <= 7; codec++) {
        header.attributes = codec;
        EXPECT(header, records, PE_UNSUPPORTED_COMPRESSION, "5 to 7");
    }
    header.attributes = BATCH_CONTROL;
    EXPECT(header, records, PE_INVALID_RECORD, "control");
    header.attributes = BATCH_CONTROL | BATCH_TRANSACTIONAL;
    EXPECT(header, records, PE_INVALID_RECORD, "control");
    header.attributes = 64;
    EXPECT(header, records, PE_INVALID_RECORD, "horizon");
    header.attributes = BATCH_LOG_APPEND_TIME;
    EXPECT(header, records, PE_INVALID_TIMESTAMP, "append time");
    header.attributes = 0x8000;
    EXPECT_GOOD(header, records);
}

Test(batch_check, the_transactional_bit_needs_a_transaction)
{
    struct bytes records = {.len = 0}, batch = {.len = 0};
    struct header_fields header = good_header();
    const char *why;
    put_good_records(&records);
    header.attributes = BATCH_TRANSACTIONAL;
    EXPECT(header, records, PE_INVALID_RECORD, "transactional");
    put_batch(&batch, &header, &records);
    cr_assert_eq(check_bytes(&batch, true, &why), PE_NONE);
}

Test(batch_check, counts_must_agree)
{
    struct bytes records = {.len = 0};
    struct header_fields header = good_header();
    put_good_records(&records);
    header.record_count = 0;
    header.last_offset_delta = UINT32_MAX;
    EXPECT(header, records, PE_INVALID_RECORD, "record count");
    header.record_count = 0x80000000;
    header.last_offset_delta = 0x7fffffff;
    EXPECT(header, records, PE_INVALID_RECORD, "record count");
    header.record_count = 2;
    header.last_offset_delta = 2;
    EXPECT(header, records, PE_INVALID_RECORD, "last offset delta");
    header.record_count = 0x7fffffff;
    header.last_offset_delta = 0x7ffffffe;
    EXPECT(header, records, PE_INVALID_RECORD, "more than the bytes");
    header.record_count = 1;
    header.last_offset_delta = 0;
    EXPECT(header, records, PE_INVALID_RECORD, "behind the last");
    header.record_count = 3;
    header.last_offset_delta = 2;
    EXPECT(header, records, PE_INVALID_RECORD, "more than the bytes");
    put_plain_record(&records, 0, 2, "room for", "five by their bytes");
    header.record_count = 4;
    header.last_offset_delta = 3;
    EXPECT(header, records, PE_INVALID_RECORD, "lengths");
}

Test(batch_check, a_producer_has_id_epoch_and_sequence)
{
    struct bytes records = {.len = 0};
    struct header_fields header = good_header();
    put_good_records(&records);
    header.producer_id = UINT64_MAX - 1;
    EXPECT(header, records, PE_INVALID_RECORD, "producer id is negative");
    header.producer_id = UINT64_C(1) << 63;
    EXPECT(header, records, PE_INVALID_RECORD, "producer id is negative");
    header.producer_id = 0;
    header.producer_epoch = UINT16_MAX;
    EXPECT(header, records, PE_INVALID_RECORD, "epoch");
    header.producer_epoch = 0;
    header.base_sequence = UINT32_MAX;
    EXPECT(header, records, PE_INVALID_RECORD, "sequence");
    header.producer_epoch = UINT16_MAX;
    header.producer_id = PRODUCER_NONE;
    EXPECT_GOOD(header, records);
    header.producer_id = INT64_MAX;
    header.producer_epoch = INT16_MAX;
    header.base_sequence = INT32_MAX;
    EXPECT_GOOD(header, records);
}

Test(batch_check, timestamps_are_those_of_the_records)
{
    struct bytes records = {.len = 0};
    struct header_fields header = good_header();
    put_good_records(&records);
    header.base_timestamp = -1;
    EXPECT(header, records, PE_INVALID_TIMESTAMP, "negative");
    header.base_timestamp = TIME + 6;
    EXPECT(header, records, PE_INVALID_TIMESTAMP, "below the base");
    header.base_timestamp = TIME;
    header.max_timestamp = TIME + 4;
    EXPECT(header, records, PE_INVALID_TIMESTAMP, "not that of the records");
    header.max_timestamp = TIME + 6;
    EXPECT(header, records, PE_INVALID_TIMESTAMP, "not that of the records");
    header.base_timestamp = 0;
    header.max_timestamp = 5;
    EXPECT_GOOD(header, records);
}

Test(batch_peek, needs_a_whole_header_and_nothing_else)
{
    struct bytes records = {.len = 0}, batch = {.len = 0};
    struct header_fields header = good_header();
    struct batch_info info;
    put_good_records(&records);
    put_batch(&batch, &header, &records);
    cr_assert_not(batch_peek(batch.b, 60, &info));
    cr_assert(batch_peek(batch.b, 61, &info));
    cr_assert_eq(info.size, batch.len);
    cr_assert(batch_is_intact(batch.b, batch.len));
    cr_assert_not(batch_is_intact(batch.b, batch.len - 1));
    struct batch_header *fields = (struct batch_header *)batch.b;
    static const uint32_t lengths[] = {0, 48, INT32_MAX - 11, INT32_MAX, 0xfffffff4, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        fields->batch_length = be32_make(lengths[i]);
        cr_assert_not(batch_peek(batch.b, batch.len, &info), "%u", lengths[i]);
    }
    fields->batch_length = be32_make(INT32_MAX - 12);
    cr_assert(batch_peek(batch.b, batch.len, &info));
    cr_assert_eq(info.size, INT32_MAX);
    cr_assert_not(batch_is_intact(batch.b, 60));
}
