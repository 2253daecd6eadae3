/* Memory for records that are not acked yet: blocks of 512 B times a power of two out of one arena.
 *
 * A buddy system that merges lazily. Sending takes and gives back blocks of the same few sizes all
 * the time, so a released block goes on the list of its size (last in, first out: warm) and is
 * merged with its neighbour only when a larger block is wanted and there is none. The arena is the
 * bound: nothing else is allocated for a record.
 *
 * Thread: any (one short lock inside; callers take several blocks at a time when blocks are
 * small). */
#ifndef SLUICE_CLIENT_BLOCKS_H
#define SLUICE_CLIENT_BLOCKS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"
#include "client/spinlock.h"

#define BLOCK_BYTES_MIN ((uint32_t)512)
#define BLOCK_ORDER_COUNT 15 // 512 B .. 8 MiB: a batch of 4 MiB with its descriptor needs the last
#define BLOCK_BYTES_MAX (BLOCK_BYTES_MIN << (BLOCK_ORDER_COUNT - 1))

struct block_free;

struct blocks {
    struct arena arena;
    struct spinlock lock;
    uint8_t *base;
    uint8_t *marks; // per 512 B: what begins there (blocks.c)
    uint32_t unit_count;
    struct block_free *free_lists[BLOCK_ORDER_COUNT];
    uint64_t released_unmerged; // bytes released since the last merge: is another worth it?
    _Atomic uint64_t free_bytes;
    uint64_t total_bytes; // constant after init
};

/* bytes: at least BLOCK_BYTES_MIN, rounded down to a multiple of it. Returns 0 or NO_MEMORY. */
MUST_USE int blocks_init(struct blocks *blocks, uint64_t bytes);

/* Every block must have been released. */
void blocks_deinit(struct blocks *blocks);

/* A block of at least `wanted` bytes; when there is none, the largest one of at least `least`. Sets
 * *size to what it really holds. NULL when nothing fits: release first. Contents are undefined. */
void *blocks_acquire(struct blocks *blocks, uint32_t wanted, uint32_t least, uint32_t *size);

void blocks_release(struct blocks *blocks, void *block);

/* Bytes in free blocks, in whatever pieces. Thread: any; a moment's view. */
uint64_t blocks_free_bytes(struct blocks *blocks);

/* The size a block for `bytes` has: the next power of two, at least BLOCK_BYTES_MIN. */
uint32_t blocks_round_up(uint32_t bytes);

#endif
