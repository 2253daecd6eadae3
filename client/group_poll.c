/* A membership, the polling thread's side: applying what the broker assigns.
 *
 * The happy path of a change: tell the application what it loses, commit the positions there, let
 * go of the feeds; what was applied goes out with the next heartbeat, at once. Then ask where the
 * partitions that were added begin, add their feeds, tell the application. A partition whose offset
 * is not known yet, as a transaction with it is being ended, is asked for again every 20 ms, while
 * the others are read.
 *
 * When the membership is lost everything is given up first, without a commit: others may have gone
 * on from what was committed.
 *
 * What a change needs memory for is reserved before it is taken: without, the poll returns
 * NO_MEMORY and the next one finds the change as it was. So the application is told of each
 * partition that comes and goes. Only a feed may find no memory later; it and those behind it are
 * tried again after 20 ms, while those before it are being read. */
#include "client/group.h"

#include <stdlib.h>

#include "client/consumer_private.h"

#define RETRY_NS (20 * NS_PER_MS)
#define ABANDON_MS 1000u
#define LEAVE_ROOM (64 + GROUP_NAME_BYTES_MAX + GROUP_MEMBER_BYTES_MAX)

struct change { // what a poll has to do, taken under the mutex
    bool lost;
    bool assigned;
    uint32_t generation;
    int failure;
    char failure_text[256];
};

static struct change take_change(struct sluice_consumer *consumer);
static bool take_target(struct sluice_consumer *consumer);
static bool reserve_lists(struct sluice_consumer *consumer);
static void give_up_all(struct sluice_consumer *consumer);
static void revoke(struct sluice_consumer *consumer, uint64_t deadline_ns);
static uint32_t collect_revoked(struct sluice_consumer *consumer);
static void commit_revoked(struct sluice_consumer *consumer, uint64_t deadline_ns);
static bool is_target(const struct group *group, uint32_t topic_id, uint32_t partition);
static int compare_items(const void *a, const void *b);
static void note_added(struct sluice_consumer *consumer, uint32_t generation);
static int start_added(struct sluice_consumer *consumer, uint64_t deadline_ns);
static int find_starts(struct sluice_consumer *consumer, uint64_t deadline_ns, uint64_t *offsets,
                       bool *pending);
static int add_started(struct sluice_consumer *consumer, const uint64_t *offsets,
                       const uint64_t *committed, const bool *pending);
static void tell(struct group *group, enum sluice_rebalance what, uint32_t count);
static void tell_leaving(struct group *group, enum sluice_rebalance what, uint32_t count);

int group_poll(struct sluice_consumer *consumer, uint64_t deadline_ns)
{
    struct group *group = consumer->group;
    uint64_t now_ns = clock_mono_ns(consumer->client->clock);
    struct change change = take_change(consumer);
    int status = change.failure;
    if (status != SLUICE_OK)
        error_set("group %s: %s", group->name, change.failure_text);
    deadline_ns = max_u64(deadline_ns, now_ns + NS_PER_S);
    if (change.lost)
        give_up_all(consumer);
    if (change.assigned)
        revoke(consumer, deadline_ns);
    if (change.assigned && status == SLUICE_OK)
        note_added(consumer, change.generation);
    if (change.lost || change.assigned)
        client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
    if (status == SLUICE_OK && group->starting_count > 0 && now_ns >= group->start_at_ns)
        status = start_added(consumer, deadline_ns);
    if (group->auto_commit_ns > 0 && now_ns >= group->commit_at_ns) {
        group->commit_at_ns = now_ns + group->auto_commit_ns;
        group_commit_later(consumer);
    }
    return status;
}

bool group_needs_poll(const struct group *group)
{
    return group && (group->lost || group->target_new || group->failure != SLUICE_OK);
}

uint64_t group_poll_at_ns(struct sluice_consumer *consumer)
{
    const struct group *group = consumer->group;
    if (!group)
        return UINT64_MAX;
    pthread_mutex_lock(&consumer->mutex);
    uint64_t at_ns = group->alive_until_ns;
    if (consumer->feed_count > 0 && group->auto_commit_ns > 0)
        at_ns = min_u64(at_ns, group->commit_at_ns);
    pthread_mutex_unlock(&consumer->mutex);
    return group->starting_count > 0 ? min_u64(at_ns, group->start_at_ns) : at_ns;
}

/* This call is also what shows that the application lives. */
static struct change take_change(struct sluice_consumer *consumer)
{
    struct group *group = consumer->group;
    uint64_t now_ns = clock_mono_ns(consumer->client->clock);
    pthread_mutex_lock(&consumer->mutex);
    bool was_idle = group->idle;
    group->polled_ns = now_ns;
    group->idle = false;
    if (now_ns > group->alive_until_ns) { // others may have the partitions: the broker will say
        group->lost = true;
        group->alive_until_ns = UINT64_MAX;
        group->applied = 0;
        group->told = 0;
        group->target_new = false;
    }
    struct change change = {
        .lost = group->lost, .generation = group->told, .failure = group->failure};
    memcpy(change.failure_text, group->failure_text, sizeof(change.failure_text));
    if (group->lost)
        group->held_count = 0;
    if (group->target_new)
        change.assigned = take_target(consumer);
    if (group->target_new && change.failure == SLUICE_OK) {
        change.failure = SLUICE_E_NO_MEMORY;
        strcpy(change.failure_text, sluice_text(SLUICE_E_NO_MEMORY));
    }
    group->lost = false;
    group->failure = SLUICE_OK;
    pthread_mutex_unlock(&consumer->mutex);
    if (was_idle)
        client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
    return change;
}

