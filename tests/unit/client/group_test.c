/* Consumers in groups: partitions come and go between polls, offsets are committed, and nothing of
 * a partition that was given up is returned. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/consumer_private.h"
#include "proto/messages.h"
#include "tests/unit/client/user.h"

#define PARTITIONS 4u

static const struct fake_options plain;
static const char *const topics[] = {"t"};

struct member {
    struct sluice_consumer *consumer;
    bool has[PARTITIONS];
    uint32_t assigned, revoked, lost; // partitions, counted
    uint64_t next[PARTITIONS];        // behind the last record returned
    uint64_t count;
};

static void on_rebalance(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count)
{
    struct member *member = context;
    uint32_t *counters[] = {&member->assigned, &member->revoked, &member->lost};
    *counters[what] += count;
    for (uint32_t i = 0; i < count; i++) {
        cr_assert_str_eq(partitions[i].topic, "t");
        cr_assert(member->has[partitions[i].partition] == (what != SLUICE_ASSIGNED));
        member->has[partitions[i].partition] = what == SLUICE_ASSIGNED;
        if (what == SLUICE_REVOKED) {
            uint64_t position;
            cr_assert(eq(int,
                         sluice_consumer_position(member->consumer, "t", partitions[i].partition,
                                                  &position, NULL),
                         SLUICE_OK));
        }
    }
}

static struct member *new_member(struct user *user, struct sluice_consumer_options options)
{
    struct member *member = calloc(1, sizeof(*member));
    options.size = sizeof(options);
    options.group = options.group ? options.group : "g";
    options.on_rebalance = on_rebalance;
    options.context = member;
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &member->consumer), SLUICE_OK));
    cr_assert(eq(int, sluice_consumer_join(member->consumer, topics, 1), SLUICE_OK), "%s",
              sluice_last_error());
    return member;
}

static void free_member(struct member *member)
{
    sluice_consumer_free(member->consumer);
    free(member);
}

/* One poll; what it returns must be of a partition that is held, and in order. */
static int poll_once(struct member *member, uint32_t timeout_ms)
{
    struct sluice_message messages[64];
    int count = sluice_consumer_poll(member->consumer, messages, 64, timeout_ms);
    for (int i = 0; i < count; i++) {
        uint32_t p = messages[i].partition;
        cr_assert(member->has[p], "partition %u is not held", p);
        member->next[p] = messages[i].offset + 1;
        member->count++;
    }
    return count;
}

static uint32_t held(const struct member *member)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        count += member->has[p];
    return count;
}

static void poll_until_held(struct member *member, uint32_t count)
{
    uint64_t deadline_ms = user_now_ms() + 10000;
    while (held(member) != count) {
        cr_assert(ge(int, poll_once(member, 20), 0), "%s", sluice_last_error());
        cr_assert(user_now_ms() < deadline_ms, "%u partitions, not %u", held(member), count);
    }
}

static void poll_until_count(struct member *member, uint64_t count)
{
    uint64_t deadline_ms = user_now_ms() + 10000;
    while (member->count < count) {
        cr_assert(ge(int, poll_once(member, 20), 0), "%s", sluice_last_error());
        cr_assert(user_now_ms() < deadline_ms, "%lu records, not %lu", member->count, count);
    }
}

static struct user *start(uint32_t records_each)
{
    struct user *user = user_new(&plain, PARTITIONS);
    user_produce(user, (struct sluice_producer_options){.batch_records = 5});
    for (uint32_t p = 0; p < PARTITIONS; p++)
        user_send_many(user, p, records_each);
    user_flush(user);
    return user;
}

static uint64_t committed(struct user *user, uint32_t partition)
{
    return fake_group_offset(user->broker, "g", "t", partition);
}

/* ---- alone ---- */

Test(group, a_lone_member_reads_everything_from_the_beginning)
{
    struct user *user = start(100);
    struct member *member = new_member(user, (struct sluice_consumer_options){0});
    poll_until_count(member, 400);
    cr_expect(eq(int, (int)held(member), 4));
    cr_expect(eq(int, (int)member->assigned, 4));
    free_member(member);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        cr_expect(eq(u64, committed(user, p), 100));
    cr_expect(eq(int, (int)fake_group_member_count(user->broker, "g"), 0));
    user_free(user);
}

