/* METADATA: topics with their settings, by name or all in order, as many as fit into the reply. */
#include "broker/shard.h"

static bool write_topic(struct writer *w, const struct disk_topic *topic);
static bool write_unknown(struct writer *w, struct slice name);
static uint16_t write_named(struct shard *shard, struct writer *w, struct msg_metadata *m,
                            bool *complete);
static uint16_t write_all(struct shard *shard, struct writer *w, struct slice after, bool *more);

/* A topic is shown once its partitions are open, and until it is being deleted. */
static bool is_shown(const struct disk_topic *topic)
{
    return topic && !topic->dropped && le64_get(topic->confirmed) > 0;
}

enum handled handle_metadata(struct shard *shard, struct request *request)
{
    ASSERT(shard->topics);
    struct frame frame;
    struct msg_metadata m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_metadata(&frame, &m);
    if (error) {
        shard_reply_error(shard, request, error,
                          "METADATA: names, or all behind one name, not both");
        return HANDLED;
    }
    uint8_t *reply = request->reply->bytes;
    struct writer w =
        writer_make(reply + FRAME_HEADER_SIZE, request->reply->capacity - FRAME_HEADER_SIZE);
    write_metadata_reply_begin(&w, 0, false);
    uint32_t head_length = writer_length(&w);
    bool more = false, complete = true;
    uint16_t count = m.name_count == METADATA_ALL ? write_all(shard, &w, m.after, &more)
                                                  : write_named(shard, &w, &m, &complete);
    if (!complete) {
        shard_reply_error(shard, request, PE_INVALID_ARGUMENT,
                          "METADATA: the reply would exceed %u bytes: name fewer topics",
                          request->reply->capacity);
        return HANDLED;
    }
    struct writer head = writer_make(reply + FRAME_HEADER_SIZE, head_length);
    write_metadata_reply_begin(&head, count, more);
    request->reply_bytes =
        frame_seal(reply, OP_METADATA, FRAME_REPLY, request->correlation, writer_length(&w), 0);
    shard_reply(shard, request);
    return HANDLED;
}

static uint16_t write_all(struct shard *shard, struct writer *w, struct slice after, bool *more)
{
    uint16_t count = 0;
    const struct disk_topic *topic = topics_next(shard->topics, after);
    for (; topic;
         topic = topics_next(shard->topics, (struct slice){topic->name, topic->name_length})) {
        if (!is_shown(topic))
            continue;
        if (count == UINT16_MAX - 1 || !write_topic(w, topic)) {
            *more = true;
            return count;
        }
        count++;
    }
    return count;
}

static uint16_t write_named(struct shard *shard, struct writer *w, struct msg_metadata *m,
                            bool *complete)
{
    for (uint16_t i = 0; i < m->name_count && *complete; i++) {
        struct slice name = read_string(&m->names);
        const struct disk_topic *topic = topics_find(shard->topics, name);
        *complete = is_shown(topic) ? write_topic(w, topic) : write_unknown(w, name);
    }
    return m->name_count;
}

/* Undoes a topic that does not fit. */
static bool written_or_undone(struct writer *w, struct writer before)
{
    if (!w->failed)
        return true;
    *w = before;
    return false;
}

static bool write_topic(struct writer *w, const struct disk_topic *topic)
{
    struct writer before = *w;
    struct msg_metadata_topic m = {
        .error = PE_NONE,
        .name = {topic->name, topic->name_length},
        .topic_id = le32_get(topic->topic_id),
        .partition_count = (uint32_t)le64_get(topic->confirmed),
        .created_ms = le64_get(topic->created_ms),
    };
    write_metadata_topic(w, &m);
    write_settings_begin(w, (uint16_t)topic_setting_count());
    for (uint32_t i = 0; i < topic_setting_count(); i++) {
        char value[48];
        topic_setting_format(&topic->settings, i, value);
        write_setting(w, topic_setting_key(i), value);
    }
    return written_or_undone(w, before);
}

static bool write_unknown(struct writer *w, struct slice name)
{
    struct writer before = *w;
    const char *why;
    uint16_t error = topic_name_check(name, &why);
    struct msg_metadata_topic m = {.error = error ? error : PE_UNKNOWN_TOPIC, .name = name};
    write_metadata_topic(w, &m);
    write_settings_begin(w, 0);
    return written_or_undone(w, before);
}
