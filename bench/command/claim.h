/* `sluice-bench claim NAME`: shows that something holds which is said of the broker. */
#ifndef SLUICE_BENCH_COMMAND_CLAIM_H
#define SLUICE_BENCH_COMMAND_CLAIM_H

#include "bench/options.h"

/* Returns an exit code: 0 also when the claim does not hold, which is in the output. */
int claim_main(struct bench_options *options);

#endif
