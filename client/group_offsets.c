/* A group's offsets, from the application's threads: positions, commits, what is committed.
 *
 * The position of a partition is behind its last record that a poll has returned; so what is
 * committed is right as long as the application has processed that when it commits, or, with
 * automatic commits, when it polls again. Requests are cut so that their answers fit. */
#include "client/group.h"

#include <stdlib.h>

#include "client/consumer_private.h"

#define ITEMS_PER_REQUEST 1024u
#define COMMIT_ROOM (64 + GROUP_NAME_BYTES_MAX + GROUP_MEMBER_BYTES_MAX)
#define PENDING_RETRY_NS (20 * NS_PER_MS)

static int commit_some(struct sluice_consumer *consumer, const struct group_positions *positions,
                       uint32_t first, uint32_t count, uint64_t deadline_ns);
static void write_commit(struct writer *w, const struct group_positions *positions, uint32_t first,
                         uint32_t count);
static int begin_positions(struct sluice_consumer *consumer, struct group_positions *positions,
                           uint32_t room);
static int fetch_some(struct sluice_client *client, struct slice group,
                      const struct group_item *items, uint32_t count, uint64_t deadline_ns,
                      uint64_t *offsets, bool *pending);
static int name_offset(struct sluice_consumer *consumer, const struct sluice_partition_offset *at,
                       struct offset_item *item);
static bool has_group(const struct sluice_consumer *consumer);

int sluice_consumer_commit(struct sluice_consumer *consumer, uint32_t timeout_ms)
{
    struct group_positions positions;
    uint64_t deadline_ns = client_deadline(consumer->client, timeout_ms);
    if (!has_group(consumer))
        return SLUICE_E_INVALID;
    int status = group_positions(consumer, true, &positions);
    if (status == SLUICE_OK)
        status = group_commit(consumer, &positions, deadline_ns);
    group_positions_free(&positions);
    return status;
}

int sluice_consumer_commit_offsets(struct sluice_consumer *consumer,
                                   const struct sluice_partition_offset *offsets, uint32_t count,
                                   uint32_t timeout_ms)
{
    struct group_positions positions;
    uint64_t deadline_ns = client_deadline(consumer->client, timeout_ms);
    if (!has_group(consumer) || (count > 0 && !offsets))
        return SLUICE_E_INVALID;
    pthread_mutex_lock(&consumer->mutex);
    int status = begin_positions(consumer, &positions, count);
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++)
        status = name_offset(consumer, &offsets[i], &positions.items[positions.count++]);
    pthread_mutex_unlock(&consumer->mutex);
    if (status == SLUICE_OK)
        status = group_commit(consumer, &positions, deadline_ns);
    group_positions_free(&positions);
    return status;
}

int sluice_consumer_committed(struct sluice_consumer *consumer, const char *topic,
                              uint32_t partition, uint64_t *offset, uint32_t timeout_ms)
{
    uint64_t deadline_ns = client_deadline(consumer->client, timeout_ms);
    struct sluice_partition_offset at = {.topic = topic, .partition = partition};
    struct offset_item named;
    if (!has_group(consumer) || !topic || !offset)
        return SLUICE_E_INVALID;
    pthread_mutex_lock(&consumer->mutex);
    int status = name_offset(consumer, &at, &named);
    pthread_mutex_unlock(&consumer->mutex);
    struct group_item item = {.topic_id = named.topic_id, .partition = named.partition};
    bool pending = true;
    while (status == SLUICE_OK && pending) {
        status = group_fetch(consumer->client, slice_of_text(consumer->group->name), &item, 1,
                             deadline_ns, offset, &pending);
        if (status == SLUICE_OK && pending &&
            !client_sleep(consumer->client, PENDING_RETRY_NS, deadline_ns))
            status = error_from_broker(PE_OFFSETS_PENDING);
    }
    return status;
}

static bool has_group(const struct sluice_consumer *consumer)
{
    error_set("%s", "");
    if (consumer->group && !client_is_io_thread(consumer->client))
        return true;
    error_set(consumer->group ? "not from a report or log callback" : "the consumer has no group");
    return false;
}

