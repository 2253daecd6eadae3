/* A hash table of (run, producer, partition) -> next expected number, grown at two thirds. */
#include "bench/engine/checker.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define CAPACITY_FIRST 1024u

static struct checker_row *find(struct checker *checker, const struct stamp *stamp,
                                uint32_t partition);
static struct checker_row *slot_of(struct checker_row *rows, uint32_t capacity, uint32_t run,
                                   uint32_t producer, uint32_t partition);
static int grow(struct checker *checker);
static void count(struct checker *checker, struct checker_row *row, uint64_t sequence);

int checker_init(struct checker *checker, uint64_t value_bytes_max)
{
    *checker = (struct checker){.capacity = CAPACITY_FIRST};
    checker->rows = calloc(CAPACITY_FIRST, sizeof(*checker->rows));
    if (checker->rows && content_init(&checker->pools[0], value_bytes_max, false) == 0 &&
        content_init(&checker->pools[1], value_bytes_max, true) == 0)
        return 0;
    checker_deinit(checker);
    return -1;
}

void checker_deinit(struct checker *checker)
{
    content_deinit(&checker->pools[0]);
    content_deinit(&checker->pools[1]);
    free(checker->rows);
    checker->rows = NULL;
}

int checker_check(struct checker *checker, uint32_t partition, uint64_t offset, const void *value,
                  size_t value_bytes, struct stamp *stamp)
{
    const char *why;
    checker->checked++;
    if (UNLIKELY(!content_verify(checker->pools, value, value_bytes, stamp, &why))) {
        memset(stamp, 0, sizeof(*stamp));
        if (checker->damaged++ == 0) {
            checker->first_damage = why;
            checker->first_damage_partition = partition;
            checker->first_damage_offset = offset;
        }
        return 0;
    }
    struct checker_row *row = find(checker, stamp, partition);
    if (row == NULL)
        return -1;
    count(checker, row, le64_get(stamp->sequence));
    return 0;
}

static void count(struct checker *checker, struct checker_row *row, uint64_t sequence)
{
    if (UNLIKELY(!row->used)) {
        row->used = true;
        row->next = checker->must_begin_at_0 ? 0 : sequence;
    }
    if (LIKELY(sequence == row->next)) {
        row->next++;
    } else if (sequence > row->next) {
        row->missing += sequence - row->next;
        checker->missing += sequence - row->next;
        row->next = sequence + 1;
    } else if (row->missing > 0) {
        row->missing--;
        checker->missing--;
        checker->late++;
    } else {
        checker->duplicates++;
    }
}

/* The row of this stamp, new (not used yet) if it is the first of its kind; NULL: no memory. */
static struct checker_row *find(struct checker *checker, const struct stamp *stamp,
                                uint32_t partition)
{
    uint32_t run = le32_get(stamp->run), producer = le16_get(stamp->producer);
    struct checker_row *row = slot_of(checker->rows, checker->capacity, run, producer, partition);
    if (row->used)
        return row;
    if (++checker->row_count > checker->capacity / 3 * 2) {
        if (grow(checker))
            return NULL;
        row = slot_of(checker->rows, checker->capacity, run, producer, partition);
    }
    row->run = run;
    row->producer = producer;
    row->partition = partition;
    return row;
}

static struct checker_row *slot_of(struct checker_row *rows, uint32_t capacity, uint32_t run,
                                   uint32_t producer, uint32_t partition)
{
    uint32_t key[3] = {run, producer, partition};
    uint64_t at = hash_xxh3(key, sizeof(key));
    for (;; at++) {
        struct checker_row *row = &rows[at & (capacity - 1)];
        if (!row->used ||
            (row->run == run && row->producer == producer && row->partition == partition))
            return row;
    }
}

static int grow(struct checker *checker)
{
    uint32_t capacity = checker->capacity * 2;
    struct checker_row *rows = calloc(capacity, sizeof(*rows));
    if (rows == NULL)
        return -1;
    for (uint32_t i = 0; i < checker->capacity; i++) {
        const struct checker_row *row = &checker->rows[i];
        if (row->used)
            *slot_of(rows, capacity, row->run, row->producer, row->partition) = *row;
    }
    free(checker->rows);
    checker->rows = rows;
    checker->capacity = capacity;
    return 0;
}
