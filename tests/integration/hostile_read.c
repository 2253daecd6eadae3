/* Attacks on reading: places that don't exist, more subscriptions, partitions and credit than make sense, and fetches
 * of everything at once. */
#include "tests/integration/hostile.h"

#include <stdlib.h>
#include <string.h>

struct item {
    uint32_t topic_more, partition;
    uint8_t start;
    uint64_t value;
};

static void write_item(struct writer *w, const struct item *item)
{
    write_fetch_item(w, hostile.victim_id + item->topic_more, item->partition, item->start, 0,
                     item->value);
}

static uint32_t make_read(uint8_t *bytes, uint16_t op, uint64_t correlation, uint64_t credit,
                          const struct item *items, uint32_t count)
{
    struct writer w = meta_writer(bytes, FRAME_HEADER_SIZE + 24 + count * 24);
    if (op == OP_OFFSETS)
        write_offsets_begin(&w, count);
    else
        write_fetch_begin(&w, 65536, 0, credit, count);
    for (uint32_t i = 0; i < count; i++)
        write_item(&w, &items[i]);
    if (w.failed)
        fail("a request to read does not fit");
    return frame_seal(bytes, op, 0, correlation, writer_length(&w), 0);
}

/* ---- places ---- */

static void try_place(struct peer *peer, struct item item, uint16_t error, uint16_t other_error)
{
    static const uint16_t ops[] = {OP_FETCH, OP_SUBSCRIBE};
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        peer_send(peer, bytes, make_read(bytes, ops[i], 5, 0, &item, 1));
        peer_expect_frame(peer, &frame);
        uint16_t got = error_of(&frame);
        if (frame.op != ops[i] || (got != error && got != other_error))
            fail("%s of partition %u, start %u, value %llu: %s", op_name(ops[i]), item.partition,
                 item.start, (unsigned long long)item.value, proto_error_name(got));
    }
}

/* OFFSETS answers for each item. */
static void attack_offsets(struct peer *peer)
{
    const struct item items[] = {{0, 0, START_OFFSET, UINT64_MAX},
                                 {0, VICTIM_PARTITIONS, START_END, 0},
                                 {INT32_MAX, 0, START_END, 0},
                                 {0, 0, START_TIMESTAMP, UINT64_MAX},
                                 {0, 0, START_TIMESTAMP, INT64_MAX}};
    static const uint16_t errors[] = {PE_OFFSET_OUT_OF_RANGE, PE_UNKNOWN_PARTITION,
                                      PE_UNKNOWN_PARTITION, PE_NONE, PE_NONE};
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct msg_offsets_reply reply;
    peer_send(peer, bytes, make_read(bytes, OP_OFFSETS, 6, 0, items, ARRAY_COUNT(items)));
    peer_expect_reply(peer, OP_OFFSETS, 6, &frame);
    if (read_offsets_reply(&frame, &reply) || reply.item_count != ARRAY_COUNT(items))
        fail("OFFSETS: not an answer for each item");
    for (size_t i = 0; i < ARRAY_COUNT(items); i++) {
        uint16_t error = le16_get(reply.items[i].error);
        if (error != errors[i] && !(error == PE_UNKNOWN_TOPIC && errors[i] == PE_UNKNOWN_PARTITION))
            fail("OFFSETS item %zu: %s", i, proto_error_name(error));
    }
}

static void attack_kinds(struct peer *peer)
{
    static const uint16_t ops[] = {OP_FETCH, OP_SUBSCRIBE, OP_OFFSETS};
    uint8_t bytes[SAMPLE_BYTES_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        for (uint32_t start = START_TIMESTAMP + 1; start < 256; start++) {
            struct item item = {.start = (uint8_t)start};
            peer_send(peer, bytes, make_read(bytes, ops[i], 7, 0, &item, 1));
            peer_expect_error(peer, PE_INVALID_ARGUMENT, ops[i], 7);
        }
        peer_send(peer, bytes, make_read(bytes, ops[i], 7, 0, NULL, 0));
        peer_expect_error(peer, PE_INVALID_ARGUMENT, ops[i], 7);
    }
}

