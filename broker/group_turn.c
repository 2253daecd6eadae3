/* What time brings to groups, once per turn of the shard: sessions that have timed out, balances that are due, partition
 * counts that are old, groups that expire.
 *
 * Sessions: the earliest deadline of all members is kept; only when it has passed are they looked at, one by one. A heartbeat
 * moves its own deadline only, so a look finds most of them moved on, and comes once or twice in a session's time.
 *
 * Expiry is decided here, by the clock, once, and logged; while a group has members its row is touched four times in
 * a retention's time, so that after a restart it is as old as its last sign of life. For an hour after a start (or a
 * retention's time, if that is less) nothing expires: members that were there may come back first. */
#include "base/log.h"
#include "base/plant.h"
#include "base/status.h"
#include "broker/groups_private.h"

static int sessions_turn(struct groups *groups, struct shard *shard);
static void member_expires(struct groups *groups, struct shard *shard, struct group_member *member);
static int expiry_turn(struct groups *groups, struct shard *shard);
static int expire_or_touch(struct groups *groups, struct shard *shard, struct group *group);

int groups_turn(struct groups *groups, struct shard *shard)
{
    if (groups->opened_ns == 0) {
        groups->opened_ns = shard->now_ns;
        groups->expiry_ns = shard->now_ns;
        groups->sweep_ns = shard->now_ns + GROUP_SWEEP_PERIOD_NS;
    }
    if (shard->state != SHARD_SERVING && !groups->is_draining)
        groups->is_draining = groups->joins_ready = true;
    if (shard->now_ns < groups->blocked_ns)
        return 0;
    int work = group_joins_turn(groups, shard);
    work += sessions_turn(groups, shard);
    work += group_balances_turn(groups, shard);
    if (groups->is_draining)
        return work;
    work += group_topics_turn(groups, shard);
    return work + expiry_turn(groups, shard);
}

uint64_t groups_deadline_ns(const struct groups *groups)
{
    uint64_t due_ns = UINT64_MAX;
    LIST_EACH(node, &groups->due)
    due_ns = min_u64(due_ns, CONTAINER_OF(node, struct group, due_link)->due_ns);
    if (groups->member_count > 0)
        due_ns = min_u64(due_ns, groups->sessions_ns);
    if (groups->is_draining)
        return max_u64(due_ns, groups->blocked_ns);
    if (groups->member_count > 0)
        due_ns = min_u64(due_ns, groups->topics_ns);
    if (!groups->ask.is_out && (groups->topic_stale_count > 0 || groups->gone_count > 0))
        due_ns = 0;
    if (table_used_count(groups->offsets) > 0 && !groups->ask.is_out)
        due_ns = min_u64(due_ns, groups->sweep_row == TABLE_ROW_NONE ? groups->sweep_ns : 0);
    if (table_used_count(groups->table) > 0)
        due_ns = min_u64(due_ns, groups->expiry_ns);
    return max_u64(due_ns, groups->blocked_ns);
}

bool groups_are_idle(const struct groups *groups)
{
    return list_is_empty(&groups->joins) && !groups->ask.is_out;
}

int group_blocked(struct groups *groups, const struct shard *shard)
{
    groups->blocked_ns = shard->now_ns + GROUP_RETRY_NS;
    return 0;
}

const char *group_name_text(const struct groups *groups, const struct group *group,
                            char text[GROUP_NAME_BYTES_MAX + 1])
{
    struct slice name = group_name(groups, group);
    memcpy(text, name.bytes, name.len);
    text[name.len] = '\0';
    return text;
}

/* ---- sessions ---- */