/* Under the mutex: a partition that is read, or any of a topic that was joined. */
static int name_offset(struct sluice_consumer *consumer, const struct sluice_partition_offset *at,
                       struct offset_item *item)
{
    struct feed *feed = at->topic ? feeds_find_by_name(consumer, at->topic, at->partition) : NULL;
    uint32_t topic_id = feed ? feed->topic_id : 0;
    const struct group *group = consumer->group;
    for (uint32_t i = 0; i < group->topic_count && at->topic && !feed; i++) {
        if (strcmp(group->topics[i].name, at->topic) == 0)
            topic_id = group->topics[i].topic_id;
    }
    if (topic_id == 0 || at->offset > INT64_MAX) {
        error_set("%s, partition %u, offset %lu: %s", at->topic ? at->topic : "no topic",
                  at->partition, at->offset,
                  topic_id == 0 ? "not joined or subscribed" : "allowed up to 2^63 - 1");
        return SLUICE_E_INVALID;
    }
    *item = (struct offset_item){.topic_id = le32_make(topic_id),
                                 .partition = le32_make(at->partition),
                                 .offset = le64_make(at->offset)};
    return SLUICE_OK;
}

/* ---- positions ---- */

int group_positions(struct sluice_consumer *consumer, bool only_changed,
                    struct group_positions *positions)
{
    pthread_mutex_lock(&consumer->mutex);
    int status = begin_positions(consumer, positions, consumer->feed_count);
    for (uint32_t i = 0; i < consumer->feed_count && status == SLUICE_OK; i++) {
        struct feed *feed = consumer->feeds[i];
        if (only_changed && feed->position == feed->committed)
            continue;
        positions->items[positions->count++] =
            (struct offset_item){.topic_id = le32_make(feed->topic_id),
                                 .partition = le32_make(feed->partition),
                                 .offset = le64_make(feed->position)};
    }
    pthread_mutex_unlock(&consumer->mutex);
    return status;
}

/* Under the mutex. In the name of the membership; a consumer that has not joined commits in no
 * member's name. */
static int begin_positions(struct sluice_consumer *consumer, struct group_positions *positions,
                           uint32_t room)
{
    const struct group *group = consumer->group;
    *positions = (struct group_positions){.group = slice_of_text(group->name)};
    bool joined = group->topic_count > 0;
    if (joined && (group->member[0] == '\0' || group->lost)) {
        error_set("group %s: the membership is lost", group->name);
        return SLUICE_E_UNKNOWN_MEMBER;
    }
    strcpy(positions->member_text, group->member);
    positions->member = slice_of_text(positions->member_text);
    positions->generation = group->applied;
    positions->items = malloc((room + 1) * sizeof(*positions->items));
    return positions->items ? SLUICE_OK : SLUICE_E_NO_MEMORY;
}

void group_positions_free(struct group_positions *positions)
{
    free(positions->items);
    positions->items = NULL;
}

/* ---- committing ---- */

int group_commit(struct sluice_consumer *consumer, const struct group_positions *positions,
                 uint64_t deadline_ns)
{
    int status = SLUICE_OK;
    uint32_t done = 0;
    while (done < positions->count && status == SLUICE_OK) {
        uint32_t count = (uint32_t)min_u64(positions->count - done, ITEMS_PER_REQUEST);
        status = commit_some(consumer, positions, done, count, deadline_ns);
        done += count;
    }
    return status;
}

static int commit_some(struct sluice_consumer *consumer, const struct group_positions *positions,
                       uint32_t first, uint32_t count, uint64_t deadline_ns)
{
    struct request request;
    uint32_t room = COMMIT_ROOM + count * (uint32_t)sizeof(struct offset_item);
    int status = request_begin(&request, consumer->client, OP_OFFSET_COMMIT, room);
    if (status == SLUICE_OK) {
        write_commit(&request.meta, positions, first, count);
        request.deadline_ns = deadline_ns;
        status = request_wait(&request);
    }
    if (status == SLUICE_OK)
        status = group_note_committed(consumer, &request.reply);
    request_end(&request);
    return status;
}

