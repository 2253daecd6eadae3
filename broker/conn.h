/* Connections of a core: bytes in, requests out, answers back.
 *
 * Life of a connection (phase: what may happen in it, what ends it):
 *
 *   0 FREE       a slot in the table; `id.life` names the next life
 *   1 HELLO      accepted; only a HELLO of up to 64 KiB is read            HELLO_DEADLINE_NS
 *   2 OPEN       frames of up to request_bytes_max, each within            FRAME_DEADLINE_NS
 *   3 ENDING     nothing is read any more; answers and the error frame leave  SEND_DEADLINE_NS
 *                those that are owed to a peer that has closed are awaited    ANSWER_DEADLINE_NS
 *                (as often it is looked whether the peer of one that is OPEN
 *                and waits, so that nothing is read, is still there)
 *   4 LINGERING  our side is shut down; what the peer still sends is read   LINGER_DEADLINE_NS
 *                and dropped, or a reset would overtake the error frame
 *   5 CLOSING    operations are being cancelled; shards are told; then FREE
 *
 * Requests in flight hold no connection for longer: they come home, find that its life is over, and
 * are dropped.
 *
 * Receiving. An idle connection owns no buffer: io_readable() waits for it, then a buffer is
 * leased; while frames come in pieces, io_recv() goes on without it. Requests pin the buffer their
 * frames lie in. A large frame is received to its end, small ones as they come. What limits
 * reading: no buffer, request, or mailbox place (the connection waits in line for one), or a limit
 * of its own (it goes on when its answers have left). Whoever sends a frame in drips holds no
 * buffer for its first bytes, and, when others wait for buffers, is closed after a second; so is a
 * peer that does not read.
 *
 * Sending. Two lanes, one io_send() in flight: `out`, small buffers of acks and answers, first;
 * then `deliveries`, whole buffers sent from where they are. A frame is never split between lanes.
 *
 * Thread: all of it, the core's. */
#ifndef SLUICE_BROKER_CONN_H
#define SLUICE_BROKER_CONN_H

#include "base/io.h"
#include "base/pool.h"
#include "broker/request.h"
#include "proto/messages.h"

struct core;

enum conn_phase {
    CONN_FREE,
    CONN_HELLO,
    CONN_OPEN,
    CONN_ENDING,
    CONN_LINGERING,
    CONN_CLOSING,
};

/* What became of a frame. */
enum conn_step {
    CONN_TAKEN, // consumed: it was answered or is under way
    CONN_WAITS, // nothing happened: something is used up; the frame stays where it is
    CONN_ENDS,  // the connection is ending: look at no further frame
};

struct conn {
    struct core *core;
    struct conn_id id;
    int fd;
    uint8_t phase;          // enum conn_phase
    bool refused;           // over the limit: it only gets an error frame, and does not count
    const char *why;        // it ends, for the log
    struct list free_link;  // FREE: in conns->free
    struct list turn_link;  // in conns->turns: something to do in this turn
    struct list wait_link;  // in conns->waiting: for buffers, requests, mailbox places
    uint64_t wait_round;    // in which it was last tried
    struct list phase_link; // in one of conns->phases: the deadline of its phase or frame
    struct list send_link;  // in conns->sends
    uint64_t phase_since_ns;
    uint64_t send_since_ns;

    /* ---- receiving ---- */
    struct io_op recv_op;  // io_readable, io_recv, and at the end io_close
    struct buffer *buffer; // leased, or NULL: [0, parsed) belongs to requests, [parsed,
                           // filled) is not yet looked at
    uint32_t parsed, filled;
    uint32_t frame_bytes;      // of the frame that begins at `parsed`; 0: unknown
    uint32_t frame_bytes_last; // of the last whole frame: the best guess for the next
    uint32_t recv_bytes_last;
    uint8_t stash[CONN_STASH_BYTES]; // without a buffer: the begin of a frame, [0, filled)
    bool is_readable;                // io_readable() said so, and nothing was received since
    bool at_end;                     // the peer sends no more
    bool has_frame;                  // a frame has begun: phase_since_ns counts
    bool is_unread;                  // it waits, nothing is being read; likewise
    uint64_t pinned_bytes;           // of buffers leased for this connection, also for answers

