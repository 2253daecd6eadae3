/* Members and what they may read: joining, moving partitions, leaving, dying, static members, generations. */
#include "tests/unit/broker/group_fixture.h"

static struct shard_fixture *f;
static uint32_t topic;

static void set_up(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 21, 2);
    topic = gf_topic(f, "t", 6);
}

static void tear_down(void)
{
    shf_free(f);
}
TestSuite(group_member, .init = set_up, .fini = tear_down, .timeout = 60);

static struct gf_member join_with(const struct gf_join *options)
{
    struct gf_member member = {0};
    struct gf_join join = *options;
    join.group = join.group ? join.group : "g";
    if (join.topic_count == 0) {
        join.topics[0] = topic;
        join.topic_count = 1;
    }
    cr_assert_eq(gf_join(f, &member, &join), PE_NONE);
    return member;
}

static struct gf_member join(void)
{
    return join_with(&(struct gf_join){.assignor = GROUP_STICKY});
}

static struct gf_member join_static(const char *instance)
{
    return join_with(&(struct gf_join){.assignor = GROUP_STICKY, .instance = instance});
}

static void settle(struct gf_member *a, struct gf_member *b)
{
    struct gf_member *members[] = {a, b};
    gf_settle(f, members, b ? 2 : 1);
}

static uint32_t generation_of(const char *group)
{
    struct gf_description description;
    cr_assert_eq(gf_describe(f, group, &description), PE_NONE);
    return description.generation;
}

/* ---- joining ---- */

Test(group_member, a_first_member_gets_everything_after_a_moment)
{
    struct gf_member a = join();
    cr_assert_eq(a.generation, 0);
    cr_assert_eq(a.item_count, 0);
    cr_assert_eq(strlen(a.id), GROUP_MEMBER_ID_BYTES);
    cr_assert_eq(a.session_ms, 10000);
    gf_wait_ms(f, 50);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    cr_assert_eq(a.generation, 0, "before the moment has passed");
    gf_wait_ms(f, 80);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    cr_assert_eq(a.generation, 1);
    cr_assert_eq(a.item_count, 6);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    cr_assert(a.was_unchanged);
}

Test(group_member, many_that_start_at_once_are_one_assignment)
{
    struct gf_member members[6], *all[6];
    for (int i = 0; i < 6; i++) {
        members[i] = join();
        all[i] = &members[i];
    }
    gf_settle(f, all, 6);
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(members[i].generation, 1);
        cr_assert_eq(members[i].item_count, 1);
    }
}

Test(group_member, a_second_member_gets_a_partition_only_when_the_first_has_let_go)
{
    struct gf_member a = join();
    settle(&a, NULL);
    struct gf_member b = join();
    gf_wait_ms(f, 500);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.generation, 2);
    cr_assert_eq(b.item_count, 0);
    cr_assert_eq(gf_commit_as(f, &a, topic, 0, 5), PE_NONE);
    cr_assert_eq(gf_commit_as(f, &a, topic, 5, 5), PE_NONE, "told nothing yet");
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE); // hears of it
    cr_assert_eq(a.generation, 2);
    cr_assert_eq(a.item_count, 3);
    cr_assert_eq(gf_commit_as(f, &a, topic, 5, 6), PE_NONE, "told, but has not confirmed");
    gf_wait_ms(f, 500);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 0);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE); // confirms
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.generation, 3);
    cr_assert_eq(b.item_count, 3);
    for (uint32_t p = 0; p < 6; p++)
        cr_assert(gf_has(&a, topic, p) != gf_has(&b, topic, p));
    uint32_t lost = gf_has(&b, topic, 5) ? 5 : 0;
    cr_assert_eq(gf_commit_as(f, &a, topic, lost, 9), PE_NOT_OWNER);
}

Test(group_member, a_group_that_has_owners_makes_nobody_wait)
{
    struct gf_member a = join();
    settle(&a, NULL);
    struct gf_member b = join();
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    cr_assert_eq(a.generation, 2);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
}

Test(group_member, range_gives_contiguous_pieces)
{
    struct gf_member a = join_with(&(struct gf_join){.assignor = GROUP_RANGE, .instance = "a"});
    struct gf_member b = join_with(&(struct gf_join){.assignor = GROUP_RANGE, .instance = "b"});
    settle(&a, &b);
    for (uint32_t p = 0; p < 3; p++)
        cr_assert(gf_has(&a, topic, p) && gf_has(&b, topic, p + 3));
}

