/* One function a message, in the order of proto/ops.def. Writers that take text want a NUL behind
 * it; readers have refused texts with one inside. */
#include "tests/fuzz/write_again.h"

#include <stdlib.h>

static bool write_request(const struct frame *frame, struct writer *w);
static bool write_txn_request(const struct frame *frame, struct writer *w);
static bool write_group_request(const struct frame *frame, struct writer *w);
static bool write_reply(const struct frame *frame, struct writer *w);
static bool write_txn_or_group_reply(const struct frame *frame, struct writer *w);

bool write_again(const struct frame *frame, struct writer *w)
{
    if (frame->flags & FRAME_ERROR)
        return false;
    if (frame->op < 32)
        return frame->flags & FRAME_REPLY ? write_reply(frame, w) : write_request(frame, w);
    if (frame->flags & FRAME_REPLY)
        return write_txn_or_group_reply(frame, w);
    return frame->op < 48 ? write_txn_request(frame, w) : write_group_request(frame, w);
}

/* ---- parts ---- */

static const char *text_of(struct slice s, unsigned slot)
{
    static char texts[2][65536];
    ASSERT(s.len < sizeof(texts[0]));
    if (s.len > 0)
        memcpy(texts[slot], s.bytes, s.len);
    texts[slot][s.len] = '\0';
    return texts[slot];
}

static void settings_again(struct writer *w, struct msg_settings *settings)
{
    struct msg_setting setting;
    write_settings_begin(w, settings->count);
    for (uint32_t i = 0; i < settings->count; i++) {
        read_setting(settings, &setting);
        write_setting(w, text_of(setting.key, 0), text_of(setting.value, 1));
    }
}

static void strings_again(struct writer *w, struct reader *strings, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        write_string(w, read_string(strings));
}

/* ---- requests and what is pushed ---- */

static void metadata_again(const struct frame *frame, struct writer *w)
{
    struct msg_metadata m;
    ASSERT(read_metadata(frame, &m) == PE_NONE);
    write_metadata_begin(w, m.name_count, m.after);
    strings_again(w, &m.names, m.name_count == METADATA_ALL ? 0 : m.name_count);
}

static void produce_again(const struct frame *frame, struct writer *w)
{
    struct msg_produce m;
    ASSERT(read_produce(frame, &m) == PE_NONE);
    write_produce_begin(w, m.batch_count, m.flags);
    if (m.flags & PRODUCE_STAGED)
        write_produce_staged(w, m.coordinator, m.open_lsn);
    for (uint32_t i = 0; i < m.batch_count; i++)
        write_produce_item(w, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition),
                           le32_get(m.items[i].batch_bytes));
}

static void fetch_items_again(struct writer *w, const struct fetch_item *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        write_fetch_item(w, le32_get(items[i].topic_id), le32_get(items[i].partition),
                         items[i].start, le32_get(items[i].bytes_max), le64_get(items[i].value));
}

static void fetch_again(const struct frame *frame, struct writer *w)
{
    struct msg_fetch m;
    ASSERT(read_fetch(frame, &m) == PE_NONE);
    write_fetch_begin(w, m.bytes_max, m.wait_ms, m.credit, m.item_count);
    fetch_items_again(w, m.items, m.item_count);
}

static void ack_again(const struct frame *frame, struct writer *w)
{
    struct msg_ack m;
    uint64_t before = 0;
    ASSERT(read_ack(frame, &m) == PE_NONE);
    write_ack_begin(w, m.first, m.last, m.shard, m.durable_lsn, m.offset_count);
    for (uint32_t i = 0; i < m.offset_count; i++) {
        uint64_t offset = read_ack_offset(&m);
        write_zigzag(w, (int64_t)(offset - before));
        before = offset;
    }
}

static void deliver_again(const struct frame *frame, struct writer *w)
{
    struct msg_deliver m;
    ASSERT(read_deliver(frame, &m) == PE_NONE);
    write_deliver_begin(w, m.item_count);
    write_bytes(w, m.items, m.item_count * sizeof(*m.items));
}

static void topic_change_again(const struct frame *frame, struct writer *w)
{
    struct msg_topic_change m;
    ASSERT(read_topic_change(frame, &m) == PE_NONE);
    write_topic_change(w, m.name, m.partition_count);
    settings_again(w, &m.settings);
}

