/* proto/batch.h: the gate. Each rule has a batch that breaks nothing else. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "proto/batch.h"
#include "tests/unit/proto/batch_bytes.h"
#include "tests/unit/proto/samples.h"

#define TIME 1763683200123

static const struct batch_limits limits = {.batch_bytes_max = 4096, .record_bytes_max = 1000};

/* A good batch of two records, as a starting point. */
static struct header_fields good_header(void)
{
    return (struct header_fields){
        .base_offset = 0,
        .leader_epoch = UINT32_MAX,
        .magic = 2,
        .last_offset_delta = 1,
        .base_timestamp = TIME,
        .max_timestamp = TIME + 5,
        .producer_id = 1000,
        .producer_epoch = 1,
        .base_sequence = 0,
        .record_count = 2,
    };
}

static void put_good_records(struct bytes *to)
{
    put_plain_record(to, 0, 0, "k", "value");
    put_plain_record(to, 5, 1, NULL, "");
}

/* Checks a copy in a heap block of exactly its size: ASan finds one byte read too far. */
static uint16_t check_bytes(const struct bytes *batch, bool staged, const char **why)
{
    struct batch_info info;
    uint8_t *exact = malloc(batch->len + !batch->len);
    memcpy(exact, batch->b, batch->len);
    uint16_t error = batch_check(exact, batch->len, &limits, staged, &info, why);
    cr_assert_eq(error == PE_NONE, *why == NULL);
    free(exact);
    return error;
}

static uint16_t check_parts(const struct header_fields *header, const struct bytes *records,
                            const char **why)
{
    struct bytes batch = {.len = 0};
    put_batch(&batch, header, records);
    return check_bytes(&batch, false, why);
}

#define EXPECT(header, records, error, words)                                                      \
    do {                                                                                           \
        const char *why_;                                                                          \
        cr_assert_eq(check_parts(&(header), &(records), &why_), (error));                          \
        cr_assert(strstr(why_, (words)), "%s", why_);                                              \
    } while (0)

#define EXPECT_GOOD(header, records)                                                               \
    do {                                                                                           \
        const char *why_;                                                                          \
        cr_assert_eq(check_parts(&(header), &(records), &why_), PE_NONE, "%s", why_);              \
    } while (0)

