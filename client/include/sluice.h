/* libsluice: publish to and consume from a Sluice broker.
 *
 * A complete producer:
 *
 *     #include <sluice.h>
 *     #include <stdio.h>
 *
 *     static void report(void *context, const struct sluice_report *r)
 *     {
 *         if (r->status != SLUICE_OK)
 *             fprintf(stderr, "lost: %s\n", sluice_text(r->status));
 *     }
 *
 *     int main(void)
 *     {
 *         struct sluice_client *client;
 *         struct sluice_producer *producer;
 *         struct sluice_client_options co = {.size = sizeof co, .server = "127.0.0.1:7650"};
 *         struct sluice_producer_options po = {.size = sizeof po, .on_report = report};
 *         if (sluice_client_new(&co, &client) || sluice_producer_new(client, &po, &producer))
 *             return 1;
 *         struct sluice_record r = {.topic = "greetings", .partition = SLUICE_PARTITION_ANY,
 *                                   .value = "hello", .value_len = 5};
 *         int status = sluice_producer_send(producer, &r);
 *         if (status == SLUICE_OK)
 *             status = sluice_producer_flush(producer, 10000);
 *         sluice_producer_free(producer);
 *         sluice_client_free(client);
 *         return status != SLUICE_OK;
 *     }
 *
 *     cc greet.c $(pkg-config --cflags --libs sluice)
 *
 * Threads. A client has one I/O thread of its own; producers and consumers of the client share it.
 * Every function may be called from any thread, except that one consumer is polled by one thread at
 * a time and an object is freed once, when no other call on it is running. Delivery reports are
 * called from the I/O thread (or, with report_poll, from sluice_producer_poll(), _flush() and
 * _free()), one at a time, never while a lock of the library is held. From a report one may send
 * (it then never waits: FULL instead), but make no call that waits or frees.
 *
 * Guarantees, by default (idempotent producer, broker with durability = sync):
 *
 *   what                    | holds
 *   ------------------------+---------------------------------------------------------------------
 *   report with SLUICE_OK   | the record is on stable storage and visible to consumers
 *   report with an error    | not stored; except that nobody can tell with SLUICE_E_TIMED_OUT and
 *                           | SLUICE_E_CLOSED, and when the answer to an earlier try was lost with
 *                           | its connection
 *   order                   | per partition and producer, also across retries
 *   duplicates              | none from retries and reconnects of one producer object
 *   every accepted record   | exactly one report, also when the producer is freed
 *   not_idempotent = true   | as above, but a retry may store a second copy, and with more than one
 *                           | batch in flight put a later batch before an earlier one
 *
 * Caveats. After fork() only the parent may use its objects. The library blocks all signals on its
 * I/O thread and needs SIGPIPE ignored by nobody (it sends with MSG_NOSIGNAL). A long report
 * callback delays all traffic of the client. ABI: structs given to the library begin with their
 * size, so that members can be added at the end; functions are never removed within a major
 * version. */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_VERSION_MAJOR 0
#define SLUICE_VERSION_MINOR 1
#define SLUICE_VERSION_PATCH 0
#define SLUICE_API __attribute__((visibility("default")))

/* "0.1.0": of the library that is linked, which may be newer than this header. */
SLUICE_API const char *sluice_version(void);

/* ---- status codes: 0 success, negative error, positive a count where a function says so ----
 * -1..-99 happened on this side; -100 - N is the broker's error N (docs/protocol.md). */