static bool write_request(const struct frame *frame, struct writer *w)
{
    union {
        struct msg_hello hello;
        struct msg_producer_init init;
        struct msg_credit credit;
        struct msg_offsets offsets;
        struct msg_goaway goaway;
        struct slice name;
    } m;
    switch (frame->op) {
    case OP_HELLO:
        ASSERT(read_hello(frame, &m.hello) == PE_NONE);
        write_hello(w, &m.hello);
        return true;
    case OP_METADATA:
        metadata_again(frame, w);
        return true;
    case OP_TOPIC_CREATE:
    case OP_TOPIC_ALTER:
        topic_change_again(frame, w);
        return true;
    case OP_TOPIC_DELETE:
        ASSERT(read_topic_delete(frame, &m.name) == PE_NONE);
        write_topic_delete(w, m.name);
        return true;
    case OP_PRODUCER_INIT:
        ASSERT(read_producer_init(frame, &m.init) == PE_NONE);
        write_producer_init(w, &m.init);
        return true;
    case OP_PRODUCE:
        produce_again(frame, w);
        return true;
    case OP_ACK:
        ack_again(frame, w);
        return true;
    case OP_FETCH:
    case OP_SUBSCRIBE:
        fetch_again(frame, w);
        return true;
    case OP_CREDIT:
    case OP_UNSUBSCRIBE:
        ASSERT(read_credit(frame, &m.credit) == PE_NONE);
        write_credit(w, &m.credit);
        return true;
    case OP_DELIVER:
        deliver_again(frame, w);
        return true;
    case OP_OFFSETS:
        ASSERT(read_offsets(frame, &m.offsets) == PE_NONE);
        write_offsets_begin(w, m.offsets.item_count);
        fetch_items_again(w, m.offsets.items, m.offsets.item_count);
        return true;
    case OP_GOAWAY:
        ASSERT(read_goaway(frame, &m.goaway) == PE_NONE);
        write_goaway(w, &m.goaway);
        return true;
    default: // an empty meta: nothing to write
        return true;
    }
}

/* ---- requests of transactions ---- */

static void txn_offsets_again(const struct frame *frame, struct writer *w)
{
    struct msg_txn_offsets m;
    ASSERT(read_txn_offsets(frame, &m) == PE_NONE);
    write_txn_offsets_begin(w, &m);
    for (uint32_t i = 0; i < m.item_count; i++)
        write_offset_item(w, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition),
                          le64_get(m.items[i].offset));
}

static void txn_end_again(const struct frame *frame, struct writer *w)
{
    struct msg_txn_end m;
    ASSERT(read_txn_end(frame, &m) == PE_NONE);
    write_txn_end_begin(w, &m.txn, m.item_count, m.group_count);
    for (uint32_t i = 0; i < m.item_count; i++)
        write_txn_item(w, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition),
                       le32_get(m.items[i].batch_count));
    strings_again(w, &m.groups, m.group_count);
}

static bool write_txn_request(const struct frame *frame, struct writer *w)
{
    union {
        struct msg_txn_init init;
        struct msg_txn_begin begin;
        struct msg_txn txn;
        struct msg_txn_list list;
        struct msg_txn_describe describe;
    } m;
    switch (frame->op) {
    case OP_TXN_INIT:
        ASSERT(read_txn_init(frame, &m.init) == PE_NONE);
        write_txn_init(w, &m.init);
        return true;
    case OP_TXN_BEGIN:
        ASSERT(read_txn_begin(frame, &m.begin) == PE_NONE);
        write_txn_begin(w, &m.begin);
        return true;
    case OP_TXN_OFFSETS:
        txn_offsets_again(frame, w);
        return true;
    case OP_TXN_PREPARE:
    case OP_TXN_COMMIT:
        txn_end_again(frame, w);
        return true;
    case OP_TXN_ABORT:
        ASSERT(read_txn_abort(frame, &m.txn) == PE_NONE);
        write_txn_abort(w, &m.txn);
        return true;
    case OP_TXN_LIST:
        ASSERT(read_txn_list(frame, &m.list) == PE_NONE);
        write_txn_list(w, &m.list);
        return true;
    case OP_TXN_DESCRIBE:
        ASSERT(read_txn_describe(frame, &m.describe) == PE_NONE);
        write_txn_describe(w, &m.describe);
        return true;
    default:
        return true;
    }
}

/* ---- requests of groups ---- */

static void group_items_again(struct writer *w, const struct group_item *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        write_group_item(w, le32_get(items[i].topic_id), le32_get(items[i].partition));
}

