/* What a broker may send to the client, whatever it is: no crash, no assertion, no byte read too
 * far.
 *
 * The client runs whole, with its thread, on an I/O that has no sockets: it lets the client
 * connect, plays a decent broker until records are in flight and a subscription is open, and then
 * hands it the input as what came from the broker, in pieces of any size. When the client gives up
 * the connection the next one gets the rest.
 *
 * When the input begins with an operation of transactions or groups there are also a member of a
 * group, whose heartbeats are the input's to answer, and a transactional producer, whose commits are.
 *
 * The input is a list of frames, each: operation, flags, correlation (255: the subscription's, 254:
 * the last heartbeat's, 253: the last TXN_COMMIT's), length of the meta, length of the data (2 bytes
 * each, 8 bits of them kept), then both. Frames get a right checksum, or nothing would come through
 * to be tested. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "client/client_private.h"
#include "client/consumer_private.h"
#include "proto/messages_group.h"
#include "tests/fuzz/fuzz.h"

#define OPS_MAX 16
#define FAKE_FD 1000000
#define STREAM_BYTES 65536

struct fake_io {
    struct io io;
    pthread_mutex_t mutex;
    pthread_cond_t woken;
    bool wake;
    struct io_op *started[OPS_MAX]; // to be completed by the next poll
    struct io_op *recv;             // waits for bytes
    uint8_t stream[STREAM_BYTES];   // to the client
    uint32_t stream_at, stream_end;
    uint32_t published;
    uint64_t subscription, heartbeat, commit; // correlations
    const uint8_t *input;                     // NULL: not yet
    size_t input_left;
    uint32_t piece;
};

static struct fake_io *current; // of the input that runs

static void fake_free(struct io *io);
static void fake_start(struct io *io, struct io_op *op);
static void fake_cancel(struct io *io, struct io_op *op);
static int fake_poll(struct io *io, uint64_t timeout_ns);
static void fake_wake(struct io *io, struct io *from);
static int finish(struct io_op *op, int32_t result);
static int complete_started(struct fake_io *fake);
static int give_bytes(struct fake_io *fake);
static void answer_all(struct fake_io *fake, const uint8_t *bytes, uint32_t len);
static void answer(struct fake_io *fake, const struct frame *frame);
static void send_to_client(struct fake_io *fake, uint16_t op, uint8_t flags, uint64_t correlation,
                           const struct writer *meta, uint32_t data_bytes);
static void add_input_frame(struct fake_io *fake);
static void use(struct sluice_client *client, const uint8_t *data, size_t size);

static const struct io_ops fake_ops = {.name = "fuzz",
                                       .free = fake_free,
                                       .start = fake_start,
                                       .cancel = fake_cancel,
                                       .poll = fake_poll,
                                       .wake = fake_wake};

static int open_fake(struct io **io)
{
    *io = &current->io;
    return SLUICE_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    current = calloc(1, sizeof(*current));
    ASSERT(current);
    current->io.ops = &fake_ops;
    pthread_mutex_init(&current->mutex, NULL);
    pthread_cond_init(&current->woken, NULL);
    struct sluice_client *client;
    struct sluice_client_options options = {.size = sizeof(options),
                                            .server = "127.0.0.1:1",
                                            .request_timeout_ms = 60000,
                                            .reconnect_backoff_ms = 1,
                                            .reconnect_backoff_max_ms = 1};
    ASSERT(client_new_on(&options, open_fake, &client) == SLUICE_OK);
    use(client, data, size);
    return 0;
}

/* ---- the application ---- */

static void wait_until_fed(struct fake_io *fake)
{
    pthread_mutex_lock(&fake->mutex);
    while (fake->input_left > 0 || fake->stream_at < fake->stream_end)
        pthread_cond_wait(&fake->woken, &fake->mutex);
    pthread_mutex_unlock(&fake->mutex);
}

static struct sluice_consumer *join_group(struct sluice_client *client)
{
    static const char *const topics[] = {"t"};
    struct sluice_consumer *member;
    struct sluice_consumer_options options = {.size = sizeof(options), .group = "g"};
    ASSERT(sluice_consumer_new(client, &options, &member) == SLUICE_OK);
    ASSERT(sluice_consumer_join(member, topics, 1) == SLUICE_OK);
    struct sluice_message message; // applies the assignment, and says so by a heartbeat
    sluice_consumer_poll(member, &message, 1, 0);
    return member;
}

