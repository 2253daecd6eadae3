/* proto/cursor.h */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/random.h"
#include "proto/cursor.h"

Test(cursor, integers_are_little_endian)
{
    uint8_t bytes[15];
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_u8(&w, 0x01);
    write_u16(&w, 0x0302);
    write_u32(&w, 0x07060504);
    write_u64(&w, 0x0f0e0d0c0b0a0908);
    cr_assert(!w.failed);
    for (uint8_t i = 0; i < sizeof(bytes); i++)
        cr_assert_eq(bytes[i], i + 1);
    struct reader r = reader_make(bytes, sizeof(bytes));
    cr_assert_eq(read_u8(&r), 0x01);
    cr_assert_eq(read_u16(&r), 0x0302);
    cr_assert_eq(read_u32(&r), 0x07060504);
    cr_assert_eq(read_u64(&r), 0x0f0e0d0c0b0a0908);
    cr_assert(reader_is_done(&r));
}

Test(cursor, a_reader_that_failed_stays_failed_and_reads_zeros)
{
    const uint8_t bytes[] = {0xff, 0xff, 0xff};
    struct reader r = reader_make(bytes, sizeof(bytes));
    cr_assert_eq(read_u32(&r), 0);
    cr_assert(r.failed);
    cr_assert_eq(reader_remaining(&r), 0);
    cr_assert_eq(read_u8(&r), 0, "three bytes would still be there");
    cr_assert_eq(read_varint(&r), 0);
    cr_assert_eq(read_string(&r).len, 0);
    cr_assert_null(read_bytes(&r, 0));
    cr_assert_not(reader_is_done(&r));
}

Test(cursor, what_is_left_over_is_not_done)
{
    const uint8_t bytes[] = {1, 2};
    struct reader r = reader_make(bytes, sizeof(bytes));
    read_u8(&r);
    cr_assert_not(reader_is_done(&r));
    cr_assert_eq(reader_remaining(&r), 1);
}

Test(cursor, a_length_near_the_top_of_size_t_does_not_wrap)
{
    const uint8_t bytes[8] = {0};
    struct reader r = reader_make(bytes, sizeof(bytes));
    cr_assert_null(read_bytes(&r, SIZE_MAX));
    struct writer w = writer_make((uint8_t[8]){0}, 8);
    write_bytes(&w, bytes, SIZE_MAX);
    cr_assert(w.failed);
}

static uint32_t varint_bytes(uint64_t value)
{
    uint32_t bytes = 1;
    while (value >>= 7)
        bytes++;
    return bytes;
}

Test(cursor, varints_round_trip_at_every_width)
{
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t top = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
        for (uint64_t value = top - (bits > 1); value <= top && value >= top - (bits > 1);
             value++) {
            uint8_t bytes[10];
            struct writer w = writer_make(bytes, sizeof(bytes));
            write_varint(&w, value);
            cr_assert_not(w.failed);
            cr_assert_eq(writer_length(&w), varint_bytes(value));
            struct reader r = reader_make(bytes, writer_length(&w));
            cr_assert_eq(read_varint(&r), value);
            cr_assert(reader_is_done(&r));
            if (value == UINT64_MAX)
                break;
        }
    }
}

Test(cursor, zigzag_keeps_small_magnitudes_small)
{
    static const struct {
        int64_t value;
        uint8_t first;
        uint32_t len;
    } cases[] = {{0, 0, 1},
                 {-1, 1, 1},
                 {1, 2, 1},
                 {-64, 127, 1},
                 {64, 0x80, 2},
                 {INT64_MAX, 0xfe, 10},
                 {INT64_MIN, 0xff, 10}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t bytes[10];
        struct writer w = writer_make(bytes, sizeof(bytes));
        write_zigzag(&w, cases[i].value);
        cr_assert_eq(writer_length(&w), cases[i].len);
        cr_assert_eq(bytes[0], cases[i].first);
        struct reader r = reader_make(bytes, cases[i].len);
        cr_assert_eq(read_zigzag(&r), cases[i].value);
    }
}

Test(cursor, overlong_and_too_large_varints_fail)
{
    static const struct {
        uint8_t bytes[11];
        size_t len;
    } cases[] = {
        {{0x80, 0x00}, 2},
        {{0x81, 0x80, 0x00}, 3},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00}, 10},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, 10},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00}, 11},
        {{0x80}, 1},
        {{0}, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct reader r = reader_make(cases[i].bytes, cases[i].len);
        cr_assert_eq(read_varint(&r), 0);
        cr_assert(r.failed, "case %zu", i);
    }
}

Test(cursor, a_count_must_fit_into_what_remains)
{
    const uint8_t bytes[24] = {0};
    struct reader r = reader_make(bytes, sizeof(bytes));
    cr_assert_eq(read_count(&r, 3, 8), 3);
    cr_assert_eq(read_count(&r, 24, 1), 24);
    cr_assert_not(r.failed);
    cr_assert_eq(read_count(&r, 4, 8), 0);
    cr_assert(r.failed);
    r = reader_make(bytes, sizeof(bytes));
    cr_assert_eq(read_count(&r, UINT32_MAX, 8), 0);
    cr_assert(r.failed);
    r = reader_make(bytes, sizeof(bytes));
    cr_assert_eq(read_count(&r, 0x20000001, 8), 0, "8 bytes, if it were computed in 32 bits");
    cr_assert(r.failed);
}

