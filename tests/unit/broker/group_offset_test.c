/* Committed offsets: they never go back, belong to whom the partition does, survive crashes, expire by rule, and have limits. */
#include "base/random.h"
#include "tests/unit/broker/group_fixture.h"

static struct shard_fixture *f;
static uint32_t topic;

static void set_up(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 22, 2);
    topic = gf_topic(f, "t", 4);
}

static void tear_down(void)
{
    shf_free(f);
}
TestSuite(group_offset, .init = set_up, .fini = tear_down, .timeout = 100);

static struct gf_member joined(const char *group)
{
    struct gf_member member, *members[] = {&member};
    struct gf_join join = {.group = group, .topics = {topic}, .topic_count = 1};
    cr_assert_eq(gf_join(f, &member, &join), PE_NONE);
    gf_settle(f, members, 1);
    return member;
}

Test(group_offset, a_commit_without_members_makes_the_group)
{
    uint64_t stands;
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), UINT64_MAX, "unknown, and no error");
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 10, 0, &stands), PE_NONE);
    cr_assert_eq(stands, 10);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 10);
    cr_assert_eq(gf_fetch(f, "g", topic, 2, NULL), UINT64_MAX);
    struct gf_description description;
    cr_assert_eq(gf_describe(f, "g", &description), PE_NONE);
    cr_assert_eq(description.state, GROUP_EMPTY);
}

Test(group_offset, an_offset_never_goes_back_unless_an_operator_resets_it)
{
    uint64_t stands;
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 10, 0, &stands), PE_NONE);
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 9, 0, &stands), PE_NONE);
    cr_assert_eq(stands, 10);
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 0, 0, &stands), PE_NONE);
    cr_assert_eq(stands, 10);
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 3, OFFSET_COMMIT_RESET, &stands), PE_NONE);
    cr_assert_eq(stands, 3);
    gf_replay_is_equal(f);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 3);
}

Test(group_offset, only_members_commit_while_there_are_some)
{
    struct gf_member a = joined("g");
    uint64_t stands;
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 10, 0, &stands), PE_GROUP_NOT_EMPTY);
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 1, OFFSET_COMMIT_RESET, &stands),
                 PE_GROUP_NOT_EMPTY);
    cr_assert_eq(gf_commit_as(f, &a, topic, 1, 10), PE_NONE);
    cr_assert_eq(gf_commit_as(f, &a, topic, 4, 10), PE_NOT_OWNER, "there is no such partition");
    cr_assert_eq(gf_commit_as(f, &a, topic + 1, 0, 10), PE_NOT_OWNER);
    struct gf_member stranger = a;
    memset(stranger.id, '0', GROUP_MEMBER_ID_BYTES);
    cr_assert_eq(gf_commit_as(f, &stranger, topic, 1, 11), PE_UNKNOWN_MEMBER);
    snprintf(stranger.group, sizeof(stranger.group), "other");
    cr_assert_eq(gf_commit_as(f, &stranger, topic, 1, 11), PE_UNKNOWN_MEMBER);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 10);
}

Test(group_offset, a_reset_by_a_member_is_refused)
{
    struct gf_member a = joined("g");
    struct gf_commit commit = {.group = "g",
                               .member = &a,
                               .generation = a.generation,
                               .flags = OFFSET_COMMIT_RESET,
                               .topic_id = topic,
                               .offset = 1};
    cr_assert_eq(gf_commit(f, &commit, NULL), PE_INVALID_ARGUMENT);
}

Test(group_offset, offsets_survive_every_crash_and_never_go_back)
{
    struct random random;
    uint64_t committed[4] = {0};
    random_init(&random, 5);
    for (int life = 0; life < 6; life++) {
        struct gf_member a = joined("g");
        for (int i = 0; i < 20; i++) {
            uint32_t p = (uint32_t)random_below(&random, 4);
            uint64_t offset = committed[p] + random_below(&random, 10);
            cr_assert_eq(gf_commit_as(f, &a, topic, p, offset), PE_NONE);
            committed[p] = offset > committed[p] ? offset : committed[p];
        }
        if (life == 3)
            store_checkpoint(f->shards[gf_shard(f, "g")].store);
        gf_replay_is_equal(f);
        for (uint32_t p = 0; p < 4; p++) {
            uint64_t offset = gf_fetch(f, "g", topic, p, NULL);
            cr_assert(offset == committed[p] || (offset == UINT64_MAX && committed[p] == 0));
        }
    }
}

