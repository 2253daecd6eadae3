/* proto/batch.h: reading records back. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/random.h"
#include "base/status.h"
#include "proto/lz4_frame.h"
#include "tests/unit/proto/batch_bytes.h"
#include "tests/unit/proto/samples.h"

#define TIME SAMPLE_TIME

static uint8_t bytes[1 << 20];
static uint8_t buffer[1 << 21];

static bool is_text(struct slice s, const char *expected)
{
    return s.bytes && slice_equals(s, slice_of_text(expected));
}

Test(batch_reader, records_come_back_as_they_were)
{
    struct batch_iterator it;
    struct record_view record;
    struct record_header header;
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    batch_set_head(bytes, 1000, 3);
    cr_assert_eq(batch_iterator_init(&it, bytes, size, NULL, 0), E_OK);

    cr_assert_eq(batch_iterator_next(&it, &record), 1);
    cr_assert_eq(record.offset, 1000);
    cr_assert_eq(record.timestamp_ms, TIME);
    cr_assert(is_text(record.key, "games"));
    cr_assert(is_text(record.value, "a record's value"));
    cr_assert_eq(record.header_count, 0);

    cr_assert_eq(batch_iterator_next(&it, &record), 1);
    cr_assert_eq(record.offset, 1001);
    cr_assert_eq(record.timestamp_ms, TIME + 70000);
    cr_assert_null(record.key.bytes);
    cr_assert(is_text(record.value, ""));
    cr_assert_eq(record.header_count, 2);
    record_view_header(&record, &header);
    cr_assert(is_text(header.key, "package"));
    cr_assert(is_text(header.value, "0ad"));
    record_view_header(&record, &header);
    cr_assert(is_text(header.key, ""));
    cr_assert_null(header.value.bytes);
    record_view_header(&record, &header); // one too many gives nulls, not a read behind the record
    cr_assert_null(header.key.bytes);
    cr_assert_null(header.value.bytes);

    cr_assert_eq(batch_iterator_next(&it, &record), 1);
    cr_assert_eq(record.timestamp_ms, TIME - 1);
    cr_assert(is_text(record.key, ""));
    cr_assert_null(record.value.bytes);
    cr_assert_eq(batch_iterator_next(&it, &record), 0);
    cr_assert_eq(batch_iterator_next(&it, &record), 0, "and stays at the end");
}

Test(batch_reader, compressed_records_come_back_from_the_buffer)
{
    struct batch_iterator it;
    struct record_view record;
    uint32_t size = sample_lz4_build(bytes, sizeof(bytes));
    int64_t needed = batch_records_size(bytes, size, sizeof(buffer));
    cr_assert_gt(needed, 20000);
    cr_assert_eq(batch_iterator_init(&it, bytes, size, buffer, (uint32_t)needed), E_OK);
    for (unsigned i = 0; i < 400; i++) {
        char value[64];
        snprintf(value, sizeof(value), "line %u of a log that says the same again and again", i);
        cr_assert_eq(batch_iterator_next(&it, &record), 1);
        cr_assert_eq(record.offset, i);
        cr_assert_eq(record.timestamp_ms, TIME + i);
        cr_assert(is_text(record.value, value));
        cr_assert(record.value.bytes >= buffer && record.value.bytes < buffer + needed);
    }
    cr_assert_eq(batch_iterator_next(&it, &record), 0);
}

/* The bound would be 64 KiB; under a tighter limit the exact size is found. */
Test(batch_reader, the_size_of_compressed_records_is_exact_when_it_must_be)
{
    struct batch_iterator it;
    uint32_t size = sample_lz4_build(bytes, sizeof(bytes));
    cr_assert_eq(batch_iterator_init(&it, bytes, size, buffer, sizeof(buffer)), E_OK);
    uint32_t exact = (uint32_t)reader_remaining(&it.records);
    cr_assert_eq(batch_records_size(bytes, size, exact), exact + LZ4_FRAME_SLACK);
    cr_assert_eq(batch_records_size(bytes, size, exact - 1), E_TOO_LARGE);
    cr_assert_eq(batch_iterator_init(&it, bytes, size, buffer, exact), E_OK);
    cr_assert_eq(batch_iterator_init(&it, bytes, size, buffer, exact - 1), E_TOO_LARGE);
    cr_assert_eq(batch_iterator_init(&it, bytes, size, NULL, 0), E_TOO_LARGE);
}

