/* Idempotent producers: the table's rows, a hash map to them, and the order of last use.
 *
 * Happy path: producers_check() finds the row, sees that the batch's first sequence follows the row's last one, and
 * says APPEND; the batch is logged; producers_apply_batch() shifts it into the row's window. A retry is found in the
 * window by its first sequence. Everything that changes state happens in apply, from logged facts only, so that replay
 * gives the same table.
 *
 * Map: open addressing with linear probing over twice as many places as rows; deletion moves later entries back
 * (Knuth, TAOCP 6.4, algorithm R), so there are no tombstones. Order of use: a doubly linked list over row numbers,
 * appended in LSN order. */
#include "broker/producers.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/plant.h"
#include "base/status.h"

#define SEQUENCE_MODULO ((uint64_t)1 << 31) // sequences wrap from 2^31 - 1 to 0

struct links { // order of use
    uint32_t older, newer;
};

struct producers {
    struct table *table;
    uint32_t *map; // row + 1; 0: free
    uint32_t map_mask;
    struct links *use; // by row
    uint32_t oldest, newest;
};

struct key {
    uint64_t producer_id;
    uint32_t topic_id;
    uint32_t partition;
};

static struct key key_of_row(const struct disk_producer *row);
static uint32_t find(const struct producers *producers, struct key key);
static void map_insert(struct producers *producers, uint32_t row);
static void map_remove(struct producers *producers, uint32_t row);
static void use_unlink(struct producers *producers, uint32_t row);
static void use_append(struct producers *producers, uint32_t row);
static void row_remove(struct producers *producers, uint32_t row);
static void window_push(struct disk_producer *row, const struct batch_info *info);

static uint32_t sequence_last_of(const struct batch_info *info)
{
    return (uint32_t)((info->base_sequence + (uint64_t)info->record_count - 1) % SEQUENCE_MODULO);
}

struct producers *producers_new(uint32_t row_count_max)
{
    struct producers *producers = calloc(1, sizeof(*producers));
    if (!producers)
        return NULL;
    uint32_t places = 2;
    while (places < row_count_max * 2)
        places *= 2;
    producers->table = table_new(&(struct table_options){.id = TABLE_PRODUCERS,
                                                         .row_bytes = sizeof(struct disk_producer),
                                                         .row_count_max = row_count_max});
    producers->map = calloc(places, sizeof(*producers->map));
    producers->map_mask = places - 1;
    producers->use = calloc(row_count_max, sizeof(*producers->use));
    producers->oldest = producers->newest = TABLE_ROW_NONE;
    if (!producers->table || !producers->map || !producers->use) {
        producers_free(producers);
        return NULL;
    }
    return producers;
}

void producers_free(struct producers *producers)
{
    if (!producers)
        return;
    if (producers->table)
        table_free(producers->table);
    free(producers->map);
    free(producers->use);
    free(producers);
}

struct table *producers_table(struct producers *producers)
{
    return producers->table;
}

uint32_t producers_count(const struct producers *producers)
{
    return table_used_count(producers->table);
}

struct use_order {
    uint64_t lsn;
    uint32_t row;
};

