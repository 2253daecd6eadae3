/* A consumer's group: its options, its beginning and its end. */
#include "client/group.h"

#include <stdlib.h>

#include "client/consumer_private.h"

#define MAX_POLL_MS_DEFAULT (5u * 60 * 1000)
#define MAX_POLL_MS_MIN 1000u
#define MAX_POLL_MS_MAX (30u * 60 * 1000)
#define AUTO_COMMIT_MS_DEFAULT 1000u

static int check_text(const char *name, const char *text, uint32_t bytes_max);
static int check_options(const struct sluice_consumer_options *options);

int group_new(struct sluice_consumer *consumer, const struct sluice_consumer_options *options)
{
    int status = check_options(options);
    if (status != SLUICE_OK)
        return status;
    struct group *group = calloc(1, sizeof(*group));
    if (!group)
        return SLUICE_E_NO_MEMORY;
    group->consumer = consumer;
    strcpy(group->name, options->group);
    strcpy(group->instance, options->instance_id ? options->instance_id : "");
    group->assignor = options->assignor == SLUICE_ASSIGNOR_RANGE ? GROUP_RANGE : GROUP_STICKY;
    group->session_timeout_ms = options->session_timeout_ms;
    uint32_t max_poll_ms =
        options->max_poll_interval_ms ? options->max_poll_interval_ms : MAX_POLL_MS_DEFAULT;
    uint32_t commit_ms = options->auto_commit_interval_ms ? options->auto_commit_interval_ms
                                                          : AUTO_COMMIT_MS_DEFAULT;
    group->max_poll_ns = max_poll_ms * NS_PER_MS;
    group->auto_commit_ns = options->manual_commit ? 0 : commit_ms * NS_PER_MS;
    group->start = options->start == SLUICE_START_OFFSET ? SLUICE_START_BEGINNING : options->start;
    group->start_value = options->start_value;
    group->on_rebalance = options->on_rebalance;
    group->context = options->context;
    group->alive_until_ns = UINT64_MAX;
    list_init(&group->call.link);
    list_init(&group->leave_call.link);
    list_init(&group->commit_call.link);
    consumer->group = group;
    return SLUICE_OK;
}

void group_free(struct group *group)
{
    if (!group)
        return;
    for (uint32_t i = 0; i < group->topic_count; i++)
        free(group->topics[i].name);
    free(group->topics);
    free(group->target);
    free(group->held);
    free(group->starting);
    free(group->leaving);
    free(group->names);
    free(group->call_meta);
    free(group->commit_meta);
    free(group);
}

const char *group_topic_name(const struct group *group, uint32_t topic_id)
{
    for (uint32_t i = 0; i < group->topic_count; i++) {
        if (group->topics[i].topic_id == topic_id)
            return group->topics[i].name;
    }
    return NULL;
}

static int check_options(const struct sluice_consumer_options *options)
{
    int status = check_text("group", options->group, GROUP_NAME_BYTES_MAX);
    if (status == SLUICE_OK && options->instance_id)
        status = check_text("instance_id", options->instance_id, GROUP_INSTANCE_BYTES_MAX);
    if (status != SLUICE_OK)
        return status;
    bool known =
        options->assignor == SLUICE_ASSIGNOR_STICKY || options->assignor == SLUICE_ASSIGNOR_RANGE;
    if (!known || options->start < 0 || options->start > SLUICE_START_TIMESTAMP) {
        error_set("assignor or start: not known");
        return SLUICE_E_INVALID;
    }
    if (options->start == SLUICE_START_OFFSET && options->start_value != 0) {
        error_set("start: an offset would be another place in each partition");
        return SLUICE_E_INVALID;
    }
    uint32_t max_poll_ms = options->max_poll_interval_ms;
    if (max_poll_ms > MAX_POLL_MS_MAX || (max_poll_ms > 0 && max_poll_ms < MAX_POLL_MS_MIN)) {
        error_set("max_poll_interval_ms: %u, allowed %u..%u", max_poll_ms, MAX_POLL_MS_MIN,
                  MAX_POLL_MS_MAX);
        return SLUICE_E_INVALID;
    }
    return SLUICE_OK;
}

static int check_text(const char *name, const char *text, uint32_t bytes_max)
{
    struct slice slice = slice_of_text(text);
    if (slice.len >= 1 && slice.len <= bytes_max && slice_is_utf8(slice))
        return SLUICE_OK;
    error_set("%s: 1 to %u bytes of UTF-8", name, bytes_max);
    return SLUICE_E_INVALID;
}
