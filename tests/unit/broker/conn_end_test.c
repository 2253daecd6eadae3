/* How connections end: by the client, by deadlines, by a drain, by being refused. */
#include "conn_fixture.h"

Test(conn_end, who_ends_its_side_still_gets_the_acks)
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
    finish(rig, &client, &wire);
}

Test(conn_end, who_has_gone_is_not_kept_for_answers_that_do_not_come)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    wire_produce_one(&wire, 1, 100);
    send_wire(rig, &client, &wire);
    struct request *request = rig_take(rig); // by a shard that has no room
    client_close(&client);
    rig_turns(rig, 10);
    struct conn *conn = only_conn(rig);
    conn->phase_since_ns -= ANSWER_DEADLINE_NS - NS_PER_S;
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 1);
    conn->phase_since_ns -= NS_PER_S;
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 0);
    rig_answer_produce(rig, request, 0, 0); // it comes home to nobody
    rig_turns(rig, 5);
    rig_check_idle(rig);
    free(wire.bytes);
    rig_free(rig);
}

/* One request more than a connection may have unanswered: nothing is read of it any more. */
static struct conn *fill(struct rig *rig, struct client *client, struct wire *wire)
{
    uint32_t partition = 0;
    for (uint32_t i = 0; i <= CONN_REQUESTS_MAX; i++)
        wire_fetch(wire, OP_FETCH, i + 1, 0, &partition, 1);
    send_wire(rig, client, wire);
    rig_turns(rig, 50);
    cr_assert(only_conn(rig)->is_unread);
    return only_conn(rig);
}

/* Nothing is read of it, so only a look tells. */
Test(conn_end, who_goes_while_it_has_its_fill_of_requests_is_seen_to_have_gone)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct conn *conn = fill(rig, &client, &wire);
    for (int i = 0; i < 3; i++) { // as long as it is there it may wait
        conn->phase_since_ns -= ANSWER_DEADLINE_NS;
        rig_turns(rig, 5);
        cr_assert_eq(rig->core->conns.open_count, 1);
    }
    client_close(&client);
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 1);
    conn->phase_since_ns -= ANSWER_DEADLINE_NS;
    rig_turns(rig, 10);
    cr_assert_eq(rig->core->conns.open_count, 0);
    for (uint32_t i = 0; i <= CONN_REQUESTS_MAX; i++) { // one more: its shard is told
        struct request *request = rig_take(rig);
        cr_assert_eq(request->kind == REQUEST_CONN_CLOSED, i == CONN_REQUESTS_MAX);
        request->error = request->kind == REQUEST_CONN_CLOSED ? 0 : PE_OFFSET_OUT_OF_RANGE;
        rig_reply(rig, request);
    }
    rig_check_idle(rig);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_end, who_had_its_fill_and_got_its_answers_goes_on)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct conn *conn = fill(rig, &client, &wire);
    for (uint32_t i = 0; i <= CONN_REQUESTS_MAX; i++) {
        struct request *request = rig_take(rig);
        request->error = PE_OFFSET_OUT_OF_RANGE;
        rig_reply(rig, request);
    }
    rig_turns(rig, 20);
    cr_assert_not(conn->is_unread);
    conn->phase_since_ns -= 2 * ANSWER_DEADLINE_NS; // an idle one has no deadline
    rig_turns(rig, 5);
    cr_assert_eq(rig->core->conns.open_count, 1);
    finish(rig, &client, &wire);
}

Test(conn_end, shards_are_told_of_the_end_of_a_connection_that_read_from_them)
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

Test(conn_end, the_end_of_a_connection_is_told_also_when_the_mailbox_was_full)
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

Test(conn_end, answers_to_a_dead_connection_are_dropped_also_when_its_slot_lives_again)
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

Test(conn_end, without_hello_a_connection_ends_after_10_seconds)
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

Test(conn_end, a_frame_that_does_not_end_ends_the_connection_and_an_idle_one_lives)
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

Test(conn_end, who_does_not_read_is_closed_and_the_delivery_goes_home)
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
    finish(rig, &client, &wire);
}

Test(conn_end, who_does_not_read_is_closed_soon_when_readers_wait_for_buffers)
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
    finish(rig, &client, &wire);
}

static void wire_metadata(struct wire *wire, uint64_t correlation)
{
    struct writer w = wire_meta(wire);
    write_metadata_begin(&w, METADATA_ALL, slice_of_text(""));
    wire_seal(wire, &w, OP_METADATA, 0, correlation, NULL, 0);
}

/* Answers pin buffers of the connections' own core. */
Test(conn_end, who_does_not_read_its_answers_is_closed_soon_when_others_wait_for_buffers)
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

Test(conn_end, a_drain_says_goaway_and_waits_for_answers)
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
    finish(rig, &client, &wire);
}

Test(conn_end, a_refused_connection_is_told_why)
{
    struct rig *rig = rig_new(1);
    struct frame frame;
    struct msg_error m;
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct client client = client_of(fds[1]);
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
