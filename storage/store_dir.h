/* DIR/store, as others than store_dir_open() read it: inspection and salvage. */
#ifndef SLUICE_STORAGE_STORE_DIR_H
#define SLUICE_STORAGE_STORE_DIR_H

#include "storage/store.h"

struct store_head {
    struct store_identity identity;
    bool is_ready; // false: the store was never made to its end
};

/* block: DISK_BLOCK bytes of scratch, block-aligned. Returns 0; NO_DIRECT, CORRUPT, NEWER,
 * NOT_FOUND, IO with a text that says what, where and what to do. */
MUST_USE int store_head_read(struct io *io, const char *dir, bool no_direct, uint8_t *block,
                             struct store_head *head, char text[512]);

bool store_identity_is_valid(const struct store_identity *identity);

#endif
