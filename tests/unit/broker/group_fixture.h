/* Consumers of groups, spoken for with real frames over the shard fixture: what a client library would know and do. */
#ifndef SLUICE_TESTS_GROUP_FIXTURE_H
#define SLUICE_TESTS_GROUP_FIXTURE_H

#include "broker/groups_private.h"
#include "tests/unit/broker/shard_fixture.h"

#define GF_ITEMS_MAX 256
#define GF_ID_BYTES 64

struct gf_item {
    uint32_t topic_id, partition;
};

struct gf_member { // as its process knows it
    char group[64], id[GF_ID_BYTES + 1], instance[32];
    uint32_t generation; // applied, or to be confirmed
    uint32_t session_ms;
    struct gf_item items[GF_ITEMS_MAX];
    uint32_t item_count;
    bool was_unchanged; // the last answer
};

struct gf_join {
    const char *group, *member, *instance;
    uint32_t topics[8], topic_count;
    enum group_assignor assignor;
    uint32_t session_ms, rebalance_ms;
    struct gf_item items[8]; // held until now
    uint32_t item_count;
};

static inline struct slice gf_slice(const char *text)
{
    return slice_of_text(text ? text : "");
}

static inline uint16_t gf_shard(const struct shard_fixture *f, const char *group)
{
    return shard_of_name(f->slot_shard, gf_slice(group));
}

static inline struct groups *gf_groups(struct shard_fixture *f, const char *group)
{
    return f->shards[gf_shard(f, group)].groups;
}

static inline uint64_t gf_now_ms(const struct shard_fixture *f)
{
    return io_sim_now_ns(f->io) / NS_PER_MS;
}

static inline void gf_wait_ms(struct shard_fixture *f, uint64_t ms)
{
    uint64_t until = io_sim_now_ns(f->io) + ms * NS_PER_MS;
    while (io_sim_now_ns(f->io) < until)
        shf_turn(f);
}

/* Sends what the writer holds; the answer's frame in *reply is valid until gf_end(). */
static inline uint16_t gf_call(struct shard_fixture *f, struct request *request,
                               const struct writer *w, struct frame *reply)
{
    shf_seal(request, w, 0);
    shf_call(f, request);
    if (request->error == PE_NONE)
        cr_assert_eq(frame_decode(request->reply->bytes, reply), PE_NONE);
    return request->error;
}

static inline void gf_take_assignment(struct gf_member *member, const struct frame *frame)
{
    struct msg_group_assignment m;
    cr_assert_eq(read_group_assignment(frame, &m), PE_NONE);
    cr_assert_leq(m.member.len, GF_ID_BYTES);
    memcpy(member->id, m.member.bytes, m.member.len);
    member->id[m.member.len] = '\0';
    member->session_ms = m.session_timeout_ms;
    member->was_unchanged = m.item_count == GROUP_UNCHANGED;
    if (member->was_unchanged) {
        cr_assert_eq(m.generation, member->generation);
        return;
    }
    cr_assert_geq(m.generation, member->generation);
    member->generation = m.generation;
    cr_assert_leq(m.item_count, GF_ITEMS_MAX);
    member->item_count = m.item_count;
    for (uint32_t i = 0; i < m.item_count; i++)
        member->items[i] =
            (struct gf_item){le32_get(m.items[i].topic_id), le32_get(m.items[i].partition)};
}

static inline uint16_t gf_join(struct shard_fixture *f, struct gf_member *member,
                               const struct gf_join *join)
{
    le32 topics[8];
    for (uint32_t i = 0; i < join->topic_count; i++)
        topics[i] = le32_make(join->topics[i]);
    struct request *request = shf_request(f, gf_shard(f, join->group), OP_GROUP_JOIN, 1);
    struct writer w = shf_writer(request);
    write_group_join_begin(&w, &(struct msg_group_join){.group = gf_slice(join->group),
                                                        .member = gf_slice(join->member),
                                                        .instance = gf_slice(join->instance),
                                                        .assignor = (uint8_t)join->assignor,
                                                        .session_timeout_ms = join->session_ms,
                                                        .rebalance_timeout_ms = join->rebalance_ms,
                                                        .topic_count = (uint16_t)join->topic_count,
                                                        .topic_ids = topics,
                                                        .item_count = join->item_count});
    for (uint32_t i = 0; i < join->item_count; i++)
        write_group_item(&w, join->items[i].topic_id, join->items[i].partition);
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    if (!error) {
        *member = (struct gf_member){0};
        snprintf(member->group, sizeof(member->group), "%s", join->group);
        snprintf(member->instance, sizeof(member->instance), "%s",
                 join->instance ? join->instance : "");
        gf_take_assignment(member, &frame);
    }
    shf_release(f, request);
    return error;
}

