/* Decodes any frame with the read_X() that belongs to it, and touches every byte that the decoded
 * message points to: a slice that leaves the frame is then found by AddressSanitizer. */
#ifndef SLUICE_TESTS_PROTO_READ_ANY_H
#define SLUICE_TESTS_PROTO_READ_ANY_H

#include "proto/messages.h"
#include "tests/unit/proto/read_any_txn.h"

static inline void touch_settings(struct msg_settings *m)
{
    struct msg_setting setting;
    for (uint32_t i = 0; i < m->count; i++) {
        read_setting(m, &setting);
        touch_slice(setting.key);
        touch_slice(setting.value);
    }
}

static inline uint16_t read_any_topics(const struct frame *frame)
{
    struct msg_metadata_reply m;
    struct msg_metadata_topic topic;
    uint16_t error = read_metadata_reply(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && i < m.topic_count; i++) {
        read_metadata_topic(&m, &topic);
        touch_slice(topic.name);
        touch_settings(&topic.settings);
    }
    return error;
}

static inline uint16_t read_any_metadata(const struct frame *frame)
{
    struct msg_metadata m;
    uint16_t error = read_metadata(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && m.name_count != METADATA_ALL && i < m.name_count; i++)
        touch_slice(read_string(&m.names));
    if (error == PE_NONE)
        touch_slice(m.after);
    return error;
}

static inline uint16_t read_any_produce(const struct frame *frame)
{
    struct msg_produce m;
    uint16_t error = read_produce(frame, &m);
    uint64_t bytes = 0;
    for (uint32_t i = 0; error == PE_NONE && i < m.batch_count; i++)
        bytes += le32_get(m.items[i].batch_bytes);
    if (error == PE_NONE)
        touch(m.batches, bytes);
    return error;
}

static inline uint16_t read_any_failure(const struct frame *frame)
{
    struct msg_produce_failure m;
    struct msg_produce_result result;
    uint16_t error = read_produce_failure(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && i < m.batch_count; i++)
        read_produce_result(&m, &result);
    if (error == PE_NONE) {
        touch_slice(m.first.name);
        touch_slice(m.first.text);
    }
    return error;
}

static inline uint16_t read_any_ack(const struct frame *frame)
{
    struct msg_ack m;
    uint16_t error = read_ack(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && i < m.offset_count; i++)
        read_any_sink ^= (uint8_t)read_ack_offset(&m);
    return error;
}

static inline uint16_t read_any_deliver(const struct frame *frame)
{
    struct msg_deliver m;
    uint16_t error = read_deliver(frame, &m);
    uint64_t bytes = 0;
    for (uint32_t i = 0; error == PE_NONE && i < m.item_count; i++)
        bytes += le32_get(m.items[i].bytes);
    if (error == PE_NONE)
        touch(m.batches, bytes);
    return error;
}

static inline uint16_t read_any_status(const struct frame *frame)
{
    struct msg_status_reply m;
    uint16_t error = read_status_reply(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && i < m.value_count; i++) {
        struct slice name;
        uint64_t value;
        read_status_value(&m, &name, &value);
        touch_slice(name);
    }
    if (error == PE_NONE)
        touch_slice(m.reason);
    return error;
}

static inline uint16_t read_any_request(const struct frame *frame)
{
    union {
        struct msg_hello hello;
        struct msg_topic_change topic;
        struct msg_producer_init producer_init;
        struct msg_fetch fetch;
        struct msg_credit credit;
        struct msg_offsets offsets;
        struct msg_goaway goaway;
        struct slice name;
    } m;
    uint16_t error;
    switch (frame->op) {
    case OP_HELLO:
        error = read_hello(frame, &m.hello);
        if (error == PE_NONE) {
            touch_slice(m.hello.client_id);
            touch_slice(m.hello.software);
        }
        return error;
    case OP_METADATA:
        return read_any_metadata(frame);
    case OP_TOPIC_CREATE:
    case OP_TOPIC_ALTER:
        error = read_topic_change(frame, &m.topic);
        if (error == PE_NONE) {
            touch_slice(m.topic.name);
            touch_settings(&m.topic.settings);
        }
        return error;
    case OP_TOPIC_DELETE:
        error = read_topic_delete(frame, &m.name);
        if (error == PE_NONE)
            touch_slice(m.name);
        return error;
    case OP_PRODUCER_INIT:
        return read_producer_init(frame, &m.producer_init);
    case OP_PRODUCE:
        return read_any_produce(frame);
    case OP_FETCH:
    case OP_SUBSCRIBE:
        error = read_fetch(frame, &m.fetch);
        if (error == PE_NONE)
            touch(m.fetch.items, m.fetch.item_count * sizeof(*m.fetch.items));
        return error;
    case OP_CREDIT:
    case OP_UNSUBSCRIBE:
        return read_credit(frame, &m.credit);
    case OP_OFFSETS:
        error = read_offsets(frame, &m.offsets);
        if (error == PE_NONE)
            touch(m.offsets.items, m.offsets.item_count * sizeof(*m.offsets.items));
        return error;
    case OP_ACK:
        return read_any_ack(frame);
    case OP_DELIVER:
        return read_any_deliver(frame);
    case OP_GOAWAY:
        error = read_goaway(frame, &m.goaway);
        if (error == PE_NONE)
            touch_slice(m.goaway.reason);
        return error;
    default:
        return read_empty(frame);
    }
}

static inline uint16_t read_any_reply(const struct frame *frame)
{
    union {
        struct msg_hello_reply hello;
        struct msg_topic_reply topic;
        struct msg_producer_init_reply producer_init;
        struct msg_offsets_reply offsets;
    } m;
    uint16_t error;
    switch (frame->op) {
    case OP_HELLO:
        error = read_hello_reply(frame, &m.hello);
        if (error == PE_NONE)
            touch_slice(m.hello.software);
        return error;
    case OP_METADATA:
        return read_any_topics(frame);
    case OP_TOPIC_CREATE:
    case OP_TOPIC_ALTER:
    case OP_TOPIC_DELETE:
        return read_topic_reply(frame, &m.topic);
    case OP_PRODUCER_INIT:
        return read_producer_init_reply(frame, &m.producer_init);
    case OP_FETCH:
        return read_any_deliver(frame);
    case OP_OFFSETS:
        error = read_offsets_reply(frame, &m.offsets);
        if (error == PE_NONE)
            touch(m.offsets.items, m.offsets.item_count * sizeof(*m.offsets.items));
        return error;
    case OP_STATUS:
        return read_any_status(frame);
    default:
        return read_empty(frame);
    }
}

static inline uint16_t read_any(const struct frame *frame)
{
    struct msg_error m;
    if (frame->flags & FRAME_ERROR && frame->op == OP_PRODUCE)
        return read_any_failure(frame);
    if (frame->flags & FRAME_ERROR) {
        uint16_t error = read_error(frame, &m);
        if (error == PE_NONE) {
            touch_slice(m.name);
            touch_slice(m.text);
        }
        return error;
    }
    if (is_txn_or_group_op(frame->op))
        return read_any_txn_or_group(frame);
    return frame->flags & FRAME_REPLY ? read_any_reply(frame) : read_any_request(frame);
}

#endif
