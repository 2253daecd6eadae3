/* From bytes to requests: frames in any pieces, runs, and everything a peer must not send. */
#include "rig.h"

static void expect_error(struct rig *rig, struct client *client, uint16_t error)
{
    struct frame frame;
    struct msg_error m;
    cr_assert(client_next(rig, client, &frame));
    cr_assert_eq(frame.flags, FRAME_REPLY | FRAME_ERROR);
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    cr_assert_eq(m.error, error, "%.*s: %.*s", (int)m.name.len, m.name.bytes, (int)m.text.len,
                 m.text.bytes);
}

static void expect_end(struct rig *rig, struct client *client)
{
    struct frame frame;
    cr_assert(!client_next(rig, client, &frame), "op %s came", op_name(frame.op));
}

static void expect_ping(struct rig *rig, struct client *client, uint64_t correlation)
{
    struct frame frame;
    struct wire wire = wire_new();
    wire_empty(&wire, OP_PING, correlation);
    client_send(rig, client, wire.bytes, wire.length);
    cr_assert(client_next(rig, client, &frame));
    cr_assert_eq(frame.op, OP_PING);
    cr_assert_eq(frame.flags, FRAME_REPLY);
    cr_assert_eq(frame.correlation, correlation);
    free(wire.bytes);
}

Test(conn_parse, hello_is_answered_with_the_limits)
{
    struct rig *rig = rig_new(2);
    struct client client = client_connect(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_hello_reply m;
    wire_hello(&wire);
    client_send(rig, &client, wire.bytes, wire.length);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(frame.correlation, 7);
    cr_assert_eq(read_hello_reply(&frame, &m), PE_NONE);
    cr_assert_eq(m.version, 1);
    cr_assert_eq(m.request_bytes_max, 16 * MIB);
    cr_assert_eq(m.batch_bytes_max, 4 * MIB);
    cr_assert_eq(m.record_bytes_max, 1 * MIB);
    cr_assert_eq(m.publishes_max, CONN_PUBLISHES_MAX);
    cr_assert_gt(m.subscription_credit_min, 2 * 4 * MIB);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, the_first_frame_must_be_hello)
{
    struct rig *rig = rig_new(1);
    struct client client = client_connect(rig);
    struct wire wire = wire_new();
    wire_empty(&wire, OP_PING, 1);
    client_send(rig, &client, wire.bytes, wire.length);
    expect_error(rig, &client, PE_HELLO_REQUIRED);
    expect_end(rig, &client);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, a_second_hello_is_refused_and_the_connection_lives)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    wire_hello(&wire);
    client_send(rig, &client, wire.bytes, wire.length);
    expect_error(rig, &client, PE_INVALID_ARGUMENT);
    expect_ping(rig, &client, 3);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, a_version_that_nobody_speaks_ends_the_connection)
{
    struct rig *rig = rig_new(1);
    struct client client = client_connect(rig);
    struct wire wire = wire_new();
    struct msg_hello m = {.version_min = 2, .version_max = 9};
    struct writer w = wire_meta(&wire);
    write_hello(&w, &m);
    wire_seal(&wire, &w, OP_HELLO, 0, 1, NULL, 0);
    client_send(rig, &client, wire.bytes, wire.length);
    expect_error(rig, &client, PE_UNSUPPORTED_VERSION);
    expect_end(rig, &client);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, a_hello_with_a_value_that_is_not_allowed_is_told_what_is)
{
    struct rig *rig = rig_new(1);
    struct client client = client_connect(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_error m;
    struct writer w = wire_meta(&wire);
    write_hello(&w, &(struct msg_hello){.version_min = 1,
                                        .version_max = 1,
                                        .client_id = {(const uint8_t *)"a\0b", 3},
                                        .software = slice_of_text("rig")});
    wire_seal(&wire, &w, OP_HELLO, 0, 7, NULL, 0);
    client_send(rig, &client, wire.bytes, wire.length);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(read_error(&frame, &m), PE_NONE);
    cr_assert_eq(m.error, PE_INVALID_ARGUMENT);
    char text[100];
    snprintf(text, sizeof(text), "%.*s", (int)m.text.len, (const char *)m.text.bytes);
    cr_assert(strstr(text, "client_id") && strstr(text, "255"), "%s", text);
    cr_assert_not(client_next(rig, &client, &frame));
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, more_than_64_kib_before_hello_is_refused_by_its_length_alone)
{
    struct rig *rig = rig_new(1);
    struct client client = client_connect(rig);
    le32 length = le32_make(FRAME_BYTES_MAX_BEFORE_HELLO + 1);
    client_send(rig, &client, &length, sizeof(length));
    expect_error(rig, &client, PE_REQUEST_TOO_LARGE);
    expect_end(rig, &client);
    cr_assert_eq(rig->core->buffers.classes[BUFFER_MEDIUM].free_count_min, BUFFER_MEDIUM_COUNT,
                 "the length alone must not cost more than a small buffer");
    client_close(&client);
    rig_free(rig);
}

Test(conn_parse, a_frame_above_request_bytes_max_is_refused)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    le32 length = le32_make((uint32_t)(16 * MIB) + 1);
    client_send(rig, &client, &length, sizeof(length));
    expect_error(rig, &client, PE_REQUEST_TOO_LARGE);
    expect_end(rig, &client);
    client_close(&client);
    rig_free(rig);
}

