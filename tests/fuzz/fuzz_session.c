/* A list of requests from the input's bytes, on three raw connections to a broker in the simulated world, with everything
 * between them that happens to connections and brokers.
 *
 * Input: commands, each a byte and what it wants (zeros behind the end). Most are one request of the protocol whose fields are
 * taken from what earlier answers told, or, as a byte says, made up; its frame may be damaged or cut. Others send raw bytes, let
 * time pass, end or open connections, kill the broker, cut its power, drain it, each time starting it again. Held against:
 *
 *     no assertion, no sanitizer's report, and each start succeeds
 *     each connection gets an answer or is closed
 *     the ledger of session_world.h, after a last loss of power
 *     memory that the broker takes when it is ready: at most 64 KiB and 8 times the input above what is fixed
 *
 * The world runs on simulated time: an input takes milliseconds whatever it waits for. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/session_world.h"

#include "base/clock.h"

/* What is taken whatever the input is: pages of state tables (16 KiB), one for each kind of row in each shard when its first
 * row comes, sessions of group members, and handles of files of the log. */
#define FIXED_BYTES ((size_t)(1 * MIB))
#define COMMANDS_MAX 400
#define RESTARTS_MAX 6
#define FRAME_BYTES (64u << 10)

static struct input_reader input;
static struct link *link; // that the command is for
static uint8_t frame_bytes[FRAME_BYTES];
static uint32_t restarts;

static void play(void);
static void command(void);

/* A start poisons 100 MiB of arenas: their shadow is overwritten, not mapped anew page by page. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "clear_shadow_mmap_threshold=1073741824";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = (struct input_reader){exact_copy(0, data, size), size};
    restarts = 0;
    session_run(play, size % 16 != 0);
    memory_bound_check(session.peak_bytes, size, FIXED_BYTES);
    return 0;
}

static void play(void)
{
    session_start();
    for (uint32_t i = 0; i < COMMANDS_MAX && input.left > 0; i++)
        command();
    links_must_answer();
    bool has_written = session_has_written();
    session_end(PROCESS_POWER);
    if (!has_written) // what a start makes of the first disk is known
        return;
    session_start();
    session_judge();
}

/* ---- fields ---- */

static uint8_t byte(void)
{
    return (uint8_t)input_number(&input, 1);
}

/* One of the known, or (a byte above 0xe0, or none is known) made up: then `count`. */
static uint32_t pick(uint32_t count)
{
    uint8_t b = byte();
    return b >= 0xe0 || count == 0 ? count : b % count;
}

static struct known_topic pick_topic(void)
{
    uint32_t i = pick(session.topic_count);
    struct known_topic made_up = {.id = i, .partition_count = 3};
    if (i < session.topic_count)
        return session.topics[i];
    made_up.id = (uint32_t)input_number(&input, 4);
    return made_up;
}

static uint32_t pick_partition(const struct known_topic *topic)
{
    uint8_t b = byte();
    return b >= 0xf0 ? (uint32_t)input_number(&input, 4) : b % topic->partition_count;
}

/* Short names, a few, or any bytes. */
static struct slice pick_name(char first)
{
    static uint8_t name[2];
    uint8_t b = byte();
    size_t len;
    if (b >= 0xf0) {
        const uint8_t *bytes = input_take(&input, b & 15, &len);
        return (struct slice){bytes, (uint32_t)len};
    }
    name[0] = (uint8_t)first;
    name[1] = (uint8_t)('0' + b % 4);
    return (struct slice){name, 2};
}

static uint8_t number_of_name(struct slice name)
{
    return name.len == 2 ? (uint8_t)(name.bytes[1] - '0') : UINT8_MAX;
}

static struct known_producer pick_producer(void)
{
    uint32_t i = pick(session.producer_count);
    struct known_producer none = {.id = PRODUCER_NONE};
    if (i < session.producer_count)
        return session.producers[i];
    if (byte() % 2) {
        none.id = input_number(&input, 8);
        none.epoch = (uint16_t)input_number(&input, 2);
        none.is_unsure = true;
    }
    return none;
}

