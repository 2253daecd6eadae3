/* How many partitions a topic has: shard 0 knows, everybody else asks by mail.
 *
 * Happy path: a member wants to join with topics that nobody here subscribes to; they get a place marked stale;
 * group_topics_turn() asks shard 0 about up to 64 at once; its answer comes home, the JOIN goes on. Every 5 s all subscribed
 * topics are asked about again, and groups whose topics have grown or gone are balanced.
 *
 * Committed offsets of deleted topics are swept out once a minute, and when a subscribed topic is found gone: their topics are
 * asked about in the order of the table, and for each group and topic that is gone one entry is logged. Shard 0 answers when
 * what it says is durable, so no offset goes for a deletion that a crash takes back.
 *
 * One mail at a time is out: what it points at is ours, so a shard is not closed before it is home (groups_are_idle()). */
#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"
#include "broker/groups_private.h"

#define SWEEP_ROWS_PER_TURN 4096u

static struct group_topic *topic_new(struct groups *groups, uint32_t topic_id);
static void topic_free(struct groups *groups, struct group_topic *topic);
static void set_stale(struct groups *groups, struct group_topic *topic, bool is_stale);
static void refresh(struct groups *groups);
static uint32_t collect_stale(struct groups *groups);
static uint32_t collect_sweep(struct groups *groups, struct shard *shard);
static int send_ask(struct groups *groups, struct shard *shard, bool is_sweep);
static void take_counts(struct groups *groups, struct shard *shard);
static void balance_changed(struct groups *groups, struct shard *shard);
static void take_gone(struct groups *groups);
static int drop_gone(struct groups *groups, struct shard *shard);

/* ---- places ---- */

static uint64_t hash_of(uint32_t topic_id)
{
    return hash_xxh3(&topic_id, sizeof(topic_id));
}

struct group_topic *group_topic_find(const struct groups *groups, uint32_t topic_id)
{
    uint32_t at;
    uint64_t hash = hash_of(topic_id);
    for (uint32_t i = row_map_first(&groups->topic_by_id, hash, &at); i != ROW_MAP_NONE;
         i = row_map_next(&groups->topic_by_id, hash, &at)) {
        if (groups->topics[i].topic_id == topic_id)
            return &groups->topics[i];
    }
    return NULL;
}

static struct group_topic *topic_new(struct groups *groups, uint32_t topic_id)
{
    uint32_t i = groups->topic_free;
    if (i != TABLE_ROW_NONE)
        groups->topic_free = groups->topics[i].next_free;
    else if (groups->topic_high < GROUP_TOPICS_PER_SHARD)
        i = groups->topic_high++;
    else
        return NULL;
    groups->topics[i] = (struct group_topic){.topic_id = topic_id, .is_used = true};
    row_map_add(&groups->topic_by_id, hash_of(topic_id), i);
    groups->topics_unused = true;
    return &groups->topics[i];
}

static void topic_free(struct groups *groups, struct group_topic *topic)
{
    uint32_t i = (uint32_t)(topic - groups->topics);
    set_stale(groups, topic, false);
    row_map_remove(&groups->topic_by_id, hash_of(topic->topic_id), i);
    *topic = (struct group_topic){.next_free = groups->topic_free};
    groups->topic_free = i;
}

static void set_stale(struct groups *groups, struct group_topic *topic, bool is_stale)
{
    groups->topic_stale_count += is_stale - topic->is_stale;
    topic->is_stale = is_stale;
}

/* ---- what members need ---- */

enum group_topics_answer group_topics_want(struct groups *groups, const uint32_t *topics,
                                           uint32_t count)
{
    enum group_topics_answer answer = GROUP_TOPICS_KNOWN;
    for (uint32_t i = 0; i < count; i++) {
        struct group_topic *topic = group_topic_find(groups, topics[i]);
        if (!topic)
            topic = topic_new(groups, topics[i]);
        if (!topic)
            return GROUP_TOPICS_FULL;
        if (topic->is_known)
            continue;
        set_stale(groups, topic, true);
        answer = GROUP_TOPICS_ASKED;
    }
    return answer;
}

