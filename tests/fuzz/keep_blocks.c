#include "tests/fuzz/keep_blocks.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/sim/large_blocks.h"

#define BLOCKS_MAX 1024 // in use at once

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);

static struct block {
    void *memory;
    size_t bytes;
    bool is_zeros;
} blocks[BLOCKS_MAX];
static uint32_t block_count;

static void *take(size_t bytes, bool is_zeros)
{
    ASSERT(block_count < BLOCKS_MAX);
    void *memory = large_block_take(bytes, is_zeros);
    if (memory == NULL)
        return NULL;
    blocks[block_count++] = (struct block){memory, bytes, is_zeros};
    memory_bound_took(bytes);
    return memory;
}

/* NULL: not one of ours. Those are on whole pages. */
static struct block *find(const void *memory)
{
    if ((uintptr_t)memory % 4096 != 0)
        return NULL;
    for (uint32_t i = block_count; i > 0; i--)
        if (blocks[i - 1].memory == memory)
            return &blocks[i - 1];
    return NULL;
}

void *__wrap_malloc(size_t size)
{
    return size >= LARGE_BLOCK_BYTES ? take(size, false) : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!__builtin_mul_overflow(count, size, &bytes) && bytes >= LARGE_BLOCK_BYTES)
        return take(bytes, true);
    return __real_calloc(count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    if (size >= LARGE_BLOCK_BYTES && alignment <= large_block_alignment(size))
        return take(size, false);
    return __real_aligned_alloc(alignment, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    struct block *block = find(memory);
    if (block == NULL)
        return memory ? __real_realloc(memory, size) : __wrap_malloc(size);
    void *moved = __wrap_malloc(size);
    if (moved == NULL)
        return NULL;
    block = find(memory); // the list may have grown
    memcpy(moved, memory, block->bytes < size ? block->bytes : size);
    __wrap_free(memory);
    return moved;
}

void __wrap_free(void *memory)
{
    struct block *block = find(memory);
    if (block == NULL) {
        __real_free(memory);
        return;
    }
    struct block freed = *block;
    *block = blocks[--block_count];
    memory_bound_gave(freed.bytes);
    large_block_give(freed.memory, freed.bytes, freed.is_zeros);
}
