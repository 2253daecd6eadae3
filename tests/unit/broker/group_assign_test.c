/* The assignors as pure functions: over many random memberships every partition has exactly one owner who subscribes to it,
 * loads are level, what need not move stays, and the same question has the same answer. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/random.h"
#include "broker/group_assign.h"

#define TOPICS 12
#define MEMBERS 24
#define PARTITIONS 200

struct world {
    struct random random;
    uint32_t partition_counts[TOPICS]; // of topic id i + 1
    uint32_t topics[MEMBERS][TOPICS];
    struct assign_member members[MEMBERS];
    uint32_t member_count;
    struct assign_partition partitions[PARTITIONS];
    uint32_t partition_count;
    struct assign_work *work;
};

static struct world *w;

static void set_up(void)
{
    w = calloc(1, sizeof(*w));
    w->work = calloc(1, sizeof(*w->work));
}

static void tear_down(void)
{
    free(w->work);
    free(w);
}
TestSuite(group_assign, .init = set_up, .fini = tear_down, .timeout = 60);

static struct assign question(void)
{
    return (struct assign){.partitions = w->partitions,
                           .partition_count = w->partition_count,
                           .members = w->members,
                           .member_count = w->member_count,
                           .work = w->work};
}

static void lay_out_partitions(void)
{
    w->partition_count = 0;
    for (uint32_t t = 0; t < TOPICS; t++) {
        for (uint32_t p = 0; p < w->partition_counts[t]; p++)
            w->partitions[w->partition_count++] = (struct assign_partition){
                .topic_id = t + 1, .partition = p, .before = ASSIGN_NONE, .target = 77};
    }
}

static void topics_at_random(uint32_t partitions_max)
{
    for (uint32_t t = 0; t < TOPICS; t++)
        w->partition_counts[t] = (uint32_t)random_below(&w->random, partitions_max + 1);
    lay_out_partitions();
}

/* Each topic with a chance of percent; at least one. */
static void subscribe(uint32_t member, uint32_t percent)
{
    uint32_t count = 0;
    for (uint32_t t = 0; t < TOPICS; t++) {
        if (random_below(&w->random, 100) < percent || (t == TOPICS - 1 && count == 0))
            w->topics[member][count++] = t + 1;
    }
    w->members[member] =
        (struct assign_member){.topic_ids = w->topics[member], .topic_count = count};
}

static void members_at_random(uint32_t percent)
{
    w->member_count = 1 + (uint32_t)random_below(&w->random, MEMBERS);
    for (uint32_t m = 0; m < w->member_count; m++)
        subscribe(m, percent);
}

static bool subscribes(uint32_t member, uint32_t topic_id)
{
    for (uint32_t i = 0; i < w->members[member].topic_count; i++) {
        if (w->members[member].topic_ids[i] == topic_id)
            return true;
    }
    return false;
}

/* Exactly one owner, a subscriber; none only when nobody subscribes. And loads are what they say. */
static void check_owners(void)
{
    uint32_t loads[MEMBERS] = {0};
    for (uint32_t p = 0; p < w->partition_count; p++) {
        uint32_t target = w->partitions[p].target, topic_id = w->partitions[p].topic_id;
        if (target == ASSIGN_NONE) {
            for (uint32_t m = 0; m < w->member_count; m++)
                cr_assert_not(subscribes(m, topic_id));
            continue;
        }
        cr_assert_lt(target, w->member_count);
        cr_assert(subscribes(target, topic_id));
        loads[target]++;
    }
    for (uint32_t m = 0; m < w->member_count; m++)
        cr_assert_eq(loads[m], w->members[m].load);
}

static uint32_t moves(void)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < w->partition_count; p++)
        count += w->partitions[p].before != ASSIGN_NONE &&
                 w->partitions[p].before != w->partitions[p].target;
    return count;
}

static void keep_targets(void)
{
    for (uint32_t p = 0; p < w->partition_count; p++)
        w->partitions[p].before = w->partitions[p].target;
}

/* ---- range ---- */

static void check_range(void)
{
    check_owners();
    for (uint32_t p = 1; p < w->partition_count; p++) {
        const struct assign_partition *a = &w->partitions[p - 1], *b = &w->partitions[p];
        cr_assert(a->topic_id != b->topic_id || a->target <= b->target); // contiguous, in order
    }
    for (uint32_t t = 1; t <= TOPICS; t++) {
        uint32_t loads[MEMBERS] = {0}, last = UINT32_MAX, lowest = UINT32_MAX;
        for (uint32_t p = 0; p < w->partition_count; p++) {
            if (w->partitions[p].topic_id == t && w->partitions[p].target != ASSIGN_NONE)
                loads[w->partitions[p].target]++;
        }
        for (uint32_t m = 0; m < w->member_count; m++) {
            if (!subscribes(m, t))
                continue;
            cr_assert_leq(loads[m], last); // the remainder to the first ones
            last = loads[m];
            lowest = lowest < last ? lowest : last;
        }
        for (uint32_t m = 0; m < w->member_count; m++)
            cr_assert(!subscribes(m, t) || loads[m] <= lowest + 1);
    }
}

