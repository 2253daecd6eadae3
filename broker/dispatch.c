/* Requests that go to one shard as they are, and the decision which.
 *
 * Happy path: everything a request needs is free, so it is taken: request, pin on the receive
 * buffer, reply buffer; then mailbox_send() can't fail. What is missing makes the frame wait. A
 * meta that is MALFORMED ends the connection, a value that is not allowed is answered. */
#include "broker/dispatch.h"

#include <stdio.h>

#include "broker/broker.h"
#include "proto/messages_group.h"

static enum conn_step dispatch_offsets(struct conn *conn, uint8_t *bytes,
                                       const struct frame *frame);
static enum conn_step dispatch_fetch(struct conn *conn, uint8_t *bytes, const struct frame *frame);
static enum conn_step dispatch_subscribe(struct conn *conn, uint8_t *bytes,
                                         const struct frame *frame);
static enum conn_step dispatch_credit(struct conn *conn, uint8_t *bytes, const struct frame *frame);
static enum conn_step dispatch_named(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                                     uint32_t reply_bytes);
static enum conn_step dispatch_txn_commit(struct conn *conn, uint8_t *bytes,
                                          const struct frame *frame);
static enum conn_step dispatch_offset_commit(struct conn *conn, uint8_t *bytes,
                                             const struct frame *frame);
static enum conn_step dispatch_offset_fetch(struct conn *conn, uint8_t *bytes,
                                            const struct frame *frame);
static enum conn_step dispatch_numbered(struct conn *conn, uint8_t *bytes,
                                        const struct frame *frame);
static enum conn_step to_shard(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                               uint16_t shard, uint32_t reply_bytes);
static enum conn_step refuse(struct conn *conn, const struct frame *frame, uint16_t error,
                             const char *text);
static uint64_t shards_of(const struct conn *conn, const struct fetch_item *items, uint32_t count);

static inline uint16_t only_shard(uint64_t shards)
{
    return (uint16_t)__builtin_ctzll(shards);
}

static inline bool is_one(uint64_t shards)
{
    return (shards & (shards - 1)) == 0;
}

enum conn_step dispatch(struct conn *conn, uint8_t *bytes, const struct frame *frame)
{
    switch (frame->op) {
    case OP_METADATA:
        return to_shard(conn, bytes, frame, 0, BUFFER_MEDIUM_BYTES);
    case OP_TOPIC_CREATE:
    case OP_TOPIC_ALTER:
    case OP_TOPIC_DELETE:
    case OP_PRODUCER_INIT:
        return to_shard(conn, bytes, frame, 0, BUFFER_SMALL_BYTES);
    case OP_OFFSETS:
        return dispatch_offsets(conn, bytes, frame);
    case OP_FETCH:
        return dispatch_fetch(conn, bytes, frame);
    case OP_SUBSCRIBE:
        return dispatch_subscribe(conn, bytes, frame);
    case OP_CREDIT:
    case OP_UNSUBSCRIBE:
        return dispatch_credit(conn, bytes, frame);
    case OP_TXN_COMMIT:
        return dispatch_txn_commit(conn, bytes, frame);
    case OP_TXN_INIT:
    case OP_TXN_BEGIN:
    case OP_TXN_OFFSETS:
    case OP_TXN_PREPARE:
    case OP_TXN_ABORT:
    case OP_GROUP_LEAVE:
    case OP_GROUP_DELETE:
        return dispatch_named(conn, bytes, frame, BUFFER_SMALL_BYTES);
    case OP_GROUP_JOIN:
    case OP_GROUP_HEARTBEAT:
    case OP_GROUP_DESCRIBE:
        return dispatch_named(conn, bytes, frame, BUFFER_MEDIUM_BYTES);
    case OP_OFFSET_COMMIT:
        return dispatch_offset_commit(conn, bytes, frame);
    case OP_OFFSET_FETCH:
        return dispatch_offset_fetch(conn, bytes, frame);
    case OP_TXN_LIST:
    case OP_TXN_DESCRIBE:
    case OP_GROUP_LIST:
        return dispatch_numbered(conn, bytes, frame);
    case OP_PRODUCE: /* in another version than the one that conn_parse() hands on at once */
        return dispatch_produce(conn, bytes, frame);
    default:
        return refuse(conn, frame, PE_UNKNOWN_OPERATION, NULL);
    }
}

/* ---- taking what is needed ---- */

uint16_t dispatch_core_of(const struct conn *conn, uint16_t shard)
{
    return conn->core->broker->shard_core[shard];
}

struct request *dispatch_request(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                                 uint16_t shard)
{
    struct core *core = conn->core;
    uint16_t target_core = dispatch_core_of(conn, shard);
    if (mailbox_credits(&core->mailbox, target_core) == 0)
        return NULL;
    struct request *request = request_acquire(&core->requests, REQUEST_CLIENT, core->index);
    if (!request)
        return NULL;
    request->op = frame->op;
    request->target_core = target_core;
    request->shard = shard;
    request->conn = conn->id;
    request->started_ns = core->now_ns;
    request->correlation = frame->correlation;
    request->buffer = conn->buffer;
    buffer_ref(conn->buffer);
    request->frames = bytes;
    request->frame_bytes = frame->length;
    request->frame_count = 1;
    conn->requests++;
    return request;
}

