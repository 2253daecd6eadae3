/* GROUP_JOIN: a new member, one that changes its subscription, or a static one whose place another process takes over.
 *
 * Happy path: arguments are checked; shard 0 is asked about topics that nobody here subscribes to (the request then waits in
 * groups->joins for its answer, nothing else ever parks it); an unknown group is logged; the member is made and the
 * group is due for a balance. The answer comes at once: generation 0 and nothing to read; the member asks by
 * heartbeat for more. A member that takes over a static place is given its partitions in the answer, without a balance.
 *
 * Failure modes: values out of range INVALID_ARGUMENT; UNKNOWN_TOPIC; UNKNOWN_MEMBER and FENCED_MEMBER for an id that is
 * named; LIMIT_REACHED says which; SHUTTING_DOWN while draining. Nothing has changed then. */
#include <stdlib.h>

#include "base/status.h"
#include "broker/groups_private.h"

enum joined { JOINED, JOIN_BLOCKED, JOIN_WAITS };

struct join { // a JOIN being handled
    struct msg_group_join m;
    struct group *group;         // NULL: not made yet
    struct group_member *member; // named by id, or static and known; NULL: a new one
    bool takes_over;
    uint32_t topics[GROUP_TOPICS_MAX]; // rising, without doubles
    uint32_t topic_count;
    uint32_t session_ms, rebalance_ms;
};

static enum joined join(struct shard *shard, struct request *request);
static bool read_join(struct shard *shard, struct request *request, struct join *j);
static bool check_times(struct shard *shard, struct request *request, struct join *j);
static void read_topics(struct join *j);
static bool find_member(struct shard *shard, struct request *request, struct join *j);
static bool check_topics(struct shard *shard, struct request *request, const struct join *j);
static bool check_limits(struct shard *shard, struct request *request, const struct join *j);
static bool change(struct shard *shard, struct join *j);
static void schedule(struct shard *shard, struct group *group);

enum handled handle_group_join(struct shard *shard, struct request *request)
{
    enum joined joined = join(shard, request);
    if (joined == JOIN_WAITS)
        list_push_back(&shard->groups->joins, &request->link);
    return joined == JOIN_BLOCKED ? BLOCKED : HANDLED;
}

int group_joins_turn(struct groups *groups, struct shard *shard)
{
    int work = 0;
    if (!groups->joins_ready)
        return 0;
    LIST_EACH(node, &groups->joins)
    {
        struct request *request = CONTAINER_OF(node, struct request, link);
        list_remove(&request->link);
        enum joined joined = join(shard, request);
        if (joined == JOINED) {
            work++;
            continue;
        }
        list_push_back(node_next, &request->link);
        if (joined == JOIN_BLOCKED)
            return work + group_blocked(groups, shard);
    }
    groups->joins_ready = false;
    if (list_is_empty(&groups->joins))
        group_topics_forget(groups);
    return work;
}

/* ---- one JOIN ---- */

static enum joined join(struct shard *shard, struct request *request)
{
    struct groups *groups = shard->groups;
    struct join j;
    if (shard->state != SHARD_SERVING) {
        shard_reply_error(shard, request, PE_SHUTTING_DOWN, "%s", "");
        return JOINED;
    }
    if (!read_join(shard, request, &j) || !find_member(shard, request, &j))
        return JOINED;
    switch (group_topics_want(groups, j.topics, j.topic_count)) {
    case GROUP_TOPICS_ASKED:
        return JOIN_WAITS;
    case GROUP_TOPICS_FULL:
        shard_reply_error(shard, request, PE_LIMIT_REACHED, "shard %u: at most %u topics",
                          shard->id, GROUP_TOPICS_PER_SHARD);
        return JOINED;
    case GROUP_TOPICS_KNOWN:
        break;
    }
    if (!check_topics(shard, request, &j) || !check_limits(shard, request, &j))
        return JOINED;
    if (!j.group) {
        int status = group_log(shard, j.m.group, GROUP_CHANGE_GENERATION, 0);
        if (status == E_FULL)
            return JOIN_BLOCKED;
        if (status) {
            shard_reply_error(shard, request, proto_error_from_status(status), "%s", "");
            return JOINED;
        }
        j.group = group_find(groups, j.m.group);
        j.group->lsn = store_reserved_lsn(shard->store);
    }
    if (change(shard, &j)) {
        group_member_was_told(groups, shard, j.member);
        group_reply_assignment(shard, request, j.member, false);
    } else
        shard_reply_error(shard, request, PE_OVERLOADED, "no memory for one more member");
    return JOINED;
}

