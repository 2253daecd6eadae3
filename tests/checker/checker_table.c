/* Arrays that grow. Numbers are small and dense, so all tables are plain arrays, found by index. */
#include <stdlib.h>
#include <string.h>

#include "tests/checker/checker_private.h"

static void *grid_get(struct grid *grid, uint32_t first, uint32_t second, size_t row_bytes);
static void grid_free(struct grid *grid, void (*free_row)(void *row));
static void free_lane(void *row);
static void free_group(void *row);

void *grown(void *items, uint64_t *room, uint64_t count, size_t item_bytes)
{
    if (count <= *room)
        return items;
    uint64_t wanted = *room + *room / 2;
    if (wanted < count)
        wanted = count;
    char *more = realloc(items, wanted * item_bytes);
    if (!more) {
        perror("checker");
        exit(1);
    }
    memset(more + *room * item_bytes, 0, (wanted - *room) * item_bytes);
    *room = wanted;
    return more;
}

struct lane *lane_of(struct checker *checker, uint32_t producer, uint32_t partition)
{
    struct lane *lane = grid_get(&checker->lanes, producer, partition, sizeof(*lane));
    lane->producer = producer;
    lane->partition = partition;
    return lane;
}

struct lane *lane_if_any(const struct checker *checker, uint32_t producer, uint32_t partition)
{
    return grid_at(&checker->lanes, producer, partition);
}

struct reading *reading_of(struct checker *checker, uint32_t reader, uint32_t partition)
{
    return grid_get(&checker->readings, reader, partition, sizeof(struct reading));
}

struct group_partition *group_of(struct checker *checker, uint32_t group, uint32_t partition)
{
    return grid_get(&checker->groups, group, partition, sizeof(struct group_partition));
}

struct transaction *txn_of(struct checker *checker, uint64_t txn)
{
    GROW(checker->txns, checker->txn_room, txn + 1);
    checker->txns[txn].known = 1;
    return &checker->txns[txn];
}

struct partition *partition_of(struct checker *checker, uint32_t partition)
{
    GROW(checker->partitions, checker->partition_room, (uint64_t)partition + 1);
    if (!checker->partitions[partition]) {
        uint64_t room = 0;
        checker->partitions[partition] = grown(NULL, &room, 1, sizeof(struct partition));
    }
    return checker->partitions[partition];
}

/* Nearly always the last span. */
uint64_t lane_txn(const struct lane *lane, uint64_t sequence)
{
    uint64_t low = 0, high = lane->span_count;
    if (high > 0 && lane->spans[high - 1].sequence <= sequence)
        return lane->spans[high - 1].txn;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (lane->spans[middle].sequence <= sequence)
            low = middle;
        else
            high = middle;
    }
    return high > low ? lane->spans[low].txn : 0;
}

void each_lane(struct checker *checker, lane_fn fn)
{
    const struct grid *grid = &checker->lanes;
    for (uint32_t i = 0; i < grid->row_count; i++) {
        for (uint32_t j = 0; j < grid->column_counts[i]; j++) {
            if (grid->rows[i][j])
                fn(checker, grid->rows[i][j]);
        }
    }
}

void tables_free(struct checker *checker)
{
    grid_free(&checker->lanes, free_lane);
    grid_free(&checker->readings, free);
    grid_free(&checker->groups, free_group);
    for (uint64_t i = 0; i < checker->partition_room; i++) {
        if (checker->partitions[i]) {
            free(checker->partitions[i]->seen);
            free(checker->partitions[i]->ends);
        }
        free(checker->partitions[i]);
    }
    free(checker->partitions);
    free(checker->txns);
}

/* ---- grids ---- */

void *grid_at(const struct grid *grid, uint32_t first, uint32_t second)
{
    if (first >= grid->row_count || second >= grid->column_counts[first])
        return NULL;
    return grid->rows[first][second];
}

static void *grid_get(struct grid *grid, uint32_t first, uint32_t second, size_t row_bytes)
{
    if (first >= grid->row_count) {
        uint64_t rows_room = grid->row_count, counts_room = grid->row_count;
        grid->rows = grown(grid->rows, &rows_room, (uint64_t)first + 1, sizeof(*grid->rows));
        grid->column_counts = grown(grid->column_counts, &counts_room, (uint64_t)first + 1,
                                    sizeof(*grid->column_counts));
        grid->row_count = (uint32_t)rows_room;
    }
    if (second >= grid->column_counts[first]) {
        uint64_t room = grid->column_counts[first];
        grid->rows[first] =
            grown(grid->rows[first], &room, (uint64_t)second + 1, sizeof(**grid->rows));
        grid->column_counts[first] = (uint32_t)room;
    }
    void **place = &grid->rows[first][second];
    uint64_t none = 0;
    if (!*place)
        *place = grown(NULL, &none, 1, row_bytes);
    return *place;
}

static void grid_free(struct grid *grid, void (*free_row)(void *row))
{
    for (uint32_t i = 0; i < grid->row_count; i++) {
        for (uint32_t j = 0; j < grid->column_counts[i]; j++) {
            if (grid->rows[i][j])
                free_row(grid->rows[i][j]);
        }
        free(grid->rows[i]);
    }
    free(grid->rows);
    free(grid->column_counts);
}

static void free_lane(void *row)
{
    struct lane *lane = row;
    free(lane->places);
    free(lane->spans);
    free(lane);
}

static void free_group(void *row)
{
    struct group_partition *group = row;
    free(group->commits);
    free(group->asked_floors);
    free(group);
}
