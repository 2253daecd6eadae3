/* One valid frame of each request, small enough to spoil each of its bytes, and the parts to build others. */
#include "tests/integration/hostile.h"

#include <string.h>

#include "base/hash.h"

struct writer meta_writer(uint8_t *bytes, uint32_t capacity)
{
    return writer_make(bytes + FRAME_HEADER_SIZE, capacity - FRAME_HEADER_SIZE);
}

static uint32_t seal(uint8_t *bytes, const struct writer *w, uint16_t op, uint64_t correlation)
{
    if (w->failed)
        fail("a sample does not fit");
    return frame_seal(bytes, op, 0, correlation, writer_length(w), 0);
}

/* Not frame_seal(), which refuses to make what no frame may be. */
void reseal_frame(uint8_t *bytes)
{
    struct frame_header *header = (struct frame_header *)bytes;
    uint64_t seed = hash_xxh3(bytes, offsetof(struct frame_header, checksum));
    header->checksum =
        le64_make(hash_xxh3_seeded(bytes + FRAME_HEADER_SIZE, le32_get(header->meta_length), seed));
}

void reseal_batch(uint8_t *batch, uint32_t size)
{
    uint32_t covered = offsetof(struct batch_header, attributes);
    ((struct batch_header *)batch)->crc = be32_make(hash_crc32c(batch + covered, size - covered));
}

/* ---- the parts ---- */

uint32_t make_empty(uint8_t *bytes, uint16_t op, uint64_t correlation)
{
    return frame_seal(bytes, op, 0, correlation, 0, 0);
}

uint32_t make_batch(uint8_t *bytes, uint32_t capacity, uint32_t count, const void *value,
                    uint32_t len)
{
    struct batch_builder builder;
    uint8_t *batch;
    batch_builder_init(&builder, bytes, capacity);
    for (uint32_t i = 0; i < count; i++) {
        struct record record = {
            .timestamp_ms = 1700000000000 + i, .key = slice_of_text("k"), .value = {value, len}};
        if (batch_builder_add(&builder, &record))
            fail("a batch does not fit");
    }
    return batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, UINT16_MAX, UINT32_MAX, NULL,
                                0, &batch);
}

uint32_t make_publish(uint8_t *bytes, uint64_t number, const void *batch, uint32_t size)
{
    struct writer w = meta_writer(bytes, 256);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, hostile.victim_id, 0, size);
    memmove(w.at, batch, size);
    return frame_seal(bytes, OP_PRODUCE, 0, number, writer_length(&w), size);
}

uint32_t make_fetch(uint8_t *bytes, uint16_t op, uint64_t correlation, uint32_t bytes_max,
                    uint32_t wait_ms, uint64_t credit)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_fetch_begin(&w, bytes_max, wait_ms, credit, 1);
    write_fetch_item(&w, hostile.victim_id, 0, START_BEGINNING, 0, 0);
    return seal(bytes, &w, op, correlation);
}

uint32_t make_credit(uint8_t *bytes, uint16_t op, uint64_t subscription, uint64_t credit)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_credit(&w, &(struct msg_credit){.subscription = subscription, .bytes = credit});
    return seal(bytes, &w, op, subscription);
}

/* ---- the samples ---- */

uint32_t make_hello(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_hello(&w, &(struct msg_hello){.version_min = PROTO_VERSION_MIN,
                                        .version_max = PROTO_VERSION_MAX,
                                        .client_id = slice_of_text("hostile"),
                                        .software = slice_of_text("test")});
    return seal(bytes, &w, OP_HELLO, correlation);
}

static uint32_t make_ping(uint8_t *bytes, uint64_t correlation)
{
    return make_empty(bytes, OP_PING, correlation);
}

static uint32_t make_status(uint8_t *bytes, uint64_t correlation)
{
    return make_empty(bytes, OP_STATUS, correlation);
}

static uint32_t make_metadata(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_metadata_begin(&w, 2, slice_of_text(""));
    write_text(&w, VICTIM);
    write_text(&w, "nobody");
    return seal(bytes, &w, OP_METADATA, correlation);
}

static uint32_t make_topic_change(uint8_t *bytes, uint16_t op, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_topic_change(&w, slice_of_text(VICTIM), op == OP_TOPIC_CREATE ? VICTIM_PARTITIONS : 0);
    write_settings_begin(&w, 1);
    write_setting(&w, "retention_ms", "7d");
    return seal(bytes, &w, op, correlation);
}

static uint32_t make_topic_create(uint8_t *bytes, uint64_t correlation)
{
    return make_topic_change(bytes, OP_TOPIC_CREATE, correlation);
}

static uint32_t make_topic_alter(uint8_t *bytes, uint64_t correlation)
{
    return make_topic_change(bytes, OP_TOPIC_ALTER, correlation);
}

static uint32_t make_topic_delete(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_topic_delete(&w, slice_of_text("nobody"));
    return seal(bytes, &w, OP_TOPIC_DELETE, correlation);
}

static uint32_t make_producer_init(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_producer_init(&w, &(struct msg_producer_init){.producer_id = PRODUCER_NONE});
    return seal(bytes, &w, OP_PRODUCER_INIT, correlation);
}

uint32_t make_produce(uint8_t *bytes, uint64_t number)
{
    uint8_t batch[256];
    return make_publish(bytes, number, batch, make_batch(batch, sizeof(batch), 2, "value", 5));
}

static uint32_t make_fetch_sample(uint8_t *bytes, uint64_t correlation)
{
    return make_fetch(bytes, OP_FETCH, correlation, 1, 0, 0);
}

/* Without credit: it is answered and nothing else. */
static uint32_t make_subscribe(uint8_t *bytes, uint64_t correlation)
{
    return make_fetch(bytes, OP_SUBSCRIBE, correlation, 0, 0, 0);
}

