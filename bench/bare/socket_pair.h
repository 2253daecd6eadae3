/* Two ends of a TCP connection over loopback, tuned like those of broker and library. */
#ifndef SLUICE_BENCH_BARE_SOCKET_PAIR_H
#define SLUICE_BENCH_BARE_SOCKET_PAIR_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct socket_pair {
    int receive_fd; // the accepted end
    int send_fd;
};

/* Returns 0, or -1 after a message on standard error. */
MUST_USE int socket_pair_open(struct socket_pair *pair);
void socket_pair_close(struct socket_pair *pair);

/* Sends and receives all of it. Return 0, or -1 when the other end is gone. */
MUST_USE int socket_send_all(int fd, const void *bytes, size_t size);
MUST_USE int socket_recv_all(int fd, void *bytes, size_t size);

#endif
