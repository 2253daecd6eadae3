#include <criterion/criterion.h>

#include "base/random.h"
#include "base/row_map.h"

#define ROWS 200u

static bool holds(const struct row_map *map, uint64_t hash, uint32_t wanted)
{
    uint32_t at, row = row_map_first(map, hash, &at);
    while (row != ROW_MAP_NONE && row != wanted)
        row = row_map_next(map, hash, &at);
    return row == wanted;
}

Test(row_map, empty_has_no_candidates)
{
    struct row_map map;
    uint32_t at;
    cr_assert_eq(row_map_init(&map, 1), 0);
    cr_assert_eq(row_map_first(&map, 7, &at), ROW_MAP_NONE);
    row_map_deinit(&map);
}

Test(row_map, rows_of_one_hash_are_all_candidates)
{
    struct row_map map;
    cr_assert_eq(row_map_init(&map, 8), 0);
    for (uint32_t row = 0; row < 8; row++)
        row_map_add(&map, 5, row);
    for (uint32_t row = 0; row < 8; row++)
        cr_assert(holds(&map, 5, row));
    row_map_remove(&map, 5, 3);
    cr_assert(!holds(&map, 5, 3));
    cr_assert(holds(&map, 5, 7));
    row_map_deinit(&map);
}

/* Few different hashes, so that runs are long and wrap around the end. */
Test(row_map, agrees_with_a_plain_array_over_many_changes)
{
    struct row_map map;
    struct random random;
    uint64_t hashes[ROWS] = {0};
    bool is_in[ROWS] = {false};
    random_init(&random, 11);
    cr_assert_eq(row_map_init(&map, ROWS), 0);
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t row = (uint32_t)random_below(&random, ROWS);
        if (is_in[row]) {
            row_map_remove(&map, hashes[row], row);
        } else {
            hashes[row] = 480 + random_below(&random, 60);
            row_map_add(&map, hashes[row], row);
        }
        is_in[row] = !is_in[row];
        uint32_t other = (uint32_t)random_below(&random, ROWS);
        if (i >= ROWS && (is_in[other] || hashes[other] != 0))
            cr_assert_eq(holds(&map, hashes[other], other), is_in[other], "after change %u", i);
    }
    row_map_deinit(&map);
}