enum sluice_status {
    SLUICE_OK = 0,
    SLUICE_E_FULL = -1,      // the producer's buffer is full: wait for reports, then send again
    SLUICE_E_TIMED_OUT = -2, // the deadline has passed; the request may still be carried out
    SLUICE_E_CONNECT = -3,   // no connection could be made before the deadline
    SLUICE_E_CLOSED = -4,  // freed, or the connection broke before an answer that isn't asked twice
    SLUICE_E_INVALID = -5, // an argument is not allowed
    SLUICE_E_TOO_LARGE = -6, // the record is larger than the broker takes
    SLUICE_E_NO_MEMORY = -7,
    SLUICE_E_PROTOCOL = -8,     // the peer is no Sluice broker or speaks another version
    SLUICE_E_CORRUPT = -9,      // received data fails its checksum
    SLUICE_E_UNSUPPORTED = -10, // compression type or feature unknown to this library
    SLUICE_E_OTHER_STORE = -11, // another data directory answers here than before: ids and offsets
                                // mean nothing there, so nothing is sent; make a new client for it
    SLUICE_E_BROKER = -100,     // base of the broker's own errors; those a program asks for:
    SLUICE_E_UNKNOWN_TOPIC = -110,
    SLUICE_E_UNKNOWN_PARTITION = -111,
    SLUICE_E_TOPIC_EXISTS = -113,
    SLUICE_E_OFFSET_OUT_OF_RANGE = -117,
    SLUICE_E_UNKNOWN_PRODUCER = -118,
    SLUICE_E_FENCED_PRODUCER = -120,
    SLUICE_E_UNKNOWN_TRANSACTION = -134,
    SLUICE_E_TRANSACTION_ABORTED = -135,
    SLUICE_E_TRANSACTION_COMMITTED = -136,
    SLUICE_E_TRANSACTION_PREPARED = -137,
    SLUICE_E_UNKNOWN_GROUP = -143,
    SLUICE_E_UNKNOWN_MEMBER = -144,
    SLUICE_E_FENCED_MEMBER = -145,
    SLUICE_E_STALE_GENERATION = -146,
    SLUICE_E_NOT_OWNER = -147,
    SLUICE_E_GROUP_NOT_EMPTY = -148,
};
#define SLUICE_BROKER_ERROR(status) ((status) <= SLUICE_E_BROKER ? SLUICE_E_BROKER - (status) : 0)

SLUICE_API const char *sluice_text(int status);  // a sentence; static, never NULL
SLUICE_API const char *sluice_name(int status);  // "UNKNOWN_TOPIC"; static, never NULL
SLUICE_API bool sluice_is_retriable(int status); // the same call may succeed later
SLUICE_API bool sluice_is_fatal(int status);     // this producer or client can't go on: free it

/* ---- client: the connection and its I/O thread ---- */

struct sluice_client;

struct sluice_client_options {
    size_t size;                       // sizeof(struct sluice_client_options)
    const char *server;                // "address:port"; NULL: $SLUICE_SERVER, else 127.0.0.1:7650
    const char *client_id;             // shown in the broker's logs; NULL: "libsluice"
    uint32_t connect_timeout_ms;       // 0: 10,000. Of each attempt
    uint32_t request_timeout_ms;       // 0: 30,000. Admin calls and offset queries
    uint32_t reconnect_backoff_ms;     // 0: 50. Doubles up to the next with +-20 % jitter
    uint32_t reconnect_backoff_max_ms; // 0: 1,000
    /* Called from the I/O thread with one line per connection change or problem; NULL: silent. */
    void (*on_log)(void *context, const char *line);
    void *context;
};

/* Starts the I/O thread; does not wait for a connection (sluice_client_wait() does). Options are
 * copied. Returns SLUICE_OK, INVALID (the address or an option's range), NO_MEMORY. */
SLUICE_API int sluice_client_new(const struct sluice_client_options *options,
                                 struct sluice_client **client);

/* Waits until a connection is up. Returns SLUICE_OK; CONNECT: none in time, the library goes on
 * trying; PROTOCOL: somebody answers there, but no broker that this library can talk to. */
SLUICE_API int sluice_client_wait(struct sluice_client *client, uint32_t timeout_ms);

/* Its producers and consumers must have been freed. */
SLUICE_API void sluice_client_free(struct sluice_client *client);

/* ---- producer ---- */

struct sluice_producer;

/* With a key: XXH3-64 of the key modulo the number of partitions. Without: one partition until a
 * batch of it is closed, then the next. */
#define SLUICE_PARTITION_ANY UINT32_MAX

struct sluice_header {
    const char *key;   // UTF-8, NUL-terminated
    const void *value; // NULL: null
    size_t value_len;
};

struct sluice_record {
    const char *topic;
    uint32_t partition; // or SLUICE_PARTITION_ANY
    const void *key;    // NULL: none
    size_t key_len;
    const void *value; // NULL: null value
    size_t value_len;
    const struct sluice_header *headers;
    uint32_t header_count;
    int64_t timestamp_ms; // since the epoch; 0: now, right to some milliseconds
    void *opaque;         // given back in the report
};

/* Stored, but by an attempt so long ago that the broker has forgotten where. */
#define SLUICE_OFFSET_UNKNOWN UINT64_MAX

/* Stored within a transaction: it gets its offset when that is committed. */
#define SLUICE_OFFSET_STAGED (UINT64_C(1) << 63)

struct sluice_report {
    int status; // SLUICE_OK, or why it is not stored
    uint32_t partition;
    uint64_t offset; // valid when OK; or SLUICE_OFFSET_UNKNOWN, SLUICE_OFFSET_STAGED
    void *opaque;
};

