/* The topics a producer sends to: found without a lock, asked for once.
 *
 * Topics hang in hash buckets that only ever grow at their heads, and live as long as the producer;
 * so a reader needs no lock and no reference. The happy path of a send compares one name, in
 * topics_recent(). The first send to a topic waits for METADATA; so does the first after the broker
 * said that it doesn't know the topic or the partition any more, and one to a partition beyond those
 * known. A topic that was deleted and made anew has another id: it gets a new entry in front of the
 * old one, with fresh lanes. */
#include "client/producer_private.h"

#include <stdlib.h>

#include "base/hash.h"

#define REFRESH_TOPICS_MAX 1000u
#define PARTITIONS_MAX 1000000u // of a topic: no broker has more, and each takes memory here

static uint32_t names_bytes(struct sluice_producer *producer, uint32_t *count);
static void refresh(struct sluice_producer *producer);
static void refresh_done(struct call *call, int status, const struct frame *reply);
static void refresh_topic(struct sluice_producer *producer, const struct msg_metadata_topic *known);
static struct topic *find(struct sluice_producer *producer, const char *name, uint32_t bucket);
static int ask(struct sluice_producer *producer, const char *name, uint32_t bucket,
               struct topic **topic);
static int learn(struct sluice_producer *producer, const struct msg_metadata_topic *known,
                 const char *name, uint32_t bucket, struct topic **topic);
static struct topic *topic_new(struct sluice_producer *producer, const char *name,
                               const struct msg_metadata_topic *known);
static bool add_lanes(struct sluice_producer *producer, struct topic *topic, uint32_t count);
static void topic_free(struct topic *topic);
static uint32_t bucket_of(const char *name);
static bool needs_asking(const struct topic *topic, uint32_t partition);

int topics_of_name(struct sluice_producer *producer, const char *name, uint32_t partition,
                   struct topic **topic_out)
{
    uint32_t bucket = bucket_of(name);
    struct topic *topic = find(producer, name, bucket);
    int status = SLUICE_OK;
    if (!topic || needs_asking(topic, partition))
        status = ask(producer, name, bucket, &topic);
    if (status != SLUICE_OK)
        return status;
    /* R1: hands on the topic's members; pairs with A1 in topics_recent(). */
    atomic_store_explicit(topics_recent_slot(producer, name), topic, memory_order_release);
    *topic_out = topic;
    return SLUICE_OK;
}

struct lane *topics_known_lane(struct sluice_producer *producer, const char *name,
                               uint32_t partition)
{
    struct topic *topic = find(producer, name, bucket_of(name));
    struct lanes *lanes = topic ? atomic_load_explicit(&topic->lanes, memory_order_acquire) : NULL;
    return lanes && partition < lanes->count ? lanes->lane[partition] : NULL;
}

void topics_forget_all(struct sluice_producer *producer)
{
    free(producer->refresh_meta);
    for (uint32_t i = 0; i < TOPIC_BUCKET_COUNT; i++) {
        struct topic *topic = atomic_load(&producer->buckets[i]);
        while (topic) {
            struct topic *next = topic->next;
            topic_free(topic);
            topic = next;
        }
    }
}

void topics_each_lane(struct sluice_producer *producer, topics_visit_fn visit, void *context)
{
    for (struct topic *topic = topics_newest(producer); topic; topic = topic->older) {
        struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
        for (uint32_t p = 0; p < lanes->count; p++)
            visit(lanes->lane[p], context);
    }
}

/* ---- looking again ---- */

uint64_t topics_turn(struct sluice_producer *producer)
{
    struct sluice_client *client = producer->client;
    if (client->now_ns < producer->refresh_at_ns || call_is_active(&producer->refresh_call))
        return producer->refresh_at_ns;
    producer->refresh_at_ns = client->now_ns + client->refresh_interval_ns;
    if (connection_is_up(&client->connection))
        refresh(producer);
    return producer->refresh_at_ns;
}

void topics_cancel(struct sluice_producer *producer)
{
    calls_cancel(&producer->refresh_call);
}

