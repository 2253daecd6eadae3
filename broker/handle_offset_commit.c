/* OFFSET_COMMIT: how far a group has got, durable when it is answered.
 *
 * Happy path: the member is one, its generation is not older than what it has confirmed, and each partition is
 * its own; what passes is logged, in entries of at most GROUP_COMMIT_ITEMS_MAX; each item is answered with the offset that
 * stands now. An offset below the committed one is no error: it is logged as little as it is applied, and its
 * answer tells the higher one.
 *
 * Results are written into the lent answer as items are passed, so that a request that had to wait for log space (BLOCKED) goes
 * on where it stopped. Failure modes: UNKNOWN_MEMBER, FENCED_MEMBER, STALE_GENERATION, GROUP_NOT_EMPTY, LIMIT_REACHED for the
 * whole; NOT_OWNER for an item. */
#include "base/status.h"
#include "broker/groups_private.h"

struct commit { // an OFFSET_COMMIT being handled
    struct msg_offset_commit m;
    struct group *group;         // NULL: not made yet
    struct group_member *member; // NULL: an operator's, or of one that assigns itself
    struct offset_result_item *results;
};

static bool read_commit(struct shard *shard, struct request *request, struct commit *c);
static bool check_sender(struct shard *shard, struct request *request, struct commit *c);
static bool check_room(struct shard *shard, struct request *request, const struct commit *c);
static int commit_some(struct shard *shard, struct commit *c, uint32_t from, uint32_t to);
static uint16_t check_item(const struct commit *c, const struct offset_item *item);
static bool stands(const struct groups *groups, const struct commit *c,
                   const struct offset_item *item);
static void write_result(const struct groups *groups, struct commit *c, uint32_t i, uint16_t error);

#define RESULTS_AT (FRAME_HEADER_SIZE + OFFSET_RESULTS_FIXED)

enum handled handle_offset_commit(struct shard *shard, struct request *request)
{
    struct commit c = {0};
    if (!read_commit(shard, request, &c))
        return HANDLED;
    if (!check_sender(shard, request, &c) || !check_room(shard, request, &c))
        return HANDLED;
    while (request->progress < c.m.item_count) {
        uint32_t to =
            (uint32_t)min_u64(c.m.item_count, (uint64_t)request->progress + GROUP_COMMIT_ITEMS_MAX);
        int status = commit_some(shard, &c, request->progress, to);
        if (status)
            return shard_not_appended(shard, request, status);
        request->progress = to;
    }
    struct writer w = shard_reply_writer(request);
    write_offset_results_begin(&w, c.m.item_count);
    w.at += c.m.item_count * sizeof(struct offset_result_item);
    shard_reply_seal(request, &w);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
    return HANDLED;
}

static bool read_commit(struct shard *shard, struct request *request, struct commit *c)
{
    struct frame frame;
    uint16_t error = frame_decode(request->frames, &frame);
    uint32_t item_count_max =
        (uint32_t)min_u64(TXN_ITEM_COUNT_MAX, (request->reply->capacity - RESULTS_AT) /
                                                  sizeof(struct offset_result_item));
    error = error ? error : read_offset_commit(&frame, &c->m);
    if (error == PE_NONE && c->m.item_count > item_count_max)
        error = PE_INVALID_ARGUMENT;
    if (error) {
        shard_reply_error(shard, request, error,
                          "OFFSET_COMMIT: 1..%u offsets below 2^63; RESET without member",
                          item_count_max);
        return false;
    }
    c->results = (struct offset_result_item *)(request->reply->bytes + RESULTS_AT);
    return true;
}

