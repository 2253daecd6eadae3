/* Making and reading group headers.
 *
 * Why a chain besides checksums: each group's chain value covers the one before and its own
 * replicated part, and so, through the payload checksum, its payload. A group that was left over
 * from an attempt that recovery dropped has the right generation, the right LSN and the right
 * number, but it cannot have the right chain. */
#include "storage/group.h"

#include "base/hash.h"
#include "base/plant.h"

#define CHAIN_COVERS offsetof(struct disk_group, chain)
#define CHECKSUM_COVERS offsetof(struct disk_group, header_checksum)

uint64_t group_payload_checksum(const uint8_t *bytes, uint32_t payload_bytes)
{
    uint32_t total = group_total_bytes(payload_bytes);
    return hash_xxh3(bytes + GROUP_HEADER_BYTES, total - GROUP_HEADER_BYTES);
}

uint64_t group_stamp_replicated(uint8_t *bytes, const struct group_head *head,
                                uint64_t payload_checksum)
{
    struct disk_group *disk = (struct disk_group *)bytes;
    *disk = (struct disk_group){
        .magic = le32_make(DISK_MAGIC_GROUP),
        .version = DISK_FORMAT_VERSION,
        .type = head->type,
        .payload_bytes = le32_make(head->payload_bytes),
        .entry_count = le32_make(head->entry_count),
        .lsn = le64_make(head->lsn),
        .number = le64_make(head->number),
        .append_time_ms = le64_make(head->append_time_ms),
        .payload_checksum = le64_make(payload_checksum),
    };
    uint64_t chain = group_chain(head->chain, bytes);
    disk->chain = le64_make(chain);
    return chain;
}

void group_stamp_local(uint8_t *bytes, uint64_t generation, uint64_t durable_lsn)
{
    struct disk_group *disk = (struct disk_group *)bytes;
    disk->generation = le64_make(generation);
    disk->durable_lsn = le64_make(durable_lsn);
    disk->commit_lsn = le64_make(durable_lsn);
    disk->header_checksum = le64_make(hash_xxh3(bytes, CHECKSUM_COVERS));
}

enum group_verdict group_head_parse(const uint8_t *bytes, uint64_t generation, uint64_t room,
                                    struct group_head *head)
{
    const struct disk_group *disk = (const struct disk_group *)bytes;
    bool is_of_this_life = le64_get(disk->generation) == generation || PLANTED(OLD_GENERATION);
    if (le32_get(disk->magic) != DISK_MAGIC_GROUP || !is_of_this_life)
        return GROUP_VERDICT_NONE;
    if (le64_get(disk->header_checksum) != hash_xxh3(bytes, CHECKSUM_COVERS) &&
        !PLANTED(HEADER_UNCHECKED))
        return GROUP_VERDICT_BAD;
    *head = (struct group_head){
        .type = disk->type,
        .payload_bytes = le32_get(disk->payload_bytes),
        .entry_count = le32_get(disk->entry_count),
        .lsn = le64_get(disk->lsn),
        .number = le64_get(disk->number),
        .append_time_ms = le64_get(disk->append_time_ms),
        .chain = le64_get(disk->chain),
        .generation = generation,
        .durable_lsn = le64_get(disk->durable_lsn),
        .commit_lsn = le64_get(disk->commit_lsn),
    };
    if (disk->version != DISK_FORMAT_VERSION)
        return GROUP_VERDICT_NEWER;
    /* An intact header with a length that can't be is not ours to guess about. */
    if (align_up((uint64_t)GROUP_HEADER_BYTES + head->payload_bytes, DISK_BLOCK) > room)
        return GROUP_VERDICT_BAD;
    return GROUP_VERDICT_TORN;
}

bool group_payload_is_good(const uint8_t *bytes, const struct group_head *head)
{
    const struct disk_group *disk = (const struct disk_group *)bytes;
    return le64_get(disk->payload_checksum) == group_payload_checksum(bytes, head->payload_bytes) ||
           PLANTED(TORN_ACCEPTED);
}

uint64_t group_chain(uint64_t previous, const uint8_t *bytes)
{
    uint8_t covered[sizeof(le64) + CHAIN_COVERS];
    le64 before = le64_make(previous);
    memcpy(covered, &before, sizeof(before));
    memcpy(covered + sizeof(before), bytes, CHAIN_COVERS);
    return hash_xxh3(covered, sizeof(covered));
}
