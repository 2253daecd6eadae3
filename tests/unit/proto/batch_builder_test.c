/* proto/batch.h: building, compared with batches made byte by byte. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/status.h"
#include "proto/batch.h"
#include "tests/unit/proto/batch_bytes.h"

#define TIME 1763683200123

static uint8_t room[1 << 20];

static struct record make_record(int64_t timestamp_ms, const char *key, const char *value)
{
    struct record record = {.timestamp_ms = timestamp_ms};
    if (key)
        record.key = slice_of_text(key);
    if (value)
        record.value = slice_of_text(value);
    return record;
}

Test(batch_builder, a_batch_is_byte_for_byte_the_documented_layout)
{
    const struct record_header headers[] = {
        {.key = slice_of_text("package"), .value = slice_of_text("0ad")},
        {.key = slice_of_text(""), .value = {NULL, 0}},
    };
    struct record second = make_record(TIME + 70000, NULL, "");
    second.headers = headers;
    second.header_count = 2;
    const struct record records[] = {make_record(TIME, "games", "a value"), second,
                                     make_record(TIME - 1, "", NULL)};
    struct batch_builder b;
    uint8_t *out;
    batch_builder_init(&b, room, sizeof(room));
    for (size_t i = 0; i < ARRAY_COUNT(records); i++)
        cr_assert_eq(batch_builder_add(&b, &records[i]), E_OK);
    uint32_t size =
        batch_builder_finish(&b, CODEC_NONE, 0x0102030405060708, 0x0910, 0x11121314, NULL, 0, &out);

    struct bytes expected = {.len = 0};
    struct bytes plain = {.len = 0};
    struct bytes body = {.len = 0};
    put_plain_record(&plain, 0, 0, "games", "a value");
    put_be(&body, 0, 1);
    put_zigzag(&body, 70000);
    put_zigzag(&body, 1);
    put_string(&body, NULL);
    put_string(&body, "");
    put_zigzag(&body, 2);
    put_string(&body, "package");
    put_string(&body, "0ad");
    put_string(&body, "");
    put_string(&body, NULL);
    put_record(&plain, &body);
    put_plain_record(&plain, -1, 2, "", NULL);
    put_batch(&expected,
              &(struct header_fields){.leader_epoch = UINT32_MAX,
                                      .magic = 2,
                                      .last_offset_delta = 2,
                                      .base_timestamp = TIME,
                                      .max_timestamp = TIME + 70000,
                                      .producer_id = 0x0102030405060708,
                                      .producer_epoch = 0x0910,
                                      .base_sequence = 0x11121314,
                                      .record_count = 3},
              &plain);
    cr_assert_eq(size, expected.len);
    cr_assert_eq(out, room);
    cr_assert_arr_eq(out, expected.b, expected.len);
}

/* Lengths around every step of a varint, for key, value, header key, header value and time. */
Test(batch_builder, the_predicted_size_is_exact_at_every_varint_step)
{
    static uint8_t filler[1 << 15];
    static const uint32_t lengths[] = {0, 1, 63, 64, 8191, 8192, 16383, 16384, 32767};
    static const int64_t deltas[] = {
        0,         -1,        63,          64,          -64,
        -65,       8191,      8192,        1048575,     1048576,
        134217727, 134217728, 17179869183, 17179869184, INT64_MAX - TIME};
    struct batch_builder b;
    batch_builder_init(&b, room, sizeof(room));
    struct record first = make_record(TIME, "", "");
    cr_assert_eq(batch_builder_add(&b, &first), E_OK);
    for (size_t k = 0; k < ARRAY_COUNT(lengths); k++) {
        for (size_t d = 0; d < ARRAY_COUNT(deltas); d++) {
            struct record_header header = {{filler, lengths[k]}, {filler, lengths[k]}};
            struct record record = {.timestamp_ms = TIME + deltas[d],
                                    .key = {filler, lengths[k]},
                                    .value = {filler, lengths[ARRAY_COUNT(lengths) - 1 - k]},
                                    .headers = &header,
                                    .header_count = d % 2};
            uint32_t before = b.len;
            uint32_t size = batch_builder_record_size(&b, &record);
            if (batch_builder_add(&b, &record) == E_FULL) {
                batch_builder_init(&b, room, sizeof(room));
                cr_assert_eq(batch_builder_add(&b, &first), E_OK);
                continue;
            }
            cr_assert_eq(b.len - before, size, "length %u, delta %ld", lengths[k], (long)deltas[d]);
        }
    }
}

