/* From answers to bytes: acks, failures, deliveries, splits over shards, limits, ends. */
#include "rig.h"

static void send_wire(struct rig *rig, struct client *client, struct wire *wire)
{
    client_send(rig, client, wire->bytes, wire->length);
    wire->length = 0;
}

static void expect_ack(struct rig *rig, struct client *client, uint64_t first, uint64_t last)
{
    struct frame frame;
    struct msg_ack ack;
    cr_assert(client_next(rig, client, &frame));
    cr_assert_eq(frame.op, OP_ACK, "%s came", op_name(frame.op));
    cr_assert_eq(read_ack(&frame, &ack), PE_NONE);
    cr_assert_eq(ack.first, first, "%lu", ack.first);
    cr_assert_eq(ack.last, last, "%lu", ack.last);
    for (uint64_t number = first; number <= last; number++)
        cr_assert_eq(read_ack_offset(&ack), number * 1000);
}

static void expect_reply(struct rig *rig, struct client *client, uint16_t op, uint64_t correlation,
                         struct frame *frame)
{
    cr_assert(client_next(rig, client, frame));
    cr_assert_eq(frame->op, op, "%s came", op_name(frame->op));
    cr_assert_eq(frame->flags, FRAME_REPLY);
    cr_assert_eq(frame->correlation, correlation);
}

static uint16_t expect_error(struct rig *rig, struct client *client, uint16_t op)
{
    struct frame frame;
    struct msg_error m;
    cr_assert(client_next(rig, client, &frame));
    cr_assert_eq(frame.op, op, "%s came", op_name(frame.op));
    cr_assert_eq(frame.flags, FRAME_REPLY | FRAME_ERROR);
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    return m.error;
}

/* Two publishes in requests of their own: something between them ends the run. */
static void send_apart(struct rig *rig, struct client *client, uint64_t count)
{
    struct wire wire = wire_new();
    struct frame frame;
    for (uint64_t number = 1; number <= count; number++) {
        wire_produce_one(&wire, number, 50);
        wire_empty(&wire, OP_PING, number);
    }
    send_wire(rig, client, &wire);
    for (uint64_t number = 1; number <= count; number++)
        expect_reply(rig, client, OP_PING, number, &frame);
    free(wire.bytes);
}

/* ---- acks ---- */

Test(conn_reply, answers_of_one_turn_are_one_ack_whatever_their_order)
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

Test(conn_reply, a_publish_does_not_wait_for_the_one_before_it)
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

Test(conn_reply, a_refused_publish_of_a_run_has_a_frame_of_its_own)
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
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, the_ack_of_4096_batches_fits)
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
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, values_that_a_publish_must_not_have_are_answered_and_its_number_is_used)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_produce_failure m;
    struct writer w = wire_meta(&wire);
    write_produce_begin(&w, 0, 0); // no batch
    wire_seal(&wire, &w, OP_PRODUCE, 0, 1, NULL, 0);
    w = wire_meta(&wire);
    write_produce_begin(&w, 1, PRODUCE_STAGED);
    write_produce_staged(&w, 0, 1);
    write_produce_item(&w, 1, 0, 4);
    wire_seal(&wire, &w, OP_PRODUCE, 0, 2, "data", 4);
    wire_produce_one(&wire, 3, 10);
    send_wire(rig, &client, &wire);
    for (uint64_t number = 1; number <= 2; number++) {
        cr_assert(client_next(rig, &client, &frame));
        cr_assert_eq(frame.correlation, number);
        cr_assert_eq(read_produce_failure(&frame, &m), PE_NONE);
        cr_assert_eq(m.first.error, PE_INVALID_ARGUMENT);
        cr_assert_eq(m.batch_count, number - 1);
    }
    rig_answer_produce(rig, rig_take(rig), 0, 0);
    expect_ack(rig, &client, 3, 3);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

/* ---- several shards ---- */

/* Partitions of topic 1, one for each shard. */
static void partitions_of_shards(const struct rig *rig, uint32_t *partitions)
{
    uint64_t found = 0, all = ((uint64_t)1 << rig->broker->shard_count) - 1;
    for (uint32_t partition = 0; found != all; partition++) {
        uint16_t shard = shard_of_partition(rig->broker->slot_shard, 1, partition);
        if (!(found & ((uint64_t)1 << shard)))
            partitions[shard] = partition;
        found |= (uint64_t)1 << shard;
    }
}

Test(conn_reply, a_publish_over_several_shards_is_acked_when_the_last_has_answered)
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
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, publishes_to_different_shards_are_different_requests)
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
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

static void wire_offsets(struct wire *wire, uint64_t correlation, const uint32_t *partitions,
                         uint32_t count)
{
    struct writer w = wire_meta(wire);
    write_offsets_begin(&w, count);
    for (uint32_t i = 0; i < count; i++)
        write_fetch_item(&w, 1, partitions[i], START_END, 0, 0);
    wire_seal(wire, &w, OP_OFFSETS, 0, correlation, NULL, 0);
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

Test(conn_reply, offsets_over_several_shards_come_back_in_the_order_asked_for)
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
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, one_shard_s_error_is_the_error_of_offsets_over_several)
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
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

static struct conn *only_conn(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->core->conns.slot_count; i++) {
        if (rig->core->conns.slots[i].phase != CONN_FREE)
            return &rig->core->conns.slots[i];
    }
    cr_assert_fail("no connection");
    return NULL;
}

/* ---- subscriptions ---- */

static void wire_fetch(struct wire *wire, uint16_t op, uint64_t correlation, uint64_t credit,
                       const uint32_t *partitions, uint32_t count)
{
    struct writer w = wire_meta(wire);
    write_fetch_begin(&w, 1 << 20, 0, credit, count);
    for (uint32_t i = 0; i < count; i++)
        write_fetch_item(&w, 1, partitions[i], START_BEGINNING, 0, 0);
    wire_seal(wire, &w, op, 0, correlation, NULL, 0);
}

