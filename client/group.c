/* A membership, the I/O thread's side: joining, heartbeats, leaving.
 *
 * The happy path: GROUP_JOIN, then a heartbeat every second or sixth of the session, whichever is
 * shorter, which tells what the polling thread has applied and brings what the broker assigns. A
 * heartbeat is sent at once when something was applied, as others may wait for what was given up.
 *
 * An answer that says that the membership is gone takes it down as lost and joins anew; one that
 * says that joining makes no sense is for the next poll to return. Other failures are tried again
 * by the next heartbeat. */
#include "client/group.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/consumer_private.h"

#define BEAT_NS_MAX NS_PER_S
#define BEAT_NS_MIN (10 * NS_PER_MS)
#define BEAT_NS_FIRST (50 * NS_PER_MS) // until something is assigned
#define RETRY_NS (100 * NS_PER_MS)
#define MEMBER_ROOM (64 + GROUP_NAME_BYTES_MAX + GROUP_MEMBER_BYTES_MAX + GROUP_INSTANCE_BYTES_MAX)

static void act(struct group *group);
static void start(struct group *group, struct call *call);
static void note(struct group *group, const char *what, const char *more);
static void join(struct group *group);
static uint8_t *write_join(struct group *group, uint32_t *bytes);
static void heartbeat(struct group *group);
static void start_call(struct group *group, enum op op, uint8_t *meta, uint32_t bytes);
static void call_done(struct call *call, int status, const struct frame *reply);
static int take_reply(struct group *group, const struct frame *frame);
static int take_assignment(struct group *group, const struct msg_group_assignment *m);
static void refused(struct group *group, int status, const struct frame *reply);
static void lose(struct group *group);
static void leave_idle(struct group *group);
static void leave_done(struct call *call, int status, const struct frame *reply);
static void start_commit(struct group *group);
static void commit_done(struct call *call, int status, const struct frame *reply);

uint64_t group_turn(struct sluice_consumer *consumer)
{
    struct group *group = consumer->group;
    uint64_t now_ns = consumer->client->now_ns;
    pthread_mutex_lock(&consumer->mutex);
    bool is_member = group->member[0] != '\0';
    if (is_member && now_ns > group->polled_ns + group->max_poll_ns) {
        leave_idle(group);
        is_member = false;
    }
    bool may_call = group->wanted && !group->idle && !call_is_active(&group->call);
    bool tells = is_member && (group->applied != group->confirmed || group->rejoin);
    bool due = now_ns >= group->call_at_ns || tells;
    if (may_call && due && is_member && !group->rejoin)
        heartbeat(group);
    else if (may_call && due)
        join(group);
    if (group->commit_next && !group->commit_out)
        start_commit(group);
    uint64_t wake_ns = may_call ? group->call_at_ns : UINT64_MAX;
    if (group->member[0] != '\0')
        wake_ns = min_u64(wake_ns, group->polled_ns + group->max_poll_ns + 1);
    pthread_mutex_unlock(&consumer->mutex);
    act(group);
    return wake_ns;
}

/* Starting a call may end the connection, and a log line is the application's callback: neither may
 * find the mutex taken. */
static void act(struct group *group)
{
    struct sluice_client *client = group->consumer->client;
    for (uint32_t i = 0; i < group->start_count; i++)
        calls_start(client, group->starts[i]);
    group->start_count = 0;
    if (group->log_line[0] != '\0')
        client_log(client, "%s", group->log_line);
    group->log_line[0] = '\0';
}

static void start(struct group *group, struct call *call)
{
    ASSERT(group->start_count < ARRAY_COUNT(group->starts));
    list_init(&call->link);
    group->starts[group->start_count++] = call;
}

static void note(struct group *group, const char *what, const char *more)
{
    snprintf(group->log_line, sizeof(group->log_line), "group %.200s: %s%s", group->name, what,
             more);
}

void group_remove(struct sluice_consumer *consumer)
{
    calls_cancel(&consumer->group->call);
    calls_cancel(&consumer->group->leave_call);
    calls_cancel(&consumer->group->commit_call);
}

/* ---- asking, under the mutex ---- */

static void join(struct group *group)
{
    uint32_t bytes;
    uint8_t *meta = write_join(group, &bytes);
    if (!meta) {
        group->call_at_ns = group->consumer->client->now_ns + RETRY_NS;
        return;
    }
    group->is_joining = true;
    group->join_out = true;
    group->rejoin = false;
    start_call(group, OP_GROUP_JOIN, meta, bytes);
}

