/* CREDIT and UNSUBSCRIBE. A CREDIT for a subscription that has ended is no error: it may have crossed the end
 * on its way. */
#include "broker/cursor.h"

enum handled handle_credit(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_credit m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_credit(&frame, &m);
    if (error) {
        shard_reply_error(shard, request, error, "%s", op_name(request->op));
        return HANDLED;
    }
    request->reply_bytes = 0;
    if (request->op == OP_CREDIT) {
        (void)cursors_credit(shard->cursors, request->conn, m.subscription, m.bytes);
        shard_reply(shard, request);
        return HANDLED;
    }
    if (!cursors_unsubscribe(shard->cursors, shard, request->conn, m.subscription)) {
        shard_reply_error(shard, request, PE_UNKNOWN_SUBSCRIPTION, "%s", "");
        return HANDLED;
    }
    if (request->reply)
        request->reply_bytes = frame_seal(request->reply->bytes, OP_UNSUBSCRIBE, FRAME_REPLY,
                                          request->correlation, 0, 0);
    shard_reply(shard, request);
    return HANDLED;
}
