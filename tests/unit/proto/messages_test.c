/* proto/messages.h: every message comes back with the values it was written with. The values are
 * those of samples.h, spelled out here a second time. */
#include <criterion/criterion.h>

#include "tests/unit/proto/samples.h"

#define ID_A 0x01020304u
#define ID_B 0x11121314u
#define PARTITION_A 0x05060708u
#define PARTITION_B 0x15161718u
#define LONG_A UINT64_C(0x0102030405060708)
#define LONG_B UINT64_C(0x1112131415161718)

static uint8_t bytes[SAMPLE_BYTES_MAX];

static struct frame decode(const char *name)
{
    struct frame frame = {0};
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        if (strcmp(samples[i].name, name) != 0)
            continue;
        uint32_t len = sample_encode(&samples[i], bytes);
        cr_assert_eq(frame_peek(bytes, len, SAMPLE_BYTES_MAX), len);
        cr_assert_eq(frame_decode(bytes, &frame), PE_NONE);
        cr_assert_eq(frame.op, samples[i].op);
        return frame;
    }
    cr_assert_fail("no sample %s", name);
    return frame;
}

static void assert_text(struct slice s, const char *expected)
{
    cr_assert(slice_equals(s, slice_of_text(expected)), "expected %s, have %.*s", expected,
              (int)s.len, (const char *)s.bytes);
}

Test(messages, hello)
{
    struct frame frame = decode("hello");
    struct msg_hello m;
    cr_assert_eq(read_hello(&frame, &m), PE_NONE);
    cr_assert_eq(m.version_min, 1);
    cr_assert_eq(m.version_max, 0x0203);
    assert_text(m.client_id, "orders-\xc3\xa9");
    assert_text(m.software, "libsluice 0.1.0");
}

Test(messages, hello_reply)
{
    struct frame frame = decode("hello_reply");
    struct msg_hello_reply m;
    cr_assert_eq(read_hello_reply(&frame, &m), PE_NONE);
    cr_assert_eq(m.version, 1);
    for (size_t i = 0; i < sizeof(m.store_id); i++)
        cr_assert_eq(m.store_id[i], 0xa0 + i);
    assert_text(m.software, "sluiced 0.1.0");
    cr_assert_eq(m.request_bytes_max, 0x01020304);
    cr_assert_eq(m.record_bytes_max, 0x11121314);
    cr_assert_eq(m.batch_bytes_max, 0x21222324);
    cr_assert_eq(m.publishes_max, 0x31323334);
    cr_assert_eq(m.subscription_credit_min, 0x41424344);
}

Test(messages, error_carries_number_name_and_text)
{
    struct frame frame = decode("error");
    struct msg_error m;
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    cr_assert_eq(m.error, PE_UNKNOWN_TOPIC);
    cr_assert_not(m.retriable);
    assert_text(m.name, "UNKNOWN_TOPIC");
    assert_text(m.text, "topic \"ordres\": there is no such topic");
}

Test(messages, error_without_text_has_the_errors_own)
{
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, 1000);
    write_error(&w, PE_STORAGE_FULL, NULL);
    struct frame frame = {.op = OP_PING, .meta = w.start, .meta_length = writer_length(&w)};
    struct msg_error m;
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    cr_assert(m.retriable);
    assert_text(m.text, proto_error_text(PE_STORAGE_FULL));
}

/* A newer broker's error: its name tells what its number doesn't. */
Test(messages, error_with_an_unknown_number_is_understood)
{
    struct writer w = writer_make(bytes, 1000);
    write_u16(&w, 60000);
    write_u8(&w, 1);
    write_u8(&w, 0);
    write_text(&w, "QUOTA_EXCEEDED");
    write_text(&w, "later");
    struct frame frame = {.op = OP_PING, .meta = w.start, .meta_length = writer_length(&w)};
    struct msg_error m;
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    cr_assert_eq(m.error, 60000);
    cr_assert(m.retriable);
    assert_text(m.name, "QUOTA_EXCEEDED");
}

Test(messages, empty_ones_are_empty)
{
    static const char *const names[] = {"ping", "ping_reply", "subscribe_reply",
                                        "unsubscribe_reply", "status"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        struct frame frame = decode(names[i]);
        cr_assert_eq(read_empty(&frame), PE_NONE);
        frame.meta_length = 1;
        cr_assert_eq(read_empty(&frame), PE_MALFORMED);
        frame.meta_length = 0;
        frame.data_length = 1;
        cr_assert_eq(read_empty(&frame), PE_MALFORMED);
    }
}

