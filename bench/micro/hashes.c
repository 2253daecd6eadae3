/* Checksums, by KiB of 64 KiB blocks that are in the cache. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "bench/micro/micro.h"

#define BLOCK_BYTES (64 * KIB)

static uint8_t *block, *copy;
static struct hash_stream *stream;

static void close_block(void)
{
    free(block);
    free(copy);
    hash_stream_free(stream);
}

static int open_block(void)
{
    block = calloc(1, BLOCK_BYTES);
    copy = calloc(1, BLOCK_BYTES);
    stream = hash_stream_new();
    if (block && copy && stream)
        return 0;
    close_block();
    return -1;
}

static uint64_t crc_run(uint64_t count, uint64_t *ns)
{
    uint64_t done = 0;
    *ns = 0;
    for (; done < count; done += BLOCK_BYTES / KIB)
        micro_use(hash_crc32c(block, BLOCK_BYTES));
    return done;
}

static uint64_t xxh3_run(uint64_t count, uint64_t *ns)
{
    uint64_t done = 0;
    *ns = 0;
    for (; done < count; done += BLOCK_BYTES / KIB)
        micro_use(hash_xxh3(block, BLOCK_BYTES));
    return done;
}

/* As a group is filled: 4 KiB by 4 KiB, hashed while it is copied. */
static uint64_t copy_run(uint64_t count, uint64_t *ns)
{
    uint64_t done = 0;
    *ns = 0;
    for (; done < count; done += BLOCK_BYTES / KIB) {
        hash_stream_begin(stream);
        for (uint32_t at = 0; at < BLOCK_BYTES; at += 4 * KIB) {
            memcpy(copy + at, block + at, 4 * KIB);
            hash_stream_add(stream, copy + at, 4 * KIB);
        }
        micro_use(hash_stream_end(stream));
    }
    return done;
}

static const struct micro_case cases[] = {
    {"crc32c", "KiB", open_block, crc_run, close_block},
    {"xxh3", "KiB", open_block, xxh3_run, close_block},
    {"copy_and_xxh3", "KiB", open_block, copy_run, close_block},
};

const struct micro_group micro_hashes = {"hashes", cases, ARRAY_COUNT(cases)};
