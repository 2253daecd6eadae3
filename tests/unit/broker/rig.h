/* A core with connections and no shard: the test plays the client at one end of a socket and the
 * shards at the far end of the mesh, on one thread, turn by turn. */
#ifndef SLUICE_TESTS_BROKER_RIG_H
#define SLUICE_TESTS_BROKER_RIG_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/broker.h"

#define SHARD_CORE 1
#define RIG_REQUESTS_MAX 4096
#define RIG_TURNS_MAX 20000

struct rig {
    struct broker *broker;
    struct config config;
    struct core *core;
    struct mailbox shard;                       // of the core where all shards would be
    struct request *requests[RIG_REQUESTS_MAX]; // arrived at the shards, in order
    uint32_t request_count;
};

struct client {
    int fd;
    uint8_t *in; // received
    size_t in_bytes, in_taken;
    bool at_end, was_reset;
};

#define CLIENT_IN_MAX ((size_t)(32 * MIB))

static void rig_on_request(void *context, struct request *request)
{
    struct rig *rig = context;
    cr_assert_lt(rig->request_count, RIG_REQUESTS_MAX);
    rig->requests[rig->request_count++] = request;
}

static void rig_on_reply(void *context, struct request *request)
{
    struct rig *rig = context; // a delivery came home: the shard's buffer
    free(request->buffer);
    free(request);
    rig->request_count += 0;
}

static void rig_on_inbox(void *context, const struct inbox_message *message)
{
}

static inline struct rig *rig_new(uint16_t shard_count)
{
    log_set_level(LOG_LEVEL_ERROR);
    struct rig *rig = calloc(1, sizeof(*rig));
    rig->broker = calloc(1, sizeof(*rig->broker));
    config_defaults(&rig->config);
    rig->config.cores = 2;
    rig->config.connections_max = 64;
    struct broker *broker = rig->broker;
    broker->config = &rig->config;
    broker->shard_count = shard_count;
    broker->core_count = 2;
    broker->connections_max = 64;
    broker->listen_fd = -1;
    for (uint16_t i = 0; i < shard_count; i++)
        broker->shard_core[i] = SHARD_CORE;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        broker->slot_shard[slot] = (uint16_t)(slot % shard_count);
    broker->mesh = mesh_new(2);
    broker->event_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    broker->cores = aligned_alloc(_Alignof(struct core), 2 * sizeof(struct core));
    memset(broker->cores, 0, 2 * sizeof(struct core));
    rig->core = &broker->cores[0];
    cr_assert_eq(core_init(rig->core, broker, 0), 0);
    mesh_set_io(broker->mesh, SHARD_CORE, rig->core->io);
    cr_assert_eq(mailbox_init(&rig->shard, broker->mesh, SHARD_CORE), 0);
    atomic_store(&rig->core->state, CORE_SERVING);
    return rig;
}

/* One turn of the core that never sleeps: an order without effect makes it look busy. */
static inline void rig_turn(struct rig *rig)
{
    struct inbox_message message = {.kind = INBOX_RELOAD};
    struct mailbox_handler handler = {rig, rig_on_request, rig_on_reply, rig_on_inbox};
    cr_assert(mailbox_post(&rig->core->mailbox, &message));
    (void)core_turn(rig->core);
    (void)mailbox_drain(&rig->shard, &handler);
    mailbox_flush(&rig->shard);
}

static inline void rig_turns(struct rig *rig, int count)
{
    for (int i = 0; i < count; i++)
        rig_turn(rig);
}

static inline struct request *rig_take(struct rig *rig)
{
    for (int i = 0; rig->request_count == 0 && i < RIG_TURNS_MAX; i++)
        rig_turn(rig);
    cr_assert_gt(rig->request_count, 0, "no request arrived");
    struct request *request = rig->requests[0];
    rig->request_count--;
    memmove(rig->requests, rig->requests + 1, rig->request_count * sizeof(request));
    return request;
}

static inline void rig_reply(struct rig *rig, struct request *request)
{
    mailbox_reply(&rig->shard, request);
}

