/* State tables: rows in pages, with a frozen view for the checkpoint that runs beside the changes.
 *
 * Happy path: table_row_new() finds the lowest free row in a bitmap, table_row_mut() gives it for writing, and
 * a checkpoint calls snapshot_begin, snapshot_read until 0, snapshot_end.
 *
 * The frozen view costs nothing until a page is changed that the checkpoint has not read to its end: then that
 * page alone is copied aside, once, and the copy is freed as soon as it was read. Pages themselves never move, so
 * pointers to rows stay good.
 *
 * Failure modes: no memory for a new page: table_row_new() ends the process. No memory for a
 * copy: the snapshot is lost, reads end early, and the checkpoint sees fewer bytes than were announced. A damaged
 * image: table_load() says why, and the table is empty again. */
#include "storage/table.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/plant.h"
#include "base/status.h"

struct table_snapshot {
    bool active;
    bool lost;               // a page could not be copied aside
    uint32_t row_count;      // frozen
    uint32_t row;            // next to be read
    uint32_t row_bytes_read; // of that row
    bool header_done;
};

struct table {
    enum table_id id;
    uint32_t row_bytes;
    uint32_t row_count_max;
    uint32_t page_shift; // rows of a page: 1 << page_shift
    uint32_t page_count; // slots of `pages` and `aside`
    uint32_t row_count;  // highest row ever used + 1
    uint32_t used_count;
    uint32_t free_hint; // words of `used` below this one are full
    uint64_t memory_bytes;
    uint8_t **pages; // NULL: not taken yet
    uint8_t **aside; // copies for the snapshot
    uint64_t *used;  // a bit for each row
    struct table_snapshot snapshot;
};

static uint32_t page_shift_for(uint32_t row_bytes);
static size_t page_bytes(const struct table *table);
static uint32_t used_word_count(const struct table *table);
static uint8_t *row_at(const struct table *table, uint32_t index);
static bool page_take(struct table *table, uint32_t page);
static uint32_t free_row_find(struct table *table);
static void used_set(struct table *table, uint32_t index);
static void page_will_change(struct table *table, uint32_t page);
static uint32_t snapshot_header_read(struct table *table, uint8_t *bytes);
static uint32_t snapshot_rows_read(struct table *table, uint8_t *bytes, uint32_t capacity);
static void aside_free(struct table *table, uint32_t page);
static const char *load_check(const struct table *table, const struct disk_table *header,
                              uint64_t len);
static const char *load_rows(struct table *table, const uint8_t *rows, uint32_t row_count);
static void table_clear(struct table *table);
static bool bytes_are_zero(const uint8_t *bytes, size_t len);

static const char out_of_memory[] = "out of memory";

struct table *table_new(const struct table_options *options)
{
    ASSERT(options->row_bytes >= 16 && options->row_bytes <= 4096 && options->row_bytes % 8 == 0);
    ASSERT(options->row_count_max > 0 && options->row_count_max < TABLE_ROW_NONE);
    struct table *table = calloc(1, sizeof(*table));
    if (!table)
        return NULL;
    table->id = options->id;
    table->row_bytes = options->row_bytes;
    table->row_count_max = options->row_count_max;
    table->page_shift = page_shift_for(options->row_bytes);
    table->page_count =
        (uint32_t)(((uint64_t)options->row_count_max + (1u << table->page_shift) - 1) >>
                   table->page_shift);
    table->pages = calloc(table->page_count, sizeof(*table->pages));
    table->aside = calloc(table->page_count, sizeof(*table->aside));
    table->used = calloc(used_word_count(table), sizeof(*table->used));
    if (!table->pages || !table->aside || !table->used) {
        table_free(table);
        return NULL;
    }
    return table;
}

void table_free(struct table *table)
{
    if (!table)
        return;
    for (uint32_t page = 0; table->pages && page < table->page_count; page++)
        free(table->pages[page]);
    for (uint32_t page = 0; table->aside && page < table->page_count; page++)
        free(table->aside[page]);
    free(table->pages);
    free(table->aside);
    free(table->used);
    free(table);
}

void *table_row_new(struct table *table, uint32_t *index)
{
    uint32_t row = free_row_find(table);
    if (row == TABLE_ROW_NONE)
        return NULL;
    if (UNLIKELY(!page_take(table, row >> table->page_shift))) {
        if (PLANTED(ROW_WITHOUT_MEMORY))
            return NULL;
        end_without_memory("state table");
    }
    page_will_change(table, row >> table->page_shift);
    used_set(table, row);
    if (row >= table->row_count)
        table->row_count = row + 1;
    *index = row;
    return row_at(table, row);
}

void table_row_delete(struct table *table, uint32_t index)
{
    memset(table_row_mut(table, index), 0, table->row_bytes);
    table->used[index / 64] &= ~(1ull << (index % 64));
    table->used_count--;
    if (index / 64 < table->free_hint)
        table->free_hint = index / 64;
}