/* Confirms member->generation and takes what comes. */
static inline uint16_t gf_heartbeat(struct shard_fixture *f, struct gf_member *member)
{
    struct request *request = shf_request(f, gf_shard(f, member->group), OP_GROUP_HEARTBEAT, 1);
    struct writer w = shf_writer(request);
    write_group_heartbeat(&w, &(struct msg_group_heartbeat){.group = gf_slice(member->group),
                                                            .member = gf_slice(member->id),
                                                            .generation = member->generation});
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    if (!error)
        gf_take_assignment(member, &frame);
    shf_release(f, request);
    return error;
}

static inline uint16_t gf_leave(struct shard_fixture *f, const struct gf_member *member,
                                bool for_ever)
{
    struct request *request = shf_request(f, gf_shard(f, member->group), OP_GROUP_LEAVE, 1);
    struct writer w = shf_writer(request);
    write_group_leave(&w, &(struct msg_group_leave){.group = gf_slice(member->group),
                                                    .member = gf_slice(member->id),
                                                    .for_ever = for_ever});
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    shf_release(f, request);
    return error;
}

struct gf_commit {
    const char *group;
    const struct gf_member *member; // NULL: an operator
    uint32_t generation;            // of the member
    uint16_t flags;
    uint32_t topic_id, partition;
    uint64_t offset;
};

/* The error of the request, or of its only item. *stands: the offset of the answer. */
static inline uint16_t gf_commit(struct shard_fixture *f, const struct gf_commit *commit,
                                 uint64_t *stands)
{
    struct request *request = shf_request(f, gf_shard(f, commit->group), OP_OFFSET_COMMIT, 1);
    struct writer w = shf_writer(request);
    write_offset_commit_begin(&w, &(struct msg_offset_commit){
                                      .group = gf_slice(commit->group),
                                      .member = gf_slice(commit->member ? commit->member->id : ""),
                                      .generation = commit->generation,
                                      .flags = commit->flags,
                                      .item_count = 1});
    write_offset_item(&w, commit->topic_id, commit->partition, commit->offset);
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    if (!error) {
        struct msg_offset_results m;
        cr_assert_eq(read_offset_results(&frame, &m), PE_NONE);
        cr_assert_eq(m.item_count, 1);
        cr_assert_eq(le32_get(m.items[0].topic_id), commit->topic_id);
        cr_assert_eq(le32_get(m.items[0].partition), commit->partition);
        error = le16_get(m.items[0].error);
        if (stands)
            *stands = le64_get(m.items[0].offset);
    }
    shf_release(f, request);
    return error;
}

/* By a member, under the generation it knows. */
static inline uint16_t gf_commit_as(struct shard_fixture *f, const struct gf_member *member,
                                    uint32_t topic_id, uint32_t partition, uint64_t offset)
{
    return gf_commit(f,
                     &(struct gf_commit){.group = member->group,
                                         .member = member,
                                         .generation = member->generation,
                                         .topic_id = topic_id,
                                         .partition = partition,
                                         .offset = offset},
                     NULL);
}

/* By nobody. */
static inline uint16_t gf_commit_plain(struct shard_fixture *f, const char *group,
                                       uint32_t topic_id, uint32_t partition, uint64_t offset,
                                       uint16_t flags, uint64_t *stands)
{
    return gf_commit(f,
                     &(struct gf_commit){.group = group,
                                         .flags = flags,
                                         .topic_id = topic_id,
                                         .partition = partition,
                                         .offset = offset},
                     stands);
}