static void group_join_again(const struct frame *frame, struct writer *w)
{
    struct msg_group_join m;
    ASSERT(read_group_join(frame, &m) == PE_NONE);
    write_group_join_begin(w, &m);
    group_items_again(w, m.items, m.item_count);
}

static void offset_commit_again(const struct frame *frame, struct writer *w)
{
    struct msg_offset_commit m;
    ASSERT(read_offset_commit(frame, &m) == PE_NONE);
    write_offset_commit_begin(w, &m);
    for (uint32_t i = 0; i < m.item_count; i++)
        write_offset_item(w, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition),
                          le64_get(m.items[i].offset));
}

static void offset_fetch_again(const struct frame *frame, struct writer *w)
{
    struct msg_offset_fetch m;
    ASSERT(read_offset_fetch(frame, &m) == PE_NONE);
    write_offset_fetch_begin(w, m.group, m.item_count);
    group_items_again(w, m.items, m.item_count);
}

static bool write_group_request(const struct frame *frame, struct writer *w)
{
    union {
        struct msg_group_heartbeat heartbeat;
        struct msg_group_leave leave;
        struct msg_group_list list;
        struct msg_group_describe describe;
        struct slice name;
    } m;
    switch (frame->op) {
    case OP_GROUP_JOIN:
        group_join_again(frame, w);
        return true;
    case OP_GROUP_HEARTBEAT:
        ASSERT(read_group_heartbeat(frame, &m.heartbeat) == PE_NONE);
        write_group_heartbeat(w, &m.heartbeat);
        return true;
    case OP_GROUP_LEAVE:
        ASSERT(read_group_leave(frame, &m.leave) == PE_NONE);
        write_group_leave(w, &m.leave);
        return true;
    case OP_OFFSET_COMMIT:
        offset_commit_again(frame, w);
        return true;
    case OP_OFFSET_FETCH:
        offset_fetch_again(frame, w);
        return true;
    case OP_GROUP_LIST:
        ASSERT(read_group_list(frame, &m.list) == PE_NONE);
        write_group_list(w, &m.list);
        return true;
    case OP_GROUP_DESCRIBE:
        ASSERT(read_group_describe(frame, &m.describe) == PE_NONE);
        write_group_describe(w, &m.describe);
        return true;
    case OP_GROUP_DELETE:
        ASSERT(read_group_delete(frame, &m.name) == PE_NONE);
        write_group_delete(w, m.name);
        return true;
    default:
        return true;
    }
}

/* ---- replies ---- */

static void metadata_reply_again(const struct frame *frame, struct writer *w)
{
    struct msg_metadata_reply m;
    struct msg_metadata_topic topic;
    ASSERT(read_metadata_reply(frame, &m) == PE_NONE);
    write_metadata_reply_begin(w, m.topic_count, m.more);
    for (uint32_t i = 0; i < m.topic_count; i++) {
        read_metadata_topic(&m, &topic);
        write_metadata_topic(w, &topic);
        settings_again(w, &topic.settings);
    }
}

static void status_reply_again(const struct frame *frame, struct writer *w)
{
    struct msg_status_reply m;
    ASSERT(read_status_reply(frame, &m) == PE_NONE);
    write_status_reply_begin(w, m.ready, m.can_produce, m.can_consume, text_of(m.reason, 0),
                             m.value_count);
    for (uint32_t i = 0; i < m.value_count; i++) {
        struct slice name;
        uint64_t value;
        read_status_value(&m, &name, &value);
        write_status_value(w, text_of(name, 0), value);
    }
}

static bool write_reply(const struct frame *frame, struct writer *w)
{
    union {
        struct msg_hello_reply hello;
        struct msg_topic_reply topic;
        struct msg_producer_init_reply init;
        struct msg_offsets_reply offsets;
    } m;
    switch (frame->op) {
    case OP_HELLO:
        ASSERT(read_hello_reply(frame, &m.hello) == PE_NONE);
        write_hello_reply(w, &m.hello);
        return true;
    case OP_METADATA:
        metadata_reply_again(frame, w);
        return true;
    case OP_TOPIC_CREATE:
    case OP_TOPIC_ALTER:
    case OP_TOPIC_DELETE:
        ASSERT(read_topic_reply(frame, &m.topic) == PE_NONE);
        write_topic_reply(w, &m.topic);
        return true;
    case OP_PRODUCER_INIT:
        ASSERT(read_producer_init_reply(frame, &m.init) == PE_NONE);
        write_producer_init_reply(w, &m.init);
        return true;
    case OP_FETCH:
        deliver_again(frame, w);
        return true;
    case OP_OFFSETS:
        ASSERT(read_offsets_reply(frame, &m.offsets) == PE_NONE);
        write_offsets_begin(w, m.offsets.item_count);
        write_bytes(w, m.offsets.items, m.offsets.item_count * sizeof(*m.offsets.items));
        return true;
    case OP_STATUS:
        status_reply_again(frame, w);
        return true;
    default:
        return true;
    }
}