static uint32_t names_bytes(struct sluice_producer *producer, uint32_t *count)
{
    uint32_t bytes = 0;
    *count = 0;
    for (uint32_t i = 0; i < TOPIC_BUCKET_COUNT; i++) {
        struct topic *topic = atomic_load_explicit(&producer->buckets[i], memory_order_acquire);
        for (; topic && *count < REFRESH_TOPICS_MAX; topic = topic->next, (*count)++)
            bytes += 2 + (uint32_t)strlen(topic->name);
    }
    return bytes;
}

static void refresh(struct sluice_producer *producer)
{
    uint32_t count;
    uint32_t bytes = 16 + names_bytes(producer, &count);
    free(producer->refresh_meta);
    producer->refresh_meta = malloc(bytes);
    if (count == 0 || !producer->refresh_meta)
        return;
    struct writer w = writer_make(producer->refresh_meta, bytes);
    write_metadata_begin(&w, (uint16_t)count, (struct slice){0});
    for (uint32_t i = 0; i < TOPIC_BUCKET_COUNT; i++) {
        struct topic *topic = atomic_load_explicit(&producer->buckets[i], memory_order_acquire);
        for (; topic && count > 0; topic = topic->next, count--)
            write_text(&w, topic->name);
    }
    if (count > 0 || w.failed)
        return; // a topic came in between: next time
    producer->refresh_call = (struct call){
        .op = OP_METADATA,
        .deadline_ns = producer->client->now_ns + producer->client->refresh_interval_ns,
        .meta = producer->refresh_meta,
        .meta_bytes = writer_length(&w),
        .done = refresh_done,
    };
    list_init(&producer->refresh_call.link);
    calls_start(producer->client, &producer->refresh_call);
}

static void refresh_done(struct call *call, int status, const struct frame *frame)
{
    struct sluice_producer *producer = CONTAINER_OF(call, struct sluice_producer, refresh_call);
    struct msg_metadata_reply reply;
    if (status != SLUICE_OK || read_metadata_reply(frame, &reply) != PE_NONE)
        return; // next time
    for (uint16_t i = 0; i < reply.topic_count; i++) {
        struct msg_metadata_topic known;
        read_metadata_topic(&reply, &known);
        refresh_topic(producer, &known);
    }
}

/* What is gone or made anew is looked up by the next send to it, which can tell its caller. */
static void refresh_topic(struct sluice_producer *producer, const struct msg_metadata_topic *known)
{
    char name[TOPIC_NAME_BYTES_MAX + 1];
    if (known->name.len > TOPIC_NAME_BYTES_MAX)
        return;
    memcpy(name, known->name.bytes, known->name.len);
    name[known->name.len] = '\0';
    struct topic *topic = find(producer, name, bucket_of(name));
    if (!topic)
        return;
    pthread_mutex_lock(&producer->topics_mutex);
    bool same = known->error == PE_NONE && known->topic_id == topic->topic_id &&
                known->partition_count <= PARTITIONS_MAX;
    if (same)
        same = add_lanes(producer, topic, known->partition_count);
    pthread_mutex_unlock(&producer->topics_mutex);
    if (!same)
        atomic_store_explicit(&topic->stale, true, memory_order_relaxed);
}

/* ---- finding and asking ---- */

static struct topic *find(struct sluice_producer *producer, const char *name, uint32_t bucket)
{
    struct topic *topic = atomic_load_explicit(&producer->buckets[bucket], memory_order_acquire);
    while (topic && strcmp(topic->name, name) != 0)
        topic = topic->next;
    return topic;
}

static uint32_t bucket_of(const char *name)
{
    return (uint32_t)(hash_xxh3(name, strlen(name)) % TOPIC_BUCKET_COUNT);
}

static bool needs_asking(const struct topic *topic, uint32_t partition)
{
    struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
    return atomic_load_explicit(&topic->stale, memory_order_relaxed) ||
           (partition >= lanes->count && partition != SLUICE_PARTITION_ANY);
}

