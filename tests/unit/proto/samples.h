/* One frame of each message with fixed values: the round trips, the golden files, the damage
 * tests and the fuzzers' seeds all start from these. Values are odd on purpose: each byte of a
 * field differs, so that a swapped order or width shows. */
#ifndef SLUICE_TESTS_PROTO_SAMPLES_H
#define SLUICE_TESTS_PROTO_SAMPLES_H

#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "proto/batch.h"
#include "proto/messages.h"
#include "tests/unit/proto/samples_txn.h"

#define SAMPLE_BYTES_MAX 4096
#define SAMPLE_TIME 1763683200123
#define SAMPLE_PRODUCER UINT64_C(0x0102030405060708)

struct sample {
    const char *name;
    uint16_t op;
    uint8_t flags;
    uint64_t correlation;
    void (*write)(struct writer *meta); // NULL: empty
    uint32_t batch_count;               // as data
};

static inline struct slice text(const char *s)
{
    return slice_of_text(s);
}

/* ---- batches ---- */

/* Three records: ordinary; null key, empty value, a null header value; null value, earlier
 * in time. */
static inline uint32_t sample_batch_build(uint8_t *bytes, uint32_t capacity)
{
    static const struct record_header headers[] = {
        {.key = {(const uint8_t *)"package", 7}, .value = {(const uint8_t *)"0ad", 3}},
        {.key = {(const uint8_t *)"", 0}, .value = {NULL, 0}},
    };
    const struct record records[] = {
        {.timestamp_ms = SAMPLE_TIME, .key = text("games"), .value = text("a record's value")},
        {.timestamp_ms = SAMPLE_TIME + 70000,
         .value = text(""),
         .headers = headers,
         .header_count = 2},
        {.timestamp_ms = SAMPLE_TIME - 1, .key = text("")},
    };
    struct batch_builder b;
    uint8_t *out;
    batch_builder_init(&b, bytes, capacity);
    for (size_t i = 0; i < ARRAY_COUNT(records); i++) {
        if (batch_builder_add(&b, &records[i]) < 0)
            abort();
    }
    return batch_builder_finish(&b, CODEC_NONE, SAMPLE_PRODUCER, 7, 300, NULL, 0, &out);
}

/* 400 records that compress well, so that the frame has compressed blocks; 61 + 26,000 bytes
 * plain. */
static inline uint32_t sample_lz4_build(uint8_t *bytes, uint32_t capacity)
{
    static uint8_t plain[64 * 1024];
    struct batch_builder b;
    uint8_t *out;
    batch_builder_init(&b, plain, sizeof(plain));
    for (int i = 0; i < 400; i++) {
        char value[64];
        snprintf(value, sizeof(value), "line %d of a log that says the same again and again", i);
        struct record record = {.timestamp_ms = SAMPLE_TIME + i, .value = text(value)};
        if (batch_builder_add(&b, &record) < 0)
            abort();
    }
    uint32_t size = batch_builder_finish(&b, CODEC_LZ4, PRODUCER_NONE, UINT16_MAX, UINT32_MAX,
                                         bytes, capacity, &out);
    if (out != bytes)
        abort();
    return size;
}

static inline uint32_t sample_batch_size(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    return sample_batch_build(bytes, sizeof(bytes));
}

/* ---- metas ---- */

static inline void sample_hello(struct writer *w)
{
    write_hello(w, &(struct msg_hello){.version_min = 1,
                                       .version_max = 0x0203,
                                       .client_id = text("orders-\xc3\xa9"),
                                       .software = text("libsluice 0.1.0")});
}

static inline void sample_hello_reply(struct writer *w)
{
    struct msg_hello_reply m = {
        .version = 1,
        .software = text("sluiced 0.1.0"),
        .request_bytes_max = 0x01020304,
        .record_bytes_max = 0x11121314,
        .batch_bytes_max = 0x21222324,
        .publishes_max = 0x31323334,
        .subscription_credit_min = 0x41424344,
    };
    for (uint8_t i = 0; i < sizeof(m.store_id); i++)
        m.store_id[i] = (uint8_t)(0xa0 + i);
    write_hello_reply(w, &m);
}

static inline void sample_error(struct writer *w)
{
    write_error(w, PE_UNKNOWN_TOPIC, "topic \"ordres\": there is no such topic");
}

static inline void sample_metadata_names(struct writer *w)
{
    write_metadata_begin(w, 2, text(""));
    write_text(w, "orders");
    write_text(w, "payments");
}

static inline void sample_metadata_all(struct writer *w)
{
    write_metadata_begin(w, METADATA_ALL, text("orders"));
}

