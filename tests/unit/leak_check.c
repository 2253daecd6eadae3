/* Which processes of a unit test binary look for leaks: those that run a test, which Criterion starts one by one (BoxFort hands them
 * BXFI_MAP). The runner itself, which runs none, now and then leaks a few bytes of Criterion's own. Only sanitizers ask. */
#include <stdlib.h>

__attribute__((visibility("default"))) int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return getenv("BXFI_MAP") == NULL;
}