enum sluice_compression { SLUICE_COMPRESSION_NONE = 0, SLUICE_COMPRESSION_LZ4 = 3 };

struct sluice_producer_options {
    size_t size;                         // sizeof(struct sluice_producer_options)
    bool not_idempotent;                 // default false: idempotent
    enum sluice_compression compression; // default NONE; LZ4 is done by the sending threads
    uint32_t batch_bytes;   // 0: 256 KiB; 1 KiB .. 4 MiB. A batch is sent when it is full
    uint32_t batch_records; // 0: no limit; 1: each record is a batch (sends are still coalesced)
    uint32_t linger_us;     // how long a batch may wait to fill. 0: as long as the sender is busy;
                            // with a transactional_id 100 ms, which flush and commit cut short
    /* Unacked batches per partition. 0: 5. Idempotent: 1 .. 5, else 1 .. 64. */
    uint32_t batches_in_flight;
    /* Memory for records not yet acked. 0: 8 MiB, or 4 * batch_bytes if that is more; >= 2 * batch_bytes. More lets
     * batches grow when many partitions share it, and makes records wait longer when the broker is the slower one. */
    uint64_t buffer_bytes;
    uint32_t delivery_timeout_ms; // 0: 120,000. From send() to report, retries included
    uint32_t retry_backoff_ms;    // 0: 50; doubles up to 1,000
    bool send_waits;  // a full buffer makes send() wait, up to delivery_timeout, instead of FULL
    bool report_poll; // reports are called from sluice_producer_poll(), not from the I/O thread
    void (*on_report)(void *context, const struct sluice_report *report); // NULL: none wanted
    void *context;
    const char *transactional_id;    // 1..249 bytes of UTF-8; NULL: not transactional. See below
    uint32_t transaction_timeout_ms; // 0: the broker's (60 s). From begin to commit
};

/* Needs no connection. Takes address space for buffer_bytes, and memory as it is used. With LZ4
 * there is a scratch buffer of batch_bytes besides for each thread that compresses at the same
 * time. Returns SLUICE_OK, INVALID (sluice_last_error() names option and range), UNSUPPORTED,
 * NO_MEMORY. */
SLUICE_API int sluice_producer_new(struct sluice_client *client,
                                   const struct sluice_producer_options *options,
                                   struct sluice_producer **producer);

/* Hands one record over; asynchronous. Key, value, headers and topic are copied before it returns.
 *
 * Returns SLUICE_OK: exactly one report will follow. Otherwise nothing was taken, and all that the
 * record points at is the caller's as before:
 *   FULL        the buffer is used up: send again after reports (or a poll)
 *   TIMED_OUT   with send_waits: it still is after delivery_timeout
 *   INVALID, TOO_LARGE, NO_MEMORY, UNKNOWN_PARTITION
 *   CLOSED, or what sluice_is_fatal()   the producer can't go on
 * The first send to a topic, and one after the broker said that it is gone, asks for its partitions
 * and waits for the answer: then also CONNECT, TIMED_OUT, UNKNOWN_TOPIC. From a report, where it
 * can't wait, it returns FULL for a topic that isn't known yet.
 *
 * Memory: a record larger than batch_bytes is a batch of its own. Thread: any. */
SLUICE_API int sluice_producer_send(struct sluice_producer *producer,
                                    const struct sluice_record *record);

/* The same for several records, in their order, and cheaper for each. Sets *taken to how many were
 * taken: all when it returns SLUICE_OK, else the return value is about records[*taken]. */
SLUICE_API int sluice_producer_send_many(struct sluice_producer *producer,
                                         const struct sluice_record *records, uint32_t count,
                                         uint32_t *taken);

/* Ends all lingering and waits until every record accepted before the call has its report; what
 * other threads send meanwhile does not hold it up. With report_poll it runs the reports itself.
 * Returns SLUICE_OK, TIMED_OUT, INVALID (from a report). */
SLUICE_API int sluice_producer_flush(struct sluice_producer *producer, uint32_t timeout_ms);

/* report_poll only: runs up to `max` waiting reports, waiting up to timeout_ms for a first one.
 * Returns how many ran. */
SLUICE_API int sluice_producer_poll(struct sluice_producer *producer, int max, uint32_t timeout_ms);

/* Records accepted and not reported yet. */
SLUICE_API uint64_t sluice_producer_pending(struct sluice_producer *producer);

/* Reports SLUICE_E_CLOSED for what is still pending: flush first. Returns when the last report ran;
 * a send that is stuck in the middle of a batch is given a second, then the connection is made
 * anew. An open transaction is aborted, if the broker answers within a second. */