Test(group_assign, range_cuts_each_topic_into_contiguous_pieces_the_remainder_first)
{
    random_init(&w->random, 11);
    for (int i = 0; i < 2000; i++) {
        topics_at_random(15);
        members_at_random(i % 2 ? 100 : 50);
        struct assign a = question();
        group_assign_range(&a);
        check_range();
    }
}

Test(group_assign, range_of_seven_partitions_for_three_is_three_two_two)
{
    w->partition_counts[0] = 7;
    lay_out_partitions();
    random_init(&w->random, 1);
    for (w->member_count = 0; w->member_count < 3; w->member_count++)
        subscribe(w->member_count, 100);
    struct assign a = question();
    group_assign_range(&a);
    static const uint32_t expected[] = {0, 0, 0, 1, 1, 2, 2};
    for (uint32_t p = 0; p < 7; p++)
        cr_assert_eq(w->partitions[p].target, expected[p], "partition %u", p);
}

/* ---- sticky, when all subscribe alike ---- */

static void check_level(void)
{
    uint32_t low = UINT32_MAX, high = 0;
    for (uint32_t m = 0; m < w->member_count; m++) {
        low = w->members[m].load < low ? w->members[m].load : low;
        high = w->members[m].load > high ? w->members[m].load : high;
    }
    cr_assert_leq(high, low + 1);
}

/* What must move at least: what members have above their fair share, the larger share to who has most. */
static uint32_t moves_needed(void)
{
    uint32_t had[MEMBERS] = {0}, extra = w->partition_count % w->member_count;
    uint32_t share = w->partition_count / w->member_count, count = 0;
    for (uint32_t p = 0; p < w->partition_count; p++) {
        if (w->partitions[p].before != ASSIGN_NONE)
            had[w->partitions[p].before]++;
    }
    for (uint32_t m = 0; m < w->member_count; m++) {
        if (had[m] <= share)
            continue;
        count += had[m] - share;
        if (extra > 0) {
            extra--;
            count--;
        }
    }
    return count;
}

Test(group_assign, sticky_is_level_and_moves_no_partition_that_need_not)
{
    random_init(&w->random, 12);
    for (int i = 0; i < 3000; i++) {
        topics_at_random(15);
        members_at_random(100);
        for (uint32_t p = 0; p < w->partition_count; p++) {
            uint32_t before = (uint32_t)random_below(&w->random, w->member_count + 2);
            w->partitions[p].before = before < w->member_count ? before / (1 + i % 4) : ASSIGN_NONE;
        }
        struct assign a = question();
        group_assign_sticky(&a);
        check_owners();
        check_level();
        cr_assert_eq(moves(), moves_needed());
    }
}

Test(group_assign, sticky_moves_nothing_when_nothing_changes)
{
    random_init(&w->random, 13);
    for (int i = 0; i < 2000; i++) {
        topics_at_random(15);
        members_at_random(i % 2 ? 100 : 40);
        struct assign a = question();
        group_assign_sticky(&a);
        keep_targets();
        group_assign_sticky(&a);
        cr_assert_eq(moves(), 0);
    }
}

Test(group_assign, sticky_gives_a_newcomer_its_share_from_those_that_have_most)
{
    random_init(&w->random, 14);
    w->partition_counts[0] = 100;
    lay_out_partitions();
    for (w->member_count = 0; w->member_count < 9; w->member_count++)
        subscribe(w->member_count, 100);
    struct assign a = question();
    group_assign_sticky(&a);
    keep_targets();
    subscribe(w->member_count++, 100);
    a = question();
    group_assign_sticky(&a);
    cr_assert_eq(moves(), 10);
    cr_assert_eq(w->members[9].load, 10);
}

/* ---- sticky, when they don't ---- */

static bool can_reach[MEMBERS][MEMBERS];

/* Could a partition of x go to y, directly or through others? The closure over who holds what who subscribes to. */
static void find_reach(void)
{
    memset(can_reach, 0, sizeof(can_reach));
    for (uint32_t p = 0; p < w->partition_count; p++) {
        for (uint32_t m = 0; m < w->member_count && w->partitions[p].target != ASSIGN_NONE; m++)
            can_reach[w->partitions[p].target][m] |= subscribes(m, w->partitions[p].topic_id);
    }
    for (uint32_t k = 0; k < w->member_count; k++) {
        for (uint32_t x = 0; x < w->member_count; x++) {
            for (uint32_t y = 0; y < w->member_count; y++)
                can_reach[x][y] |= can_reach[x][k] && can_reach[k][y];
        }
    }
}

