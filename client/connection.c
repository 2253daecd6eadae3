/* Making, keeping and ending the connection, and cutting what it brings into frames. Sending is in
 * sender.c.
 *
 * The happy path: connect, HELLO, its reply, then recv after recv until the end. Small frames are
 * taken from one input buffer; the rest of a large one is received where it shall stay: for DELIVER
 * in the consumer's memory, so what a consumer reads was copied once, by the kernel.
 *
 * Every failure ends in connection_close(): operations are cancelled, and when the last has come
 * back the descriptor is closed and the next attempt is planned, later each time, with jitter so
 * that many clients of a restarted broker do not come at once. */
#include "client/connection.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/client_private.h"
#include "client/consumer_private.h"
#include "proto/messages.h"

#define LARGE_FRAME_BYTES ((uint32_t)(32 * KIB)) // received in place from here on
#define HEADER_READ_BYTES                                                                          \
    ((uint32_t)(4 * KIB)) // after a large frame: the next one's header, little more
#define CONTROL_BYTES_FIRST ((uint32_t)(4 * KIB))

static struct sluice_client *client_of(struct connection *connection);
static void start_connecting(struct sluice_client *client);
static void connect_done(struct io_op *op);
static void send_hello(struct sluice_client *client);
static void finish_closing(struct sluice_client *client);
static void close_done(struct io_op *op);
static void plan_next(struct sluice_client *client);
static void start_recv(struct sluice_client *client);
static void recv_done(struct io_op *op);
static void take_frames(struct sluice_client *client);
static bool take_one(struct sluice_client *client);
static bool begin_large(struct sluice_client *client, uint32_t length);
static void finish_large(struct sluice_client *client);
static void drop_large(struct sluice_client *client);
static void dispatch(struct sluice_client *client, const uint8_t *bytes, uint32_t length,
                     struct delivery *delivery);
static void check_drained(struct sluice_client *client);

int connection_init(struct connection *connection)
{
    memset(connection, 0, sizeof(*connection));
    connection->fd = -1;
    connection->in = malloc(CONNECTION_IN_BYTES);
    connection->out = malloc(CONNECTION_OUT_BYTES);
    connection->control = malloc(CONTROL_BYTES_FIRST);
    connection->control_capacity = CONTROL_BYTES_FIRST;
    snprintf(connection->last_error, sizeof(connection->last_error), "not connected yet");
    if (!connection->in || !connection->out || !connection->control ||
        publishes_init(&connection->publishes) < 0) {
        connection_deinit(connection);
        return SLUICE_E_NO_MEMORY;
    }
    return SLUICE_OK;
}

void connection_deinit(struct connection *connection)
{
    ASSERT(connection->state == CONNECTION_DOWN);
    publishes_deinit(&connection->publishes);
    free(TAKE(connection->control));
    free(TAKE(connection->out));
    free(TAKE(connection->in));
}

void connection_turn(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    bool due = client->now_ns >= connection->at_ns;
    switch (connection->state) {
    case CONNECTION_DOWN:
        if (due && !client->stopping)
            start_connecting(client);
        break;
    case CONNECTION_CONNECTING:
    case CONNECTION_HELLO:
        if (due)
            connection_close(client, "the broker did not answer in time");
        break;
    case CONNECTION_UP:
        check_drained(client);
        break;
    case CONNECTION_CLOSING:
        finish_closing(client);
        break;
    }
    sender_start(client);
}

uint64_t connection_wake_ns(const struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSING ||
        (connection->state == CONNECTION_UP && !connection->draining))
        return UINT64_MAX;
    return connection->at_ns;
}

void connection_close(struct sluice_client *client, const char *why)
{
    struct connection *connection = &client->connection;
    if (connection->state == CONNECTION_DOWN || connection->state == CONNECTION_CLOSING)
        return;
    bool was_up = connection->state == CONNECTION_UP;
    connection->state = CONNECTION_CLOSING;
    connection->draining = false;
    if (was_up)
        connection->backoff_ms = 0;
    snprintf(connection->last_error, sizeof(connection->last_error), "%s", why);
    client_log(client, "%s: %s", client->server, why);
    io_cancel(client->io, &connection->connect_op);
    io_cancel(client->io, &connection->recv_op);
    io_cancel(client->io, &connection->send_op);
    connection->control_len = 0;
    if (!sluice_is_fatal(client->connect_status))
        client_set_connect_status(client, SLUICE_E_CONNECT);
    client_connection_lost(client);
}

uint8_t *connection_reserve(struct sluice_client *client, uint32_t meta_bytes)
{
    struct connection *connection = &client->connection;
    uint64_t needed = (uint64_t)connection->control_len + FRAME_HEADER_SIZE + meta_bytes;
    if (needed > connection->control_capacity) {
        uint64_t capacity = max_u64(needed, (uint64_t)connection->control_capacity * 2);
        uint8_t *control = capacity <= UINT32_MAX ? realloc(connection->control, capacity) : NULL;
        if (!control) {
            connection_close(client, "out of memory");
            return NULL;
        }
        connection->control = control;
        connection->control_capacity = (uint32_t)capacity;
    }
    return connection->control + connection->control_len;
}

