/* Which partition a record without one goes to.
 *
 * With a key: XXH3-64 of the key modulo the partition count, a fixed promise (programs in other
 * languages may rely on it). Without: sticky, that is one partition until a batch of it is closed
 * and then the next, so batches fill up instead of being spread thin. Sending threads share
 * STICKY_COUNT sticky places, so that two threads seldom fill the same batch and wait for each
 * other. */
#include "client/producer_private.h"

#include "base/hash.h"

static uint32_t thread_place(void);

uint32_t partitioner_by_key(struct slice key, uint32_t partition_count)
{
    return (uint32_t)(hash_xxh3(key.bytes, key.len) % partition_count);
}

void partitioner_init(struct topic *topic, uint32_t partition_count, struct random *random)
{
    uint64_t first =
        random_below(random, partition_count); // many producers do not begin at one place
    for (uint32_t i = 0; i < STICKY_COUNT; i++)
        atomic_init(&topic->sticky[i], (uint32_t)((first + i) % partition_count));
}

uint32_t partitioner_sticky(struct topic *topic)
{
    return atomic_load_explicit(&topic->sticky[thread_place()], memory_order_relaxed);
}

/* Relaxed, and a race may step twice or not at all: each partition is as good as the next. */
void partitioner_moved_on(struct topic *topic, uint32_t partition)
{
    struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
    uint32_t next = partition + 1 < lanes->count ? partition + 1 : 0;
    for (uint32_t i = 0; i < STICKY_COUNT; i++) {
        if (atomic_load_explicit(&topic->sticky[i], memory_order_relaxed) == partition)
            atomic_store_explicit(&topic->sticky[i], next, memory_order_relaxed);
    }
}

static uint32_t thread_place(void)
{
    static _Atomic uint32_t threads_seen;
    static _Thread_local uint32_t place __attribute__((tls_model("initial-exec"))) = UINT32_MAX;
    if (place == UINT32_MAX)
        place = atomic_fetch_add_explicit(&threads_seen, 1, memory_order_relaxed) % STICKY_COUNT;
    return place;
}
