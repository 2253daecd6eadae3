/* Log lines with strings from anywhere: two values, cut where the first NUL is. Whatever they hold,
 * a line is one line without control characters, within its limit, and JSON keeps its quotes even. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log_format.h"
#include "tests/fuzz/fuzz.h"

static void check_line(enum log_format format, const char *first, const char *second);
static bool has_even_quotes(const char *text, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = calloc(1, size + 2); // two strings end in it, whatever it holds
    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    check_line(LOG_FORMAT_TEXT, text, text + strlen(text) + 1);
    check_line(LOG_FORMAT_JSON, text, text + strlen(text) + 1);
    free(text);
    return 0;
}

static void check_line(enum log_format format, const char *first, const char *second)
{
    const struct log_field fields[] = {
        LOG_STR("first", first),
        LOG_U64("between", 1),
        LOG_STR("second", second),
    };
    const struct log_line line = {
        .level = LOG_LEVEL_INFO,
        .wall_ms = 1795218286123,
        .event = "fuzz.line_made",
        .fields = fields,
        .field_count = ARRAY_COUNT(fields),
        .suppressed = (uint32_t)strlen(first),
    };
    char *text = malloc(LOG_LINE_MAX); // exactly: a byte too many is seen
    ASSERT(text != NULL);
    size_t len = log_format_line(format, &line, text);
    ASSERT(len > 0 && len <= LOG_LINE_MAX && text[len - 1] == '\n');
    for (size_t i = 0; i + 1 < len; i++)
        ASSERT((uint8_t)text[i] >= 0x20 && text[i] != 0x7f);
    ASSERT(has_even_quotes(text, len));
    free(text);
}

static bool has_even_quotes(const char *text, size_t len)
{
    bool even = true;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\' && !even)
            i++;
        else if (text[i] == '"')
            even = !even;
    }
    return even;
}
