/* The buddy system of blocks.h.
 *
 * marks[i] tells what begins at unit i (512 B each): USED + order, FREE + order, or INSIDE when the
 * unit belongs to a block that begins earlier. Happy path: take from the list of the right order.
 * Otherwise a larger block is split; when there is no larger one, everything free is merged once;
 * when that does not help, the caller's lower bound decides, and at last NULL says "wait for acks".
 *
 * merge_all() looks at each mark about twice; it runs only after at least an eighth of the arena
 * was released since the last time, or when nothing is in use. */
#include "client/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/copy.h"
#include "base/poison.h"
#include "base/status.h"

#define FETCH_BYTES 320 // of a block: parcel, headroom and the batch's header

enum { MARK_INSIDE = 0, MARK_USED = 0x40, MARK_FREE = 0x80, MARK_ORDER = 0x1f };

struct block_free {
    struct block_free *next;
};

static void *take(struct blocks *blocks, int order);
static void *take_or_split(struct blocks *blocks, int order);
static void *take_largest(struct blocks *blocks, int order, int order_least);
static bool merging_is_worth_it(const struct blocks *blocks);
static void merge_all(struct blocks *blocks);
static void merge_order(struct blocks *blocks, int order);
static void put(struct blocks *blocks, uint32_t unit, int order);
static void carve(struct blocks *blocks);
static int order_of(uint32_t bytes);

int blocks_init(struct blocks *blocks, uint64_t bytes)
{
    ASSERT(bytes >= BLOCK_BYTES_MIN && bytes / BLOCK_BYTES_MIN <= UINT32_MAX);
    memset(blocks, 0, sizeof(*blocks));
    blocks->unit_count = (uint32_t)(bytes / BLOCK_BYTES_MIN);
    blocks->total_bytes = (uint64_t)blocks->unit_count * BLOCK_BYTES_MIN;
    blocks->marks = calloc(blocks->unit_count, 1);
    if (!blocks->marks)
        return E_NO_MEMORY;
    int status = arena_init(&blocks->arena, blocks->total_bytes, false);
    if (status < 0) {
        free(blocks->marks);
        return status;
    }
    blocks->base = arena_alloc(&blocks->arena, blocks->total_bytes, CACHE_LINE);
    arena_seal(&blocks->arena);
    carve(blocks);
    return 0;
}

void blocks_deinit(struct blocks *blocks)
{
    ASSERT(blocks_free_bytes(blocks) == blocks->total_bytes);
    unpoison(blocks->base, blocks->total_bytes);
    arena_deinit(&blocks->arena);
    free(blocks->marks);
}

void *blocks_acquire(struct blocks *blocks, uint32_t wanted, uint32_t least, uint32_t *size)
{
    ASSERT(least <= wanted);
    if (least > BLOCK_BYTES_MAX)
        return NULL;
    int order_least = order_of(least);
    int order = wanted > BLOCK_BYTES_MAX ? BLOCK_ORDER_COUNT - 1 : order_of(wanted);

    spinlock_take(&blocks->lock);
    uint8_t *block = take_or_split(blocks, order);
    if (!block && merging_is_worth_it(blocks)) {
        merge_all(blocks);
        block = take_or_split(blocks, order);
    }
    if (!block)
        block = take_largest(blocks, order - 1, order_least);
    if (block) {
        uint8_t mark = blocks->marks[(size_t)(block - blocks->base) / BLOCK_BYTES_MIN];
        *size = BLOCK_BYTES_MIN << (mark & MARK_ORDER);
        atomic_fetch_sub_explicit(&blocks->free_bytes, *size, memory_order_relaxed);
    }
    spinlock_release(&blocks->lock);
    return block;
}

void blocks_release(struct blocks *blocks, void *block)
{
    size_t offset = (size_t)((uint8_t *)block - blocks->base);
    ASSERT(offset < blocks->total_bytes && offset % BLOCK_BYTES_MIN == 0);
    uint32_t unit = (uint32_t)(offset / BLOCK_BYTES_MIN);

    spinlock_take(&blocks->lock);
    uint8_t mark = blocks->marks[unit];
    ASSERT((mark & ~MARK_ORDER) == MARK_USED);
    int order = mark & MARK_ORDER;
    put(blocks, unit, order);
    blocks->released_unmerged += (uint64_t)BLOCK_BYTES_MIN << order;
    atomic_fetch_add_explicit(&blocks->free_bytes, (uint64_t)BLOCK_BYTES_MIN << order,
                              memory_order_relaxed);
    spinlock_release(&blocks->lock);
}

