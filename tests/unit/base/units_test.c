/* base/units.h: sizes, durations, numbers. */
#include <criterion/criterion.h>

#include "base/status.h"
#include "base/units.h"

typedef int (*parse_fn)(const char *text, uint64_t *value);

static void assert_parses(parse_fn parse, const char *text, uint64_t expected)
{
    uint64_t value = ~expected;
    cr_assert_eq(parse(text, &value), 0, "\"%s\" was refused", text);
    cr_assert_eq(value, expected, "\"%s\" gave %llu", text, (unsigned long long)value);
}

static void assert_refused(parse_fn parse, const char *text)
{
    uint64_t value;
    cr_assert_eq(parse(text, &value), E_INVALID, "\"%s\" was accepted", text);
}

Test(units, sizes_take_every_suffix)
{
    assert_parses(units_parse_size, "0", 0);
    assert_parses(units_parse_size, "4096", 4096);
    assert_parses(units_parse_size, "17B", 17);
    assert_parses(units_parse_size, "64KiB", 64 * KIB);
    assert_parses(units_parse_size, "64MiB", 64 * MIB);
    assert_parses(units_parse_size, "4GiB", 4 * GIB);
    assert_parses(units_parse_size, "2TiB", 2048 * GIB);
    assert_parses(units_parse_size, "18446744073709551615", UINT64_MAX);
}

Test(units, sizes_are_strict)
{
    static const char *const wrong[] = {"",      " 1",      "1 ",   "-1",    "+1",    "1.5MiB",
                                        "MiB",   "1MB",     "1mib", "1 MiB", "1MiBx", "0x10",
                                        "1KiB ", "1KiBKiB", "1e3",  "1,000", "٣"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        assert_refused(units_parse_size, wrong[i]);
}

Test(units, sizes_that_overflow_are_refused)
{
    assert_refused(units_parse_size, "18446744073709551616");
    assert_refused(units_parse_size, "99999999999999999999999");
    assert_parses(units_parse_size, "16777215TiB", UINT64_C(16777215) << 40);
    assert_refused(units_parse_size, "16777216TiB");
    assert_refused(units_parse_size, "18014398509481984KiB");
}

Test(units, durations_take_every_suffix)
{
    assert_parses(units_parse_duration, "1500", 1500);
    assert_parses(units_parse_duration, "10ms", 10);
    assert_parses(units_parse_duration, "10s", 10000);
    assert_parses(units_parse_duration, "3m", 180000);
    assert_parses(units_parse_duration, "2h", 7200000);
    assert_parses(units_parse_duration, "7d", 604800000);
}

Test(units, durations_are_strict)
{
    static const char *const wrong[] = {"", "s", "1.5s", "-1s", "1 s", "1S", "1us", "1min", "1dd"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        assert_refused(units_parse_duration, wrong[i]);
    assert_refused(units_parse_duration, "18446744073709551615s");
}

Test(units, numbers_are_digits_only)
{
    assert_parses(units_parse_u64, "0", 0);
    assert_parses(units_parse_u64, "007", 7);
    assert_parses(units_parse_u64, "18446744073709551615", UINT64_MAX);
    assert_refused(units_parse_u64, "18446744073709551616");
    assert_refused(units_parse_u64, "");
    assert_refused(units_parse_u64, "-1");
    assert_refused(units_parse_u64, "1s");
    assert_refused(units_parse_u64, " 1");
}

Test(units, a_refused_text_leaves_the_number_alone)
{
    uint64_t value = 77;
    cr_assert_eq(units_parse_u64("12x", &value), E_INVALID);
    cr_assert_eq(value, 77);
}

Test(units, sizes_are_shown_in_the_largest_unit)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0B"},
        {1, "1B"},
        {1023, "1023B"},
        {1024, "1KiB"},
        {1025, "1.0KiB"},
        {1536, "1.5KiB"},
        {MIB - 1, "1.0MiB"},
        {64 * MIB, "64MiB"},
        {1395864371, "1.3GiB"},
        {2048 * GIB, "2TiB"},
        {UINT64_MAX, "16777216.0TiB"},
    };
    char text[UNITS_TEXT_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        cr_assert_str_eq(units_format_size(cases[i].bytes, text), cases[i].text);
}

Test(units, durations_are_shown_exactly)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {
        {0, "0ms"},
        {1, "1ms"},
        {999, "999ms"},
        {1000, "1s"},
        {1500, "1.5s"},
        {1501, "1501ms"},
        {60000, "1m"},
        {61000, "61s"},
        {90000, "1.5m"},
        {5400000, "1.5h"},
        {129600000, "1.5d"},
        {604800000, "7d"},
        {604800001, "604800001ms"},
    };
    char text[UNITS_TEXT_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        cr_assert_str_eq(units_format_duration(cases[i].ms, text), cases[i].text);
}
