/* Connections are pairs of sockets; a socket has what is on its way to it, and the operations that wait for that. See net.h. */
#include "tests/sim/world/net.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/io_private.h"
#include "tests/sim/world/own_memory.h"

#define LATENCY_NS (20 * NS_PER_US)
#define LATENCY_NS_MAX (200 * NS_PER_US)
#define WINDOW_BYTES ((uint32_t)(256 * KIB))
#define USER_TIMEOUT_NS                                                                            \
    (60 * NS_PER_S) // TCP_USER_TIMEOUT and keepalive, as base/address.c sets them
#define KEEPALIVE_IDLE_NS (30 * NS_PER_S) // and the probes behind it, three of them
#define KEEPALIVE_NS (10 * NS_PER_S)
#define PIECE_BYTES 65536u

struct piece {
    struct list link;
    uint64_t arrives_ns;
    uint32_t length, taken;
    uint8_t bytes[];
};

struct socket {
    struct list link; // of the net
    uint32_t id;
    uint32_t references;     // the process's descriptor, and the peer
    struct process *process; // NULL: closed, or its process is gone
    int fd;
    uint16_t port, peer_port;
    bool is_listening;
    bool is_accepted; // of a listener
    bool is_dark;     // the peer's machine lost power, or it never was one: what is sent vanishes
    /* ---- the peer's machine lost power and comes back at a known time ---- */
    uint64_t silent_until_ns; // 0: it did not
    uint64_t unheard_bytes;   // sent and never acknowledged
    struct socket *peer;      // NULL: none
    /* ---- on its way to this one ---- */
    struct list pieces;
    struct list backlog; // of one that listens: connections to be accepted
    struct list backlog_link;
    uint64_t backlog_ns; // when this one may be accepted
    uint64_t incoming_bytes;
    uint64_t last_arrival_ns;
    uint64_t end_ns;   // the peer's end of sending arrives; WORLD_FOREVER: not yet
    uint64_t reset_ns; // dead from then on
    int reset_error;
    bool sending_ended; // this side's
    /* ---- who waits ---- */
    struct io_op *recv, *readable, *send, *accept;
    struct io *recv_io, *readable_io, *send_io, *accept_io;
    /* ---- a ghost of it ---- */
    struct list copy; // pieces sent so far
    bool has_copy;
};

struct net {
    struct net_options options;
    struct random random;
    struct list sockets;
    uint32_t socket_count; // ever
    uint64_t given_up;
    uint16_t port_next;
    struct {
        const struct process *process;
        uint64_t until_ns[2]; // to it, from it
    } partitions[64];
    uint32_t partition_next;
};

static struct socket *socket_new(struct net *net, struct process *process);
static void socket_unref(struct socket *socket);
static struct socket *socket_of(const struct process *process, int fd);
static struct process *process_of(struct io *io);
static uint64_t arrival(struct net *net, struct socket *from, struct socket *to);
static void kill_both(struct net *net, struct socket *socket, uint64_t at_ns, int error);
static void poke(struct io_op *op, struct io *io, uint64_t at_ns);
static void ghost_begin(struct net *net, struct socket *client);
static uint64_t retransmission(struct net *net);
static int32_t try_accept(struct net *net, struct io *io, struct io_op *op);
static int32_t try_connect(struct net *net, struct io *io, struct io_op *op);
static int32_t try_readable(struct socket *socket);
static int32_t try_recv(struct net *net, struct socket *socket, struct io_op *op);
static int32_t try_send(struct net *net, struct socket *socket, struct io_op *op);
static int32_t send_unheard(struct net *net, struct socket *socket, struct io_op *op);
static int32_t fail_socket(struct net *net, struct socket *socket, const struct io_op *op);

struct net *net_new(uint64_t seed)
{
    struct net *net = own_calloc(1, sizeof(*net));
    random_init(&net->random, seed ^ 0x6e6574);
    list_init(&net->sockets);
    net->port_next = 40000;
    net_set(net, &(struct net_options){0});
    return net;
}

void net_free(struct net *net)
{
    ASSERT(list_is_empty(&net->sockets));
    own_free(net);
}

