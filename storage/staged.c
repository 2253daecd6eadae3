/* The rows of staged batches, and how they hang together.
 *
 * Happy path: staged_apply() takes the lowest free row and hangs it behind its transaction's last one and behind the
 * row with the highest position of all; COMMIT walks the transaction's rows in that order, staged_apply_end() lets go of
 * them. All of it but the end is O(1), and the end is a step for each row.
 *
 * Beside the table each row has links, by row number, since rows never move:
 *
 *     buckets[hash of the name] -> first row of a transaction -> first row of another one in the bucket -> ...
 *     first row of a transaction -> next -> next -> ...       in the order of staging; the first knows the last, and sums
 *     oldest -> newer -> newer -> ...                         all rows by position: what is appended or moved is the newest
 *
 * Nothing of that is durable: staged_rebuild() makes it from the rows, by (name, order) and by position.
 *
 * Failure modes: the limit of rows, or no memory for a page of them: FULL; a loaded table that contradicts itself, and
 * a move of what does not lie there: CORRUPT. */
#include "storage/staged.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/status.h"

#define BUCKET_COUNT 65536u
#define NONE TABLE_ROW_NONE

struct link {
    uint32_t next;  // of its transaction
    uint32_t older; // by position
    uint32_t newer;
    /* the first row of a transaction knows the rest of it */
    uint32_t bucket_next;
    uint32_t last;
    uint32_t count;
    uint64_t bytes;
};
static_assert(sizeof(struct link) == 32, "4 MiB at the most, touched as far as rows are in use");

struct staged {
    struct table *table;
    struct link *links; // by row
    uint32_t *buckets;
    uint32_t oldest, newest;
    struct staged_sum all;
};

static uint32_t *bucket_of(const struct staged *staged, const struct disk_txn_name *name);
static bool names_are_equal(const struct disk_txn_name *a, const struct disk_txn_name *b);
static void hang_in_transaction(struct staged *staged, uint32_t row);
static void hang_as_newest(struct staged *staged, uint32_t row);
static void unhang(struct staged *staged, uint32_t row);
static const char *rows_hang(struct staged *staged, uint32_t *order);
static const char *row_check(const struct staged *staged, const struct disk_staged *disk);
static int compare_order(const void *a, const void *b, void *context);
static int compare_position(const void *a, const void *b, void *context);

struct staged *staged_new(void)
{
    struct staged *staged = calloc(1, sizeof(*staged));
    if (!staged)
        return NULL;
    staged->oldest = staged->newest = NONE;
    staged->table = table_new(&(struct table_options){
        .id = TABLE_STAGED, .row_bytes = sizeof(struct disk_staged), .row_count_max = STAGED_MAX});
    staged->links = calloc(STAGED_MAX, sizeof(*staged->links));
    staged->buckets = malloc(BUCKET_COUNT * sizeof(*staged->buckets));
    if (!staged->table || !staged->links || !staged->buckets) {
        staged_free(staged);
        return NULL;
    }
    memset(staged->buckets, 0xff, BUCKET_COUNT * sizeof(*staged->buckets));
    return staged;
}

void staged_free(struct staged *staged)
{
    if (!staged)
        return;
    if (staged->table)
        table_free(staged->table);
    free(staged->links);
    free(staged->buckets);
    free(staged);
}

struct table *staged_table(struct staged *staged)
{
    return staged->table;
}

/* ---- what there is ---- */

struct staged_sum staged_sum(const struct staged *staged, const struct disk_txn_name *name)
{
    uint32_t first = staged_first(staged, name);
    if (first == NONE)
        return (struct staged_sum){0};
    return (struct staged_sum){staged->links[first].count, staged->links[first].bytes};
}

struct staged_sum staged_sum_all(const struct staged *staged)
{
    return staged->all;
}

