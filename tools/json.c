/* JSON output, one object per line: enough of it for flat results, by hand, since nothing is parsed. */
#include <string.h>

#include "proto/cursor.h"
#include "tools/ctl.h"

static void put_key(struct json *json, const char *key);
static void put_text(FILE *file, const char *bytes, size_t len);
static void put_base64(FILE *file, const uint8_t *bytes, size_t len);

void json_begin(struct json *json, FILE *file)
{
    *json = (struct json){.file = file, .first = true};
    fputc('{', file);
}

void json_end(struct json *json)
{
    fputs("}\n", json->file);
}

void json_string(struct json *json, const char *key, const char *value)
{
    put_key(json, key);
    put_text(json->file, value, strlen(value));
}

void json_bytes(struct json *json, const char *key, const void *bytes, size_t len)
{
    if (!bytes) {
        put_key(json, key);
        fputs("null", json->file);
    } else if (slice_is_utf8((struct slice){bytes, (uint32_t)len})) {
        put_key(json, key);
        put_text(json->file, bytes, len);
    } else {
        char long_key[64];
        snprintf(long_key, sizeof(long_key), "%s_base64", key);
        put_key(json, long_key);
        put_base64(json->file, bytes, len);
    }
}

void json_u64(struct json *json, const char *key, uint64_t value)
{
    put_key(json, key);
    fprintf(json->file, "%llu", (unsigned long long)value);
}

void json_i64(struct json *json, const char *key, int64_t value)
{
    put_key(json, key);
    fprintf(json->file, "%lld", (long long)value);
}

void json_bool(struct json *json, const char *key, bool value)
{
    put_key(json, key);
    fputs(value ? "true" : "false", json->file);
}

void json_open(struct json *json, const char *key, char bracket)
{
    put_key(json, key);
    fputc(bracket, json->file);
    json->first = true;
}

void json_close(struct json *json, char bracket)
{
    fputc(bracket, json->file);
    json->first = false;
}

static void put_key(struct json *json, const char *key)
{
    if (!json->first)
        fputc(',', json->file);
    json->first = false;
    if (key) {
        put_text(json->file, key, strlen(key));
        fputc(':', json->file);
    }
}

static void put_text(FILE *file, const char *bytes, size_t len)
{
    fputc('"', file);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\')
            fprintf(file, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", file);
        else if (c < 0x20 || c == 0x7f)
            fprintf(file, "\\u%04x", c);
        else
            fputc(c, file);
    }
    fputc('"', file);
}

static void put_base64(FILE *file, const uint8_t *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fputc('"', file);
    for (size_t i = 0; i < len; i += 3) {
        uint32_t n = (uint32_t)bytes[i] << 16;
        n |= i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0;
        n |= i + 2 < len ? bytes[i + 2] : 0;
        fputc(digits[n >> 18], file);
        fputc(digits[(n >> 12) & 63], file);
        fputc(i + 1 < len ? digits[(n >> 6) & 63] : '=', file);
        fputc(i + 2 < len ? digits[n & 63] : '=', file);
    }
    fputc('"', file);
}
