/* Messages of consumer groups: GROUP_JOIN, HEARTBEAT, LEAVE, OFFSET_COMMIT, OFFSET_FETCH, LIST,
 * DESCRIBE, DELETE.
 *
 * The group's name comes first in every request but LIST, since it decides the shard. Partitions
 * and offsets are arrays of byte-order structs at the end of a meta (of a member, in DESCRIBE's
 * answer), checked in one pass and taken as they lie. */
#include "proto/messages_private.h"

#define LIST_ITEM_BYTES_MIN 18
#define MEMBER_ITEM_BYTES_MIN 20

static void walk_list_item(struct reader *r, struct msg_group_list_item *item, bool *allowed);
static void walk_member(struct reader *r, struct msg_group_member *member, bool *allowed);
static bool results_are_valid(const struct offset_result_item *items, uint32_t count);

/* ---- GROUP_JOIN ---- */

void write_group_join_begin(struct writer *w, const struct msg_group_join *m)
{
    write_string(w, m->group);
    write_string(w, m->member);
    write_string(w, m->instance);
    write_u8(w, m->assignor);
    write_u8(w, 0);
    write_u16(w, m->topic_count);
    write_u32(w, m->session_timeout_ms);
    write_u32(w, m->rebalance_timeout_ms);
    write_u32(w, m->item_count);
    write_bytes(w, m->topic_ids, m->topic_count * sizeof(*m->topic_ids));
}

void write_group_item(struct writer *w, uint32_t topic_id, uint32_t partition)
{
    struct group_item item = {.topic_id = le32_make(topic_id), .partition = le32_make(partition)};
    write_bytes(w, &item, sizeof(item));
}

uint16_t read_group_join(const struct frame *frame, struct msg_group_join *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->group = read_name(&r, GROUP_NAME_BYTES_MAX, &allowed);
    m->member = read_name_or_none(&r, GROUP_MEMBER_BYTES_MAX, &allowed);
    m->instance = read_name_or_none(&r, GROUP_INSTANCE_BYTES_MAX, &allowed);
    m->assignor = read_u8(&r);
    uint8_t reserved = read_u8(&r);
    m->topic_count = read_u16(&r);
    m->session_timeout_ms = read_u32(&r);
    m->rebalance_timeout_ms = read_u32(&r);
    m->item_count = read_u32(&r);
    m->topic_ids = read_items(&r, m->topic_count, sizeof(*m->topic_ids));
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    return meta_result(&r, allowed && reserved == 0 && m->assignor <= GROUP_STICKY &&
                               m->topic_count >= 1 && m->topic_count <= GROUP_TOPICS_MAX &&
                               m->item_count <= GROUP_ASSIGNMENT_MAX);
}

/* ---- GROUP_HEARTBEAT, and the answer to both ---- */

void write_group_heartbeat(struct writer *w, const struct msg_group_heartbeat *m)
{
    write_string(w, m->group);
    write_string(w, m->member);
    write_u32(w, m->generation);
}

uint16_t read_group_heartbeat(const struct frame *frame, struct msg_group_heartbeat *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->group = read_name(&r, GROUP_NAME_BYTES_MAX, &allowed);
    m->member = read_name(&r, GROUP_MEMBER_BYTES_MAX, &allowed);
    m->generation = read_u32(&r);
    return meta_result(&r, allowed);
}

void write_group_assignment_begin(struct writer *w, const struct msg_group_assignment *m)
{
    write_string(w, m->member);
    write_u32(w, m->generation);
    write_u32(w, m->session_timeout_ms);
    write_u32(w, m->item_count);
}

uint16_t read_group_assignment(const struct frame *frame, struct msg_group_assignment *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->member = read_name(&r, GROUP_MEMBER_BYTES_MAX, &allowed);
    m->generation = read_u32(&r);
    m->session_timeout_ms = read_u32(&r);
    m->item_count = read_u32(&r);
    bool unchanged = m->item_count == GROUP_UNCHANGED;
    m->items = read_items(&r, unchanged ? 0 : m->item_count, sizeof(*m->items));
    return meta_result(&r, allowed && (unchanged || m->item_count <= GROUP_ASSIGNMENT_MAX));
}

/* ---- GROUP_LEAVE ---- */

void write_group_leave(struct writer *w, const struct msg_group_leave *m)
{
    write_string(w, m->group);
    write_string(w, m->member);
    write_u8(w, m->for_ever);
}