Test(group_member, the_first_member_decides_the_assignor)
{
    struct gf_member a = join(), b;
    struct gf_join other = {
        .group = "g", .topics = {topic}, .topic_count = 1, .assignor = GROUP_RANGE};
    cr_assert_eq(gf_join(f, &b, &other), PE_INVALID_ARGUMENT);
    cr_assert_eq(gf_leave(f, &a, true), PE_NONE);
    cr_assert_eq(gf_join(f, &b, &other), PE_NONE);
}

Test(group_member, an_unknown_topic_is_refused_and_nothing_is_made)
{
    struct gf_member a;
    struct gf_description description;
    struct gf_join bad = {.group = "g", .topics = {topic, 4711}, .topic_count = 2};
    cr_assert_eq(gf_join(f, &a, &bad), PE_UNKNOWN_TOPIC);
    cr_assert_eq(gf_describe(f, "g", &description), PE_UNKNOWN_GROUP);
    cr_assert_eq(gf_groups(f, "g")->subscription_count, 0);
    gf_wait_ms(f, 10);
    cr_assert_null(group_topic_find(gf_groups(f, "g"), 4711));
    uint32_t id;
    cr_assert_eq(shf_topic(f, OP_TOPIC_DELETE, "t", 0, &id), PE_NONE);
    bad.topic_count = 1;
    cr_assert_eq(gf_join(f, &a, &bad), PE_UNKNOWN_TOPIC, "deleted");
}

Test(group_member, a_changed_subscription_changes_the_assignment)
{
    uint32_t other = gf_topic(f, "other", 2);
    struct gf_member a = join();
    settle(&a, NULL);
    char id[GF_ID_BYTES + 1];
    memcpy(id, a.id, sizeof(id));
    struct gf_join again = {.group = "g",
                            .member = id,
                            .topics = {other, topic, other},
                            .topic_count = 3,
                            .assignor = GROUP_STICKY};
    cr_assert_eq(gf_join(f, &a, &again), PE_NONE);
    cr_assert_str_eq(a.id, id);
    cr_assert_eq(a.item_count, 6, "what it has, at once");
    settle(&a, NULL);
    cr_assert_eq(a.item_count, 8);
    again.topics[0] = other;
    again.topic_count = 1;
    cr_assert_eq(gf_join(f, &a, &again), PE_NONE);
    settle(&a, NULL);
    cr_assert_eq(a.item_count, 2);
}

/* ---- going ---- */

Test(group_member, who_leaves_frees_its_partitions_at_once)
{
    struct gf_member a = join(), b = join();
    settle(&a, &b);
    cr_assert_eq(gf_leave(f, &a, false), PE_NONE);
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 6);
    cr_assert_eq(gf_heartbeat(f, &a), PE_UNKNOWN_MEMBER);
    cr_assert_eq(gf_commit_as(f, &a, topic, 0, 1), PE_UNKNOWN_MEMBER);
    cr_assert_eq(gf_leave(f, &a, false), PE_UNKNOWN_MEMBER);
}

Test(group_member, a_silent_member_loses_everything_when_its_session_times_out)
{
    struct gf_member a = join_with(&(struct gf_join){.assignor = GROUP_STICKY, .session_ms = 1000});
    struct gf_member b = join();
    cr_assert_eq(a.session_ms, 1000);
    settle(&a, &b);
    gf_wait_ms(f, 900);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert(b.was_unchanged);
    gf_wait_ms(f, 120);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 6);
    cr_assert_eq(gf_heartbeat(f, &a), PE_UNKNOWN_MEMBER);
    uint16_t shard = gf_shard(f, "g");
    cr_assert_eq(counter_get(&f->shards[shard].counters.group_members_expired_total), 1);
}

Test(group_member, heartbeats_keep_a_session_alive)
{
    struct gf_member a = join_with(&(struct gf_join){.assignor = GROUP_STICKY, .session_ms = 1000});
    for (int i = 0; i < 10; i++) {
        gf_wait_ms(f, 600);
        cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    }
}

