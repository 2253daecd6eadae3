/* PRODUCER_INIT: an identity for an idempotent producer.
 *
 * New ids come from a block that is durable before the first id of it is given out, so that no id is ever given
 * twice. An existing producer that had to give up a batch asks for its next epoch: shards accept the higher epoch
 * from sequence 0 and fence the lower one. An exhausted epoch gets a new id. */
#include "broker/shard.h"

static int reserve_block(struct shard *shard);

enum handled handle_producer_init(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_producer_init m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_producer_init(&frame, &m);
    if (error) {
        shard_reply_error(shard, request, error,
                          "producer id: below 2^63, or 2^64 - 1 for a new one");
        return HANDLED;
    }
    uint64_t given_out = shard->producer_id_next;
    if (m.producer_id != PRODUCER_NONE && m.producer_id >= given_out) {
        shard_reply_error(shard, request, PE_UNKNOWN_PRODUCER, "producer id %llu was never given",
                          (unsigned long long)m.producer_id);
        return HANDLED;
    }
    struct msg_producer_init_reply reply = {m.producer_id, (uint16_t)(m.epoch + 1)};
    if (m.producer_id == PRODUCER_NONE || m.epoch >= EPOCH_MAX) {
        reply.epoch = 0;
        int status = shard_producer_id(shard, &reply.producer_id);
        if (status)
            return shard_not_appended(shard, request, status);
    }
    uint8_t *bytes = request->reply->bytes;
    struct writer w =
        writer_make(bytes + FRAME_HEADER_SIZE, request->reply->capacity - FRAME_HEADER_SIZE);
    write_producer_init_reply(&w, &reply);
    request->reply_bytes = frame_seal(bytes, OP_PRODUCER_INIT, FRAME_REPLY, request->correlation,
                                      writer_length(&w), 0);
    shard_reply_when_durable(shard, request, store_reserved_lsn(shard->store));
    return HANDLED;
}

int shard_producer_id(struct shard *shard, uint64_t *producer_id)
{
    bool is_used_up = shard->producer_id_next == shard_scalar(shard, SCALAR_PRODUCER_ID_END);
    int status = is_used_up ? reserve_block(shard) : 0;
    if (status == 0)
        *producer_id = shard->producer_id_next++;
    return status;
}

static int reserve_block(struct shard *shard)
{
    le64 end = le64_make(shard->producer_id_next + PID_BLOCK_SIZE);
    struct wal_entry entry = {
        .type = ENTRY_PID_BLOCK, .pieces = {{&end, sizeof(end)}}, .piece_count = 1};
    struct wal_view view;
    return store_append(shard->store, &entry, &view, NULL);
}