/* What is held now goes along, also when it was lost: a sticky assignment gives it back if it can.
 * */
static uint8_t *write_join(struct group *group, uint32_t *bytes)
{
    struct sluice_consumer *consumer = group->consumer;
    uint32_t held = (uint32_t)min_u64(consumer->feed_count, GROUP_ASSIGNMENT_MAX);
    uint32_t room = MEMBER_ROOM + group->topic_count * (uint32_t)sizeof(le32) +
                    held * (uint32_t)sizeof(struct group_item);
    uint8_t *meta = malloc(room);
    le32 *topic_ids = malloc((group->topic_count + 1) * sizeof(*topic_ids));
    if (!meta || !topic_ids) {
        free(meta);
        free(topic_ids);
        return NULL;
    }
    for (uint32_t i = 0; i < group->topic_count; i++)
        topic_ids[i] = le32_make(group->topics[i].topic_id);
    struct msg_group_join m = {.group = slice_of_text(group->name),
                               .member = slice_of_text(group->member),
                               .instance = slice_of_text(group->instance),
                               .assignor = (uint8_t)group->assignor,
                               .session_timeout_ms = group->session_timeout_ms,
                               .rebalance_timeout_ms = (uint32_t)(group->max_poll_ns / NS_PER_MS),
                               .topic_count = (uint16_t)group->topic_count,
                               .topic_ids = topic_ids,
                               .item_count = held};
    struct writer w = writer_make(meta, room);
    write_group_join_begin(&w, &m);
    for (uint32_t i = 0; i < held; i++)
        write_group_item(&w, consumer->feeds[i]->topic_id, consumer->feeds[i]->partition);
    ASSERT(!w.failed);
    free(topic_ids);
    *bytes = writer_length(&w);
    return meta;
}

static void heartbeat(struct group *group)
{
    uint8_t *meta = malloc(MEMBER_ROOM);
    if (!meta) {
        group->call_at_ns = group->consumer->client->now_ns + RETRY_NS;
        return;
    }
    struct msg_group_heartbeat m = {.group = slice_of_text(group->name),
                                    .member = slice_of_text(group->member),
                                    .generation = group->applied};
    struct writer w = writer_make(meta, MEMBER_ROOM);
    write_group_heartbeat(&w, &m);
    ASSERT(!w.failed);
    group->is_joining = false;
    start_call(group, OP_GROUP_HEARTBEAT, meta, writer_length(&w));
}

static void start_call(struct group *group, enum op op, uint8_t *meta, uint32_t bytes)
{
    struct sluice_client *client = group->consumer->client;
    free(group->call_meta);
    group->call_meta = meta;
    group->called_generation = group->applied;
    group->called_ns = client->now_ns;
    group->call = (struct call){
        .op = op,
        .repeatable = true,
        .deadline_ns = UINT64_MAX,
        .meta = meta,
        .meta_bytes = bytes,
        .done = call_done,
    };
    start(group, &group->call);
}

/* ---- answers ---- */

static void call_done(struct call *call, int status, const struct frame *reply)
{
    struct group *group = CONTAINER_OF(call, struct group, call);
    struct sluice_consumer *consumer = group->consumer;
    pthread_mutex_lock(&consumer->mutex);
    group->join_out = false;
    if (status == SLUICE_OK)
        status = take_reply(group, reply);
    if (status != SLUICE_OK)
        refused(group, status, reply);
    pthread_cond_broadcast(&consumer->arrived);
    pthread_mutex_unlock(&consumer->mutex);
    act(group);
}

static int take_reply(struct group *group, const struct frame *frame)
{
    struct sluice_client *client = group->consumer->client;
    struct msg_group_assignment m;
    if (read_group_assignment(frame, &m) != PE_NONE)
        return SLUICE_E_PROTOCOL;
    bool is_new = group->is_joining && group->member[0] == '\0';
    if (!is_new && !slice_equals(m.member, slice_of_text(group->member)))
        return SLUICE_E_PROTOCOL;
    if (is_new) {
        memcpy(group->member, m.member.bytes, m.member.len);
        group->member[m.member.len] = '\0';
        group->told = group->applied = group->confirmed = 0;
        group->target_count = 0;
        note(group, "joined as ", group->member);
    }
    if (!group->is_joining)
        group->confirmed = group->called_generation;
    group->alive_until_ns = group->called_ns + m.session_timeout_ms * NS_PER_MS;
    group->beat_ns = min_u64(m.session_timeout_ms * NS_PER_MS / 6, BEAT_NS_MAX);
    group->beat_ns = max_u64(group->beat_ns, BEAT_NS_MIN); // whatever the broker says
    int status = take_assignment(group, &m);
    uint64_t wait_ns = group->told == 0 ? min_u64(BEAT_NS_FIRST, group->beat_ns) : group->beat_ns;
    group->call_at_ns = client->now_ns + wait_ns;
    return status;
}

