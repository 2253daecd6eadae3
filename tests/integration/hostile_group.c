/* Attacks on consumer groups: consumers that are none, commits of what belongs to others, and more members than a group
 * may have, from one connection. */
#include "tests/integration/hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct member {
    char group[32], id[GROUP_MEMBER_BYTES_MAX + 1];
    uint32_t generation, item_count;
};

static void expect(uint16_t got, uint16_t wanted, const char *what)
{
    if (got != wanted)
        fail("%s: %s, expected %s", what, proto_error_name(got), proto_error_name(wanted));
}

static uint16_t ask(struct peer *peer, uint8_t *bytes, uint16_t op, const struct writer *w,
                    struct frame *frame)
{
    if (w->failed)
        fail("%s: the frame does not fit", peer->what);
    peer_send(peer, bytes, frame_seal(bytes, op, 0, 9, writer_length(w), 0));
    peer_expect_frame(peer, frame);
    if (frame->op != op || frame->correlation != 9)
        fail("%s: %s came instead of the answer to %s", peer->what, op_name(frame->op),
             op_name(op));
    return error_of(frame);
}

static uint32_t make_join(uint8_t *bytes, const char *group, uint32_t session_ms)
{
    le32 topic_id = le32_make(txn_topic());
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_group_join_begin(&w, &(struct msg_group_join){.group = slice_of_text(group),
                                                        .assignor = GROUP_STICKY,
                                                        .session_timeout_ms = session_ms,
                                                        .topic_count = 1,
                                                        .topic_ids = &topic_id});
    return frame_seal(bytes, OP_GROUP_JOIN, 0, 9, writer_length(&w), 0);
}

static void take_assignment(struct member *member, const struct frame *frame)
{
    struct msg_group_assignment m;
    if (read_group_assignment(frame, &m))
        fail("an assignment is not well-formed");
    snprintf(member->id, sizeof(member->id), "%.*s", (int)m.member.len,
             (const char *)m.member.bytes);
    member->generation = m.generation;
    if (m.item_count != GROUP_UNCHANGED)
        member->item_count = m.item_count;
}

static struct member joined(struct peer *peer, const char *group)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct member member = {0};
    struct frame frame;
    snprintf(member.group, sizeof(member.group), "%s", group);
    peer_send(peer, bytes, make_join(bytes, group, 20000));
    peer_expect_reply(peer, OP_GROUP_JOIN, 9, &frame);
    take_assignment(&member, &frame);
    return member;
}

static uint16_t heartbeat(struct peer *peer, struct member *member)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_group_heartbeat(&w, &(struct msg_group_heartbeat){slice_of_text(member->group),
                                                            slice_of_text(member->id),
                                                            member->generation});
    uint16_t error = ask(peer, bytes, OP_GROUP_HEARTBEAT, &w, &frame);
    if (error == PE_NONE)
        take_assignment(member, &frame);
    return error;
}

/* Until it has this many partitions, and a generation that it has confirmed. */
static void wait_for(struct peer *peer, struct member *member, uint32_t items)
{
    uint64_t deadline = now_ms() + ANSWER_MS;
    do {
        expect(heartbeat(peer, member), PE_NONE, "a heartbeat");
        if (now_ms() > deadline)
            fail("%s: %u partitions, expected %u", peer->what, member->item_count, items);
        sleep_ms(5);
    } while (member->item_count != items);
    expect(heartbeat(peer, member), PE_NONE, "a heartbeat");
}

static uint16_t leave(struct peer *peer, const struct member *member)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_group_leave(&w, &(struct msg_group_leave){slice_of_text(member->group),
                                                    slice_of_text(member->id), true});
    return ask(peer, bytes, OP_GROUP_LEAVE, &w, &frame);
}

/* The request's error, or the item's. */
static uint16_t commit_offset(struct peer *peer, const struct member *member, uint32_t partition,
                              uint64_t offset)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct msg_offset_results results;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_offset_commit_begin(&w, &(struct msg_offset_commit){.group = slice_of_text(member->group),
                                                              .member = slice_of_text(member->id),
                                                              .generation = member->generation,
                                                              .item_count = 1});
    write_offset_item(&w, txn_topic(), partition, offset);
    uint16_t error = ask(peer, bytes, OP_OFFSET_COMMIT, &w, &frame);
    if (error == PE_NONE && (read_offset_results(&frame, &results) || results.item_count != 1))
        fail("%s: not one result", peer->what);
    return error ? error : le16_get(results.items[0].error);
}

