/* The index of a segment or an archive file, from anywhere: parse it and look everything up.
 *
 * Input: u8 flags, then the image. Flags: 1 = right checksums; 2 = the header is made here: the rest
 * is u8 partitions, and directory and entries. Held against: what is let pass is sorted
 * and whole, so every partition of its directory is found again, and so is each of its batches by
 * first and last offset; a copy answers the same; memory. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/status.h"
#include "storage/index.h"
#include "tests/fuzz/fuzz.h"

enum { FLAG_SEAL = 1, FLAG_BODY = 2 };

static uint8_t *make_image(struct input_reader *input, uint8_t flags, size_t *len);
static void seal(uint8_t *image, size_t len);
static void look_up(const struct index_image *image);
static void look_up_partition(const struct index_image *image,
                              const struct disk_index_partition *p);
static void check_copy(const struct index_image *image);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    struct index_image image;
    size_t len;
    uint8_t *bytes = make_image(&input, (uint8_t)input_number(&input, 1), &len);
    memory_bound_begin();
    int status = index_image_parse(bytes, len, NULL, &image);
    ASSERT(status == 0 || status == E_CORRUPT || status == E_NEWER || status == E_FOREIGN);
    if (status == 0) {
        look_up(&image);
        check_copy(&image);
        index_image_free(&image);
    } else {
        free(bytes);
    }
    memory_bound_end(size, 0);
    return 0;
}

static uint8_t *make_image(struct input_reader *input, uint8_t flags, size_t *len)
{
    size_t head = flags & FLAG_BODY ? DISK_BLOCK : 0;
    uint32_t partitions = head ? (uint32_t)input_number(input, 1) : 0;
    *len = head + input->left;
    uint8_t *image = calloc(1, *len + !*len); // the heap's: the parser takes it over
    ASSERT(image != NULL);
    if (input->left > 0)
        memcpy(image + head, input->at, input->left);
    if (head) {
        size_t directory = partitions * sizeof(struct disk_index_partition);
        size_t entries = input->left - min_u64(directory, input->left);
        struct disk_index *index = (struct disk_index *)image;
        index->common.magic = le64_make(DISK_MAGIC_INDEX);
        index->common.version = le16_make(DISK_FORMAT_VERSION);
        index->end_lsn = le64_make(UINT64_MAX);
        index->partition_count = le32_make(partitions);
        index->entry_count = le32_make((uint32_t)(entries / sizeof(struct disk_index_entry)));
    }
    if (flags & FLAG_SEAL || head)
        seal(image, *len);
    return image;
}

static void look_up(const struct index_image *image)
{
    for (uint32_t i = 0; i < image->partition_count; i++) {
        const struct disk_index_partition *p = &image->directory[i];
        ASSERT(index_image_partition(image, le32_get(p->topic_id), le32_get(p->partition)) == p);
        look_up_partition(image, p);
    }
    (void)index_image_partition(image, 0, 0);
    (void)index_image_partition(image, UINT32_MAX, UINT32_MAX);
}

static void look_up_partition(const struct index_image *image, const struct disk_index_partition *p)
{
    uint32_t start = le32_get(p->entry_start), end = start + le32_get(p->entry_count);
    ASSERT(start < end && end <= image->entry_count);
    for (uint32_t i = start; i < end; i++) {
        struct index_entry entry = index_image_at(image, i);
        ASSERT(index_image_find(image, p, entry.base_offset) == i);
        ASSERT(index_image_find(image, p, entry.base_offset + entry.record_count - 1) == i);
        uint32_t by_time = index_image_find_time(image, p, entry.max_timestamp);
        ASSERT(by_time >= start && by_time <= i);
        ASSERT(image->lowest_position <= entry.position);
    }
    ASSERT(index_image_find(image, p, le64_get(p->end_offset)) == INDEX_NONE);
    ASSERT(index_image_find(image, p, 0) == start);
}

static void check_copy(const struct index_image *image)
{
    struct index_image copy;
    if (index_image_copy(image, &copy) != 0)
        return;
    ASSERT(copy.len == image->len && memcmp(copy.bytes, image->bytes, image->len) == 0);
    ASSERT(copy.bytes != image->bytes);
    look_up(&copy);
    index_image_free(&copy);
}

static void seal(uint8_t *image, size_t len)
{
    if (len < DISK_BLOCK)
        return;
    struct disk_index *index = (struct disk_index *)image;
    index->checksum_body = le64_make(hash_xxh3(image + DISK_BLOCK, len - DISK_BLOCK));
    index->checksum = le64_make(hash_xxh3(image, DISK_BLOCK - 8));
}
