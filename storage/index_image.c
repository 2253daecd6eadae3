/* Index images: the sorted form of an index, as it lies on disk and in the cache.
 *
 * Happy path of a close: index_open_image() counts the batches of each partition, sorts the partitions (not the
 * batches: those of one partition are in order already), and deals the entries out to their places in one pass over
 * the open index: 256 Ki batches take 2 ms. Of a lookup: two binary searches, partition then offset.
 *
 * An image from disk is believed only when each length, order and sum in it agrees and both checksums are right
 * (index_image_parse()); then nothing behind it needs to check again. An image that fails is made anew from the
 * segment; in an archive file it is damage.
 *
 * Failure modes: no memory; CORRUPT, FOREIGN and NEWER images. */
#include "storage/index_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/plant.h"
#include "base/status.h"

static uint32_t count_by_partition(const struct index_open *index, struct partition **present,
                                   uint32_t *entry_count);
static int compare_partitions(const void *a, const void *b);
static void directory_fill(struct index_image *image, struct partition *const *present);
static void entries_deal(const struct index_open *index, struct index_image *image);
static int header_check(const uint8_t *bytes, uint64_t len);
static int identity_check(const struct disk_index *header, const struct index_identity *identity);
static bool body_is_sound(const struct index_image *image);
static bool partition_is_sound(const struct index_image *image, uint32_t i);
static bool entries_are_sound(const struct index_image *image,
                              const struct disk_index_partition *p);
static void image_attach(struct index_image *image, uint8_t *bytes, uint64_t len);
static uint64_t lowest_position(const struct index_image *image);

int index_open_image(const struct index_open *index, const struct index_identity *identity,
                     struct index_image *image)
{
    uint32_t entry_count;
    struct partition **present = malloc((index_open_count(index) + 1) * sizeof(*present));
    if (!present)
        return E_NO_MEMORY;
    uint32_t partition_count = count_by_partition(index, present, &entry_count);
    qsort(present, partition_count, sizeof(*present), compare_partitions);
    int status = index_image_make(image, identity, partition_count, entry_count);
    if (status == 0) {
        directory_fill(image, present);
        entries_deal(index, image);
        index_image_seal(image);
    }
    free(present);
    return status;
}

int index_image_parse(uint8_t *bytes, uint64_t len, const struct index_identity *identity,
                      struct index_image *image)
{
    int status = header_check(bytes, len);
    if (status == 0 && identity)
        status = identity_check((const struct disk_index *)bytes, identity);
    if (status < 0)
        return status;
    struct index_image parsed;
    image_attach(&parsed, bytes, len);
    if (!body_is_sound(&parsed))
        return E_CORRUPT;
    parsed.lowest_position = lowest_position(&parsed);
    *image = parsed;
    return 0;
}

void index_image_free(struct index_image *image)
{
    free(image->bytes);
    *image = (struct index_image){0};
}

int index_image_copy(const struct index_image *image, struct index_image *copy)
{
    uint8_t *bytes = malloc(image->len);
    if (!bytes)
        return E_NO_MEMORY;
    memcpy(bytes, image->bytes, image->len);
    image_attach(copy, bytes, image->len);
    copy->lowest_position = image->lowest_position;
    return 0;
}

