/* Partitions: found, opened, dropped, moved, and rebuilt from their table; the map against a naive list. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/status.h"
#include "storage/partitions.h"

#define COUNT_MAX 500u

static struct disk_partition_open settings_of(uint64_t revision, uint64_t retention_ms)
{
    return (struct disk_partition_open){.revision = le64_make(revision),
                                        .retention_ms = le64_make(retention_ms),
                                        .retention_bytes = le64_make(UINT64_MAX)};
}

static struct partition *open_one(struct partitions *partitions, uint32_t topic_id,
                                  uint32_t partition)
{
    struct disk_partition_open settings = settings_of(1, 1000);
    return partitions_apply_open(partitions, topic_id, partition, &settings);
}

Test(partitions, an_opened_partition_is_found_and_no_other)
{
    struct partitions *partitions = partitions_new(COUNT_MAX);
    cr_assert_null(partitions_find(partitions, 7, 0));
    struct partition *partition = open_one(partitions, 7, 3);
    cr_assert_eq(partitions_find(partitions, 7, 3), partition);
    cr_assert_null(partitions_find(partitions, 7, 4));
    cr_assert_null(partitions_find(partitions, 3, 7));
    cr_assert_null(partitions_find(partitions, 0, 0));
    cr_assert_eq(partitions_count(partitions), 1);
    cr_assert_eq(partition->next_offset, 0);
    partitions_free(partitions);
}

Test(partitions, newer_settings_replace_older_ones_only)
{
    struct partitions *partitions = partitions_new(COUNT_MAX);
    struct disk_partition_open settings = settings_of(5, 1000);
    struct partition *partition = partitions_apply_open(partitions, 1, 0, &settings);
    settings = settings_of(4, 2000);
    cr_assert_eq(partitions_apply_open(partitions, 1, 0, &settings), partition);
    cr_assert_eq(le64_get(partition->settings.retention_ms), 1000);
    settings = settings_of(6, 3000);
    partitions_apply_open(partitions, 1, 0, &settings);
    cr_assert_eq(le64_get(partition->settings.retention_ms), 3000);
    cr_assert_eq(partitions_count(partitions), 1);
    partitions_free(partitions);
}

Test(partitions, batches_and_log_starts_move_offsets_and_bytes)
{
    struct partitions *partitions = partitions_new(COUNT_MAX);
    struct partition *partition = open_one(partitions, 1, 0);
    partitions_apply_batch(partitions, partition, 10, 500, 77);
    partitions_apply_batch(partitions, partition, 5, 300, 33);
    cr_assert_eq(partition->next_offset, 15);
    cr_assert_eq(partition->bytes, 800);
    cr_assert_eq(partition->visible_end, 0, "that is the store's to move");
    partitions_apply_log_start(partitions, partition, 10, 500);
    cr_assert_eq(partition->log_start, 10);
    cr_assert_eq(partition->bytes, 300);
    const struct disk_partition *row = table_row(partitions_table(partitions), partition->row);
    cr_assert_eq(le64_get(row->next_offset), 15);
    cr_assert_eq(le64_get(row->log_start), 10);
    cr_assert_eq(le64_get(row->bytes), 300);
    cr_assert_eq((int64_t)le64_get(row->max_timestamp), 77);
    partitions_apply_log_start(partitions, partition, 15, 1000000);
    cr_assert_eq(partition->bytes, 0, "never below nothing");
    partitions_free(partitions);
}

Test(partitions, the_limit_answers_null)
{
    struct partitions *partitions = partitions_new(3);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_not_null(open_one(partitions, 1, i));
    cr_assert(partitions_is_full(partitions));
    cr_assert_null(open_one(partitions, 1, 3));
    cr_assert_not_null(open_one(partitions, 1, 2), "one that is open needs no room");
    partitions_apply_drop(partitions, partitions_find(partitions, 1, 0));
    cr_assert_not_null(open_one(partitions, 1, 3));
    partitions_free(partitions);
}

Test(partitions, a_dropped_partition_dies_for_those_who_remember_it)
{
    struct partitions *partitions = partitions_new(COUNT_MAX);
    struct partition *partition = open_one(partitions, 1, 0);
    uint32_t incarnation = partition->incarnation;
    partitions_apply_drop(partitions, partition);
    cr_assert_null(partitions_find(partitions, 1, 0));
    struct partition *next = open_one(partitions, 2, 0);
    cr_assert_eq(next, partition, "its place is used again");
    cr_assert_neq(next->incarnation, incarnation);
    partitions_free(partitions);
}

struct naive {
    uint32_t topic_id, partition;
    struct partition *found;
};

/* Few topics and many partitions, so that the map has long runs to shift. */
Test(partitions, random_opens_and_drops_agree_with_a_list)
{
    struct random random;
    random_init(&random, 11);
    struct partitions *partitions = partitions_new(COUNT_MAX);
    struct naive *naive = calloc(COUNT_MAX, sizeof(*naive));
    uint32_t count = 0;
    for (int step = 0; step < 60000; step++) {
        uint32_t topic_id = 1 + (uint32_t)random_below(&random, 3);
        uint32_t number = (uint32_t)random_below(&random, 300);
        uint32_t at = 0;
        while (at < count && (naive[at].topic_id != topic_id || naive[at].partition != number))
            at++;
        struct partition *found = partitions_find(partitions, topic_id, number);
        cr_assert_eq(found, at < count ? naive[at].found : NULL);
        if (found && random_below(&random, 2)) {
            partitions_apply_drop(partitions, found);
            naive[at] = naive[--count];
        } else if (!found && count < COUNT_MAX) {
            naive[count++] =
                (struct naive){topic_id, number, open_one(partitions, topic_id, number)};
        }
        cr_assert_eq(partitions_count(partitions), count);
    }
    for (uint32_t i = 1; i < count; i++)
        cr_assert_lt(partitions_at(partitions, i - 1)->row, partitions_at(partitions, i)->row);
    free(naive);
    partitions_free(partitions);
}