static struct msg_txn pick_txn(uint32_t *place)
{
    static uint8_t name[2] = {'t'};
    uint32_t i = *place = pick(session.txn_count);
    if (i < session.txn_count) {
        const struct known_txn *txn = &session.txns[i];
        name[1] = (uint8_t)('0' + txn->id - 1);
        return (struct msg_txn){.id = {name, 2},
                                .producer_id = txn->producer_id,
                                .epoch = txn->epoch,
                                .coordinator = txn->coordinator,
                                .open_lsn = txn->open_lsn};
    }
    return (struct msg_txn){.id = pick_name('t'),
                            .producer_id = input_number(&input, 8),
                            .epoch = byte(),
                            .coordinator = byte(),
                            .open_lsn = input_number(&input, 4)};
}

static struct slice pick_member(uint32_t *generation, uint8_t *group)
{
    static struct known_member member;
    uint32_t i = pick(session.member_count);
    if (i < session.member_count) {
        member = session.members[i];
        *generation = member.generation;
        *group = member.group;
        return (struct slice){member.name, member.length};
    }
    *generation = byte();
    *group = byte() % 4;
    return byte() % 2 ? pick_name('m') : (struct slice){(const uint8_t *)"", 0};
}

static struct slice group_name(uint8_t group)
{
    static uint8_t name[2] = {'g'};
    name[1] = (uint8_t)('0' + group % 4);
    return (struct slice){name, 2};
}

/* ---- sending ---- */

static struct writer begin(void)
{
    return writer_make(frame_bytes + FRAME_HEADER_SIZE, FRAME_BYTES - FRAME_HEADER_SIZE);
}

/* As a byte says: whole, damaged in one byte, damaged and sealed again, or cut. True: nobody tampered with it. */
static bool send_sealed(uint16_t op, uint64_t correlation, uint32_t meta, uint32_t data)
{
    uint32_t length = frame_seal(frame_bytes, op, 0, correlation, meta, data);
    uint8_t how = byte();
    bool is_whole = how < 0xd0;
    if (how >= 0xf0)
        length = (uint32_t)input_number(&input, 2) % length;
    else if (how >= 0xe0)
        frame_bytes[input_number(&input, 2) % length] ^= byte();
    else if (how >= 0xd0 && meta > 0) {
        frame_bytes[FRAME_HEADER_SIZE + input_number(&input, 2) % meta] ^= byte();
        (void)frame_seal(frame_bytes, op, 0, correlation, meta, data);
    }
    link_send(link, frame_bytes, length);
    if (how % 4 != 0) // else the next one follows at once
        session_wait(NS_PER_MS / 2);
    return is_whole;
}

static void request(uint16_t op, struct writer *w, uint32_t about)
{
    if (w->failed || link->fd < 0)
        return;
    (void)send_sealed(op, asked_new(link, op, about)->correlation, writer_length(w), 0);
}

/* ---- topics ---- */

static void note_change(struct slice name, uint32_t topic)
{
    (void)name;
    for (uint32_t i = 0; i < session.topic_count; i++)
        if (topic == UINT32_MAX || topic == i)
            session.topics[i].may_lose = true;
}

static void topic_create(void)
{
    struct writer w = begin();
    uint32_t partitions = 1 + byte() % 5;
    write_topic_change(&w, pick_name('n'), partitions);
    uint16_t settings = byte() % 3;
    write_settings_begin(&w, settings);
    for (uint16_t i = 0; i < settings; i++)
        write_setting(&w, i ? "validation" : "batch_bytes_max", i ? "records" : "65536");
    request(OP_TOPIC_CREATE, &w, partitions);
}

static void topic_alter(void)
{
    static const char *const values[] = {"1048576", "1000", "records", "none", "1MiB", "x"};
    static const char *const keys[] = {"retention_bytes", "retention_ms", "validation"};
    struct writer w = begin();
    bool is_first = byte() % 2;
    write_topic_change(&w, is_first ? slice_of_text("b") : pick_name('n'), byte() % 6);
    write_settings_begin(&w, 1);
    write_setting(&w, keys[byte() % ARRAY_COUNT(keys)], values[byte() % ARRAY_COUNT(values)]);
    note_change((struct slice){0}, UINT32_MAX);
    request(OP_TOPIC_ALTER, &w, 0);
}