    /* ---- requests ---- */
    uint64_t publish_next;     // publish number that must come next
    uint32_t publishes;        // unanswered PRODUCE frames
    uint32_t requests;         // unanswered requests
    uint32_t fetches;          // FETCHes that a shard has accepted, whose answer is still to be
                               // delivered: they may wait long, a drain doesn't wait for them
    struct request *run;       // PRODUCE frames being gathered; only during conn_parse()
    struct list acks;          // answered PRODUCE requests, by publish number
    struct list answers;       // other answered requests
    struct list subscriptions; // struct conn_subscription
    uint32_t subscription_count;
    uint64_t shards_told; // shards that may know this connection: to be told of its end

    /* ---- sending ---- */
    struct io_op send_op;
    struct buffer *out_first, *out_last; // lane 1, by next_free
    uint32_t out_bytes;                  // in lane 1
    struct list deliveries;              // lane 2: requests
    struct request *sending;             // of lane 2; NULL: out_first
    uint32_t sent, piece; // of the buffer that is being sent; length of the send in flight
    bool goaway_told;
};

/* ---- the table of a core ---- */

enum conn_deadline {
    CONN_DEADLINE_HELLO,
    CONN_DEADLINE_FRAME,
    CONN_DEADLINE_ANSWER,
    CONN_DEADLINE_LINGER,
    CONN_DEADLINE_COUNT
};

struct conns {
    struct core *core;
    struct conn *slots;
    uint32_t slot_count;
    uint32_t open_count; // phases HELLO..CLOSING
    struct list free;
    struct list turns;   // connections with something to do in this turn
    struct list waiting; // ... that wait for something of the core's, round robin
    struct list
        phases[CONN_DEADLINE_COUNT]; // by age: each list has one duration, so its head is due first
    struct list sends;               // by age
    struct list farewells;           // CLOSING, with shards still to be told
    struct list unsent; // requests that found their mailbox full; sent before anything else
    struct pool subscriptions;
    bool buffers_missed; // among those that wait are some that found no buffer
    uint64_t freed_seen; // what `waiting` is being tried for
    uint64_t round;      // of tries of `waiting`
    bool retry;          // some have not had their try in this round
    bool draining;
    uint32_t goaway_next;  // slots below were told
    uint8_t discard[4096]; // where LINGERING connections receive to
};

/* slot_count: connections this core can hold. Returns 0 or NO_MEMORY. */
MUST_USE int conns_init(struct conns *conns, struct core *core, uint32_t slot_count);
void conns_deinit(struct conns *conns);
size_t conns_bytes(uint32_t slot_count, uint16_t shard_count); // what conns_init() takes

/* Serves a new socket from now on; the caller has made sure of a free slot. refuse: says
 * LIMIT_REACHED and ends it. */
void conn_open(struct conns *conns, int fd, bool refuse);

/* The named connection if it still lives, else NULL. */
struct conn *conn_find(struct conns *conns, struct conn_id id);

/* A request of a connection (or of this file) came home; a delivery or a socket arrived. */
void conn_on_reply(struct conns *conns, struct request *request);
void conn_on_deliver(struct conns *conns, struct request *delivery);

/* Once per turn, after the shards: acks, sends, those that waited, deadlines. Returns work done. */
int conns_turn(struct conns *conns);
uint64_t conns_deadline_ns(const struct conns *conns);

/* Tells every connection GOAWAY. */
void conns_drain(struct conns *conns);
bool conns_are_quiet(const struct conns *conns); // draining: no answer is owed or on its way
/* Ends all as conn_end() does, so that acks on their way aren't lost to a reset; or closes all at
 * once. Then turn until conns->open_count is 0. */
void conns_end_all(struct conns *conns);
void conns_close_all(struct conns *conns);

/* ---- conn.c: ending ---- */

/* Sends an error frame and ends the connection, with one log line: for what a peer must not do. */
enum conn_step conn_fail(struct conn *conn, uint16_t error, uint16_t op, uint64_t correlation,
                         const char *text);
