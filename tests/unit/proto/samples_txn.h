/* samples.h's frames of transactions and consumer groups. */
#ifndef SLUICE_TESTS_PROTO_SAMPLES_TXN_H
#define SLUICE_TESTS_PROTO_SAMPLES_TXN_H

#include "proto/messages_group.h"

static inline struct msg_txn sample_txn_name(void)
{
    return (struct msg_txn){.id = slice_of_text("transfer-\xc3\xa9"),
                            .producer_id = 0x0102030405060708,
                            .epoch = 0x090a,
                            .coordinator = 0x21222324,
                            .open_lsn = 0x3132333435363738};
}

/* ---- transactions ---- */

static inline void sample_txn_init(struct writer *w)
{
    write_txn_init(w, &(struct msg_txn_init){.id = slice_of_text("transfer-\xc3\xa9")});
}

static inline void sample_txn_init_reply(struct writer *w)
{
    write_txn_init_reply(w, &(struct msg_txn_init_reply){.producer_id = 0x0102030405060708,
                                                         .epoch = 0x090a,
                                                         .state = TXN_INIT_PREPARED,
                                                         .coordinator = 0x21222324,
                                                         .open_lsn = 0x3132333435363738});
}

static inline void sample_txn_begin(struct writer *w)
{
    write_txn_begin(w, &(struct msg_txn_begin){.id = slice_of_text("transfer-\xc3\xa9"),
                                               .producer_id = 0x0102030405060708,
                                               .epoch = 0x090a,
                                               .timeout_ms = 0x11121314});
}

static inline void sample_txn_begin_reply(struct writer *w)
{
    write_txn_begin_reply(w, &(struct msg_txn_begin_reply){.coordinator = 0x21222324,
                                                           .timeout_ms = 0x11121314,
                                                           .open_lsn = 0x3132333435363738});
}

static inline void sample_txn_offsets(struct writer *w)
{
    write_txn_offsets_begin(w, &(struct msg_txn_offsets){.group = slice_of_text("billing"),
                                                         .member = slice_of_text("m-1"),
                                                         .generation = 0x41424344,
                                                         .txn = sample_txn_name(),
                                                         .item_count = 2});
    write_offset_item(w, 0x01020304, 0x05060708, 0x1112131415161718);
    write_offset_item(w, 0x11121314, 0x15161718, INT64_MAX);
}

static inline void sample_txn_prepare(struct writer *w)
{
    struct msg_txn txn = sample_txn_name();
    write_txn_end_begin(w, &txn, 1, 0);
    write_txn_item(w, 0x01020304, 0x05060708, 0x51525354);
}

static inline void sample_txn_commit(struct writer *w)
{
    struct msg_txn txn = sample_txn_name();
    write_txn_end_begin(w, &txn, 2, 2);
    write_txn_item(w, 0x01020304, 0x05060708, 0x51525354);
    write_txn_item(w, 0x11121314, 0x15161718, 0x61626364);
    write_text(w, "billing");
    write_text(w, "audit");
}

static inline void sample_txn_commit_by_name(struct writer *w)
{
    struct msg_txn txn = sample_txn_name();
    txn.producer_id = TXN_BY_NAME;
    txn.epoch = 0;
    write_txn_end_begin(w, &txn, 0, 0);
}

static inline void sample_txn_commit_reply(struct writer *w)
{
    write_txn_commit_reply_begin(w, 2);
    write_txn_result_item(w, 0x01020304, 0x05060708, 0x1112131415161718);
    write_txn_result_item(w, 0x11121314, 0x15161718, UINT64_MAX);
}

static inline void sample_txn_abort(struct writer *w)
{
    struct msg_txn txn = sample_txn_name();
    write_txn_abort(w, &txn);
}

static inline void sample_txn_list(struct writer *w)
{
    write_txn_list(w, &(struct msg_txn_list){.shard = 0x01020304, .after = slice_of_text("ship")});
}

static inline void sample_txn_list_reply(struct writer *w)
{
    write_txn_list_reply_begin(w, 0x01020304, true, 2);
    write_txn_list_item(w, &(struct msg_txn_list_item){.id = slice_of_text("transfer-\xc3\xa9"),
                                                       .producer_id = 0x0102030405060708,
                                                       .epoch = 0x090a,
                                                       .state = TXN_STATE_ABORTING,
                                                       .coordinator = 0x21222324,
                                                       .open_lsn = 0x3132333435363738,
                                                       .age_ms = 0x4142434445464748,
                                                       .timeout_ms = 0x11121314,
                                                       .shards = 0x8182838485868788});
    write_txn_list_item(w, &(struct msg_txn_list_item){.id = slice_of_text("x")});
}

static inline void sample_txn_describe(struct writer *w)
{
    write_txn_describe(w, &(struct msg_txn_describe){.shard = 0x01020304,
                                                     .coordinator = 0x21222324,
                                                     .open_lsn = 0x3132333435363738});
}

static inline void sample_txn_describe_reply(struct writer *w)
{
    struct txn_part_item item = {.topic_id = le32_make(0x01020304),
                                 .partition = le32_make(0x05060708),
                                 .batch_count = le32_make(0x11121314),
                                 .record_count = le32_make(0x15161718),
                                 .bytes = le64_make(0x2122232425262728)};
    write_txn_describe_reply_begin(
        w, &(struct msg_txn_describe_reply){.state = TXN_PART_PREPARED,
                                            .offset_count = 0x31323334,
                                            .batch_bytes = 0x4142434445464748,
                                            .item_count = 1});
    write_txn_part_item(w, &item);
}