/* The first topic is never deleted, so that something is left to be judged. */
static void topic_delete(void)
{
    struct writer w = begin();
    write_topic_delete(&w, byte() % 4 ? pick_name('n') : slice_of_text("b"));
    for (uint32_t i = 1; i < session.topic_count; i++)
        session.topics[i].may_lose = true;
    request(OP_TOPIC_DELETE, &w, 0);
}

static void metadata(void)
{
    struct writer w = begin();
    bool all = byte() % 2;
    write_metadata_begin(&w, all ? METADATA_ALL : 1, (struct slice){(const uint8_t *)"", 0});
    if (!all)
        write_string(&w, pick_name('n'));
    request(OP_METADATA, &w, 0);
}

/* ---- publishing ---- */

static struct lane *lane_of(const struct known_producer *p, uint32_t topic, uint32_t partition)
{
    for (uint32_t i = 0; i < session.lane_count; i++) {
        struct lane *lane = &session.lanes[i];
        if (lane->producer_id == p->id && lane->epoch == p->epoch && lane->topic_id == topic &&
            lane->partition == partition)
            return lane;
    }
    if (session.lane_count == LANES_KNOWN)
        return NULL;
    session.lanes[session.lane_count] = (struct lane){p->id, p->epoch, topic, partition, 0};
    return &session.lanes[session.lane_count++];
}

static void become_unsure(uint64_t producer_id)
{
    for (uint32_t i = 0; i < session.producer_count; i++)
        if (session.producers[i].id == producer_id)
            session.producers[i].is_unsure = true;
}

/* Its records say its number. Returns its bytes. */
static uint32_t build(uint8_t *bytes, struct sent_batch *batch, struct known_producer *producer,
                      bool is_staged)
{
    static uint8_t plain[4096], scratch[8192];
    struct batch_builder b;
    uint8_t value[64] = {0}, *out;
    uint32_t number = session.batch_count, sequence = 0;
    struct lane *lane = lane_of(producer, batch->topic_id, batch->partition);
    memcpy(value, &number, sizeof(number));
    batch_builder_init(&b, plain, sizeof(plain));
    b.attributes = is_staged ? BATCH_TRANSACTIONAL : 0;
    batch->records = 1 + byte() % 3;
    for (uint32_t i = 0; i < batch->records; i++) {
        struct record record = {.timestamp_ms = 1700000000000, .value = {value, 4 + byte() % 60}};
        ASSERT(batch_builder_add(&b, &record) == 0);
    }
    if (producer->id != PRODUCER_NONE && lane) {
        sequence = lane->next;
        lane->next += batch->records;
        if (byte() >= 0xe0) {
            sequence = (uint32_t)input_number(&input, 2);
            producer->is_unsure = true;
            become_unsure(producer->id);
        }
    }
    batch->is_sure = !producer->is_unsure && lane;
    uint32_t size = batch_builder_finish(&b, byte() % 3 ? CODEC_NONE : CODEC_LZ4, producer->id,
                                         producer->epoch, sequence, scratch, sizeof(scratch), &out);
    memcpy(bytes, out, size);
    return size;
}

static void produce(bool is_staged)
{
    static uint8_t data[4 * 8192];
    struct writer w = begin();
    uint32_t count = 1 + byte() % PUBLISH_BATCHES_MAX, used = 0, txn = 0;
    if (link->fd < 0 || session.batch_count + count > BATCHES_KNOWN)
        return;
    struct known_producer producer = pick_producer();
    write_produce_begin(&w, (uint16_t)count, is_staged ? PRODUCE_STAGED : 0);
    if (is_staged) {
        struct msg_txn name = pick_txn(&txn);
        bool is_known = txn < session.txn_count;
        producer = (struct known_producer){
            .id = name.producer_id, .epoch = name.epoch, .is_unsure = !is_known};
        for (uint32_t i = 0; i < session.producer_count; i++)
            if (session.producers[i].id == producer.id)
                producer.is_unsure |= session.producers[i].is_unsure;
        txn = is_known ? txn + 1 : 0;
        write_produce_staged(&w, name.coordinator, name.open_lsn);
    }
    struct publish publish = {.number = ++link->publish, .count = count};
    uint32_t first = session.batch_count;
    for (uint32_t i = 0; i < count; i++) {
        struct known_topic topic = pick_topic();
        struct sent_batch *batch = &session.batches[session.batch_count];
        *batch = (struct sent_batch){
            .topic_id = topic.id, .partition = pick_partition(&topic), .txn = txn, .sent = 1};
        uint32_t bytes = build(data + used, batch, &producer, is_staged);
        write_produce_item(&w, batch->topic_id, batch->partition, bytes);
        used += bytes;
        publish.batches[i] = session.batch_count++;
    }
    if (byte() >= 0xf0)
        link->publish = publish.number = input_number(&input, 2);
    link->publishes[publish.number % PUBLISHES_KNOWN] = publish;
    memcpy(w.at, data, used);
    bool is_whole = send_sealed(OP_PRODUCE, publish.number, writer_length(&w), used);
    for (uint32_t i = first; i < session.batch_count && !is_whole; i++)
        session.batches[i].is_sure = false;
    if (!is_whole) // its sequence numbers may have been used or not
        become_unsure(producer.id);
}

