/* A broker for tests of the client: a thread with plain sockets that speaks the protocol, keeps
 * everything in memory, and misbehaves on command.
 *
 * It checks batches, refuses gaps and knows retries as a real broker does, over whole sequences and
 * without limit to a window; so what a test finds in a partition afterwards is the truth about
 * loss, order and second copies. Rules make it fail: each names an operation, how many of its
 * frames pass first, how many it strikes, and what happens then.
 *
 * Thread: all functions may be called from the test's thread while the broker runs. */
#ifndef SLUICE_TESTS_FAKE_BROKER_H
#define SLUICE_TESTS_FAKE_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/batch.h"

struct fake_broker;

struct fake_options { // zero: sensible
    uint32_t publishes_max;
    uint32_t credit_min; // told in HELLO and kept to
    uint32_t record_bytes_max;
    uint32_t deliver_bytes_max; // of one DELIVER frame's data
    bool any_first_sequence;    // a producer that is new to a partition may begin anywhere
    bool discard;               // batches are counted and checked for sequence, not kept
    uint16_t hello_error;       // every HELLO is refused with it
};

enum fake_action {
    FAKE_REFUSE,      // answered with the error `argument`; not done
    FAKE_DROP_BEFORE, // the connection is closed, the request not done
    FAKE_DROP_AFTER,  // the request is done, then the connection is closed without an answer
    FAKE_SILENT,      // the request is done, and never answered
    FAKE_IGNORE,      // neither done nor answered
    FAKE_DELAY,       // done and answered after `argument` ms
    FAKE_GARBAGE,     // answered with bytes that are no frame
    /* PRODUCE: done, and its ACK is wrong: 0 sent twice, 1 an offset too many, 2 for publishes that
     * were never sent, 3 without any offset. */
    FAKE_WRONG_ACK,
};

/* Listens on a free port of 127.0.0.1. Ends the test program when it can't. */
struct fake_broker *fake_start(const struct fake_options *options);
void fake_stop(struct fake_broker *broker);
const char *fake_address(struct fake_broker *broker); // "127.0.0.1:PORT"; lives as long as it

/* Closes all connections and refuses new ones, until it comes back on the same port. */
void fake_go_down(struct fake_broker *broker);
void fake_come_back(struct fake_broker *broker);
void fake_drop_connections(struct fake_broker *broker);
void fake_goaway(struct fake_broker *broker, uint32_t deadline_ms);

/* What HELLO says from now on: another number is another data directory. */
void fake_set_store(struct fake_broker *broker, uint8_t number);

void fake_topic(struct fake_broker *broker, const char *name, uint32_t partition_count);
void fake_add_partition(struct fake_broker *broker, const char *name);
void fake_delete_topic(struct fake_broker *broker, const char *name);

/* The first `skip` frames of `op` pass, the next `count` are struck. Rules of one operation are
 * used up in the order they were given. */
void fake_rule(struct fake_broker *broker, uint16_t op, uint32_t skip, uint32_t count,
               enum fake_action action, uint32_t argument);

void fake_clear_rules(struct fake_broker *broker);

/* Everything about idempotent producers is forgotten. */
void fake_forget_producers(struct fake_broker *broker);
/* Records below `offset` are gone, as after retention. */
void fake_set_log_start(struct fake_broker *broker, const char *topic, uint32_t partition,
                        uint64_t offset);
/* The stored batch that holds `offset` gets a wrong byte. */
void fake_damage(struct fake_broker *broker, const char *topic, uint32_t partition,
                 uint64_t offset);
/* Stores a batch as it is, without a producer. */
void fake_store(struct fake_broker *broker, const char *topic, uint32_t partition,
                const uint8_t *batch, uint32_t bytes);

/* ---- transactions and groups ---- */

/* The transaction's time is over: it is aborted. */
void fake_txn_time_out(struct fake_broker *broker, const char *id);
/* The broker has forgotten the transactional id. */
void fake_txn_forget_id(struct fake_broker *broker, const char *id);
uint32_t fake_txn_staged_count(struct fake_broker *broker, const char *id); // batches
bool fake_txn_is_open(struct fake_broker *broker, const char *id);

/* All sessions have timed out. */
void fake_group_remove_members(struct fake_broker *broker, const char *group);
uint32_t fake_group_member_count(struct fake_broker *broker, const char *group);
uint64_t fake_group_offset(struct fake_broker *broker, const char *group, const char *topic,
                           uint32_t partition); // UINT64_MAX: none
/* A committed offset, whose next `pending` fetches are answered OFFSETS_PENDING. */
void fake_group_commit(struct fake_broker *broker, const char *group, const char *topic,
                       uint32_t partition, uint64_t offset, uint32_t pending);

/* ---- what happened ---- */

uint64_t fake_record_count(struct fake_broker *broker, const char *topic, uint32_t partition);
uint64_t fake_batch_count(struct fake_broker *broker, const char *topic, uint32_t partition);
/* Frames of an operation that came, struck ones included; CREDIT counts bytes as well. */
uint64_t fake_seen(struct fake_broker *broker, uint16_t op);
uint64_t fake_connections(struct fake_broker *broker); // accepted since the start
uint16_t fake_last_epoch(struct fake_broker *broker);  // of the newest batch stored
uint64_t fake_last_producer(struct fake_broker *broker);
uint32_t
fake_in_flight_max(struct fake_broker *broker); // most batches of one partition in one read

/* The record at `offset`: its value is copied to `value` (up to `room` bytes). Returns the value's
 * length, -1 when there is no such record or its batch is compressed. */
int64_t fake_value(struct fake_broker *broker, const char *topic, uint32_t partition,
                   uint64_t offset, void *value, uint32_t room);

/* Waits until `count` records are in the partition, or 5 s. */
bool fake_wait_records(struct fake_broker *broker, const char *topic, uint32_t partition,
                       uint64_t count);
bool fake_wait_seen(struct fake_broker *broker, uint16_t op, uint64_t count);

#endif