/* About a subscription that isn't there. */
static uint32_t make_credit_with(uint8_t *bytes, uint16_t op, uint64_t correlation)
{
    uint32_t length = make_credit(bytes, op, 77, 1000);
    ((struct frame_header *)bytes)->correlation = le64_make(correlation);
    reseal_frame(bytes);
    return length;
}

static uint32_t make_credit_sample(uint8_t *bytes, uint64_t correlation)
{
    return make_credit_with(bytes, OP_CREDIT, correlation);
}

static uint32_t make_unsubscribe(uint8_t *bytes, uint64_t correlation)
{
    return make_credit_with(bytes, OP_UNSUBSCRIBE, correlation);
}

static uint32_t make_offsets(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_offsets_begin(&w, 2);
    write_fetch_item(&w, hostile.victim_id, 0, START_END, 0, 0);
    write_fetch_item(&w, hostile.victim_id, 1, START_TIMESTAMP, 0, 1);
    return seal(bytes, &w, OP_OFFSETS, correlation);
}

/* The answers are those on a connection that has said HELLO. */
const struct sample samples[] = {
    {"HELLO", OP_HELLO, make_hello, PE_INVALID_ARGUMENT, true},
    {"PING", OP_PING, make_ping, PE_NONE, true},
    {"STATUS", OP_STATUS, make_status, PE_NONE, true},
    {"METADATA", OP_METADATA, make_metadata, PE_NONE, true},
    {"TOPIC_CREATE", OP_TOPIC_CREATE, make_topic_create, PE_TOPIC_EXISTS, true},
    {"TOPIC_ALTER", OP_TOPIC_ALTER, make_topic_alter, PE_NONE, true},
    {"TOPIC_DELETE", OP_TOPIC_DELETE, make_topic_delete, PE_UNKNOWN_TOPIC, true},
    {"PRODUCER_INIT", OP_PRODUCER_INIT, make_producer_init, PE_NONE, true},
    {"PRODUCE", OP_PRODUCE, make_produce, PE_NONE, true},
    {"FETCH", OP_FETCH, make_fetch_sample, PE_NONE, true},
    {"SUBSCRIBE", OP_SUBSCRIBE, make_subscribe, PE_NONE, true},
    {"CREDIT", OP_CREDIT, make_credit_sample, PE_NONE, false},
    {"UNSUBSCRIBE", OP_UNSUBSCRIBE, make_unsubscribe, PE_UNKNOWN_SUBSCRIPTION, true},
    {"OFFSETS", OP_OFFSETS, make_offsets, PE_NONE, true},
    {"TXN_INIT", OP_TXN_INIT, make_txn_init, PE_NONE, true},
    {"TXN_BEGIN", OP_TXN_BEGIN, make_txn_begin, PE_UNKNOWN_TRANSACTIONAL_ID, true},
    {"TXN_OFFSETS", OP_TXN_OFFSETS, make_txn_offsets, PE_UNKNOWN_TRANSACTION, true},
    {"TXN_PREPARE", OP_TXN_PREPARE, make_txn_prepare, PE_UNKNOWN_TRANSACTIONAL_ID, true},
    {"TXN_COMMIT", OP_TXN_COMMIT, make_txn_commit, PE_UNKNOWN_TRANSACTIONAL_ID, true},
    {"TXN_ABORT", OP_TXN_ABORT, make_txn_abort, PE_UNKNOWN_TRANSACTIONAL_ID, true},
    {"TXN_LIST", OP_TXN_LIST, make_txn_list, PE_NONE, true},
    {"TXN_DESCRIBE", OP_TXN_DESCRIBE, make_txn_describe, PE_NONE, true},
    {"GROUP_JOIN", OP_GROUP_JOIN, make_group_join, PE_NONE, true},
    {"GROUP_HEARTBEAT", OP_GROUP_HEARTBEAT, make_group_heartbeat, PE_UNKNOWN_MEMBER, true},
    {"GROUP_LEAVE", OP_GROUP_LEAVE, make_group_leave, PE_UNKNOWN_MEMBER, true},
    {"OFFSET_COMMIT", OP_OFFSET_COMMIT, make_offset_commit, PE_NONE, true},
    {"OFFSET_FETCH", OP_OFFSET_FETCH, make_offset_fetch, PE_NONE, true},
    {"GROUP_LIST", OP_GROUP_LIST, make_group_list, PE_NONE, true},
    {"GROUP_DESCRIBE", OP_GROUP_DESCRIBE, make_group_describe, PE_UNKNOWN_GROUP, true},
    {"GROUP_DELETE", OP_GROUP_DELETE, make_group_delete, PE_UNKNOWN_GROUP, true},
};
const uint32_t sample_count = ARRAY_COUNT(samples);

const struct sample *sample_of(uint16_t op)
{
    uint32_t i = 0;
    while (samples[i].op != op)
        i++;
    return &samples[i];
}

uint64_t victim_end(uint32_t partition)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    struct frame frame;
    struct msg_offsets_reply reply;
    peer_open(&peer, "asking for the end");
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_offsets_begin(&w, 1);
    write_fetch_item(&w, hostile.victim_id, partition, START_END, 0, 0);
    peer_send(&peer, bytes, seal(bytes, &w, OP_OFFSETS, 9));
    peer_expect_reply(&peer, OP_OFFSETS, 9, &frame);
    if (read_offsets_reply(&frame, &reply) || reply.item_count != 1 ||
        le16_get(reply.items[0].error))
        fail("the victim's end is not known");
    uint64_t end = le64_get(reply.items[0].offset);
    peer_close(&peer);
    return end;
}