static void wire_credit(struct wire *wire, uint16_t op, uint64_t subscription, uint64_t bytes)
{
    struct msg_credit m = {.subscription = subscription, .bytes = bytes};
    struct writer w = wire_meta(wire);
    write_credit(&w, &m);
    wire_seal(wire, &w, op, 0, 77, NULL, 0);
}

/* As a shard: a buffer with one DELIVER frame of that many bytes of meta. */
static struct request *deliver(struct rig *rig, struct conn_id conn, uint16_t shard,
                               uint64_t subscription, uint32_t bytes)
{
    struct request *request = calloc(1, sizeof(*request));
    request->buffer = calloc(1, sizeof(struct buffer) + FRAME_HEADER_SIZE + bytes);
    request->buffer->bytes = (uint8_t *)(request->buffer + 1);
    list_init(&request->link);
    request->magic = REQUEST_MAGIC;
    request->kind = REQUEST_DELIVER;
    request->origin_core = SHARD_CORE;
    request->target_core = 0;
    request->shard = shard;
    request->conn = conn;
    request->frames = request->buffer->bytes;
    request->frame_count = 1;
    request->u.deliver.subscription = subscription;
    request->frame_bytes =
        frame_seal(request->frames, OP_DELIVER, FRAME_PUSH, subscription, bytes, 0);
    cr_assert_eq(mailbox_send(&rig->shard, request), 0);
    return request;
}

static uint64_t credit_of(const struct request *request)
{
    struct frame frame;
    struct msg_credit m;
    cr_assert_eq(request->op, OP_CREDIT);
    cr_assert_eq(frame_decode(request->frames, &frame), PE_NONE);
    cr_assert_eq(read_credit(&frame, &m), PE_NONE);
    return m.bytes;
}

Test(conn_reply, deliveries_before_the_answer_to_subscribe_go_out_behind_it)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partition, 1);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    (void)deliver(rig, request->conn, 0, 9, 100);
    rig_turns(rig, 5);
    client_recv(&client);
    cr_assert_eq(client.in_bytes, client.in_taken);
    rig_reply(rig, request);
    expect_reply(rig, &client, OP_SUBSCRIBE, 9, &frame);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.op, OP_DELIVER);
    cr_assert_eq(frame.length, FRAME_HEADER_SIZE + 100);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, deliveries_of_a_subscription_that_ended_go_home_unsent)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partition, 1);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    struct conn_id id = request->conn;
    rig_reply(rig, request);
    expect_reply(rig, &client, OP_SUBSCRIBE, 9, &frame);
    wire_credit(&wire, OP_UNSUBSCRIBE, 9, 0);
    send_wire(rig, &client, &wire);
    rig_reply(rig, rig_take(rig));
    expect_reply(rig, &client, OP_UNSUBSCRIBE, 77, &frame);
    (void)deliver(rig, id, 0, 9, 100);
    rig_turns(rig, 10);
    client_recv(&client);
    cr_assert_eq(client.in_bytes, client.in_taken);
    cr_assert_eq(mailbox_credits(&rig->shard, 0), MESH_RING_SLOTS,
                 "the delivery did not come home");
    wire_credit(&wire, OP_UNSUBSCRIBE, 9, 0);
    send_wire(rig, &client, &wire);
    cr_assert_eq(expect_error(rig, &client, OP_UNSUBSCRIBE), PE_UNKNOWN_SUBSCRIPTION);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

