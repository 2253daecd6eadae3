/* The partitions of one shard: rows of a state table, a hash map to find them, and their memory side.
 *
 * Happy path: partitions_find() is one probe of an open-addressed map (none when the last partition is asked for
 * again, as publishes come in runs); an apply function changes the row and the copy that readers use.
 *
 * A partition lives at the place of its row, so pointers stay good until it is dropped. The map is twice as large as
 * the limit and deletes by shifting back, so that it never needs to be rebuilt.
 *
 * Failure modes: the limit is reached (partitions_apply_open() answers NULL); a loaded table that contradicts itself
 * (partitions_rebuild() says CORRUPT). */
#include "storage/partitions.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"

struct map_slot {
    uint64_t key; // 0: empty
    uint32_t row;
};

struct partitions {
    struct table *table;
    struct partition *last; // found last
    struct partition *rows; // by row number
    uint32_t *order;        // row numbers in use, rising
    uint32_t count;
    uint32_t count_max;
    uint32_t map_mask;
    struct map_slot *map;
};

static uint64_t key_of(uint32_t topic_id, uint32_t partition);
static uint32_t map_home(const struct partitions *partitions, uint64_t key);
static struct map_slot *map_find(const struct partitions *partitions, uint64_t key);
static void map_add(struct partitions *partitions, uint64_t key, uint32_t row);
static void map_remove(struct partitions *partitions, uint64_t key);
static void order_add(struct partitions *partitions, uint32_t row);
static void order_remove(struct partitions *partitions, uint32_t row);
static struct partition *partition_attach(struct partitions *partitions, uint32_t row,
                                          const struct disk_partition *disk);
static struct disk_partition *row_of(struct partitions *partitions, struct partition *partition);
static const char *row_check(struct partitions *partitions, const struct disk_partition *disk);

struct partitions *partitions_new(uint32_t count_max)
{
    ASSERT(count_max > 0 && count_max <= 1u << 24);
    struct partitions *partitions = calloc(1, sizeof(*partitions));
    if (!partitions)
        return NULL;
    uint32_t map_size = 64;
    while (map_size < 2 * count_max)
        map_size *= 2;
    partitions->count_max = count_max;
    partitions->map_mask = map_size - 1;
    partitions->table =
        table_new(&(struct table_options){.id = TABLE_PARTITIONS,
                                          .row_bytes = sizeof(struct disk_partition),
                                          .row_count_max = count_max});
    partitions->rows = calloc(count_max, sizeof(*partitions->rows));
    partitions->order = calloc(count_max, sizeof(*partitions->order));
    partitions->map = calloc(map_size, sizeof(*partitions->map));
    if (partitions->table && partitions->rows && partitions->order && partitions->map)
        return partitions;
    partitions_free(partitions);
    return NULL;
}

void partitions_free(struct partitions *partitions)
{
    if (!partitions)
        return;
    table_free(partitions->table);
    free(partitions->rows);
    free(partitions->order);
    free(partitions->map);
    free(partitions);
}

struct table *partitions_table(struct partitions *partitions)
{
    return partitions->table;
}

int partitions_rebuild(struct partitions *partitions, const char **why)
{
    ASSERT(partitions->count == 0);
    for (uint32_t row = 0; row < table_row_count(partitions->table); row++) {
        if (!table_row_is_used(partitions->table, row))
            continue;
        const struct disk_partition *disk = table_row(partitions->table, row);
        if ((*why = row_check(partitions, disk)))
            return E_CORRUPT;
        partition_attach(partitions, row, disk);
    }
    return 0;
}

struct partition *partitions_find(struct partitions *partitions, uint32_t topic_id,
                                  uint32_t partition)
{
    struct partition *last = partitions->last;
    if (last && last->topic_id == topic_id && last->partition == partition)
        return last;
    if (topic_id == 0)
        return NULL;
    struct map_slot *slot = map_find(partitions, key_of(topic_id, partition));
    if (slot->key == 0)
        return NULL;
    return partitions->last = &partitions->rows[slot->row];
}

uint32_t partitions_count(const struct partitions *partitions)
{
    return partitions->count;
}

uint32_t partitions_count_max(const struct partitions *partitions)
{
    return partitions->count_max;
}

bool partitions_is_full(const struct partitions *partitions)
{
    return partitions->count == partitions->count_max;
}

struct partition *partitions_at(struct partitions *partitions, uint32_t index)
{
    ASSERT(index < partitions->count);
    return &partitions->rows[partitions->order[index]];
}

/* ---- apply ---- */

struct partition *partitions_apply_open(struct partitions *partitions, uint32_t topic_id,
                                        uint32_t partition,
                                        const struct disk_partition_open *settings)
{
    ASSERT(topic_id != 0);
    struct partition *found = partitions_find(partitions, topic_id, partition);
    if (found) {
        if (le64_get(settings->revision) <= le64_get(found->settings.revision))
            return found;
        found->settings = *settings;
        row_of(partitions, found)->settings = *settings;
        return found;
    }
    uint32_t row;
    struct disk_partition *disk = table_row_new(partitions->table, &row);
    if (!disk)
        return NULL;
    disk->topic_id = le32_make(topic_id);
    disk->partition = le32_make(partition);
    disk->max_timestamp = le64_make((uint64_t)-1);
    disk->settings = *settings;
    return partition_attach(partitions, row, disk);
}

