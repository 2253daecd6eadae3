/* TOPIC_CREATE, TOPIC_ALTER, TOPIC_DELETE: checks the request, logs the intent, and leaves the rest to a topic
 * job (topic_job.h), which answers when every owner's log has it. */
#include <stdio.h>

#include "broker/topic_job.h"

static uint16_t make_topic(struct shard *shard, struct request *request, struct disk_topic *topic);
static uint16_t alter_topic(struct shard *shard, struct request *request, struct disk_topic *topic);
static uint16_t drop_topic(struct shard *shard, struct request *request, struct disk_topic *topic);
static uint16_t apply_settings(struct request *request, struct msg_topic_change *m,
                               struct disk_topic *topic);

#define SAY(request, ...) snprintf((request)->text, sizeof((request)->text), __VA_ARGS__)

enum handled handle_topic(struct shard *shard, struct request *request)
{
    struct disk_topic topic = {0};
    uint16_t error;
    switch (request->op) {
    case OP_TOPIC_CREATE:
        error = make_topic(shard, request, &topic);
        break;
    case OP_TOPIC_ALTER:
        error = alter_topic(shard, request, &topic);
        break;
    default:
        error = drop_topic(shard, request, &topic);
        break;
    }
    if (!error && topic_jobs_is_busy(shard->topic_jobs, le32_get(topic.topic_id))) {
        error = PE_OVERLOADED;
        SAY(request, "another change of this topic is under way");
    }
    if (!error && topic_jobs_is_full(shard->topic_jobs)) {
        error = PE_OVERLOADED;
        SAY(request, "%u changes of topics are under way", TOPIC_JOBS_MAX);
    }
    if (!error) {
        struct wal_entry entry = {.type = ENTRY_TOPIC,
                                  .topic_id = le32_get(topic.topic_id),
                                  .pieces = {{&topic, sizeof(topic)}},
                                  .piece_count = 1};
        struct wal_view view;
        int status = store_append(shard->store, &entry, &view, NULL);
        if (status == E_FULL)
            return BLOCKED;
        error = status ? proto_error_from_status(status) : PE_NONE;
    }
    if (error)
        return shard_refuse(shard, request, error);
    topic_job_begin(shard->topic_jobs, shard, le32_get(topic.topic_id), request);
    return HANDLED;
}

static uint16_t read_change(struct request *request, struct msg_topic_change *m)
{
    struct frame frame;
    const char *why = "";
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_topic_change(&frame, m);
    if (error == PE_INVALID_ARGUMENT)
        why = "settings: keys and values are text, and no key is empty";
    error = error ? error : topic_name_check(m->name, &why);
    if (error)
        SAY(request, "%s", why);
    return error;
}

static uint16_t check_partition_count(struct shard *shard, struct request *request, uint64_t count,
                                      uint64_t count_now)
{
    if (count < 1 || count > TOPIC_PARTITIONS_MAX || count < count_now) {
        SAY(request, "%llu partitions, allowed %llu..%u", (unsigned long long)count,
            (unsigned long long)max_u64(1, count_now), TOPIC_PARTITIONS_MAX);
        return PE_INVALID_PARTITION_COUNT;
    }
    return PE_NONE;
}

static uint16_t make_topic(struct shard *shard, struct request *request, struct disk_topic *topic)
{
    struct msg_topic_change m;
    uint16_t error = read_change(request, &m);
    if (error)
        return error;
    const struct disk_topic *existing = topics_find(shard->topics, m.name);
    if (existing && !existing->dropped)
        return PE_TOPIC_EXISTS;
    if (existing) {
        SAY(request, "the topic is being deleted: try again");
        return PE_OVERLOADED;
    }
    if (topics_count(shard->topics) == TOPICS_MAX) {
        SAY(request, "at most %u topics", TOPICS_MAX);
        return PE_LIMIT_REACHED;
    }
    error = check_partition_count(shard, request, m.partition_count, 1);
    if (error)
        return error;
    topic->topic_id = le32_make((uint32_t)shard_scalar(shard, SCALAR_TOPIC_ID_NEXT));
    topic->partition_count = le32_make(m.partition_count);
    topic->created_ms = le64_make(shard->now_wall_ms);
    topic->settings = shard->topic_defaults;
    topic->settings.revision = le64_make(1);
    topic->name_length = (uint8_t)m.name.len;
    memcpy(topic->name, m.name.bytes, m.name.len);
    return apply_settings(request, &m, topic);
}

static uint16_t find_topic(struct shard *shard, struct request *request, struct slice name,
                           struct disk_topic *topic)
{
    const struct disk_topic *existing = topics_find(shard->topics, name);
    if (!existing || existing->dropped) {
        SAY(request, "\"%.*s\": no such topic", (int)min_u64(name.len, 48),
            (const char *)name.bytes);
        return PE_UNKNOWN_TOPIC;
    }
    *topic = *existing;
    return PE_NONE;
}

static uint16_t alter_topic(struct shard *shard, struct request *request, struct disk_topic *topic)
{
    struct msg_topic_change m;
    uint16_t error = read_change(request, &m);
    if (!error)
        error = find_topic(shard, request, m.name, topic);
    if (!error && m.partition_count != 0)
        error = check_partition_count(shard, request, m.partition_count,
                                      le32_get(topic->partition_count));
    if (error)
        return error;
    if (m.partition_count != 0)
        topic->partition_count = le32_make(m.partition_count);
    topic->settings.revision = le64_make(le64_get(topic->settings.revision) + 1);
    topic->settled = 0;
    return apply_settings(request, &m, topic);
}

static uint16_t drop_topic(struct shard *shard, struct request *request, struct disk_topic *topic)
{
    struct frame frame;
    struct slice name;
    const char *why = "";
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_topic_delete(&frame, &name);
    error = error ? error : topic_name_check(name, &why);
    if (error) {
        SAY(request, "%s", why);
        return error;
    }
    error = find_topic(shard, request, name, topic);
    topic->dropped = 1;
    return error;
}

static uint16_t apply_settings(struct request *request, struct msg_topic_change *m,
                               struct disk_topic *topic)
{
    for (uint16_t i = 0; i < m->settings.count; i++) {
        struct msg_setting setting;
        read_setting(&m->settings, &setting);
        uint16_t error =
            topic_setting_apply(&topic->settings, setting.key, setting.value, request->text);
        if (error)
            return error;
    }
    return PE_NONE;
}
