/* Administration of consumer groups, for tools: list, describe, reset, delete.
 *
 * Groups lie on all shards, so a list asks each of them, page by page. Partitions come with the ids
 * of their topics; the names are looked up once for each call. Failures leave nothing allocated. */
#include <stdlib.h>

#include "client/admin_private.h"
#include "client/calls.h"
#include "client/client_private.h"
#include "proto/messages_group.h"

#define LIST_ROOM (16 + GROUP_NAME_BYTES_MAX)
#define RESET_ITEMS 1024u // a request: its answer fits into any broker's buffer

struct found { // a list that grows
    struct sluice_group *groups;
    uint32_t count;
};

static int list_shard(struct sluice_client *client, uint32_t shard, struct found *found,
                      uint32_t *shard_count);
static int list_page(struct sluice_client *client, uint32_t shard, const char *after,
                     struct found *found, bool *more, uint32_t *shard_count);
static int take_groups(struct msg_group_list_reply *reply, struct found *found);
static int describe_members(struct sluice_client *client, const char *group,
                            const struct topic_names *names,
                            struct sluice_group_description *description);
static int take_members(struct msg_group_describe_reply *reply, const struct topic_names *names,
                        struct sluice_group_description *description);
static int take_member(const struct msg_group_member *known, const struct topic_names *names,
                       struct sluice_group_member *member);
static int describe_offsets(struct sluice_client *client, const char *group,
                            const struct topic_names *names,
                            struct sluice_group_description *description);
static int take_offsets(const struct msg_offset_results *reply, const struct topic_names *names,
                        struct sluice_group_description *description);
static int check_group_name(const char *group);
static int reset_some(struct sluice_client *client, const char *group,
                      const struct topic_names *names,
                      const struct sluice_partition_offset *offsets, uint32_t count);
static int read_results(const struct frame *frame);

int sluice_group_list(struct sluice_client *client, struct sluice_group **groups, uint32_t *count)
{
    struct found found = {0};
    uint32_t shard_count = 1;
    int status = SLUICE_OK;
    for (uint32_t shard = 0; shard < shard_count && status == SLUICE_OK; shard++)
        status = list_shard(client, shard, &found, &shard_count);
    if (status != SLUICE_OK) {
        sluice_groups_free(found.groups, found.count);
        return status;
    }
    *groups = found.groups;
    *count = found.count;
    return SLUICE_OK;
}

void sluice_groups_free(struct sluice_group *groups, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free(groups[i].name);
    free(groups);
}

int sluice_group_describe(struct sluice_client *client, const char *group,
                          struct sluice_group_description *description)
{
    struct topic_names names = {0};
    memset(description, 0, sizeof(*description));
    int status = check_group_name(group);
    if (status == SLUICE_OK)
        status = topic_names_load(client, &names);
    if (status == SLUICE_OK)
        status = describe_members(client, group, &names, description);
    if (status == SLUICE_OK)
        status = describe_offsets(client, group, &names, description);
    topic_names_free(&names);
    if (status != SLUICE_OK)
        sluice_group_description_free(description);
    return status;
}

void sluice_group_description_free(struct sluice_group_description *description)
{
    for (uint32_t i = 0; i < description->member_count; i++) {
        struct sluice_group_member *member = &description->members[i];
        for (uint32_t p = 0; p < member->partition_count; p++)
            free(member->partitions[p].topic);
        free(member->partitions);
        free(member->id);
        free(member->instance_id);
    }
    for (uint32_t i = 0; i < description->offset_count; i++)
        free(description->offsets[i].topic);
    free(description->members);
    free(description->offsets);
    memset(description, 0, sizeof(*description));
}

int sluice_group_reset(struct sluice_client *client, const char *group,
                       const struct sluice_partition_offset *offsets, uint32_t count)
{
    struct topic_names names = {0};
    int status = check_group_name(group);
    if (status == SLUICE_OK && count > 0 && !offsets)
        status = SLUICE_E_INVALID;
    if (status == SLUICE_OK)
        status = topic_names_load(client, &names);
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i += RESET_ITEMS) {
        uint32_t some = (uint32_t)min_u64(count - i, RESET_ITEMS);
        status = reset_some(client, group, &names, offsets + i, some);
    }
    topic_names_free(&names);
    return status;
}

int sluice_group_delete(struct sluice_client *client, const char *group)
{
    struct request request;
    int status = check_group_name(group);
    if (status != SLUICE_OK)
        return status;
    status = request_begin(&request, client, OP_GROUP_DELETE, LIST_ROOM);
    if (status == SLUICE_OK) {
        request.call.repeatable = false; // the repetition would find no group
        write_group_delete(&request.meta, slice_of_text(group));
        status = request_wait(&request);
    }
    request_end(&request);
    return status;
}

