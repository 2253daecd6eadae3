/* Size classes, references, and what each use leaves to the others. */
#include <criterion/criterion.h>

#include "broker/buffer.h"
#include "broker/limits.h"

static struct arena arena;
static struct buffers buffers;

static void set_up(void)
{
    uint32_t request_bytes_max = (uint32_t)(2 * MIB);
    cr_assert_eq(arena_init(&arena, buffers_arena_bytes(request_bytes_max), false), 0);
    buffers_init(&buffers, 3, request_bytes_max, &arena);
    arena_seal(&arena);
}

static void tear_down(void)
{
    arena_deinit(&arena);
}

TestSuite(buffer, .init = set_up, .fini = tear_down);

Test(buffer, the_smallest_class_that_holds_the_bytes_is_given)
{
    static const struct {
        uint32_t bytes;
        enum buffer_class class;
    } cases[] = {
        {1, BUFFER_SMALL},
        {BUFFER_SMALL_BYTES, BUFFER_SMALL},
        {BUFFER_SMALL_BYTES + 1, BUFFER_MEDIUM},
        {BUFFER_MEDIUM_BYTES, BUFFER_MEDIUM},
        {BUFFER_MEDIUM_BYTES + 1, BUFFER_LARGE},
        {BUFFER_LARGE_BYTES, BUFFER_LARGE},
        {BUFFER_LARGE_BYTES + 1, BUFFER_JUMBO},
        {2 << 20, BUFFER_JUMBO},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buffer *buffer = buffer_acquire(&buffers, cases[i].bytes);
        cr_assert_not_null(buffer);
        cr_assert_eq(buffer->class, cases[i].class, "%u bytes", cases[i].bytes);
        cr_assert_geq(buffer->capacity, cases[i].bytes);
        cr_assert_eq(buffer->references, 1);
        cr_assert_eq(buffer->core, 3);
        cr_assert_eq((uintptr_t)buffer->bytes % 4096, 0);
        memset(buffer->bytes, 0xcd, buffer->capacity);
        buffer_unref(&buffers, buffer);
    }
}

Test(buffer, an_empty_class_is_replaced_by_a_larger_one_but_never_by_jumbo)
{
    uint32_t counts[BUFFER_CLASS_COUNT] = {0};
    struct buffer *buffer;
    while ((buffer = buffer_acquire(&buffers, 100)))
        counts[buffer->class]++;
    cr_assert_eq(counts[BUFFER_SMALL], BUFFER_SMALL_COUNT);
    cr_assert_eq(counts[BUFFER_MEDIUM], BUFFER_MEDIUM_COUNT);
    cr_assert_eq(counts[BUFFER_LARGE], BUFFER_LARGE_COUNT);
    cr_assert_eq(counts[BUFFER_JUMBO], 0);
    cr_assert_null(buffer_acquire(&buffers, BUFFER_LARGE_BYTES));
    cr_assert_not_null(buffer_acquire(&buffers, BUFFER_LARGE_BYTES + 1));
    cr_assert_null(buffer_acquire(&buffers, BUFFER_LARGE_BYTES + 1));
    cr_assert_eq(buffers.classes[BUFFER_SMALL].free_count_min, 0);
}

Test(buffer, buffers_do_not_overlap)
{
    static struct buffer *all[4096];
    uint32_t count = 0;
    while ((all[count] = buffer_acquire(&buffers, 1)))
        count++;
    for (uint32_t i = 0; i < count; i++)
        memset(all[i]->bytes, (int)(i % 251), all[i]->capacity);
    for (uint32_t i = 0; i < count; i++) {
        cr_assert_eq(all[i]->bytes[0], i % 251);
        cr_assert_eq(all[i]->bytes[all[i]->capacity - 1], i % 251);
    }
}

Test(buffer, the_last_reference_frees_and_the_newest_is_given_first)
{
    struct buffer *buffer = buffer_acquire(&buffers, 1);
    buffer_ref(buffer);
    buffer_unref(&buffers, buffer);
    cr_assert_eq(buffers.classes[BUFFER_SMALL].free_count, BUFFER_SMALL_COUNT - 1);
    cr_assert_eq(buffers.freed, 0);
    buffer_unref(&buffers, buffer);
    cr_assert_eq(buffers.classes[BUFFER_SMALL].free_count, BUFFER_SMALL_COUNT);
    cr_assert_eq(buffers.freed, 1);
    cr_assert_eq(buffer_acquire(&buffers, 1), buffer);
}

Test(buffer, receiving_leaves_small_ones_for_acks)
{
    while (buffer_acquire_for(&buffers, 1, BUFFER_FOR_RECEIVE))
        continue;
    cr_assert_eq(buffers.classes[BUFFER_SMALL].free_count, BUFFER_SMALL_COUNT / 8);
    cr_assert_eq(buffers.classes[BUFFER_LARGE].free_count, 0);
    cr_assert_not_null(buffer_acquire(&buffers, 1));
}

Test(buffer, deliveries_leave_half_of_each_class)
{
    while (buffer_acquire_for(&buffers, 1, BUFFER_FOR_DELIVERY))
        continue;
    cr_assert_eq(buffers.classes[BUFFER_SMALL].free_count, BUFFER_SMALL_COUNT / 2);
    cr_assert_eq(buffers.classes[BUFFER_MEDIUM].free_count, BUFFER_MEDIUM_COUNT / 2);
    cr_assert_eq(buffers.classes[BUFFER_LARGE].free_count, BUFFER_LARGE_COUNT / 2);
    cr_assert_not_null(buffer_acquire_for(&buffers, 1, BUFFER_FOR_RECEIVE));
}

Test(buffer, a_jumbo_is_there_also_when_requests_are_kept_small)
{
    struct arena small_arena;
    struct buffers small;
    cr_assert_eq(arena_init(&small_arena, buffers_arena_bytes((uint32_t)MIB), false), 0);
    buffers_init(&small, 0, (uint32_t)MIB, &small_arena);
    struct buffer *buffer = buffer_acquire(&small, BUFFER_LARGE_BYTES + 1);
    cr_assert_not_null(buffer);
    cr_assert_gt(buffer->capacity, BATCH_BYTES_MAX_MAX + 10 * KIB,
                 "the largest batch must be readable");
    arena_deinit(&small_arena);
}
