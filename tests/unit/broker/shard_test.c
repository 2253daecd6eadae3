/* The shard as a whole on the simulated disk: topics, publishing, idempotence, reading, crashes. */
#include "tests/unit/broker/shard_fixture.h"
#include "tests/unit/seeds.h"

static uint32_t make_topic(struct shard_fixture *f, const char *name, uint32_t partitions)
{
    uint32_t topic_id = 0;
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, name, partitions, &topic_id), PE_NONE);
    cr_assert_neq(topic_id, 0);
    return topic_id;
}

static struct shf_publish plain(uint32_t topic_id, uint32_t partition)
{
    return (struct shf_publish){.topic_id = topic_id,
                                .partition = partition,
                                .producer_id = PRODUCER_NONE,
                                .epoch = UINT16_MAX,
                                .sequence = UINT32_MAX,
                                .records = 3,
                                .value = "value"};
}

Test(shard, publishes_get_dense_offsets_and_are_answered_when_durable)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 1, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 2), 1);
    for (uint64_t i = 0; i < 10; i++) {
        uint64_t offset;
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
        cr_assert_eq(offset, i * 3);
        struct partition *partition = store_partition(f->shards[0].store, publish.topic_id, 1);
        cr_assert_eq(partition->visible_end, (i + 1) * 3);
    }
    shard_check(&f->shards[0]);
    shf_free(f);
}

Test(shard, unknown_topics_partitions_and_bad_batches_are_refused_and_nothing_else_is_disturbed)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 2, 1);
    uint32_t topic_id = make_topic(f, "orders", 2);
    struct shf_publish good = plain(topic_id, 0), bad = plain(topic_id + 1, 0);
    uint64_t offset;
    cr_assert_eq(shf_publish(f, &bad, &offset), PE_UNKNOWN_TOPIC);
    bad = plain(topic_id, 2);
    cr_assert_eq(shf_publish(f, &bad, &offset), PE_UNKNOWN_PARTITION);

    struct request *request = shf_request(f, 0, OP_PRODUCE, 1);
    shf_write_publish(f, request, &good);
    request->frames[request->frame_bytes - 1] ^= 1; // of the last record
    shf_call(f, request);
    cr_assert_eq(le16_get(shf_outcome(request).error), PE_CORRUPT_BATCH);
    cr_assert_eq(request->error, PE_CORRUPT_BATCH);
    shf_release(f, request);

    cr_assert_eq(shf_publish(f, &good, &offset), PE_NONE);
    cr_assert_eq(offset, 0);
    shf_free(f);
}

/* So that what comes next is received into memory that was used a moment ago. */
Test(shard, a_publish_gives_its_buffer_back_before_it_is_durable)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 4, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    struct request *request = shf_request(f, 0, OP_PRODUCE, 1);
    struct buffer *buffer = request->buffer;
    uint32_t free_count = f->buffers.classes[buffer->class].free_count;
    shf_write_publish(f, request, &publish);
    shf_send(f, request);
    while (request->buffer)
        shf_turn(f);
    cr_assert_null(f->reply);
    cr_assert_eq(f->buffers.classes[buffer->class].free_count, free_count + 1);
    memset(buffer->bytes, 0xee, buffer->capacity); // what comes next
    for (int i = 0; i < 20000 && !f->reply; i++)
        shf_turn(f);
    cr_assert_eq(f->reply, request);
    cr_assert_eq(le16_get(shf_outcome(request).error), PE_NONE);
    cr_assert_eq(le64_get(shf_outcome(request).base_offset), 0);
    cr_assert_eq(request->freed_bytes, buffer->capacity);
    shf_release(f, request);

    request =
        shf_request(f, 0, OP_PRODUCE, 2); // of which the connection still reads the next frame
    buffer = request->buffer;
    buffer_ref(buffer);
    shf_write_publish(f, request, &publish);
    shf_call(f, request);
    cr_assert_null(request->buffer);
    cr_assert_eq(buffer->references, 1);
    cr_assert_eq(request->freed_bytes, 0);
    buffer_unref(&f->buffers, buffer);
    shf_release(f, request);
    shf_free(f);
}