Test(messages, metadata_by_names)
{
    struct frame frame = decode("metadata_names");
    struct msg_metadata m;
    cr_assert_eq(read_metadata(&frame, &m), PE_NONE);
    cr_assert_eq(m.name_count, 2);
    cr_assert_eq(m.after.len, 0);
    assert_text(read_string(&m.names), "orders");
    assert_text(read_string(&m.names), "payments");
    cr_assert(reader_is_done(&m.names));
}

Test(messages, metadata_of_all_behind_a_name)
{
    struct frame frame = decode("metadata_all");
    struct msg_metadata m;
    cr_assert_eq(read_metadata(&frame, &m), PE_NONE);
    cr_assert_eq(m.name_count, METADATA_ALL);
    assert_text(m.after, "orders");
    cr_assert(reader_is_done(&m.names));
}

Test(messages, metadata_reply)
{
    struct frame frame = decode("metadata_reply");
    struct msg_metadata_reply m;
    struct msg_metadata_topic topic;
    struct msg_setting setting;
    cr_assert_eq(read_metadata_reply(&frame, &m), PE_NONE);
    cr_assert_eq(m.topic_count, 2);
    cr_assert(m.more);
    read_metadata_topic(&m, &topic);
    cr_assert_eq(topic.error, PE_NONE);
    assert_text(topic.name, "orders");
    cr_assert_eq(topic.topic_id, ID_A);
    cr_assert_eq(topic.partition_count, 0x0506);
    cr_assert_eq(topic.created_ms, SAMPLE_TIME);
    cr_assert_eq(topic.settings.count, 2);
    read_setting(&topic.settings, &setting);
    assert_text(setting.key, "retention_ms");
    assert_text(setting.value, "7d");
    read_setting(&topic.settings, &setting);
    assert_text(setting.key, "validation");
    assert_text(setting.value, "records");
    read_metadata_topic(&m, &topic);
    cr_assert_eq(topic.error, PE_UNKNOWN_TOPIC);
    assert_text(topic.name, "ordres");
    cr_assert_eq(topic.settings.count, 0);
    cr_assert(reader_is_done(&m.topics));
}

Test(messages, topic_create_and_alter)
{
    struct frame frame = decode("topic_create");
    struct msg_topic_change m;
    struct msg_setting setting;
    cr_assert_eq(read_topic_change(&frame, &m), PE_NONE);
    assert_text(m.name, "orders");
    cr_assert_eq(m.partition_count, ID_A);
    cr_assert_eq(m.settings.count, 1);
    read_setting(&m.settings, &setting);
    assert_text(setting.key, "retention_bytes");
    assert_text(setting.value, "10GiB");
    frame = decode("topic_alter");
    cr_assert_eq(read_topic_change(&frame, &m), PE_NONE);
    cr_assert_eq(m.partition_count, 0);
    cr_assert_eq(m.settings.count, 0);
}

Test(messages, topic_delete_and_its_reply)
{
    struct frame frame = decode("topic_delete");
    struct slice name;
    cr_assert_eq(read_topic_delete(&frame, &name), PE_NONE);
    assert_text(name, "orders");
    frame = decode("topic_delete_reply");
    struct msg_topic_reply m;
    cr_assert_eq(read_topic_reply(&frame, &m), PE_NONE);
    cr_assert_eq(m.topic_id, ID_A);
}

Test(messages, producer_init)
{
    struct frame frame = decode("producer_init");
    struct msg_producer_init m;
    cr_assert_eq(read_producer_init(&frame, &m), PE_NONE);
    cr_assert_eq(m.producer_id, LONG_A);
    cr_assert_eq(m.epoch, 6);
    frame = decode("producer_init_reply");
    struct msg_producer_init_reply reply;
    cr_assert_eq(read_producer_init_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.producer_id, LONG_A);
    cr_assert_eq(reply.epoch, 7);
}

