/* What tests of a connection say and expect, over the rig: frames of the client, answers and
 * deliveries of the shards. */
#ifndef SLUICE_TESTS_BROKER_CONN_FIXTURE_H
#define SLUICE_TESTS_BROKER_CONN_FIXTURE_H

#include "rig.h"

static inline void send_wire(struct rig *rig, struct client *client, struct wire *wire)
{
    client_send(rig, client, wire->bytes, wire->length);
    wire->length = 0;
}

static inline void expect_ack(struct rig *rig, struct client *client, uint64_t first, uint64_t last)
{
    struct frame frame;
    struct msg_ack ack;
    cr_assert(client_next(rig, client, &frame));
    cr_assert_eq(frame.op, OP_ACK, "%s came", op_name(frame.op));
    cr_assert_eq(read_ack(&frame, &ack), PE_NONE);
    cr_assert_eq(ack.first, first, "%lu", ack.first);
    cr_assert_eq(ack.last, last, "%lu", ack.last);
    for (uint64_t number = first; number <= last; number++)
        cr_assert_eq(read_ack_offset(&ack), number * 1000);
}

static inline void expect_reply(struct rig *rig, struct client *client, uint16_t op,
                                uint64_t correlation, struct frame *frame)
{
    cr_assert(client_next(rig, client, frame));
    cr_assert_eq(frame->op, op, "%s came", op_name(frame->op));
    cr_assert_eq(frame->flags, FRAME_REPLY);
    cr_assert_eq(frame->correlation, correlation);
}

static inline uint16_t expect_error(struct rig *rig, struct client *client, uint16_t op)
{
    struct frame frame;
    struct msg_error m;
    cr_assert(client_next(rig, client, &frame));
    cr_assert_eq(frame.op, op, "%s came", op_name(frame.op));
    cr_assert_eq(frame.flags, FRAME_REPLY | FRAME_ERROR);
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    return m.error;
}

/* Two publishes in requests of their own: something between them ends the run. */
static inline void send_apart(struct rig *rig, struct client *client, uint64_t count)
{
    struct wire wire = wire_new();
    struct frame frame;
    for (uint64_t number = 1; number <= count; number++) {
        wire_produce_one(&wire, number, 50);
        wire_empty(&wire, OP_PING, number);
    }
    send_wire(rig, client, &wire);
    for (uint64_t number = 1; number <= count; number++)
        expect_reply(rig, client, OP_PING, number, &frame);
    free(wire.bytes);
}

/* Partitions of topic 1, one for each shard. */
static inline void partitions_of_shards(const struct rig *rig, uint32_t *partitions)
{
    uint64_t found = 0, all = ((uint64_t)1 << rig->broker->shard_count) - 1;
    for (uint32_t partition = 0; found != all; partition++) {
        uint16_t shard = shard_of_partition(rig->broker->slot_shard, 1, partition);
        if (!(found & ((uint64_t)1 << shard)))
            partitions[shard] = partition;
        found |= (uint64_t)1 << shard;
    }
}

static inline struct conn *only_conn(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->core->conns.slot_count; i++) {
        if (rig->core->conns.slots[i].phase != CONN_FREE)
            return &rig->core->conns.slots[i];
    }
    cr_assert_fail("no connection");
    return NULL;
}

static inline void wire_fetch(struct wire *wire, uint16_t op, uint64_t correlation, uint64_t credit,
                              const uint32_t *partitions, uint32_t count)
{
    struct writer w = wire_meta(wire);
    write_fetch_begin(&w, 1 << 20, 0, credit, count);
    for (uint32_t i = 0; i < count; i++)
        write_fetch_item(&w, 1, partitions[i], START_BEGINNING, 0, 0);
    wire_seal(wire, &w, op, 0, correlation, NULL, 0);
}

static inline void wire_credit(struct wire *wire, uint16_t op, uint64_t subscription,
                               uint64_t bytes)
{
    struct msg_credit m = {.subscription = subscription, .bytes = bytes};
    struct writer w = wire_meta(wire);
    write_credit(&w, &m);
    wire_seal(wire, &w, op, 0, 77, NULL, 0);
}

/* As a shard: a buffer with one DELIVER frame of that many bytes of meta. */
static inline struct request *deliver(struct rig *rig, struct conn_id conn, uint16_t shard,
                                      uint64_t subscription, uint32_t bytes)
{
    struct request *request = calloc(1, sizeof(*request));
    request->buffer = calloc(1, sizeof(struct buffer) + FRAME_HEADER_SIZE + bytes);
    request->buffer->bytes = (uint8_t *)(request->buffer + 1);
    list_init(&request->link);
    request->magic = REQUEST_MAGIC;
    request->kind = REQUEST_DELIVER;
    request->origin_core = SHARD_CORE;
    request->target_core = 0;
    request->shard = shard;
    request->conn = conn;
    request->frames = request->buffer->bytes;
    request->frame_count = 1;
    request->u.deliver.subscription = subscription;
    request->frame_bytes =
        frame_seal(request->frames, OP_DELIVER, FRAME_PUSH, subscription, bytes, 0);
    cr_assert_eq(mailbox_send(&rig->shard, request), 0);
    return request;
}

static inline uint64_t credit_of(const struct request *request)
{
    struct frame frame;
    struct msg_credit m;
    cr_assert_eq(request->op, OP_CREDIT);
    cr_assert_eq(frame_decode(request->frames, &frame), PE_NONE);
    cr_assert_eq(read_credit(&frame, &m), PE_NONE);
    return m.bytes;
}

static inline void wire_offsets(struct wire *wire, uint64_t correlation, const uint32_t *partitions,
                                uint32_t count)
{
    struct writer w = wire_meta(wire);
    write_offsets_begin(&w, count);
    for (uint32_t i = 0; i < count; i++)
        write_fetch_item(&w, 1, partitions[i], START_END, 0, 0);
    wire_seal(wire, &w, OP_OFFSETS, 0, correlation, NULL, 0);
}

static inline void finish(struct rig *rig, struct client *client, struct wire *wire)
{
    client_close(client);
    free(wire->bytes);
    rig_free(rig);
}

#endif
