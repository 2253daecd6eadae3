/* read_any.h's part for transactions and consumer groups. */
#ifndef SLUICE_TESTS_PROTO_READ_ANY_TXN_H
#define SLUICE_TESTS_PROTO_READ_ANY_TXN_H

#include "proto/messages_group.h"
#include "tests/unit/proto/touch.h"

static inline bool is_txn_or_group_op(uint16_t op)
{
    return op >= 32 && op < 64;
}

/* ---- transactions ---- */

static inline uint16_t read_any_txn_init(const struct frame *frame)
{
    struct msg_txn_init m;
    uint16_t error = read_txn_init(frame, &m);
    if (error == PE_NONE)
        touch_slice(m.id);
    return error;
}

static inline uint16_t read_any_txn_begin(const struct frame *frame)
{
    struct msg_txn_begin m;
    uint16_t error = read_txn_begin(frame, &m);
    if (error == PE_NONE)
        touch_slice(m.id);
    return error;
}

static inline uint16_t read_any_txn_offsets(const struct frame *frame)
{
    struct msg_txn_offsets m;
    uint16_t error = read_txn_offsets(frame, &m);
    if (error != PE_NONE)
        return error;
    touch_slice(m.group);
    touch_slice(m.member);
    touch_slice(m.txn.id);
    touch(m.items, m.item_count * sizeof(*m.items));
    return error;
}

static inline uint16_t read_any_txn_end(const struct frame *frame)
{
    struct msg_txn_end m;
    uint16_t error = read_txn_end(frame, &m);
    if (error != PE_NONE)
        return error;
    touch_slice(m.txn.id);
    touch(m.items, m.item_count * sizeof(*m.items));
    for (uint32_t i = 0; i < m.group_count; i++)
        touch_slice(read_string(&m.groups));
    ASSERT(reader_is_done(&m.groups));
    return error;
}

static inline uint16_t read_any_txn_commit_reply(const struct frame *frame)
{
    struct msg_txn_commit_reply m;
    uint16_t error = read_txn_commit_reply(frame, &m);
    if (error == PE_NONE)
        touch(m.items, m.item_count * sizeof(*m.items));
    return error;
}

static inline uint16_t read_any_txn_abort(const struct frame *frame)
{
    struct msg_txn m;
    uint16_t error = read_txn_abort(frame, &m);
    if (error == PE_NONE)
        touch_slice(m.id);
    return error;
}

static inline uint16_t read_any_txn_list(const struct frame *frame)
{
    struct msg_txn_list m;
    uint16_t error = read_txn_list(frame, &m);
    if (error == PE_NONE)
        touch_slice(m.after);
    return error;
}

static inline uint16_t read_any_txn_list_reply(const struct frame *frame)
{
    struct msg_txn_list_reply m;
    struct msg_txn_list_item item;
    uint16_t error = read_txn_list_reply(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && i < m.item_count; i++) {
        read_txn_list_item(&m, &item);
        touch_slice(item.id);
    }
    ASSERT(error != PE_NONE || reader_is_done(&m.items));
    return error;
}

static inline uint16_t read_any_txn_describe_reply(const struct frame *frame)
{
    struct msg_txn_describe_reply m;
    uint16_t error = read_txn_describe_reply(frame, &m);
    if (error == PE_NONE)
        touch(m.items, m.item_count * sizeof(*m.items));
    return error;
}

static inline uint16_t read_any_txn_request(const struct frame *frame)
{
    struct msg_txn_describe describe;
    switch (frame->op) {
    case OP_TXN_INIT:
        return read_any_txn_init(frame);
    case OP_TXN_BEGIN:
        return read_any_txn_begin(frame);
    case OP_TXN_OFFSETS:
        return read_any_txn_offsets(frame);
    case OP_TXN_PREPARE:
    case OP_TXN_COMMIT:
        return read_any_txn_end(frame);
    case OP_TXN_ABORT:
        return read_any_txn_abort(frame);
    case OP_TXN_LIST:
        return read_any_txn_list(frame);
    case OP_TXN_DESCRIBE:
        return read_txn_describe(frame, &describe);
    default:
        return read_empty(frame);
    }
}

static inline uint16_t read_any_txn_reply(const struct frame *frame)
{
    struct msg_txn_init_reply init;
    struct msg_txn_begin_reply begin;
    switch (frame->op) {
    case OP_TXN_INIT:
        return read_txn_init_reply(frame, &init);
    case OP_TXN_BEGIN:
        return read_txn_begin_reply(frame, &begin);
    case OP_TXN_COMMIT:
        return read_any_txn_commit_reply(frame);
    case OP_TXN_LIST:
        return read_any_txn_list_reply(frame);
    case OP_TXN_DESCRIBE:
        return read_any_txn_describe_reply(frame);
    default:
        return read_empty(frame);
    }
}

/* ---- consumer groups ---- */

static inline uint16_t read_any_group_join(const struct frame *frame)
{
    struct msg_group_join m;
    uint16_t error = read_group_join(frame, &m);
    if (error != PE_NONE)
        return error;
    touch_slice(m.group);
    touch_slice(m.member);
    touch_slice(m.instance);
    touch(m.topic_ids, m.topic_count * sizeof(*m.topic_ids));
    touch(m.items, m.item_count * sizeof(*m.items));
    return error;
}

