/* The cooperative-sticky assignor: keep, fill, level.
 *
 *   keep    everybody keeps what he had and still subscribes to
 *   fill    what is free goes to the subscriber with the fewest, topics with few subscribers first
 *   level   from who has most to who has fewest, until loads differ by at most one
 *
 * When all subscribe to the same topics, levelling is arithmetic: the members with most keep one more, the others give up
 * what is above; each partition that moves has to. Otherwise each topic is levelled among its subscribers, and then a
 * partition may have to go round: A can give none to C, but to B, which then gives one of another topic to C. Such a way is found by a breadth-first search over members and the topics they
 * hold; each one found brings loads closer, so it ends; a budget of steps bounds what a hostile subscription can cost. */
#include <stdlib.h>

#include "base/check.h"
#include "broker/group_assign.h"

#define SEARCH_STEPS_MAX ((uint64_t)4000000) // some 10 ms
#define ROUNDS_MAX 16                        // over all topics: mostly two are enough

static void keep(struct assign *a);
static void fill(struct assign *a);
static void fill_topic(struct assign *a, const struct assign_topic *topic);
static bool all_subscribe_alike(const struct assign *a);
static void level(struct assign *a);
static void level_by_topic(struct assign *a);
static bool level_topic(struct assign *a, uint32_t number);
static void level_by_ways(struct assign *a);
static bool improve(struct assign *a, uint32_t from);
static uint32_t search(struct assign *a, uint32_t from);
static void walk_back(struct assign *a, uint32_t from, uint32_t to);

void group_assign_sticky(struct assign *a)
{
    group_assign_prepare(a);
    keep(a);
    fill(a);
    if (all_subscribe_alike(a))
        level(a);
    else {
        level_by_topic(a);
        level_by_ways(a);
    }
}

static struct assign_edge *edge_of(struct assign_work *work, uint32_t member, uint32_t topic)
{
    uint32_t low = work->member_edge[member], high = work->member_edge[member + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (work->edges[middle].topic == topic)
            return &work->edges[middle];
        if (work->edges[middle].topic < topic)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void give(struct assign *a, uint32_t partition, uint32_t topic, uint32_t member)
{
    uint32_t old = a->partitions[partition].target;
    if (old != ASSIGN_NONE) {
        a->members[old].load--;
        edge_of(a->work, old, topic)->owned--;
    }
    a->partitions[partition].target = member;
    a->members[member].load++;
    edge_of(a->work, member, topic)->owned++;
}

static void keep(struct assign *a)
{
    for (uint32_t t = 0; t < a->work->topic_count; t++) {
        for (uint32_t p = a->work->topics[t].first; p < a->work->topics[t].end; p++) {
            uint32_t before = a->partitions[p].before;
            if (before != ASSIGN_NONE && edge_of(a->work, before, t))
                give(a, p, t, before);
        }
    }
}

/* ---- fill ---- */

static uint32_t subscribers_of(const struct assign_work *work, uint32_t topic)
{
    return work->topics[topic].edge_end - work->topics[topic].edge_first;
}

/* By number of subscribers: a heap sort in place, which needs no memory and no comparison function with a context. */
static bool topic_is_later(const struct assign_work *work, uint32_t x, uint32_t y)
{
    uint32_t a = subscribers_of(work, x), b = subscribers_of(work, y);
    return a != b ? a > b : x > y;
}

static void topic_sift(struct assign_work *work, uint32_t at, uint32_t count)
{
    uint32_t *order = work->order;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && topic_is_later(work, order[child + 1], order[child]))
            child++;
        if (!topic_is_later(work, order[child], order[at]))
            return;
        uint32_t swap = order[at];
        order[at] = order[child];
        order[child] = swap;
        at = child;
    }
}

static void sort_topics(struct assign_work *work)
{
    uint32_t count = work->topic_count;
    for (uint32_t i = 0; i < count; i++)
        work->order[i] = i;
    for (uint32_t i = count / 2; i-- > 0;)
        topic_sift(work, i, count);
    for (uint32_t end = count; end > 1; end--) {
        uint32_t swap = work->order[0];
        work->order[0] = work->order[end - 1];
        work->order[end - 1] = swap;
        topic_sift(work, 0, end - 1);
    }
}

static void fill(struct assign *a)
{
    sort_topics(a->work);
    for (uint32_t i = 0; i < a->work->topic_count; i++)
        fill_topic(a, &a->work->topics[a->work->order[i]]);
}

