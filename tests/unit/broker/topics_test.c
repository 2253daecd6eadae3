/* Topics by name and id, their order, and settings as text. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "base/status.h"
#include "broker/topics.h"

static struct disk_topic make(uint32_t id, const char *name)
{
    struct disk_topic topic = {.topic_id = le32_make(id),
                               .partition_count = le32_make(1),
                               .name_length = (uint8_t)strlen(name)};
    memcpy(topic.name, name, strlen(name));
    return topic;
}

static void add(struct topics *topics, uint32_t id, const char *name)
{
    struct disk_topic topic = make(id, name);
    cr_assert_eq(topics_apply(topics, &topic), 0);
}

Test(topics, are_found_by_name_and_id_and_walked_in_order)
{
    struct topics *topics = topics_new();
    const char *names[] = {"pears", "apples", "app", "zebra", "a"};
    for (uint32_t i = 0; i < 5; i++)
        add(topics, i + 1, names[i]);
    for (uint32_t i = 0; i < 5; i++) {
        const struct disk_topic *topic = topics_find(topics, slice_of_text(names[i]));
        cr_assert(topic && le32_get(topic->topic_id) == i + 1);
        cr_assert_eq(topics_find_id(topics, i + 1), topic);
    }
    cr_assert_null(topics_find(topics, slice_of_text("apple")));
    char order[64] = "";
    struct slice after = {NULL, 0};
    for (const struct disk_topic *t; (t = topics_next(topics, after));
         after = (struct slice){t->name, t->name_length})
        snprintf(order + strlen(order), sizeof(order) - strlen(order), "%.*s ", t->name_length,
                 (const char *)t->name);
    cr_assert_str_eq(order, "a app apples pears zebra ");
    topics_free(topics);
}

Test(topics, a_dropped_topic_is_gone_and_its_name_is_free)
{
    struct topics *topics = topics_new();
    add(topics, 1, "one");
    add(topics, 2, "two");
    topics_apply_drop(topics, 1);
    topics_apply_drop(topics, 77); // unknown: nothing happens
    cr_assert_null(topics_find(topics, slice_of_text("one")));
    cr_assert_eq(topics_count(topics), 1);
    add(topics, 3, "one");
    cr_assert_eq(le32_get(topics_find(topics, slice_of_text("one"))->topic_id), 3);
    topics_free(topics);
}

Test(topics, applying_again_replaces_the_settings)
{
    struct topics *topics = topics_new();
    add(topics, 1, "one");
    struct disk_topic topic = make(1, "one");
    topic.partition_count = le32_make(9);
    cr_assert_eq(topics_apply(topics, &topic), 0);
    cr_assert_eq(topics_count(topics), 1);
    cr_assert_eq(le32_get(topics_find(topics, slice_of_text("one"))->partition_count), 9);
    topics_free(topics);
}

Test(topics, rebuild_refuses_two_rows_of_one_name)
{
    struct topics *topics = topics_new();
    add(topics, 1, "one");
    add(topics, 2, "two");
    uint32_t row = 1;
    struct disk_topic *second = table_row_mut(topics_table(topics), row);
    memcpy(second->name, "one", 3);
    const char *why = "";
    cr_assert_eq(topics_rebuild(topics, &why), E_CORRUPT);
    cr_assert(strlen(why) > 0);
    topics_free(topics);
}

static uint16_t set(struct disk_partition_open *s, const char *key, const char *value)
{
    char text[72] = "";
    uint16_t error = topic_setting_apply(s, slice_of_text(key), slice_of_text(value), text);
    cr_assert(error == PE_NONE || strlen(text) > 0);
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