static inline uint16_t read_any_group_assignment(const struct frame *frame)
{
    struct msg_group_assignment m;
    uint16_t error = read_group_assignment(frame, &m);
    if (error != PE_NONE)
        return error;
    touch_slice(m.member);
    if (m.item_count != GROUP_UNCHANGED)
        touch(m.items, m.item_count * sizeof(*m.items));
    return error;
}

static inline uint16_t read_any_group_heartbeat(const struct frame *frame)
{
    struct msg_group_heartbeat m;
    uint16_t error = read_group_heartbeat(frame, &m);
    if (error == PE_NONE) {
        touch_slice(m.group);
        touch_slice(m.member);
    }
    return error;
}

static inline uint16_t read_any_group_leave(const struct frame *frame)
{
    struct msg_group_leave m;
    uint16_t error = read_group_leave(frame, &m);
    if (error == PE_NONE) {
        touch_slice(m.group);
        touch_slice(m.member);
    }
    return error;
}

static inline uint16_t read_any_offset_commit(const struct frame *frame)
{
    struct msg_offset_commit m;
    uint16_t error = read_offset_commit(frame, &m);
    if (error != PE_NONE)
        return error;
    touch_slice(m.group);
    touch_slice(m.member);
    touch(m.items, m.item_count * sizeof(*m.items));
    return error;
}

static inline uint16_t read_any_offset_results(const struct frame *frame)
{
    struct msg_offset_results m;
    uint16_t error = read_offset_results(frame, &m);
    if (error == PE_NONE)
        touch(m.items, m.item_count * sizeof(*m.items));
    return error;
}

static inline uint16_t read_any_offset_fetch(const struct frame *frame)
{
    struct msg_offset_fetch m;
    uint16_t error = read_offset_fetch(frame, &m);
    if (error == PE_NONE) {
        touch_slice(m.group);
        touch(m.items, m.item_count * sizeof(*m.items));
    }
    return error;
}

static inline uint16_t read_any_group_list(const struct frame *frame)
{
    struct msg_group_list m;
    uint16_t error = read_group_list(frame, &m);
    if (error == PE_NONE)
        touch_slice(m.after);
    return error;
}

static inline uint16_t read_any_group_list_reply(const struct frame *frame)
{
    struct msg_group_list_reply m;
    struct msg_group_list_item item;
    uint16_t error = read_group_list_reply(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && i < m.item_count; i++) {
        read_group_list_item(&m, &item);
        touch_slice(item.group);
    }
    ASSERT(error != PE_NONE || reader_is_done(&m.items));
    return error;
}

static inline uint16_t read_any_group_describe_reply(const struct frame *frame)
{
    struct msg_group_describe_reply m;
    struct msg_group_member member;
    uint16_t error = read_group_describe_reply(frame, &m);
    for (uint32_t i = 0; error == PE_NONE && i < m.member_count; i++) {
        read_group_member(&m, &member);
        touch_slice(member.member);
        touch_slice(member.instance);
        touch(member.items, member.item_count * sizeof(*member.items));
    }
    ASSERT(error != PE_NONE || reader_is_done(&m.members));
    return error;
}

static inline uint16_t read_any_group_name(const struct frame *frame)
{
    struct msg_group_describe describe;
    struct slice name;
    uint16_t error;
    if (frame->op == OP_GROUP_DELETE) {
        error = read_group_delete(frame, &name);
    } else {
        error = read_group_describe(frame, &describe);
        name = describe.group;
    }
    if (error == PE_NONE)
        touch_slice(name);
    return error;
}

static inline uint16_t read_any_group_request(const struct frame *frame)
{
    switch (frame->op) {
    case OP_GROUP_JOIN:
        return read_any_group_join(frame);
    case OP_GROUP_HEARTBEAT:
        return read_any_group_heartbeat(frame);
    case OP_GROUP_LEAVE:
        return read_any_group_leave(frame);
    case OP_OFFSET_COMMIT:
        return read_any_offset_commit(frame);
    case OP_OFFSET_FETCH:
        return read_any_offset_fetch(frame);
    case OP_GROUP_LIST:
        return read_any_group_list(frame);
    case OP_GROUP_DESCRIBE:
    case OP_GROUP_DELETE:
        return read_any_group_name(frame);
    default:
        return read_empty(frame);
    }
}

static inline uint16_t read_any_group_reply(const struct frame *frame)
{
    switch (frame->op) {
    case OP_GROUP_JOIN:
    case OP_GROUP_HEARTBEAT:
        return read_any_group_assignment(frame);
    case OP_OFFSET_COMMIT:
    case OP_OFFSET_FETCH:
        return read_any_offset_results(frame);
    case OP_GROUP_LIST:
        return read_any_group_list_reply(frame);
    case OP_GROUP_DESCRIBE:
        return read_any_group_describe_reply(frame);
    default:
        return read_empty(frame);
    }
}

static inline uint16_t read_any_txn_or_group(const struct frame *frame)
{
    bool is_reply = frame->flags & FRAME_REPLY;
    if (frame->op < 48)
        return is_reply ? read_any_txn_reply(frame) : read_any_txn_request(frame);
    return is_reply ? read_any_group_reply(frame) : read_any_group_request(frame);
}

#endif
