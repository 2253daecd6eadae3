/* Readers that are disturbed at any moment: while their request is in the mailbox, while a read from a file is in flight,
 * while all read slots are busy, while deliveries are on their way. Whatever ends them - the client, the connection, the
 * topic, a drain - every request, buffer and cursor comes back. */
#include "shard_fixture.h"

#include "broker/cursor_private.h"

enum {
    READERS = 4, // at once: twice the fixture's read slots
    TURNS = 14,  // after which the disturbance comes, at most
    TOPICS = TURNS * READERS,
    BATCH_BYTES = 60000,
};

enum disturbance { UNSUBSCRIBED, CONN_CLOSED, TOPIC_DELETED };

struct one_reader {
    uint32_t topic; // number
    struct request *request, *disturbing;
};

static uint32_t topic_ids[TOPICS];

static void name_of(uint32_t topic, char name[32])
{
    snprintf(name, 32, "topic-%u", topic);
}

static void publish(struct shard_fixture *f, uint32_t topic_id, uint32_t bytes)
{
    static uint8_t batch_bytes[1000 * KIB], value[250 * KIB];
    struct batch_builder builder;
    uint8_t *batch;
    batch_builder_init(&builder, batch_bytes, sizeof(batch_bytes));
    for (uint32_t left = bytes; left > 0;) {
        uint32_t len = (uint32_t)min_u64(left, sizeof(value));
        struct record record = {.timestamp_ms = 1000, .value = {value, len}};
        cr_assert_eq(batch_builder_add(&builder, &record), 0);
        left -= len;
    }
    uint32_t size = batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, UINT16_MAX,
                                         UINT32_MAX, NULL, 0, &batch);
    struct request *request = shf_request(f, 0, OP_PRODUCE, 1);
    struct writer w = shf_writer(request);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, topic_id, 0, size);
    memcpy(w.at, batch, size);
    shf_seal(request, &w, size);
    shf_call(f, request);
    cr_assert_eq(le16_get(shf_outcome(request).error), PE_NONE, "%s", request->text);
    shf_release(f, request);
}

/* A batch in each topic, and so much behind them that none is in memory any more. */
static struct shard_fixture *begin(uint64_t seed)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    char name[32];
    uint32_t filler;
    shf_init(f, seed, 1);
    for (uint32_t i = 0; i < TOPICS; i++) {
        name_of(i, name);
        cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, name, 1, &topic_ids[i]), PE_NONE);
        publish(f, topic_ids[i], BATCH_BYTES);
    }
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "filler", 1, &filler), PE_NONE);
    for (int i = 0; i < 9; i++)
        publish(f, filler, 900 * KIB);
    return f;
}

static void check_nothing_is_left(struct shard_fixture *f)
{
    struct cursors *cursors = f->shards[0].cursors;
    cr_assert_eq(f->requests.free_count, f->requests.object_count, "requests leaked");
    for (int class = 0; class < BUFFER_CLASS_COUNT; class ++)
        cr_assert_eq(f->buffers.classes[class].free_count, f->buffers.classes[class].count,
                     "buffers of class %d leaked", class);
    cr_assert_eq(cursors->cursor_pool.free_count, cursors->cursor_pool.object_count);
    cr_assert_eq(cursors->subscription_pool.free_count, cursors->subscription_pool.object_count);
    cr_assert_eq(cursors->pinned_bytes, 0);
    shard_check(&f->shards[0]);
}

static struct request *send_reader(struct shard_fixture *f, uint16_t op, uint32_t topic,
                                   uint64_t id)
{
    struct request *request = shf_request(f, 0, op, id);
    struct writer w = shf_writer(request);
    if (op == OP_OFFSETS)
        write_offsets_begin(&w, 1);
    else
        write_fetch_begin(&w, 1 << 20, 100, 8 * MIB, 1);
    bool searches = op == OP_OFFSETS || id % 2 == 1;
    write_fetch_item(&w, topic_ids[topic], 0, searches ? START_TIMESTAMP : START_BEGINNING, 0,
                     searches ? 500 : 0);
    shf_seal(request, &w, 0);
    shf_send(f, request);
    return request;
}

