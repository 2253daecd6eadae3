/* Partitions: a promise that programs in other languages rely on, and the sticky places. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "client/producer_private.h"

static uint32_t by_key(const char *key, uint32_t count)
{
    return partitioner_by_key(slice_of_text(key), count);
}

/* XXH3-64, seed 0, as the reference implementation gives it. */
Test(partitioner, keys_go_where_their_xxh3_says)
{
    static const struct {
        const char *key;
        uint64_t hash;
    } known[] = {
        {"", 0x2d06800538d394c2},
        {"a", 0xe6c632b61e964e1f},
        {"abc", 0x78af5f94892f3950},
    };
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        for (uint32_t count = 1; count < 5000; count = count * 3 + 1)
            cr_expect(eq(u32, by_key(known[i].key, count), (uint32_t)(known[i].hash % count)));
    }
    cr_expect(eq(u32, by_key("abc", 8), 0));
    cr_expect(eq(u32, by_key("a", 10), 9));
}

Test(partitioner, keys_spread_evenly)
{
    uint32_t counts[10] = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        struct slice key = {(const uint8_t *)&i, sizeof(i)};
        counts[partitioner_by_key(key, 10)]++;
    }
    for (int p = 0; p < 10; p++)
        cr_expect(gt(u32, counts[p], 9600));
}

Test(partitioner, a_sticky_partition_lasts_until_a_batch_of_it_is_closed)
{
    struct lanes *lanes = calloc(1, sizeof(*lanes));
    struct topic topic = {0};
    struct random random;
    lanes->count = 3;
    atomic_store(&topic.lanes, lanes);
    random_init(&random, 1);
    partitioner_init(&topic, 3, &random);
    uint32_t first = partitioner_sticky(&topic);
    cr_expect(lt(u32, first, 3));
    for (int i = 0; i < 10; i++)
        cr_expect(eq(u32, partitioner_sticky(&topic), first));
    partitioner_moved_on(&topic, (first + 1) % 3); // another one's batch: no matter
    cr_expect(eq(u32, partitioner_sticky(&topic), first));
    partitioner_moved_on(&topic, first);
    cr_expect(eq(u32, partitioner_sticky(&topic), (first + 1) % 3));
    partitioner_moved_on(&topic, (first + 1) % 3);
    cr_expect(eq(u32, partitioner_sticky(&topic), (first + 2) % 3));
    free(lanes);
}

Test(partitioner, one_partition_is_always_the_one)
{
    struct lanes *lanes = calloc(1, sizeof(*lanes));
    struct topic topic = {0};
    struct random random;
    lanes->count = 1;
    atomic_store(&topic.lanes, lanes);
    random_init(&random, 1);
    partitioner_init(&topic, 1, &random);
    partitioner_moved_on(&topic, 0);
    cr_expect(eq(u32, partitioner_sticky(&topic), 0));
    free(lanes);
}
