#include "tests/fuzz/session_world.h"

#include <stdio.h>
#include <string.h>

#include "base/address.h"
#include "base/clock.h"
#include "tests/sim/world/own_memory.h"
#include "tests/sim/world/short_reader.h"
#include "tests/sim/world/system.h"

#define WORLD_END_NS (7200 * NS_PER_S)
#define START_NS_MAX (60 * NS_PER_S)
#define ANSWER_NS_MAX (150 * NS_PER_S) // keepalive, the longest FETCH, a frame that never ends
#define FETCH_BYTES (256u << 10)

struct session session;
static struct sim_disk *first_disk; // settled: what each session begins with
static void (*program_now)(void);

static void make_first_disk(void);
static void *run_program(void *argument);
static void on_frame(struct link *link, const struct frame *frame);
static void recv_done(struct io_op *op);

/* ---- the world ---- */

static void begin(struct sim_disk *disk)
{
    memset(&session.broker, 0, sizeof(session.broker));
    session.broker = (struct sim_broker){.disk = disk,
                                         .settings = {{"data_dir", "/data"},
                                                      {"shards", "2"},
                                                      {"cores", "1"},
                                                      {"segment_bytes", "4MiB"},
                                                      {"batch_bytes_max", "1MiB"},
                                                      {"request_bytes_max", "1MiB"},
                                                      {"wal_bytes_budget", "32MiB"},
                                                      {"wal_buffer_bytes", "20MiB"},
                                                      {"connections_max", "8"}}};
    world_begin(&(struct world_options){.seed = 1, .disk_latency_ns = 20000});
    net_set(world_net(), &(struct net_options){.latency_ns = 5000, .latency_ns_max = 20000});
}

static void end(void)
{
    world_end();
}

/* The process's standard error is the world's; what ends it must be seen. */
static void on_log(const char *line)
{
    if (strstr(line, "assertion failed") || strstr(line, "out of memory"))
        fprintf(stderr, "%s", line);
}

/* What was in flight went with the world before. */
static void reset_links(void)
{
    for (uint32_t i = 0; i < LINKS; i++) {
        struct link *link = &session.links[i];
        link->fd = -1;
        link->is_deaf = false;
        link->connect = link->recv = link->send = link->close = (struct io_op){0};
    }
}

void session_run(void (*program)(void), bool is_short)
{
    system_on_log(on_log);
    reader_be_short(is_short);
    if (first_disk == NULL)
        make_first_disk();
    reset_links();
    struct sim_disk *disk = sim_disk_copy(first_disk, 1);
    size_t kept = offsetof(struct session, topics);
    memset((uint8_t *)&session + kept, 0, sizeof(session) - kept);
    begin(disk);
    program_now = program;
    (void)thread_new(process_new("session", NULL), run_program, NULL);
    ASSERT(world_run(WORLD_END_NS)); // else it stood still
    end();
    sim_disk_free(disk);
    ASSERT(reader_is_intact());
}

static void *run_program(void *argument)
{
    session.io = world_io_new(process_current());
    program_now();
    world_stop();
    return argument;
}

static void make_topics(void)
{
    session_start();
    link_open(&session.links[0]);
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t bytes[128];
        struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, sizeof(bytes) - FRAME_HEADER_SIZE);
        struct asked *asked = asked_new(&session.links[0], OP_TOPIC_CREATE, 3);
        write_topic_change(&w, slice_of_text(i ? "b" : "a"), 3);
        write_settings_begin(&w, 0);
        uint32_t length =
            frame_seal(bytes, OP_TOPIC_CREATE, 0, asked->correlation, writer_length(&w), 0);
        link_send(&session.links[0], bytes, length);
        session_wait(10 * NS_PER_MS);
    }
    session_wait(100 * NS_PER_MS);
    ASSERT(session.topic_count == 2);
    link_close(&session.links[0]);
    session_drain();
}