Test(shard, a_retry_gets_its_original_offset_also_after_a_crash)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 3, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    publish.producer_id = 7;
    publish.epoch = 0;
    uint64_t offset;
    for (uint32_t i = 0; i < 4; i++) {
        publish.sequence = i * 3;
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    }
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    for (uint32_t i = 0; i < 4; i++) {
        publish.sequence = i * 3;
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
        cr_assert_eq(offset, i * 3, "the retry is the original");
    }
    publish.sequence = 15;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_OUT_OF_ORDER_SEQUENCE);
    publish.sequence = 12;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    cr_assert_eq(offset, 12);
    shf_free(f);
}

Test(shard, a_duplicate_of_a_batch_that_is_not_durable_yet_waits_for_it)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 4, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    publish.producer_id = 7;
    publish.epoch = 0;
    publish.sequence = 0;
    struct request *first = shf_request(f, 0, OP_PRODUCE, 1);
    struct request *again = shf_request(f, 0, OP_PRODUCE, 2);
    shf_write_publish(f, first, &publish);
    shf_write_publish(f, again, &publish);
    shf_send(f, first);
    shf_send(f, again);
    struct partition *partition = store_partition(f->shards[0].store, publish.topic_id, 0);
    while (!f->reply)
        shf_turn(f);
    cr_assert_eq(partition->visible_end, 3, "answered before anything was durable");
    shf_turns(f, 100);
    cr_assert_eq(partition->visible_end, 3);
    cr_assert_eq(partition->next_offset, 3, "stored once");
    cr_assert_eq(le64_get(shf_outcome(again).base_offset), 0);
    cr_assert_eq(le16_get(shf_outcome(again).error), PE_NONE);
    shf_release(f, first);
    shf_release(f, again);
    shf_free(f);
}

Test(shard, subscriptions_deliver_what_is_there_and_what_comes)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 5, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    uint64_t offset, next = 0;
    uint16_t error;
    for (int i = 0; i < 5; i++)
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    cr_assert_eq(shf_subscribe(f, 50, publish.topic_id, 0, START_BEGINNING, 0, 8 * MIB), PE_NONE);
    shf_turns(f, 20);
    cr_assert_eq(shf_take_records(f, &next, &error), 15);
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    shf_turns(f, 20);
    cr_assert_eq(shf_take_records(f, &next, &error), 3);
    cr_assert_eq(next, 18);
    shf_credit(f, 0, OP_UNSUBSCRIBE, 50, 0, PE_NONE);
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    shf_turns(f, 20);
    cr_assert_eq(f->delivered_bytes, 0);
    shf_credit(f, 0, OP_UNSUBSCRIBE, 50, 0, PE_UNKNOWN_SUBSCRIPTION);
    shard_check(&f->shards[0]);
    shf_free(f);
}

Test(shard, a_subscription_never_sends_more_than_its_credit)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 6, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    uint64_t offset, next = 0, credit = 700;
    uint16_t error;
    for (int i = 0; i < 40; i++)
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    cr_assert_eq(shf_subscribe(f, 50, publish.topic_id, 0, START_BEGINNING, 0, credit), PE_NONE);
    uint32_t records = 0;
    for (int round = 0; round < 100 && records < 120; round++) {
        shf_turns(f, 20);
        uint32_t bytes = f->delivered_bytes;
        cr_assert_leq(bytes, credit);
        credit -= bytes;
        records += shf_take_records(f, &next, &error);
        cr_assert_eq(error, PE_NONE);
        shf_credit(f, 0, OP_CREDIT, 50, 300, PE_NONE);
        credit += 300;
    }
    cr_assert_eq(records, 120);
    shf_free(f);
}