Test(group, reading_goes_on_from_what_is_committed)
{
    struct user *user = start(100);
    fake_group_commit(user->broker, "g", "t", 0, 90, 0);
    fake_group_commit(user->broker, "g", "t", 1, 100, 0);
    fake_group_commit(user->broker, "g", "t", 2, 0, 0);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.start = SLUICE_START_END});
    poll_until_count(member, 110);
    cr_expect(eq(int, poll_once(member, 100), 0));
    cr_expect(eq(u64, member->next[0], 100));
    cr_expect(eq(u64, member->next[2], 100));
    free_member(member);
    user_free(user);
}

/* An offset that is about to change is waited for; the other partitions are read meanwhile. */
Test(group, an_offset_in_a_transaction_is_waited_for)
{
    struct user *user = start(100);
    fake_group_commit(user->broker, "g", "t", 0, 90, 5);
    struct member *member = new_member(user, (struct sluice_consumer_options){0});
    poll_until_count(member, 300);
    poll_until_count(member, 310);
    cr_expect(ge(u64, fake_seen(user->broker, OP_OFFSET_FETCH), 5));
    cr_expect(eq(int, (int)member->assigned, 4));
    free_member(member);
    user_free(user);
}

Test(group, commits_by_itself_what_polls_before_have_returned)
{
    struct user *user = start(100);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.auto_commit_interval_ms = 1});
    poll_until_count(member, 400);
    for (int i = 0; i < 500 && committed(user, 3) != 100; i++)
        poll_once(member, 10);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        cr_expect(eq(u64, committed(user, p), 100));
    uint64_t seen = fake_seen(user->broker, OP_OFFSET_COMMIT);
    for (int i = 0; i < 20; i++)
        poll_once(member, 5);
    cr_expect(eq(u64, fake_seen(user->broker, OP_OFFSET_COMMIT), seen)); // nothing has changed
    free_member(member);
    user_free(user);
}

Test(group, with_manual_commit_nothing_is_committed_until_the_application_says)
{
    struct user *user = start(100);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.manual_commit = true});
    uint64_t offset;
    poll_until_count(member, 400);
    poll_once(member, 50);
    cr_expect(eq(u64, fake_seen(user->broker, OP_OFFSET_COMMIT), 0));
    cr_expect(
        eq(int, sluice_consumer_committed(member->consumer, "t", 1, &offset, 5000), SLUICE_OK));
    cr_expect(eq(u64, offset, SLUICE_OFFSET_UNKNOWN));
    struct sluice_partition_offset one = {"t", 2, 33};
    cr_expect(eq(int, sluice_consumer_commit_offsets(member->consumer, &one, 1, 5000), SLUICE_OK));
    cr_expect(eq(u64, committed(user, 2), 33));
    cr_expect(eq(int, sluice_consumer_commit(member->consumer, 5000), SLUICE_OK));
    cr_expect(
        eq(int, sluice_consumer_committed(member->consumer, "t", 1, &offset, 5000), SLUICE_OK));
    cr_expect(eq(u64, offset, 100));
    cr_expect(eq(int, sluice_consumer_commit_offsets(member->consumer, &one, 1, 5000), SLUICE_OK));
    cr_expect(eq(u64, committed(user, 2), 100)); // never back
    one.topic = "u";
    cr_expect(
        eq(int, sluice_consumer_commit_offsets(member->consumer, &one, 1, 5000), SLUICE_E_INVALID));
    free_member(member);
    cr_expect(eq(u64, committed(user, 2), 100));
    user_free(user);
}

/* ---- several ---- */

Test(group, members_share_and_take_over)
{
    struct user *user = start(100);
    struct member *a = new_member(user, (struct sluice_consumer_options){0});
    poll_until_count(a, 400);
    struct member *b = new_member(user, (struct sluice_consumer_options){0});
    uint64_t deadline_ms = user_now_ms() + 10000;
    while (held(a) != 2 || held(b) != 2) {
        poll_once(a, 5);
        poll_once(b, 5);
        for (uint32_t p = 0; p < PARTITIONS; p++)
            cr_assert_not(a->has[p] && b->has[p]);
        cr_assert(lt(u64, user_now_ms(), deadline_ms));
    }
    cr_expect(eq(u64, b->count, 0)); // all was committed when it moved
    cr_expect(eq(int, (int)a->revoked, 2));
    cr_expect(eq(int, (int)a->lost, 0));
    free_member(a);
    poll_until_held(b, 4);
    user_send_many(user, 0, 10);
    user_send_many(user, 1, 10);
    user_flush(user);
    poll_until_count(b, 20);
    free_member(b);
    user_free(user);
}

