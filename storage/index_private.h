/* What the index files share with each other, and with no one else. */
#ifndef SLUICE_STORAGE_INDEX_PRIVATE_H
#define SLUICE_STORAGE_INDEX_PRIVATE_H

#include "storage/index.h"

/* True for the first entry of its partition. */
bool index_open_is_first(const struct index_open *index, uint32_t i);

/* An image with its header set, directory and entries zeroed; the caller fills these and seals it. 0 or NO_MEMORY. */
MUST_USE int index_image_make(struct index_image *image, const struct index_identity *identity,
                              uint32_t partition_count, uint32_t entry_count);
void index_image_seal(struct index_image *image); // checksums

/* Counts an entry in: first and end offset, bytes, timestamp. entry_start is the caller's. */
void index_directory_add(struct disk_index_partition *p, const struct index_entry *entry);
struct disk_index_entry index_entry_disk(const struct index_entry *entry);

static inline struct disk_index_partition *index_image_directory(const struct index_image *image)
{
    return (struct disk_index_partition *)(image->bytes + sizeof(struct disk_index));
}

static inline struct disk_index_entry *index_image_entries(const struct index_image *image)
{
    return (struct disk_index_entry *)(index_image_directory(image) + image->partition_count);
}

static inline uint64_t index_partition_key(const struct disk_index_partition *p)
{
    return (uint64_t)le32_get(p->topic_id) << 32 | le32_get(p->partition);
}

#endif
