/* The fake broker: one thread, poll(), a mutex around everything. Sockets are read without blocking
 * and written with, since the client always reads. A turn reads what is there, answers it frame by
 * frame, and then lets each subscription have what its credit allows. */
#include "tests/unit/client/fake_broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/messages.h"
#include "tests/unit/client/fake_store.h"

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
    struct fake_conn conns[CONNS_MAX];
    struct fake_rule rules[RULES_MAX];
    uint32_t rule_count;
    uint64_t seen[256];
    uint64_t accepted;
    uint32_t in_flight_max;
    struct fake_reading reading;
    uint8_t *out;
};

static void *run(void *broker);
static void open_listener(struct fake_broker *broker);
static void wait_for_sockets(struct fake_broker *broker);
static void accept_one(struct fake_broker *broker);
static void close_conn(struct fake_conn *conn);
static void read_conn(struct fake_broker *broker, struct fake_conn *conn);
static void take_frames(struct fake_broker *broker, struct fake_conn *conn);
static void handle(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame);
static void send_wrong_ack(struct fake_broker *broker, struct fake_conn *conn, uint64_t number,
                           uint32_t how);
static bool strike(struct fake_broker *broker, uint16_t op, struct fake_rule *rule);
static void answer(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                   bool silent);
static void on_hello(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame);
static void on_metadata(struct fake_broker *broker, struct fake_conn *conn,
                        const struct frame *frame, struct writer *w);
static void on_topic(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                     bool silent);
static void on_producer_init(struct fake_broker *broker, const struct frame *frame,
                             struct writer *w);
static void on_produce(struct fake_broker *broker, struct fake_conn *conn,
                       const struct frame *frame, bool silent);
static void flush_ack(struct fake_broker *broker, struct fake_conn *conn);
static void on_subscribe(struct fake_broker *broker, struct fake_conn *conn,
                         const struct frame *frame);
static void on_offsets(struct fake_broker *broker, const struct frame *frame, struct writer *w);
static uint64_t resolve(struct fake_partition *partition, uint8_t start, uint64_t value);
static void deliver_all(struct fake_broker *broker, struct fake_conn *conn);
static bool deliver(struct fake_broker *broker, struct fake_conn *conn,
                    struct fake_subscription *subscription, struct fake_cursor *cursor);
static struct fake_subscription *find_subscription(struct fake_conn *conn, uint64_t id);
static struct writer begin(struct fake_broker *broker);
static void send_frame(struct fake_broker *broker, struct fake_conn *conn, uint16_t op,
                       uint8_t flags, uint64_t correlation, struct writer *w, uint32_t data_bytes);
static void send_error(struct fake_broker *broker, struct fake_conn *conn,
                       const struct frame *frame, uint16_t error);
static void send_bytes(struct fake_conn *conn, const uint8_t *bytes, size_t len);
static void sleep_ms(uint32_t ms);
static void wake(struct fake_broker *broker);
static struct fake_partition *partition_of(struct fake_broker *broker, const char *topic,
                                           uint32_t partition);

struct fake_broker *fake_start(const struct fake_options *options)
{
    struct fake_broker *broker = calloc(1, sizeof(*broker));
    ASSERT(broker);
    broker->options = *options;
    if (broker->options.publishes_max == 0)
        broker->options.publishes_max = 65536;
    if (broker->options.credit_min == 0)
        broker->options.credit_min = (uint32_t)(4 * MIB + 4096);
    if (broker->options.record_bytes_max == 0)
        broker->options.record_bytes_max = (uint32_t)(1 * MIB);
    if (broker->options.deliver_bytes_max == 0)
        broker->options.deliver_bytes_max = (uint32_t)(1 * MIB);
    broker->store.discard = options->discard;
    broker->store.any_first_sequence = options->any_first_sequence;
    broker->store.record_bytes_max = broker->options.record_bytes_max;
    broker->out = malloc(OUT_BYTES);
    ASSERT(broker->out);
    for (int i = 0; i < CONNS_MAX; i++)
        broker->conns[i].fd = -1;
    broker->sockaddr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    open_listener(broker);
    broker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&broker->mutex, NULL);
    ASSERT(pthread_create(&broker->thread, NULL, run, broker) == 0);
    return broker;
}

void fake_stop(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    broker->stop = true;
    pthread_mutex_unlock(&broker->mutex);
    wake(broker);
    pthread_join(broker->thread, NULL);
    for (int i = 0; i < CONNS_MAX; i++)
        close_conn(&broker->conns[i]);
    if (broker->listen_fd >= 0)
        close(broker->listen_fd);
    close(broker->wake_fd);
    fake_store_free(&broker->store);
    pthread_mutex_destroy(&broker->mutex);
    free(broker->out);
    free(broker);
}

