/* Timers by deadline: a binary heap of operations, each of which knows its place.
 *
 * Both kernel backends use it, so that a thousand timers cost one kernel timeout (that of the next
 * wait) and a cancel costs no system call. Equal deadlines leave in the order they came. While an
 * operation is in the heap, its backend[0] is the heap's; the other three words are untouched.
 *
 * Thread: the owner. */
#ifndef SLUICE_BASE_TIMER_HEAP_H
#define SLUICE_BASE_TIMER_HEAP_H

#include "base/check.h"
#include "base/io.h"

struct timer_slot {
    uint64_t deadline_ns;
    uint64_t sequence; // breaks ties
    struct io_op *op;
};

struct timer_heap {
    struct timer_slot *slots; // slots[0] is due first
    size_t count;
    size_t capacity;
    uint64_t sequence_next;
};

/* Returns 0 or NO_MEMORY. */
MUST_USE int timer_heap_init(struct timer_heap *heap, size_t capacity);
void timer_heap_deinit(struct timer_heap *heap);

/* Adds op with its deadline, op->offset. Grows when full. Returns 0 or NO_MEMORY. */
MUST_USE int timer_heap_push(struct timer_heap *heap, struct io_op *op);

/* Takes op, which must be in the heap, out of it. */
void timer_heap_remove(struct timer_heap *heap, struct io_op *op);

/* Takes out and returns the first operation due at now_ns, or NULL. */
struct io_op *timer_heap_pop_due(struct timer_heap *heap, uint64_t now_ns);

/* The next deadline; UINT64_MAX when there is none. */
static inline uint64_t timer_heap_next_ns(const struct timer_heap *heap)
{
    return heap->count > 0 ? heap->slots[0].deadline_ns : UINT64_MAX;
}

#endif
