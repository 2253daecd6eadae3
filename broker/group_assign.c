/* What both assignors share, and the simpler one.
 *
 * group_assign_prepare() makes a graph of the two arrays: topics (runs of the partitions), and edges between members
 * and topics, in both orders. Topics that nobody has partitions of are no topics here. */
#include "broker/group_assign.h"

#include "base/check.h"

static void find_topics(struct assign *a);
static void find_edges(struct assign *a);
static uint32_t topic_of(const struct assign_work *work, const struct assign *a, uint32_t topic_id);
static void order_by_topic(struct assign_work *work);

void group_assign_prepare(struct assign *a)
{
    ASSERT(a->partition_count <= GROUP_ASSIGNMENT_MAX && a->member_count <= ASSIGN_MEMBERS_MAX);
    find_topics(a);
    find_edges(a);
    order_by_topic(a->work);
    for (uint32_t m = 0; m < a->member_count; m++)
        a->members[m].load = 0;
    for (uint32_t p = 0; p < a->partition_count; p++)
        a->partitions[p].target = ASSIGN_NONE;
}

void group_assign_range(struct assign *a)
{
    group_assign_prepare(a);
    for (uint32_t t = 0; t < a->work->topic_count; t++) {
        const struct assign_topic *topic = &a->work->topics[t];
        uint32_t members = topic->edge_end - topic->edge_first;
        if (members == 0)
            continue;
        uint32_t partitions = topic->end - topic->first, p = topic->first;
        for (uint32_t i = 0; i < members; i++) {
            uint32_t member = a->work->edges[a->work->by_topic[topic->edge_first + i]].member;
            uint32_t share = partitions / members + (i < partitions % members);
            a->members[member].load += share;
            while (share-- > 0)
                a->partitions[p++].target = member;
        }
    }
}

static void find_topics(struct assign *a)
{
    struct assign_work *work = a->work;
    work->topic_count = 0;
    for (uint32_t p = 0; p < a->partition_count; p++) {
        bool is_first = p == 0 || a->partitions[p].topic_id != a->partitions[p - 1].topic_id;
        if (is_first)
            work->topics[work->topic_count++] = (struct assign_topic){.first = p};
        work->topics[work->topic_count - 1].end = p + 1;
    }
}

static void find_edges(struct assign *a)
{
    struct assign_work *work = a->work;
    work->edge_count = 0;
    for (uint32_t m = 0; m < a->member_count; m++) {
        const struct assign_member *member = &a->members[m];
        work->member_edge[m] = work->edge_count;
        for (uint32_t i = 0; i < member->topic_count; i++) {
            uint32_t topic = topic_of(work, a, member->topic_ids[i]);
            if (topic == ASSIGN_NONE)
                continue;
            ASSERT(work->edge_count < ASSIGN_EDGES_MAX);
            work->edges[work->edge_count++] =
                (struct assign_edge){.member = (uint16_t)m, .topic = (uint16_t)topic};
        }
    }
    work->member_edge[a->member_count] = work->edge_count;
}

static uint32_t topic_of(const struct assign_work *work, const struct assign *a, uint32_t topic_id)
{
    uint32_t low = 0, high = work->topic_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t id = a->partitions[work->topics[middle].first].topic_id;
        if (id == topic_id)
            return middle;
        if (id < topic_id)
            low = middle + 1;
        else
            high = middle;
    }
    return ASSIGN_NONE;
}

/* Counting sort; edges come in order of members, so each topic's are too. */
static void order_by_topic(struct assign_work *work)
{
    for (uint32_t e = 0; e < work->edge_count; e++)
        work->topics[work->edges[e].topic].edge_end++;
    uint32_t next = 0;
    for (uint32_t t = 0; t < work->topic_count; t++) {
        struct assign_topic *topic = &work->topics[t];
        uint32_t count = topic->edge_end;
        topic->edge_first = topic->edge_end = next;
        next += count;
    }
    for (uint32_t e = 0; e < work->edge_count; e++)
        work->by_topic[work->topics[work->edges[e].topic].edge_end++] = e;
}
