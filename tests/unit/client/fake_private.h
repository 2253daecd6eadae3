/* What the parts of the fake broker share: fake_broker.c (the thread, rules, sending),
 * fake_requests.c (topics, publishing), fake_reading.c, fake_txn.c, fake_group.c, and
 * fake_control.c, which is what tests call. Everything under the broker's mutex. */
#ifndef SLUICE_TESTS_FAKE_PRIVATE_H
#define SLUICE_TESTS_FAKE_PRIVATE_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "proto/messages.h"
#include "tests/unit/client/fake_broker.h"
#include "tests/unit/client/fake_group.h"
#include "tests/unit/client/fake_store.h"
#include "tests/unit/client/fake_txn.h"

#define CONNS_MAX 64
#define RULES_MAX 64
#define IN_BYTES (8 * MIB)
#define OUT_BYTES (6 * MIB)
#define SUBSCRIPTIONS_MAX 64

struct fake_rule {
    uint16_t op;
    uint32_t skip, count;
    enum fake_action action;
    uint32_t argument;
};

struct fake_cursor {
    uint32_t topic_id, partition;
    uint64_t next;
    bool ended;
};

struct fake_subscription {
    uint64_t id; // 0: free
    uint64_t credit;
    struct fake_cursor *cursors;
    uint32_t cursor_count;
};

struct fake_conn {
    int fd; // -1: free
    bool greeted;
    uint8_t *in;
    size_t in_len;
    uint64_t publish;             // last number seen
    uint64_t ack_first, ack_last; // gathered, 0: none
    uint64_t ack_offsets[8192];
    uint32_t ack_count;
    struct fake_subscription subscriptions[SUBSCRIPTIONS_MAX];
};

struct fake_reading {     // where fake_value() was last, so that reading in order is fast
    const uint8_t *bytes; // the batch; NULL: none
    uint64_t next;
    struct batch_iterator iterator;
};

struct fake_broker {
    struct fake_options options;
    _Atomic uint8_t store_number;
    pthread_t thread;
    pthread_mutex_t mutex;
    int listen_fd, wake_fd;
    char address[64];
    struct sockaddr_in sockaddr;
    bool stop;
    struct fake_store store;
    struct fake_txns txns;
    struct fake_groups groups;
    struct fake_conn conns[CONNS_MAX];
    struct fake_rule rules[RULES_MAX];
    uint32_t rule_count;
    uint64_t seen[256];
    uint64_t accepted;
    uint32_t in_flight_max;
    struct fake_reading reading;
    uint8_t *out;
};

/* ---- fake_broker.c ---- */
void fake_open_listener(struct fake_broker *broker);
void fake_close_conn(struct fake_conn *conn);
struct writer fake_begin(struct fake_broker *broker); // of the meta of what is sent next
void fake_send_frame(struct fake_broker *broker, struct fake_conn *conn, uint16_t op, uint8_t flags,
                     uint64_t correlation, struct writer *w, uint32_t data_bytes);
void fake_send_error(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                     uint16_t error);
void fake_send_bytes(struct fake_conn *conn, const uint8_t *bytes, size_t len);
void fake_sleep_ms(uint32_t ms);
void fake_wake(struct fake_broker *broker);

/* ---- fake_requests.c ---- */
void fake_on_hello(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame);
void fake_on_metadata(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                      struct writer *w);
void fake_on_topic(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                   bool silent);
void fake_on_producer_init(struct fake_broker *broker, const struct frame *frame, struct writer *w);
void fake_on_produce(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                     bool silent);
void fake_flush_ack(struct fake_broker *broker, struct fake_conn *conn);

/* ---- fake_reading.c ---- */
void fake_on_subscribe(struct fake_broker *broker, struct fake_conn *conn,
                       const struct frame *frame);
void fake_on_offsets(struct fake_broker *broker, const struct frame *frame, struct writer *w);
void fake_deliver_all(struct fake_broker *broker, struct fake_conn *conn);
struct fake_subscription *fake_find_subscription(struct fake_conn *conn, uint64_t id);

/* ---- fake_txn.c, fake_group.c: the answer in w, or an error ---- */
uint16_t fake_on_txn(struct fake_broker *broker, const struct frame *frame, struct writer *w);
uint16_t fake_on_group(struct fake_broker *broker, const struct frame *frame, struct writer *w);

/* ---- fake_control.c ---- */
struct fake_partition *fake_partition_of(struct fake_broker *broker, const char *topic,
                                         uint32_t partition);

#endif
