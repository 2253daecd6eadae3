/* `sluice-bench sweep`: latency against offered load. */
#ifndef SLUICE_BENCH_COMMAND_SWEEP_H
#define SLUICE_BENCH_COMMAND_SWEEP_H

#include "bench/options.h"

/* Returns an exit code. */
int sweep_main(struct bench_options *options);

#endif
