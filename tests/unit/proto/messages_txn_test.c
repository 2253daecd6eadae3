/* proto/messages_txn.h and messages_group.h: every message comes back with the values it was
 * written with. The values are those of samples_txn.h, spelled out here a second time. */
#include <criterion/criterion.h>

#include "tests/unit/proto/samples.h"

#define ID_A 0x01020304u
#define ID_B 0x11121314u
#define PARTITION_A 0x05060708u
#define PARTITION_B 0x15161718u
#define LONG_A UINT64_C(0x0102030405060708)
#define LONG_B UINT64_C(0x1112131415161718)

static uint8_t bytes[SAMPLE_BYTES_MAX];

static struct frame decode(const char *name)
{
    struct frame frame = {0};
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        if (strcmp(samples[i].name, name) != 0)
            continue;
        sample_encode(&samples[i], bytes);
        cr_assert_eq(frame_decode(bytes, &frame), PE_NONE);
        return frame;
    }
    cr_assert_fail("no sample %s", name);
    return frame;
}

static void assert_text(struct slice s, const char *expected)
{
    cr_assert(slice_equals(s, slice_of_text(expected)), "expected %s, have %.*s", expected,
              (int)s.len, (const char *)s.bytes);
}

static void assert_txn(const struct msg_txn *m)
{
    assert_text(m->id, "transfer-\xc3\xa9");
    cr_assert_eq(m->producer_id, LONG_A);
    cr_assert_eq(m->epoch, 0x090a);
    cr_assert_eq(m->coordinator, 0x21222324);
    cr_assert_eq(m->open_lsn, 0x3132333435363738);
}

static void assert_group_item(const struct group_item *item, uint32_t topic_id, uint32_t partition)
{
    cr_assert_eq(le32_get(item->topic_id), topic_id);
    cr_assert_eq(le32_get(item->partition), partition);
}

/* ---- transactions ---- */

Test(messages_txn, init)
{
    struct frame frame = decode("txn_init");
    struct msg_txn_init m;
    cr_assert_eq(read_txn_init(&frame, &m), PE_NONE);
    assert_text(m.id, "transfer-\xc3\xa9");
    frame = decode("txn_init_reply");
    struct msg_txn_init_reply reply;
    cr_assert_eq(read_txn_init_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.producer_id, LONG_A);
    cr_assert_eq(reply.epoch, 0x090a);
    cr_assert_eq(reply.state, TXN_INIT_PREPARED);
    cr_assert_eq(reply.coordinator, 0x21222324);
    cr_assert_eq(reply.open_lsn, 0x3132333435363738);
}

Test(messages_txn, begin)
{
    struct frame frame = decode("txn_begin");
    struct msg_txn_begin m;
    cr_assert_eq(read_txn_begin(&frame, &m), PE_NONE);
    assert_text(m.id, "transfer-\xc3\xa9");
    cr_assert_eq(m.producer_id, LONG_A);
    cr_assert_eq(m.epoch, 0x090a);
    cr_assert_eq(m.timeout_ms, ID_B);
    frame = decode("txn_begin_reply");
    struct msg_txn_begin_reply reply;
    cr_assert_eq(read_txn_begin_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.coordinator, 0x21222324);
    cr_assert_eq(reply.timeout_ms, ID_B);
    cr_assert_eq(reply.open_lsn, 0x3132333435363738);
}