SLUICE_API void sluice_producer_free(struct sluice_producer *producer);

/* ---- transactions ----
 *
 * A producer with a transactional_id sends in transactions: what it sends between begin and commit
 * becomes visible together, or not at all, and so do the offsets of consumers that it sends along.
 * Consume, transform, produce, and an end that holds for all three:
 *
 *     sluice_txn_begin(producer);
 *     for (each message of sluice_consumer_poll(consumer, ...))
 *         sluice_producer_send(producer, ...);
 *     sluice_txn_send_offsets(producer, consumer, 10000);
 *     if (sluice_txn_commit(producer, 10000) != SLUICE_OK)
 *         ... nothing of it is visible: sluice_consumer_rewind(), and again
 *
 * (examples/transfer.c is a whole program.)
 *
 * The id says who is the same program in its next life: a new producer of an id takes over from the
 * last one, whose open transaction is aborted, and who gets FENCED_PRODUCER from then on. So two
 * programs that run at the same time need two ids.
 *
 *   what                     | holds
 *   -------------------------+-------------------------------------------------------------------
 *   commit returns SLUICE_OK | everything is on stable storage and visible, in all partitions
 *   commit returns an error  | nothing of it is visible, and never will be; except that nobody can
 *                            | tell yet with TIMED_OUT, CONNECT and NO_MEMORY: call commit again,
 *                            | or abort
 *   a report with SLUICE_OK  | the record is durable as a part of the transaction; its offset is
 *                            | SLUICE_OFFSET_STAGED (sluice_txn_offset() tells after the commit)
 *   order, duplicates        | as without transactions
 *   the program dies         | what was open is aborted: when the id is used again, at the latest
 *                            | when the transaction's timeout has passed
 *
 * A record that fails ruins its transaction: sends return TRANSACTION_ABORTED, what is pending is
 * reported with it, and commit aborts and returns why. Sends outside of a transaction return
 * INVALID. Memory: as without; a transaction may be much larger than buffer_bytes, up to the
 * broker's txn_staged_bytes_max (else TRANSACTION_TOO_LARGE).
 *
 * Threads: records may be sent from any thread; one thread at a time calls the functions below on
 * a producer (others get INVALID), and none of them from a report. */

struct sluice_consumer;

struct sluice_txn_name {
    char id[250]; // transactional id
    uint32_t coordinator;
    uint64_t open_lsn;
};

/* Waits until the broker knows of it (request_timeout). Returns SLUICE_OK; INVALID: one is open;
 * TRANSACTION_PREPARED: one of an earlier life waits, see sluice_txn_recover(); FENCED_PRODUCER
 * (fatal); CONNECT, TIMED_OUT; the broker's limits. */
SLUICE_API int sluice_txn_begin(struct sluice_producer *producer);

/* Flushes, then makes the transaction visible. Returns
 *   SLUICE_OK
 *   TIMED_OUT, CONNECT    not decided in time: call it again, or abort. Until then nothing is sent.
 *                         NO_MEMORY, too: maybe it was asked already
 *   TRANSACTION_ABORTED   its timeout has passed, an operator or the next life of this id aborted
 *                         it, or the connection's loss did: begin the next one
 *   UNKNOWN_MEMBER, STALE_GENERATION, NOT_OWNER   offsets were sent for partitions that another
 *                         consumer has got meanwhile; it is aborted
 *   FENCED_PRODUCER       fatal
 *   any other error       what made it fail: it is aborted. INVALID also when none is open */
SLUICE_API int sluice_txn_commit(struct sluice_producer *producer, uint32_t timeout_ms);

/* Drops what is not sent (reported as TRANSACTION_ABORTED) and takes back the rest. Returns
 * SLUICE_OK also when it was aborted before; TRANSACTION_COMMITTED when an earlier commit has
 * succeeded after all; TIMED_OUT, CONNECT: call it again. */
SLUICE_API int sluice_txn_abort(struct sluice_producer *producer, uint32_t timeout_ms);

/* For two-phase commit with other systems: makes it certain that the transaction can be committed,
 * and keeps it for as long as that takes, also over the end of this program and the broker. *name
 * (may be NULL) is for the others' records. Then commit or abort, here, in the next life
 * (sluice_txn_recover()), or by name. Results as of commit. */
SLUICE_API int sluice_txn_prepare(struct sluice_producer *producer, uint32_t timeout_ms,
                                  struct sluice_txn_name *name);

