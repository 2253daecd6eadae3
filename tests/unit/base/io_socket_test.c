/* base/io.h: sockets on both kernel backends. */
#include "tests/unit/base/io_fixture.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>

#include "base/address.h"

static int listen_anywhere(struct address *address)
{
    cr_assert_eq(address_parse("127.0.0.1:0", address), 0);
    int fd = address_listen(address, 128, false);
    cr_assert_geq(fd, 0);
    cr_assert_eq(address_of_socket(fd, address), 0);
    return fd;
}

struct link {
    int listener;
    int client;
    int server;
};

static struct link link_open(struct io *io)
{
    struct address address;
    struct probe accept_op = {0}, connect_op = {0};
    struct link link = {.listener = listen_anywhere(&address)};
    io_accept(io, &accept_op.op, link.listener, probe_done);
    io_connect(io, &connect_op.op, &address, probe_done);
    memset(&address, 0xff, sizeof address); // it was copied
    link.client = probe_wait(io, &connect_op);
    link.server = probe_wait(io, &accept_op);
    cr_assert_geq(link.client, 0, "%s", status_name(link.client));
    cr_assert_geq(link.server, 0);
    return link;
}

static void link_close(struct io *io, struct link *link)
{
    cr_assert_eq(io_close_wait(io, link->client), 0);
    cr_assert_eq(io_close_wait(io, link->server), 0);
    cr_assert_eq(io_close_wait(io, link->listener), 0);
}

/* ---- the plain ways ---- */

IO_TEST(io_socket, what_is_sent_is_received)
{
    struct link link = link_open(io);
    struct probe send_op = {0}, recv_op = {0};
    char text[100];
    io_recv(io, &recv_op.op, link.server, text, sizeof text, probe_done);
    probe_stays(io, &recv_op);
    io_send(io, &send_op.op, link.client, "hello", 5, probe_done);
    cr_assert_eq(probe_wait(io, &send_op), 5);
    cr_assert_eq(probe_wait(io, &recv_op), 5);
    cr_assert_eq(memcmp(text, "hello", 5), 0);
    link_close(io, &link);
}

IO_TEST(io_socket, descriptors_are_not_inherited)
{
    struct link link = link_open(io);
    cr_assert(fcntl(link.client, F_GETFD) & FD_CLOEXEC);
    cr_assert(fcntl(link.server, F_GETFD) & FD_CLOEXEC);
    link_close(io, &link);
}

IO_TEST(io_socket, an_empty_send_completes_with_zero)
{
    struct link link = link_open(io);
    struct probe send_op = {0};
    io_send(io, &send_op.op, link.client, "", 0, probe_done);
    cr_assert_eq(probe_wait(io, &send_op), 0);
    link_close(io, &link);
}

struct slow_reader {
    int fd;
    uint64_t bytes;
    uint64_t sum;
};

static void *read_slowly(void *argument)
{
    struct slow_reader *reader = argument;
    static uint8_t piece[60000];
    ssize_t len;
    while ((len = recv(reader->fd, piece, sizeof piece, 0)) > 0) {
        for (ssize_t i = 0; i < len; i++)
            reader->sum += piece[i] * (reader->bytes++ % 251 + 1);
        if (reader->bytes % 5 == 0)
            usleep(100); // so that the sender has to wait
    }
    return NULL;
}

