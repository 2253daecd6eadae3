/* `sluice-bench publish`: records per second that are durable, and how long each took to be. */
#ifndef SLUICE_BENCH_COMMAND_PUBLISH_H
#define SLUICE_BENCH_COMMAND_PUBLISH_H

#include "bench/options.h"

/* Returns an exit code. */
int publish_main(struct bench_options *options);

#endif
