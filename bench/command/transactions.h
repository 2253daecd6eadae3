/* `sluice-bench transactions`: how many commits a second, and how long one takes. */
#ifndef SLUICE_BENCH_COMMAND_TRANSACTIONS_H
#define SLUICE_BENCH_COMMAND_TRANSACTIONS_H

#include "bench/options.h"

/* Returns an exit code. */
int transactions_main(struct bench_options *options);

#endif
