/* FETCH and SUBSCRIBE: both become cursors (cursor.h). Both are answered at once, all or nothing; what
 * a FETCH brings is a delivery, when there is something to say. */
#include <stdio.h>

#include "broker/cursor.h"

static uint16_t check(struct request *request, const struct msg_fetch *m);

enum handled handle_fetch(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_fetch m;
    uint16_t error = PE_MALFORMED;
    if (frame_decode(request->frames, &frame) == PE_NONE)
        error = read_fetch(&frame, &m);
    if (error)
        snprintf(request->text, sizeof(request->text), "%s", op_name(request->op));
    else
        error = check(request, &m);
    if (!error && shard->state == SHARD_DRAINING)
        error = PE_SHUTTING_DOWN;
    if (!error)
        error = cursors_begin(shard->cursors, shard, request, &m);
    if (error) {
        request->error = error;
        request->reply_bytes = 0;
        shard_reply(shard, request);
    } else {
        if (request->reply)
            request->reply_bytes = frame_seal(request->reply->bytes, OP_SUBSCRIBE, FRAME_REPLY,
                                              request->correlation, 0, 0);
        shard_reply(shard, request);
    }
    return HANDLED;
}

static uint16_t check(struct request *request, const struct msg_fetch *m)
{
    if (m->item_count == 0) {
        snprintf(request->text, sizeof(request->text), "no partition is named");
        return PE_INVALID_ARGUMENT;
    }
    if (request->op == OP_FETCH && m->item_count > FETCH_ITEMS_MAX) {
        snprintf(request->text, sizeof(request->text), "%u partitions, allowed 1..%u",
                 m->item_count, FETCH_ITEMS_MAX);
        return PE_INVALID_ARGUMENT;
    }
    if (request->op == OP_FETCH && m->wait_ms > FETCH_WAIT_MS_MAX) {
        snprintf(request->text, sizeof(request->text), "wait of %u ms, allowed 0..%u", m->wait_ms,
                 FETCH_WAIT_MS_MAX);
        return PE_INVALID_ARGUMENT;
    }
    return PE_NONE;
}