uint32_t staged_first(const struct staged *staged, const struct disk_txn_name *name)
{
    uint32_t row = *bucket_of(staged, name);
    while (row != NONE && !names_are_equal(&staged_row(staged, row)->name, name))
        row = staged->links[row].bucket_next;
    return row;
}

uint32_t staged_next(const struct staged *staged, uint32_t row)
{
    return staged->links[row].next;
}

const struct disk_staged *staged_row(const struct staged *staged, uint32_t row)
{
    return table_row(staged->table, row);
}

bool staged_row_is(const struct staged *staged, uint32_t row, const struct disk_staged *seen)
{
    return table_row_is_used(staged->table, row) &&
           memcmp(staged_row(staged, row), seen, sizeof(*seen)) == 0;
}

bool staged_is_full(const struct staged *staged)
{
    return table_is_full(staged->table);
}

uint64_t staged_lowest(const struct staged *staged)
{
    uint32_t row = staged->oldest;
    return row == NONE ? UINT64_MAX : le64_get(staged_row(staged, row)->position);
}

uint32_t staged_oldest(const struct staged *staged)
{
    return staged->oldest;
}

uint32_t staged_newer(const struct staged *staged, uint32_t row)
{
    return staged->links[row].newer;
}

/* ---- apply ---- */

int staged_apply(struct staged *staged, const struct disk_staged *row)
{
    uint32_t at;
    struct disk_staged *disk = table_row_new(staged->table, &at);
    if (!disk)
        return E_FULL;
    ASSERT(le64_get(row->position) > 0);
    *disk = *row;
    disk->order = le32_make(staged_sum(staged, &row->name).batch_count);
    hang_in_transaction(staged, at);
    hang_as_newest(staged, at);
    return 0;
}

/* What is moved is nearly always the oldest of all. */
int staged_apply_moved(struct staged *staged, const struct disk_txn_name *name, uint64_t from,
                       uint64_t to)
{
    uint32_t row = staged->oldest;
    while (row != NONE && le64_get(staged_row(staged, row)->position) < from)
        row = staged->links[row].newer;
    if (row == NONE || le64_get(staged_row(staged, row)->position) != from ||
        !names_are_equal(&staged_row(staged, row)->name, name))
        return E_CORRUPT;
    struct disk_staged *disk = table_row_mut(staged->table, row);
    disk->position = le64_make(to);
    unhang(staged, row);
    hang_as_newest(staged, row);
    return 0;
}

void staged_apply_end(struct staged *staged, const struct disk_txn_name *name)
{
    uint32_t row = staged_first(staged, name);
    if (row == NONE)
        return;
    struct link *first = &staged->links[row];
    uint32_t *at = bucket_of(staged, name);
    while (*at != row)
        at = &staged->links[*at].bucket_next;
    *at = first->bucket_next;
    staged->all.batch_count -= first->count;
    staged->all.bytes -= first->bytes;
    while (row != NONE) {
        uint32_t next = staged->links[row].next;
        unhang(staged, row);
        table_row_delete(staged->table, row);
        row = next;
    }
}

/* ---- links ---- */

static uint32_t *bucket_of(const struct staged *staged, const struct disk_txn_name *name)
{
    uint64_t key = le64_get(name->open_lsn) ^ (uint64_t)le32_get(name->coordinator) << 48;
    return &staged->buckets[key * 0x9e3779b97f4a7c15ull >> 48];
}
static_assert(BUCKET_COUNT == 1u << (64 - 48), "the shift gives a bucket");

static bool names_are_equal(const struct disk_txn_name *a, const struct disk_txn_name *b)
{
    return le64_get(a->open_lsn) == le64_get(b->open_lsn) &&
           le32_get(a->coordinator) == le32_get(b->coordinator);
}