void net_set(struct net *net, const struct net_options *options)
{
    net->options = *options;
    if (!options->latency_ns)
        net->options.latency_ns = LATENCY_NS;
    if (!options->latency_ns_max)
        net->options.latency_ns_max = LATENCY_NS_MAX;
    if (!options->window_bytes)
        net->options.window_bytes = WINDOW_BYTES;
}

/* ---- sockets ---- */

static struct socket *socket_new(struct net *net, struct process *process)
{
    struct socket *socket = own_calloc(1, sizeof(*socket));
    socket->id = ++net->socket_count;
    socket->process = process;
    socket->fd = -1;
    socket->references = 1;
    socket->end_ns = socket->reset_ns = WORLD_FOREVER;
    list_init(&socket->pieces);
    list_init(&socket->backlog);
    list_init(&socket->backlog_link);
    list_init(&socket->copy);
    list_push_back(&net->sockets, &socket->link);
    return socket;
}

static void drop_pieces(struct list *pieces)
{
    struct list *node;
    while ((node = list_pop_front(pieces)) != NULL)
        own_free(CONTAINER_OF(node, struct piece, link));
}

static void socket_unref(struct socket *socket)
{
    if (--socket->references > 0)
        return;
    drop_pieces(&socket->pieces);
    drop_pieces(&socket->copy);
    list_remove(&socket->backlog_link);
    list_remove(&socket->link);
    own_free(socket);
}

static void pair(struct socket *a, struct socket *b)
{
    a->peer = b;
    b->peer = a;
    a->references++;
    b->references++;
}

static void part(struct socket *socket)
{
    struct socket *peer = TAKE(socket->peer);
    if (peer == NULL)
        return;
    peer->peer = NULL;
    socket_unref(peer);
    socket_unref(socket);
}

static struct socket *socket_of(const struct process *process, int fd)
{
    bool is_fd = fd >= IO_SIM_FD_BASE && fd < IO_SIM_FD_BASE + IO_SIM_FILES_MAX;
    return is_fd ? process->files.slots[fd - IO_SIM_FD_BASE].socket : NULL;
}

static struct process *process_of(struct io *io)
{
    struct thread *thread = thread_current();
    (void)io;
    ASSERT(thread != NULL);
    return thread->process;
}

static int attach(struct socket *socket, struct process *process)
{
    int fd = io_sim_files_add(&process->files, NULL, socket, 0);
    if (fd >= 0) {
        socket->fd = fd;
        socket->process = process;
    }
    return fd;
}

/* ---- time ---- */

static uint64_t partition_end(struct net *net, const struct process *process, int way)
{
    for (size_t i = 0; process && i < ARRAY_COUNT(net->partitions); i++)
        if (net->partitions[i].process == process)
            return net->partitions[i].until_ns[way];
    return 0;
}

/* Until when nothing gets through between the two. */
static uint64_t blocked_until(struct net *net, const struct socket *from, const struct socket *to)
{
    return max_u64(partition_end(net, from->process, 1), partition_end(net, to->process, 0));
}

static uint64_t latency(struct net *net)
{
    uint64_t spread = net->options.latency_ns_max > net->options.latency_ns
                          ? net->options.latency_ns_max - net->options.latency_ns
                          : 1;
    return net->options.latency_ns + random_below(&net->random, spread);
}

/* When something that is sent now arrives; behind all that was sent before it. */
static uint64_t arrival(struct net *net, struct socket *from, struct socket *to)
{
    uint64_t now = world_now_ns(), blocked = blocked_until(net, from, to);
    uint64_t at = now + latency(net);
    if (blocked > at)
        at = blocked + random_below(&net->random, NS_PER_S / 2); // retransmission backs off
    if (blocked > now + USER_TIMEOUT_NS)
        kill_both(net, from, now + USER_TIMEOUT_NS, ETIMEDOUT);
    to->last_arrival_ns = max_u64(to->last_arrival_ns + 1, at);
    return to->last_arrival_ns;
}

static void poke(struct io_op *op, struct io *io, uint64_t at_ns)
{
    if (op == NULL || *io_sim_due(op) <= at_ns)
        return;
    *io_sim_due(op) = at_ns;
    world_wake_io(io, at_ns);
}