static bool check_sender(struct shard *shard, struct request *request, struct commit *c)
{
    uint16_t error = PE_NONE;
    c->group = group_find(shard->groups, c->m.group);
    if (c->m.member.len > 0)
        error = c->group ? group_member_find(shard->groups, c->group, c->m.member, &c->member)
                         : PE_UNKNOWN_MEMBER;
    else if (c->group && !group_is_empty(c->group))
        error = PE_GROUP_NOT_EMPTY;
    if (error) {
        shard_reply_error(shard, request, error, "%s", "");
        return false;
    }
    uint32_t generation = c->group ? le32_get(group_row(shard->groups, c->group)->generation) : 0;
    if (c->member && (c->m.generation < c->member->confirmed || c->m.generation > generation)) {
        shard_reply_error(shard, request, PE_STALE_GENERATION, "generation %u, allowed %u..%u",
                          c->m.generation, c->member->confirmed, generation);
        return false;
    }
    return true;
}

static bool check_room(struct shard *shard, struct request *request, const struct commit *c)
{
    const struct groups *groups = shard->groups;
    if (!c->group && !group_can_be_made(groups)) {
        shard_reply_error(shard, request, PE_LIMIT_REACHED, "shard %u: at most %u groups",
                          shard->id, GROUPS_PER_SHARD);
        return false;
    }
    uint32_t fresh = 0;
    for (uint32_t i = request->progress; i < c->m.item_count; i++) {
        const struct offset_item *item = &c->m.items[i];
        fresh += !c->group || !group_offset_find(groups, c->group, le32_get(item->topic_id),
                                                 le32_get(item->partition));
    }
    if (group_offsets_have_room(groups, fresh))
        return true;
    shard_reply_error(shard, request, PE_LIMIT_REACHED, "shard %u: at most %u committed offsets",
                      shard->id, GROUP_OFFSETS_PER_SHARD);
    return false;
}

/* Logs what may be committed of items from..to, and writes their results. */
static int commit_some(struct shard *shard, struct commit *c, uint32_t from, uint32_t to)
{
    struct groups *groups = shard->groups;
    struct msg_txn_offsets some = {.group = c->m.group,
                                   .member = c->m.member,
                                   .generation = c->m.generation,
                                   .items = groups->commit_items};
    for (uint32_t i = from; i < to; i++) {
        if (check_item(c, &c->m.items[i]) == PE_NONE && !stands(groups, c, &c->m.items[i]))
            groups->commit_items[some.item_count++] = c->m.items[i];
    }
    if (some.item_count > 0) {
        int status = group_offsets_log(shard, NULL, &some, (uint8_t)c->m.flags);
        if (status)
            return status;
        counter_add(&shard->counters.group_offsets_committed_total, some.item_count);
        c->group = group_find(groups, c->m.group);
    }
    for (uint32_t i = from; i < to; i++)
        write_result(groups, c, i, check_item(c, &c->m.items[i]));
    return 0;
}

static uint16_t check_item(const struct commit *c, const struct offset_item *item)
{
    if (!c->member)
        return PE_NONE;
    const struct group_slot *slot =
        group_slot_find(c->group, le32_get(item->topic_id), le32_get(item->partition));
    bool is_own = slot && slot->owner == c->member && slot->granted <= c->m.generation;
    return is_own ? PE_NONE : PE_NOT_OWNER;
}

/* A higher offset is committed, and this request may not lower it. */
static bool stands(const struct groups *groups, const struct commit *c,
                   const struct offset_item *item)
{
    const struct disk_group_offset *row =
        c->group ? group_offset_find(groups, c->group, le32_get(item->topic_id),
                                     le32_get(item->partition))
                 : NULL;
    return row && le64_get(row->offset) > le64_get(item->offset) &&
           !(c->m.flags & OFFSET_COMMIT_RESET);
}

static void write_result(const struct groups *groups, struct commit *c, uint32_t i, uint16_t error)
{
    const struct offset_item *item = &c->m.items[i];
    const struct disk_group_offset *row =
        c->group ? group_offset_find(groups, c->group, le32_get(item->topic_id),
                                     le32_get(item->partition))
                 : NULL;
    c->results[i] =
        (struct offset_result_item){.topic_id = item->topic_id,
                                    .partition = item->partition,
                                    .error = le16_make(error),
                                    .offset = row ? row->offset : le64_make(UINT64_MAX)};
}