IO_TEST(io_socket, a_large_send_goes_on_until_all_is_sent)
{
    enum { SIZE = 8 << 20 };
    struct link link = link_open(io);
    struct slow_reader reader = {.fd = dup(link.server)};
    struct probe send_op = {0};
    pthread_t thread;
    uint64_t sum = 0;
    int small = 65536;
    uint8_t *data = malloc(SIZE);

    for (uint64_t i = 0; i < SIZE; i++) {
        data[i] = (uint8_t)(i * 31 >> 3);
        sum += data[i] * (i % 251 + 1);
    }
    (void)fcntl(reader.fd, F_SETFL, 0);
    setsockopt(link.client, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    cr_assert_eq(pthread_create(&thread, NULL, read_slowly, &reader), 0);
    io_send(io, &send_op.op, link.client, data, SIZE, probe_done);
    cr_assert_eq(probe_wait(io, &send_op), SIZE);
    cr_assert_eq(shutdown(link.client, SHUT_WR), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(reader.bytes, SIZE);
    cr_assert_eq(reader.sum, sum, "every byte at its place");
    close(reader.fd);
    link_close(io, &link);
    free(data);
}

IO_TEST(io_socket, a_closed_peer_ends_recv_with_zero_and_send_with_closed)
{
    struct link link = link_open(io);
    struct probe recv_op = {0}, send_op = {0}, again = {0};
    struct linger reset = {.l_onoff = 1};
    char byte;
    io_recv(io, &recv_op.op, link.server, &byte, 1, probe_done);
    cr_assert_eq(shutdown(link.client, SHUT_WR), 0);
    cr_assert_eq(probe_wait(io, &recv_op), 0);
    setsockopt(link.client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    cr_assert_eq(io_close_wait(io, link.client), 0);
    io_send(io, &send_op.op, link.server, "x", 1, probe_done); // no SIGPIPE
    cr_assert_eq(probe_wait(io, &send_op), E_CLOSED);
    cr_assert(send_op.op.os_error == EPIPE || send_op.op.os_error == ECONNRESET);
    io_send(io, &again.op, link.server, "x", 1, probe_done);
    cr_assert_eq(probe_wait(io, &again), E_CLOSED);
    cr_assert_eq(io_close_wait(io, link.server), 0);
    cr_assert_eq(io_close_wait(io, link.listener), 0);
}

IO_TEST(io_socket, nobody_listening_is_a_connect_error_and_leaks_nothing)
{
    struct address address;
    cr_assert_eq(io_close_wait(io, listen_anywhere(&address)), 0); // now the port is free
    int before = open_descriptor_count();
    for (int i = 0; i < 50; i++) {
        struct probe connect_op = {0};
        io_connect(io, &connect_op.op, &address, probe_done);
        cr_assert_eq(probe_wait(io, &connect_op), E_CONNECT);
        cr_assert_eq(connect_op.op.os_error, ECONNREFUSED);
    }
    expect_descriptor_count(before);
}

IO_TEST(io_socket, operations_on_what_is_no_socket_fail_by_themselves)
{
    struct probe recv_op = {0}, send_op = {0}, accept_op = {0}, readable_op = {0};
    char byte;
    io_recv(io, &recv_op.op, 1 << 19, &byte, 1, probe_done);
    io_send(io, &send_op.op, 1 << 19, "x", 1, probe_done);
    io_accept(io, &accept_op.op, 1 << 19, probe_done);
    cr_assert_eq(probe_wait(io, &recv_op), E_INVALID);
    cr_assert_eq(probe_wait(io, &send_op), E_INVALID);
    cr_assert_eq(probe_wait(io, &accept_op), E_INVALID);
    io_readable(io, &readable_op.op, 1 << 19, probe_done);
    cr_assert_leq(probe_wait(io, &readable_op), 0);
}

/* ---- readable ---- */

IO_TEST(io_socket, readable_waits_for_bytes_and_takes_none)
{
    struct link link = link_open(io);
    for (int round = 0; round < 3; round++) {
        struct probe readable_op = {0}, recv_op = {0}, again = {0};
        char text[10];
        io_readable(io, &readable_op.op, link.server, probe_done);
        probe_stays(io, &readable_op);
        cr_assert_eq(send(link.client, "abc", 3, 0), 3);
        cr_assert_eq(probe_wait(io, &readable_op), 0);
        io_readable(io, &again.op, link.server, probe_done); // still there
        cr_assert_eq(probe_wait(io, &again), 0);
        io_recv(io, &recv_op.op, link.server, text, sizeof text, probe_done);
        cr_assert_eq(probe_wait(io, &recv_op), 3);
    }
    link_close(io, &link);
}

IO_TEST(io_socket, readable_also_ends_when_the_peer_goes)
{
    struct link link = link_open(io);
    struct probe readable_op = {0}, recv_op = {0};
    char byte;
    io_readable(io, &readable_op.op, link.server, probe_done);
    probe_stays(io, &readable_op);
    cr_assert_eq(shutdown(link.client, SHUT_WR), 0);
    cr_assert_eq(probe_wait(io, &readable_op), 0);
    io_recv(io, &recv_op.op, link.server, &byte, 1, probe_done);
    cr_assert_eq(probe_wait(io, &recv_op), 0);
    link_close(io, &link);
}

/* ---- both directions, many of them, reuse ---- */

IO_TEST(io_socket, reading_and_writing_on_one_socket_do_not_disturb_each_other)
{
    struct link link = link_open(io);
    struct probe recv_op = {0}, send_op = {0};
    static uint8_t data[4 << 20];
    char byte;
    io_recv(io, &recv_op.op, link.server, &byte, 1, probe_done);
    io_send(io, &send_op.op, link.server, data, sizeof data, probe_done); // fills all buffers
    probe_stays(io, &send_op);
    cr_assert_eq(recv_op.done_count, 0);
    cr_assert_eq(send(link.client, "x", 1, 0), 1);
    cr_assert_eq(probe_wait(io, &recv_op), 1);
    cr_assert(io_op_is_active(&send_op.op));
    for (size_t left = sizeof data; left > 0;) {
        static uint8_t sink[1 << 20];
        ssize_t len = recv(link.client, sink, sizeof sink, MSG_DONTWAIT);
        left -= len > 0 ? (size_t)len : 0;
        (void)io_poll(io, NS_PER_MS);
    }
    cr_assert_eq(probe_wait(io, &send_op), sizeof data);
    link_close(io, &link);
}

IO_TEST(io_socket, several_accepts_wait_on_one_listener)
{
    enum { COUNT = 20 };
    struct address address;
    struct probe accepts[COUNT] = {0};
    struct probe connects[COUNT] = {0};
    int listener = listen_anywhere(&address);
    for (int i = 0; i < COUNT; i++)
        io_accept(io, &accepts[i].op, listener, probe_done);
    probe_stays(io, &accepts[0]);
    for (int i = 0; i < COUNT; i++)
        io_connect(io, &connects[i].op, &address, probe_done);
    for (int i = 0; i < COUNT; i++) {
        int client = probe_wait(io, &connects[i]);
        int server = probe_wait(io, &accepts[i]);
        cr_assert_geq(client, 0);
        cr_assert_geq(server, 0);
        cr_assert_eq(io_close_wait(io, client), 0);
        cr_assert_eq(io_close_wait(io, server), 0);
    }
    cr_assert_eq(io_close_wait(io, listener), 0);
}

IO_TEST(io_socket, descriptor_numbers_may_come_again)
{
    struct address address;
    int listener = listen_anywhere(&address);
    for (int i = 0; i < 100; i++) {
        struct probe accept_op = {0}, connect_op = {0}, recv_op = {0}, send_op = {0};
        char byte = 0;
        io_accept(io, &accept_op.op, listener, probe_done);
        io_connect(io, &connect_op.op, &address, probe_done);
        int client = probe_wait(io, &connect_op);
        int server = probe_wait(io, &accept_op);
        io_recv(io, &recv_op.op, server, &byte, 1, probe_done);
        (void)io_poll(io, 0); // parked now, so that epoll knows the descriptor
        io_send(io, &send_op.op, client, "y", 1, probe_done);
        cr_assert_eq(probe_wait(io, &send_op), 1);
        cr_assert_eq(probe_wait(io, &recv_op), 1);
        cr_assert_eq(byte, 'y');
        cr_assert_eq(io_close_wait(io, i % 2 ? client : server), 0);
        cr_assert_eq(io_close_wait(io, i % 2 ? server : client), 0);
    }
    cr_assert_eq(io_close_wait(io, listener), 0);
}

IO_TEST(io_socket, blocking_and_non_blocking_descriptors_are_both_welcome)
{
    for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) {
        int pair[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | flags, 0, pair), 0);
        for (int round = 0; round < 3; round++) {
            struct probe recv_op = {0}, send_op = {0};
            static uint8_t out[1 << 20], in[1 << 20];
            uint32_t got = 0;
            io_send(io, &send_op.op, pair[0], out, sizeof out, probe_done);
            while (got < sizeof in) {
                struct probe piece = {0};
                io_recv(io, &piece.op, pair[1], in + got, (uint32_t)sizeof in - got, probe_done);
                int len = probe_wait(io, &piece);
                cr_assert_gt(len, 0);
                got += (uint32_t)len;
            }
            cr_assert_eq(probe_wait(io, &send_op), sizeof out);
            io_recv(io, &recv_op.op, pair[1], in, 1, probe_done);
            probe_stays(io, &recv_op); // it waits, and does not answer AGAIN
            cr_assert_eq(write(pair[0], "x", 1), 1);
            cr_assert_eq(probe_wait(io, &recv_op), 1);
        }
        cr_assert_eq(io_close_wait(io, pair[0]), 0);
        cr_assert_eq(io_close_wait(io, pair[1]), 0);
    }
}

/* ---- cancel ---- */

static void check_canceled(struct io *io, struct probe *probe)
{
    io_cancel(io, &probe->op);
    cr_assert_eq(probe->done_count, 0, "not from inside the call");
    cr_assert_eq(probe_wait(io, probe), E_CANCELED);
    io_cancel(io, &probe->op);
    (void)io_poll(io, NS_PER_MS);
    cr_assert_eq(probe->done_count, 1);
}

static void cancel_each_kind(struct io *io, bool submitted)
{
    struct link link = link_open(io);
    struct probe accept_op = {0}, readable_op = {0}, recv_op = {0}, send_op = {0};
    static uint8_t data[16 << 20];
    char byte;

    io_accept(io, &accept_op.op, link.listener, probe_done);
    io_readable(io, &readable_op.op, link.server, probe_done);
    io_recv(io, &recv_op.op, link.client, &byte, 1, probe_done);
    io_send(io, &send_op.op, link.client, data, sizeof data, probe_done);
    if (submitted)
        probe_stays(io, &accept_op);
    check_canceled(io, &accept_op);
    check_canceled(io, &recv_op);
    check_canceled(io, &send_op);
    if (readable_op.done_count == 0) // part of the send may have arrived
        io_cancel(io, &readable_op.op);
    cr_assert(probe_wait(io, &readable_op) == 0 || readable_op.op.result == E_CANCELED);
    link_close(io, &link);
}

IO_TEST(io_socket, what_waits_can_be_canceled)
{
    cancel_each_kind(io, true);
}

IO_TEST(io_socket, what_was_only_just_started_can_be_canceled)
{
    cancel_each_kind(io, false);
}

IO_TEST(io_socket, a_connect_that_hangs_can_be_canceled_and_leaks_nothing)
{
    struct address address;
    cr_assert_eq(address_parse("127.0.0.1:0", &address), 0);
    int listener = address_listen(&address, 0, false); // a queue for one
    cr_assert_eq(address_of_socket(listener, &address), 0);
    struct probe connects[4] = {0};
    int before = open_descriptor_count();
    for (int i = 0; i < 4; i++)
        io_connect(io, &connects[i].op, &address, probe_done);
    probe_stays(io, &connects[3]);
    for (int i = 0; i < 4; i++) {
        io_cancel(io, &connects[i].op);
        int result = probe_wait(io, &connects[i]);
        if (result >= 0)
            cr_assert_eq(io_close_wait(io, result), 0);
        else
            cr_assert_eq(result, E_CANCELED);
    }
    cr_assert_eq(connects[3].op.result, E_CANCELED);
    expect_descriptor_count(before);
    cr_assert_eq(io_close_wait(io, listener), 0);
}

IO_TEST(io_socket, a_connect_that_found_no_slot_yet_can_be_canceled_and_leaks_nothing)
{
    enum { COUNT = 3 * IO_TEST_OPS };
    static struct probe fillers[COUNT], connects[10];
    struct address address;
    int listener = listen_anywhere(&address);
    int before = open_descriptor_count();
    for (int i = 0; i < COUNT; i++)
        io_readable(io, &fillers[i].op, listener, probe_done);
    for (int i = 0; i < 10; i++)
        io_connect(io, &connects[i].op, &address, probe_done);
    for (int i = 0; i < 10; i++)
        io_cancel(io, &connects[i].op);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(probe_wait(io, &connects[i]), E_CANCELED);
    expect_descriptor_count(before);
    for (int i = 0; i < COUNT; i++)
        io_cancel(io, &fillers[i].op);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(probe_wait(io, &fillers[i]), E_CANCELED);
    cr_assert_eq(io_close_wait(io, listener), 0);
}

IO_TEST(io_socket, what_waits_for_a_slot_keeps_its_order)
{
    enum { COUNT = 5 * IO_TEST_OPS };
    static struct probe recvs[COUNT];
    static uint8_t out[COUNT], in[COUNT];
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < COUNT; i++)
        out[i] = (uint8_t)(i * 5 + (i >> 8));
    cr_assert_eq(write(pair[1], out, COUNT), COUNT); // so that none has to wait for bytes
    for (int i = 0; i < COUNT; i++)
        io_recv(io, &recvs[i].op, pair[0], &in[i], 1, probe_done);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(probe_wait(io, &recvs[i]), 1);
    cr_assert_eq(memcmp(in, out, COUNT), 0);
    cr_assert_eq(io_close_wait(io, pair[0]), 0);
    close(pair[1]);
}