void dispatch_lend(struct conn *conn, struct request *request, struct buffer *reply)
{
    request->reply = reply;
    conn->pinned_bytes += reply ? reply->capacity : 0;
}

void dispatch_send(struct conn *conn, struct request *request)
{
    int status = mailbox_send(&conn->core->mailbox, request);
    ASSERT(status == 0); // its place was counted before
}

static enum conn_step to_shard(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                               uint16_t shard, uint32_t reply_bytes)
{
    struct buffers *buffers = &conn->core->buffers;
    struct buffer *reply = NULL;
    if (reply_bytes > 0) {
        reply = buffer_acquire_for(buffers, reply_bytes, BUFFER_FOR_RECEIVE);
        if (!reply)
            return CONN_WAITS;
    }
    struct request *request = dispatch_request(conn, bytes, frame, shard);
    if (!request) {
        if (reply)
            buffer_unref(buffers, reply);
        return CONN_WAITS;
    }
    dispatch_lend(conn, request, reply);
    dispatch_send(conn, request);
    return CONN_TAKEN;
}

/* A broken meta says that the peer is no client of ours; a value that isn't allowed is its user's
 * mistake. */
static enum conn_step refuse(struct conn *conn, const struct frame *frame, uint16_t error,
                             const char *text)
{
    if (error == PE_MALFORMED)
        return conn_fail(conn, error, frame->op, frame->correlation, "the meta is not well-formed");
    return conn_send_error(conn, frame->op, frame->correlation, error, text) ? CONN_TAKEN
                                                                             : CONN_WAITS;
}

static uint64_t shards_of(const struct conn *conn, const struct fetch_item *items, uint32_t count)
{
    const struct broker *broker = conn->core->broker;
    uint64_t shards = 0;
    if (broker->shard_count == 1)
        return 1;
    for (uint32_t i = 0; i < count; i++)
        shards |= (uint64_t)1 << shard_of_partition(broker->slot_shard, le32_get(items[i].topic_id),
                                                    le32_get(items[i].partition));
    return shards;
}

/* ---- one op each ---- */

static enum conn_step dispatch_offsets(struct conn *conn, uint8_t *bytes, const struct frame *frame)
{
    struct msg_offsets m;
    uint16_t error = read_offsets(frame, &m);
    if (error)
        return refuse(conn, frame, error, "OFFSETS: 1..16384 partitions with a start of 0..3");
    uint64_t shards = shards_of(conn, m.items, m.item_count);
    if (!is_one(shards))
        return dispatch_split(conn, bytes, frame, shards);
    uint32_t reply_bytes =
        FRAME_HEADER_SIZE + 8 + m.item_count * (uint32_t)sizeof(struct offsets_item);
    return to_shard(conn, bytes, frame, only_shard(shards), reply_bytes);
}

static enum conn_step dispatch_fetch(struct conn *conn, uint8_t *bytes, const struct frame *frame)
{
    struct msg_fetch m;
    uint16_t error = read_fetch(frame, &m);
    if (error)
        return refuse(conn, frame, error, "FETCH: wait_ms 0..60000, start 0..3");
    uint64_t shards = shards_of(conn, m.items, m.item_count);
    if (!is_one(shards))
        return refuse(conn, frame, PE_INVALID_ARGUMENT,
                      "one FETCH reads from one shard: fetch each partition by itself");
    enum conn_step step = to_shard(conn, bytes, frame, only_shard(shards), 0);
    if (step == CONN_TAKEN)
        conn_shards_tell(conn, shards);
    return step;
}

/* ---- transactions and groups: to the shard of a name, or to one that is asked by its number ---- */

/* Every such meta begins with the name; the handler checks the rest. */
static enum conn_step dispatch_named(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                                     uint32_t reply_bytes)
{
    struct reader reader = reader_make(frame->meta, frame->meta_length);
    struct slice name = read_string(&reader);
    if (reader.failed)
        return refuse(conn, frame, PE_MALFORMED, NULL);
    uint16_t shard = shard_of_name(conn->core->broker->slot_shard, name);
    return to_shard(conn, bytes, frame, shard, reply_bytes);
}

/* Its answer has an item for each of the request's. */
static enum conn_step dispatch_txn_commit(struct conn *conn, uint8_t *bytes,
                                          const struct frame *frame)
{
    struct msg_txn_end m;
    uint16_t error = read_txn_end(frame, &m);
    if (error)
        return refuse(conn, frame, error, "TXN_COMMIT: at most 16384 partitions, names of text");
    uint32_t reply_bytes = FRAME_HEADER_SIZE + TXN_COMMIT_REPLY_FIXED +
                           m.item_count * (uint32_t)sizeof(struct txn_result_item);
    return dispatch_named(conn, bytes, frame, reply_bytes);
}

