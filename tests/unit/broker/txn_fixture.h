/* Transactions over the shards of a shard_fixture, spoken with real frames: what a client would send, one request at a
 * time or left under way. */
#ifndef SLUICE_TESTS_TXN_FIXTURE_H
#define SLUICE_TESTS_TXN_FIXTURE_H

#include "broker/participants.h"
#include "broker/transactions.h"
#include "tests/unit/broker/shard_fixture.h"

struct txn_client { // one transactional id, and what it has open
    char id[32];
    uint16_t shard; // its coordinator
    uint64_t producer_id;
    uint16_t epoch;
    uint64_t open_lsn;
    uint16_t init_state; // of the last TXN_INIT
};

struct txn_place { // a partition and how many batches of the open transaction it has
    uint32_t topic_id, partition;
    uint32_t batch_count;
    uint64_t base_offset; // of the commit's answer
};

static inline struct msg_txn txn_ref(const struct txn_client *client)
{
    return (struct msg_txn){.id = slice_of_text(client->id),
                            .producer_id = client->producer_id,
                            .epoch = client->epoch,
                            .coordinator = client->shard,
                            .open_lsn = client->open_lsn};
}

static inline struct txn_client txn_client(struct shard_fixture *f, const char *id)
{
    struct txn_client client = {0};
    snprintf(client.id, sizeof(client.id), "%s", id);
    client.shard = shard_of_name(f->slot_shard, slice_of_text(id));
    return client;
}

/* An id whose coordinator is this shard. */
static inline struct txn_client txn_client_on(struct shard_fixture *f, uint16_t shard)
{
    for (int i = 0; i < 10000; i++) {
        char id[32];
        snprintf(id, sizeof(id), "worker-%d", i);
        if (shard_of_name(f->slot_shard, slice_of_text(id)) == shard)
            return txn_client(f, id);
    }
    cr_assert_fail("no id for shard %u", shard);
    abort();
}

static inline struct request *txn_init_request(struct shard_fixture *f,
                                               const struct txn_client *client)
{
    struct request *request = shf_request(f, client->shard, OP_TXN_INIT, 11);
    struct writer w = shf_writer(request);
    write_txn_init(&w, &(struct msg_txn_init){slice_of_text(client->id)});
    shf_seal(request, &w, 0);
    return request;
}

static inline uint16_t txn_init_take(struct shard_fixture *f, struct txn_client *client,
                                     struct request *request)
{
    uint16_t error = request->error;
    struct frame frame;
    struct msg_txn_init_reply reply;
    if (!error) {
        cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_txn_init_reply(&frame, &reply), PE_NONE);
        client->producer_id = reply.producer_id;
        client->epoch = reply.epoch;
        client->init_state = reply.state;
        client->open_lsn = reply.open_lsn;
        cr_assert_eq(reply.coordinator, client->shard);
    }
    shf_release(f, request);
    return error;
}

static inline uint16_t txn_init(struct shard_fixture *f, struct txn_client *client)
{
    return txn_init_take(f, client, shf_call(f, txn_init_request(f, client)));
}

static inline uint16_t txn_begin_for(struct shard_fixture *f, struct txn_client *client,
                                     uint32_t timeout_ms)
{
    struct request *request = shf_request(f, client->shard, OP_TXN_BEGIN, 12);
    struct writer w = shf_writer(request);
    write_txn_begin(&w, &(struct msg_txn_begin){.id = slice_of_text(client->id),
                                                .producer_id = client->producer_id,
                                                .epoch = client->epoch,
                                                .timeout_ms = timeout_ms});
    shf_seal(request, &w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    struct frame frame;
    struct msg_txn_begin_reply reply;
    if (!error) {
        cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_txn_begin_reply(&frame, &reply), PE_NONE);
        client->open_lsn = reply.open_lsn;
        cr_assert_eq(reply.coordinator, client->shard);
    }
    shf_release(f, request);
    return error;
}

static inline uint16_t txn_begin(struct shard_fixture *f, struct txn_client *client)
{
    return txn_begin_for(f, client, 0);
}

