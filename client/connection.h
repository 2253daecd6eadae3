/* The client's one connection to the broker: making it, keeping it, splitting what it brings into
 * frames.
 *
 *   state       | leaves when
 *   ------------+--------------------------------------------------------------------------------
 *   DOWN        | the backoff has passed -> CONNECTING
 *   CONNECTING  | the socket is connected -> HELLO;  failure, timeout -> CLOSING
 *   HELLO       | the broker's HELLO reply is right -> UP;  failure, timeout -> CLOSING
 *   UP          | error, end of stream, malformed frame, end of draining -> CLOSING
 *   CLOSING     | no operation is in flight any more -> DOWN
 *
 * Whoever uses the connection hears of it by client_connection_up() and client_connection_lost();
 * requests, publishes and subscriptions are their owners' to repeat. Thread: I/O. */
#ifndef SLUICE_CLIENT_CONNECTION_H
#define SLUICE_CLIENT_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "client/publishes.h"
#include "proto/cursor.h"
#include "proto/frame.h"

struct delivery;
struct msg_hello_reply;
struct parcel;
struct sluice_client;

enum connection_state {
    CONNECTION_DOWN,
    CONNECTION_CONNECTING,
    CONNECTION_HELLO,
    CONNECTION_UP,
    CONNECTION_CLOSING,
};

struct connection {
    enum connection_state state;
    bool draining; // the broker is going away: nothing new is sent
    int fd;        // -1: none
    struct io_op connect_op;
    struct io_op recv_op;
    struct io_op send_op;
    uint64_t at_ns;       // DOWN: next attempt; CONNECTING, HELLO: give up; draining: close
    uint32_t backoff_ms;  // before jitter; 0 after a connection was up
    char last_error[160]; // why there is no connection, for error texts; "" while up

    /* ---- in: frames are taken from [in_start, in_end) of `in`; a longer one has a buffer of its
     * own ---- */
    uint8_t *in;
    uint32_t in_start, in_end;
    uint32_t
        last_frame_bytes; // large ones come in rows: then read a header first, the rest in place
    uint8_t *large;       // the frame that is being received directly; NULL: none
    struct delivery *large_delivery; // whose memory it is; NULL: malloc's
    uint32_t large_size, large_filled;

    /* ---- out: one send at a time, from `out` or from a parcel's own block ---- */
    uint8_t *control; // frames without batches, waiting; grows
    uint32_t control_len, control_capacity;
    uint8_t *out;
    struct parcel *out_parcel;  // being sent from its block
    struct parcel *next_parcel; // taken from its lane, to be sent from its block after `out`
    struct publishes publishes;

    /* ---- as the broker said ---- */
    uint32_t request_bytes_max;
    uint32_t publishes_max;
};

#define CONNECTION_IN_BYTES ((uint32_t)(256 * KIB))
#define CONNECTION_OUT_BYTES ((uint32_t)(1 * MIB))
#define CONNECTION_FRAME_BYTES_MAX ((uint32_t)(64 * MIB)) // received; a batch has at most a quarter

/* Returns 0 or NO_MEMORY. */
MUST_USE int connection_init(struct connection *connection);
void connection_deinit(struct connection *connection); // DOWN only

/* One turn: timeouts, reconnecting, starting what can be started. */
void connection_turn(struct sluice_client *client);

/* When connection_turn() has to run next without any event; UINT64_MAX: never. */
uint64_t connection_wake_ns(const struct connection *connection);

/* Ends the connection now and tells everybody; `why` goes to the log. */
void connection_close(struct sluice_client *client, const char *why);

/* Room for a frame without data, with meta of up to meta_bytes: write the meta at the returned
 * place + FRAME_HEADER_SIZE, then connection_queue(). NULL: no memory (then the connection is
 * closed). */
uint8_t *connection_reserve(struct sluice_client *client, uint32_t meta_bytes);
void connection_queue(struct sluice_client *client, uint16_t op, uint64_t correlation,
                      uint32_t meta_bytes);

/* Up, and new things may be sent. */
static inline bool connection_is_up(const struct connection *connection)
{
    return connection->state == CONNECTION_UP && !connection->draining;
}

/* The broker took the HELLO. NULL, or why it is not ours to talk to: it is another one than before,
 * in whose store our ids and offsets mean something else. */
const char *connection_hello_reply(struct sluice_client *client,
                                   const struct msg_hello_reply *reply);
/* The broker is going away. */
void connection_drain(struct sluice_client *client, uint32_t deadline_ms);

/* Starts the next send if none is in flight (sender.c). */
void sender_start(struct sluice_client *client);

/* Reads a received frame and gives it to its owner (dispatch.c). `delivery` is the consumer's
 * memory it lies in, handed over in any case, or NULL. Returns NULL, or why the frame breaks the
 * protocol. */
const char *dispatch_frame(struct sluice_client *client, const uint8_t *bytes, uint32_t length,
                           struct delivery *delivery);

#endif
