/* A measurement with the bare limits of the machine before and after it, where --limits-dir asks for them. */
#ifndef SLUICE_BENCH_COMMAND_AROUND_H
#define SLUICE_BENCH_COMMAND_AROUND_H

#include "bench/driver/driver.h"
#include "bench/report/report.h"

typedef int (*measure_fn)(struct driver_session *session, struct report *report);

/* Opens a session, measures, prints and writes the report. `measure` returns 0, or -1 after a message. Returns the exit code of the
 * command. Limits that differ by more than a quarter before and after are an anomaly: the fraction means little then. */
int measure_around(const struct bench_options *options, measure_fn measure);

#endif