uint16_t read_group_leave(const struct frame *frame, struct msg_group_leave *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->group = read_name(&r, GROUP_NAME_BYTES_MAX, &allowed);
    m->member = read_name(&r, GROUP_MEMBER_BYTES_MAX, &allowed);
    uint8_t for_ever = read_u8(&r);
    m->for_ever = for_ever == 1;
    return meta_result(&r, allowed && for_ever <= 1);
}

/* ---- OFFSET_COMMIT ---- */

void write_offset_commit_begin(struct writer *w, const struct msg_offset_commit *m)
{
    write_string(w, m->group);
    write_string(w, m->member);
    write_u32(w, m->generation);
    write_u16(w, m->flags);
    write_u16(w, 0);
    write_u32(w, m->item_count);
}

uint16_t read_offset_commit(const struct frame *frame, struct msg_offset_commit *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->group = read_name(&r, GROUP_NAME_BYTES_MAX, &allowed);
    m->member = read_name_or_none(&r, GROUP_MEMBER_BYTES_MAX, &allowed);
    m->generation = read_u32(&r);
    m->flags = read_u16(&r);
    uint16_t reserved = read_u16(&r);
    m->item_count = read_u32(&r);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    if (!reader_is_done(&r))
        return PE_MALFORMED;
    bool reset = m->flags & OFFSET_COMMIT_RESET;
    return meta_result(&r, allowed && reserved == 0 && !(m->flags & ~OFFSET_COMMIT_RESET) &&
                               !(reset && m->member.len > 0) &&
                               offset_items_are_valid(m->items, m->item_count));
}

/* ---- the answer to OFFSET_COMMIT and OFFSET_FETCH ---- */

void write_offset_results_begin(struct writer *w, uint32_t item_count)
{
    write_item_count(w, item_count);
}

void write_offset_result(struct writer *w, uint32_t topic_id, uint32_t partition, uint16_t error,
                         uint64_t offset)
{
    struct offset_result_item item = {.topic_id = le32_make(topic_id),
                                      .partition = le32_make(partition),
                                      .error = le16_make(error),
                                      .offset = le64_make(offset)};
    write_bytes(w, &item, sizeof(item));
}

uint16_t read_offset_results(const struct frame *frame, struct msg_offset_results *m)
{
    struct reader r = meta_reader(frame);
    uint32_t reserved;
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    if (!reader_is_done(&r))
        return PE_MALFORMED;
    return meta_result(&r, reserved == 0 && results_are_valid(m->items, m->item_count));
}

static bool results_are_valid(const struct offset_result_item *items, uint32_t count)
{
    bool valid = count <= TXN_ITEM_COUNT_MAX;
    for (uint32_t i = 0; i < count && valid; i++)
        valid = le16_get(items[i].reserved) == 0 && le32_get(items[i].reserved2) == 0;
    return valid;
}

/* ---- OFFSET_FETCH ---- */

void write_offset_fetch_begin(struct writer *w, struct slice group, uint32_t item_count)
{
    write_string(w, group);
    write_item_count(w, item_count);
}

uint16_t read_offset_fetch(const struct frame *frame, struct msg_offset_fetch *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    uint32_t reserved;
    m->group = read_name(&r, GROUP_NAME_BYTES_MAX, &allowed);
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    return meta_result(&r, allowed && reserved == 0 && m->item_count <= TXN_ITEM_COUNT_MAX);
}

/* ---- GROUP_LIST ---- */

void write_group_list(struct writer *w, const struct msg_group_list *m)
{
    write_u32(w, m->shard);
    write_string(w, m->after);
}

uint16_t read_group_list(const struct frame *frame, struct msg_group_list *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->shard = read_u32(&r);
    m->after = read_name_or_none(&r, GROUP_NAME_BYTES_MAX, &allowed);
    return meta_result(&r, allowed);
}

void write_group_list_reply_begin(struct writer *w, uint32_t shard_count, bool more,
                                  uint16_t item_count)
{
    write_u32(w, shard_count);
    write_u8(w, more);
    write_u8(w, 0);
    write_u16(w, item_count);
}

void write_group_list_item(struct writer *w, const struct msg_group_list_item *m)
{
    write_string(w, m->group);
    write_u8(w, m->state);
    write_u8(w, 0);
    write_u16(w, 0);
    write_u32(w, m->generation);
    write_u32(w, m->member_count);
    write_u32(w, m->offset_count);
}