/* The rest of a batch that was received, and even of one that is being read, is not returned. */
Test(group, nothing_of_a_revoked_partition_is_returned)
{
    struct user *user = start(1000);
    struct member *a = new_member(user, (struct sluice_consumer_options){.manual_commit = true});
    struct sluice_message message = {0};
    do { // into the first batch of a partition that will go to b
        cr_assert(ge(int, sluice_consumer_poll(a->consumer, &message, 1, 1000), 0));
    } while (message.partition != 1);
    struct member *b = new_member(user, (struct sluice_consumer_options){.manual_commit = true});
    uint64_t deadline_ms = user_now_ms() + 10000;
    while (held(a) != 2 || held(b) != 2) {
        int count = sluice_consumer_poll(a->consumer, &message, 1, 1);
        cr_assert(count <= 0 || a->has[message.partition]);
        poll_once(b, 1);
        cr_assert(lt(u64, user_now_ms(), deadline_ms));
    }
    poll_until_count(b, 2000); // its two partitions, from the beginning
    free_member(a);
    free_member(b);
    user_free(user);
}

/* ---- trouble ---- */

Test(group, a_lost_membership_is_given_up_and_joined_anew)
{
    struct user *user = start(100);
    struct member *member = new_member(
        user, (struct sluice_consumer_options){.manual_commit = true, .session_timeout_ms = 1000});
    poll_until_count(member, 400);
    fake_group_remove_members(user->broker, "g");
    poll_until_count(member, 800); // nothing was committed: all again
    cr_expect(eq(int, (int)member->lost, 4));
    cr_expect(eq(int, (int)member->assigned, 8));
    free_member(member);
    user_free(user);
}

/* It joins anew by itself, before a poll has said that it was lost. */
Test(group, who_ends_after_losing_its_membership_leaves)
{
    struct user *user = start(10);
    struct member *member = new_member(
        user, (struct sluice_consumer_options){.manual_commit = true, .session_timeout_ms = 1000});
    poll_until_count(member, 40);
    uint64_t joins = fake_seen(user->broker, OP_GROUP_JOIN);
    fake_group_remove_members(user->broker, "g");
    for (int i = 0; i < 500 && fake_seen(user->broker, OP_GROUP_JOIN) == joins; i++)
        user_sleep_ms(10);
    uint64_t beats = fake_seen(user->broker, OP_GROUP_HEARTBEAT);
    for (int i = 0; i < 500 && fake_seen(user->broker, OP_GROUP_HEARTBEAT) == beats; i++)
        user_sleep_ms(10); // until it knows the answer
    cr_assert(eq(int, (int)fake_group_member_count(user->broker, "g"), 1));
    free_member(member);
    cr_expect(eq(int, (int)fake_group_member_count(user->broker, "g"), 0));
    user_free(user);
}

Test(group, who_ends_while_joining_leaves)
{
    struct user *user = start(10);
    struct member *member = new_member(
        user, (struct sluice_consumer_options){.manual_commit = true, .session_timeout_ms = 1000});
    poll_until_count(member, 40);
    uint64_t joins = fake_seen(user->broker, OP_GROUP_JOIN);
    fake_rule(user->broker, OP_GROUP_JOIN, 0, 1, FAKE_DELAY, 200);
    fake_group_remove_members(user->broker, "g");
    for (int i = 0; i < 500 && fake_seen(user->broker, OP_GROUP_JOIN) == joins; i++)
        user_sleep_ms(10);
    free_member(member);
    user_sleep_ms(300); // the answer was on its way
    cr_expect(eq(int, (int)fake_group_member_count(user->broker, "g"), 0));
    user_free(user);
}

Test(group, commits_of_a_lost_membership_are_refused)
{
    struct user *user = start(10);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.manual_commit = true});
    poll_until_count(member, 40);
    fake_group_remove_members(user->broker, "g");
    int status = SLUICE_OK;
    for (int i = 0; i < 100 && status == SLUICE_OK; i++) {
        struct sluice_partition_offset one = {"t", 0, 5};
        status = sluice_consumer_commit_offsets(member->consumer, &one, 1, 5000);
    }
    cr_expect(eq(int, status, SLUICE_E_UNKNOWN_MEMBER));
    free_member(member);
    user_free(user);
}