static int ask(struct sluice_producer *producer, const char *name, uint32_t bucket,
               struct topic **topic)
{
    const char *why;
    struct slice text = slice_of_text(name);
    if (topic_name_check(text, &why) != PE_NONE) {
        error_set("topic name: %s", why);
        return SLUICE_E_INVALID;
    }
    if (client_is_io_thread(producer->client))
        return SLUICE_E_FULL;
    struct request request;
    int status = request_begin(&request, producer->client, OP_METADATA, text.len + 16);
    if (status == SLUICE_OK) {
        write_metadata_begin(&request.meta, 1, (struct slice){0});
        write_string(&request.meta, text);
        status = request_wait(&request);
    }
    struct msg_metadata_reply reply;
    if (status == SLUICE_OK &&
        (read_metadata_reply(&request.reply, &reply) != PE_NONE || reply.topic_count != 1))
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK) {
        struct msg_metadata_topic known;
        read_metadata_topic(&reply, &known);
        if (known.error == PE_NONE &&
            (known.partition_count == 0 || known.partition_count > PARTITIONS_MAX))
            known.error = PE_UNKNOWN_PARTITION;
        status = known.error != PE_NONE ? error_from_broker(known.error)
                                        : learn(producer, &known, name, bucket, topic);
    }
    request_end(&request);
    return status;
}

static int learn(struct sluice_producer *producer, const struct msg_metadata_topic *known,
                 const char *name, uint32_t bucket, struct topic **topic_out)
{
    pthread_mutex_lock(&producer->topics_mutex);
    struct topic *topic = find(producer, name, bucket);
    bool ok = true;
    if (topic && topic->topic_id == known->topic_id) {
        ok = add_lanes(producer, topic, known->partition_count);
        atomic_store_explicit(&topic->stale, false, memory_order_relaxed);
    } else {
        topic = topic_new(producer, name, known);
        ok = topic != NULL;
        if (topic) {
            topic->next = atomic_load(&producer->buckets[bucket]);
            topic->older = atomic_load(&producer->newest_topic);
            /* R2: publishes the topic; pairs with the loads in find(). */
            atomic_store_explicit(&producer->buckets[bucket], topic, memory_order_release);
            /* R3: publishes it for walks; pairs with A3 in topics_newest(). */
            atomic_store_explicit(&producer->newest_topic, topic, memory_order_release);
        }
    }
    pthread_mutex_unlock(&producer->topics_mutex);
    *topic_out = topic;
    return ok ? SLUICE_OK : SLUICE_E_NO_MEMORY;
}

static struct topic *topic_new(struct sluice_producer *producer, const char *name,
                               const struct msg_metadata_topic *known)
{
    struct topic *topic = calloc(1, sizeof(*topic));
    if (!topic)
        return NULL;
    topic->name = strdup(name);
    topic->topic_id = known->topic_id;
    struct random random;
    random_init(&random, random_seed_system());
    partitioner_init(topic, known->partition_count, &random);
    if (!topic->name || !add_lanes(producer, topic, known->partition_count)) {
        topic_free(topic);
        return NULL;
    }
    return topic;
}

/* Lanes for partitions up to count; never fewer than there are. */
static bool add_lanes(struct sluice_producer *producer, struct topic *topic, uint32_t count)
{
    struct lanes *older = atomic_load_explicit(&topic->lanes, memory_order_relaxed);
    uint32_t have = older ? older->count : 0;
    if (older && count <= have)
        return true;
    struct lanes *lanes = calloc(1, sizeof(*lanes) + count * sizeof(struct lane *));
    if (!lanes)
        return false;
    lanes->older = older;
    for (; lanes->count < count; lanes->count++) {
        uint32_t i = lanes->count;
        lanes->lane[i] = i < have ? older->lane[i] : lane_new(producer, topic, i);
        if (!lanes->lane[i]) {
            for (uint32_t made = have; made < i; made++)
                lane_free(lanes->lane[made]);
            free(lanes);
            return false;
        }
    }
    atomic_store_explicit(&topic->lanes, lanes, memory_order_release);
    return true;
}

static void topic_free(struct topic *topic)
{
    struct lanes *lanes = atomic_load(&topic->lanes);
    for (uint32_t i = 0; lanes && i < lanes->count; i++)
        lane_free(lanes->lane[i]);
    while (lanes) {
        struct lanes *older = lanes->older;
        free(lanes);
        lanes = older;
    }
    free(topic->name);
    free(topic);
}