static bool read_join(struct shard *shard, struct request *request, struct join *j)
{
    struct frame frame;
    *j = (struct join){0};
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_group_join(&frame, &j->m);
    if (error) {
        shard_reply_error(shard, request, error,
                          "GROUP_JOIN: 1..%u topics, assignor 0..1, at most %u partitions",
                          GROUP_TOPICS_MAX, GROUP_ASSIGNMENT_MAX);
        return false;
    }
    read_topics(j);
    return check_times(shard, request, j);
}

static bool check_times(struct shard *shard, struct request *request, struct join *j)
{
    j->session_ms =
        j->m.session_timeout_ms ? j->m.session_timeout_ms : shard->group_session_timeout_ms;
    j->rebalance_ms = j->m.rebalance_timeout_ms ? j->m.rebalance_timeout_ms : j->session_ms;
    uint32_t lower = (uint32_t)min_u64(j->session_ms, j->rebalance_ms);
    uint32_t higher = (uint32_t)max_u64(j->session_ms, j->rebalance_ms);
    if (lower >= GROUP_SESSION_MS_MIN && higher <= GROUP_SESSION_MS_MAX)
        return true;
    shard_reply_error(shard, request, PE_INVALID_ARGUMENT, "timeout %u ms, allowed %u..%u",
                      lower < GROUP_SESSION_MS_MIN ? lower : higher, GROUP_SESSION_MS_MIN,
                      GROUP_SESSION_MS_MAX);
    return false;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void read_topics(struct join *j)
{
    for (uint32_t i = 0; i < j->m.topic_count; i++)
        j->topics[i] = le32_get(j->m.topic_ids[i]);
    qsort(j->topics, j->m.topic_count, sizeof(*j->topics), compare_u32);
    for (uint32_t i = 0; i < j->m.topic_count; i++) {
        if (i == 0 || j->topics[i] != j->topics[i - 1])
            j->topics[j->topic_count++] = j->topics[i];
    }
}

static bool find_member(struct shard *shard, struct request *request, struct join *j)
{
    uint16_t error = PE_NONE;
    j->group = group_find(shard->groups, j->m.group);
    if (j->m.member.len > 0)
        error = j->group ? group_member_find(shard->groups, j->group, j->m.member, &j->member)
                         : PE_UNKNOWN_MEMBER;
    else if (j->group)
        j->member = group_member_by_instance(j->group, j->m.instance);
    j->takes_over = j->m.member.len == 0 && j->member;
    if (error) {
        shard_reply_error(shard, request, error, "%s", "");
        return false;
    }
    bool is_alone =
        j->group && (j->group->member_count == 0 || (j->group->member_count == 1 && j->member));
    if (j->group && !is_alone && j->group->assignor != j->m.assignor) {
        shard_reply_error(shard, request, PE_INVALID_ARGUMENT,
                          "assignor %u, the group's members use %u", j->m.assignor,
                          j->group->assignor);
        return false;
    }
    if (j->member && !slice_equals(j->m.instance, (struct slice){j->member->instance,
                                                                 j->member->instance_length})) {
        shard_reply_error(shard, request, PE_INVALID_ARGUMENT,
                          "a member can't change its instance id");
        return false;
    }
    return true;
}

static bool check_topics(struct shard *shard, struct request *request, const struct join *j)
{
    for (uint32_t i = 0; i < j->topic_count; i++) {
        if (group_topic_partitions(shard->groups, j->topics[i]) > 0)
            continue;
        shard_reply_error(shard, request, PE_UNKNOWN_TOPIC, "topic id %u", j->topics[i]);
        return false;
    }
    return true;
}

static bool check_limits(struct shard *shard, struct request *request, const struct join *j)
{
    const struct groups *groups = shard->groups;
    uint32_t own_topics = j->member ? j->member->topic_count : 0;
    uint32_t reserved = j->group ? j->group->reserved : 0;
    uint64_t universe =
        group_universe(shard->groups, j->group, j->member, j->topics, j->topic_count);
    const struct {
        bool is_over;
        uint32_t limit;
        const char *what;
    } limits[] = {
        {!j->group && !group_can_be_made(groups), GROUPS_PER_SHARD, "groups on this shard"},
        {!j->member && j->group && j->group->member_count == GROUP_MEMBERS_MAX, GROUP_MEMBERS_MAX,
         "members of the group"},
        {!j->member && groups->member_count == GROUP_MEMBERS_PER_SHARD, GROUP_MEMBERS_PER_SHARD,
         "members on this shard"},
        {groups->subscription_count - own_topics + j->topic_count > GROUP_SUBSCRIPTIONS_PER_SHARD,
         GROUP_SUBSCRIPTIONS_PER_SHARD, "topics of all members on this shard"},
        {universe > GROUP_ASSIGNMENT_MAX, GROUP_ASSIGNMENT_MAX, "partitions of the group"},
        {groups->slots_reserved - reserved + universe > GROUP_SLOTS_PER_SHARD,
         GROUP_SLOTS_PER_SHARD, "partitions of all groups on this shard"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
        if (!limits[i].is_over)
            continue;
        shard_reply_error(shard, request, PE_LIMIT_REACHED, "at most %u %s", limits[i].limit,
                          limits[i].what);
        return false;
    }
    return true;
}

/* ---- what it changes ---- */

static bool subscribes_alike(const struct join *j)
{
    return j->member->topic_count == j->topic_count &&
           memcmp(j->member->topics, j->topics, j->topic_count * sizeof(*j->topics)) == 0;
}

static bool change(struct shard *shard, struct join *j)
{
    struct groups *groups = shard->groups;
    bool is_new = !j->member;
    if (is_new)
        j->member = group_member_add(groups, shard, j->group, j->m.instance);
    if (!j->member)
        return false;
    bool subscribes_anew = is_new || !subscribes_alike(j) || j->group->assignor != j->m.assignor;
    if (subscribes_anew && !group_member_subscribe(groups, j->member, j->topics, j->topic_count)) {
        j->member->is_leaving = is_new;
        if (is_new)
            group_members_remove_leaving(groups, shard, j->group);
        return false;
    }
    if (is_new)
        group_member_hint(groups, j->member, j->m.items, j->m.item_count);
    if (j->takes_over)
        group_member_take_over(groups, shard, j->member);
    j->group->assignor = j->m.assignor;
    j->member->heard_ns = shard->now_ns;
    j->member->session_ns = j->session_ms * NS_PER_MS;
    j->member->rebalance_ns = j->rebalance_ms * NS_PER_MS;
    groups->sessions_ns = min_u64(groups->sessions_ns, group_member_deadline_ns(j->member));
    if (subscribes_anew)
        schedule(shard, j->group);
    if (is_new || j->takes_over)
        group_log_member(groups, j->member, is_new ? "joined" : "replaced",
                         is_new ? NULL : "a process with its instance id joined");
    return true;
}

/* A group whose partitions nobody has yet waits a moment for more members; one that has owners never. */
static void schedule(struct shard *shard, struct group *group)
{
    struct groups *groups = shard->groups;
    uint64_t universe = group_universe(groups, group, NULL, NULL, 0);
    groups->slots_reserved += (uint32_t)universe - group->reserved;
    group->reserved = (uint32_t)universe;
    group->needs_assignment = true;
    if (group_has_owners(group))
        group_balance_at(groups, group, shard->now_ns);
    else if (!list_is_linked(&group->due_link))
        group_balance_at(groups, group, shard->now_ns + GROUP_INITIAL_DELAY_NS);
}

/* ---- the answer ---- */

void group_reply_assignment(struct shard *shard, struct request *request,
                            const struct group_member *member, bool is_unchanged)
{
    const struct group *group = member->group;
    uint32_t count = member->is_assigned ? group_member_items(member, NULL) : 0;
    struct writer w = shard_reply_writer(request);
    write_group_assignment_begin(
        &w, &(struct msg_group_assignment){
                .member = {member->id, GROUP_MEMBER_ID_BYTES},
                .generation =
                    member->is_assigned ? le32_get(group_row(shard->groups, group)->generation) : 0,
                .session_timeout_ms = (uint32_t)(member->session_ns / NS_PER_MS),
                .item_count = is_unchanged ? GROUP_UNCHANGED : count});
    if (!is_unchanged && count > 0 && (size_t)(w.end - w.at) >= count * sizeof(struct group_item)) {
        group_member_items(member, (struct group_item *)w.at);
        w.at += count * sizeof(struct group_item);
    } else if (!is_unchanged && count > 0) {
        shard_reply_error(shard, request, PE_LIMIT_REACHED,
                          "%u partitions do not fit into an answer", count);
        return;
    }
    shard_reply_seal(request, &w);
    shard_reply_when_durable(shard, request, group->lsn);
}
