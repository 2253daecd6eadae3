#include "bench/report/median.h"

#include <stdlib.h>

#include "base/check.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread median_of(double *values, uint32_t count)
{
    ASSERT(count > 0);
    qsort(values, count, sizeof(values[0]), ascending);
    return (struct spread){.median = (values[(count - 1) / 2] + values[count / 2]) / 2,
                           .min = values[0],
                           .max = values[count - 1]};
}
