/* The consumer's public functions, but for polling (consumer_poll.c).
 *
 * Subscribing asks the broker where the start lies before it answers the caller: so errors come at
 * once, and the position is a number from the beginning, which a reconnect can go on from even when
 * nothing was received yet. The I/O thread then brings the subscription in line (consumer_wire.c).
 */
#include <stdlib.h>

#include "client/consumer_private.h"

#define BUFFER_BYTES_DEFAULT (16 * MIB)
#define BUFFER_BYTES_MIN (5 * MIB) // holds the largest batch, 4 MiB, with room to go on
#define PARTITIONS_PER_REQUEST 2048u

#define JOIN_TOPICS_MAX 256u

struct start {
    enum sluice_start kind;
    uint64_t value;
};

static int learn_topics(struct sluice_consumer *consumer, const char *const *topics,
                        uint32_t count);
static int wait_until_joined(struct sluice_consumer *consumer);
static int check_assigns_itself(const struct sluice_consumer *consumer);
static int find_topic(struct sluice_client *client, const char *name, uint32_t partition,
                      uint32_t *topic_id, uint32_t *count);
static int resolve(struct sluice_client *client, uint32_t topic_id, uint32_t first, uint32_t count,
                   struct start start, uint64_t *offsets);
static int resolve_some(struct sluice_client *client, uint32_t topic_id, uint32_t first,
                        uint32_t count, struct start start, uint64_t *offsets);
static int read_offset(const struct offsets_item *items, struct start start, uint64_t *offset);
static int64_t skip_before(struct start start);
static int with_feed(struct sluice_consumer *consumer, const char *topic, uint32_t partition,
                     void (*act)(struct sluice_consumer *, struct feed *));
static void act_remove(struct sluice_consumer *consumer, struct feed *feed);
static void act_pause(struct sluice_consumer *consumer, struct feed *feed);
static void act_resume(struct sluice_consumer *consumer, struct feed *feed);
static void tell_io(struct sluice_consumer *consumer);

int sluice_consumer_new(struct sluice_client *client, const struct sluice_consumer_options *options,
                        struct sluice_consumer **consumer_out)
{
    if (!client || !options || !consumer_out || options->size < sizeof(size_t))
        return SLUICE_E_INVALID;
    struct sluice_consumer_options copy = {0};
    memcpy(&copy, options, options->size < sizeof(copy) ? options->size : sizeof(copy));
    uint64_t buffer_bytes = copy.buffer_bytes ? copy.buffer_bytes : BUFFER_BYTES_DEFAULT;
    if (buffer_bytes < BUFFER_BYTES_MIN || buffer_bytes > 64 * GIB) {
        error_set("buffer_bytes: %lu, allowed %lu..%lu", buffer_bytes, BUFFER_BYTES_MIN, 64 * GIB);
        return SLUICE_E_INVALID;
    }
    struct sluice_consumer *consumer = calloc(1, sizeof(*consumer));
    if (!consumer)
        return SLUICE_E_NO_MEMORY;
    consumer->client = client;
    consumer->buffer_bytes = buffer_bytes;
    int status = copy.group ? group_new(consumer, &copy) : SLUICE_OK;
    if (status != SLUICE_OK) {
        free(consumer);
        return status;
    }
    if (blocks_init(&consumer->blocks, 2 * buffer_bytes) < 0) { // blocks are powers of two
        group_free(consumer->group);
        free(consumer);
        return SLUICE_E_NO_MEMORY;
    }
    pthread_mutex_init(&consumer->mutex, NULL);
    client_cond_init(&consumer->arrived);
    list_init(&consumer->ready);
    list_init(&consumer->used);
    list_init(&consumer->link);
    list_init(&consumer->subscribe_call.link);
    list_init(&consumer->unsubscribe_call.link);
    client_command(client, COMMAND_CONSUMER_ADD, consumer);
    *consumer_out = consumer;
    return SLUICE_OK;
}

