/* The driver of Redis Streams, in parts: the connection, who sends by it, who reads by it. */
#ifndef SLUICE_BENCH_DRIVER_REDIS_REDIS_H
#define SLUICE_BENCH_DRIVER_REDIS_REDIS_H

#include <hiredis/hiredis.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/driver/driver.h"

#define REDIS_FIELD "v" // each entry of the stream has this one, with the record's value

/* ---- redis.c ---- */

/* The settings of the server that a client chooses its way by. */
struct redis_session {
    redisContext *context; // for questions, by the main thread
    bool is_flushed_always;
};

/* Asks the stream for a field of XINFO STREAM. Fills text; returns 0 or DRIVER_FAILED. */
int redis_stream_info(struct driver_session *session, redisContext *context, const char *field,
                      char *text, size_t size);

/* A connection that waits for each answer, for some seconds at most. NULL: failed and noted. */
redisContext *redis_connect(struct driver_session *session);

/* ---- connection.c ---- */

/* A connection that never waits by itself. What is to be sent lies in `out`, from where it goes into the socket as
 * this takes it; what arrives goes through hiredis' parser. Thread: one. */
struct redis_connection {
    struct driver_session *session;
    redisContext *context;
    char *out;
    size_t out_size, out_begin, out_end; // to be sent: [begin, end)
    size_t out_held;                     // behind that: not to be sent yet
    char *in;
    size_t in_size;
};

/* functions: what the parser calls instead of making an object of every reply. Returns 0 or DRIVER_FAILED; closing is right after
 * either. */
int redis_connection_open(struct driver_session *session, struct redis_connection *connection,
                          size_t out_size, size_t in_size, redisReplyObjectFunctions *functions,
                          void *context);
void redis_connection_close(struct redis_connection *connection);

/* Room for `size` bytes, of which those that are written are held with out_held += written. NULL: no room now. */
char *redis_connection_reserve(struct redis_connection *connection, size_t size);
/* What is held is to be sent. */
void redis_connection_release(struct redis_connection *connection);

/* One write and one read, as far as both go. Returns the number of bytes moved, or DRIVER_FAILED. */
int redis_connection_exchange(struct redis_connection *connection);

/* Until something can be read, or written if there is something to write. Returns 0, at the latest after timeout_us, or
 * DRIVER_FAILED. */
int redis_connection_wait(struct redis_connection *connection, uint64_t timeout_us);

/* The next whole reply that has arrived. Returns 1, 0 (none yet), or DRIVER_FAILED. */
int redis_connection_reply(struct redis_connection *connection);

/* ---- producer.c, consumer.c: the functions of the driver ---- */

int redis_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                       void *context, struct driver_producer **producer);
int redis_producer_send(struct driver_producer *producer, const struct driver_record *records,
                        uint32_t count);
int redis_producer_poll(struct driver_producer *producer, uint32_t timeout_us);
int redis_producer_flush(struct driver_producer *producer, uint32_t timeout_ms);
void redis_producer_free(struct driver_producer *producer);

int redis_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                       struct driver_consumer **consumer);
int redis_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                        uint32_t count, uint32_t timeout_ms);
void redis_consumer_free(struct driver_consumer *consumer);

#endif
