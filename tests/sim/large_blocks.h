/* Blocks of memory of 256 KiB and more that are kept for the next one who wants as much.
 *
 * A broker has 20 MiB of tables a shard that are zeros at its start and hardly touched in a short life, and buffers besides.
 * Mapping and filling them anew took most of a start's time, most of all under the address sanitizer, whose own allocator maps
 * each. Here what was touched of zeros is given back to the kernel, or filled when that was most of it; other blocks stay as they
 * are.
 *
 *     | page, poisoned | the block ... | poisoned, to the end of the page after the next |
 *
 * Red zones stand around a block, and its first and last 16 KiB are poisoned while nobody has it, as the sanitizer's allocator does
 * with all of it; and it may come again sooner. Thread: one. */
#ifndef SLUICE_TESTS_SIM_LARGE_BLOCKS_H
#define SLUICE_TESTS_SIM_LARGE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

#define LARGE_BLOCK_BYTES ((size_t)256 << 10)

/* NULL: no memory. Without is_zeros it holds anything. */
void *large_block_take(size_t bytes, bool is_zeros);
/* With what it was taken with. */
void large_block_give(void *memory, size_t bytes, bool is_zeros);
/* Of a block of so many bytes: a page, or 2 MiB from 2 MiB on. */
size_t large_block_alignment(size_t bytes);

#endif
