/* Attacks by endings and by numbers: peers that vanish at any moment, that never read, that send a byte now and then,
 * that let requests wait. Meanwhile the healthy client must get on. */
#include "tests/integration/hostile.h"

#include <stdlib.h>
#include <string.h>

/* ---- endings ---- */

static void end_somehow(struct peer *peer, uint64_t choice)
{
    struct frame frame;
    switch (choice) {
    case 0:
        peer_reset(peer);
        return;
    case 1:
        peer_close(peer);
        return;
    default: // half: what was asked is answered, then the end
        peer_end_sending(peer);
        for (;;) {
            enum got got = peer_next(peer, &frame, ANSWER_MS);
            if (got == GOT_NOTHING)
                fail("%s: who ends its side is not let go", peer->what);
            if (got == GOT_END)
                break;
        }
        peer_close(peer);
    }
}

/* Some requests, cut somewhere, and gone: in the middle of frames, of answers, of deliveries. */
void attack_endings(void)
{
    uint8_t bytes[20 * SAMPLE_BYTES_MAX];
    struct random *random = &hostile.random;
    for (int round = 0; round < 300; round++) {
        struct peer peer;
        uint32_t length = make_hello(bytes, 1);
        uint64_t number = 1, count = random_below(random, 12);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t which = random_below(random, sample_count + 3);
            if (which >= sample_count)
                length +=
                    make_fetch(bytes + length, which == sample_count ? OP_FETCH : OP_SUBSCRIBE,
                               100 + i, UINT32_MAX, 1000, UINT64_MAX);
            else if (samples[which].op == OP_PRODUCE)
                length += make_produce(bytes + length, number++);
            else if (samples[which].op != OP_HELLO)
                length += samples[which].make(bytes + length, 100 + i);
        }
        if (random_below(random, 2))
            length -= (uint32_t)random_below(random, length);
        peer_connect(&peer, "connections that end");
        peer_send(&peer, bytes, length);
        if (random_below(random, 2))
            sleep_ms((uint32_t)random_below(random, 4));
        end_somehow(&peer, random_below(random, 3));
    }
}

/* ---- zero window ---- */

static void send_what_fits(struct peer *peer, const uint8_t *bytes, uint32_t length, uint32_t most)
{
    for (uint32_t sent = 0; sent + length <= most; sent += length) {
        uint32_t n = peer_send_some(peer, bytes, length);
        while (n > 0 && n < length) { // the rest of a frame that was begun
            uint32_t more = peer_send_some(peer, bytes + n, length - n);
            if (more == 0)
                return;
            n += more;
        }
        if (n == 0)
            return;
    }
}

/* Each in its own way: streams, single fetches, lists of topics, answers to small questions. */
static void begin_not_reading(struct peer *peer, int kind)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    uint32_t length;
    peer_open(peer, "peers that never read");
    switch (kind) {
    case 0:
        for (uint64_t id = 1; id <= 16; id++) {
            length = make_fetch(bytes, OP_SUBSCRIBE, id, 0, 0, UINT64_MAX);
            send_what_fits(peer, bytes, length, length);
        }
        return;
    case 1:
        for (uint64_t n = 1; n <= 256; n++) {
            length = make_fetch(bytes, OP_FETCH, n, UINT32_MAX, 0, 0);
            send_what_fits(peer, bytes, length, length);
        }
        return;
    case 2: {
        struct writer w = meta_writer(bytes, sizeof(bytes));
        write_metadata_begin(&w, METADATA_ALL, slice_of_text(""));
        length = frame_seal(bytes, OP_METADATA, 0, 5, writer_length(&w), 0);
        send_what_fits(peer, bytes, length, 500 * length);
        return;
    }
    default:
        length = make_empty(bytes, kind == 3 ? OP_STATUS : OP_PING, 5);
        send_what_fits(peer, bytes, length, 4000000);
        return;
    }
}

void attack_zero_window(void)
{
    enum { PEERS = 120 };
    struct peer peers[PEERS];
    for (int i = 0; i < PEERS; i++)
        begin_not_reading(&peers[i], i % 5);
    healthy_round("peers that never read");
    healthy_round("peers that never read");
    for (int i = 0; i < PEERS; i++)
        peer_reset(&peers[i]);
}

/* ---- slow ones ---- */

/* More of them than there are buffers, each in the middle of a frame: of its header, or of a body of that length. */
static void attack_slow_with(uint32_t body_bytes)
{
    enum { PEERS = 1300, ROUNDS = 6 };
    static struct peer peers[PEERS];
    uint8_t bytes[SAMPLE_BYTES_MAX] = {0};
    uint32_t sent = make_hello(bytes, 1);
    struct writer w = meta_writer(bytes + sent, 256);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, hostile.victim_id, 0, body_bytes);
    frame_seal(bytes + sent, OP_PRODUCE, 0, 1, writer_length(&w), body_bytes);
    sent += body_bytes > 0 ? FRAME_HEADER_SIZE : 1;
    for (int i = 0; i < PEERS; i++) {
        peer_connect(&peers[i], "slow peers");
        peer_send(&peers[i], bytes, sent);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PEERS; i++)
            (void)peer_send_some(&peers[i], bytes + sent + round, 1); // may have been closed by now
        sleep_ms(200);
    }
    healthy_round("peers that send a byte now and then");
    for (int i = 0; i < PEERS; i++)
        peer_close(&peers[i]);
}

void attack_slow(void)
{
    attack_slow_with(0);
    attack_slow_with(200000);
    attack_slow_with(1000000);
}

/* ---- waiting ---- */

/* As many requests as connections may have, all of which wait for records that never come. */
void attack_waiting(void)
{
    enum { PEERS = 60, EACH = 250 };
    struct peer peers[PEERS];
    uint8_t bytes[SAMPLE_BYTES_MAX];
    uint64_t end = victim_end(1);
    for (int i = 0; i < PEERS; i++) {
        peer_open(&peers[i], "fetches that wait");
        for (uint64_t n = 1; n <= EACH; n++) {
            struct writer w = meta_writer(bytes, sizeof(bytes));
            write_fetch_begin(&w, UINT32_MAX, FETCH_WAIT_MS_MAX, 0, 1);
            write_fetch_item(&w, hostile.victim_id, 1, START_OFFSET, 0, end);
            uint32_t length = frame_seal(bytes, OP_FETCH, 0, n, writer_length(&w), 0);
            send_what_fits(&peers[i], bytes, length, length);
        }
    }
    healthy_round("fetches that wait");
    healthy_round("fetches that wait");
    for (int i = 0; i < PEERS; i++)
        peer_close(&peers[i]);
}