static void make_first_disk(void)
{
    struct sim_disk *disk = sim_disk_new(1, 256 * MIB);
    reset_links();
    begin(disk);
    program_now = make_topics;
    (void)thread_new(process_new("session", NULL), run_program, NULL);
    ASSERT(world_run(WORLD_END_NS));
    end();
    sim_disk_settle(disk);
    first_disk = disk;
    for (uint32_t i = 0; i < 2; i++)
        session.topics[i].may_lose = false;
}

/* ---- the broker's lives ---- */

static uint64_t ends_of_logs(void);

static void measure(void)
{
    struct memory_use use = memory_use(session.broker.process->id);
    uint64_t above =
        use.bytes_peak > session.start_bytes ? use.bytes_peak - session.start_bytes : 0;
    session.peak_bytes = max_u64(session.peak_bytes, above);
}

void session_start(void)
{
    sim_broker_start(&session.broker);
    if (!sim_broker_wait_ready(&session.broker)) {
        fprintf(stderr, "the broker does not start: %s: %s\n",
                status_name(session.broker.start_status), session.broker.text);
        system_print_log(stderr);
        ASSERT(session.broker.state == SIM_BROKER_READY);
    }
    memory_fail(session.broker.process->id, 0, 0); // the peak counts from here on
    session.start_bytes = memory_use(session.broker.process->id).bytes;
    if (session.first_lsns == 0)
        session.first_lsns = ends_of_logs();
}

static uint64_t ends_of_logs(void)
{
    uint64_t sum = 0;
    const struct broker *broker = session.broker.broker;
    for (uint16_t i = 0; i < broker->shard_count; i++)
        sum += store_reserved_lsn(broker->shards[i].store);
    return sum;
}

bool session_has_written(void)
{
    return ends_of_logs() != session.first_lsns;
}

void session_end(enum process_end how)
{
    measure();
    ASSERT(session.broker.state == SIM_BROKER_READY);
    sim_broker_end(&session.broker, how);
}

void session_drain(void)
{
    measure();
    sim_broker_drain(&session.broker);
    while (session.broker.state == SIM_BROKER_DRAINING)
        session_wait(NS_PER_MS);
    ASSERT(session.broker.exit_status == EXIT_DRAINED);
}

/* ---- links ---- */

void session_wait(uint64_t ns)
{
    uint64_t until = world_now_ns() + ns;
    while (world_now_ns() < until)
        (void)io_poll(session.io, until - world_now_ns());
}

static void wait_for(const struct io_op *op, uint64_t ns)
{
    uint64_t until = world_now_ns() + ns;
    while (io_op_is_active(op) && world_now_ns() < until)
        (void)io_poll(session.io, until - world_now_ns());
}

static void nothing_done(struct io_op *op)
{
    (void)op;
}

static void gone(struct link *link)
{
    int fd = link->fd;
    link->fd = -1;
    if (fd >= 0)
        (void)io_close_wait(session.io, fd);
}

static struct link *link_of_recv(struct io_op *op)
{
    return CONTAINER_OF(op, struct link, recv);
}

static void start_recv(struct link *link)
{
    io_recv(session.io, &link->recv, link->fd, link->in + link->in_bytes,
            LINK_IN_BYTES - link->in_bytes, recv_done);
}

static void take_frames(struct link *link)
{
    uint32_t at = 0;
    for (;;) {
        struct frame frame;
        uint32_t left = link->in_bytes - at;
        int64_t length = frame_peek(link->in + at, left, LINK_IN_BYTES);
        ASSERT(length >= 0);
        if (length == 0 || length > left)
            break;
        ASSERT(frame_decode(link->in + at, &frame) == PE_NONE);
        on_frame(link, &frame);
        at += (uint32_t)length;
    }
    memmove(link->in, link->in + at, link->in_bytes - at);
    link->in_bytes -= at;
}

