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

struct sluice_report {
    int status; // SLUICE_OK, or why it is not stored
    uint32_t partition;
    uint64_t offset; // valid when OK; or SLUICE_OFFSET_UNKNOWN
    void *opaque;
};

enum sluice_compression { SLUICE_COMPRESSION_NONE = 0, SLUICE_COMPRESSION_LZ4 = 3 };

struct sluice_producer_options {
    size_t size;                         // sizeof(struct sluice_producer_options)
    bool not_idempotent;                 // default false: idempotent
    enum sluice_compression compression; // default NONE; LZ4 is done by the sending threads
    uint32_t batch_bytes;   // 0: 256 KiB; 1 KiB .. 4 MiB. A batch is sent when it is full
    uint32_t batch_records; // 0: no limit; 1: each record is a batch (sends are still coalesced)
    uint32_t linger_us;     // how long a batch may wait to fill. 0: as long as the sender is busy
    /* Unacked batches per partition. 0: 5. Idempotent: 1 .. 5, else 1 .. 64. */
    uint32_t batches_in_flight;
    uint64_t buffer_bytes;        // 0: 32 MiB; >= 2 * batch_bytes. Memory for records not yet acked
    uint32_t delivery_timeout_ms; // 0: 120,000. From send() to report, retries included
    uint32_t retry_backoff_ms;    // 0: 50; doubles up to 1,000
    bool send_waits;  // a full buffer makes send() wait, up to delivery_timeout, instead of FULL
    bool report_poll; // reports are called from sluice_producer_poll(), not from the I/O thread
    void (*on_report)(void *context, const struct sluice_report *report); // NULL: none wanted
    void *context;
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
 * anew. */
SLUICE_API void sluice_producer_free(struct sluice_producer *producer);

/* ---- consumer ---- */

struct sluice_consumer;

struct sluice_consumer_options {
    size_t size; // sizeof(struct sluice_consumer_options)
    /* 0: 16 MiB; >= 5 MiB. Credit given to the broker: what it may send ahead. As received frames
     * lie in blocks of a power of two, the memory in use may come to twice that, a quarter for what
     * is kept of paused partitions, and one batch decompressed. */
    uint64_t buffer_bytes;
};

enum sluice_start {
    SLUICE_START_OFFSET = 0, // value = offset
    SLUICE_START_BEGINNING = 1,
    SLUICE_START_END = 2,       // only what comes from now on
    SLUICE_START_TIMESTAMP = 3, // value = ms since the epoch: first record at or after
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

/* Fills up to `max` messages, waiting up to timeout_ms for a first one. What they point at is valid
 * until the next poll or free. Order holds within a partition.
 *
 * Returns how many (0: none in time), or an error. An error about a partition comes once, says
 * which by sluice_consumer_error(), and stops that partition until a seek; the others go on:
 *   OFFSET_OUT_OF_RANGE   retention has passed the position
 *   UNKNOWN_TOPIC         it was deleted
 *   CORRUPT, UNSUPPORTED  a batch fails its checksum, is malformed, or is compressed in a way that
 *                         this library doesn't know
 * A lost connection is no error: it is made again; but OTHER_STORE when another store answers then.
 * Thread: one at a time. */
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

/* More words about the last failed call of this thread ("partition 9, allowed 0..7"), the broker's
 * where it was the broker that refused; "" when there are none. Valid until the thread's next call.
 */
SLUICE_API const char *sluice_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
