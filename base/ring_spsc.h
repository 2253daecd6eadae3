/* Ring between exactly one producer thread and one consumer thread, of fixed-size slots.
 *
 * Use it between two cores. From many threads to one: ring_mpsc.h.
 *
 * head and tail are free-running 64-bit counts, masked only on access; count = tail - head holds
 * across the wrap of the integers. slot_count is a power of two, 2..2^20.
 *
 *     empty          head == tail
 *     part full      head      tail            . . [h] x x x [t] . .
 *     full           tail - head == slot_count
 *
 * Functions are declared here and defined in ring_spsc.c, except the four that a data path calls
 * per message. Each side keeps a cached copy of the other's count, which may be old: too old a head
 * makes the ring look fuller, too old a tail emptier than it is; both are safe and refreshed before
 * saying "full" or "empty". */
#ifndef SLUICE_BASE_RING_SPSC_H
#define SLUICE_BASE_RING_SPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

#define RING_SLOT_COUNT_MAX (1u << 20)

struct ring_spsc {
    /* ---- constant after init ---- */
    uint8_t *slots;
    uint32_t slot_mask;
    uint32_t slot_size;
    uint8_t pad0[CACHE_LINE - sizeof(uint8_t *) - 2 * sizeof(uint32_t)];
    /* ---- producer ---- */
    _Atomic uint64_t tail; // slots ever published (producer writes)
    uint64_t head_cached;
    uint8_t pad1[CACHE_LINE - 2 * sizeof(uint64_t)];
    /* ---- consumer ---- */
    _Atomic uint64_t head; // slots ever released (consumer writes)
    uint64_t tail_cached;
    uint8_t pad2[CACHE_LINE - 2 * sizeof(uint64_t)];
} __attribute__((aligned(CACHE_LINE)));

static_assert(offsetof(struct ring_spsc, tail) == CACHE_LINE, "producer's own line");
static_assert(offsetof(struct ring_spsc, head) == 2 * CACHE_LINE, "consumer's own line");

/* slots: slot_count * slot_size bytes, 64-byte aligned, owned by the caller and outliving the ring.
 * `start`: first value of both counts (0; tests start near UINT64_MAX). Thread: before sharing. */
void ring_spsc_init(struct ring_spsc *ring, void *slots, uint32_t slot_count, uint32_t slot_size,
                    uint64_t start);

/* The slot to fill next, or NULL when full (no side effect). Thread: producer. Wait-free. */
static inline void *ring_spsc_reserve(struct ring_spsc *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (UNLIKELY(tail - ring->head_cached > ring->slot_mask)) {
        /* A2: sees the consumer done with the slot; pairs with R2 in ring_spsc_release(). */
        ring->head_cached = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (tail - ring->head_cached > ring->slot_mask)
            return NULL;
    }
    return ring->slots + (size_t)(tail & ring->slot_mask) * ring->slot_size;
}

/* Publishes the reserved slot. Thread: producer. Wait-free. */
static inline void ring_spsc_commit(struct ring_spsc *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    /* R1: publishes the slot's bytes; pairs with A1 in ring_spsc_peek(). */
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
}

/* The oldest published slot, or NULL when empty. Valid until ring_spsc_release(). Thread: consumer.
 * Wait-free. */
static inline void *ring_spsc_peek(struct ring_spsc *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == ring->tail_cached) {
        /* A1: sees the slot's bytes; pairs with R1 in ring_spsc_commit(). */
        ring->tail_cached = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_cached)
            return NULL;
    }
    return ring->slots + (size_t)(head & ring->slot_mask) * ring->slot_size;
}

/* Gives the peeked slot back to the producer. Thread: consumer. Wait-free. */
static inline void ring_spsc_release(struct ring_spsc *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    /* R2: the slot's bytes were read; pairs with A2 in ring_spsc_reserve(). */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

/* Published and not released; exact only when both sides are quiet. Thread: any. */
uint64_t ring_spsc_count(struct ring_spsc *ring);

/* Consistency when quiet: head <= tail <= head + slot_count. For tests and crash reports. */
bool ring_spsc_check(struct ring_spsc *ring);

#endif
