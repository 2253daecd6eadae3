/* Topic settings as text (topic_settings.def): what is taken, what is refused and with which words,
 * and what is listed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "base/status.h"
#include "broker/topics.h"

static char words[72]; // of the last refusal

static uint16_t set(struct disk_partition_open *s, const char *key, const char *value)
{
    words[0] = 0;
    uint16_t error = topic_setting_apply(s, slice_of_text(key), slice_of_text(value), words);
    cr_assert(error == PE_NONE || strlen(words) > 0);
    return error;
}

Test(topic_settings, accept_units_and_refuse_what_is_out_of_range)
{
    struct disk_partition_open s = {0};
    cr_assert_eq(set(&s, "retention_ms", "2h"), PE_NONE);
    cr_assert_eq(le64_get(s.retention_ms), 7200000);
    cr_assert_eq(set(&s, "retention_ms", "none"), PE_NONE);
    cr_assert_eq(le64_get(s.retention_ms), UINT64_MAX);
    cr_assert_eq(set(&s, "retention_bytes", "10GiB"), PE_NONE);
    cr_assert_eq(le64_get(s.retention_bytes), 10 * GIB);
    cr_assert_eq(set(&s, "batch_bytes_max", "64KiB"), PE_NONE);
    cr_assert_eq(set(&s, "validation", "header"), PE_NONE);
    cr_assert_eq(set(&s, "timestamp_type", "append"), PE_NONE);
    static const char *const wrong[][2] = {
        {"retention_ms", "999"},
        {"retention_ms", "-1"},
        {"retention_ms", ""},
        {"retention_ms", "1 s"},
        {"batch_bytes_max", "5MiB"},
        {"batch_bytes_max", "none"},
        {"validation", "maybe"},
        {"timestamp_type", "appendx"},
        {"retention_bytes", "1KiB"},
        {"nonsense", "1"},
        {"", "1"},
    };
    struct disk_partition_open before = s;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        cr_assert_eq(set(&s, wrong[i][0], wrong[i][1]), PE_INVALID_SETTING, "%s=%s", wrong[i][0],
                     wrong[i][1]);
    cr_assert_eq(memcmp(&before, &s, sizeof(s)), 0);
}

Test(topic_settings, what_is_listed_can_be_set_again)
{
    struct disk_partition_open s = {.retention_ms = le64_make(604800000),
                                    .retention_bytes = le64_make(UINT64_MAX),
                                    .batch_bytes_max = le32_make(4194304),
                                    .validation = 1};
    struct disk_partition_open copy = {0};
    for (uint32_t i = 0; i < topic_setting_count(); i++) {
        char value[48];
        topic_setting_format(&s, i, value);
        cr_assert_eq(set(&copy, topic_setting_key(i), value), PE_NONE, "%s=%s",
                     topic_setting_key(i), value);
    }
    cr_assert_eq(memcmp(&copy, &s, sizeof(s)), 0);
}

Test(topic_settings, limits_themselves_are_taken)
{
    struct disk_partition_open s = {0};
    static const char *const values[][2] = {
        {"retention_ms", "1s"},      {"retention_ms", "1000ms"},   {"retention_ms", "1000"},
        {"retention_bytes", "1MiB"}, {"batch_bytes_max", "1KiB"},  {"batch_bytes_max", "4MiB"},
        {"validation", "records"},   {"timestamp_type", "create"}, {"retention_bytes", "1048576"},
        {"retention_bytes", "none"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(values); i++)
        cr_expect(eq(u16, set(&s, values[i][0], values[i][1]), PE_NONE), "%s=%s", values[i][0],
                  values[i][1]);
}

/* Who gets it wrong is told what is allowed: all of it, however little room the words have. */
Test(topic_settings, a_refusal_names_the_setting_and_all_that_is_allowed)
{
    static const char *const texts[] = {
#define SETTING(key, field, kind, min, max, text) #key ": " text,
#include "broker/topic_settings.def"
#undef SETTING
    };
    struct disk_partition_open s = {0};
    cr_assert(eq(u32, topic_setting_count(), ARRAY_COUNT(texts)));
    for (uint32_t i = 0; i < topic_setting_count(); i++) {
        set(&s, topic_setting_key(i), "?");
        cr_expect_str_eq(words, texts[i]);
    }
}

Test(topic_settings, an_unknown_setting_is_shown_as_far_as_there_is_room)
{
    struct disk_partition_open s = {0};
    set(&s, "colour", "1");
    cr_assert_str_eq(words, "unknown setting \"colour\"");
    char key[64];
    memset(key, 'a', sizeof(key));
    memcpy(key + 46, "\xe2\x82\xac", 3); // begins before the end of what is shown, ends behind it
    struct slice slice = {(const uint8_t *)key, sizeof(key)};
    cr_assert(
        eq(u16, topic_setting_apply(&s, slice, slice_of_text("1"), words), PE_INVALID_SETTING));
    cr_assert(eq(sz, strlen(words), strlen("unknown setting \"\"") + 46));
}

Test(topic_settings, values_with_bytes_behind_a_nul_are_refused)
{
    struct disk_partition_open s = {0};
    struct slice value = {(const uint8_t *)"2h\0x", 4};
    cr_assert(eq(u16, topic_setting_apply(&s, slice_of_text("retention_ms"), value, words),
                 PE_INVALID_SETTING));
    char digits[49];
    memset(digits, '0', sizeof(digits));
    value = (struct slice){(const uint8_t *)digits, sizeof(digits)};
    cr_assert(eq(u16, topic_setting_apply(&s, slice_of_text("retention_ms"), value, words),
                 PE_INVALID_SETTING));
    value = (struct slice){NULL, 0};
    cr_assert(eq(u16, topic_setting_apply(&s, slice_of_text("retention_ms"), value, words),
                 PE_INVALID_SETTING));
}

Test(topic_settings, values_are_listed_as_numbers_of_the_unit_in_the_name)
{
    struct disk_partition_open s = {.retention_ms = le64_make(3600000),
                                    .retention_bytes = le64_make(UINT64_MAX),
                                    .batch_bytes_max = le32_make(4194304),
                                    .timestamp_type = 1};
    static const char *const expected[] = {"3600000", "none", "4194304", "records", "append"};
    for (uint32_t i = 0; i < topic_setting_count(); i++) {
        char value[48];
        topic_setting_format(&s, i, value);
        cr_expect_str_eq(value, expected[i]);
    }
}