const struct disk_index_partition *index_image_partition(const struct index_image *image,
                                                         uint32_t topic_id, uint32_t partition)
{
    uint64_t key = (uint64_t)topic_id << 32 | partition;
    uint32_t low = 0, high = image->partition_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t found = index_partition_key(&image->directory[middle]);
        if (found == key)
            return &image->directory[middle];
        if (found < key)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

uint32_t index_image_find(const struct index_image *image, const struct disk_index_partition *p,
                          uint64_t offset)
{
    if (offset >= le64_get(p->end_offset))
        return INDEX_NONE;
    uint32_t start = le32_get(p->entry_start);
    uint32_t low = start, high = start + le32_get(p->entry_count);
    while (high - low > 1) { // the last entry that begins at or before `offset`, else the first
        uint32_t middle = low + (high - low) / 2;
        if (le64_get(image->entries[middle].base_offset) <= offset)
            low = middle;
        else
            high = middle;
    }
    struct index_entry entry = index_image_at(image, low);
    if (entry.base_offset + entry.record_count <= offset || PLANTED(INDEX_NEXT))
        low++;
    return low;
}

uint32_t index_image_find_time(const struct index_image *image,
                               const struct disk_index_partition *p, int64_t timestamp)
{
    if ((int64_t)le64_get(p->max_timestamp) < timestamp)
        return INDEX_NONE;
    uint32_t i = le32_get(p->entry_start);
    while ((int64_t)le64_get(image->entries[i].max_timestamp) < timestamp)
        i++;
    return i;
}

struct index_entry index_image_at(const struct index_image *image, uint32_t i)
{
    ASSERT(i < image->entry_count);
    const struct disk_index_entry *disk = &image->entries[i];
    return (struct index_entry){
        .base_offset = le64_get(disk->base_offset),
        .position = le64_get(disk->position),
        .max_timestamp = (int64_t)le64_get(disk->max_timestamp),
        .size = le32_get(disk->size),
        .record_count = le32_get(disk->record_count),
    };
}

/* ---- making one (index_private.h) ---- */

int index_image_make(struct index_image *image, const struct index_identity *identity,
                     uint32_t partition_count, uint32_t entry_count)
{
    uint64_t len = sizeof(struct disk_index) +
                   (uint64_t)partition_count * sizeof(struct disk_index_partition) +
                   (uint64_t)entry_count * sizeof(struct disk_index_entry);
    struct disk_index *header = calloc(1, len);
    if (!header)
        return E_NO_MEMORY;
    header->common = (struct disk_common){
        .magic = le64_make(DISK_MAGIC_INDEX),
        .version = le16_make(DISK_FORMAT_VERSION),
        .shard_id = le32_make(identity->shard_id),
        .number = le64_make(identity->number),
    };
    memcpy(header->common.store_id, identity->store_id, sizeof(identity->store_id));
    header->generation = le64_make(identity->generation);
    header->base_lsn = le64_make(identity->base_lsn);
    header->end_lsn = le64_make(identity->end_lsn);
    header->append_ms_last = le64_make(identity->append_ms_last);
    header->partition_count = le32_make(partition_count);
    header->entry_count = le32_make(entry_count);
    image_attach(image, (uint8_t *)header, len);
    return 0;
}

void index_image_seal(struct index_image *image)
{
    struct disk_index *header = (struct disk_index *)image->bytes;
    header->checksum_body =
        le64_make(hash_xxh3(image->bytes + sizeof(*header), image->len - sizeof(*header)));
    header->checksum = le64_make(hash_xxh3(header, offsetof(struct disk_index, checksum)));
    image->lowest_position = lowest_position(image);
    ASSERT_SLOW(body_is_sound(image));
}

void index_directory_add(struct disk_index_partition *p, const struct index_entry *entry)
{
    uint32_t count = le32_get(p->entry_count);
    if (count == 0) {
        p->first_offset = le64_make(entry->base_offset);
        p->max_timestamp = le64_make((uint64_t)entry->max_timestamp);
    }
    if (entry->max_timestamp > (int64_t)le64_get(p->max_timestamp))
        p->max_timestamp = le64_make((uint64_t)entry->max_timestamp);
    p->end_offset = le64_make(entry->base_offset + entry->record_count);
    p->bytes = le64_make(le64_get(p->bytes) + entry->size);
    p->entry_count = le32_make(count + 1);
}

struct disk_index_entry index_entry_disk(const struct index_entry *entry)
{
    return (struct disk_index_entry){
        .base_offset = le64_make(entry->base_offset),
        .position = le64_make(entry->position),
        .max_timestamp = le64_make((uint64_t)entry->max_timestamp),
        .size = le32_make(entry->size),
        .record_count = le32_make(entry->record_count),
    };
}

/* ---- from the open index ---- */

/* Lists each partition once and leaves its count of batches in image_place. */
static uint32_t count_by_partition(const struct index_open *index, struct partition **present,
                                   uint32_t *entry_count)
{
    uint32_t partition_count = 0;
    *entry_count = 0;
    for (uint32_t i = 0; i < index_open_count(index); i++) {
        struct partition *partition = index_open_partition(index, i);
        if (!partition)
            continue;
        if (index_open_is_first(index, i)) {
            partition->image_place = 0;
            present[partition_count++] = partition;
        }
        partition->image_place++;
        (*entry_count)++;
    }
    return partition_count;
}

static int compare_partitions(const void *a, const void *b)
{
    const struct partition *x = *(struct partition *const *)a, *y = *(struct partition *const *)b;
    if (x->topic_id != y->topic_id)
        return x->topic_id < y->topic_id ? -1 : 1;
    return x->partition < y->partition ? -1 : x->partition > y->partition;
}

/* Turns each partition's count into the place of its first entry, and puts its ordinal's row into the directory.
 * The places move on as entries are dealt out. */
static void directory_fill(struct index_image *image, struct partition *const *present)
{
    struct disk_index_partition *directory = index_image_directory(image);
    uint32_t place = 0;
    for (uint32_t i = 0; i < image->partition_count; i++) {
        struct partition *partition = present[i];
        directory[i].topic_id = le32_make(partition->topic_id);
        directory[i].partition = le32_make(partition->partition);
        directory[i].entry_start = le32_make(place);
        uint32_t count = partition->image_place;
        partition->image_place = place;
        place += count;
    }
}

static void entries_deal(const struct index_open *index, struct index_image *image)
{
    struct disk_index_partition *directory = index_image_directory(image);
    struct disk_index_entry *entries = index_image_entries(image);
    for (uint32_t i = 0; i < index_open_count(index); i++) {
        struct partition *partition = index_open_partition(index, i);
        if (!partition)
            continue;
        struct index_entry entry = index_open_at(index, i);
        entries[partition->image_place++] = index_entry_disk(&entry);
    }
    for (uint32_t i = 0, place = 0; i < image->partition_count; i++) {
        uint32_t end = i + 1 < image->partition_count ? le32_get(directory[i + 1].entry_start)
                                                      : image->entry_count;
        for (; place < end; place++) {
            struct index_entry entry = index_image_at(image, place);
            index_directory_add(&directory[i], &entry);
        }
    }
}

/* ---- from disk ---- */

static int header_check(const uint8_t *bytes, uint64_t len)
{
    const struct disk_index *header = (const struct disk_index *)bytes;
    if (len < sizeof(*header) || le64_get(header->common.magic) != DISK_MAGIC_INDEX)
        return E_CORRUPT;
    if (le64_get(header->checksum) != hash_xxh3(header, offsetof(struct disk_index, checksum)))
        return E_CORRUPT;
    if (le16_get(header->common.version) > DISK_FORMAT_VERSION ||
        le32_get(header->common.features_required) != 0)
        return E_NEWER;
    uint64_t body =
        (uint64_t)le32_get(header->partition_count) * sizeof(struct disk_index_partition) +
        (uint64_t)le32_get(header->entry_count) * sizeof(struct disk_index_entry);
    if (len != sizeof(*header) + body)
        return E_CORRUPT;
    uint64_t checksum = hash_xxh3(bytes + sizeof(*header), body);
    return checksum == le64_get(header->checksum_body) ? 0 : E_CORRUPT;
}

static int identity_check(const struct disk_index *header, const struct index_identity *identity)
{
    bool is_ours =
        memcmp(header->common.store_id, identity->store_id, sizeof(identity->store_id)) == 0 &&
        le32_get(header->common.shard_id) == identity->shard_id &&
        le64_get(header->common.number) == identity->number &&
        le64_get(header->generation) == identity->generation &&
        le64_get(header->base_lsn) == identity->base_lsn &&
        le64_get(header->end_lsn) == identity->end_lsn;
    return is_ours ? 0 : E_FOREIGN;
}

static bool body_is_sound(const struct index_image *image)
{
    uint64_t place = 0;
    for (uint32_t i = 0; i < image->partition_count; i++) {
        const struct disk_index_partition *p = &image->directory[i];
        if (i > 0 && index_partition_key(p) <= index_partition_key(p - 1))
            return false;
        if (le32_get(p->entry_start) != place || !partition_is_sound(image, i))
            return false;
        place += le32_get(p->entry_count);
    }
    return place == image->entry_count;
}

static bool partition_is_sound(const struct index_image *image, uint32_t i)
{
    const struct disk_index_partition *p = &image->directory[i];
    uint64_t start = le32_get(p->entry_start), count = le32_get(p->entry_count);
    if (le32_get(p->topic_id) == 0 || count == 0 || start + count > image->entry_count)
        return false;
    return entries_are_sound(image, p);
}

/* Rising without overlap, and what the directory says of them is true. */
static bool entries_are_sound(const struct index_image *image, const struct disk_index_partition *p)
{
    struct disk_index_partition sum = {0};
    uint32_t start = le32_get(p->entry_start), count = le32_get(p->entry_count);
    for (uint32_t i = start; i < start + count; i++) {
        struct index_entry entry = index_image_at(image, i);
        if (entry.record_count == 0 || entry.size == 0 ||
            entry.base_offset > UINT64_MAX - entry.record_count)
            return false;
        if (i > start && entry.base_offset < le64_get(sum.end_offset))
            return false;
        index_directory_add(&sum, &entry);
    }
    return le64_get(sum.first_offset) == le64_get(p->first_offset) &&
           le64_get(sum.end_offset) == le64_get(p->end_offset) &&
           le64_get(sum.max_timestamp) == le64_get(p->max_timestamp) &&
           le64_get(sum.bytes) == le64_get(p->bytes);
}

static void image_attach(struct index_image *image, uint8_t *bytes, uint64_t len)
{
    const struct disk_index *header = (const struct disk_index *)bytes;
    *image = (struct index_image){
        .bytes = bytes,
        .len = len,
        .partition_count = le32_get(header->partition_count),
        .entry_count = le32_get(header->entry_count),
        .base_lsn = le64_get(header->base_lsn),
        .end_lsn = le64_get(header->end_lsn),
        .append_ms_last = le64_get(header->append_ms_last),
        .lowest_position = UINT64_MAX,
    };
    image->directory = index_image_directory(image);
    image->entries = index_image_entries(image);
}

static uint64_t lowest_position(const struct index_image *image)
{
    uint64_t lowest = UINT64_MAX;
    for (uint32_t i = 0; i < image->entry_count; i++)
        lowest = min_u64(lowest, le64_get(image->entries[i].position));
    return lowest;
}