/* The answer goes out in the first lane, the deliveries wait in the second. */
Test(conn_reply, no_delivery_goes_out_behind_the_answer_to_unsubscribe)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partition, 1);
    wire_fetch(&wire, OP_SUBSCRIBE, 10, 1000, &partition, 1);
    send_wire(rig, &client, &wire);
    struct conn_id id = {0};
    for (uint64_t n = 9; n <= 10; n++) {
        struct request *request = rig_take(rig);
        id = request->conn;
        rig_reply(rig, request);
        expect_reply(rig, &client, OP_SUBSCRIBE, n, &frame);
    }
    for (int i = 0; i < 4; i++) { // the first fills the socket, the others stand behind it
        (void)deliver(rig, id, 0, 9, 2 << 20);
        (void)deliver(rig, id, 0, 10, 100);
    }
    rig_turns(rig, 20);
    wire_credit(&wire, OP_UNSUBSCRIBE, 9, 0);
    send_wire(rig, &client, &wire);
    rig_reply(rig, rig_take(rig));
    rig_turns(rig, 20);
    bool is_over = false;
    for (uint32_t others = 0; others < 4 || !is_over;) {
        cr_assert(client_next(rig, &client, &frame));
        if (frame.op == OP_UNSUBSCRIBE) {
            is_over = true;
            continue;
        }
        cr_assert_eq(frame.op, OP_DELIVER);
        cr_assert(frame.correlation == 10 || !is_over, "a delivery behind the end");
        others += frame.correlation == 10;
    }
    cr_assert_eq(mailbox_credits(&rig->shard, 0), MESH_RING_SLOTS);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, credit_over_several_shards_goes_to_those_that_delivered)
{
    struct rig *rig = rig_new(2);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_fetch m;
    uint32_t partitions[2];
    partitions_of_shards(rig, partitions);
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, partitions, 2);
    send_wire(rig, &client, &wire);
    struct conn_id id = {0};
    for (int i = 0; i < 2; i++) {
        struct request *child = rig_take(rig);
        id = child->conn;
        cr_assert_eq(frame_decode(child->frames, &frame), PE_NONE);
        cr_assert_eq(read_fetch(&frame, &m), PE_NONE);
        cr_assert_eq(m.credit, 500);
        cr_assert_eq(m.item_count, 1);
        cr_assert_eq(le32_get(m.items[0].partition), partitions[child->shard]);
        rig_reply(rig, child);
    }
    expect_reply(rig, &client, OP_SUBSCRIBE, 9, &frame);
    (void)deliver(rig, id, 1, 9, 300 - FRAME_HEADER_SIZE);
    cr_assert(client_next(rig, &client, &frame));
    wire_credit(&wire, OP_CREDIT, 9, 200); // all of it to the one that delivered
    send_wire(rig, &client, &wire);
    struct request *credit = rig_take(rig);
    cr_assert_eq(credit->shard, 1);
    cr_assert_eq(credit_of(credit), 200);
    rig_reply(rig, credit);
    wire_credit(&wire, OP_CREDIT, 9, 400); // 100 owed, the rest in equal parts
    send_wire(rig, &client, &wire);
    credit = rig_take(rig);
    cr_assert_eq(credit->shard, 0);
    cr_assert_eq(credit_of(credit), 150);
    rig_reply(rig, credit);
    credit = rig_take(rig);
    cr_assert_eq(credit_of(credit), 250);
    rig_reply(rig, credit);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_subscribe_that_one_shard_refuses_is_taken_back_at_the_others)
{
    struct rig *rig = rig_new(3);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t partitions[3];
    partitions_of_shards(rig, partitions);
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 999, partitions, 3);
    send_wire(rig, &client, &wire);
    struct request *children[3];
    for (int i = 0; i < 3; i++)
        children[i] = rig_take(rig);
    rig_reply(rig, children[0]);
    children[1]->error = PE_OFFSET_OUT_OF_RANGE;
    rig_reply(rig, children[1]);
    rig_reply(rig, children[2]);
    cr_assert_eq(expect_error(rig, &client, OP_SUBSCRIBE), PE_OFFSET_OUT_OF_RANGE);
    uint64_t taken_back = 0;
    for (int i = 0; i < 2; i++) {
        struct request *request = rig_take(rig);
        struct frame frame;
        struct msg_credit m;
        cr_assert_eq(request->op, OP_UNSUBSCRIBE);
        cr_assert_eq(frame_decode(request->frames, &frame), PE_NONE);
        cr_assert_eq(read_credit(&frame, &m), PE_NONE);
        cr_assert_eq(m.subscription, 9);
        taken_back |= (uint64_t)1 << request->shard;
        rig_reply(rig, request);
    }
    cr_assert_eq(taken_back, 5);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_connection_has_at_most_16_subscriptions)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    for (uint64_t id = 1; id <= CONN_SUBSCRIPTIONS_MAX; id++) {
        wire_fetch(&wire, OP_SUBSCRIBE, id, 1000, &partition, 1);
        send_wire(rig, &client, &wire);
        rig_reply(rig, rig_take(rig));
        expect_reply(rig, &client, OP_SUBSCRIBE, id, &frame);
    }
    wire_fetch(&wire, OP_SUBSCRIBE, 17, 1000, &partition, 1);
    wire_fetch(&wire, OP_SUBSCRIBE, 3, 1000, &partition, 1);
    wire_fetch(&wire, OP_SUBSCRIBE, 0, 1000, &partition, 1);
    send_wire(rig, &client, &wire);
    cr_assert_eq(expect_error(rig, &client, OP_SUBSCRIBE), PE_LIMIT_REACHED);
    cr_assert_eq(expect_error(rig, &client, OP_SUBSCRIBE), PE_INVALID_ARGUMENT);
    cr_assert_eq(expect_error(rig, &client, OP_SUBSCRIBE), PE_INVALID_ARGUMENT);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_fetch_over_several_shards_is_refused_with_a_hint)
{
    struct rig *rig = rig_new(2);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t partitions[2];
    partitions_of_shards(rig, partitions);
    wire_fetch(&wire, OP_FETCH, 4, 0, partitions, 2);
    send_wire(rig, &client, &wire);
    cr_assert_eq(expect_error(rig, &client, OP_FETCH), PE_INVALID_ARGUMENT);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, the_answer_to_a_fetch_is_a_delivery)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    wire_fetch(&wire, OP_FETCH, 4, 0, &partition, 1);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    cr_assert_null(request->reply);
    struct conn_id id = request->conn;
    rig_reply(rig, request);
    struct request *answer = deliver(rig, id, 0, 0, 500000);
    frame_seal(answer->frames, OP_FETCH, FRAME_REPLY, 4, 500000, 0);
    expect_reply(rig, &client, OP_FETCH, 4, &frame);
    cr_assert_eq(frame.meta_length, 500000);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

/* Or a thousand readers that wait had all buffers of a core. */
Test(conn_reply, a_fetch_that_waits_holds_no_request_and_no_buffer)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    struct conn_id id = {0};
    for (uint64_t i = 1; i <= CONN_REQUESTS_MAX; i++) {
        wire_fetch(&wire, OP_FETCH, i, 0, &partition, 1);
        send_wire(rig, &client, &wire);
        struct request *request = rig_take(rig);
        id = request->conn;
        rig_reply(rig, request); // accepted; the answer will be a delivery
        rig_turns(rig, 3);
    }
    rig_check_idle(rig);
    client_recv(&client);
    cr_assert_eq(client.in_bytes, client.in_taken, "an answer came");
    cr_assert_eq(only_conn(rig)->fetches, CONN_REQUESTS_MAX);
    cr_assert_eq(only_conn(rig)->requests, 0, "a drain does not wait for them");
    wire_empty(&wire, OP_PING, 300);
    send_wire(rig, &client, &wire);
    rig_turns(rig, 20);
    client_recv(&client);
    cr_assert_eq(client.in_bytes, client.in_taken, "256 are unanswered: no more is read");
    struct request *answer = deliver(rig, id, 0, 0, 100);
    frame_seal(answer->frames, OP_FETCH, FRAME_REPLY, 4, 100, 0);
    expect_reply(rig, &client, OP_FETCH, 4, &frame);
    expect_reply(rig, &client, OP_PING, 300, &frame);
    cr_assert_eq(only_conn(rig)->fetches, CONN_REQUESTS_MAX - 1);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_fetch_that_is_refused_waits_for_nothing)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t partition = 0;
    wire_fetch(&wire, OP_FETCH, 4, 0, &partition, 1);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    request->error = PE_OFFSET_OUT_OF_RANGE;
    rig_reply(rig, request);
    cr_assert_eq(expect_error(rig, &client, OP_FETCH), PE_OFFSET_OUT_OF_RANGE);
    cr_assert_eq(only_conn(rig)->fetches, 0);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

