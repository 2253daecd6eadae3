/* Transactions as a raw client speaks them: one request, one answer, any of its fields a lie. */
#include <stdio.h>
#include <string.h>

#include "tests/integration/hostile.h"

#define LEDGER "ledger"
#define CORRELATION 8

static uint32_t ledger_id;

/* The answer to what was sealed into bytes: its error. */
static uint16_t ask(struct peer *peer, uint8_t *bytes, uint16_t op, const struct writer *w,
                    struct frame *frame)
{
    if (w->failed)
        fail("%s: the frame does not fit", peer->what);
    peer_send(peer, bytes, frame_seal(bytes, op, 0, CORRELATION, writer_length(w), 0));
    peer_expect_frame(peer, frame);
    if (frame->op != op || frame->correlation != CORRELATION)
        fail("%s: %s came instead of the answer to %s", peer->what, op_name(frame->op),
             op_name(op));
    return error_of(frame);
}

uint32_t txn_topic(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    struct frame frame;
    struct msg_topic_reply reply;
    if (ledger_id)
        return ledger_id;
    peer_open(&peer, "a topic for transactions");
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_topic_change(&w, slice_of_text(LEDGER), LEDGER_PARTITIONS);
    write_settings_begin(&w, 0);
    if (ask(&peer, bytes, OP_TOPIC_CREATE, &w, &frame) || read_topic_reply(&frame, &reply))
        fail("no topic for transactions");
    peer_close(&peer);
    return ledger_id = reply.topic_id;
}

/* Visible ends of all partitions, added up: a transaction that is committed adds its records. */
uint64_t txn_records(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    struct frame frame;
    struct msg_offsets_reply reply;
    uint64_t sum = 0;
    peer_open(&peer, "asking for ends");
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_offsets_begin(&w, LEDGER_PARTITIONS);
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        write_fetch_item(&w, txn_topic(), i, START_END, 0, 0);
    if (ask(&peer, bytes, OP_OFFSETS, &w, &frame) || read_offsets_reply(&frame, &reply) ||
        reply.item_count != LEDGER_PARTITIONS)
        fail("the ends are not known");
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        sum += le64_get(reply.items[i].offset);
    peer_close(&peer);
    return sum;
}

/* ---- beginning ---- */

struct txn txn_named(const char *id)
{
    struct txn txn = {0};
    snprintf(txn.id, sizeof(txn.id), "%s", id);
    return txn;
}

uint32_t txn_make_init(uint8_t *bytes, const struct txn *txn)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_init(&w, &(struct msg_txn_init){slice_of_text(txn->id)});
    return frame_seal(bytes, OP_TXN_INIT, 0, CORRELATION, writer_length(&w), 0);
}

void txn_take_init(struct peer *peer, struct txn *txn)
{
    struct frame frame;
    struct msg_txn_init_reply reply;
    peer_expect_reply(peer, OP_TXN_INIT, CORRELATION, &frame);
    if (read_txn_init_reply(&frame, &reply))
        fail("%s: TXN_INIT's answer is not well-formed", peer->what);
    txn->producer_id = reply.producer_id;
    txn->epoch = reply.epoch;
    txn->coordinator = reply.coordinator;
    txn->open_lsn = reply.open_lsn;
    txn->init_state = reply.state;
    memset(txn->sequences, 0, sizeof(txn->sequences));
}

void txn_init(struct peer *peer, struct txn *txn)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    peer_send(peer, bytes, txn_make_init(bytes, txn));
    txn_take_init(peer, txn);
}

uint32_t txn_make_begin(uint8_t *bytes, const struct txn *txn, uint32_t timeout_ms)
{
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_txn_begin(&w, &(struct msg_txn_begin){slice_of_text(txn->id), txn->producer_id,
                                                txn->epoch, timeout_ms});
    return frame_seal(bytes, OP_TXN_BEGIN, 0, CORRELATION, writer_length(&w), 0);
}

uint16_t txn_take_begin(struct peer *peer, struct txn *txn)
{
    struct frame frame;
    struct msg_txn_begin_reply reply;
    peer_expect_frame(peer, &frame);
    if (frame.op != OP_TXN_BEGIN || frame.correlation != CORRELATION)
        fail("%s: %s came instead of TXN_BEGIN's answer", peer->what, op_name(frame.op));
    uint16_t error = error_of(&frame);
    if (error == PE_NONE && read_txn_begin_reply(&frame, &reply))
        fail("%s: TXN_BEGIN's answer is not well-formed", peer->what);
    if (error == PE_NONE) {
        txn->coordinator = reply.coordinator;
        txn->open_lsn = reply.open_lsn;
    }
    return error;
}

uint16_t txn_begin_for(struct peer *peer, struct txn *txn, uint32_t timeout_ms)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    peer_send(peer, bytes, txn_make_begin(bytes, txn, timeout_ms));
    return txn_take_begin(peer, txn);
}

void txn_open(struct peer *peer, struct txn *txn)
{
    txn_init(peer, txn);
    uint16_t error = txn_begin_for(peer, txn, 0);
    if (error)
        fail("%s: TXN_BEGIN: %s", peer->what, proto_error_name(error));
}

/* ---- staging ---- */