/* ---- replies of transactions and groups ---- */

static void txn_commit_reply_again(const struct frame *frame, struct writer *w)
{
    struct msg_txn_commit_reply m;
    ASSERT(read_txn_commit_reply(frame, &m) == PE_NONE);
    write_txn_commit_reply_begin(w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++)
        write_txn_result_item(w, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition),
                              le64_get(m.items[i].base_offset));
}

static void txn_list_reply_again(const struct frame *frame, struct writer *w)
{
    struct msg_txn_list_reply m;
    struct msg_txn_list_item item;
    ASSERT(read_txn_list_reply(frame, &m) == PE_NONE);
    write_txn_list_reply_begin(w, m.shard_count, m.more, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        read_txn_list_item(&m, &item);
        write_txn_list_item(w, &item);
    }
}

static void txn_describe_reply_again(const struct frame *frame, struct writer *w)
{
    struct msg_txn_describe_reply m;
    ASSERT(read_txn_describe_reply(frame, &m) == PE_NONE);
    write_txn_describe_reply_begin(w, &m);
    for (uint32_t i = 0; i < m.item_count; i++)
        write_txn_part_item(w, &m.items[i]);
}

static void assignment_again(const struct frame *frame, struct writer *w)
{
    struct msg_group_assignment m;
    ASSERT(read_group_assignment(frame, &m) == PE_NONE);
    write_group_assignment_begin(w, &m);
    group_items_again(w, m.items, m.item_count == GROUP_UNCHANGED ? 0 : m.item_count);
}

static void offset_results_again(const struct frame *frame, struct writer *w)
{
    struct msg_offset_results m;
    ASSERT(read_offset_results(frame, &m) == PE_NONE);
    write_offset_results_begin(w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++)
        write_offset_result(w, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition),
                            le16_get(m.items[i].error), le64_get(m.items[i].offset));
}

static void group_list_reply_again(const struct frame *frame, struct writer *w)
{
    struct msg_group_list_reply m;
    struct msg_group_list_item item;
    ASSERT(read_group_list_reply(frame, &m) == PE_NONE);
    write_group_list_reply_begin(w, m.shard_count, m.more, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        read_group_list_item(&m, &item);
        write_group_list_item(w, &item);
    }
}

static void group_describe_reply_again(const struct frame *frame, struct writer *w)
{
    struct msg_group_describe_reply m;
    struct msg_group_member member;
    ASSERT(read_group_describe_reply(frame, &m) == PE_NONE);
    write_group_describe_reply_begin(w, &m);
    for (uint32_t i = 0; i < m.member_count; i++) {
        read_group_member(&m, &member);
        write_group_member_begin(w, &member);
        group_items_again(w, member.items, member.item_count);
    }
}

static bool write_txn_or_group_reply(const struct frame *frame, struct writer *w)
{
    struct msg_txn_init_reply init;
    struct msg_txn_begin_reply begin;
    switch (frame->op) {
    case OP_TXN_INIT:
        ASSERT(read_txn_init_reply(frame, &init) == PE_NONE);
        write_txn_init_reply(w, &init);
        return true;
    case OP_TXN_BEGIN:
        ASSERT(read_txn_begin_reply(frame, &begin) == PE_NONE);
        write_txn_begin_reply(w, &begin);
        return true;
    case OP_TXN_COMMIT:
        txn_commit_reply_again(frame, w);
        return true;
    case OP_TXN_LIST:
        txn_list_reply_again(frame, w);
        return true;
    case OP_TXN_DESCRIBE:
        txn_describe_reply_again(frame, w);
        return true;
    case OP_GROUP_JOIN:
    case OP_GROUP_HEARTBEAT:
        assignment_again(frame, w);
        return true;
    case OP_OFFSET_COMMIT:
    case OP_OFFSET_FETCH:
        offset_results_again(frame, w);
        return true;
    case OP_GROUP_LIST:
        group_list_reply_again(frame, w);
        return true;
    case OP_GROUP_DESCRIBE:
        group_describe_reply_again(frame, w);
        return true;
    default:
        return true;
    }
}