Test(batch_reader, the_size_of_plain_records_is_what_follows_the_header)
{
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    uint32_t records = size - BATCH_HEADER_SIZE;
    cr_assert_eq(batch_records_size(bytes, size, records), records);
    cr_assert_eq(batch_records_size(bytes, size, records - 1), E_TOO_LARGE);
    cr_assert_eq(batch_records_size(bytes, size - 1, records), E_CORRUPT);
    cr_assert_eq(batch_records_size(bytes, 60, records), E_CORRUPT);
}

/* Header fields are changed without making the CRC right: the reader doesn't look at it. */
static struct batch_header *header_of(uint8_t *batch)
{
    return (struct batch_header *)batch;
}

Test(batch_reader, codecs_we_do_not_have_are_unsupported)
{
    struct batch_iterator it;
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    static const uint16_t codecs[] = {CODEC_GZIP, CODEC_SNAPPY, CODEC_ZSTD, 5, 6, 7};
    for (size_t i = 0; i < ARRAY_COUNT(codecs); i++) {
        header_of(bytes)->attributes = be16_make(codecs[i]);
        cr_assert_eq(batch_records_size(bytes, size, 1 << 20), E_UNSUPPORTED);
        cr_assert_eq(batch_iterator_init(&it, bytes, size, buffer, 1 << 20), E_UNSUPPORTED);
    }
}

Test(batch_reader, append_time_stands_for_all_records)
{
    struct batch_iterator it;
    struct record_view record;
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    header_of(bytes)->attributes = be16_make(BATCH_LOG_APPEND_TIME);
    header_of(bytes)->max_timestamp = be64_make(TIME + 999);
    cr_assert_eq(batch_iterator_init(&it, bytes, size, NULL, 0), E_OK);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(batch_iterator_next(&it, &record), 1);
        cr_assert_eq(record.timestamp_ms, TIME + 999);
    }
}

Test(batch_reader, control_batches_have_no_records)
{
    struct batch_iterator it;
    struct record_view record;
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    header_of(bytes)->attributes = be16_make(BATCH_CONTROL | BATCH_TRANSACTIONAL);
    cr_assert_eq(batch_iterator_init(&it, bytes, size, NULL, 0), E_OK);
    cr_assert_eq(batch_iterator_next(&it, &record), 0);
}

static int read_all(const uint8_t *batch, size_t len)
{
    struct batch_iterator it;
    struct record_view record;
    struct record_header header;
    int status = batch_iterator_init(&it, batch, len, buffer, sizeof(buffer));
    if (status < 0)
        return status;
    while ((status = batch_iterator_next(&it, &record)) > 0) {
        for (uint32_t i = 0; i < record.header_count; i++)
            record_view_header(&record, &header);
    }
    return status;
}

Test(batch_reader, a_count_that_does_not_fit_is_corrupt)
{
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    static const uint32_t counts[] = {0, 1, 2, 4, 1000, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        header_of(bytes)->record_count = be32_make(counts[i]);
        cr_assert_eq(read_all(bytes, size), E_CORRUPT, "%u", counts[i]);
    }
    header_of(bytes)->record_count = be32_make(3);
    cr_assert_eq(read_all(bytes, size), E_OK);
}

/* Every byte takes every value, and every cut is tried, in a heap block of exactly the batch's
 * size. */
Test(batch_reader, damage_never_leads_outside)
{
    uint32_t size = sample_batch_build(bytes, sizeof(bytes));
    int corrupt = 0;
    for (uint32_t at = 0; at < size; at++) {
        uint8_t *exact = malloc(size);
        for (unsigned flip = 1; flip < 256; flip++) {
            memcpy(exact, bytes, size);
            exact[at] ^= (uint8_t)flip;
            int status = read_all(exact, size);
            cr_assert(status == E_OK || status == E_CORRUPT || status == E_UNSUPPORTED);
            corrupt += status == E_CORRUPT;
        }
        free(exact);
    }
    cr_assert_gt(corrupt, 1000);
    for (uint32_t len = 0; len < size; len++) {
        uint8_t *exact = malloc(len + !len);
        memcpy(exact, bytes, len);
        cr_assert_eq(read_all(exact, len), E_CORRUPT);
        free(exact);
    }
}

