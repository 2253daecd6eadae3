/* What the attacks share: a peer at a raw socket, well-formed frames to spoil, and a healthy client beside them.
 *
 * The program has one thread that attacks and one, with a libsluice client, that publishes and consumes all the
 * time. Whatever an attack does, the broker must answer as docs/protocol.md says, and the healthy client must go on. */
#ifndef SLUICE_TESTS_HOSTILE_H
#define SLUICE_TESTS_HOSTILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/random.h"
#include "proto/batch.h"
#include "proto/messages_group.h"

#define VICTIM "victim" // the topic that attacks are about
#define VICTIM_PARTITIONS 2

struct hostile {
    const char *server;
    struct address address;
    int broker_pid;
    uint64_t memory_kib_max; // 0: not looked at
    struct random random;
    uint32_t victim_id;
    struct msg_hello_reply limits; // without software
};
extern struct hostile hostile;

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ms(void);
void sleep_ms(uint32_t ms);

/* ---- hostile_peer.c: one raw connection ---- */

struct peer {
    int fd;
    uint8_t *in; // received and not yet taken: [in_taken, in_bytes)
    uint32_t in_bytes, in_taken, in_capacity;
    bool was_reset;
    const char *what;   // is being tried, for messages
    uint64_t publishes; // sent by txn_stage_as()
};

#define ANSWER_MS 20000 // a loaded machine is no failure of the broker

void peer_connect(struct peer *peer, const char *what);
void peer_open(struct peer *peer, const char *what); // with HELLO and its answer
void peer_close(struct peer *peer);
void peer_reset(struct peer *peer); // closes so that the broker gets a reset
void peer_end_sending(struct peer *peer);
bool peer_send(struct peer *peer, const void *bytes, uint32_t len); // false: the broker has closed
/* Sends what the socket takes without waiting; returns how much. */
uint32_t peer_send_some(struct peer *peer, const void *bytes, uint32_t len);

enum got { GOT_FRAME, GOT_END, GOT_NOTHING };
/* The frame is valid until the next call. A frame that isn't well-formed fails the program. */
enum got peer_next(struct peer *peer, struct frame *frame, int timeout_ms);
void peer_expect_frame(struct peer *peer, struct frame *frame);
/* Any answer with an error: op and correlation are checked. */
void peer_expect_error(struct peer *peer, uint16_t error, uint16_t op, uint64_t correlation);
void peer_expect_reply(struct peer *peer, uint16_t op, uint64_t correlation, struct frame *frame);
void peer_expect_ack(struct peer *peer, uint64_t number); // of one publish
void peer_expect_end(struct peer *peer);                  // nothing more comes, then the end
void peer_expect_alive(struct peer *peer);                // a PING is answered
uint16_t error_of(const struct frame *frame); // PE_NONE when it is none; its text is checked

/* ---- hostile_samples.c: one valid frame of each request ---- */

#define SAMPLE_BYTES_MAX 1024

struct sample {
    const char *name;
    uint16_t op;
    uint32_t (*make)(uint8_t *bytes, uint64_t correlation); // returns the frame's length
    uint16_t error; // what it is answered with when it comes unspoiled
    bool is_answered;
};
extern const struct sample samples[];
extern const uint32_t sample_count;
const struct sample *sample_of(uint16_t op);

uint32_t make_hello(uint8_t *bytes, uint64_t correlation);
uint32_t make_empty(uint8_t *bytes, uint16_t op, uint64_t correlation);
uint32_t make_produce(uint8_t *bytes, uint64_t number);
uint32_t make_fetch(uint8_t *bytes, uint16_t op, uint64_t correlation, uint32_t bytes_max,
                    uint32_t wait_ms, uint64_t credit);
uint32_t make_credit(uint8_t *bytes, uint16_t op, uint64_t subscription, uint64_t credit);
/* A PRODUCE frame with `batches` (their bytes one behind the other) for the victim's partition 0. */
uint32_t make_publish(uint8_t *bytes, uint64_t number, const void *batch, uint32_t size);
/* One uncompressed batch of `count` records with this value. */
uint32_t make_batch(uint8_t *bytes, uint32_t capacity, uint32_t count, const void *value,
                    uint32_t len);
void reseal_frame(uint8_t *bytes); // the checksum again, after a change of header or meta
void reseal_batch(uint8_t *batch, uint32_t size);             // its CRC
struct writer meta_writer(uint8_t *bytes, uint32_t capacity); // behind the place of the header
uint64_t victim_end(uint32_t partition); // its visible end, asked over a connection of its own

/* ---- hostile_samples_txn.c: the samples of transactions and groups ---- */