static void poke_reader(struct socket *socket, uint64_t at_ns)
{
    poke(socket->recv, socket->recv_io, at_ns);
    poke(socket->readable, socket->readable_io, at_ns);
}

static void poke_all(struct socket *socket, uint64_t at_ns)
{
    poke_reader(socket, at_ns);
    poke(socket->send, socket->send_io, at_ns);
}

/* What had arrived before stays readable no longer: a reset throws away what was not read. */
static void kill_one(struct socket *socket, uint64_t at_ns, int error)
{
    if (socket->reset_ns <= at_ns)
        return;
    socket->reset_ns = at_ns;
    socket->reset_error = error;
    poke_all(socket, at_ns);
}

static void kill_both(struct net *net, struct socket *socket, uint64_t at_ns, int error)
{
    (void)net;
    kill_one(socket, at_ns, error);
    if (socket->peer)
        kill_one(socket->peer, at_ns, error);
}

/* ---- what the test does to it ---- */

static bool is_connection_of(const struct socket *socket, const struct process *process)
{
    return socket->process == process && !socket->is_listening && socket->peer &&
           socket->reset_ns == WORLD_FOREVER;
}

static void time_out_connections(struct net *net, const struct process *process)
{
    LIST_EACH(node, &net->sockets)
    {
        struct socket *socket = CONTAINER_OF(node, struct socket, link);
        if (is_connection_of(socket, process))
            kill_both(net, socket, world_now_ns() + USER_TIMEOUT_NS, ETIMEDOUT);
    }
}

void net_partition(struct net *net, struct process *process, enum net_direction direction,
                   uint64_t until_ns)
{
    uint32_t place = net->partition_next++ % ARRAY_COUNT(net->partitions);
    for (uint32_t i = 0; i < ARRAY_COUNT(net->partitions); i++)
        if (net->partitions[i].process == process)
            place = i;
    net->partitions[place].process = process;
    net->partitions[place].until_ns[0] = direction & NET_TO ? until_ns : 0;
    net->partitions[place].until_ns[1] = direction & NET_FROM ? until_ns : 0;
    world_note(10, process->id, until_ns);
    if (until_ns >
        world_now_ns() + USER_TIMEOUT_NS) // those that say nothing as well: by the keepalive
        time_out_connections(net, process);
}

uint64_t net_given_up(const struct net *net)
{
    return net->given_up;
}

uint32_t net_connection_count(const struct net *net, const struct process *process)
{
    uint32_t count = 0;
    LIST_EACH(node, &net->sockets)
    count += is_connection_of(CONTAINER_OF(node, struct socket, link), process);
    return count;
}

bool net_reset_one(struct net *net, struct process *process)
{
    uint32_t count = net_connection_count(net, process);
    if (count == 0)
        return false;
    uint64_t chosen = random_below(&net->random, count);
    LIST_EACH(node, &net->sockets)
    {
        struct socket *socket = CONTAINER_OF(node, struct socket, link);
        if (!is_connection_of(socket, process) || chosen-- > 0)
            continue;
        world_note(11, socket->id, 0);
        uint64_t now = world_now_ns();
        kill_one(socket, now + random_below(&net->random, NS_PER_MS), ECONNRESET);
        kill_one(socket->peer, now + random_below(&net->random, NS_PER_MS), ECONNRESET);
        return true;
    }
    return false;
}

/* ---- operations ---- */

static uint16_t port_of(const struct io_op *op)
{
    struct sockaddr_in address;
    memcpy(&address, op->backend, sizeof(address));
    return be16toh(address.sin_port);
}

void net_start(struct io *io, struct io_op *op)
{
    struct net *net = world_net();
    struct socket *socket = socket_of(process_of(io), op->fd);
    uint64_t now = world_now_ns();
    if (op->kind == IO_CONNECT) {
        op->backend[1] = port_of(op); // the address lay where the time goes
        op->backend[2] = 0;
        *io_sim_due(op) = now + latency(net);
        return;
    }
    *io_sim_due(op) = now + 1;
    if (socket == NULL)
        return; // EBADF
    switch (op->kind) {
    case IO_ACCEPT:
        socket->accept = op;
        socket->accept_io = io;
        break;
    case IO_READABLE:
        socket->readable = op;
        socket->readable_io = io;
        break;
    case IO_RECV:
        socket->recv = op;
        socket->recv_io = io;
        break;
    default:
        ASSERT(op->kind == IO_SEND);
        op->progress = 0;
        socket->send = op;
        socket->send_io = io;
    }
}

