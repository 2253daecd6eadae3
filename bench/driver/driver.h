/* What a broker must be able to do to be measured. A driver is a table of functions; the engine knows nothing else of a broker, so
 * that all of them meet the same load, the same clock and the same checks.
 *
 * A session is one broker, its connections, and the topic that is measured (queue, stream, subject: whatever the broker calls
 * a sequence of records). A partition is what keeps an order; a broker without them has one.
 *
 * Calls return 0 (or a count), or DRIVER_FAILED after driver_fail() has noted what went wrong: session->error. A broker without
 * partitions, batches or other things that an option asks for refuses the option in open(), or says in bench/README.md that it
 * means nothing there. */
#ifndef SLUICE_BENCH_DRIVER_DRIVER_H
#define SLUICE_BENCH_DRIVER_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "bench/options.h"

#define DRIVER_FAILED (-1)
#define DRIVER_ERROR_MAX 512
#define DRIVER_FACTS_MAX 16
#define OFFSET_UNKNOWN UINT64_MAX

/* One thing that the broker or its library says of itself, for the report: above all what an ack means. */
struct driver_fact {
    char name[48];
    char value[80];
    bool is_fetched; // asked of the running server; false: what this driver has asked for
};

struct driver_session {
    const struct bench_driver *driver;
    const struct bench_options *options;
    void *self;               // the driver's own
    uint32_t partition_count; // that the topic really has
    uint32_t fact_count;
    struct driver_fact facts[DRIVER_FACTS_MAX];
    const char
        *ack_means; // durability of an ack in words: "fdatasync", "in the server's memory" ...
    char error[DRIVER_ERROR_MAX]; // of the last call that failed
};

/* What the broker tells of itself at one moment; totals since its start. UINT64_MAX: it does not tell. */
struct driver_figures {
    uint64_t cpu_us;
    uint64_t rss_bytes;
    uint64_t fdatasyncs;
    uint64_t device_bytes;    // written to its log
    uint64_t waits_for_spare; // appends that found no prepared file
    uint64_t delivered_bytes; // of batches, to consumers
};

struct driver_record {
    const void *value;
    uint32_t value_len;
    uint32_t partition;
    uint64_t opaque; // comes back with the ack
};

/* Told once for each record that was taken. Thread: one for each producer, of the library or the one that polls.
 * offset: OFFSET_UNKNOWN where the broker gives none. */
typedef void (*driver_ack_fn)(void *context, int status, uint64_t opaque, uint32_t partition,
                              uint64_t offset, const char *error);

struct driver_message {
    const void *value; // valid until the next poll
    uint32_t value_len;
    uint32_t partition;
    uint64_t offset;
};

struct driver_producer;
struct driver_consumer;

enum driver_start { DRIVER_FROM_BEGINNING, DRIVER_FROM_END };

struct bench_driver {
    const char *name;    // --driver
    const char *library; // that it uses

    /* Connects and makes the topic if it is missing; fills facts and ack_means. */
    int (*open)(struct driver_session *session);
    void (*close)(struct driver_session *session);

    /* Adds facts that the running server tells. Optional. */
    int (*fetch_facts)(struct driver_session *session);
    /* The number of records that the topic has ever held; what it grows by is compared with the acks. Optional. */
    int (*count)(struct driver_session *session, uint64_t *records);
    /* The number of records that a consumer from the beginning would get now. */
    int (*available)(struct driver_session *session, uint64_t *records);
    /* Is there no connection to the server at the moment? Optional. Thread: any. */
    bool (*is_lost)(struct driver_session *session);
    /* Optional: without it the figures of the process --server-pid are all there is. */
    void (*figures)(struct driver_session *session, struct driver_figures *figures);

    /* Thread: main. When it fails, *producer is NULL or to be freed. Sending, polling and flushing: one thread at a time. */
    int (*producer_new)(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                        void *context, struct driver_producer **producer);
    /* Takes up to `count` records, in order; returns how many (0: its buffer is full, poll), or DRIVER_FAILED. The values are copied. */
    int (*producer_send)(struct driver_producer *producer, const struct driver_record *records,
                         uint32_t count);
    /* Sends and receives what can be, and waits for up to timeout_us if nothing can. Optional: without it acks come by threads of
     * the library. */
    int (*producer_poll)(struct driver_producer *producer, uint32_t timeout_us);
    /* Until each record that was taken has its ack. */
    int (*producer_flush)(struct driver_producer *producer, uint32_t timeout_ms);
    void (*producer_free)(struct driver_producer *producer);

    /* Reads all partitions. Thread of new, poll and free: one. When it fails, *consumer is NULL or to be freed. */
    int (*consumer_new)(struct driver_session *session, uint32_t index, enum driver_start start,
                        struct driver_consumer **consumer);
    /* Returns the number of messages, 0 after timeout_ms without any, or DRIVER_FAILED. */
    int (*consumer_poll)(struct driver_consumer *consumer, struct driver_message *messages,
                         uint32_t count, uint32_t timeout_ms);
    void (*consumer_free)(struct driver_consumer *consumer);
};

/* By name; NULL: unknown, or not built because its library was missing. */
const struct bench_driver *driver_find(const char *name);
/* The names of all that are built, separated by ", ". */
const char *driver_names(void);

/* Opens a session: connects, makes the topic, fetches facts. Returns 0, or -1 after a message on standard error. */
MUST_USE int driver_session_open(struct driver_session *session,
                                 const struct bench_options *options);
void driver_session_close(struct driver_session *session);

/* For drivers: notes the error and returns DRIVER_FAILED. Thread: any; the first of two wins. */
int driver_fail(struct driver_session *session, const char *format, ...) PRINTF_LIKE(2, 3);
void driver_fact(struct driver_session *session, bool is_fetched, const char *name,
                 const char *format, ...) PRINTF_LIKE(4, 5);

/* For commands: prints "sluice-bench: WHAT: error" and returns -1. */
int driver_complain(const struct driver_session *session, const char *what);

#endif