/* After a restart: does a prepared transaction of this id wait for its end? Returns 1 with its
 * name: sluice_txn_commit() or sluice_txn_abort() ends it, and only then begin succeeds; 0: no; or
 * an error: CONNECT, TIMED_OUT, or what the broker answered last (as SHUTTING_DOWN): see
 * sluice_is_retriable(). */
SLUICE_API int sluice_txn_recover(struct sluice_producer *producer, uint32_t timeout_ms,
                                  struct sluice_txn_name *name);

/* Makes the positions of a consumer in a group a part of the transaction: of each of its partitions
 * the offset behind the last record that a poll has returned. Returns SLUICE_OK; UNKNOWN_MEMBER,
 * STALE_GENERATION, NOT_OWNER, TRANSACTION_ABORTED: the transaction is ruined, abort it; TIMED_OUT,
 * CONNECT: call it again, or abort. The consumer should have manual_commit set. */
SLUICE_API int sluice_txn_send_offsets(struct sluice_producer *producer,
                                       struct sluice_consumer *consumer, uint32_t timeout_ms);

/* Where the records of the last transaction begin in a partition, once it is committed: they lie
 * there one behind the other, in the order they were sent. SLUICE_OFFSET_UNKNOWN: the broker no
 * longer knew (the answer to a commit was lost). INVALID: it sent none there. */
SLUICE_API int sluice_txn_offset(struct sluice_producer *producer, const char *topic,
                                 uint32_t partition, uint64_t *offset);

/* ---- consumer ---- */

/* How the members of a group share partitions; all members name the same. */
enum sluice_assignor {
    SLUICE_ASSIGNOR_STICKY = 0, // as even as possible, moving as little as possible
    SLUICE_ASSIGNOR_RANGE = 1,  // each topic's partitions in runs
};
enum sluice_rebalance {
    SLUICE_ASSIGNED, // reading begins where the group's offset is; a seek may change that
    SLUICE_REVOKED,  // about to be given up: positions may still be committed
    SLUICE_LOST,     // given up: others may have them already, so nothing can be committed
};
struct sluice_partition {
    const char *topic;
    uint32_t partition;
};
enum sluice_start {
    SLUICE_START_OFFSET = 0, // value = offset
    SLUICE_START_BEGINNING = 1,
    SLUICE_START_END = 2,       // only what comes from now on
    SLUICE_START_TIMESTAMP = 3, // value = ms since the epoch: first record at or after
};

struct sluice_consumer_options {
    size_t size; // sizeof(struct sluice_consumer_options)
    /* 0: 16 MiB; >= 5 MiB. Credit given to the broker: what it may send ahead. As received frames
     * lie in blocks of a power of two, the memory in use may come to twice that, a quarter for what
     * is kept of paused partitions, and one batch decompressed. */
    uint64_t buffer_bytes;

    /* ---- for a group; see sluice_consumer_join() ---- */
    const char *group; // 1..249 bytes of UTF-8; NULL: none
    const char
        *instance_id; // static membership: at most 128 bytes, unique in the group. NULL: none
    enum sluice_assignor assignor;
    uint32_t session_timeout_ms;   // 0: the broker's (10 s). Without a sign of life so long: gone
    uint32_t max_poll_interval_ms; // 0: 300,000; 1,000..1,800,000. Without a poll so long: gone
    uint32_t auto_commit_interval_ms; // 0: 1,000
    bool manual_commit;               // the application commits, or a transaction does
    /* Where to begin in a partition without a committed offset: BEGINNING (also when it is left 0),
     * END, TIMESTAMP with start_value. */
    enum sluice_start start;
    uint64_t start_value;
    /* Called from sluice_consumer_poll(), without a lock; may call the consumer's functions other
     * than poll and free. The list lives until it returns. NULL: not wanted. */
    void (*on_rebalance)(void *context, enum sluice_rebalance what,
                         const struct sluice_partition *partitions, uint32_t count);
    void *context;
};

struct sluice_message {
    const char *topic;
    uint32_t partition;
    uint64_t offset;
    int64_t timestamp_ms;
    const void *key; // NULL: none
    size_t key_len;
    const void *value; // NULL: null value
    size_t value_len;
    uint32_t header_count; // sluice_message_header()
    const void *internal;
};

SLUICE_API int sluice_consumer_new(struct sluice_client *client,
                                   const struct sluice_consumer_options *options,
                                   struct sluice_consumer **consumer);

/* Starts reading a partition, or with SLUICE_PARTITION_ANY each partition the topic has now. Asks
 * the broker where the start lies and waits for that (request_timeout). A partition that is being
 * read already is moved, as by seek. Returns SLUICE_OK; UNKNOWN_TOPIC, UNKNOWN_PARTITION,
 * OFFSET_OUT_OF_RANGE; CONNECT, TIMED_OUT, INVALID (more than 16,384 partitions). Survives
 * reconnects: reading goes on behind the last record returned. */
