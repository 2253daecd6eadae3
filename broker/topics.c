/* Topics: rows in a table, and beside it an array of row numbers in order of name.
 *
 * Topics change rarely and are at most TOPICS_MAX, so insertion moves the array's tail; lookups by name
 * are a binary search, lookups by id (changes only, never on the data path) a walk. */
#include "broker/topics.h"

#include <stdlib.h>

#include "base/status.h"
#include "broker/limits.h"

struct topics {
    struct table *table;
    uint32_t *by_name; // row numbers, in order of name
    uint32_t count;
};

static const struct disk_topic *row_of(const struct topics *topics, uint32_t row);
static int compare_names(struct slice a, struct slice b);
static struct slice name_of(const struct disk_topic *topic);
static uint32_t lower_bound(const struct topics *topics, struct slice name);
static void insert_name(struct topics *topics, uint32_t row);

struct topics *topics_new(void)
{
    struct topics *topics = calloc(1, sizeof(*topics));
    if (!topics)
        return NULL;
    topics->table = table_new(&(struct table_options){
        .id = TABLE_TOPICS, .row_bytes = sizeof(struct disk_topic), .row_count_max = TOPICS_MAX});
    topics->by_name = calloc(TOPICS_MAX, sizeof(*topics->by_name));
    if (!topics->table || !topics->by_name) {
        topics_free(topics);
        return NULL;
    }
    return topics;
}

void topics_free(struct topics *topics)
{
    if (!topics)
        return;
    if (topics->table)
        table_free(topics->table);
    free(topics->by_name);
    free(topics);
}

struct table *topics_table(struct topics *topics)
{
    return topics->table;
}

int topics_rebuild(struct topics *topics, const char **why)
{
    topics->count = 0;
    for (uint32_t row = 0; row < table_row_count(topics->table); row++) {
        if (!table_row_is_used(topics->table, row))
            continue;
        const char *name_why;
        const struct disk_topic *topic = row_of(topics, row);
        if (topic_name_check(name_of(topic), &name_why) != PE_NONE) {
            *why = "a topic's name is not allowed";
            return E_CORRUPT;
        }
        if (topics_find(topics, name_of(topic))) {
            *why = "two topics have one name";
            return E_CORRUPT;
        }
        insert_name(topics, row);
    }
    return 0;
}

const struct disk_topic *topics_find(const struct topics *topics, struct slice name)
{
    uint32_t place = lower_bound(topics, name);
    if (place == topics->count)
        return NULL;
    const struct disk_topic *topic = row_of(topics, topics->by_name[place]);
    return compare_names(name_of(topic), name) == 0 ? topic : NULL;
}

static uint32_t find_row(const struct topics *topics, uint32_t topic_id)
{
    for (uint32_t i = 0; i < topics->count; i++) {
        if (le32_get(row_of(topics, topics->by_name[i])->topic_id) == topic_id)
            return topics->by_name[i];
    }
    return TABLE_ROW_NONE;
}

const struct disk_topic *topics_find_id(const struct topics *topics, uint32_t topic_id)
{
    uint32_t row = find_row(topics, topic_id);
    return row == TABLE_ROW_NONE ? NULL : row_of(topics, row);
}

uint32_t topics_count(const struct topics *topics)
{
    return topics->count;
}

const struct disk_topic *topics_next(const struct topics *topics, struct slice after)
{
    uint32_t place = 0;
    if (after.len > 0) {
        place = lower_bound(topics, after);
        if (place < topics->count &&
            compare_names(name_of(row_of(topics, topics->by_name[place])), after) == 0)
            place++;
    }
    return place < topics->count ? row_of(topics, topics->by_name[place]) : NULL;
}

uint32_t topics_row_count(const struct topics *topics)
{
    return table_row_count(topics->table);
}

const struct disk_topic *topics_row(const struct topics *topics, uint32_t i)
{
    return table_row_is_used(topics->table, i) ? row_of(topics, i) : NULL;
}

int topics_apply(struct topics *topics, const struct disk_topic *topic)
{
    uint32_t row = find_row(topics, le32_get(topic->topic_id));
    if (row != TABLE_ROW_NONE) {
        *(struct disk_topic *)table_row_mut(topics->table, row) = *topic;
        return 0;
    }
    struct disk_topic *fresh = table_row_new(topics->table, &row);
    if (!fresh)
        return E_FULL;
    *fresh = *topic;
    insert_name(topics, row);
    return 0;
}

void topics_apply_drop(struct topics *topics, uint32_t topic_id)
{
    for (uint32_t i = 0; i < topics->count; i++) {
        uint32_t row = topics->by_name[i];
        if (le32_get(row_of(topics, row)->topic_id) != topic_id)
            continue;
        memmove(&topics->by_name[i], &topics->by_name[i + 1],
                (topics->count - i - 1) * sizeof(*topics->by_name));
        topics->count--;
        table_row_delete(topics->table, row);
        return;
    }
}

static const struct disk_topic *row_of(const struct topics *topics, uint32_t row)
{
    return table_row(topics->table, row);
}

static struct slice name_of(const struct disk_topic *topic)
{
    return (struct slice){topic->name, topic->name_length};
}

static int compare_names(struct slice a, struct slice b)
{
    int order = memcmp(a.bytes, b.bytes, min_u64(a.len, b.len));
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* First place whose name is >= name. */
static uint32_t lower_bound(const struct topics *topics, struct slice name)
{
    uint32_t low = 0, high = topics->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_names(name_of(row_of(topics, topics->by_name[middle])), name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert_name(struct topics *topics, uint32_t row)
{
    uint32_t place = lower_bound(topics, name_of(row_of(topics, row)));
    memmove(&topics->by_name[place + 1], &topics->by_name[place],
            (topics->count - place) * sizeof(*topics->by_name));
    topics->by_name[place] = row;
    topics->count++;
}
