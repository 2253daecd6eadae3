/* The table of staged batches against what it promises, row by row. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/status.h"
#include "storage/staged.h"

static struct disk_txn_name name_of(uint32_t coordinator, uint64_t lsn)
{
    return (struct disk_txn_name){.coordinator = le32_make(coordinator),
                                  .open_lsn = le64_make(lsn)};
}

static void stage(struct staged *staged, struct disk_txn_name name, uint64_t position,
                  uint32_t size)
{
    struct disk_staged row = {.position = le64_make(position),
                              .name = name,
                              .topic_id = le32_make(7),
                              .size = le32_make(size),
                              .record_count = le32_make(1),
                              .order = le32_make(99)};
    cr_assert_eq(staged_apply(staged, &row), 0);
}

static void expect(const struct staged *staged, struct disk_txn_name name,
                   const uint64_t *positions, uint32_t count)
{
    uint32_t row = staged_first(staged, &name);
    for (uint32_t i = 0; i < count; i++, row = staged_next(staged, row)) {
        cr_assert_neq(row, TABLE_ROW_NONE);
        cr_assert_eq(le64_get(staged_row(staged, row)->position), positions[i]);
        cr_assert_eq(le32_get(staged_row(staged, row)->order), i);
    }
    cr_assert_eq(row, TABLE_ROW_NONE);
}

static void *image_of(struct staged *staged, uint64_t *len)
{
    struct table *table = staged_table(staged);
    table_snapshot_begin(table);
    *len = table_snapshot_bytes(table);
    uint8_t *bytes = malloc(*len);
    for (uint32_t at = 0, n; (n = table_snapshot_read(table, bytes + at, 4096)) > 0; at += n) {
    }
    table_snapshot_end(table);
    return bytes;
}

/* The same as after a restart. */
static struct staged *reloaded(struct staged *staged)
{
    uint64_t len;
    const char *why = NULL;
    uint8_t *bytes = image_of(staged, &len);
    struct staged *other = staged_new();
    cr_assert_eq(table_load(staged_table(other), bytes, len, &why), (int64_t)len);
    cr_assert_eq(staged_rebuild(other, &why), 0, "%s", why);
    cr_assert_eq(table_digest(staged_table(other)), table_digest(staged_table(staged)));
    free(bytes);
    return other;
}

Test(staged, rows_of_a_transaction_come_in_the_order_of_staging)
{
    struct staged *staged = staged_new();
    struct disk_txn_name a = name_of(0, 4096), b = name_of(1, 4096), none = name_of(2, 4096);
    stage(staged, a, 100, 10);
    stage(staged, b, 200, 20);
    stage(staged, a, 300, 30);
    stage(staged, a, 400, 40);
    expect(staged, a, (uint64_t[]){100, 300, 400}, 3);
    expect(staged, b, (uint64_t[]){200}, 1);
    expect(staged, none, NULL, 0);
    cr_assert_eq(staged_sum(staged, &a).batch_count, 3);
    cr_assert_eq(staged_sum(staged, &a).bytes, 80);
    cr_assert_eq(staged_sum(staged, &none).batch_count, 0);
    cr_assert_eq(staged_sum_all(staged).bytes, 100);
    cr_assert_eq(staged_lowest(staged), 100);
    staged_free(staged);
}

Test(staged, an_end_lets_go_of_its_rows_alone)
{
    struct staged *staged = staged_new();
    struct disk_txn_name a = name_of(0, 4096), b = name_of(0, 8192);
    stage(staged, a, 100, 10);
    stage(staged, b, 200, 20);
    stage(staged, a, 300, 30);
    staged_apply_end(staged, &a);
    expect(staged, a, NULL, 0);
    expect(staged, b, (uint64_t[]){200}, 1);
    cr_assert_eq(staged_lowest(staged), 200);
    cr_assert_eq(staged_sum_all(staged).batch_count, 1);
    staged_apply_end(staged, &a); // nothing staged: nothing to do
    stage(staged, a, 400, 5);
    expect(staged, a, (uint64_t[]){400}, 1);
    staged_apply_end(staged, &b);
    staged_apply_end(staged, &a);
    cr_assert_eq(staged_lowest(staged), UINT64_MAX);
    cr_assert_eq(staged_sum_all(staged).bytes, 0);
    staged_free(staged);
}

Test(staged, a_moved_row_keeps_its_place_in_the_transaction)
{
    struct staged *staged = staged_new();
    struct disk_txn_name a = name_of(0, 4096), b = name_of(0, 8192);
    stage(staged, a, 100, 10);
    stage(staged, b, 200, 20);
    stage(staged, a, 300, 30);
    cr_assert_eq(staged_apply_moved(staged, &a, 100, 500), 0);
    expect(staged, a, (uint64_t[]){500, 300}, 2);
    cr_assert_eq(staged_lowest(staged), 200);
    cr_assert_eq(staged_apply_moved(staged, &b, 200, 600), 0);
    cr_assert_eq(staged_lowest(staged), 300);
    cr_assert_eq(staged_apply_moved(staged, &a, 300, 700), 0);
    expect(staged, a, (uint64_t[]){500, 700}, 2);
    cr_assert_eq(staged_lowest(staged), 500);
    cr_assert_eq(staged_apply_moved(staged, &a, 300, 800), E_CORRUPT, "nothing lies there");
    cr_assert_eq(staged_apply_moved(staged, &a, 600, 800), E_CORRUPT, "another one's");
    staged_free(staged);
}