static void producer_init(void)
{
    struct writer w = begin();
    struct msg_producer_init m = {.producer_id = UINT64_MAX};
    if (byte() % 2) {
        struct known_producer producer = pick_producer();
        m = (struct msg_producer_init){producer.id, producer.epoch};
    }
    write_producer_init(&w, &m);
    request(OP_PRODUCER_INIT, &w, 0);
}

/* ---- reading ---- */

static void fetch(bool is_subscription)
{
    struct writer w = begin();
    uint32_t count = 1 + byte() % 4;
    write_fetch_begin(&w, (uint32_t)input_number(&input, 2), byte() * 20u,
                      is_subscription ? 5u << 20 : 0, count);
    for (uint32_t i = 0; i < count; i++) {
        struct known_topic topic = pick_topic();
        uint32_t partition = pick_partition(&topic);
        write_fetch_item(&w, topic.id, partition, byte() % 5, 0, input_number(&input, 1));
    }
    request(is_subscription ? OP_SUBSCRIBE : OP_FETCH, &w, 0);
}

static void credit(bool is_end)
{
    struct writer w = begin();
    write_credit(&w, &(struct msg_credit){1 + byte() % (link->correlation + 1),
                                          is_end ? 0 : input_number(&input, 4)});
    request(is_end ? OP_UNSUBSCRIBE : OP_CREDIT, &w, 0);
}

static void offsets(void)
{
    struct writer w = begin();
    struct known_topic topic = pick_topic();
    write_offsets_begin(&w, 1);
    write_fetch_item(&w, topic.id, pick_partition(&topic), byte() % 5, 0, input_number(&input, 2));
    request(OP_OFFSETS, &w, 0);
}

/* ---- transactions ---- */

static void txn_init(void)
{
    struct writer w = begin();
    struct msg_txn_init m = {pick_name('t')};
    write_txn_init(&w, &m);
    request(OP_TXN_INIT, &w, number_of_name(m.id));
}

static void txn_begin(void)
{
    static uint8_t name[2] = {'t'};
    struct writer w = begin();
    uint32_t i = pick(session.producer_count);
    struct known_producer producer = {.id = 1};
    if (i < session.producer_count)
        producer = session.producers[i];
    name[1] = (uint8_t)('0' + producer.txn_id - 1);
    write_txn_begin(&w, &(struct msg_txn_begin){.id = producer.txn_id ? (struct slice){name, 2}
                                                                      : pick_name('t'),
                                                .producer_id = producer.id,
                                                .epoch = producer.epoch,
                                                .timeout_ms = byte() * 100u});
    request(OP_TXN_BEGIN, &w, i);
}

/* What was acked as staged, partition by partition. */
static uint32_t staged_of(uint32_t txn, uint32_t topics[16], uint32_t partitions[16],
                          uint32_t counts[16])
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < session.batch_count; i++) {
        const struct sent_batch *batch = &session.batches[i];
        uint32_t k = 0;
        if (batch->txn != txn + 1 || !batch->is_acked)
            continue;
        while (k < used && (topics[k] != batch->topic_id || partitions[k] != batch->partition))
            k++;
        if (k == 16)
            break;
        if (k == used) {
            topics[k] = batch->topic_id;
            partitions[k] = batch->partition;
            counts[k] = 0;
            used++;
        }
        counts[k]++;
    }
    return used;
}