Test(shard, a_credit_that_can_never_hold_a_batch_is_an_error_and_ends_the_cursor)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 7, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    publish.records = 100;
    uint64_t offset, next = 0;
    uint16_t error;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    cr_assert_eq(shf_subscribe(f, 50, publish.topic_id, 0, START_BEGINNING, 0, 400), PE_NONE);
    shf_turns(f, 50);
    cr_assert_eq(shf_take_records(f, &next, &error), 0);
    cr_assert_eq(error, PE_CREDIT_TOO_SMALL);
    shf_free(f);
}

Test(shard, a_consumer_that_takes_nothing_stops_at_its_deliveries_in_flight)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 8, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    uint64_t offset, next = 0;
    uint16_t error;
    f->hold_deliveries = true;
    cr_assert_eq(shf_subscribe(f, 50, publish.topic_id, 0, START_BEGINNING, 0, 8 * MIB), PE_NONE);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
        shf_turns(f, 10);
    }
    cr_assert_leq(f->delivery_count, DELIVERIES_IN_FLIGHT_MAX);
    f->hold_deliveries = false;
    for (uint32_t i = 0; i < f->delivery_count; i++)
        mailbox_reply(&f->mailbox, f->deliveries[i]);
    shf_turns(f, 50);
    cr_assert_eq(shf_take_records(f, &next, &error), 60);
    shf_free(f);
}

/* Else slow readers had all of them, and no ack and no request would find one. */
Test(shard, deliveries_leave_half_of_each_class_of_buffers_to_others)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 22, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    struct buffer *taken[BUFFER_SMALL_COUNT], *last = NULL;
    uint32_t count = 0;
    uint64_t offset, next = 0;
    uint16_t error;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    cr_assert_eq(shf_subscribe(f, 50, publish.topic_id, 0, START_BEGINNING, 0, 0), PE_NONE);
    while ((last = buffer_acquire_for(&f->buffers, 1, BUFFER_FOR_DELIVERY)))
        taken[count++] = last;
    shf_credit(f, 0, OP_CREDIT, 50, MIB, PE_NONE);
    shf_turns(f, 20);
    cr_assert_eq(f->delivered_bytes, 0);
    cr_assert(atomic_load(&f->shards[0].readers_wait));
    buffer_unref(&f->buffers, taken[--count]); // LARGE: it was the last resort
    shf_turns(f, 20);
    cr_assert_eq(shf_take_records(f, &next, &error), 3);
    cr_assert_not(atomic_load(&f->shards[0].readers_wait));
    while (count > 0)
        buffer_unref(&f->buffers, taken[--count]);
    shf_free(f);
}

static struct request *fetch(struct shard_fixture *f, uint32_t topic_id, uint32_t wait_ms,
                             uint64_t offset)
{
    struct request *request = shf_request(f, 0, OP_FETCH, 60);
    struct writer w = shf_writer(request);
    write_fetch_begin(&w, 65536, wait_ms, 0, 1);
    write_fetch_item(&w, topic_id, 0, START_OFFSET, 0, offset);
    shf_seal(request, &w, 0);
    return request;
}

Test(shard, a_fetch_answers_at_once_or_when_something_comes_or_at_its_deadline)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 9, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    uint64_t offset, next = 0;
    uint16_t error;
    struct request *request = shf_call(f, fetch(f, publish.topic_id, 0, 0));
    cr_assert_eq(request->error, PE_NONE);
    shf_release(f, request);
    shf_turns(f, 5);
    cr_assert_gt(f->delivered_bytes, 0, "an answer without data");
    cr_assert_eq(shf_take_records(f, &next, &error), 0);

    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    shf_release(f, shf_call(f, fetch(f, publish.topic_id, 0, 0)));
    shf_turns(f, 5);
    cr_assert_eq(shf_take_records(f, &next, &error), 3);

    shf_release(f, shf_call(f, fetch(f, publish.topic_id, 50, 3))); // accepted
    shf_turns(f, 5);
    cr_assert_eq(f->delivered_bytes, 0);
    uint64_t started = io_sim_now_ns(f->io);
    while (f->delivered_bytes == 0)
        shf_turn(f);
    cr_assert_geq(io_sim_now_ns(f->io) - started, 40 * NS_PER_MS);
    cr_assert_eq(shf_take_records(f, &next, &error), 0);

    shf_release(f, shf_call(f, fetch(f, publish.topic_id, 60000, 3)));
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    shf_turns(f, 5);
    cr_assert_eq(shf_take_records(f, &next, &error), 3);

    cr_assert_eq(shf_call(f, fetch(f, publish.topic_id, 0, 7))->error, PE_OFFSET_OUT_OF_RANGE);
    shf_release(f, f->reply);
    shf_free(f);
}

