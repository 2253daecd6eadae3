/* Received frames, each to its owner. Everything is checked before it is believed; a frame that
 * breaks the protocol ends the connection, with the reason as the return value. */
#include "client/calls.h"
#include "client/client_private.h"
#include "client/consumer_private.h"
#include "client/inflight.h"
#include "client/parcel.h"
#include "proto/messages.h"

#define FETCH_AHEAD 4 // publishes

static const char *hello_reply(struct sluice_client *client, const struct frame *frame);
static void fetch_later(struct publishes *publishes, uint64_t number);
static const char *ack(struct sluice_client *client, const struct frame *frame);
static const char *produce_failure(struct sluice_client *client, const struct frame *frame);
static void answer(struct parcel *parcel, uint16_t error, uint64_t offset);

const char *dispatch_frame(struct sluice_client *client, const uint8_t *bytes, uint32_t length,
                           struct delivery *delivery)
{
    struct frame frame;
    bool intact = frame_decode(bytes, &frame) == PE_NONE && frame.length == length;
    if (delivery && (!intact || frame.op != OP_DELIVER)) {
        consumer_unclaim(delivery);
        return "received a malformed frame";
    }
    if (!intact)
        return "received a malformed frame";
    if (client->connection.state == CONNECTION_HELLO)
        return hello_reply(client, &frame);
    switch (frame.op) {
    case OP_ACK:
        return ack(client, &frame);
    case OP_PRODUCE:
        return produce_failure(client, &frame);
    case OP_DELIVER:
        return consumer_deliver(client, &frame, delivery);
    case OP_GOAWAY: {
        struct msg_goaway goaway;
        if (read_goaway(&frame, &goaway) != PE_NONE)
            return "received a malformed GOAWAY";
        connection_drain(client, goaway.deadline_ms);
        return NULL;
    }
    default:
        if (frame.flags & FRAME_REPLY)
            calls_reply(client, &frame);
        return NULL; // what a newer broker pushes and we don't know is none of our business
    }
}

static const char *hello_reply(struct sluice_client *client, const struct frame *frame)
{
    struct msg_hello_reply reply;
    struct msg_error error;
    if (frame->flags & FRAME_ERROR && read_error(frame, &error) == PE_NONE) {
        bool for_ever = !proto_error_is_retriable(error.error);
        client_set_connect_status(client, for_ever ? SLUICE_E_PROTOCOL : SLUICE_E_CONNECT);
        return proto_error_text(error.error);
    }
    if (frame->op != OP_HELLO || !(frame->flags & FRAME_REPLY) ||
        read_hello_reply(frame, &reply) != PE_NONE || reply.version < PROTO_VERSION_MIN ||
        reply.version > PROTO_VERSION_MAX) {
        client_set_connect_status(client, SLUICE_E_PROTOCOL);
        return "the peer is no Sluice broker, or speaks another version";
    }
    return connection_hello_reply(client, &reply);
}

/* Publishes whose answers come a little later: first the parcel, then what only the parcel tells, where its pointers are. */
static void fetch_later(struct publishes *publishes, uint64_t number)
{
    const struct publish *far = publishes_find(publishes, number + 2 * FETCH_AHEAD);
    const struct publish *near = publishes_find(publishes, number + FETCH_AHEAD);
    if (far)
        parcel_fetch(far->first);
    if (near)
        __builtin_prefetch(parcel_opaque(near->first, 0));
}

/* Numbers first..last are stored; their batches' offsets come in the same order. */
static const char *ack(struct sluice_client *client, const struct frame *frame)
{
    struct publishes *publishes = &client->connection.publishes;
    struct msg_ack m;
    if (read_ack(frame, &m) != PE_NONE)
        return "received a malformed ACK";
    uint32_t left = m.offset_count;
    for (uint64_t number = m.first; number <= m.last; number++) {
        struct publish *publish = publishes_find(publishes, number);
        if (!publish || publish->batch_count > left)
            return "received an ACK for what was not published";
        left -= publish->batch_count;
        struct parcel *parcel = publish->first;
        fetch_later(publishes, number);
        publishes_settle(publishes, number);
        while (parcel) {
            struct parcel *next = parcel->publish_next;
            answer(parcel, PE_NONE, read_ack_offset(&m));
            parcel = next;
        }
    }
    return left == 0 ? NULL : "received an ACK with too many offsets";
}

static const char *produce_failure(struct sluice_client *client, const struct frame *frame)
{
    struct publishes *publishes = &client->connection.publishes;
    struct msg_produce_failure m;
    struct publish *publish = publishes_find(publishes, frame->correlation);
    if (!(frame->flags & FRAME_ERROR) || read_produce_failure(frame, &m) != PE_NONE)
        return "received a malformed answer to PRODUCE";
    if (!publish || (m.batch_count != 0 && m.batch_count != publish->batch_count))
        return "received an answer to what was not published";
    client_log(client, "publish refused: %.*s (%.*s)", (int)m.first.name.len,
               (const char *)m.first.name.bytes, (int)m.first.text.len,
               (const char *)m.first.text.bytes);
    struct parcel *parcel = publish->first;
    publishes_settle(publishes, frame->correlation);
    while (parcel) {
        struct parcel *next = parcel->publish_next;
        struct msg_produce_result result = {.error = m.first.error}; // refused as a whole
        if (m.batch_count != 0)
            read_produce_result(&m, &result);
        answer(parcel, result.error, result.base_offset);
        parcel = next;
    }
    return NULL;
}

static void answer(struct parcel *parcel, uint16_t error, uint64_t offset)
{
    if (parcel->lane)
        inflight_answer(parcel, error, offset);
    else
        publishes_free_ghost(parcel);
}