SLUICE_API int sluice_consumer_subscribe(struct sluice_consumer *consumer, const char *topic,
                                         uint32_t partition, enum sluice_start start,
                                         uint64_t value);
SLUICE_API int sluice_consumer_unsubscribe(struct sluice_consumer *consumer, const char *topic,
                                           uint32_t partition);

/* ---- groups ----
 *
 * A consumer with a group joins it: the group's members share the partitions of their topics, each
 * has one reader at a time, and reading goes on from the group's committed offset wherever it
 * moves. The library shows the broker that the member lives (from its I/O thread, also while the
 * application computes); partitions come and go within sluice_consumer_poll(), which calls
 * on_rebalance. A partition that was given up is never returned again by this consumer until it is
 * assigned anew.
 *
 *   delivery                        | with
 *   --------------------------------+------------------------------------------------------------
 *   at least once (default)         | automatic commit: in a poll, of what the polls before it have
 *                                   | returned; and when partitions are revoked, and by _free()
 *   at least once, on your terms    | manual_commit, and sluice_consumer_commit() when processed
 *   exactly once, into Sluice       | manual_commit, and sluice_txn_send_offsets()
 *
 * Without automatic commit or with a crash, what was not committed is returned again by whoever has
 * the partition next. */

/* Joins the group, or as a member changes its topics (1 to 256). Waits until the broker has it
 * (request_timeout); partitions come with the next polls. Not together with _subscribe(). Returns
 * SLUICE_OK; UNKNOWN_TOPIC; INVALID, also for an assignor or a time-out that doesn't suit the group
 * or broker; FENCED_MEMBER; CONNECT, TIMED_OUT: the library goes on trying. */
SLUICE_API int sluice_consumer_join(struct sluice_consumer *consumer, const char *const *topics,
                                    uint32_t count);

/* Commits the positions of all partitions: everything that polls have returned counts as processed.
 * Returns SLUICE_OK when it is durable; UNKNOWN_MEMBER, STALE_GENERATION, NOT_OWNER: partitions
 * went to others, which the next poll tells; TIMED_OUT, CONNECT. A consumer with a group that has
 * subscribed instead of joining may commit, too, while the group has no members
 * (GROUP_NOT_EMPTY); automatic commits are for it as well. */
SLUICE_API int sluice_consumer_commit(struct sluice_consumer *consumer, uint32_t timeout_ms);

struct sluice_partition_offset {
    const char *topic;
    uint32_t partition;
    uint64_t offset; // the next one to be read
};
/* The same for offsets of the caller's choice. A lower one than is committed changes nothing. */
SLUICE_API int sluice_consumer_commit_offsets(struct sluice_consumer *consumer,
                                              const struct sluice_partition_offset *offsets,
                                              uint32_t count, uint32_t timeout_ms);

/* The group's committed offset; SLUICE_OFFSET_UNKNOWN: none. Waits for transactions that are about
 * to change it. */
SLUICE_API int sluice_consumer_committed(struct sluice_consumer *consumer, const char *topic,
                                         uint32_t partition, uint64_t *offset, uint32_t timeout_ms);

/* Goes back to the committed offsets (where there are none: to `start`), in all partitions: what
 * was returned since comes again. For after a transaction with sluice_txn_send_offsets() that was
 * not committed. Returns SLUICE_OK; CONNECT, TIMED_OUT: nothing has changed. Thread: the polling
 * one. */
SLUICE_API int sluice_consumer_rewind(struct sluice_consumer *consumer, uint32_t timeout_ms);

/* Fills up to `max` messages, waiting up to timeout_ms for a first one. What they point at is valid
 * until the next poll or free. Order holds within a partition.
 *
 * Returns how many (0: none in time), or an error. An error about a partition comes once, says
 * which by sluice_consumer_error(), and stops that partition until a seek; the others go on:
 *   OFFSET_OUT_OF_RANGE   retention has passed the position
 *   UNKNOWN_TOPIC         it was deleted
 *   CORRUPT, UNSUPPORTED  a batch fails its checksum, is malformed, or is compressed in a way that
 *                         this library doesn't know
 * NO_MEMORY stops nothing: the next poll goes on where this one could not.
 * A lost connection is no error: it is made again; but OTHER_STORE when another store answers then.
 * In a group also FENCED_MEMBER (another consumer has this one's instance_id: it is out of the
 * group for good) and what keeps it from joining again. A poll that applies a change of partitions
 * asks the broker for offsets, and may wait a second for that beyond timeout_ms. Thread: one at a
 * time. */