/* ---- other answers ---- */

Test(conn_reply, small_and_large_replies_arrive_whole)
{
    static const uint32_t sizes[] = {0, 1, 4000, 4064, 4065, 200000};
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        wire_empty(&wire, OP_METADATA, i);
        send_wire(rig, &client, &wire);
        struct request *request = rig_take(rig);
        cr_assert_geq(request->reply->capacity, FRAME_HEADER_SIZE + sizes[i]);
        memset(request->reply->bytes + FRAME_HEADER_SIZE, (int)i, sizes[i]);
        request->reply_bytes =
            frame_seal(request->reply->bytes, OP_METADATA, FRAME_REPLY, i, sizes[i], 0);
        rig_reply(rig, request);
        expect_reply(rig, &client, OP_METADATA, i, &frame);
        cr_assert_eq(frame.meta_length, sizes[i]);
    }
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, an_error_has_the_shards_words)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_error m;
    struct writer w = wire_meta(&wire);
    write_topic_delete(&w, slice_of_text("nothing"));
    wire_seal(&wire, &w, OP_TOPIC_DELETE, 0, 6, NULL, 0);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    request->error = PE_UNKNOWN_TOPIC;
    strcpy(request->text, "topic \"nothing\"");
    rig_reply(rig, request);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.correlation, 6);
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    cr_assert_eq(m.error, PE_UNKNOWN_TOPIC);
    cr_assert(slice_equals(m.name, slice_of_text("UNKNOWN_TOPIC")));
    cr_assert(slice_equals(m.text, slice_of_text("topic \"nothing\"")));
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, status_is_answered_here)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_status_reply m;
    wire_empty(&wire, OP_STATUS, 2);
    send_wire(rig, &client, &wire);
    expect_reply(rig, &client, OP_STATUS, 2, &frame);
    cr_assert_eq(read_status_reply(&frame, &m), PE_NONE);
    cr_assert(!m.ready);
    cr_assert_gt(m.value_count, 30);
    cr_assert(slice_equals(m.reason, slice_of_text("starting")));
    cr_assert_eq(rig->request_count, 0);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

/* ---- limits ---- */

Test(conn_reply, reading_stops_at_256_unanswered_requests_and_goes_on_with_the_answers)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t total = CONN_REQUESTS_MAX + 100, answered = 0;
    uint32_t partition = 0;
    for (uint32_t i = 0; i < total; i++)
        wire_fetch(&wire, OP_FETCH, i + 1, 0, &partition, 1);
    send_wire(rig, &client, &wire);
    rig_turns(rig, 50);
    cr_assert_eq(rig->request_count, CONN_REQUESTS_MAX);
    while (answered < total) {
        struct request *request = rig_take(rig);
        cr_assert_eq(request->correlation, ++answered);
        request->error = PE_OFFSET_OUT_OF_RANGE;
        rig_reply(rig, request);
    }
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_connection_pins_at_most_its_share_of_buffers, .timeout = 30)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t bytes = 256 << 10;
    uint64_t number = 0, arrived = 0;
    /* Sends until the broker has stopped reading for good. */
    for (int quiet = 0; quiet < 200;) {
        if (wire.length == 0)
            wire_produce_one(&wire, ++number, bytes);
        ssize_t n = send(client.fd, wire.bytes, wire.length, MSG_NOSIGNAL);
        quiet = n > 0 ? 0 : quiet + 1;
        if (n > 0)
            memmove(wire.bytes, wire.bytes + n, wire.length -= (size_t)n);
        rig_turn(rig);
    }
    cr_assert_leq(rig->request_count * (uint64_t)bytes,
                  CONN_PINNED_BYTES_MAX + BUFFER_MEDIUM_BYTES);
    cr_assert_geq(rig->request_count * (uint64_t)bytes, CONN_PINNED_BYTES_MAX / 2);
    client_send(rig, &client, "", 0);
    while (arrived < number - 1) {
        struct request *request = rig_take(rig);
        arrived += request->frame_count;
        rig_answer_produce(rig, request, 0, 0);
        ssize_t n = wire.length ? send(client.fd, wire.bytes, wire.length, MSG_NOSIGNAL) : 0;
        if (n > 0)
            memmove(wire.bytes, wire.bytes + n, wire.length -= (size_t)n);
    }
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, buffers_lent_for_answers_count_as_the_connections_own)
{
    struct rig *rig = rig_new(2);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    enum { COUNT = 200 };
    for (uint64_t i = 0; i < COUNT; i++)
        wire_empty(&wire, OP_METADATA, i);
    send_wire(rig, &client, &wire);
    rig_turns(rig, 50);
    cr_assert_leq((uint64_t)rig->request_count * BUFFER_MEDIUM_BYTES,
                  CONN_PINNED_BYTES_MAX + BUFFER_MEDIUM_BYTES);
    for (uint64_t i = 0; i < COUNT; i++) {
        struct request *request = rig_take(rig);
        request->reply_bytes =
            frame_seal(request->reply->bytes, OP_METADATA, FRAME_REPLY, i, i % 2 ? 100 : 200000, 0);
        rig_reply(rig, request);
        expect_reply(rig, &client, OP_METADATA, i, &frame);
    }
    uint32_t partitions[2];
    partitions_of_shards(rig, partitions);
    wire_offsets(&wire, 5, partitions, 2);
    send_wire(rig, &client, &wire);
    struct request *first = rig_take(rig), *second = rig_take(rig);
    second->error = PE_OVERLOADED;
    first->error = PE_OVERLOADED;
    rig_reply(rig, first);
    rig_reply(rig, second);
    cr_assert_eq(expect_error(rig, &client, OP_OFFSETS), PE_OVERLOADED);
    rig_turns(rig, 10);
    cr_assert_eq(only_conn(rig)->pinned_bytes, 0);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, connections_that_find_no_buffer_wait_and_are_all_served_in_the_end, .timeout = 30)
{
    struct rig *rig = rig_new(1);
    struct client clients[32];
    struct buffer *taken[4096];
    struct frame frame;
    uint32_t taken_count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        clients[i] = client_hello(rig);
    while ((taken[taken_count] = buffer_acquire_for(&rig->core->buffers, 1, BUFFER_FOR_RECEIVE)))
        taken_count++;
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        struct wire wire = wire_new();
        wire_produce_one(&wire, 1, 100);
        send_wire(rig, &clients[i], &wire);
        free(wire.bytes);
    }
    rig_turns(rig, 50);
    cr_assert_eq(rig->request_count, 0);
    buffer_unref(&rig->core->buffers, taken[--taken_count]); // one is enough for all, one by one
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        rig_answer_produce(rig, rig_take(rig), 0, 0);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        cr_assert(client_next(rig, &clients[i], &frame));
        cr_assert_eq(frame.op, OP_ACK);
        client_close(&clients[i]);
    }
    while (taken_count > 0)
        buffer_unref(&rig->core->buffers, taken[--taken_count]);
    rig_free(rig);
}

