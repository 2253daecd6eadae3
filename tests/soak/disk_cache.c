#include "tests/soak/disk_cache.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"

#define DIRTY_MAX 65536u // 256 MiB: then the disk flushes by itself, as disks do

struct disk_block {
    uint64_t number;
    uint8_t dirty; // a bit for each sector
    uint8_t bytes[DISK_BLOCK];
};

static struct disk_block *dirty_block(struct disk_cache *cache, uint64_t number);

bool disk_cache_open(struct disk_cache *cache, const char *path)
{
    struct stat st;
    *cache = (struct disk_cache){.fd = open(path, O_RDWR | O_CLOEXEC)};
    if (cache->fd < 0 || fstat(cache->fd, &st)) {
        perror(path);
        return false;
    }
    cache->bytes = (uint64_t)st.st_size / DISK_BLOCK * DISK_BLOCK;
    cache->blocks = calloc(cache->bytes / DISK_BLOCK, sizeof(struct disk_block *));
    cache->dirty = calloc(DIRTY_MAX, sizeof(struct disk_block *));
    return cache->blocks && cache->dirty;
}

/* ---- reading and writing ---- */

bool disk_cache_read(const struct disk_cache *cache, uint64_t block, uint8_t *bytes)
{
    const struct disk_block *cached = cache->blocks[block];
    if (!cached)
        return pread(cache->fd, bytes, DISK_BLOCK, (off_t)(block * DISK_BLOCK)) == DISK_BLOCK;
    memcpy(bytes, cached->bytes, DISK_BLOCK);
    return true;
}

bool disk_cache_write(struct disk_cache *cache, uint64_t at, const void *bytes, uint64_t length)
{
    const uint8_t *next = bytes;
    while (length > 0) {
        uint32_t from = (uint32_t)(at % DISK_BLOCK), piece = DISK_BLOCK - from;
        if (piece > length)
            piece = (uint32_t)length;
        struct disk_block *block = dirty_block(cache, at / DISK_BLOCK);
        if (!block)
            return false;
        memcpy(block->bytes + from, next, piece);
        for (uint32_t i = from / DISK_SECTOR; i <= (from + piece - 1) / DISK_SECTOR; i++)
            block->dirty |= (uint8_t)(1u << i);
        at += piece;
        next += piece;
        length -= piece;
    }
    return true;
}

static struct disk_block *dirty_block(struct disk_cache *cache, uint64_t number)
{
    if (cache->blocks[number])
        return cache->blocks[number];
    if (cache->dirty_count == DIRTY_MAX && !disk_cache_flush(cache))
        return NULL;
    struct disk_block *block = malloc(sizeof(*block));
    if (!block || !disk_cache_read(cache, number, block->bytes)) {
        free(block);
        return NULL;
    }
    block->number = number;
    block->dirty = 0;
    cache->blocks[number] = block;
    cache->dirty[cache->dirty_count++] = block;
    return block;
}

bool disk_cache_flush(struct disk_cache *cache)
{
    for (uint32_t i = 0; i < cache->dirty_count; i++) {
        const struct disk_block *block = cache->dirty[i];
        off_t at = (off_t)(block->number * DISK_BLOCK);
        if (pwrite(cache->fd, block->bytes, DISK_BLOCK, at) != DISK_BLOCK)
            return false;
    }
    disk_cache_forget(cache);
    return true;
}

void disk_cache_forget(struct disk_cache *cache)
{
    for (uint32_t i = 0; i < cache->dirty_count; i++) {
        cache->blocks[cache->dirty[i]->number] = NULL;
        free(cache->dirty[i]);
    }
    cache->dirty_count = 0;
}

/* ---- power ---- */

static void keep_some(const struct disk_cache *cache, const struct disk_block *block,
                      uint8_t sectors)
{
    for (uint32_t i = 0; i < DISK_BLOCK / DISK_SECTOR; i++) {
        off_t at = (off_t)(block->number * DISK_BLOCK + i * DISK_SECTOR);
        if (sectors & block->dirty & 1u << i &&
            pwrite(cache->fd, block->bytes + i * DISK_SECTOR, DISK_SECTOR, at) != DISK_SECTOR)
            perror("disk image");
    }
}

void disk_cache_cut(struct disk_cache *cache, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    uint64_t keeps_of_4 = random_below(&random, 5); // each cut has a leaning of its own
    for (uint32_t i = 0; i < cache->dirty_count; i++) {
        if (random_below(&random, 16) == 0) {
            keep_some(cache, cache->dirty[i], (uint8_t)random_u32(&random));
            cache->torn_blocks++;
        } else if (random_below(&random, 4) < keeps_of_4) {
            keep_some(cache, cache->dirty[i], 0xff);
            cache->kept_blocks++;
        } else {
            cache->lost_blocks++;
        }
    }
    disk_cache_forget(cache);
}