/* Ends it as soon as answers have left; or now. `why` is static text. */
void conn_end(struct conn *conn, const char *why);
void conn_close(struct conn *conn, const char *why);
void conn_recv_ended(struct conn *conn); // recv_op completed in a phase that doesn't receive
void conn_send_ended(struct conn *conn); // send_op completed after the end
void conn_wants_turn(struct conn *conn);
void conn_waits(struct conn *conn); // until something of the core's is free again
void conn_deadline_start(struct conn *conn, enum conn_deadline deadline);
void conn_deadline_stop(struct conn *conn);
void conn_shards_tell(struct conn *conn, uint64_t shards); // at its end these are told

/* ---- conn_recv.c ---- */

void conn_read(struct conn *conn);   // starts what comes next on the receiving side
void conn_resume(struct conn *conn); // looks at what is there, then reads on
void conn_unpin(struct conn *conn, struct buffer *buffer); // as buffer_unref(), with the account
void conn_unwatch_frame(
    struct conn *conn);                  // a frame is complete, or we are the ones that don't read
void conn_watch_peer(struct conn *conn); // nothing is read, so nobody would see it close

/* ---- conn_parse.c ---- */

/* Takes the whole frames in [parsed, filled). False: it must wait for something of the core's. */
bool conn_parse(struct conn *conn);
bool conn_may_take(const struct conn *conn); // no limit of its own forbids another frame

/* ---- conn_send.c ---- */

/* Room for a frame of up to `bytes` in lane 1, or NULL: no buffer now. Then conn_out_commit(). */
uint8_t *conn_out(struct conn *conn, uint32_t bytes);
void conn_out_commit(struct conn *conn, uint32_t bytes);
void conn_deliver(struct conn *conn, struct request *delivery); // into lane 2
void conn_send(struct conn *conn);             // starts the next send if none is in flight
bool conn_is_sending(const struct conn *conn); // something is queued or in flight
void conn_drop_sends(struct conn *conn);
void delivery_finish(struct core *core, struct request *delivery); // sent or dropped: goes home
/* Answers with an error frame. False: no buffer now. text NULL or "": the error's own. */
bool conn_send_error(struct conn *conn, uint16_t op, uint64_t correlation, uint16_t error,
                     const char *text);
/* The failure of a publish that reached no shard: every batch got this error. */
bool conn_send_produce_error(struct conn *conn, uint64_t correlation, uint16_t error,
                             const char *text, uint16_t batch_count);
bool conn_send_empty(struct conn *conn, uint16_t op, uint64_t correlation); // a reply without meta
bool conn_send_goaway(struct conn *conn, uint32_t deadline_ms);

/* ---- conn_reply.c ---- */

/* Writes out what was answered. False: a buffer is missing. */
bool conn_flush(struct conn *conn);
void conn_drop_answers(struct conn *conn);
void conn_finish(struct conn *conn, struct request *request);  // answered: gives everything back
void request_drop(struct core *core, struct request *request); // its connection is gone

/* ---- conn_ack.c ---- */
bool conn_flush_acks(struct conn *conn);
void conn_insert_ack(struct conn *conn, struct request *request);

/* ---- conn_subscription.c ---- */

enum conn_subscription_state { SUBSCRIPTION_BEGINNING, SUBSCRIPTION_ACTIVE };
struct conn_subscription {
    struct list link; // conn->subscriptions
    uint64_t id;      // correlation of its SUBSCRIBE
    uint64_t shards;  // that serve parts of it, a bit each
    uint8_t state;
    struct list held; // deliveries that came before the SUBSCRIBE was answered
    uint64_t owed[];  // several shards: bytes that each delivered and got no credit for since
};
size_t conn_subscription_bytes(uint16_t shard_count);
struct conn_subscription *conn_subscription_add(struct conn *conn, uint64_t id, uint64_t shards);
struct conn_subscription *conn_subscription_find(const struct conn *conn, uint64_t id);
void conn_subscription_activate(struct conn *conn, struct conn_subscription *subscription);
void conn_subscription_delivered(struct conn *conn, struct conn_subscription *subscription,
                                 const struct request *delivery);
void conn_subscription_remove(struct conn *conn, struct conn_subscription *subscription);
void conn_subscriptions_clear(struct conn *conn);
/* How much of a CREDIT each of its shards gets: what it delivered; what is left over in equal
 * parts. */
void conn_subscription_share(struct conn_subscription *subscription, uint64_t bytes,
                             uint64_t share[SHARDS_MAX]);

#endif