uint32_t group_topic_partitions(const struct groups *groups, uint32_t topic_id)
{
    const struct group_topic *topic = group_topic_find(groups, topic_id);
    return topic && topic->is_known ? topic->partition_count : 0;
}

void group_topics_subscribe(struct groups *groups, const uint32_t *topics, uint32_t count,
                            int change)
{
    for (uint32_t i = 0; i < count; i++) {
        struct group_topic *topic = group_topic_find(groups, topics[i]);
        ASSERT(topic);
        topic->subscriptions += (uint32_t)change;
        groups->topics_unused |= topic->subscriptions == 0;
    }
}

void group_topics_forget(struct groups *groups)
{
    if (!groups->topics_unused)
        return;
    for (uint32_t i = 0; i < groups->topic_high; i++) {
        if (groups->topics[i].is_used && groups->topics[i].subscriptions == 0)
            topic_free(groups, &groups->topics[i]);
    }
    groups->topics_unused = false;
}

/* ---- asking ---- */

int group_topics_turn(struct groups *groups, struct shard *shard)
{
    if (groups->ask.is_out || shard->state != SHARD_SERVING)
        return 0;
    if (groups->gone_count > 0)
        return drop_gone(groups, shard);
    if (shard->now_ns >= groups->topics_ns) {
        groups->topics_ns = shard->now_ns + GROUP_TOPICS_PERIOD_NS;
        refresh(groups);
    }
    if (groups->topic_stale_count > 0) {
        collect_stale(groups);
        return send_ask(groups, shard, false);
    }
    if (groups->sweep_row == TABLE_ROW_NONE && shard->now_ns >= groups->sweep_ns)
        groups->sweep_row = 0;
    if (groups->sweep_row == TABLE_ROW_NONE)
        return 0;
    uint32_t from = groups->sweep_row;
    if (collect_sweep(groups, shard) == 0)
        return 1;
    int sent = send_ask(groups, shard, true);
    if (!sent)
        groups->sweep_row = from;
    return sent;
}

static void refresh(struct groups *groups)
{
    for (uint32_t i = 0; i < groups->topic_high; i++) {
        if (groups->topics[i].subscriptions > 0)
            set_stale(groups, &groups->topics[i], true);
    }
}

static uint32_t collect_stale(struct groups *groups)
{
    struct group_ask *ask = &groups->ask;
    ask->count = 0;
    for (uint32_t i = 0; i < groups->topic_high && ask->count < GROUP_ASK_TOPICS_MAX; i++) {
        if (groups->topics[i].is_stale)
            ask->topic_ids[ask->count++] = groups->topics[i].topic_id;
    }
    return ask->count;
}

