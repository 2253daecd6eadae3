/* `sluice-bench end-to-end`: from the moment that a record is due to the poll that brings it to a consumer. */
#ifndef SLUICE_BENCH_COMMAND_END_TO_END_H
#define SLUICE_BENCH_COMMAND_END_TO_END_H

#include "bench/options.h"

/* Returns an exit code. */
int end_to_end_main(struct bench_options *options);

#endif