static struct request *fetch_of(struct shard_fixture *f, uint32_t topic_id, uint32_t bytes_max)
{
    struct request *request = shf_request(f, 0, OP_FETCH, 60);
    struct writer w = shf_writer(request);
    write_fetch_begin(&w, bytes_max, 0, 0, 1);
    write_fetch_item(&w, topic_id, 0, START_BEGINNING, 0, 0);
    shf_seal(request, &w, 0);
    return request;
}

/* A batch of 2 MiB or so: larger than any buffer but the largest. */
static void publish_large(struct shard_fixture *f, uint32_t topic_id)
{
    enum { RECORDS = 9, CAPACITY = 3 << 20 };
    static uint8_t bytes[CAPACITY], value[240 * KIB];
    struct batch_builder builder;
    uint8_t *batch;
    batch_builder_init(&builder, bytes, sizeof(bytes));
    for (int i = 0; i < RECORDS; i++) {
        struct record record = {.timestamp_ms = 1000, .value = {value, sizeof(value)}};
        cr_assert_eq(batch_builder_add(&builder, &record), 0);
    }
    uint32_t size = batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, UINT16_MAX,
                                         UINT32_MAX, NULL, 0, &batch);
    struct request *request = shf_request(f, 0, OP_PRODUCE, 1);
    uint8_t *frame = malloc(CAPACITY);
    request->frames = frame;
    struct writer w = writer_make(frame + FRAME_HEADER_SIZE, CAPACITY - FRAME_HEADER_SIZE);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, topic_id, 0, size);
    memcpy(w.at, batch, size);
    shf_seal(request, &w, size);
    shf_call(f, request);
    cr_assert_eq(le16_get(shf_outcome(request).error), PE_NONE, "%s", request->text);
    shf_release(f, request);
    free(frame);
}

/* What was stored when larger requests were allowed can be read when only small ones are: the fixture's buffers are for
 * requests of 1 MiB. */
Test(shard, a_batch_larger_than_any_request_is_still_read, .timeout = 20)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init_with(f, 23, 1, 3 * MIB);
    uint32_t topic_id = make_topic(f, "orders", 1);
    uint64_t next = 0;
    uint16_t error;
    publish_large(f, topic_id);
    cr_assert_eq(shf_subscribe(f, 50, topic_id, 0, START_BEGINNING, 0, 8 * MIB), PE_NONE);
    shf_turns(f, 50);
    cr_assert_eq(shf_take_records(f, &next, &error), 9);
    static const uint32_t sizes[] = {0, 1, 100000, 4 * MIB, UINT32_MAX - 72, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        shf_release(f, shf_call(f, fetch_of(f, topic_id, sizes[i])));
        shf_turns(f, 50);
        next = 0;
        cr_assert_eq(shf_take_records(f, &next, &error), 9, "bytes_max %u", sizes[i]);
    }
    shf_free(f);
}

/* As a fetch asks for the buffer of all it may bring, others that hold those would stop it for little. */
Test(shard, a_fetch_that_allows_much_takes_a_smaller_buffer_when_the_large_ones_are_used_up)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 24, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    struct buffer *taken[BUFFER_LARGE_COUNT];
    uint32_t count = 0;
    uint64_t offset, next = 0;
    uint16_t error;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    struct request *request = fetch_of(f, publish.topic_id, UINT32_MAX);
    while ((taken[count] = buffer_acquire(&f->buffers, BUFFER_LARGE_BYTES)))
        count++;
    shf_release(f, shf_call(f, request));
    shf_turns(f, 20);
    cr_assert_eq(shf_take_records(f, &next, &error), 3);
    while (count > 0)
        buffer_unref(&f->buffers, taken[--count]);
    shf_free(f);
}