uint64_t blocks_free_bytes(struct blocks *blocks)
{
    return atomic_load_explicit(&blocks->free_bytes, memory_order_relaxed);
}

uint32_t blocks_round_up(uint32_t bytes)
{
    return BLOCK_BYTES_MIN << order_of(bytes);
}

static int order_of(uint32_t bytes)
{
    int order = 0;
    while (order < BLOCK_ORDER_COUNT - 1 && (BLOCK_BYTES_MIN << order) < bytes)
        order++;
    return order;
}

static void put(struct blocks *blocks, uint32_t unit, int order)
{
    uint8_t *bytes = blocks->base + (size_t)unit * BLOCK_BYTES_MIN;
    struct block_free *block = (struct block_free *)bytes;
    unpoison(block, sizeof(*block));
    block->next = blocks->free_lists[order];
    blocks->free_lists[order] = block;
    blocks->marks[unit] = (uint8_t)(MARK_FREE | order);
    poison(bytes, (size_t)BLOCK_BYTES_MIN << order);
}

static void *take(struct blocks *blocks, int order)
{
    struct block_free *block = blocks->free_lists[order];
    if (!block)
        return NULL;
    unpoison(block, (size_t)BLOCK_BYTES_MIN << order);
    blocks->free_lists[order] = block->next;
    blocks->marks[(size_t)((uint8_t *)block - blocks->base) / BLOCK_BYTES_MIN] =
        (uint8_t)(MARK_USED | order);
    return block;
}

static void *take_or_split(struct blocks *blocks, int order)
{
    int from = order;
    while (from < BLOCK_ORDER_COUNT && !blocks->free_lists[from])
        from++;
    if (from == BLOCK_ORDER_COUNT)
        return NULL;
    uint8_t *block = take(blocks, from);
    uint32_t unit = (uint32_t)((size_t)(block - blocks->base) / BLOCK_BYTES_MIN);
    while (from > order) {
        from--;
        put(blocks, unit + (1u << from), from); // the upper half
    }
    blocks->marks[unit] = (uint8_t)(MARK_USED | order);
    fetch_lines(blocks->free_lists[order], FETCH_BYTES); // the block that is taken next
    return block;
}

static void *take_largest(struct blocks *blocks, int order, int order_least)
{
    void *block = NULL;
    for (; order >= order_least && !block; order--)
        block = take(blocks, order);
    return block;
}

static bool merging_is_worth_it(const struct blocks *blocks)
{
    uint64_t free_bytes = atomic_load_explicit(&blocks->free_bytes, memory_order_relaxed);
    return blocks->released_unmerged > blocks->total_bytes / 8 ||
           (free_bytes == blocks->total_bytes && blocks->released_unmerged > 0);
}

/* Joins free halves, smallest first, so that one pass per order is enough; then rebuilds the lists.
 */
static void merge_all(struct blocks *blocks)
{
    for (int order = 0; order < BLOCK_ORDER_COUNT - 1; order++)
        merge_order(blocks, order);
    memset(blocks->free_lists, 0, sizeof(blocks->free_lists));
    for (uint32_t unit = 0; unit < blocks->unit_count;) {
        uint8_t mark = blocks->marks[unit];
        ASSERT(mark != MARK_INSIDE);
        int order = mark & MARK_ORDER;
        if (mark & MARK_FREE)
            put(blocks, unit, order);
        unit += 1u << order;
    }
    blocks->released_unmerged = 0;
}

static void merge_order(struct blocks *blocks, int order)
{
    uint32_t half = 1u << order;
    uint8_t free_mark = (uint8_t)(MARK_FREE | order);
    for (uint64_t unit = 0; unit + 2 * half <= blocks->unit_count; unit += 2 * half) {
        if (blocks->marks[unit] != free_mark || blocks->marks[unit + half] != free_mark)
            continue;
        blocks->marks[unit] = (uint8_t)(MARK_FREE | (order + 1));
        blocks->marks[unit + half] = MARK_INSIDE;
    }
}

static void carve(struct blocks *blocks)
{
    uint32_t unit = 0;
    while (unit < blocks->unit_count) {
        int order = BLOCK_ORDER_COUNT - 1;
        while ((unit & ((1u << order) - 1)) != 0 || unit + (1u << order) > blocks->unit_count)
            order--;
        put(blocks, unit, order);
        unit += 1u << order;
    }
    atomic_store_explicit(&blocks->free_bytes, blocks->total_bytes, memory_order_relaxed);
}