Test(messages, produce)
{
    struct frame frame = decode("produce");
    struct msg_produce m;
    uint32_t size = sample_batch_size();
    cr_assert_eq(read_produce(&frame, &m), PE_NONE);
    cr_assert_eq(m.batch_count, 2);
    cr_assert_eq(m.flags, 0);
    cr_assert_eq(m.coordinator, 0);
    cr_assert_eq(m.open_lsn, 0);
    cr_assert_eq(le32_get(m.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_A);
    cr_assert_eq(le32_get(m.items[1].topic_id), ID_B);
    cr_assert_eq(le32_get(m.items[1].partition), PARTITION_B);
    cr_assert_eq(le32_get(m.items[1].batch_bytes), size);
    cr_assert_eq(m.batches, frame.data);
    cr_assert(batch_is_intact(m.batches, size));
    cr_assert(batch_is_intact(m.batches + size, size));
}

Test(messages, produce_in_a_transaction_names_it)
{
    struct frame frame = decode("produce_staged");
    struct msg_produce m;
    cr_assert_eq(read_produce(&frame, &m), PE_NONE);
    cr_assert_eq(m.flags, PRODUCE_STAGED);
    cr_assert_eq(m.coordinator, 0x21222324);
    cr_assert_eq(m.open_lsn, 0x3132333435363738);
    cr_assert_eq(m.batch_count, 1);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_A);
}

Test(messages, produce_failure_has_a_result_for_each_batch)
{
    struct frame frame = decode("produce_failure");
    struct msg_produce_failure m;
    struct msg_produce_result result;
    cr_assert_eq(read_produce_failure(&frame, &m), PE_NONE);
    cr_assert_eq(m.first.error, PE_OUT_OF_ORDER_SEQUENCE);
    assert_text(m.first.name, "OUT_OF_ORDER_SEQUENCE");
    cr_assert_eq(m.batch_count, 2);
    read_produce_result(&m, &result);
    cr_assert_eq(result.error, PE_NONE);
    cr_assert_eq(result.base_offset, LONG_A);
    read_produce_result(&m, &result);
    cr_assert_eq(result.error, PE_OUT_OF_ORDER_SEQUENCE);
    cr_assert_eq(result.base_offset, UINT64_MAX);
    cr_assert(reader_is_done(&m.results));
}

Test(messages, produce_refused_as_a_whole_has_no_results)
{
    struct msg_produce_failure m = {.batch_count = 9};
    for (int round = 0; round < 2; round++) {
        struct writer w = writer_make(bytes, sizeof(bytes));
        if (round == 0)
            write_error(&w, PE_MALFORMED, NULL);
        else
            write_produce_failure_begin(&w, PE_MALFORMED, NULL, 0);
        struct frame frame = {.op = OP_PRODUCE, .meta = bytes, .meta_length = writer_length(&w)};
        cr_assert_eq(read_produce_failure(&frame, &m), PE_NONE);
        cr_assert_eq(m.first.error, PE_MALFORMED);
        cr_assert_eq(m.batch_count, 0);
    }
}

Test(messages, ack_with_offsets_that_rise_fall_and_reach_the_top)
{
    struct frame frame = decode("ack");
    struct msg_ack m;
    cr_assert_eq(read_ack(&frame, &m), PE_NONE);
    cr_assert_eq(m.first, 0x0102);
    cr_assert_eq(m.last, 0x0104);
    cr_assert_eq(m.shard, 0x21222324);
    cr_assert_eq(m.durable_lsn, 0x3132333435363738);
    cr_assert_eq(m.offset_count, 4);
    cr_assert_eq(read_ack_offset(&m), 1000);
    cr_assert_eq(read_ack_offset(&m), 70000);
    cr_assert_eq(read_ack_offset(&m), 5);
    cr_assert_eq(read_ack_offset(&m), UINT64_C(1) << 63);
    cr_assert(reader_is_done(&m.offsets));
}

Test(messages, fetch)
{
    struct frame frame = decode("fetch");
    struct msg_fetch m;
    cr_assert_eq(read_fetch(&frame, &m), PE_NONE);
    cr_assert_eq(m.bytes_max, 0x01020304);
    cr_assert_eq(m.wait_ms, 0x0506);
    cr_assert_eq(m.item_count, 2);
    cr_assert_eq(le32_get(m.items[0].topic_id), ID_B);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_B);
    cr_assert_eq(m.items[0].start, START_OFFSET);
    cr_assert_eq(le32_get(m.items[0].bytes_max), 0x21222324);
    cr_assert_eq(le64_get(m.items[0].value), 0x3132333435363738);
    cr_assert_eq(m.items[1].start, START_TIMESTAMP);
    cr_assert_eq(le64_get(m.items[1].value), SAMPLE_TIME);
}

