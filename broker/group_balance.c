/* A change of a group's assignment: decided, logged, and shown as one.
 *
 * Happy path: members or topics have changed, so the group is due; group_balances_turn() logs ENTRY_GROUP with the next
 * generation, makes the slots anew from the topics' partitions, lets the assignor set each slot's target, gives
 * what is free to its target, and marks who shall give something up. Members hear of it by their heartbeats, whose
 * answers wait until the entry is durable. When owners have let go, the group is due again: free slots go to their targets, under
 * one more generation, and so on until everything is settled.
 *
 * Only an empty group's first assignment waits (GROUP_INITIAL_DELAY_NS), so that many that start at once are one
 * change. Failure modes: FULL: logged in a later turn, nothing has changed until then. No memory for slots: as before,
 * tried again with the next change, and said. */
#include <stdlib.h>

#include "base/log.h"
#include "base/status.h"
#include "broker/groups_private.h"

static int balance(struct groups *groups, struct shard *shard, struct group *group);
static void assign(struct groups *groups, struct shard *shard, struct group *group,
                   uint32_t generation);
static bool make_slots(struct groups *groups, struct group *group);
static uint32_t topics_of_members(struct groups *groups, const struct group *group);
static uint32_t order_members(struct groups *groups, struct group *group);
static void welcome_members(struct groups *groups, const struct group *group);
static uint32_t set_targets(struct groups *groups, struct group *group, uint32_t generation);
static void grant(struct group *group, uint32_t generation);
static void mark_givers(struct group *group);

/* ---- when ---- */

void group_balance_at(struct groups *groups, struct group *group, uint64_t when_ns)
{
    if (!list_is_linked(&group->due_link)) {
        list_push_back(&groups->due, &group->due_link);
        group->due_ns = when_ns;
    }
    group->due_ns = min_u64(group->due_ns, when_ns);
}

int group_balances_turn(struct groups *groups, struct shard *shard)
{
    int work = 0;
    LIST_EACH(node, &groups->due)
    {
        struct group *group = CONTAINER_OF(node, struct group, due_link);
        if (group->due_ns > shard->now_ns)
            continue;
        int status = balance(groups, shard, group);
        if (status == E_FULL)
            return work + group_blocked(groups, shard);
        work++;
        list_remove(&group->due_link);
    }
    return work;
}

/* ---- one change ---- */

static int balance(struct groups *groups, struct shard *shard, struct group *group)
{
    if (!group->needs_assignment && !group_has_grants(group))
        return 0;
    uint32_t generation = le32_get(group_row(groups, group)->generation) + 1;
    int status = group_log(shard, group_name(groups, group), GROUP_CHANGE_GENERATION, generation);
    if (status)
        return status;
    group->lsn = store_reserved_lsn(shard->store);
    if (group->needs_assignment)
        assign(groups, shard, group, generation);
    group->needs_assignment = false;
    group_slots_release(group);
    grant(group, generation);
    mark_givers(group);
    return 0;
}

static void assign(struct groups *groups, struct shard *shard, struct group *group,
                   uint32_t generation)
{
    char name[GROUP_NAME_BYTES_MAX + 1];
    group_name_text(groups, group, name);
    if (!make_slots(groups, group)) {
        LOG_ERROR("group.not_balanced", LOG_STR("group", name),
                  LOG_STR("why", "no memory for its partitions"));
        return;
    }
    struct assign a = {.partitions = groups->work_partitions,
                       .partition_count = group->slot_count,
                       .members = groups->work_members,
                       .member_count = order_members(groups, group),
                       .work = groups->work};
    for (uint32_t i = 0; i < group->slot_count; i++) {
        const struct group_slot *slot = &group->slots[i];
        const struct group_member *before = slot->target ? slot->target : slot->owner;
        groups->work_partitions[i] =
            (struct assign_partition){.topic_id = slot->topic_id,
                                      .partition = slot->partition,
                                      .before = before ? before->order : ASSIGN_NONE};
    }
    welcome_members(groups, group);
    if (group->assignor == GROUP_STICKY)
        group_assign_sticky(&a);
    else
        group_assign_range(&a);
    uint32_t moved = set_targets(groups, group, generation);
    counter_add(&shard->counters.group_rebalances_total, 1);
    LOG_INFO("group.rebalanced", LOG_STR("group", name), LOG_U64("generation", generation),
             LOG_U64("members", group->member_count), LOG_U64("partitions", group->slot_count),
             LOG_U64("moved", moved));
}