static void txn_end(uint16_t op)
{
    struct writer w = begin();
    uint32_t place, topics[16], partitions[16], counts[16], count = 0;
    struct msg_txn txn = pick_txn(&place);
    if (op == OP_TXN_ABORT) {
        if (byte() % 4 == 3)
            txn.producer_id = TXN_BY_NAME;
        write_txn_abort(&w, &txn);
        request(op, &w, place);
        return;
    }
    bool by_name = byte() >= 0xe0;
    if (place < session.txn_count && !by_name)
        count = staged_of(place, topics, partitions, counts);
    if (by_name)
        txn.producer_id = TXN_BY_NAME;
    bool names_group =
        !by_name && place < session.txn_count && session.txns[place].may_have_offsets;
    write_txn_end_begin(&w, &txn, count, names_group ? 1 : 0);
    for (uint32_t i = 0; i < count; i++)
        write_txn_item(&w, topics[i], partitions[i], counts[i]);
    if (names_group)
        write_string(&w, group_name(byte()));
    request(op, &w, place);
}

static void txn_offsets(void)
{
    struct writer w = begin();
    uint32_t place, generation;
    uint8_t group;
    struct known_topic topic = pick_topic();
    struct slice member = pick_member(&generation, &group);
    struct msg_txn_offsets m = {.group = group_name(group),
                                .member = member,
                                .generation = generation,
                                .txn = pick_txn(&place),
                                .item_count = 1};
    write_txn_offsets_begin(&w, &m);
    write_offset_item(&w, topic.id, pick_partition(&topic), byte());
    if (place < session.txn_count)
        session.txns[place].may_have_offsets = true;
    request(OP_TXN_OFFSETS, &w, place);
}

static void txn_ask(void)
{
    struct writer w = begin();
    uint32_t place;
    if (byte() % 2) {
        write_txn_list(
            &w, &(struct msg_txn_list){.shard = byte() % 3, .after = {(const uint8_t *)"", 0}});
        request(OP_TXN_LIST, &w, 0);
        return;
    }
    struct msg_txn txn = pick_txn(&place);
    write_txn_describe(&w, &(struct msg_txn_describe){byte() % 3, txn.coordinator, txn.open_lsn});
    request(OP_TXN_DESCRIBE, &w, 0);
}

/* ---- groups ---- */

static void group_join(void)
{
    struct writer w = begin();
    struct known_topic topic = pick_topic();
    le32 id = le32_make(topic.id);
    uint32_t generation;
    uint8_t group;
    struct slice member = pick_member(&generation, &group);
    struct msg_group_join m = {.group = group_name(group),
                               .member = member,
                               .instance = byte() % 4 ? (struct slice){(const uint8_t *)"", 0}
                                                      : pick_name('i'),
                               .assignor = byte() % 3,
                               .session_timeout_ms = byte() * 50u,
                               .topic_count = 1,
                               .topic_ids = &id};
    write_group_join_begin(&w, &m);
    request(OP_GROUP_JOIN, &w, group);
}

static void group_member(uint16_t op)
{
    struct writer w = begin();
    uint32_t generation;
    uint8_t group;
    struct slice member = pick_member(&generation, &group);
    if (op == OP_GROUP_HEARTBEAT)
        write_group_heartbeat(&w,
                              &(struct msg_group_heartbeat){group_name(group), member, generation});
    else
        write_group_leave(&w, &(struct msg_group_leave){group_name(group), member, byte() % 2});
    request(op, &w, group);
}

static void offset_commit(void)
{
    struct writer w = begin();
    struct known_topic topic = pick_topic();
    uint32_t generation;
    uint8_t group;
    struct slice member = pick_member(&generation, &group);
    struct msg_offset_commit m = {.group = group_name(group),
                                  .member = member,
                                  .generation = generation,
                                  .flags = byte() % 4 == 3,
                                  .item_count = 1};
    write_offset_commit_begin(&w, &m);
    write_offset_item(&w, topic.id, pick_partition(&topic), byte());
    request(OP_OFFSET_COMMIT, &w, 0);
}