void attack_reading(void)
{
    struct peer peer;
    peer_open(&peer, "reading where nothing is");
    try_place(&peer, (struct item){0, VICTIM_PARTITIONS, START_END, 0}, PE_UNKNOWN_PARTITION,
              PE_UNKNOWN_TOPIC);
    try_place(&peer, (struct item){0, UINT32_MAX, START_END, 0}, PE_UNKNOWN_PARTITION,
              PE_UNKNOWN_TOPIC);
    try_place(&peer, (struct item){INT32_MAX, 0, START_END, 0}, PE_UNKNOWN_TOPIC,
              PE_UNKNOWN_PARTITION);
    try_place(&peer, (struct item){0, 0, START_OFFSET, UINT64_MAX}, PE_OFFSET_OUT_OF_RANGE,
              PE_OFFSET_OUT_OF_RANGE);
    try_place(&peer, (struct item){0, 0, START_OFFSET, victim_end(0) + 1}, PE_OFFSET_OUT_OF_RANGE,
              PE_OFFSET_OUT_OF_RANGE);
    attack_offsets(&peer);
    attack_kinds(&peer);
    peer_expect_alive(&peer);
    peer_close(&peer);
}

/* ---- subscriptions ---- */

static void attack_subscription_ids(struct peer *peer)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    peer_send(peer, bytes, make_fetch(bytes, OP_SUBSCRIBE, 0, 0, 0, 0));
    peer_expect_error(peer, PE_INVALID_ARGUMENT, OP_SUBSCRIBE, 0);
    for (uint64_t id = 1; id <= 16; id++) {
        peer_send(peer, bytes, make_fetch(bytes, OP_SUBSCRIBE, id, 0, 0, 0));
        peer_expect_reply(peer, OP_SUBSCRIBE, id, &frame);
    }
    peer_send(peer, bytes, make_fetch(bytes, OP_SUBSCRIBE, 16, 0, 0, 0));
    peer_expect_error(peer, PE_INVALID_ARGUMENT, OP_SUBSCRIBE, 16);
    peer_send(peer, bytes, make_fetch(bytes, OP_SUBSCRIBE, 17, 0, 0, 0));
    peer_expect_error(peer, PE_LIMIT_REACHED, OP_SUBSCRIBE, 17);
    peer_send(peer, bytes, make_credit(bytes, OP_UNSUBSCRIBE, 17, 0));
    peer_expect_error(peer, PE_UNKNOWN_SUBSCRIPTION, OP_UNSUBSCRIBE, 17);
    for (uint64_t id = 1; id <= 16; id++) {
        peer_send(peer, bytes, make_credit(bytes, OP_UNSUBSCRIBE, id, UINT64_MAX));
        peer_expect_reply(peer, OP_UNSUBSCRIBE, id, &frame);
    }
}

/* Takes DELIVER frames until the records up to `end` were there. */
static void read_all(struct peer *peer, uint64_t id, uint64_t end)
{
    struct frame frame;
    struct msg_deliver m;
    for (uint64_t next = 0; next < end;) {
        peer_expect_frame(peer, &frame);
        if (frame.op != OP_DELIVER || frame.correlation != id || read_deliver(&frame, &m) ||
            m.item_count != 1 || le16_get(m.items[0].error))
            fail("%s: %s came instead of records", peer->what, op_name(frame.op));
        if (le64_get(m.items[0].next_offset) <= next)
            fail("%s: reading does not get on", peer->what);
        next = le64_get(m.items[0].next_offset);
    }
}

static void attack_credit(struct peer *peer)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    uint64_t end = victim_end(0);
    peer->what = "credit beyond all bounds";
    peer_send(peer, bytes, make_fetch(bytes, OP_SUBSCRIBE, 30, 0, 0, 0));
    peer_expect_reply(peer, OP_SUBSCRIBE, 30, &frame);
    for (uint64_t credit = 0; credit < DELIVER_META_FIXED; credit++)
        peer_send(peer, bytes,
                  make_credit(bytes, OP_CREDIT, 30, credit)); // too little for anything
    peer_expect_alive(peer);
    for (int i = 0; i < 50; i++)
        peer_send(peer, bytes, make_credit(bytes, OP_CREDIT, 30, UINT64_MAX - 5));
    read_all(peer, 30, end);
    peer_send(peer, bytes, make_credit(bytes, OP_UNSUBSCRIBE, 30, 0));
    peer_expect_reply(peer, OP_UNSUBSCRIBE, 30, &frame);
}