int sluice_consumer_subscribe(struct sluice_consumer *consumer, const char *topic,
                              uint32_t partition, enum sluice_start start_kind, uint64_t value)
{
    struct start start = {start_kind, value};
    uint32_t topic_id, partition_count;
    if (!topic || start_kind < 0 || start_kind > SLUICE_START_TIMESTAMP)
        return SLUICE_E_INVALID;
    int status = check_assigns_itself(consumer);
    if (status == SLUICE_OK)
        status = find_topic(consumer->client, topic, partition, &topic_id, &partition_count);
    if (status != SLUICE_OK)
        return status;
    uint32_t first = partition == SLUICE_PARTITION_ANY ? 0 : partition;
    uint32_t count = partition == SLUICE_PARTITION_ANY ? partition_count : 1;
    uint64_t *offsets = malloc(count * sizeof(*offsets));
    if (!offsets)
        return SLUICE_E_NO_MEMORY;
    status = resolve(consumer->client, topic_id, first, count, start, offsets);
    pthread_mutex_lock(&consumer->mutex);
    if (status == SLUICE_OK && consumer->feed_count + count > FETCH_ITEM_COUNT_MAX) {
        error_set("more than %u partitions in one consumer", FETCH_ITEM_COUNT_MAX);
        status = SLUICE_E_INVALID;
    }
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++)
        status = feeds_add(consumer, topic, topic_id, first + i, offsets[i], skip_before(start));
    pthread_mutex_unlock(&consumer->mutex);
    free(offsets);
    tell_io(consumer);
    return status;
}

int sluice_consumer_join(struct sluice_consumer *consumer, const char *const *topics,
                         uint32_t count)
{
    error_set("%s", "");
    if (!consumer->group || !topics || count == 0 || count > JOIN_TOPICS_MAX) {
        error_set(consumer->group ? "1 to %u topics" : "the consumer has no group",
                  JOIN_TOPICS_MAX);
        return SLUICE_E_INVALID;
    }
    int status = learn_topics(consumer, topics, count);
    tell_io(consumer);
    return status == SLUICE_OK ? wait_until_joined(consumer) : status;
}

int sluice_consumer_unsubscribe(struct sluice_consumer *consumer, const char *topic,
                                uint32_t partition)
{
    int status = check_assigns_itself(consumer);
    return status == SLUICE_OK ? with_feed(consumer, topic, partition, act_remove) : status;
}

int sluice_consumer_seek(struct sluice_consumer *consumer, const char *topic, uint32_t partition,
                         enum sluice_start start_kind, uint64_t value)
{
    struct start start = {start_kind, value};
    if (!topic || start_kind < 0 || start_kind > SLUICE_START_TIMESTAMP)
        return SLUICE_E_INVALID;
    pthread_mutex_lock(&consumer->mutex);
    struct feed *feed = feeds_find_by_name(consumer, topic, partition);
    uint32_t topic_id = feed ? feed->topic_id : 0;
    pthread_mutex_unlock(&consumer->mutex);
    if (!feed) {
        error_set("%s, partition %u: not subscribed", topic, partition);
        return SLUICE_E_INVALID;
    }
    uint64_t offset;
    int status = resolve(consumer->client, topic_id, partition, 1, start, &offset);
    if (status != SLUICE_OK)
        return status;
    pthread_mutex_lock(&consumer->mutex);
    feed = feeds_find(consumer, topic_id, partition);
    if (feed)
        feeds_move(consumer, feed, offset, skip_before(start));
    pthread_mutex_unlock(&consumer->mutex);
    tell_io(consumer);
    return feed ? SLUICE_OK : SLUICE_E_INVALID;
}

int sluice_consumer_pause(struct sluice_consumer *consumer, const char *topic, uint32_t partition)
{
    return with_feed(consumer, topic, partition, act_pause);
}

int sluice_consumer_resume(struct sluice_consumer *consumer, const char *topic, uint32_t partition)
{
    return with_feed(consumer, topic, partition, act_resume);
}

int sluice_consumer_position(struct sluice_consumer *consumer, const char *topic,
                             uint32_t partition, uint64_t *position, uint64_t *visible_end)
{
    pthread_mutex_lock(&consumer->mutex);
    struct feed *feed = feeds_find_by_name(consumer, topic, partition);
    if (feed && position)
        *position = feed->position;
    if (feed && visible_end)
        *visible_end = feed->visible_end;
    pthread_mutex_unlock(&consumer->mutex);
    return feed ? SLUICE_OK : SLUICE_E_INVALID;
}

int sluice_offset(struct sluice_client *client, const char *topic, uint32_t partition,
                  enum sluice_start start_kind, uint64_t value, uint64_t *offset)
{
    struct start start = {start_kind, value};
    uint32_t topic_id, count;
    if (!topic || !offset || partition == SLUICE_PARTITION_ANY || start_kind < 0 ||
        start_kind > SLUICE_START_TIMESTAMP)
        return SLUICE_E_INVALID;
    int status = find_topic(client, topic, partition, &topic_id, &count);
    return status == SLUICE_OK ? resolve(client, topic_id, partition, 1, start, offset) : status;
}

