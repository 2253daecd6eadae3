/* PRODUCE: which shard each batch belongs to, and gathering of publishes into runs.
 *
 * The common case is a connection that sends many small publishes to one shard: they lie one behind
 * the other in the receive buffer and leave as one request. A run ends when a frame goes elsewhere,
 * at PRODUCE_RUN_FRAMES_MAX, or with the bytes. A publish whose batches go to several shards leaves
 * as a parent with a child to each.
 *
 * Each item gets its shard and an empty error written over `reserved`, as the last thing: until
 * then the frame can be looked at again, checksum and all. What is in the batches is the shard's to
 * check. */
#include <stdio.h>

#include "broker/broker.h"
#include "broker/dispatch.h"

static bool add_to_run(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                       const struct msg_produce *m, uint16_t shard);
static enum conn_step refuse(struct conn *conn, const struct frame *frame, uint16_t error,
                             const char *text, uint16_t batch_count);
static uint64_t shards_of(const struct conn *conn, const struct msg_produce *m);
static void route_items(const struct conn *conn, const struct msg_produce *m);

enum conn_step dispatch_produce(struct conn *conn, uint8_t *bytes, const struct frame *frame)
{
    struct msg_produce m;
    if (frame->correlation != conn->publish_next) {
        char text[80];
        snprintf(text, sizeof(text), "publish number %llu, expected %llu",
                 (unsigned long long)frame->correlation, (unsigned long long)conn->publish_next);
        return conn_fail(conn, PE_NOT_CONTIGUOUS, OP_PRODUCE, frame->correlation, text);
    }
    uint16_t error = read_produce(frame, &m);
    if (error == PE_MALFORMED)
        return conn_fail(conn, error, OP_PRODUCE, frame->correlation,
                         "the items and the data do not fit each other");
    if (error)
        return refuse(conn, frame, error, "PRODUCE: 1..4096 batches, reserved fields 0", 0);
    uint64_t shards = shards_of(conn, &m);
    bool one = (shards & (shards - 1)) == 0;
    bool alone = !one || (m.flags & PRODUCE_STAGED); // what is staged is answered by itself
    if (alone)
        dispatch_run(conn);
    bool taken = one ? add_to_run(conn, bytes, frame, &m, (uint16_t)__builtin_ctzll(shards))
                     : dispatch_can_split(conn, shards);
    if (!taken)
        return CONN_WAITS;
    route_items(conn, &m);
    if (!one)
        (void)dispatch_split(conn, bytes, frame, shards); // can't fail now
    else if (alone)
        dispatch_run(conn);
    conn->publish_next++;
    conn->publishes++;
    counter_add(&conn->core->counters.publishes_total, 1);
    return CONN_TAKEN;
}

void dispatch_run(struct conn *conn)
{
    if (!conn->run)
        return;
    counter_add(&conn->core->counters.produce_requests_total, 1);
    dispatch_send(conn, TAKE(conn->run));
}

static bool add_to_run(struct conn *conn, uint8_t *bytes, const struct frame *frame,
                       const struct msg_produce *m, uint16_t shard)
{
    struct request *run = conn->run;
    if (run && run->shard == shard && run->frame_count < PRODUCE_RUN_FRAMES_MAX) {
        ASSERT(run->frames + run->frame_bytes == bytes && run->buffer == conn->buffer);
        run->frame_bytes += frame->length;
        run->frame_count++;
        run->offset_count += m->batch_count;
        return true;
    }
    dispatch_run(conn);
    run = dispatch_request(conn, bytes, frame, shard);
    if (!run)
        return false;
    run->offset_count = m->batch_count;
    conn->run = run;
    return true;
}

/* The number counts as used: the client may go on behind it. */
static enum conn_step refuse(struct conn *conn, const struct frame *frame, uint16_t error,
                             const char *text, uint16_t batch_count)
{
    dispatch_run(conn); // a run is without gaps
    if (!conn_send_produce_error(conn, frame->correlation, error, text, batch_count))
        return CONN_WAITS;
    conn->publish_next++;
    return CONN_TAKEN;
}

static uint64_t shards_of(const struct conn *conn, const struct msg_produce *m)
{
    const struct broker *broker = conn->core->broker;
    uint64_t shards = 0;
    if (broker->shard_count == 1)
        return 1;
    for (uint32_t i = 0; i < m->batch_count; i++)
        shards |=
            (uint64_t)1 << shard_of_partition(broker->slot_shard, le32_get(m->items[i].topic_id),
                                              le32_get(m->items[i].partition));
    return shards;
}

/* From here on the items are struct produce_outcome. */
static void route_items(const struct conn *conn, const struct msg_produce *m)
{
    const struct broker *broker = conn->core->broker;
    struct produce_outcome *outcomes = (struct produce_outcome *)(uintptr_t)m->items;
    for (uint32_t i = 0; i < m->batch_count; i++) {
        uint16_t shard = 0;
        if (broker->shard_count > 1)
            shard = shard_of_partition(broker->slot_shard, le32_get(m->items[i].topic_id),
                                       le32_get(m->items[i].partition));
        outcomes[i].shard = le16_make(shard);
        outcomes[i].error = le16_make(PE_NONE);
    }
}
