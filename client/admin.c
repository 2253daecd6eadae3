/* Administration: topics and the broker's state. Each function builds one request, waits, and
 * copies the reply into memory of the caller's; listing all topics asks page by page. Failures are
 * the broker's, the deadline's, or want of memory, and leave nothing allocated. */
#include <stdlib.h>

#include "client/admin_private.h"
#include "client/calls.h"
#include "client/client_private.h"
#include "proto/messages.h"

#define SETTING_COUNT_MAX 1000u
#define NAME_COUNT_MAX 1000u

static int change_topic(struct sluice_client *client, enum op op, const char *name,
                        uint32_t partition_count, const struct sluice_setting *settings,
                        uint32_t setting_count);
static int check_topic_name(const char *name);
static size_t settings_bytes(const struct sluice_setting *settings, uint32_t count);
static int list_page(struct sluice_client *client, const char *const *names, uint32_t name_count,
                     const char *after, struct sluice_topic **topics, uint32_t *count, bool *more);
static int take_topics(struct msg_metadata_reply *reply, struct sluice_topic **topics,
                       uint32_t *count);
static int copy_topic(struct msg_metadata_topic *known, struct sluice_topic *topic);
static int copy_status(struct msg_status_reply *reply, struct sluice_broker_status *status);

int sluice_topic_create(struct sluice_client *client, const char *name, uint32_t partition_count,
                        const struct sluice_setting *settings, uint32_t setting_count)
{
    return change_topic(client, OP_TOPIC_CREATE, name, partition_count, settings, setting_count);
}

int sluice_topic_alter(struct sluice_client *client, const char *name, uint32_t partition_count,
                       const struct sluice_setting *settings, uint32_t setting_count)
{
    return change_topic(client, OP_TOPIC_ALTER, name, partition_count, settings, setting_count);
}

int sluice_topic_delete(struct sluice_client *client, const char *name)
{
    int status = check_topic_name(name);
    if (status != SLUICE_OK)
        return status;
    struct request request;
    status = request_begin(&request, client, OP_TOPIC_DELETE, (uint32_t)strlen(name) + 16);
    if (status == SLUICE_OK) {
        request.call.repeatable = false; // the repetition would find no topic
        write_topic_delete(&request.meta, slice_of_text(name));
        status = request_wait(&request);
    }
    request_end(&request);
    return status;
}

int sluice_topic_list(struct sluice_client *client, const char *const *names, uint32_t name_count,
                      struct sluice_topic **topics_out, uint32_t *count_out)
{
    struct sluice_topic *topics = NULL;
    uint32_t count = 0;
    bool more = true;
    int status = SLUICE_OK;
    for (uint32_t i = 0; names && i < name_count && status == SLUICE_OK; i++)
        status = check_topic_name(names[i]);
    if (names && name_count > NAME_COUNT_MAX)
        status = SLUICE_E_INVALID;
    while (status == SLUICE_OK && more) {
        const char *after = count > 0 ? topics[count - 1].name : "";
        status = list_page(client, names, name_count, after, &topics, &count, &more);
        more = more && !names;
    }
    if (status != SLUICE_OK) {
        sluice_topics_free(topics, count);
        return status;
    }
    *topics_out = topics;
    *count_out = count;
    return SLUICE_OK;
}

void sluice_topics_free(struct sluice_topic *topics, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t s = 0; s < topics[i].setting_count; s++) {
            free((char *)topics[i].settings[s].key);
            free((char *)topics[i].settings[s].value);
        }
        free(topics[i].settings);
        free(topics[i].name);
    }
    free(topics);
}

int sluice_status(struct sluice_client *client, struct sluice_broker_status *status)
{
    struct request request;
    struct msg_status_reply reply;
    memset(status, 0, sizeof(*status));
    int result = request_begin(&request, client, OP_STATUS, 0);
    if (result == SLUICE_OK)
        result = request_wait(&request);
    if (result == SLUICE_OK && read_status_reply(&request.reply, &reply) != PE_NONE)
        result = SLUICE_E_PROTOCOL;
    if (result == SLUICE_OK)
        result = copy_status(&reply, status);
    if (result != SLUICE_OK)
        sluice_status_free(status);
    request_end(&request);
    return result;
}

void sluice_status_free(struct sluice_broker_status *status)
{
    for (uint32_t i = 0; i < status->value_count; i++)
        free(status->values[i].name);
    free(status->values);
    free(status->reason);
    memset(status, 0, sizeof(*status));
}

/* ---- topics ---- */