void sluice_consumer_free(struct sluice_consumer *consumer)
{
    if (!consumer)
        return;
    ASSERT(!client_is_io_thread(consumer->client));
    if (consumer->group)
        group_abandon(consumer);
    client_command(consumer->client, COMMAND_CONSUMER_REMOVE, consumer);
    pthread_mutex_lock(&consumer->mutex);
    while (!consumer->removed)
        client_cond_wait(&consumer->arrived, &consumer->mutex, UINT64_MAX);
    consumer_poll_reset(consumer);
    while (consumer->feed_count > 0)
        feeds_remove(consumer, consumer->feeds[consumer->feed_count - 1]);
    pthread_mutex_unlock(&consumer->mutex);
    blocks_deinit(&consumer->blocks);
    pthread_cond_destroy(&consumer->arrived);
    pthread_mutex_destroy(&consumer->mutex);
    free(consumer->feeds);
    free(consumer->scratch);
    free(consumer->subscribe_meta);
    group_free(consumer->group);
    free(consumer);
}

/* ---- asking the broker ---- */

static int find_topic(struct sluice_client *client, const char *name, uint32_t partition,
                      uint32_t *topic_id, uint32_t *count)
{
    struct sluice_topic *topic;
    uint32_t found;
    int status = sluice_topic_list(client, &name, 1, &topic, &found);
    if (status != SLUICE_OK)
        return status;
    *topic_id = topic->topic_id;
    *count = topic->partition_count;
    sluice_topics_free(topic, found);
    if (partition != SLUICE_PARTITION_ANY && partition >= *count) {
        error_set("partition %u, allowed 0..%u", partition, *count - 1);
        return error_from_broker(PE_UNKNOWN_PARTITION);
    }
    return SLUICE_OK;
}

static int resolve(struct sluice_client *client, uint32_t topic_id, uint32_t first, uint32_t count,
                   struct start start, uint64_t *offsets)
{
    int status = SLUICE_OK;
    for (uint32_t done = 0; done < count && status == SLUICE_OK; done += PARTITIONS_PER_REQUEST) {
        uint32_t some = (uint32_t)min_u64(count - done, PARTITIONS_PER_REQUEST);
        status = resolve_some(client, topic_id, first + done, some, start, offsets + done);
    }
    return status;
}

/* Three questions per partition: where it begins, where it ends, and what was asked for. */
static int resolve_some(struct sluice_client *client, uint32_t topic_id, uint32_t first,
                        uint32_t count, struct start start, uint64_t *offsets)
{
    struct request request;
    uint32_t room = 16 + 3 * count * (uint32_t)sizeof(struct fetch_item);
    int status = request_begin(&request, client, OP_OFFSETS, room);
    if (status == SLUICE_OK) {
        uint8_t third = start.kind == SLUICE_START_TIMESTAMP ? START_TIMESTAMP : START_BEGINNING;
        uint64_t value = start.kind == SLUICE_START_TIMESTAMP ? start.value : 0;
        write_offsets_begin(&request.meta, 3 * count);
        for (uint32_t p = first; p < first + count; p++) {
            write_fetch_item(&request.meta, topic_id, p, START_BEGINNING, 0, 0);
            write_fetch_item(&request.meta, topic_id, p, START_END, 0, 0);
            write_fetch_item(&request.meta, topic_id, p, third, 0, value);
        }
        status = request_wait(&request);
    }
    struct msg_offsets_reply reply;
    if (status == SLUICE_OK &&
        (read_offsets_reply(&request.reply, &reply) != PE_NONE || reply.item_count != 3 * count))
        status = SLUICE_E_PROTOCOL;
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++)
        status = read_offset(&reply.items[3 * i], start, &offsets[i]);
    request_end(&request);
    return status;
}

static int read_offset(const struct offsets_item *items, struct start start, uint64_t *offset)
{
    for (int i = 0; i < 3; i++) {
        if (le16_get(items[i].error) != PE_NONE)
            return error_from_broker(le16_get(items[i].error));
    }
    uint64_t beginning = le64_get(items[0].offset);
    uint64_t end = le64_get(items[1].offset);
    switch (start.kind) {
    case SLUICE_START_BEGINNING:
        *offset = beginning;
        break;
    case SLUICE_START_END:
        *offset = end;
        break;
    case SLUICE_START_TIMESTAMP:
        *offset = le64_get(items[2].offset);
        break;
    case SLUICE_START_OFFSET:
        *offset = start.value;
        if (start.value < beginning || start.value > end) {
            error_set("offset %lu, partition %u has %lu..%lu", start.value,
                      le32_get(items[0].partition), beginning, end);
            return error_from_broker(PE_OFFSET_OUT_OF_RANGE);
        }
    }
    return SLUICE_OK;
}

