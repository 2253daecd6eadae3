/* Receiving: when to wait without a buffer, which buffer to lease, how much to ask for.
 *
 * The happy path for large frames: readable, lease MEDIUM, receive a little more than the last
 * frame had, find one whole frame and the begin of the next, pin the buffer, move the begin to the
 * next one. For small ones: receive what is there, take all whole frames, go on in the same buffer
 * while it has room. Where bytes end with a frame, nothing may follow for a long time: the buffer
 * is given up, and io_readable() waits.
 *
 * A frame that doesn't fit its buffer moves, once, as soon as its length is known. When no buffer
 * is free the connection waits in line; TCP tells the peer. */
#include <string.h>

#include "broker/broker.h"

static void stash(struct conn *conn);
static bool make_room(struct conn *conn);
static bool has_room(const struct conn *conn);
static void compact(struct conn *conn);
static bool move(struct conn *conn, uint32_t bytes, bool for_frame);
static uint32_t wish(const struct conn *conn);
static uint32_t recv_length(const struct conn *conn);
static void readable_done(struct io_op *op);
static void recv_done(struct io_op *op);
static void drop_idle_buffer(struct conn *conn);
static void watch_frame(struct conn *conn);
static void unwatch_peer(struct conn *conn);

#define EXACT_BYTES                                                                                \
    ((uint32_t)(32 * KIB)) // frames from here on are received to their end, not beyond
#define TAIL_BYTES ((uint32_t)(4 * KIB)) // less room than this is not worth a receive

void conn_read(struct conn *conn)
{
    if ((conn->phase != CONN_HELLO && conn->phase != CONN_OPEN) ||
        io_op_is_active(&conn->recv_op) || list_is_linked(&conn->wait_link))
        return;
    if (!conn_may_take(conn)) { // its own answers bring it back
        if (conn->parsed == conn->filled && conn->buffer && conn->buffer->references == 1)
            drop_idle_buffer(conn);
        conn_unwatch_frame(conn);
        conn_watch_peer(conn);
        counter_add(&conn->core->counters.waits_limit_total, 1);
        return;
    }
    if (conn->parsed == conn->filled && !conn->is_readable) {
        drop_idle_buffer(conn);
        unwatch_peer(conn);
        io_readable(conn->core->io, &conn->recv_op, conn->fd, readable_done);
        return;
    }
    if (!conn->is_readable && conn->filled - conn->parsed <= CONN_STASH_BYTES) {
        stash(conn);
        unwatch_peer(conn);
        watch_frame(conn);
        io_readable(conn->core->io, &conn->recv_op, conn->fd, readable_done);
        return;
    }
    if (!make_room(conn)) {
        conn_unwatch_frame(conn);
        counter_add(&conn->core->counters.waits_buffer_total, 1);
        conn_waits(conn);
        return;
    }
    unwatch_peer(conn);
    watch_frame(conn);
    io_recv(conn->core->io, &conn->recv_op, conn->fd, conn->buffer->bytes + conn->filled,
            recv_length(conn), recv_done);
}

void conn_resume(struct conn *conn)
{
    if (io_op_is_active(&conn->recv_op))
        return;
    if (conn->phase != CONN_HELLO && conn->phase != CONN_OPEN)
        return;
    if (!conn_parse(conn)) {
        counter_add(&conn->core->counters.waits_request_total, 1);
        conn_waits(conn);
    }
    conn_read(conn);
}

/* ---- completions ---- */

static void readable_done(struct io_op *op)
{
    struct conn *conn = CONTAINER_OF(op, struct conn, recv_op);
    if (conn->phase != CONN_HELLO && conn->phase != CONN_OPEN) {
        conn_recv_ended(conn);
    } else if (op->result < 0) {
        conn_close(conn, "receiving failed");
    } else {
        conn->is_readable = true;
        conn_read(conn);
    }
}

static void recv_done(struct io_op *op)
{
    struct conn *conn = CONTAINER_OF(op, struct conn, recv_op);
    if (conn->phase != CONN_HELLO && conn->phase != CONN_OPEN) {
        conn_recv_ended(conn);
        return;
    }
    if (op->result < 0) {
        conn_close(conn, "receiving failed");
        return;
    }
    if (op->result == 0) {
        conn->at_end = true;
        conn_end(conn, "the peer closed");
        return;
    }
    uint32_t bytes = (uint32_t)op->result;
    conn->filled += bytes;
    conn->recv_bytes_last = bytes;
    conn->is_readable = false;
    counter_add(&conn->core->counters.received_bytes_total, bytes);
    conn_resume(conn);
}

/* ---- buffers ---- */

void conn_unpin(struct conn *conn, struct buffer *buffer)
{
    if (buffer->references == 1) {
        ASSERT(conn->pinned_bytes >= buffer->capacity);
        conn->pinned_bytes -= buffer->capacity;
    }
    buffer_unref(&conn->core->buffers, buffer);
}

static void drop_idle_buffer(struct conn *conn)
{
    if (conn->buffer)
        conn_unpin(conn, TAKE(conn->buffer));
    conn->parsed = conn->filled = 0;
}

/* The rest of this frame may be long in coming: a few bytes are no reason to hold a buffer. */
static void stash(struct conn *conn)
{
    if (!conn->buffer)
        return;
    uint32_t tail = conn->filled - conn->parsed;
    memcpy(conn->stash, conn->buffer->bytes + conn->parsed, tail);
    conn_unpin(conn, TAKE(conn->buffer));
    conn->parsed = 0;
    conn->filled = tail;
}

