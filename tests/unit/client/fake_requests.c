/* The fake broker's answers to HELLO, to what is about topics, and to PRODUCE. */
#include "tests/unit/client/fake_private.h"

void fake_on_hello(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame)
{
    struct msg_hello hello;
    ASSERT(read_hello(frame, &hello) == PE_NONE);
    if (broker->options.hello_error != PE_NONE) {
        fake_send_error(broker, conn, frame, broker->options.hello_error);
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
    struct writer w = fake_begin(broker);
    write_hello_reply(&w, &reply);
    conn->greeted = true;
    fake_send_frame(broker, conn, OP_HELLO, FRAME_REPLY, frame->correlation, &w, 0);
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

void fake_on_metadata(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                      struct writer *w)
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

void fake_on_topic(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
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
        fake_send_error(broker, conn, frame, error);
        return;
    }
    struct writer w = fake_begin(broker);
    write_topic_reply(&w, &reply);
    fake_send_frame(broker, conn, frame->op, FRAME_REPLY, frame->correlation, &w, 0);
}

void fake_on_producer_init(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_producer_init init;
    ASSERT(read_producer_init(frame, &init) == PE_NONE);
    struct msg_producer_init_reply reply = {.producer_id = init.producer_id,
                                            .epoch = (uint16_t)(init.epoch + 1)};
    if (init.producer_id == PRODUCER_NONE)
        reply = (struct msg_producer_init_reply){.producer_id = ++broker->store.producer_ids};
    write_producer_init_reply(w, &reply);
}

static uint16_t stage(struct fake_broker *broker, const struct msg_produce *m, uint32_t i,
                      struct fake_partition *partition, const uint8_t *bytes, uint64_t *offset)
{
    struct batch_info info;
    bool is_new;
    struct fake_txn *txn = fake_txn_open(&broker->txns, m->open_lsn);
    if (!txn)
        return PE_UNKNOWN_TRANSACTION;
    if (txn->state != TXN_STATE_OPEN)
        return PE_TRANSACTION_PREPARED;
    uint16_t error = fake_store_stage(&broker->store, partition, bytes,
                                      le32_get(m->items[i].batch_bytes), &info, &is_new);
    if (error == PE_NONE &&
        (info.producer_id != txn->producer_id || info.producer_epoch < txn->epoch))
        error = PE_FENCED_PRODUCER;
    if (error == PE_NONE && is_new)
        fake_txn_stage(txn, le32_get(m->items[i].topic_id), le32_get(m->items[i].partition), bytes,
                       &info);
    *offset = FAKE_OFFSET_STAGED;
    return error;
}

static void count_in_flight(struct fake_broker *broker, const struct msg_produce *m)
{
    uint32_t same = 0;
    for (uint32_t i = 0; i < m->batch_count; i++)
        same += le32_get(m->items[i].partition) == le32_get(m->items[0].partition);
    if (same > broker->in_flight_max)
        broker->in_flight_max = same;
}

void fake_on_produce(struct fake_broker *broker, struct fake_conn *conn, const struct frame *frame,
                     bool silent)
{
    static struct msg_produce_result results[PRODUCE_BATCH_COUNT_MAX];
    struct msg_produce m;
    ASSERT(read_produce(frame, &m) == PE_NONE);
    if (frame->correlation != conn->publish + 1) {
        fake_send_error(broker, conn, frame, PE_NOT_CONTIGUOUS);
        fake_close_conn(conn);
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
        if (partition && m.flags & PRODUCE_STAGED)
            result->error = stage(broker, &m, i, partition, bytes, &result->base_offset);
        else if (partition)
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
            fake_flush_ack(broker, conn);
        if (conn->ack_count == 0)
            conn->ack_first = frame->correlation;
        conn->ack_last = frame->correlation;
        for (uint32_t i = 0; i < m.batch_count; i++)
            conn->ack_offsets[conn->ack_count++] = results[i].base_offset;
        return;
    }
    fake_flush_ack(broker, conn);
    struct writer w = fake_begin(broker);
    write_produce_failure_begin(&w, first_error, NULL, m.batch_count);
    for (uint32_t i = 0; i < m.batch_count; i++)
        write_produce_result(&w, &results[i]);
    fake_send_frame(broker, conn, OP_PRODUCE, FRAME_REPLY | FRAME_ERROR, frame->correlation, &w, 0);
}

void fake_flush_ack(struct fake_broker *broker, struct fake_conn *conn)
{
    if (conn->ack_count == 0 || conn->fd < 0)
        return;
    struct writer w = fake_begin(broker);
    write_ack_begin(&w, conn->ack_first, conn->ack_last, 0, 1, conn->ack_count);
    uint64_t before = 0;
    for (uint32_t i = 0; i < conn->ack_count; i++) {
        write_zigzag(&w, (int64_t)(conn->ack_offsets[i] - before));
        before = conn->ack_offsets[i];
    }
    conn->ack_count = 0;
    fake_send_frame(broker, conn, OP_ACK, FRAME_PUSH, 0, &w, 0);
}