static inline void sample_metadata_reply(struct writer *w)
{
    write_metadata_reply_begin(w, 2, true);
    write_metadata_topic(w, &(struct msg_metadata_topic){.name = text("orders"),
                                                         .topic_id = 0x01020304,
                                                         .partition_count = 0x0506,
                                                         .created_ms = SAMPLE_TIME});
    write_settings_begin(w, 2);
    write_setting(w, "retention_ms", "7d");
    write_setting(w, "validation", "records");
    write_metadata_topic(
        w, &(struct msg_metadata_topic){.error = PE_UNKNOWN_TOPIC, .name = text("ordres")});
    write_settings_begin(w, 0);
}

static inline void sample_topic_create(struct writer *w)
{
    write_topic_change(w, text("orders"), 0x01020304);
    write_settings_begin(w, 1);
    write_setting(w, "retention_bytes", "10GiB");
}

static inline void sample_topic_alter(struct writer *w)
{
    write_topic_change(w, text("orders"), 0);
    write_settings_begin(w, 0);
}

static inline void sample_topic_delete(struct writer *w)
{
    write_topic_delete(w, text("orders"));
}

static inline void sample_topic_reply(struct writer *w)
{
    write_topic_reply(w, &(struct msg_topic_reply){.topic_id = 0x01020304});
}

static inline void sample_producer_init(struct writer *w)
{
    write_producer_init(w, &(struct msg_producer_init){.producer_id = SAMPLE_PRODUCER, .epoch = 6});
}

static inline void sample_producer_init_reply(struct writer *w)
{
    write_producer_init_reply(
        w, &(struct msg_producer_init_reply){.producer_id = SAMPLE_PRODUCER, .epoch = 7});
}

static inline void sample_produce(struct writer *w)
{
    write_produce_begin(w, 2, 0);
    write_produce_item(w, 0x01020304, 0x05060708, sample_batch_size());
    write_produce_item(w, 0x11121314, 0x15161718, sample_batch_size());
}

static inline void sample_produce_staged(struct writer *w)
{
    write_produce_begin(w, 1, PRODUCE_STAGED);
    write_produce_staged(w, 0x21222324, 0x3132333435363738);
    write_produce_item(w, 0x01020304, 0x05060708, sample_batch_size());
}

static inline void sample_produce_failure(struct writer *w)
{
    write_produce_failure_begin(w, PE_OUT_OF_ORDER_SEQUENCE, NULL, 2);
    write_produce_result(w, &(struct msg_produce_result){.base_offset = 0x0102030405060708});
    write_produce_result(w, &(struct msg_produce_result){.error = PE_OUT_OF_ORDER_SEQUENCE,
                                                         .base_offset = UINT64_MAX});
}

/* Publishes 258 to 260 with four batches at 1000, 70000, 5, 2^63. */
static inline void sample_ack(struct writer *w)
{
    write_ack_begin(w, 0x0102, 0x0104, 0x21222324, 0x3132333435363738, 4);
    write_zigzag(w, 1000);
    write_zigzag(w, 69000);
    write_zigzag(w, -69995);
    write_zigzag(w, (int64_t)((UINT64_C(1) << 63) - 5));
}

static inline void sample_fetch(struct writer *w)
{
    write_fetch_begin(w, 0x01020304, 0x0506, 0, 2);
    write_fetch_item(w, 0x11121314, 0x15161718, START_OFFSET, 0x21222324, 0x3132333435363738);
    write_fetch_item(w, 0x41424344, 0x45464748, START_TIMESTAMP, 0, SAMPLE_TIME);
}

static inline void sample_subscribe(struct writer *w)
{
    write_fetch_begin(w, 0, 0, 0x0102030405060708, 1);
    write_fetch_item(w, 0x11121314, 0x15161718, START_BEGINNING, 0, 0);
}

static inline void sample_deliver_item(struct writer *w, uint16_t error, uint16_t flags,
                                       uint32_t bytes)
{
    struct deliver_item item = {
        .topic_id = le32_make(0x01020304),
        .partition = le32_make(0x05060708),
        .error = le16_make(error),
        .flags = le16_make(flags),
        .bytes = le32_make(bytes),
        .next_offset = le64_make(0x1112131415161718),
        .log_start = le64_make(0x2122232425262728),
        .visible_end = le64_make(0x3132333435363738),
    };
    write_bytes(w, &item, sizeof(item));
}

static inline void sample_deliver(struct writer *w)
{
    write_deliver_begin(w, 2);
    sample_deliver_item(w, PE_NONE, DELIVER_END, 2 * sample_batch_size());
    sample_deliver_item(w, PE_OFFSET_OUT_OF_RANGE, 0, 0);
}

static inline void sample_fetch_reply(struct writer *w)
{
    write_deliver_begin(w, 1);
    sample_deliver_item(w, PE_NONE, 0, sample_batch_size());
}

static inline void sample_credit(struct writer *w)
{
    write_credit(
        w, &(struct msg_credit){.subscription = 0x0102030405060708, .bytes = 0x1112131415161718});
}