Test(group, a_lost_connection_changes_nothing_within_the_session)
{
    struct user *user = start(100);
    struct member *member = new_member(user, (struct sluice_consumer_options){0});
    poll_until_count(member, 400);
    fake_drop_connections(user->broker);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        user_send_many(user, p, 100);
    user_flush(user);
    poll_until_count(member, 800);
    cr_expect(eq(int, (int)member->lost, 0));
    cr_expect(eq(int, (int)member->assigned, 4));
    free_member(member);
    user_free(user);
}

/* Others may have the partitions by now, so its own clock is enough to give them up. */
Test(group, without_an_answer_for_the_session_everything_is_given_up)
{
    struct user *user = start(100);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.session_timeout_ms = 500});
    poll_until_count(member, 400);
    fake_go_down(user->broker);
    uint64_t deadline_ms = user_now_ms() + 5000;
    while (held(member) > 0 && user_now_ms() < deadline_ms)
        cr_assert(ge(int, poll_once(member, 50), 0));
    cr_expect(eq(int, (int)member->lost, 4));
    fake_come_back(user->broker);
    poll_until_held(member, 4);
    free_member(member);
    user_free(user);
}

Test(group, who_does_not_poll_leaves_and_comes_back)
{
    struct user *user = start(100);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.max_poll_interval_ms = 1000,
                                                          .manual_commit = true});
    poll_until_count(member, 400);
    user_sleep_ms(1300);
    cr_expect(eq(int, (int)fake_group_member_count(user->broker, "g"), 0));
    cr_expect(eq(u64, fake_seen(user->broker, OP_GROUP_LEAVE), 1));
    poll_until_count(member, 800);
    cr_expect(eq(int, (int)member->lost, 4));
    free_member(member);
    user_free(user);
}

/* From the I/O thread, while the application computes. */
Test(group, heartbeats_go_on_without_polls)
{
    struct user *user = start(10);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.session_timeout_ms = 300});
    poll_until_count(member, 40);
    uint64_t before = fake_seen(user->broker, OP_GROUP_HEARTBEAT);
    user_sleep_ms(600);
    cr_expect(ge(u64, fake_seen(user->broker, OP_GROUP_HEARTBEAT), before + 5));
    cr_expect(eq(int, poll_once(member, 10), 0));
    cr_expect(eq(int, (int)member->lost, 0));
    free_member(member);
    user_free(user);
}

Test(group, a_fenced_static_member_is_told)
{
    struct user *user = start(10);
    struct member *member = new_member(
        user, (struct sluice_consumer_options){.instance_id = "host", .session_timeout_ms = 300});
    poll_until_count(member, 40);
    fake_rule(user->broker, OP_GROUP_HEARTBEAT, 0, 1, FAKE_REFUSE, PE_FENCED_MEMBER);
    int status = 0;
    for (int i = 0; i < 500 && status >= 0; i++)
        status = poll_once(member, 10);
    cr_expect(eq(int, status, SLUICE_E_FENCED_MEMBER));
    cr_expect(sluice_is_fatal(status));
    cr_expect(eq(int, (int)held(member), 0));
    cr_expect(eq(int, poll_once(member, 10), 0));
    free_member(member);
    user_free(user);
}

Test(group, an_answer_that_comes_late_or_not_at_all_is_asked_for_again)
{
    struct user *user = start(100);
    fake_rule(user->broker, OP_GROUP_JOIN, 0, 1, FAKE_REFUSE, PE_NOT_READY);
    fake_rule(user->broker, OP_GROUP_HEARTBEAT, 1, 1, FAKE_REFUSE, PE_OVERLOADED);
    fake_rule(user->broker, OP_GROUP_HEARTBEAT, 0, 1, FAKE_DROP_BEFORE, 0);
    fake_rule(user->broker, OP_OFFSET_FETCH, 0, 1, FAKE_REFUSE, PE_NOT_READY);
    fake_rule(user->broker, OP_OFFSET_FETCH, 0, 1, FAKE_DROP_AFTER, 0);
    struct member *member = new_member(user, (struct sluice_consumer_options){0});
    poll_until_count(member, 400);
    cr_expect(eq(int, (int)member->assigned, 4));
    free_member(member);
    user_free(user);
}

/* ---- what is not allowed ---- */