/* ---- from a checkpoint ---- */

static void copy_table(struct table *from, struct table *to)
{
    table_snapshot_begin(from);
    uint32_t len = (uint32_t)table_snapshot_bytes(from);
    uint8_t *image = malloc(len);
    cr_assert_eq(table_snapshot_read(from, image, len), len);
    table_snapshot_end(from);
    const char *why = NULL;
    cr_assert_eq(table_load(to, image, len, &why), (int64_t)len);
    free(image);
}

Test(partitions, a_rebuilt_set_equals_the_one_that_was_written)
{
    struct partitions *live = partitions_new(COUNT_MAX), *loaded = partitions_new(COUNT_MAX);
    for (uint32_t i = 0; i < 100; i++) {
        struct partition *partition = open_one(live, 1 + i % 7, i);
        partitions_apply_batch(live, partition, i + 1, 100 * i, i);
    }
    partitions_apply_drop(live, partitions_find(live, 1 + 50 % 7, 50));
    copy_table(partitions_table(live), partitions_table(loaded));
    const char *why = NULL;
    cr_assert_eq(partitions_rebuild(loaded, &why), 0);
    cr_assert_eq(partitions_count(loaded), 99);
    for (uint32_t i = 0; i < 100; i++) {
        struct partition *partition = partitions_find(loaded, 1 + i % 7, i);
        cr_assert_eq(partition == NULL, i == 50);
        if (!partition)
            continue;
        cr_assert_eq(partition->next_offset, i + 1);
        cr_assert_eq(partition->visible_end, i + 1);
        cr_assert_eq(partition->bytes, 100 * i);
    }
    partitions_free(live);
    partitions_free(loaded);
}

static int rebuild_with(struct disk_partition first, struct disk_partition second)
{
    struct partitions *partitions = partitions_new(COUNT_MAX);
    struct table *table = partitions_table(partitions);
    uint32_t row;
    *(struct disk_partition *)table_row_new(table, &row) = first;
    *(struct disk_partition *)table_row_new(table, &row) = second;
    const char *why = NULL;
    int status = partitions_rebuild(partitions, &why);
    cr_assert_eq(status == 0, why == NULL);
    partitions_free(partitions);
    return status;
}

Test(partitions, rows_that_contradict_themselves_are_refused)
{
    struct disk_partition a = {.topic_id = le32_make(1), .next_offset = le64_make(5)};
    struct disk_partition b = {.topic_id = le32_make(1), .partition = le32_make(1)};
    cr_assert_eq(rebuild_with(a, b), 0);
    cr_assert_eq(rebuild_with(a, a), E_CORRUPT, "two rows for one partition");
    b.log_start = le64_make(1);
    cr_assert_eq(rebuild_with(a, b), E_CORRUPT, "log start behind the end");
    b.log_start = le64_make(0);
    b.topic_id = le32_make(0);
    cr_assert_eq(rebuild_with(a, b), E_CORRUPT, "topic 0");
}
