/* Golden files: the bytes of every message and of two batches, as they were when the format was
 * fixed.
 *
 * A difference here is a change of the protocol, whatever the other tests say: they would change
 * with the code. The files were written once, by running this test with SLUICE_GOLDEN=write;
 * doing so again is right only together with a new version in docs/protocol.md.
 *
 * The bytes that LZ4 chooses may differ between versions of the library, so that file is only
 * read. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/proto/read_any.h"
#include "tests/unit/proto/samples.h"

#define FORMAT_DIR SLUICE_SOURCE_DIR "/tests/format/"

static bool is_writing(void)
{
    const char *mode = getenv("SLUICE_GOLDEN");
    return mode && strcmp(mode, "write") == 0;
}

static FILE *open_golden(const char *name, const char *mode)
{
    char path[512];
    snprintf(path, sizeof(path), FORMAT_DIR "%s", name);
    FILE *file = fopen(path, mode);
    cr_assert_not_null(file, "%s", path);
    return file;
}

static void write_golden(const char *name, const uint8_t *bytes, size_t len)
{
    FILE *file = open_golden(name, "wb");
    cr_assert_eq(fwrite(bytes, 1, len, file), len);
    cr_assert_eq(fclose(file), 0);
}

static size_t read_golden(const char *name, uint8_t *bytes, size_t capacity)
{
    FILE *file = open_golden(name, "rb");
    size_t len = fread(bytes, 1, capacity, file);
    cr_assert_eq(fclose(file), 0);
    return len;
}

static void assert_golden(const char *name, const uint8_t *bytes, size_t len)
{
    static uint8_t golden[64 * 1024];
    if (is_writing())
        write_golden(name, bytes, len);
    cr_assert_eq(read_golden(name, golden, sizeof(golden)), len, "%s", name);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(bytes[i], golden[i], "%s: byte %zu is %02x, was %02x", name, i, bytes[i],
                     golden[i]);
}

Test(golden, every_message_is_encoded_as_ever)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        uint8_t bytes[SAMPLE_BYTES_MAX];
        char name[64];
        snprintf(name, sizeof(name), "%s.frame", samples[i].name);
        assert_golden(name, bytes, sample_encode(&samples[i], bytes));
    }
}

Test(golden, every_message_is_decoded_from_its_file)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        uint8_t bytes[SAMPLE_BYTES_MAX];
        struct frame frame;
        char name[64];
        snprintf(name, sizeof(name), "%s.frame", samples[i].name);
        size_t len = read_golden(name, bytes, sizeof(bytes));
        cr_assert_eq(frame_peek(bytes, len, SAMPLE_BYTES_MAX), (int64_t)len, "%s", name);
        cr_assert_eq(frame_decode(bytes, &frame), PE_NONE, "%s", name);
        cr_assert_eq(frame.op, samples[i].op, "%s", name);
        cr_assert_eq(frame.flags, samples[i].flags, "%s", name);
        cr_assert_eq(frame.correlation, samples[i].correlation, "%s", name);
        cr_assert_eq(read_any(&frame), PE_NONE, "%s", name);
    }
}

Test(golden, a_plain_batch_is_encoded_as_ever)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    assert_golden("records.batch", bytes, sample_batch_build(bytes, sizeof(bytes)));
}

Test(golden, a_compressed_batch_is_decoded_from_its_file)
{
    static uint8_t bytes[64 * 1024], buffer[64 * 1024];
    const struct batch_limits limits = {.batch_bytes_max = 65536, .record_bytes_max = 100};
    struct batch_info info;
    struct batch_iterator it;
    struct record_view record;
    const char *why;
    if (is_writing())
        write_golden("records_lz4.batch", bytes, sample_lz4_build(bytes, sizeof(bytes)));
    size_t len = read_golden("records_lz4.batch", bytes, sizeof(bytes));
    cr_assert_eq(batch_check(bytes, len, &limits, false, &info, &why), PE_NONE, "%s", why);
    cr_assert_eq(info.record_count, 400);
    cr_assert_eq(batch_iterator_init(&it, bytes, len, buffer, sizeof(buffer)), E_OK);
    for (int i = 0; i < 400; i++) {
        char value[64];
        snprintf(value, sizeof(value), "line %d of a log that says the same again and again", i);
        cr_assert_eq(batch_iterator_next(&it, &record), 1);
        cr_assert(slice_equals(record.value, slice_of_text(value)));
        cr_assert_eq(record.timestamp_ms, SAMPLE_TIME + i);
    }
    cr_assert_eq(batch_iterator_next(&it, &record), 0);
}
