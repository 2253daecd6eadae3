/* Header blocks: 64 common bytes, the file kind's own, zeros, checksum. See format.h. */
#include "storage/disk_header.h"

#include "base/hash.h"
#include "base/status.h"

#define CHECKSUM_OFFSET (DISK_BLOCK - sizeof(le64))

static const char *newer_why(const struct disk_common *common);

void disk_header_make(struct disk_common *common, const struct disk_expect *expect,
                      uint64_t created_ms)
{
    memset(common, 0, sizeof(*common));
    common->magic = le64_make(expect->magic);
    common->version = le16_make(DISK_FORMAT_VERSION);
    common->shard_id = le32_make(expect->shard_id);
    memcpy(common->store_id, expect->store_id, sizeof(common->store_id));
    common->number = le64_make(expect->number);
    common->created_ms = le64_make(created_ms);
}

void disk_header_seal(void *block)
{
    le64 checksum = le64_make(hash_xxh3(block, CHECKSUM_OFFSET));
    memcpy((uint8_t *)block + CHECKSUM_OFFSET, &checksum, sizeof(checksum));
}

int disk_header_check(const void *block, const struct disk_expect *expect, const char **why)
{
    const struct disk_common *common = block;
    le64 checksum;
    memcpy(&checksum, (const uint8_t *)block + CHECKSUM_OFFSET, sizeof(checksum));
    if (le64_get(common->magic) != expect->magic) {
        *why = "no header of this kind of file";
        return E_CORRUPT;
    }
    if (le64_get(checksum) != hash_xxh3(block, CHECKSUM_OFFSET)) {
        *why = "header checksum is wrong";
        return E_CORRUPT;
    }
    if ((*why = newer_why(common)))
        return E_NEWER;
    if (memcmp(common->store_id, expect->store_id, sizeof(common->store_id)) != 0 ||
        le32_get(common->shard_id) != expect->shard_id) {
        *why = "belongs to another store or shard";
        return E_FOREIGN;
    }
    if (le64_get(common->number) != expect->number) {
        *why = "header holds another number than the file's name";
        return E_CORRUPT;
    }
    return 0;
}

static const char *newer_why(const struct disk_common *common)
{
    if (le16_get(common->version) != DISK_FORMAT_VERSION)
        return "written in another version of the format";
    if (le32_get(common->features_required) != 0)
        return "needs a feature that this version does not have";
    return NULL;
}

uint64_t disk_name_parse(const char *name, const char *suffix)
{
    uint64_t number = 0;
    for (int i = 0; i < 16; i++, name++) {
        if (*name >= '0' && *name <= '9')
            number = number << 4 | (uint64_t)(*name - '0');
        else if (*name >= 'a' && *name <= 'f')
            number = number << 4 | (uint64_t)(*name - 'a' + 10);
        else
            return 0;
    }
    return strcmp(name, suffix) == 0 ? number : 0;
}