SLUICE_API int sluice_consumer_poll(struct sluice_consumer *consumer,
                                    struct sluice_message *messages, int max, uint32_t timeout_ms);

/* A message's header i of header_count. The pointers live as long as the message. */
SLUICE_API int sluice_message_header(const struct sluice_message *message, uint32_t i,
                                     const char **key, size_t *key_len, const void **value,
                                     size_t *value_len);

/* Which partition the last negative poll was about. */
SLUICE_API void sluice_consumer_error(struct sluice_consumer *consumer, const char **topic,
                                      uint32_t *partition);

/* Goes on at another place; what was received ahead is dropped. Results as of subscribe, and
 * INVALID when the partition isn't subscribed. The next poll returns nothing from before. */
SLUICE_API int sluice_consumer_seek(struct sluice_consumer *consumer, const char *topic,
                                    uint32_t partition, enum sluice_start start, uint64_t value);

/* Stops or goes on returning a partition's records (SLUICE_PARTITION_ANY: all of the topic's). What
 * was received ahead is kept, up to a quarter of the buffer for all that is paused; the rest is
 * asked for again after resume, so a paused partition never holds up the others. */
SLUICE_API int sluice_consumer_pause(struct sluice_consumer *consumer, const char *topic,
                                     uint32_t partition);
SLUICE_API int sluice_consumer_resume(struct sluice_consumer *consumer, const char *topic,
                                      uint32_t partition);

/* Offset behind the last record returned, and the visible end as last heard of (0: nothing heard
 * yet). Either pointer may be NULL. */
SLUICE_API int sluice_consumer_position(struct sluice_consumer *consumer, const char *topic,
                                        uint32_t partition, uint64_t *position,
                                        uint64_t *visible_end);
/* Commits (with automatic commits) and leaves its group, waiting at most two seconds for a broker
 * that does not answer. */
SLUICE_API void sluice_consumer_free(struct sluice_consumer *consumer);

/* ---- administration: each waits for the broker's answer (request_timeout) ---- Results:
 * SLUICE_OK, the broker's errors (with its words in sluice_last_error()), CONNECT, TIMED_OUT,
 * INVALID, NO_MEMORY. Questions are asked again when the connection breaks; create and delete are
 * not, as their repetition would find their own work: they return CLOSED, and whether they were
 * carried out is then for the caller to look up. */

struct sluice_setting {
    const char *key;
    const char *value;
};

struct sluice_topic { // freed with sluice_topics_free()
    char *name;
    uint32_t topic_id;
    uint32_t partition_count;
    uint64_t created_ms;
    struct sluice_setting *settings; // effective values
    uint32_t setting_count;
};

SLUICE_API int sluice_topic_create(struct sluice_client *client, const char *name,
                                   uint32_t partition_count, const struct sluice_setting *settings,
                                   uint32_t setting_count);
SLUICE_API int sluice_topic_alter(struct sluice_client *client, const char *name,
                                  uint32_t partition_count, // 0: unchanged
                                  const struct sluice_setting *settings, uint32_t setting_count);
SLUICE_API int sluice_topic_delete(struct sluice_client *client, const char *name);
/* names NULL: all topics, by name. On success *topics is an array of *count (maybe 0). */
SLUICE_API int sluice_topic_list(struct sluice_client *client, const char *const *names,
                                 uint32_t name_count, struct sluice_topic **topics,
                                 uint32_t *count);
SLUICE_API void sluice_topics_free(struct sluice_topic *topics, uint32_t count);

/* Resolves a start to an offset, e.g. BEGINNING and END for the visible range. TIMESTAMP gives the
 * beginning of the batch that holds the first record at or after it. */
SLUICE_API int sluice_offset(struct sluice_client *client, const char *topic, uint32_t partition,
                             enum sluice_start start, uint64_t value, uint64_t *offset);

struct sluice_status_value {
    char *name;
    uint64_t value;
};
struct sluice_broker_status { // freed with sluice_status_free()
    bool ready;
    bool can_produce;
    bool can_consume;
    char *reason; // "" when all three hold
    struct sluice_status_value *values;
    uint32_t value_count;
};
SLUICE_API int sluice_status(struct sluice_client *client, struct sluice_broker_status *status);
SLUICE_API void sluice_status_free(struct sluice_broker_status *status);

/* ---- groups and transactions of the whole broker, for tools ---- */