const void *table_row(const struct table *table, uint32_t index)
{
    ASSERT(index < table->row_count);
    return row_at(table, index);
}

void *table_row_mut(struct table *table, uint32_t index)
{
    ASSERT(table_row_is_used(table, index));
    page_will_change(table, index >> table->page_shift);
    return row_at(table, index);
}

bool table_row_is_used(const struct table *table, uint32_t index)
{
    return index < table->row_count && (table->used[index / 64] >> (index % 64) & 1);
}

uint32_t table_row_count(const struct table *table)
{
    return table->row_count;
}

uint32_t table_used_count(const struct table *table)
{
    return table->used_count;
}

bool table_is_full(const struct table *table)
{
    return table->used_count == table->row_count_max;
}

uint64_t table_memory_bytes(const struct table *table)
{
    return table->memory_bytes;
}

enum table_id table_id_of(const struct table *table)
{
    return table->id;
}

uint64_t table_digest(const struct table *table)
{
    uint64_t seed = ((uint64_t)table->id << 32) ^ table->row_count;
    uint32_t page_rows = 1u << table->page_shift;
    for (uint32_t row = 0; row < table->row_count; row += page_rows) {
        uint64_t rows = min_u64(page_rows, table->row_count - row);
        seed = hash_xxh3_seeded(row_at(table, row), rows * table->row_bytes, seed);
    }
    return seed;
}

/* ---- a checkpoint's side ---- */

void table_snapshot_begin(struct table *table)
{
    ASSERT(!table->snapshot.active);
    table->snapshot = (struct table_snapshot){.active = true, .row_count = table->row_count};
}

uint64_t table_snapshot_bytes(const struct table *table)
{
    ASSERT(table->snapshot.active);
    return sizeof(struct disk_table) + (uint64_t)table->snapshot.row_count * table->row_bytes;
}

uint32_t table_snapshot_read(struct table *table, uint8_t *bytes, uint32_t capacity)
{
    struct table_snapshot *snapshot = &table->snapshot;
    ASSERT(snapshot->active);
    ASSERT(capacity >= sizeof(struct disk_table));
    uint32_t len = 0;
    if (!snapshot->header_done)
        len = snapshot_header_read(table, bytes);
    return len + snapshot_rows_read(table, bytes + len, capacity - len);
}

void table_snapshot_end(struct table *table)
{
    ASSERT(table->snapshot.active);
    for (uint32_t page = 0; page < table->page_count; page++)
        aside_free(table, page);
    table->snapshot.active = false;
}

int64_t table_load(struct table *table, const uint8_t *bytes, uint64_t len, const char **why)
{
    ASSERT(table->row_count == 0 && !table->snapshot.active);
    struct disk_table header;
    if (len < sizeof(header)) {
        *why = "table header cut short";
        return E_CORRUPT;
    }
    memcpy(&header, bytes, sizeof(header));
    if ((*why = load_check(table, &header, len)))
        return le64_get(header.row_count) > table->row_count_max ? E_TOO_LARGE : E_CORRUPT;
    uint32_t row_count = (uint32_t)le64_get(header.row_count);
    if ((*why = load_rows(table, bytes + sizeof(header), row_count))) {
        table_clear(table);
        return *why == out_of_memory && !PLANTED(SHORTAGE_IS_DAMAGE) ? E_NO_MEMORY : E_CORRUPT;
    }
    return (int64_t)(sizeof(header) + (uint64_t)row_count * table->row_bytes);
}

/* ---- rows and pages ---- */

/* A power of two of rows in a page: finding a row is a shift and a mask, not a division. */
static uint32_t page_shift_for(uint32_t row_bytes)
{
    uint32_t shift = 0;
    while ((2u << shift) * row_bytes <= TABLE_PAGE_BYTES)
        shift++;
    return shift;
}

static size_t page_bytes(const struct table *table)
{
    return (size_t)table->row_bytes << table->page_shift;
}

static uint32_t used_word_count(const struct table *table)
{
    return (table->row_count_max + 63) / 64;
}

static uint8_t *row_at(const struct table *table, uint32_t index)
{
    uint32_t row = index & ((1u << table->page_shift) - 1);
    return table->pages[index >> table->page_shift] + (size_t)row * table->row_bytes;
}

static bool page_take(struct table *table, uint32_t page)
{
    if (table->pages[page])
        return true;
    table->pages[page] = calloc(1, page_bytes(table));
    if (!table->pages[page])
        return false;
    table->memory_bytes += page_bytes(table);
    return true;
}