static int compare_use(const void *a, const void *b)
{
    const struct use_order *x = a, *y = b;
    return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

int producers_rebuild(struct producers *producers, const char **why)
{
    uint32_t used = table_used_count(producers->table), n = 0;
    struct use_order *order = calloc(used ? used : 1, sizeof(*order));
    if (!order) {
        *why = "out of memory";
        return E_NO_MEMORY;
    }
    int status = 0;
    for (uint32_t row = 0; row < table_row_count(producers->table) && status == 0; row++) {
        if (!table_row_is_used(producers->table, row))
            continue;
        const struct disk_producer *producer = table_row(producers->table, row);
        if (producer->count == 0 || producer->count > PRODUCER_WINDOW ||
            find(producers, key_of_row(producer)) != TABLE_ROW_NONE) {
            *why = "two rows for one producer, or a row with an impossible window";
            status = E_CORRUPT;
            break;
        }
        map_insert(producers, row);
        order[n++] = (struct use_order){le64_get(producer->last_lsn), row};
    }
    qsort(order, n, sizeof(*order), compare_use);
    for (uint32_t i = 0; i < n; i++)
        use_append(producers, order[i].row);
    free(order);
    return status;
}

static enum producer_verdict refuse(uint16_t reason, uint16_t *error)
{
    *error = reason;
    return PRODUCER_REFUSE;
}

/* An epoch's first batch must begin at sequence 0: otherwise batches before it were lost. */
static enum producer_verdict check_first(const struct batch_info *info, uint16_t reason,
                                         uint16_t *error)
{
    return info->base_sequence == 0 ? PRODUCER_APPEND : refuse(reason, error);
}

enum producer_verdict producers_check(const struct producers *producers, uint32_t topic_id,
                                      uint32_t partition, const struct batch_info *info,
                                      uint64_t *base_offset, uint16_t *error)
{
    if (info->producer_id == PRODUCER_NONE)
        return PRODUCER_APPEND;
    uint32_t i = find(producers, (struct key){info->producer_id, topic_id, partition});
    if (i == TABLE_ROW_NONE)
        return check_first(info, PE_UNKNOWN_PRODUCER, error);
    const struct disk_producer *row = table_row(producers->table, i);
    uint16_t epoch = le16_get(row->epoch);
    if (info->producer_epoch < epoch && !PLANTED(ZOMBIE_TAKEN))
        return refuse(PE_FENCED_PRODUCER, error);
    if (info->producer_epoch > epoch)
        return check_first(info, PE_OUT_OF_ORDER_SEQUENCE, error);
    if (PLANTED(REFUSE_ONE))
        return refuse(PE_OVERLOADED, error);
    uint32_t last = sequence_last_of(info);
    for (uint32_t k = PLANTED(WINDOW_SHORT) ? 1 : 0; k < row->count; k++) {
        if (le32_get(row->batches[k].sequence_first) == info->base_sequence &&
            le32_get(row->batches[k].sequence_last) == last) {
            *base_offset = le64_get(row->batches[k].base_offset);
            return PLANTED(FORGET_SEQUENCE) ? PRODUCER_APPEND : PRODUCER_DUPLICATE;
        }
    }
    uint64_t expected =
        (le32_get(row->batches[row->count - 1].sequence_last) + (uint64_t)1) % SEQUENCE_MODULO;
    if (info->base_sequence == expected || PLANTED(TAKE_GAPS))
        return PRODUCER_APPEND;
    /* Behind what is expected (within half the circle): stored before and forgotten since. */
    uint64_t behind = (expected + SEQUENCE_MODULO - info->base_sequence) % SEQUENCE_MODULO;
    return refuse(behind < SEQUENCE_MODULO / 2 ? PE_DUPLICATE_SEQUENCE : PE_OUT_OF_ORDER_SEQUENCE,
                  error);
}

bool producers_must_expire(const struct producers *producers, uint32_t topic_id, uint32_t partition,
                           const struct batch_info *info, struct disk_producer *victim)
{
    if (info->producer_id == PRODUCER_NONE || !table_is_full(producers->table))
        return false;
    if (find(producers, (struct key){info->producer_id, topic_id, partition}) != TABLE_ROW_NONE)
        return false;
    *victim = *(const struct disk_producer *)table_row(producers->table, producers->oldest);
    return true;
}

bool producers_oldest(const struct producers *producers, struct disk_producer *oldest)
{
    if (producers->oldest == TABLE_ROW_NONE)
        return false;
    *oldest = *(const struct disk_producer *)table_row(producers->table, producers->oldest);
    return true;
}

int producers_apply_batch(struct producers *producers, uint32_t topic_id, uint32_t partition,
                          const struct batch_info *info, uint64_t lsn, uint64_t append_time_ms)
{
    if (info->producer_id == PRODUCER_NONE)
        return 0;
    uint32_t i = find(producers, (struct key){info->producer_id, topic_id, partition});
    struct disk_producer *row;
    if (i == TABLE_ROW_NONE) {
        row = table_row_new(producers->table, &i);
        if (!row)
            return E_FULL;
        row->producer_id_plus_1 = le64_make(info->producer_id + 1);
        row->topic_id = le32_make(topic_id);
        row->partition = le32_make(partition);
        row->epoch = le16_make(info->producer_epoch);
        map_insert(producers, i);
    } else {
        row = table_row_mut(producers->table, i);
        use_unlink(producers, i);
    }
    if (info->producer_epoch != le16_get(row->epoch)) {
        row->epoch = le16_make(info->producer_epoch);
        row->count = 0;
        memset(row->batches, 0, sizeof(row->batches));
    }
    window_push(row, info);
    row->last_lsn = le64_make(lsn);
    row->last_ms = le64_make(append_time_ms);
    use_append(producers, i);
    return 0;
}

void producers_apply_expire(struct producers *producers, uint64_t producer_id, uint32_t topic_id,
                            uint32_t partition)
{
    uint32_t row = find(producers, (struct key){producer_id, topic_id, partition});
    if (row != TABLE_ROW_NONE)
        row_remove(producers, row);
}

void producers_apply_partition_drop(struct producers *producers, uint32_t topic_id,
                                    uint32_t partition)
{
    uint32_t next;
    for (uint32_t row = producers->oldest; row != TABLE_ROW_NONE; row = next) {
        next = producers->use[row].newer;
        struct key key = key_of_row(table_row(producers->table, row));
        if (key.topic_id == topic_id && key.partition == partition)
            row_remove(producers, row);
    }
}

static void window_push(struct disk_producer *row, const struct batch_info *info)
{
    if (row->count == PRODUCER_WINDOW) {
        memmove(&row->batches[0], &row->batches[1],
                (PRODUCER_WINDOW - 1) * sizeof(row->batches[0]));
        row->count--;
    }
    row->batches[row->count].sequence_first = le32_make(info->base_sequence);
    row->batches[row->count].sequence_last = le32_make(sequence_last_of(info));
    row->batches[row->count].base_offset = le64_make(info->base_offset);
    row->count++;
}

static void row_remove(struct producers *producers, uint32_t row)
{
    map_remove(producers, row);
    use_unlink(producers, row);
    table_row_delete(producers->table, row);
}

/* ---- map ---- */

static struct key key_of_row(const struct disk_producer *row)
{
    return (struct key){le64_get(row->producer_id_plus_1) - 1, le32_get(row->topic_id),
                        le32_get(row->partition)};
}

static uint32_t place_of(const struct producers *producers, struct key key)
{
    return (uint32_t)hash_xxh3(&key, sizeof(key)) & producers->map_mask;
}

static uint32_t find(const struct producers *producers, struct key key)
{
    uint32_t place = place_of(producers, key);
    for (; producers->map[place] != 0; place = (place + 1) & producers->map_mask) {
        uint32_t row = producers->map[place] - 1;
        struct key other = key_of_row(table_row(producers->table, row));
        if (memcmp(&other, &key, sizeof(key)) == 0)
            return row;
    }
    return TABLE_ROW_NONE;
}

static void map_insert(struct producers *producers, uint32_t row)
{
    uint32_t place = place_of(producers, key_of_row(table_row(producers->table, row)));
    while (producers->map[place] != 0)
        place = (place + 1) & producers->map_mask;
    producers->map[place] = row + 1;
}

static void map_remove(struct producers *producers, uint32_t row)
{
    uint32_t mask = producers->map_mask;
    uint32_t hole = place_of(producers, key_of_row(table_row(producers->table, row)));
    while (producers->map[hole] != row + 1)
        hole = (hole + 1) & mask;
    for (uint32_t place = (hole + 1) & mask; producers->map[place] != 0;
         place = (place + 1) & mask) {
        const void *other = table_row(producers->table, producers->map[place] - 1);
        uint32_t home = place_of(producers, key_of_row(other));
        /* It may fill the hole unless its home lies cyclically in (hole, place]. */
        if (((place - home) & mask) >= ((place - hole) & mask)) {
            producers->map[hole] = producers->map[place];
            hole = place;
        }
    }
    producers->map[hole] = 0;
}

/* ---- order of use ---- */

static void use_unlink(struct producers *producers, uint32_t row)
{
    struct links links = producers->use[row];
    if (links.older == TABLE_ROW_NONE)
        producers->oldest = links.newer;
    else
        producers->use[links.older].newer = links.newer;
    if (links.newer == TABLE_ROW_NONE)
        producers->newest = links.older;
    else
        producers->use[links.newer].older = links.older;
}

static void use_append(struct producers *producers, uint32_t row)
{
    producers->use[row] = (struct links){.older = producers->newest, .newer = TABLE_ROW_NONE};
    if (producers->newest == TABLE_ROW_NONE)
        producers->oldest = row;
    else
        producers->use[producers->newest].newer = row;
    producers->newest = row;
}
