/* What a client can send that is not allowed, and the limits on members: answered, and nothing has changed. */
#include "tests/unit/broker/group_fixture.h"

static struct shard_fixture *f;
static uint32_t topic;

static void set_up(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 23, 2);
    topic = gf_topic(f, "t", 4);
}

static void tear_down(void)
{
    shf_free(f);
}
TestSuite(group_input, .init = set_up, .fini = tear_down, .timeout = 100);

static const uint16_t ops[] = {OP_GROUP_JOIN,     OP_GROUP_HEARTBEAT, OP_GROUP_LEAVE,
                               OP_OFFSET_COMMIT,  OP_OFFSET_FETCH,    OP_GROUP_LIST,
                               OP_GROUP_DESCRIBE, OP_GROUP_DELETE};

static uint16_t send_bytes(uint16_t op, const void *bytes, uint32_t len)
{
    struct request *request = shf_request(f, 1, op, 1);
    struct writer w = shf_writer(request);
    write_bytes(&w, bytes, len);
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    shf_release(f, request);
    return error;
}

Test(group_input, what_is_no_message_is_refused_by_every_operation)
{
    uint64_t before = shard_digest(&f->shards[1]);
    uint8_t bytes[300];
    memset(bytes, 0xff, sizeof(bytes));
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        for (uint32_t len = 0; len < sizeof(bytes); len++) {
            uint16_t error = send_bytes(ops[i], bytes, len);
            cr_assert(error == PE_MALFORMED || error == PE_INVALID_ARGUMENT, "op %u, %u bytes: %u",
                      ops[i], len, error);
        }
    }
    cr_assert_eq(shard_digest(&f->shards[1]), before);
}

Test(group_input, random_changes_of_good_messages_do_no_harm)
{
    struct random random;
    struct gf_member a;
    struct gf_join join = {.group = "g", .topics = {topic}, .topic_count = 1};
    cr_assert_eq(gf_join(f, &a, &join), PE_NONE);
    random_init(&random, 9);
    for (int i = 0; i < 3000; i++) {
        uint8_t bytes[512];
        struct writer w = writer_make(bytes, sizeof(bytes));
        le32 topics[] = {le32_make(topic)};
        switch (i % 5) {
        case 0:
            write_group_join_begin(&w, &(struct msg_group_join){.group = gf_slice("g"),
                                                                .member = gf_slice(a.id),
                                                                .topic_count = 1,
                                                                .topic_ids = topics,
                                                                .item_count = 1});
            write_group_item(&w, topic, 1);
            break;
        case 1:
            write_group_heartbeat(
                &w, &(struct msg_group_heartbeat){gf_slice("g"), gf_slice(a.id), a.generation});
            break;
        case 2:
            write_offset_commit_begin(&w, &(struct msg_offset_commit){.group = gf_slice("g"),
                                                                      .member = gf_slice(a.id),
                                                                      .item_count = 2});
            write_offset_item(&w, topic, 1, 5);
            write_offset_item(&w, topic, 2, 5);
            break;
        case 3:
            write_offset_fetch_begin(&w, gf_slice("g"), 1);
            write_group_item(&w, topic, 1);
            break;
        case 4:
            write_group_list(&w, &(struct msg_group_list){.shard = 1, .after = gf_slice("a")});
            break;
        }
        uint32_t len = writer_length(&w);
        for (int k = 0; k < 2; k++)
            bytes[random_below(&random, len)] = (uint8_t)random_u32(&random);
        uint16_t op[] = {OP_GROUP_JOIN, OP_GROUP_HEARTBEAT, OP_OFFSET_COMMIT, OP_OFFSET_FETCH,
                         OP_GROUP_LIST};
        send_bytes(op[i % 5], bytes, len);
    }
    gf_wait_ms(f, 200);
    gf_replay_is_equal(f);
}

static uint16_t join_with_times(uint32_t session_ms, uint32_t rebalance_ms)
{
    struct gf_member member;
    return gf_join(f, &member,
                   &(struct gf_join){.group = "g",
                                     .topics = {topic},
                                     .topic_count = 1,
                                     .session_ms = session_ms,
                                     .rebalance_ms = rebalance_ms});
}