/* A request with many items; partition i of a topic that nobody knows, committed by nobody. */
static uint16_t commit_many(const char *group, uint32_t topic_id, uint32_t from, uint32_t count,
                            uint64_t offset)
{
    struct request *request = shf_request(f, gf_shard(f, group), OP_OFFSET_COMMIT, 1);
    struct writer w = shf_writer(request);
    write_offset_commit_begin(
        &w, &(struct msg_offset_commit){.group = gf_slice(group), .item_count = count});
    for (uint32_t i = 0; i < count; i++)
        write_offset_item(&w, topic_id, from + i, offset + i);
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    if (!error) {
        struct msg_offset_results m;
        cr_assert_eq(read_offset_results(&frame, &m), PE_NONE);
        cr_assert_eq(m.item_count, count);
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_eq(le32_get(m.items[i].partition), from + i);
            cr_assert_eq(le64_get(m.items[i].offset), offset + i);
        }
    }
    shf_release(f, request);
    return error;
}

Test(group_offset, a_request_with_thousands_of_offsets_is_several_entries)
{
    cr_assert_eq(commit_many("g", 9, 0, 10000, 5), PE_NONE);
    cr_assert_eq(commit_many("g", 9, 0, 20000 / 2, 6), PE_NONE);
    cr_assert_eq(gf_groups(f, "g")->groups[0].offset_count, 10000);
    cr_assert_eq(commit_many("g", 9, 0, 12000, 6), PE_INVALID_ARGUMENT, "no room in an answer");
    gf_replay_is_equal(f);
    cr_assert_eq(gf_fetch(f, "g", 9, 9999, NULL), 10005);
}

Test(group_offset, all_offsets_of_a_group_come_in_order)
{
    for (uint32_t p = 4; p-- > 0;)
        cr_assert_eq(gf_commit_plain(f, "g", 7 + p % 2, p, 100 + p, 0, NULL), PE_NONE);
    cr_assert_eq(gf_commit_plain(f, "other", 7, 0, 1, 0, NULL), PE_NONE);
    struct request *request = shf_request(f, gf_shard(f, "g"), OP_OFFSET_FETCH, 1);
    struct writer w = shf_writer(request);
    write_offset_fetch_begin(&w, gf_slice("g"), 0);
    struct frame frame;
    struct msg_offset_results m;
    cr_assert_eq(gf_call(f, request, &w, &frame), PE_NONE);
    cr_assert_eq(read_offset_results(&frame, &m), PE_NONE);
    static const uint32_t partitions[] = {0, 2, 1, 3};
    cr_assert_eq(m.item_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_eq(le32_get(m.items[i].partition), partitions[i]);
        cr_assert_eq(le64_get(m.items[i].offset), 100 + partitions[i]);
    }
    shf_release(f, request);
}

Test(group_offset, the_table_of_offsets_has_a_limit_that_updates_do_not_meet)
{
    uint32_t topic_id = 100;
    while (table_used_count(gf_groups(f, "g")->offsets) + 10000 <= GROUP_OFFSETS_PER_SHARD)
        cr_assert_eq(commit_many("g", topic_id++, 0, 10000, 1), PE_NONE);
    uint32_t left = GROUP_OFFSETS_PER_SHARD - table_used_count(gf_groups(f, "g")->offsets);
    cr_assert_eq(commit_many("g", topic_id, 0, left + 1, 1), PE_LIMIT_REACHED);
    cr_assert_eq(commit_many("g", topic_id, 0, left, 1), PE_NONE);
    cr_assert_eq(commit_many("g", topic_id, left, 1, 1), PE_LIMIT_REACHED);
    cr_assert_eq(commit_many("g", 100, 0, 10000, 2), PE_NONE);
    gf_replay_is_equal(f);
}

/* ---- expiry and deletion ---- */

static void set_retention(uint64_t ms)
{
    for (uint16_t i = 0; i < f->shard_count; i++) {
        f->shards[i].group_offsets_retention_ms = ms;
        f->shards[i].groups->opened_ns = 0; // as if it had started with it
    }
}

/* Without the sweep: its topic exists. */
Test(group_offset, a_group_without_members_is_forgotten_after_its_retention)
{
    set_retention(60000);
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 10, 0, NULL), PE_NONE);
    gf_wait_ms(f, 50000);
    cr_assert_eq(gf_commit_plain(f, "h", topic, 1, 10, 0, NULL), PE_NONE);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 10);
    gf_wait_ms(f, 20000);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), UINT64_MAX);
    cr_assert_eq(gf_fetch(f, "h", topic, 1, NULL), 10, "its time has not come");
    struct gf_description description;
    cr_assert_eq(gf_describe(f, "g", &description), PE_UNKNOWN_GROUP);
    gf_replay_is_equal(f);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), UINT64_MAX);
}

