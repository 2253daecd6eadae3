/* The fake broker: one thread, poll(), a mutex around everything. Sockets are read without blocking
 * and written with, since the client always reads. A turn reads what is there, answers it frame by
 * frame, and then lets each subscription have what its credit allows. */
#include "tests/unit/client/fake_broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/client/fake_private.h"

static void *run(void *broker);
static void wait_for_sockets(struct fake_broker *broker);
static void accept_one(struct fake_broker *broker);
static void read_conn(struct fake_broker *broker, struct fake_conn *conn);
static void take_frames(struct fake_broker *broker, struct fake_conn *conn);
static void handle(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame);
static void send_wrong_ack(struct fake_broker *broker, struct fake_conn *conn, uint64_t number,
                           uint32_t how);
static bool strike(struct fake_broker *broker, uint16_t op, struct fake_rule *rule);
static void answer(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                   bool silent);

struct fake_broker *fake_start(const struct fake_options *options)
{
    struct fake_broker *broker = calloc(1, sizeof(*broker));
    ASSERT(broker);
    broker->options = *options;
    if (broker->options.publishes_max == 0)
        broker->options.publishes_max = 65536;
    if (broker->options.credit_min == 0)
        broker->options.credit_min = (uint32_t)(4 * MIB + 4096);
    if (broker->options.record_bytes_max == 0)
        broker->options.record_bytes_max = (uint32_t)(1 * MIB);
    if (broker->options.deliver_bytes_max == 0)
        broker->options.deliver_bytes_max = (uint32_t)(1 * MIB);
    broker->store.discard = options->discard;
    broker->store.any_first_sequence = options->any_first_sequence;
    broker->store.record_bytes_max = broker->options.record_bytes_max;
    broker->out = malloc(OUT_BYTES);
    ASSERT(broker->out);
    for (int i = 0; i < CONNS_MAX; i++)
        broker->conns[i].fd = -1;
    broker->sockaddr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    fake_open_listener(broker);
    broker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&broker->mutex, NULL);
    ASSERT(pthread_create(&broker->thread, NULL, run, broker) == 0);
    return broker;
}

void fake_stop(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    broker->stop = true;
    pthread_mutex_unlock(&broker->mutex);
    fake_wake(broker);
    pthread_join(broker->thread, NULL);
    for (int i = 0; i < CONNS_MAX; i++)
        fake_close_conn(&broker->conns[i]);
    if (broker->listen_fd >= 0)
        close(broker->listen_fd);
    close(broker->wake_fd);
    fake_txns_free(&broker->txns);
    fake_store_free(&broker->store);
    pthread_mutex_destroy(&broker->mutex);
    free(broker->out);
    free(broker);
}

/* ---- the thread ---- */

static void *run(void *argument)
{
    struct fake_broker *broker = argument;
    pthread_mutex_lock(&broker->mutex);
    while (!broker->stop) {
        pthread_mutex_unlock(&broker->mutex);
        wait_for_sockets(broker);
        pthread_mutex_lock(&broker->mutex);
        for (int i = 0; i < CONNS_MAX; i++) {
            if (broker->conns[i].fd >= 0)
                read_conn(broker, &broker->conns[i]);
            if (broker->conns[i].fd >= 0)
                fake_deliver_all(broker, &broker->conns[i]);
        }
        accept_one(broker);
    }
    pthread_mutex_unlock(&broker->mutex);
    return NULL;
}

void fake_open_listener(struct fake_broker *broker)
{
    int on = 1;
    broker->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ASSERT(broker->listen_fd >= 0);
    setsockopt(broker->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    socklen_t len = sizeof(broker->sockaddr);
    /* On the way back the old listener may live until the thread's poll() lets go of it. */
    int failed = -1;
    for (int i = 0; i < 2000 && failed; i++) {
        failed = bind(broker->listen_fd, (struct sockaddr *)&broker->sockaddr, len);
        if (failed)
            fake_sleep_ms(1);
    }
    ASSERT(!failed);
    ASSERT(listen(broker->listen_fd, 64) == 0);
    getsockname(broker->listen_fd, (struct sockaddr *)&broker->sockaddr, &len);
    snprintf(broker->address, sizeof(broker->address), "127.0.0.1:%u",
             ntohs(broker->sockaddr.sin_port));
}

static void wait_for_sockets(struct fake_broker *broker)
{
    struct pollfd fds[CONNS_MAX + 2];
    nfds_t count = 0;
    pthread_mutex_lock(&broker->mutex);
    fds[count++] = (struct pollfd){.fd = broker->wake_fd, .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = broker->listen_fd, .events = POLLIN};
    for (int i = 0; i < CONNS_MAX; i++) {
        if (broker->conns[i].fd >= 0)
            fds[count++] = (struct pollfd){.fd = broker->conns[i].fd, .events = POLLIN};
    }
    pthread_mutex_unlock(&broker->mutex);
    poll(fds, count, 100);
    uint64_t wakes;
    if (read(broker->wake_fd, &wakes, sizeof(wakes)) < 0)
        ASSERT(errno == EAGAIN);
}

static void accept_one(struct fake_broker *broker)
{
    int fd = broker->listen_fd >= 0 ? accept4(broker->listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd < 0)
        return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (int i = 0; i < CONNS_MAX; i++) {
        struct fake_conn *conn = &broker->conns[i];
        if (conn->fd >= 0)
            continue;
        uint8_t *in = conn->in ? conn->in : malloc(IN_BYTES);
        ASSERT(in);
        *conn = (struct fake_conn){.fd = fd, .in = in};
        broker->accepted++;
        return;
    }
    close(fd);
}

void fake_close_conn(struct fake_conn *conn)
{
    for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        free(conn->subscriptions[i].cursors);
        conn->subscriptions[i] = (struct fake_subscription){0};
    }
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    free(conn->in);
    conn->in = NULL;
    conn->in_len = 0;
}

