/* JSON lines of sluicectl (tools/ctl.h): commas, brackets, and that any byte comes out as valid JSON. */
#include "tests/unit/tools/output.h"
#include "tools/ctl.h"

static struct output output;
static struct json json;

static void begin(void)
{
    output_open(&output);
    json_begin(&json, output.file);
}
TestSuite(json, .init = begin);

Test(json, an_object_may_be_empty)
{
    json_end(&json);
    OUTPUT_IS(&output, "{}\n");
}

Test(json, numbers_keep_all_their_digits)
{
    json_u64(&json, "most", UINT64_MAX);
    json_i64(&json, "least", INT64_MIN);
    json_bool(&json, "yes", true);
    json_bool(&json, "no", false);
    json_end(&json);
    OUTPUT_IS(&output, "{\"most\":18446744073709551615,\"least\":-9223372036854775808,"
                       "\"yes\":true,\"no\":false}\n");
}

Test(json, commas_stand_between_members_at_every_depth)
{
    json_open(&json, "list", '[');
    for (uint64_t i = 0; i < 2; i++) {
        json_open(&json, NULL, '{');
        json_u64(&json, "a", i);
        json_u64(&json, "b", i);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_open(&json, "empty", '{');
    json_close(&json, '}');
    json_u64(&json, "last", 1);
    json_end(&json);
    OUTPUT_IS(&output,
              "{\"list\":[{\"a\":0,\"b\":0},{\"a\":1,\"b\":1}],\"empty\":{},\"last\":1}\n");
}

Test(json, text_is_escaped)
{
    json_string(&json, "a\"b", "\"\\/\n\r\t\x01\x7f\xc3\xa9");
    json_end(&json);
    OUTPUT_IS(&output, "{\"a\\\"b\":\"\\\"\\\\/\\n\\u000d\\u0009\\u0001\\u007f\xc3\xa9\"}\n");
}

/* The three lengths modulo 3 are the three ways in which base64 ends. */
Test(json, bytes_that_are_no_text_are_base64_and_the_key_says_so)
{
    json_bytes(&json, "one", "\xff", 1);
    json_bytes(&json, "two", "\xff\xfe", 2);
    json_bytes(&json, "three", "\x00\x10\xff", 3);
    json_bytes(&json, "four", "\xfb\xef\xbe\xff", 4);
    json_end(&json);
    OUTPUT_IS(&output, "{\"one_base64\":\"/w==\",\"two_base64\":\"//4=\","
                       "\"three_base64\":\"ABD/\",\"four_base64\":\"++++/w==\"}\n");
}

Test(json, text_of_known_length_may_lack_its_end)
{
    json_bytes(&json, "key", "abc", 2);
    json_bytes(&json, "none", "", 0);
    json_bytes(&json, "null", NULL, 0);
    json_end(&json);
    OUTPUT_IS(&output, "{\"key\":\"ab\",\"none\":\"\",\"null\":null}\n");
}