Test(group_offset, a_group_with_members_is_never_forgotten_nor_right_after_a_restart)
{
    set_retention(60000);
    struct gf_member a = joined("g");
    cr_assert_eq(gf_commit_as(f, &a, topic, 1, 10), PE_NONE);
    for (int i = 0; i < 40; i++) {
        gf_wait_ms(f, 5000);
        cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    }
    gf_replay_is_equal(f);
    set_retention(60000);
    f->shards[gf_shard(f, "g")].groups->opened_ns = 0;
    gf_wait_ms(f, 70000);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 10, "touched while it had members");
    struct gf_member b = joined("g");
    gf_wait_ms(f, 5000);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 10);
}

Test(group_offset, a_broker_that_was_down_for_long_gives_members_time_to_come_back)
{
    cr_assert_eq(gf_commit_plain(f, "g", topic, 1, 10, 0, NULL), PE_NONE);
    shf_crash(f);
    f->life += 10; // 1,000 s of wall clock
    cr_assert_eq(shf_open(f), 0);
    set_retention(60000);
    gf_wait_ms(f, 50000);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 10);
    gf_wait_ms(f, 20000);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), UINT64_MAX);
}

Test(group_offset, a_group_is_deleted_only_when_it_is_empty)
{
    cr_assert_eq(gf_delete(f, "g"), PE_UNKNOWN_GROUP);
    struct gf_member a = joined("g");
    cr_assert_eq(gf_commit_as(f, &a, topic, 1, 10), PE_NONE);
    cr_assert_eq(gf_delete(f, "g"), PE_GROUP_NOT_EMPTY);
    cr_assert_eq(gf_leave(f, &a, true), PE_NONE);
    cr_assert_eq(gf_delete(f, "g"), PE_NONE);
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), UINT64_MAX);
    gf_replay_is_equal(f);
    struct gf_member b = joined("g");
    cr_assert_eq(b.item_count, 4, "made again");
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), UINT64_MAX);
}

Test(group_offset, a_row_that_is_used_again_knows_nothing_of_the_group_before)
{
    struct gf_member a = joined("g");
    cr_assert_eq(gf_commit_as(f, &a, topic, 1, 10), PE_NONE);
    cr_assert_eq(gf_leave(f, &a, true), PE_NONE);
    cr_assert_eq(gf_delete(f, "g"), PE_NONE); // perhaps before its last assignment was made
    gf_wait_ms(f, 20);
    char name[16];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "other%d", i);
        cr_assert_eq(gf_fetch(f, name, topic, 1, NULL), UINT64_MAX);
        struct gf_member b = joined(name);
        cr_assert_eq(b.generation, 1);
        cr_assert_eq(b.item_count, 4);
        if (gf_shard(f, name) == gf_shard(f, "g"))
            return;
    }
    cr_assert(false, "no group on the same shard");
}

/* LEAVE and DELETE in one turn of the shard: the assignment that the first one asks for is not made any more. */
Test(group_offset, a_group_that_is_deleted_before_its_last_assignment_is_gone)
{
    struct gf_member a = joined("g");
    struct request *leave = shf_request(f, gf_shard(f, "g"), OP_GROUP_LEAVE, 1);
    struct writer w = shf_writer(leave);
    write_group_leave(&w, &(struct msg_group_leave){gf_slice("g"), gf_slice(a.id), true});
    shf_seal(leave, &w, 0);
    struct request *delete = shf_request(f, gf_shard(f, "g"), OP_GROUP_DELETE, 2);
    w = shf_writer(delete);
    write_group_delete(&w, gf_slice("g"));
    shf_seal(delete, &w, 0);
    shf_send(f, leave);
    shf_send(f, delete);
    for (int i = 0; i < 1000 && f->reply != delete; i++) // the last of both
        shf_turn(f);
    cr_assert_eq(leave->error, PE_NONE);
    cr_assert_eq(delete->error, PE_NONE);
    shf_release(f, leave);
    shf_release(f, delete);
    gf_wait_ms(f, 20);
    struct gf_description description;
    cr_assert_eq(gf_describe(f, "g", &description), PE_UNKNOWN_GROUP);
    gf_replay_is_equal(f);
}
