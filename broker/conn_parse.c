/* Frames: from received bytes to a request, or to an answer on the spot.
 *
 * The happy path: frame_peek() says that a whole frame is there, frame_decode() that it is intact,
 * dispatch() what becomes of it; publishes that follow each other are gathered and leave together
 * at the end. HELLO, PING and STATUS are answered here.
 *
 * What ends the connection, with an error frame: MALFORMED (lengths, checksum, flags, a meta that
 * is not what its op wants), REQUEST_TOO_LARGE, HELLO_REQUIRED, UNSUPPORTED_VERSION of the
 * protocol, NOT_CONTIGUOUS. What is merely answered with an error: unknown operations, versions of
 * one operation, values. Nothing from the wire reaches an assertion. */
#include <stdio.h>

#include "base/log.h"
#include "broker/broker.h"
#include "broker/dispatch.h"

static enum conn_step take_frame(struct conn *conn, uint8_t *bytes, uint32_t length);
static enum conn_step take_op(struct conn *conn, uint8_t *bytes, const struct frame *frame);
static enum conn_step take_hello(struct conn *conn, const struct frame *frame);
static void log_hello(const struct conn *conn, const struct msg_hello *m);
static bool send_hello_reply(struct conn *conn, const struct frame *frame, uint16_t version);
static enum conn_step take_ping(struct conn *conn, const struct frame *frame);
static enum conn_step take_status(struct conn *conn, const struct frame *frame);
static enum conn_step answer_error(struct conn *conn, const struct frame *frame, uint16_t error,
                                   const char *text);

#define HELLO_REPLY_BYTES_MAX 512
#define STATUS_BYTES_MAX (BUFFER_SMALL_BYTES - FRAME_HEADER_SIZE)
#define SOFTWARE "sluiced " SLUICE_VERSION

bool conn_parse(struct conn *conn)
{
    bool before_hello = conn->phase == CONN_HELLO;
    uint32_t length_max = before_hello ? FRAME_BYTES_MAX_BEFORE_HELLO
                                       : (uint32_t)conn->core->broker->config->request_bytes_max;
    enum conn_step step = CONN_TAKEN;
    while (step == CONN_TAKEN && conn->buffer && conn->parsed < conn->filled &&
           conn_may_take(conn)) {
        uint8_t *bytes = conn->buffer->bytes + conn->parsed;
        uint32_t available = conn->filled - conn->parsed;
        int64_t length = frame_peek(bytes, available, length_max);
        if (length < 0) {
            char text[64] = "the length fields do not fit each other";
            if (length == -PE_REQUEST_TOO_LARGE)
                snprintf(text, sizeof(text), "frame too large, allowed up to %u bytes", length_max);
            step = conn_fail(conn, (uint16_t)-length, 0, 0, text);
            break;
        }
        conn->frame_bytes = (uint32_t)length;
        if (length == 0 || length > available)
            break;
        step = take_frame(conn, bytes, (uint32_t)length);
        length_max = conn->phase == CONN_HELLO
                         ? FRAME_BYTES_MAX_BEFORE_HELLO
                         : (uint32_t)conn->core->broker->config->request_bytes_max;
    }
    dispatch_run(conn);
    return step != CONN_WAITS;
}

/* The buffer that is being received to does not count: a request of any allowed size must get
 * in. */
bool conn_may_take(const struct conn *conn)
{
    uint64_t behind = conn->pinned_bytes - (conn->buffer ? conn->buffer->capacity : 0);
    return conn->requests + conn->fetches < CONN_REQUESTS_MAX &&
           conn->publishes < CONN_PUBLISHES_MAX && behind < CONN_PINNED_BYTES_MAX &&
           conn->out_bytes < CONN_OUT_BYTES_MAX;
}

static enum conn_step take_frame(struct conn *conn, uint8_t *bytes, uint32_t length)
{
    struct frame frame;
    if (frame_decode(bytes, &frame) != PE_NONE)
        return conn_fail(conn, PE_MALFORMED, 0, 0, "checksum, flags or reserved bytes are wrong");
    if (frame.flags != 0)
        return conn_fail(conn, PE_MALFORMED, frame.op, frame.correlation,
                         "clients send requests, neither replies nor pushes");
    enum conn_step step = take_op(conn, bytes, &frame);
    if (step != CONN_TAKEN)
        return step;
    conn->parsed += length;
    conn->frame_bytes = 0;
    conn->frame_bytes_last = length;
    conn_unwatch_frame(conn);
    counter_add(&conn->core->counters.frames_received_total, 1);
    return CONN_TAKEN;
}

static enum conn_step take_op(struct conn *conn, uint8_t *bytes, const struct frame *frame)
{
    if (frame->op == OP_PRODUCE && conn->phase == CONN_OPEN && frame->version == PROTO_VERSION_MAX)
        return dispatch_produce(conn, bytes, frame);
    dispatch_run(conn);
    if (conn->phase == CONN_HELLO && frame->op != OP_HELLO)
        return conn_fail(conn, PE_HELLO_REQUIRED, frame->op, frame->correlation,
                         op_name(frame->op));
    if (!op_is_known(frame->op))
        return answer_error(conn, frame, PE_UNKNOWN_OPERATION, NULL);
    if (!op_version_is_supported(frame->op, frame->version))
        return answer_error(conn, frame, PE_UNSUPPORTED_VERSION, NULL);
    switch (frame->op) {
    case OP_HELLO:
        return take_hello(conn, frame);
    case OP_PING:
        return take_ping(conn, frame);
    case OP_STATUS:
        return take_status(conn, frame);
    case OP_ACK:
    case OP_DELIVER:
    case OP_GOAWAY:
        return answer_error(conn, frame, PE_UNKNOWN_OPERATION, "only the broker sends this");
    default:
        return dispatch(conn, bytes, frame);
    }
}