/* ---- slots anew ---- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Into groups->topic_ids, rising; returns how many. */
static uint32_t topics_of_members(struct groups *groups, const struct group *group)
{
    uint32_t count = 0, stamp = ++groups->topic_stamp;
    LIST_EACH(node, &group->members)
    {
        const struct group_member *member = CONTAINER_OF(node, struct group_member, link);
        for (uint32_t i = 0; i < member->topic_count; i++) {
            struct group_topic *topic = group_topic_find(groups, member->topics[i]);
            if (!topic || topic->stamp == stamp)
                continue;
            topic->stamp = stamp;
            groups->topic_ids[count++] = topic->topic_id;
        }
    }
    qsort(groups->topic_ids, count, sizeof(*groups->topic_ids), compare_u32);
    return count;
}

uint64_t group_universe(struct groups *groups, const struct group *group,
                        const struct group_member *except, const uint32_t *topics, uint32_t count)
{
    uint32_t stamp = ++groups->topic_stamp;
    uint64_t partitions = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct group_topic *topic = group_topic_find(groups, topics[i]);
        if (!topic)
            continue;
        topic->stamp = stamp;
        partitions += topic->partition_count;
    }
    if (!group)
        return partitions;
    LIST_EACH(node, &group->members)
    {
        const struct group_member *member = CONTAINER_OF(node, struct group_member, link);
        for (uint32_t i = 0; member != except && i < member->topic_count; i++) {
            struct group_topic *topic = group_topic_find(groups, member->topics[i]);
            if (!topic || topic->stamp == stamp)
                continue;
            topic->stamp = stamp;
            partitions += topic->partition_count;
        }
    }
    return partitions;
}

/* How many of the partitions may have slots: a topic that grew may have brought the group over a limit. */
static uint32_t slots_allowed(struct groups *groups, struct group *group, uint64_t wanted,
                              uint32_t kept)
{
    groups->slots_reserved -= group->reserved;
    uint64_t left = GROUP_SLOTS_PER_SHARD - groups->slots_reserved;
    uint32_t allowed = (uint32_t)min_u64(wanted, min_u64(left, GROUP_ASSIGNMENT_MAX - kept));
    groups->slots_reserved += allowed;
    group->reserved = allowed;
    if (allowed < wanted) {
        char name[GROUP_NAME_BYTES_MAX + 1];
        LOG_ERROR("group.too_large", LOG_STR("group", group_name_text(groups, group, name)),
                  LOG_U64("partitions", wanted), LOG_U64("assigned", allowed),
                  LOG_STR("meaning", "the others are read by nobody: use more groups"));
    }
    return allowed;
}

static bool has_topic(const struct groups *groups, uint32_t count, uint32_t topic_id)
{
    return bsearch(&topic_id, groups->topic_ids, count, sizeof(topic_id), compare_u32);
}

/* Nobody subscribes to its topic any more, but its owner has not let go: or the next one who subscribes would get it, too. */
static bool is_kept(const struct groups *groups, uint32_t topic_count,
                    const struct group_slot *slot)
{
    return slot->owner && !has_topic(groups, topic_count, slot->topic_id);
}

static uint32_t add_kept(const struct groups *groups, const struct group *group,
                         uint32_t topic_count, struct group_slot *slots)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        if (!is_kept(groups, topic_count, &group->slots[i]))
            continue;
        if (slots)
            slots[n] = group->slots[i];
        n++;
    }
    return n;
}

static int compare_slots(const void *a, const void *b)
{
    const struct group_slot *x = a, *y = b;
    uint64_t left = (uint64_t)x->topic_id << 32 | x->partition;
    uint64_t right = (uint64_t)y->topic_id << 32 | y->partition;
    return (left > right) - (left < right);
}