static bool has_id(const uint32_t *ids, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

/* Different topics of the next rows. 0: none among those looked at. */
static uint32_t collect_sweep(struct groups *groups, struct shard *shard)
{
    struct group_ask *ask = &groups->ask;
    uint32_t rows = table_row_count(groups->offsets), looked = 0;
    ask->count = 0;
    for (; groups->sweep_row < rows && looked < SWEEP_ROWS_PER_TURN; groups->sweep_row++) {
        looked++;
        if (!table_row_is_used(groups->offsets, groups->sweep_row))
            continue;
        const struct disk_group_offset *offset = table_row(groups->offsets, groups->sweep_row);
        uint32_t topic_id = le32_get(offset->topic_id);
        if (has_id(ask->topic_ids, ask->count, topic_id))
            continue;
        if (ask->count == GROUP_ASK_TOPICS_MAX)
            return ask->count;
        ask->topic_ids[ask->count++] = topic_id;
    }
    if (groups->sweep_row >= rows) {
        groups->sweep_row = TABLE_ROW_NONE;
        groups->sweep_ns = shard->now_ns + GROUP_SWEEP_PERIOD_NS;
    }
    return ask->count;
}

/* 1, or 0: no request or no credit now, tried again. */
static int send_ask(struct groups *groups, struct shard *shard, bool is_sweep)
{
    struct group_ask *ask = &groups->ask;
    struct request *mail = request_acquire(shard->requests, REQUEST_SHARD, shard->core);
    if (!mail)
        return group_blocked(groups, shard);
    mail->shard = 0;
    mail->from_shard = shard->id;
    mail->target_core = shard->shard_core[0];
    mail->mail = MAIL_TOPICS_ASK;
    mail->u.topics.topic_ids = ask->topic_ids;
    mail->u.topics.partition_counts = ask->partition_counts;
    mail->u.topics.count = ask->count;
    if (mailbox_send(shard->mailbox, mail)) {
        request_release(shard->requests, mail);
        return group_blocked(groups, shard);
    }
    ask->is_out = true;
    ask->is_sweep = is_sweep;
    return 1;
}

/* ---- the answer ---- */

void groups_on_mail_reply(struct groups *groups, struct shard *shard, struct request *mail)
{
    ASSERT(mail->mail == MAIL_TOPICS_ASK && groups->ask.is_out);
    request_release(shard->requests, mail);
    groups->ask.is_out = false;
    if (groups->ask.is_sweep)
        take_gone(groups);
    else
        take_counts(groups, shard);
}

static void take_counts(struct groups *groups, struct shard *shard)
{
    const struct group_ask *ask = &groups->ask;
    bool has_changed = false;
    for (uint32_t i = 0; i < ask->count; i++) {
        struct group_topic *topic = group_topic_find(groups, ask->topic_ids[i]);
        if (!topic)
            continue;
        topic->is_changed = topic->is_known && topic->partition_count != ask->partition_counts[i];
        has_changed |= topic->is_changed;
        if (topic->is_changed && ask->partition_counts[i] == 0)
            groups->sweep_ns = 0;
        topic->partition_count = ask->partition_counts[i];
        topic->is_known = true;
        set_stale(groups, topic, false);
    }
    if (has_changed)
        balance_changed(groups, shard);
    groups->joins_ready = true;
}

static bool subscribes_to_changed(const struct groups *groups, const struct group_member *member)
{
    for (uint32_t i = 0; i < member->topic_count; i++) {
        const struct group_topic *topic = group_topic_find(groups, member->topics[i]);
        if (topic && topic->is_changed)
            return true;
    }
    return false;
}

static void balance_changed(struct groups *groups, struct shard *shard)
{
    LIST_EACH(node, &groups->members)
    {
        struct group_member *member = CONTAINER_OF(node, struct group_member, shard_link);
        if (member->group->needs_assignment || !subscribes_to_changed(groups, member))
            continue;
        member->group->needs_assignment = true;
        group_balance_at(groups, member->group, shard->now_ns);
    }
    for (uint32_t i = 0; i < groups->topic_high; i++)
        groups->topics[i].is_changed = false;
}

static void take_gone(struct groups *groups)
{
    groups->gone_count = groups->gone_row = 0;
    for (uint32_t i = 0; i < groups->ask.count; i++) {
        if (groups->ask.partition_counts[i] == 0)
            groups->gone[groups->gone_count++] = groups->ask.topic_ids[i];
    }
}

/* One entry for each group and topic; it drops all rows of both. */
static int drop_gone(struct groups *groups, struct shard *shard)
{
    for (; groups->gone_row < table_row_count(groups->offsets); groups->gone_row++) {
        if (!table_row_is_used(groups->offsets, groups->gone_row))
            continue;
        const struct disk_group_offset *offset = table_row(groups->offsets, groups->gone_row);
        uint32_t topic_id = le32_get(offset->topic_id);
        if (!has_id(groups->gone, groups->gone_count, topic_id))
            continue;
        const struct group *group = &groups->groups[le32_get(offset->group_plus_1) - 1];
        int status = group_log(shard, group_name(groups, group), GROUP_CHANGE_TOPIC_GONE, topic_id);
        if (status)
            return group_blocked(groups, shard);
        char name[GROUP_NAME_BYTES_MAX + 1];
        LOG_INFO("group.offsets_dropped", LOG_STR("group", group_name_text(groups, group, name)),
                 LOG_U64("topic_id", topic_id), LOG_STR("why", "the topic was deleted"));
    }
    groups->gone_count = 0;
    return 1;
}