static uint64_t committed(struct peer *peer, const char *group, uint32_t partition)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct msg_offset_results results;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_offset_fetch_begin(&w, slice_of_text(group), 1);
    write_group_item(&w, txn_topic(), partition);
    expect(ask(peer, bytes, OP_OFFSET_FETCH, &w, &frame), PE_NONE, "fetching an offset");
    if (read_offset_results(&frame, &results) || results.item_count != 1 ||
        le16_get(results.items[0].error))
        fail("%s: no committed offset", peer->what);
    return le64_get(results.items[0].offset);
}

static uint16_t delete_group(struct peer *peer, const char *group)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_group_delete(&w, slice_of_text(group));
    return ask(peer, bytes, OP_GROUP_DELETE, &w, &frame);
}

static uint16_t stage_offset(struct peer *peer, const struct txn *txn, const struct member *member,
                             uint32_t partition, uint64_t offset)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_txn_offsets_begin(
        &w, &(struct msg_txn_offsets){.group = slice_of_text(member->group),
                                      .member = slice_of_text(member->id),
                                      .generation = member->generation,
                                      .txn = {slice_of_text(txn->id), txn->producer_id, txn->epoch,
                                              txn->coordinator, txn->open_lsn},
                                      .item_count = 1});
    write_offset_item(&w, txn_topic(), partition, offset);
    return ask(peer, bytes, OP_TXN_OFFSETS, &w, &frame);
}

/* ---- who may do what ---- */

static void attack_strangers(struct peer *peer)
{
    struct member stranger = {.group = "nobodys", .id = "m-0123456789abcdef"};
    expect(heartbeat(peer, &stranger), PE_UNKNOWN_MEMBER, "a heartbeat to no group");
    expect(leave(peer, &stranger), PE_UNKNOWN_MEMBER, "leaving no group");
    expect(commit_offset(peer, &stranger, 0, 1), PE_UNKNOWN_MEMBER, "a commit to no group");
    expect(delete_group(peer, stranger.group), PE_UNKNOWN_GROUP, "deleting no group");
}

static void attack_owners(struct peer *peer)
{
    struct member member = joined(peer, "owners"), other;
    wait_for(peer, &member, LEDGER_PARTITIONS);
    expect(commit_offset(peer, &member, 3, 7), PE_NONE, "a member's commit");
    expect(commit_offset(peer, &member, LEDGER_PARTITIONS, 7), PE_NOT_OWNER, "no such partition");
    struct member lie = member;
    lie.generation += 1000;
    expect(commit_offset(peer, &lie, 3, 8), PE_STALE_GENERATION, "a generation to come");
    expect(heartbeat(peer, &lie), PE_INVALID_ARGUMENT, "confirming a generation to come");
    lie = member;
    lie.id[0] = '\0';
    lie.generation = 0;
    expect(commit_offset(peer, &lie, 3, 8), PE_GROUP_NOT_EMPTY, "an operator's commit");
    expect(delete_group(peer, member.group), PE_GROUP_NOT_EMPTY, "deleting it");
    snprintf(lie.id, sizeof(lie.id), "%s", member.id);
    lie.id[strlen(lie.id) - 1] ^= 1;
    expect(commit_offset(peer, &lie, 3, 8), PE_UNKNOWN_MEMBER, "an id that is nearly right");
    expect(heartbeat(peer, &lie), PE_UNKNOWN_MEMBER, "an id that is nearly right");

    lie = member; // its old generation, as soon as it has confirmed the next
    other = joined(peer, "owners");
    wait_for(peer, &member, LEDGER_PARTITIONS / 2);
    wait_for(peer, &other, LEDGER_PARTITIONS / 2);
    expect(heartbeat(peer, &member), PE_NONE, "a heartbeat");
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        expect(commit_offset(peer, &lie, i, 100), PE_STALE_GENERATION, "an old generation");
    expect(leave(peer, &other), PE_NONE, "leaving");
    expect(leave(peer, &other), PE_UNKNOWN_MEMBER, "leaving twice");
    expect(commit_offset(peer, &other, 0, 100), PE_UNKNOWN_MEMBER, "one that left");
    if (committed(peer, "owners", 3) != 7)
        fail("an offset changed by who may not");
    expect(leave(peer, &member), PE_NONE, "leaving");
    expect(delete_group(peer, "owners"), PE_NONE, "deleting the empty group");
}