enum sluice_group_state {
    SLUICE_GROUP_EMPTY = 0,
    SLUICE_GROUP_REBALANCING = 1, // partitions wait for who had them
    SLUICE_GROUP_STABLE = 2,
};
struct sluice_group { // freed with sluice_groups_free()
    char *name;
    enum sluice_group_state state;
    uint32_t generation;
    uint32_t member_count;
    uint32_t offset_count; // partitions with a committed offset
};
SLUICE_API int sluice_group_list(struct sluice_client *client, struct sluice_group **groups,
                                 uint32_t *count);
SLUICE_API void sluice_groups_free(struct sluice_group *groups, uint32_t count);

struct sluice_group_partition {
    char *topic; // NULL: deleted since
    uint32_t topic_id;
    uint32_t partition;
};
struct sluice_group_member {
    char *id;
    char *instance_id; // "": none
    uint32_t generation;
    uint32_t session_timeout_ms;
    uint32_t idle_ms; // since its last sign of life
    struct sluice_group_partition *partitions;
    uint32_t partition_count;
};
struct sluice_group_offset {
    char *topic; // NULL: deleted since
    uint32_t topic_id;
    uint32_t partition;
    uint64_t offset;
    bool pending; // a transaction is about to change it
};
struct sluice_group_description { // freed with sluice_group_description_free()
    enum sluice_group_state state;
    enum sluice_assignor assignor;
    uint32_t generation;
    struct sluice_group_member *members;
    uint32_t member_count;
    struct sluice_group_offset *offsets; // all that are committed
    uint32_t offset_count;
};
/* UNKNOWN_GROUP. */
SLUICE_API int sluice_group_describe(struct sluice_client *client, const char *group,
                                     struct sluice_group_description *description);
SLUICE_API void sluice_group_description_free(struct sluice_group_description *description);

/* Sets offsets of a group without members, also to lower ones; makes the group when there is none.
 * GROUP_NOT_EMPTY. */
SLUICE_API int sluice_group_reset(struct sluice_client *client, const char *group,
                                  const struct sluice_partition_offset *offsets, uint32_t count);
/* UNKNOWN_GROUP, GROUP_NOT_EMPTY. */
SLUICE_API int sluice_group_delete(struct sluice_client *client, const char *group);

enum sluice_txn_state {
    SLUICE_TXN_EMPTY = 0, // nothing is open
    SLUICE_TXN_OPEN = 1,
    SLUICE_TXN_PREPARING = 2,
    SLUICE_TXN_PREPARED = 3,
    SLUICE_TXN_COMMITTING = 4,
    SLUICE_TXN_ABORTING = 5,
};
struct sluice_txn {              // freed with sluice_txns_free()
    struct sluice_txn_name name; // open_lsn 0: nothing is open
    enum sluice_txn_state state;
    uint64_t producer_id;
    uint16_t epoch;
    uint64_t age_ms; // since its begin; EMPTY: since the last one ended
    uint32_t timeout_ms;
    uint64_t shards; // that take part, a bit each
};
/* Every transactional id that the broker knows. */
SLUICE_API int sluice_txn_list(struct sluice_client *client, struct sluice_txn **txns,
                               uint32_t *count);
SLUICE_API void sluice_txns_free(struct sluice_txn *txns, uint32_t count);

struct sluice_txn_part {
    char *topic; // NULL: deleted since
    uint32_t topic_id;
    uint32_t partition;
    uint32_t batch_count;
    uint32_t record_count;
    uint64_t bytes;
};
struct sluice_txn_description { // freed with sluice_txn_description_free()
    struct sluice_txn txn;
    struct sluice_txn_part *parts;
    uint32_t part_count;
    uint32_t offset_count; // offsets of consumer groups
    uint64_t batch_bytes;  // of all partitions
};
/* UNKNOWN_TRANSACTION: the broker does not know the id. */
SLUICE_API int sluice_txn_describe(struct sluice_client *client, const char *id,
                                   struct sluice_txn_description *description);
SLUICE_API void sluice_txn_description_free(struct sluice_txn_description *description);

/* Ends a transaction whose program can't: for a prepared one, whoever does this must know what the
 * other systems did. TRANSACTION_ABORTED, TRANSACTION_COMMITTED: it ended the other way;
 * UNKNOWN_TRANSACTION: it is gone. */
SLUICE_API int sluice_txn_end(struct sluice_client *client, const struct sluice_txn_name *name,
                              bool commit);

/* More words about the last failed call of this thread ("partition 9, allowed 0..7"), the broker's
 * where it was the broker that refused; "" when there are none. Valid until the thread's next call.
 */
SLUICE_API const char *sluice_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