static struct request *disturb(struct shard_fixture *f, enum disturbance disturbance,
                               uint32_t topic, uint64_t id)
{
    struct request *request;
    struct writer w;
    char name[32];
    switch (disturbance) {
    case UNSUBSCRIBED:
        request = shf_request(f, 0, OP_UNSUBSCRIBE, 99);
        w = shf_writer(request);
        write_credit(&w, &(struct msg_credit){.subscription = id});
        break;
    case TOPIC_DELETED:
        request = shf_request(f, 0, OP_TOPIC_DELETE, 99);
        w = shf_writer(request);
        name_of(topic, name);
        write_topic_delete(&w, slice_of_text(name));
        break;
    default:
        request = request_acquire(&f->requests, REQUEST_CONN_CLOSED, 0);
        request->conn = (struct conn_id){.slot = 1, .life = 1};
        shf_send(f, request);
        return request;
    }
    shf_seal(request, &w, 0);
    shf_send(f, request);
    return request;
}

static void end_reader(struct shard_fixture *f, struct one_reader *reader)
{
    cr_assert(reader->request->is_reply, "%s was not answered", op_name(reader->request->op));
    shf_release(f, reader->request);
    if (!reader->disturbing)
        return;
    cr_assert(reader->disturbing->is_reply, "%s was not answered", op_name(reader->disturbing->op));
    if (reader->disturbing->kind == REQUEST_CONN_CLOSED)
        request_release(&f->requests, reader->disturbing);
    else
        shf_release(f, reader->disturbing);
}

static void close_conn(struct shard_fixture *f)
{
    struct request *closed = disturb(f, CONN_CLOSED, 0, 0);
    shf_turns(f, 20);
    cr_assert(closed->is_reply);
    request_release(&f->requests, closed);
}

/* READERS of different topics begin; `turns` later all of them are disturbed. */
static void play(struct shard_fixture *f, uint16_t op, enum disturbance disturbance, int turns,
                 uint32_t topic)
{
    struct one_reader readers[READERS] = {{0}};
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i].topic = topic + i;
        readers[i].request = send_reader(f, op, topic + i, 50 + i);
    }
    shf_turns(f, turns);
    for (uint32_t i = 0; i < READERS; i++)
        readers[i].disturbing = disturb(f, disturbance, readers[i].topic, 50 + i);
    shf_turns(f, 400);
    for (uint32_t i = 0; i < READERS; i++)
        end_reader(f, &readers[i]);
    close_conn(f); // what goes on by itself
    f->delivered_bytes = 0;
    check_nothing_is_left(f);
}

static void sweep(uint16_t op, enum disturbance disturbance, uint64_t seed)
{
    struct shard_fixture *f = begin(seed);
    check_nothing_is_left(f);
    for (int turns = 0; turns < TURNS; turns++) {
        uint32_t topic = disturbance == TOPIC_DELETED ? (uint32_t)turns * READERS : 0;
        play(f, op, disturbance, turns, topic);
    }
    shf_free(f);
}

Test(shard_disturb, subscriptions_that_are_taken_back, .timeout = 60)
{
    sweep(OP_SUBSCRIBE, UNSUBSCRIBED, 201);
}

Test(shard_disturb, subscriptions_whose_connection_closes, .timeout = 60)
{
    sweep(OP_SUBSCRIBE, CONN_CLOSED, 202);
}

Test(shard_disturb, subscriptions_of_topics_that_are_deleted, .timeout = 60)
{
    sweep(OP_SUBSCRIBE, TOPIC_DELETED, 203);
}

Test(shard_disturb, fetches_whose_connection_closes, .timeout = 60)
{
    sweep(OP_FETCH, CONN_CLOSED, 204);
}

Test(shard_disturb, fetches_from_topics_that_are_deleted, .timeout = 60)
{
    sweep(OP_FETCH, TOPIC_DELETED, 205);
}

Test(shard_disturb, searches_whose_connection_closes, .timeout = 60)
{
    sweep(OP_OFFSETS, CONN_CLOSED, 206);
}

Test(shard_disturb, searches_in_topics_that_are_deleted, .timeout = 60)
{
    sweep(OP_OFFSETS, TOPIC_DELETED, 207);
}

/* A drain stops at any moment, whatever is being read. */
Test(shard_disturb, a_shard_that_drains_while_it_reads, .timeout = 60)
{
    static const uint16_t ops[] = {OP_SUBSCRIBE, OP_FETCH, OP_OFFSETS};
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        struct shard_fixture *f = begin(210 + i);
        for (int turns = 0; turns < TURNS; turns++) {
            f->shards[0].state = SHARD_SERVING;
            struct request *request = send_reader(f, ops[i], 0, 50);
            shf_turns(f, turns);
            shard_drain(&f->shards[0]);
            shf_turns(f, 400);
            cr_assert(request->is_reply);
            cr_assert(shard_is_drained(&f->shards[0]));
            shf_release(f, request);
            close_conn(f);
            f->delivered_bytes = 0;
            check_nothing_is_left(f);
        }
        shf_free(f);
    }
}