static struct sluice_producer *begin_transaction(struct sluice_client *client)
{
    struct sluice_producer *producer;
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = 1024,
                                              .buffer_bytes = 65536,
                                              .transactional_id = "x"};
    struct sluice_record record = {.topic = "t", .value = "v", .value_len = 1};
    ASSERT(sluice_producer_new(client, &options, &producer) == SLUICE_OK);
    ASSERT(sluice_txn_begin(producer) == SLUICE_OK);
    ASSERT(sluice_producer_send(producer, &record) == SLUICE_OK);
    return producer;
}

static void use(struct sluice_client *client, const uint8_t *data, size_t size)
{
    struct fake_io *fake = current;
    struct sluice_producer *producer;
    struct sluice_consumer *consumer;
    bool in_group = size > 0 && data[0] >= OP_TXN_INIT; // its waiting would slow down the others
    struct sluice_producer *transactional = in_group ? begin_transaction(client) : NULL;
    struct sluice_consumer *member = in_group ? join_group(client) : NULL;
    struct sluice_producer_options producer_options = {.size = sizeof(producer_options),
                                                       .batch_bytes = 1024,
                                                       .buffer_bytes = 65536,
                                                       .retry_backoff_ms = 1,
                                                       .batch_records = 1};
    struct sluice_consumer_options consumer_options = {.size = sizeof(consumer_options)};
    ASSERT(sluice_producer_new(client, &producer_options, &producer) == SLUICE_OK);
    ASSERT(sluice_consumer_new(client, &consumer_options, &consumer) == SLUICE_OK);
    for (uint32_t i = 0; i < 8; i++) {
        struct sluice_record record = {
            .topic = "t", .partition = i % 2, .value = "v", .value_len = 1};
        ASSERT(sluice_producer_send(producer, &record) == SLUICE_OK);
    }
    ASSERT(sluice_consumer_subscribe(consumer, "t", SLUICE_PARTITION_ANY, SLUICE_START_BEGINNING,
                                     0) == SLUICE_OK);
    pthread_mutex_lock(&fake->mutex);
    while (fake->published < 8u + in_group || fake->subscription == 0 ||
           (in_group && fake->heartbeat == 0))
        pthread_cond_wait(&fake->woken, &fake->mutex);
    fake->piece = 1 + (size > 0 ? data[0] % 61 : 0);
    fake->input = data;
    fake->input_left = size;
    pthread_mutex_unlock(&fake->mutex);
    fake_wake(&fake->io, NULL);
    struct sluice_message messages[8];
    for (int i = 0; i < 2 && in_group; i++) {
        sluice_txn_commit(transactional, 1);
        sluice_consumer_poll(member, messages, 8, 0);
    }
    wait_until_fed(fake);

    for (int i = 0; i < 20; i++)
        sluice_consumer_poll(consumer, messages, 8, 0);
    for (int i = 0; i < 2 && in_group; i++) {
        sluice_txn_commit(transactional, 1);
        sluice_consumer_poll(member, messages, 8, 0);
    }
    sluice_consumer_free(member);
    sluice_producer_free(transactional);
    sluice_consumer_free(consumer);
    sluice_producer_free(producer);
    sluice_client_free(client);
}

/* ---- the I/O: what was started completes in the next poll ---- */

static void fake_free(struct io *io)
{
    struct fake_io *fake = (struct fake_io *)io;
    pthread_cond_destroy(&fake->woken);
    pthread_mutex_destroy(&fake->mutex);
    free(fake);
}

static void fake_start(struct io *io, struct io_op *op)
{
    struct fake_io *fake = (struct fake_io *)io;
    if (op->kind == IO_RECV) {
        fake->recv = op;
        return;
    }
    for (int i = 0; i < OPS_MAX; i++) {
        if (fake->started[i])
            continue;
        fake->started[i] = op;
        return;
    }
    ASSERT(false);
}

static void fake_cancel(struct io *io, struct io_op *op)
{
    struct fake_io *fake = (struct fake_io *)io;
    if (fake->recv != op)
        return;
    op->kind = IO_CLOSE; // completes in the next poll with an error
    fake->recv = NULL;
    fake_start(io, op);
    op->kind = IO_RECV;
    fake->stream_at = fake->stream_end = 0;
}

static void fake_wake(struct io *io, struct io *from)
{
    struct fake_io *fake = (struct fake_io *)io;
    pthread_mutex_lock(&fake->mutex);
    fake->wake = true;
    pthread_cond_broadcast(&fake->woken);
    pthread_mutex_unlock(&fake->mutex);
}