/* ---- consumer groups ---- */

static inline void sample_group_join(struct writer *w)
{
    const le32 topic_ids[] = {le32_make(0x01020304), le32_make(0x11121314)};
    write_group_join_begin(w, &(struct msg_group_join){.group = slice_of_text("billing"),
                                                       .member = slice_of_text("m-1"),
                                                       .instance = slice_of_text("host-a"),
                                                       .assignor = GROUP_STICKY,
                                                       .session_timeout_ms = 0x21222324,
                                                       .rebalance_timeout_ms = 0x31323334,
                                                       .topic_count = 2,
                                                       .topic_ids = topic_ids,
                                                       .item_count = 1});
    write_group_item(w, 0x01020304, 0x05060708);
}

static inline void sample_group_assignment(struct writer *w)
{
    write_group_assignment_begin(w, &(struct msg_group_assignment){.member = slice_of_text("m-1"),
                                                                   .generation = 0x41424344,
                                                                   .session_timeout_ms = 0x21222324,
                                                                   .item_count = 2});
    write_group_item(w, 0x01020304, 0x05060708);
    write_group_item(w, 0x11121314, 0x15161718);
}

static inline void sample_group_heartbeat(struct writer *w)
{
    write_group_heartbeat(w, &(struct msg_group_heartbeat){.group = slice_of_text("billing"),
                                                           .member = slice_of_text("m-1"),
                                                           .generation = 0x41424344});
}

static inline void sample_group_unchanged(struct writer *w)
{
    write_group_assignment_begin(w, &(struct msg_group_assignment){.member = slice_of_text("m-1"),
                                                                   .generation = 0x41424344,
                                                                   .session_timeout_ms = 0x21222324,
                                                                   .item_count = GROUP_UNCHANGED});
}

static inline void sample_group_leave(struct writer *w)
{
    write_group_leave(w, &(struct msg_group_leave){.group = slice_of_text("billing"),
                                                   .member = slice_of_text("m-1"),
                                                   .for_ever = true});
}

static inline void sample_offset_commit(struct writer *w)
{
    write_offset_commit_begin(w, &(struct msg_offset_commit){.group = slice_of_text("billing"),
                                                             .member = slice_of_text("m-1"),
                                                             .generation = 0x41424344,
                                                             .item_count = 1});
    write_offset_item(w, 0x01020304, 0x05060708, 0x1112131415161718);
}

static inline void sample_offset_reset(struct writer *w)
{
    write_offset_commit_begin(w, &(struct msg_offset_commit){.group = slice_of_text("billing"),
                                                             .flags = OFFSET_COMMIT_RESET,
                                                             .item_count = 1});
    write_offset_item(w, 0x01020304, 0x05060708, 0);
}

static inline void sample_offset_results(struct writer *w)
{
    write_offset_results_begin(w, 2);
    write_offset_result(w, 0x01020304, 0x05060708, 0, 0x1112131415161718);
    write_offset_result(w, 0x11121314, 0x15161718, PE_OFFSETS_PENDING, UINT64_MAX);
}

static inline void sample_offset_fetch(struct writer *w)
{
    write_offset_fetch_begin(w, slice_of_text("billing"), 1);
    write_group_item(w, 0x01020304, 0x05060708);
}

static inline void sample_group_list(struct writer *w)
{
    write_group_list(w, &(struct msg_group_list){.shard = 0x01020304, .after = {NULL, 0}});
}

static inline void sample_group_list_reply(struct writer *w)
{
    write_group_list_reply_begin(w, 0x01020304, false, 1);
    write_group_list_item(w, &(struct msg_group_list_item){.group = slice_of_text("billing"),
                                                           .state = GROUP_STABLE,
                                                           .generation = 0x41424344,
                                                           .member_count = 0x11121314,
                                                           .offset_count = 0x21222324});
}

static inline void sample_group_describe(struct writer *w)
{
    write_group_describe(w, &(struct msg_group_describe){.group = slice_of_text("billing")});
}

static inline void sample_group_describe_reply(struct writer *w)
{
    write_group_describe_reply_begin(w,
                                     &(struct msg_group_describe_reply){.state = GROUP_REBALANCING,
                                                                        .assignor = GROUP_STICKY,
                                                                        .generation = 0x41424344,
                                                                        .member_count = 2});
    write_group_member_begin(w, &(struct msg_group_member){.member = slice_of_text("m-1"),
                                                           .instance = slice_of_text("host-a"),
                                                           .generation = 0x31323334,
                                                           .session_timeout_ms = 0x21222324,
                                                           .idle_ms = 0x11121314,
                                                           .item_count = 2});
    write_group_item(w, 0x01020304, 0x05060708);
    write_group_item(w, 0x11121314, 0x15161718);
    write_group_member_begin(w, &(struct msg_group_member){.member = slice_of_text("m-2")});
}

static inline void sample_group_delete(struct writer *w)
{
    write_group_delete(w, slice_of_text("billing"));
}

#endif