Test(batch_check, a_good_batch_passes_and_is_described)
{
    struct bytes records = {.len = 0}, batch = {.len = 0};
    struct header_fields header = good_header();
    struct batch_info info;
    const char *why = "";
    put_good_records(&records);
    put_batch(&batch, &header, &records);
    cr_assert_eq(batch_check(batch.b, batch.len, &limits, false, &info, &why), PE_NONE);
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

/* Offset deltas of one to three bytes, timestamp deltas of one to five. */
Test(batch_check, a_batch_of_twenty_thousand_records_passes)
{
    static uint8_t bytes[1 << 20];
    const struct batch_limits wide = {.batch_bytes_max = sizeof(bytes), .record_bytes_max = 1};
    struct batch_builder b;
    struct batch_info info;
    const char *why;
    uint8_t *out;
    batch_builder_init(&b, bytes, sizeof(bytes));
    for (int64_t i = 0; i < 20000; i++) {
        struct record record = {.timestamp_ms = TIME + i * i, .key = text("k")};
        cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    }
    uint32_t size = batch_builder_finish(&b, CODEC_NONE, 0, 0, 0, NULL, 0, &out);
    cr_assert_eq(batch_check(out, size, &wide, false, &info, &why), PE_NONE, "%s", why);
    cr_assert_eq(info.record_count, 20000);
    cr_assert_eq(info.max_timestamp, TIME + INT64_C(19999) * 19999);
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
    uint32_t left = limits.batch_bytes_max - BATCH_HEADER_SIZE - records.len;
    value[left - 9] = '\0'; // 9: two bytes each for the lengths of record and value, 5 others
    put_plain_record(&records, 0, 4, NULL, value);
    cr_assert_eq(records.len + BATCH_HEADER_SIZE, limits.batch_bytes_max);
    header.record_count = 5;
    header.last_offset_delta = 4;
    header.max_timestamp = TIME;
    EXPECT_GOOD(header, records);
    put_be(&records, 0, 1);
    EXPECT(header, records, PE_BATCH_TOO_LARGE, "batch_bytes_max");
}

Test(batch_check, a_records_payload_has_a_limit)
{
    struct header_fields header = good_header();
    char value[1001] = {0};
    memset(value, 'x', 1000);
    header.record_count = 1;
    header.last_offset_delta = 0;
    header.max_timestamp = TIME;
    struct bytes records = {.len = 0};
    put_plain_record(&records, 0, 0, NULL, value);
    EXPECT_GOOD(header, records);
    records.len = 0;
    put_plain_record(&records, 0, 0, "k", value);
    EXPECT(header, records, PE_RECORD_TOO_LARGE, "record_bytes_max");
    struct bytes body = {.len = 0}; // and the headers count, too
    put_be(&body, 0, 3);
    put_string(&body, NULL);
    put_string(&body, NULL);
    put_zigzag(&body, 1);
    put_string(&body, "k");
    put_string(&body, value);
    records.len = 0;
    put_record(&records, &body);
    EXPECT(header, records, PE_RECORD_TOO_LARGE, "record_bytes_max");
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

Test(batch_check, timestamp_deltas_may_be_negative_but_not_beyond_zero)
{
    struct header_fields header = good_header();
    struct bytes records = {.len = 0};
    header.max_timestamp = TIME;
    put_plain_record(&records, 0, 0, NULL, NULL);
    put_plain_record(&records, -TIME, 1, NULL, NULL);
    EXPECT_GOOD(header, records);
    static const int64_t deltas[] = {-TIME - 1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(deltas); i++) {
        records.len = 0;
        put_plain_record(&records, 0, 0, NULL, NULL);
        put_plain_record(&records, deltas[i], 1, NULL, NULL);
        EXPECT(header, records, PE_INVALID_TIMESTAMP, "negative");
    }
}

Test(batch_check, a_records_offset_delta_is_its_place)
{
    struct header_fields header = good_header();
    static const int64_t deltas[] = {0, 2, -1, INT32_MIN};
    for (size_t i = 0; i < ARRAY_COUNT(deltas); i++) {
        struct bytes records = {.len = 0};
        put_plain_record(&records, 5, 0, NULL, NULL);
        put_plain_record(&records, 0, deltas[i], NULL, NULL);
        EXPECT(header, records, PE_INVALID_RECORD, "offset delta");
    }
}

/* A single record whose body is what the test puts into it. */
static uint16_t check_body(const struct bytes *body)
{
    const char *why;
    struct header_fields header = good_header();
    struct bytes records = {.len = 0};
    header.record_count = 1;
    header.last_offset_delta = 0;
    header.max_timestamp = TIME;
    put_record(&records, body);
    return check_parts(&header, &records, &why);
}

Test(batch_check, lengths_inside_a_record_must_fit)
{
    /* attributes, time, offset, key length, value length, header count, header key and value
     * length */
    static const struct {
        int64_t key, value, headers, header_key, header_value;
        uint16_t error;
    } cases[] = {
        {-1, -1, 0, 0, 0, PE_NONE},
        {0, 0, 0, 0, 0, PE_NONE},
        {-1, -1, 1, 0, -1, PE_NONE},
        {-1, -1, 1, 0, 0, PE_NONE},
        {-2, -1, 0, 0, 0, PE_INVALID_RECORD},
        {-1, -2, 0, 0, 0, PE_INVALID_RECORD},
        {INT32_MIN, -1, 0, 0, 0, PE_INVALID_RECORD},
        {INT32_MAX, -1, 0, 0, 0, PE_INVALID_RECORD},
        {-1, INT32_MAX, 0, 0, 0, PE_INVALID_RECORD},
        {1, 1, 0, 0, 0, PE_INVALID_RECORD},
        {-1, -1, -1, 0, 0, PE_INVALID_RECORD},
        {-1, -1, 2, 0, 0, PE_INVALID_RECORD},
        {-1, -1, INT32_MAX, 0, 0, PE_INVALID_RECORD},
        {-1, -1, 1, -1, 0, PE_INVALID_RECORD},
        {-1, -1, 1, 0, -2, PE_INVALID_RECORD},
        {-1, -1, 1, 1, 0, PE_INVALID_RECORD},
        {-1, -1, 1, 0, 1, PE_INVALID_RECORD},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct bytes body = {.len = 0};
        put_be(&body, 0, 3);
        put_zigzag(&body, cases[i].key);
        put_zigzag(&body, cases[i].value);
        put_zigzag(&body, cases[i].headers);
        if (cases[i].headers != 0) {
            put_zigzag(&body, cases[i].header_key);
            put_zigzag(&body, cases[i].header_value);
        }
        cr_assert_eq(check_body(&body), cases[i].error, "case %zu", i);
    }
}

Test(batch_check, a_record_ends_where_its_length_says)
{
    struct bytes body = {.len = 0};
    put_be(&body, 0, 3);
    put_zigzag(&body, -1);
    put_zigzag(&body, -1);
    put_zigzag(&body, 0);
    cr_assert_eq(check_body(&body), PE_NONE);
    put_be(&body, 0, 1);
    cr_assert_eq(check_body(&body), PE_INVALID_RECORD, "a byte too many");
    body.len -= 2;
    put_zigzag(&body, 1);
    put_string(&body, "k");
    put_string(&body, NULL);
    cr_assert_eq(check_body(&body), PE_NONE);
    put_be(&body, 0, 1);
    cr_assert_eq(check_body(&body), PE_INVALID_RECORD, "a byte behind the headers");
    body.len = 0;
    put_be(&body, 0, 3);
    put_zigzag(&body, -1);
    put_zigzag(&body, -1);
    for (uint32_t len = 0; len < 6; len++) {
        body.len = len;
        cr_assert_eq(check_body(&body), PE_INVALID_RECORD, "%u bytes", len);
    }
}

Test(batch_check, record_lengths_beyond_the_batch_are_refused)
{
    struct header_fields header = good_header();
    static const int64_t lengths[] = {INT32_MIN, -1, 0, 5, 7, 64, INT32_MAX};
    header.record_count = 1;
    header.last_offset_delta = 0;
    header.max_timestamp = TIME;
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        struct bytes records = {.len = 0};
        put_zigzag(&records, lengths[i]);
        put_be(&records, 0x0000000001010000, 6); // the body of a record of nulls
        const char *why;
        cr_assert_eq(check_parts(&header, &records, &why), PE_INVALID_RECORD, "%zu", i);
    }
}

/* Within five and ten bytes padded forms are read, as other clients' readers do; longer ones are
 * not. */
Test(batch_check, varints_have_at_most_five_or_ten_bytes)
{
    static const struct {
        const char *bytes;
        uint32_t len;
        bool time; // stands for the timestamp delta (64 bits), else for the offset delta (32)
        uint16_t error;
    } cases[] = {
        {"\x80\x00", 2, false, PE_NONE},
        {"\x80\x80\x80\x80\x00", 5, false, PE_NONE},
        {"\x80\x80\x80\x80\x10", 5, false, PE_INVALID_RECORD}, // bit 32
        {"\x80\x80\x80\x80\x80\x00", 6, false, PE_INVALID_RECORD},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 10, true, PE_NONE},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", 10, true, PE_INVALID_RECORD}, // bit 64
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11, true, PE_INVALID_RECORD},
        {"\x80\x80\x80\x80\x80\x80", 6, true, PE_INVALID_RECORD}, // goes on into the next fields
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct bytes body = {.len = 0};
        put_be(&body, 0, 1);
        if (!cases[i].time)
            put_zigzag(&body, 0);
        put_raw(&body, cases[i].bytes, cases[i].len);
        if (cases[i].time)
            put_zigzag(&body, 0);
        put_zigzag(&body, -1);
        put_zigzag(&body, -1);
        put_zigzag(&body, 0);
        cr_assert_eq(check_body(&body), cases[i].error, "case %zu", i);
    }
}

