/* proto/messages.h with input that is cut, flipped or lies about its counts. The metas lie in heap
 * blocks of exactly their size, so that AddressSanitizer finds one byte read too far. */
#include <criterion/criterion.h>

#include "tests/unit/proto/read_any.h"
#include "tests/unit/proto/samples.h"

/* A frame whose meta and data are copies of exactly their size; free_frame() gives them back. */
static struct frame copy_frame(const struct frame *from, uint32_t meta_length, uint32_t data_length)
{
    struct frame frame = *from;
    uint8_t *meta = malloc(meta_length + !meta_length);
    uint8_t *data = malloc(data_length + !data_length);
    memcpy(meta, from->meta, meta_length);
    memcpy(data, from->data, data_length);
    frame.meta = meta;
    frame.meta_length = meta_length;
    frame.data = data;
    frame.data_length = data_length;
    return frame;
}

static void free_frame(struct frame *frame)
{
    free((void *)(uintptr_t)frame->meta);
    free((void *)(uintptr_t)frame->data);
}

static struct frame sample_frame(const struct sample *sample)
{
    static uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    sample_encode(sample, bytes);
    cr_assert_eq(frame_decode(bytes, &frame), PE_NONE);
    return frame;
}

static struct frame named_frame(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        if (strcmp(samples[i].name, name) == 0)
            return sample_frame(&samples[i]);
    }
    cr_assert_fail("no sample %s", name);
    return (struct frame){0};
}

/* A request of `op` whose meta is what w has. */
static struct frame made_frame(uint16_t op, const struct writer *w)
{
    cr_assert_not(w->failed);
    return (struct frame){
        .op = op, .meta = w->start, .meta_length = writer_length(w), .data = w->at};
}

static uint16_t read_changed(const char *name, uint32_t at, uint8_t value)
{
    struct frame whole = named_frame(name);
    struct frame frame = copy_frame(&whole, whole.meta_length, whole.data_length);
    cr_assert_lt(at, frame.meta_length);
    ((uint8_t *)(uintptr_t)frame.meta)[at] = value;
    uint16_t error = read_any(&frame);
    free_frame(&frame);
    return error;
}

Test(messages_damage, samples_are_good)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct frame whole = sample_frame(&samples[i]);
        struct frame frame = copy_frame(&whole, whole.meta_length, whole.data_length);
        cr_assert_eq(read_any(&frame), PE_NONE, "%s", samples[i].name);
        free_frame(&frame);
    }
}

Test(messages_damage, every_cut_is_malformed)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct frame whole = sample_frame(&samples[i]);
        for (uint32_t len = 0; len < whole.meta_length; len++) {
            struct frame frame = copy_frame(&whole, len, whole.data_length);
            bool whole_error = strcmp(samples[i].name, "produce_failure") == 0 &&
                               len == whole.meta_length - 2 * 10 - 2;
            cr_assert_eq(read_any(&frame), whole_error ? PE_NONE : PE_MALFORMED, "%s at %u",
                         samples[i].name, len);
            free_frame(&frame);
        }
    }
}

Test(messages_damage, a_byte_too_many_is_malformed)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct frame whole = sample_frame(&samples[i]);
        uint8_t *longer = calloc(1, whole.meta_length + 1);
        memcpy(longer, whole.meta, whole.meta_length);
        whole.meta = longer;
        whole.meta_length++;
        cr_assert_eq(read_any(&whole), PE_MALFORMED, "%s", samples[i].name);
        free(longer);
    }
}

Test(messages_damage, data_that_the_meta_does_not_account_for_is_malformed)
{
    uint8_t byte = 0;
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct frame frame = sample_frame(&samples[i]);
        frame.data_length += 1;
        if (samples[i].batch_count == 0)
            frame.data = &byte;
        cr_assert_eq(read_any(&frame), PE_MALFORMED, "%s", samples[i].name);
        if (samples[i].batch_count > 0) {
            frame.data_length -= 2;
            cr_assert_eq(read_any(&frame), PE_MALFORMED, "%s", samples[i].name);
        }
    }
}

/* In a frame the checksum answers for every bit; see frame_test.c. Behind a right checksum (a
 * peer that is wrong, not a wire) any value may stand: the answer is a clean one and nothing is
 * read too far. */
