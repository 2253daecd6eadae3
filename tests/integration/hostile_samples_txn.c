/* One valid frame of each request about transactions and consumer groups. Each has one answer, however often it comes
 * and however many shards there are, so most are about what isn't there. */
#include "tests/integration/hostile.h"

#define NOBODY "nobody" // a transactional id, a group and a member that nobody makes
#define GROUP "crew"    // its slot is one of shard 0's in stores of 1, 2 and 3 shards

static const struct msg_txn lost_txn = {
    .id = {(const uint8_t *)NOBODY, 6}, .producer_id = 7, .epoch = 1, .open_lsn = 4096};

static uint32_t seal(uint8_t *bytes, const struct writer *w, uint16_t op, uint64_t correlation)
{
    if (w->failed)
        fail("a sample does not fit");
    return frame_seal(bytes, op, 0, correlation, writer_length(w), 0);
}

/* ---- transactions ---- */

uint32_t make_txn_init(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_init(&w, &(struct msg_txn_init){slice_of_text("sample")});
    return seal(bytes, &w, OP_TXN_INIT, correlation);
}

uint32_t make_txn_begin(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_begin(&w, &(struct msg_txn_begin){slice_of_text(NOBODY), 7, 1, 1000});
    return seal(bytes, &w, OP_TXN_BEGIN, correlation);
}

uint32_t make_txn_offsets(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_offsets_begin(&w, &(struct msg_txn_offsets){.group = slice_of_text(GROUP),
                                                          .member = slice_of_text(NOBODY),
                                                          .generation = 1,
                                                          .txn = lost_txn,
                                                          .item_count = 1});
    write_offset_item(&w, hostile.victim_id, 0, 1);
    return seal(bytes, &w, OP_TXN_OFFSETS, correlation);
}

static uint32_t make_txn_end(uint8_t *bytes, uint16_t op, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_end_begin(&w, &lost_txn, 1, 1);
    write_txn_item(&w, hostile.victim_id, 0, 1);
    write_text(&w, GROUP);
    return seal(bytes, &w, op, correlation);
}

uint32_t make_txn_prepare(uint8_t *bytes, uint64_t correlation)
{
    return make_txn_end(bytes, OP_TXN_PREPARE, correlation);
}

uint32_t make_txn_commit(uint8_t *bytes, uint64_t correlation)
{
    return make_txn_end(bytes, OP_TXN_COMMIT, correlation);
}

uint32_t make_txn_abort(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_abort(&w, &lost_txn);
    return seal(bytes, &w, OP_TXN_ABORT, correlation);
}

uint32_t make_txn_list(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_list(&w, &(struct msg_txn_list){0, slice_of_text("sam")});
    return seal(bytes, &w, OP_TXN_LIST, correlation);
}

uint32_t make_txn_describe(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_describe(&w, &(struct msg_txn_describe){0, 0, 4096});
    return seal(bytes, &w, OP_TXN_DESCRIBE, correlation);
}

/* ---- consumer groups ---- */

/* A static member, so that the next one takes its place. */
uint32_t make_group_join(uint8_t *bytes, uint64_t correlation)
{
    le32 topic_id = le32_make(hostile.victim_id);
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_group_join_begin(&w, &(struct msg_group_join){.group = slice_of_text("team"),
                                                        .instance = slice_of_text("one"),
                                                        .assignor = GROUP_STICKY,
                                                        .session_timeout_ms = 10000,
                                                        .topic_count = 1,
                                                        .topic_ids = &topic_id,
                                                        .item_count = 1});
    write_group_item(&w, hostile.victim_id, 0);
    return seal(bytes, &w, OP_GROUP_JOIN, correlation);
}

uint32_t make_group_heartbeat(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_group_heartbeat(
        &w, &(struct msg_group_heartbeat){slice_of_text("team"), slice_of_text(NOBODY), 1});
    return seal(bytes, &w, OP_GROUP_HEARTBEAT, correlation);
}

uint32_t make_group_leave(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_group_leave(
        &w, &(struct msg_group_leave){slice_of_text("team"), slice_of_text(NOBODY), true});
    return seal(bytes, &w, OP_GROUP_LEAVE, correlation);
}

uint32_t make_offset_commit(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_offset_commit_begin(&w, &(struct msg_offset_commit){.group = slice_of_text("squad"),
                                                              .flags = OFFSET_COMMIT_RESET,
                                                              .item_count = 1});
    write_offset_item(&w, hostile.victim_id, 0, 1);
    return seal(bytes, &w, OP_OFFSET_COMMIT, correlation);
}

uint32_t make_offset_fetch(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_offset_fetch_begin(&w, slice_of_text("squad"), 1);
    write_group_item(&w, hostile.victim_id, 0);
    return seal(bytes, &w, OP_OFFSET_FETCH, correlation);
}

uint32_t make_group_list(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_group_list(&w, &(struct msg_group_list){0, slice_of_text("sq")});
    return seal(bytes, &w, OP_GROUP_LIST, correlation);
}

uint32_t make_group_describe(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_group_describe(&w, &(struct msg_group_describe){slice_of_text(NOBODY)});
    return seal(bytes, &w, OP_GROUP_DESCRIBE, correlation);
}

uint32_t make_group_delete(uint8_t *bytes, uint64_t correlation)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_group_delete(&w, slice_of_text(NOBODY));
    return seal(bytes, &w, OP_GROUP_DELETE, correlation);
}