static bool has_less(const struct assign *a, uint32_t x, uint32_t y)
{
    uint32_t load_x = a->members[x].load, load_y = a->members[y].load;
    return load_x != load_y ? load_x < load_y : x < y;
}

static bool has_more(const struct assign *a, uint32_t x, uint32_t y)
{
    uint32_t load_x = a->members[x].load, load_y = a->members[y].load;
    return load_x != load_y ? load_x > load_y : x < y;
}

typedef bool (*before_fn)(const struct assign *a, uint32_t x, uint32_t y);

static void member_sift(const struct assign *a, uint32_t *heap, uint32_t count, uint32_t at,
                        before_fn is_before)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && is_before(a, heap[child + 1], heap[child]))
            child++;
        if (!is_before(a, heap[child], heap[at]))
            return;
        uint32_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static void member_heapify(const struct assign *a, uint32_t *heap, uint32_t count,
                           before_fn is_before)
{
    for (uint32_t i = count / 2; i-- > 0;)
        member_sift(a, heap, count, i, is_before);
}

/* The topic's subscribers, who has least on top. */
static uint32_t heap_of_subscribers(struct assign *a, const struct assign_topic *topic)
{
    struct assign_work *work = a->work;
    uint32_t count = 0;
    for (uint32_t e = topic->edge_first; e < topic->edge_end; e++)
        work->heap[count++] = work->edges[work->by_topic[e]].member;
    member_heapify(a, work->heap, count, has_less);
    return count;
}

/* While a topic is filled nobody else's load changes. */
static void fill_topic(struct assign *a, const struct assign_topic *topic)
{
    struct assign_work *work = a->work;
    uint32_t number = (uint32_t)(topic - work->topics);
    uint32_t count = heap_of_subscribers(a, topic);
    for (uint32_t p = topic->first; p < topic->end && count > 0; p++) {
        if (a->partitions[p].target != ASSIGN_NONE)
            continue;
        give(a, p, number, work->heap[0]);
        member_sift(a, work->heap, count, 0, has_less);
    }
}

/* ---- level, when all subscribe to all ---- */

static bool all_subscribe_alike(const struct assign *a)
{
    const struct assign_work *work = a->work;
    return work->edge_count == (uint64_t)a->member_count * work->topic_count;
}

/* The `extra` members that have most may have one more than the others. */
static void set_quotas(struct assign *a)
{
    struct assign_work *work = a->work;
    uint32_t share = a->partition_count / a->member_count;
    uint32_t extra = a->partition_count % a->member_count;
    for (uint32_t m = 0; m < a->member_count; m++) {
        uint32_t place = m;
        for (; place > 0 && has_more(a, m, work->order[place - 1]); place--)
            work->order[place] = work->order[place - 1];
        work->order[place] = m;
    }
    for (uint32_t i = 0; i < a->member_count; i++)
        work->quota[work->order[i]] = share + (i < extra);
}

static void level(struct assign *a)
{
    struct assign_work *work = a->work;
    uint32_t taker = 0;
    if (a->member_count == 0)
        return;
    set_quotas(a);
    for (uint32_t t = work->topic_count; t-- > 0;) {
        for (uint32_t p = work->topics[t].end; p-- > work->topics[t].first;) {
            uint32_t giver = a->partitions[p].target;
            if (a->members[giver].load <= work->quota[giver])
                continue;
            while (a->members[taker].load >= work->quota[taker])
                taker++;
            give(a, p, t, taker);
        }
    }
}

/* ---- level, when they don't ---- */

static void level_by_topic(struct assign *a)
{
    bool improved = true;
    for (uint32_t round = 0; improved && round < ROUNDS_MAX; round++) {
        improved = false;
        for (uint32_t t = 0; t < a->work->topic_count; t++)
            improved |= level_topic(a, t);
    }
}

/* Chains the topic's partitions by owner (heads in quota, links in order); owners with most on top. */
static uint32_t heap_of_owners(struct assign *a, const struct assign_topic *topic)
{
    struct assign_work *work = a->work;
    uint32_t count = 0;
    for (uint32_t e = topic->edge_first; e < topic->edge_end; e++)
        work->quota[work->edges[work->by_topic[e]].member] = ASSIGN_NONE;
    for (uint32_t p = topic->first; p < topic->end; p++) {
        uint32_t owner = a->partitions[p].target;
        if (work->quota[owner] == ASSIGN_NONE)
            work->queue[count++] = owner;
        work->order[p] = work->quota[owner];
        work->quota[owner] = p;
    }
    member_heapify(a, work->queue, count, has_more);
    return count;
}

