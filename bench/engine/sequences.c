/* A hash table of (run, producer, partition) -> next expected number, grown at two thirds. */
#include "bench/engine/sequences.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define VALUE_BYTES_MAX (4 * MIB) // as large as publish makes them
#define CAPACITY_FIRST 1024u

static struct sequence_row *find(struct sequences *sequences, const struct payload_stamp *stamp,
                                 uint32_t partition);
static struct sequence_row *slot_of(struct sequence_row *rows, uint32_t capacity, uint64_t run,
                                    uint32_t producer, uint32_t partition);
static int grow(struct sequences *sequences);
static void count(struct sequences *sequences, struct sequence_row *row, uint64_t sequence);

int sequences_init(struct sequences *sequences)
{
    *sequences = (struct sequences){.capacity = CAPACITY_FIRST};
    sequences->rows = calloc(CAPACITY_FIRST, sizeof(*sequences->rows));
    if (sequences->rows && payload_init(&sequences->pools[0], VALUE_BYTES_MAX, false) == 0 &&
        payload_init(&sequences->pools[1], VALUE_BYTES_MAX, true) == 0)
        return 0;
    sequences_deinit(sequences);
    return -1;
}

void sequences_deinit(struct sequences *sequences)
{
    payload_deinit(&sequences->pools[0]);
    payload_deinit(&sequences->pools[1]);
    free(sequences->rows);
    sequences->rows = NULL;
}

int sequences_check(struct sequences *sequences, uint32_t partition, uint64_t offset,
                    const void *value, size_t value_bytes)
{
    struct payload_stamp stamp;
    const char *why;
    sequences->checked++;
    if (!payload_verify(sequences->pools, value, value_bytes, &stamp, &why)) {
        if (sequences->damaged++ == 0) {
            sequences->first_damage = why;
            sequences->first_damage_partition = partition;
            sequences->first_damage_offset = offset;
        }
        return 0;
    }
    struct sequence_row *row = find(sequences, &stamp, partition);
    if (!row)
        return -1;
    count(sequences, row, le64_get(stamp.sequence));
    return 0;
}

static void count(struct sequences *sequences, struct sequence_row *row, uint64_t sequence)
{
    if (!row->used) {
        row->used = true;
        row->next = sequence;
    }
    if (sequence < row->next) {
        sequences->duplicates++;
        return;
    }
    sequences->missing += sequence - row->next;
    row->next = sequence + 1;
}

/* The row of this stamp, new (not used yet) if it is the first of its kind; NULL: no memory. */
static struct sequence_row *find(struct sequences *sequences, const struct payload_stamp *stamp,
                                 uint32_t partition)
{
    uint64_t run = le64_get(stamp->run);
    uint32_t producer = le32_get(stamp->producer);
    struct sequence_row *row =
        slot_of(sequences->rows, sequences->capacity, run, producer, partition);
    if (row->used)
        return row;
    if (++sequences->row_count > sequences->capacity / 3 * 2) {
        if (grow(sequences))
            return NULL;
        row = slot_of(sequences->rows, sequences->capacity, run, producer, partition);
    }
    row->run = run;
    row->producer = producer;
    row->partition = partition;
    return row;
}

static struct sequence_row *slot_of(struct sequence_row *rows, uint32_t capacity, uint64_t run,
                                    uint32_t producer, uint32_t partition)
{
    uint64_t key[2] = {run, (uint64_t)producer << 32 | partition};
    uint64_t at = hash_xxh3(key, sizeof(key));
    for (;; at++) {
        struct sequence_row *row = &rows[at & (capacity - 1)];
        if (!row->used ||
            (row->run == run && row->producer == producer && row->partition == partition))
            return row;
    }
}

static int grow(struct sequences *sequences)
{
    uint32_t capacity = sequences->capacity * 2;
    struct sequence_row *rows = calloc(capacity, sizeof(*rows));
    if (!rows)
        return -1;
    for (uint32_t i = 0; i < sequences->capacity; i++) {
        const struct sequence_row *row = &sequences->rows[i];
        if (row->used)
            *slot_of(rows, capacity, row->run, row->producer, row->partition) = *row;
    }
    free(sequences->rows);
    sequences->rows = rows;
    sequences->capacity = capacity;
    return 0;
}
