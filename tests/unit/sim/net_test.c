/* tests/sim/world/net.h: what the other side of a connection hears when a machine loses power, and when the way is cut for long. */
#include "tests/sim/world/net.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>

#include "base/address.h"
#include "base/clock.h"

static struct {
    struct process *client;
    struct io *io;        // the server's
    uint32_t send_bytes;  // the server sends so much when it hears nothing any more; 0: nothing
    uint64_t off_s;       // how long the client has no power; 0: it has
    uint64_t partition_s; // how long the way is cut; 0: it is not
    uint64_t begins_ns;   // that
    int recv_error, send_error; // what the server heard: errno
    uint64_t heard_ns, sent_ns; // when; sent_ns 0: still sending
} t;

static struct io_op connect_op, accept_op, recv_op, send_op;
static uint8_t received[64], sent[1 << 20];

static void nothing_done(struct io_op *op)
{
    (void)op;
}

static void recv_done(struct io_op *op)
{
    t.recv_error = op->os_error;
    t.heard_ns = world_now_ns();
}

static void send_done(struct io_op *op)
{
    t.send_error = op->os_error;
    t.sent_ns = world_now_ns();
}

static void accepted(struct io_op *op)
{
    ASSERT(op->result >= 0);
    io_recv(t.io, &recv_op, op->result, received, sizeof(received), recv_done);
}

static void *serve(void *argument)
{
    struct address address;
    ASSERT(address_parse("127.0.0.1:7000", &address) == 0);
    int fd = address_listen(&address, 8, false);
    t.io = world_io_new(process_current());
    io_accept(t.io, &accept_op, fd, accepted);
    while (t.heard_ns == 0 || (t.send_bytes && t.sent_ns == 0)) {
        (void)io_poll(t.io, 100 * NS_PER_MS);
        if (t.begins_ns && t.send_bytes && send_op.done == NULL)
            io_send(t.io, &send_op, accept_op.result, sent, t.send_bytes, send_done);
    }
    world_stop();
    return argument;
}

static void *ask(void *argument)
{
    struct address address;
    ASSERT(address_parse("127.0.0.1:7000", &address) == 0);
    struct io *io = world_io_new(process_current());
    io_connect(io, &connect_op, &address, nothing_done);
    for (;;)
        (void)io_poll(io, NS_PER_S);
    return argument;
}

static void *direct(void *argument)
{
    (void)thread_new(process_new("server", NULL), serve, NULL);
    thread_sleep(NS_PER_MS);
    t.client = process_new("client", NULL);
    (void)thread_new(t.client, ask, NULL);
    thread_sleep(NS_PER_S);
    t.begins_ns = world_now_ns();
    if (t.off_s) {
        t.client->power_back_ns = t.begins_ns + t.off_s * NS_PER_S;
        process_end(t.client, PROCESS_POWER);
    } else {
        net_partition(world_net(), t.client, NET_BOTH, t.begins_ns + t.partition_s * NS_PER_S);
    }
    return argument;
}

/* What the server hears, in seconds from when it began. */
static double run(uint64_t seed)
{
    world_begin(&(struct world_options){.seed = seed});
    net_set(world_net(), &(struct net_options){.window_bytes = 65536});
    (void)thread_new(process_new("director", NULL), direct, NULL);
    ASSERT(world_run(600 * NS_PER_S));
    world_end();
    return (double)(t.heard_ns - t.begins_ns) / 1e9;
}

Test(net, who_says_nothing_learns_by_its_keepalive_that_a_machine_is_back)
{
    t.off_s = 5;
    double heard_s = run(1);
    cr_assert(heard_s > 29 && heard_s < 31, "%f", heard_s);
    cr_assert(eq(int, t.recv_error, ECONNRESET));
}

Test(net, a_machine_that_stays_off_is_given_up_by_the_keepalive)
{
    t.off_s = 90;
    double heard_s = run(1);
    cr_assert(heard_s > 59 && heard_s < 61, "%f", heard_s);
    cr_assert(eq(int, t.recv_error, ETIMEDOUT));
}

Test(net, what_is_sent_gets_a_reset_only_when_the_machine_is_back)
{
    t.off_s = 20;
    t.send_bytes = 100;
    double heard_s = run(1);
    cr_assert(heard_s > 20 && heard_s < 60, "%f", heard_s);
    cr_assert(eq(int, t.recv_error, ECONNRESET));
    cr_assert(eq(int, t.send_error, 0)); // the kernel had taken it
    cr_assert(lt(u64, t.sent_ns - t.begins_ns, NS_PER_S));
}

Test(net, what_the_kernel_can_not_take_waits_until_the_connection_dies)
{
    t.off_s = 90;
    t.send_bytes = sizeof(sent);
    double heard_s = run(1);
    cr_assert(heard_s > 59 && heard_s < 62, "%f", heard_s);
    cr_assert(eq(int, t.send_error, ETIMEDOUT));
}

Test(net, a_connection_does_not_outlive_a_partition_of_more_than_a_minute)
{
    t.partition_s = 80;
    double heard_s = run(1);
    cr_assert(heard_s > 59 && heard_s < 61, "%f", heard_s);
    cr_assert(eq(int, t.recv_error, ETIMEDOUT));
}

/* It is over, and what was sent meanwhile arrives: nobody has heard of an end. */
Test(net, a_connection_outlives_a_partition_of_less_than_a_minute)
{
    t.partition_s = 50;
    t.send_bytes = 100;
    world_begin(&(struct world_options){.seed = 1});
    (void)thread_new(process_new("director", NULL), direct, NULL);
    cr_assert(not(world_run(120 * NS_PER_S)));
    world_end();
    cr_assert(eq(u64, t.heard_ns, 0));
    cr_assert(eq(int, t.send_error, 0));
}