static void recv_done(struct io_op *op)
{
    struct link *link = link_of_recv(op);
    if (op->result <= 0) { // closed by the broker, or by ourselves
        if (link->fd >= 0) {
            int fd = link->fd;
            link->fd = -1;
            io_close(session.io, &link->close, fd, nothing_done);
        }
        return;
    }
    link->in_bytes += (uint32_t)op->result;
    take_frames(link);
    start_recv(link);
}

static void forget(struct link *link)
{
    link->in_bytes = 0;
    link->correlation = link->publish = link->pinged = link->ponged = 0;
    link->is_deaf = false;
    for (uint32_t i = 0; i < ASKED_KNOWN; i++)
        link->asked[i].correlation = 0;
    for (uint32_t i = 0; i < PUBLISHES_KNOWN; i++)
        link->publishes[i].number = 0;
}

static void say_hello(struct link *link)
{
    uint8_t bytes[128];
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, sizeof(bytes) - FRAME_HEADER_SIZE);
    struct msg_hello hello = {.version_min = 1,
                              .version_max = 1,
                              .client_id = slice_of_text("session"),
                              .software = slice_of_text("fuzz")};
    write_hello(&w, &hello);
    uint32_t length = frame_seal(bytes, OP_HELLO, 0, ++link->correlation, writer_length(&w), 0);
    link_send(link, bytes, length);
}

void link_open(struct link *link)
{
    struct address address;
    if (link->fd >= 0)
        return;
    wait_for(&link->recv, NS_PER_S);
    wait_for(&link->send, NS_PER_S);
    wait_for(&link->close, NS_PER_S);
    ASSERT(address_parse("127.0.0.1:7650", &address) == 0);
    forget(link);
    io_connect(session.io, &link->connect, &address, nothing_done);
    wait_for(&link->connect, NS_PER_S);
    ASSERT(!io_op_is_active(&link->connect));
    link->fd = link->connect.result;
    if (link->fd < 0)
        return;
    start_recv(link);
    say_hello(link);
}

void link_close(struct link *link)
{
    if (link->fd < 0)
        return;
    io_cancel(session.io, &link->send);
    io_cancel(session.io, &link->recv);
    wait_for(&link->send, NS_PER_S);
    wait_for(&link->recv, NS_PER_S);
    gone(link);
}

void link_end_sending(struct link *link)
{
    if (link->fd < 0)
        return;
    net_end_sending(process_current(), link->fd);
    link->is_deaf = true;
}

void link_send(struct link *link, const void *bytes, uint32_t length)
{
    static uint8_t out[1 << 20];
    if (link->fd < 0 || link->is_deaf || length == 0)
        return;
    ASSERT(length <= sizeof(out));
    memcpy(out, bytes, length);
    io_send(session.io, &link->send, link->fd, out, length, nothing_done);
    wait_for(&link->send, NS_PER_S);
    if (io_op_is_active(&link->send) || link->send.result < 0)
        link_close(link); // it does not read, or is gone
}

static void ping(struct link *link)
{
    uint8_t bytes[FRAME_HEADER_SIZE];
    struct asked *asked = asked_new(link, OP_PING, 0);
    link->pinged = asked->correlation;
    link_send(link, bytes, frame_seal(bytes, OP_PING, 0, asked->correlation, 0, 0));
}

void links_must_answer(void)
{
    uint64_t until = world_now_ns() + ANSWER_NS_MAX;
    for (uint32_t i = 0; i < LINKS; i++)
        ping(&session.links[i]);
    for (uint32_t i = 0; i < LINKS; i++) {
        struct link *link = &session.links[i];
        while (link->fd >= 0 && link->ponged < link->pinged) {
            ASSERT(world_now_ns() < until); // neither answered nor closed
            (void)io_poll(session.io, NS_PER_S);
        }
    }
}

/* ---- what the broker says ---- */