static inline uint64_t gf_fetch(struct shard_fixture *f, const char *group, uint32_t topic_id,
                                uint32_t partition, uint16_t *error)
{
    struct request *request = shf_request(f, gf_shard(f, group), OP_OFFSET_FETCH, 1);
    struct writer w = shf_writer(request);
    write_offset_fetch_begin(&w, gf_slice(group), 1);
    write_group_item(&w, topic_id, partition);
    struct frame frame;
    struct msg_offset_results m;
    cr_assert_eq(gf_call(f, request, &w, &frame), PE_NONE);
    cr_assert_eq(read_offset_results(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, 1);
    uint64_t offset = le64_get(m.items[0].offset);
    uint16_t item_error = le16_get(m.items[0].error);
    if (error)
        *error = item_error;
    else
        cr_assert_eq(item_error, PE_NONE);
    shf_release(f, request);
    return offset;
}

static inline uint16_t gf_delete(struct shard_fixture *f, const char *group)
{
    struct request *request = shf_request(f, gf_shard(f, group), OP_GROUP_DELETE, 1);
    struct writer w = shf_writer(request);
    write_group_delete(&w, gf_slice(group));
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    shf_release(f, request);
    return error;
}

struct gf_description {
    uint8_t state, assignor;
    uint32_t generation, member_count, item_count;
};

static inline uint16_t gf_describe(struct shard_fixture *f, const char *group,
                                   struct gf_description *description)
{
    struct request *request = shf_request(f, gf_shard(f, group), OP_GROUP_DESCRIBE, 1);
    struct writer w = shf_writer(request);
    write_group_describe(&w, &(struct msg_group_describe){.group = gf_slice(group)});
    struct frame frame;
    uint16_t error = gf_call(f, request, &w, &frame);
    if (!error) {
        struct msg_group_describe_reply m;
        cr_assert_eq(read_group_describe_reply(&frame, &m), PE_NONE);
        *description =
            (struct gf_description){m.state, m.assignor, m.generation, m.member_count, 0};
        for (uint32_t i = 0; i < m.member_count; i++) {
            struct msg_group_member member;
            read_group_member(&m, &member);
            description->item_count += member.item_count;
        }
    }
    shf_release(f, request);
    return error;
}

static inline bool gf_has(const struct gf_member *member, uint32_t topic_id, uint32_t partition)
{
    for (uint32_t i = 0; i < member->item_count; i++) {
        if (member->items[i].topic_id == topic_id && member->items[i].partition == partition)
            return true;
    }
    return false;
}

/* All heartbeat in turn until nothing changes any more. */
static inline void gf_settle(struct shard_fixture *f, struct gf_member *members[], uint32_t count)
{
    for (int round = 0; round < 50; round++) {
        bool is_settled = true;
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_eq(gf_heartbeat(f, members[i]), PE_NONE);
            is_settled &= members[i]->was_unchanged && members[i]->generation > 0;
        }
        struct gf_description description = {0};
        cr_assert_eq(gf_describe(f, members[0]->group, &description), PE_NONE);
        if (is_settled && description.state == GROUP_STABLE)
            return;
        gf_wait_ms(f, 20);
    }
    cr_assert(false, "the group does not settle");
}

static inline uint32_t gf_topic(struct shard_fixture *f, const char *name, uint32_t partitions)
{
    uint32_t topic_id = 0;
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, name, partitions, &topic_id), PE_NONE);
    return topic_id;
}

/* Everything durable, the digests taken, the power cut, and the same digests afterwards. */
static inline void gf_replay_is_equal(struct shard_fixture *f)
{
    uint64_t before[SHF_SHARDS_MAX];
    gf_wait_ms(f, 30);
    for (uint16_t i = 0; i < f->shard_count; i++)
        before[i] = shard_digest(&f->shards[i]);
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    for (uint16_t i = 0; i < f->shard_count; i++)
        cr_assert_eq(shard_digest(&f->shards[i]), before[i], "shard %u", i);
}

#endif