/* ---- the thread ---- */

static void *run(void *argument)
{
    struct fake_broker *broker = argument;
    pthread_mutex_lock(&broker->mutex);
    while (!broker->stop) {
        pthread_mutex_unlock(&broker->mutex);
        wait_for_sockets(broker);
        pthread_mutex_lock(&broker->mutex);
        for (int i = 0; i < CONNS_MAX; i++) {
            if (broker->conns[i].fd >= 0)
                read_conn(broker, &broker->conns[i]);
            if (broker->conns[i].fd >= 0)
                deliver_all(broker, &broker->conns[i]);
        }
        accept_one(broker);
    }
    pthread_mutex_unlock(&broker->mutex);
    return NULL;
}

static void open_listener(struct fake_broker *broker)
{
    int on = 1;
    broker->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ASSERT(broker->listen_fd >= 0);
    setsockopt(broker->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    socklen_t len = sizeof(broker->sockaddr);
    /* On the way back the old listener may live until the thread's poll() lets go of it. */
    int failed = -1;
    for (int i = 0; i < 2000 && failed; i++) {
        failed = bind(broker->listen_fd, (struct sockaddr *)&broker->sockaddr, len);
        if (failed)
            sleep_ms(1);
    }
    ASSERT(!failed);
    ASSERT(listen(broker->listen_fd, 64) == 0);
    getsockname(broker->listen_fd, (struct sockaddr *)&broker->sockaddr, &len);
    snprintf(broker->address, sizeof(broker->address), "127.0.0.1:%u",
             ntohs(broker->sockaddr.sin_port));
}

static void wait_for_sockets(struct fake_broker *broker)
{
    struct pollfd fds[CONNS_MAX + 2];
    nfds_t count = 0;
    pthread_mutex_lock(&broker->mutex);
    fds[count++] = (struct pollfd){.fd = broker->wake_fd, .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = broker->listen_fd, .events = POLLIN};
    for (int i = 0; i < CONNS_MAX; i++) {
        if (broker->conns[i].fd >= 0)
            fds[count++] = (struct pollfd){.fd = broker->conns[i].fd, .events = POLLIN};
    }
    pthread_mutex_unlock(&broker->mutex);
    poll(fds, count, 100);
    uint64_t wakes;
    if (read(broker->wake_fd, &wakes, sizeof(wakes)) < 0)
        ASSERT(errno == EAGAIN);
}

static void accept_one(struct fake_broker *broker)
{
    int fd = broker->listen_fd >= 0 ? accept4(broker->listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd < 0)
        return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (int i = 0; i < CONNS_MAX; i++) {
        struct fake_conn *conn = &broker->conns[i];
        if (conn->fd >= 0)
            continue;
        uint8_t *in = conn->in ? conn->in : malloc(IN_BYTES);
        ASSERT(in);
        *conn = (struct fake_conn){.fd = fd, .in = in};
        broker->accepted++;
        return;
    }
    close(fd);
}

static void close_conn(struct fake_conn *conn)
{
    for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        free(conn->subscriptions[i].cursors);
        conn->subscriptions[i] = (struct fake_subscription){0};
    }
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    free(conn->in);
    conn->in = NULL;
    conn->in_len = 0;
}

