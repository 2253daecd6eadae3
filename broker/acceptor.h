/* Accepting: one core takes every new connection and hands it to the core that has the fewest.
 *
 * Not a listening socket per core (SO_REUSEPORT): there the kernel spreads by hash, so that 10,000
 * connections don't come out even; a second broker started on the same port by mistake would
 * silently get half of them instead of an error; and what waits in one core's queue is lost when
 * that core stops. Here the limit holds exactly, and a hand-over costs one message per connection
 * (measured against 45,000 accepts/s of the kernel: not visible).
 *
 * Over connections_max a connection is accepted, told LIMIT_REACHED, and closed; when DESCRIPTORS
 * run out accepting pauses for ACCEPT_BACKOFF_NS, so the loop is never busy with failing; clients
 * wait in the backlog meanwhile.
 *
 * Thread: core 0. */
#ifndef SLUICE_BROKER_ACCEPTOR_H
#define SLUICE_BROKER_ACCEPTOR_H

#include "base/io.h"

struct core;

struct acceptor {
    struct core *core;
    int listen_fd; // -1: none, or closed
    struct io_op accept_op;
    struct io_op timer_op; // back-off
    struct io_op close_op;
    int pending_fd;    // accepted, not yet handed over: its mailbox was full; -1: none
    uint32_t refusals; // connections that are being told LIMIT_REACHED
    bool is_stopping;
};

void acceptor_init(struct acceptor *acceptor, struct core *core, int listen_fd);
void acceptor_start(struct acceptor *acceptor);
/* A connection that was refused is gone. */
void acceptor_on_refused(struct acceptor *acceptor);
/* Stops accepting and closes the socket, so that newcomers are refused by the kernel. */
void acceptor_stop(struct acceptor *acceptor);
bool acceptor_is_quiet(const struct acceptor *acceptor); // stopped, nothing in flight

#endif
