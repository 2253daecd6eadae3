/* One raw connection: sends any bytes, takes apart what comes back and checks that it is well-formed. */
#include "tests/integration/hostile.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static enum got receive(struct peer *peer, int timeout_ms);
static void check_answer(const struct peer *peer, const struct frame *frame);

void peer_connect(struct peer *peer, const char *what)
{
    const struct address *address = &hostile.address;
    int on = 1;
    *peer = (struct peer){.what = what};
    peer->fd = socket(address->sockaddr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer->fd < 0 || connect(peer->fd, &address->sockaddr.any, address->len))
        fail("%s: connect: %s", what, strerror(errno));
    (void)setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void peer_open(struct peer *peer, const char *what)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    peer_connect(peer, what);
    peer_send(peer, bytes, make_hello(bytes, 1));
    peer_expect_reply(peer, OP_HELLO, 1, &frame);
}

void peer_close(struct peer *peer)
{
    if (peer->fd >= 0)
        close(peer->fd);
    free(peer->in);
    *peer = (struct peer){.fd = -1};
}

void peer_reset(struct peer *peer)
{
    struct linger linger = {.l_onoff = 1};
    (void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    peer_close(peer);
}

void peer_end_sending(struct peer *peer)
{
    (void)shutdown(peer->fd, SHUT_WR);
}

/* Takes in what comes meanwhile, or the two could wait for each other. */
bool peer_send(struct peer *peer, const void *bytes, uint32_t len)
{
    uint32_t sent = 0;
    uint64_t deadline = now_ms() + ANSWER_MS;
    while (sent < len) {
        uint32_t n = peer_send_some(peer, (const uint8_t *)bytes + sent, len - sent);
        sent += n;
        if (n > 0)
            continue;
        struct pollfd ready = {.fd = peer->fd, .events = POLLIN | POLLOUT};
        if (now_ms() > deadline || poll(&ready, 1, ANSWER_MS) <= 0)
            fail("%s: the broker takes no bytes (%u of %u)", peer->what, sent, len);
        if (ready.revents & (POLLERR | POLLHUP))
            return false;
        if (ready.revents & POLLIN && receive(peer, 0) == GOT_END)
            return false;
    }
    return true;
}

uint32_t peer_send_some(struct peer *peer, const void *bytes, uint32_t len)
{
    ssize_t n = send(peer->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n > 0 ? (uint32_t)n : 0;
}

static enum got receive(struct peer *peer, int timeout_ms)
{
    struct pollfd ready = {.fd = peer->fd, .events = POLLIN};
    if (peer->in_taken > 0) {
        memmove(peer->in, peer->in + peer->in_taken, peer->in_bytes - peer->in_taken);
        peer->in_bytes -= peer->in_taken;
        peer->in_taken = 0;
    }
    if (peer->in_bytes == peer->in_capacity) {
        peer->in_capacity = peer->in_capacity ? peer->in_capacity * 4 : 16384;
        peer->in = realloc(peer->in, peer->in_capacity);
        if (!peer->in)
            fail("out of memory");
    }
    if (poll(&ready, 1, timeout_ms) <= 0)
        return GOT_NOTHING;
    ssize_t n =
        recv(peer->fd, peer->in + peer->in_bytes, peer->in_capacity - peer->in_bytes, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return GOT_NOTHING;
    peer->was_reset = n < 0; // we may have sent more than the broker wanted to read
    if (n <= 0)
        return GOT_END;
    peer->in_bytes += (uint32_t)n;
    return GOT_FRAME;
}

enum got peer_next(struct peer *peer, struct frame *frame, int timeout_ms)
{
    uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
    for (;;) {
        uint32_t available = peer->in_bytes - peer->in_taken;
        if (available > 0) {
            int64_t length = frame_peek(peer->in + peer->in_taken, available, UINT32_MAX);
            if (length < 0)
                fail("%s: the broker sent lengths that don't fit", peer->what);
            if (length > 0 && length <= available) {
                if (frame_decode(peer->in + peer->in_taken, frame) != PE_NONE)
                    fail("%s: the broker sent a malformed frame", peer->what);
                peer->in_taken += (uint32_t)length;
                check_answer(peer, frame);
                return GOT_FRAME;
            }
        }
        uint64_t now = now_ms();
        enum got got = receive(peer, now < deadline ? (int)(deadline - now) : 0);
        if (got == GOT_END && available > 0 && !peer->was_reset)
            fail("%s: the broker ended in the middle of a frame", peer->what);
        if (got == GOT_END || (got == GOT_NOTHING && now_ms() >= deadline))
            return got;
    }
}

static bool has_empty_reply(uint16_t op)
{
    return op == OP_PING || op == OP_SUBSCRIBE || op == OP_UNSUBSCRIBE || op == OP_TXN_OFFSETS ||
           op == OP_TXN_PREPARE || op == OP_TXN_ABORT || op == OP_GROUP_LEAVE ||
           op == OP_GROUP_DELETE;
}

/* The shape of every answer, so that no attack gets a broken one. */
static void check_answer(const struct peer *peer, const struct frame *frame)
{
    union {
        struct msg_ack ack;
        struct msg_deliver deliver;
        struct msg_metadata_reply metadata;
        struct msg_offsets_reply offsets;
        struct msg_status_reply status;
        struct msg_txn_init_reply init;
        struct msg_txn_begin_reply begin;
        struct msg_txn_commit_reply commit;
        struct msg_txn_list_reply txns;
        struct msg_txn_describe_reply txn;
        struct msg_group_assignment assignment;
        struct msg_offset_results results;
        struct msg_group_list_reply groups;
        struct msg_group_describe_reply group;
    } m;
    uint16_t error = PE_NONE;
    if (frame->flags & FRAME_ERROR)
        (void)error_of(frame);
    else if (frame->op == OP_ACK)
        error = read_ack(frame, &m.ack);
    else if (frame->op == OP_DELIVER || frame->op == OP_FETCH)
        error = read_deliver(frame, &m.deliver);
    else if (frame->op == OP_METADATA)
        error = read_metadata_reply(frame, &m.metadata);
    else if (frame->op == OP_OFFSETS)
        error = read_offsets_reply(frame, &m.offsets);
    else if (frame->op == OP_STATUS)
        error = read_status_reply(frame, &m.status);
    else if (frame->op == OP_TXN_INIT)
        error = read_txn_init_reply(frame, &m.init);
    else if (frame->op == OP_TXN_BEGIN)
        error = read_txn_begin_reply(frame, &m.begin);
    else if (frame->op == OP_TXN_COMMIT)
        error = read_txn_commit_reply(frame, &m.commit);
    else if (frame->op == OP_TXN_LIST)
        error = read_txn_list_reply(frame, &m.txns);
    else if (frame->op == OP_TXN_DESCRIBE)
        error = read_txn_describe_reply(frame, &m.txn);
    else if (frame->op == OP_GROUP_JOIN || frame->op == OP_GROUP_HEARTBEAT)
        error = read_group_assignment(frame, &m.assignment);
    else if (frame->op == OP_OFFSET_COMMIT || frame->op == OP_OFFSET_FETCH)
        error = read_offset_results(frame, &m.results);
    else if (frame->op == OP_GROUP_LIST)
        error = read_group_list_reply(frame, &m.groups);
    else if (frame->op == OP_GROUP_DESCRIBE)
        error = read_group_describe_reply(frame, &m.group);
    else if (has_empty_reply(frame->op) && frame->meta_length > 0)
        error = PE_MALFORMED;
    if (error)
        fail("%s: the broker's %s is not well-formed", peer->what, op_name(frame->op));
}

uint16_t error_of(const struct frame *frame)
{
    struct msg_error m;
    struct msg_produce_failure failure;
    if (!(frame->flags & FRAME_ERROR))
        return PE_NONE;
    bool failed = frame->op == OP_PRODUCE ? read_produce_failure(frame, &failure) != PE_NONE
                                          : read_error(frame, &m) != PE_NONE;
    if (failed)
        fail("an error of %s is not well-formed", op_name(frame->op));
    return frame->op == OP_PRODUCE ? failure.first.error : m.error;
}

/* ---- expectations ---- */

void peer_expect_frame(struct peer *peer, struct frame *frame)
{
    enum got got = peer_next(peer, frame, ANSWER_MS);
    if (got != GOT_FRAME)
        fail("%s: %s instead of an answer", peer->what, got == GOT_END ? "the end" : "nothing");
}

void peer_expect_error(struct peer *peer, uint16_t error, uint16_t op, uint64_t correlation)
{
    struct frame frame;
    peer_expect_frame(peer, &frame);
    uint16_t got = error_of(&frame);
    if (got != error || frame.op != op || frame.correlation != correlation)
        fail("%s: %s of %s %llu came, expected %s of %s %llu", peer->what, proto_error_name(got),
             op_name(frame.op), (unsigned long long)frame.correlation, proto_error_name(error),
             op_name(op), (unsigned long long)correlation);
}

void peer_expect_reply(struct peer *peer, uint16_t op, uint64_t correlation, struct frame *frame)
{
    peer_expect_frame(peer, frame);
    if (frame->op != op || frame->flags != FRAME_REPLY || frame->correlation != correlation)
        fail("%s: %s %llu with flags %u (%s) came, expected the answer to %s %llu", peer->what,
             op_name(frame->op), (unsigned long long)frame->correlation, frame->flags,
             proto_error_name(error_of(frame)), op_name(op), (unsigned long long)correlation);
}

void peer_expect_ack(struct peer *peer, uint64_t number)
{
    struct frame frame;
    struct msg_ack ack;
    peer_expect_frame(peer, &frame);
    if (frame.op != OP_ACK || read_ack(&frame, &ack) || ack.first != number || ack.last != number)
        fail("%s: %s %llu (%s) came, expected the ack of publish %llu", peer->what,
             op_name(frame.op), (unsigned long long)frame.correlation,
             proto_error_name(error_of(&frame)), (unsigned long long)number);
}

void peer_expect_end(struct peer *peer)
{
    struct frame frame;
    enum got got = peer_next(peer, &frame, ANSWER_MS);
    if (got == GOT_FRAME)
        fail("%s: %s (%s) came where the connection should have ended", peer->what,
             op_name(frame.op), proto_error_name(error_of(&frame)));
    if (got == GOT_NOTHING)
        fail("%s: the connection did not end", peer->what);
}

void peer_expect_alive(struct peer *peer)
{
    uint8_t bytes[FRAME_HEADER_SIZE];
    struct frame frame;
    peer_send(peer, bytes, make_empty(bytes, OP_PING, 4711));
    peer_expect_reply(peer, OP_PING, 4711, &frame);
}
