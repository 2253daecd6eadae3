/* Sending: two lanes, one send in flight.
 *
 * Lane 1 (`out`) takes acks and answers: small buffers, filled one behind the other, so that a
 * turn's worth leaves in one send. Lane 2 (`deliveries`) takes requests with whole buffers: they
 * are sent from where they are and go home when the last byte has left. Lane 1 goes first: acks are
 * what producers wait for. A buffer is finished before the lane changes, so frames stay whole.
 * Large ones leave in pieces, each with a deadline of its own: a peer that reads slowly is served,
 * one that doesn't read is closed.
 *
 * It fails when the peer is gone: then the connection closes, and what was queued goes home
 * unsent. */
#include "broker/broker.h"

static void send_next(struct conn *conn);
static void start_piece(struct conn *conn, const uint8_t *bytes, uint32_t length);
static void send_done(struct io_op *op);
static void finish_buffer(struct conn *conn);

/* The buffer and length that a request of lane 2 is sent from. */
static const uint8_t *sent_bytes(const struct request *request, uint32_t *length)
{
    if (request->kind == REQUEST_CLIENT) {
        *length = request->reply_bytes;
        return request->reply->bytes;
    }
    *length = request->frame_bytes;
    return request->frames ? request->frames : request->buffer->bytes;
}

/* ---- lane 1 ---- */

uint8_t *conn_out(struct conn *conn, uint32_t bytes)
{
    struct buffer *last = conn->out_last;
    bool in_flight =
        last && last == conn->out_first && io_op_is_active(&conn->send_op) && !conn->sending;
    if (last && !in_flight && last->capacity - last->used >= bytes)
        return last->bytes + last->used;
    struct buffer *fresh = buffer_acquire(&conn->core->buffers, bytes);
    if (!fresh)
        return NULL;
    if (last)
        last->next_free = fresh;
    else
        conn->out_first = fresh;
    conn->out_last = fresh;
    return fresh->bytes;
}

void conn_out_commit(struct conn *conn, uint32_t bytes)
{
    struct buffer *last = conn->out_last;
    ASSERT(last && bytes <= last->capacity - last->used);
    last->used += bytes;
    conn->out_bytes += bytes;
    conn_wants_turn(conn);
}

bool conn_send_error(struct conn *conn, uint16_t op, uint64_t correlation, uint16_t error,
                     const char *text)
{
    uint32_t room = 512;
    uint8_t *bytes = conn_out(conn, room);
    if (!bytes)
        return false;
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, room - FRAME_HEADER_SIZE);
    write_error(&w, error, text && *text ? text : NULL);
    ASSERT(!w.failed);
    counter_add(&conn->core->counters.errors_sent_total, 1);
    conn_out_commit(
        conn, frame_seal(bytes, op, FRAME_REPLY | FRAME_ERROR, correlation, writer_length(&w), 0));
    return true;
}

bool conn_send_produce_error(struct conn *conn, uint64_t correlation, uint16_t error,
                             const char *text, uint16_t batch_count)
{
    struct msg_produce_result result = {.error = error};
    uint32_t room = 512 + (uint32_t)sizeof(le16) + batch_count * 10u;
    uint8_t *bytes = conn_out(conn, room);
    if (!bytes)
        return false;
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, room - FRAME_HEADER_SIZE);
    write_produce_failure_begin(&w, error, text && *text ? text : NULL, batch_count);
    for (uint32_t i = 0; i < batch_count; i++)
        write_produce_result(&w, &result);
    ASSERT(!w.failed);
    counter_add(&conn->core->counters.errors_sent_total, 1);
    conn_out_commit(conn, frame_seal(bytes, OP_PRODUCE, FRAME_REPLY | FRAME_ERROR, correlation,
                                     writer_length(&w), 0));
    return true;
}

bool conn_send_empty(struct conn *conn, uint16_t op, uint64_t correlation)
{
    uint8_t *bytes = conn_out(conn, FRAME_HEADER_SIZE);
    if (!bytes)
        return false;
    conn_out_commit(conn, frame_seal(bytes, op, FRAME_REPLY, correlation, 0, 0));
    return true;
}

