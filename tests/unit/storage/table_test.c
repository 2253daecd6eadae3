/* State tables: rows, the frozen view beside changes (compared with a copy), and damaged images. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/status.h"
#include "storage/table.h"

#define ROW_BYTES 88
#define ROWS_MAX 1000u

struct row {
    uint64_t id; // never 0 in use
    uint64_t words[10];
};
static_assert(sizeof(struct row) == ROW_BYTES, "test");

static struct table *new_table(uint32_t row_count_max)
{
    struct table *table = table_new(&(struct table_options){
        .id = TABLE_PRODUCERS, .row_bytes = ROW_BYTES, .row_count_max = row_count_max});
    cr_assert_not_null(table);
    return table;
}

static uint32_t add_row(struct table *table, uint64_t id)
{
    uint32_t index;
    struct row *row = table_row_new(table, &index);
    cr_assert_not_null(row);
    row->id = id;
    row->words[9] = id * 3;
    return index;
}

/* The whole frozen image, read in pieces of piece_bytes; the caller frees it. */
static uint8_t *read_snapshot(struct table *table, uint32_t piece_bytes, uint64_t *len)
{
    uint64_t size = table_snapshot_bytes(table);
    uint8_t *image = malloc(size + piece_bytes);
    uint32_t n;
    for (*len = 0; (n = table_snapshot_read(table, image + *len, piece_bytes)) > 0; *len += n)
        cr_assert_leq(*len + n, size);
    cr_assert_eq(*len, size);
    return image;
}

static uint8_t *image_of(struct table *table, uint64_t *len)
{
    table_snapshot_begin(table);
    uint8_t *image = read_snapshot(table, 4096, len);
    table_snapshot_end(table);
    return image;
}

Test(table, new_rows_are_zeroed_and_numbered_from_zero)
{
    struct table *table = new_table(ROWS_MAX);
    for (uint32_t i = 0; i < 300; i++)
        cr_assert_eq(add_row(table, i + 1), i);
    cr_assert_eq(table_used_count(table), 300);
    cr_assert_eq(table_row_count(table), 300);
    const struct row *row = table_row(table, 299);
    cr_assert_eq(row->id, 300);
    cr_assert_eq(row->words[0], 0);
    cr_assert_eq(table_id_of(table), TABLE_PRODUCERS);
    cr_assert_geq(table_memory_bytes(table), 300 * ROW_BYTES);
    table_free(table);
}

Test(table, answers_null_at_the_limit_and_goes_on_after_a_delete)
{
    struct table *table = new_table(70);
    for (uint32_t i = 0; i < 70; i++)
        add_row(table, i + 1);
    uint32_t index;
    cr_assert_null(table_row_new(table, &index));
    table_row_delete(table, 33);
    cr_assert_eq(add_row(table, 99), 33);
    cr_assert_null(table_row_new(table, &index));
    table_free(table);
}

Test(table, deleted_rows_are_reused_lowest_first)
{
    struct table *table = new_table(ROWS_MAX);
    for (uint32_t i = 0; i < 500; i++)
        add_row(table, i + 1);
    table_row_delete(table, 400);
    table_row_delete(table, 7);
    table_row_delete(table, 130);
    cr_assert_not(table_row_is_used(table, 7));
    cr_assert_eq(add_row(table, 1), 7);
    cr_assert_eq(add_row(table, 1), 130);
    cr_assert_eq(add_row(table, 1), 400);
    cr_assert_eq(add_row(table, 1), 500);
    table_free(table);
}

Test(table, rows_stay_where_they_are_when_others_come_and_go)
{
    struct table *table = new_table(ROWS_MAX);
    uint32_t first = add_row(table, 1);
    const struct row *row = table_row(table, first);
    table_snapshot_begin(table);
    for (uint32_t i = 0; i < 600; i++)
        add_row(table, i + 2);
    ((struct row *)table_row_mut(table, first))->words[1] = 77;
    cr_assert_eq(table_row(table, first), row);
    cr_assert_eq(row->words[1], 77);
    table_snapshot_end(table);
    table_free(table);
}

Test(table, digest_tells_content_and_place)
{
    struct table *a = new_table(ROWS_MAX), *b = new_table(ROWS_MAX);
    cr_assert_eq(table_digest(a), table_digest(b));
    add_row(a, 1);
    cr_assert_neq(table_digest(a), table_digest(b));
    add_row(b, 1);
    cr_assert_eq(table_digest(a), table_digest(b));
    ((struct row *)table_row_mut(b, 0))->words[5] = 1;
    cr_assert_neq(table_digest(a), table_digest(b));
    table_free(a);
    table_free(b);
}

Test(table, the_same_operations_give_the_same_digest_whatever_was_loaded_between)
{
    struct table *live = new_table(ROWS_MAX), *loaded = new_table(ROWS_MAX);
    for (uint32_t i = 0; i < 400; i++)
        add_row(live, i + 1);
    table_row_delete(live, 399);
    table_row_delete(live, 12);
    uint64_t len;
    uint8_t *image = image_of(live, &len);
    const char *why = NULL;
    cr_assert_eq(table_load(loaded, image, len, &why), (int64_t)len);
    cr_assert_eq(table_used_count(loaded), table_used_count(live));
    for (uint32_t i = 0; i < 5; i++)
        cr_assert_eq(add_row(live, 1000 + i), add_row(loaded, 1000 + i));
    cr_assert_eq(table_digest(live), table_digest(loaded));
    free(image);
    table_free(live);
    table_free(loaded);
}