static int sessions_turn(struct groups *groups, struct shard *shard)
{
    struct list leaving;
    uint64_t next_ns = UINT64_MAX;
    int work = 0;
    if (groups->member_count == 0 || shard->now_ns < groups->sessions_ns)
        return 0;
    list_init(&leaving);
    LIST_EACH(node, &groups->members)
    {
        struct group_member *member = CONTAINER_OF(node, struct group_member, shard_link);
        uint64_t deadline_ns = group_member_deadline_ns(member);
        if (PLANTED(SESSION_FOREVER))
            deadline_ns = UINT64_MAX;
        if (deadline_ns > shard->now_ns) {
            next_ns = min_u64(next_ns, deadline_ns);
            continue;
        }
        member_expires(groups, shard, member);
        if (!list_is_linked(&member->group->leaving_link))
            list_push_back(&leaving, &member->group->leaving_link);
        work++;
    }
    groups->sessions_ns = next_ns;
    struct list *link;
    while ((link = list_pop_front(&leaving)))
        group_members_remove_leaving(groups, shard, CONTAINER_OF(link, struct group, leaving_link));
    return work;
}

static void member_expires(struct groups *groups, struct shard *shard, struct group_member *member)
{
    bool is_silent = member->heard_ns + member->session_ns <= shard->now_ns;
    member->is_leaving = true;
    counter_add(&shard->counters.group_members_expired_total, 1);
    group_log_member(groups, member, "expired",
                     is_silent ? "its session timed out"
                               : "it did not give up its partitions in time");
}

void group_log_member(const struct groups *groups, const struct group_member *member,
                      const char *what, const char *why)
{
    char name[GROUP_NAME_BYTES_MAX + 1], id[GROUP_MEMBER_ID_BYTES + 1] = {0};
    char instance[GROUP_INSTANCE_BYTES_MAX + 1] = {0};
    memcpy(id, member->id, GROUP_MEMBER_ID_BYTES);
    memcpy(instance, member->instance, member->instance_length);
    LOG_INFO("group.member", LOG_STR("what", what),
             LOG_STR("group", group_name_text(groups, member->group, name)), LOG_STR("member", id),
             LOG_STR("instance", instance), LOG_STR("why", why),
             LOG_U64("members", member->group->member_count));
}

uint32_t groups_count(const struct groups *groups)
{
    return table_used_count(groups->table);
}

uint32_t groups_member_count(const struct groups *groups)
{
    return groups->member_count;
}

/* ---- expiry ---- */

static int expiry_turn(struct groups *groups, struct shard *shard)
{
    uint64_t retention_ms = shard->group_offsets_retention_ms;
    if (retention_ms == UINT64_MAX)
        groups->expiry_ns = UINT64_MAX;
    if (shard->now_ns < groups->expiry_ns)
        return 0;
    for (uint32_t row = 0; row < table_row_count(groups->table); row++) {
        if (!table_row_is_used(groups->table, row))
            continue;
        if (expire_or_touch(groups, shard, &groups->groups[row]))
            return group_blocked(groups, shard);
    }
    uint64_t period_ns = min_u64(retention_ms, UINT64_MAX / NS_PER_MS) * NS_PER_MS / 8;
    groups->expiry_ns = shard->now_ns + min_u64(period_ns, GROUP_EXPIRY_PERIOD_NS);
    return 0;
}

static int expire_or_touch(struct groups *groups, struct shard *shard, struct group *group)
{
    uint64_t retention_ms = shard->group_offsets_retention_ms;
    uint64_t grace_ms = min_u64(retention_ms, GROUP_GRACE_MS);
    const struct disk_group_row *row = group_row(groups, group);
    uint64_t active_ms = le64_get(row->active_ms);
    uint64_t age_ms = shard->now_wall_ms > active_ms ? shard->now_wall_ms - active_ms : 0;
    if (!group_is_empty(group))
        return age_ms < retention_ms / 4
                   ? 0
                   : group_log(shard, group_name(groups, group), GROUP_CHANGE_GENERATION,
                               le32_get(row->generation));
    if (age_ms < retention_ms || group->staged_count > 0 ||
        shard->now_ns - groups->opened_ns < grace_ms * NS_PER_MS)
        return 0;
    char name[GROUP_NAME_BYTES_MAX + 1];
    group_name_text(groups, group, name);
    int status = group_log(shard, group_name(groups, group), GROUP_CHANGE_DROP, 0);
    if (status == 0)
        LOG_INFO("group.expired", LOG_STR("group", name), LOG_U64("idle_ms", age_ms));
    return status;
}