static void read_conn(struct fake_broker *broker, struct fake_conn *conn)
{
    ssize_t n = recv(conn->fd, conn->in + conn->in_len, IN_BYTES - conn->in_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (n <= 0) {
        close_conn(conn);
        return;
    }
    conn->in_len += (size_t)n;
    take_frames(broker, conn);
    if (conn->fd >= 0)
        flush_ack(broker, conn);
}

static void take_frames(struct fake_broker *broker, struct fake_conn *conn)
{
    size_t at = 0;
    while (conn->fd >= 0) {
        int64_t length = frame_peek(conn->in + at, conn->in_len - at, IN_BYTES);
        if (length < 0) {
            fprintf(stderr, "fake broker: malformed frame\n");
            close_conn(conn);
            return;
        }
        if (length == 0 || (size_t)length > conn->in_len - at)
            break;
        struct frame frame;
        if (frame_decode(conn->in + at, &frame) != PE_NONE) {
            fprintf(stderr, "fake broker: wrong checksum\n");
            close_conn(conn);
            return;
        }
        handle(broker, conn, &frame);
        at += (size_t)length;
    }
    if (conn->fd < 0)
        return;
    memmove(conn->in, conn->in + at, conn->in_len - at);
    conn->in_len -= at;
}

static void handle(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame)
{
    struct fake_rule rule;
    broker->seen[frame->op & 255]++;
    if (!conn->greeted && frame->op != OP_HELLO) {
        send_error(broker, conn, frame, PE_HELLO_REQUIRED);
        close_conn(conn);
        return;
    }
    if (!strike(broker, frame->op, &rule)) {
        answer(broker, conn, frame, false);
        return;
    }
    flush_ack(broker, conn);
    switch (rule.action) {
    case FAKE_REFUSE:
        if (frame->op == OP_PRODUCE)
            conn->publish = frame->correlation;
        send_error(broker, conn, frame, (uint16_t)rule.argument);
        break;
    case FAKE_DROP_BEFORE:
        close_conn(conn);
        break;
    case FAKE_DROP_AFTER:
        answer(broker, conn, frame, true);
        close_conn(conn);
        break;
    case FAKE_SILENT:
        answer(broker, conn, frame, true);
        break;
    case FAKE_IGNORE:
        if (frame->op == OP_PRODUCE)
            conn->publish = frame->correlation;
        break;
    case FAKE_DELAY:
        pthread_mutex_unlock(&broker->mutex);
        sleep_ms(rule.argument);
        pthread_mutex_lock(&broker->mutex);
        answer(broker, conn, frame, false);
        break;
    case FAKE_GARBAGE:
        send_bytes(conn, (const uint8_t *)"HTTP/1.1 400 Bad Request\r\n\r\n____________", 40);
        break;
    case FAKE_WRONG_ACK:
        answer(broker, conn, frame, rule.argument != 0);
        send_wrong_ack(broker, conn, frame->correlation, rule.argument);
        break;
    }
}

static void send_wrong_ack(struct fake_broker *broker, struct fake_conn *conn, uint64_t number,
                           uint32_t how)
{
    flush_ack(broker, conn);
    conn->ack_first = conn->ack_last = number;
    conn->ack_count = how == 1 ? 2 : how == 3 ? 0 : 1;
    if (how == 2)
        conn->ack_last += 3, conn->ack_count = 4;
    memset(conn->ack_offsets, 0, 4 * sizeof(conn->ack_offsets[0]));
    if (conn->ack_count > 0) {
        flush_ack(broker, conn);
        return;
    }
    struct writer w = begin(broker);
    write_ack_begin(&w, number, number, 0, 1, 0);
    send_frame(broker, conn, OP_ACK, FRAME_PUSH, 0, &w, 0);
}

static bool strike(struct fake_broker *broker, uint16_t op, struct fake_rule *rule)
{
    for (uint32_t i = 0; i < broker->rule_count; i++) {
        struct fake_rule *candidate = &broker->rules[i];
        if (candidate->op != op || candidate->count == 0)
            continue;
        if (candidate->skip > 0) {
            candidate->skip--;
            return false;
        }
        candidate->count--;
        *rule = *candidate;
        return true;
    }
    return false;
}

static void answer(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                   bool silent)
{
    struct writer w = begin(broker);
    struct msg_credit credit;
    struct fake_subscription *subscription;
    switch (frame->op) {
    case OP_PRODUCE:
        on_produce(broker, conn, frame, silent);
        return;
    case OP_HELLO:
        on_hello(broker, conn, frame);
        return;
    case OP_SUBSCRIBE:
        on_subscribe(broker, conn, frame);
        return;
    case OP_TOPIC_CREATE:
    case OP_TOPIC_DELETE:
        on_topic(broker, conn, frame, silent);
        return;
    case OP_CREDIT:
        ASSERT(read_credit(frame, &credit) == PE_NONE);
        subscription = find_subscription(conn, credit.subscription);
        if (subscription)
            subscription->credit += credit.bytes;
        return;
    case OP_METADATA:
        on_metadata(broker, conn, frame, &w);
        break;
    case OP_PRODUCER_INIT:
        on_producer_init(broker, frame, &w);
        break;
    case OP_OFFSETS:
        on_offsets(broker, frame, &w);
        break;
    case OP_STATUS:
        write_status_reply_begin(&w, true, true, true, "", 1);
        write_status_value(&w, "connections", broker->accepted);
        break;
    case OP_UNSUBSCRIBE:
        ASSERT(read_credit(frame, &credit) == PE_NONE);
        subscription = find_subscription(conn, credit.subscription);
        if (subscription) {
            free(subscription->cursors);
            *subscription = (struct fake_subscription){0};
        }
        break;
    case OP_PING:
        break;
    default:
        send_error(broker, conn, frame, PE_UNKNOWN_OPERATION);
        return;
    }
    if (!silent)
        send_frame(broker, conn, frame->op, FRAME_REPLY, frame->correlation, &w, 0);
}

/* ---- requests ---- */

static void on_hello(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame)
{
    struct msg_hello hello;
    ASSERT(read_hello(frame, &hello) == PE_NONE);
    if (broker->options.hello_error != PE_NONE) {
        send_error(broker, conn, frame, broker->options.hello_error);
        return;
    }
    struct msg_hello_reply reply = {
        .version = 1,
        .software = slice_of_text("fake 1"),
        .request_bytes_max = (uint32_t)IN_BYTES - 4096,
        .record_bytes_max = broker->options.record_bytes_max,
        .batch_bytes_max = (uint32_t)(4 * MIB),
        .publishes_max = broker->options.publishes_max,
        .subscription_credit_min = broker->options.credit_min,
    };
    reply.store_id[0] = atomic_load(&broker->store_number);
    struct writer w = begin(broker);
    write_hello_reply(&w, &reply);
    conn->greeted = true;
    send_frame(broker, conn, OP_HELLO, FRAME_REPLY, frame->correlation, &w, 0);
}

static void write_topic(struct writer *w, struct fake_topic *topic, struct slice name)
{
    struct msg_metadata_topic m = {.error = topic ? PE_NONE : PE_UNKNOWN_TOPIC, .name = name};
    if (topic) {
        m.topic_id = topic->id;
        m.partition_count = topic->partition_count;
        m.created_ms = 1;
    }
    m.settings.count = topic ? 1 : 0;
    write_metadata_topic(w, &m);
    if (topic) {
        write_settings_begin(w, 1);
        write_setting(w, "retention_ms", "7d");
    } else {
        write_settings_begin(w, 0);
    }
}

static void on_metadata(struct fake_broker *broker, struct fake_conn *conn,
                        const struct frame *frame, struct writer *w)
{
    struct msg_metadata m;
    (void)conn;
    ASSERT(read_metadata(frame, &m) == PE_NONE);
    uint16_t count = m.name_count;
    if (count == METADATA_ALL) {
        count = 0;
        for (uint32_t i = 0; i < FAKE_TOPICS_MAX; i++)
            count += broker->store.topics[i].id != 0;
    }
    write_metadata_reply_begin(w, count, false);
    for (uint32_t i = 0; i < FAKE_TOPICS_MAX && m.name_count == METADATA_ALL; i++) {
        struct fake_topic *topic = &broker->store.topics[i];
        if (topic->id != 0)
            write_topic(w, topic, slice_of_text(topic->name));
    }
    for (uint32_t i = 0; i < m.name_count && m.name_count != METADATA_ALL; i++) {
        char name[256] = {0};
        struct slice text = read_string(&m.names);
        memcpy(name, text.bytes, min_u64(text.len, sizeof(name) - 1));
        write_topic(w, fake_store_topic(&broker->store, name), text);
    }
}

static void on_topic(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                     bool silent)
{
    struct msg_topic_change change = {0};
    struct slice text;
    char name[256] = {0};
    if (frame->op == OP_TOPIC_CREATE) {
        ASSERT(read_topic_change(frame, &change) == PE_NONE);
        text = change.name;
    } else {
        ASSERT(read_topic_delete(frame, &text) == PE_NONE);
    }
    memcpy(name, text.bytes, min_u64(text.len, sizeof(name) - 1));
    struct fake_topic *topic = fake_store_topic(&broker->store, name);
    uint16_t error = PE_NONE;
    struct msg_topic_reply reply = {.topic_id = topic ? topic->id : 0};
    if (frame->op == OP_TOPIC_CREATE && topic)
        error = PE_TOPIC_EXISTS;
    else if (frame->op == OP_TOPIC_CREATE)
        reply.topic_id = fake_store_add_topic(&broker->store, name, change.partition_count)->id;
    else if (!topic)
        error = PE_UNKNOWN_TOPIC;
    else
        fake_store_remove_topic(topic);
    if (silent)
        return;
    if (error != PE_NONE) {
        send_error(broker, conn, frame, error);
        return;
    }
    struct writer w = begin(broker);
    write_topic_reply(&w, &reply);
    send_frame(broker, conn, frame->op, FRAME_REPLY, frame->correlation, &w, 0);
}

static void on_producer_init(struct fake_broker *broker, const struct frame *frame,
                             struct writer *w)
{
    struct msg_producer_init init;
    ASSERT(read_producer_init(frame, &init) == PE_NONE);
    struct msg_producer_init_reply reply = {.producer_id = init.producer_id,
                                            .epoch = (uint16_t)(init.epoch + 1)};
    if (init.producer_id == PRODUCER_NONE)
        reply = (struct msg_producer_init_reply){.producer_id = ++broker->store.producer_ids};
    write_producer_init_reply(w, &reply);
}

static void count_in_flight(struct fake_broker *broker, const struct msg_produce *m)
{
    uint32_t same = 0;
    for (uint32_t i = 0; i < m->batch_count; i++)
        same += le32_get(m->items[i].partition) == le32_get(m->items[0].partition);
    if (same > broker->in_flight_max)
        broker->in_flight_max = same;
}

static void on_produce(struct fake_broker *broker, struct fake_conn *conn,
                       const struct frame *frame, bool silent)
{
    static struct msg_produce_result results[PRODUCE_BATCH_COUNT_MAX];
    struct msg_produce m;
    ASSERT(read_produce(frame, &m) == PE_NONE);
    if (frame->correlation != conn->publish + 1) {
        send_error(broker, conn, frame, PE_NOT_CONTIGUOUS);
        close_conn(conn);
        return;
    }
    conn->publish = frame->correlation;
    count_in_flight(broker, &m);
    uint16_t first_error = PE_NONE;
    const uint8_t *bytes = m.batches;
    for (uint32_t i = 0; i < m.batch_count; i++) {
        uint32_t size = le32_get(m.items[i].batch_bytes);
        struct msg_produce_result *result = &results[i];
        struct fake_partition *partition =
            fake_store_partition(&broker->store, le32_get(m.items[i].topic_id),
                                 le32_get(m.items[i].partition), &result->error);
        result->base_offset = UINT64_MAX;
        if (partition)
            result->error =
                fake_store_append(&broker->store, partition, bytes, size, &result->base_offset);
        if (first_error == PE_NONE)
            first_error = result->error;
        bytes += size;
    }
    if (silent)
        return;
    if (first_error == PE_NONE) {
        if (conn->ack_count + m.batch_count > ARRAY_COUNT(conn->ack_offsets))
            flush_ack(broker, conn);
        if (conn->ack_count == 0)
            conn->ack_first = frame->correlation;
        conn->ack_last = frame->correlation;
        for (uint32_t i = 0; i < m.batch_count; i++)
            conn->ack_offsets[conn->ack_count++] = results[i].base_offset;
        return;
    }
    flush_ack(broker, conn);
    struct writer w = begin(broker);
    write_produce_failure_begin(&w, first_error, NULL, m.batch_count);
    for (uint32_t i = 0; i < m.batch_count; i++)
        write_produce_result(&w, &results[i]);
    send_frame(broker, conn, OP_PRODUCE, FRAME_REPLY | FRAME_ERROR, frame->correlation, &w, 0);
}

static void flush_ack(struct fake_broker *broker, struct fake_conn *conn)
{
    if (conn->ack_count == 0 || conn->fd < 0)
        return;
    struct writer w = begin(broker);
    write_ack_begin(&w, conn->ack_first, conn->ack_last, 0, 1, conn->ack_count);
    uint64_t before = 0;
    for (uint32_t i = 0; i < conn->ack_count; i++) {
        write_zigzag(&w, (int64_t)(conn->ack_offsets[i] - before));
        before = conn->ack_offsets[i];
    }
    conn->ack_count = 0;
    send_frame(broker, conn, OP_ACK, FRAME_PUSH, 0, &w, 0);
}

/* ---- reading ---- */

static void on_subscribe(struct fake_broker *broker, struct fake_conn *conn,
                         const struct frame *frame)
{
    struct msg_fetch m;
    struct fake_subscription *subscription = find_subscription(conn, 0);
    ASSERT(read_fetch(frame, &m) == PE_NONE && subscription);
    *subscription = (struct fake_subscription){
        .id = frame->correlation, .credit = m.credit, .cursor_count = m.item_count};
    subscription->cursors = calloc(m.item_count, sizeof(struct fake_cursor));
    ASSERT(subscription->cursors);
    for (uint32_t i = 0; i < m.item_count; i++) {
        struct fake_cursor *cursor = &subscription->cursors[i];
        uint16_t error;
        cursor->topic_id = le32_get(m.items[i].topic_id);
        cursor->partition = le32_get(m.items[i].partition);
        struct fake_partition *partition =
            fake_store_partition(&broker->store, cursor->topic_id, cursor->partition, &error);
        if (partition)
            cursor->next = resolve(partition, m.items[i].start, le64_get(m.items[i].value));
    }
    struct writer w = begin(broker);
    send_frame(broker, conn, OP_SUBSCRIBE, FRAME_REPLY, frame->correlation, &w, 0);
}

static uint64_t resolve(struct fake_partition *partition, uint8_t start, uint64_t value)
{
    switch (start) {
    case START_BEGINNING:
        return partition->log_start;
    case START_TIMESTAMP:
        for (uint64_t i = 0; i < partition->batch_count; i++) {
            if (partition->batches[i].max_timestamp >= (int64_t)value)
                return partition->batches[i].base_offset;
        }
        return partition->end;
    case START_END:
        return partition->end;
    default:
        return value;
    }
}

static void on_offsets(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_offsets m;
    ASSERT(read_offsets(frame, &m) == PE_NONE);
    write_offsets_begin(w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        uint16_t error;
        struct fake_partition *partition = fake_store_partition(
            &broker->store, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition), &error);
        uint64_t offset =
            partition ? resolve(partition, m.items[i].start, le64_get(m.items[i].value)) : 0;
        struct offsets_item item = {.topic_id = m.items[i].topic_id,
                                    .partition = m.items[i].partition,
                                    .error = le16_make(error),
                                    .offset = le64_make(offset),
                                    .timestamp_ms = le64_make(UINT64_MAX)};
        write_bytes(w, &item, sizeof(item));
    }
}

