/* Many producers, one consumer, a fixed number of slots.
 *
 * Each slot has a sequence that says whose turn it is. For the slot at position p of the endless
 * count (slot index p & mask):
 *
 *     sequence == p                  free: the producer that claims position p may fill it
 *     sequence == p + 1              full: the consumer may empty it when its head is p
 *     sequence == p + slot_count     free again, for position p + slot_count
 *
 * The happy path of a push: read tail, see its slot free, claim tail by compare-and-swap, copy, publish
 * sequence = p + 1. Of a pop: see sequence == head + 1, copy, publish sequence = p + slot_count. A
 * push fails when the slot at tail still holds the payload of one lap ago; a pop fails when the slot
 * at head isn't published, also when a later one already is: a producer that was put off between
 * claim and publish holds back what came after it, so order by claim is kept.
 *
 * Positions are 64-bit counts that may wrap; they are only subtracted and compared for equality. */
#include "base/ring_mpsc.h"

#include <stdlib.h>
#include <string.h>

#define SLOT_COUNT_MIN 2
#define SLOT_COUNT_MAX (1u << 20)
#define SLOT_SIZE_MAX 4096

struct slot {
    _Atomic uint64_t sequence;
    uint8_t payload[];
};

struct ring_mpsc {
    /* ---- constant after new ---- */
    uint8_t *slots;
    uint64_t slot_mask;
    uint32_t slot_size;   // payload bytes
    uint32_t slot_stride; // with the sequence, rounded up to 8
    uint8_t pad0[CACHE_LINE - 24];
    /* ---- producers ---- */
    _Atomic uint64_t tail; // positions ever claimed
    uint8_t pad1[CACHE_LINE - 8];
    /* ---- consumer ---- */
    _Atomic uint64_t head; // positions ever emptied; atomic only for ring_mpsc_count()
    uint8_t pad2[CACHE_LINE - 8];
} __attribute__((aligned(CACHE_LINE)));

static_assert(offsetof(struct ring_mpsc, tail) == CACHE_LINE, "producers' own line");
static_assert(offsetof(struct ring_mpsc, head) == 2 * CACHE_LINE, "consumer's own line");

static struct slot *slot_at(struct ring_mpsc *ring, uint64_t position);
static struct slot *claim(struct ring_mpsc *ring, uint64_t *position);

struct ring_mpsc *ring_mpsc_new(uint32_t slot_count, uint32_t slot_size, uint64_t start)
{
    ASSERT(slot_count >= SLOT_COUNT_MIN && slot_count <= SLOT_COUNT_MAX);
    ASSERT((slot_count & (slot_count - 1)) == 0);
    ASSERT(slot_size >= 1 && slot_size <= SLOT_SIZE_MAX);
    struct ring_mpsc *ring = aligned_alloc(CACHE_LINE, sizeof(*ring));
    if (ring == NULL)
        return NULL;
    memset(ring, 0, sizeof(*ring));
    ring->slot_mask = slot_count - 1;
    ring->slot_size = slot_size;
    ring->slot_stride = (uint32_t)align_up(sizeof(struct slot) + slot_size, sizeof(uint64_t));
    size_t bytes = (size_t)slot_count * ring->slot_stride;
    ring->slots = aligned_alloc(CACHE_LINE, align_up(bytes, CACHE_LINE));
    if (ring->slots == NULL) {
        free(ring);
        return NULL;
    }
    atomic_init(&ring->tail, start);
    atomic_init(&ring->head, start);
    for (uint64_t i = 0; i < slot_count; i++)
        atomic_init(&slot_at(ring, start + i)->sequence, start + i);
    return ring;
}

void ring_mpsc_free(struct ring_mpsc *ring)
{
    if (ring == NULL)
        return;
    free(ring->slots);
    free(ring);
}

bool ring_mpsc_push(struct ring_mpsc *ring, const void *payload)
{
    uint64_t position;
    struct slot *slot = claim(ring, &position);
    if (slot == NULL)
        return false;
    memcpy(slot->payload, payload, ring->slot_size);
    /* R1: publishes the payload; pairs with A1 in ring_mpsc_pop(). */
    atomic_store_explicit(&slot->sequence, position + 1, memory_order_release);
    return true;
}

bool ring_mpsc_pop(struct ring_mpsc *ring, void *payload)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    struct slot *slot = slot_at(ring, head);
    /* A1: sees the payload; pairs with R1 in ring_mpsc_push(). */
    if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != head + 1)
        return false;
    memcpy(payload, slot->payload, ring->slot_size);
    /* R2: the payload was read; pairs with A2 in claim(). */
    atomic_store_explicit(&slot->sequence, head + ring->slot_mask + 1, memory_order_release);
    /* R3: says which claims are behind it; pairs with A3 in ring_mpsc_count(). */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

/* Relaxed would do for the answer itself; acquire lets the caller's own sleeping protocol order its
 * last look as if it were a pop that found nothing. */
bool ring_mpsc_is_empty(struct ring_mpsc *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    struct slot *slot = slot_at(ring, head);
    return atomic_load_explicit(&slot->sequence, memory_order_acquire) != head + 1;
}

/* Head is read first: tail can only have grown since, so the difference is never negative. Both
 * sides may have gone on meanwhile and made it too large, hence the cap. */
uint64_t ring_mpsc_count(struct ring_mpsc *ring)
{
    /* A3: sees the claims that this head has passed; pairs with R3 in ring_mpsc_pop(). */
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return min_u64(tail - head, ring->slot_mask + 1);
}

bool ring_mpsc_check(struct ring_mpsc *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - head > ring->slot_mask + 1)
        return false;
    for (uint64_t i = 0; i <= ring->slot_mask; i++) {
        uint64_t position = head + i;
        uint64_t expected = i < tail - head ? position + 1 : position;
        struct slot *slot = slot_at(ring, position);
        if (atomic_load_explicit(&slot->sequence, memory_order_relaxed) != expected)
            return false;
    }
    return true;
}

static struct slot *slot_at(struct ring_mpsc *ring, uint64_t position)
{
    return (struct slot *)(ring->slots + (size_t)(position & ring->slot_mask) * ring->slot_stride);
}

/* A free slot and its position, or NULL when full. A lost compare-and-swap means that another
 * producer got a place: some producer always makes progress. */
static struct slot *claim(struct ring_mpsc *ring, uint64_t *position)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    for (;;) {
        struct slot *slot = slot_at(ring, tail);
        /* A2: sees the consumer done with the slot; pairs with R2 in ring_mpsc_pop(). */
        uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
        int64_t lead = (int64_t)(sequence - tail);
        if (lead == 0) {
            if (atomic_compare_exchange_weak_explicit(&ring->tail, &tail, tail + 1,
                                                      memory_order_relaxed, memory_order_relaxed)) {
                *position = tail;
                return slot;
            }
        } else if (lead < 0) {
            return NULL; // one lap behind: the consumer hasn't emptied it
        } else {
            tail = atomic_load_explicit(&ring->tail, memory_order_relaxed); // ours was old
        }
    }
}
