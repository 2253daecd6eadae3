/* Members: who they are, by id and by instance, and what they subscribe to. In memory only.
 *
 * A member's id is 32 hex digits. The first half of a static member's id stays the same when another process takes over
 * its place, the second half is new: so an id that is not known, but begins like that of a static member, is that of one that
 * was taken over, and is told so (FENCED_MEMBER) however long ago that was. Told UNKNOWN_MEMBER it would join again and
 * take the place back.
 *
 * Limits were asked about by who joins; here only memory can be lacking. */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "broker/groups_private.h"

#define TOKEN_BYTES (GROUP_MEMBER_ID_BYTES / 2)

static struct group_member **place_of(const struct groups *groups, struct slice id);
static void id_make(struct groups *groups, struct shard *shard, struct group_member *member,
                    bool keep_token);
static void id_unlink(struct groups *groups, struct group_member *member);
static void member_free(struct groups *groups, struct group_member *member);

static struct slice id_of(const struct group_member *member)
{
    return (struct slice){member->id, GROUP_MEMBER_ID_BYTES};
}

int slice_compare(struct slice a, struct slice b)
{
    uint32_t len = (uint32_t)min_u64(a.len, b.len);
    int order = len > 0 ? memcmp(a.bytes, b.bytes, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

struct slice group_member_key(const struct group_member *member)
{
    return member->instance_length > 0 ? (struct slice){member->instance, member->instance_length}
                                       : id_of(member);
}

/* ---- finding ---- */

static struct group_member **place_of(const struct groups *groups, struct slice id)
{
    return &groups->by_id[hash_xxh3(id.bytes, id.len) % GROUP_MEMBERS_PER_SHARD];
}

uint16_t group_member_find(const struct groups *groups, const struct group *group, struct slice id,
                           struct group_member **member)
{
    if (id.len != GROUP_MEMBER_ID_BYTES)
        return PE_UNKNOWN_MEMBER;
    for (struct group_member *at = *place_of(groups, id); at; at = at->id_next) {
        if (at->group == group && memcmp(at->id, id.bytes, id.len) == 0) {
            *member = at;
            return PE_NONE;
        }
    }
    LIST_EACH(node, &group->members)
    {
        const struct group_member *other = CONTAINER_OF(node, struct group_member, link);
        if (other->instance_length > 0 && memcmp(other->id, id.bytes, TOKEN_BYTES) == 0)
            return PE_FENCED_MEMBER;
    }
    return PE_UNKNOWN_MEMBER;
}

struct group_member *group_member_by_instance(const struct group *group, struct slice instance)
{
    LIST_EACH(node, &group->members)
    {
        struct group_member *member = CONTAINER_OF(node, struct group_member, link);
        struct slice own = {member->instance, member->instance_length};
        if (instance.len > 0 && slice_equals(own, instance))
            return member;
    }
    return NULL;
}

/* ---- joining ---- */

struct group_member *group_member_add(struct groups *groups, struct shard *shard,
                                      struct group *group, struct slice instance)
{
    struct group_member *member = calloc(1, sizeof(*member));
    if (!member)
        return NULL;
    ASSERT(instance.len <= GROUP_INSTANCE_BYTES_MAX);
    member->group = group;
    member->give_up_by_ns = UINT64_MAX;
    member->revoked = UINT32_MAX;
    member->instance_length = (uint8_t)instance.len;
    if (instance.len > 0)
        memcpy(member->instance, instance.bytes, instance.len);
    id_make(groups, shard, member, false);
    list_push_back(&group->members, &member->link);
    list_push_back(&groups->members, &member->shard_link);
    group->member_count++;
    groups->member_count++;
    return member;
}

void group_member_take_over(struct groups *groups, struct shard *shard, struct group_member *member)
{
    id_unlink(groups, member);
    id_make(groups, shard, member, true);
    /* The process that had the place holds nothing any more: it can't commit, and is told so. */
    group_member_lets_go(groups, shard, member, UINT32_MAX);
    member->confirmed = 0;
    member->is_away = false;
}

static void write_hex(uint8_t *to, uint64_t value)
{
    char text[17];
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)value);
    memcpy(to, text, 16);
}

static void id_make(struct groups *groups, struct shard *shard, struct group_member *member,
                    bool keep_token)
{
    if (!keep_token)
        write_hex(member->id, random_u64(shard->random));
    write_hex(member->id + TOKEN_BYTES, random_u64(shard->random));
    struct group_member **place = place_of(groups, id_of(member));
    member->id_next = *place;
    *place = member;
}

static void id_unlink(struct groups *groups, struct group_member *member)
{
    struct group_member **at = place_of(groups, id_of(member));
    while (*at != member)
        at = &(*at)->id_next;
    *at = member->id_next;
}

bool group_member_subscribe(struct groups *groups, struct group_member *member,
                            const uint32_t *topics, uint32_t count)
{
    uint32_t *copy = malloc(count * sizeof(*copy));
    if (!copy)
        return false;
    memcpy(copy, topics, count * sizeof(*copy));
    group_topics_subscribe(groups, topics, count, 1);
    group_topics_subscribe(groups, member->topics, member->topic_count, -1);
    groups->subscription_count += count - member->topic_count;
    free(member->topics);
    member->topics = copy;
    member->topic_count = count;
    return true;
}

void group_member_hint(struct groups *groups, struct group_member *member,
                       const struct group_item *items, uint32_t count)
{
    group_member_unhint(groups, member);
    bool has_room =
        count <= GROUP_ASSIGNMENT_MAX && groups->hint_count + count <= GROUP_SLOTS_PER_SHARD;
    if (count == 0 || !has_room)
        return;
    member->hints = malloc(count * sizeof(*items));
    if (!member->hints)
        return;
    memcpy(member->hints, items, count * sizeof(*items));
    member->hint_count = count;
    groups->hint_count += count;
}

void group_member_unhint(struct groups *groups, struct group_member *member)
{
    free(TAKE(member->hints));
    groups->hint_count -= member->hint_count;
    member->hint_count = 0;
}

/* ---- going ---- */

void group_members_remove_leaving(struct groups *groups, struct shard *shard, struct group *group)
{
    group_slots_release(group);
    LIST_EACH(node, &group->members)
    {
        struct group_member *member = CONTAINER_OF(node, struct group_member, link);
        if (member->is_leaving)
            member_free(groups, member);
    }
    group->needs_assignment = true;
    group_balance_at(groups, group, shard->now_ns);
}

static void member_free(struct groups *groups, struct group_member *member)
{
    id_unlink(groups, member);
    list_remove(&member->link);
    list_remove(&member->shard_link);
    group_topics_subscribe(groups, member->topics, member->topic_count, -1);
    group_member_unhint(groups, member);
    groups->subscription_count -= member->topic_count;
    groups->member_count--;
    member->group->member_count--;
    free(member->topics);
    free(member);
}

uint64_t group_member_deadline_ns(const struct group_member *member)
{
    return min_u64(member->heard_ns + member->session_ns, member->give_up_by_ns);
}
