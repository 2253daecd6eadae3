/* Messages about topics: names, settings, TOPIC_CREATE, TOPIC_ALTER, TOPIC_DELETE, METADATA.
 *
 * Names and settings arrive as bytes and are only required to be text here; whether a topic may
 * be called so, or a setting has such a value, is answered with an error of its own by whoever
 * knows. */
#include "proto/messages_private.h"

#define SETTING_BYTES_MIN 4 // two empty strings
#define TOPIC_BYTES_MIN 22  // u16, empty name, u32, u32, u64, no settings

static void walk_names(struct reader *r, struct msg_metadata *m, bool *allowed);
static void walk_topic(struct reader *r, struct msg_metadata_topic *topic, bool *allowed);
static bool is_name_byte(uint8_t byte);

/* ---- names ---- */

uint16_t topic_name_check(struct slice name, const char **why)
{
    *why = NULL;
    if (name.len == 0)
        *why = "the name is empty; 1 to 249 bytes are allowed";
    else if (name.len > TOPIC_NAME_BYTES_MAX)
        *why = "the name is too long; 1 to 249 bytes are allowed";
    else if (slice_equals(name, slice_of_text(".")) || slice_equals(name, slice_of_text("..")))
        *why = "the names \".\" and \"..\" are not allowed";
    for (uint32_t i = 0; i < name.len && !*why; i++) {
        if (!is_name_byte(name.bytes[i]))
            *why = "only the bytes A-Z a-z 0-9 . _ - are allowed in a name";
    }
    return *why ? PE_INVALID_TOPIC_NAME : PE_NONE;
}

static bool is_name_byte(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
}

/* ---- settings ---- */

void write_settings_begin(struct writer *w, uint16_t count)
{
    write_u16(w, count);
}

void write_setting(struct writer *w, const char *key, const char *value)
{
    write_text(w, key);
    write_text(w, value);
}

void walk_settings(struct reader *r, struct msg_settings *m, bool *allowed)
{
    m->count = read_u16(r);
    const uint8_t *first = r->at;
    read_count(r, m->count, SETTING_BYTES_MIN);
    for (uint32_t i = 0; i < m->count && !r->failed; i++) {
        struct slice key = read_string(r);
        struct slice value = read_string(r);
        *allowed = *allowed && key.len > 0 && slice_is_utf8(key) && slice_is_utf8(value);
    }
    m->items = reader_between(first, r);
}

void read_setting(struct msg_settings *m, struct msg_setting *setting)
{
    setting->key = read_string(&m->items);
    setting->value = read_string(&m->items);
}

/* ---- TOPIC_CREATE, TOPIC_ALTER, TOPIC_DELETE ---- */

void write_topic_change(struct writer *w, struct slice name, uint32_t partition_count)
{
    write_string(w, name);
    write_u32(w, partition_count);
}

uint16_t read_topic_change(const struct frame *frame, struct msg_topic_change *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->name = read_string(&r);
    m->partition_count = read_u32(&r);
    walk_settings(&r, &m->settings, &allowed);
    return meta_result(&r, allowed);
}

void write_topic_delete(struct writer *w, struct slice name)
{
    write_string(w, name);
}

uint16_t read_topic_delete(const struct frame *frame, struct slice *name)
{
    struct reader r = meta_reader(frame);
    *name = read_string(&r);
    return meta_result(&r, true);
}

void write_topic_reply(struct writer *w, const struct msg_topic_reply *m)
{
    write_u32(w, m->topic_id);
}

uint16_t read_topic_reply(const struct frame *frame, struct msg_topic_reply *m)
{
    struct reader r = meta_reader(frame);
    m->topic_id = read_u32(&r);
    return meta_result(&r, true);
}

/* ---- METADATA ---- */

void write_metadata_begin(struct writer *w, uint16_t name_count, struct slice after)
{
    write_u16(w, name_count);
    write_string(w, after);
}

uint16_t read_metadata(const struct frame *frame, struct msg_metadata *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    m->name_count = read_u16(&r);
    m->after = read_string(&r);
    walk_names(&r, m, &allowed);
    return meta_result(&r, allowed);
}

/* `after` is a place in the list of all topics; beside a list of names it would mean nothing. */
static void walk_names(struct reader *r, struct msg_metadata *m, bool *allowed)
{
    uint32_t count = m->name_count == METADATA_ALL ? 0 : m->name_count;
    if (m->name_count != METADATA_ALL && m->after.len > 0)
        *allowed = false;
    const uint8_t *first = r->at;
    read_count(r, count, sizeof(uint16_t));
    for (uint32_t i = 0; i < count && !r->failed; i++)
        read_string(r);
    m->names = reader_between(first, r);
}

void write_metadata_reply_begin(struct writer *w, uint16_t topic_count, bool more)
{
    write_u16(w, topic_count);
    write_u8(w, more);
    write_u8(w, 0);
}

void write_metadata_topic(struct writer *w, const struct msg_metadata_topic *m)
{
    write_u16(w, m->error);
    write_string(w, m->name);
    write_u32(w, m->topic_id);
    write_u32(w, m->partition_count);
    write_u64(w, m->created_ms);
}

uint16_t read_metadata_reply(const struct frame *frame, struct msg_metadata_reply *m)
{
    struct reader r = meta_reader(frame);
    m->topic_count = read_u16(&r);
    uint8_t more = read_u8(&r);
    uint8_t reserved = read_u8(&r);
    m->more = more == 1;
    bool allowed = more <= 1 && reserved == 0;
    const uint8_t *first = r.at;
    read_count(&r, m->topic_count, TOPIC_BYTES_MIN);
    for (uint32_t i = 0; i < m->topic_count && !r.failed; i++)
        walk_topic(&r, &(struct msg_metadata_topic){0}, &allowed);
    m->topics = reader_between(first, &r);
    return meta_result(&r, allowed);
}

void read_metadata_topic(struct msg_metadata_reply *m, struct msg_metadata_topic *topic)
{
    bool allowed = true;
    walk_topic(&m->topics, topic, &allowed);
}

static void walk_topic(struct reader *r, struct msg_metadata_topic *topic, bool *allowed)
{
    topic->error = read_u16(r);
    topic->name = read_string(r);
    topic->topic_id = read_u32(r);
    topic->partition_count = read_u32(r);
    topic->created_ms = read_u64(r);
    walk_settings(r, &topic->settings, allowed);
}
