/* proto/batch.h: the gate, as far as records and their compression go. */
#include "base/status.h"
#include "tests/unit/proto/batch_expect.h"

/* Offset deltas of one to three bytes, timestamp deltas of one to five. */
Test(batch_check_records, a_batch_of_twenty_thousand_records_passes)
{
    static uint8_t bytes[1 << 20];
    const struct batch_limits wide = {.batch_bytes_max = sizeof(bytes), .record_bytes_max = 1};
    struct batch_builder b;
    struct batch_info info;
    const char *why;
    uint8_t *out;
    batch_builder_init(&b, bytes, sizeof(bytes));
    for (int64_t i = 0; i < 20000; i++) {
        struct record record = {.timestamp_ms = TIME + i * i, .key = slice_of_text("k")};
        cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    }
    uint32_t size = batch_builder_finish(&b, CODEC_NONE, 0, 0, 0, NULL, 0, &out);
    cr_assert_eq(batch_check(out, size, &wide, false, &info, &why), PE_NONE, "%s", why);
    cr_assert_eq(info.record_count, 20000);
    cr_assert_eq(info.max_timestamp, TIME + INT64_C(19999) * 19999);
}

Test(batch_check_records, a_records_payload_has_a_limit)
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

Test(batch_check_records, timestamp_deltas_may_be_negative_but_not_beyond_zero)
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

Test(batch_check_records, a_records_offset_delta_is_its_place)
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

Test(batch_check_records, lengths_inside_a_record_must_fit)
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

Test(batch_check_records, a_record_ends_where_its_length_says)
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

Test(batch_check_records, record_lengths_beyond_the_batch_are_refused)
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
Test(batch_check_records, varints_have_at_most_five_or_ten_bytes)
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

Test(batch_check_records, lz4_must_be_one_whole_frame)
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

Test(batch_check_records, a_count_that_lz4_can_not_hold_is_refused)
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
Test(batch_check_records, other_codecs_pass_by_their_header)
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