bool conn_send_goaway(struct conn *conn, uint32_t deadline_ms)
{
    uint32_t room = FRAME_HEADER_SIZE + 64;
    uint8_t *bytes = conn_out(conn, room);
    if (!bytes)
        return false;
    struct msg_goaway m = {.deadline_ms = deadline_ms, .reason = slice_of_text("draining")};
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, room - FRAME_HEADER_SIZE);
    write_goaway(&w, &m);
    ASSERT(!w.failed);
    conn_out_commit(conn, frame_seal(bytes, OP_GOAWAY, FRAME_PUSH, 0, writer_length(&w), 0));
    return true;
}

/* ---- lane 2 ---- */

void conn_deliver(struct conn *conn, struct request *delivery)
{
    list_push_back(&conn->deliveries, &delivery->link);
    conn_wants_turn(conn);
}

void delivery_finish(struct core *core, struct request *delivery)
{
    if (delivery->kind == REQUEST_DELIVER) {
        mailbox_reply(&core->mailbox, delivery);
        return;
    }
    struct conn *conn = conn_find(&core->conns, delivery->conn);
    if (conn)
        conn_finish(conn, delivery);
    else
        request_drop(core, delivery);
}

/* ---- the send in flight ---- */

bool conn_is_sending(const struct conn *conn)
{
    return io_op_is_active(&conn->send_op) || conn->out_first || conn->sending ||
           !list_is_empty(&conn->deliveries);
}

void conn_send(struct conn *conn)
{
    if (io_op_is_active(&conn->send_op) || conn->phase >= CONN_LINGERING)
        return;
    send_next(conn);
}

static void send_next(struct conn *conn)
{
    uint32_t length;
    if (conn->sending || (!conn->out_first && !list_is_empty(&conn->deliveries))) {
        if (!conn->sending)
            conn->sending = CONTAINER_OF(list_pop_front(&conn->deliveries), struct request, link);
        const uint8_t *bytes = sent_bytes(conn->sending, &length);
        start_piece(conn, bytes, length);
    } else if (conn->out_first) {
        start_piece(conn, conn->out_first->bytes, conn->out_first->used);
    }
}

static void start_piece(struct conn *conn, const uint8_t *bytes, uint32_t length)
{
    ASSERT(conn->sent < length);
    conn->piece = (uint32_t)min_u64(length - conn->sent, SEND_PIECE_BYTES);
    conn->send_since_ns = conn->core->now_ns;
    list_push_back(&conn->core->conns.sends, &conn->send_link);
    io_send(conn->core->io, &conn->send_op, conn->fd, bytes + conn->sent, conn->piece, send_done);
}

static void send_done(struct io_op *op)
{
    struct conn *conn = CONTAINER_OF(op, struct conn, send_op);
    list_remove(&conn->send_link);
    if (conn->phase == CONN_CLOSING) {
        conn_send_ended(conn);
        return;
    }
    if (op->result < 0) {
        conn_close(conn, "sending failed");
        return;
    }
    conn->sent += conn->piece;
    counter_add(&conn->core->counters.sent_bytes_total, conn->piece);
    uint32_t length = conn->sending ? 0 : conn->out_first->used;
    if (conn->sending)
        (void)sent_bytes(conn->sending, &length);
    if (conn->sent == length)
        finish_buffer(conn);
    send_next(conn);
    conn_wants_turn(conn); // what waited for room in the lanes may go on
}

static void finish_buffer(struct conn *conn)
{
    conn->sent = 0;
    if (conn->sending) {
        counter_add(&conn->core->counters.deliveries_sent_total, 1);
        delivery_finish(conn->core, TAKE(conn->sending));
        return;
    }
    struct buffer *buffer = conn->out_first;
    conn->out_first = buffer->next_free;
    if (!conn->out_first)
        conn->out_last = NULL;
    conn->out_bytes -= buffer->used;
    buffer_unref(&conn->core->buffers, buffer);
}

void conn_drop_sends(struct conn *conn)
{
    struct core *core = conn->core;
    while (conn->out_first) {
        struct buffer *buffer = conn->out_first;
        conn->out_first = buffer->next_free;
        buffer_unref(&core->buffers, buffer);
    }
    conn->out_last = NULL;
    conn->out_bytes = 0;
    if (conn->sending)
        delivery_finish(core, TAKE(conn->sending));
    for (struct list *node; (node = list_pop_front(&conn->deliveries));)
        delivery_finish(core, CONTAINER_OF(node, struct request, link));
}