Test(conn_reply, many_that_waited_are_all_served_when_much_is_freed_at_once, .timeout = 30)
{
    struct rig *rig = rig_new(1);
    struct client clients[60];
    struct buffer *taken[4096];
    struct request *requests[60];
    uint32_t taken_count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        clients[i] = client_hello(rig);
    rig_turns(rig, 10);
    while ((taken[taken_count] = buffer_acquire_for(&rig->core->buffers, 1, BUFFER_FOR_RECEIVE)))
        taken_count++;
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        struct wire wire = wire_new();
        wire_produce_one(&wire, 1, 100);
        send_wire(rig, &clients[i], &wire);
        free(wire.bytes);
    }
    rig_turns(rig, 20);
    while (taken_count > 0)
        buffer_unref(&rig->core->buffers, taken[--taken_count]);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        requests[i] = rig_take(rig); // none is answered, so nothing more is freed
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        rig_answer_produce(rig, requests[i], 0, 0);
        client_close(&clients[i]);
    }
    rig_free(rig);
}

/* More connections than are tried in a turn wait for what does not come; behind them is one that could go on. */
Test(conn_reply, who_can_go_on_is_found_behind_many_that_cannot, .timeout = 30)
{
    enum { STUCK = 50 };
    struct rig *rig = rig_new(1);
    struct client stuck[STUCK], healthy;
    struct buffer *taken[4096], *jumbo;
    uint32_t taken_count = 0;
    struct wire wire = wire_new();
    struct frame frame;
    for (int i = 0; i < STUCK; i++)
        stuck[i] = client_hello(rig);
    healthy = client_hello(rig);
    jumbo = buffer_acquire(&rig->core->buffers, BUFFER_LARGE_BYTES + 1);
    wire_produce_one(&wire, 1, 2 << 20);
    for (int i = 0; i < STUCK; i++)
        client_send(rig, &stuck[i], wire.bytes, 5000);
    rig_turns(rig, 50);
    while ((taken[taken_count] = buffer_acquire_for(&rig->core->buffers, 1, BUFFER_FOR_RECEIVE)))
        taken_count++;
    wire.length = 0;
    wire_empty(&wire, OP_PING, 3);
    send_wire(rig, &healthy, &wire);
    rig_turns(rig, 50);
    buffer_unref(&rig->core->buffers, taken[--taken_count]);
    expect_reply(rig, &healthy, OP_PING, 3, &frame);
    while (taken_count > 0)
        buffer_unref(&rig->core->buffers, taken[--taken_count]);
    buffer_unref(&rig->core->buffers, jumbo);
    for (int i = 0; i < STUCK; i++)
        client_close(&stuck[i]);
    client_close(&healthy);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, the_largest_requests_of_two_connections_take_turns, .timeout = 30)
{
    struct rig *rig = rig_new(1);
    struct client greedy = client_hello(rig), other = client_hello(rig);
    struct wire first = wire_new(), second = wire_new();
    size_t sent[2] = {0};
    for (uint64_t number = 1; number <= 3; number++)
        wire_produce_one(&first, number, 2 << 20);
    wire_produce_one(&second, 1, 2 << 20);
    struct request *pinned = NULL;
    uint64_t greedy_served = 0;
    for (int i = 0; i < RIG_TURNS_MAX; i++) {
        ssize_t n = send(greedy.fd, first.bytes + sent[0], first.length - sent[0], MSG_NOSIGNAL);
        sent[0] += n > 0 ? (size_t)n : 0;
        if (pinned) { // the other asks while the only buffer is in use
            n = send(other.fd, second.bytes + sent[1], second.length - sent[1], MSG_NOSIGNAL);
            sent[1] += n > 0 ? (size_t)n : 0;
        }
        rig_turn(rig);
        if (rig->request_count == 0)
            continue;
        pinned = rig_take(rig);
        if (pinned->conn.slot == 1)
            break;
        greedy_served++;
        rig_turns(rig, 50); // both now wait for it
        n = send(other.fd, second.bytes + sent[1], second.length - sent[1], MSG_NOSIGNAL);
        sent[1] += n > 0 ? (size_t)n : 0;
        rig_turns(rig, 50);
        rig_answer_produce(rig, pinned, 0, 0);
    }
    cr_assert_eq(pinned->conn.slot, 1, "the other was never served");
    cr_assert_leq(greedy_served, 2);
    rig_answer_produce(rig, pinned, 0, 0);
    client_close(&greedy);
    client_close(&other);
    free(first.bytes);
    free(second.bytes);
    rig_free(rig);
}

