/* base/log_format.h: what a line looks like, also when it is too long or holds anything at all. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log_format.h"
#include "base/random.h"

#define WALL_MS 1795218286123u // 2026-11-20T23:44:46.123Z

static char text[LOG_LINE_MAX + 1];

static const char *format_line(enum log_format format, const struct log_line *line)
{
    memset(text, '#', sizeof(text));
    size_t len = log_format_line(format, line, text);
    cr_assert(len > 0 && len <= LOG_LINE_MAX);
    cr_assert_eq(text[len - 1], '\n');
    cr_assert_eq(text[LOG_LINE_MAX], '#', "wrote behind the buffer");
    text[len] = '\0';
    return text;
}

static const char *format_fields(enum log_format format, const struct log_field *fields,
                                 size_t count)
{
    return format_line(format, &(struct log_line){
                                   .level = LOG_LEVEL_WARN,
                                   .wall_ms = WALL_MS,
                                   .event = "wal.sync_slow",
                                   .fields = fields,
                                   .field_count = count,
                               });
}

#define TEXT(...)                                                                                  \
    format_fields(LOG_FORMAT_TEXT, (struct log_field[]){__VA_ARGS__},                              \
                  sizeof((struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))
#define JSON(...)                                                                                  \
    format_fields(LOG_FORMAT_JSON, (struct log_field[]){__VA_ARGS__},                              \
                  sizeof((struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#define TEXT_HEAD "2026-11-20T23:44:46.123Z WARN wal.sync_slow "
#define JSON_HEAD                                                                                  \
    "{\"time\":\"2026-11-20T23:44:46.123Z\",\"level\":\"warn\",\"event\":\"wal.sync_slow\","

/* ---- a strict reader of one JSON line, to say whether it is well-formed ---- */

static const char *json_string(const char *at)
{
    if (*at++ != '"')
        return NULL;
    while (*at != '"') {
        unsigned char c = (unsigned char)*at++;
        if (c < 0x20)
            return NULL;
        if (c != '\\')
            continue;
        c = (unsigned char)*at++;
        if (c == 'u') {
            if (strspn(at, "0123456789abcdefABCDEF") < 4)
                return NULL;
            at += 4;
        } else if (strchr("\"\\/bfnrt", c) == NULL || c == '\0') {
            return NULL;
        }
    }
    return at + 1;
}

static const char *json_value(const char *at)
{
    if (*at == '"')
        return json_string(at);
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (strncmp(at, words[i], strlen(words[i])) == 0)
            return at + strlen(words[i]);
    }
    char *end;
    strtod(at, &end);
    return end > at && (*at == '-' || (*at >= '0' && *at <= '9')) ? end : NULL;
}

static bool is_json_object_line(const char *at)
{
    if (*at != '{')
        return false;
    do {
        at = json_string(at + 1);
        if (at == NULL || *at != ':')
            return false;
        at = json_value(at + 1);
        if (at == NULL)
            return false;
    } while (*at == ',');
    return strcmp(at, "}\n") == 0;
}

/* Of text: no raw control character but the newline at the end. */
static bool is_one_clean_line(const char *line)
{
    size_t len = strlen(line);
    for (size_t i = 0; i + 1 < len; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            return false;
    }
    return len > 0 && line[len - 1] == '\n';
}

static bool is_utf8(const char *bytes)
{
    for (const unsigned char *at = (const unsigned char *)bytes; *at != '\0';) {
        int more = *at < 0x80 ? 0 : *at >= 0xf0 ? 3 : *at >= 0xe0 ? 2 : *at >= 0xc2 ? 1 : -1;
        if (more < 0 || *at > 0xf4)
            return false;
        for (at++; more > 0; more--, at++) {
            if ((*at & 0xc0) != 0x80)
                return false;
        }
    }
    return true;
}

/* ---- the looks ---- */

Test(log_format, text_is_key_equals_value)
{
    cr_assert_str_eq(
        TEXT(LOG_U64("shard", 0), LOG_U64("took_us", 5200), LOG_STR("file", "/d/1.wal")),
        TEXT_HEAD "shard=0 took_us=5200 file=/d/1.wal\n");
}

Test(log_format, json_is_one_object)
{
    cr_assert_str_eq(
        JSON(LOG_U64("shard", 0), LOG_U64("took_us", 5200), LOG_STR("file", "/d/1.wal")),
        JSON_HEAD "\"shard\":0,\"took_us\":5200,\"file\":\"/d/1.wal\"}\n");
}

Test(log_format, a_line_without_fields_is_complete)
{
    cr_assert_str_eq(format_fields(LOG_FORMAT_TEXT, NULL, 0),
                     "2026-11-20T23:44:46.123Z WARN wal.sync_slow\n");
    cr_assert(is_json_object_line(format_fields(LOG_FORMAT_JSON, NULL, 0)));
}