static int check_group_name(const char *group)
{
    struct slice name = group ? slice_of_text(group) : (struct slice){0};
    if (name.len >= 1 && name.len <= GROUP_NAME_BYTES_MAX && slice_is_utf8(name))
        return SLUICE_OK;
    error_set("group: 1 to %d bytes of UTF-8", GROUP_NAME_BYTES_MAX);
    return SLUICE_E_INVALID;
}

/* ---- listing ---- */

static int list_shard(struct sluice_client *client, uint32_t shard, struct found *found,
                      uint32_t *shard_count)
{
    int status = SLUICE_OK;
    uint32_t before = found->count;
    bool more = true;
    while (more && status == SLUICE_OK) {
        const char *after = found->count > before ? found->groups[found->count - 1].name : "";
        status = list_page(client, shard, after, found, &more, shard_count);
    }
    return status;
}

static int list_page(struct sluice_client *client, uint32_t shard, const char *after,
                     struct found *found, bool *more, uint32_t *shard_count)
{
    struct request request;
    struct msg_group_list_reply reply;
    struct msg_group_list m = {.shard = shard, .after = slice_of_text(after)};
    int status = request_begin(&request, client, OP_GROUP_LIST, LIST_ROOM);
    if (status == SLUICE_OK) {
        write_group_list(&request.meta, &m);
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && read_group_list_reply(&request.reply, &reply) != PE_NONE)
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK) {
        *more = reply.more && reply.item_count > 0;
        *shard_count = reply.shard_count;
        status = take_groups(&reply, found);
    }
    request_end(&request);
    return status;
}

static int take_groups(struct msg_group_list_reply *reply, struct found *found)
{
    size_t total = (size_t)found->count + reply->item_count;
    struct sluice_group *larger = realloc(found->groups, (total + 1) * sizeof(*larger));
    if (!larger)
        return SLUICE_E_NO_MEMORY;
    found->groups = larger;
    for (uint16_t i = 0; i < reply->item_count; i++) {
        struct msg_group_list_item item;
        read_group_list_item(reply, &item);
        struct sluice_group group = {.name = admin_copy_text(item.group),
                                     .state = (enum sluice_group_state)item.state,
                                     .generation = item.generation,
                                     .member_count = item.member_count,
                                     .offset_count = item.offset_count};
        if (!group.name)
            return SLUICE_E_NO_MEMORY;
        larger[found->count++] = group;
    }
    return SLUICE_OK;
}

/* ---- describing ---- */

static int describe_members(struct sluice_client *client, const char *group,
                            const struct topic_names *names,
                            struct sluice_group_description *description)
{
    struct request request;
    struct msg_group_describe_reply reply;
    int status = request_begin(&request, client, OP_GROUP_DESCRIBE, LIST_ROOM);
    if (status == SLUICE_OK) {
        write_group_describe(&request.meta,
                             &(struct msg_group_describe){.group = slice_of_text(group)});
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && read_group_describe_reply(&request.reply, &reply) != PE_NONE)
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK)
        status = take_members(&reply, names, description);
    request_end(&request);
    return status;
}

static int take_members(struct msg_group_describe_reply *reply, const struct topic_names *names,
                        struct sluice_group_description *description)
{
    description->state = (enum sluice_group_state)reply->state;
    description->assignor =
        reply->assignor == GROUP_RANGE ? SLUICE_ASSIGNOR_RANGE : SLUICE_ASSIGNOR_STICKY;
    description->generation = reply->generation;
    description->members = calloc(reply->member_count + 1u, sizeof(*description->members));
    int status = description->members ? SLUICE_OK : SLUICE_E_NO_MEMORY;
    for (uint32_t i = 0; i < reply->member_count && status == SLUICE_OK; i++) {
        struct msg_group_member known;
        read_group_member(reply, &known);
        status = take_member(&known, names, &description->members[description->member_count++]);
    }
    return status;
}

static int take_member(const struct msg_group_member *known, const struct topic_names *names,
                       struct sluice_group_member *member)
{
    member->generation = known->generation;
    member->session_timeout_ms = known->session_timeout_ms;
    member->idle_ms = known->idle_ms;
    member->id = admin_copy_text(known->member);
    member->instance_id = admin_copy_text(known->instance);
    member->partitions = calloc(known->item_count + 1u, sizeof(*member->partitions));
    if (!member->id || !member->instance_id || !member->partitions)
        return SLUICE_E_NO_MEMORY;
    int status = SLUICE_OK;
    for (uint32_t i = 0; i < known->item_count && status == SLUICE_OK; i++) {
        struct sluice_group_partition *partition = &member->partitions[member->partition_count++];
        partition->topic_id = le32_get(known->items[i].topic_id);
        partition->partition = le32_get(known->items[i].partition);
        status = topic_names_copy(names, partition->topic_id, &partition->topic);
    }
    return status;
}

