/* Sizes, durations, numbers and dates from any text. What is accepted must read back the same after
 * it was shown, where showing is exact. */
#include <stdint.h>
#include <string.h>

#include "base/units.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 64

static void duration_reads_back(const char *text);
static void time_reads_back(const char *text);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= TEXT_MAX)
        return 0;
    char text[TEXT_MAX], shown[UNITS_TEXT_MAX];
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    uint64_t value;
    if (units_parse_size(text, &value) == 0)
        ASSERT(strlen(units_format_size(value, shown)) < UNITS_TEXT_MAX);
    duration_reads_back(text);
    time_reads_back(text);
    return 0;
}

/* But for "1.5s": fractions are shown and not read. */
static void duration_reads_back(const char *text)
{
    char shown[UNITS_TEXT_MAX];
    uint64_t value, back;
    if (units_parse_duration(text, &value) < 0)
        return;
    units_format_duration(value, shown);
    if (strchr(shown, '.') == NULL)
        ASSERT(units_parse_duration(shown, &back) == 0 && back == value);
}

static void time_reads_back(const char *text)
{
    char shown[UNITS_TEXT_MAX];
    uint64_t value, back;
    if (units_parse_time(text, &value) < 0)
        return;
    ASSERT(units_parse_time(units_format_time(value, shown), &back) == 0 && back == value);
}