static void read_conn(struct fake_broker *broker, struct fake_conn *conn)
{
    ssize_t n = recv(conn->fd, conn->in + conn->in_len, IN_BYTES - conn->in_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (n <= 0) {
        fake_close_conn(conn);
        return;
    }
    conn->in_len += (size_t)n;
    take_frames(broker, conn);
    if (conn->fd >= 0)
        fake_flush_ack(broker, conn);
}

static void take_frames(struct fake_broker *broker, struct fake_conn *conn)
{
    size_t at = 0;
    while (conn->fd >= 0) {
        int64_t length = frame_peek(conn->in + at, conn->in_len - at, IN_BYTES);
        if (length < 0) {
            fprintf(stderr, "fake broker: malformed frame\n");
            fake_close_conn(conn);
            return;
        }
        if (length == 0 || (size_t)length > conn->in_len - at)
            break;
        struct frame frame;
        if (frame_decode(conn->in + at, &frame) != PE_NONE) {
            fprintf(stderr, "fake broker: wrong checksum\n");
            fake_close_conn(conn);
            return;
        }
        handle(broker, conn, &frame);
        at += (size_t)length;
    }
    if (conn->fd < 0)
        return;
    memmove(conn->in, conn->in + at, conn->in_len - at);
    conn->in_len -= at;
}

static void handle(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame)
{
    struct fake_rule rule;
    broker->seen[frame->op & 255]++;
    if (!conn->greeted && frame->op != OP_HELLO) {
        fake_send_error(broker, conn, frame, PE_HELLO_REQUIRED);
        fake_close_conn(conn);
        return;
    }
    if (!strike(broker, frame->op, &rule)) {
        answer(broker, conn, frame, false);
        return;
    }
    fake_flush_ack(broker, conn);
    switch (rule.action) {
    case FAKE_REFUSE:
        if (frame->op == OP_PRODUCE)
            conn->publish = frame->correlation;
        fake_send_error(broker, conn, frame, (uint16_t)rule.argument);
        break;
    case FAKE_DROP_BEFORE:
        fake_close_conn(conn);
        break;
    case FAKE_DROP_AFTER:
        answer(broker, conn, frame, true);
        fake_close_conn(conn);
        break;
    case FAKE_SILENT:
        answer(broker, conn, frame, true);
        break;
    case FAKE_IGNORE:
        if (frame->op == OP_PRODUCE)
            conn->publish = frame->correlation;
        break;
    case FAKE_DELAY:
        pthread_mutex_unlock(&broker->mutex);
        fake_sleep_ms(rule.argument);
        pthread_mutex_lock(&broker->mutex);
        answer(broker, conn, frame, false);
        break;
    case FAKE_GARBAGE:
        fake_send_bytes(conn, (const uint8_t *)"HTTP/1.1 400 Bad Request\r\n\r\n____________", 40);
        break;
    case FAKE_WRONG_ACK:
        answer(broker, conn, frame, rule.argument != 0);
        send_wrong_ack(broker, conn, frame->correlation, rule.argument);
        break;
    }
}

static void send_wrong_ack(struct fake_broker *broker, struct fake_conn *conn, uint64_t number,
                           uint32_t how)
{
    fake_flush_ack(broker, conn);
    conn->ack_first = conn->ack_last = number;
    conn->ack_count = how == 1 ? 2 : how == 3 ? 0 : 1;
    if (how == 2)
        conn->ack_last += 3, conn->ack_count = 4;
    memset(conn->ack_offsets, 0, 4 * sizeof(conn->ack_offsets[0]));
    if (conn->ack_count > 0) {
        fake_flush_ack(broker, conn);
        return;
    }
    struct writer w = fake_begin(broker);
    write_ack_begin(&w, number, number, 0, 1, 0);
    fake_send_frame(broker, conn, OP_ACK, FRAME_PUSH, 0, &w, 0);
}

static bool strike(struct fake_broker *broker, uint16_t op, struct fake_rule *rule)
{
    for (uint32_t i = 0; i < broker->rule_count; i++) {
        struct fake_rule *candidate = &broker->rules[i];
        if (candidate->op != op || candidate->count == 0)
            continue;
        if (candidate->skip > 0) {
            candidate->skip--;
            return false;
        }
        candidate->count--;
        *rule = *candidate;
        return true;
    }
    return false;
}

static void answer(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                   bool silent)
{
    struct writer w = fake_begin(broker);
    struct msg_credit credit;
    struct fake_subscription *subscription;
    switch (frame->op) {
    case OP_PRODUCE:
        fake_on_produce(broker, conn, frame, silent);
        return;
    case OP_HELLO:
        fake_on_hello(broker, conn, frame);
        return;
    case OP_SUBSCRIBE:
        fake_on_subscribe(broker, conn, frame);
        return;
    case OP_TOPIC_CREATE:
    case OP_TOPIC_DELETE:
        fake_on_topic(broker, conn, frame, silent);
        return;
    case OP_CREDIT:
        ASSERT(read_credit(frame, &credit) == PE_NONE);
        subscription = fake_find_subscription(conn, credit.subscription);
        if (subscription)
            subscription->credit += credit.bytes;
        return;
    case OP_METADATA:
        fake_on_metadata(broker, conn, frame, &w);
        break;
    case OP_PRODUCER_INIT:
        fake_on_producer_init(broker, frame, &w);
        break;
    case OP_OFFSETS:
        fake_on_offsets(broker, frame, &w);
        break;
    case OP_STATUS:
        write_status_reply_begin(&w, true, true, true, "", 1);
        write_status_value(&w, "connections", broker->accepted);
        break;
    case OP_UNSUBSCRIBE:
        ASSERT(read_credit(frame, &credit) == PE_NONE);
        subscription = fake_find_subscription(conn, credit.subscription);
        if (subscription) {
            free(subscription->cursors);
            *subscription = (struct fake_subscription){0};
        }
        break;
    case OP_PING:
        break;
    default: {
        bool is_txn = frame->op >= 32 && frame->op < 48;
        uint16_t error = is_txn ? fake_on_txn(broker, frame, &w) : fake_on_group(broker, frame, &w);
        if (error == PE_NONE)
            break;
        if (!silent)
            fake_send_error(broker, conn, frame, error);
        return;
    }
    }
    if (!silent)
        fake_send_frame(broker, conn, frame->op, FRAME_REPLY, frame->correlation, &w, 0);
}

/* ---- sending ---- */

struct writer fake_begin(struct fake_broker *broker)
{
    return writer_make(broker->out + FRAME_HEADER_SIZE, OUT_BYTES - FRAME_HEADER_SIZE);
}

void fake_send_frame(struct fake_broker *broker, struct fake_conn *conn, uint16_t op, uint8_t flags,
                     uint64_t correlation, struct writer *w, uint32_t data_bytes)
{
    ASSERT(!w->failed);
    uint32_t length = frame_seal(broker->out, op, flags, correlation, writer_length(w), data_bytes);
    fake_send_bytes(conn, broker->out, length);
}

void fake_send_error(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                     uint16_t error)
{
    struct writer w = fake_begin(broker);
    if (frame->op == OP_PRODUCE) {
        struct msg_produce m;
        bool readable = read_produce(frame, &m) == PE_NONE;
        struct msg_produce_result result = {.error = error, .base_offset = UINT64_MAX};
        write_produce_failure_begin(&w, error, NULL, readable ? m.batch_count : 0);
        for (uint32_t i = 0; readable && i < m.batch_count; i++)
            write_produce_result(&w, &result);
    } else {
        write_error(&w, error, "refused by the test");
    }
    fake_send_frame(broker, conn, frame->op, FRAME_REPLY | FRAME_ERROR, frame->correlation, &w, 0);
}

void fake_send_bytes(struct fake_conn *conn, const uint8_t *bytes, size_t len)
{
    while (len > 0 && conn->fd >= 0) {
        ssize_t n = send(conn->fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fake_close_conn(conn);
            return;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

void fake_sleep_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

void fake_wake(struct fake_broker *broker)
{
    uint64_t one = 1;
    if (write(broker->wake_fd, &one, sizeof(one)) < 0)
        ASSERT(errno == EAGAIN);
}
