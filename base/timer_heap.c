/* A binary heap in an array: child of i are 2i+1 and 2i+2. Push and remove are O(log n). */
#include "base/timer_heap.h"

#include <stdlib.h>

static bool is_before(const struct timer_slot *a, const struct timer_slot *b);
static void put(struct timer_heap *heap, size_t index, struct timer_slot slot);
static void sift_up(struct timer_heap *heap, size_t index, struct timer_slot slot);
static void sift_down(struct timer_heap *heap, size_t index, struct timer_slot slot);
static int grow(struct timer_heap *heap);

int timer_heap_init(struct timer_heap *heap, size_t capacity)
{
    ASSERT(capacity > 0);
    *heap = (struct timer_heap){.capacity = capacity};
    heap->slots = malloc(capacity * sizeof *heap->slots);
    return heap->slots ? 0 : E_NO_MEMORY;
}

void timer_heap_deinit(struct timer_heap *heap)
{
    free(heap->slots);
    heap->slots = NULL;
    heap->count = heap->capacity = 0;
}

int timer_heap_push(struct timer_heap *heap, struct io_op *op)
{
    if (heap->count == heap->capacity && grow(heap) != 0)
        return E_NO_MEMORY;
    struct timer_slot slot = {op->offset, heap->sequence_next++, op};
    sift_up(heap, heap->count++, slot);
    return 0;
}

void timer_heap_remove(struct timer_heap *heap, struct io_op *op)
{
    size_t index = op->backend[0];
    ASSERT(index < heap->count && heap->slots[index].op == op);

    struct timer_slot last = heap->slots[--heap->count];
    if (index == heap->count)
        return;
    /* The last slot fills the gap; it may belong above or below it. */
    if (index > 0 && is_before(&last, &heap->slots[(index - 1) / 2]))
        sift_up(heap, index, last);
    else
        sift_down(heap, index, last);
}

struct io_op *timer_heap_pop_due(struct timer_heap *heap, uint64_t now_ns)
{
    if (heap->count == 0 || heap->slots[0].deadline_ns > now_ns)
        return NULL;
    struct io_op *op = heap->slots[0].op;
    timer_heap_remove(heap, op);
    return op;
}

static bool is_before(const struct timer_slot *a, const struct timer_slot *b)
{
    if (a->deadline_ns != b->deadline_ns)
        return a->deadline_ns < b->deadline_ns;
    return a->sequence < b->sequence;
}

static void put(struct timer_heap *heap, size_t index, struct timer_slot slot)
{
    heap->slots[index] = slot;
    slot.op->backend[0] = index;
}

static void sift_up(struct timer_heap *heap, size_t index, struct timer_slot slot)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (!is_before(&slot, &heap->slots[parent]))
            break;
        put(heap, index, heap->slots[parent]);
        index = parent;
    }
    put(heap, index, slot);
}

static void sift_down(struct timer_heap *heap, size_t index, struct timer_slot slot)
{
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && is_before(&heap->slots[child + 1], &heap->slots[child]))
            child++;
        if (!is_before(&heap->slots[child], &slot))
            break;
        put(heap, index, heap->slots[child]);
        index = child;
    }
    put(heap, index, slot);
}

static int grow(struct timer_heap *heap)
{
    size_t capacity = 2 * heap->capacity;
    struct timer_slot *slots = realloc(heap->slots, capacity * sizeof *slots);
    if (!slots)
        return E_NO_MEMORY;
    heap->slots = slots;
    heap->capacity = capacity;
    return 0;
}
