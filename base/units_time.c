/* Dates as RFC 3339 writes them, to and from milliseconds since 1970.
 *
 * Gregorian rules are computed here: gmtime() and timegm() depend on the zone database and take
 * locks. Years 1970 to 9999 have a text; a later time (a record's timestamp may be any number) is
 * shown as its number, which units_parse_time() reads as well. Digits of a fraction behind the
 * millisecond are cut off. A leap second, 23:59:60, is the first second of the next day. */
#include "base/units.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/status.h"

#define MS_PER_S 1000
#define S_PER_DAY 86400
#define DAYS_PER_400_YEARS 146097
#define YEAR_MAX 9999

struct date {
    int64_t year;
    int64_t month; // 1..12
    int64_t day;   // 1..31
};

static const char *parse_date(const char *text, int64_t *days);
static const char *parse_time_of_day(const char *text, int64_t *seconds);
static const char *parse_fraction(const char *text, int64_t *ms);
static const char *parse_offset(const char *text, int64_t *seconds);
static const char *parse_number(const char *text, int digits, int64_t min, int64_t max,
                                int64_t *value);
static const char *expect(const char *text, char lower_case);
static int64_t days_in_month(int64_t year, int64_t month);
static int64_t days_from_date(struct date date);
static struct date date_from_days(int64_t days);

int units_parse_time(const char *text, uint64_t *epoch_ms)
{
    if (units_parse_u64(text, epoch_ms) == 0)
        return 0;
    int64_t days, seconds, ms, offset;
    const char *at = parse_date(text, &days);
    at = expect(at, 't');
    at = parse_time_of_day(at, &seconds);
    at = parse_fraction(at, &ms);
    at = parse_offset(at, &offset);
    if (at == NULL || *at != '\0')
        return E_INVALID;
    int64_t total = (days * S_PER_DAY + seconds - offset) * MS_PER_S + ms;
    if (total < 0)
        return E_INVALID;
    *epoch_ms = (uint64_t)total;
    return 0;
}

char *units_format_time(uint64_t epoch_ms, char *text)
{
    uint64_t second = epoch_ms / MS_PER_S % S_PER_DAY;
    struct date date = date_from_days((int64_t)(epoch_ms / MS_PER_S / S_PER_DAY));
    if (date.year > YEAR_MAX)
        snprintf(text, UNITS_TEXT_MAX, "%" PRIu64, epoch_ms);
    else
        snprintf(text, UNITS_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)date.year,
                 (unsigned)date.month, (unsigned)date.day, (unsigned)(second / 3600),
                 (unsigned)(second / 60 % 60), (unsigned)(second % 60),
                 (unsigned)(epoch_ms % MS_PER_S));
    return text;
}

/* Each step takes what is left of the text and gives what is left after it; NULL, once something was
 * wrong, goes through to the end. */
static const char *parse_date(const char *text, int64_t *days)
{
    struct date date;
    text = parse_number(text, 4, 1969, YEAR_MAX, &date.year); // 1969: with an offset it may be 1970
    text = parse_number(expect(text, '-'), 2, 1, 12, &date.month);
    text = parse_number(expect(text, '-'), 2, 1, 31, &date.day);
    if (text == NULL || date.day > days_in_month(date.year, date.month))
        return NULL;
    *days = days_from_date(date);
    return text;
}

static const char *parse_time_of_day(const char *text, int64_t *seconds)
{
    int64_t hour, minute, second;
    text = parse_number(text, 2, 0, 23, &hour);
    text = parse_number(expect(text, ':'), 2, 0, 59, &minute);
    text = parse_number(expect(text, ':'), 2, 0, 60, &second);
    if (text == NULL || (second == 60 && minute != 59))
        return NULL;
    *seconds = hour * 3600 + minute * 60 + second;
    return text;
}

static const char *parse_fraction(const char *text, int64_t *ms)
{
    *ms = 0;
    if (text == NULL || *text != '.')
        return text;
    const char *at = text + 1;
    int64_t weight = 100;
    for (; *at >= '0' && *at <= '9'; at++) {
        *ms += (*at - '0') * weight;
        weight /= 10;
    }
    return at > text + 1 ? at : NULL;
}

static const char *parse_offset(const char *text, int64_t *seconds)
{
    *seconds = 0;
    if (text == NULL || *text == 'Z' || *text == 'z')
        return expect(text, 'z');
    if (*text != '+' && *text != '-')
        return NULL;
    bool west = *text == '-';
    int64_t hours, minutes;
    text = parse_number(text + 1, 2, 0, 23, &hours);
    text = parse_number(expect(text, ':'), 2, 0, 59, &minutes);
    if (text != NULL)
        *seconds = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return text;
}

static const char *parse_number(const char *text, int digits, int64_t min, int64_t max,
                                int64_t *value)
{
    *value = 0;
    if (text == NULL)
        return NULL;
    for (int i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9')
            return NULL;
        *value = *value * 10 + (text[i] - '0');
    }
    return *value >= min && *value <= max ? text + digits : NULL;
}

/* One given character; letters in either case. */
static const char *expect(const char *text, char lower_case)
{
    if (text == NULL)
        return NULL;
    bool letter = lower_case >= 'a' && lower_case <= 'z';
    char c = letter ? (char)(*text | 0x20) : *text;
    return c == lower_case ? text + 1 : NULL;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Years are counted from 1 March 0000, so that a leap day is the last day of its year and a month's
 * first day is a linear function of its number. 719468 days lie between that day and 1970. */
#define DAYS_TO_1970 719468

static int64_t days_from_date(struct date date)
{
    int64_t year = date.month <= 2 ? date.year - 1 : date.year;
    int64_t month = (date.month + 9) % 12; // March is 0
    int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;
    return year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_TO_1970;
}

static struct date date_from_days(int64_t days)
{
    days += DAYS_TO_1970;
    int64_t era = days / DAYS_PER_400_YEARS;
    int64_t day_of_era = days % DAYS_PER_400_YEARS;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153; // March is 0
    struct date date = {
        .year = era * 400 + year_of_era + (month >= 10 ? 1 : 0),
        .month = month < 10 ? month + 3 : month - 9,
        .day = day_of_year - (153 * month + 2) / 5 + 1,
    };
    return date;
}
