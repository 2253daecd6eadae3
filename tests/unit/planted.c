/* In a build with planted bugs (base/plant.h) a unit test binary takes SLUICE_FAULT, as the broker does: so that a test can be seen
 * to fail for one of them (tests/plants). Each test runs in a process of its own and counts hits from 1. */
#include <stdlib.h>

#include "base/fault.h"

#ifdef SLUICE_PLANTS
__attribute__((constructor)) static void plants_arm(void)
{
    if (fault_init(getenv("SLUICE_FAULT")) < 0)
        exit(2);
}
#endif