static struct request *searches_of(struct shard_fixture *f, uint32_t topic_id, uint32_t count)
{
    struct request *request = shf_request(f, 0, OP_OFFSETS, 61);
    struct writer w = shf_writer(request);
    write_offsets_begin(&w, count);
    for (uint32_t i = 0; i < count; i++)
        write_fetch_item(&w, topic_id, 0, START_TIMESTAMP, 0, 1001);
    shf_seal(request, &w, 0);
    return request;
}

/* A search walks the index of the open segment, which may be long: thousands of them at once would stop all else. */
Test(shard, searches_by_time_take_turns_with_everything_else)
{
    enum { COUNT = 1000 };
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 25, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    uint64_t offset;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    struct request *searches[2];
    for (int i = 0; i < 2; i++) {
        searches[i] = searches_of(f, publish.topic_id, COUNT);
        shf_send(f, searches[i]);
    }
    uint32_t turns = 0;
    for (; !searches[0]->is_reply || !searches[1]->is_reply; turns++) {
        cr_assert_lt(turns, 3 * COUNT);
        if (turns == 10) { // which is answered in between
            shf_credit(f, 0, OP_UNSUBSCRIBE, 1, 0, PE_UNKNOWN_SUBSCRIPTION);
            cr_assert(!searches[0]->is_reply && !searches[1]->is_reply);
        }
        cr_assert_gt(shf_turn(f), 0, "the rest must not wait for something to happen");
    }
    cr_assert_geq(turns, 2 * COUNT / (2 * SEARCHES_PER_TURN));
    shf_turns(f, 2);
    for (int i = 0; i < 2; i++) {
        struct frame frame;
        struct msg_offsets_reply m;
        cr_assert_eq(frame_decode(searches[i]->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_offsets_reply(&frame, &m), PE_NONE);
        cr_assert_eq(m.item_count, COUNT);
        for (uint32_t n = 0; n < COUNT; n++) {
            cr_assert_eq(le16_get(m.items[n].error), PE_NONE);
            cr_assert_eq(le64_get(m.items[n].offset), 0);
            cr_assert_eq(le64_get(m.items[n].timestamp_ms), 1002);
        }
        shf_release(f, searches[i]);
    }
    shf_free(f);
}

Test(shard, readers_that_begin_at_a_time_take_turns_with_everything_else)
{
    enum { COUNT = 20 * SEARCHES_PER_TURN };
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 26, 1);
    uint32_t topic_id = make_topic(f, "orders", COUNT);
    uint64_t offset;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct shf_publish publish = plain(topic_id, i);
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    }
    struct request *request = shf_request(f, 0, OP_SUBSCRIBE, 50);
    struct writer w = shf_writer(request);
    write_fetch_begin(&w, 0, 0, MIB, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        write_fetch_item(&w, topic_id, i, START_TIMESTAMP, 0, 1001);
    shf_seal(request, &w, 0);
    shf_call(f, request);
    cr_assert_eq(request->error, PE_NONE);
    shf_release(f, request);
    counter *delivered = &f->shards[0].counters.deliveries_total;
    for (int turn = 0; turn < 10; turn++) {
        uint64_t before = counter_get(delivered);
        cr_assert_gt(shf_turn(f), 0, "the rest must not wait for something to happen");
        cr_assert_leq(counter_get(delivered) - before, 2 * SEARCHES_PER_TURN);
    }
    shf_turns(f, 3000); // most have to be read from the file, one after the other
    cr_assert_eq(counter_get(delivered), COUNT);
    shf_free(f);
}

