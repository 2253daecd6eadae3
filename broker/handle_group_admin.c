/* GROUP_LIST, GROUP_DESCRIBE, GROUP_DELETE: what operators see and do.
 *
 * LIST walks one shard's groups in order of name, as many as fit into an answer, then says that there are more. DELETE is
 * refused while the group has members, or a transaction has offsets of it. Answers wait until what they tell is durable. */
#include <stdlib.h>

#include "base/status.h"
#include "broker/groups_private.h"

static uint32_t groups_behind(const struct groups *groups, struct slice after);
static void write_member(struct writer *w, const struct shard *shard,
                         const struct group_member *member);

static enum group_state state_of(const struct group *group)
{
    if (group_is_empty(group))
        return GROUP_EMPTY;
    bool is_settled =
        !group->needs_assignment && group->pending_count == 0 && !list_is_linked(&group->due_link);
    return is_settled ? GROUP_STABLE : GROUP_REBALANCING;
}

static void reply(struct shard *shard, struct request *request, const struct writer *w)
{
    shard_reply_seal(request, w);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
}

/* ---- GROUP_LIST ---- */

enum handled handle_group_list(struct shard *shard, struct request *request)
{
    struct groups *groups = shard->groups;
    struct frame frame;
    struct msg_group_list m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_group_list(&frame, &m);
    if (error) {
        shard_reply_error(shard, request, error, "GROUP_LIST: shard, name");
        return HANDLED;
    }
    uint32_t found = groups_behind(groups, m.after);
    uint16_t written = 0;
    struct writer w = shard_reply_writer(request), head = w;
    write_group_list_reply_begin(&w, shard->shard_count, false, 0);
    for (; written < found; written++) {
        const struct group *group = &groups->groups[groups->scratch[written]];
        struct writer before = w;
        write_group_list_item(&w, &(struct msg_group_list_item){
                                      .group = group_name(groups, group),
                                      .state = (uint8_t)state_of(group),
                                      .generation = le32_get(group_row(groups, group)->generation),
                                      .member_count = group->member_count,
                                      .offset_count = group->offset_count});
        if (w.failed) {
            w = before;
            break;
        }
    }
    write_group_list_reply_begin(&head, shard->shard_count, written < found, written);
    reply(shard, request, &w);
    return HANDLED;
}

static int compare_names(const void *a, const void *b, void *context)
{
    const struct groups *groups = context;
    const struct group *x = &groups->groups[*(const uint32_t *)a];
    const struct group *y = &groups->groups[*(const uint32_t *)b];
    return slice_compare(group_name(groups, x), group_name(groups, y));
}

/* Rows into scratch, in order of name. */
static uint32_t groups_behind(const struct groups *groups, struct slice after)
{
    uint32_t count = 0;
    for (uint32_t row = 0; row < table_row_count(groups->table); row++) {
        if (table_row_is_used(groups->table, row) &&
            slice_compare(group_name(groups, &groups->groups[row]), after) > 0)
            groups->scratch[count++] = row;
    }
    qsort_r(groups->scratch, count, sizeof(*groups->scratch), compare_names, (void *)groups);
    return count;
}

/* ---- GROUP_DESCRIBE ---- */

enum handled handle_group_describe(struct shard *shard, struct request *request)
{
    struct groups *groups = shard->groups;
    struct frame frame;
    struct msg_group_describe m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_group_describe(&frame, &m);
    const struct group *group = error ? NULL : group_find(groups, m.group);
    if (!group) {
        shard_reply_error(shard, request, error ? error : PE_UNKNOWN_GROUP, "%s", "");
        return HANDLED;
    }
    struct writer w = shard_reply_writer(request);
    write_group_describe_reply_begin(
        &w, &(struct msg_group_describe_reply){.state = (uint8_t)state_of(group),
                                               .assignor = group->assignor,
                                               .generation =
                                                   le32_get(group_row(groups, group)->generation),
                                               .member_count = (uint16_t)group->member_count});
    LIST_EACH(node, &group->members)
    write_member(&w, shard, CONTAINER_OF(node, struct group_member, link));
    if (w.failed) {
        shard_reply_error(shard, request, PE_LIMIT_REACHED,
                          "%u members and %u partitions do not fit into an answer",
                          group->member_count, group->slot_count);
        return HANDLED;
    }
    reply(shard, request, &w);
    return HANDLED;
}

static void write_member(struct writer *w, const struct shard *shard,
                         const struct group_member *member)
{
    const struct group *group = member->group;
    write_group_member_begin(
        w, &(struct msg_group_member){
               .member = {member->id, GROUP_MEMBER_ID_BYTES},
               .instance = {member->instance, member->instance_length},
               .generation = member->confirmed,
               .session_timeout_ms = (uint32_t)(member->session_ns / NS_PER_MS),
               .idle_ms = (uint32_t)((shard->now_ns - member->heard_ns) / NS_PER_MS),
               .item_count = group_member_items(member, NULL)});
    for (uint32_t i = 0; i < group->slot_count; i++) {
        const struct group_slot *slot = &group->slots[i];
        if (group_slot_is_readable(slot, member))
            write_group_item(w, slot->topic_id, slot->partition);
    }
}

/* ---- GROUP_DELETE ---- */

enum handled handle_group_delete(struct shard *shard, struct request *request)
{
    struct groups *groups = shard->groups;
    struct frame frame;
    struct slice name;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_group_delete(&frame, &name);
    const struct group *group = error ? NULL : group_find(groups, name);
    if (!group) {
        shard_reply_error(shard, request, error ? error : PE_UNKNOWN_GROUP, "%s", "");
        return HANDLED;
    }
    if (!group_is_empty(group) || group->staged_count > 0) {
        shard_reply_error(shard, request, PE_GROUP_NOT_EMPTY,
                          "%u members, %u offsets of transactions", group->member_count,
                          group->staged_count);
        return HANDLED;
    }
    int status = group_log(shard, name, GROUP_CHANGE_DROP, 0);
    if (status)
        return shard_not_appended(shard, request, status);
    struct writer w = shard_reply_writer(request);
    reply(shard, request, &w);
    return HANDLED;
}