Test(group, options_have_ranges)
{
    struct user *user = user_new(&plain, 1);
    char name[260];
    memset(name, 'x', sizeof(name));
    name[250] = '\0';
    const struct sluice_consumer_options cases[] = {
        {.group = ""},
        {.group = name},
        {.group = "g\xff"},
        {.group = "g", .instance_id = ""},
        {.group = "g", .instance_id = name},
        {.group = "g", .assignor = (enum sluice_assignor)7},
        {.group = "g", .start = (enum sluice_start)9},
        {.group = "g", .start_value = 5},
        {.group = "g", .max_poll_interval_ms = 1800001},
        {.group = "g", .max_poll_interval_ms = 999},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct sluice_consumer *consumer;
        struct sluice_consumer_options options = cases[i];
        options.size = sizeof(options);
        cr_expect(eq(int, sluice_consumer_new(user->client, &options, &consumer), SLUICE_E_INVALID),
                  "case %zu", i);
    }
    user_free(user);
}

Test(group, joining_and_subscribing_do_not_mix)
{
    struct user *user = start(1);
    struct member *member = new_member(user, (struct sluice_consumer_options){0});
    cr_expect(eq(int,
                 sluice_consumer_subscribe(member->consumer, "t", 0, SLUICE_START_BEGINNING, 0),
                 SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_consumer_unsubscribe(member->consumer, "t", 0), SLUICE_E_INVALID));
    const char *const unknown[] = {"nowhere"};
    cr_expect(eq(int, sluice_consumer_join(member->consumer, unknown, 1), SLUICE_E_UNKNOWN_TOPIC));
    free_member(member);
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {.size = sizeof(options)};
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &consumer), SLUICE_OK));
    cr_expect(eq(int, sluice_consumer_join(consumer, topics, 1), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_consumer_commit(consumer, 100), SLUICE_E_INVALID));
    sluice_consumer_free(consumer);
    user_free(user);
}

Test(group, another_assignor_is_refused_with_words)
{
    struct user *user = start(1);
    struct member *member = new_member(user, (struct sluice_consumer_options){0});
    struct sluice_consumer *consumer;
    struct sluice_consumer_options options = {
        .size = sizeof(options), .group = "g", .assignor = SLUICE_ASSIGNOR_RANGE};
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &consumer), SLUICE_OK));
    cr_expect(
        eq(int, sluice_consumer_join(consumer, topics, 1), SLUICE_E_BROKER - PE_INVALID_ARGUMENT));
    cr_expect(strstr(sluice_last_error(), "refused by the test") != NULL);
    sluice_consumer_free(consumer);
    free_member(member);
    user_free(user);
}

/* A consumer that assigns its partitions itself can keep its place in a group, too. */
Test(group, a_consumer_that_subscribes_commits_for_a_group_without_members)
{
    struct user *user = start(100);
    struct sluice_consumer *consumer;
    struct sluice_message messages[100];
    struct sluice_consumer_options options = {.size = sizeof(options), .group = "g"};
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &consumer), SLUICE_OK));
    cr_assert(
        eq(int, sluice_consumer_subscribe(consumer, "t", 2, SLUICE_START_BEGINNING, 0), SLUICE_OK));
    uint64_t count = 0;
    while (count < 100)
        count += (uint64_t)sluice_consumer_poll(consumer, messages, 100, 1000);
    cr_expect(eq(int, sluice_consumer_commit(consumer, 5000), SLUICE_OK));
    cr_expect(eq(u64, committed(user, 2), 100));
    user_send_many(user, 2, 10);
    user_flush(user);
    while (count < 110)
        count += (uint64_t)sluice_consumer_poll(consumer, messages, 100, 1000);
    sluice_consumer_free(consumer); // commits by itself
    cr_expect(eq(u64, committed(user, 2), 110));
    user_free(user);
}

/* ---- with transactions ---- */

static void expect_transferred(struct user *user, struct member *member, uint64_t count)
{
    poll_until_count(member, count);
    cr_assert(eq(int, sluice_txn_send_offsets(user->producer, member->consumer, 5000), SLUICE_OK),
              "%s", sluice_last_error());
}

Test(group, offsets_are_committed_with_the_transaction_or_not_at_all)
{
    struct user *user = start(10);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.manual_commit = true});
    sluice_producer_free(TAKE(user->producer));
    user_produce(user, (struct sluice_producer_options){.transactional_id = "transfer"});
    cr_assert(eq(int, sluice_txn_begin(user->producer), SLUICE_OK));
    expect_transferred(user, member, 40);
    cr_expect(eq(u64, committed(user, 0), UINT64_MAX));
    cr_assert(eq(int, sluice_txn_abort(user->producer, 5000), SLUICE_OK));
    cr_expect(eq(u64, committed(user, 0), UINT64_MAX));
    cr_assert(eq(int, sluice_txn_begin(user->producer), SLUICE_OK));
    expect_transferred(user, member, 40);
    user_send_many(user, 0, 1);
    cr_assert(eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_OK));
    for (uint32_t p = 0; p < PARTITIONS; p++)
        cr_expect(eq(u64, committed(user, p), 10));
    free_member(member);
    user_free(user);
}

