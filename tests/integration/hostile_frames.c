/* Attacks on the frame: lengths, cuts, flipped bytes, pieces, order. What the frame carries does not matter here. */
#include "tests/integration/hostile.h"

#include <string.h>

/* ---- lengths ---- */

static void try_length(uint32_t length, bool after_hello)
{
    struct peer peer;
    uint8_t bytes[FRAME_HEADER_SIZE] = {0};
    uint32_t limit = after_hello ? hostile.limits.request_bytes_max : FRAME_BYTES_MAX_BEFORE_HELLO;
    if (after_hello)
        peer_open(&peer, "a length that no frame has");
    else
        peer_connect(&peer, "a length that no frame has, before HELLO");
    ((struct frame_header *)bytes)->length = le32_make(length);
    peer_send(&peer, bytes, length < sizeof(bytes) ? sizeof(bytes) : sizeof(le32));
    peer_expect_error(&peer, length > limit ? PE_REQUEST_TOO_LARGE : PE_MALFORMED, 0, 0);
    peer_expect_end(&peer);
    peer_close(&peer);
}

void attack_lengths(void)
{
    const uint32_t lengths[] = {0,
                                1,
                                4,
                                31,
                                INT32_MAX,
                                UINT32_MAX,
                                (uint32_t)1 << 31,
                                hostile.limits.request_bytes_max + 1};
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        try_length(lengths[i], false);
        try_length(lengths[i], true);
    }
    try_length(FRAME_BYTES_MAX_BEFORE_HELLO + 1, false);
}

/* ---- cuts ---- */

void attack_truncated(void)
{
    uint8_t bytes[2 * SAMPLE_BYTES_MAX];
    struct peer peer;
    struct frame frame;
    for (uint32_t i = 0; i < sample_count; i++) {
        uint32_t hello = make_hello(bytes, 1);
        uint32_t length = samples[i].make(bytes + hello, 1);
        for (uint32_t cut = 1; cut < length; cut++) {
            peer_connect(&peer, samples[i].name);
            peer_send(&peer, bytes, hello + cut);
            if (cut % 3 == 0) {
                peer_reset(&peer);
                continue;
            }
            peer_end_sending(&peer);
            peer_expect_reply(&peer, OP_HELLO, 1, &frame);
            peer_expect_end(&peer);
            peer_close(&peer);
        }
    }
}

/* ---- flipped bytes ---- */

/* Nothing but an error and the end; or just the end, when the frame now looks longer than it is. */
static void expect_refusal(struct peer *peer, uint32_t place)
{
    struct frame frame;
    enum got got = peer_next(peer, &frame, ANSWER_MS);
    if (got == GOT_NOTHING)
        fail("%s with byte %u flipped: no answer", peer->what, place);
    if (got == GOT_END)
        return;
    uint16_t error = error_of(&frame);
    if (error != PE_MALFORMED && error != PE_REQUEST_TOO_LARGE)
        fail("%s with byte %u flipped: %s %s", peer->what, place, op_name(frame.op),
             proto_error_name(error));
    peer_expect_end(peer);
}

void attack_flipped(void)
{
    uint8_t bytes[2 * SAMPLE_BYTES_MAX];
    struct peer peer;
    struct frame frame;
    for (uint32_t i = 0; i < sample_count; i++) {
        uint32_t hello = make_hello(bytes, 1);
        uint8_t *spoiled = bytes + hello;
        uint32_t length = samples[i].make(spoiled, 1);
        uint32_t covered =
            FRAME_HEADER_SIZE + le32_get(((struct frame_header *)spoiled)->meta_length);
        for (uint32_t at = 0; at < covered; at++) {
            uint8_t flip = (uint8_t)(1u << random_below(&hostile.random, 8));
            spoiled[at] ^= flip;
            peer_connect(&peer, samples[i].name);
            peer_send(&peer, bytes, hello + length);
            peer_end_sending(&peer);
            peer_expect_reply(&peer, OP_HELLO, 1, &frame);
            expect_refusal(&peer, at);
            peer_close(&peer);
            spoiled[at] ^= flip;
        }
    }
}

/* ---- pieces ---- */

static void expect_answer(struct peer *peer, const struct sample *sample, uint64_t correlation)
{
    struct frame frame;
    if (!sample->is_answered) {
        peer_expect_alive(peer);
    } else if (sample->op == OP_PRODUCE) {
        peer_expect_ack(peer, correlation);
    } else {
        peer_expect_frame(peer, &frame);
        if (frame.op != sample->op || frame.correlation != correlation ||
            error_of(&frame) != sample->error)
            fail("%s in pieces: %s %s", sample->name, op_name(frame.op),
                 proto_error_name(error_of(&frame)));
    }
}

/* A SUBSCRIBE is taken back, as a connection may have 16. */
static void undo(struct peer *peer, const struct sample *sample, uint64_t correlation)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    if (sample->op != OP_SUBSCRIBE)
        return;
    peer_send(peer, bytes, make_credit(bytes, OP_UNSUBSCRIBE, correlation, 0));
    peer_expect_reply(peer, OP_UNSUBSCRIBE, correlation, &frame);
}

