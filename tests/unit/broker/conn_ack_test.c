/* From the shards' answers about publishes to ACK frames and failures; splits over shards. */
#include "conn_fixture.h"

/* ---- acks ---- */

Test(conn_ack, answers_of_one_turn_are_one_ack_whatever_their_order)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    send_apart(rig, &client, 4);
    struct request *requests[4];
    for (int i = 0; i < 4; i++)
        requests[i] = rig_take(rig);
    static const int order[] = {2, 0, 3, 1};
    for (int i = 0; i < 4; i++)
        rig_answer_produce(rig, requests[order[i]], 0, 0);
    expect_ack(rig, &client, 1, 4);
    client_close(&client);
    rig_free(rig);
}

Test(conn_ack, a_publish_does_not_wait_for_the_one_before_it)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    send_apart(rig, &client, 3);
    struct request *first = rig_take(rig), *second = rig_take(rig), *third = rig_take(rig);
    rig_answer_produce(rig, third, 0, 0);
    rig_answer_produce(rig, first, 0, 0);
    expect_ack(rig, &client, 1, 1);
    expect_ack(rig, &client, 3, 3);
    rig_answer_produce(rig, second, 0, 0);
    expect_ack(rig, &client, 2, 2);
    client_close(&client);
    rig_free(rig);
}

Test(conn_ack, a_refused_publish_of_a_run_has_a_frame_of_its_own)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_produce_failure m;
    struct msg_produce_result result;
    uint32_t partitions[] = {0, 0, 0};
    wire_produce_one(&wire, 1, 10);
    wire_produce_one(&wire, 2, 10);
    wire_produce(&wire, 3, partitions, 3, 10);
    wire_produce_one(&wire, 4, 10);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    cr_assert_eq(request->frame_count, 4);
    strcpy(request->text, "because");
    rig_answer_produce(rig, request, 3, PE_UNKNOWN_PARTITION);
    expect_ack(rig, &client, 1, 2);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.op, OP_PRODUCE);
    cr_assert_eq(frame.flags, FRAME_REPLY | FRAME_ERROR);
    cr_assert_eq(frame.correlation, 3);
    cr_assert_eq(read_produce_failure(&frame, &m), PE_NONE);
    cr_assert_eq(m.first.error, PE_UNKNOWN_PARTITION);
    cr_assert(slice_equals(m.first.text, slice_of_text("because")));
    cr_assert_eq(m.batch_count, 3);
    for (uint64_t i = 0; i < 3; i++) {
        read_produce_result(&m, &result);
        cr_assert_eq(result.error, PE_UNKNOWN_PARTITION);
        cr_assert_eq(result.base_offset, 3000 + i);
    }
    expect_ack(rig, &client, 4, 4);
    finish(rig, &client, &wire);
}

Test(conn_ack, the_ack_of_4096_batches_fits)
{
    static uint32_t partitions[PRODUCE_BATCH_COUNT_MAX];
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_ack ack;
    wire_produce_one(&wire, 1, 10);
    wire_produce(&wire, 2, partitions, PRODUCE_BATCH_COUNT_MAX, 10);
    wire_produce_one(&wire, 3, 10);
    send_wire(rig, &client, &wire);
    for (uint32_t publishes = 0; publishes < 3;) {
        struct request *request = rig_take(rig);
        publishes += request->frame_count;
        rig_answer_produce(rig, request, 0, 0);
    }
    uint64_t next = 1, batches = 0;
    while (next <= 3) {
        cr_assert(client_next(rig, &client, &frame));
        cr_assert_eq(read_ack(&frame, &ack), PE_NONE);
        cr_assert_eq(ack.first, next);
        next = ack.last + 1;
        batches += ack.offset_count;
    }
    cr_assert_eq(batches, PRODUCE_BATCH_COUNT_MAX + 2);
    finish(rig, &client, &wire);
}

