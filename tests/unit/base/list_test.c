/* base/list.h */
#include <criterion/criterion.h>
#include <string.h>

#include "base/list.h"
#include "base/random.h"

#define NODE_COUNT 16

Test(list, a_new_list_is_empty)
{
    struct list head;
    list_init(&head);
    cr_assert(list_is_empty(&head));
    cr_assert_null(list_pop_front(&head));
}

Test(list, back_and_front_keep_order)
{
    struct list head, a, b, c;
    list_init(&head);
    list_push_back(&head, &b);
    list_push_back(&head, &c);
    list_push_front(&head, &a);
    cr_assert_eq(list_pop_front(&head), &a);
    cr_assert_eq(list_pop_front(&head), &b);
    cr_assert_eq(list_pop_front(&head), &c);
    cr_assert(list_is_empty(&head));
}

Test(list, removing_twice_is_harmless)
{
    struct list head, a, b;
    list_init(&head);
    list_push_back(&head, &a);
    list_push_back(&head, &b);
    list_remove(&a);
    cr_assert_not(list_is_linked(&a));
    list_remove(&a);
    cr_assert_eq(head.next, &b);
    cr_assert_eq(head.prev, &b);
}

Test(list, a_node_may_be_removed_while_walking)
{
    struct list head, nodes[NODE_COUNT];
    list_init(&head);
    for (int i = 0; i < NODE_COUNT; i++)
        list_push_back(&head, &nodes[i]);
    int seen = 0;
    LIST_EACH(node, &head)
    {
        cr_assert_eq(node, &nodes[seen]);
        seen++;
        list_remove(node);
    }
    cr_assert_eq(seen, NODE_COUNT);
    cr_assert(list_is_empty(&head));
}

/* The model: an array of the linked nodes in order. */
Test(list, agrees_with_an_array_on_random_operations)
{
    struct random random;
    random_init(&random, 1);
    struct list head, nodes[NODE_COUNT], *model[NODE_COUNT];
    size_t count = 0;
    list_init(&head);
    for (int i = 0; i < NODE_COUNT; i++)
        list_init(&nodes[i]);
    for (int step = 0; step < 20000; step++) {
        struct list *node = &nodes[random_below(&random, NODE_COUNT)];
        if (!list_is_linked(node)) {
            list_push_back(&head, node);
            model[count++] = node;
        } else {
            list_remove(node);
            size_t at = 0;
            while (model[at] != node)
                at++;
            memmove(&model[at], &model[at + 1], (count - at - 1) * sizeof(model[0]));
            count--;
        }
        size_t at = 0;
        LIST_EACH(walked, &head)
        {
            cr_assert_lt(at, count);
            cr_assert_eq(walked, model[at]);
            at++;
        }
        cr_assert_eq(at, count);
    }
}