/* As many partitions as a frame may name. The same one twice would be read twice for nothing. */
static void attack_many_items(struct peer *peer)
{
    uint32_t count = FETCH_ITEM_COUNT_MAX + 1;
    struct item *items = calloc(count, sizeof(*items));
    uint8_t *bytes = malloc(64 + (size_t)count * 24);
    if (!items || !bytes)
        fail("out of memory");
    peer->what = "the same partition many times";
    for (uint32_t i = 0; i < count; i++)
        items[i].start = START_END;
    for (uint32_t n = 2; n < count; n = n * 8 < count ? n * 8 : n * 2) {
        peer_send(peer, bytes, make_read(bytes, OP_SUBSCRIBE, 40, UINT64_MAX, items, n));
        peer_expect_error(peer, PE_INVALID_ARGUMENT, OP_SUBSCRIBE, 40);
    }
    peer_send(peer, bytes, make_read(bytes, OP_SUBSCRIBE, 40, UINT64_MAX, items, count));
    peer_expect_error(peer, PE_INVALID_ARGUMENT, OP_SUBSCRIBE, 40);
    for (uint32_t i = 0; i < count; i++)
        items[i].partition = i;
    peer_send(peer, bytes, make_read(bytes, OP_SUBSCRIBE, 40, UINT64_MAX, items, count - 1));
    peer_expect_error(peer, PE_UNKNOWN_PARTITION, OP_SUBSCRIBE, 40);
    peer_send(peer, bytes, make_read(bytes, OP_OFFSETS, 40, 0, items, count - 1));
    struct frame frame;
    peer_expect_reply(peer, OP_OFFSETS, 40, &frame);
    free(items);
    free(bytes);
}

void attack_subscriptions(void)
{
    struct peer peer;
    peer_open(&peer, "subscriptions");
    attack_subscription_ids(&peer);
    attack_credit(&peer);
    attack_many_items(&peer);
    peer_expect_alive(&peer);
    peer_close(&peer);
}

/* ---- fetches ---- */

/* A frame of 4 MB or so, that many want at once. */
static void fill_victim(void)
{
    uint32_t capacity = 400 * 1024;
    uint8_t *bytes = malloc(capacity), *batch = malloc(capacity), *value = calloc(1, 65536);
    struct peer peer;
    if (!bytes || !batch || !value)
        fail("out of memory");
    peer_open(&peer, "filling the topic");
    uint32_t size = make_batch(batch, capacity, 5, value, 50000);
    for (uint64_t number = 1; number <= 40; number++) {
        peer_send(&peer, bytes, make_publish(bytes, number, batch, size));
        peer_expect_ack(&peer, number);
    }
    peer_close(&peer);
    free(bytes);
    free(batch);
    free(value);
}

void attack_fetches(void)
{
    enum { PEERS = 20, EACH = 50 };
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peers[PEERS];
    struct frame frame;
    fill_victim();
    for (int i = 0; i < PEERS; i++) {
        peer_open(&peers[i], "fetches of 4 GiB");
        for (uint64_t n = 1; n <= EACH; n++)
            peer_send(&peers[i], bytes, make_fetch(bytes, OP_FETCH, n, UINT32_MAX, 0, 0));
    }
    for (int i = 0; i < PEERS; i++) {
        if (i % 4 == 0) {
            peer_reset(&peers[i]);
            continue;
        }
        for (uint64_t n = 1; n <= EACH; n++) {
            peer_expect_frame(&peers[i], &frame);
            if (frame.op != OP_FETCH || error_of(&frame))
                fail("a fetch of all: %s %s", op_name(frame.op),
                     proto_error_name(error_of(&frame)));
        }
        peer_close(&peers[i]);
    }
}

/* ---- searches ---- */

/* By timestamp, each through all batches of the open segment: many, since the attack before made them. */
void attack_searches(void)
{
    enum { PEERS = 4, SEARCHES = 2000 };
    uint32_t capacity = 64 + SEARCHES * 24;
    uint8_t *bytes = malloc(capacity);
    struct item *items = calloc(SEARCHES, sizeof(*items));
    struct peer peers[PEERS];
    struct frame frame;
    if (!bytes || !items)
        fail("out of memory");
    for (uint32_t i = 0; i < SEARCHES; i++)
        items[i] = (struct item){.start = START_TIMESTAMP, .value = INT64_MAX};
    for (int i = 0; i < PEERS; i++) {
        peer_open(&peers[i], "searches by timestamp");
        peer_send(&peers[i], bytes, make_read(bytes, OP_OFFSETS, 5, 0, items, SEARCHES));
    }
    healthy_round("searches by timestamp");
    for (int i = 0; i < PEERS; i++) {
        peer_expect_reply(&peers[i], OP_OFFSETS, 5, &frame);
        peer_close(&peers[i]);
    }
    free(bytes);
    free(items);
}
