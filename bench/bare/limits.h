/* The bare limits of this machine, measured in a directory on the broker's file system: what every
 * result is a fraction of. */
#ifndef SLUICE_BENCH_BARE_LIMITS_H
#define SLUICE_BENCH_BARE_LIMITS_H

#include "bench/report/report.h"
#include "bench/bare/wal_set.h"

struct limits {
    const struct bench_options *options;
    uint64_t warm_up_ns;
    uint64_t duration_ns; // of each measurement
    struct wal_set wal_set;
};

/* Makes the files, which takes a second or two for each GiB. Returns 0, or -1 after a message. */
MUST_USE int limits_open(struct limits *limits, const struct bench_options *options);
void limits_close(struct limits *limits);

/* Socket, log, and both as a pipeline; where reading is what is measured, the bare disk read, too. Returns 0, or -1 after a message. */
MUST_USE int limits_measure_rates(struct limits *limits, struct limits_figures *figures);

/* Lone 4 KiB write + fdatasync, lone 4 KiB round trip. Returns 0, or -1 after a message. */
MUST_USE int limits_measure_latencies(struct limits *limits, struct limits_figures *figures);

/* The mean of two measurements, before and after a load. Returns the larger relative change of the
 * two log figures between them: 0.1 is 10 %. */
double limits_mean(const struct limits_figures *before, const struct limits_figures *after,
                   struct limits_figures *mean);

/* `sluice-bench limits`. Returns an exit code. */
int limits_main(struct bench_options *options);

#endif