Test(group_assign, sticky_is_as_level_as_different_subscriptions_allow)
{
    random_init(&w->random, 15);
    for (int i = 0; i < 1500; i++) {
        topics_at_random(12);
        members_at_random(10 + 10 * (uint32_t)(i % 6));
        for (uint32_t p = 0; p < w->partition_count && i % 2; p++)
            w->partitions[p].before = (uint32_t)random_below(&w->random, w->member_count);
        struct assign a = question();
        group_assign_sticky(&a);
        check_owners();
        find_reach();
        for (uint32_t x = 0; x < w->member_count; x++) {
            for (uint32_t y = 0; y < w->member_count; y++)
                cr_assert(!can_reach[x][y] || w->members[x].load <= w->members[y].load + 1);
        }
    }
}

Test(group_assign, a_partition_goes_round_through_a_third_member)
{
    /* A: topic 1, B: 1 and 2, C: 2. A has all of 1, B all of 2; C can only be fed through B. */
    static const uint32_t a_topics[] = {1}, b_topics[] = {1, 2}, c_topics[] = {2};
    w->partition_counts[0] = 4;
    w->partition_counts[1] = 2;
    lay_out_partitions();
    for (uint32_t p = 0; p < 6; p++)
        w->partitions[p].before = p < 4 ? 0 : 1;
    w->members[0] = (struct assign_member){a_topics, 1, 0};
    w->members[1] = (struct assign_member){b_topics, 2, 0};
    w->members[2] = (struct assign_member){c_topics, 1, 0};
    w->member_count = 3;
    struct assign a = question();
    group_assign_sticky(&a);
    for (uint32_t m = 0; m < 3; m++)
        cr_assert_eq(w->members[m].load, 2);
}

/* ---- both ---- */

Test(group_assign, the_same_question_has_the_same_answer)
{
    random_init(&w->random, 16);
    struct assign_partition first[PARTITIONS];
    for (int i = 0; i < 500; i++) {
        topics_at_random(15);
        members_at_random(i % 3 ? 60 : 100);
        void (*const assign[])(struct assign *) = {group_assign_range, group_assign_sticky};
        struct assign a = question();
        assign[i % 2](&a);
        memcpy(first, w->partitions, sizeof(first));
        memset(w->work, 0xa5, sizeof(*w->work)); // nothing is left over in there
        for (uint32_t p = 0; p < w->partition_count; p++)
            w->partitions[p].target = 12345;
        assign[i % 2](&a);
        for (uint32_t p = 0; p < w->partition_count; p++)
            cr_assert_eq(first[p].target, w->partitions[p].target);
    }
}

Test(group_assign, without_members_or_partitions_there_is_nothing_to_give)
{
    random_init(&w->random, 17);
    w->partition_counts[3] = 5;
    lay_out_partitions();
    struct assign a = question();
    group_assign_sticky(&a);
    for (uint32_t p = 0; p < 5; p++)
        cr_assert_eq(w->partitions[p].target, ASSIGN_NONE);
    group_assign_range(&a);
    for (uint32_t p = 0; p < 5; p++)
        cr_assert_eq(w->partitions[p].target, ASSIGN_NONE);
    subscribe(0, 100);
    w->member_count = 1;
    w->partition_count = 0;
    a = question();
    group_assign_sticky(&a);
    group_assign_range(&a);
    cr_assert_eq(w->members[0].load, 0);
}

Test(group_assign, the_largest_group_is_level_too)
{
    struct assign_partition *partitions = calloc(GROUP_ASSIGNMENT_MAX, sizeof(*partitions));
    struct assign_member *members = calloc(ASSIGN_MEMBERS_MAX, sizeof(*members));
    uint32_t(*topics)[100] = calloc(ASSIGN_MEMBERS_MAX, sizeof(*topics));
    random_init(&w->random, 18);
    for (uint32_t p = 0; p < GROUP_ASSIGNMENT_MAX; p++)
        partitions[p] = (struct assign_partition){
            .topic_id = p / 128 + 1, .partition = p % 128, .before = p % 3};
    for (uint32_t m = 0; m < ASSIGN_MEMBERS_MAX; m++) {
        uint32_t count = 0;
        for (uint32_t t = 1; t <= 128 && count < 100; t++) {
            if (random_below(&w->random, 2))
                topics[m][count++] = t;
        }
        members[m] = (struct assign_member){topics[m], count, 0};
    }
    struct assign a = {.partitions = partitions,
                       .partition_count = GROUP_ASSIGNMENT_MAX,
                       .members = members,
                       .member_count = ASSIGN_MEMBERS_MAX,
                       .work = w->work};
    group_assign_sticky(&a);
    uint32_t low = UINT32_MAX, high = 0, given = 0;
    for (uint32_t p = 0; p < GROUP_ASSIGNMENT_MAX; p++)
        given += partitions[p].target != ASSIGN_NONE;
    for (uint32_t m = 0; m < ASSIGN_MEMBERS_MAX; m++) {
        low = members[m].load < low ? members[m].load : low;
        high = members[m].load > high ? members[m].load : high;
    }
    cr_assert_eq(given, GROUP_ASSIGNMENT_MAX);
    cr_assert_leq(high, low + 1);
    free(topics);
    free(members);
    free(partitions);
}
