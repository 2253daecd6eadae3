/* Administration of transactions, for tools: list, describe, end by name.
 *
 * A list asks each shard for the transactional ids it coordinates; a description then asks every
 * shard that takes part what it holds. Failures leave nothing allocated. */
#include <stdlib.h>

#include "client/admin_private.h"
#include "client/calls.h"
#include "client/client_private.h"
#include "client/txn_private.h"

#define TXN_ROOM (64 + TRANSACTIONAL_ID_BYTES_MAX)

struct found { // a list that grows
    struct sluice_txn *txns;
    uint32_t count;
};

static int list_shard(struct sluice_client *client, uint32_t shard, struct found *found,
                      uint32_t *shard_count);
static int list_page(struct sluice_client *client, uint32_t shard, const char *after,
                     struct found *found, bool *more, uint32_t *shard_count);
static int take_txns(struct msg_txn_list_reply *reply, struct found *found);
static int describe_shard(struct sluice_client *client, uint32_t shard,
                          const struct topic_names *names,
                          struct sluice_txn_description *description);
static int take_parts(const struct msg_txn_describe_reply *reply, const struct topic_names *names,
                      struct sluice_txn_description *description);

int sluice_txn_list(struct sluice_client *client, struct sluice_txn **txns, uint32_t *count)
{
    struct found found = {0};
    uint32_t shard_count = 1;
    int status = SLUICE_OK;
    for (uint32_t shard = 0; shard < shard_count && status == SLUICE_OK; shard++)
        status = list_shard(client, shard, &found, &shard_count);
    if (status != SLUICE_OK) {
        free(found.txns);
        return status;
    }
    *txns = found.txns;
    *count = found.count;
    return SLUICE_OK;
}

void sluice_txns_free(struct sluice_txn *txns, uint32_t count)
{
    (void)count; // for the day on which an element owns memory
    free(txns);
}

int sluice_txn_describe(struct sluice_client *client, const char *id,
                        struct sluice_txn_description *description)
{
    struct topic_names names = {0};
    struct sluice_txn *txns = NULL;
    uint32_t count = 0, at = 0;
    memset(description, 0, sizeof(*description));
    int status = id ? sluice_txn_list(client, &txns, &count) : SLUICE_E_INVALID;
    while (status == SLUICE_OK && at < count && strcmp(txns[at].name.id, id) != 0)
        at++;
    if (status == SLUICE_OK && at == count) {
        error_set("%s: the broker does not know this transactional id", id);
        status = SLUICE_E_UNKNOWN_TRANSACTION;
    }
    if (status == SLUICE_OK)
        description->txn = txns[at];
    sluice_txns_free(txns, count);
    if (status == SLUICE_OK)
        status = topic_names_load(client, &names);
    for (uint32_t shard = 0; shard < 64 && status == SLUICE_OK; shard++) {
        if (description->txn.name.open_lsn != 0 && description->txn.shards >> shard & 1)
            status = describe_shard(client, shard, &names, description);
    }
    topic_names_free(&names);
    if (status != SLUICE_OK)
        sluice_txn_description_free(description);
    return status;
}

void sluice_txn_description_free(struct sluice_txn_description *description)
{
    for (uint32_t i = 0; i < description->part_count; i++)
        free(description->parts[i].topic);
    free(description->parts);
    memset(description, 0, sizeof(*description));
}

int sluice_txn_end(struct sluice_client *client, const struct sluice_txn_name *name, bool commit)
{
    if (!name || name->id[0] == '\0' || !memchr(name->id, '\0', sizeof(name->id)))
        return SLUICE_E_INVALID;
    return txn_end_by_name(client, name, commit, 0);
}

int txn_end_by_name(struct sluice_client *client, const struct sluice_txn_name *name, bool commit,
                    uint64_t deadline_ns)
{
    struct request request;
    struct msg_txn txn = {.id = slice_of_text(name->id),
                          .producer_id = TXN_BY_NAME,
                          .coordinator = name->coordinator,
                          .open_lsn = name->open_lsn};
    int status = request_begin(&request, client, commit ? OP_TXN_COMMIT : OP_TXN_ABORT, TXN_ROOM);
    if (status == SLUICE_OK) {
        if (commit)
            write_txn_end_begin(&request.meta, &txn, 0, 0);
        else
            write_txn_abort(&request.meta, &txn);
        request.deadline_ns = deadline_ns;
        status = request_wait(&request);
    }
    request_end(&request);
    return status;
}