static int fake_poll(struct io *io, uint64_t timeout_ns)
{
    struct fake_io *fake = (struct fake_io *)io;
    int done = complete_started(fake);
    done += give_bytes(fake);
    pthread_mutex_lock(&fake->mutex);
    pthread_cond_broadcast(&fake->woken);
    while (done == 0 && !fake->wake && timeout_ns == UINT64_MAX)
        pthread_cond_wait(&fake->woken, &fake->mutex);
    if (done == 0 && !fake->wake && timeout_ns > 0) { // time passes by itself, a little at once
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += until.tv_nsec < 999000000 ? 100000 : 0;
        pthread_cond_timedwait(&fake->woken, &fake->mutex, &until);
    }
    fake->wake = false;
    pthread_mutex_unlock(&fake->mutex);
    return done;
}

static int finish(struct io_op *op, int32_t result)
{
    op->result = result;
    op->os_error = 0;
    op->kind = IO_NONE;
    op->magic = 0;
    op->done(op);
    return 1;
}

static int complete_started(struct fake_io *fake)
{
    int done = 0;
    for (int i = 0; i < OPS_MAX; i++) {
        struct io_op *op = TAKE(fake->started[i]);
        if (!op)
            continue;
        done++;
        switch (op->kind) {
        case IO_CONNECT:
            finish(op, FAKE_FD);
            break;
        case IO_SEND:
            answer_all(fake, op->buf, op->len);
            finish(op, (int32_t)op->len);
            break;
        case IO_RECV:
            finish(op, E_CANCELED);
            break;
        default:
            finish(op, 0);
        }
    }
    return done;
}

static int give_bytes(struct fake_io *fake)
{
    pthread_mutex_lock(&fake->mutex);
    if (fake->recv && fake->stream_at == fake->stream_end && fake->input_left > 0)
        add_input_frame(fake);
    pthread_mutex_unlock(&fake->mutex);
    uint32_t left = fake->stream_end - fake->stream_at;
    struct io_op *op = fake->recv;
    if (!op || left == 0)
        return 0;
    uint32_t len = (uint32_t)min_u64(left, op->len);
    if (fake->input)
        len = (uint32_t)min_u64(len, fake->piece);
    memcpy(op->buf, fake->stream + fake->stream_at, len);
    fake->stream_at += len;
    fake->recv = NULL;
    return finish(op, (int32_t)len);
}

/* ---- the broker ---- */

static void answer_all(struct fake_io *fake, const uint8_t *bytes, uint32_t len)
{
    for (uint32_t at = 0; at < len;) {
        struct frame frame;
        int64_t length = frame_peek(bytes + at, len - at, UINT32_MAX);
        ASSERT(length > 0 && length <= len - at); // these sends are never cut
        ASSERT(frame_decode(bytes + at, &frame) == PE_NONE);
        answer(fake, &frame);
        at += (uint32_t)length;
    }
}

static void write_two_partitions(struct writer *w)
{
    struct msg_metadata_topic topic = {
        .name = slice_of_text("t"), .topic_id = 5, .partition_count = 2, .created_ms = 1};
    write_metadata_reply_begin(w, 1, false);
    write_metadata_topic(w, &topic);
    write_settings_begin(w, 0);
}

static void write_offsets(struct writer *w, const struct frame *frame)
{
    struct msg_offsets m;
    ASSERT(read_offsets(frame, &m) == PE_NONE);
    write_offsets_begin(w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        struct offsets_item item = {.topic_id = m.items[i].topic_id,
                                    .partition = m.items[i].partition};
        write_bytes(w, &item, sizeof(item));
    }
}

/* Nothing is committed, and everything may be. */
static void write_committed(struct writer *w, const struct frame *frame)
{
    struct msg_offset_fetch fetch;
    struct msg_offset_commit commit;
    bool is_fetch = frame->op == OP_OFFSET_FETCH;
    ASSERT((is_fetch ? read_offset_fetch(frame, &fetch) : read_offset_commit(frame, &commit)) ==
           PE_NONE);
    uint32_t count = is_fetch ? fetch.item_count : commit.item_count;
    write_offset_results_begin(w, count);
    for (uint32_t i = 0; i < count && is_fetch; i++)
        write_offset_result(w, le32_get(fetch.items[i].topic_id),
                            le32_get(fetch.items[i].partition), PE_NONE, UINT64_MAX);
    for (uint32_t i = 0; i < count && !is_fetch; i++)
        write_offset_result(w, le32_get(commit.items[i].topic_id),
                            le32_get(commit.items[i].partition), PE_NONE,
                            le64_get(commit.items[i].offset));
}