/* Every partition of every topic that a member subscribes to; those that were there keep owner and target. */
static bool make_slots(struct groups *groups, struct group *group)
{
    uint32_t topic_count = topics_of_members(groups, group), n = 0;
    uint64_t wanted = 0;
    for (uint32_t t = 0; t < topic_count; t++)
        wanted += group_topic_partitions(groups, groups->topic_ids[t]);
    uint32_t kept = add_kept(groups, group, topic_count, NULL);
    uint32_t allowed = slots_allowed(groups, group, wanted, kept);
    struct group_slot *slots = calloc(allowed + kept + 1, sizeof(*slots));
    if (!slots)
        return false;
    for (uint32_t t = 0; t < topic_count; t++) {
        uint32_t topic_id = groups->topic_ids[t];
        uint32_t partitions = group_topic_partitions(groups, topic_id);
        for (uint32_t p = 0; p < partitions && n < allowed; p++, n++) {
            const struct group_slot *old = group_slot_find(group, topic_id, p);
            slots[n] = old ? *old : (struct group_slot){.topic_id = topic_id, .partition = p};
        }
    }
    n += add_kept(groups, group, topic_count, slots + n);
    if (kept > 0)
        qsort(slots, n, sizeof(*slots), compare_slots);
    free(group->slots);
    group->slots = slots;
    group->slot_count = n;
    return true;
}

/* ---- members in order ---- */

static int compare_members(const void *a, const void *b)
{
    const struct group_member *x = *(struct group_member *const *)a;
    const struct group_member *y = *(struct group_member *const *)b;
    return slice_compare(group_member_key(x), group_member_key(y));
}

static uint32_t order_members(struct groups *groups, struct group *group)
{
    uint32_t count = 0;
    LIST_EACH(node, &group->members)
    groups->work_order[count++] = CONTAINER_OF(node, struct group_member, link);
    qsort(groups->work_order, count, sizeof(struct group_member *), compare_members);
    for (uint32_t i = 0; i < count; i++) {
        struct group_member *member = groups->work_order[i];
        member->order = i;
        groups->work_members[i] =
            (struct assign_member){.topic_ids = member->topics, .topic_count = member->topic_count};
    }
    return count;
}

/* What members say they held counts where nobody is known to: after a restart of the broker. Then it is used up. */
static void welcome_members(struct groups *groups, const struct group *group)
{
    for (uint32_t m = 0; m < group->member_count; m++) {
        struct group_member *member = groups->work_order[m];
        member->is_assigned = true;
        for (uint32_t i = 0; i < member->hint_count; i++) {
            const struct group_slot *slot = group_slot_find(
                group, le32_get(member->hints[i].topic_id), le32_get(member->hints[i].partition));
            struct assign_partition *partition =
                slot ? &groups->work_partitions[slot - group->slots] : NULL;
            if (partition && partition->before == ASSIGN_NONE)
                partition->before = m;
        }
        group_member_unhint(groups, member);
    }
}

/* ---- what follows from the targets ---- */

/* Returns how many partitions go from one member to another. */
static uint32_t set_targets(struct groups *groups, struct group *group, uint32_t generation)
{
    uint32_t moved = 0;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        struct group_slot *slot = &group->slots[i];
        uint32_t target = groups->work_partitions[i].target;
        struct group_member *old = slot->target;
        slot->target = target == ASSIGN_NONE ? NULL : groups->work_order[target];
        moved += old && old != slot->target;
        if (slot->owner && slot->owner == old && slot->target != old)
            slot->revoked = generation;
    }
    return moved;
}

static void grant(struct group *group, uint32_t generation)
{
    for (uint32_t i = 0; i < group->slot_count; i++) {
        struct group_slot *slot = &group->slots[i];
        if (slot->owner || !slot->target)
            continue;
        slot->owner = slot->target;
        slot->granted = generation;
    }
}

/* Who owns what another shall have, since when. A deadline for what has come back since is void. */
static void mark_givers(struct group *group)
{
    LIST_EACH(node, &group->members)
    CONTAINER_OF(node, struct group_member, link)->revoked = UINT32_MAX;
    for (uint32_t i = 0; i < group->slot_count && group->pending_count > 0; i++) {
        struct group_slot *slot = &group->slots[i];
        if (slot->owner && slot->owner != slot->target)
            slot->owner->revoked = (uint32_t)min_u64(slot->owner->revoked, slot->revoked);
    }
    LIST_EACH(node, &group->members)
    {
        struct group_member *member = CONTAINER_OF(node, struct group_member, link);
        group_member_settle(member, member->revoked);
    }
}