Test(messages_damage, no_flipped_byte_is_read_too_far)
{
    int errors = 0;
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct frame whole = sample_frame(&samples[i]);
        for (uint32_t at = 0; at < whole.meta_length; at++) {
            for (unsigned flip = 1; flip < 256; flip++) {
                struct frame frame = copy_frame(&whole, whole.meta_length, whole.data_length);
                ((uint8_t *)(uintptr_t)frame.meta)[at] ^= (uint8_t)flip;
                uint16_t error = read_any(&frame);
                cr_assert(error == PE_NONE || error == PE_MALFORMED || error == PE_INVALID_ARGUMENT,
                          "%s at %u: %u", samples[i].name, at, error);
                errors += error != PE_NONE;
                free_frame(&frame);
            }
        }
    }
    cr_assert_gt(errors, 1000, "flips are noticed");
}

/* Every count field, set to its highest value, while the bytes behind it stay what they were. */
Test(messages_damage, counts_beyond_the_bytes_are_malformed)
{
    static const struct {
        const char *name;
        uint32_t at;
        uint32_t width;
    } counts[] = {
        {"metadata_names", 0, 1}, // low byte: 0xff names
        {"metadata_reply", 0, 2}, {"topic_alter", 12, 2},    {"topic_create", 12, 2},
        {"produce", 0, 2},        {"produce_failure", 0, 0}, // its count is behind strings: below
        {"ack", 28, 4},           {"fetch", 16, 4},          {"subscribe", 16, 4},
        {"deliver", 0, 4},        {"fetch_reply", 0, 4},     {"offsets", 0, 4},
        {"offsets_reply", 0, 4},  {"status_reply", 22, 2},
    };
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        struct frame whole = named_frame(counts[i].name);
        struct frame frame = copy_frame(&whole, whole.meta_length, whole.data_length);
        uint32_t at = counts[i].at;
        uint32_t width = counts[i].width;
        if (width == 0) {
            width = 2;
            at = whole.meta_length - 2 * 10 - 2;
        }
        memset((uint8_t *)(uintptr_t)frame.meta + at, 0xff, width);
        cr_assert_eq(read_any(&frame), PE_MALFORMED, "%s", counts[i].name);
        free_frame(&frame);
    }
}

