/* The volatile cache of a disk in front of an image file: writes stay in memory until a flush, and a power cut keeps, of each
 * block that was not flushed, all, nothing, or some of its sectors.
 *
 * Thread: one. */
#ifndef SLUICE_TESTS_SOAK_DISK_CACHE_H
#define SLUICE_TESTS_SOAK_DISK_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#define DISK_BLOCK 4096u
#define DISK_SECTOR 512u

struct disk_block;

struct disk_cache {
    int fd;
    uint64_t bytes;             // of the disk, a multiple of a block
    struct disk_block **blocks; // by number; NULL: as in the file
    struct disk_block **dirty;  // those that are not flushed
    uint32_t dirty_count;
    uint64_t lost_blocks, torn_blocks, kept_blocks; // by all cuts
};

bool disk_cache_open(struct disk_cache *cache, const char *path); // false after a message

/* [at, at + length), within the disk. False: the image file can't be read or written. */
bool disk_cache_read(const struct disk_cache *cache, uint64_t block, uint8_t *bytes); // one block
bool disk_cache_write(struct disk_cache *cache, uint64_t at, const void *bytes, uint64_t length);

bool disk_cache_flush(struct disk_cache *cache);
void disk_cache_forget(struct disk_cache *cache); // what is not flushed
void disk_cache_cut(struct disk_cache *cache, uint64_t seed);

#endif
