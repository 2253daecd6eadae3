/* The blocks of records in flight, against a naive model: no two overlap, and all the memory comes
 * back. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "base/random.h"
#include "client/blocks.h"

static struct blocks make(uint64_t bytes)
{
    struct blocks blocks;
    cr_assert(eq(int, blocks_init(&blocks, bytes), 0));
    return blocks;
}

Test(blocks, sizes_are_powers_of_two_from_512_bytes)
{
    struct blocks blocks = make(64 * KIB);
    uint32_t size;
    void *small = blocks_acquire(&blocks, 1, 1, &size);
    cr_expect(eq(u32, size, 512));
    void *larger = blocks_acquire(&blocks, 513, 513, &size);
    cr_expect(eq(u32, size, 1024));
    cr_expect(eq(u64, blocks_free_bytes(&blocks), 64 * KIB - 1536));
    blocks_release(&blocks, small);
    blocks_release(&blocks, larger);
    cr_expect(eq(u32, blocks_round_up(512), 512));
    cr_expect(eq(u32, blocks_round_up(262144), 262144));
    cr_expect(eq(u32, blocks_round_up(262145), 524288));
    blocks_deinit(&blocks);
}

Test(blocks, the_last_released_is_the_first_taken)
{
    struct blocks blocks = make(64 * KIB);
    uint32_t size;
    void *a = blocks_acquire(&blocks, 512, 512, &size);
    void *b = blocks_acquire(&blocks, 512, 512, &size);
    blocks_release(&blocks, b);
    blocks_release(&blocks, a);
    cr_expect(blocks_acquire(&blocks, 512, 512, &size) == a);
    cr_expect(blocks_acquire(&blocks, 512, 512, &size) == b);
    blocks_release(&blocks, a);
    blocks_release(&blocks, b);
    blocks_deinit(&blocks);
}

Test(blocks, small_blocks_merge_when_a_large_one_is_wanted)
{
    struct blocks blocks = make(1 * MIB);
    void *small[2048];
    uint32_t size;
    for (int i = 0; i < 2048; i++) {
        small[i] = blocks_acquire(&blocks, 512, 512, &size);
        cr_assert(small[i] != NULL);
    }
    cr_expect(blocks_acquire(&blocks, 512, 512, &size) == NULL);
    for (int i = 0; i < 2048; i++)
        blocks_release(&blocks, small[i]);
    void *all = blocks_acquire(&blocks, 1 * MIB, 1 * MIB, &size);
    cr_expect(all != NULL);
    cr_expect(eq(u32, size, 1 * MIB));
    blocks_release(&blocks, all);
    blocks_deinit(&blocks);
}

Test(blocks, when_what_is_wanted_is_not_there_the_largest_above_the_least_is_given)
{
    struct blocks blocks = make(64 * KIB);
    uint32_t size;
    void *half = blocks_acquire(&blocks, 32 * KIB, 32 * KIB, &size);
    void *quarter = blocks_acquire(&blocks, 16 * KIB, 16 * KIB, &size);
    void *rest = blocks_acquire(&blocks, 32 * KIB, 1024, &size);
    cr_expect(eq(u32, size, 16 * KIB));
    cr_expect(blocks_acquire(&blocks, 512, 512, &size) == NULL);
    blocks_release(&blocks, half);
    blocks_release(&blocks, quarter);
    blocks_release(&blocks, rest);
    blocks_deinit(&blocks);
}

Test(blocks, an_arena_of_an_odd_size_is_used_up_to_its_last_block)
{
    struct blocks blocks = make(100 * KIB + 512 + 100);
    uint32_t size, count = 0;
    static void *taken[400];
    while ((taken[count] = blocks_acquire(&blocks, 512, 512, &size)))
        count++;
    cr_expect(eq(u32, count, 201));
    while (count > 0)
        blocks_release(&blocks, taken[--count]);
    blocks_deinit(&blocks);
}

#define LIVE_MAX 300

Test(blocks, random_use_never_overlaps_and_gives_everything_back)
{
    struct blocks blocks = make(3 * MIB);
    struct random random;
    struct {
        uint8_t *bytes;
        uint32_t size;
        uint8_t fill;
    } live[LIVE_MAX] = {0};
    random_init(&random, 42);
    for (int step = 0; step < 100000; step++) {
        uint64_t i = random_below(&random, LIVE_MAX);
        if (live[i].bytes) {
            for (uint32_t at = 0; at < live[i].size; at += 509)
                cr_assert(live[i].bytes[at] == live[i].fill);
            blocks_release(&blocks, live[i].bytes);
            live[i].bytes = NULL;
            continue;
        }
        uint32_t wanted = 1u << random_below(&random, 19);
        uint32_t least = wanted >> random_below(&random, 6);
        live[i].bytes = blocks_acquire(&blocks, wanted, least ? least : 1, &live[i].size);
        if (!live[i].bytes)
            continue;
        cr_assert(ge(u32, live[i].size, least));
        live[i].fill = (uint8_t)random_u32(&random);
        memset(live[i].bytes, live[i].fill, live[i].size);
    }
    for (int i = 0; i < LIVE_MAX; i++) {
        if (live[i].bytes)
            blocks_release(&blocks, live[i].bytes);
    }
    uint32_t size;
    void *large = blocks_acquire(&blocks, 2 * MIB, 2 * MIB, &size);
    cr_expect(large != NULL);
    blocks_release(&blocks, large);
    blocks_deinit(&blocks);
}