/* Lowest first: so that the same entries make the same table whatever happened in between. */
static uint32_t free_row_find(struct table *table)
{
    uint32_t word_count = used_word_count(table);
    uint32_t word = table->free_hint;
    while (word < word_count && table->used[word] == UINT64_MAX)
        word++;
    table->free_hint = word;
    if (word == word_count)
        return TABLE_ROW_NONE;
    uint32_t row = word * 64 + (uint32_t)__builtin_ctzll(~table->used[word]);
    return row < table->row_count_max ? row : TABLE_ROW_NONE;
}

static void used_set(struct table *table, uint32_t index)
{
    table->used[index / 64] |= 1ull << (index % 64);
    table->used_count++;
}

static void page_will_change(struct table *table, uint32_t page)
{
    struct table_snapshot *snapshot = &table->snapshot;
    if (LIKELY(!snapshot->active) || snapshot->lost || table->aside[page])
        return;
    uint64_t first = (uint64_t)page << table->page_shift;
    uint64_t end = min_u64(first + (1u << table->page_shift), snapshot->row_count);
    if (snapshot->row >= end || first >= snapshot->row_count)
        return; // read to its end, or not part of it
    table->aside[page] = malloc(page_bytes(table));
    if (!table->aside[page]) {
        snapshot->lost = true;
        return;
    }
    memcpy(table->aside[page], table->pages[page], page_bytes(table));
    table->memory_bytes += page_bytes(table);
}

/* ---- snapshot ---- */

static uint32_t snapshot_header_read(struct table *table, uint8_t *bytes)
{
    struct disk_table header = {
        .table_id = le32_make(table->id),
        .row_bytes = le32_make(table->row_bytes),
        .row_count = le64_make(table->snapshot.row_count),
    };
    memcpy(bytes, &header, sizeof(header));
    table->snapshot.header_done = true;
    return sizeof(header);
}

static uint32_t snapshot_rows_read(struct table *table, uint8_t *bytes, uint32_t capacity)
{
    struct table_snapshot *snapshot = &table->snapshot;
    uint32_t page_rows = 1u << table->page_shift;
    uint32_t done = 0;
    while (done < capacity && snapshot->row < snapshot->row_count && !snapshot->lost) {
        uint32_t page = snapshot->row >> table->page_shift;
        uint64_t row_end = min_u64(((uint64_t)page + 1) * page_rows, snapshot->row_count);
        size_t from =
            (size_t)(snapshot->row & (page_rows - 1)) * table->row_bytes + snapshot->row_bytes_read;
        size_t left =
            (size_t)(row_end - snapshot->row) * table->row_bytes - snapshot->row_bytes_read;
        uint32_t len = (uint32_t)min_u64(left, capacity - done);
        const uint8_t *rows = table->aside[page] ? table->aside[page] : table->pages[page];
        memcpy(bytes + done, rows + from, len);
        done += len;
        uint32_t in_row = snapshot->row_bytes_read + len;
        snapshot->row += in_row / table->row_bytes;
        snapshot->row_bytes_read = in_row % table->row_bytes;
        if (snapshot->row == row_end)
            aside_free(table, page);
    }
    return done;
}

static void aside_free(struct table *table, uint32_t page)
{
    if (!table->aside[page])
        return;
    free(TAKE(table->aside[page]));
    table->memory_bytes -= page_bytes(table);
}

/* ---- load ---- */

static const char *load_check(const struct table *table, const struct disk_table *header,
                              uint64_t len)
{
    if (le32_get(header->table_id) != (uint32_t)table->id)
        return "table id is not the expected one";
    if (le32_get(header->row_bytes) != table->row_bytes)
        return "table rows have another size";
    if (le64_get(header->row_count) > table->row_count_max)
        return "table has more rows than the limit";
    if (le64_get(header->row_count) * table->row_bytes > len - sizeof(*header))
        return "table rows cut short";
    return NULL;
}

static const char *load_rows(struct table *table, const uint8_t *rows, uint32_t row_count)
{
    table->row_count = row_count;
    for (uint32_t row = 0; row < row_count; row++) {
        if (!page_take(table, row >> table->page_shift))
            return out_of_memory;
        const uint8_t *bytes = rows + (uint64_t)row * table->row_bytes;
        memcpy(row_at(table, row), bytes, table->row_bytes);
        if (!bytes_are_zero(bytes, 8))
            used_set(table, row);
        else if (!bytes_are_zero(bytes + 8, table->row_bytes - 8))
            return "a free table row is not all zeros";
    }
    return NULL;
}

static void table_clear(struct table *table)
{
    for (uint32_t page = 0; page < table->page_count; page++)
        free(TAKE(table->pages[page]));
    memset(table->used, 0, used_word_count(table) * sizeof(*table->used));
    table->row_count = 0;
    table->used_count = 0;
    table->free_hint = 0;
    table->memory_bytes = 0;
}

static bool bytes_are_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i])
            return false;
    return true;
}