/* A staged publish of one batch. */
static inline struct request *txn_stage_request(struct shard_fixture *f,
                                                const struct txn_client *client, uint32_t topic_id,
                                                uint32_t partition, uint32_t sequence,
                                                uint32_t records, const char *value)
{
    uint8_t bytes[8192], *batch;
    struct batch_builder builder;
    uint16_t shard = shard_of_partition(f->slot_shard, topic_id, partition);
    struct request *request = shf_request(f, shard, OP_PRODUCE, 1);
    batch_builder_init(&builder, bytes, sizeof(bytes));
    for (uint32_t i = 0; i < records; i++) {
        struct record record = {.timestamp_ms = 1000 + i, .value = slice_of_text(value)};
        cr_assert_eq(batch_builder_add(&builder, &record), 0);
    }
    uint32_t size = batch_builder_finish(&builder, CODEC_NONE, client->producer_id, client->epoch,
                                         sequence, NULL, 0, &batch);
    struct writer w = shf_writer(request);
    write_produce_begin(&w, 1, PRODUCE_STAGED);
    write_produce_staged(&w, client->shard, client->open_lsn);
    write_produce_item(&w, topic_id, partition, size);
    memcpy(w.at, batch, size);
    shf_seal(request, &w, size);
    struct produce_outcome *outcome =
        (struct produce_outcome *)(request->frames + FRAME_HEADER_SIZE + PRODUCE_META_FIXED + 16);
    outcome->shard = le16_make(shard);
    outcome->error = le16_make(PE_NONE);
    return request;
}

static inline uint16_t txn_stage_take(struct shard_fixture *f, struct request *request)
{
    struct produce_outcome outcome;
    memcpy(&outcome, request->frames + FRAME_HEADER_SIZE + PRODUCE_META_FIXED + 16,
           sizeof(outcome));
    uint16_t error = le16_get(outcome.error);
    if (!error)
        cr_assert_eq(le64_get(outcome.base_offset), STAGED_OFFSET);
    shf_release(f, request);
    return error;
}

static inline uint16_t txn_stage(struct shard_fixture *f, const struct txn_client *client,
                                 uint32_t topic_id, uint32_t partition, uint32_t sequence,
                                 uint32_t records, const char *value)
{
    return txn_stage_take(f, shf_call(f, txn_stage_request(f, client, topic_id, partition, sequence,
                                                           records, value)));
}

static inline struct request *txn_end_request(struct shard_fixture *f, uint16_t op,
                                              const struct msg_txn *txn,
                                              const struct txn_place *places, uint32_t count)
{
    uint16_t shard = shard_of_name(f->slot_shard, txn->id);
    struct request *request = shf_request(f, shard, op, 13);
    struct writer w = shf_writer(request);
    if (op == OP_TXN_ABORT) {
        write_txn_abort(&w, txn);
    } else {
        write_txn_end_begin(&w, txn, count, 0);
        for (uint32_t i = 0; i < count; i++)
            write_txn_item(&w, places[i].topic_id, places[i].partition, places[i].batch_count);
    }
    shf_seal(request, &w, 0);
    return request;
}

static inline uint16_t txn_end_take(struct shard_fixture *f, struct request *request,
                                    struct txn_place *places, uint32_t count)
{
    uint16_t error = request->error;
    struct frame frame;
    struct msg_txn_commit_reply reply;
    if (!error && request->op == OP_TXN_COMMIT) {
        cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_txn_commit_reply(&frame, &reply), PE_NONE);
        cr_assert_eq(reply.item_count, count);
        for (uint32_t i = 0; i < count; i++)
            places[i].base_offset = le64_get(reply.items[i].base_offset);
    }
    shf_release(f, request);
    return error;
}

static inline uint16_t txn_end(struct shard_fixture *f, uint16_t op,
                               const struct txn_client *client, struct txn_place *places,
                               uint32_t count)
{
    struct msg_txn txn = txn_ref(client);
    return txn_end_take(f, shf_call(f, txn_end_request(f, op, &txn, places, count)), places, count);
}

/* The visible end of a partition. */
static inline uint64_t txn_visible(struct shard_fixture *f, uint32_t topic_id, uint32_t partition)
{
    uint16_t shard = shard_of_partition(f->slot_shard, topic_id, partition);
    struct partition *p = store_partition(f->shards[shard].store, topic_id, partition);
    cr_assert_not_null(p);
    return p->visible_end;
}

#endif
