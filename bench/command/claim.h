/* `sluice-bench claim NAME`: shows that something holds which is said of the broker. */
#ifndef SLUICE_BENCH_COMMAND_CLAIM_H
#define SLUICE_BENCH_COMMAND_CLAIM_H

#include <stdio.h>

#include "bench/options.h"

/* Returns an exit code: 0 also when the claim does not hold, which is in the output. */
/* The names of all claims, with a line each. */
void claim_list(FILE *file);

int claim_main(struct bench_options *options);

#endif