Test(group_member, who_does_not_give_up_in_time_is_removed)
{
    struct gf_member a = join_with(
        &(struct gf_join){.assignor = GROUP_STICKY, .session_ms = 30000, .rebalance_ms = 2000});
    settle(&a, NULL);
    struct gf_member b = join();
    uint64_t began_ms = gf_now_ms(f);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    uint32_t applied = a.generation - 1;
    while (gf_now_ms(f) < began_ms + 1900) {
        a.generation = applied; // alive, but never confirms
        cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
        gf_wait_ms(f, 300);
    }
    gf_wait_ms(f, 400);
    a.generation = applied;
    cr_assert_eq(gf_heartbeat(f, &a), PE_UNKNOWN_MEMBER);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 6);
}

Test(group_member, the_last_member_leaves_an_empty_group_with_a_higher_generation)
{
    struct gf_member a = join();
    settle(&a, NULL);
    cr_assert_eq(gf_commit_as(f, &a, topic, 2, 77), PE_NONE);
    cr_assert_eq(gf_leave(f, &a, true), PE_NONE);
    gf_wait_ms(f, 5);
    struct gf_description description;
    cr_assert_eq(gf_describe(f, "g", &description), PE_NONE);
    cr_assert_eq(description.state, GROUP_EMPTY);
    cr_assert_eq(description.generation, 2);
    cr_assert_eq(gf_fetch(f, "g", topic, 2, NULL), 77);
    struct gf_member b = join();
    settle(&b, NULL);
    cr_assert_eq(b.generation, 3);
}

Test(group_member, a_topic_that_nobody_subscribes_to_any_more_is_given_up_before_another_gets_it)
{
    uint32_t other = gf_topic(f, "other", 2);
    struct gf_member a = join_with(
        &(struct gf_join){.assignor = GROUP_STICKY, .topics = {topic, other}, .topic_count = 2});
    settle(&a, NULL);
    struct gf_member again = a;
    struct gf_join fewer = {.group = "g",
                            .member = a.id,
                            .topics = {topic},
                            .topic_count = 1,
                            .assignor = GROUP_STICKY};
    cr_assert_eq(gf_join(f, &again, &fewer), PE_NONE); // its answer has not come yet
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_commit_as(f, &a, other, 1, 5), PE_NONE, "it still reads");
    struct gf_member b =
        join_with(&(struct gf_join){.assignor = GROUP_STICKY, .topics = {other}, .topic_count = 1});
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 0);
    settle(&a, &b);
    cr_assert_eq(a.item_count, 6);
    cr_assert_eq(b.item_count, 2);
}

Test(group_member, what_is_asked_for_later_has_its_own_time)
{
    struct gf_member a = join_with(
        &(struct gf_join){.assignor = GROUP_STICKY, .session_ms = 30000, .rebalance_ms = 2000});
    settle(&a, NULL);
    struct gf_member b = join();
    gf_wait_ms(f, 5);
    struct gf_member lost = a;
    cr_assert_eq(gf_heartbeat(f, &lost), PE_NONE); // told, and the answer is lost
    gf_wait_ms(f, 1500);
    cr_assert_eq(gf_leave(f, &b, true), PE_NONE); // nothing to give up any more
    gf_wait_ms(f, 5);
    struct gf_member c = join();
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE); // told of the new one
    gf_wait_ms(f, 1500);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE, "2 s have passed since the first");
    settle(&a, &c);
    cr_assert_eq(a.item_count, 3);
}

/* ---- generations ---- */

Test(group_member, a_commit_of_an_older_generation_than_was_confirmed_is_refused)
{
    struct gf_member a = join();
    settle(&a, NULL);
    struct gf_member b = join();
    settle(&a, &b);
    uint32_t own = a.items[0].partition;
    struct gf_commit stale = {.group = "g",
                              .member = &a,
                              .generation = 1,
                              .topic_id = topic,
                              .partition = own,
                              .offset = 3};
    cr_assert_eq(gf_commit(f, &stale, NULL), PE_STALE_GENERATION);
    stale.generation = 1000;
    cr_assert_eq(gf_commit(f, &stale, NULL), PE_STALE_GENERATION, "never given");
    stale.generation = a.generation;
    cr_assert_eq(gf_commit(f, &stale, NULL), PE_NONE);
}