Test(messages_damage, reserved_bytes_must_be_zero)
{
    cr_assert_eq(read_changed("error", 3, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("hello_reply", 2, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("metadata_reply", 3, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("produce", 4, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("produce", 8 + 12, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("produce_staged", 12, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("fetch", 20, 1), PE_INVALID_ARGUMENT);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(read_changed("fetch", 24 + 9 + i, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("deliver", 4, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("offsets", 4, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("offsets_reply", 4, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(read_changed("status_reply", 3, 1), PE_INVALID_ARGUMENT);
}

Test(messages_damage, values_outside_their_range_are_named)
{
    cr_assert_eq(read_changed("hello", 0, 0), PE_INVALID_ARGUMENT, "version_min 0");
    cr_assert_eq(read_changed("hello", 1, 9), PE_INVALID_ARGUMENT, "min above max");
    cr_assert_eq(read_changed("hello", 6, 0x80), PE_INVALID_ARGUMENT, "client id not UTF-8");
    cr_assert_eq(read_changed("hello_reply", 0, 0), PE_INVALID_ARGUMENT, "version 0");
    cr_assert_eq(read_changed("error", 0, 0), PE_INVALID_ARGUMENT, "an error that is none");
    cr_assert_eq(read_changed("error", 2, 2), PE_INVALID_ARGUMENT, "retriable is 0 or 1");
    cr_assert_eq(read_changed("metadata_reply", 2, 2), PE_INVALID_ARGUMENT, "more is 0 or 1");
    cr_assert_eq(read_changed("produce", 2, 2), PE_INVALID_ARGUMENT, "unknown flag");
    cr_assert_eq(read_changed("fetch", 6, 1), PE_INVALID_ARGUMENT, "wait above 60 s");
    cr_assert_eq(read_changed("fetch", 24 + 8, 4), PE_INVALID_ARGUMENT, "unknown start");
    cr_assert_eq(read_changed("offsets", 8 + 8, 4), PE_INVALID_ARGUMENT, "unknown start");
    cr_assert_eq(read_changed("deliver", 8 + 10, 2), PE_INVALID_ARGUMENT, "unknown flag");
    cr_assert_eq(read_changed("deliver", 8 + 8, 1), PE_INVALID_ARGUMENT, "an error with bytes");
    cr_assert_eq(read_changed("status_reply", 1, 2), PE_INVALID_ARGUMENT, "a bool is 0 or 1");
    cr_assert_eq(read_changed("goaway", 6, 0), PE_INVALID_ARGUMENT, "NUL in a reason");
    cr_assert_eq(read_changed("ack", 0, 5), PE_INVALID_ARGUMENT, "first above last");
    cr_assert_eq(read_changed("ack", 9, 9), PE_INVALID_ARGUMENT, "more publishes than offsets");
    cr_assert_eq(read_changed("producer_init", 7, 0x81), PE_INVALID_ARGUMENT, "negative id");
    cr_assert_eq(read_changed("producer_init_reply", 9, 0x80), PE_INVALID_ARGUMENT, "epoch");
}

Test(messages_damage, publish_number_zero_is_no_publish)
{
    uint8_t bytes[64];
    struct msg_ack m;
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_ack_begin(&w, 0, 0, 0, 0, 1);
    write_zigzag(&w, 0);
    struct frame frame = made_frame(OP_ACK, &w);
    cr_assert_eq(read_ack(&frame, &m), PE_INVALID_ARGUMENT);
}

Test(messages_damage, an_acks_range_over_everything_does_not_wrap)
{
    uint8_t bytes[64];
    struct msg_ack m;
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_ack_begin(&w, 1, UINT64_MAX, 0, 0, 1);
    write_zigzag(&w, 0);
    struct frame frame = made_frame(OP_ACK, &w);
    cr_assert_eq(read_ack(&frame, &m), PE_INVALID_ARGUMENT);
}

Test(messages_damage, overlong_varints_in_an_ack_are_malformed)
{
    uint8_t bytes[64];
    struct msg_ack m;
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_ack_begin(&w, 1, 1, 0, 0, 1);
    write_u16(&w, 0x0080);
    struct frame frame = made_frame(OP_ACK, &w);
    cr_assert_eq(read_ack(&frame, &m), PE_MALFORMED);
}

Test(messages_damage, a_publish_has_1_to_4096_batches)
{
    uint8_t *bytes = malloc(1 << 17);
    struct msg_produce m;
    static const struct {
        uint16_t count;
        uint16_t error;
    } cases[] = {
        {0, PE_INVALID_ARGUMENT}, {1, PE_NONE}, {4096, PE_NONE}, {4097, PE_INVALID_ARGUMENT}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct writer w = writer_make(bytes, 1 << 17);
        write_produce_begin(&w, cases[i].count, 0);
        for (uint32_t n = 0; n < cases[i].count; n++)
            write_produce_item(&w, 1, n, 0);
        struct frame frame = made_frame(OP_PRODUCE, &w);
        cr_assert_eq(read_produce(&frame, &m), cases[i].error, "%u", cases[i].count);
    }
    free(bytes);
}

/* The sum of batch_bytes in 32 bits would be the data's length again. */
Test(messages_damage, batch_sizes_that_wrap_are_malformed)
{
    uint8_t bytes[128];
    struct msg_produce m;
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_produce_begin(&w, 2, 0);
    write_produce_item(&w, 1, 0, UINT32_MAX);
    write_produce_item(&w, 1, 1, 11);
    struct frame frame = made_frame(OP_PRODUCE, &w);
    frame.data_length = 10;
    cr_assert_eq(read_produce(&frame, &m), PE_MALFORMED);
}

/* A value means nothing in a meta whose shape is broken: so the peer is told that, and its connection ends. */
Test(messages_damage, a_publish_of_a_broken_shape_is_malformed_whatever_else_is_wrong)
{
    static const struct {
        uint16_t count, items, flags;
        uint32_t reserved, batch_bytes, data_length;
        uint16_t error;
    } cases[] = {
        {1, 1, 0, 0, 100, 100, PE_NONE},
        {0, 0, 0, 0, 0, 100, PE_MALFORMED},        // data without a batch
        {0, 1, 0, 0, 0, 0, PE_MALFORMED},          // an item without a batch
        {2, 1, 0, 1, 100, 100, PE_MALFORMED},      // an item too few, reserved bytes set
        {1, 1, 2, 0, 99, 100, PE_MALFORMED},       // sizes that don't fit, an unknown flag
        {4097, 4097, 0, 0, 1, 4096, PE_MALFORMED}, // likewise, and too many
        {1, 1, 2, 0, 100, 100, PE_INVALID_ARGUMENT},
        {1, 1, 0, 1, 100, 100, PE_INVALID_ARGUMENT},
        {1, 1, PRODUCE_STAGED, 0, 100, 100, PE_MALFORMED}, // its transaction is missing
    };
    uint8_t *bytes = malloc(1 << 17);
    struct msg_produce m;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct writer w = writer_make(bytes, 1 << 17);
        write_produce_begin(&w, cases[i].count, cases[i].flags);
        memcpy(bytes + 4, &cases[i].reserved, 4);
        for (uint32_t n = 0; n < cases[i].items; n++)
            write_produce_item(&w, 1, n, cases[i].batch_bytes);
        struct frame frame = made_frame(OP_PRODUCE, &w);
        frame.data_length = cases[i].data_length;
        cr_assert_eq(read_produce(&frame, &m), cases[i].error, "%zu", i);
    }
    free(bytes);
}

Test(messages_damage, a_fetch_has_1_to_16384_items)
{
    uint8_t *bytes = malloc(1 << 20);
    struct msg_fetch m;
    static const struct {
        uint32_t count;
        uint16_t error;
    } cases[] = {
        {0, PE_INVALID_ARGUMENT}, {1, PE_NONE}, {16384, PE_NONE}, {16385, PE_INVALID_ARGUMENT}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct writer w = writer_make(bytes, 1 << 20);
        write_fetch_begin(&w, 0, 0, 0, cases[i].count);
        for (uint32_t n = 0; n < cases[i].count; n++)
            write_fetch_item(&w, 1, n, START_END, 0, 0);
        struct frame frame = made_frame(OP_FETCH, &w);
        cr_assert_eq(read_fetch(&frame, &m), cases[i].error, "%u", cases[i].count);
    }
    free(bytes);
}

Test(messages_damage, a_list_of_names_has_no_place_to_go_on_from)
{
    uint8_t bytes[64];
    struct msg_metadata m;
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_metadata_begin(&w, 1, slice_of_text("orders"));
    write_text(&w, "payments");
    struct frame frame = made_frame(OP_METADATA, &w);
    cr_assert_eq(read_metadata(&frame, &m), PE_INVALID_ARGUMENT);
}

Test(messages_damage, hello_texts_end_at_255_bytes)
{
    uint8_t bytes[1024];
    char long_text[257];
    struct msg_hello m;
    memset(long_text, 'x', sizeof(long_text));
    for (uint32_t len = 255; len <= 256; len++) {
        struct slice s = {(const uint8_t *)long_text, len};
        struct writer w = writer_make(bytes, sizeof(bytes));
        write_hello(&w, &(struct msg_hello){1, 1, s, slice_of_text("x")});
        struct frame frame = made_frame(OP_HELLO, &w);
        cr_assert_eq(read_hello(&frame, &m), len == 255 ? PE_NONE : PE_INVALID_ARGUMENT);
        w = writer_make(bytes, sizeof(bytes));
        write_hello(&w, &(struct msg_hello){1, 1, slice_of_text("x"), s});
        frame = made_frame(OP_HELLO, &w);
        cr_assert_eq(read_hello(&frame, &m), len == 255 ? PE_NONE : PE_INVALID_ARGUMENT);
    }
}

Test(messages_damage, settings_are_text_with_a_key)
{
    static const struct {
        const char *key;
        const char *value;
        uint16_t error;
    } cases[] = {
        {"k", "", PE_NONE},
        {"", "v", PE_INVALID_ARGUMENT},
        {"k\xff", "v", PE_INVALID_ARGUMENT},
        {"k", "\xc0\x80", PE_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t bytes[64];
        struct msg_topic_change m;
        struct writer w = writer_make(bytes, sizeof(bytes));
        write_topic_change(&w, slice_of_text("orders"), 1);
        write_settings_begin(&w, 1);
        write_setting(&w, cases[i].key, cases[i].value);
        struct frame frame = made_frame(OP_TOPIC_CREATE, &w);
        cr_assert_eq(read_topic_change(&frame, &m), cases[i].error, "case %zu", i);
    }
}