Test(batch_builder, the_predicted_size_is_exact_over_thousands_of_offsets)
{
    struct batch_builder b;
    struct record record = make_record(TIME, "k", "v");
    batch_builder_init(&b, room, sizeof(room));
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t before = b.len;
        uint32_t size = batch_builder_record_size(&b, &record);
        cr_assert_eq(batch_builder_add(&b, &record), E_OK);
        cr_assert_eq(b.len - before, size, "record %u", i);
    }
}

/* The buffer has exactly the batch's size, so AddressSanitizer sees a byte written behind it. */
Test(batch_builder, full_means_not_one_byte_too_many_and_nothing_changed)
{
    struct batch_builder b;
    struct record record = make_record(TIME, "key", "value");
    batch_builder_init(&b, room, sizeof(room));
    cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    uint32_t two = b.len + batch_builder_record_size(&b, &record);
    for (uint32_t capacity = BATCH_HEADER_SIZE; capacity <= two; capacity++) {
        uint8_t *exact = malloc(capacity);
        batch_builder_init(&b, exact, capacity);
        int first = batch_builder_add(&b, &record);
        struct batch_builder before = b;
        int second = batch_builder_add(&b, &record);
        if (second == E_FULL)
            cr_assert_eq(memcmp(&before, &b, sizeof(b)), 0);
        uint32_t one = two - (two - BATCH_HEADER_SIZE) / 2;
        cr_assert_eq(first, capacity >= one ? E_OK : E_FULL);
        cr_assert_eq(second, capacity >= two ? E_OK : E_FULL, "capacity %u", capacity);
        free(exact);
    }
}

Test(batch_builder, a_capacity_lowered_below_what_is_there_is_full)
{
    struct batch_builder b;
    struct record record = make_record(TIME, "key", "value");
    batch_builder_init(&b, room, sizeof(room));
    cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    b.capacity = b.len - 1;
    cr_assert_eq(batch_builder_add(&b, &record), E_FULL);
}

Test(batch_builder, records_larger_than_any_batch_are_full_and_not_written)
{
    struct batch_builder b;
    struct record record = make_record(TIME, "k", "v");
    record.key.len = UINT32_MAX;
    record.value.len = UINT32_MAX;
    batch_builder_init(&b, room, sizeof(room));
    cr_assert_eq(batch_builder_record_size(&b, &record), UINT32_MAX);
    cr_assert_eq(batch_builder_add(&b, &record), E_FULL);
    cr_assert_eq(b.len, BATCH_HEADER_SIZE);
    cr_assert_eq(record_payload_size(&record), 2 * (uint64_t)UINT32_MAX);
}

Test(batch_builder, payload_is_key_value_and_headers)
{
    const struct record_header headers[] = {{slice_of_text("hk"), slice_of_text("hvv")},
                                            {slice_of_text("x"), {NULL, 0}}};
    struct record record = make_record(TIME, "key", "value");
    cr_assert_eq(record_payload_size(&record), 8);
    record.headers = headers;
    record.header_count = 2;
    cr_assert_eq(record_payload_size(&record), 8 + 5 + 1);
    record.key = (struct slice){NULL, 0};
    cr_assert_eq(record_payload_size(&record), 5 + 5 + 1);
}

Test(batch_builder, a_new_epoch_gets_a_right_crc)
{
    struct batch_builder b;
    struct record record = make_record(TIME, "key", "value");
    struct batch_info info;
    uint8_t *out;
    batch_builder_init(&b, room, sizeof(room));
    cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    uint32_t size = batch_builder_finish(&b, CODEC_NONE, 5, 6, 7, NULL, 0, &out);
    cr_assert(batch_is_intact(out, size));
    batch_set_producer(out, 50, 60, 70);
    cr_assert(batch_is_intact(out, size));
    cr_assert(batch_peek(out, size, &info));
    cr_assert_eq(info.producer_id, 50);
    cr_assert_eq(info.producer_epoch, 60);
    cr_assert_eq(info.base_sequence, 70);
}

