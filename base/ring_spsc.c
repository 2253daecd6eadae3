/* The parts of the SPSC ring that no data path calls; the four that it calls are in the header. */
#include "base/ring_spsc.h"

#include <string.h>

void ring_spsc_init(struct ring_spsc *ring, void *slots, uint32_t slot_count, uint32_t slot_size,
                    uint64_t start)
{
    ASSERT(slot_count >= 2 && slot_count <= RING_SLOT_COUNT_MAX);
    ASSERT((slot_count & (slot_count - 1)) == 0);
    ASSERT(slot_size > 0 && slots != NULL && (uintptr_t)slots % CACHE_LINE == 0);
    memset(ring, 0, sizeof(*ring));
    ring->slots = slots;
    ring->slot_mask = slot_count - 1;
    ring->slot_size = slot_size;
    atomic_init(&ring->tail, start);
    atomic_init(&ring->head, start);
    ring->head_cached = start;
    ring->tail_cached = start;
}

/* Head is read first: tail can only have grown since, so the difference is never negative. A
 * producer that went on meanwhile may have made it too large, hence the cap. */
uint64_t ring_spsc_count(struct ring_spsc *ring)
{
    /* A3: sees the tail that this head was behind; pairs with R2 in ring_spsc_release(). */
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return min_u64(tail - head, (uint64_t)ring->slot_mask + 1);
}

/* head_cached <= head <= tail_cached <= tail, and never more slots taken than there are, not even as
 * the producer sees it. All distances are taken from tail, so the wrap of the integers is no case. */
bool ring_spsc_check(struct ring_spsc *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    uint64_t slot_count = (uint64_t)ring->slot_mask + 1;
    return tail - ring->tail_cached <= tail - head && tail - head <= tail - ring->head_cached &&
           tail - ring->head_cached <= slot_count;
}
