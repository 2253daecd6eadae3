/* The message that travels between cores, and everything that hangs on it.
 *
 * Life of a request (phase: function that moves it: on whose thread):
 *
 *   0 FREE       request_acquire()                       origin
 *   1 FILLING    conn_parse(), dispatch()                origin
 *   2 SENT       mailbox_send(): ring, or the local queue  origin -> target
 *   3 AT TARGET  shard_step(): handle_*(); may wait for the disk or for data
 *   4 REPLIED    mailbox_reply()                         target -> origin
 *   5 FREE       conn_on_reply(), request_release()      origin
 *
 * In phase 3 a PRODUCE of one frame, on its origin's core, gives its buffer back as soon as its batches are in the log, and
 * keeps the frame's head (`u.kept`): the next bytes of the socket then come to memory that is warm in the cache, instead of
 * to as many buffers as a disk takes its time for.
 *
 * Whoever holds it in a phase owns all of it. A request never outlives its origin's core, and always comes back, also when its
 * connection has died meanwhile (conn_id tells) or the shard is stopping. Memory: everything a request points
 * at (buffer) belongs to the origin core and is only lent. Two directions use it: connection -> shard
 * (requests of clients) and shard -> connection (deliveries: origin is the shard's core). */
#ifndef SLUICE_BROKER_REQUEST_H
#define SLUICE_BROKER_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "broker/buffer.h"
#include "broker/limits.h"
#include "proto/messages_txn.h"

/* Names a connection even after it died: slot in the core's table, and a count of its lives. */
struct conn_id {
    uint16_t core;
    uint16_t reserved;
    uint32_t slot;
    uint64_t life;
};

enum request_kind {
    REQUEST_CLIENT,      // conn -> shard: one frame, by op (or a run of PRODUCE frames)
    REQUEST_DELIVER,     // shard -> conn: buffer full of frames to send
    REQUEST_CONN_CLOSED, // conn -> each shard that has subscriptions of it: drop them
    REQUEST_SHARD,       // shard -> shard: struct shard_mail in `u.shard`
    REQUEST_CONN_OPEN,   // accepting core -> core: serve this socket, `u.accepted`
};

enum shard_mail_kind {
    MAIL_PARTITION_OPEN, // shard 0 -> owner: open (or alter) these partitions, answer when durable
    MAIL_PARTITION_DROP,
    MAIL_TOPICS_ASK,  // a group's shard -> shard 0: partition counts of topics
    MAIL_PRODUCER_ID, // coordinator -> shard 0: a producer id, durable
    MAIL_TXN_JOIN, // participant -> coordinator: has staged something; answered when the JOIN is durable
    MAIL_TXN_PREPARE, // coordinator -> participant: can it commit?
    MAIL_TXN_COMMIT,  // coordinator -> participant: it is decided
    MAIL_TXN_ABORT,
    MAIL_TXN_ASK, // participant -> coordinator: how did it end?
};

#define REQUEST_MAGIC 0x54455152u // "RQET"
#define REQUEST_HEAD_BYTES 88     // of a PRODUCE with three batches