static void deliver_all(struct fake_broker *broker, struct fake_conn *conn)
{
    bool more = true;
    for (int round = 0; round < 16 && more && conn->fd >= 0; round++) {
        more = false;
        for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
            struct fake_subscription *subscription = &conn->subscriptions[i];
            for (uint32_t c = 0; c < subscription->cursor_count && subscription->id != 0; c++)
                more |= deliver(broker, conn, subscription, &subscription->cursors[c]);
        }
    }
    if (more)
        wake(broker);
}

/* One frame with one item. The first batch may begin below the cursor, as with a real broker. */
static bool deliver(struct fake_broker *broker, struct fake_conn *conn,
                    struct fake_subscription *subscription, struct fake_cursor *cursor)
{
    uint16_t error;
    struct fake_partition *partition =
        fake_store_partition(&broker->store, cursor->topic_id, cursor->partition, &error);
    if (cursor->ended || conn->fd < 0)
        return false;
    if (partition && (cursor->next < partition->log_start || cursor->next > partition->end))
        error = PE_OFFSET_OUT_OF_RANGE;
    if (error == PE_NONE && cursor->next == partition->end)
        return false;
    uint32_t overhead = FRAME_HEADER_SIZE + DELIVER_META_FIXED + sizeof(struct deliver_item);
    uint8_t *data = broker->out + overhead;
    uint32_t bytes = 0;
    uint64_t next = cursor->next;
    struct fake_batch *batch;
    while (error == PE_NONE && (batch = fake_store_batch(partition, next))) {
        bool fits = bytes + batch->size <= broker->options.deliver_bytes_max || bytes == 0;
        if (!fits || overhead + bytes + batch->size > subscription->credit)
            break;
        memcpy(data + bytes, batch->bytes, batch->size);
        bytes += batch->size;
        next = batch->base_offset + batch->record_count;
    }
    if (bytes == 0 && error == PE_NONE)
        return false;
    cursor->ended = error != PE_NONE;
    cursor->next = next;
    subscription->credit -= min_u64(subscription->credit, overhead + bytes);
    struct deliver_item item = {.topic_id = le32_make(cursor->topic_id),
                                .partition = le32_make(cursor->partition),
                                .error = le16_make(error),
                                .bytes = le32_make(bytes),
                                .next_offset = le64_make(next),
                                .log_start = le64_make(partition ? partition->log_start : 0),
                                .visible_end = le64_make(partition ? partition->end : 0)};
    struct writer w = begin(broker);
    write_deliver_begin(&w, 1);
    write_bytes(&w, &item, sizeof(item));
    send_frame(broker, conn, OP_DELIVER, FRAME_PUSH, subscription->id, &w, bytes);
    return true;
}