/* The CRC that was computed on the way is the one that is computed at the end. */
Test(batch_builder, a_batch_summed_early_is_the_same_batch)
{
    static uint8_t value[20000], early[1 << 20];
    struct random random;
    random_init(&random, 1);
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)random_u32(&random);
    for (uint32_t round = 0; round < 200; round++) {
        struct batch_builder a, b;
        uint8_t *out_a, *out_b;
        batch_builder_init(&a, room, sizeof(room));
        batch_builder_init(&b, early, sizeof(early));
        batch_builder_sum_early(&b);
        for (uint32_t i = 0; i <= round; i++) {
            struct record record = make_record(TIME + i, NULL, "");
            record.value = (struct slice){value, random_u32(&random) % (round % 2 ? 200 : 5000)};
            cr_assert_eq(batch_builder_add(&a, &record), E_OK);
            cr_assert_eq(batch_builder_add(&b, &record), E_OK);
        }
        uint32_t size = batch_builder_finish(&a, CODEC_NONE, round, 1, 2, NULL, 0, &out_a);
        cr_assert_eq(batch_builder_finish(&b, CODEC_NONE, round, 1, 2, NULL, 0, &out_b), size);
        cr_assert(batch_is_intact(out_b, size));
        cr_assert_eq(memcmp(out_a, out_b, size), 0, "round %u", round);
    }
}

Test(batch_builder, the_head_is_outside_the_crc)
{
    struct batch_builder b;
    struct record record = make_record(TIME, "key", "value");
    struct batch_info info;
    uint8_t *out;
    batch_builder_init(&b, room, sizeof(room));
    cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    uint32_t size = batch_builder_finish(&b, CODEC_NONE, 5, 6, 7, NULL, 0, &out);
    uint8_t before[128];
    memcpy(before, out, size);
    batch_set_head(out, 0x0102030405060708, 0x11121314);
    cr_assert(batch_is_intact(out, size));
    cr_assert(batch_peek(out, size, &info));
    cr_assert_eq(info.base_offset, 0x0102030405060708);
    static const uint8_t offset[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t epoch[] = {0x11, 0x12, 0x13, 0x14};
    cr_assert_arr_eq(out, offset, 8);
    cr_assert_arr_eq(out + 8, before + 8, 4);
    cr_assert_arr_eq(out + 12, epoch, 4);
    cr_assert_arr_eq(out + 16, before + 16, size - 16);
}

/* ---- compression ---- */

static uint32_t build_lz4(uint8_t *bytes, uint32_t count, uint32_t value_len, bool random_values,
                          uint8_t *scratch, uint8_t **out)
{
    static uint8_t value[sizeof(room)];
    struct batch_builder b;
    struct random random;
    random_init(&random, 1);
    batch_builder_init(&b, bytes, sizeof(room));
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < value_len; k++)
            value[k] = random_values ? (uint8_t)random_u32(&random) : (uint8_t)("abcd"[i % 4]);
        struct record record = {.timestamp_ms = TIME + i, .value = {value, value_len}};
        cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    }
    return batch_builder_finish(&b, CODEC_LZ4, PRODUCER_NONE, UINT16_MAX, UINT32_MAX, scratch,
                                batch_compress_bound(b.len), out);
}

Test(batch_builder, compression_shrinks_what_repeats)
{
    static uint8_t scratch[sizeof(room)];
    struct batch_info info;
    uint8_t *out;
    uint32_t size = build_lz4(room, 3000, 100, false, scratch, &out);
    cr_assert_eq(out, scratch);
    cr_assert_lt(size, 100000);
    cr_assert(batch_is_intact(out, size));
    cr_assert(batch_peek(out, size, &info));
    cr_assert_eq(info.attributes, CODEC_LZ4);
    cr_assert_eq(info.record_count, 3000);
    static const uint8_t head[] = {0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82};
    cr_assert_arr_eq(out + BATCH_HEADER_SIZE, head, sizeof(head));
}

Test(batch_builder, what_does_not_get_smaller_stays_uncompressed)
{
    static uint8_t scratch[sizeof(room)];
    struct batch_info info;
    uint8_t *out;
    static const uint32_t lengths[] = {1, 100, 65000, 65500, 70000, 200000, 900000};
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        uint32_t size = build_lz4(room, 1, lengths[i], true, scratch, &out);
        cr_assert_eq(out, room);
        cr_assert(batch_is_intact(out, size));
        cr_assert(batch_peek(out, size, &info));
        cr_assert_eq(info.attributes, CODEC_NONE);
    }
}

Test(batch_builder, the_smallest_record_is_not_compressed)
{
    uint8_t scratch[128];
    struct batch_builder b;
    uint8_t *out;
    struct record record = make_record(0, NULL, NULL);
    batch_builder_init(&b, room, 128);
    cr_assert_eq(batch_builder_add(&b, &record), E_OK);
    cr_assert_eq(b.len, BATCH_HEADER_SIZE + 7);
    cr_assert_eq(batch_builder_finish(&b, CODEC_LZ4, 0, 0, 0, scratch, sizeof(scratch), &out), 68);
    cr_assert_eq(out, room);
}