/* ---- against a model: random records through builder, gate and iterator ---- */

#define MODEL_RECORDS 500

struct model_record {
    struct record record;
    struct record_header headers[3];
};

static struct slice random_slice(struct random *random, const uint8_t *pool, bool nullable)
{
    static const uint32_t tops[] = {1, 20, 200, 9000};
    if (nullable && random_below(random, 8) == 0)
        return (struct slice){NULL, 0};
    uint32_t len = (uint32_t)random_below(random, tops[random_below(random, 4)]);
    return (struct slice){pool + random_below(random, 10000), len};
}

static void random_record(struct random *random, const uint8_t *pool, struct model_record *model)
{
    model->record = (struct record){
        .timestamp_ms = TIME + (int64_t)random_below(random, 1 << 30) - (1 << 29),
        .key = random_slice(random, pool, true),
        .value = random_slice(random, pool, true),
        .headers = model->headers,
        .header_count = random_below(random, 4) == 0 ? (uint32_t)random_below(random, 4) : 0,
    };
    for (uint32_t i = 0; i < 3; i++) {
        model->headers[i].key = random_slice(random, pool, false);
        model->headers[i].value = random_slice(random, pool, true);
    }
}

static bool same_bytes(struct slice a, struct slice b)
{
    return !a.bytes == !b.bytes && slice_equals(a, b);
}

static void assert_same(struct record_view *view, const struct record *record, uint64_t offset)
{
    cr_assert_eq(view->offset, offset);
    cr_assert_eq(view->timestamp_ms, record->timestamp_ms);
    cr_assert(same_bytes(view->key, record->key));
    cr_assert(same_bytes(view->value, record->value));
    cr_assert_eq(view->header_count, record->header_count);
    for (uint32_t i = 0; i < record->header_count; i++) {
        struct record_header header;
        record_view_header(view, &header);
        cr_assert(same_bytes(header.key, record->headers[i].key));
        cr_assert(same_bytes(header.value, record->headers[i].value));
    }
}

Test(batch_reader, random_records_survive_builder_gate_and_iterator)
{
    static struct model_record models[MODEL_RECORDS];
    static uint8_t pool[20000], scratch[sizeof(bytes)];
    static const struct batch_limits limits = {sizeof(bytes), 1 << 20};
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct random random;
        struct batch_builder b;
        struct batch_info info;
        struct batch_iterator it;
        struct record_view view;
        const char *why;
        uint8_t *out;
        uint32_t count = 0;
        random_init(&random, seed);
        for (size_t i = 0; i < sizeof(pool); i++)
            pool[i] = (uint8_t)random_below(&random, seed % 2 ? 256 : 4);
        batch_builder_init(&b, bytes,
                           (uint32_t)random_below(&random, sizeof(bytes) - 100000) + 100000);
        while (count < MODEL_RECORDS) {
            random_record(&random, pool, &models[count]);
            uint32_t before = b.len;
            uint32_t size = batch_builder_record_size(&b, &models[count].record);
            if (batch_builder_add(&b, &models[count].record) == E_FULL)
                break;
            cr_assert_eq(b.len - before, size);
            count++;
        }
        enum batch_codec codec = seed % 3 ? CODEC_LZ4 : CODEC_NONE;
        uint32_t size = batch_builder_finish(&b, codec, seed, 1, 0, scratch, sizeof(scratch), &out);
        cr_assert_eq(batch_check(out, size, &limits, false, &info, &why), PE_NONE, "%s", why);
        cr_assert_eq(info.record_count, count);
        batch_set_head(out, seed << 40, 1);
        int64_t needed = batch_records_size(out, size, sizeof(buffer));
        cr_assert_geq(needed, 0);
        cr_assert_eq(batch_iterator_init(&it, out, size, buffer, (uint32_t)needed), E_OK);
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_eq(batch_iterator_next(&it, &view), 1);
            assert_same(&view, &models[i].record, (seed << 40) + i);
        }
        cr_assert_eq(batch_iterator_next(&it, &view), 0);
    }
}
