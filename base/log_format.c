/* The look of a log line, in both formats.
 *
 * Fields may use all but the last LOG_TAIL_MAX bytes. Numbers go in whole or not at all; strings go
 * in unit by unit (a character or an escape), so a cut never tears one. After the first thing that
 * didn't fit nothing more is added but the tail, for which the room was kept: suppressed count, mark
 * of truncation, closing brace, newline.
 *
 * Strings come from anywhere, also from the network: control characters, quotes, and bytes that are
 * no UTF-8 are escaped, so a line is one line and a terminal is safe. */
#include "base/log_format.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"

/* The longest tail, to the byte: text has shorter ones. */
#define LOG_TAIL_MAX (sizeof(",\"suppressed\":4294967295,\"truncated\":true}\n") - 1)
#define LOG_UNIT_MAX 8 // longest escape with its NUL: \uXXXX

struct writer {
    char *text;
    size_t len;
    size_t limit; // text[limit..] is not ours yet
    bool json;
    bool truncated;
};

static void write_head(struct writer *writer, const struct log_line *line);
static void write_field(struct writer *writer, const struct log_field *field);
static void write_tail(struct writer *writer, uint32_t suppressed);
static void write_key(struct writer *writer, const char *key);
static void write_value(struct writer *writer, const struct log_field *field);
static void write_f64(struct writer *writer, double value);
static void write_str(struct writer *writer, const char *text);
static void write_quoted(struct writer *writer, const char *text);
static bool is_plain_word(const char *text);
static size_t next_unit(bool json, const char *text, char *unit);
static size_t utf8_len(const uint8_t *bytes);
static void add(struct writer *writer, const char *bytes, size_t len);
static void add_f(struct writer *writer, const char *format, ...) PRINTF_LIKE(2, 3);

size_t log_format_line(enum log_format format, const struct log_line *line, char *text)
{
    struct writer writer = {
        .text = text,
        .limit = LOG_LINE_MAX - LOG_TAIL_MAX,
        .json = format == LOG_FORMAT_JSON,
    };
    write_head(&writer, line);
    for (size_t i = 0; i < line->field_count && !writer.truncated; i++)
        write_field(&writer, &line->fields[i]);
    write_tail(&writer, line->suppressed);
    return writer.len;
}