struct asked *asked_new(struct link *link, uint16_t op, uint32_t about)
{
    uint64_t correlation = ++link->correlation;
    struct asked *asked = &link->asked[correlation % ASKED_KNOWN];
    *asked = (struct asked){correlation, op, about};
    return asked;
}

static void learn_topic(uint32_t id, uint32_t partitions)
{
    for (uint32_t i = 0; i < session.topic_count; i++)
        if (session.topics[i].id == id)
            return;
    if (session.topic_count < TOPICS_KNOWN)
        session.topics[session.topic_count++] = (struct known_topic){id, partitions, false};
}

static void learn_producer(uint64_t id, uint16_t epoch, uint8_t txn_id)
{
    for (uint32_t i = 0; i < session.producer_count; i++) {
        if (session.producers[i].id != id)
            continue;
        session.producers[i].epoch = epoch;
        return;
    }
    if (session.producer_count < PRODUCERS_KNOWN)
        session.producers[session.producer_count++] =
            (struct known_producer){.id = id, .epoch = epoch, .txn_id = txn_id};
}

static void learn_txn(const struct msg_txn_begin_reply *m, const struct known_producer *producer)
{
    if (session.txn_count < TXNS_KNOWN)
        session.txns[session.txn_count++] = (struct known_txn){.id = producer->txn_id,
                                                               .producer_id = producer->id,
                                                               .epoch = producer->epoch,
                                                               .open_lsn = m->open_lsn,
                                                               .coordinator = m->coordinator};
}

static void learn_member(const struct msg_group_assignment *m, uint8_t group)
{
    for (uint32_t i = 0; i < session.member_count; i++) {
        struct known_member *known = &session.members[i];
        if (known->length != m->member.len || memcmp(known->name, m->member.bytes, known->length))
            continue;
        known->generation = m->generation;
        return;
    }
    if (session.member_count == MEMBERS_KNOWN || m->member.len > GROUP_MEMBER_BYTES_MAX)
        return;
    struct known_member *known = &session.members[session.member_count++];
    *known = (struct known_member){group, m->generation, m->member.len, {0}};
    memcpy(known->name, m->member.bytes, m->member.len);
}

static void on_answer(const struct asked *asked, const struct frame *frame)
{
    struct msg_topic_reply topic;
    struct msg_producer_init_reply producer;
    struct msg_txn_init_reply init;
    struct msg_txn_begin_reply begun;
    struct msg_group_assignment assignment;
    switch (asked->op) {
    case OP_TOPIC_CREATE:
        ASSERT(read_topic_reply(frame, &topic) == PE_NONE);
        learn_topic(topic.topic_id, asked->about);
        break;
    case OP_PRODUCER_INIT:
        ASSERT(read_producer_init_reply(frame, &producer) == PE_NONE);
        learn_producer(producer.producer_id, producer.epoch, 0);
        break;
    case OP_TXN_INIT:
        ASSERT(read_txn_init_reply(frame, &init) == PE_NONE);
        learn_producer(init.producer_id, init.epoch, (uint8_t)(asked->about + 1));
        break;
    case OP_TXN_BEGIN:
        ASSERT(read_txn_begin_reply(frame, &begun) == PE_NONE);
        if (asked->about < session.producer_count)
            learn_txn(&begun, &session.producers[asked->about]);
        break;
    case OP_TXN_COMMIT:
        if (asked->about < session.txn_count)
            session.txns[asked->about].was_committed = true;
        break;
    case OP_TXN_ABORT:
        if (asked->about < session.txn_count)
            session.txns[asked->about].was_aborted = true;
        break;
    case OP_GROUP_JOIN:
    case OP_GROUP_HEARTBEAT:
        ASSERT(read_group_assignment(frame, &assignment) == PE_NONE);
        learn_member(&assignment, (uint8_t)asked->about);
        break;
    default:
        break;
    }
}

static struct publish *publish_of(struct link *link, uint64_t number)
{
    struct publish *publish = &link->publishes[number % PUBLISHES_KNOWN];
    return publish->number == number && number > 0 ? publish : NULL;
}

