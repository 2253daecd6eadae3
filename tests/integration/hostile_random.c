/* Random attacks: valid sessions, mutated. Half of them get right checksums again, so that the damage goes deeper than
 * the frame; half of those with publishes get right CRCs, too. The broker may answer anything that is
 * well-formed (peer_next() checks) or end the connection; what it must not do is stop. */
#include "tests/integration/hostile.h"

#include <stdlib.h>
#include <string.h>

#define SESSION_BYTES_MAX (32 * SAMPLE_BYTES_MAX)
#define SESSION_FRAMES_MAX 24

struct session {
    uint8_t bytes[2 * SESSION_BYTES_MAX];
    uint32_t length;
    uint32_t frames[SESSION_FRAMES_MAX + 1]; // where each begins
    uint32_t frame_count;
};

static uint32_t dice(uint32_t sides)
{
    return (uint32_t)random_below(&hostile.random, sides);
}

/* Under a name that one of the first transactions of the run may have had. */
static uint32_t make_staged(uint8_t *bytes, uint64_t number)
{
    struct txn txn = {.producer_id = dice(100),
                      .epoch = (uint16_t)dice(3),
                      .coordinator = dice(4),
                      .open_lsn = 4096ull * dice(100)};
    return txn_make_stage(bytes, &txn, number, dice(LEDGER_PARTITIONS), dice(3));
}

static void make_session(struct session *session)
{
    uint64_t number = 1;
    uint32_t count = 1 + dice(SESSION_FRAMES_MAX - 1);
    session->length = make_hello(session->bytes, 1);
    session->frames[0] = 0;
    session->frame_count = 1;
    while (session->frame_count < count) {
        uint8_t *at = session->bytes + session->length;
        const struct sample *sample = &samples[dice(sample_count)];
        session->frames[session->frame_count++] = session->length;
        if (sample->op == OP_PRODUCE && dice(2))
            session->length += make_staged(at, number++);
        else if (sample->op == OP_PRODUCE)
            session->length += make_produce(at, number++);
        else if (dice(4) == 0)
            session->length += make_fetch(at, dice(2) ? OP_FETCH : OP_SUBSCRIBE, 1 + dice(5),
                                          1u << dice(32), dice(100), 1u << dice(32));
        else
            session->length += sample->make(at, 1 + dice(5));
    }
    session->frames[session->frame_count] = session->length;
}

static void change_byte(uint8_t *bytes, uint32_t length)
{
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    uint32_t at = dice(length);
    bytes[at] = dice(2) ? (uint8_t)(bytes[at] ^ 1u << dice(8)) : values[dice(ARRAY_COUNT(values))];
}

/* No publish goes to the healthy client's topic. */
static void spare_the_healthy(uint8_t *meta, uint32_t body)
{
    bool staged = meta[2] & PRODUCE_STAGED;
    uint32_t at = PRODUCE_META_FIXED + (staged ? PRODUCE_META_STAGED : 0);
    if (at + sizeof(struct produce_item) <= body)
        ((struct produce_item *)(meta + at))->topic_id = le32_make(hostile.victim_id);
}

/* Inside of its bounds, which stay; then the checksums are made right again. */
static void mutate_inside(struct session *session)
{
    uint32_t i = dice(session->frame_count), changes = 1 + dice(4);
    uint8_t *frame = session->bytes + session->frames[i];
    struct frame_header *header = (struct frame_header *)frame;
    uint32_t meta = le32_get(header->meta_length),
             body = le32_get(header->length) - FRAME_HEADER_SIZE;
    for (; changes > 0; changes--) {
        if (body == 0 || dice(8) == 0)
            change_byte(frame + 4, 12); // operation, version, flags, correlation
        else
            change_byte(frame + FRAME_HEADER_SIZE, body);
    }
    if (le16_get(header->op) == OP_PRODUCE)
        spare_the_healthy(frame + FRAME_HEADER_SIZE, body);
    if (body - meta >= BATCH_HEADER_SIZE && dice(2))
        reseal_batch(frame + FRAME_HEADER_SIZE + meta, body - meta);
    reseal_frame(frame);
}

/* Anything anywhere: changed, removed, doubled, moved. */
static void mutate_bytes(struct session *session)
{
    uint32_t from = dice(session->length), to = dice(session->length);
    uint32_t len = 1 + dice((uint32_t)min_u64(200, session->length - (from > to ? from : to)));
    switch (dice(4)) {
    case 0:
        change_byte(session->bytes, session->length);
        return;
    case 1:
        memmove(session->bytes + from, session->bytes + from + len, session->length - from - len);
        session->length -= len;
        return;
    case 2:
        memmove(session->bytes + from + len, session->bytes + from, session->length - from);
        session->length += len;
        return;
    default:
        memmove(session->bytes + to, session->bytes + from, len);
        return;
    }
}

static void mutate(struct session *session)
{
    bool inside = dice(2);
    for (uint32_t i = 1 + dice(inside ? 6 : 3); i > 0 && session->length > 1; i--) {
        if (session->length > SESSION_BYTES_MAX)
            return;
        if (inside)
            mutate_inside(session);
        else
            mutate_bytes(session);
    }
}

static void play(struct session *session)
{
    struct peer peer;
    struct frame frame;
    uint32_t sent = 0, pieces = 1 + dice(4);
    peer_connect(&peer, "random mutations");
    for (; pieces > 0; pieces--) {
        uint32_t len = pieces == 1 ? session->length - sent : dice(session->length - sent + 1);
        if (!peer_send(&peer, session->bytes + sent, len))
            break;
        sent += len;
        while (peer_next(&peer, &frame, 0) == GOT_FRAME)
            ;
    }
    if (dice(4) == 0) {
        peer_reset(&peer);
        return;
    }
    if (dice(2))
        peer_end_sending(&peer);
    for (uint32_t wait = 1 + dice(3); peer_next(&peer, &frame, (int)wait) == GOT_FRAME;)
        ;
    peer_close(&peer);
}

void attack_random(uint32_t ms)
{
    uint64_t deadline = now_ms() + ms;
    struct session *session = malloc(sizeof(*session));
    if (!session)
        fail("out of memory");
    while (now_ms() < deadline) {
        make_session(session);
        mutate(session);
        play(session);
    }
    free(session);
}