int consumer_resolve(struct sluice_client *client, uint32_t topic_id, uint32_t first,
                     uint32_t count, enum sluice_start start, uint64_t value, uint64_t *offsets)
{
    return resolve(client, topic_id, first, count, (struct start){start, value}, offsets);
}

static int64_t skip_before(struct start start)
{
    if (start.kind != SLUICE_START_TIMESTAMP)
        return INT64_MIN;
    return start.value > INT64_MAX ? INT64_MAX : (int64_t)start.value;
}

/* ---- joining ---- */

static int learn_topics(struct sluice_consumer *consumer, const char *const *topics, uint32_t count)
{
    struct group *group = consumer->group;
    struct sluice_topic *known;
    uint32_t known_count;
    int status = sluice_topic_list(consumer->client, topics, count, &known, &known_count);
    if (status != SLUICE_OK)
        return status;
    struct group_topic *learnt = calloc(known_count, sizeof(*learnt));
    for (uint32_t i = 0; i < known_count && learnt; i++)
        learnt[i] = (struct group_topic){TAKE(known[i].name), known[i].topic_id};
    sluice_topics_free(known, known_count);
    if (!learnt)
        return SLUICE_E_NO_MEMORY;
    pthread_mutex_lock(&consumer->mutex);
    bool assigns_itself = group->topic_count == 0 && consumer->feed_count > 0;
    if (assigns_itself) {
        error_set("the consumer has subscribed: it can't join, too");
        status = SLUICE_E_INVALID;
    } else {
        struct group_topic *before = group->topics;
        uint32_t before_count = group->topic_count;
        group->topics = learnt;
        group->topic_count = known_count;
        learnt = before;
        known_count = before_count;
        group->wanted = true;
        group->rejoin = group->member[0] != '\0';
        group->failure = SLUICE_OK;
        group->polled_ns = clock_mono_ns(consumer->client->clock);
    }
    pthread_mutex_unlock(&consumer->mutex);
    for (uint32_t i = 0; i < known_count; i++)
        free(learnt[i].name);
    free(learnt);
    return status;
}

/* Reading begins later, in a poll; but that joining makes no sense is known now. */
static int wait_until_joined(struct sluice_consumer *consumer)
{
    struct sluice_client *client = consumer->client;
    struct group *group = consumer->group;
    uint64_t deadline_ns = client_deadline(client, client->request_timeout_ms);
    bool in_time = true;
    pthread_mutex_lock(&consumer->mutex);
    while (group->member[0] == '\0' && group->failure == SLUICE_OK && in_time)
        in_time = client_cond_wait(&consumer->arrived, &consumer->mutex, deadline_ns);
    int status = group->failure;
    if (status == SLUICE_OK && group->member[0] == '\0')
        status = SLUICE_E_TIMED_OUT;
    if (status != SLUICE_OK)
        error_set("group %s: %s", group->name,
                  group->failure ? group->failure_text : "no answer in time");
    group->failure = SLUICE_OK;
    pthread_mutex_unlock(&consumer->mutex);
    return status;
}

static int check_assigns_itself(const struct sluice_consumer *consumer)
{
    if (!consumer->group || consumer->group->topic_count == 0)
        return SLUICE_OK;
    error_set("the consumer has joined its group, which assigns the partitions");
    return SLUICE_E_INVALID;
}

/* ---- acting on feeds ---- */

static int with_feed(struct sluice_consumer *consumer, const char *topic, uint32_t partition,
                     void (*act)(struct sluice_consumer *, struct feed *))
{
    if (!topic)
        return SLUICE_E_INVALID;
    bool found = false;
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = consumer->feed_count; i > 0; i--) { // backwards: acting may remove
        struct feed *feed = consumer->feeds[i - 1];
        bool wanted = partition == SLUICE_PARTITION_ANY || feed->partition == partition;
        if (!wanted || strcmp(feed->topic, topic) != 0)
            continue;
        act(consumer, feed);
        found = true;
    }
    pthread_mutex_unlock(&consumer->mutex);
    tell_io(consumer);
    if (!found)
        error_set("%s, partition %u: not subscribed", topic, partition);
    return found ? SLUICE_OK : SLUICE_E_INVALID;
}

static void act_remove(struct sluice_consumer *consumer, struct feed *feed)
{
    feeds_remove(consumer, feed);
}

static void act_pause(struct sluice_consumer *consumer, struct feed *feed)
{
    feeds_pause(consumer, feed, true);
}

static void act_resume(struct sluice_consumer *consumer, struct feed *feed)
{
    feeds_pause(consumer, feed, false);
}

static void tell_io(struct sluice_consumer *consumer)
{
    client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
}
