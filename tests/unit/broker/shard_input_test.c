/* What a shard makes of requests that its clients got wrong: the right error, with words that can be read, and
 * nothing of it in the log. */
#include "shard_fixture.h"

#include "base/hash.h"
#include "tests/unit/seeds.h"

static struct shard_fixture *begin(uint64_t seed)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, seed, 1);
    return f;
}

static void end(struct shard_fixture *f)
{
    shf_close(f);
    sim_disk_free(f->disk);
    free(f);
}

/* Sends a frame that is complete but for its seal; its answer's error, with the words in f->text. */
static uint16_t error_of(struct shard_fixture *f, struct request *request, const struct writer *w)
{
    shf_seal(request, w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    snprintf(f->text, sizeof(f->text), "%s", request->text);
    cr_assert(slice_is_utf8(slice_of_text(f->text)), "the words must be text: \"%s\"", f->text);
    shf_release(f, request);
    return error;
}

static uint32_t topic_with(struct shard_fixture *f, const char *name, const char *key,
                           const char *value)
{
    struct request *request = shf_request(f, 0, OP_TOPIC_CREATE, 5);
    struct writer w = shf_writer(request);
    struct msg_topic_reply reply;
    struct frame frame;
    write_topic_change(&w, slice_of_text(name), 1);
    write_settings_begin(&w, 1);
    write_setting(&w, key, value);
    shf_seal(request, &w, 0);
    shf_call(f, request);
    cr_assert_eq(request->error, PE_NONE, "%s", request->text);
    cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
    cr_assert_eq(read_topic_reply(&frame, &reply), PE_NONE);
    shf_release(f, request);
    return reply.topic_id;
}

/* ---- metas: a value that isn't allowed is not a broken shape ---- */

static void write_bad_value(uint16_t op, struct writer *w)
{
    switch (op) {
    case OP_METADATA: // a list of names, and a place in the list of all
        write_metadata_begin(w, 0, slice_of_text("orders"));
        return;
    case OP_PRODUCER_INIT:
        write_producer_init(w, &(struct msg_producer_init){.producer_id = (uint64_t)1 << 63});
        return;
    case OP_OFFSETS:
        write_offsets_begin(w, 1);
        write_fetch_item(w, 1, 0, START_TIMESTAMP + 1, 0, 0);
        return;
    case OP_FETCH:
    case OP_SUBSCRIBE:
        write_fetch_begin(w, 0, FETCH_WAIT_MS_MAX + 1, 0, 1);
        write_fetch_item(w, 1, 0, START_END, 0, 0);
        return;
    default: // TOPIC_CREATE, TOPIC_ALTER
        write_topic_change(w, slice_of_text("orders"), 1);
        write_settings_begin(w, 1);
        write_setting(w, "", "1");
        return;
    }
}

Test(shard_input, a_value_that_is_not_allowed_is_no_broken_meta)
{
    static const uint16_t ops[] = {OP_METADATA,  OP_PRODUCER_INIT, OP_OFFSETS,    OP_FETCH,
                                   OP_SUBSCRIBE, OP_TOPIC_CREATE,  OP_TOPIC_ALTER};
    struct shard_fixture *f = begin(101);
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        struct request *request = shf_request(f, 0, ops[i], 5);
        struct writer w = shf_writer(request);
        write_bad_value(ops[i], &w);
        cr_assert_eq(error_of(f, request, &w), PE_INVALID_ARGUMENT, "%s", op_name(ops[i]));
    }
    end(f);
}

Test(shard_input, a_meta_with_a_byte_too_many_or_too_few_is_malformed)
{
    static const uint16_t ops[] = {OP_METADATA,    OP_PRODUCER_INIT, OP_OFFSETS,     OP_FETCH,
                                   OP_SUBSCRIBE,   OP_TOPIC_CREATE,  OP_TOPIC_ALTER, OP_CREDIT,
                                   OP_UNSUBSCRIBE, OP_TOPIC_DELETE};
    struct shard_fixture *f = begin(102);
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        struct request *request = shf_request(f, 0, ops[i], 5);
        struct writer w = shf_writer(request);
        write_u8(&w, 1);
        cr_assert_eq(error_of(f, request, &w), PE_MALFORMED, "%s", op_name(ops[i]));
    }
    end(f);
}

Test(shard_input, names_that_are_not_allowed_are_told_so_by_every_operation)
{
    static const char *const names[] = {"", ".", "..", "a/b", "\xff\xfe", "caf\xc3\xa9"};
    struct shard_fixture *f = begin(103);
    uint32_t id;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, names[i], 1, &id), PE_INVALID_TOPIC_NAME);
        cr_assert_eq(shf_topic(f, OP_TOPIC_ALTER, names[i], 1, &id), PE_INVALID_TOPIC_NAME);
        cr_assert_eq(shf_topic(f, OP_TOPIC_DELETE, names[i], 1, &id), PE_INVALID_TOPIC_NAME);
    }
    struct request *request = shf_request(f, 0, OP_METADATA, 5);
    struct writer w = shf_writer(request);
    write_metadata_begin(&w, 2, slice_of_text(""));
    write_string(&w, slice_of_text("a/b"));
    write_string(&w, slice_of_text("nothing"));
    shf_seal(request, &w, 0);
    shf_call(f, request);
    struct frame frame;
    struct msg_metadata_reply reply;
    struct msg_metadata_topic topic;
    cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
    cr_assert_eq(read_metadata_reply(&frame, &reply), PE_NONE);
    read_metadata_topic(&reply, &topic);
    cr_assert_eq(topic.error, PE_INVALID_TOPIC_NAME);
    read_metadata_topic(&reply, &topic);
    cr_assert_eq(topic.error, PE_UNKNOWN_TOPIC);
    shf_release(f, request);
    end(f);
}

