/* What the parts of the JetStream driver share: the session's connections, and how errors are told.
 *
 * Lifetime of a producer: free() only parks it. The library's thread may still be inside its ack handler, and no call of the library
 * waits for that but the one that closes all of it; so the session frees parked producers behind that one. */
#ifndef SLUICE_BENCH_DRIVER_NATS_JETSTREAM_H
#define SLUICE_BENCH_DRIVER_NATS_JETSTREAM_H

#include <nats/nats.h>
#include <pthread.h>

#include "bench/driver/driver.h"

#define JETSTREAM_SERVER "127.0.0.1:4222"
#define JETSTREAM_WAIT_MS 10000 // for any answer of the server

struct jetstream {
    struct driver_session *session;
    char url[256];
    natsOptions *options;
    jsCtx *context; // of the first connection: asks for what the stream is and holds
    struct driver_producer *parked; // freed, but perhaps still known to the library
    uint32_t connection_count;
    natsConnection *connections[]; // of producers; each consumer has one of its own
};

/* ---- session.c ---- */

/* A connection that does not come back by itself: a lost server is an error. */
MUST_USE int jetstream_connect(struct jetstream *self, natsConnection **connection);
MUST_USE int jetstream_context(struct jetstream *self, natsConnection *connection,
                               const jsOptions *options, jsCtx **context);
/* Notes what failed, in the words of the library or the server; DRIVER_FAILED. */
int jetstream_fail(struct driver_session *session, const char *what, natsStatus status);

/* ---- server_says.c ---- */

/* Version and limits of the running server as facts; how often it flushes, when it tells. sync: 80 bytes, in words. */
MUST_USE int jetstream_ask_server(struct driver_session *session, char *sync);

/* ---- producer.c ---- */

int jetstream_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                           void *context, struct driver_producer **producer);
int jetstream_producer_send(struct driver_producer *producer, const struct driver_record *records,
                            uint32_t count);
int jetstream_producer_flush(struct driver_producer *producer, uint32_t timeout_ms);
void jetstream_producer_free(struct driver_producer *producer);
/* How many records may be without an ack. */
uint32_t jetstream_records_in_flight(const struct bench_options *options);
/* When the library is closed. */
void jetstream_producers_release(struct jetstream *self);

/* ---- consumer.c ---- */

int jetstream_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                           struct driver_consumer **consumer);
int jetstream_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                            uint32_t count, uint32_t timeout_ms);
void jetstream_consumer_free(struct driver_consumer *consumer);

#endif