/* ---- compressed ---- */

static void put_lz4_stored(struct bytes *to, const void *content, uint32_t len)
{
    static const uint8_t head[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82};
    uint32_t word = len | 0x80000000;
    put_raw(to, head, sizeof(head));
    if (len > 0) {
        put_raw(to, &word, 4);
        put_raw(to, content, len);
    }
    put_be(to, 0, 4);
}

Test(batch_check, lz4_must_be_one_whole_frame)
{
    struct header_fields header = good_header();
    struct bytes records = {.len = 0}, frame = {.len = 0};
    header.attributes = CODEC_LZ4;
    put_good_records(&records);
    put_lz4_stored(&frame, records.b, records.len);
    EXPECT_GOOD(header, frame);
    uint32_t whole = frame.len;
    for (frame.len = 0; frame.len < whole; frame.len++)
        EXPECT(header, frame, PE_INVALID_RECORD, "LZ4");
    frame.len = whole;
    put_be(&frame, 0, 1);
    EXPECT(header, frame, PE_INVALID_RECORD, "LZ4");
    frame.len = 4; // the length 0 of the frame's magic is another frame
    EXPECT(header, frame, PE_INVALID_RECORD, "LZ4");
}

Test(batch_check, a_count_that_lz4_can_not_hold_is_refused)
{
    struct header_fields header = good_header();
    struct bytes records = {.len = 0}, frame = {.len = 0};
    header.attributes = CODEC_LZ4;
    put_good_records(&records);
    put_lz4_stored(&frame, records.b, records.len);
    header.record_count = records.len / 7;
    header.last_offset_delta = header.record_count - 1;
    EXPECT_GOOD(header, frame);
    header.record_count++;
    header.last_offset_delta++;
    EXPECT(header, frame, PE_INVALID_RECORD, "more than the LZ4 blocks");
}

/* Compressed records aren't looked at, whatever they are: header validation is the
 * consumer's risk. */
Test(batch_check, other_codecs_pass_by_their_header)
{
    struct header_fields header = good_header();
    struct bytes records = {.len = 0};
    put_be(&records, 0x1f8b080000000000, 8);
    static const uint16_t codecs[] = {CODEC_GZIP, CODEC_SNAPPY, CODEC_ZSTD};
    for (size_t i = 0; i < ARRAY_COUNT(codecs); i++) {
        header.attributes = codecs[i];
        EXPECT_GOOD(header, records);
    }
    header.record_count = 0x80000000;
    header.last_offset_delta = 0x7fffffff;
    EXPECT(header, records, PE_INVALID_RECORD, "record count");
    header = good_header();
    EXPECT(header, records, PE_INVALID_RECORD, "more than the bytes");
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
