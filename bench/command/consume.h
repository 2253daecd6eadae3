/* `sluice-bench consume`: how fast a topic is read. */
#ifndef SLUICE_BENCH_COMMAND_CONSUME_H
#define SLUICE_BENCH_COMMAND_CONSUME_H

#include "bench/options.h"

/* Returns an exit code. */
int consume_main(struct bench_options *options);

#endif