/* Under the mutex. */
static bool take_target(struct sluice_consumer *consumer)
{
    struct group *group = consumer->group;
    if (!reserve_lists(consumer))
        return false;
    free(group->held);
    group->held = TAKE(group->target);
    group->held_count = group->target_count;
    qsort(group->held, group->held_count, sizeof(*group->held), compare_items);
    group->target_new = false;
    return true;
}

/* For all that it holds now and all that it is to hold. */
static bool reserve_lists(struct sluice_consumer *consumer)
{
    struct group *group = consumer->group;
    uint32_t room = consumer->feed_count + group->target_count + 1;
    if (room <= group->list_room)
        return true;
    void *starting = realloc(group->starting, room * sizeof(*group->starting));
    if (starting)
        group->starting = starting;
    void *leaving = realloc(group->leaving, room * sizeof(*group->leaving));
    if (leaving)
        group->leaving = leaving;
    void *names = realloc(group->names, room * sizeof(*group->names));
    if (names)
        group->names = names;
    bool ok = starting && leaving && names;
    if (ok)
        group->list_room = room;
    return ok;
}

void group_abandon(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    struct group *group = consumer->group;
    struct request request;
    char member[GROUP_MEMBER_BYTES_MAX + 1];
    uint64_t deadline_ns = client_deadline(client, ABANDON_MS);
    bool in_time = sluice_client_wait(client, 0) == SLUICE_OK;
    pthread_mutex_lock(&consumer->mutex);
    group->wanted = false;
    while (group->join_out && in_time)
        in_time = client_cond_wait(&consumer->arrived, &consumer->mutex, deadline_ns);
    bool is_member = group->member[0] != '\0'; // also one that has just joined anew
    bool assigns_itself = group->topic_count == 0 && consumer->feed_count > 0;
    strcpy(member, group->member);
    pthread_mutex_unlock(&consumer->mutex);
    if ((!is_member && !assigns_itself) || !in_time)
        return;
    if (group->auto_commit_ns > 0)
        commit_revoked(consumer, deadline_ns);
    if (assigns_itself)
        return;
    if (request_begin(&request, client, OP_GROUP_LEAVE, LEAVE_ROOM) == SLUICE_OK) {
        struct msg_group_leave m = {.group = slice_of_text(group->name),
                                    .member = slice_of_text(member)};
        write_group_leave(&request.meta, &m);
        request.call.repeatable = false;
        request.deadline_ns = deadline_ns;
        if (request_wait(&request) != SLUICE_OK)
            error_set("%s", ""); // then the session times out
    }
    request_end(&request);
}

/* ---- giving up ---- */

static void give_up_all(struct sluice_consumer *consumer)
{
    struct group *group = consumer->group;
    pthread_mutex_lock(&consumer->mutex);
    uint32_t count = consumer->feed_count;
    ASSERT(count <= group->list_room);
    for (uint32_t i = 0; i < count; i++) {
        group->leaving[i] = consumer->feeds[i];
        group->leaving[i]->refs++;
    }
    while (consumer->feed_count > 0)
        feeds_remove(consumer, consumer->feeds[consumer->feed_count - 1]);
    pthread_mutex_unlock(&consumer->mutex);
    group->starting_count = 0;
    tell_leaving(group, SLUICE_LOST, count);
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = 0; i < count; i++)
        feeds_release(group->leaving[i]);
    pthread_mutex_unlock(&consumer->mutex);
}

/* Before their feeds are gone, so that the application can ask for positions and commit. */
static void revoke(struct sluice_consumer *consumer, uint64_t deadline_ns)
{
    struct group *group = consumer->group;
    uint32_t count = collect_revoked(consumer);
    tell_leaving(group, SLUICE_REVOKED, count);
    if (count > 0 && group->auto_commit_ns > 0)
        commit_revoked(consumer, deadline_ns);
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = 0; i < count; i++)
        feeds_remove(consumer, group->leaving[i]);
    pthread_mutex_unlock(&consumer->mutex);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < group->starting_count; i++) {
        struct group_item item = group->starting[i];
        if (is_target(group, le32_get(item.topic_id), le32_get(item.partition)))
            group->starting[kept++] = item;
    }
    group->starting_count = kept;
}

static uint32_t collect_revoked(struct sluice_consumer *consumer)
{
    struct group *group = consumer->group;
    uint32_t count = 0;
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = 0; i < consumer->feed_count; i++) {
        struct feed *feed = consumer->feeds[i];
        if (!is_target(group, feed->topic_id, feed->partition))
            group->leaving[count++] = feed;
    }
    pthread_mutex_unlock(&consumer->mutex);
    return count;
}

