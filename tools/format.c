/* Format strings of `consume`: %t topic %p partition %o offset %T time %k key %v value %h headers %% */
#include "tools/format.h"

#include <string.h>

#include "tools/ctl.h"

static const char fields[] = "tpoTkvh%";

/* A percent sign that was written as \x25 is a byte and begins no field: it becomes %%. */
static void keep_percent_signs(char *format)
{
    char *to = format;
    for (const char *from = format; *from;) {
        bool is_percent = strncmp(from, "\\x25", 4) == 0;
        size_t taken = is_percent ? 4 : *from == '\\' && from[1] ? 2 : 1;
        memmove(to, is_percent ? "%%" : from, is_percent ? 2 : taken);
        to += is_percent ? 2 : taken;
        from += taken;
    }
    *to = 0;
}

long format_compile(char *format, const char **why)
{
    for (const char *c = format; *c; c++) {
        if (*c == '\\' && c[1]) {
            c++;
            continue;
        }
        if (*c != '%')
            continue;
        c++;
        if (*c == 0 || !strchr(fields, *c)) {
            *why = "unknown field: %t %p %o %T %k %v %h %% are known";
            return -1;
        }
    }
    keep_percent_signs(format);
    long len = text_unescape(format);
    if (len < 0)
        *why = "unknown escape: \\n \\t \\r \\\\ \\0 \\xNN are known";
    return len;
}

static void print_headers(FILE *file, const struct sluice_message *message)
{
    for (uint32_t i = 0; i < message->header_count; i++) {
        const char *key;
        const void *value;
        size_t key_len, value_len;
        if (sluice_message_header(message, i, &key, &key_len, &value, &value_len))
            return;
        if (i > 0)
            fputc(',', file);
        fwrite(key, 1, key_len, file);
        fputc('=', file);
        if (value)
            fwrite(value, 1, value_len, file);
    }
}

static void print_field(FILE *file, char field, const struct sluice_message *message)
{
    switch (field) {
    case 't':
        fputs(message->topic, file);
        return;
    case 'p':
        fprintf(file, "%u", message->partition);
        return;
    case 'o':
        fprintf(file, "%llu", (unsigned long long)message->offset);
        return;
    case 'T':
        fprintf(file, "%lld", (long long)message->timestamp_ms);
        return;
    case 'k':
        if (message->key)
            fwrite(message->key, 1, message->key_len, file);
        return;
    case 'v':
        if (message->value)
            fwrite(message->value, 1, message->value_len, file);
        return;
    case 'h':
        print_headers(file, message);
        return;
    default:
        fputc('%', file);
        return;
    }
}

void format_print(FILE *file, const char *format, long len, const struct sluice_message *message)
{
    for (long i = 0; i < len; i++) {
        if (format[i] == '%' && i + 1 < len)
            print_field(file, format[++i], message);
        else
            fputc(format[i], file);
    }
}

void format_print_json(FILE *file, const struct sluice_message *message)
{
    struct json json;
    json_begin(&json, file);
    json_string(&json, "topic", message->topic);
    json_u64(&json, "partition", message->partition);
    json_u64(&json, "offset", message->offset);
    json_i64(&json, "timestamp_ms", message->timestamp_ms);
    json_bytes(&json, "key", message->key, message->key_len);
    json_bytes(&json, "value", message->value, message->value_len);
    json_open(&json, "headers", '[');
    for (uint32_t i = 0; i < message->header_count; i++) {
        const char *key;
        const void *value;
        size_t key_len, value_len;
        if (sluice_message_header(message, i, &key, &key_len, &value, &value_len))
            break;
        json_open(&json, NULL, '{');
        json_bytes(&json, "key", key, key_len);
        json_bytes(&json, "value", value, value_len);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_end(&json);
}