Test(log_format, levels_have_names)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    for (int level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_ERROR; level++) {
        struct log_line line = {.level = (enum log_level)level, .event = "a.b"};
        char expected[64];
        snprintf(expected, sizeof(expected), "1970-01-01T00:00:00.000Z %s a.b\n", names[level]);
        cr_assert_str_eq(format_line(LOG_FORMAT_TEXT, &line), expected);
    }
}

Test(log_format, every_kind_of_field_in_text)
{
    cr_assert_str_eq(TEXT(LOG_U64("u", UINT64_MAX), LOG_I64("i", INT64_MIN), LOG_HEX("h", 0xabc),
                          LOG_STR("s", "x"), LOG_BOOL("t", true), LOG_BOOL("f", false),
                          LOG_F64("d", 0.25), LOG_F64("n", NAN), LOG_STR("null", NULL)),
                     TEXT_HEAD "u=18446744073709551615 i=-9223372036854775808 h=0xabc s=x t=true "
                               "f=false d=0.25 n=nan null=-\n");
}

Test(log_format, every_kind_of_field_in_json)
{
    const char *line = JSON(LOG_U64("u", UINT64_MAX), LOG_I64("i", INT64_MIN), LOG_HEX("h", 0xabc),
                            LOG_STR("s", "x"), LOG_BOOL("t", true), LOG_BOOL("f", false),
                            LOG_F64("d", 0.25), LOG_F64("n", INFINITY), LOG_STR("null", NULL));
    cr_assert_str_eq(line, JSON_HEAD "\"u\":18446744073709551615,\"i\":-9223372036854775808,"
                                     "\"h\":\"0xabc\",\"s\":\"x\",\"t\":true,\"f\":false,"
                                     "\"d\":0.25,\"n\":null,\"null\":null}\n");
    cr_assert(is_json_object_line(line));
}

Test(log_format, suppressed_lines_are_told)
{
    struct log_line line = {.event = "a.b", .suppressed = 7};
    cr_assert_str_eq(format_line(LOG_FORMAT_TEXT, &line),
                     "1970-01-01T00:00:00.000Z DEBUG a.b suppressed=7\n");
    cr_assert_str_eq(format_line(LOG_FORMAT_JSON, &line),
                     "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"debug\",\"event\":\"a.b\","
                     "\"suppressed\":7}\n");
}

/* ---- anything in a string ---- */

Test(log_format, text_quotes_what_a_reader_would_split_at)
{
    cr_assert_str_eq(TEXT(LOG_STR("a", "")), TEXT_HEAD "a=\"\"\n");
    cr_assert_str_eq(TEXT(LOG_STR("a", "b c")), TEXT_HEAD "a=\"b c\"\n");
    cr_assert_str_eq(TEXT(LOG_STR("a", "b=c")), TEXT_HEAD "a=\"b=c\"\n");
    cr_assert_str_eq(TEXT(LOG_STR("a", "b\"c")), TEXT_HEAD "a=\"b\\\"c\"\n");
    cr_assert_str_eq(TEXT(LOG_STR("a", "b\\c")), TEXT_HEAD "a=\"b\\\\c\"\n");
}

Test(log_format, control_characters_are_escaped)
{
    cr_assert_str_eq(TEXT(LOG_STR("a", "\n\r\t\x01\x1b[2J\x7f")),
                     TEXT_HEAD "a=\"\\n\\r\\t\\x01\\x1b[2J\\x7f\"\n");
    cr_assert_str_eq(JSON(LOG_STR("a", "\n\r\t\x01\x1b[2J\x7f")),
                     JSON_HEAD "\"a\":\"\\n\\r\\t\\u0001\\u001b[2J\\u007f\"}\n");
    cr_assert_str_eq(TEXT(LOG_STR("a", "\xc2\x9b"
                                       "2J")),
                     TEXT_HEAD "a=\"\\u009b2J\"\n");
}

Test(log_format, utf8_is_passed_on)
{
    cr_assert_str_eq(TEXT(LOG_STR("a", "größer ✓ 😀")), TEXT_HEAD "a=\"größer ✓ 😀\"\n");
    cr_assert_str_eq(JSON(LOG_STR("a", "größer ✓ 😀")), JSON_HEAD "\"a\":\"größer ✓ 😀\"}\n");
}

