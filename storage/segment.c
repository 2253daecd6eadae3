/* Names and headers of segment files.
 *
 * The header is kept twice, each copy in a block of its own with its own checksum: one unreadable
 * block does not cost a whole file. It is written once, before the file gets its number, and never
 * again in that life. */
#include "storage/segment.h"

#include <fcntl.h>
#include <stdio.h>

#include "storage/disk_header.h"

static int head_copy_parse(const uint8_t *block, struct segment_head *head);

uint64_t segment_step_over(const struct segment *segment, uint64_t lsn)
{
    for (uint32_t i = 0; i < segment->hole_count; i++)
        if (lsn >= segment->holes[i].from_lsn && lsn < segment->holes[i].to_lsn)
            return min_u64(segment->holes[i].to_lsn, segment->end_lsn);
    return lsn;
}

uint64_t segment_next_hole(const struct segment *segment, uint64_t lsn)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < segment->hole_count; i++)
        if (segment->holes[i].from_lsn >= lsn)
            next = min_u64(next, segment->holes[i].from_lsn);
    return next;
}

bool segment_hole_has(const struct segment_hole *holes, uint32_t hole_count, uint64_t lsn)
{
    for (uint32_t i = 0; i < hole_count; i++)
        if (lsn >= holes[i].from_lsn && lsn < holes[i].to_lsn)
            return true;
    return false;
}

void segment_path_make(char *path, const char *dir, uint64_t number)
{
    int len = snprintf(path, SEGMENT_PATH_MAX, "%s/%016llx.wal", dir, (unsigned long long)number);
    ASSERT(len > 0 && len < SEGMENT_PATH_MAX);
}

void segment_head_make(uint8_t *blocks, const struct segment_head *head, uint64_t created_ms)
{
    struct disk_segment *disk = (struct disk_segment *)blocks;
    memset(disk, 0, sizeof(*disk));
    disk_header_make(&disk->common,
                     &(struct disk_expect){.magic = DISK_MAGIC_SEGMENT,
                                           .store_id = head->store_id,
                                           .shard_id = head->shard_id,
                                           .number = head->number},
                     created_ms);
    disk->common.features_compatible = le32_make(head->written ? DISK_SEGMENT_WRITTEN : 0);
    disk->generation = le64_make(head->generation);
    disk->segment_bytes = le64_make(head->segment_bytes);
    disk_header_seal(disk);
    memcpy(blocks + DISK_BLOCK, blocks, DISK_BLOCK);
}

int segment_head_parse(const uint8_t *blocks, struct segment_head *head)
{
    struct segment_head second;
    int status = head_copy_parse(blocks, head);
    int status_second = head_copy_parse(blocks + DISK_BLOCK, &second);
    uint8_t bad = (uint8_t)((status == E_CORRUPT) | (status_second == E_CORRUPT) << 1);
    if (status == E_CORRUPT) {
        *head = second;
        status = status_second;
    }
    head->bad_copies = bad;
    return status;
}

uint32_t segment_open_flags(bool no_direct, bool read_only)
{
    return (read_only ? O_RDONLY : O_RDWR) | (no_direct ? 0 : O_DIRECT);
}

/* Asks the block whether it is what it says itself: whose it is, is for the caller to compare. */
static int head_copy_parse(const uint8_t *block, struct segment_head *head)
{
    const struct disk_segment *disk = (const struct disk_segment *)block;
    const char *why;
    memcpy(head->store_id, disk->common.store_id, sizeof(head->store_id));
    head->shard_id = le32_get(disk->common.shard_id);
    head->number = le64_get(disk->common.number);
    head->generation = le64_get(disk->generation);
    head->segment_bytes = le64_get(disk->segment_bytes);
    head->written = (le32_get(disk->common.features_compatible) & DISK_SEGMENT_WRITTEN) != 0;
    return disk_header_check(disk,
                             &(struct disk_expect){.magic = DISK_MAGIC_SEGMENT,
                                                   .store_id = disk->common.store_id,
                                                   .shard_id = head->shard_id,
                                                   .number = head->number},
                             &why);
}