/* ---- offsets in transactions ---- */

static uint16_t commit_group(struct peer *peer, const struct txn *txn, const char *group)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    peer_send(peer, bytes, txn_make_end(bytes, txn, OP_TXN_COMMIT, 0, 0, group));
    return txn_take_end(peer, OP_TXN_COMMIT);
}

static void attack_staged_offsets(struct peer *peer)
{
    struct txn txn = txn_named("offsets"), lie;
    struct member nobody = {.group = "nobodys"}, member = joined(peer, "staged");
    wait_for(peer, &member, LEDGER_PARTITIONS);
    txn_open(peer, &txn);
    expect(stage_offset(peer, &txn, &nobody, 0, 1), PE_UNKNOWN_GROUP, "no such group");
    snprintf(nobody.group, sizeof(nobody.group), "staged");
    expect(stage_offset(peer, &txn, &nobody, 0, 1), PE_UNKNOWN_MEMBER, "nobody's offsets");
    snprintf(nobody.id, sizeof(nobody.id), "%s", "m-0");
    expect(stage_offset(peer, &txn, &nobody, 0, 1), PE_UNKNOWN_MEMBER, "no such member");
    expect(stage_offset(peer, &txn, &member, 99, 1), PE_NOT_OWNER, "no such partition");
    lie = txn;
    lie.open_lsn = 0;
    for (lie.coordinator = 0; lie.coordinator < txn.coordinator + 1; lie.coordinator++)
        expect(stage_offset(peer, &lie, &member, 0, 99), PE_UNKNOWN_TRANSACTION, "name 0");
    lie = txn;
    lie.open_lsn += 8;
    expect(stage_offset(peer, &lie, &member, 0, 99), PE_UNKNOWN_TRANSACTION, "another name");
    expect(stage_offset(peer, &txn, &member, 0, 5), PE_NONE, "the right one");
    lie = txn;
    lie.producer_id += 1000000;
    uint16_t error = stage_offset(peer, &lie, &member, 0, 99);
    if (error != PE_FENCED_PRODUCER && error != PE_UNKNOWN_PRODUCER)
        fail("offsets of another producer: %s", proto_error_name(error));
    expect(commit_group(peer, &txn, NULL), PE_STAGED_MISMATCH, "a group that is not named");
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "begin");
    expect(stage_offset(peer, &txn, &member, 0, 5), PE_NONE, "again");
    expect(commit_group(peer, &txn, "staged"), PE_NONE, "the commit");
    if (committed(peer, "staged", 0) != 5)
        fail("not the offset that was committed");
    expect(txn_begin_for(peer, &txn, 0), PE_NONE, "begin");
    expect(stage_offset(peer, &txn, &member, 0, 6), PE_NONE, "before it leaves");
    expect(leave(peer, &member), PE_NONE, "leaving");
    expect(stage_offset(peer, &txn, &member, 0, 7), PE_UNKNOWN_MEMBER, "one that left");
    expect(commit_group(peer, &txn, "staged"), PE_UNKNOWN_MEMBER, "offsets of one that left");
    if (committed(peer, "staged", 0) != 5)
        fail("offsets of a member that had left were committed");
    expect(delete_group(peer, "staged"), PE_NONE, "deleting the empty group");
}

void attack_group_members(void)
{
    struct peer peer;
    (void)txn_topic();
    peer_open(&peer, "members that are none");
    attack_strangers(&peer);
    attack_owners(&peer);
    attack_staged_offsets(&peer);
    peer_close(&peer);
}

/* ---- crowds ---- */