static int describe_offsets(struct sluice_client *client, const char *group,
                            const struct topic_names *names,
                            struct sluice_group_description *description)
{
    struct request request;
    struct msg_offset_results reply;
    int status = request_begin(&request, client, OP_OFFSET_FETCH, LIST_ROOM);
    if (status == SLUICE_OK) {
        write_offset_fetch_begin(&request.meta, slice_of_text(group), 0);
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && read_offset_results(&request.reply, &reply) != PE_NONE)
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK)
        status = take_offsets(&reply, names, description);
    request_end(&request);
    return status;
}

static int take_offsets(const struct msg_offset_results *reply, const struct topic_names *names,
                        struct sluice_group_description *description)
{
    description->offsets = calloc(reply->item_count + 1u, sizeof(*description->offsets));
    int status = description->offsets ? SLUICE_OK : SLUICE_E_NO_MEMORY;
    for (uint32_t i = 0; i < reply->item_count && status == SLUICE_OK; i++) {
        const struct offset_result_item *item = &reply->items[i];
        struct sluice_group_offset *offset = &description->offsets[description->offset_count++];
        offset->topic_id = le32_get(item->topic_id);
        offset->partition = le32_get(item->partition);
        offset->offset = le64_get(item->offset);
        offset->pending = le16_get(item->error) == PE_OFFSETS_PENDING;
        status = topic_names_copy(names, offset->topic_id, &offset->topic);
    }
    return status;
}

/* ---- resetting ---- */

static const struct sluice_topic *find_topic(const struct topic_names *names, const char *name)
{
    for (uint32_t i = 0; i < names->count && name; i++) {
        if (strcmp(names->topics[i].name, name) == 0)
            return &names->topics[i];
    }
    return NULL;
}

static int reset_some(struct sluice_client *client, const char *group,
                      const struct topic_names *names,
                      const struct sluice_partition_offset *offsets, uint32_t count)
{
    struct request request;
    struct msg_offset_commit m = {
        .group = slice_of_text(group), .flags = OFFSET_COMMIT_RESET, .item_count = count};
    uint32_t room = LIST_ROOM + 32 + count * (uint32_t)sizeof(struct offset_item);
    int status = request_begin(&request, client, OP_OFFSET_COMMIT, room);
    if (status == SLUICE_OK)
        write_offset_commit_begin(&request.meta, &m);
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++) {
        const struct sluice_topic *topic = find_topic(names, offsets[i].topic);
        if (topic) {
            write_offset_item(&request.meta, topic->topic_id, offsets[i].partition,
                              offsets[i].offset);
            continue;
        }
        error_set("%s: there is no such topic", offsets[i].topic ? offsets[i].topic : "no name");
        status = SLUICE_E_UNKNOWN_TOPIC;
    }
    if (status == SLUICE_OK)
        status = request_wait(&request);
    if (status == SLUICE_OK)
        status = read_results(&request.reply);
    request_end(&request);
    return status;
}

static int read_results(const struct frame *frame)
{
    struct msg_offset_results reply;
    if (read_offset_results(frame, &reply) != PE_NONE)
        return SLUICE_E_PROTOCOL;
    uint16_t first_error = PE_NONE;
    for (uint32_t i = 0; i < reply.item_count && first_error == PE_NONE; i++)
        first_error = le16_get(reply.items[i].error);
    return error_from_broker(first_error);
}

/* ---- names ---- */

int topic_names_load(struct sluice_client *client, struct topic_names *names)
{
    return sluice_topic_list(client, NULL, 0, &names->topics, &names->count);
}

void topic_names_free(struct topic_names *names)
{
    sluice_topics_free(names->topics, names->count);
}

int topic_names_copy(const struct topic_names *names, uint32_t topic_id, char **name)
{
    *name = NULL;
    for (uint32_t i = 0; i < names->count; i++) {
        if (names->topics[i].topic_id != topic_id)
            continue;
        *name = admin_copy_text(slice_of_text(names->topics[i].name));
        return *name ? SLUICE_OK : SLUICE_E_NO_MEMORY;
    }
    return SLUICE_OK;
}
