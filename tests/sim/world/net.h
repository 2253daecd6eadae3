/* The simulated network: stream connections between processes, each direction in order, with delays, and everything that
 * happens to connections in the field.
 *
 * Bytes arrive in pieces of any size, some time after they were sent; a direction is never reordered, two connections are.
 * Each direction has a window: a peer that does not read stops its sender. A listener's address is its port.
 *
 * What can go wrong (net_options, and by the test's hand):
 *     partition    between a process and all others, in one direction or both: what is sent arrives after it is over, and
 *                  when it lasts longer than the kernel's patience (60 s) the connection is dead on both sides
 *     reset        both sides lose the connection; each direction has arrived up to some byte
 *     half-open    the machine of one side loses power: the other side hears nothing, until its own sending or the
 *                  keepalive tells it. When it is known when the machine is back (process->power_back_ns), a reset comes to
 *                  the first packet after that; what nobody has answered for 60 s ends the connection, too
 *     ghosts       (of processes that may have them) the bytes of a client's connection arrive a second time, later, on a connection of their own, as from
 *                  a proxy that tries again; its answers go nowhere
 *
 * Thread: the world's. */
#ifndef SLUICE_TESTS_NET_H
#define SLUICE_TESTS_NET_H

#include "base/address.h"
#include "tests/sim/world/world.h"

struct net_options {
    uint64_t latency_ns;     // at least; 0: 20 us
    uint64_t latency_ns_max; // at most; 0: 200 us
    uint32_t window_bytes;   // 0: 256 KiB
    uint32_t piece_bytes;    // what one receive of four gives at most; 0: all there is
    uint32_t ghost_percent;  // of connections
};

struct net *net_new(uint64_t seed);
void net_free(struct net *net);
void net_set(struct net *net, const struct net_options *options);

/* ---- what happens to it ---- */

enum net_direction { NET_TO = 1, NET_FROM = 2, NET_BOTH = 3 }; // to that process, from it
void net_partition(struct net *net, struct process *process, enum net_direction direction,
                   uint64_t until_ns);
/* A connection of that process, chosen by chance. False: it has none. */
bool net_reset_one(struct net *net, struct process *process);
/* Connections whose listener's side was told that nobody answers. */
uint64_t net_given_up(const struct net *net);
uint32_t net_connection_count(const struct net *net, const struct process *process);

/* ---- what io_sim.h's host needs ---- */

void net_start(struct io *io, struct io_op *op);
int32_t net_perform(struct io *io, struct io_op *op);
void net_close(void *socket);
void net_process_ended(struct net *net, struct process *process, enum process_end how);

/* ---- what base/address.h does with descriptors, for the calling process ---- */

int net_listen(struct process *process, const struct address *address);
int net_address_of(struct process *process, int fd, bool peer, struct address *address);
void net_end_sending(struct process *process, int fd);
bool net_peer_has_ended(struct process *process, int fd);

#endif