Test(conn_reply, a_publish_over_shards_waits_until_the_mailbox_takes_all_its_parts)
{
    struct rig *rig = rig_new(3);
    struct client clients[5];
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partitions[3];
    partitions_of_shards(rig, partitions);
    struct client publisher = client_hello(rig);
    uint32_t left = MESH_RING_SLOTS - 2; // two places stay free, three are needed
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        uint32_t count = (uint32_t)min_u64(left, 250);
        clients[i] = client_hello(rig);
        for (uint32_t k = 0; k < count; k++)
            wire_fetch(&wire, OP_FETCH, k + 1, 0, &partitions[0], 1);
        send_wire(rig, &clients[i], &wire);
        rig_turns(rig, 10);
        left -= count;
    }
    cr_assert_eq(mailbox_credits(&rig->core->mailbox, SHARD_CORE), 2);
    wire_produce(&wire, 1, partitions, 3, 30);
    send_wire(rig, &publisher, &wire);
    rig_turns(rig, 20);
    cr_assert_eq(mailbox_credits(&rig->core->mailbox, SHARD_CORE), 2);
    for (uint32_t i = 0; i < MESH_RING_SLOTS - 2; i++)
        rig_reply(rig, rig_take(rig));
    for (int i = 0; i < 3; i++)
        rig_answer_produce(rig, rig_take(rig), 0, 0);
    cr_assert(client_next(rig, &publisher, &frame));
    cr_assert_eq(frame.op, OP_ACK);
    client_close(&publisher);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        client_close(&clients[i]);
    free(wire.bytes);
    rig_free(rig);
}

/* ---- frames in drips ---- */

Test(conn_reply, the_first_bytes_of_a_frame_hold_no_buffer)
{
    struct rig *rig = rig_new(1);
    struct client clients[40];
    struct wire wire = wire_new();
    wire_produce_one(&wire, 1, 3000);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        clients[i] = client_hello(rig);
        for (size_t at = 0; at < CONN_STASH_BYTES; at++) { // one by one
            client_send(rig, &clients[i], wire.bytes + at, 1);
            rig_turns(rig, 2);
        }
    }
    rig_turns(rig, 20);
    cr_assert_eq(rig->core->buffers.classes[BUFFER_SMALL].free_count, BUFFER_SMALL_COUNT);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        client_send(rig, &clients[i], wire.bytes + CONN_STASH_BYTES,
                    wire.length - CONN_STASH_BYTES);
        struct request *request = rig_take(rig);
        cr_assert_eq(request->frame_bytes, wire.length);
        rig_answer_produce(rig, request, 0, 0); // it was routed: compare behind the items only
        cr_assert_eq(memcmp(request->frames + 100, wire.bytes + 100, wire.length - 100), 0);
        expect_ack(rig, &clients[i], 1, 1);
        client_close(&clients[i]);
    }
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, who_sends_in_drips_is_closed_when_others_wait_for_its_buffer, .timeout = 30)
{
    struct rig *rig = rig_new(1);
    struct client drips = client_hello(rig), healthy = client_hello(rig);
    struct buffer *taken[4096];
    uint32_t taken_count = 0;
    struct wire wire = wire_new();
    wire_produce_one(&wire, 1, 3000);
    client_send(rig, &drips, wire.bytes, 200); // more than the stash: holds a buffer
    rig_turns(rig, 20);
    struct conn *conn = &rig->core->conns.slots[0];
    cr_assert_not_null(conn->buffer);
    while ((taken[taken_count] = buffer_acquire_for(&rig->core->buffers, 1, BUFFER_FOR_RECEIVE)))
        taken_count++;
    conn->phase_since_ns -= 2 * FRAME_PRESSURE_NS;
    rig_turns(rig, 20);
    cr_assert_eq(rig->core->conns.open_count, 2, "nobody waits: no reason to close");
    client_send(rig, &healthy, wire.bytes, wire.length);
    rig_answer_produce(rig, rig_take(rig), 0, 0);
    expect_ack(rig, &healthy, 1, 1);
    cr_assert_eq(rig->core->conns.open_count, 1);
    while (taken_count > 0)
        buffer_unref(&rig->core->buffers, taken[--taken_count]);
    client_close(&drips);
    client_close(&healthy);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_full_mailbox_makes_connections_wait, .timeout = 30)
{
    struct rig *rig = rig_new(1);
    struct client clients[8];
    struct wire wire = wire_new();
    uint32_t partition = 0, total = 0;
    for (uint64_t i = 0; i < 200; i++)
        wire_fetch(&wire, OP_FETCH, i + 1, 0, &partition, 1);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        clients[i] = client_hello(rig);
        client_send(rig, &clients[i], wire.bytes, wire.length);
        rig_turns(rig, 5);
    }
    rig_turns(rig, 50);
    cr_assert_eq(rig->request_count, MESH_RING_SLOTS);
    while (total < 200 * ARRAY_COUNT(clients)) {
        rig_reply(rig, rig_take(rig));
        total++;
    }
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        client_close(&clients[i]);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, acks_find_a_buffer_when_receiving_has_taken_all_it_may)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct buffer *taken[4096];
    uint32_t taken_count = 0;
    wire_produce_one(&wire, 1, 100);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    while ((taken[taken_count] = buffer_acquire_for(&rig->core->buffers, 1, BUFFER_FOR_RECEIVE)))
        taken_count++;
    rig_answer_produce(rig, request, 0, 0);
    expect_ack(rig, &client, 1, 1);
    while (taken_count > 0)
        buffer_unref(&rig->core->buffers, taken[--taken_count]);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, what_finds_no_buffer_at_all_is_answered_later)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct buffer *taken[4096];
    uint32_t taken_count = 0, partition = 0;
    wire_produce_one(&wire, 1, 100);
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partition, 1);
    send_wire(rig, &client, &wire);
    struct request *publish = rig_take(rig), *subscribe = rig_take(rig);
    while ((taken[taken_count] = buffer_acquire(&rig->core->buffers, 1)))
        taken_count++;
    rig_answer_produce(rig, publish, 0, 0);
    rig_reply(rig, subscribe);
    rig_turns(rig, 20);
    client_recv(&client);
    cr_assert_eq(client.in_bytes, client.in_taken);
    while (taken_count > 0)
        buffer_unref(&rig->core->buffers, taken[--taken_count]);
    expect_ack(rig, &client, 1, 1);
    expect_reply(rig, &client, OP_SUBSCRIBE, 9, &frame);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, an_idle_connection_owns_no_buffer)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    wire_produce_one(&wire, 1, 300000);
    send_wire(rig, &client, &wire);
    rig_answer_produce(rig, rig_take(rig), 0, 0);
    expect_ack(rig, &client, 1, 1);
    rig_check_idle(rig);
    cr_assert_eq(rig->core->conns.open_count, 1);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