Test(group_member, a_generation_that_was_never_given_confirms_nothing)
{
    struct gf_member a = join();
    settle(&a, NULL);
    a.generation = 9;
    cr_assert_eq(gf_heartbeat(f, &a), PE_INVALID_ARGUMENT);
}

Test(group_member, a_lost_answer_is_told_again)
{
    struct gf_member a = join();
    settle(&a, NULL);
    struct gf_member b = join();
    gf_wait_ms(f, 5);
    struct gf_member lost = a;
    cr_assert_eq(gf_heartbeat(f, &lost), PE_NONE); // its answer gets lost on the way
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    cr_assert_eq(a.item_count, 3);
    cr_assert_not(a.was_unchanged);
    settle(&a, &b);
}

/* ---- static members ---- */

Test(group_member, a_static_member_is_replaced_without_a_new_assignment)
{
    struct gf_member a = join_static("one"), b = join_static("two");
    settle(&a, &b);
    uint32_t generation = generation_of("g");
    struct gf_member c = join_static("one");
    cr_assert_str_neq(c.id, a.id);
    cr_assert_eq(c.generation, generation);
    cr_assert_eq(c.item_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert(gf_has(&a, c.items[i].topic_id, c.items[i].partition));
    cr_assert_eq(gf_heartbeat(f, &a), PE_FENCED_MEMBER);
    cr_assert_eq(gf_commit_as(f, &a, topic, a.items[0].partition, 1), PE_FENCED_MEMBER);
    cr_assert_eq(gf_leave(f, &a, true), PE_FENCED_MEMBER);
    cr_assert_eq(gf_commit_as(f, &c, topic, c.items[0].partition, 1), PE_NONE);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert(b.was_unchanged);
    struct gf_member d = join_static("one");
    cr_assert_eq(gf_heartbeat(f, &a), PE_FENCED_MEMBER, "however long ago");
    cr_assert_eq(gf_heartbeat(f, &c), PE_FENCED_MEMBER);
    cr_assert_eq(gf_heartbeat(f, &d), PE_NONE);
    cr_assert_eq(generation_of("g"), generation);
}

Test(group_member, a_static_member_that_leaves_keeps_its_place_until_its_session_times_out)
{
    struct gf_member b = join_static("two");
    struct gf_member a = join_with(
        &(struct gf_join){.assignor = GROUP_STICKY, .instance = "one", .session_ms = 2000});
    settle(&a, &b);
    uint32_t generation = generation_of("g");
    cr_assert_eq(gf_leave(f, &a, false), PE_NONE);
    gf_wait_ms(f, 1500);
    cr_assert_eq(generation_of("g"), generation);
    struct gf_member c = join_with(
        &(struct gf_join){.assignor = GROUP_STICKY, .instance = "one", .session_ms = 2000});
    cr_assert_eq(c.item_count, 3);
    cr_assert_eq(generation_of("g"), generation);
    cr_assert_eq(gf_leave(f, &c, false), PE_NONE);
    gf_wait_ms(f, 2100);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 6);
    struct gf_member d = join_static("one");
    cr_assert_eq(d.generation, 0, "a new place");
    cr_assert_eq(gf_leave(f, &d, true), PE_NONE);
    cr_assert_eq(gf_heartbeat(f, &d), PE_UNKNOWN_MEMBER);
}

Test(group_member, what_a_replaced_process_had_to_give_up_is_free)
{
    struct gf_member a = join_static("one");
    settle(&a, NULL);
    struct gf_member b = join();
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 0);
    struct gf_member c = join_static("one"); // the process that had not let go is gone
    cr_assert_eq(c.item_count, 3);
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &b), PE_NONE);
    cr_assert_eq(b.item_count, 3);
    settle(&c, &b);
}

Test(group_member, an_instance_id_is_for_life)
{
    struct gf_member a = join_static("one"), b;
    struct gf_join other = {.group = "g",
                            .member = a.id,
                            .instance = "two",
                            .topics = {topic},
                            .topic_count = 1,
                            .assignor = GROUP_STICKY};
    cr_assert_eq(gf_join(f, &b, &other), PE_INVALID_ARGUMENT);
    other.instance = "one";
    cr_assert_eq(gf_join(f, &b, &other), PE_NONE);
    cr_assert_str_eq(a.id, b.id);
}

/* ---- topics that change ---- */

