/* Numbers that may be unknown, and how they get into JSON. */
#ifndef SLUICE_BENCH_REPORT_VALUES_H
#define SLUICE_BENCH_REPORT_VALUES_H

#include <math.h>

#include "bench/engine/resources.h"
#include "bench/report/report.h"

static inline struct figure figure_divided(struct figure a, double by)
{
    return a.known && by > 0 ? figure_of(a.value / by) : (struct figure){0};
}

static inline struct figure figure_scaled(struct figure a, double factor)
{
    return a.known ? figure_of(a.value * factor) : a;
}

/* What lies between two totals, in other units. */
static inline struct figure figure_between(uint64_t before, uint64_t after, double unit)
{
    uint64_t between = resources_between(before, after);
    return between == UNKNOWN ? (struct figure){0} : figure_of((double)between * unit);
}

/* Whole numbers as such; JSON has no infinity, and what is no number is null. */
static inline json_t *number_json(double value)
{
    if (!isfinite(value))
        return json_null();
    bool is_whole = fabs(value) < 9e15 && value == (double)(int64_t)value;
    return is_whole ? json_integer((int64_t)value) : json_real(value);
}

static inline json_t *figure_json(struct figure figure)
{
    return figure.known ? number_json(figure.value) : json_null();
}

/* Takes the value over; NULL is null. */
static inline void put(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value ? value : json_null());
}

#endif