Test(staged, at_the_limit_it_is_full_until_something_ends)
{
    struct staged *staged = staged_new();
    struct disk_txn_name last = name_of(3, 1);
    for (uint32_t i = 0; i < STAGED_MAX - 1; i++)
        stage(staged, name_of(0, 128 * (uint64_t)(i / 100 + 1)), i + 1, 1);
    cr_assert(!staged_is_full(staged));
    stage(staged, last, STAGED_MAX, 1);
    cr_assert(staged_is_full(staged));
    struct disk_staged row = {.position = le64_make(STAGED_MAX + 1), .name = last};
    cr_assert_eq(staged_apply(staged, &row), E_FULL);
    staged_apply_end(staged, &last);
    cr_assert(!staged_is_full(staged));
    staged_free(staged);
}

Test(staged, equal_entries_make_equal_tables_across_a_restart)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct random dice;
        random_init(&dice, seed);
        struct staged *staged = staged_new(), *other = NULL;
        uint64_t position = 1, lowest_moves = 0;
        for (uint32_t i = 0; i < 3000; i++) {
            struct disk_txn_name name =
                name_of((uint32_t)random_below(&dice, 3), 64 * (1 + random_below(&dice, 20)));
            uint64_t what = random_below(&dice, 10), from = staged_lowest(staged);
            position += 1 + random_below(&dice, 100);
            if (what == 0) {
                staged_apply_end(staged, &name);
                if (other)
                    staged_apply_end(other, &name);
            } else if (what < 3 && from != UINT64_MAX) {
                name = staged_row(staged, staged_oldest(staged))->name;
                cr_assert_eq(staged_apply_moved(staged, &name, from, position), 0);
                if (other)
                    cr_assert_eq(staged_apply_moved(other, &name, from, position), 0);
                lowest_moves++;
            } else {
                stage(staged, name, position, 50);
                if (other)
                    stage(other, name, position, 50);
            }
            if (i % 500 == 250) {
                staged_free(other);
                other = reloaded(staged);
            }
        }
        cr_assert_gt(lowest_moves, 0);
        cr_assert_eq(table_digest(staged_table(staged)), table_digest(staged_table(other)));
        cr_assert_eq(staged_lowest(staged), staged_lowest(other));
        uint64_t before = 0;
        uint32_t count = 0;
        for (uint32_t row = staged_oldest(other); row != TABLE_ROW_NONE;
             row = staged_newer(other, row), count++) {
            cr_assert_gt(le64_get(staged_row(other, row)->position), before);
            before = le64_get(staged_row(other, row)->position);
        }
        cr_assert_eq(count, staged_sum_all(staged).batch_count);
        staged_free(staged);
        staged_free(other);
    }
}

/* Loads what `spoil` made of a good image. */
static int rebuild_of(void (*spoil)(struct disk_staged *rows))
{
    struct staged *staged = staged_new();
    stage(staged, name_of(0, 64), 100, 10);
    stage(staged, name_of(0, 64), 200, 10);
    uint64_t len;
    const char *why = NULL;
    uint8_t *bytes = image_of(staged, &len);
    spoil((struct disk_staged *)(bytes + sizeof(struct disk_table)));
    struct staged *other = staged_new();
    cr_assert_eq(table_load(staged_table(other), bytes, len, &why), (int64_t)len);
    int status = staged_rebuild(other, &why);
    cr_assert_eq(status == 0, why == NULL);
    free(bytes);
    staged_free(staged);
    staged_free(other);
    return status;
}

static void spoil_nothing(struct disk_staged *rows)
{
    (void)rows;
}
static void spoil_order(struct disk_staged *rows)
{
    rows[1].order = le32_make(2);
}
static void spoil_position(struct disk_staged *rows)
{
    rows[1].position = rows[0].position;
}
static void spoil_topic(struct disk_staged *rows)
{
    rows[0].topic_id = le32_make(0);
}
static void spoil_size(struct disk_staged *rows)
{
    rows[0].size = le32_make(0);
}

Test(staged, a_table_that_contradicts_itself_is_refused)
{
    cr_assert_eq(rebuild_of(spoil_nothing), 0);
    cr_assert_eq(rebuild_of(spoil_order), E_CORRUPT);
    cr_assert_eq(rebuild_of(spoil_position), E_CORRUPT);
    cr_assert_eq(rebuild_of(spoil_topic), E_CORRUPT);
    cr_assert_eq(rebuild_of(spoil_size), E_CORRUPT);
}
