/* Thousands of connections at once: each says HELLO and publishes through its own raw socket, while one ordinary
 * producer goes on beside them; afterwards all close and the broker is still well.
 *
 *   sluice-connections ADDRESS COUNT TOPIC
 *
 * Raw frames, since a libsluice client each would mean as many threads. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "client/include/sluice.h"
#include "proto/batch.h"
#include "proto/messages.h"

#define FRAME_MAX 65536

static _Noreturn void fail(const char *what, int i)
{
    printf("FAILED: %s (connection %d): %s\n", what, i, strerror(errno));
    exit(1);
}

static void send_all(int fd, const uint8_t *bytes, uint32_t len, int i)
{
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0)
            fail("send", i);
        bytes += sent;
        len -= (uint32_t)sent;
    }
}

static void receive(int fd, uint8_t *bytes, uint32_t len, int i)
{
    while (len > 0) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, 30000) <= 0)
            fail("no answer for 30 s", i);
        ssize_t got = recv(fd, bytes, len, 0);
        if (got <= 0)
            fail("receive", i);
        bytes += got;
        len -= (uint32_t)got;
    }
}

static void receive_frame(int fd, uint8_t *bytes, struct frame *frame, int i)
{
    receive(fd, bytes, 4, i);
    int64_t length = frame_peek(bytes, 4, FRAME_MAX);
    if (length < FRAME_HEADER_SIZE)
        fail("bad frame length", i);
    receive(fd, bytes + 4, (uint32_t)length - 4, i);
    if (frame_decode(bytes, frame) != PE_NONE)
        fail("bad frame", i);
}

static int open_one(const struct address *address, int i)
{
    int fd = socket(address->sockaddr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &address->sockaddr.any, address->len))
        fail("connect", i);
    return fd;
}

static void say_hello(int fd, int i)
{
    uint8_t bytes[1024];
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, sizeof(bytes) - FRAME_HEADER_SIZE);
    write_hello(&w, &(struct msg_hello){.version_min = PROTO_VERSION_MIN,
                                        .version_max = PROTO_VERSION_MAX,
                                        .client_id = slice_of_text("connections"),
                                        .software = slice_of_text("test")});
    send_all(fd, bytes, frame_seal(bytes, OP_HELLO, 0, 1, writer_length(&w), 0), i);
}

static void publish_one(int fd, uint32_t topic_id, int i)
{
    uint8_t bytes[1024];
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, 256);
    write_produce_begin(&w, 1, 0);
    uint8_t *item = w.at;
    write_produce_item(&w, topic_id, 0, 0);
    uint8_t *data = w.at;
    struct batch_builder builder;
    batch_builder_init(&builder, data, 512);
    char value[32];
    int len = snprintf(value, sizeof(value), "connection %d", i);
    struct record record = {.timestamp_ms = 1, .value = {(uint8_t *)value, (uint32_t)len}};
    if (batch_builder_add(&builder, &record))
        fail("building a batch", i);
    uint8_t *batch;
    uint32_t size = batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, UINT16_MAX,
                                         UINT32_MAX, NULL, 0, &batch);
    struct writer again = writer_make(item, sizeof(struct produce_item));
    write_produce_item(&again, topic_id, 0, size);
    send_all(fd, bytes, frame_seal(bytes, OP_PRODUCE, 0, 1, writer_length(&w), size), i);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct address address;
    int count = atoi(argv[2]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < (rlim_t)count + 64) {
        printf("skipped: %d descriptors are needed, %llu allowed\n", count + 64,
               (unsigned long long)limit.rlim_cur);
        return 77;
    }
    if (address_parse(argv[1], &address) || count < 1)
        return 2;
    struct sluice_client_options options = {.size = sizeof(options), .server = argv[1]};
    struct sluice_client *client;
    struct sluice_topic *topics;
    uint32_t topic_count;
    const char *name = argv[3];
    if (sluice_client_new(&options, &client) || sluice_topic_create(client, name, 1, NULL, 0) ||
        sluice_topic_list(client, &name, 1, &topics, &topic_count))
        fail("making the topic", -1);

    int *fds = calloc((size_t)count, sizeof(*fds));
    uint8_t *bytes = malloc(FRAME_MAX);
    if (!fds || !bytes)
        return 1;
    struct frame frame;
    for (int i = 0; i < count; i++) {
        fds[i] = open_one(&address, i);
        say_hello(fds[i], i);
    }
    for (int i = 0; i < count; i++) {
        receive_frame(fds[i], bytes, &frame, i);
        if (frame.op != OP_HELLO || (frame.flags & FRAME_ERROR))
            fail("HELLO was refused", i);
    }
    for (int i = 0; i < count; i++)
        publish_one(fds[i], topics[0].topic_id, i);
    for (int i = 0; i < count; i++) {
        receive_frame(fds[i], bytes, &frame, i);
        struct msg_ack ack;
        if (frame.op != OP_ACK || read_ack(&frame, &ack) || ack.first != 1 || ack.last != 1)
            fail("no ack", i);
    }
    uint64_t end;
    if (sluice_offset(client, name, 0, SLUICE_START_END, 0, &end) || end != (uint64_t)count)
        fail("not every record is visible", -1);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    struct sluice_broker_status status;
    if (sluice_status(client, &status) || !status.can_produce || !status.can_consume)
        fail("the broker is not well afterwards", -1);
    sluice_status_free(&status);
    sluice_topics_free(topics, topic_count);
    sluice_client_free(client);
    printf("%d connections at once, each acked once\n", count);
    free(fds);
    free(bytes);
    return 0;
}