Test(conn_parse, the_end_of_a_refused_connection_is_not_a_reset)
{
    /* The peer has sent much more than the broker will read: its error frame must arrive all the
     * same. */
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    uint8_t garbage[100000];
    memset(garbage, 0xff, sizeof(garbage));
    cr_assert_eq(send(client.fd, garbage, sizeof(garbage), MSG_NOSIGNAL), (ssize_t)sizeof(garbage));
    expect_error(rig, &client, PE_REQUEST_TOO_LARGE);
    expect_end(rig, &client);
    cr_assert(!client.was_reset);
    client_close(&client);
    rig_free(rig);
}

/* HELLO, three publishes, PING: the same stream for every way of cutting it. */
static struct wire stream_of_all(void)
{
    struct wire wire = wire_new();
    wire_hello(&wire);
    wire_produce_one(&wire, 1, 61);
    wire_produce_one(&wire, 2, 100);
    wire_produce_one(&wire, 3, 7);
    wire_empty(&wire, OP_PING, 99);
    return wire;
}

static void expect_all(struct rig *rig, struct client *client)
{
    struct frame frame;
    uint32_t publishes = 0;
    cr_assert(client_next(rig, client, &frame));
    cr_assert_eq(frame.op, OP_HELLO);
    while (publishes < 3) {
        struct request *request = rig_take(rig);
        cr_assert_eq(request->correlation, publishes + 1);
        publishes += request->frame_count;
        rig_answer_produce(rig, request, 0, 0);
    }
    cr_assert_eq(publishes, 3);
    bool ponged = false;
    for (uint64_t next = 1; next <= 3 || !ponged;) {
        struct msg_ack ack;
        cr_assert(client_next(rig, client, &frame));
        if (frame.op == OP_PING) {
            ponged = true;
            continue;
        }
        cr_assert_eq(frame.op, OP_ACK);
        cr_assert_eq(frame.flags, FRAME_PUSH);
        cr_assert_eq(read_ack(&frame, &ack), PE_NONE);
        cr_assert_eq(ack.first, next);
        for (; next <= ack.last; next++)
            cr_assert_eq(read_ack_offset(&ack), next * 1000);
    }
}