/* Sees to it that the buffer has room for what comes next. False: no buffer now.
 *
 * Whoever waits for a buffer must not sit on one that others, or its own next frame, wait for:
 * JUMBO is left as soon as its frame is complete, and a buffer whose requests are all answered is
 * used again from its start. */
static bool make_room(struct conn *conn)
{
    if (conn->buffer && conn->buffer->class == BUFFER_JUMBO && conn->parsed > 0 &&
        !move(conn, conn->filled - conn->parsed + 1, false))
        return false;
    if (!conn->buffer)
        return move(conn, conn->frame_bytes > 0 ? conn->frame_bytes : wish(conn), true);
    if (has_room(conn))
        return true;
    if (conn->parsed > 0 && conn->buffer->references == 1) {
        compact(conn);
        if (has_room(conn))
            return true;
    }
    return move(conn, conn->frame_bytes > 0 ? conn->frame_bytes : wish(conn), true);
}

/* For the whole frame that has begun; or, when its length is not known, for one like the last. */
static bool has_room(const struct conn *conn)
{
    uint32_t capacity = conn->buffer->capacity;
    if (conn->frame_bytes > 0)
        return conn->frame_bytes <= capacity - conn->parsed;
    uint32_t guess = conn->frame_bytes_last >= EXACT_BYTES ? conn->frame_bytes_last : TAIL_BYTES;
    return conn->parsed == 0 ? conn->filled < capacity : guess <= capacity - conn->filled;
}

static void compact(struct conn *conn)
{
    uint32_t tail = conn->filled - conn->parsed;
    memmove(conn->buffer->bytes, conn->buffer->bytes + conn->parsed, tail);
    conn->parsed = 0;
    conn->filled = tail;
}

/* Into a fresh buffer of that many bytes, with what is not yet parsed. A mere wish may be met by
 * less; what a frame needs may not. */
static bool move(struct conn *conn, uint32_t bytes, bool for_frame)
{
    struct buffers *buffers = &conn->core->buffers;
    uint32_t tail = conn->filled - conn->parsed;
    uint32_t least = for_frame ? (uint32_t)max_u64(conn->frame_bytes, tail + 1) : tail + 1;
    struct buffer *fresh =
        buffer_acquire_for(buffers, (uint32_t)max_u64(bytes, least), BUFFER_FOR_RECEIVE);
    if (!fresh && least < bytes)
        fresh = buffer_acquire_for(buffers, least, BUFFER_FOR_RECEIVE);
    if (!fresh)
        return false;
    conn->pinned_bytes += fresh->capacity;
    if (tail > 0)
        memcpy(fresh->bytes, conn->buffer ? conn->buffer->bytes + conn->parsed : conn->stash, tail);
    if (conn->buffer)
        conn_unpin(conn, conn->buffer);
    conn->buffer = fresh;
    conn->parsed = 0;
    conn->filled = tail;
    return true;
}

/* What the next buffer should hold: a frame like the last one, or as much as came last. */
static uint32_t wish(const struct conn *conn)
{
    if (conn->phase == CONN_HELLO)
        return BUFFER_SMALL_BYTES;
    if (conn->frame_bytes_last >= EXACT_BYTES && conn->frame_bytes_last <= BUFFER_LARGE_BYTES)
        return conn->frame_bytes_last;
    return conn->recv_bytes_last >= BUFFER_SMALL_BYTES / 2 ? BUFFER_MEDIUM_BYTES
                                                           : BUFFER_SMALL_BYTES;
}

/* A large frame to its end and a little further: the little is cheap to move, and tells whether
 * more is there without asking again. Small ones: all that fits. */
static uint32_t recv_length(const struct conn *conn)
{
    uint32_t room = conn->buffer->capacity - conn->filled;
    uint32_t tail = conn->filled - conn->parsed;
    uint32_t frame = conn->frame_bytes > 0 ? conn->frame_bytes : conn->frame_bytes_last;
    ASSERT(room > 0);
    if (frame < EXACT_BYTES || frame < tail)
        return room;
    return (uint32_t)min_u64(room, frame - tail + TAIL_BYTES);
}

/* The deadline of a frame runs while we read and part of it is there. */
static void watch_frame(struct conn *conn)
{
    if (conn->phase != CONN_OPEN || conn->has_frame || conn->filled == conn->parsed)
        return;
    conn->has_frame = true;
    conn_deadline_start(conn, CONN_DEADLINE_FRAME);
}

void conn_unwatch_frame(struct conn *conn)
{
    if (!conn->has_frame)
        return;
    conn->has_frame = false;
    conn_deadline_stop(conn);
}

/* In conn.c it is looked at now and then. */
void conn_watch_peer(struct conn *conn)
{
    if (conn->phase != CONN_OPEN || conn->is_unread || conn->has_frame ||
        io_op_is_active(&conn->recv_op))
        return;
    conn->is_unread = true;
    conn_deadline_start(conn, CONN_DEADLINE_ANSWER);
}

static void unwatch_peer(struct conn *conn)
{
    if (!conn->is_unread)
        return;
    conn->is_unread = false;
    conn_deadline_stop(conn);
}
