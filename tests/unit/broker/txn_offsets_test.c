/* Offsets of a consumer group in a transaction, end to end: the group's shard is one more participant. */
#include "tests/unit/broker/group_fixture.h"
#include "tests/unit/broker/txn_fixture.h"

static struct shard_fixture *f;
static uint32_t topic_id;
#define PARTITIONS 6u

static void open_shards(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 9, 3);
    topic_id = gf_topic(f, "input", PARTITIONS);
}

static void free_shards(void)
{
    shf_free(f);
}
TestSuite(txn_offsets, .init = open_shards, .fini = free_shards, .timeout = 60);

static uint16_t send_offset(const struct txn_client *client, const struct gf_member *member,
                            uint32_t partition, uint64_t offset)
{
    struct request *request = shf_request(f, gf_shard(f, member->group), OP_TXN_OFFSETS, 14);
    struct writer w = shf_writer(request);
    write_txn_offsets_begin(&w, &(struct msg_txn_offsets){.group = gf_slice(member->group),
                                                          .member = gf_slice(member->id),
                                                          .generation = member->generation,
                                                          .txn = txn_ref(client),
                                                          .item_count = 1});
    write_offset_item(&w, topic_id, partition, offset);
    shf_seal(request, &w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    shf_release(f, request);
    return error;
}

/* COMMIT that names some partitions and one group. */
static uint16_t commit(uint16_t op, const struct txn_client *client, const char *group,
                       const struct txn_place *places, uint32_t count)
{
    struct msg_txn txn = txn_ref(client);
    struct request *request = shf_request(f, client->shard, op, 13);
    struct writer w = shf_writer(request);
    write_txn_end_begin(&w, &txn, count, group ? 1 : 0);
    for (uint32_t i = 0; i < count; i++)
        write_txn_item(&w, places[i].topic_id, places[i].partition, places[i].batch_count);
    if (group)
        write_string(&w, slice_of_text(group));
    shf_seal(request, &w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    shf_release(f, request);
    return error;
}

static struct txn_client opened(uint16_t shard)
{
    struct txn_client client = txn_client_on(f, shard);
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_eq(txn_begin_for(f, &client, 900000), PE_NONE);
    return client;
}

static struct gf_member joined(const char *group)
{
    struct gf_member member, *members[] = {&member};
    struct gf_join join = {.group = group, .topics = {topic_id}, .topic_count = 1};
    cr_assert_eq(gf_join(f, &member, &join), PE_NONE);
    gf_settle(f, members, 1);
    cr_assert_eq(member.item_count, PARTITIONS);
    return member;
}

/* The coordinator on each shard in turn, so that the group's is sometimes the same. */
Test(txn_offsets, are_committed_with_the_records_or_not_at_all)
{
    struct gf_member member = joined("readers");
    for (uint16_t shard = 0; shard < 3; shard++) {
        uint64_t base = shard * 10u;
        struct txn_client client = opened(shard);
        struct txn_place places[2] = {{topic_id, 0, 1, 0}, {topic_id, 3, 1, 0}};
        for (int i = 0; i < 2; i++)
            cr_assert_eq(txn_stage(f, &client, topic_id, places[i].partition, 0, 1, "x"), PE_NONE);
        cr_assert_eq(send_offset(&client, &member, 1, base + 5), PE_NONE);
        uint16_t error;
        (void)gf_fetch(f, "readers", topic_id, 1, &error);
        cr_assert_eq(error, PE_OFFSETS_PENDING);
        cr_assert_eq(commit(OP_TXN_COMMIT, &client, "readers", places, 2), PE_NONE);
        cr_assert_eq(gf_fetch(f, "readers", topic_id, 1, NULL), base + 5);
        cr_assert_eq(txn_visible(f, topic_id, 3), shard + 1u);

        cr_assert_eq(txn_begin(f, &client), PE_NONE);
        cr_assert_eq(send_offset(&client, &member, 1, base + 9), PE_NONE);
        cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
        cr_assert_eq(gf_fetch(f, "readers", topic_id, 1, NULL), base + 5);
    }
}

Test(txn_offsets, that_are_staged_have_to_be_named_and_named_ones_staged)
{
    struct gf_member member = joined("readers");
    struct txn_client client = opened(1);
    cr_assert_eq(send_offset(&client, &member, 1, 5), PE_NONE);
    cr_assert_eq(commit(OP_TXN_COMMIT, &client, NULL, NULL, 0), PE_STAGED_MISMATCH);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    cr_assert_eq(commit(OP_TXN_COMMIT, &client, "readers", NULL, 0), PE_STAGED_MISMATCH);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    cr_assert_eq(send_offset(&client, &member, 1, 5), PE_NONE);
    cr_assert_eq(commit(OP_TXN_COMMIT, &client, "writers", NULL, 0), PE_STAGED_MISMATCH);
    cr_assert_eq(gf_fetch(f, "readers", topic_id, 1, NULL), UINT64_MAX);
}

Test(txn_offsets, of_a_member_that_was_removed_are_never_committed)
{
    struct gf_member member = joined("readers"), next;
    struct txn_client client = opened(2);
    struct txn_place place = {topic_id, 2, 1, 0};
    cr_assert_eq(txn_stage(f, &client, topic_id, 2, 0, 1, "x"), PE_NONE);
    cr_assert_eq(send_offset(&client, &member, 1, 5), PE_NONE);
    cr_assert_eq(gf_leave(f, &member, true), PE_NONE);
    next = joined("readers");
    cr_assert_eq(gf_fetch(f, "readers", topic_id, 1, NULL), UINT64_MAX, "nobody waits for it");
    cr_assert_eq(commit(OP_TXN_COMMIT, &client, "readers", &place, 1), PE_UNKNOWN_MEMBER);
    cr_assert_eq(txn_visible(f, topic_id, 2), 0, "the record went with it");
    cr_assert_eq(gf_commit_as(f, &next, topic_id, 1, 3), PE_NONE);
}

Test(txn_offsets, of_an_unknown_member_or_an_old_generation_are_not_staged)
{
    struct gf_member member = joined("readers"), stranger = member;
    struct txn_client client = opened(0);
    snprintf(stranger.id, sizeof(stranger.id), "nobody");
    cr_assert_eq(send_offset(&client, &stranger, 1, 5), PE_UNKNOWN_MEMBER);
    stranger = member;
    stranger.generation--;
    cr_assert_eq(send_offset(&client, &stranger, 1, 5), PE_STALE_GENERATION);
    snprintf(stranger.group, sizeof(stranger.group), "no-such-group");
    cr_assert_eq(send_offset(&client, &stranger, 1, 5), PE_UNKNOWN_GROUP);
    cr_assert_eq(commit(OP_TXN_COMMIT, &client, NULL, NULL, 0), PE_NONE, "nothing was staged");
}

Test(txn_offsets, that_are_prepared_survive_the_members_end_and_a_restart)
{
    struct gf_member member = joined("readers");
    struct txn_client client = opened(1);
    uint16_t error;
    cr_assert_eq(send_offset(&client, &member, 1, 5), PE_NONE);
    cr_assert_eq(commit(OP_TXN_PREPARE, &client, "readers", NULL, 0), PE_NONE);
    cr_assert_eq(gf_leave(f, &member, true), PE_NONE);
    gf_replay_is_equal(f);
    shf_turns(f, 300);
    (void)gf_fetch(f, "readers", topic_id, 1, &error);
    cr_assert_eq(error, PE_OFFSETS_PENDING);
    cr_assert_eq(commit(OP_TXN_COMMIT, &client, "readers", NULL, 0), PE_NONE);
    cr_assert_eq(gf_fetch(f, "readers", topic_id, 1, NULL), 5);
    gf_replay_is_equal(f);
    cr_assert_eq(gf_fetch(f, "readers", topic_id, 1, NULL), 5);
}

Test(txn_offsets, of_an_ended_transaction_are_dropped_with_the_request)
{
    struct gf_member member = joined("readers");
    for (uint16_t shard = 0; shard < 3; shard++) {
        struct txn_client client = opened(shard), late = client;
        cr_assert_eq(commit(OP_TXN_COMMIT, &client, NULL, NULL, 0), PE_NONE);
        cr_assert_eq(txn_begin(f, &client), PE_NONE);
        cr_assert_eq(send_offset(&late, &member, 1, 5), PE_UNKNOWN_TRANSACTION);
        cr_assert_eq(commit(OP_TXN_COMMIT, &client, NULL, NULL, 0), PE_NONE);
    }
    shf_turns(f, 50);
    cr_assert_eq(gf_fetch(f, "readers", topic_id, 1, NULL), UINT64_MAX);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(participants_count(f->shards[i].participants), 0);
}