void attack_splits(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    for (uint32_t i = 0; i < sample_count; i++) {
        uint32_t length = samples[i].make(bytes, 1);
        uint64_t number = 1;
        peer_open(&peer, samples[i].name);
        for (uint32_t cut = 1; cut < length; cut++, number++) {
            samples[i].make(bytes, number);
            peer_send(&peer, bytes, cut);
            if (cut % 4 == 0)
                sleep_ms(1); // else the kernel may join them, or not
            peer_send(&peer, bytes + cut, length - cut);
            expect_answer(&peer, &samples[i], number);
            undo(&peer, &samples[i], number);
        }
        samples[i].make(bytes, number);
        for (uint32_t at = 0; at < length; at++)
            peer_send(&peer, bytes + at, 1);
        expect_answer(&peer, &samples[i], number);
        peer_close(&peer);
    }
}

/* ---- many at once ---- */

#define PIPELINED 300u

static bool may_come_often(const struct sample *sample)
{
    return sample->is_answered && sample->op != OP_PRODUCE && sample->op != OP_SUBSCRIBE &&
           sample->op != OP_TOPIC_ALTER; // one change of a topic at a time
}

static void count_answer(struct peer *peer, const struct frame *frame, const uint16_t *errors,
                         bool *answered)
{
    if (frame->op == OP_ACK)
        return; // counted by the caller
    uint64_t number = frame->correlation;
    if (number < 1 || number > PIPELINED || answered[number] || error_of(frame) != errors[number])
        fail("pipelined %s %llu: %s", op_name(frame->op), (unsigned long long)number,
             proto_error_name(error_of(frame)));
    answered[number] = true;
}

void attack_pipelined(void)
{
    static uint8_t bytes[PIPELINED * SAMPLE_BYTES_MAX];
    uint16_t errors[PIPELINED + 1] = {0};
    bool answered[PIPELINED + 1] = {false};
    uint32_t length = 0, expected = 0, publishes = 0;
    struct peer peer;
    for (uint32_t n = 1; n <= PIPELINED; n++) {
        const struct sample *sample = &samples[n % sample_count];
        if (sample->op == OP_PRODUCE) {
            length += make_produce(bytes + length, ++publishes);
        } else if (may_come_often(sample)) {
            length += sample->make(bytes + length, n);
            errors[n] = sample->error;
            expected++;
        }
    }
    peer_open(&peer, "many requests in one piece");
    peer_send(&peer, bytes, length);
    while (expected > 0 || publishes > 0) {
        struct frame frame;
        struct msg_ack ack;
        peer_expect_frame(&peer, &frame);
        count_answer(&peer, &frame, errors, answered);
        if (frame.op == OP_ACK && read_ack(&frame, &ack) == PE_NONE)
            publishes -= (uint32_t)(ack.last - ack.first + 1);
        else
            expected--;
    }
    peer_expect_alive(&peer);
    peer_close(&peer);
}

/* ---- operations, versions, flags ---- */

static void send_header(struct peer *peer, uint16_t op, uint8_t version, uint8_t flags,
                        uint64_t correlation)
{
    uint8_t bytes[FRAME_HEADER_SIZE];
    struct frame_header *header = (struct frame_header *)bytes;
    make_empty(bytes, OP_PING, correlation);
    header->op = le16_make(op);
    header->version = version;
    header->flags = flags;
    reseal_frame(bytes);
    peer_send(peer, bytes, sizeof(bytes));
}

void attack_unknown(void)
{
    static const uint16_t ops[] = {0,  OP_ACK, OP_DELIVER, OP_GOAWAY, 18,   31,    40,
                                   47, 56,     63,         64,        1000, 32768, UINT16_MAX};
    static const uint8_t versions[] = {0, 2, 3, 127, 128, 255};
    struct peer peer;
    peer_open(&peer, "unknown operations");
    for (uint32_t i = 0; i < ARRAY_COUNT(ops); i++) {
        send_header(&peer, ops[i], 1, 0, i);
        peer_expect_error(&peer, PE_UNKNOWN_OPERATION, ops[i], i);
    }
    for (uint32_t k = 0; k < sample_count; k++) {
        for (uint32_t i = 0; i < ARRAY_COUNT(versions); i++) {
            send_header(&peer, samples[k].op, versions[i], 0, i);
            peer_expect_error(&peer, PE_UNSUPPORTED_VERSION, samples[k].op, i);
        }
    }
    peer_expect_alive(&peer);
    peer_close(&peer);
    for (uint32_t flags = 1; flags < 256; flags++) {
        struct frame frame;
        peer_open(&peer, "flags");
        send_header(&peer, OP_PING, 1, (uint8_t)flags, 5);
        peer_expect_frame(&peer, &frame);
        if (error_of(&frame) != PE_MALFORMED)
            fail("flags %u: %s", flags, proto_error_name(error_of(&frame)));
        peer_expect_end(&peer);
        peer_close(&peer);
    }
}

/* ---- order ---- */

void attack_order(void)
{
    uint8_t bytes[2 * SAMPLE_BYTES_MAX];
    struct peer peer;
    for (uint32_t i = 0; i < sample_count; i++) {
        if (samples[i].op == OP_HELLO)
            continue;
        peer_connect(&peer, samples[i].name);
        uint32_t length = samples[i].make(bytes, 1);
        length += make_hello(bytes + length, 2); // comes too late
        peer_send(&peer, bytes, length);
        peer_expect_error(&peer, PE_HELLO_REQUIRED, samples[i].op, 1);
        peer_expect_end(&peer);
        peer_close(&peer);
    }
    peer_open(&peer, "HELLO again and again");
    for (uint64_t n = 2; n < 20; n++) {
        peer_send(&peer, bytes, make_hello(bytes, n));
        peer_expect_error(&peer, PE_INVALID_ARGUMENT, OP_HELLO, n);
    }
    peer_expect_alive(&peer);
    peer_close(&peer);
}