Test(shard_input, an_unknown_setting_is_named_in_whole_characters)
{
    struct shard_fixture *f = begin(104);
    for (uint32_t before = 0; before < 4; before++) {
        char key[128] = "xxxx";
        for (uint32_t i = before; i + 3 < 100; i += 3)
            memcpy(key + i, "\xe2\x82\xac", 4); // a character of three bytes
        struct request *request = shf_request(f, 0, OP_TOPIC_CREATE, 5);
        struct writer w = shf_writer(request);
        write_topic_change(&w, slice_of_text("orders"), 1);
        write_settings_begin(&w, 1);
        write_setting(&w, key, "1");
        cr_assert_eq(error_of(f, request, &w), PE_INVALID_SETTING);
        cr_assert(strstr(f->text, "\xe2\x82\xac\""), "%s", f->text);
    }
    end(f);
}

/* ---- validation = records: compressed batches are held to the rules of those that aren't ---- */

struct batch_plan {
    uint32_t header_bytes;      // of the second record's header
    int64_t timestamp;          // of the second record
    int64_t max_timestamp_more; // claimed beyond the truth
};

static uint16_t publish_lz4(struct shard_fixture *f, uint32_t topic_id, struct batch_plan plan)
{
    static uint8_t bytes[512 * KIB], scratch[600 * KIB], zeros[300 * KIB];
    struct batch_builder builder;
    uint8_t *batch;
    batch_builder_init(&builder, bytes, sizeof(bytes));
    struct record_header header = {.key = slice_of_text("h"), .value = {zeros, plan.header_bytes}};
    struct record records[2] = {{.timestamp_ms = 1000, .value = {zeros, 1000}},
                                {.timestamp_ms = plan.timestamp,
                                 .value = {zeros, 10},
                                 .headers = &header,
                                 .header_count = 1}};
    for (int i = 0; i < 2; i++)
        cr_assert_eq(batch_builder_add(&builder, &records[i]), 0);
    uint32_t size = batch_builder_finish(&builder, CODEC_LZ4, PRODUCER_NONE, UINT16_MAX, UINT32_MAX,
                                         scratch, sizeof(scratch), &batch);
    struct batch_header *head = (struct batch_header *)batch;
    cr_assert_eq(be16_get(head->attributes), CODEC_LZ4);
    head->max_timestamp =
        be64_make(be64_get(head->max_timestamp) + (uint64_t)plan.max_timestamp_more);
    uint32_t covered = offsetof(struct batch_header, attributes);
    head->crc = be32_make(hash_crc32c(batch + covered, size - covered));
    struct request *request = shf_request(f, 0, OP_PRODUCE, 1);
    struct writer w = shf_writer(request);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, topic_id, 0, size);
    memcpy(w.at, batch, size);
    shf_seal(request, &w, size);
    shf_call(f, request);
    uint16_t error = le16_get(shf_outcome(request).error);
    cr_assert_eq(*request->text != '\0', error != PE_NONE);
    shf_release(f, request);
    return error;
}

Test(shard_input, records_inside_of_compressed_batches_are_looked_at_when_the_topic_says_so)
{
    const struct batch_plan good = {.header_bytes = 10, .timestamp = 1001};
    const struct batch_plan bad[] = {
        {.header_bytes = 256 * KIB, .timestamp = 1001},
        {.header_bytes = 10, .timestamp = -1},
        {.header_bytes = 10, .timestamp = INT64_MIN},
        {.header_bytes = 10, .timestamp = 1001, .max_timestamp_more = 1},
        {.header_bytes = 10, .timestamp = 5000, .max_timestamp_more = -1},
    };
    static const uint16_t errors[] = {PE_RECORD_TOO_LARGE, PE_INVALID_TIMESTAMP,
                                      PE_INVALID_TIMESTAMP, PE_INVALID_TIMESTAMP,
                                      PE_INVALID_TIMESTAMP};
    struct shard_fixture *f = begin(105);
    uint32_t deep = topic_with(f, "deep", "validation", "records");
    uint32_t shallow = topic_with(f, "shallow", "validation", "header");
    cr_assert_eq(publish_lz4(f, deep, good), PE_NONE);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        cr_assert_eq(publish_lz4(f, deep, bad[i]), errors[i], "%zu", i);
        cr_assert_eq(publish_lz4(f, shallow, bad[i]), PE_NONE, "%zu", i);
    }
    cr_assert_eq(store_partition(f->shards[0].store, deep, 0)->next_offset, 2);
    end(f);
}