/* Sixteen subscriptions of 16384 times the same partition would be all cursors of a shard, for one connection. */
Test(shard, who_reads_a_partition_twice_is_told_so_and_nothing_is_begun)
{
    static const struct {
        uint16_t op;
        uint32_t first, last, count; // the last item is made another
        uint16_t error;
    } cases[] = {
        {OP_SUBSCRIBE, 0, 0, 2, PE_INVALID_ARGUMENT},
        {OP_SUBSCRIBE, 0, 99, 100, PE_NONE},
        {OP_SUBSCRIBE, 0, 98, 100, PE_INVALID_ARGUMENT},
        {OP_SUBSCRIBE, 0, 0, 100, PE_INVALID_ARGUMENT},
        {OP_FETCH, 0, 1, 2, PE_NONE},
        {OP_FETCH, 0, 3, 100, PE_INVALID_ARGUMENT},
    };
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 21, 1);
    uint32_t topic_id = make_topic(f, "orders", 100);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct request *request = shf_request(f, 0, cases[i].op, 70 + i);
        struct writer w = shf_writer(request);
        write_fetch_begin(&w, 65536, 0, 0, cases[i].count);
        for (uint32_t n = 0; n + 1 < cases[i].count; n++)
            write_fetch_item(&w, topic_id, cases[i].first + n, START_BEGINNING, 0, 0);
        write_fetch_item(&w, topic_id, cases[i].last, START_END, 0, 0);
        shf_seal(request, &w, 0);
        shf_call(f, request);
        cr_assert_eq(request->error, cases[i].error, "%zu: %s", i, request->text);
        cr_assert_eq(strstr(request->text, "twice") != NULL, cases[i].error != PE_NONE);
        shf_release(f, request);
        if (cases[i].op == OP_SUBSCRIBE)
            shf_credit(f, 0, OP_UNSUBSCRIBE, 70 + i, 0,
                       cases[i].error ? PE_UNKNOWN_SUBSCRIPTION : PE_NONE);
    }
    shf_free(f);
}

Test(shard, a_closed_connection_leaves_nothing_behind)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 10, 1);
    struct shf_publish publish = plain(make_topic(f, "orders", 1), 0);
    uint64_t offset;
    cr_assert_eq(shf_subscribe(f, 50, publish.topic_id, 0, START_END, 0, MIB), PE_NONE);
    struct request *waiting = shf_call(f, fetch(f, publish.topic_id, 60000, 0));
    struct request *closed = request_acquire(&f->requests, REQUEST_CONN_CLOSED, 0);
    closed->conn = waiting->conn;
    shf_release(f, waiting);
    cr_assert_eq(mailbox_send(&f->mailbox, closed), 0);
    shf_turns(f, 5);
    request_release(&f->requests, closed);
    cr_assert_eq(f->requests.free_count, f->requests.object_count);
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    shf_turns(f, 20);
    cr_assert_eq(f->delivered_bytes, 0);
    shard_check(&f->shards[0]);
    shf_free(f);
}

Test(shard, topics_are_made_altered_dropped_and_survive_over_two_shards)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 11, 2);
    uint32_t id, other;
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "orders", 16, &id), PE_NONE);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "orders", 1, &other), PE_TOPIC_EXISTS);
    uint32_t counts[2] = {partitions_count(store_partitions(f->shards[0].store)),
                          partitions_count(store_partitions(f->shards[1].store))};
    cr_assert_eq(counts[0] + counts[1], 16);
    cr_assert(counts[0] > 0 && counts[1] > 0, "%u and %u", counts[0], counts[1]);
    uint64_t offset;
    for (uint32_t p = 0; p < 16; p++) {
        struct shf_publish publish = plain(id, p);
        cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    }
    cr_assert_eq(shf_topic(f, OP_TOPIC_ALTER, "orders", 8, &other), PE_INVALID_PARTITION_COUNT);
    cr_assert_eq(shf_topic(f, OP_TOPIC_ALTER, "orders", 20, &other), PE_NONE);
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    struct shf_publish publish = plain(id, 19);
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    cr_assert_eq(shf_topic(f, OP_TOPIC_DELETE, "orders", 0, &other), PE_NONE);
    cr_assert_eq(shf_topic(f, OP_TOPIC_DELETE, "orders", 0, &other), PE_UNKNOWN_TOPIC);
    cr_assert_eq(partitions_count(store_partitions(f->shards[0].store)) +
                     partitions_count(store_partitions(f->shards[1].store)),
                 0);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "orders", 1, &other), PE_NONE);
    cr_assert_neq(other, id, "ids are never used again");
    shf_free(f);
}