/* Every resource is back where it belongs. */
static inline void rig_check_idle(struct rig *rig)
{
    for (int i = 0; i < 100; i++)
        rig_turn(rig);
    for (int class = 0; class < BUFFER_CLASS_COUNT; class ++)
        cr_assert_eq(rig->core->buffers.classes[class].free_count,
                     rig->core->buffers.classes[class].count, "buffers of class %d leaked", class);
    cr_assert_eq(rig->core->requests.free_count, rig->core->requests.object_count,
                 "requests leaked");
    cr_assert_eq(mailbox_credits(&rig->core->mailbox, SHARD_CORE), MESH_RING_SLOTS,
                 "credits leaked");
}

static inline void rig_free(struct rig *rig)
{
    conns_close_all(&rig->core->conns);
    for (int i = 0; rig->core->conns.open_count > 0 && i < RIG_TURNS_MAX; i++) {
        rig_turn(rig);
        while (rig->request_count > 0)
            rig_reply(rig, rig->requests[--rig->request_count]);
    }
    cr_assert_eq(rig->core->conns.open_count, 0);
    while (rig->request_count > 0)
        rig_reply(rig, rig->requests[--rig->request_count]);
    rig_check_idle(rig);
    core_deinit(rig->core);
    mailbox_deinit(&rig->shard);
    mesh_free(rig->broker->mesh);
    close(rig->broker->event_fd);
    free(rig->broker->cores);
    free(rig->broker);
    free(rig);
}

/* ---- the client ---- */