#define CROWD 10000u
#define AT_ONCE 100u
#define SESSION_MS 1500u // of each: they are gone soon

static uint32_t members_of(struct peer *peer, const char *group)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct msg_group_describe_reply reply;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_group_describe(&w, &(struct msg_group_describe){slice_of_text(group)});
    uint16_t error = ask(peer, bytes, OP_GROUP_DESCRIBE, &w, &frame);
    if (error == PE_UNKNOWN_GROUP)
        return 0;
    expect(error, PE_NONE, "describing a group");
    if (read_group_describe_reply(&frame, &reply))
        fail("%s: no description of a group", peer->what);
    return reply.member_count;
}

/* As many offsets as a request may have, and one more. */
void attack_group_huge(void)
{
    static const uint32_t counts[] = {TXN_ITEM_COUNT_MAX, TXN_ITEM_COUNT_MAX + 1, 0};
    static uint8_t bytes[1 << 20];
    struct peer peer;
    struct frame frame;
    struct msg_offset_results results;
    struct slice group = slice_of_text("huge");
    peer_open(&peer, "huge requests of groups");
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        uint16_t wanted = i == 0 ? PE_NONE : PE_INVALID_ARGUMENT;
        struct writer w = meta_writer(bytes, sizeof(bytes));
        write_offset_commit_begin(
            &w, &(struct msg_offset_commit){.group = group, .item_count = counts[i]});
        for (uint32_t k = 0; k < counts[i]; k++)
            write_offset_item(&w, txn_topic(), k, k);
        expect(ask(&peer, bytes, OP_OFFSET_COMMIT, &w, &frame), wanted, "huge commits");
        if (i == 0 && (read_offset_results(&frame, &results) || results.item_count != counts[i]))
            fail("not a result for each of %u offsets", counts[i]);
        w = meta_writer(bytes, sizeof(bytes));
        write_offset_fetch_begin(&w, group, counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++)
            write_group_item(&w, txn_topic(), k);
        wanted = counts[i] == 0 ? PE_NONE : wanted;
        expect(ask(&peer, bytes, OP_OFFSET_FETCH, &w, &frame), wanted, "huge fetches");
        if (wanted == PE_NONE &&
            (read_offset_results(&frame, &results) || results.item_count != counts[0] ||
             le64_get(results.items[counts[0] - 1].offset) != counts[0] - 1))
            fail("not all of %u offsets", counts[0]);
    }
    expect(delete_group(&peer, "huge"), PE_NONE, "deleting it");
    peer_close(&peer);
}

/* One connection joins as ten thousand members that never say a word again. */
void attack_group_crowd(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    struct frame frame;
    uint32_t taken = 0, most = 0;
    (void)txn_topic();
    peer_open(&peer, "a crowd of members");
    for (uint32_t i = 0; i < CROWD; i++) {
        peer_send(&peer, bytes, make_join(bytes, "crowd", SESSION_MS));
        for (uint32_t k = 0; (i + 1) % AT_ONCE == 0 && k < AT_ONCE; k++) {
            peer_expect_frame(&peer, &frame);
            uint16_t error = error_of(&frame);
            if (frame.op != OP_GROUP_JOIN || (error != PE_NONE && error != PE_LIMIT_REACHED))
                fail("one of a crowd: %s %s", op_name(frame.op), proto_error_name(error));
            taken += error == PE_NONE;
        }
        if ((i + 1) % 1000 == 0)
            most = (uint32_t)max_u64(most, members_of(&peer, "crowd"));
    }
    if (most == 0 || most > 1000 || taken < most)
        fail("a group of %u members, %u of %u were let in", most, taken, CROWD);
    uint64_t deadline = now_ms() + ANSWER_MS;
    while (members_of(&peer, "crowd") > 0) {
        if (now_ms() > deadline)
            fail("%u members are there long after their sessions", members_of(&peer, "crowd"));
        sleep_ms(50);
    }
    struct member member = joined(&peer, "crowd");
    wait_for(&peer, &member, LEDGER_PARTITIONS);
    expect(leave(&peer, &member), PE_NONE, "leaving");
    peer_close(&peer);
}