uint32_t make_txn_init(uint8_t *bytes, uint64_t correlation);
uint32_t make_txn_begin(uint8_t *bytes, uint64_t correlation);
uint32_t make_txn_offsets(uint8_t *bytes, uint64_t correlation);
uint32_t make_txn_prepare(uint8_t *bytes, uint64_t correlation);
uint32_t make_txn_commit(uint8_t *bytes, uint64_t correlation);
uint32_t make_txn_abort(uint8_t *bytes, uint64_t correlation);
uint32_t make_txn_list(uint8_t *bytes, uint64_t correlation);
uint32_t make_txn_describe(uint8_t *bytes, uint64_t correlation);
uint32_t make_group_join(uint8_t *bytes, uint64_t correlation);
uint32_t make_group_heartbeat(uint8_t *bytes, uint64_t correlation);
uint32_t make_group_leave(uint8_t *bytes, uint64_t correlation);
uint32_t make_offset_commit(uint8_t *bytes, uint64_t correlation);
uint32_t make_offset_fetch(uint8_t *bytes, uint64_t correlation);
uint32_t make_group_list(uint8_t *bytes, uint64_t correlation);
uint32_t make_group_describe(uint8_t *bytes, uint64_t correlation);
uint32_t make_group_delete(uint8_t *bytes, uint64_t correlation);

/* ---- hostile_txn_peer.c: transactions, one request and its answer at a time ---- */

#define LEDGER_PARTITIONS 12u // of a topic of their own: with three shards each has some

struct txn {
    char id[32];
    uint64_t producer_id;
    uint16_t epoch;
    uint32_t coordinator;
    uint64_t open_lsn;
    uint16_t init_state; // of the last TXN_INIT
    uint32_t sequences[LEDGER_PARTITIONS];
};

uint32_t txn_topic(void);
uint64_t txn_records(void); // visible ends of its partitions, added up
struct txn txn_named(const char *id);
struct txn txn_by_name(const struct txn *txn);
void txn_init(struct peer *peer, struct txn *txn);
uint16_t txn_begin_for(struct peer *peer, struct txn *txn, uint32_t timeout_ms);
void txn_open(struct peer *peer, struct txn *txn); // both
/* One batch of one record. Returns the error. */
uint16_t txn_stage_as(struct peer *peer, const struct txn *txn, uint32_t partition,
                      uint32_t sequence);
void txn_stage(struct peer *peer, struct txn *txn, uint32_t partition); // must be acked
void txn_stage_everywhere(struct peer *peer, struct txn *txn);
/* PREPARE, COMMIT or ABORT; names `batch_count` batches of each of the first partitions. Returns the error. */
uint16_t txn_end(struct peer *peer, const struct txn *txn, uint16_t op, uint32_t partitions,
                 uint32_t batch_count);
uint32_t txn_count_open(struct peer *peer); // ids that have something open
uint16_t txn_part_state(struct peer *peer, const struct txn *txn, uint32_t shard);
/* The halves of the above: a frame, and taking its answer. */
uint32_t txn_make_init(uint8_t *bytes, const struct txn *txn);
uint32_t txn_make_begin(uint8_t *bytes, const struct txn *txn, uint32_t timeout_ms);
uint32_t txn_make_stage(uint8_t *bytes, const struct txn *txn, uint64_t number, uint32_t partition,
                        uint32_t sequence);
uint32_t txn_make_end(uint8_t *bytes, const struct txn *txn, uint16_t op, uint32_t partitions,
                      uint32_t batch_count, const char *group);
void txn_take_init(struct peer *peer, struct txn *txn);
uint16_t txn_take_begin(struct peer *peer, struct txn *txn);
uint16_t txn_take_stage(struct peer *peer);
uint16_t txn_take_end(struct peer *peer, uint16_t op);

/* ---- hostile_healthy.c ---- */

void healthy_start(void);
uint64_t healthy_stop(void); // returns how many records were published and read
/* Waits until a whole round (publish, ack, read back) that began after the call is over. */
void healthy_round(const char *what);
uint64_t healthy_longest_ms(bool reset); // the longest round since the last reset
void healthy_verify(uint64_t count);     // reads all of it again: exactly what was acked

/* ---- the attacks ---- */

void attack_lengths(void);
void attack_truncated(void);
void attack_flipped(void);
void attack_splits(void);
void attack_pipelined(void);
void attack_unknown(void);
void attack_order(void); // before HELLO, two HELLOs

void attack_counts(void);
void attack_values(void);
void attack_txn_values(void);
void attack_topics(void);

void attack_publish_numbers(void);
void attack_publish_sizes(void);
void attack_batches(void);
void attack_producers(void);

void attack_reading(void);
void attack_subscriptions(void);
void attack_fetches(void);
void attack_searches(void); // behind attack_producers()

void attack_endings(void);
void attack_zero_window(void);
void attack_slow(void);
void attack_waiting(void);

void attack_txn_ends(void);
void attack_txn_staging(void);
void attack_txn_races(void);
void attack_txn_abandoned(void);
void attack_txn_resets(void);
void attack_txn_huge(void);

void attack_group_members(void);
void attack_group_huge(void);
void attack_group_crowd(void);

void attack_random(uint32_t ms);

#endif