static void answer(struct fake_io *fake, const struct frame *frame)
{
    uint8_t meta[4096];
    struct writer w = writer_make(meta, sizeof(meta));
    struct msg_hello_reply hello = {.version = 1,
                                    .request_bytes_max = 1 << 24,
                                    .record_bytes_max = 1 << 20,
                                    .batch_bytes_max = 1 << 22,
                                    .publishes_max = 1000,
                                    .subscription_credit_min = 1 << 22};
    struct msg_producer_init_reply identity = {.producer_id = 9};
    switch (frame->op) {
    case OP_HELLO:
        write_hello_reply(&w, &hello);
        break;
    case OP_METADATA:
        write_two_partitions(&w);
        break;
    case OP_OFFSETS:
        write_offsets(&w, frame);
        break;
    case OP_PRODUCER_INIT:
        write_producer_init_reply(&w, &identity);
        break;
    case OP_TXN_INIT:
        write_txn_init_reply(&w, &(struct msg_txn_init_reply){.producer_id = 10});
        break;
    case OP_TXN_BEGIN:
        write_txn_begin_reply(&w, &(struct msg_txn_begin_reply){.open_lsn = 4096});
        break;
    case OP_GROUP_JOIN:
        write_group_assignment_begin(&w,
                                     &(struct msg_group_assignment){.member = slice_of_text("m"),
                                                                    .session_timeout_ms = 60000});
        break;
    case OP_OFFSET_FETCH:
    case OP_OFFSET_COMMIT:
        write_committed(&w, frame);
        break;
    case OP_GROUP_HEARTBEAT:
        fake->heartbeat = frame->correlation;
        return;
    case OP_TXN_COMMIT:
        fake->commit = frame->correlation;
        return;
    case OP_SUBSCRIBE:
        fake->subscription = frame->correlation;
        break;
    case OP_UNSUBSCRIBE:
    case OP_TXN_ABORT:
    case OP_GROUP_LEAVE:
        break;
    case OP_PRODUCE:
        fake->published++;
        return;
    default:
        return;
    }
    send_to_client(fake, frame->op, FRAME_REPLY, frame->correlation, &w, 0);
}

static void send_to_client(struct fake_io *fake, uint16_t op, uint8_t flags, uint64_t correlation,
                           const struct writer *meta, uint32_t data_bytes)
{
    uint32_t len = writer_length(meta);
    uint32_t length = FRAME_HEADER_SIZE + len + data_bytes;
    ASSERT(!meta->failed);
    if (fake->stream_at == fake->stream_end)
        fake->stream_at = fake->stream_end = 0;
    if (length > STREAM_BYTES - fake->stream_end)
        return; // lost, like an answer in a broken connection
    uint8_t *to = fake->stream + fake->stream_end;
    memcpy(to + FRAME_HEADER_SIZE, meta->start, len + data_bytes);
    fake->stream_end += frame_seal(to, op, flags, correlation, len, data_bytes);
}

/* The next frame of the input, with what is there of its bytes. */
static void add_input_frame(struct fake_io *fake)
{
    uint8_t head[5] = {0}, body[512] = {0};
    size_t n = min_u64(fake->input_left, sizeof(head));
    memcpy(head, fake->input, n);
    fake->input += n;
    fake->input_left -= n;
    uint32_t meta_bytes = head[3], data_bytes = head[4];
    n = min_u64(fake->input_left, meta_bytes + data_bytes);
    memcpy(body, fake->input, n);
    fake->input += n;
    fake->input_left -= n;
    struct writer w = writer_make(body, sizeof(body));
    w.at += meta_bytes;
    static const uint8_t allowed[] = {0, FRAME_REPLY, FRAME_REPLY | FRAME_ERROR, FRAME_PUSH};
    uint8_t flags = allowed[head[1] % 4];
    if (head[1] == FRAME_REPLY + FRAME_ERROR || head[1] == FRAME_PUSH)
        flags = head[1];
    uint64_t correlation = head[2] == 255   ? fake->subscription
                           : head[2] == 254 ? fake->heartbeat
                           : head[2] == 253 ? fake->commit
                                            : head[2];
    send_to_client(fake, head[0], flags, correlation, &w, data_bytes);
}
