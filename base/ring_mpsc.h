/* Bounded ring from any number of producer threads to one consumer, of fixed-size slots: into a
 * core's inbox from threads that are no core, and in the client library from the application's threads.
 *
 * Bounded queue with a sequence number per slot (D. Vyukov's array queue, multi-producer side):
 * producers claim a place with one compare-and-swap, fill it, and publish its sequence. Lock-free for
 * producers (a stalled one delays the consumer, not other producers); wait-free for the consumer. */
#ifndef SLUICE_BASE_RING_MPSC_H
#define SLUICE_BASE_RING_MPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct ring_mpsc;

/* slot_count: power of two, 2..2^20; slot_size: payload bytes, 1..4096. `start` as for SPSC. Memory
 * comes from the heap. Returns NULL when there is none. Thread: before sharing. */
struct ring_mpsc *ring_mpsc_new(uint32_t slot_count, uint32_t slot_size, uint64_t start);
void ring_mpsc_free(struct ring_mpsc *ring);

/* Copies one slot's payload in. Returns false when full (no side effect). Thread: any producer.
 * Lock-free. */
MUST_USE bool ring_mpsc_push(struct ring_mpsc *ring, const void *payload);

/* Copies the oldest payload out. Returns false when empty. Thread: the consumer. Wait-free. */
MUST_USE bool ring_mpsc_pop(struct ring_mpsc *ring, void *payload);

/* True when a pop would fail; for the consumer's last look before it sleeps. Thread: consumer. */
bool ring_mpsc_is_empty(struct ring_mpsc *ring);

uint64_t ring_mpsc_count(struct ring_mpsc *ring); // about, any thread
bool ring_mpsc_check(struct ring_mpsc *ring);     // when quiet

#endif