Test(conn_parse, frames_may_be_cut_at_every_byte, .timeout = 60)
{
    struct rig *rig = rig_new(1);
    struct wire wire = stream_of_all();
    for (size_t cut = 1; cut < wire.length; cut++) {
        struct client client = client_connect(rig);
        client_send(rig, &client, wire.bytes, cut);
        rig_turns(rig, 3);
        client_send(rig, &client, wire.bytes + cut, wire.length - cut);
        expect_all(rig, &client);
        client_close(&client);
        for (int i = 0; rig->core->conns.open_count > 0 && i < RIG_TURNS_MAX; i++)
            rig_turn(rig);
    }
    rig_check_idle(rig);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, frames_may_come_byte_by_byte)
{
    struct rig *rig = rig_new(1);
    struct wire wire = stream_of_all();
    struct client client = client_connect(rig);
    for (size_t i = 0; i < wire.length; i++) {
        client_send(rig, &client, wire.bytes + i, 1);
        rig_turns(rig, 3);
    }
    expect_all(rig, &client);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, publishes_of_one_buffer_travel_as_one_request_and_are_acked_by_one_frame)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    struct frame frame;
    struct msg_ack ack;
    for (uint64_t number = 1; number <= 40; number++)
        wire_produce_one(&wire, number, 100);
    cr_assert_lt(wire.length, BUFFER_SMALL_BYTES);
    client_send(rig, &client, wire.bytes, wire.length);
    struct request *request = rig_take(rig);
    cr_assert_eq(request->frame_count, 40);
    cr_assert_eq(request->offset_count, 40);
    cr_assert_eq(request->frame_bytes, wire.length);
    cr_assert_eq(request->correlation, 1);
    rig_answer_produce(rig, request, 0, 0);
    cr_assert(client_next(rig, &client, &frame));
    cr_assert_eq(read_ack(&frame, &ack), PE_NONE);
    cr_assert_eq(ack.first, 1);
    cr_assert_eq(ack.last, 40);
    cr_assert_eq(ack.offset_count, 40);
    cr_assert_eq(ack.shard, 0);
    cr_assert_eq(ack.durable_lsn, 4096);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, another_operation_between_publishes_ends_a_run)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    wire_produce_one(&wire, 1, 10);
    wire_produce_one(&wire, 2, 10);
    wire_empty(&wire, OP_PING, 1);
    wire_produce_one(&wire, 3, 10);
    client_send(rig, &client, wire.bytes, wire.length);
    struct request *first = rig_take(rig), *second = rig_take(rig);
    cr_assert_eq(first->frame_count, 2);
    cr_assert_eq(second->frame_count, 1);
    cr_assert_eq(second->correlation, 3);
    rig_reply(rig, first);
    rig_reply(rig, second);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, a_gap_in_publish_numbers_ends_the_connection_after_what_came_before)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    wire_produce_one(&wire, 1, 10);
    wire_produce_one(&wire, 3, 10);
    client_send(rig, &client, wire.bytes, wire.length);
    struct request *request = rig_take(rig);
    cr_assert_eq(request->frame_count, 1);
    expect_error(rig, &client, PE_NOT_CONTIGUOUS);
    rig_answer_produce(rig, request, 0, 0);
    struct frame frame;
    while (client_next(rig, &client, &frame)) // the ack may still get out
        cr_assert_eq(frame.op, OP_ACK);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, every_flipped_bit_of_a_header_or_meta_is_noticed, .timeout = 60)
{
    struct rig *rig = rig_new(1);
    struct wire wire = wire_new();
    uint32_t partition = 0;
    struct frame frame;
    wire_produce(&wire, 1, &partition, 1, 20);
    uint32_t covered = FRAME_HEADER_SIZE + PRODUCE_META_FIXED + sizeof(struct produce_item);
    for (uint32_t bit = 0; bit < covered * 8; bit++) {
        struct client client = client_hello(rig);
        wire.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        client_send(rig, &client, wire.bytes, wire.length);
        wire.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        shutdown(client.fd, SHUT_WR); // a longer length waits for bytes that never come
        while (client_next(rig, &client, &frame))
            cr_assert_neq(frame.flags, FRAME_PUSH);
        cr_assert_eq(rig->request_count, 0, "bit %u", bit);
        client_close(&client);
        for (int i = 0; rig->core->conns.open_count > 0 && i < RIG_TURNS_MAX; i++)
            rig_turn(rig);
    }
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, replies_and_pushes_from_a_client_are_malformed)
{
    static const uint8_t flags[] = {FRAME_REPLY, FRAME_REPLY | FRAME_ERROR, FRAME_PUSH};
    struct rig *rig = rig_new(1);
    for (size_t i = 0; i < ARRAY_COUNT(flags); i++) {
        struct client client = client_hello(rig);
        struct wire wire = wire_new();
        struct writer w = wire_meta(&wire);
        wire_seal(&wire, &w, OP_PING, flags[i], 1, NULL, 0);
        client_send(rig, &client, wire.bytes, wire.length);
        expect_error(rig, &client, PE_MALFORMED);
        expect_end(rig, &client);
        client_close(&client);
        free(wire.bytes);
    }
    rig_free(rig);
}

