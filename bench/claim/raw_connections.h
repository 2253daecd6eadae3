/* Thousands of connections that say HELLO and then nothing: raw sockets, since a libsluice client each would mean as many threads. */
#ifndef SLUICE_BENCH_CLAIM_RAW_CONNECTIONS_H
#define SLUICE_BENCH_CLAIM_RAW_CONNECTIONS_H

#include <stdint.h>

#include "base/check.h"

struct raw_connections {
    int *fds;
    uint32_t count;
};

/* Connects and waits for each answer. Returns 0, or -1 after a message; then nothing is open. */
MUST_USE int raw_connections_open(struct raw_connections *connections, const char *server,
                                  uint32_t count);
void raw_connections_close(struct raw_connections *connections);

/* How many the broker has closed meanwhile. */
uint32_t raw_connections_lost(const struct raw_connections *connections);

#endif