void connection_queue(struct sluice_client *client, uint16_t op, uint64_t correlation,
                      uint32_t meta_bytes)
{
    struct connection *connection = &client->connection;
    connection->control_len += frame_seal(connection->control + connection->control_len, op, 0,
                                          correlation, meta_bytes, 0);
}

/* ---- making it ---- */

static struct sluice_client *client_of(struct connection *connection)
{
    return CONTAINER_OF(connection, struct sluice_client, connection);
}

static void start_connecting(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    connection->state = CONNECTION_CONNECTING;
    connection->at_ns = client->now_ns + client->connect_timeout_ms * NS_PER_MS;
    connection->in_start = connection->in_end = 0;
    connection->last_frame_bytes = 0;
    io_connect(client->io, &connection->connect_op, &client->address, connect_done);
}

static void connect_done(struct io_op *op)
{
    struct connection *connection = CONTAINER_OF(op, struct connection, connect_op);
    struct sluice_client *client = client_of(connection);
    if (op->result >= 0)
        connection->fd = op->result;
    if (connection->state != CONNECTION_CONNECTING)
        return; // cancelled: finish_closing() closes the descriptor
    if (op->result < 0) {
        char why[160];
        snprintf(why, sizeof(why), "connecting failed: %s",
                 op->os_error ? strerror(op->os_error) : status_text(op->result));
        connection_close(client, why);
        return;
    }
    address_tune_socket(connection->fd);
    connection->state = CONNECTION_HELLO;
    send_hello(client);
    start_recv(client);
}

static void send_hello(struct sluice_client *client)
{
    struct msg_hello hello = {
        .version_min = PROTO_VERSION_MIN,
        .version_max = PROTO_VERSION_MAX,
        .client_id = slice_of_text(client->client_id),
        .software = slice_of_text("libsluice " SLUICE_VERSION),
    };
    uint32_t room = 64 + hello.client_id.len + hello.software.len;
    uint8_t *frame = connection_reserve(client, room);
    if (!frame)
        return;
    struct writer w = writer_make(frame + FRAME_HEADER_SIZE, room);
    write_hello(&w, &hello);
    ASSERT(!w.failed);
    connection_queue(client, OP_HELLO, ++client->correlation, writer_length(&w));
}

const char *connection_hello_reply(struct sluice_client *client,
                                   const struct msg_hello_reply *reply)
{
    struct connection *connection = &client->connection;
    if (client->knows_store && memcmp(client->store_id, reply->store_id, 16) != 0) {
        client_set_connect_status(client, SLUICE_E_OTHER_STORE);
        return sluice_text(SLUICE_E_OTHER_STORE);
    }
    memcpy(client->store_id, reply->store_id, 16);
    client->knows_store = true;
    connection->state = CONNECTION_UP;
    connection->backoff_ms = 0;
    connection->last_error[0] = '\0';
    connection->request_bytes_max = reply->request_bytes_max;
    connection->publishes_max = reply->publishes_max;
    publishes_reset(&connection->publishes);
    atomic_store(&client->record_bytes_max, reply->record_bytes_max);
    atomic_store(&client->batch_bytes_max, reply->batch_bytes_max);
    atomic_store(&client->credit_min, reply->subscription_credit_min);
    client_log(client, "%s: connected to %.*s", client->server, (int)reply->software.len,
               (const char *)reply->software.bytes);
    client_set_connect_status(client, SLUICE_OK);
    client_connection_up(client);
    return NULL;
}

void connection_drain(struct sluice_client *client, uint32_t deadline_ms)
{
    client->connection.draining = true;
    client->connection.at_ns = client->now_ns + deadline_ms * NS_PER_MS;
}

/* The broker is going away: when nothing is unanswered, or its deadline comes, look for its
 * successor. */
static void check_drained(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    if (!connection->draining)
        return;
    bool quiet = publishes_in_flight(&connection->publishes) == 0 &&
                 !io_op_is_active(&connection->send_op) && !calls_are_out(client);
    if (quiet || client->now_ns >= connection->at_ns)
        connection_close(client, "the broker is shutting down");
}

/* ---- ending it ---- */

static void finish_closing(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    if (io_op_is_active(&connection->connect_op) || io_op_is_active(&connection->recv_op) ||
        io_op_is_active(&connection->send_op))
        return;
    drop_large(client);
    if (connection->fd >= 0) {
        int fd = connection->fd;
        connection->fd = -1;
        io_close(client->io, &connection->connect_op, fd, close_done);
        return;
    }
    plan_next(client);
}

static void close_done(struct io_op *op)
{
    (void)op; // the turn goes on in finish_closing()
}

