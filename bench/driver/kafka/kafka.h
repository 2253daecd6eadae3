/* The driver of Kafka's protocol, by librdkafka, in parts: handles of the library, what a server is asked, who sends, who reads. */
#ifndef SLUICE_BENCH_DRIVER_KAFKA_KAFKA_H
#define SLUICE_BENCH_DRIVER_KAFKA_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>

#include <librdkafka/rdkafka_mock.h>

#include "bench/driver/driver.h"

#define KAFKA_ANSWER_MS 8000 // to a question of the session
#define KAFKA_ERROR_MAX 256

/* A handle with the thread that hears of acks and errors. Producers share it (--clients). */
struct kafka_client {
    struct driver_session *session;
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *events;
    pthread_t thread;
    bool has_thread;
    _Atomic bool is_stopping;
    _Atomic bool has_failed; // the session's error says why

    /* ---- its thread ---- */
    char last_error[KAFKA_ERROR_MAX]; // of a connection; what is behind "all brokers are down"
};

struct kafka_session {
    char servers[512];
    rd_kafka_t *mock_owner; // NULL: a real server
    rd_kafka_mock_cluster_t *mock;
    rd_kafka_t *asker; // for questions, by the main thread
    rd_kafka_topic_t *asked_topic;
    bool has_controller;               // to make and to describe topics
    bool is_unreachable;               // was told to the asker while it waited
    char unreachable[KAFKA_ERROR_MAX]; // why
    uint32_t client_count;             // places; one that has no handle is not in use yet
    struct kafka_client clients[];
};

/* ---- handles.c ---- */

struct kafka_setting {
    const char *name;
    const char *value; // NULL: as the library has it
};

/* A handle with these settings, the last of which has no name, on top of those all handles have. opaque is what callbacks get; on_error NULL:
 * as event. NULL: failed and noted. */
rd_kafka_t *kafka_handle(struct driver_session *session, rd_kafka_type_t type,
                         const struct kafka_setting *settings, void *opaque,
                         void (*on_error)(rd_kafka_t *handle, int error, const char *reason,
                                          void *opaque));

/* Returns DRIVER_FAILED. */
int kafka_fail(struct driver_session *session, const char *what, rd_kafka_resp_err_t error);

/* "mock" or "mock:N" as --server: starts a cluster in this process. Returns 0, also if it is another server, or DRIVER_FAILED. */
int kafka_mock_start(struct driver_session *session);
void kafka_mock_stop(struct kafka_session *self);

/* ---- questions.c ---- */

int kafka_asker_start(struct driver_session *session);
void kafka_asker_stop(struct kafka_session *self);
/* Makes the topic if it is missing, and learns of its partitions. */
int kafka_topic_make(struct driver_session *session);
/* What the topic's settings are, as facts; fills ack_means. */
int kafka_topic_facts(struct driver_session *session);
/* RD_KAFKA_OFFSET_BEGINNING or _END as a number, of each partition: [partition_count]. Thread: any. */
int kafka_offsets(struct driver_session *session, rd_kafka_t *handle, int64_t which,
                  int64_t *offsets);
/* The sums over all partitions. */
int kafka_topic_offsets(struct driver_session *session, uint64_t *begins, uint64_t *ends);

/* ---- producer.c, consumer.c: the functions of the driver ---- */

void kafka_client_stop(struct kafka_client *client);

int kafka_producer_new(struct driver_session *session, uint32_t index, driver_ack_fn ack,
                       void *context, struct driver_producer **producer);
int kafka_producer_send(struct driver_producer *producer, const struct driver_record *records,
                        uint32_t count);
int kafka_producer_flush(struct driver_producer *producer, uint32_t timeout_ms);
void kafka_producer_free(struct driver_producer *producer);

int kafka_consumer_new(struct driver_session *session, uint32_t index, enum driver_start start,
                       struct driver_consumer **consumer);
int kafka_consumer_poll(struct driver_consumer *consumer, struct driver_message *messages,
                        uint32_t count, uint32_t timeout_ms);
void kafka_consumer_free(struct driver_consumer *consumer);

#endif