static void forget(struct socket *socket, const struct io_op *op)
{
    struct io_op **places[] = {&socket->recv, &socket->readable, &socket->send, &socket->accept};
    for (size_t i = 0; i < ARRAY_COUNT(places); i++)
        if (*places[i] == op)
            *places[i] = NULL;
}

int32_t net_perform(struct io *io, struct io_op *op)
{
    struct net *net = world_net();
    struct socket *socket = socket_of(process_of(io), op->fd);
    int32_t result;
    if (op->flags & IO_SIM_CANCELING)
        result = -ECANCELED;
    else if (io_sim_injected(op) > 0)
        result = fail_socket(net, socket, op);
    else if (op->kind == IO_CONNECT)
        result = try_connect(net, io, op);
    else if (socket == NULL)
        result = -EBADF;
    else if (op->kind == IO_ACCEPT)
        result = try_accept(net, io, op);
    else if (op->kind == IO_READABLE)
        result = try_readable(socket);
    else if (op->kind == IO_RECV)
        result = try_recv(net, socket, op);
    else
        result = try_send(net, socket, op);
    if (result != IO_SIM_LATER && socket)
        forget(socket, op);
    if (result == -ETIMEDOUT && socket && socket->is_accepted) {
        socket->is_accepted = false; // counted
        net->given_up++;
    }
    return result;
}

static struct socket *listener_of(struct net *net, uint16_t port)
{
    LIST_EACH(node, &net->sockets)
    {
        struct socket *socket = CONTAINER_OF(node, struct socket, link);
        if (socket->is_listening && socket->port == port && socket->process)
            return socket;
    }
    return NULL;
}

/* The other end stands in the listener's backlog until it is accepted; as with a kernel, the connection is there before. */
static int32_t try_connect(struct net *net, struct io *io, struct io_op *op)
{
    struct process *process = process_of(io);
    uint64_t now = world_now_ns();
    uint64_t blocked = max_u64(partition_end(net, process, 0), partition_end(net, process, 1));
    struct socket *listener = listener_of(net, (uint16_t)op->backend[1]);
    if (listener)
        blocked = max_u64(blocked, max_u64(partition_end(net, listener->process, 0),
                                           partition_end(net, listener->process, 1)));
    if (blocked > now) { // no answer to the first packets
        *io_sim_due(op) = blocked + random_below(&net->random, NS_PER_S);
        return IO_SIM_LATER;
    }
    if (listener == NULL)
        return -ECONNREFUSED;
    struct socket *here = socket_new(net, process);
    int fd = attach(here, process);
    if (fd < 0) {
        socket_unref(here);
        return fd;
    }
    struct socket *there = socket_new(net, listener->process);
    here->peer_port = there->port = listener->port;
    here->port = there->peer_port = ++net->port_next;
    pair(here, there);
    there->backlog_ns = now + latency(net);
    list_push_back(&listener->backlog, &there->backlog_link);
    poke(listener->accept, listener->accept_io, there->backlog_ns);
    here->has_copy =
        process->may_have_ghosts && random_below(&net->random, 100) < net->options.ghost_percent;
    return fd;
}

static int32_t try_accept(struct net *net, struct io *io, struct io_op *op)
{
    struct socket *listener = socket_of(process_of(io), op->fd);
    uint64_t due = WORLD_FOREVER;
    LIST_EACH(node, &listener->backlog)
    {
        struct socket *socket = CONTAINER_OF(node, struct socket, backlog_link);
        if (socket->backlog_ns > world_now_ns()) {
            due = min_u64(due, socket->backlog_ns);
            continue;
        }
        int fd = attach(socket, process_of(io));
        socket->is_accepted = fd >= 0;
        if (fd >= 0)
            list_remove(&socket->backlog_link);
        return fd;
    }
    (void)net;
    *io_sim_due(op) = due;
    return IO_SIM_LATER;
}