static void plan_next(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    uint32_t backoff_ms =
        connection->backoff_ms == 0
            ? client->backoff_ms
            : (uint32_t)min_u64((uint64_t)connection->backoff_ms * 2, client->backoff_max_ms);
    connection->backoff_ms = backoff_ms;
    uint64_t backoff_us = (uint64_t)backoff_ms * 1000;
    uint64_t jitter_us = random_below(&client->random, backoff_us * 2 / 5 + 1);
    connection->at_ns = client->now_ns + (backoff_us * 4 / 5 + jitter_us) * NS_PER_US;
    connection->state = CONNECTION_DOWN;
}

/* ---- receiving ---- */

static void start_recv(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    uint8_t *to;
    uint32_t room;
    if (connection->large) {
        to = connection->large + connection->large_filled;
        room = connection->large_size - connection->large_filled;
    } else {
        if (connection->in_start > 0) {
            connection->in_end -= connection->in_start;
            memmove(connection->in, connection->in + connection->in_start, connection->in_end);
            connection->in_start = 0;
        }
        to = connection->in + connection->in_end;
        room = CONNECTION_IN_BYTES - connection->in_end;
        if (connection->last_frame_bytes >= LARGE_FRAME_BYTES && room > HEADER_READ_BYTES)
            room = HEADER_READ_BYTES;
    }
    io_recv(client->io, &connection->recv_op, connection->fd, to, room, recv_done);
}

static void recv_done(struct io_op *op)
{
    struct connection *connection = CONTAINER_OF(op, struct connection, recv_op);
    struct sluice_client *client = client_of(connection);
    if (connection->state == CONNECTION_CLOSING)
        return;
    if (op->result <= 0) {
        char why[160];
        snprintf(why, sizeof(why), "connection lost: %s",
                 op->result == 0 ? "closed by the broker"
                 : op->os_error  ? strerror(op->os_error)
                                 : status_text(op->result));
        connection_close(client, why);
        return;
    }
    if (connection->large) {
        connection->large_filled += (uint32_t)op->result;
        if (connection->large_filled == connection->large_size)
            finish_large(client);
    } else {
        connection->in_end += (uint32_t)op->result;
        take_frames(client);
    }
    if (connection->state == CONNECTION_HELLO || connection->state == CONNECTION_UP)
        start_recv(client);
}

static void take_frames(struct sluice_client *client)
{
    while (client->connection.state != CONNECTION_CLOSING && take_one(client))
        continue;
}

/* One whole frame from the input buffer. False: more bytes are needed, or the connection is ending.
 */
static bool take_one(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    const uint8_t *bytes = connection->in + connection->in_start;
    uint32_t available = connection->in_end - connection->in_start;
    int64_t length = frame_peek(bytes, available, CONNECTION_FRAME_BYTES_MAX);
    if (length < 0) {
        connection_close(client, "received a malformed frame");
        return false;
    }
    if (length == 0)
        return false;
    if (length > available) {
        if (length >= LARGE_FRAME_BYTES && available >= FRAME_HEADER_SIZE)
            begin_large(client, (uint32_t)length);
        return false;
    }
    connection->in_start += (uint32_t)length;
    connection->last_frame_bytes = (uint32_t)length;
    dispatch(client, bytes, (uint32_t)length, NULL);
    return true;
}

/* The header's checksum isn't verified yet: a wrong operation or correlation only means a wrong
 * place. */
static bool begin_large(struct sluice_client *client, uint32_t length)
{
    struct connection *connection = &client->connection;
    const uint8_t *bytes = connection->in + connection->in_start;
    const struct frame_header *header = (const void *)bytes;
    connection->large_delivery = NULL;
    if (le16_get(header->op) == OP_DELIVER && header->flags & FRAME_PUSH)
        connection->large_delivery = consumer_claim(client, le64_get(header->correlation), length);
    connection->large =
        connection->large_delivery ? connection->large_delivery->bytes : malloc(length);
    if (!connection->large) {
        connection_close(client, "out of memory");
        return false;
    }
    connection->large_size = length;
    connection->large_filled = connection->in_end - connection->in_start;
    memcpy(connection->large, bytes, connection->large_filled);
    connection->in_start = connection->in_end = 0;
    return true;
}

static void finish_large(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    uint8_t *bytes = TAKE(connection->large);
    struct delivery *delivery = TAKE(connection->large_delivery);
    connection->last_frame_bytes = connection->large_size;
    dispatch(client, bytes, connection->large_size, delivery);
    if (!delivery)
        free(bytes);
}

static void drop_large(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    uint8_t *bytes = TAKE(connection->large);
    struct delivery *delivery = TAKE(connection->large_delivery);
    if (delivery)
        consumer_unclaim(delivery);
    else
        free(bytes);
}

static void dispatch(struct sluice_client *client, const uint8_t *bytes, uint32_t length,
                     struct delivery *delivery)
{
    const char *why = dispatch_frame(client, bytes, length, delivery);
    if (why)
        connection_close(client, why);
}