static void write_commit(struct writer *w, const struct group_positions *positions, uint32_t first,
                         uint32_t count)
{
    struct msg_offset_commit m = {.group = positions->group,
                                  .member = positions->member,
                                  .generation = positions->generation,
                                  .item_count = count};
    write_offset_commit_begin(w, &m);
    write_bytes(w, positions->items + first, count * sizeof(*positions->items));
}

void group_commit_later(struct sluice_consumer *consumer)
{
    struct group *group = consumer->group;
    struct group_positions positions;
    pthread_mutex_lock(&consumer->mutex);
    bool busy = group->commit_out || group->commit_next;
    pthread_mutex_unlock(&consumer->mutex);
    if (busy)
        return;
    int status = group_positions(consumer, true, &positions);
    uint32_t count = (uint32_t)min_u64(positions.count, ITEMS_PER_REQUEST);
    uint32_t room = COMMIT_ROOM + count * (uint32_t)sizeof(struct offset_item);
    uint8_t *meta = status == SLUICE_OK && count > 0 ? malloc(room) : NULL;
    if (meta) {
        struct writer w = writer_make(meta, room);
        write_commit(&w, &positions, 0, count);
        ASSERT(!w.failed);
        pthread_mutex_lock(&consumer->mutex);
        free(group->commit_meta);
        group->commit_meta = meta;
        group->commit_meta_bytes = writer_length(&w);
        group->commit_next = true;
        pthread_mutex_unlock(&consumer->mutex);
        client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
    }
    group_positions_free(&positions);
}

int group_note_committed(struct sluice_consumer *consumer, const struct frame *reply)
{
    struct msg_offset_results m;
    if (read_offset_results(reply, &m) != PE_NONE)
        return SLUICE_E_PROTOCOL;
    uint16_t first_error = PE_NONE;
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = 0; i < m.item_count; i++) {
        const struct offset_result_item *item = &m.items[i];
        uint16_t error = le16_get(item->error);
        struct feed *feed =
            feeds_find(consumer, le32_get(item->topic_id), le32_get(item->partition));
        if (feed && error == PE_NONE)
            feed->committed = le64_get(item->offset);
        if (first_error == PE_NONE)
            first_error = error;
    }
    pthread_mutex_unlock(&consumer->mutex);
    return error_from_broker(first_error);
}

/* ---- what is committed ---- */

int group_fetch(struct sluice_client *client, struct slice group, const struct group_item *items,
                uint32_t count, uint64_t deadline_ns, uint64_t *offsets, bool *pending)
{
    int status = SLUICE_OK;
    uint32_t done = 0;
    while (done < count && status == SLUICE_OK) {
        uint32_t some = (uint32_t)min_u64(count - done, ITEMS_PER_REQUEST);
        status = fetch_some(client, group, items + done, some, deadline_ns, offsets + done,
                            pending + done);
        done += some;
    }
    return status;
}

static int fetch_some(struct sluice_client *client, struct slice group,
                      const struct group_item *items, uint32_t count, uint64_t deadline_ns,
                      uint64_t *offsets, bool *pending)
{
    struct request request;
    struct msg_offset_results reply;
    uint32_t room = COMMIT_ROOM + count * (uint32_t)sizeof(*items);
    int status = request_begin(&request, client, OP_OFFSET_FETCH, room);
    if (status == SLUICE_OK) {
        write_offset_fetch_begin(&request.meta, group, count);
        write_bytes(&request.meta, items, count * sizeof(*items));
        request.deadline_ns = deadline_ns;
        status = request_wait(&request);
    }
    if (status == SLUICE_OK &&
        (read_offset_results(&request.reply, &reply) != PE_NONE || reply.item_count != count))
        status = SLUICE_E_PROTOCOL;
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++) {
        uint16_t error = le16_get(reply.items[i].error);
        offsets[i] = le64_get(reply.items[i].offset);
        pending[i] = error != PE_NONE && proto_error_is_retriable(error);
        if (error != PE_NONE && !pending[i])
            status = error_from_broker(error);
    }
    request_end(&request);
    return status;
}