/* When there is something to read: bytes, the end, or a reset. */
static uint64_t readable_ns(const struct socket *socket)
{
    uint64_t at = socket->reset_ns;
    if (!list_is_empty(&socket->pieces))
        return min_u64(at, CONTAINER_OF(socket->pieces.next, struct piece, link)->arrives_ns);
    return min_u64(at, socket->end_ns);
}

static int32_t try_readable(struct socket *socket)
{
    uint64_t at = readable_ns(socket);
    if (at <= world_now_ns())
        return 0;
    *io_sim_due(socket->readable) = at;
    return IO_SIM_LATER;
}

static uint32_t take(struct net *net, struct socket *socket, uint8_t *bytes, uint32_t length)
{
    uint32_t done = 0;
    if (net->options.piece_bytes && random_below(&net->random, 4) == 0)
        length =
            (uint32_t)min_u64(length, 1 + random_below(&net->random, net->options.piece_bytes));
    while (done < length && !list_is_empty(&socket->pieces)) {
        struct piece *piece = CONTAINER_OF(socket->pieces.next, struct piece, link);
        if (piece->arrives_ns > world_now_ns())
            break;
        uint32_t n = (uint32_t)min_u64(length - done, piece->length - piece->taken);
        memcpy(bytes + done, piece->bytes + piece->taken, n);
        piece->taken += n;
        done += n;
        if (piece->taken < piece->length)
            break;
        list_remove(&piece->link);
        own_free(piece);
    }
    socket->incoming_bytes -= done;
    return done;
}

static int32_t try_recv(struct net *net, struct socket *socket, struct io_op *op)
{
    uint64_t now = world_now_ns(), at = readable_ns(socket);
    if (socket->reset_ns <= now)
        return -socket->reset_error;
    if (at > now) {
        *io_sim_due(op) = at;
        return IO_SIM_LATER;
    }
    uint32_t n = take(net, socket, op->buf, io_sim_injected(op) == IO_SIM_SHORT ? 1 : op->len);
    if (n > 0 && socket->peer)
        poke(socket->peer->send, socket->peer->send_io, now + latency(net));
    return (int32_t)n; // 0: the peer's end
}

static void piece_push(struct list *pieces, const void *bytes, uint32_t length, uint64_t arrives_ns)
{
    struct piece *piece = own_calloc(1, sizeof(*piece) + length);
    piece->length = length;
    piece->arrives_ns = arrives_ns;
    memcpy(piece->bytes, bytes, length);
    list_push_back(pieces, &piece->link);
}

static void transmit(struct net *net, struct socket *socket, const void *bytes, uint32_t length)
{
    struct socket *peer = socket->peer;
    uint64_t at = arrival(net, socket, peer);
    piece_push(&peer->pieces, bytes, length, at);
    peer->incoming_bytes += length;
    poke_reader(peer, at);
    if (socket->has_copy)
        piece_push(&socket->copy, bytes, length, 0);
}

/* Of a send that fails any part may have gone. */
static int32_t fail_socket(struct net *net, struct socket *socket, const struct io_op *op)
{
    if (op->kind == IO_SEND && socket && socket->peer && !socket->sending_ended && op->len >= 2)
        transmit(net, socket, op->buf, op->len / 2);
    return -io_sim_injected(op);
}

static int32_t try_send(struct net *net, struct socket *socket, struct io_op *op)
{
    uint64_t now = world_now_ns();
    struct socket *peer = socket->peer;
    uint32_t left = op->len - op->progress;
    if (socket->reset_ns <= now)
        return -socket->reset_error;
    if (socket->sending_ended)
        return -EPIPE;
    if (left == 0)
        return 0;
    if (peer == NULL && socket->silent_until_ns > now)
        return send_unheard(net, socket, op);
    if (peer == NULL) { // closed: this is thrown away, and a reset comes back
        kill_one(socket, now + (socket->is_dark ? retransmission(net) : latency(net)), ECONNRESET);
        return (int32_t)op->len;
    }
    uint64_t window = net->options.window_bytes;
    uint64_t room = peer->incoming_bytes < window ? window - peer->incoming_bytes : 0;
    uint32_t n = (uint32_t)min_u64(min_u64(io_op_rest_len(op), room), PIECE_BYTES);
    if (n == 0) {
        *io_sim_due(op) = socket->reset_ns; // until the peer reads, or the connection dies
        return IO_SIM_LATER;
    }
    transmit(net, socket, io_op_rest(op), n);
    int32_t raw = (int32_t)n;
    if (!io_op_advance(op, &raw))
        return raw;
    *io_sim_due(op) = now + 1 + random_below(&net->random, 2000);
    return IO_SIM_LATER;
}