Test(group_input, timeouts_have_a_range)
{
    cr_assert_eq(join_with_times(999, 0), PE_INVALID_ARGUMENT);
    cr_assert_eq(join_with_times(1800001, 0), PE_INVALID_ARGUMENT);
    cr_assert_eq(join_with_times(UINT32_MAX, 0), PE_INVALID_ARGUMENT);
    cr_assert_eq(join_with_times(0, 1), PE_INVALID_ARGUMENT);
    cr_assert_eq(join_with_times(0, 1800001), PE_INVALID_ARGUMENT);
    struct gf_description description;
    cr_assert_eq(gf_describe(f, "g", &description), PE_UNKNOWN_GROUP);
    cr_assert_eq(join_with_times(1000, 1800000), PE_NONE);
    cr_assert_eq(join_with_times(1800000, 1000), PE_NONE);
}

Test(group_input, ids_that_are_none_are_unknown)
{
    struct gf_member a = {.group = "g", .id = "me"};
    struct gf_join join = {.group = "g", .member = "me", .topics = {topic}, .topic_count = 1};
    cr_assert_eq(gf_join(f, &a, &join), PE_UNKNOWN_MEMBER);
    cr_assert_eq(gf_heartbeat(f, &a), PE_UNKNOWN_MEMBER);
    join.member = NULL;
    join.instance = "one";
    cr_assert_eq(gf_join(f, &a, &join), PE_NONE);
    struct gf_member b = a;
    b.id[GROUP_MEMBER_ID_BYTES - 1] = b.id[GROUP_MEMBER_ID_BYTES - 1] == '0' ? '1' : '0';
    cr_assert_eq(gf_heartbeat(f, &b), PE_FENCED_MEMBER);
    b.id[GROUP_MEMBER_ID_BYTES - 1] = '\0';
    cr_assert_eq(gf_heartbeat(f, &b), PE_UNKNOWN_MEMBER);
    /* A member of one group is none of another. */
    snprintf(a.group, sizeof(a.group), "other");
    cr_assert_eq(gf_heartbeat(f, &a), PE_UNKNOWN_MEMBER);
}

Test(group_input, a_group_has_a_limit_of_members)
{
    struct gf_member member;
    struct gf_join join = {.group = "g", .topics = {topic}, .topic_count = 1};
    for (uint32_t i = 0; i < GROUP_MEMBERS_MAX; i++)
        cr_assert_eq(gf_join(f, &member, &join), PE_NONE);
    cr_assert_eq(gf_join(f, &member, &join), PE_LIMIT_REACHED);
    gf_wait_ms(f, 200);
    struct gf_description description;
    cr_assert_eq(gf_describe(f, "g", &description), PE_NONE);
    cr_assert_eq(description.member_count, GROUP_MEMBERS_MAX);
    cr_assert_eq(description.item_count, 4);
    cr_assert_eq(gf_leave(f, &member, true), PE_NONE);
    cr_assert_eq(gf_join(f, &member, &join), PE_NONE);
    gf_wait_ms(f, 10100); // all of them at once
    cr_assert_eq(gf_describe(f, "g", &description), PE_NONE);
    cr_assert_eq(description.member_count, 0);
    cr_assert_eq(gf_groups(f, "g")->member_count, 0);
    cr_assert_eq(gf_groups(f, "g")->subscription_count, 0);
    cr_assert_eq(gf_groups(f, "g")->slots_reserved, 0);
}

Test(group_input, a_group_has_a_limit_of_partitions)
{
    uint32_t wide = gf_topic(f, "wide", 1000);
    struct gf_member member;
    gf_groups(f, "g")->slots_reserved = GROUP_SLOTS_PER_SHARD - 999;
    struct gf_join join = {.group = "g", .topics = {wide}, .topic_count = 1};
    cr_assert_eq(gf_join(f, &member, &join), PE_LIMIT_REACHED);
    gf_groups(f, "g")->slots_reserved--;
    cr_assert_eq(gf_join(f, &member, &join), PE_NONE);
    gf_wait_ms(f, 120);
    cr_assert_eq(gf_groups(f, "g")->slots_reserved, GROUP_SLOTS_PER_SHARD);
    gf_groups(f, "g")->slots_reserved = 1000;
}