static void group_ask(void)
{
    struct writer w = begin();
    struct slice group = group_name(byte());
    switch (byte() % 4) {
    case 0:
        write_offset_fetch_begin(&w, group, 0);
        request(OP_OFFSET_FETCH, &w, 0);
        break;
    case 1:
        write_group_list(
            &w, &(struct msg_group_list){.shard = byte() % 3, .after = {(const uint8_t *)"", 0}});
        request(OP_GROUP_LIST, &w, 0);
        break;
    case 2:
        write_group_describe(&w, &(struct msg_group_describe){group});
        request(OP_GROUP_DESCRIBE, &w, 0);
        break;
    default:
        write_group_delete(&w, group);
        request(OP_GROUP_DELETE, &w, 0);
    }
}

/* ---- what is no request ---- */

static void raw(void)
{
    size_t len;
    const uint8_t *bytes = input_take(&input, byte(), &len);
    link_send(link, bytes, (uint32_t)len);
}

/* An operation that may not exist, with any meta. */
static void unknown(void)
{
    struct writer w = begin();
    size_t len;
    uint16_t op = byte() % 70;
    const uint8_t *bytes = input_take(&input, byte(), &len);
    write_bytes(&w, bytes, len);
    if (op == OP_TOPIC_ALTER || op == OP_TOPIC_DELETE) // of any topic
        note_change((struct slice){0}, UINT32_MAX);
    request(op, &w, UINT32_MAX);
}

static void restart(uint8_t how)
{
    if (restarts++ >= RESTARTS_MAX)
        return;
    if (how % 3 == 0)
        session_drain();
    else
        session_end(how % 3 == 1 ? PROCESS_KILLED : PROCESS_POWER);
    session_start();
}

static void pass_time(void)
{
    static const uint64_t waits[] = {10 * NS_PER_US, NS_PER_MS, 50 * NS_PER_MS, NS_PER_S,
                                     11 * NS_PER_S};
    session_wait(waits[byte() % ARRAY_COUNT(waits)]);
}

/* ---- commands: one for each value of five bits ---- */

static void publish(void)
{
    produce(false);
}

static void stage(void)
{
    produce(true);
}

static void fetch_once(void)
{
    fetch(false);
}

static void subscribe(void)
{
    fetch(true);
}

static void give_credit(void)
{
    credit(false);
}

static void unsubscribe(void)
{
    credit(true);
}

static void txn_commit(void)
{
    txn_end(OP_TXN_COMMIT);
}

static void txn_abort(void)
{
    txn_end(OP_TXN_ABORT);
}

static void txn_prepare(void)
{
    txn_end(OP_TXN_PREPARE);
}

static void group_heartbeat(void)
{
    group_member(OP_GROUP_HEARTBEAT);
}

static void group_leave(void)
{
    group_member(OP_GROUP_LEAVE);
}

static void status_or_ping(void)
{
    struct writer empty = begin();
    request(byte() % 2 ? OP_STATUS : OP_PING, &empty, 0);
}

static void raw_or_unknown(void)
{
    if (byte() % 2)
        raw();
    else
        unknown();
}

static void end_something(void)
{
    uint8_t how = byte();
    if (how % 8 < 3)
        restart(how);
    else if (how % 8 < 6)
        link_close(link);
    else
        link_end_sending(link);
}

static void command(void)
{
    static void (*const commands[32])(void) = {
        publish,      publish,      publish,         stage,       stage,          producer_init,
        fetch_once,   subscribe,    give_credit,     unsubscribe, offsets,        txn_init,
        txn_begin,    txn_begin,    txn_commit,      txn_abort,   txn_prepare,    txn_offsets,
        txn_ask,      group_join,   group_heartbeat, group_leave, offset_commit,  group_ask,
        topic_create, topic_alter,  topic_delete,    metadata,    status_or_ping, raw_or_unknown,
        pass_time,    end_something};
    uint8_t b = byte();
    link = &session.links[b >> 6 == 3 ? 0 : b >> 6];
    if (link->fd < 0 && !link->is_deaf)
        link_open(link);
    commands[b % ARRAY_COUNT(commands)]();
}
