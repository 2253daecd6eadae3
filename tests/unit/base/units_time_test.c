/* base/units.h: RFC 3339. */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "base/status.h"
#include "base/units.h"

static void assert_time(const char *text, uint64_t expected)
{
    uint64_t value = 0;
    cr_assert_eq(units_parse_time(text, &value), 0, "\"%s\" was refused", text);
    cr_assert_eq(value, expected, "\"%s\" gave %llu", text, (unsigned long long)value);
}

Test(units_time, digits_are_milliseconds)
{
    assert_time("0", 0);
    assert_time("1795218286500", 1795218286500);
    assert_time("18446744073709551615", UINT64_MAX);
}

Test(units_time, dates_with_fractions_and_offsets)
{
    assert_time("1970-01-01T00:00:00Z", 0);
    assert_time("2026-11-20T23:44:46Z", 1795218286000);
    assert_time("2026-11-20T23:44:46.5Z", 1795218286500);
    assert_time("2026-11-20t23:44:46.123z", 1795218286123);
    assert_time("2026-11-20T23:44:46.123999999Z", 1795218286123);
    assert_time("2026-11-20T23:44:46.000000000000000000001Z", 1795218286000);
    assert_time("2026-11-21T01:44:46+02:00", 1795218286000);
    assert_time("2026-11-20T20:14:46.25-03:30", 1795218286250);
    assert_time("1969-12-31T23:00:00-01:00", 0);
    assert_time("2000-02-29T00:00:00Z", 951782400000);
    assert_time("2016-12-31T23:59:60Z", 1483228800000);
    assert_time("9999-12-31T23:59:59.999Z", 253402300799999);
}

Test(units_time, what_is_no_date_is_refused)
{
    static const char *const wrong[] = {
        "",
        "now",
        "-1",
        "2026",
        "2026-11-20",
        "2026-11-20T23:44",
        "2026-11-20T23:44:46",
        "2026-11-20 23:44:46Z",
        "2026-11-20T23:44:46.Z",
        "2026-11-20T23:44:46,5Z",
        "2026-11-20T23:44:46+0200",
        "2026-11-20T23:44:46+24:00",
        "2026-11-20T23:44:46+02:60",
        "2026-11-20T23:44:46+02",
        "2026-11-20T23:44:46Zx",
        "2026-11-20T23:44:46 Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T23:60:00Z",
        "2026-11-20T23:44:60Z",
        "2026-11-20T23:59:61Z",
        "2026-00-20T23:44:46Z",
        "2026-13-20T23:44:46Z",
        "2026-11-00T23:44:46Z",
        "2026-11-31T23:44:46Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "26-11-20T23:44:46Z",
        "+2026-11-20T23:44:46Z",
        "2026-1-20T23:44:46Z",
        "2026-11-20T3:44:46Z",
    };
    uint64_t value;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        int status = units_parse_time(wrong[i], &value);
        bool digits = wrong[i][0] == '2' && wrong[i][4] == '\0'; // "2026" is a number
        cr_assert_eq(status, digits ? 0 : E_INVALID, "\"%s\"", wrong[i]);
    }
}

Test(units_time, every_cut_of_a_date_is_refused)
{
    static const char whole[] = "2026-11-20T23:44:46.123+02:00";
    char cut[sizeof(whole)];
    uint64_t value;
    for (size_t len = 5; len < sizeof(whole) - 1; len++) {
        memcpy(cut, whole, len);
        cut[len] = '\0';
        cr_assert_eq(units_parse_time(cut, &value), E_INVALID, "\"%s\"", cut);
    }
}

Test(units_time, is_shown_in_utc_with_milliseconds)
{
    char text[UNITS_TEXT_MAX];
    cr_assert_str_eq(units_format_time(0, text), "1970-01-01T00:00:00.000Z");
    cr_assert_str_eq(units_format_time(1795218286123, text), "2026-11-20T23:44:46.123Z");
    cr_assert_str_eq(units_format_time(951782400000, text), "2000-02-29T00:00:00.000Z");
    cr_assert_str_eq(units_format_time(253402300799999, text), "9999-12-31T23:59:59.999Z");
}

Test(units_time, a_time_without_a_date_is_shown_as_its_number)
{
    char text[UNITS_TEXT_MAX];
    cr_assert_str_eq(units_format_time(253402300800000, text), "253402300800000");
    cr_assert_str_eq(units_format_time(UINT64_MAX, text), "18446744073709551615");
}

/* The model is the C library's calendar, over every day that has a date. */
Test(units_time, agrees_with_the_system_calendar_on_every_day)
{
    char text[UNITS_TEXT_MAX], expected[64];
    struct random random;
    random_init(&random, 1);
    for (uint64_t day = 0; day < 2932897; day++) {
        uint64_t ms = day * 86400000 + random_below(&random, 86400000);
        units_format_time(ms, text);
        if (day % 16 == 0 || day % 365 < 2) {
            time_t seconds = (time_t)(ms / 1000);
            struct tm tm;
            gmtime_r(&seconds, &tm);
            size_t len = strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S", &tm);
            snprintf(expected + len, sizeof(expected) - len, ".%03uZ", (unsigned)(ms % 1000));
            cr_assert_str_eq(text, expected);
        }
        uint64_t back;
        if (units_parse_time(text, &back) != 0 || back != ms)
            cr_assert_fail("%s does not read back as %llu", text, (unsigned long long)ms);
    }
}