Test(group, offsets_of_a_lost_membership_ruin_the_transaction)
{
    struct user *user = start(10);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.manual_commit = true});
    sluice_producer_free(TAKE(user->producer));
    user_produce(user, (struct sluice_producer_options){.transactional_id = "transfer"});
    cr_assert(eq(int, sluice_txn_begin(user->producer), SLUICE_OK));
    poll_until_count(member, 40);
    user_send_many(user, 0, 5);
    fake_rule(user->broker, OP_TXN_OFFSETS, 0, 1, FAKE_REFUSE, PE_UNKNOWN_MEMBER);
    cr_expect(eq(int, sluice_txn_send_offsets(user->producer, member->consumer, 5000),
                 SLUICE_E_UNKNOWN_MEMBER));
    cr_expect(eq(int, sluice_txn_commit(user->producer, 5000), SLUICE_E_UNKNOWN_MEMBER));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), 10));
    free_member(member);
    user_free(user);
}

/* What an aborted transaction had read comes again, from what is committed or from the start. */
Test(group, a_rewind_goes_back_to_what_is_committed)
{
    struct user *user = start(10);
    struct member *member =
        new_member(user, (struct sluice_consumer_options){.manual_commit = true});
    poll_until_count(member, 40);
    struct sluice_partition_offset one = {"t", 2, 7};
    cr_assert(eq(int, sluice_consumer_commit_offsets(member->consumer, &one, 1, 5000), SLUICE_OK));
    fake_group_commit(user->broker, "g", "t", 3, 4, 3); // pending for a while
    cr_assert(eq(int, sluice_consumer_rewind(member->consumer, 5000), SLUICE_OK));
    poll_until_count(member, 40 + 10 + 10 + 3 + 6);
    cr_expect(eq(int, poll_once(member, 50), 0));
    cr_expect(eq(int, (int)member->assigned, 4)); // nothing was rebalanced
    free_member(member);
    user_free(user);
}

/* ---- for tools ---- */

Test(group, tools_list_describe_reset_and_delete)
{
    struct user *user = start(10);
    struct member *member = new_member(
        user, (struct sluice_consumer_options){.manual_commit = true, .instance_id = "host"});
    struct sluice_group *groups;
    uint32_t count;
    struct sluice_group_description description;
    poll_until_count(member, 40);
    cr_assert(eq(int, sluice_consumer_commit(member->consumer, 5000), SLUICE_OK));
    cr_assert(eq(int, sluice_group_list(user->client, &groups, &count), SLUICE_OK));
    cr_assert(eq(int, (int)count, 1));
    cr_expect_str_eq(groups[0].name, "g");
    cr_expect(eq(int, (int)groups[0].member_count, 1));
    cr_expect(eq(int, (int)groups[0].offset_count, 4));
    sluice_groups_free(groups, count);
    cr_assert(eq(int, sluice_group_describe(user->client, "g", &description), SLUICE_OK));
    cr_assert(eq(int, (int)description.member_count, 1));
    cr_expect_str_eq(description.members[0].instance_id, "host");
    cr_expect(eq(int, (int)description.members[0].partition_count, 4));
    cr_expect_str_eq(description.members[0].partitions[3].topic, "t");
    cr_assert(eq(int, (int)description.offset_count, 4));
    cr_expect(eq(u64, description.offsets[0].offset, 10));
    sluice_group_description_free(&description);
    struct sluice_partition_offset back = {"t", 1, 3};
    cr_expect(eq(int, sluice_group_reset(user->client, "g", &back, 1), SLUICE_E_GROUP_NOT_EMPTY));
    cr_expect(eq(int, sluice_group_delete(user->client, "g"), SLUICE_E_GROUP_NOT_EMPTY));
    free_member(member);
    cr_expect(eq(int, sluice_group_reset(user->client, "g", &back, 1), SLUICE_OK));
    cr_expect(eq(u64, committed(user, 1), 3));
    cr_expect(eq(int, sluice_group_delete(user->client, "g"), SLUICE_OK));
    cr_expect(
        eq(int, sluice_group_describe(user->client, "g", &description), SLUICE_E_UNKNOWN_GROUP));
    user_free(user);
}