/* ---- a batch that was stamped but not appended is as it came when its turn comes again ---- */

static struct request *large_publish(struct shard_fixture *f, uint32_t topic_id, uint64_t number)
{
    static uint8_t bytes[1000 * KIB], value[240 * KIB];
    struct batch_builder builder;
    uint8_t *batch;
    batch_builder_init(&builder, bytes, sizeof(bytes));
    for (int i = 0; i < 4; i++) {
        struct record record = {.timestamp_ms = 1000, .value = {value, sizeof(value)}};
        cr_assert_eq(batch_builder_add(&builder, &record), 0);
    }
    uint32_t size = batch_builder_finish(&builder, CODEC_NONE, PRODUCER_NONE, UINT16_MAX,
                                         UINT32_MAX, NULL, 0, &batch);
    struct request *request = shf_request(f, 0, OP_PRODUCE, number);
    struct writer w = shf_writer(request);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, topic_id, 0, size);
    memcpy(w.at, batch, size);
    shf_seal(request, &w, size);
    return request;
}

Test(shard_input, batches_that_wait_for_the_log_are_stamped_only_once)
{
    enum { COUNT = 10 };
    struct shard_fixture *f = begin(106);
    uint32_t id = topic_with(f, "stamped", "timestamp_type", "append");
    struct request *requests[COUNT];
    for (int i = 0; i < COUNT; i++) {
        requests[i] = large_publish(f, id, (uint64_t)i + 1);
        shf_send(f, requests[i]);
    }
    for (int i = 0; i < 20000 && f->reply != requests[COUNT - 1]; i++)
        shf_turn(f);
    cr_assert_gt(counter_get(&f->shards[0].counters.blocked_total), 0, "the log was never full");
    for (int i = 0; i < COUNT; i++) {
        cr_assert(requests[i]->is_reply);
        cr_assert_eq(le16_get(shf_outcome(requests[i]).error), PE_NONE, "%d: %s", i,
                     requests[i]->text);
        cr_assert_eq(le64_get(shf_outcome(requests[i]).base_offset), (uint64_t)i * 4);
        shf_release(f, requests[i]);
    }
    end(f);
}

/* ---- more partitions than there are places for: nothing of it stays ---- */

static uint32_t partitions_of_all(struct shard_fixture *f)
{
    uint32_t count = 0;
    for (uint16_t i = 0; i < f->shard_count; i++)
        count += partitions_count(store_partitions(f->shards[i].store));
    return count;
}

Test(shard_input, a_topic_that_does_not_fit_is_taken_back_on_every_shard)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    uint32_t id;
    shf_init(f, 107, 2);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "first", 1000, &id), PE_NONE);
    uint32_t counts[2] = {partitions_count(store_partitions(f->shards[0].store)),
                          partitions_count(store_partitions(f->shards[1].store))};
    cr_assert_neq(counts[0], counts[1], "this test wants one shard to have room and one not");
    uint32_t places = partitions_count_max(store_partitions(f->shards[0].store));
    uint32_t most = (places - (uint32_t)min_u64(counts[0], counts[1])) * 2 - 40;
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "second", most, &id), PE_LIMIT_REACHED);
    cr_assert_eq(partitions_of_all(f), 1000);
    cr_assert_eq(shf_topic(f, OP_TOPIC_ALTER, "first", places * 2 + 1, &id), PE_LIMIT_REACHED);
    cr_assert_eq(partitions_of_all(f), 1000);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "second", 20, &id), PE_NONE, "the name is free");
    cr_assert_eq(shf_topic(f, OP_TOPIC_ALTER, "first", 1010, &id), PE_NONE, "and may still grow");
    cr_assert_eq(partitions_of_all(f), 1030);
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    cr_assert_eq(partitions_of_all(f), 1030);
    end(f);
}

/* A crash at any moment of it: the next start comes to the same end. */
Test(shard_input, a_crash_while_a_topic_is_taken_back_is_mended_at_the_next_start)
{
    for (uint64_t seed = 110; seed < 110 + seeds(20); seed++) {
        struct shard_fixture *f = malloc(sizeof(*f));
        uint32_t id;
        shf_init(f, seed, 2);
        cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "first", 1000, &id), PE_NONE);
        struct request *request = shf_request(f, 0, OP_TOPIC_CREATE, 5);
        struct writer w = shf_writer(request);
        write_topic_change(&w, slice_of_text("second"), 1040);
        write_settings_begin(&w, 0);
        shf_seal(request, &w, 0);
        shf_send(f, request);
        shf_turns(f, (int)(seed * 7 % 60));
        shf_crash(f);
        cr_assert_eq(shf_open(f), 0, "seed %lu: %s", (unsigned long)seed, f->text);
        shf_turns(f, 3000);
        cr_assert_eq(partitions_of_all(f), 1000, "seed %lu", (unsigned long)seed);
        cr_assert_eq(topics_count(f->shards[0].topics), 1);
        for (uint16_t i = 0; i < 2; i++)
            cr_assert_eq(shard_check_partitions(&f->shards[i], &f->shards[0], f->text), 0);
        end(f);
    }
}