static inline struct client client_of(int fd)
{
    // Mapped: AddressSanitizer would mark all of a heap block anew for each of thousands of connections.
    uint8_t *in =
        mmap(NULL, CLIENT_IN_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(in != MAP_FAILED);
    return (struct client){.fd = fd, .in = in};
}

static inline struct client client_connect(struct rig *rig)
{
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    atomic_fetch_add(&rig->core->conn_count, 1);
    rig->core->now_ns = clock_mono_ns(clock_system());
    conn_open(&rig->core->conns, fds[0], false);
    return client_of(fds[1]);
}

static inline void client_close(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    if (client->in != NULL)
        munmap(client->in, CLIENT_IN_MAX);
    client->in = NULL;
}

/* Sends all, turning the core while the socket is full. */
static inline void client_send(struct rig *rig, struct client *client, const void *bytes,
                               size_t length)
{
    size_t sent = 0;
    for (int i = 0; sent < length && i < RIG_TURNS_MAX; i++) {
        ssize_t n = send(client->fd, (const uint8_t *)bytes + sent, length - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else
            rig_turn(rig);
    }
    cr_assert_eq(sent, length, "the broker stopped reading");
}

static inline void client_recv(struct client *client)
{
    ssize_t n;
    while ((n = recv(client->fd, client->in + client->in_bytes, CLIENT_IN_MAX - client->in_bytes,
                     0)) > 0)
        client->in_bytes += (size_t)n;
    client->at_end = client->at_end || n == 0;
    client->was_reset = client->was_reset || (n < 0 && errno == ECONNRESET);
}

/* The next frame that the broker sent; false at the end of the connection. */
static inline bool client_next(struct rig *rig, struct client *client, struct frame *frame)
{
    for (int i = 0; i < RIG_TURNS_MAX; i++) {
        uint8_t *bytes = client->in + client->in_taken;
        size_t available = client->in_bytes - client->in_taken;
        int64_t length = frame_peek(bytes, available, UINT32_MAX);
        cr_assert_geq(length, 0);
        if (length > 0 && (size_t)length <= available) {
            cr_assert_eq(frame_decode(bytes, frame), PE_NONE);
            client->in_taken += (size_t)length;
            return true;
        }
        if (client->at_end)
            return false;
        rig_turn(rig);
        client_recv(client);
    }
    cr_assert_fail("the broker sent nothing");
    return false;
}

/* ---- frames ---- */

struct wire {
    uint8_t *bytes;
    size_t length, capacity;
};

static inline struct wire wire_with_room(size_t bytes)
{
    return (struct wire){.bytes = malloc(bytes), .capacity = bytes};
}

static inline struct wire wire_new(void)
{
    return wire_with_room(24 * MIB);
}

static inline struct writer wire_meta(struct wire *wire)
{
    return writer_make(wire->bytes + wire->length + FRAME_HEADER_SIZE,
                       wire->capacity - wire->length - FRAME_HEADER_SIZE);
}

static inline void wire_seal(struct wire *wire, const struct writer *w, uint16_t op, uint8_t flags,
                             uint64_t correlation, const void *data, uint32_t data_length)
{
    cr_assert(!w->failed);
    uint8_t *bytes = wire->bytes + wire->length;
    uint32_t meta_length = writer_length(w);
    uint32_t length = frame_seal(bytes, op, flags, correlation, meta_length, data_length);
    if (data_length > 0)
        memcpy(bytes + FRAME_HEADER_SIZE + meta_length, data, data_length);
    wire->length += length;
}

static inline void wire_hello(struct wire *wire)
{
    struct msg_hello m = {.version_min = 1,
                          .version_max = 1,
                          .client_id = slice_of_text("test"),
                          .software = slice_of_text("rig")};
    struct writer w = wire_meta(wire);
    write_hello(&w, &m);
    wire_seal(wire, &w, OP_HELLO, 0, 7, NULL, 0);
}

static inline void wire_empty(struct wire *wire, uint16_t op, uint64_t correlation)
{
    struct writer w = wire_meta(wire);
    wire_seal(wire, &w, op, 0, correlation, NULL, 0);
}

/* One batch of `bytes` bytes of any content for each named partition of topic 1. */
static inline void wire_produce(struct wire *wire, uint64_t number, const uint32_t *partitions,
                                uint16_t count, uint32_t bytes)
{
    uint8_t *data = malloc((size_t)bytes * count + 1);
    for (size_t i = 0; i < (size_t)bytes * count; i++)
        data[i] = (uint8_t)(number * 31 + i);
    struct writer w = wire_meta(wire);
    write_produce_begin(&w, count, 0);
    for (uint16_t i = 0; i < count; i++)
        write_produce_item(&w, 1, partitions[i], bytes);
    wire_seal(wire, &w, OP_PRODUCE, 0, number, data, bytes * count);
    free(data);
}

static inline void wire_produce_one(struct wire *wire, uint64_t number, uint32_t bytes)
{
    uint32_t partition = 0;
    wire_produce(wire, number, &partition, 1, bytes);
}

/* HELLO and its answer. */
static inline struct client client_hello(struct rig *rig)
{
    struct client client = client_connect(rig);
    struct wire wire = wire_with_room(4 * KIB);
    struct frame frame;
    wire_hello(&wire);
    client_send(rig, &client, wire.bytes, wire.length);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.op, OP_HELLO);
    cr_assert_eq(frame.flags, FRAME_REPLY);
    free(wire.bytes);
    return client;
}

/* As a shard answers: base offset = 1000 * publish number + index, or an error for all of one
 * publish. */
static inline void rig_answer_produce(struct rig *rig, struct request *request, uint64_t failing,
                                      uint16_t error)
{
    cr_assert_eq(request->op, OP_PRODUCE);
    uint32_t at = 0, count = 0;
    while (at < request->frame_bytes) {
        uint8_t *bytes = request->frames + at;
        struct frame_header *header = (struct frame_header *)bytes;
        uint64_t number = le64_get(header->correlation);
        struct produce_outcome *outcomes =
            (struct produce_outcome *)(bytes + FRAME_HEADER_SIZE + PRODUCE_META_FIXED);
        le16 items;
        memcpy(&items, bytes + FRAME_HEADER_SIZE, sizeof(items));
        for (uint16_t i = 0; i < le16_get(items); i++) {
            if (le16_get(outcomes[i].shard) != request->shard)
                continue;
            outcomes[i].base_offset = le64_make(number * 1000 + i);
            if (number == failing) {
                outcomes[i].error = le16_make(error);
                request->error = error;
            }
        }
        at += le32_get(header->length);
        count++;
    }
    cr_assert_eq(at, request->frame_bytes);
    cr_assert_eq(count, request->frame_count);
    request->lsn = 4096 * le64_get(((struct frame_header *)request->frames)->correlation);
    rig_reply(rig, request);
}

#endif