/* Numbers that were made up have acks, too; what they hold nobody knows then. */
static void on_ack(struct link *link, const struct frame *frame)
{
    struct msg_ack ack;
    ASSERT(read_ack(frame, &ack) == PE_NONE && ack.first <= ack.last);
    uint32_t batches = 0;
    for (uint64_t number = ack.first; number <= ack.last; number++) {
        const struct publish *publish = publish_of(link, number);
        if (publish == NULL)
            return;
        batches += publish->count;
    }
    if (batches != ack.offset_count)
        return;
    for (uint64_t number = ack.first; number <= ack.last; number++) {
        const struct publish *publish = publish_of(link, number);
        for (uint32_t i = 0; i < publish->count; i++) {
            struct sent_batch *batch = &session.batches[publish->batches[i]];
            batch->offset = read_ack_offset(&ack);
            batch->is_acked = true;
        }
    }
}

static void on_reply(struct link *link, const struct frame *frame)
{
    struct asked *asked = &link->asked[frame->correlation % ASKED_KNOWN];
    if (asked->correlation != frame->correlation || frame->correlation == 0)
        return;
    if (frame->correlation == link->pinged)
        link->ponged = frame->correlation;
    if (asked->op == frame->op && !(frame->flags & FRAME_ERROR))
        on_answer(asked, frame);
}

static void on_frame(struct link *link, const struct frame *frame)
{
    struct msg_error error;
    struct msg_produce_failure failure;
    struct msg_deliver deliver;
    ASSERT(frame->flags & (FRAME_REPLY | FRAME_PUSH));
    if (frame->op == OP_PRODUCE && frame->flags & FRAME_ERROR)
        ASSERT(read_produce_failure(frame, &failure) == PE_NONE);
    else if (frame->flags & FRAME_ERROR) // of OP_ACK, too, when we asked for it
        ASSERT(read_error(frame, &error) == PE_NONE);
    else if (frame->op == OP_ACK)
        on_ack(link, frame);
    else if (frame->op == OP_DELIVER)
        ASSERT(read_deliver(frame, &deliver) == PE_NONE);
    if (frame->flags & FRAME_REPLY)
        on_reply(link, frame);
}

/* ---- the judge ---- */

static struct sent_batch *batch_of_record(const struct record_view *record)
{
    uint32_t number;
    ASSERT(record->value.len >= sizeof(number));
    memcpy(&number, record->value.bytes, sizeof(number));
    ASSERT(number < session.batch_count); // nobody sent that
    return &session.batches[number];
}

static const uint8_t *read_batch(const uint8_t *at, const uint8_t *end, uint32_t topic_id,
                                 uint32_t partition)
{
    static uint8_t scratch[1 << 20];
    struct batch_iterator it;
    struct record_view record;
    struct batch_info info;
    struct sent_batch *batch = NULL;
    ASSERT(batch_peek(at, (size_t)(end - at), &info) && batch_is_intact(at, info.size));
    ASSERT(batch_iterator_init(&it, at, info.size, scratch, sizeof(scratch)) == 0);
    while (batch_iterator_next(&it, &record) == 1)
        batch = batch_of_record(&record);
    ASSERT(batch != NULL && ++batch->found <= batch->sent);
    if (batch->is_sure)
        ASSERT(batch->topic_id == topic_id && batch->partition == partition);
    if (batch->is_sure && batch->is_acked && batch->txn == 0)
        ASSERT(batch->offset == info.base_offset || batch->offset == UINT64_MAX);
    return at + info.size;
}

static struct { // of the last answer to a FETCH
    bool is_there;
    uint16_t error;
    uint64_t next, end;
} fetched;