uint16_t read_group_list_reply(const struct frame *frame, struct msg_group_list_reply *m)
{
    struct reader r = meta_reader(frame);
    m->shard_count = read_u32(&r);
    uint8_t more = read_u8(&r);
    uint8_t reserved = read_u8(&r);
    m->item_count = read_u16(&r);
    m->more = more == 1;
    bool allowed = more <= 1 && reserved == 0;
    const uint8_t *first = r.at;
    read_count(&r, m->item_count, LIST_ITEM_BYTES_MIN);
    for (uint32_t i = 0; i < m->item_count && !r.failed; i++)
        walk_list_item(&r, &(struct msg_group_list_item){0}, &allowed);
    m->items = reader_between(first, &r);
    return meta_result(&r, allowed);
}

void read_group_list_item(struct msg_group_list_reply *m, struct msg_group_list_item *item)
{
    bool allowed = true;
    walk_list_item(&m->items, item, &allowed);
}

static void walk_list_item(struct reader *r, struct msg_group_list_item *item, bool *allowed)
{
    item->group = read_name(r, GROUP_NAME_BYTES_MAX, allowed);
    item->state = read_u8(r);
    bool zero = read_u8(r) == 0;
    zero = read_u16(r) == 0 && zero;
    item->generation = read_u32(r);
    item->member_count = read_u32(r);
    item->offset_count = read_u32(r);
    *allowed = *allowed && zero && item->state <= GROUP_STABLE;
}

/* ---- GROUP_DESCRIBE ---- */

void write_group_describe(struct writer *w, const struct msg_group_describe *m)
{
    write_string(w, m->group);
}

uint16_t read_group_describe(const struct frame *frame, struct msg_group_describe *m)
{
    return read_group_delete(frame, &m->group);
}

void write_group_describe_reply_begin(struct writer *w, const struct msg_group_describe_reply *m)
{
    write_u8(w, m->state);
    write_u8(w, m->assignor);
    write_u16(w, m->member_count);
    write_u32(w, m->generation);
}

void write_group_member_begin(struct writer *w, const struct msg_group_member *m)
{
    write_string(w, m->member);
    write_string(w, m->instance);
    write_u32(w, m->generation);
    write_u32(w, m->session_timeout_ms);
    write_u32(w, m->idle_ms);
    write_u32(w, m->item_count);
}

uint16_t read_group_describe_reply(const struct frame *frame, struct msg_group_describe_reply *m)
{
    struct reader r = meta_reader(frame);
    m->state = read_u8(&r);
    m->assignor = read_u8(&r);
    m->member_count = read_u16(&r);
    m->generation = read_u32(&r);
    bool allowed = m->state <= GROUP_STABLE && m->assignor <= GROUP_STICKY;
    const uint8_t *first = r.at;
    read_count(&r, m->member_count, MEMBER_ITEM_BYTES_MIN);
    for (uint32_t i = 0; i < m->member_count && !r.failed; i++)
        walk_member(&r, &(struct msg_group_member){0}, &allowed);
    m->members = reader_between(first, &r);
    return meta_result(&r, allowed);
}

void read_group_member(struct msg_group_describe_reply *m, struct msg_group_member *member)
{
    bool allowed = true;
    walk_member(&m->members, member, &allowed);
}

static void walk_member(struct reader *r, struct msg_group_member *member, bool *allowed)
{
    member->member = read_name(r, GROUP_MEMBER_BYTES_MAX, allowed);
    member->instance = read_name_or_none(r, GROUP_INSTANCE_BYTES_MAX, allowed);
    member->generation = read_u32(r);
    member->session_timeout_ms = read_u32(r);
    member->idle_ms = read_u32(r);
    member->item_count = read_u32(r);
    member->items = read_items(r, member->item_count, sizeof(*member->items));
    *allowed = *allowed && member->item_count <= GROUP_ASSIGNMENT_MAX;
}

/* ---- GROUP_DELETE ---- */

void write_group_delete(struct writer *w, struct slice group)
{
    write_string(w, group);
}

uint16_t read_group_delete(const struct frame *frame, struct slice *group)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    *group = read_name(&r, GROUP_NAME_BYTES_MAX, &allowed);
    return meta_result(&r, allowed);
}
