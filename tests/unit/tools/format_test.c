/* tools/format.h: what `consume` prints. The message is made by hand, its headers as they lie in a
 * record: varint lengths (zigzag; -1 is null), then the bytes. */
#include "tools/format.h"

#include "base/check.h"
#include "tests/unit/tools/output.h"

static const struct sluice_message message = {
    .topic = "orders",
    .partition = 4000000000u,
    .offset = 18446744073709551614u,
    .timestamp_ms = -1,
    .key = "k\0y",
    .key_len = 3,
    .value = "v%v",
    .value_len = 3,
    .header_count = 3,
    .internal = "\2a\4xy"
                "\2b\1"
                "\0\0",
};
static const struct sluice_message nulls = {.topic = "t"};

static void prints(const char *format, const struct sluice_message *from, const char *expected,
                   size_t len)
{
    char compiled[64];
    const char *why = NULL;
    struct output output;
    snprintf(compiled, sizeof(compiled), "%s", format);
    long compiled_len = format_compile(compiled, &why);
    cr_assert(compiled_len >= 0, "%s: %s", format, why);
    output_open(&output);
    format_print(output.file, compiled, compiled_len, from);
    output_is(&output, expected, len);
}
#define PRINTS(format, from, literal) prints(format, from, literal, sizeof(literal) - 1)

Test(format, each_field_is_printed)
{
    PRINTS("%t", &message, "orders");
    PRINTS("%p", &message, "4000000000");
    PRINTS("%o", &message, "18446744073709551614");
    PRINTS("%T", &message, "-1");
    PRINTS("%k", &message, "k\0y");
    PRINTS("%v", &message, "v%v");
    PRINTS("%h", &message, "a=xy,b=,=");
    PRINTS("%%", &message, "%");
}

Test(format, nothing_is_added)
{
    PRINTS("", &message, "");
    PRINTS("%v%v", &message, "v%vv%v");
    PRINTS("<%p %%v>", &message, "<4000000000 %v>");
}

Test(format, null_prints_as_nothing)
{
    PRINTS("[%k][%v][%h]", &nulls, "[][][]");
}

Test(format, escapes_become_bytes)
{
    PRINTS("%t\\n\\t\\r\\\\\\0\\xfF.", &nulls, "t\n\t\r\\\0\xff.");
}

Test(format, an_escaped_percent_sign_is_a_byte_and_begins_no_field)
{
    PRINTS("\\x25v", &message, "%v");
    PRINTS("\\x25", &message, "%");
    PRINTS("\\x25\\x25%p", &message, "%%4000000000");
    PRINTS("\\\\x25", &message, "\\x25");
}

Test(format, unknown_fields_and_escapes_are_refused)
{
    static const char *const wrong[] = {
        "%",  "%z",  "a%",  "%\\n", "%%%",   "% v",   "%V",
        "\\", "\\q", "\\x", "\\x1", "\\xg0", "\\x0g", "%v\\",
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        char format[16];
        const char *why = NULL;
        snprintf(format, sizeof(format), "%s", wrong[i]);
        cr_assert_lt(format_compile(format, &why), 0, "\"%s\" was accepted", wrong[i]);
        cr_assert_not_null(why, "\"%s\"", wrong[i]);
    }
}

Test(format, json_has_every_field_of_a_record)
{
    struct output output;
    output_open(&output);
    format_print_json(output.file, &message);
    OUTPUT_IS(&output,
              "{\"topic\":\"orders\",\"partition\":4000000000,\"offset\":18446744073709551614,"
              "\"timestamp_ms\":-1,\"key_base64\":\"awB5\",\"value\":\"v%v\",\"headers\":["
              "{\"key\":\"a\",\"value\":\"xy\"},{\"key\":\"b\",\"value\":null},"
              "{\"key\":\"\",\"value\":\"\"}]}\n");
}

Test(format, json_tells_null_from_empty)
{
    struct sluice_message empty = {.topic = "t", .key = "", .value = ""};
    struct output output;
    output_open(&output);
    format_print_json(output.file, &nulls);
    format_print_json(output.file, &empty);
    OUTPUT_IS(&output, "{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"timestamp_ms\":0,"
                       "\"key\":null,\"value\":null,\"headers\":[]}\n"
                       "{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"timestamp_ms\":0,"
                       "\"key\":\"\",\"value\":\"\",\"headers\":[]}\n");
}
