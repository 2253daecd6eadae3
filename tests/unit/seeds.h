/* Tests that run one seed after the other say how many with seeds(). The environment may change that:
 *
 *   SLUICE_SEEDS=20     twenty times as many, for long runs
 *   SLUICE_SEEDS=1/4    a quarter, rounded up: what the test command runs under the sanitizers
 *   SLUICE_SEED=1234    begin there; with a failure's seed and SLUICE_SEEDS=1/1000 that one alone */
#ifndef SLUICE_TESTS_UNIT_SEEDS_H
#define SLUICE_TESTS_UNIT_SEEDS_H

#include <stdint.h>
#include <stdlib.h>

static inline uint64_t seeds(uint64_t count)
{
    const char *text = getenv("SLUICE_SEEDS");
    if (text == NULL)
        return count;
    char *end;
    uint64_t factor = strtoull(text, &end, 10);
    uint64_t divisor = *end == '/' ? strtoull(end + 1, NULL, 10) : 1;
    if (factor == 0 || divisor == 0)
        abort(); // no test may pass because it ran nothing
    return (count * factor + divisor - 1) / divisor;
}

static inline uint64_t first_seed(uint64_t otherwise)
{
    const char *text = getenv("SLUICE_SEED");
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

#endif
