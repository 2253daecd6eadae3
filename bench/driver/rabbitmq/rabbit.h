/* What the parts of the two RabbitMQ drivers share. They differ in the type of the queue: a quorum queue hands each record to one
 * consumer and then forgets it; a stream keeps all, and each consumer reads from where it likes. */
#ifndef SLUICE_BENCH_DRIVER_RABBITMQ_RABBIT_H
#define SLUICE_BENCH_DRIVER_RABBITMQ_RABBIT_H

#include "bench/driver/rabbitmq/link.h"

/* ---- session.c ---- */

bool rabbit_is_stream(const struct driver_session *session);
/* A durable queue of the driver's type; of a quorum queue also bound to the exchange that has the topic's name. */
MUST_USE int rabbit_queue_make(struct rabbit_link *link, const char *name);

/* ---- producer.c ---- */

int rabbit_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                        void *context, struct driver_producer **producer);
int rabbit_producer_send(struct driver_producer *producer, const struct driver_record *records,
                         uint32_t count);
int rabbit_producer_poll(struct driver_producer *producer, uint32_t timeout_us);
int rabbit_producer_flush(struct driver_producer *producer, uint32_t timeout_ms);
void rabbit_producer_free(struct driver_producer *producer);
/* How many records may be without a confirm. */
uint32_t rabbit_records_in_flight(const struct bench_options *options);

/* ---- consumer.c ---- */

#define RABBIT_PREFETCH 8192 // records that the server sends before it wants an ack

int rabbit_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                        struct driver_consumer **consumer);
int rabbit_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                         uint32_t count, uint32_t timeout_ms);
void rabbit_consumer_free(struct driver_consumer *consumer);
/* The first offset of the stream, and one behind its last; both 0 when it is empty. Takes up to some seconds. */
MUST_USE int rabbit_stream_bounds(struct driver_session *session, uint64_t *begin, uint64_t *end);

#endif
