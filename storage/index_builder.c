/* An image from entries in any order: for a segment whose .idx is lost, and for archive files.
 *
 * Happy path: entries arrive already sorted (archive) or nearly so, and are only copied; otherwise one qsort.
 *
 * Failure modes: no memory; two batches of one partition that overlap, which no log can hold: CORRUPT. */
#include "storage/index_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"

struct built_entry {
    uint64_t key; // topic and partition
    struct index_entry entry;
};
static_assert(sizeof(struct built_entry) == 40, "what index.h promises");

struct index_builder {
    struct built_entry *entries;
    uint32_t count;
    uint32_t capacity;
    bool is_sorted;
};

static bool grow(struct index_builder *builder);
static int compare(const void *a, const void *b);
static int entries_check(const struct index_builder *builder, uint32_t *partition_count);
static void image_fill(const struct index_builder *builder, struct index_image *image);

struct index_builder *index_builder_new(void)
{
    struct index_builder *builder = calloc(1, sizeof(*builder));
    if (builder)
        builder->is_sorted = true;
    return builder;
}

void index_builder_free(struct index_builder *builder)
{
    if (!builder)
        return;
    free(builder->entries);
    free(builder);
}

uint32_t index_builder_count(const struct index_builder *builder)
{
    return builder->count;
}

int index_builder_add(struct index_builder *builder, uint32_t topic_id, uint32_t partition,
                      const struct index_entry *entry)
{
    if (builder->count == builder->capacity && !grow(builder))
        return E_NO_MEMORY;
    struct built_entry *added = &builder->entries[builder->count];
    *added = (struct built_entry){(uint64_t)topic_id << 32 | partition, *entry};
    if (builder->count > 0 && compare(added - 1, added) > 0)
        builder->is_sorted = false;
    builder->count++;
    return 0;
}

int index_builder_finish(struct index_builder *builder, const struct index_identity *identity,
                         struct index_image *image)
{
    if (!builder->is_sorted)
        qsort(builder->entries, builder->count, sizeof(*builder->entries), compare);
    uint32_t partition_count;
    int status = entries_check(builder, &partition_count);
    if (status == 0)
        status = index_image_make(image, identity, partition_count, builder->count);
    if (status == 0) {
        image_fill(builder, image);
        index_image_seal(image);
    }
    builder->count = 0;
    builder->is_sorted = true;
    return status;
}

static bool grow(struct index_builder *builder)
{
    uint32_t capacity = builder->capacity ? builder->capacity * 2 : 1024;
    struct built_entry *larger =
        realloc(builder->entries, (size_t)capacity * sizeof(*builder->entries));
    if (!larger || capacity < builder->capacity)
        return false;
    builder->entries = larger;
    builder->capacity = capacity;
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct built_entry *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->entry.base_offset != y->entry.base_offset)
        return x->entry.base_offset < y->entry.base_offset ? -1 : 1;
    return 0;
}

static int entries_check(const struct index_builder *builder, uint32_t *partition_count)
{
    *partition_count = 0;
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct built_entry *e = &builder->entries[i];
        if (e->key >> 32 == 0 || e->entry.record_count == 0 || e->entry.size == 0)
            return E_CORRUPT;
        if (e->entry.base_offset > UINT64_MAX - e->entry.record_count)
            return E_CORRUPT;
        if (i == 0 || e->key != e[-1].key)
            (*partition_count)++;
        else if (e[-1].entry.base_offset + e[-1].entry.record_count > e->entry.base_offset)
            return E_CORRUPT;
    }
    return 0;
}

static void image_fill(const struct index_builder *builder, struct index_image *image)
{
    struct disk_index_partition *p = index_image_directory(image) - 1;
    struct disk_index_entry *entries = index_image_entries(image);
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct built_entry *e = &builder->entries[i];
        if (i == 0 || e->key != e[-1].key) {
            p++;
            p->topic_id = le32_make((uint32_t)(e->key >> 32));
            p->partition = le32_make((uint32_t)e->key);
            p->entry_start = le32_make(i);
        }
        entries[i] = index_entry_disk(&e->entry);
        index_directory_add(p, &e->entry);
    }
}