static inline void sample_unsubscribe(struct writer *w)
{
    write_credit(w, &(struct msg_credit){.subscription = 0x0102030405060708});
}

static inline void sample_offsets(struct writer *w)
{
    write_offsets_begin(w, 2);
    write_fetch_item(w, 0x11121314, 0x15161718, START_END, 0, 0);
    write_fetch_item(w, 0x41424344, 0x45464748, START_TIMESTAMP, 0, SAMPLE_TIME);
}

static inline void sample_offsets_reply(struct writer *w)
{
    struct offsets_item item = {
        .topic_id = le32_make(0x01020304),
        .partition = le32_make(0x05060708),
        .error = le16_make(PE_NOT_READY),
        .offset = le64_make(0x1112131415161718),
        .timestamp_ms = le64_make(UINT64_MAX),
    };
    write_offsets_begin(w, 1);
    write_bytes(w, &item, sizeof(item));
}

static inline void sample_status_reply(struct writer *w)
{
    write_status_reply_begin(w, true, false, true, "the disk is full", 2);
    write_status_value(w, "uptime_ms", 0x0102030405060708);
    write_status_value(w, "connections", 12);
}

static inline void sample_goaway(struct writer *w)
{
    write_goaway(w, &(struct msg_goaway){.deadline_ms = 30000, .reason = text("draining")});
}

/* ---- the list ---- */

