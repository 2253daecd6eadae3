/* Slots: each partition of a group, who may read it and who shall.
 *
 *   owner   target
 *   A       A       settled
 *   A       B       A is told (assignment without it, generation `revoked`), and keeps it until it confirms that
 *                   generation, leaves, dies, or has taken too long
 *   -       B       free: B owns it with the group's next generation
 *   -       -       nobody subscribes
 *
 * owner is the only thing that decides who may commit, and it never goes from one member to another in one step: that is
 * why two members never have one partition. */
#include "broker/groups_private.h"

static uint32_t place_of(const struct group *group, uint32_t topic_id, uint32_t partition)
{
    uint32_t low = 0, high = group->slot_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct group_slot *slot = &group->slots[middle];
        bool is_before =
            slot->topic_id != topic_id ? slot->topic_id < topic_id : slot->partition < partition;
        if (is_before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct group_slot *group_slot_find(const struct group *group, uint32_t topic_id, uint32_t partition)
{
    uint32_t place = place_of(group, topic_id, partition);
    if (place == group->slot_count)
        return NULL;
    struct group_slot *slot = &group->slots[place];
    return slot->topic_id == topic_id && slot->partition == partition ? slot : NULL;
}

bool group_slot_is_readable(const struct group_slot *slot, const struct group_member *member)
{
    return slot->owner == member && slot->target == member;
}

uint32_t group_member_items(const struct group_member *member, struct group_item *items)
{
    const struct group *group = member->group;
    uint32_t count = 0;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        const struct group_slot *slot = &group->slots[i];
        if (!group_slot_is_readable(slot, member))
            continue;
        if (items)
            items[count] =
                (struct group_item){le32_make(slot->topic_id), le32_make(slot->partition)};
        count++;
    }
    return count;
}

static bool is_pending(const struct group_slot *slot)
{
    return slot->owner && slot->owner != slot->target;
}

void group_member_lets_go(struct groups *groups, struct shard *shard, struct group_member *member,
                          uint32_t generation)
{
    struct group *group = member->group;
    if (member->revoked == UINT32_MAX)
        return;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        struct group_slot *slot = &group->slots[i];
        if (slot->owner == member && is_pending(slot) && slot->revoked <= generation) {
            slot->owner = NULL;
            group->pending_count--;
        }
    }
    group_slots_settle(group, member);
    if (group_has_grants(group))
        group_balance_at(groups, group, shard->now_ns);
}

void group_slots_settle(struct group *group, struct group_member *member)
{
    uint32_t revoked = UINT32_MAX;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        const struct group_slot *slot = &group->slots[i];
        if (slot->owner == member && is_pending(slot))
            revoked = (uint32_t)min_u64(revoked, slot->revoked);
    }
    group_member_settle(member, revoked);
}

/* A deadline is about what it was told of; what came later has its own. */
void group_member_settle(struct group_member *member, uint32_t revoked)
{
    member->revoked = revoked;
    if (revoked > member->told)
        member->give_up_by_ns = UINT64_MAX;
}

/* Counted from here, not from the balance: who is asked rarely hears of it late. Who does not ask at all has its session. */
void group_member_was_told(struct groups *groups, struct shard *shard, struct group_member *member)
{
    if (member->revoked == UINT32_MAX || member->give_up_by_ns != UINT64_MAX)
        return;
    member->told = le32_get(group_row(groups, member->group)->generation);
    member->give_up_by_ns = shard->now_ns + member->rebalance_ns;
    groups->sessions_ns = min_u64(groups->sessions_ns, member->give_up_by_ns);
}

void group_slots_release(struct group *group)
{
    group->pending_count = 0;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        struct group_slot *slot = &group->slots[i];
        if (slot->owner && (slot->owner->is_leaving || (slot->owner->is_away && is_pending(slot))))
            slot->owner = NULL;
        if (slot->target && slot->target->is_leaving)
            slot->target = NULL;
        group->pending_count += is_pending(slot);
    }
}

bool group_has_grants(const struct group *group)
{
    for (uint32_t i = 0; i < group->slot_count; i++) {
        if (!group->slots[i].owner && group->slots[i].target)
            return true;
    }
    return false;
}

bool group_has_owners(const struct group *group)
{
    for (uint32_t i = 0; i < group->slot_count; i++) {
        if (group->slots[i].owner)
            return true;
    }
    return false;
}