/* All that has changed: it costs no more than those that go. */
static void commit_revoked(struct sluice_consumer *consumer, uint64_t deadline_ns)
{
    struct group_positions positions;
    int status = group_positions(consumer, true, &positions);
    if (status == SLUICE_OK)
        group_commit(consumer, &positions, deadline_ns); // else the next owner reads them again
    group_positions_free(&positions);
}

static int compare_items(const void *a, const void *b)
{
    const struct group_item *x = a, *y = b;
    uint64_t left = (uint64_t)le32_get(x->topic_id) << 32 | le32_get(x->partition);
    uint64_t right = (uint64_t)le32_get(y->topic_id) << 32 | le32_get(y->partition);
    return (left > right) - (left < right);
}

static bool is_target(const struct group *group, uint32_t topic_id, uint32_t partition)
{
    struct group_item key = {.topic_id = le32_make(topic_id), .partition = le32_make(partition)};
    return group->held_count > 0 &&
           bsearch(&key, group->held, group->held_count, sizeof(key), compare_items);
}

/* ---- beginning ---- */

/* From here on the assignment is applied: what was revoked is gone. */
static void note_added(struct sluice_consumer *consumer, uint32_t generation)
{
    struct group *group = consumer->group;
    group->starting_count = 0;
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = 0; i < group->held_count; i++) {
        struct group_item item = group->held[i];
        if (!feeds_find(consumer, le32_get(item.topic_id), le32_get(item.partition)))
            group->starting[group->starting_count++] = item;
    }
    if (group->told >= generation && !group->lost)
        group->applied = generation;
    pthread_mutex_unlock(&consumer->mutex);
    group->start_at_ns = 0;
}

static int start_added(struct sluice_consumer *consumer, uint64_t deadline_ns)
{
    struct group *group = consumer->group;
    uint32_t count = group->starting_count;
    uint64_t *offsets = calloc(2 * count, sizeof(*offsets));
    bool *pending = calloc(count, sizeof(*pending));
    int status = offsets && pending ? SLUICE_OK : SLUICE_E_NO_MEMORY;
    if (status == SLUICE_OK)
        status = find_starts(consumer, deadline_ns, offsets, pending);
    if (status == SLUICE_OK)
        status = group_resolve(consumer, group->starting, count, offsets, pending, offsets + count);
    if (status == SLUICE_OK)
        status = add_started(consumer, offsets, offsets + count, pending);
    group->start_at_ns = clock_mono_ns(consumer->client->clock) + RETRY_NS;
    free(offsets);
    free(pending);
    bool later = sluice_is_retriable(status); // no connection, or the broker is busy
    return later ? SLUICE_OK : status;
}

static int find_starts(struct sluice_consumer *consumer, uint64_t deadline_ns, uint64_t *offsets,
                       bool *pending)
{
    struct group *group = consumer->group;
    return group_fetch(consumer->client, slice_of_text(group->name), group->starting,
                       group->starting_count, deadline_ns, offsets, pending);
}

/* What has begun is told and begins no second time, also when the one behind it finds no memory:
 * its records may be with the application before the rest is tried again. */
static int add_started(struct sluice_consumer *consumer, const uint64_t *offsets,
                       const uint64_t *committed, const bool *pending)
{
    struct group *group = consumer->group;
    uint32_t count = group->starting_count, waiting = 0, added = 0;
    int status = SLUICE_OK;
    int64_t skip_before_ms = group_skip_before(group);
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = 0; i < count; i++) {
        struct group_item item = group->starting[i];
        uint32_t topic_id = le32_get(item.topic_id), partition = le32_get(item.partition);
        const char *topic = group_topic_name(group, topic_id);
        if (!topic)
            continue; // joined with other topics since
        bool fresh = committed[i] == UINT64_MAX;
        if (!pending[i] && status == SLUICE_OK)
            status = feeds_add(consumer, topic, topic_id, partition, offsets[i],
                               fresh ? skip_before_ms : INT64_MIN);
        if (pending[i] || status != SLUICE_OK) {
            group->starting[waiting++] = item;
            continue;
        }
        struct feed *feed = feeds_find(consumer, topic_id, partition);
        feed->committed = committed[i];
        group->names[added++] = (struct sluice_partition){feed->topic, partition};
    }
    pthread_mutex_unlock(&consumer->mutex);
    group->starting_count = waiting;
    client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
    tell(group, SLUICE_ASSIGNED, added);
    return status;
}

/* ---- telling the application: no lock is held ---- */

/* Of the first of group->names. */
static void tell(struct group *group, enum sluice_rebalance what, uint32_t count)
{
    if (group->on_rebalance && count > 0)
        group->on_rebalance(group->context, what, group->names, count);
}

static void tell_leaving(struct group *group, enum sluice_rebalance what, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        group->names[i] =
            (struct sluice_partition){group->leaving[i]->topic, group->leaving[i]->partition};
    tell(group, what, count);
}
