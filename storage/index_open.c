/* The index of the open segment: one flat array in append order, chained by partition.
 *
 * Happy path: index_open_add() writes one entry and the partition's last link; a reader at the tail finds its
 * place through its hint. Without a hint the place is found by bisecting the array as long as the partition is
 * frequent in it, and then along its chain, which is short when the partition is rare.
 *
 * An entry keeps its partition's incarnation, so entries of a dropped one die by themselves.
 *
 * Failure mode: a replay that adds more than the limit needs memory; index_open_add() answers INDEX_NONE. */
#include "storage/index_private.h"

#include <stdlib.h>
#include <string.h>

struct open_entry {
    struct index_entry entry;
    uint64_t lsn; // of what made it visible
    struct partition *partition;
    uint32_t incarnation;
    uint32_t previous; // of the same partition
    uint32_t next;
};
static_assert(sizeof(struct open_entry) == 64, "what INDEX_ENTRIES_MAX counts with");

struct index_open {
    struct open_entry *entries;
    uint32_t count;
    uint32_t count_max; // where a live log rolls
    uint32_t capacity;  // more than count_max only during a replay
    uint64_t lowest;    // position
};

static bool grow(struct index_open *index);
static bool is_of(const struct index_open *index, uint32_t i, const struct partition *partition);
static uint64_t end_offset(const struct index_open *index, uint32_t i);
static uint32_t bisect(const struct index_open *index, const struct partition *partition,
                       uint64_t offset);
static uint32_t walk(const struct index_open *index, uint32_t i, uint64_t offset);
static bool is_live(const struct open_entry *entry);

struct index_open *index_open_new(uint32_t entry_count_max)
{
    ASSERT(entry_count_max > 0 && entry_count_max <= INDEX_ENTRIES_MAX);
    struct index_open *index = calloc(1, sizeof(*index));
    if (!index)
        return NULL;
    index->count_max = index->capacity = entry_count_max;
    index->lowest = UINT64_MAX;
    index->entries = malloc((size_t)entry_count_max * sizeof(*index->entries));
    if (index->entries)
        return index;
    free(index);
    return NULL;
}

void index_open_free(struct index_open *index)
{
    if (!index)
        return;
    free(index->entries);
    free(index);
}

void index_open_clear(struct index_open *index)
{
    index->count = 0;
    index->lowest = UINT64_MAX;
    if (index->capacity == index->count_max)
        return;
    struct open_entry *smaller =
        realloc(index->entries, (size_t)index->count_max * sizeof(*index->entries));
    if (!smaller)
        return; // the larger one is still there
    index->entries = smaller;
    index->capacity = index->count_max;
}

void index_open_detach(struct index_open *index)
{
    for (uint32_t i = 0; i < index->count; i++) {
        struct open_entry *e = &index->entries[i];
        if (e->previous == INDEX_NONE && is_live(e))
            e->partition->open_first = e->partition->open_last = INDEX_NONE;
    }
}

bool index_open_is_full(const struct index_open *index)
{
    return index->count >= index->count_max;
}

uint32_t index_open_room(const struct index_open *index)
{
    return index->count_max - (uint32_t)min_u64(index->count, index->count_max);
}

uint32_t index_open_count(const struct index_open *index)
{
    return index->count;
}

uint32_t index_open_add(struct index_open *index, struct partition *partition,
                        const struct index_entry *entry, uint64_t lsn)
{
    if (UNLIKELY(index->count == index->capacity) && !grow(index))
        return INDEX_NONE;
    uint32_t i = index->count++;
    index->entries[i] = (struct open_entry){
        .entry = *entry,
        .lsn = lsn,
        .partition = partition,
        .incarnation = partition->incarnation,
        .previous = partition->open_last,
        .next = INDEX_NONE,
    };
    if (partition->open_last == INDEX_NONE) {
        partition->open_first = i;
        partition->open_first_offset = entry->base_offset;
    } else {
        index->entries[partition->open_last].next = i;
    }
    partition->open_last = i;
    index->lowest = min_u64(index->lowest, entry->position);
    return i;
}

struct index_entry index_open_at(const struct index_open *index, uint32_t i)
{
    ASSERT(i < index->count);
    return index->entries[i].entry;
}

uint64_t index_open_lsn(const struct index_open *index, uint32_t i)
{
    ASSERT(i < index->count);
    return index->entries[i].lsn;
}

uint64_t index_open_lowest(const struct index_open *index)
{
    return index->lowest;
}

struct partition *index_open_partition(const struct index_open *index, uint32_t i)
{
    ASSERT(i < index->count);
    const struct open_entry *e = &index->entries[i];
    return is_live(e) ? e->partition : NULL;
}

uint32_t index_open_next(const struct index_open *index, uint32_t i)
{
    ASSERT(i < index->count);
    return index->entries[i].next;
}

uint32_t index_open_find(const struct index_open *index, const struct partition *partition,
                         uint64_t offset, uint32_t hint)
{
    if (partition->open_first == INDEX_NONE || offset >= end_offset(index, partition->open_last))
        return INDEX_NONE;
    if (offset < end_offset(index, partition->open_first))
        return partition->open_first;
    if (is_of(index, hint, partition))
        return walk(index, hint, offset);
    return walk(index, bisect(index, partition, offset), offset);
}

uint32_t index_open_find_time(const struct index_open *index, const struct partition *partition,
                              int64_t timestamp)
{
    uint32_t i = partition->open_first;
    while (i != INDEX_NONE && index->entries[i].entry.max_timestamp < timestamp)
        i = index->entries[i].next;
    return i;
}

static bool grow(struct index_open *index)
{
    if (index->capacity > UINT32_MAX / 2)
        return false;
    struct open_entry *larger =
        realloc(index->entries, 2 * (size_t)index->capacity * sizeof(*index->entries));
    if (!larger)
        return false;
    index->entries = larger;
    index->capacity *= 2;
    return true;
}

static bool is_live(const struct open_entry *entry)
{
    return entry->partition->incarnation == entry->incarnation;
}

static bool is_of(const struct index_open *index, uint32_t i, const struct partition *partition)
{
    return i < index->count && index->entries[i].partition == partition &&
           index->entries[i].incarnation == partition->incarnation;
}

static uint64_t end_offset(const struct index_open *index, uint32_t i)
{
    return index->entries[i].entry.base_offset + index->entries[i].entry.record_count;
}

/* Some entry of the partition at or before the one that holds `offset`. Halves the array as long as an entry of
 * the partition lies within 32 places behind the middle; then the chain from there on is short. */
static uint32_t bisect(const struct index_open *index, const struct partition *partition,
                       uint64_t offset)
{
    uint32_t low = partition->open_first, high = partition->open_last;
    while (high - low > 64) {
        uint32_t i = low + (high - low) / 2, end = i + 32;
        while (i < end && !is_of(index, i, partition))
            i++;
        if (i == end)
            break;
        if (index->entries[i].entry.base_offset <= offset)
            low = i;
        else
            high = i - 1;
    }
    return low;
}

/* Along the chain, in whichever direction, to the first entry that ends behind `offset`. There is one. */
static uint32_t walk(const struct index_open *index, uint32_t i, uint64_t offset)
{
    while (end_offset(index, i) <= offset)
        i = index->entries[i].next;
    for (uint32_t before = index->entries[i].previous;
         before != INDEX_NONE && end_offset(index, before) > offset;
         before = index->entries[i].previous)
        i = before;
    return i;
}

bool index_open_is_first(const struct index_open *index, uint32_t i)
{
    return index->entries[i].previous == INDEX_NONE;
}
