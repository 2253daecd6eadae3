/* The header block that every file but a table page begins with: made, sealed and checked in one
 * place. */
#ifndef SLUICE_STORAGE_DISK_HEADER_H
#define SLUICE_STORAGE_DISK_HEADER_H

#include "storage/format.h"

struct disk_expect { // what a header block has to say
    uint64_t magic;
    const uint8_t *store_id; // 16 bytes
    uint32_t shard_id;
    uint64_t number;
};

void disk_header_make(struct disk_common *common, const struct disk_expect *expect,
                      uint64_t created_ms);

/* Puts the checksum into the block's last 8 bytes. */
void disk_header_seal(void *block);

/* 0; CORRUPT: damaged, or it lies under another file's name; NEWER; FOREIGN. *why is static text.
 * The checksum comes first: of a block that fails it nothing is believed, not even that it is
 * newer. */
MUST_USE int disk_header_check(const void *block, const struct disk_expect *expect,
                               const char **why);

/* "<16 hex><suffix>": the number, or 0 when the name is another. Numbers begin at 1. */
uint64_t disk_name_parse(const char *name, const char *suffix);

#endif
