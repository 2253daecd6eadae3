/* A broker in the simulated world, raw connections to it, and what they were told: the stage of fuzz_session.c.
 *
 * The store is a copy of one that was made once, with two topics. Everything runs on one simulated thread: it sends frames,
 * gives the broker time, and notes what comes back. Frames from the broker must be well-formed; other than that nothing is
 * expected of an answer but what the ledger keeps:
 *
 *     a batch that was acked is there at its offset, once the broker has lost its power and was started again
 *     one that was acked as staged is there when its transaction was committed, and not when it was aborted
 *     no record is there more often than it was sent, and none that nobody sent
 *
 * Thread: the session's. */
#ifndef SLUICE_TESTS_SESSION_WORLD_H
#define SLUICE_TESTS_SESSION_WORLD_H

#include "proto/batch.h"
#include "proto/messages_group.h"
#include "tests/sim/simulation/sim_broker.h"
#include "tests/sim/world/net.h"

#define LINKS 3u
#define LINK_IN_BYTES (1u << 20)
#define TOPICS_KNOWN 16u
#define PRODUCERS_KNOWN 16u
#define TXNS_KNOWN 16u
#define MEMBERS_KNOWN 16u
#define LANES_KNOWN 64u
#define BATCHES_KNOWN 2048u
#define ASKED_KNOWN 64u
#define PUBLISHES_KNOWN 1024u
#define PUBLISH_BATCHES_MAX 4u

struct known_topic {
    uint32_t id;
    uint32_t partition_count;
    bool may_lose; // it was altered or deleted, or was to be
};
struct known_producer {
    uint64_t id;
    uint16_t epoch;
    uint8_t txn_id; // of which transactional id, plus one; 0: none
    bool is_unsure; // somebody made up a sequence number
};
struct known_txn {
    uint8_t id; // its number among the ids
    uint64_t producer_id, open_lsn;
    uint16_t epoch;
    uint32_t coordinator;
    bool was_committed, was_aborted, may_have_offsets;
};
struct known_member {
    uint8_t group;
    uint32_t generation;
    uint32_t length;
    uint8_t name[GROUP_MEMBER_BYTES_MAX];
};
struct lane { // the next sequence number of a producer in a partition
    uint64_t producer_id;
    uint16_t epoch;
    uint32_t topic_id, partition, next;
};
struct sent_batch {
    uint32_t topic_id, partition;
    uint32_t records;
    uint32_t txn; // place among the known, plus one; 0: not staged
    uint32_t sent, found;
    bool is_sure;  // nobody tampered with it
    bool is_acked; // told so
    uint64_t offset;
};
struct asked { // a request without an answer yet
    uint64_t correlation;
    uint16_t op;
    uint32_t about; // place of the producer's id, transaction or topic
};
struct publish {
    uint64_t number;
    uint32_t batches[PUBLISH_BATCHES_MAX], count; // numbers of sent_batch
};

struct link {
    int fd;       // < 0: none
    bool is_deaf; // nothing more is sent on it
    struct io_op connect, recv, send, close;
    uint32_t in_bytes;
    uint64_t correlation, publish;
    uint64_t pinged, ponged;
    struct asked asked[ASKED_KNOWN];           // by correlation
    struct publish publishes[PUBLISHES_KNOWN]; // by number
    uint8_t in[LINK_IN_BYTES];
};

struct session {
    struct sim_broker broker;
    struct io *io;
    struct link links[LINKS];
    struct known_topic topics[TOPICS_KNOWN];
    struct known_producer producers[PRODUCERS_KNOWN];
    struct known_txn txns[TXNS_KNOWN];
    struct known_member members[MEMBERS_KNOWN];
    struct lane lanes[LANES_KNOWN];
    struct sent_batch batches[BATCHES_KNOWN];
    uint32_t topic_count, producer_count, txn_count, member_count, lane_count, batch_count;
    bool is_dark;         // the last restart was a loss of power: links may not know yet
    uint64_t start_bytes; // of memory, when the broker was ready
    uint64_t first_lsns;  // ends of all logs together, after the first start
    uint64_t peak_bytes;  // above that, the most of any life
};
extern struct session session;

/* Runs `program` as the session's thread; returns when that has returned. Short: starts read their logs without the I/O seam
 * (short_reader.h). */
void session_run(void (*program)(void), bool is_short);

void session_start(void); // the broker, and waits until it is ready
void session_end(enum process_end how);
/* Is anything in a log that was not on the first disk? */
bool session_has_written(void);
void session_drain(void);

void session_wait(uint64_t ns);
void link_open(struct link *link); // and says HELLO
void link_close(struct link *link);
void link_end_sending(struct link *link);
/* All of it, or as much as the broker takes within a second. */
void link_send(struct link *link, const void *bytes, uint32_t length);
/* Each is answered, or closed by the broker. */
void links_must_answer(void);

/* After the last restart: reads all, and compares. */
void session_judge(void);

struct asked *asked_new(struct link *link, uint16_t op, uint32_t about);

#endif