Test(conn_ack, values_that_a_publish_must_not_have_are_answered_and_its_number_is_used)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_produce_failure m;
    struct writer w = wire_meta(&wire);
    write_produce_begin(&w, 0, 0); // no batch
    wire_seal(&wire, &w, OP_PRODUCE, 0, 1, NULL, 0);
    wire_produce_one(&wire, 2, 10);
    send_wire(rig, &client, &wire);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.correlation, 1);
    cr_assert_eq(read_produce_failure(&frame, &m), PE_NONE);
    cr_assert_eq(m.first.error, PE_INVALID_ARGUMENT);
    cr_assert_eq(m.batch_count, 0);
    rig_answer_produce(rig, rig_take(rig), 0, 0);
    expect_ack(rig, &client, 2, 2);
    finish(rig, &client, &wire);
}

/* ---- staged ---- */

/* Its items lie behind the transaction's name, where dispatch, shard and ack have to find them. */
static void wire_produce_staged(struct wire *wire, uint64_t number)
{
    struct writer w = wire_meta(wire);
    write_produce_begin(&w, 1, PRODUCE_STAGED);
    write_produce_staged(&w, 0, 4096);
    write_produce_item(&w, 1, 0, 4);
    wire_seal(wire, &w, OP_PRODUCE, 0, number, "data", 4);
}

static struct produce_outcome *staged_outcome(const struct request *request)
{
    return (struct produce_outcome *)(request->frames + FRAME_HEADER_SIZE + PRODUCE_META_FIXED +
                                      sizeof(struct disk_txn_name));
}

Test(conn_ack, what_is_staged_is_a_request_of_its_own_between_runs)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct request *requests[3];
    wire_produce_one(&wire, 1, 10);
    wire_produce_one(&wire, 2, 10);
    wire_produce_staged(&wire, 3);
    wire_produce_one(&wire, 4, 10);
    send_wire(rig, &client, &wire);
    for (int i = 0; i < 3; i++)
        requests[i] = rig_take(rig);
    cr_assert_eq(requests[0]->frame_count, 2);
    cr_assert_eq(requests[1]->frame_count, 1);
    cr_assert_eq(le32_get(staged_outcome(requests[1])->batch_bytes), 4);
    cr_assert_eq(le16_get(staged_outcome(requests[1])->error), PE_NONE);
    rig_answer_produce(rig, requests[0], 0, 0);
    staged_outcome(requests[1])->base_offset = le64_make(3000); // what expect_ack() wants
    rig_reply(rig, requests[1]);
    rig_answer_produce(rig, requests[2], 0, 0);
    expect_ack(rig, &client, 1, 4);
    finish(rig, &client, &wire);
}

Test(conn_ack, a_staged_publish_that_failed_has_a_frame_of_its_own)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_produce_failure m;
    struct msg_produce_result result;
    wire_produce_staged(&wire, 1);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    staged_outcome(request)->error = le16_make(PE_UNKNOWN_TRANSACTION);
    request->error = PE_UNKNOWN_TRANSACTION;
    rig_reply(rig, request);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.correlation, 1);
    cr_assert_eq(read_produce_failure(&frame, &m), PE_NONE);
    cr_assert_eq(m.batch_count, 1);
    read_produce_result(&m, &result);
    cr_assert_eq(result.error, PE_UNKNOWN_TRANSACTION);
    finish(rig, &client, &wire);
}

/* ---- several shards ---- */

Test(conn_ack, a_publish_over_several_shards_is_acked_when_the_last_has_answered)
{
    struct rig *rig = rig_new(3);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_ack ack;
    uint32_t partitions[3];
    partitions_of_shards(rig, partitions);
    uint32_t mixed[] = {partitions[1], partitions[0], partitions[2], partitions[1]};
    wire_produce(&wire, 1, mixed, 4, 30);
    send_wire(rig, &client, &wire);
    struct request *children[3];
    for (int i = 0; i < 3; i++) {
        children[i] = rig_take(rig);
        cr_assert_eq(children[i]->shard, i);
        cr_assert_eq(children[i]->frames, children[0]->frames);
    }
    rig_answer_produce(rig, children[2], 0, 0);
    rig_answer_produce(rig, children[0], 0, 0);
    rig_turns(rig, 5);
    client_recv(&client);
    cr_assert_eq(client.in_bytes, client.in_taken, "answered too early");
    rig_answer_produce(rig, children[1], 0, 0);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(read_ack(&frame, &ack), PE_NONE);
    cr_assert_eq(ack.shard, UINT32_MAX);
    cr_assert_eq(ack.offset_count, 4);
    for (uint64_t i = 0; i < 4; i++)
        cr_assert_eq(read_ack_offset(&ack), 1000 + i);
    finish(rig, &client, &wire);
}