Test(cursor, strings_round_trip_and_fail_when_cut)
{
    uint8_t bytes[16];
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_text(&w, "orders");
    write_text(&w, "");
    uint32_t len = writer_length(&w);
    cr_assert_eq(len, 10);
    struct reader r = reader_make(bytes, len);
    cr_assert(slice_equals(read_string(&r), slice_of_text("orders")));
    cr_assert_eq(read_string(&r).len, 0);
    cr_assert(reader_is_done(&r));
    for (uint32_t cut = 0; cut < 8; cut++) {
        r = reader_make(bytes, cut);
        struct slice s = read_string(&r);
        cr_assert(r.failed);
        cr_assert_eq(s.len, 0);
        cr_assert_null(s.bytes);
    }
}

Test(cursor, a_string_above_65535_bytes_fails_to_be_written)
{
    uint8_t *bytes = malloc(1 << 18);
    uint8_t *longest = calloc(1, 65536);
    struct writer w = writer_make(bytes, 1 << 18);
    write_string(&w, (struct slice){longest, 65535});
    cr_assert_not(w.failed);
    cr_assert_eq(writer_length(&w), 65537);
    write_string(&w, (struct slice){longest, 65536});
    cr_assert(w.failed);
    free(longest);
    free(bytes);
}

Test(cursor, a_full_writer_writes_nothing_further)
{
    uint8_t bytes[4] = {0, 0, 0, 0xee};
    struct writer w = writer_make(bytes, 3);
    write_u16(&w, 0x0201);
    write_u16(&w, 0x0403);
    cr_assert(w.failed);
    write_u8(&w, 5);
    cr_assert_eq(writer_length(&w), 2);
    cr_assert_eq(bytes[2], 0);
    cr_assert_eq(bytes[3], 0xee);
}

Test(cursor, slices_are_equal_by_bytes)
{
    cr_assert(slice_equals(slice_of_text("a"), slice_of_text("a")));
    cr_assert_not(slice_equals(slice_of_text("a"), slice_of_text("b")));
    cr_assert_not(slice_equals(slice_of_text("a"), slice_of_text("ab")));
    cr_assert(slice_equals(slice_of_text(""), (struct slice){NULL, 0}));
}

static bool is_utf8(const char *bytes, uint32_t len)
{
    uint8_t *copy = malloc(len + !len); // of exactly this size: ASan sees a byte too far
    memcpy(copy, bytes, len);
    bool result = slice_is_utf8((struct slice){copy, len});
    free(copy);
    return result;
}

Test(utf8, borders_of_the_table_of_well_formed_sequences_pass)
{
    static const char *const good[] = {
        "",
        "plain",
        "\x01\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xec\xbf\xbf",
        "\xed\x80\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf3\xbf\xbf\xbf",
        "\xf4\x8f\xbf\xbf",
    };
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        cr_assert(is_utf8(good[i], (uint32_t)strlen(good[i])), "case %zu", i);
}

Test(utf8, what_the_table_does_not_have_is_refused)
{
    static const char *const bad[] = {
        "\x80",             // continuation without a start
        "\xbf",             //
        "\xc0\x80",         // overlong NUL
        "\xc1\xbf",         // overlong DEL
        "\xc2",             // cut
        "\xc2\x7f",         // no continuation
        "\xc2\xc0",         //
        "\xe0\x9f\xbf",     // overlong
        "\xe1\x80",         // cut
        "\xe1\x80\x7f",     //
        "\xed\xa0\x80",     // surrogate D800
        "\xed\xbf\xbf",     // surrogate DFFF
        "\xf0\x8f\xbf\xbf", // overlong
        "\xf1\x80\x80",     // cut
        "\xf1\x80\x80\xc0", //
        "\xf4\x90\x80\x80", // above U+10FFFF
        "\xf5\x80\x80\x80", //
        "\xff",             //
        "good until\xfe",   //
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_not(is_utf8(bad[i], (uint32_t)strlen(bad[i])), "case %zu", i);
    cr_assert_not(is_utf8("a\0b", 3), "NUL");
}

/* Every code point is encoded by a second, simple encoder; each surrogate's encoding is refused. */
Test(utf8, all_code_points_pass_and_surrogates_do_not)
{
    for (uint32_t c = 1; c <= 0x10ffff; c++) {
        uint8_t b[4];
        uint32_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
        for (uint32_t i = n - 1; i > 0; i--)
            b[i] = (uint8_t)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
        b[0] = (uint8_t)(lead[n] | c >> (6 * (n - 1)));
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        cr_assert_eq(slice_is_utf8((struct slice){b, n}), !surrogate, "U+%04X", c);
    }
}