static uint32_t offset_results_bytes(uint32_t item_count)
{
    return FRAME_HEADER_SIZE + OFFSET_RESULTS_FIXED +
           item_count * (uint32_t)sizeof(struct offset_result_item);
}

static enum conn_step dispatch_offset_commit(struct conn *conn, uint8_t *bytes,
                                             const struct frame *frame)
{
    struct msg_offset_commit m;
    uint16_t error = read_offset_commit(frame, &m);
    if (error)
        return refuse(conn, frame, error,
                      "OFFSET_COMMIT: 1..16384 offsets below 2^63; RESET without member");
    return dispatch_named(conn, bytes, frame, offset_results_bytes(m.item_count));
}

/* Who names no partition asks for all, and has room for as many as can be named. */
static enum conn_step dispatch_offset_fetch(struct conn *conn, uint8_t *bytes,
                                            const struct frame *frame)
{
    struct msg_offset_fetch m;
    uint16_t error = read_offset_fetch(frame, &m);
    if (error)
        return refuse(conn, frame, error, "OFFSET_FETCH: 0..16384 partitions");
    uint32_t count = m.item_count > 0 ? m.item_count : TXN_ITEM_COUNT_MAX;
    return dispatch_named(conn, bytes, frame, offset_results_bytes(count));
}

static enum conn_step dispatch_numbered(struct conn *conn, uint8_t *bytes,
                                        const struct frame *frame)
{
    const struct broker *broker = conn->core->broker;
    struct reader reader = reader_make(frame->meta, frame->meta_length);
    uint32_t shard = read_u32(&reader);
    char text[72];
    if (reader.failed)
        return refuse(conn, frame, PE_MALFORMED, NULL);
    snprintf(text, sizeof(text), "shard %u, allowed 0..%u", shard, broker->shard_count - 1u);
    if (shard >= broker->shard_count)
        return refuse(conn, frame, PE_UNKNOWN_SHARD, text);
    return to_shard(conn, bytes, frame, (uint16_t)shard, BUFFER_MEDIUM_BYTES);
}

static uint16_t check_subscribe(const struct conn *conn, const struct frame *frame,
                                const char **text)
{
    *text = NULL;
    if (frame->correlation == 0) {
        *text = "a SUBSCRIBE's correlation id names the subscription: 1 or more";
        return PE_INVALID_ARGUMENT;
    }
    if (conn_subscription_find(conn, frame->correlation)) {
        *text = "this connection has a subscription of that correlation id";
        return PE_INVALID_ARGUMENT;
    }
    if (conn->subscription_count >= CONN_SUBSCRIPTIONS_MAX) {
        *text = "at most 16 subscriptions on a connection";
        return PE_LIMIT_REACHED;
    }
    if (conn->core->conns.subscriptions.free_count == 0)
        return PE_OVERLOADED;
    return PE_NONE;
}

static enum conn_step dispatch_subscribe(struct conn *conn, uint8_t *bytes,
                                         const struct frame *frame)
{
    struct msg_fetch m;
    const char *text;
    uint16_t error = read_fetch(frame, &m);
    if (error)
        return refuse(conn, frame, error, "SUBSCRIBE: 1..16384 partitions with a start of 0..3");
    error = check_subscribe(conn, frame, &text);
    if (error)
        return refuse(conn, frame, error, text);
    uint64_t shards = shards_of(conn, m.items, m.item_count);
    enum conn_step step = is_one(shards) ? to_shard(conn, bytes, frame, only_shard(shards), 0)
                                         : dispatch_split(conn, bytes, frame, shards);
    if (step == CONN_TAKEN) {
        (void)conn_subscription_add(conn, frame->correlation, shards);
        conn_shards_tell(conn, shards);
    }
    return step;
}

/* Also UNSUBSCRIBE: the same meta. A CREDIT for a subscription that has ended may have crossed its
 * end. */
static enum conn_step dispatch_credit(struct conn *conn, uint8_t *bytes, const struct frame *frame)
{
    struct msg_credit m;
    uint16_t error = read_credit(frame, &m);
    if (error)
        return refuse(conn, frame, error, NULL);
    struct conn_subscription *subscription = conn_subscription_find(conn, m.subscription);
    if (!subscription && frame->op == OP_CREDIT)
        return CONN_TAKEN;
    if (!subscription)
        return refuse(conn, frame, PE_UNKNOWN_SUBSCRIPTION, NULL);
    if (is_one(subscription->shards))
        return to_shard(conn, bytes, frame, only_shard(subscription->shards), 0);
    return frame->op == OP_CREDIT ? dispatch_credit_split(conn, subscription, &m)
                                  : dispatch_split(conn, bytes, frame, subscription->shards);
}

uint64_t dispatch_subscription_of(const struct request *request)
{
    le64 id; // the first field of UNSUBSCRIBE's meta, which was checked
    memcpy(&id, request->frames + FRAME_HEADER_SIZE, sizeof(id));
    return le64_get(id);
}