static void hang_in_transaction(struct staged *staged, uint32_t row)
{
    const struct disk_staged *disk = staged_row(staged, row);
    uint32_t first = staged_first(staged, &disk->name);
    staged->links[row] = (struct link){.next = NONE, .bucket_next = NONE, .last = row};
    if (first == NONE) {
        uint32_t *bucket = bucket_of(staged, &disk->name);
        staged->links[row].bucket_next = *bucket;
        *bucket = first = row;
    } else {
        staged->links[staged->links[first].last].next = row;
        staged->links[first].last = row;
    }
    staged->links[first].count++;
    staged->links[first].bytes += le32_get(disk->size);
    staged->all.batch_count++;
    staged->all.bytes += le32_get(disk->size);
}

static void hang_as_newest(struct staged *staged, uint32_t row)
{
    ASSERT(staged->newest == NONE || le64_get(staged_row(staged, staged->newest)->position) <
                                         le64_get(staged_row(staged, row)->position));
    staged->links[row].older = staged->newest;
    staged->links[row].newer = NONE;
    if (staged->newest == NONE)
        staged->oldest = row;
    else
        staged->links[staged->newest].newer = row;
    staged->newest = row;
}

static void unhang(struct staged *staged, uint32_t row)
{
    uint32_t older = staged->links[row].older, newer = staged->links[row].newer;
    if (older == NONE)
        staged->oldest = newer;
    else
        staged->links[older].newer = newer;
    if (newer == NONE)
        staged->newest = older;
    else
        staged->links[newer].older = older;
}

/* ---- after a load ---- */

int staged_rebuild(struct staged *staged, const char **why)
{
    ASSERT(staged->all.batch_count == 0);
    uint32_t count = table_used_count(staged->table), used = 0;
    if (count == 0)
        return 0;
    uint32_t *rows = malloc(count * sizeof(*rows));
    if (!rows) {
        *why = "out of memory";
        return E_NO_MEMORY;
    }
    for (uint32_t row = 0; row < table_row_count(staged->table); row++)
        if (table_row_is_used(staged->table, row))
            rows[used++] = row;
    *why = rows_hang(staged, rows);
    free(rows);
    return *why ? E_CORRUPT : 0;
}

static const char *rows_hang(struct staged *staged, uint32_t *rows)
{
    uint32_t count = table_used_count(staged->table);
    qsort_r(rows, count, sizeof(*rows), compare_order, staged);
    for (uint32_t i = 0; i < count; i++) {
        const char *why = row_check(staged, staged_row(staged, rows[i]));
        if (why)
            return why;
        hang_in_transaction(staged, rows[i]);
    }
    qsort_r(rows, count, sizeof(*rows), compare_position, staged);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && compare_position(&rows[i - 1], &rows[i], staged) == 0)
            return "two staged batches lie at one position";
        hang_as_newest(staged, rows[i]);
    }
    return NULL;
}

/* Rows come by name, then order. */
static const char *row_check(const struct staged *staged, const struct disk_staged *disk)
{
    if (le32_get(disk->topic_id) == 0)
        return "a staged batch of topic 0";
    if (le32_get(disk->size) == 0 || le32_get(disk->record_count) == 0)
        return "a staged batch without records";
    if (le32_get(disk->order) != staged_sum(staged, &disk->name).batch_count)
        return "a transaction's staged batches are not numbered one by one";
    return NULL;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_order(const void *a, const void *b, void *context)
{
    const struct disk_staged *x = staged_row(context, *(const uint32_t *)a);
    const struct disk_staged *y = staged_row(context, *(const uint32_t *)b);
    int by = compare_u64(le32_get(x->name.coordinator), le32_get(y->name.coordinator));
    if (by == 0)
        by = compare_u64(le64_get(x->name.open_lsn), le64_get(y->name.open_lsn));
    return by ? by : compare_u64(le32_get(x->order), le32_get(y->order));
}

static int compare_position(const void *a, const void *b, void *context)
{
    const struct disk_staged *x = staged_row(context, *(const uint32_t *)a);
    const struct disk_staged *y = staged_row(context, *(const uint32_t *)b);
    return compare_u64(le64_get(x->position), le64_get(y->position));
}