void partitions_apply_drop(struct partitions *partitions, struct partition *partition)
{
    uint32_t row = partition->row;
    uint32_t incarnation = partition->incarnation;
    list_remove(&partition->visible_link);
    map_remove(partitions, key_of(partition->topic_id, partition->partition));
    order_remove(partitions, row);
    table_row_delete(partitions->table, row);
    partitions->last = NULL;
    *partition = (struct partition){.incarnation = incarnation + 1};
}

void partitions_apply_gap(struct partitions *partitions, struct partition *partition,
                          uint64_t offset)
{
    ASSERT(offset > partition->next_offset);
    struct disk_partition *disk = row_of(partitions, partition);
    partition->next_offset = partition->gap_end = offset;
    disk->next_offset = disk->gap_end = le64_make(offset);
}

void partitions_apply_batch(struct partitions *partitions, struct partition *partition,
                            uint32_t record_count, uint32_t size, int64_t max_timestamp)
{
    struct disk_partition *disk = row_of(partitions, partition);
    partition->next_offset += record_count;
    partition->bytes += size;
    disk->next_offset = le64_make(partition->next_offset);
    disk->bytes = le64_make(partition->bytes);
    if (max_timestamp > (int64_t)le64_get(disk->max_timestamp))
        disk->max_timestamp = le64_make((uint64_t)max_timestamp);
}

void partitions_apply_log_start(struct partitions *partitions, struct partition *partition,
                                uint64_t log_start, uint64_t bytes_gone)
{
    ASSERT(log_start >= partition->log_start && log_start <= partition->next_offset);
    struct disk_partition *disk = row_of(partitions, partition);
    partition->log_start = log_start;
    disk->log_start = le64_make(log_start);
    partition->bytes -= min_u64(partition->bytes, bytes_gone);
    disk->bytes = le64_make(partition->bytes);
}

/* ---- rows ---- */

static struct partition *partition_attach(struct partitions *partitions, uint32_t row,
                                          const struct disk_partition *disk)
{
    struct partition *partition = &partitions->rows[row];
    *partition = (struct partition){
        .row = row,
        .topic_id = le32_get(disk->topic_id),
        .partition = le32_get(disk->partition),
        .next_offset = le64_get(disk->next_offset),
        .log_start = le64_get(disk->log_start),
        .visible_end = le64_get(disk->next_offset),
        .bytes = le64_get(disk->bytes),
        .gap_end = le64_get(disk->gap_end),
        .open_first = UINT32_MAX,
        .open_last = UINT32_MAX,
        .settings = disk->settings,
        .incarnation = partition->incarnation,
    };
    list_init(&partition->waiters);
    list_init(&partition->ready_link);
    list_init(&partition->visible_link);
    map_add(partitions, key_of(partition->topic_id, partition->partition), row);
    order_add(partitions, row);
    return partition;
}

static struct disk_partition *row_of(struct partitions *partitions, struct partition *partition)
{
    return table_row_mut(partitions->table, partition->row);
}

static const char *row_check(struct partitions *partitions, const struct disk_partition *disk)
{
    if (le32_get(disk->topic_id) == 0)
        return "a partition of topic 0";
    if (le64_get(disk->log_start) > le64_get(disk->next_offset))
        return "a partition's log start lies behind its end";
    if (partitions_find(partitions, le32_get(disk->topic_id), le32_get(disk->partition)))
        return "two rows for one partition";
    return NULL;
}

/* The row taken is mostly the highest; only after a drop others have to move up. */
static void order_add(struct partitions *partitions, uint32_t row)
{
    uint32_t place = partitions->count;
    while (place > 0 && partitions->order[place - 1] > row)
        place--;
    memmove(&partitions->order[place + 1], &partitions->order[place],
            (partitions->count - place) * sizeof(*partitions->order));
    partitions->order[place] = row;
    partitions->count++;
}

static void order_remove(struct partitions *partitions, uint32_t row)
{
    uint32_t place = 0;
    while (partitions->order[place] != row)
        place++;
    partitions->count--;
    memmove(&partitions->order[place], &partitions->order[place + 1],
            (partitions->count - place) * sizeof(*partitions->order));
}

/* ---- map ---- */

static uint64_t key_of(uint32_t topic_id, uint32_t partition)
{
    return (uint64_t)topic_id << 32 | partition;
}

/* Fibonacci hashing: the high bits of the product depend on all bits of the key. */
static uint32_t map_home(const struct partitions *partitions, uint64_t key)
{
    return (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & partitions->map_mask;
}

/* Its slot, or the empty one where it would go. */
static struct map_slot *map_find(const struct partitions *partitions, uint64_t key)
{
    uint32_t i = map_home(partitions, key);
    while (partitions->map[i].key != key && partitions->map[i].key != 0)
        i = (i + 1) & partitions->map_mask;
    return &partitions->map[i];
}

static void map_add(struct partitions *partitions, uint64_t key, uint32_t row)
{
    struct map_slot *slot = map_find(partitions, key);
    ASSERT(slot->key == 0);
    *slot = (struct map_slot){.key = key, .row = row};
}

/* Moves later keys of the same run back over the hole, as far as their homes allow. */
static void map_remove(struct partitions *partitions, uint64_t key)
{
    struct map_slot *map = partitions->map;
    uint32_t mask = partitions->map_mask;
    uint32_t hole = (uint32_t)(map_find(partitions, key) - map);
    ASSERT(map[hole].key == key);
    for (uint32_t i = (hole + 1) & mask; map[i].key != 0; i = (i + 1) & mask) {
        uint32_t distance = (i - map_home(partitions, map[i].key)) & mask;
        if (distance < ((i - hole) & mask))
            continue;
        map[hole] = map[i];
        hole = i;
    }
    map[hole].key = 0;
}
