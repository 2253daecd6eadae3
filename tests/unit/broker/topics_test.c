/* Topics by name and id, and their order. */
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
