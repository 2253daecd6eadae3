/* base/timer_heap.h against a sorted array, and its edges. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/timer_heap.h"

static struct timer_heap heap;

static void init_small(void)
{
    cr_assert_eq(timer_heap_init(&heap, 2), 0); // so that it has to grow
}

static void deinit(void)
{
    timer_heap_deinit(&heap);
}

TestSuite(timer_heap, .init = init_small, .fini = deinit);

static struct io_op *push(struct io_op *op, uint64_t deadline_ns)
{
    op->offset = deadline_ns;
    cr_assert_eq(timer_heap_push(&heap, op), 0);
    return op;
}

Test(timer_heap, an_empty_one_has_no_deadline_and_gives_nothing)
{
    cr_assert_eq(timer_heap_next_ns(&heap), UINT64_MAX);
    cr_assert_null(timer_heap_pop_due(&heap, UINT64_MAX));
}

Test(timer_heap, gives_only_what_is_due)
{
    struct io_op a = {0}, b = {0};
    push(&b, 20);
    push(&a, 10);
    cr_assert_eq(timer_heap_next_ns(&heap), 10);
    cr_assert_null(timer_heap_pop_due(&heap, 9));
    cr_assert_eq(timer_heap_pop_due(&heap, 10), &a);
    cr_assert_null(timer_heap_pop_due(&heap, 19));
    cr_assert_eq(timer_heap_pop_due(&heap, 100), &b);
    cr_assert_eq(heap.count, 0);
}

Test(timer_heap, equal_deadlines_leave_in_the_order_they_came)
{
    struct io_op ops[100] = {0};
    for (int i = 0; i < 100; i++)
        push(&ops[i], 7);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(timer_heap_pop_due(&heap, 7), &ops[i]);
}

Test(timer_heap, uses_only_the_first_word_of_an_operation)
{
    struct io_op op = {.backend = {1, 2, 3, 4}};
    push(&op, 5);
    cr_assert_eq(timer_heap_pop_due(&heap, 5), &op);
    for (uint64_t i = 1; i < 4; i++)
        cr_assert_eq(op.backend[i], i + 1);
}

/* The model: all that are in, looked through from end to end. */
#define MODEL_SIZE 300

static struct io_op ops[MODEL_SIZE];
static bool is_in[MODEL_SIZE];
static uint64_t came[MODEL_SIZE];

static struct io_op *model_first(void)
{
    struct io_op *first = NULL;
    for (int i = 0; i < MODEL_SIZE; i++) {
        if (!is_in[i])
            continue;
        if (!first || ops[i].offset < first->offset ||
            (ops[i].offset == first->offset && came[i] < came[first - ops]))
            first = &ops[i];
    }
    return first;
}

Test(timer_heap, agrees_with_a_sorted_list_over_random_pushes_removes_and_pops)
{
    struct random random;
    random_init(&random, 0x7ea);
    for (uint64_t step = 0; step < 50000; step++) {
        uint64_t i = random_below(&random, MODEL_SIZE);
        if (random_below(&random, 100) < 10 && model_first()) {
            struct io_op *expected = model_first();
            cr_assert_eq(timer_heap_next_ns(&heap), expected->offset);
            cr_assert_eq(timer_heap_pop_due(&heap, UINT64_MAX), expected);
            is_in[expected - ops] = false;
        } else if (is_in[i]) {
            timer_heap_remove(&heap, &ops[i]);
            is_in[i] = false;
        } else {
            push(&ops[i], random_below(&random, 50)); // many ties
            is_in[i] = true;
            came[i] = step;
        }
    }
}