struct request {
    struct list link; // of the queue it is in
    uint32_t magic;
    uint8_t kind;  // enum request_kind
    bool is_reply; // phase 4
    uint16_t op;   // REQUEST_CLIENT: enum op
    uint16_t origin_core;
    uint16_t target_core;
    uint16_t shard;      // target shard (CLIENT), or the sender (DELIVER, SHARD)
    uint16_t from_shard; // SHARD: whose mail it is: its reply goes back there
    uint16_t error;      // reply: enum proto_error; for PRODUCE: of any item
    uint8_t mail;        // SHARD: enum shard_mail_kind
    struct conn_id conn;
    uint64_t started_ns;   // CLIENT: when it was taken from the connection
    uint64_t correlation;  // of the frame; PRODUCE: publish number of the first
    struct buffer *buffer; // CLIENT: receive buffer the frames lie in. DELIVER: what to send
    uint8_t *frames;       // first frame
    uint32_t frame_bytes;  // all of them
    uint32_t frame_count;  // > 1 only for runs of PRODUCE
    uint32_t offset_count; // PRODUCE: batches in the run
    uint32_t freed_bytes;  // capacity of its buffer, when giving it back early freed that
    uint64_t lsn; // answered when the shard's committed mark reaches this; reply: durable LSN
    struct buffer *
        reply; // CLIENT, not PRODUCE: empty buffer lent by the origin; the target writes one frame into it
    uint32_t
        reply_bytes; // length of that frame; 0: the origin makes an error frame from `error` and `text`
    char text[72];          // words for the error: what, allowed range; "" = the error's own
    struct request *parent; // PRODUCE over several shards: children answer to it (origin core)
    uint32_t children;      // parent: children not yet back
    uint32_t progress; // the handler's: frame or item it stopped at (FULL), step of a longer job
    void *context;     // the handler's
    union {
        struct { // REQUEST_CLIENT, PRODUCE at its shard: where handling goes on after BLOCKED
            uint32_t frame_offset; // of the current frame in `frames`
            uint32_t item;         // next item of that frame
            uint32_t data_offset;  // of its batch in that frame's data
        } produce;
        struct { // REQUEST_CLIENT, PRODUCE behind that: header and meta, where `frames` points then
            uint8_t head[REQUEST_HEAD_BYTES];
        } kept;
        struct { // REQUEST_CLIENT, staged: while it waits for the coordinator
            uint64_t producer_id;
            uint16_t epoch;
        } staged;
        struct {                         // REQUEST_CLIENT, TXN_INIT
            uint64_t producer_id_plus_1; // a new one that came from shard 0; 0: none yet
        } init;
        struct {                   // REQUEST_DELIVER
            uint64_t subscription; // 0: the answer to a FETCH
            void *owner;           // shard's struct subscription
            bool last;             // no more will come (FETCH answered)
        } deliver;
        struct { // REQUEST_CONN_OPEN
            int fd;
        } accepted;
        struct { // PARTITION_OPEN, PARTITION_DROP
            uint32_t topic_id;
            uint32_t partition_first, partition_count;
            struct disk_partition_open settings;
        } partitions;
        struct { // TOPICS_ASK: the sender's memory, lent until the mail is home
            const uint32_t *topic_ids;
            uint32_t *partition_counts; // 0: no such topic
            uint32_t count;
        } topics;
        struct { // PRODUCER_ID: the reply
            uint64_t producer_id;
        } producer;
        struct txn_mail { // TXN_*
            struct disk_txn_name name;
            uint64_t producer_id;
            uint16_t epoch;
            bool is_prepared; // ASK: the participant has voted yes
            bool is_explicit; // PREPARE: the client asked for it
            uint8_t outcome;  // ASK's reply: enum txn_outcome
            uint64_t lsn;     // PREPARE's reply: of its PREPARE entry
            const struct msg_txn_end
                *end; // PREPARE: what the client names; NULL: whatever there is. Lent
            struct txn_result_item *
                results; // COMMIT: base offsets of this shard's items of `end`, in place; NULL: not wanted
        } txn;
    } u;
};
static_assert(sizeof(struct request) <= 320, "thousands of them: keep it small");

/* A zeroed request from the core's pool, or NULL when it is empty. Clients' requests leave REQUESTS_RESERVED to what
 * ends other requests (deliveries, mails between shards, news of closed connections). */
struct request *request_acquire(struct pool *pool, enum request_kind kind, uint16_t origin_core);
void request_release(struct pool *pool, struct request *request);

/* Of a PRODUCE whose batches are in the log: its frame's head is kept, the buffer goes back now, if it can be done (see above).
 * Its connection's share is still taken until the answer, so that one connection has no more on its way than before.
 * Thread: the target core's; does nothing when that is not the origin. */
void request_give_buffer_back(struct request *request, struct buffers *buffers);

/* A PRODUCE frame's items (struct produce_item) as they are used inside the broker, in place, so that results
 * need no memory of their own: dispatch writes the target shard into what was `reserved`; the shard writes base
 * offset and error and nothing else, since other shards may read the item's size at that moment. */
struct produce_outcome {
    le64 base_offset; // before: topic_id, partition
    le32 batch_bytes; // stays
    le16 shard;       // written by dispatch
    le16 error;       // enum proto_error; written by dispatch as 0
};
static_assert(sizeof(struct produce_outcome) == sizeof(struct produce_item), "written in place");
static_assert(offsetof(struct produce_outcome, batch_bytes) ==
                  offsetof(struct produce_item, batch_bytes),
              "stays in place");
static_assert(offsetof(struct produce_outcome, shard) == offsetof(struct produce_item, reserved),
              "the target shard is the low half of a little-endian number");

#endif
