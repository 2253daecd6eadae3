#include "base/copy.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/random.h"

/* Any length and alignment, to the end of the memory there is: nothing beside it changes. */
Test(copy, copies_what_memcpy_copies)
{
    enum { ROOM = 20000 };
    static uint8_t source[ROOM], copied[ROOM], expected[ROOM];
    struct random random;
    random_init(&random, 3);
    for (size_t i = 0; i < ROOM; i++)
        source[i] = (uint8_t)random_u32(&random);
    for (int i = 0; i < 3000; i++) {
        size_t len = random_u32(&random) % (i % 2 ? 200 : 9000);
        size_t from = random_u32(&random) % (ROOM - len), to = random_u32(&random) % (ROOM - len);
        if (i % 5 == 0)
            to = ROOM - len;
        copy_cold(copied + to, source + from, len);
        memcpy(expected + to, source + from, len);
        cr_assert_arr_eq(copied, expected, ROOM);
    }
}