static void ask_for(struct link *link, uint32_t topic_id, uint32_t partition, uint64_t from)
{
    uint8_t bytes[128];
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, sizeof(bytes) - FRAME_HEADER_SIZE);
    write_fetch_begin(&w, FETCH_BYTES, 0, 0, 1);
    write_fetch_item(&w, topic_id, partition, from ? START_OFFSET : START_BEGINNING, 0, from);
    uint64_t correlation = ++link->correlation;
    uint32_t length = frame_seal(bytes, OP_FETCH, 0, correlation, writer_length(&w), 0);
    link_send(link, bytes, length);
}

static void read_answer(struct link *link, uint32_t topic_id, uint32_t partition)
{
    struct frame frame;
    struct msg_deliver m;
    ASSERT(frame_decode(link->in, &frame) == PE_NONE && frame.op == OP_FETCH);
    ASSERT(!(frame.flags & FRAME_ERROR) && read_deliver(&frame, &m) == PE_NONE);
    ASSERT(m.item_count == 1);
    fetched.error = le16_get(m.items[0].error);
    fetched.next = le64_get(m.items[0].next_offset);
    fetched.end = le64_get(m.items[0].visible_end);
    const uint8_t *at = m.batches, *end = at + le32_get(m.items[0].bytes);
    while (at < end)
        at = read_batch(at, end, topic_id, partition);
}

/* One whole frame, without on_frame(). */
static void wait_for_frame(struct link *link)
{
    uint64_t until = world_now_ns() + 10 * NS_PER_S;
    link->in_bytes = 0;
    while (frame_peek(link->in, link->in_bytes, LINK_IN_BYTES) == 0 ||
           frame_peek(link->in, link->in_bytes, LINK_IN_BYTES) > link->in_bytes) {
        ASSERT(world_now_ns() < until && link->fd >= 0);
        io_recv(session.io, &link->recv, link->fd, link->in + link->in_bytes,
                LINK_IN_BYTES - link->in_bytes, nothing_done);
        wait_for(&link->recv, 10 * NS_PER_S);
        ASSERT(!io_op_is_active(&link->recv) && link->recv.result > 0);
        link->in_bytes += (uint32_t)link->recv.result;
    }
}

static void read_partition(struct link *link, uint32_t topic_id, uint32_t partition)
{
    fetched.next = 0;
    do {
        ask_for(link, topic_id, partition, fetched.next);
        wait_for_frame(link);
        read_answer(link, topic_id, partition);
    } while (fetched.error == PE_NONE && fetched.next < fetched.end);
}

static bool may_lose(uint32_t topic_id)
{
    for (uint32_t i = 0; i < session.topic_count; i++)
        if (session.topics[i].id == topic_id)
            return session.topics[i].may_lose;
    return true;
}

static void judge_batch(const struct sent_batch *batch)
{
    const struct known_txn *txn = batch->txn ? &session.txns[batch->txn - 1] : NULL;
    if (txn && txn->was_aborted && batch->is_sure)
        ASSERT(batch->found == 0); // of a transaction that was aborted
    if (!batch->is_sure || !batch->is_acked || may_lose(batch->topic_id))
        return;
    if (txn == NULL || txn->was_committed)
        ASSERT(batch->found == 1); // acked, and lost
}

void session_judge(void)
{
    static struct link link;
    struct address address;
    link = (struct link){.fd = -1};
    ASSERT(address_parse("127.0.0.1:7650", &address) == 0);
    io_connect(session.io, &link.connect, &address, nothing_done);
    wait_for(&link.connect, NS_PER_S);
    ASSERT(link.connect.result >= 0);
    link.fd = link.connect.result;
    say_hello(&link);
    wait_for_frame(&link);
    for (uint32_t i = 0; i < session.topic_count; i++)
        for (uint32_t p = 0; p < session.topics[i].partition_count; p++)
            read_partition(&link, session.topics[i].id, p);
    for (uint32_t i = 0; i < session.batch_count; i++)
        judge_batch(&session.batches[i]);
    gone(&link);
}