/* ---- ends ---- */

Test(conn_reply, who_ends_its_side_still_gets_the_acks)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    wire_produce_one(&wire, 1, 100);
    send_wire(rig, &client, &wire);
    shutdown(client.fd, SHUT_WR);
    struct request *request = rig_take(rig);
    rig_turns(rig, 20);
    rig_answer_produce(rig, request, 0, 0);
    expect_ack(rig, &client, 1, 1);
    cr_assert(!client_next(rig, &client, &frame));
    rig_turns(rig, 5);
    cr_assert_eq(rig->core->conns.open_count, 0);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, shards_are_told_of_the_end_of_a_connection_that_read_from_them)
{
    struct rig *rig = rig_new(3);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partitions[3];
    partitions_of_shards(rig, partitions);
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partitions[1], 1);
    wire_fetch(&wire, OP_FETCH, 10, 0, &partitions[2], 1);
    send_wire(rig, &client, &wire);
    struct request *subscribe = rig_take(rig), *fetch = rig_take(rig);
    struct conn_id id = subscribe->conn;
    rig_reply(rig, subscribe);
    expect_reply(rig, &client, OP_SUBSCRIBE, 9, &frame);
    rig_reply(rig, fetch); // accepted: it waits, and the connection's end doesn't wait for it
    client_close(&client);
    for (int i = 0; i < 2; i++) {
        struct request *request = rig_take(rig);
        cr_assert_eq(request->kind, REQUEST_CONN_CLOSED);
        cr_assert_eq(request->shard, 1 + i);
        cr_assert_eq(request->conn.life, id.life);
        cr_assert_eq(request->conn.slot, id.slot);
        rig_reply(rig, request);
    }
    (void)deliver(rig, id, 1, 9, 100); // was on its way
    (void)deliver(rig, id, 2, 0, 100);
    rig_check_idle(rig);
    cr_assert_eq(mailbox_credits(&rig->shard, 0), MESH_RING_SLOTS);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, the_end_of_a_connection_is_told_also_when_the_mailbox_was_full)
{
    struct rig *rig = rig_new(1);
    struct client reader = client_hello(rig), others[5];
    struct wire wire = wire_new();
    uint32_t partition = 0;
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partition, 1);
    send_wire(rig, &reader, &wire);
    rig_reply(rig, rig_take(rig));
    rig_turns(rig, 5);
    for (uint64_t i = 0; i < 250; i++)
        wire_fetch(&wire, OP_FETCH, i + 1, 0, &partition, 1);
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        others[i] = client_hello(rig);
        client_send(rig, &others[i], wire.bytes, wire.length);
        rig_turns(rig, 10);
    }
    cr_assert_eq(mailbox_credits(&rig->core->mailbox, SHARD_CORE), 0);
    client_close(&reader);
    rig_turns(rig, 20);
    bool told = false;
    for (int i = 0; i < 1251; i++) {
        struct request *request = rig_take(rig);
        told = told || request->kind == REQUEST_CONN_CLOSED;
        rig_reply(rig, request);
    }
    cr_assert(told);
    for (size_t i = 0; i < ARRAY_COUNT(others); i++)
        client_close(&others[i]);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, answers_to_a_dead_connection_are_dropped_also_when_its_slot_lives_again)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    wire_produce_one(&wire, 1, 100);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    conn_close(only_conn(rig), "test");
    client_close(&client);
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 0);
    struct client next = client_hello(rig);
    cr_assert_eq(only_conn(rig)->id.slot, request->conn.slot);
    rig_answer_produce(rig, request, 0, 0);
    wire_empty(&wire, OP_PING, 5);
    send_wire(rig, &next, &wire);
    expect_reply(rig, &next, OP_PING, 5, &frame);
    client_close(&next);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, without_hello_a_connection_ends_after_10_seconds)
{
    struct rig *rig = rig_new(1);
    struct client client = client_connect(rig);
    rig_turns(rig, 10);
    struct conn *conn = only_conn(rig);
    conn->phase_since_ns -= HELLO_DEADLINE_NS - NS_PER_S;
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 1);
    conn->phase_since_ns -= NS_PER_S;
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 0);
    client_close(&client);
    rig_free(rig);
}