static bool level_topic(struct assign *a, uint32_t number)
{
    struct assign_work *work = a->work;
    const struct assign_topic *topic = &work->topics[number];
    uint32_t takers = heap_of_subscribers(a, topic);
    uint32_t givers = takers > 1 ? heap_of_owners(a, topic) : 0;
    bool improved = false;
    while (givers > 0 && a->members[work->queue[0]].load >= a->members[work->heap[0]].load + 2) {
        uint32_t giver = work->queue[0], partition = work->quota[giver];
        improved = true;
        give(a, partition, number, work->heap[0]);
        member_sift(a, work->heap, takers, 0, has_less);
        work->quota[giver] = work->order[partition];
        if (work->quota[giver] == ASSIGN_NONE)
            work->queue[0] = work->queue[--givers];
        member_sift(a, work->queue, givers, 0, has_more);
    }
    return improved;
}

static void level_by_ways(struct assign *a)
{
    bool improved = true;
    a->work->budget = SEARCH_STEPS_MAX;
    while (improved && a->work->budget > 0) {
        improved = false;
        for (uint32_t m = 0; m < a->member_count && a->work->budget > 0; m++) {
            while (a->work->budget > 0 && improve(a, m))
                improved = true;
        }
    }
}

static bool improve(struct assign *a, uint32_t from)
{
    if (a->members[from].load < 2)
        return false;
    uint32_t to = search(a, from);
    if (to == ASSIGN_NONE)
        return false;
    walk_back(a, from, to);
    return true;
}

static void spend(struct assign_work *work, uint64_t steps)
{
    work->budget -= min_u64(work->budget, steps);
}

/* The nearest member with at least two fewer. */
static uint32_t search(struct assign *a, uint32_t from)
{
    struct assign_work *work = a->work;
    for (uint32_t m = 0; m < a->member_count; m++)
        work->member_via[m] = ASSIGN_NONE;
    for (uint32_t t = 0; t < work->topic_count; t++)
        work->topic_via[t] = ASSIGN_NONE;
    spend(work, a->member_count + work->topic_count);
    uint32_t head = 0, tail = 0;
    work->queue[tail++] = from;
    for (; head < tail && work->budget > 0; head++) {
        uint32_t member = work->queue[head];
        for (uint32_t e = work->member_edge[member]; e < work->member_edge[member + 1]; e++) {
            uint32_t topic = work->edges[e].topic;
            if (work->edges[e].owned == 0 || work->topic_via[topic] != ASSIGN_NONE)
                continue;
            work->topic_via[topic] = member;
            spend(work, subscribers_of(work, topic));
            for (uint32_t i = work->topics[topic].edge_first; i < work->topics[topic].edge_end;
                 i++) {
                uint32_t other = work->edges[work->by_topic[i]].member;
                if (other == from || work->member_via[other] != ASSIGN_NONE)
                    continue;
                work->member_via[other] = topic;
                if (a->members[other].load + 2 <= a->members[from].load)
                    return other;
                work->queue[tail++] = other;
            }
        }
    }
    return ASSIGN_NONE;
}

/* One that it did not have before is moved for nothing; the last of the others else. */
static uint32_t pick(const struct assign *a, uint32_t topic, uint32_t owner)
{
    const struct assign_topic *run = &a->work->topics[topic];
    uint32_t found = ASSIGN_NONE;
    for (uint32_t p = run->first; p < run->end; p++) {
        if (a->partitions[p].target != owner)
            continue;
        if (a->partitions[p].before != owner)
            return p;
        found = p;
    }
    return found;
}

static void walk_back(struct assign *a, uint32_t from, uint32_t to)
{
    struct assign_work *work = a->work;
    while (to != from) {
        uint32_t topic = work->member_via[to], owner = work->topic_via[topic];
        uint32_t partition = pick(a, topic, owner);
        ASSERT(partition != ASSIGN_NONE);
        spend(work, work->topics[topic].end - work->topics[topic].first);
        give(a, partition, topic, to);
        to = owner;
    }
}