static struct fake_subscription *find_subscription(struct fake_conn *conn, uint64_t id)
{
    for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        if (conn->subscriptions[i].id == id)
            return &conn->subscriptions[i];
    }
    return NULL;
}

/* ---- sending ---- */

static struct writer begin(struct fake_broker *broker)
{
    return writer_make(broker->out + FRAME_HEADER_SIZE, OUT_BYTES - FRAME_HEADER_SIZE);
}

static void send_frame(struct fake_broker *broker, struct fake_conn *conn, uint16_t op,
                       uint8_t flags, uint64_t correlation, struct writer *w, uint32_t data_bytes)
{
    ASSERT(!w->failed);
    uint32_t length = frame_seal(broker->out, op, flags, correlation, writer_length(w), data_bytes);
    send_bytes(conn, broker->out, length);
}

static void send_error(struct fake_broker *broker, struct fake_conn *conn,
                       const struct frame *frame, uint16_t error)
{
    struct writer w = begin(broker);
    if (frame->op == OP_PRODUCE) {
        struct msg_produce m;
        bool readable = read_produce(frame, &m) == PE_NONE;
        struct msg_produce_result result = {.error = error, .base_offset = UINT64_MAX};
        write_produce_failure_begin(&w, error, NULL, readable ? m.batch_count : 0);
        for (uint32_t i = 0; readable && i < m.batch_count; i++)
            write_produce_result(&w, &result);
    } else {
        write_error(&w, error, "refused by the test");
    }
    send_frame(broker, conn, frame->op, FRAME_REPLY | FRAME_ERROR, frame->correlation, &w, 0);
}