static enum conn_step answer_error(struct conn *conn, const struct frame *frame, uint16_t error,
                                   const char *text)
{
    return conn_send_error(conn, frame->op, frame->correlation, error, text) ? CONN_TAKEN
                                                                             : CONN_WAITS;
}

/* ---- HELLO ---- */

static enum conn_step take_hello(struct conn *conn, const struct frame *frame)
{
    struct msg_hello m;
    char text[72];
    if (conn->phase != CONN_HELLO)
        return answer_error(conn, frame, PE_INVALID_ARGUMENT, "HELLO was answered before");
    uint16_t error = read_hello(frame, &m);
    if (error)
        return conn_fail(conn, error, OP_HELLO, frame->correlation,
                         error == PE_MALFORMED
                             ? "HELLO is not well-formed"
                             : "versions from 1 on, client_id and software of at most 255 bytes");
    if (m.version_min > PROTO_VERSION_MAX || m.version_max < PROTO_VERSION_MIN) {
        snprintf(text, sizeof(text), "client speaks %u..%u, this broker %u..%u", m.version_min,
                 m.version_max, PROTO_VERSION_MIN, PROTO_VERSION_MAX);
        return conn_fail(conn, PE_UNSUPPORTED_VERSION, OP_HELLO, frame->correlation, text);
    }
    uint16_t version = (uint16_t)min_u64(m.version_max, PROTO_VERSION_MAX);
    if (!send_hello_reply(conn, frame, version))
        return CONN_WAITS;
    conn_deadline_stop(conn);
    conn->phase = CONN_OPEN;
    log_hello(conn, &m);
    return CONN_TAKEN;
}

/* Which client is behind an address: both texts were checked. */
static void log_hello(const struct conn *conn, const struct msg_hello *m)
{
    char peer[ADDRESS_TEXT_MAX] = "unknown", client_id[256], software[256];
    struct address address;
    if (log_get_level() > LOG_LEVEL_DEBUG)
        return;
    if (address_of_peer(conn->fd, &address) == 0)
        address_format(&address, peer);
    snprintf(client_id, sizeof(client_id), "%.*s", (int)m->client_id.len,
             (const char *)m->client_id.bytes);
    snprintf(software, sizeof(software), "%.*s", (int)m->software.len,
             (const char *)m->software.bytes);
    LOG_DEBUG("conn.hello", LOG_STR("peer", peer), LOG_STR("client_id", client_id),
              LOG_STR("software", software));
}

static bool send_hello_reply(struct conn *conn, const struct frame *frame, uint16_t version)
{
    uint8_t *bytes = conn_out(conn, HELLO_REPLY_BYTES_MAX);
    if (!bytes)
        return false;
    const struct broker *broker = conn->core->broker;
    const struct config *config = broker->config;
    uint32_t batch = (uint32_t)config->batch_bytes_max;
    struct msg_hello_reply m = {
        .version = version,
        .software = slice_of_text(SOFTWARE),
        .request_bytes_max = (uint32_t)config->request_bytes_max,
        .record_bytes_max = (uint32_t)config->record_bytes_max,
        .batch_bytes_max = batch,
        .publishes_max = CONN_PUBLISHES_MAX,
        /* The credit of a subscription is divided among its shards, and each must be able to send
         * the largest batch there can be. */
        .subscription_credit_min = (FRAME_HEADER_SIZE + DELIVER_META_FIXED +
                                    (uint32_t)sizeof(struct deliver_item) + batch) *
                                   broker->shard_count,
    };
    memcpy(m.store_id, broker->store_id, sizeof(m.store_id));
    struct writer w =
        writer_make(bytes + FRAME_HEADER_SIZE, HELLO_REPLY_BYTES_MAX - FRAME_HEADER_SIZE);
    write_hello_reply(&w, &m);
    ASSERT(!w.failed);
    conn_out_commit(
        conn, frame_seal(bytes, OP_HELLO, FRAME_REPLY, frame->correlation, writer_length(&w), 0));
    return true;
}

/* ---- PING, STATUS ---- */

static enum conn_step take_ping(struct conn *conn, const struct frame *frame)
{
    if (read_empty(frame) != PE_NONE)
        return conn_fail(conn, PE_MALFORMED, OP_PING, frame->correlation, "PING has no meta");
    return conn_send_empty(conn, OP_PING, frame->correlation) ? CONN_TAKEN : CONN_WAITS;
}

static enum conn_step take_status(struct conn *conn, const struct frame *frame)
{
    if (read_empty(frame) != PE_NONE)
        return conn_fail(conn, PE_MALFORMED, OP_STATUS, frame->correlation, "STATUS has no meta");
    uint8_t *bytes = conn_out(conn, FRAME_HEADER_SIZE + STATUS_BYTES_MAX);
    if (!bytes)
        return CONN_WAITS;
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, STATUS_BYTES_MAX);
    metrics_write_status(conn->core->broker, &w);
    ASSERT(!w.failed);
    conn_out_commit(
        conn, frame_seal(bytes, OP_STATUS, FRAME_REPLY, frame->correlation, writer_length(&w), 0));
    return CONN_TAKEN;
}
