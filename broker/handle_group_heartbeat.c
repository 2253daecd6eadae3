/* GROUP_HEARTBEAT and GROUP_LEAVE: a member lives, has applied a generation, or goes.
 *
 * A heartbeat with a generation says: I hold nothing outside of the assignment of that one. So what the member was
 * told to give up with it, or before, is free for its next owner. The answer is the assignment of now, or GROUP_UNCHANGED
 * when the member has applied the generation of now. It waits until that generation is durable.
 *
 * A static member that leaves (not for ever) keeps its place until its session times out: its process is being
 * restarted. Failure modes: UNKNOWN_MEMBER, also for an unknown group: join again. FENCED_MEMBER: do not. */
#include "broker/groups_private.h"

static bool find(struct shard *shard, struct request *request, struct slice group_name,
                 struct slice id, struct group_member **member);
static void leave(struct shard *shard, struct group_member *member, bool for_ever);

enum handled handle_group_heartbeat(struct shard *shard, struct request *request)
{
    struct groups *groups = shard->groups;
    struct frame frame;
    struct msg_group_heartbeat m;
    struct group_member *member = NULL;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_group_heartbeat(&frame, &m);
    if (error) {
        shard_reply_error(shard, request, error, "GROUP_HEARTBEAT: group, member, generation");
        return HANDLED;
    }
    if (!find(shard, request, m.group, m.member, &member))
        return HANDLED;
    uint32_t generation = le32_get(group_row(groups, member->group)->generation);
    if (m.generation > generation) {
        shard_reply_error(shard, request, PE_INVALID_ARGUMENT, "generation %u, the group's is %u",
                          m.generation, generation);
        return HANDLED;
    }
    member->heard_ns = shard->now_ns;
    member->is_away = false;
    if (member->is_assigned && m.generation > member->confirmed)
        member->confirmed = m.generation;
    group_member_lets_go(groups, shard, member, m.generation);
    group_member_was_told(groups, shard, member);
    group_reply_assignment(shard, request, member,
                           member->is_assigned && m.generation == generation);
    return HANDLED;
}

static bool find(struct shard *shard, struct request *request, struct slice group_name,
                 struct slice id, struct group_member **member)
{
    const struct group *group = group_find(shard->groups, group_name);
    uint16_t error =
        group ? group_member_find(shard->groups, group, id, member) : PE_UNKNOWN_MEMBER;
    if (error)
        shard_reply_error(shard, request, error, "%s", "");
    return error == PE_NONE;
}

enum handled handle_group_leave(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_group_leave m;
    struct group_member *member = NULL;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_group_leave(&frame, &m);
    if (error) {
        shard_reply_error(shard, request, error, "GROUP_LEAVE: group, member, 0 or 1");
        return HANDLED;
    }
    if (!find(shard, request, m.group, m.member, &member))
        return HANDLED;
    leave(shard, member, m.for_ever);
    struct writer w = shard_reply_writer(request);
    shard_reply_seal(request, &w);
    shard_reply(shard, request);
    return HANDLED;
}

static void leave(struct shard *shard, struct group_member *member, bool for_ever)
{
    struct groups *groups = shard->groups;
    bool stays = member->instance_length > 0 && !for_ever;
    group_log_member(groups, member, "left", stays ? "its place is kept" : NULL);
    if (stays) {
        member->is_away = true;
        member->heard_ns = shard->now_ns;
        group_member_lets_go(groups, shard, member, UINT32_MAX);
        return;
    }
    member->is_leaving = true;
    group_members_remove_leaving(groups, shard, member->group);
}
