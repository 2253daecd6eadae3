/* Other answers: large, failed, or given by the connection's core itself. */
#include "conn_fixture.h"

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
    finish(rig, &client, &wire);
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
    finish(rig, &client, &wire);
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
    finish(rig, &client, &wire);
}
