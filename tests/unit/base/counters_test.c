/* Counters. */
#include "base/counters.h"

#include <criterion/criterion.h>

Test(counters, add_and_set)
{
    counter c = 0;
    counter_add(&c, 3);
    counter_add(&c, 4);
    cr_assert_eq(counter_get(&c), 7);
    counter_set(&c, 1);
    cr_assert_eq(counter_get(&c), 1);
}