Test(conn_parse, what_is_unknown_or_the_brokers_is_answered_and_the_connection_lives)
{
    static const uint16_t ops[] = {0, OP_ACK, OP_DELIVER, OP_GOAWAY, 40, 56, 4711, UINT16_MAX};
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        wire.length = 0;
        wire_empty(&wire, ops[i], i);
        client_send(rig, &client, wire.bytes, wire.length);
        expect_error(rig, &client, PE_UNKNOWN_OPERATION);
    }
    expect_ping(rig, &client, 1);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, metas_of_every_operation_that_are_garbage_never_reach_a_shard_as_publish)
{
    /* Each op with metas of each length up to 64, of zeros and of 0xff: an answer, an end, or a
     * request whose handler decodes it again; never an assertion. */
    struct rig *rig = rig_new(2);
    struct wire wire = wire_new();
    for (uint16_t op = OP_HELLO; op <= OP_GROUP_DELETE; op++) {
        for (uint32_t length = 0; length <= 64; length++) {
            for (int fill = 0; fill <= 0xff; fill += 0xff) {
                struct client client = client_hello(rig);
                struct frame frame;
                wire.length = 0;
                struct writer w = wire_meta(&wire);
                uint8_t meta[64];
                memset(meta, fill, sizeof(meta));
                write_bytes(&w, meta, length);
                wire_seal(&wire, &w, op, 0, 1, NULL, 0);
                client_send(rig, &client, wire.bytes, wire.length);
                shutdown(client.fd, SHUT_WR);
                rig_turns(rig, 4);
                while (rig->request_count > 0) {
                    struct request *request = rig_take(rig);
                    cr_assert_neq(request->op, OP_PRODUCE);
                    request->error = request->kind == REQUEST_CLIENT ? PE_MALFORMED : PE_NONE;
                    rig_reply(rig, request);
                    rig_turns(rig, 2);
                }
                while (client_next(rig, &client, &frame))
                    cr_assert_neq(frame.flags, FRAME_PUSH);
                client_close(&client);
            }
        }
    }
    free(wire.bytes);
    rig_free(rig);
}

static void expect_body(const struct request *request, uint64_t number, uint32_t bytes)
{
    struct frame frame;
    const struct frame_header *header = (const struct frame_header *)request->frames;
    uint32_t meta_length = le32_get(header->meta_length);
    cr_assert_eq(request->frame_bytes, FRAME_HEADER_SIZE + meta_length + bytes);
    const uint8_t *data = request->frames + FRAME_HEADER_SIZE + meta_length;
    for (uint32_t i = 0; i < bytes; i++)
        cr_assert_eq(data[i], (uint8_t)(number * 31 + i), "byte %u of %u", i, bytes);
    (void)frame;
}

Test(conn_parse, bodies_of_all_sizes_arrive_whole, .timeout = 60)
{
    static const uint32_t sizes[] = {1,      4095,   16300,   16384,   20000,   65536,
                                     262144, 270336, 1000000, 1122304, 4 << 20, 15 << 20};
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint64_t number = 1;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_COUNT(sizes); i++, number++) {
            wire.length = 0;
            wire_produce_one(&wire, number, sizes[i]);
            client_send(rig, &client, wire.bytes, wire.length);
            struct request *request = rig_take(rig);
            expect_body(request, number, sizes[i]);
            rig_answer_produce(rig, request, 0, 0);
        }
    }
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}

Test(conn_parse, a_mixed_stream_arrives_in_order_and_whole, .timeout = 60)
{
    struct rig *rig = rig_new(1);
    struct client client = client_hello(rig);
    struct wire wire = wire_new();
    uint64_t expected = 1, number = 1;
    uint32_t sizes[4096];
    srand(4711);
    for (int round = 0; round < 40; round++) {
        wire.length = 0;
        for (int i = 0; i < 60; i++, number++) {
            int kind = rand() % 20;
            sizes[number] = kind == 0 ? 300000u : kind < 3 ? 40000u : (uint32_t)(rand() % 900 + 1);
            wire_produce_one(&wire, number, sizes[number]);
        }
        size_t sent = 0;
        while (sent < wire.length || expected < number) {
            size_t piece = min_u64(wire.length - sent, (uint64_t)(rand() % 200000 + 1));
            ssize_t n = piece ? send(client.fd, wire.bytes + sent, piece, MSG_NOSIGNAL) : 0;
            sent += n > 0 ? (size_t)n : 0;
            rig_turn(rig);
            while (rig->request_count > 0) {
                struct request *request = rig_take(rig);
                cr_assert_eq(request->correlation, expected);
                uint8_t *at = request->frames;
                for (uint32_t i = 0; i < request->frame_count; i++, expected++) {
                    struct request one = *request;
                    one.frames = at;
                    one.frame_bytes = le32_get(((struct frame_header *)at)->length);
                    expect_body(&one, expected, sizes[expected]);
                    at += one.frame_bytes;
                }
                rig_answer_produce(rig, request, 0, 0);
            }
            client_recv(&client);
            client.in_bytes = client.in_taken = 0; // acks: counted elsewhere
        }
    }
    cr_assert_eq(expected, 2401);
    client_close(&client);
    free(wire.bytes);
    rig_free(rig);
}