Test(messages_txn, offsets)
{
    struct frame frame = decode("txn_offsets");
    struct msg_txn_offsets m;
    cr_assert_eq(read_txn_offsets(&frame, &m), PE_NONE);
    assert_text(m.group, "billing");
    assert_text(m.member, "m-1");
    cr_assert_eq(m.generation, 0x41424344);
    assert_txn(&m.txn);
    cr_assert_eq(m.item_count, 2);
    cr_assert_eq(le32_get(m.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_A);
    cr_assert_eq(le64_get(m.items[0].offset), LONG_B);
    cr_assert_eq(le32_get(m.items[1].topic_id), ID_B);
    cr_assert_eq(le64_get(m.items[1].offset), INT64_MAX);
}

Test(messages_txn, commit_names_partitions_and_groups)
{
    struct frame frame = decode("txn_commit");
    struct msg_txn_end m;
    cr_assert_eq(read_txn_end(&frame, &m), PE_NONE);
    assert_txn(&m.txn);
    cr_assert_eq(m.item_count, 2);
    cr_assert_eq(m.group_count, 2);
    cr_assert_eq(le32_get(m.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_A);
    cr_assert_eq(le32_get(m.items[0].batch_count), 0x51525354);
    cr_assert_eq(le32_get(m.items[1].topic_id), ID_B);
    cr_assert_eq(le32_get(m.items[1].partition), PARTITION_B);
    cr_assert_eq(le32_get(m.items[1].batch_count), 0x61626364);
    assert_text(read_string(&m.groups), "billing");
    assert_text(read_string(&m.groups), "audit");
    cr_assert(reader_is_done(&m.groups));
}

Test(messages_txn, prepare_and_an_end_by_name)
{
    struct frame frame = decode("txn_prepare");
    struct msg_txn_end m;
    cr_assert_eq(read_txn_end(&frame, &m), PE_NONE);
    assert_txn(&m.txn);
    cr_assert_eq(m.item_count, 1);
    cr_assert_eq(m.group_count, 0);
    frame = decode("txn_commit_by_name");
    cr_assert_eq(read_txn_end(&frame, &m), PE_NONE);
    cr_assert_eq(m.txn.producer_id, TXN_BY_NAME);
    cr_assert_eq(m.txn.open_lsn, 0x3132333435363738);
    cr_assert_eq(m.item_count, 0);
    cr_assert_eq(m.group_count, 0);
}

Test(messages_txn, commit_reply)
{
    struct frame frame = decode("txn_commit_reply");
    struct msg_txn_commit_reply m;
    cr_assert_eq(read_txn_commit_reply(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, 2);
    cr_assert_eq(frame.meta_length, TXN_COMMIT_REPLY_FIXED + 2 * sizeof(*m.items));
    cr_assert_eq(le32_get(m.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_A);
    cr_assert_eq(le64_get(m.items[0].base_offset), LONG_B);
    cr_assert_eq(le64_get(m.items[1].base_offset), UINT64_MAX);
}

Test(messages_txn, abort)
{
    struct frame frame = decode("txn_abort");
    struct msg_txn m;
    cr_assert_eq(read_txn_abort(&frame, &m), PE_NONE);
    assert_txn(&m);
}

Test(messages_txn, list)
{
    struct frame frame = decode("txn_list");
    struct msg_txn_list m;
    cr_assert_eq(read_txn_list(&frame, &m), PE_NONE);
    cr_assert_eq(m.shard, ID_A);
    assert_text(m.after, "ship");
    frame = decode("txn_list_reply");
    struct msg_txn_list_reply reply;
    struct msg_txn_list_item item;
    cr_assert_eq(read_txn_list_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.shard_count, ID_A);
    cr_assert(reply.more);
    cr_assert_eq(reply.item_count, 2);
    read_txn_list_item(&reply, &item);
    assert_text(item.id, "transfer-\xc3\xa9");
    cr_assert_eq(item.producer_id, LONG_A);
    cr_assert_eq(item.epoch, 0x090a);
    cr_assert_eq(item.state, TXN_STATE_ABORTING);
    cr_assert_eq(item.coordinator, 0x21222324);
    cr_assert_eq(item.open_lsn, 0x3132333435363738);
    cr_assert_eq(item.age_ms, 0x4142434445464748);
    cr_assert_eq(item.timeout_ms, ID_B);
    cr_assert_eq(item.shards, 0x8182838485868788);
    read_txn_list_item(&reply, &item);
    assert_text(item.id, "x");
    cr_assert_eq(item.open_lsn, 0);
    cr_assert(reader_is_done(&reply.items));
}

Test(messages_txn, describe)
{
    struct frame frame = decode("txn_describe");
    struct msg_txn_describe m;
    cr_assert_eq(read_txn_describe(&frame, &m), PE_NONE);
    cr_assert_eq(m.shard, ID_A);
    cr_assert_eq(m.coordinator, 0x21222324);
    cr_assert_eq(m.open_lsn, 0x3132333435363738);
    frame = decode("txn_describe_reply");
    struct msg_txn_describe_reply reply;
    cr_assert_eq(read_txn_describe_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.state, TXN_PART_PREPARED);
    cr_assert_eq(reply.offset_count, 0x31323334);
    cr_assert_eq(reply.batch_bytes, 0x4142434445464748);
    cr_assert_eq(reply.item_count, 1);
    cr_assert_eq(le32_get(reply.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(reply.items[0].partition), PARTITION_A);
    cr_assert_eq(le32_get(reply.items[0].batch_count), ID_B);
    cr_assert_eq(le32_get(reply.items[0].record_count), PARTITION_B);
    cr_assert_eq(le64_get(reply.items[0].bytes), 0x2122232425262728);
}

/* ---- consumer groups ---- */

Test(messages_group, join)
{
    struct frame frame = decode("group_join");
    struct msg_group_join m;
    cr_assert_eq(read_group_join(&frame, &m), PE_NONE);
    assert_text(m.group, "billing");
    assert_text(m.member, "m-1");
    assert_text(m.instance, "host-a");
    cr_assert_eq(m.assignor, GROUP_STICKY);
    cr_assert_eq(m.session_timeout_ms, 0x21222324);
    cr_assert_eq(m.rebalance_timeout_ms, 0x31323334);
    cr_assert_eq(m.topic_count, 2);
    cr_assert_eq(le32_get(m.topic_ids[0]), ID_A);
    cr_assert_eq(le32_get(m.topic_ids[1]), ID_B);
    cr_assert_eq(m.item_count, 1);
    assert_group_item(&m.items[0], ID_A, PARTITION_A);
}

Test(messages_group, assignment_new_and_unchanged)
{
    struct frame frame = decode("group_join_reply");
    struct msg_group_assignment m;
    cr_assert_eq(read_group_assignment(&frame, &m), PE_NONE);
    assert_text(m.member, "m-1");
    cr_assert_eq(m.generation, 0x41424344);
    cr_assert_eq(m.session_timeout_ms, 0x21222324);
    cr_assert_eq(m.item_count, 2);
    assert_group_item(&m.items[0], ID_A, PARTITION_A);
    assert_group_item(&m.items[1], ID_B, PARTITION_B);
    frame = decode("group_heartbeat_reply");
    cr_assert_eq(read_group_assignment(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, GROUP_UNCHANGED);
}

Test(messages_group, heartbeat_and_leave)
{
    struct frame frame = decode("group_heartbeat");
    struct msg_group_heartbeat m;
    cr_assert_eq(read_group_heartbeat(&frame, &m), PE_NONE);
    assert_text(m.group, "billing");
    assert_text(m.member, "m-1");
    cr_assert_eq(m.generation, 0x41424344);
    frame = decode("group_leave");
    struct msg_group_leave leave;
    cr_assert_eq(read_group_leave(&frame, &leave), PE_NONE);
    assert_text(leave.group, "billing");
    assert_text(leave.member, "m-1");
    cr_assert(leave.for_ever);
}

Test(messages_group, offset_commit_and_reset)
{
    struct frame frame = decode("offset_commit");
    struct msg_offset_commit m;
    cr_assert_eq(read_offset_commit(&frame, &m), PE_NONE);
    assert_text(m.group, "billing");
    assert_text(m.member, "m-1");
    cr_assert_eq(m.generation, 0x41424344);
    cr_assert_eq(m.flags, 0);
    cr_assert_eq(m.item_count, 1);
    cr_assert_eq(le32_get(m.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_A);
    cr_assert_eq(le64_get(m.items[0].offset), LONG_B);
    frame = decode("offset_commit_reset");
    cr_assert_eq(read_offset_commit(&frame, &m), PE_NONE);
    cr_assert_eq(m.member.len, 0);
    cr_assert_eq(m.flags, OFFSET_COMMIT_RESET);
}

Test(messages_group, offset_fetch_and_results)
{
    struct frame frame = decode("offset_fetch");
    struct msg_offset_fetch m;
    cr_assert_eq(read_offset_fetch(&frame, &m), PE_NONE);
    assert_text(m.group, "billing");
    cr_assert_eq(m.item_count, 1);
    assert_group_item(&m.items[0], ID_A, PARTITION_A);
    frame = decode("offset_fetch_reply");
    struct msg_offset_results reply;
    cr_assert_eq(read_offset_results(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.item_count, 2);
    cr_assert_eq(frame.meta_length, OFFSET_RESULTS_FIXED + 2 * sizeof(*reply.items));
    cr_assert_eq(le32_get(reply.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(reply.items[0].partition), PARTITION_A);
    cr_assert_eq(le16_get(reply.items[0].error), PE_NONE);
    cr_assert_eq(le64_get(reply.items[0].offset), LONG_B);
    cr_assert_eq(le16_get(reply.items[1].error), PE_OFFSETS_PENDING);
    cr_assert_eq(le64_get(reply.items[1].offset), UINT64_MAX);
}

Test(messages_group, list)
{
    struct frame frame = decode("group_list");
    struct msg_group_list m;
    cr_assert_eq(read_group_list(&frame, &m), PE_NONE);
    cr_assert_eq(m.shard, ID_A);
    cr_assert_eq(m.after.len, 0);
    frame = decode("group_list_reply");
    struct msg_group_list_reply reply;
    struct msg_group_list_item item;
    cr_assert_eq(read_group_list_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.shard_count, ID_A);
    cr_assert_not(reply.more);
    cr_assert_eq(reply.item_count, 1);
    read_group_list_item(&reply, &item);
    assert_text(item.group, "billing");
    cr_assert_eq(item.state, GROUP_STABLE);
    cr_assert_eq(item.generation, 0x41424344);
    cr_assert_eq(item.member_count, ID_B);
    cr_assert_eq(item.offset_count, 0x21222324);
    cr_assert(reader_is_done(&reply.items));
}

Test(messages_group, describe)
{
    struct frame frame = decode("group_describe");
    struct msg_group_describe m;
    cr_assert_eq(read_group_describe(&frame, &m), PE_NONE);
    assert_text(m.group, "billing");
    frame = decode("group_describe_reply");
    struct msg_group_describe_reply reply;
    struct msg_group_member member;
    cr_assert_eq(read_group_describe_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.state, GROUP_REBALANCING);
    cr_assert_eq(reply.assignor, GROUP_STICKY);
    cr_assert_eq(reply.generation, 0x41424344);
    cr_assert_eq(reply.member_count, 2);
    read_group_member(&reply, &member);
    assert_text(member.member, "m-1");
    assert_text(member.instance, "host-a");
    cr_assert_eq(member.generation, 0x31323334);
    cr_assert_eq(member.session_timeout_ms, 0x21222324);
    cr_assert_eq(member.idle_ms, ID_B);
    cr_assert_eq(member.item_count, 2);
    assert_group_item(&member.items[0], ID_A, PARTITION_A);
    assert_group_item(&member.items[1], ID_B, PARTITION_B);
    read_group_member(&reply, &member);
    assert_text(member.member, "m-2");
    cr_assert_eq(member.instance.len, 0);
    cr_assert_eq(member.item_count, 0);
    cr_assert(reader_is_done(&reply.members));
}

Test(messages_group, delete)
{
    struct frame frame = decode("group_delete");
    struct slice name;
    cr_assert_eq(read_group_delete(&frame, &name), PE_NONE);
    assert_text(name, "billing");
}

/* The broker routes by what a request begins with, before it decodes the rest. */
Test(messages_group, a_request_begins_with_the_string_that_routes_it)
{
    static const struct {
        const char *name, *string;
    } cases[] = {
        {"txn_init", "transfer-\xc3\xa9"},   {"txn_begin", "transfer-\xc3\xa9"},
        {"txn_offsets", "billing"},          {"txn_prepare", "transfer-\xc3\xa9"},
        {"txn_commit", "transfer-\xc3\xa9"}, {"txn_abort", "transfer-\xc3\xa9"},
        {"group_join", "billing"},           {"group_heartbeat", "billing"},
        {"group_leave", "billing"},          {"offset_commit", "billing"},
        {"offset_fetch", "billing"},         {"group_describe", "billing"},
        {"group_delete", "billing"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct frame frame = decode(cases[i].name);
        struct reader r = reader_make(frame.meta, frame.meta_length);
        assert_text(read_string(&r), cases[i].string);
    }
}