/* A crash at any moment of making, altering and dropping: afterwards every topic that shard 0 knows has all of
 * its partitions, and no partition is without its topic. */
Test(shard, a_crash_in_the_middle_of_topic_changes_is_mended_at_the_next_start)
{
    for (uint64_t seed = 20; seed < 20 + seeds(30); seed++) {
        struct shard_fixture *f = malloc(sizeof(*f));
        shf_init(f, seed, 2);
        uint32_t id;
        cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "old", 6, &id), PE_NONE);
        const char *names[] = {"new", "old", "old"};
        const uint16_t ops[] = {OP_TOPIC_CREATE, OP_TOPIC_ALTER, OP_TOPIC_DELETE};
        uint32_t which = (uint32_t)(seed % 3);
        struct request *request = shf_request(f, 0, ops[which], 5);
        struct writer w = shf_writer(request);
        if (ops[which] == OP_TOPIC_DELETE) {
            write_topic_delete(&w, slice_of_text(names[which]));
        } else {
            write_topic_change(&w, slice_of_text(names[which]), 9);
            write_settings_begin(&w, 0);
        }
        shf_seal(request, &w, 0);
        shf_send(f, request);
        shf_turns(f, (int)(seed * 7 % 40));
        shf_crash(f);
        cr_assert_eq(shf_open(f), 0, "seed %lu: %s", (unsigned long)seed, f->text);
        shf_turns(f, 3000);
        for (uint32_t row = 0; row < topics_row_count(f->shards[0].topics); row++) {
            const struct disk_topic *topic = topics_row(f->shards[0].topics, row);
            if (!topic)
                continue;
            cr_assert(topic->settled && !topic->dropped, "seed %lu", (unsigned long)seed);
            for (uint32_t p = 0; p < le32_get(topic->partition_count); p++) {
                uint16_t owner = shard_of_partition(f->slot_shard, le32_get(topic->topic_id), p);
                cr_assert(store_partition(f->shards[owner].store, le32_get(topic->topic_id), p));
            }
        }
        for (uint16_t i = 0; i < 2; i++)
            cr_assert_eq(shard_check_partitions(&f->shards[i], &f->shards[0], f->text), 0);
        shf_free(f);
    }
}

/* Random publishes with crashes: the state after recovery is the state of a clean restart of the same log. */
Test(shard, state_after_a_crash_equals_state_after_replay)
{
    for (uint64_t seed = 60; seed < 60 + seeds(6); seed++) {
        struct shard_fixture *f = malloc(sizeof(*f));
        shf_init(f, seed, 1);
        uint32_t id = make_topic(f, "orders", 4);
        struct random dice;
        random_init(&dice, seed);
        uint32_t sequences[8] = {0};
        for (int i = 0; i < 150; i++) {
            uint32_t producer = (uint32_t)random_below(&dice, 8);
            struct shf_publish publish = {.topic_id = id,
                                          .partition = producer % 4,
                                          .producer_id = producer,
                                          .sequence = sequences[producer],
                                          .records = 1 + (uint32_t)random_below(&dice, 5),
                                          .value = "v"};
            uint64_t offset;
            cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
            sequences[producer] += publish.records;
            if (random_below(&dice, 60) == 0)
                store_checkpoint(f->shards[0].store);
        }
        uint64_t digest = shard_digest(&f->shards[0]);
        shf_crash(f);
        cr_assert_eq(shf_open(f), 0, "%s", f->text);
        cr_assert_eq(shard_digest(&f->shards[0]), digest, "seed %lu", (unsigned long)seed);
        shf_close(f);
        cr_assert_eq(shf_open(f), 0, "%s", f->text);
        cr_assert_eq(shard_digest(&f->shards[0]), digest);
        shf_free(f);
    }
}