Test(messages, subscribe)
{
    struct frame frame = decode("subscribe");
    struct msg_fetch m;
    cr_assert_eq(read_fetch(&frame, &m), PE_NONE);
    cr_assert_eq(m.credit, LONG_A);
    cr_assert_eq(m.item_count, 1);
    cr_assert_eq(m.items[0].start, START_BEGINNING);
}

Test(messages, deliver_and_fetch_reply)
{
    struct frame frame = decode("deliver");
    struct msg_deliver m;
    cr_assert_eq(read_deliver(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, 2);
    cr_assert_eq(le32_get(m.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(m.items[0].partition), PARTITION_A);
    cr_assert_eq(le16_get(m.items[0].error), PE_NONE);
    cr_assert_eq(le16_get(m.items[0].flags), DELIVER_END);
    cr_assert_eq(le32_get(m.items[0].bytes), 2 * sample_batch_size());
    cr_assert_eq(le64_get(m.items[0].next_offset), LONG_B);
    cr_assert_eq(le64_get(m.items[0].log_start), 0x2122232425262728);
    cr_assert_eq(le64_get(m.items[0].visible_end), 0x3132333435363738);
    cr_assert_eq(le16_get(m.items[1].error), PE_OFFSET_OUT_OF_RANGE);
    cr_assert_eq(m.batches, frame.data);
    frame = decode("fetch_reply");
    cr_assert_eq(read_deliver(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, 1);
}

Test(messages, an_empty_fetch_reply_is_allowed)
{
    struct writer w = writer_make(bytes, sizeof(bytes));
    write_deliver_begin(&w, 0);
    cr_assert_eq(writer_length(&w), DELIVER_META_FIXED);
    struct frame frame = {.op = OP_FETCH, .meta = bytes, .meta_length = writer_length(&w)};
    struct msg_deliver m;
    cr_assert_eq(read_deliver(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, 0);
}

Test(messages, credit_and_unsubscribe)
{
    struct frame frame = decode("credit");
    struct msg_credit m;
    cr_assert_eq(read_credit(&frame, &m), PE_NONE);
    cr_assert_eq(m.subscription, LONG_A);
    cr_assert_eq(m.bytes, LONG_B);
    frame = decode("unsubscribe");
    cr_assert_eq(read_credit(&frame, &m), PE_NONE);
    cr_assert_eq(m.subscription, LONG_A);
    cr_assert_eq(m.bytes, 0);
}

Test(messages, offsets)
{
    struct frame frame = decode("offsets");
    struct msg_offsets m;
    cr_assert_eq(read_offsets(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, 2);
    cr_assert_eq(m.items[0].start, START_END);
    cr_assert_eq(m.items[1].start, START_TIMESTAMP);
    cr_assert_eq(le64_get(m.items[1].value), SAMPLE_TIME);
    frame = decode("offsets_reply");
    struct msg_offsets_reply reply;
    cr_assert_eq(read_offsets_reply(&frame, &reply), PE_NONE);
    cr_assert_eq(reply.item_count, 1);
    cr_assert_eq(le32_get(reply.items[0].topic_id), ID_A);
    cr_assert_eq(le32_get(reply.items[0].partition), PARTITION_A);
    cr_assert_eq(le16_get(reply.items[0].error), PE_NOT_READY);
    cr_assert_eq(le64_get(reply.items[0].offset), LONG_B);
    cr_assert_eq(le64_get(reply.items[0].timestamp_ms), UINT64_MAX);
}

Test(messages, status_reply)
{
    struct frame frame = decode("status_reply");
    struct msg_status_reply m;
    struct slice name;
    uint64_t value;
    cr_assert_eq(read_status_reply(&frame, &m), PE_NONE);
    cr_assert(m.ready);
    cr_assert_not(m.can_produce);
    cr_assert(m.can_consume);
    assert_text(m.reason, "the disk is full");
    cr_assert_eq(m.value_count, 2);
    read_status_value(&m, &name, &value);
    assert_text(name, "uptime_ms");
    cr_assert_eq(value, LONG_A);
    read_status_value(&m, &name, &value);
    assert_text(name, "connections");
    cr_assert_eq(value, 12);
}

Test(messages, goaway)
{
    struct frame frame = decode("goaway");
    struct msg_goaway m;
    cr_assert_eq(read_goaway(&frame, &m), PE_NONE);
    cr_assert_eq(m.deadline_ms, 30000);
    assert_text(m.reason, "draining");
}
