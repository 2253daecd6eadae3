/* A member of a group whose memory is short: whichever allocation of a poll fails, the application
 * is told of each partition that comes and goes once, and gets each record once. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "client/consumer_private.h"
#include "tests/unit/client/short_memory.h"
#include "tests/unit/client/user.h"

#define PARTITIONS 4u
#define RECORDS 20u // in each
#define POINTS_MAX 200u

static const char *const topics[] = {"t"};

struct member {
    struct sluice_consumer *consumer;
    bool has[PARTITIONS];
    uint32_t told[3];          // partitions, by what was said of them
    uint64_t next[PARTITIONS]; // behind the last record returned
    uint64_t count;
    uint64_t deadline_ms;
};

static void on_rebalance(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count)
{
    struct member *member = context;
    member->told[what] += count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t p = partitions[i].partition;
        cr_assert(member->has[p] == (what != SLUICE_ASSIGNED), "partition %u", p);
        member->has[p] = what == SLUICE_ASSIGNED;
        member->next[p] = 0; // nothing is committed
    }
}

static void join(struct user *user, struct member *member)
{
    struct sluice_consumer_options options = {.size = sizeof(options),
                                              .group = "g",
                                              .session_timeout_ms = 1500, // heartbeats: a sixth
                                              .manual_commit = true,
                                              .on_rebalance = on_rebalance,
                                              .context = member};
    *member = (struct member){.deadline_ms = user_now_ms() + 10000};
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &member->consumer), SLUICE_OK));
    cr_assert(eq(int, sluice_consumer_join(member->consumer, topics, 1), SLUICE_OK));
}

static void poll_once(struct member *member)
{
    struct sluice_message messages[8];
    cr_assert(lt(u64, user_now_ms(), member->deadline_ms), "it comes to nothing: %lu records",
              member->count);
    int count = sluice_consumer_poll(member->consumer, messages, 8, 5);
    cr_assert(count >= 0 || (count == SLUICE_E_NO_MEMORY && short_memory_has_failed()), "%s",
              sluice_last_error());
    for (int i = 0; i < count; i++) {
        uint32_t p = messages[i].partition;
        cr_assert(member->has[p], "partition %u is not held", p);
        cr_assert(eq(u64, messages[i].offset, member->next[p]));
        member->next[p]++;
        member->count++;
    }
}

static bool holds(const struct member *member, uint32_t partitions)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        count += member->has[p];
    return count == partitions;
}

static struct user *start(void)
{
    static const struct fake_options plain;
    struct user *user = user_new(&plain, PARTITIONS);
    user_produce(user, (struct sluice_producer_options){.batch_records = 5});
    for (uint32_t p = 0; p < PARTITIONS; p++)
        user_send_many(user, p, RECORDS);
    user_flush(user);
    return user;
}

/* With the point-th allocation failing. Returns whether there were so many. */
static bool begins(struct user *user, uint32_t point)
{
    struct member member;
    join(user, &member);
    short_memory_fail(point);
    while (member.count < PARTITIONS * RECORDS)
        poll_once(&member);
    bool has_failed = short_memory_has_failed();
    short_memory_fail(0);
    cr_assert(eq(u32, member.told[SLUICE_ASSIGNED], 4));
    sluice_consumer_free(member.consumer);
    return has_failed;
}

/* Half of what it holds goes to another member, the rest is lost when both are thrown out. */
static bool gives_up(struct user *user, uint32_t point)
{
    struct member a, b;
    join(user, &a);
    while (!holds(&a, 4))
        poll_once(&a);
    join(user, &b);
    short_memory_fail(point);
    while (!holds(&a, 2))
        poll_once(&a);
    fake_group_remove_members(user->broker, "g");
    while (a.told[SLUICE_LOST] < 2)
        poll_once(&a);
    bool has_failed = short_memory_has_failed();
    short_memory_fail(0);
    cr_assert(eq(u32, a.told[SLUICE_REVOKED], 2));
    cr_assert(eq(u32, a.told[SLUICE_LOST], 2));
    while (!holds(&a, 2) || !holds(&b, 2)) { // who has joined anew leaves
        poll_once(&a);
        poll_once(&b);
    }
    sluice_consumer_free(a.consumer);
    sluice_consumer_free(b.consumer);
    return has_failed;
}

Test(group_memory, an_allocation_that_fails_at_the_beginning_costs_no_record_and_no_word)
{
    struct user *user = start();
    uint32_t point = 1;
    while (begins(user, point)) {
        point++;
        cr_assert(lt(u32, point, POINTS_MAX));
    }
    cr_assert(gt(u32, point, 10));
    user_free(user);
}

Test(group_memory, what_is_given_up_is_told_without_memory)
{
    struct user *user = start();
    uint32_t point = 1;
    while (gives_up(user, point)) {
        point++;
        cr_assert(lt(u32, point, POINTS_MAX));
    }
    user_free(user);
}