IO_TEST(io_socket, operations_and_cancels_beyond_the_rings_complete_once)
{
    enum { COUNT = 30 * IO_TEST_OPS };
    struct probe *probes = calloc(COUNT, sizeof *probes);
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < COUNT; i++)
        io_readable(io, &probes[i].op, pair[0], probe_done);
    for (int i = 0; i < COUNT; i += 2) // not yet submitted, most of them
        io_cancel(io, &probes[i].op);
    for (int i = 0; i < COUNT; i += 2)
        cr_assert_eq(probe_wait(io, &probes[i]), E_CANCELED);
    probe_stays(io, &probes[1]);
    for (int i = 1; i < COUNT; i += 2) // all with the kernel
        io_cancel(io, &probes[i].op);
    for (int i = 1; i < COUNT; i += 2)
        cr_assert_eq(probe_wait(io, &probes[i]), E_CANCELED);
    (void)io_poll(io, NS_PER_MS);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(probes[i].done_count, 1);
    cr_assert_eq(io_close_wait(io, pair[0]), 0);
    close(pair[1]);
    free(probes);
}

IO_TEST(io_socket, cancel_and_close_at_once_end_both)
{
    struct link link = link_open(io);
    struct probe recv_op = {0}, close_op = {0};
    char byte;
    io_recv(io, &recv_op.op, link.server, &byte, 1, probe_done);
    probe_stays(io, &recv_op);
    io_cancel(io, &recv_op.op);
    io_close(io, &close_op.op, link.server, probe_done);
    cr_assert_eq(probe_wait(io, &recv_op), E_CANCELED);
    cr_assert_eq(probe_wait(io, &close_op), 0);
    cr_assert_eq(recv(link.client, &byte, 1, 0), 0, "the peer sees the end");
    cr_assert_eq(io_close_wait(io, link.client), 0);
    cr_assert_eq(io_close_wait(io, link.listener), 0);
}

IO_TEST(io_socket, a_late_cancel_does_not_hit_the_operations_next_use)
{
    struct link link = link_open(io);
    char byte;
    for (int i = 0; i < 50; i++) {
        struct probe probe = {0};
        io_recv(io, &probe.op, link.server, &byte, 1, probe_done);
        cr_assert_eq(send(link.client, "x", 1, 0), 1);
        (void)io_poll(io, i % 2 ? 0 : NS_PER_MS);
        io_cancel(io, &probe.op); // complete, or about to be
        int result = probe_wait(io, &probe);
        cr_assert(result == 1 || result == E_CANCELED);
        if (result == 1) {
            probe.done_count = 0;
            io_recv(io, &probe.op, link.server, &byte, 1, probe_done);
            probe_stays(io, &probe);
            cr_assert_eq(send(link.client, "y", 1, 0), 1);
            cr_assert_eq(probe_wait(io, &probe), 1);
            cr_assert_eq(byte, 'y');
        } else {
            cr_assert_eq(recv(link.server, &byte, 1, 0), 1, "not taken");
        }
    }
    link_close(io, &link);
}