static const struct sample samples[] = {
    {"hello", OP_HELLO, 0, 1, sample_hello, 0},
    {"hello_reply", OP_HELLO, FRAME_REPLY, 1, sample_hello_reply, 0},
    {"ping", OP_PING, 0, 0x0102030405060708, NULL, 0},
    {"ping_reply", OP_PING, FRAME_REPLY, 0x0102030405060708, NULL, 0},
    {"error", OP_TOPIC_DELETE, FRAME_REPLY | FRAME_ERROR, 9, sample_error, 0},
    {"metadata_names", OP_METADATA, 0, 2, sample_metadata_names, 0},
    {"metadata_all", OP_METADATA, 0, 3, sample_metadata_all, 0},
    {"metadata_reply", OP_METADATA, FRAME_REPLY, 2, sample_metadata_reply, 0},
    {"topic_create", OP_TOPIC_CREATE, 0, 4, sample_topic_create, 0},
    {"topic_create_reply", OP_TOPIC_CREATE, FRAME_REPLY, 4, sample_topic_reply, 0},
    {"topic_alter", OP_TOPIC_ALTER, 0, 5, sample_topic_alter, 0},
    {"topic_alter_reply", OP_TOPIC_ALTER, FRAME_REPLY, 5, sample_topic_reply, 0},
    {"topic_delete", OP_TOPIC_DELETE, 0, 6, sample_topic_delete, 0},
    {"topic_delete_reply", OP_TOPIC_DELETE, FRAME_REPLY, 6, sample_topic_reply, 0},
    {"producer_init", OP_PRODUCER_INIT, 0, 7, sample_producer_init, 0},
    {"producer_init_reply", OP_PRODUCER_INIT, FRAME_REPLY, 7, sample_producer_init_reply, 0},
    {"produce", OP_PRODUCE, 0, 1, sample_produce, 2},
    {"produce_staged", OP_PRODUCE, 0, 2, sample_produce_staged, 1},
    {"produce_failure", OP_PRODUCE, FRAME_REPLY | FRAME_ERROR, 3, sample_produce_failure, 0},
    {"ack", OP_ACK, FRAME_PUSH, 0, sample_ack, 0},
    {"fetch", OP_FETCH, 0, 8, sample_fetch, 0},
    {"fetch_reply", OP_FETCH, FRAME_REPLY, 8, sample_fetch_reply, 1},
    {"subscribe", OP_SUBSCRIBE, 0, 9, sample_subscribe, 0},
    {"subscribe_reply", OP_SUBSCRIBE, FRAME_REPLY, 9, NULL, 0},
    {"credit", OP_CREDIT, 0, 0, sample_credit, 0},
    {"unsubscribe", OP_UNSUBSCRIBE, 0, 10, sample_unsubscribe, 0},
    {"unsubscribe_reply", OP_UNSUBSCRIBE, FRAME_REPLY, 10, NULL, 0},
    {"deliver", OP_DELIVER, FRAME_PUSH, 9, sample_deliver, 2},
    {"offsets", OP_OFFSETS, 0, 11, sample_offsets, 0},
    {"offsets_reply", OP_OFFSETS, FRAME_REPLY, 11, sample_offsets_reply, 0},
    {"status", OP_STATUS, 0, 12, NULL, 0},
    {"status_reply", OP_STATUS, FRAME_REPLY, 12, sample_status_reply, 0},
    {"goaway", OP_GOAWAY, FRAME_PUSH, 0, sample_goaway, 0},
    {"txn_init", OP_TXN_INIT, 0, 13, sample_txn_init, 0},
    {"txn_init_reply", OP_TXN_INIT, FRAME_REPLY, 13, sample_txn_init_reply, 0},
    {"txn_begin", OP_TXN_BEGIN, 0, 14, sample_txn_begin, 0},
    {"txn_begin_reply", OP_TXN_BEGIN, FRAME_REPLY, 14, sample_txn_begin_reply, 0},
    {"txn_offsets", OP_TXN_OFFSETS, 0, 15, sample_txn_offsets, 0},
    {"txn_offsets_reply", OP_TXN_OFFSETS, FRAME_REPLY, 15, NULL, 0},
    {"txn_prepare", OP_TXN_PREPARE, 0, 16, sample_txn_prepare, 0},
    {"txn_prepare_reply", OP_TXN_PREPARE, FRAME_REPLY, 16, NULL, 0},
    {"txn_commit", OP_TXN_COMMIT, 0, 17, sample_txn_commit, 0},
    {"txn_commit_by_name", OP_TXN_COMMIT, 0, 18, sample_txn_commit_by_name, 0},
    {"txn_commit_reply", OP_TXN_COMMIT, FRAME_REPLY, 17, sample_txn_commit_reply, 0},
    {"txn_abort", OP_TXN_ABORT, 0, 19, sample_txn_abort, 0},
    {"txn_abort_reply", OP_TXN_ABORT, FRAME_REPLY, 19, NULL, 0},
    {"txn_list", OP_TXN_LIST, 0, 20, sample_txn_list, 0},
    {"txn_list_reply", OP_TXN_LIST, FRAME_REPLY, 20, sample_txn_list_reply, 0},
    {"txn_describe", OP_TXN_DESCRIBE, 0, 21, sample_txn_describe, 0},
    {"txn_describe_reply", OP_TXN_DESCRIBE, FRAME_REPLY, 21, sample_txn_describe_reply, 0},
    {"group_join", OP_GROUP_JOIN, 0, 22, sample_group_join, 0},
    {"group_join_reply", OP_GROUP_JOIN, FRAME_REPLY, 22, sample_group_assignment, 0},
    {"group_heartbeat", OP_GROUP_HEARTBEAT, 0, 23, sample_group_heartbeat, 0},
    {"group_heartbeat_reply", OP_GROUP_HEARTBEAT, FRAME_REPLY, 23, sample_group_unchanged, 0},
    {"group_leave", OP_GROUP_LEAVE, 0, 24, sample_group_leave, 0},
    {"group_leave_reply", OP_GROUP_LEAVE, FRAME_REPLY, 24, NULL, 0},
    {"offset_commit", OP_OFFSET_COMMIT, 0, 25, sample_offset_commit, 0},
    {"offset_commit_reset", OP_OFFSET_COMMIT, 0, 26, sample_offset_reset, 0},
    {"offset_commit_reply", OP_OFFSET_COMMIT, FRAME_REPLY, 25, sample_offset_results, 0},
    {"offset_fetch", OP_OFFSET_FETCH, 0, 27, sample_offset_fetch, 0},
    {"offset_fetch_reply", OP_OFFSET_FETCH, FRAME_REPLY, 27, sample_offset_results, 0},
    {"group_list", OP_GROUP_LIST, 0, 28, sample_group_list, 0},
    {"group_list_reply", OP_GROUP_LIST, FRAME_REPLY, 28, sample_group_list_reply, 0},
    {"group_describe", OP_GROUP_DESCRIBE, 0, 29, sample_group_describe, 0},
    {"group_describe_reply", OP_GROUP_DESCRIBE, FRAME_REPLY, 29, sample_group_describe_reply, 0},
    {"group_delete", OP_GROUP_DELETE, 0, 30, sample_group_delete, 0},
    {"group_delete_reply", OP_GROUP_DELETE, FRAME_REPLY, 30, NULL, 0},
};

/* Encodes a sample into SAMPLE_BYTES_MAX bytes and returns its length. */
static inline uint32_t sample_encode(const struct sample *sample, uint8_t *bytes)
{
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, SAMPLE_BYTES_MAX - FRAME_HEADER_SIZE);
    if (sample->write)
        sample->write(&w);
    uint32_t meta_length = writer_length(&w);
    for (uint32_t i = 0; i < sample->batch_count; i++) {
        uint8_t batch[SAMPLE_BYTES_MAX];
        write_bytes(&w, batch, sample_batch_build(batch, sizeof(batch)));
    }
    if (w.failed)
        abort();
    return frame_seal(bytes, sample->op, sample->flags, sample->correlation, meta_length,
                      writer_length(&w) - meta_length);
}

#endif