/* ---- listing ---- */

static int list_shard(struct sluice_client *client, uint32_t shard, struct found *found,
                      uint32_t *shard_count)
{
    int status = SLUICE_OK;
    uint32_t before = found->count;
    bool more = true;
    while (more && status == SLUICE_OK) {
        char after[TRANSACTIONAL_ID_BYTES_MAX + 1] = "";
        if (found->count > before)
            strcpy(after, found->txns[found->count - 1].name.id);
        status = list_page(client, shard, after, found, &more, shard_count);
    }
    return status;
}

static int list_page(struct sluice_client *client, uint32_t shard, const char *after,
                     struct found *found, bool *more, uint32_t *shard_count)
{
    struct request request;
    struct msg_txn_list_reply reply;
    struct msg_txn_list m = {.shard = shard, .after = slice_of_text(after)};
    int status = request_begin(&request, client, OP_TXN_LIST, TXN_ROOM);
    if (status == SLUICE_OK) {
        write_txn_list(&request.meta, &m);
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && read_txn_list_reply(&request.reply, &reply) != PE_NONE)
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK) {
        *more = reply.more && reply.item_count > 0;
        *shard_count = reply.shard_count;
        status = take_txns(&reply, found);
    }
    request_end(&request);
    return status;
}

static int take_txns(struct msg_txn_list_reply *reply, struct found *found)
{
    size_t total = (size_t)found->count + reply->item_count;
    struct sluice_txn *larger = realloc(found->txns, (total + 1) * sizeof(*larger));
    if (!larger)
        return SLUICE_E_NO_MEMORY;
    found->txns = larger;
    for (uint16_t i = 0; i < reply->item_count; i++) {
        struct msg_txn_list_item item;
        read_txn_list_item(reply, &item);
        struct sluice_txn txn = {
            .name = {.coordinator = item.coordinator, .open_lsn = item.open_lsn},
            .state = (enum sluice_txn_state)item.state,
            .producer_id = item.producer_id,
            .epoch = item.epoch,
            .age_ms = item.age_ms,
            .timeout_ms = item.timeout_ms,
            .shards = item.shards};
        memcpy(txn.name.id, item.id.bytes, item.id.len); // at most 249 bytes, the rest is zero
        larger[found->count++] = txn;
    }
    return SLUICE_OK;
}

/* ---- describing ---- */

static int describe_shard(struct sluice_client *client, uint32_t shard,
                          const struct topic_names *names,
                          struct sluice_txn_description *description)
{
    struct request request;
    struct msg_txn_describe_reply reply;
    struct msg_txn_describe m = {.shard = shard,
                                 .coordinator = description->txn.name.coordinator,
                                 .open_lsn = description->txn.name.open_lsn};
    int status = request_begin(&request, client, OP_TXN_DESCRIBE, TXN_ROOM);
    if (status == SLUICE_OK) {
        write_txn_describe(&request.meta, &m);
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && read_txn_describe_reply(&request.reply, &reply) != PE_NONE)
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK)
        status = take_parts(&reply, names, description);
    request_end(&request);
    return status;
}

static int take_parts(const struct msg_txn_describe_reply *reply, const struct topic_names *names,
                      struct sluice_txn_description *description)
{
    size_t total = (size_t)description->part_count + reply->item_count;
    struct sluice_txn_part *larger = realloc(description->parts, (total + 1) * sizeof(*larger));
    if (!larger)
        return SLUICE_E_NO_MEMORY;
    description->parts = larger;
    description->offset_count += reply->offset_count;
    description->batch_bytes += reply->batch_bytes;
    int status = SLUICE_OK;
    for (uint32_t i = 0; i < reply->item_count && status == SLUICE_OK; i++) {
        const struct txn_part_item *item = &reply->items[i];
        struct sluice_txn_part *part = &larger[description->part_count++];
        *part = (struct sluice_txn_part){.topic_id = le32_get(item->topic_id),
                                         .partition = le32_get(item->partition),
                                         .batch_count = le32_get(item->batch_count),
                                         .record_count = le32_get(item->record_count),
                                         .bytes = le64_get(item->bytes)};
        status = topic_names_copy(names, part->topic_id, &part->topic);
    }
    return status;
}
