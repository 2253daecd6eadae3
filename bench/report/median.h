/* Median, least and greatest of a few values. */
#ifndef SLUICE_BENCH_REPORT_MEDIAN_H
#define SLUICE_BENCH_REPORT_MEDIAN_H

#include <stdint.h>

struct spread {
    double median, min, max;
};

/* count > 0. Sorts the values. Of an even count the median is the mean of the two in the middle. */
struct spread median_of(double *values, uint32_t count);

#endif