Test(conn_ack, publishes_to_different_shards_are_different_requests)
{
    struct rig *rig = rig_new(2);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t partitions[2];
    partitions_of_shards(rig, partitions);
    static const int shards[] = {0, 0, 1, 0};
    for (uint64_t number = 1; number <= 4; number++)
        wire_produce(&wire, number, &partitions[shards[number - 1]], 1, 30);
    send_wire(rig, &client, &wire);
    static const uint32_t counts[] = {2, 1, 1};
    for (int i = 0; i < 3; i++) {
        struct request *request = rig_take(rig);
        cr_assert_eq(request->frame_count, counts[i]);
        rig_answer_produce(rig, request, 0, 0);
    }
    finish(rig, &client, &wire);
}

/* As handle_offsets(): offset = 100 * partition + shard. */
static void answer_offsets(struct rig *rig, struct request *request)
{
    struct frame frame;
    struct msg_offsets m;
    cr_assert_eq(frame_decode(request->frames, &frame), PE_NONE);
    cr_assert_eq(read_offsets(&frame, &m), PE_NONE);
    uint8_t *bytes = request->reply->bytes;
    struct writer w =
        writer_make(bytes + FRAME_HEADER_SIZE, request->reply->capacity - FRAME_HEADER_SIZE);
    write_offsets_begin(&w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        uint32_t partition = le32_get(m.items[i].partition);
        cr_assert_eq(shard_of_partition(rig->broker->slot_shard, 1, partition), request->shard);
        struct offsets_item item = {
            .topic_id = m.items[i].topic_id,
            .partition = m.items[i].partition,
            .offset = le64_make(100 * partition + request->shard),
        };
        write_bytes(&w, &item, sizeof(item));
    }
    cr_assert(!w.failed);
    request->reply_bytes =
        frame_seal(bytes, OP_OFFSETS, FRAME_REPLY, request->correlation, writer_length(&w), 0);
    rig_reply(rig, request);
}

Test(conn_ack, offsets_over_several_shards_come_back_in_the_order_asked_for)
{
    struct rig *rig = rig_new(3);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_offsets_reply m;
    uint32_t partitions[2000];
    for (uint32_t i = 0; i < ARRAY_COUNT(partitions); i++)
        partitions[i] = (i * 7919) % 5000;
    wire_offsets(&wire, 5, partitions, ARRAY_COUNT(partitions));
    send_wire(rig, &client, &wire);
    struct request *children[3];
    for (int i = 0; i < 3; i++)
        children[i] = rig_take(rig);
    for (int i = 2; i >= 0; i--)
        answer_offsets(rig, children[i]);
    expect_reply(rig, &client, OP_OFFSETS, 5, &frame);
    cr_assert_eq(read_offsets_reply(&frame, &m), PE_NONE);
    cr_assert_eq(m.item_count, ARRAY_COUNT(partitions));
    for (uint32_t i = 0; i < m.item_count; i++) {
        uint16_t shard = shard_of_partition(rig->broker->slot_shard, 1, partitions[i]);
        cr_assert_eq(le32_get(m.items[i].partition), partitions[i]);
        cr_assert_eq(le64_get(m.items[i].offset), 100 * partitions[i] + shard);
    }
    finish(rig, &client, &wire);
}

Test(conn_ack, one_shard_s_error_is_the_error_of_offsets_over_several)
{
    struct rig *rig = rig_new(2);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t partitions[2];
    partitions_of_shards(rig, partitions);
    wire_offsets(&wire, 5, partitions, 2);
    send_wire(rig, &client, &wire);
    struct request *first = rig_take(rig), *second = rig_take(rig);
    answer_offsets(rig, first);
    second->error = PE_OVERLOADED;
    rig_reply(rig, second);
    cr_assert_eq(expect_error(rig, &client, OP_OFFSETS), PE_OVERLOADED);
    finish(rig, &client, &wire);
}