static int take_assignment(struct group *group, const struct msg_group_assignment *m)
{
    if (m->generation <= group->told || m->item_count == GROUP_UNCHANGED)
        return SLUICE_OK;
    size_t bytes = m->item_count * sizeof(struct group_item);
    struct group_item *target = realloc(group->target, bytes + 1);
    if (!target)
        return SLUICE_E_NO_MEMORY;
    if (bytes > 0)
        memcpy(target, m->items, bytes);
    group->target = target;
    group->target_count = m->item_count;
    group->told = m->generation;
    group->target_new = true;
    return SLUICE_OK;
}

static void refused(struct group *group, int status, const struct frame *reply)
{
    struct sluice_client *client = group->consumer->client;
    group->call_at_ns = client->now_ns + RETRY_NS;
    if (status == SLUICE_E_CLOSED || sluice_is_retriable(status))
        return;
    note(group, sluice_name(status), "");
    bool was_member = group->member[0] != '\0';
    if (was_member)
        lose(group);
    bool joins_anew = status == SLUICE_E_UNKNOWN_MEMBER || status == SLUICE_E_STALE_GENERATION;
    if (joins_anew)
        return;
    struct msg_error error;
    bool has_words = reply && reply->flags & FRAME_ERROR && read_error(reply, &error) == PE_NONE;
    snprintf(group->failure_text, sizeof(group->failure_text), "%.*s",
             has_words ? (int)error.text.len : (int)strlen(sluice_text(status)),
             has_words ? (const char *)error.text.bytes : sluice_text(status));
    group->failure = status;
    group->wanted = false;
}

static void lose(struct group *group)
{
    group->member[0] = '\0';
    group->lost = true;
    group->target_new = false;
    group->target_count = 0;
    group->alive_until_ns = UINT64_MAX;
    group->call_at_ns = 0;
}

/* ---- leaving ---- */

static void leave_idle(struct group *group)
{
    struct sluice_client *client = group->consumer->client;
    struct msg_group_leave m = {.group = slice_of_text(group->name),
                                .member = slice_of_text(group->member)};
    note(group, "left, as the application has not polled", "");
    group->idle = true;
    calls_cancel(&group->call);
    group->join_out = false;
    if (!call_is_active(&group->leave_call)) {
        struct writer w = writer_make(group->leave_meta, sizeof(group->leave_meta));
        write_group_leave(&w, &m);
        ASSERT(!w.failed);
        group->leave_call = (struct call){
            .op = OP_GROUP_LEAVE,
            .deadline_ns = client->now_ns + NS_PER_S,
            .meta = group->leave_meta,
            .meta_bytes = writer_length(&w),
            .done = leave_done,
        };
        start(group, &group->leave_call);
    }
    lose(group);
}

/* Or the session times out. */
static void leave_done(struct call *call, int status, const struct frame *reply)
{
}

/* ---- commits that nobody waits for ---- */

static void start_commit(struct group *group)
{
    struct sluice_client *client = group->consumer->client;
    group->commit_next = false;
    group->commit_out = true;
    group->commit_call = (struct call){
        .op = OP_OFFSET_COMMIT,
        .repeatable = true,
        .deadline_ns = client->now_ns + client->request_timeout_ms * NS_PER_MS,
        .meta = group->commit_meta,
        .meta_bytes = group->commit_meta_bytes,
        .done = commit_done,
    };
    start(group, &group->commit_call);
}

/* What fails is committed with the next ones. */
static void commit_done(struct call *call, int status, const struct frame *reply)
{
    struct group *group = CONTAINER_OF(call, struct group, commit_call);
    struct sluice_consumer *consumer = group->consumer;
    if (status == SLUICE_OK)
        status = group_note_committed(consumer, reply);
    if (status != SLUICE_OK)
        client_log(consumer->client, "group %s: offsets are not committed: %s", group->name,
                   sluice_name(status));
    pthread_mutex_lock(&consumer->mutex);
    group->commit_out = false;
    pthread_mutex_unlock(&consumer->mutex);
}