Test(log_format, bytes_that_are_no_utf8_are_escaped)
{
    static const struct {
        const char *bytes, *text, *json;
    } cases[] = {
        {"a\xffz", "a\\xffz", "a\\ufffdz"},
        {"\x80", "\\x80", "\\ufffd"},
        {"\xc3", "\\xc3", "\\ufffd"},
        {"\xc0\xaf", "\\xc0\\xaf", "\\ufffd\\ufffd"},
        {"\xe0\x80\x80", "\\xe0\\x80\\x80", "\\ufffd\\ufffd\\ufffd"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80", "\\ufffd\\ufffd\\ufffd"},
        {"\xf0\x80\x80\x80", "\\xf0\\x80\\x80\\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {"\xe2\x9c", "\\xe2\\x9c", "\\ufffd\\ufffd"},
    };
    char expected[256];
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        snprintf(expected, sizeof(expected), TEXT_HEAD "a=\"%s\"\n", cases[i].text);
        cr_assert_str_eq(TEXT(LOG_STR("a", cases[i].bytes)), expected);
        snprintf(expected, sizeof(expected), JSON_HEAD "\"a\":\"%s\"}\n", cases[i].json);
        cr_assert_str_eq(JSON(LOG_STR("a", cases[i].bytes)), expected);
    }
}

/* ---- too long ---- */

Test(log_format, a_long_value_is_cut_and_the_line_says_so)
{
    char value[3000];
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    const char *line = TEXT(LOG_STR("a", value), LOG_U64("b", 1));
    size_t len = strlen(line);
    cr_assert_geq(len, LOG_LINE_MAX - 64);
    cr_assert_str_eq(line + len - 6, "\" ...\n");
    line = JSON(LOG_STR("a", value), LOG_U64("b", 1));
    cr_assert(is_json_object_line(line));
    cr_assert_not_null(strstr(line, "xxx\",\"truncated\":true}\n"));
}

Test(log_format, a_cut_line_still_tells_what_was_suppressed)
{
    char value[3000];
    memset(value, '\x01', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    struct log_line line = {
        .event = "a.b",
        .fields = &LOG_STR("k", value),
        .field_count = 1,
        .suppressed = UINT32_MAX,
    };
    cr_assert_not_null(strstr(format_line(LOG_FORMAT_TEXT, &line), " suppressed=4294967295 ...\n"));
    const char *json = format_line(LOG_FORMAT_JSON, &line);
    cr_assert(is_json_object_line(json));
    cr_assert_not_null(strstr(json, ",\"suppressed\":4294967295,\"truncated\":true}\n"));
}

Test(log_format, a_long_event_or_key_is_cut_too)
{
    char name[3000];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct log_line line = {.event = name, .fields = &LOG_U64("k", 1), .field_count = 1};
    cr_assert(is_json_object_line(format_line(LOG_FORMAT_JSON, &line)));
    cr_assert(is_one_clean_line(format_line(LOG_FORMAT_TEXT, &line)));
    cr_assert(is_json_object_line(JSON(LOG_U64(name, 1))));
    cr_assert(is_one_clean_line(TEXT(LOG_U64(name, 1))));
}

/* The boundary: a first field that grows byte by byte pushes others of each kind over the edge. */
Test(log_format, a_line_of_any_length_is_well_formed)
{
    static const char *const units[] = {"x", "\"", "\x01", "\xff", "é", "😀", " "};
    static char value[2 * LOG_LINE_MAX];
    for (size_t unit = 0; unit < ARRAY_COUNT(units); unit++) {
        value[0] = '\0';
        for (size_t len = 0; len < 1100; len += strlen(units[unit])) {
            strcat(value, units[unit]);
            const char *line = JSON(LOG_STR("a", value), LOG_STR("b", "q r"), LOG_U64("c", 99),
                                    LOG_STR("d", NULL), LOG_HEX("e", 17));
            cr_assert(is_json_object_line(line), "%s", line);
            cr_assert(is_utf8(line));
            bool complete = strstr(line, "\"e\":\"0x11\"}") != NULL;
            cr_assert_neq(complete, strstr(line, "\"truncated\":true}") != NULL, "%s", line);
            line = TEXT(LOG_STR("a", value), LOG_STR("b", "q r"), LOG_U64("c", 99),
                        LOG_STR("d", NULL), LOG_HEX("e", 17));
            cr_assert(is_one_clean_line(line), "%s", line);
            cr_assert(is_utf8(line));
            complete = strstr(line, " e=0x11\n") != NULL;
            cr_assert_neq(complete, strstr(line, " ...\n") != NULL, "%s", line);
        }
    }
}

Test(log_format, random_bytes_make_well_formed_lines)
{
    struct random random;
    random_init(&random, 1);
    char value[1200];
    for (int round = 0; round < 3000; round++) {
        size_t len = random_below(&random, sizeof(value));
        for (size_t i = 0; i < len; i++)
            value[i] = (char)random_u32(&random);
        value[len] = '\0';
        const char *line = JSON(LOG_STR("a", value), LOG_I64("b", -1), LOG_STR("c", value));
        cr_assert(is_json_object_line(line), "%s", line);
        cr_assert(is_utf8(line));
        line = TEXT(LOG_STR("a", value), LOG_I64("b", -1), LOG_STR("c", value));
        cr_assert(is_one_clean_line(line), "%s", line);
        cr_assert(is_utf8(line));
    }
}
