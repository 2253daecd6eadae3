/* Acks: what the shards answered about publishes becomes as few ACK frames as possible, once per
 * turn.
 *
 * The answered requests of a connection lie in `acks` by publish number. conn_flush_acks() walks
 * their frames: publishes that follow each other and went well join the open ACK; a publish with a
 * refused batch gets a failure frame of its own, with a result for each of its batches. Results are
 * read from where the items were (struct produce_outcome).
 *
 * No publish waits for one before it: acks of different shards may overtake. When no buffer is free
 * the walk stops and goes on at the same frame (request->progress) later. */
#include "broker/broker.h"

struct ack { // the ACK frame being written; bytes == NULL: none
    uint8_t *bytes;
    struct writer offsets;
    uint64_t first, last;
    uint32_t shard;
    uint64_t lsn;
    uint32_t offset_count;
    uint64_t offset_last;
};

#define ACK_FIXED_BYTES 32u
#define ACK_HEAD_BYTES (FRAME_HEADER_SIZE + ACK_FIXED_BYTES)
#define ACK_ROOM ((uint32_t)(2 * KIB)) // so that a few hundred publishes share a frame
#define ZIGZAG_BYTES_MAX 10u
#define SHARD_SEVERAL UINT32_MAX

struct publish { // one frame of a request, answered
    uint64_t number;
    uint32_t length;
    uint32_t batch_count;
    const struct produce_outcome *outcomes;
};

static bool ack_request(struct conn *conn, struct ack *ack, struct request *request);
static bool ack_publish(struct conn *conn, struct ack *ack, const struct request *request,
                        const struct publish *publish);
static bool ack_begin(struct conn *conn, struct ack *ack, const struct request *request,
                      const struct publish *publish);
static void ack_end(struct conn *conn, struct ack *ack);
static bool send_failure(struct conn *conn, const struct request *request,
                         const struct publish *publish);
static struct publish publish_at(const struct request *request);
static uint16_t error_of(const struct publish *publish);

/* Requests to one shard come home in order, so the back is almost always the place. */
void conn_insert_ack(struct conn *conn, struct request *request)
{
    struct list *place = &conn->acks;
    request->progress = 0;
    while (place->prev != &conn->acks &&
           CONTAINER_OF(place->prev, struct request, link)->correlation > request->correlation)
        place = place->prev;
    list_push_back(place, &request->link);
}

bool conn_flush_acks(struct conn *conn)
{
    struct ack ack = {0};
    bool complete = true;
    while (complete && !list_is_empty(&conn->acks)) {
        struct request *request = CONTAINER_OF(conn->acks.next, struct request, link);
        complete = ack_request(conn, &ack, request);
        if (complete) {
            list_remove(&request->link);
            conn_finish(conn, request);
        }
    }
    ack_end(conn, &ack);
    return complete;
}

static bool ack_request(struct conn *conn, struct ack *ack, struct request *request)
{
    while (request->progress < request->frame_bytes) {
        struct publish publish = publish_at(request);
        bool failed = request->error && error_of(&publish) != PE_NONE;
        if (failed)
            ack_end(conn, ack);
        if (failed ? !send_failure(conn, request, &publish)
                   : !ack_publish(conn, ack, request, &publish))
            return false;
        request->progress += publish.length;
    }
    return true;
}

static struct publish publish_at(const struct request *request)
{
    const uint8_t *bytes = request->frames + request->progress;
    const struct frame_header *header = (const struct frame_header *)bytes;
    const uint8_t *meta = bytes + FRAME_HEADER_SIZE;
    le16 count, flags; // the first fields of PRODUCE's meta
    memcpy(&count, meta, sizeof(count));
    memcpy(&flags, meta + sizeof(count), sizeof(flags));
    bool staged = le16_get(flags) & PRODUCE_STAGED;
    return (struct publish){
        .number = le64_get(header->correlation),
        .length = le32_get(header->length),
        .batch_count = le16_get(count),
        .outcomes =
            (const void *)(meta + PRODUCE_META_FIXED + (staged ? sizeof(struct disk_txn_name) : 0)),
    };
}

