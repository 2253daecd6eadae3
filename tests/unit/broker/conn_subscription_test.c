/* Subscriptions, credits, deliveries and fetches, as a connection sees them. */
#include "conn_fixture.h"

Test(conn_subscription, deliveries_before_the_answer_to_subscribe_go_out_behind_it)
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
    finish(rig, &client, &wire);
}

Test(conn_subscription, deliveries_of_a_subscription_that_ended_go_home_unsent)
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
    finish(rig, &client, &wire);
}

/* The answer goes out in the first lane, the deliveries wait in the second. */
Test(conn_subscription, no_delivery_goes_out_behind_the_answer_to_unsubscribe)
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
    finish(rig, &client, &wire);
}

Test(conn_subscription, credit_over_several_shards_goes_to_those_that_delivered)
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
    finish(rig, &client, &wire);
}

Test(conn_subscription, a_subscribe_that_one_shard_refuses_is_taken_back_at_the_others)
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
    finish(rig, &client, &wire);
}

Test(conn_subscription, a_connection_has_at_most_16_subscriptions)
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
    finish(rig, &client, &wire);
}

Test(conn_subscription, a_fetch_over_several_shards_is_refused_with_a_hint)
{
    struct rig *rig = rig_new(2);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t partitions[2];
    partitions_of_shards(rig, partitions);
    wire_fetch(&wire, OP_FETCH, 4, 0, partitions, 2);
    send_wire(rig, &client, &wire);
    cr_assert_eq(expect_error(rig, &client, OP_FETCH), PE_INVALID_ARGUMENT);
    finish(rig, &client, &wire);
}

Test(conn_subscription, the_answer_to_a_fetch_is_a_delivery)
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
    finish(rig, &client, &wire);
}

/* Or a thousand readers that wait had all buffers of a core. */
Test(conn_subscription, a_fetch_that_waits_holds_no_request_and_no_buffer)
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
    finish(rig, &client, &wire);
}

Test(conn_subscription, a_fetch_that_is_refused_waits_for_nothing)
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
    finish(rig, &client, &wire);
}