Test(table, an_empty_table_has_an_image_too)
{
    struct table *table = new_table(ROWS_MAX), *loaded = new_table(ROWS_MAX);
    uint64_t len;
    uint8_t *image = image_of(table, &len);
    cr_assert_eq(len, sizeof(struct disk_table));
    const char *why = NULL;
    cr_assert_eq(table_load(loaded, image, len, &why), (int64_t)len);
    cr_assert_eq(table_row_count(loaded), 0);
    free(image);
    table_free(table);
    table_free(loaded);
}

/* Random changes between the pieces; the frozen image must be that of the moment of begin. */
static void mutate(struct table *table, struct random *random)
{
    uint32_t index = (uint32_t)random_below(random, ROWS_MAX);
    uint32_t what = (uint32_t)random_below(random, 4);
    if (what == 0 && table_used_count(table) < ROWS_MAX)
        add_row(table, random_u64(random) | 1);
    else if (what == 1 && table_row_is_used(table, index))
        table_row_delete(table, index);
    else if (table_row_is_used(table, index))
        ((struct row *)table_row_mut(table, index))->words[index % 10] = random_u64(random);
}

static uint8_t *snapshot_while_mutating(struct table *table, struct random *random, uint64_t *len)
{
    uint64_t size = table_snapshot_bytes(table);
    uint8_t *image = malloc(size + 4096);
    *len = 0;
    for (;;) {
        for (uint64_t i = random_below(random, 20); i > 0; i--)
            mutate(table, random);
        uint32_t capacity = 16 + (uint32_t)random_below(random, 4000);
        uint32_t n = table_snapshot_read(table, image + *len, capacity);
        if (n == 0)
            return image;
        *len += n;
        cr_assert_leq(*len, size);
    }
}

Test(table, snapshot_shows_the_moment_of_begin_while_rows_change)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random random;
        random_init(&random, seed);
        struct table *table = new_table(ROWS_MAX);
        for (uint64_t i = random_below(&random, 3000); i > 0; i--)
            mutate(table, &random);
        uint64_t before_len, len;
        uint8_t *before = image_of(table, &before_len);
        uint64_t memory = table_memory_bytes(table);
        table_snapshot_begin(table);
        uint8_t *image = snapshot_while_mutating(table, &random, &len);
        table_snapshot_end(table);
        cr_assert_eq(len, before_len, "seed %lu", seed);
        cr_assert_arr_eq(image, before, len, "seed %lu", seed);
        cr_assert_leq(table_memory_bytes(table), memory + ROWS_MAX * 128, "copies were freed");
        free(before);
        free(image);
        table_free(table);
    }
}

Test(table, a_snapshot_given_up_half_way_leaves_no_copies)
{
    struct table *table = new_table(ROWS_MAX);
    for (uint32_t i = 0; i < ROWS_MAX; i++)
        add_row(table, i + 1);
    uint64_t memory = table_memory_bytes(table);
    table_snapshot_begin(table);
    uint8_t bytes[64];
    cr_assert_eq(table_snapshot_read(table, bytes, sizeof(bytes)), sizeof(bytes));
    for (uint32_t i = 0; i < ROWS_MAX; i++)
        table_row_mut(table, i);
    cr_assert_gt(table_memory_bytes(table), memory);
    table_snapshot_end(table);
    cr_assert_eq(table_memory_bytes(table), memory);
    table_free(table);
}

/* ---- damaged images ---- */

static int64_t load_into_new(const uint8_t *image, uint64_t len)
{
    struct table *table = new_table(ROWS_MAX);
    const char *why = NULL;
    int64_t result = table_load(table, image, len, &why);
    if (result < 0) {
        cr_assert_not_null(why);
        cr_assert_eq(table_row_count(table), 0);
    }
    table_free(table);
    return result;
}

Test(table, load_refuses_an_image_cut_at_any_length)
{
    struct table *table = new_table(ROWS_MAX);
    for (uint32_t i = 0; i < 3; i++)
        add_row(table, i + 1);
    uint64_t len;
    uint8_t *image = image_of(table, &len);
    for (uint64_t cut = 0; cut < len; cut++)
        cr_assert_eq(load_into_new(image, cut), E_CORRUPT, "cut at %lu", cut);
    cr_assert_eq(load_into_new(image, len), (int64_t)len);
    free(image);
    table_free(table);
}

Test(table, load_refuses_headers_that_do_not_fit)
{
    struct table *table = new_table(ROWS_MAX);
    add_row(table, 1);
    uint64_t len;
    uint8_t *image = image_of(table, &len);
    struct disk_table *header = (struct disk_table *)image;
    struct disk_table good = *header;
    header->table_id = le32_make(TABLE_TOPICS);
    cr_assert_eq(load_into_new(image, len), E_CORRUPT);
    *header = good;
    header->row_bytes = le32_make(ROW_BYTES + 8);
    cr_assert_eq(load_into_new(image, len), E_CORRUPT);
    *header = good;
    header->row_count = le64_make(UINT64_MAX / ROW_BYTES + 2);
    cr_assert_eq(load_into_new(image, len), E_TOO_LARGE);
    header->row_count = le64_make(ROWS_MAX);
    cr_assert_eq(load_into_new(image, len), E_CORRUPT);
    free(image);
    table_free(table);
}

Test(table, load_refuses_a_free_row_that_holds_something)
{
    struct table *table = new_table(ROWS_MAX);
    add_row(table, 1);
    uint64_t len;
    uint8_t *image = image_of(table, &len);
    memset(image + sizeof(struct disk_table), 0, 8);
    cr_assert_eq(load_into_new(image, len), E_CORRUPT);
    memset(image + sizeof(struct disk_table), 0, ROW_BYTES);
    cr_assert_eq(load_into_new(image, len), (int64_t)len);
    free(image);
    table_free(table);
}