static int change_topic(struct sluice_client *client, enum op op, const char *name,
                        uint32_t partition_count, const struct sluice_setting *settings,
                        uint32_t setting_count)
{
    int status = check_topic_name(name);
    if (status != SLUICE_OK)
        return status;
    size_t bytes = strlen(name) + settings_bytes(settings, setting_count) + 64;
    if (setting_count > SETTING_COUNT_MAX || bytes > MIB || (setting_count > 0 && !settings)) {
        error_set("settings: more than %u, or more than 1 MiB", SETTING_COUNT_MAX);
        return SLUICE_E_INVALID;
    }
    struct request request;
    status = request_begin(&request, client, op, (uint32_t)bytes);
    if (status == SLUICE_OK) {
        request.call.repeatable =
            op == OP_TOPIC_ALTER; // a second create would find the first one's topic
        write_topic_change(&request.meta, slice_of_text(name), partition_count);
        write_settings_begin(&request.meta, (uint16_t)setting_count);
        for (uint32_t i = 0; i < setting_count; i++)
            write_setting(&request.meta, settings[i].key, settings[i].value);
        status = request_wait(&request);
    }
    request_end(&request);
    return status;
}

static int check_topic_name(const char *name)
{
    const char *why = "no name";
    if (name && topic_name_check(slice_of_text(name), &why) == PE_NONE)
        return SLUICE_OK;
    error_set("topic name: %s", why);
    return error_from_broker(PE_INVALID_TOPIC_NAME);
}

static size_t settings_bytes(const struct sluice_setting *settings, uint32_t count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; settings && i < count; i++)
        bytes += strlen(settings[i].key) + strlen(settings[i].value) + 4;
    return bytes;
}

static int list_page(struct sluice_client *client, const char *const *names, uint32_t name_count,
                     const char *after, struct sluice_topic **topics, uint32_t *count, bool *more)
{
    struct request request;
    struct msg_metadata_reply reply;
    uint32_t bytes = 16 + TOPIC_NAME_BYTES_MAX + 2;
    for (uint32_t i = 0; names && i < name_count; i++)
        bytes += 2 + (uint32_t)strlen(names[i]);
    int status = request_begin(&request, client, OP_METADATA, bytes);
    if (status == SLUICE_OK) {
        write_metadata_begin(&request.meta, names ? (uint16_t)name_count : METADATA_ALL,
                             slice_of_text(after));
        for (uint32_t i = 0; names && i < name_count; i++)
            write_text(&request.meta, names[i]);
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && read_metadata_reply(&request.reply, &reply) != PE_NONE)
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK) {
        *more = reply.more && reply.topic_count > 0;
        status = take_topics(&reply, topics, count);
    }
    request_end(&request);
    return status;
}

static int take_topics(struct msg_metadata_reply *reply, struct sluice_topic **topics,
                       uint32_t *count)
{
    size_t total = (size_t)*count + reply->topic_count;
    struct sluice_topic *larger = realloc(*topics, (total + 1) * sizeof(*larger));
    if (!larger)
        return SLUICE_E_NO_MEMORY;
    *topics = larger;
    for (uint16_t i = 0; i < reply->topic_count; i++) {
        struct msg_metadata_topic known;
        read_metadata_topic(reply, &known);
        if (known.error != PE_NONE) {
            error_set("%.*s: %s", (int)known.name.len, (const char *)known.name.bytes,
                      proto_error_text(known.error));
            return error_from_broker(known.error);
        }
        memset(&larger[*count], 0, sizeof(*larger));
        int status = copy_topic(&known, &larger[(*count)++]);
        if (status != SLUICE_OK)
            return status;
    }
    return SLUICE_OK;
}

static int copy_topic(struct msg_metadata_topic *known, struct sluice_topic *topic)
{
    topic->topic_id = known->topic_id;
    topic->partition_count = known->partition_count;
    topic->created_ms = known->created_ms;
    topic->name = admin_copy_text(known->name);
    topic->settings = calloc(known->settings.count + 1u, sizeof(*topic->settings));
    if (!topic->name || !topic->settings)
        return SLUICE_E_NO_MEMORY;
    for (uint16_t i = 0; i < known->settings.count; i++) {
        struct msg_setting setting;
        read_setting(&known->settings, &setting);
        struct sluice_setting *copy = &topic->settings[topic->setting_count++];
        copy->key = admin_copy_text(setting.key);
        copy->value = admin_copy_text(setting.value);
        if (!copy->key || !copy->value)
            return SLUICE_E_NO_MEMORY;
    }
    return SLUICE_OK;
}

/* ---- status ---- */

static int copy_status(struct msg_status_reply *reply, struct sluice_broker_status *status)
{
    status->ready = reply->ready;
    status->can_produce = reply->can_produce;
    status->can_consume = reply->can_consume;
    status->reason = admin_copy_text(reply->reason);
    status->values = calloc(reply->value_count + 1u, sizeof(*status->values));
    if (!status->reason || !status->values)
        return SLUICE_E_NO_MEMORY;
    for (uint16_t i = 0; i < reply->value_count; i++) {
        struct slice name;
        uint64_t value;
        read_status_value(reply, &name, &value);
        status->values[i].name = admin_copy_text(name);
        status->values[i].value = value;
        status->value_count++;
        if (!status->values[i].name)
            return SLUICE_E_NO_MEMORY;
    }
    return SLUICE_OK;
}

char *admin_copy_text(struct slice text)
{
    char *copy = malloc((size_t)text.len + 1);
    if (!copy)
        return NULL;
    if (text.len > 0)
        memcpy(copy, text.bytes, text.len);
    copy[text.len] = '\0';
    return copy;
}