Test(conn_reply, a_frame_that_does_not_end_ends_the_connection_and_an_idle_one_lives)
{
    struct rig *rig = rig_new(1);
    struct client idle = client_hello(rig);
    struct conn *idle_conn = only_conn(rig);
    idle_conn->phase_since_ns -= 2 * FRAME_DEADLINE_NS;
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 1);
    struct wire wire = wire_new();
    wire_produce_one(&wire, 1, 100);
    client_send(rig, &idle, wire.bytes, 20);
    rig_turns(rig, 10);
    idle_conn->phase_since_ns -= FRAME_DEADLINE_NS - NS_PER_S;
    client_send(rig, &idle, wire.bytes + 20, 20); // a byte now and then doesn't help
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 1);
    idle_conn->phase_since_ns -= NS_PER_S;
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 0);
    client_close(&idle);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, who_does_not_read_is_closed_and_the_delivery_goes_home)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partition, 1);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    struct conn_id id = request->conn;
    rig_reply(rig, request);
    expect_reply(rig, &client, OP_SUBSCRIBE, 9, &frame);
    for (int i = 0; i < 4; i++)
        (void)deliver(rig, id, 0, 9, 1 << 20);
    rig_turns(rig, 50);
    cr_assert_eq(mailbox_credits(&rig->shard, 0), MESH_RING_SLOTS - 4);
    only_conn(rig)->send_since_ns -= SEND_DEADLINE_NS;
    rig_turns(rig, 20);
    cr_assert_eq(rig->core->conns.open_count, 0);
    cr_assert_eq(mailbox_credits(&rig->shard, 0), MESH_RING_SLOTS);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, who_does_not_read_is_closed_soon_when_readers_wait_for_buffers)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    uint32_t partition = 0;
    wire_fetch(&wire, OP_SUBSCRIBE, 9, 1000, &partition, 1);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    struct conn_id id = request->conn;
    rig_reply(rig, request);
    expect_reply(rig, &client, OP_SUBSCRIBE, 9, &frame);
    (void)deliver(rig, id, 0, 9, 1 << 20);
    rig_turns(rig, 50);
    atomic_store(&rig->broker->shards[0].readers_wait, true);
    rig_turns(rig, 20);
    cr_assert_eq(rig->core->conns.open_count, 1, "it has not had its second");
    atomic_store(&rig->broker->shards[0].readers_wait, false);
    only_conn(rig)->send_since_ns -= SEND_PRESSURE_NS;
    rig_turns(rig, 20);
    cr_assert_eq(rig->core->conns.open_count, 1, "nobody waits: no reason to close");
    atomic_store(&rig->broker->shards[0].readers_wait, true);
    cr_assert_leq(conns_deadline_ns(&rig->core->conns), rig->core->now_ns + NS_PER_S);
    rig_turns(rig, 20);
    cr_assert_eq(rig->core->conns.open_count, 0);
    cr_assert_eq(mailbox_credits(&rig->shard, 0), MESH_RING_SLOTS);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

static void wire_metadata(struct wire *wire, uint64_t correlation)
{
    struct writer w = wire_meta(wire);
    write_metadata_begin(&w, METADATA_ALL, slice_of_text(""));
    wire_seal(wire, &w, OP_METADATA, 0, correlation, NULL, 0);
}

/* Answers pin buffers of the connections' own core. */
Test(conn_reply, who_does_not_read_its_answers_is_closed_soon_when_others_wait_for_buffers)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig), healthy = client_hello(rig);
    struct wire wire = wire_new();
    struct buffer *taken[4096];
    uint32_t taken_count = 0;
    for (uint64_t i = 0; i < 4; i++)
        wire_metadata(&wire, i);
    send_wire(rig, &client, &wire);
    for (int i = 0; i < 4; i++) {
        struct request *request = rig_take(rig);
        request->reply_bytes = frame_seal(request->reply->bytes, OP_METADATA, FRAME_REPLY, 0,
                                          BUFFER_MEDIUM_BYTES - FRAME_HEADER_SIZE, 0);
        rig_reply(rig, request);
    }
    rig_turns(rig, 50);
    while ((taken[taken_count] = buffer_acquire(&rig->core->buffers, BUFFER_MEDIUM_BYTES)))
        taken_count++;
    struct conn *conn = &rig->core->conns.slots[0];
    cr_assert(list_is_linked(&conn->send_link));
    conn->send_since_ns -= SEND_PRESSURE_NS;
    rig_turns(rig, 20);
    cr_assert_eq(rig->core->conns.open_count, 2, "nobody waits: no reason to close");
    wire_metadata(&wire, 9); // its answer needs a buffer as well
    send_wire(rig, &healthy, &wire);
    rig_reply(rig, rig_take(rig));
    cr_assert_eq(rig->core->conns.open_count, 1);
    while (taken_count > 0)
        buffer_unref(&rig->core->buffers, taken[--taken_count]);
    client_close(&client);
    client_close(&healthy);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_drain_says_goaway_and_waits_for_answers)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_goaway m;
    wire_produce_one(&wire, 1, 100);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig);
    rig->core->drain_deadline_ns = clock_mono_ns(clock_system()) + 5 * NS_PER_S;
    conns_drain(&rig->core->conns);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.op, OP_GOAWAY);
    cr_assert_eq(frame.flags, FRAME_PUSH);
    cr_assert_eq(read_goaway(&frame, &m), PE_NONE);
    cr_assert_leq(m.deadline_ms, 5000);
    cr_assert_geq(m.deadline_ms, 4000);
    cr_assert(!conns_are_quiet(&rig->core->conns));
    rig_answer_produce(rig, request, 0, 0);
    expect_ack(rig, &client, 1, 1);
    rig_turns(rig, 5);
    cr_assert(conns_are_quiet(&rig->core->conns));
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_reply, a_refused_connection_is_told_why)
{
    struct rig *rig = rig_new(1);
    struct frame frame;
    struct msg_error m;
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct client client = {.fd = fds[1], .in = malloc(CLIENT_IN_MAX)};
    rig->core->acceptor.refusals = 1;
    conn_open(&rig->core->conns, fds[0], true);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    cr_assert_eq(m.error, PE_LIMIT_REACHED);
    cr_assert(!client_next(rig, &client, &frame));
    client_close(&client);
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->acceptor.refusals, 0);
    rig_free(rig);
}