static void send_bytes(struct fake_conn *conn, const uint8_t *bytes, size_t len)
{
    while (len > 0 && conn->fd >= 0) {
        ssize_t n = send(conn->fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            close_conn(conn);
            return;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static void sleep_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static void wake(struct fake_broker *broker)
{
    uint64_t one = 1;
    if (write(broker->wake_fd, &one, sizeof(one)) < 0)
        ASSERT(errno == EAGAIN);
}

/* ---- what tests do ---- */

const char *fake_address(struct fake_broker *broker)
{
    return broker->address;
}

void fake_drop_connections(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    for (int i = 0; i < CONNS_MAX; i++)
        close_conn(&broker->conns[i]);
    pthread_mutex_unlock(&broker->mutex);
}

void fake_go_down(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    if (broker->listen_fd >= 0)
        close(broker->listen_fd);
    broker->listen_fd = -1;
    for (int i = 0; i < CONNS_MAX; i++)
        close_conn(&broker->conns[i]);
    pthread_mutex_unlock(&broker->mutex);
}

void fake_set_store(struct fake_broker *broker, uint8_t number)
{
    atomic_store(&broker->store_number, number);
}

void fake_come_back(struct fake_broker *broker)
{
    wake(broker);
    pthread_mutex_lock(&broker->mutex);
    open_listener(broker);
    pthread_mutex_unlock(&broker->mutex);
    wake(broker);
}

void fake_goaway(struct fake_broker *broker, uint32_t deadline_ms)
{
    pthread_mutex_lock(&broker->mutex);
    for (int i = 0; i < CONNS_MAX; i++) {
        struct msg_goaway goaway = {.deadline_ms = deadline_ms, .reason = slice_of_text("test")};
        struct writer w = begin(broker);
        write_goaway(&w, &goaway);
        if (broker->conns[i].fd >= 0 && broker->conns[i].greeted)
            send_frame(broker, &broker->conns[i], OP_GOAWAY, FRAME_PUSH, 0, &w, 0);
    }
    pthread_mutex_unlock(&broker->mutex);
}

void fake_topic(struct fake_broker *broker, const char *name, uint32_t partition_count)
{
    pthread_mutex_lock(&broker->mutex);
    ASSERT(fake_store_add_topic(&broker->store, name, partition_count));
    pthread_mutex_unlock(&broker->mutex);
}

void fake_add_partition(struct fake_broker *broker, const char *name)
{
    pthread_mutex_lock(&broker->mutex);
    fake_store_add_partition(fake_store_topic(&broker->store, name));
    pthread_mutex_unlock(&broker->mutex);
}

void fake_delete_topic(struct fake_broker *broker, const char *name)
{
    pthread_mutex_lock(&broker->mutex);
    fake_store_remove_topic(fake_store_topic(&broker->store, name));
    broker->reading.bytes = NULL;
    pthread_mutex_unlock(&broker->mutex);
}

void fake_rule(struct fake_broker *broker, uint16_t op, uint32_t skip, uint32_t count,
               enum fake_action action, uint32_t argument)
{
    pthread_mutex_lock(&broker->mutex);
    ASSERT(broker->rule_count < RULES_MAX);
    broker->rules[broker->rule_count++] = (struct fake_rule){
        .op = op, .skip = skip, .count = count, .action = action, .argument = argument};
    pthread_mutex_unlock(&broker->mutex);
}

void fake_clear_rules(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    broker->rule_count = 0;
    pthread_mutex_unlock(&broker->mutex);
}

void fake_forget_producers(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    fake_store_forget_producers(&broker->store);
    pthread_mutex_unlock(&broker->mutex);
}

void fake_set_log_start(struct fake_broker *broker, const char *topic, uint32_t partition,
                        uint64_t offset)
{
    pthread_mutex_lock(&broker->mutex);
    partition_of(broker, topic, partition)->log_start = offset;
    pthread_mutex_unlock(&broker->mutex);
    wake(broker);
}

void fake_damage(struct fake_broker *broker, const char *topic, uint32_t partition, uint64_t offset)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_batch *batch = fake_store_batch(partition_of(broker, topic, partition), offset);
    ASSERT(batch);
    batch->bytes[batch->size - 1] ^= 1;
    pthread_mutex_unlock(&broker->mutex);
}

void fake_store(struct fake_broker *broker, const char *topic, uint32_t partition,
                const uint8_t *batch, uint32_t bytes)
{
    struct batch_info info;
    ASSERT(batch_peek(batch, bytes, &info));
    pthread_mutex_lock(&broker->mutex);
    fake_store_put(&broker->store, partition_of(broker, topic, partition), batch, &info);
    pthread_mutex_unlock(&broker->mutex);
    wake(broker);
}

static struct fake_partition *partition_of(struct fake_broker *broker, const char *topic,
                                           uint32_t partition)
{
    struct fake_topic *found = fake_store_topic(&broker->store, topic);
    ASSERT(found && partition < found->partition_count);
    return &found->partitions[partition];
}

uint64_t fake_record_count(struct fake_broker *broker, const char *topic, uint32_t partition)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = partition_of(broker, topic, partition)->end;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint64_t fake_batch_count(struct fake_broker *broker, const char *topic, uint32_t partition)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = partition_of(broker, topic, partition)->batch_count;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint64_t fake_seen(struct fake_broker *broker, uint16_t op)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = broker->seen[op & 255];
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint64_t fake_connections(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = broker->accepted;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint16_t fake_last_epoch(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint16_t epoch = broker->store.last_epoch;
    pthread_mutex_unlock(&broker->mutex);
    return epoch;
}

uint64_t fake_last_producer(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t id = broker->store.last_producer;
    pthread_mutex_unlock(&broker->mutex);
    return id;
}

uint32_t fake_in_flight_max(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint32_t count = broker->in_flight_max;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

int64_t fake_value(struct fake_broker *broker, const char *topic, uint32_t partition,
                   uint64_t offset, void *value, uint32_t room)
{
    int64_t len = -1;
    struct fake_reading *reading = &broker->reading;
    pthread_mutex_lock(&broker->mutex);
    struct fake_batch *batch = fake_store_batch(partition_of(broker, topic, partition), offset);
    if (batch && (reading->bytes != batch->bytes || reading->next > offset)) {
        *reading = (struct fake_reading){.bytes = batch->bytes};
        if (batch_iterator_init(&reading->iterator, batch->bytes, batch->size, NULL, 0) != 0)
            reading->bytes = NULL; // compressed
    }
    struct record_view view;
    while (batch && reading->bytes && len < 0 &&
           batch_iterator_next(&reading->iterator, &view) == 1) {
        reading->next = view.offset + 1;
        if (view.offset != offset)
            continue;
        len = view.value.len;
        memcpy(value, view.value.bytes, min_u64(room, view.value.len));
    }
    pthread_mutex_unlock(&broker->mutex);
    return len;
}

bool fake_wait_records(struct fake_broker *broker, const char *topic, uint32_t partition,
                       uint64_t count)
{
    for (int i = 0; i < 5000 && fake_record_count(broker, topic, partition) < count; i++)
        sleep_ms(1);
    return fake_record_count(broker, topic, partition) >= count;
}

bool fake_wait_seen(struct fake_broker *broker, uint16_t op, uint64_t count)
{
    for (int i = 0; i < 5000 && fake_seen(broker, op) < count; i++)
        sleep_ms(1);
    return fake_seen(broker, op) >= count;
}
