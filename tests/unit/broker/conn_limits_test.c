/* What a connection may hold, and who waits when buffers or places are short. */
#include "conn_fixture.h"

/* ---- limits ---- */

Test(conn_limits, reading_stops_at_256_unanswered_requests_and_goes_on_with_the_answers)
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
    finish(rig, &client, &wire);
}

/* early: as a shard on this core does, each publish gives its buffer back before it is answered. */
static void fill_share(bool early)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint32_t bytes = 256 << 10;
    uint64_t number = 0, arrived = 0;
    uint32_t given_back = 0;
    /* Sends until the broker has stopped reading for good. */
    for (int quiet = 0; quiet < 200;) {
        if (wire.length == 0)
            wire_produce_one(&wire, ++number, bytes);
        ssize_t n = send(client.fd, wire.bytes, wire.length, MSG_NOSIGNAL);
        quiet = n > 0 ? 0 : quiet + 1;
        if (n > 0)
            memmove(wire.bytes, wire.bytes + n, wire.length -= (size_t)n);
        rig_turn(rig);
        for (; early && given_back < rig->request_count; given_back++) {
            struct request *request = rig->requests[given_back];
            uint16_t shards_core = request->target_core;
            request->target_core = request->origin_core;
            request_give_buffer_back(request, &rig->core->buffers);
            cr_assert_null(request->buffer);
            request->target_core = shards_core;
        }
    }
    cr_assert_leq(rig->request_count * (uint64_t)bytes,
                  CONN_PINNED_BYTES_MAX + BUFFER_MEDIUM_BYTES);
    cr_assert_geq(rig->request_count * (uint64_t)bytes, CONN_PINNED_BYTES_MAX / 2);
    client_send(rig, &client, "", 0);
    while (arrived < number) {
        ssize_t n = wire.length ? send(client.fd, wire.bytes, wire.length, MSG_NOSIGNAL) : 0;
        if (n > 0)
            memmove(wire.bytes, wire.bytes + n, wire.length -= (size_t)n);
        rig_turn(rig);
        if (rig->request_count == 0 && wire.length > 0)
            continue;
        struct request *request = rig_take(rig);
        arrived += request->frame_count;
        rig_answer_produce(rig, request, 0, 0);
    }
    rig_turns(rig, 10);
    const struct conn *conn = only_conn(rig);
    uint64_t own = conn->buffer ? conn->buffer->capacity : 0;
    cr_assert_eq(conn->pinned_bytes, own, "%lu pinned, %lu in use", conn->pinned_bytes, own);
    finish(rig, &client, &wire);
}

Test(conn_limits, a_connection_pins_at_most_its_share_of_buffers, .timeout = 30)
{
    fill_share(false);
}

Test(conn_limits, buffers_given_back_early_count_until_the_answer, .timeout = 30)
{
    fill_share(true);
}

Test(conn_limits, buffers_lent_for_answers_count_as_the_connections_own)
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
    finish(rig, &client, &wire);
}

Test(conn_limits, connections_that_find_no_buffer_wait_and_are_all_served_in_the_end, .timeout = 30)
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

Test(conn_limits, many_that_waited_are_all_served_when_much_is_freed_at_once, .timeout = 30)
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
Test(conn_limits, who_can_go_on_is_found_behind_many_that_cannot, .timeout = 30)
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

Test(conn_limits, the_largest_requests_of_two_connections_take_turns, .timeout = 30)
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

Test(conn_limits, a_publish_over_shards_waits_until_the_mailbox_takes_all_its_parts)
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

Test(conn_limits, the_first_bytes_of_a_frame_hold_no_buffer)
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

Test(conn_limits, who_sends_in_drips_is_closed_when_others_wait_for_its_buffer, .timeout = 30)
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

Test(conn_limits, a_full_mailbox_makes_connections_wait, .timeout = 30)
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

Test(conn_limits, acks_find_a_buffer_when_receiving_has_taken_all_it_may)
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
    finish(rig, &client, &wire);
}

Test(conn_limits, what_finds_no_buffer_at_all_is_answered_later)
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
    finish(rig, &client, &wire);
}

Test(conn_limits, an_idle_connection_owns_no_buffer)
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
    finish(rig, &client, &wire);
}