Test(group_input, a_shard_has_a_limit_of_groups)
{
    char name[16];
    uint32_t made = 0;
    struct groups *groups = f->shards[0].groups;
    for (uint32_t i = 0; made < GROUPS_PER_SHARD; i++) {
        snprintf(name, sizeof(name), "g%u", i);
        if (gf_shard(f, name) != 0)
            continue;
        struct shard *shard = &f->shards[0];
        int status = group_log(shard, gf_slice(name), GROUP_CHANGE_GENERATION, 0);
        if (status == E_FULL) {
            i--;
            shf_turn(f);
            continue;
        }
        cr_assert_eq(status, 0);
        made++;
    }
    cr_assert_eq(groups_count(groups), GROUPS_PER_SHARD);
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "more%u", i);
        if (gf_shard(f, name) == 0)
            break;
    }
    struct gf_member member;
    struct gf_join join = {.group = name, .topics = {topic}, .topic_count = 1};
    cr_assert_eq(gf_join(f, &member, &join), PE_LIMIT_REACHED);
    cr_assert_eq(gf_commit_plain(f, name, topic, 0, 1, 0, NULL), PE_LIMIT_REACHED);
    /* LIST gives them in order, a piece at a time. */
    struct slice after = gf_slice("");
    char last[16] = "";
    uint32_t listed = 0;
    for (bool more = true; more;) {
        struct request *request = shf_request(f, 0, OP_GROUP_LIST, 1);
        struct writer w = shf_writer(request);
        write_group_list(&w, &(struct msg_group_list){.shard = 0, .after = after});
        struct frame frame;
        struct msg_group_list_reply reply;
        uint32_t capacity = request->reply->capacity;
        request->reply->capacity = 16384; // as if it were a small one
        cr_assert_eq(gf_call(f, request, &w, &frame), PE_NONE);
        cr_assert_eq(read_group_list_reply(&frame, &reply), PE_NONE);
        for (uint16_t i = 0; i < reply.item_count; i++) {
            struct msg_group_list_item item;
            read_group_list_item(&reply, &item);
            cr_assert_gt(slice_compare(item.group, gf_slice(last)), 0);
            snprintf(last, sizeof(last), "%.*s", (int)item.group.len, item.group.bytes);
            listed++;
        }
        more = reply.more;
        after = gf_slice(last);
        request->reply->capacity = capacity;
        shf_release(f, request);
    }
    cr_assert_eq(listed, GROUPS_PER_SHARD);
    gf_replay_is_equal(f);
}

/* ---- the log has no room ---- */

/* Entries without a turn in between, until the log takes no more. */
static void fill_log(struct shard *shard)
{
    static struct offset_item items[GROUP_COMMIT_ITEMS_MAX];
    struct msg_txn_offsets m = {
        .group = gf_slice("filler"), .item_count = GROUP_COMMIT_ITEMS_MAX, .items = items};
    int status = 0;
    for (uint32_t i = 0; i < GROUP_COMMIT_ITEMS_MAX; i++)
        items[i] = (struct offset_item){le32_make(77), le32_make(i), le64_make(1)};
    for (int i = 0; i < 2000 && status == 0; i++)
        status = group_offsets_log(shard, NULL, &m, 0);
    cr_assert_eq(status, E_FULL);
}

Test(group_input, a_full_log_makes_requests_wait_and_nothing_is_lost)
{
    struct shard *shard = &f->shards[gf_shard(f, "g")];
    struct gf_join join = {.group = "g", .topics = {topic}, .topic_count = 1};
    struct gf_member a, *members[] = {&a};
    uint64_t stands;
    cr_assert_eq(gf_join(f, &a, &join), PE_NONE); // so that the topic is known
    gf_settle(f, members, 1);
    cr_assert_eq(gf_leave(f, &a, true), PE_NONE);
    fill_log(shard);
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 10, 0, &stands), PE_NONE);
    cr_assert_eq(stands, 10);
    fill_log(shard);
    cr_assert_eq(gf_delete(f, "g"), PE_NONE);
    fill_log(shard);
    cr_assert_eq(gf_join(f, &a, &join), PE_NONE);
    cr_assert_geq(counter_get(&shard->counters.blocked_total), 3);
    /* What the turn wants to log waits, too. */
    struct group *group = group_find(shard->groups, gf_slice("g"));
    cr_assert(list_is_linked(&group->due_link));
    group->due_ns = 0;
    fill_log(shard);
    shf_turn(f);
    cr_assert_gt(shard->groups->blocked_ns, 0);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    gf_settle(f, members, 1);
    cr_assert_eq(a.item_count, 4);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), UINT64_MAX);
    gf_replay_is_equal(f);
}