static void write_head(struct writer *writer, const struct log_line *line)
{
    static const char *const upper[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    static const char *const lower[] = {"debug", "info", "warn", "error"};
    char time[UNITS_TEXT_MAX];
    units_format_time(line->wall_ms, time);
    if (writer->json) {
        add_f(writer, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":", time, lower[line->level]);
        write_quoted(writer, line->event);
    } else {
        add_f(writer, "%s %s ", time, upper[line->level]);
        write_str(writer, line->event);
    }
}

/* A key for whose value there is no room is taken back. */
static void write_field(struct writer *writer, const struct log_field *field)
{
    size_t before = writer->len;
    write_key(writer, field->key);
    size_t after_key = writer->len;
    if (!writer->truncated)
        write_value(writer, field);
    if (writer->truncated && writer->len <= after_key)
        writer->len = before;
}

static void write_tail(struct writer *writer, uint32_t suppressed)
{
    bool truncated = writer->truncated;
    writer->limit = LOG_LINE_MAX;
    writer->truncated = false;
    if (suppressed > 0)
        write_field(writer, &LOG_U64("suppressed", suppressed));
    if (truncated && writer->json)
        write_field(writer, &LOG_BOOL("truncated", true));
    if (truncated && !writer->json)
        add_f(writer, " ...");
    add_f(writer, writer->json ? "}\n" : "\n");
    ASSERT(!writer->truncated);
}

static void write_key(struct writer *writer, const char *key)
{
    if (writer->json) {
        add_f(writer, ",");
        write_quoted(writer, key);
        add_f(writer, ":");
    } else {
        add_f(writer, " ");
        write_str(writer, key);
        add_f(writer, "=");
    }
}

static void write_value(struct writer *writer, const struct log_field *field)
{
    switch (field->kind) {
    case LOG_FIELD_U64:
        add_f(writer, "%" PRIu64, field->u64);
        break;
    case LOG_FIELD_I64:
        add_f(writer, "%" PRId64, field->i64);
        break;
    case LOG_FIELD_HEX:
        add_f(writer, writer->json ? "\"0x%" PRIx64 "\"" : "0x%" PRIx64, field->u64);
        break;
    case LOG_FIELD_STR:
        write_str(writer, field->str);
        break;
    case LOG_FIELD_BOOL:
        add_f(writer, "%s", field->boolean ? "true" : "false");
        break;
    case LOG_FIELD_F64:
        write_f64(writer, field->f64);
        break;
    }
}

/* JSON has no word for what is not a number. */
static void write_f64(struct writer *writer, double value)
{
    if (writer->json && !isfinite(value))
        add_f(writer, "null");
    else
        add_f(writer, "%.6g", value);
}

static void write_str(struct writer *writer, const char *text)
{
    if (text == NULL)
        add_f(writer, writer->json ? "null" : "-");
    else if (!writer->json && is_plain_word(text) && writer->len + strlen(text) <= writer->limit)
        add(writer, text, strlen(text));
    else
        write_quoted(writer, text);
}

/* The closing quote has its place from the start. Too little room for any unit writes nothing. */
static void write_quoted(struct writer *writer, const char *text)
{
    size_t before = writer->len;
    if (writer->truncated || writer->len + 2 > writer->limit) {
        writer->truncated = true;
        return;
    }
    writer->limit--;
    add(writer, "\"", 1);
    const char *at = text;
    while (*at != '\0' && !writer->truncated) {
        char unit[LOG_UNIT_MAX];
        at += next_unit(writer->json, at, unit);
        add(writer, unit, strlen(unit));
    }
    writer->limit++;
    if (writer->truncated && writer->len == before + 1)
        writer->len = before;
    else
        writer->text[writer->len++] = '"';
}

/* In text a value without blanks, quotes and the like stands as it is. */
static bool is_plain_word(const char *text)
{
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return true;
}

/* The next character as it is written; returns how many bytes of text it took. Characters above
 * ASCII are passed on only if they are UTF-8 and not C1 controls, which terminals obey too. */
static size_t next_unit(bool json, const char *text, char *unit)
{
    uint8_t c = (uint8_t)*text;
    if (c == '"' || c == '\\') {
        snprintf(unit, LOG_UNIT_MAX, "\\%c", c);
        return 1;
    }
    if (c == '\n' || c == '\t' || c == '\r') {
        snprintf(unit, LOG_UNIT_MAX, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        return 1;
    }
    if (c < 0x20 || c == 0x7f) {
        snprintf(unit, LOG_UNIT_MAX, json ? "\\u%04x" : "\\x%02x", c);
        return 1;
    }
    size_t len = utf8_len((const uint8_t *)text);
    if (len == 0) {
        snprintf(unit, LOG_UNIT_MAX, json ? "\\ufffd" : "\\x%02x", c);
        return 1;
    }
    if (len == 2 && c == 0xc2 && (uint8_t)text[1] < 0xa0) {
        snprintf(unit, LOG_UNIT_MAX, "\\u%04x", (uint8_t)text[1]);
        return 2;
    }
    memcpy(unit, text, len);
    unit[len] = '\0';
    return len;
}

/* The length of the UTF-8 character that starts here, or 0: overlong forms, surrogates and numbers
 * above U+10FFFF are none. Stops at the NUL, which is no continuation byte. */
static size_t utf8_len(const uint8_t *bytes)
{
    uint8_t c = bytes[0];
    if (c < 0x80)
        return 1;
    size_t len = c >= 0xc2 && c <= 0xdf   ? 2
                 : (c & 0xf0) == 0xe0     ? 3
                 : c >= 0xf0 && c <= 0xf4 ? 4
                                          : 0;
    for (size_t i = 1; i < len; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    }
    bool bad = (c == 0xe0 && bytes[1] < 0xa0) || (c == 0xed && bytes[1] >= 0xa0) ||
               (c == 0xf0 && bytes[1] < 0x90) || (c == 0xf4 && bytes[1] >= 0x90);
    return bad ? 0 : len;
}

/* All of it or nothing; the first refusal ends the line. */
static void add(struct writer *writer, const char *bytes, size_t len)
{
    if (writer->truncated || writer->len + len > writer->limit) {
        writer->truncated = true;
        return;
    }
    memcpy(writer->text + writer->len, bytes, len);
    writer->len += len;
}

static void add_f(struct writer *writer, const char *format, ...)
{
    char piece[128];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(piece, sizeof(piece), format, args);
    va_end(args);
    ASSERT(len >= 0 && (size_t)len < sizeof(piece));
    add(writer, piece, (size_t)len);
}