uint32_t txn_make_stage(uint8_t *bytes, const struct txn *txn, uint64_t number, uint32_t partition,
                        uint32_t sequence)
{
    uint8_t batch[128];
    uint32_t size = make_batch(batch, sizeof(batch), 1, "v", 1);
    ((struct batch_header *)batch)->attributes = be16_make(BATCH_TRANSACTIONAL);
    batch_set_producer(batch, txn->producer_id, txn->epoch, sequence);
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    write_produce_begin(&w, 1, PRODUCE_STAGED);
    write_produce_staged(&w, txn->coordinator, txn->open_lsn);
    write_produce_item(&w, txn_topic(), partition, size);
    memcpy(w.at, batch, size);
    return frame_seal(bytes, OP_PRODUCE, 0, number, writer_length(&w), size);
}

uint16_t txn_take_stage(struct peer *peer)
{
    struct frame frame;
    struct msg_ack ack;
    peer_expect_frame(peer, &frame);
    if (frame.op == OP_PRODUCE)
        return error_of(&frame);
    if (frame.op != OP_ACK || read_ack(&frame, &ack))
        fail("%s: %s came instead of an ack", peer->what, op_name(frame.op));
    return PE_NONE;
}

uint16_t txn_stage_as(struct peer *peer, const struct txn *txn, uint32_t partition,
                      uint32_t sequence)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    peer_send(peer, bytes, txn_make_stage(bytes, txn, ++peer->publishes, partition, sequence));
    return txn_take_stage(peer);
}

void txn_stage(struct peer *peer, struct txn *txn, uint32_t partition)
{
    uint16_t error = txn_stage_as(peer, txn, partition, txn->sequences[partition]++);
    if (error)
        fail("%s: a staged batch: %s", peer->what, proto_error_name(error));
}

void txn_stage_everywhere(struct peer *peer, struct txn *txn)
{
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
        txn_stage(peer, txn, i);
}

/* ---- ending ---- */

static struct msg_txn ref(const struct txn *txn)
{
    return (struct msg_txn){slice_of_text(txn->id), txn->producer_id, txn->epoch, txn->coordinator,
                            txn->open_lsn};
}

/* Names the same count of the first `partitions` partitions, and a group unless it is NULL. */
uint32_t txn_make_end(uint8_t *bytes, const struct txn *txn, uint16_t op, uint32_t partitions,
                      uint32_t batch_count, const char *group)
{
    struct msg_txn m = ref(txn);
    struct writer w = meta_writer(bytes, SAMPLE_BYTES_MAX);
    if (op == OP_TXN_ABORT) {
        write_txn_abort(&w, &m);
    } else {
        write_txn_end_begin(&w, &m, partitions, group != NULL);
        for (uint32_t i = 0; i < partitions; i++)
            write_txn_item(&w, txn_topic(), i % LEDGER_PARTITIONS, batch_count);
        if (group)
            write_text(&w, group);
    }
    return frame_seal(bytes, op, 0, CORRELATION, writer_length(&w), 0);
}

uint16_t txn_take_end(struct peer *peer, uint16_t op)
{
    struct frame frame;
    peer_expect_frame(peer, &frame);
    if (frame.op != op || frame.correlation != CORRELATION)
        fail("%s: %s came instead of the answer to %s", peer->what, op_name(frame.op), op_name(op));
    return error_of(&frame);
}

uint16_t txn_end(struct peer *peer, const struct txn *txn, uint16_t op, uint32_t partitions,
                 uint32_t batch_count)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    peer_send(peer, bytes, txn_make_end(bytes, txn, op, partitions, batch_count, NULL));
    return txn_take_end(peer, op);
}

struct txn txn_by_name(const struct txn *txn)
{
    struct txn by_name = *txn;
    by_name.producer_id = TXN_BY_NAME;
    by_name.epoch = 0;
    return by_name;
}

/* ---- looking ---- */

/* How many ids have something open, on all shards. */
uint32_t txn_count_open(struct peer *peer)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    char after[TRANSACTIONAL_ID_BYTES_MAX + 1] = "";
    uint32_t open = 0, shard = 0;
    struct msg_txn_list_reply reply = {.shard_count = 1};
    while (shard < reply.shard_count) {
        struct frame frame;
        struct msg_txn_list_item item;
        struct writer w = meta_writer(bytes, sizeof(bytes));
        write_txn_list(&w, &(struct msg_txn_list){shard, slice_of_text(after)});
        if (ask(peer, bytes, OP_TXN_LIST, &w, &frame) || read_txn_list_reply(&frame, &reply))
            fail("%s: no list of transactions", peer->what);
        for (uint16_t i = 0; i < reply.item_count; i++) {
            read_txn_list_item(&reply, &item);
            open += item.state != TXN_STATE_EMPTY;
            snprintf(after, sizeof(after), "%.*s", (int)item.id.len, (const char *)item.id.bytes);
        }
        shard += !reply.more;
        if (!reply.more)
            after[0] = '\0';
    }
    return open;
}

uint16_t txn_part_state(struct peer *peer, const struct txn *txn, uint32_t shard)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct frame frame;
    struct msg_txn_describe_reply reply;
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_txn_describe(&w, &(struct msg_txn_describe){shard, txn->coordinator, txn->open_lsn});
    if (ask(peer, bytes, OP_TXN_DESCRIBE, &w, &frame) || read_txn_describe_reply(&frame, &reply))
        fail("%s: no description of a transaction", peer->what);
    return reply.state;
}