static uint16_t error_of(const struct publish *publish)
{
    for (uint32_t i = 0; i < publish->batch_count; i++) {
        uint16_t error = le16_get(publish->outcomes[i].error);
        if (error != PE_NONE)
            return error;
    }
    return PE_NONE;
}

/* ---- success ---- */

static bool ack_publish(struct conn *conn, struct ack *ack, const struct request *request,
                        const struct publish *publish)
{
    size_t room = (size_t)publish->batch_count * ZIGZAG_BYTES_MAX;
    if (ack->bytes &&
        (publish->number != ack->last + 1 || (size_t)(ack->offsets.end - ack->offsets.at) < room))
        ack_end(conn, ack);
    if (!ack->bytes && !ack_begin(conn, ack, request, publish))
        return false;
    if (ack->shard != request->shard) {
        ack->shard = SHARD_SEVERAL;
        ack->lsn = 0;
    } else {
        ack->lsn = max_u64(ack->lsn, request->lsn);
    }
    for (uint32_t i = 0; i < publish->batch_count; i++) {
        uint64_t offset = le64_get(publish->outcomes[i].base_offset);
        write_zigzag(&ack->offsets, (int64_t)(offset - ack->offset_last));
        ack->offset_last = offset;
    }
    ack->offset_count += publish->batch_count;
    ack->last = publish->number;
    return true;
}

static bool ack_begin(struct conn *conn, struct ack *ack, const struct request *request,
                      const struct publish *publish)
{
    uint32_t room = ACK_HEAD_BYTES + publish->batch_count * ZIGZAG_BYTES_MAX;
    uint8_t *bytes = conn_out(conn, (uint32_t)max_u64(room, ACK_ROOM));
    if (!bytes)
        return false;
    const struct buffer *buffer = conn->out_last;
    bool several = request->shard == UINT16_MAX;
    *ack = (struct ack){
        .bytes = bytes,
        .offsets = writer_make(bytes + ACK_HEAD_BYTES, (size_t)(buffer->bytes + buffer->capacity -
                                                                (bytes + ACK_HEAD_BYTES))),
        .first = publish->number,
        .shard = several ? SHARD_SEVERAL : request->shard,
    };
    return true;
}

static void ack_end(struct conn *conn, struct ack *ack)
{
    if (!ack->bytes)
        return;
    ASSERT(!ack->offsets.failed);
    struct writer w = writer_make(ack->bytes + FRAME_HEADER_SIZE, ACK_FIXED_BYTES);
    write_ack_begin(&w, ack->first, ack->last, ack->shard, ack->lsn, ack->offset_count);
    ASSERT(!w.failed && writer_length(&w) == ACK_FIXED_BYTES);
    conn_out_commit(conn, frame_seal(ack->bytes, OP_ACK, FRAME_PUSH, 0,
                                     ACK_FIXED_BYTES + writer_length(&ack->offsets), 0));
    counter_add(&conn->core->counters.acks_sent_total, 1);
    ack->bytes = NULL;
}

/* ---- failure ---- */

static bool send_failure(struct conn *conn, const struct request *request,
                         const struct publish *publish)
{
    uint32_t room = 512 + publish->batch_count * 10u;
    uint8_t *bytes = conn_out(conn, room);
    if (!bytes)
        return false;
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, room - FRAME_HEADER_SIZE);
    write_produce_failure_begin(&w, error_of(publish), *request->text ? request->text : NULL,
                                (uint16_t)publish->batch_count);
    for (uint32_t i = 0; i < publish->batch_count; i++) {
        struct msg_produce_result result = {
            .error = le16_get(publish->outcomes[i].error),
            .base_offset = le64_get(publish->outcomes[i].base_offset),
        };
        write_produce_result(&w, &result);
    }
    ASSERT(!w.failed);
    conn_out_commit(conn, frame_seal(bytes, OP_PRODUCE, FRAME_REPLY | FRAME_ERROR, publish->number,
                                     writer_length(&w), 0));
    counter_add(&conn->core->counters.errors_sent_total, 1);
    return true;
}