Test(group_member, added_partitions_are_assigned_and_a_deleted_topic_is_dropped)
{
    uint32_t other = gf_topic(f, "other", 2);
    struct gf_member a = join_with(
        &(struct gf_join){.assignor = GROUP_STICKY, .topics = {topic, other}, .topic_count = 2});
    settle(&a, NULL);
    cr_assert_eq(a.item_count, 8);
    cr_assert_eq(gf_commit_as(f, &a, other, 1, 5), PE_NONE);
    cr_assert_eq(gf_commit_as(f, &a, topic, 1, 5), PE_NONE);
    uint32_t id;
    cr_assert_eq(shf_topic(f, OP_TOPIC_ALTER, "t", 9, &id), PE_NONE);
    gf_wait_ms(f, 5100);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    cr_assert_eq(a.item_count, 11);
    cr_assert_eq(shf_topic(f, OP_TOPIC_DELETE, "other", 0, &id), PE_NONE);
    gf_wait_ms(f, 5100);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
    cr_assert_eq(a.item_count, 9);
    gf_wait_ms(f, 50);
    cr_assert_eq(gf_fetch(f, "g", other, 1, NULL), UINT64_MAX, "its offsets go, too");
    cr_assert_eq(gf_fetch(f, "g", topic, 1, NULL), 5);
    gf_replay_is_equal(f);
}

Test(group_member, offsets_of_a_deleted_topic_go_without_members_too)
{
    uint32_t other = gf_topic(f, "other", 2), id;
    cr_assert_eq(gf_commit_plain(f, "g", other, 0, 5, 0, NULL), PE_NONE);
    cr_assert_eq(gf_commit_plain(f, "g", topic, 0, 6, 0, NULL), PE_NONE);
    cr_assert_eq(gf_commit_plain(f, "h", other, 1, 7, 0, NULL), PE_NONE);
    cr_assert_eq(shf_topic(f, OP_TOPIC_DELETE, "other", 0, &id), PE_NONE);
    gf_wait_ms(f, 61000);
    cr_assert_eq(gf_fetch(f, "g", other, 0, NULL), UINT64_MAX);
    cr_assert_eq(gf_fetch(f, "h", other, 1, NULL), UINT64_MAX);
    cr_assert_eq(gf_fetch(f, "g", topic, 0, NULL), 6);
    gf_replay_is_equal(f);
}

/* ---- the broker restarts ---- */

Test(group_member, after_a_restart_all_join_again_under_a_higher_generation_and_keep_what_they_had)
{
    struct gf_member a = join(), b = join();
    settle(&a, &b);
    uint32_t before = a.generation, moved = 0;
    gf_replay_is_equal(f);
    cr_assert_eq(gf_heartbeat(f, &a), PE_UNKNOWN_MEMBER);
    cr_assert_eq(gf_commit_as(f, &b, topic, b.items[0].partition, 4), PE_UNKNOWN_MEMBER);
    struct gf_join again[2] = {{.assignor = GROUP_STICKY, .item_count = b.item_count},
                               {.assignor = GROUP_STICKY, .item_count = a.item_count}};
    memcpy(again[0].items, b.items, b.item_count * sizeof(*b.items));
    memcpy(again[1].items, a.items, a.item_count * sizeof(*a.items));
    struct gf_member new_b = join_with(&again[0]), new_a = join_with(&again[1]);
    settle(&new_a, &new_b);
    cr_assert_gt(new_a.generation, before);
    for (uint32_t i = 0; i < 3; i++)
        moved += !gf_has(&new_a, topic, a.items[i].partition) +
                 !gf_has(&new_b, topic, b.items[i].partition);
    cr_assert_eq(moved, 0);
    cr_assert_eq(gf_groups(f, "g")->hint_count, 0);
}

Test(group_member, nobody_joins_while_the_shard_drains)
{
    struct gf_member a = join(), b;
    for (uint16_t i = 0; i < f->shard_count; i++)
        shard_drain(&f->shards[i]);
    struct gf_join wish = {
        .group = "g", .topics = {topic}, .topic_count = 1, .assignor = GROUP_STICKY};
    cr_assert_eq(gf_join(f, &b, &wish), PE_SHUTTING_DOWN);
    cr_assert_eq(gf_heartbeat(f, &a), PE_NONE);
}