/* What is sent now is answered by a reset once the machine is back and a retransmission has come; or given up before. */
static void end_unheard(struct net *net, struct socket *socket)
{
    uint64_t now = world_now_ns(), back = max_u64(socket->silent_until_ns, now);
    uint64_t at = back + retransmission(net) + random_below(&net->random, 1 + (back - now) / 2);
    if (at < now + USER_TIMEOUT_NS)
        kill_one(socket, at, ECONNRESET);
    else
        kill_one(socket, now + USER_TIMEOUT_NS, ETIMEDOUT);
}

/* Nothing is under way: the keepalive's probes find out. */
static void end_idle(struct socket *socket)
{
    uint64_t now = world_now_ns();
    uint64_t probe = now + KEEPALIVE_IDLE_NS;
    while (probe < socket->silent_until_ns && probe < now + USER_TIMEOUT_NS)
        probe += KEEPALIVE_NS;
    bool is_back = probe >= socket->silent_until_ns;
    kill_one(socket, probe, is_back ? ECONNRESET : ETIMEDOUT);
}

/* To a machine without power: the kernel keeps what it may, and tries again. */
static int32_t send_unheard(struct net *net, struct socket *socket, struct io_op *op)
{
    uint64_t window = net->options.window_bytes;
    uint64_t room = socket->unheard_bytes < window ? window - socket->unheard_bytes : 0;
    uint32_t n = (uint32_t)min_u64(op->len - op->progress, room);
    socket->unheard_bytes += n;
    op->progress += n;
    if (n > 0)
        end_unheard(net, socket);
    if (op->progress == op->len)
        return (int32_t)op->len;
    *io_sim_due(op) = socket->reset_ns; // until the connection dies
    return IO_SIM_LATER;
}

/* ---- ends ---- */

void net_end_sending(struct process *process, int fd)
{
    struct socket *socket = socket_of(process, fd);
    if (socket == NULL || socket->sending_ended)
        return;
    socket->sending_ended = true;
    if (socket->peer) {
        socket->peer->end_ns = arrival(world_net(), socket, socket->peer);
        poke_reader(socket->peer, socket->peer->end_ns);
    }
}

bool net_peer_has_ended(struct process *process, int fd)
{
    const struct socket *socket = socket_of(process, fd);
    return socket == NULL || socket->end_ns <= world_now_ns() || socket->reset_ns <= world_now_ns();
}

/* With bytes that nobody read it is a reset, as TCP has it. */
void net_close(void *closed)
{
    struct net *net = world_net();
    struct socket *socket = closed, *peer = socket->peer;
    socket->process = NULL;
    socket->fd = -1;
    if (socket->is_listening) {
        while (!list_is_empty(&socket->backlog)) {
            struct socket *waiting =
                CONTAINER_OF(socket->backlog.next, struct socket, backlog_link);
            list_remove(&waiting->backlog_link);
            net_close(waiting);
        }
    }
    if (socket->has_copy)
        ghost_begin(net, socket);
    if (peer) {
        uint64_t at = arrival(net, socket, peer);
        if (!list_is_empty(&socket->pieces))
            kill_one(peer, at, ECONNRESET);
        else if (!socket->sending_ended)
            peer->end_ns = at;
        poke_all(peer, at);
        part(socket);
    }
    socket_unref(socket);
}

