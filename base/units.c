/* Sizes and durations: digits and a suffix from a table.
 *
 * Reading is strict: no sign, no blanks, no fractions, exact case, no overflow, nothing behind the
 * suffix. Whoever shows the error knows the key and the allowed range; here it is only INVALID. */
#include "base/units.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Largest first, which is how they are chosen for printing; the first row of each table with factor 1
 * is also what plain digits mean. */
static const struct unit size_units[] = {
    {"TiB", 1024 * GIB}, {"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"B", 1},
};
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

static int parse(const char *text, const struct unit *units, size_t unit_count, uint64_t *result);
static const char *parse_digits(const char *text, uint64_t *value);
static uint64_t tenths_of(uint64_t value, uint64_t factor);

int units_parse_size(const char *text, uint64_t *bytes)
{
    return parse(text, size_units, ARRAY_COUNT(size_units), bytes);
}

int units_parse_duration(const char *text, uint64_t *ms)
{
    return parse(text, duration_units, ARRAY_COUNT(duration_units), ms);
}

int units_parse_u64(const char *text, uint64_t *value)
{
    uint64_t parsed;
    const char *end = parse_digits(text, &parsed);
    if (end == NULL || *end != '\0')
        return E_INVALID;
    *value = parsed;
    return 0;
}

/* The largest unit that is not larger than the value; one decimal where it doesn't divide. What
 * would round to 1024.0 of one unit is 1.0 of the next. */
char *units_format_size(uint64_t bytes, char *text)
{
    const struct unit *unit = size_units;
    while (unit->factor > 1 && bytes < unit->factor)
        unit++;
    bool exact = bytes % unit->factor == 0;
    if (!exact && unit > size_units && tenths_of(bytes, unit->factor) >= 10240)
        unit--;
    uint64_t tenths = tenths_of(bytes, unit->factor);
    if (exact)
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 "%s", bytes / unit->factor, unit->suffix);
    else
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 ".%u%s", tenths / 10, (unsigned)(tenths % 10),
                 unit->suffix);
    return text;
}

/* The largest unit in which at most one decimal tells the value exactly: durations are settings, and
 * a setting must not be shown rounded. */
char *units_format_duration(uint64_t ms, char *text)
{
    const struct unit *unit = duration_units;
    while (unit->factor > 1 && (ms < unit->factor || ms % (unit->factor / 10) != 0))
        unit++;
    uint64_t rest = ms % unit->factor;
    if (rest == 0)
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 "%s", ms / unit->factor, unit->suffix);
    else
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 ".%u%s", ms / unit->factor,
                 (unsigned)(rest * 10 / unit->factor), unit->suffix);
    return text;
}

static int parse(const char *text, const struct unit *units, size_t unit_count, uint64_t *result)
{
    uint64_t value;
    const char *suffix = parse_digits(text, &value);
    if (suffix == NULL)
        return E_INVALID;
    for (size_t i = 0; i < unit_count; i++) {
        bool plain = *suffix == '\0' && units[i].factor == 1;
        if (!plain && strcmp(suffix, units[i].suffix) != 0)
            continue;
        return __builtin_mul_overflow(value, units[i].factor, result) ? E_INVALID : 0;
    }
    return E_INVALID;
}

/* The first byte after at least one digit, or NULL: no digit, or too large for 64 bits. */
static const char *parse_digits(const char *text, uint64_t *value)
{
    uint64_t sum = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum))
            return NULL;
    }
    *value = sum;
    return at > text ? at : NULL;
}

/* Rounded to the nearest; the remainder is below 2^40, so nothing overflows. */
static uint64_t tenths_of(uint64_t value, uint64_t factor)
{
    return value / factor * 10 + (value % factor * 10 + factor / 2) / factor;
}
