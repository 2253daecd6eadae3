/* The fake broker's side of GROUP_ and OFFSET_ requests; docs/protocol.md, section 12. Partitions go
 * round robin over the members in the order of their places, which moves many of them when a member
 * comes or goes: what a client has to bear. */
#include "tests/unit/client/fake_group.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/client/fake_private.h"

static uint16_t on_join(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_heartbeat(struct fake_broker *broker, const struct frame *frame,
                             struct writer *w);
static uint16_t on_leave(struct fake_broker *broker, const struct frame *frame);
static uint16_t on_commit(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_fetch(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_list(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint16_t on_describe(struct fake_broker *broker, const struct frame *frame,
                            struct writer *w);
static uint16_t on_delete(struct fake_broker *broker, const struct frame *frame);
static struct fake_group *find(struct fake_groups *groups, struct slice name, bool add);
static int find_member(const struct fake_group *group, struct slice id);
static uint32_t count_members(const struct fake_group *group);
static void add_slots(struct fake_broker *broker, struct fake_group *group, uint32_t topic_id);
static void balance(struct fake_group *group);
static void let_go(struct fake_group *group, int member);
static void write_assignment(struct writer *w, const struct fake_group *group, int member);
static struct fake_offset *find_offset(struct fake_group *group, uint32_t topic_id,
                                       uint32_t partition, bool add);

uint16_t fake_on_group(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    switch (frame->op) {
    case OP_GROUP_JOIN:
        return on_join(broker, frame, w);
    case OP_GROUP_HEARTBEAT:
        return on_heartbeat(broker, frame, w);
    case OP_GROUP_LEAVE:
        return on_leave(broker, frame);
    case OP_OFFSET_COMMIT:
        return on_commit(broker, frame, w);
    case OP_OFFSET_FETCH:
        return on_fetch(broker, frame, w);
    case OP_GROUP_LIST:
        return on_list(broker, frame, w);
    case OP_GROUP_DESCRIBE:
        return on_describe(broker, frame, w);
    case OP_GROUP_DELETE:
        return on_delete(broker, frame);
    default:
        return PE_UNKNOWN_OPERATION;
    }
}

/* ---- members ---- */

static uint16_t on_join(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_group_join m;
    ASSERT(read_group_join(frame, &m) == PE_NONE);
    struct fake_group *group = find(&broker->groups, m.group, true);
    if (count_members(group) > 0 && group->assignor != m.assignor)
        return PE_INVALID_ARGUMENT;
    group->assignor = m.assignor;
    group->session_ms = m.session_timeout_ms ? m.session_timeout_ms : 10000;
    int place = m.member.len > 0 ? find_member(group, m.member) : 0;
    if (place < 0)
        return PE_UNKNOWN_MEMBER;
    if (m.member.len == 0) {
        while (group->members[place].id[0] != '\0')
            place++;
        ASSERT(place < (int)FAKE_MEMBERS_MAX);
        struct fake_member *member = &group->members[place];
        snprintf(member->id, sizeof(member->id), "member-%u", ++broker->groups.member_ids);
        memcpy(member->instance, m.instance.bytes, m.instance.len);
    }
    for (uint32_t i = 0; i < m.topic_count; i++)
        add_slots(broker, group, le32_get(m.topic_ids[i]));
    balance(group);
    struct msg_group_assignment reply = {.member = slice_of_text(group->members[place].id),
                                         .session_timeout_ms = group->session_ms};
    write_group_assignment_begin(w, &reply); // generation 0: heartbeats bring more
    return PE_NONE;
}

static uint16_t on_heartbeat(struct fake_broker *broker, const struct frame *frame,
                             struct writer *w)
{
    struct msg_group_heartbeat m;
    ASSERT(read_group_heartbeat(frame, &m) == PE_NONE);
    struct fake_group *group = find(&broker->groups, m.group, false);
    int place = group ? find_member(group, m.member) : -1;
    if (place < 0)
        return PE_UNKNOWN_MEMBER;
    struct fake_member *member = &group->members[place];
    ASSERT(m.generation <= group->generation);
    member->beats++;
    member->applied = m.generation;
    if (m.generation == group->generation)
        let_go(group, place);
    if (m.generation == group->generation) {
        struct msg_group_assignment reply = {.member = slice_of_text(member->id),
                                             .generation = group->generation,
                                             .session_timeout_ms = group->session_ms,
                                             .item_count = GROUP_UNCHANGED};
        write_group_assignment_begin(w, &reply);
        return PE_NONE;
    }
    write_assignment(w, group, place);
    return PE_NONE;
}

static uint16_t on_leave(struct fake_broker *broker, const struct frame *frame)
{
    struct msg_group_leave m;
    ASSERT(read_group_leave(frame, &m) == PE_NONE);
    struct fake_group *group = find(&broker->groups, m.group, false);
    int place = group ? find_member(group, m.member) : -1;
    if (place < 0)
        return PE_UNKNOWN_MEMBER;
    group->members[place] = (struct fake_member){0};
    for (uint32_t i = 0; i < group->slot_count; i++) {
        if (group->slots[i].owner == place)
            group->slots[i].owner = -1;
    }
    balance(group);
    return PE_NONE;
}

static struct fake_group *find(struct fake_groups *groups, struct slice name, bool add)
{
    struct fake_group *free_one = NULL;
    for (uint32_t i = 0; i < FAKE_GROUPS_MAX; i++) {
        struct fake_group *group = &groups->groups[i];
        if (group->name[0] != '\0' && slice_equals(slice_of_text(group->name), name))
            return group;
        if (group->name[0] == '\0' && !free_one)
            free_one = group;
    }
    if (!add)
        return NULL;
    ASSERT(free_one);
    memcpy(free_one->name, name.bytes, name.len);
    return free_one;
}

static int find_member(const struct fake_group *group, struct slice id)
{
    for (uint32_t i = 0; i < FAKE_MEMBERS_MAX; i++) {
        if (group->members[i].id[0] != '\0' &&
            slice_equals(slice_of_text(group->members[i].id), id))
            return (int)i;
    }
    return -1;
}

static uint32_t count_members(const struct fake_group *group)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < FAKE_MEMBERS_MAX; i++)
        count += group->members[i].id[0] != '\0';
    return count;
}

/* ---- partitions ---- */

static void add_slots(struct fake_broker *broker, struct fake_group *group, uint32_t topic_id)
{
    uint16_t error = PE_NONE;
    for (uint32_t p = 0; fake_store_partition(&broker->store, topic_id, p, &error); p++) {
        bool known = false;
        for (uint32_t i = 0; i < group->slot_count; i++)
            known |= group->slots[i].topic_id == topic_id && group->slots[i].partition == p;
        if (known)
            continue;
        ASSERT(group->slot_count < FAKE_SLOTS_MAX);
        group->slots[group->slot_count++] =
            (struct fake_slot){.topic_id = topic_id, .partition = p, .owner = -1, .target = -1};
    }
}

static void balance(struct fake_group *group)
{
    int places[FAKE_MEMBERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < FAKE_MEMBERS_MAX; i++) {
        if (group->members[i].id[0] != '\0')
            places[count++] = (int)i;
    }
    group->generation++;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        struct fake_slot *slot = &group->slots[i];
        slot->target = count > 0 ? places[i % count] : -1;
        if (slot->owner == -1)
            slot->owner = slot->target;
    }
}

/* It has confirmed: what was taken from it goes to its next owner, with the next generation. */
static void let_go(struct fake_group *group, int member)
{
    bool changed = false;
    for (uint32_t i = 0; i < group->slot_count; i++) {
        struct fake_slot *slot = &group->slots[i];
        if (slot->owner != member || slot->target == member)
            continue;
        slot->owner = slot->target;
        changed = true;
    }
    if (changed)
        group->generation++;
}

static void write_assignment(struct writer *w, const struct fake_group *group, int member)
{
    struct msg_group_assignment m = {.member = slice_of_text(group->members[member].id),
                                     .generation = group->generation,
                                     .session_timeout_ms = group->session_ms};
    for (uint32_t i = 0; i < group->slot_count; i++)
        m.item_count += group->slots[i].owner == member && group->slots[i].target == member;
    write_group_assignment_begin(w, &m);
    for (uint32_t i = 0; i < group->slot_count; i++) {
        if (group->slots[i].owner == member && group->slots[i].target == member)
            write_group_item(w, group->slots[i].topic_id, group->slots[i].partition);
    }
}

/* ---- offsets ---- */

uint16_t fake_group_check(struct fake_groups *groups, struct slice name, struct slice member,
                          uint32_t generation)
{
    struct fake_group *group = find(groups, name, false);
    if (member.len == 0)
        return group && count_members(group) > 0 ? PE_GROUP_NOT_EMPTY : PE_NONE;
    int place = group ? find_member(group, member) : -1;
    if (place < 0)
        return PE_UNKNOWN_MEMBER;
    return generation < group->members[place].applied ? PE_STALE_GENERATION : PE_NONE;
}

void fake_group_set_offset(struct fake_groups *groups, struct slice name, uint32_t topic_id,
                           uint32_t partition, uint64_t offset)
{
    struct fake_group *group = find(groups, name, true);
    find_offset(group, topic_id, partition, true)->offset = offset;
}

static uint16_t on_commit(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_offset_commit m;
    ASSERT(read_offset_commit(frame, &m) == PE_NONE);
    uint16_t error = fake_group_check(&broker->groups, m.group, m.member, m.generation);
    if (error != PE_NONE)
        return error;
    struct fake_group *group = find(&broker->groups, m.group, true);
    int member = find_member(group, m.member);
    write_offset_results_begin(w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        uint32_t topic_id = le32_get(m.items[i].topic_id);
        uint32_t partition = le32_get(m.items[i].partition);
        uint16_t item_error = m.member.len > 0 ? PE_NOT_OWNER : PE_NONE;
        for (uint32_t s = 0; s < group->slot_count; s++) {
            const struct fake_slot *slot = &group->slots[s];
            if (slot->topic_id == topic_id && slot->partition == partition && slot->owner == member)
                item_error = PE_NONE;
        }
        struct fake_offset *offset = find_offset(group, topic_id, partition, false);
        uint64_t value = le64_get(m.items[i].offset);
        bool stands = offset && offset->offset != UINT64_MAX && offset->offset > value &&
                      !(m.flags & OFFSET_COMMIT_RESET);
        if (stands)
            value = offset->offset;
        else if (item_error == PE_NONE)
            fake_group_set_offset(&broker->groups, m.group, topic_id, partition, value);
        write_offset_result(w, topic_id, partition, item_error, value);
    }
    return PE_NONE;
}

static uint16_t on_fetch(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_offset_fetch m;
    ASSERT(read_offset_fetch(frame, &m) == PE_NONE);
    struct fake_group *group = find(&broker->groups, m.group, true);
    uint32_t count = m.item_count > 0 ? m.item_count : group->offset_count;
    write_offset_results_begin(w, count);
    for (uint32_t i = 0; i < count; i++) {
        bool all = m.item_count == 0;
        uint32_t topic_id = all ? group->offsets[i].topic_id : le32_get(m.items[i].topic_id);
        uint32_t partition = all ? group->offsets[i].partition : le32_get(m.items[i].partition);
        struct fake_offset *offset = find_offset(group, topic_id, partition, false);
        bool pending = offset && offset->pending > 0;
        if (pending)
            offset->pending--;
        write_offset_result(w, topic_id, partition, pending ? PE_OFFSETS_PENDING : PE_NONE,
                            offset ? offset->offset : UINT64_MAX);
    }
    return PE_NONE;
}

static struct fake_offset *find_offset(struct fake_group *group, uint32_t topic_id,
                                       uint32_t partition, bool add)
{
    for (uint32_t i = 0; i < group->offset_count; i++) {
        struct fake_offset *offset = &group->offsets[i];
        if (offset->topic_id == topic_id && offset->partition == partition)
            return offset;
    }
    if (!add)
        return NULL;
    ASSERT(group->offset_count < FAKE_SLOTS_MAX);
    group->offsets[group->offset_count] =
        (struct fake_offset){.topic_id = topic_id, .partition = partition, .offset = UINT64_MAX};
    return &group->offsets[group->offset_count++];
}

/* ---- administration ---- */

static uint16_t on_list(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_group_list m;
    ASSERT(read_group_list(frame, &m) == PE_NONE);
    uint16_t count = 0;
    for (uint32_t i = 0; i < FAKE_GROUPS_MAX; i++)
        count += broker->groups.groups[i].name[0] != '\0';
    write_group_list_reply_begin(w, 1, false, count);
    for (uint32_t i = 0; i < FAKE_GROUPS_MAX; i++) {
        const struct fake_group *group = &broker->groups.groups[i];
        if (group->name[0] == '\0')
            continue;
        uint32_t members = count_members(group);
        struct msg_group_list_item item = {.group = slice_of_text(group->name),
                                           .state = members > 0 ? GROUP_STABLE : GROUP_EMPTY,
                                           .generation = group->generation,
                                           .member_count = members,
                                           .offset_count = group->offset_count};
        write_group_list_item(w, &item);
    }
    return PE_NONE;
}

static uint16_t on_describe(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_group_describe m;
    ASSERT(read_group_describe(frame, &m) == PE_NONE);
    struct fake_group *group = find(&broker->groups, m.group, false);
    if (!group)
        return PE_UNKNOWN_GROUP;
    struct msg_group_describe_reply reply = {.state = GROUP_STABLE,
                                             .assignor = group->assignor,
                                             .generation = group->generation,
                                             .member_count = (uint16_t)count_members(group)};
    write_group_describe_reply_begin(w, &reply);
    for (int place = 0; place < (int)FAKE_MEMBERS_MAX; place++) {
        const struct fake_member *member = &group->members[place];
        if (member->id[0] == '\0')
            continue;
        struct msg_group_member known = {.member = slice_of_text(member->id),
                                         .instance = slice_of_text(member->instance),
                                         .generation = member->applied,
                                         .session_timeout_ms = group->session_ms,
                                         .idle_ms = 3};
        for (uint32_t i = 0; i < group->slot_count; i++)
            known.item_count += group->slots[i].owner == place;
        write_group_member_begin(w, &known);
        for (uint32_t i = 0; i < group->slot_count; i++) {
            if (group->slots[i].owner == place)
                write_group_item(w, group->slots[i].topic_id, group->slots[i].partition);
        }
    }
    return PE_NONE;
}

static uint16_t on_delete(struct fake_broker *broker, const struct frame *frame)
{
    struct slice name;
    ASSERT(read_group_delete(frame, &name) == PE_NONE);
    struct fake_group *group = find(&broker->groups, name, false);
    if (!group)
        return PE_UNKNOWN_GROUP;
    if (count_members(group) > 0)
        return PE_GROUP_NOT_EMPTY;
    *group = (struct fake_group){0};
    return PE_NONE;
}

/* ---- what tests do ---- */

void fake_group_remove_members(struct fake_broker *broker, const char *name)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_group *group = find(&broker->groups, slice_of_text(name), false);
    ASSERT(group);
    memset(group->members, 0, sizeof(group->members));
    for (uint32_t i = 0; i < group->slot_count; i++)
        group->slots[i].owner = -1;
    balance(group);
    pthread_mutex_unlock(&broker->mutex);
}

uint32_t fake_group_member_count(struct fake_broker *broker, const char *name)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_group *group = find(&broker->groups, slice_of_text(name), false);
    uint32_t count = group ? count_members(group) : 0;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint64_t fake_group_offset(struct fake_broker *broker, const char *name, const char *topic,
                           uint32_t partition)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_group *group = find(&broker->groups, slice_of_text(name), true);
    uint32_t topic_id = fake_store_topic(&broker->store, topic)->id;
    struct fake_offset *offset = find_offset(group, topic_id, partition, false);
    uint64_t value = offset ? offset->offset : UINT64_MAX;
    pthread_mutex_unlock(&broker->mutex);
    return value;
}

void fake_group_commit(struct fake_broker *broker, const char *name, const char *topic,
                       uint32_t partition, uint64_t value, uint32_t pending)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_group *group = find(&broker->groups, slice_of_text(name), true);
    uint32_t topic_id = fake_store_topic(&broker->store, topic)->id;
    struct fake_offset *offset = find_offset(group, topic_id, partition, true);
    offset->offset = value;
    offset->pending = pending;
    pthread_mutex_unlock(&broker->mutex);
}