/* The same bytes once more, from nobody, on a connection of their own. */
static void ghost_begin(struct net *net, struct socket *client)
{
    struct socket *listener = listener_of(net, client->peer_port);
    if (listener == NULL || list_is_empty(&client->copy))
        return;
    uint64_t at = world_now_ns() + latency(net) + random_below(&net->random, 5 * NS_PER_S);
    struct socket *there = socket_new(net, listener->process);
    there->is_dark = true;
    there->port = listener->port;
    there->peer_port = ++net->port_next;
    there->backlog_ns = at;
    while (!list_is_empty(&client->copy)) {
        struct list *node = list_pop_front(&client->copy);
        struct piece *piece = CONTAINER_OF(node, struct piece, link);
        at += random_below(&net->random, NS_PER_MS);
        piece->arrives_ns = at;
        there->incoming_bytes += piece->length;
        list_push_back(&there->pieces, &piece->link);
    }
    there->last_arrival_ns = at;
    there->end_ns = at + 1 + random_below(&net->random, NS_PER_S);
    list_push_back(&listener->backlog, &there->backlog_link);
    poke(listener->accept, listener->accept_io, there->backlog_ns);
}

static uint64_t retransmission(struct net *net)
{
    return 200 * NS_PER_MS + random_below(&net->random, 3 * NS_PER_S);
}

static bool is_something_under_way(const struct socket *socket)
{
    LIST_EACH(node, &socket->pieces)
    {
        if (CONTAINER_OF(node, struct piece, link)->arrives_ns > world_now_ns())
            return true;
    }
    return false;
}

static void lose_power(struct net *net, struct socket *socket, uint64_t back_ns)
{
    struct socket *peer = socket->peer;
    socket->process = NULL;
    list_remove(&socket->backlog_link);
    if (peer && back_ns > 0) {
        peer->silent_until_ns = back_ns;
        peer->unheard_bytes = socket->incoming_bytes;
        if (is_something_under_way(socket))
            end_unheard(net, peer);
        else
            end_idle(peer);
        part(socket);
    } else if (peer) {
        /* Whoever has sent something sends it again, until the machine is up and knows nothing of it; others hear by their
         * keepalive, and nothing in between. */
        uint64_t wait = list_is_empty(&socket->pieces)
                            ? NS_PER_MS + random_below(&net->random, USER_TIMEOUT_NS)
                            : retransmission(net);
        peer->is_dark = true;
        kill_one(peer, world_now_ns() + wait, ECONNRESET);
        part(socket);
    }
    socket_unref(socket);
}

void net_process_ended(struct net *net, struct process *process, enum process_end how)
{
    LIST_EACH(node, &net->sockets)
    {
        struct socket *socket = CONTAINER_OF(node, struct socket, link);
        if (socket->process == process) // operations of the dead are nobody's
            socket->recv = socket->send = socket->readable = socket->accept = NULL;
    }
    for (int i = 0; i < IO_SIM_FILES_MAX; i++) {
        struct socket *socket = TAKE(process->files.slots[i].socket);
        if (socket && how == PROCESS_POWER && !socket->is_listening) {
            socket->has_copy = false;
            lose_power(net, socket, process->power_back_ns);
        } else if (socket) {
            net_close(socket);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(net->partitions); i++)
        if (net->partitions[i].process == process)
            net->partitions[i].process = NULL;
}

/* ---- addresses ---- */

int net_listen(struct process *process, const struct address *address)
{
    struct net *net = world_net();
    uint32_t owner = memory_outside();
    uint16_t port = be16toh(address->sockaddr.v4.sin_port);
    struct socket *socket = NULL;
    int fd = E_EXISTS;
    if (port == 0)
        port = ++net->port_next;
    if (listener_of(net, port) == NULL) {
        socket = socket_new(net, process);
        socket->is_listening = true;
        socket->port = port;
        fd = attach(socket, process);
    }
    memory_inside(owner);
    return fd;
}

int net_address_of(struct process *process, int fd, bool peer, struct address *address)
{
    struct socket *socket = socket_of(process, fd);
    if (socket == NULL)
        return E_INVALID;
    *address = (struct address){.len = sizeof(address->sockaddr.v4)};
    address->sockaddr.v4.sin_family = AF_INET;
    address->sockaddr.v4.sin_addr.s_addr = htobe32(INADDR_LOOPBACK);
    address->sockaddr.v4.sin_port = htobe16(peer ? socket->peer_port : socket->port);
    return 0;
}
