/* Answers: requests that came home, and deliveries that came from a shard.
 *
 * A request finds its connection by conn_id; when that life is over it is dropped. Publishes go to
 * conn_ack.c. Other answers are frames that the shard wrote (small ones are copied into lane 1,
 * large ones sent from where they are), or an error frame made here. Nothing is lost for want of a
 * buffer: what can't be written out waits in its list. */
#include "broker/broker.h"
#include "broker/dispatch.h"

static bool write_answer(struct conn *conn, struct request *request);
static bool write_subscribe(struct conn *conn, struct request *request);
static bool write_unsubscribe(struct conn *conn, struct request *request);
static bool write_reply(struct conn *conn, struct request *request);

#define COPY_BYTES_MAX ((uint32_t)(4 * KIB)) // copying this costs less than a send of its own

void conn_on_reply(struct conns *conns, struct request *request)
{
    struct core *core = conns->core;
    core->replies++;
    if (request->kind != REQUEST_CLIENT) {
        request_release(&core->requests, request);
        return;
    }
    if (request->parent)
        request = dispatch_merge(core, request);
    if (!request)
        return;
    struct conn *conn = conn_find(conns, request->conn);
    if (!conn || conn->phase > CONN_ENDING) {
        request_drop(core, request);
        return;
    }
    if (request->op == OP_FETCH && !request->error)
        conn->fetches++; // its answer comes behind this
    if (request->op == OP_PRODUCE)
        conn_insert_ack(conn, request);
    else
        list_push_back(&conn->answers, &request->link);
    conn_wants_turn(conn);
}

void conn_on_deliver(struct conns *conns, struct request *delivery)
{
    struct conn *conn = conn_find(conns, delivery->conn);
    uint64_t id = delivery->u.deliver.subscription;
    struct conn_subscription *subscription =
        conn && id != 0 ? conn_subscription_find(conn, id) : NULL;
    if (!conn || conn->phase > CONN_ENDING || (id != 0 && !subscription)) {
        mailbox_reply(&conns->core->mailbox, delivery);
        return;
    }
    if (subscription && subscription->state == SUBSCRIPTION_BEGINNING) {
        list_push_back(&subscription->held, &delivery->link);
        return;
    }
    if (subscription) {
        conn_subscription_delivered(conn, subscription, delivery);
    } else {
        ASSERT(conn->fetches > 0);
        conn->fetches--;
    }
    conn_deliver(conn, delivery);
}

bool conn_flush(struct conn *conn)
{
    if (!conn_flush_acks(conn))
        return false;
    while (!list_is_empty(&conn->answers)) {
        struct request *request = CONTAINER_OF(conn->answers.next, struct request, link);
        list_remove(&request->link);
        if (!write_answer(conn, request)) {
            list_push_front(&conn->answers, &request->link);
            return false;
        }
    }
    return true;
}

/* True: the request has moved on. */
static bool write_answer(struct conn *conn, struct request *request)
{
    switch (request->op) {
    case OP_SUBSCRIBE:
        return write_subscribe(conn, request);
    case OP_UNSUBSCRIBE:
        return write_unsubscribe(conn, request);
    case OP_CREDIT: /* is not answered */
        conn_finish(conn, request);
        return true;
    default:
        return write_reply(conn, request);
    }
}

static bool write_reply(struct conn *conn, struct request *request)
{
    if (request->error == PE_MALFORMED) {
        (void)conn_fail(conn, PE_MALFORMED, request->op, request->correlation, request->text);
    } else if (request->error) {
        if (!conn_send_error(conn, request->op, request->correlation, request->error,
                             request->text))
            return false;
    } else if (request->reply_bytes > COPY_BYTES_MAX) {
        conn_deliver(conn, request); // finished when it was sent
        return true;
    } else if (request->reply_bytes > 0) {
        uint8_t *bytes = conn_out(conn, request->reply_bytes);
        if (!bytes)
            return false;
        memcpy(bytes, request->reply->bytes, request->reply_bytes);
        conn_out_commit(conn, request->reply_bytes);
    } /* else a FETCH, whose answer will be a delivery */
    conn_finish(conn, request);
    return true;
}

/* Its deliveries may have come before: they go out behind the answer. */
static bool write_subscribe(struct conn *conn, struct request *request)
{
    struct conn_subscription *subscription = conn_subscription_find(conn, request->correlation);
    bool written = request->error ? conn_send_error(conn, OP_SUBSCRIBE, request->correlation,
                                                    request->error, request->text)
                                  : conn_send_empty(conn, OP_SUBSCRIBE, request->correlation);
    if (!written)
        return false;
    if (subscription && request->error)
        conn_subscription_remove(conn, subscription);
    else if (subscription)
        conn_subscription_activate(conn, subscription);
    conn_finish(conn, request);
    return true;
}

/* A subscription of ours that a shard no longer knows has ended there by itself: that is no
 * error. */
static bool write_unsubscribe(struct conn *conn, struct request *request)
{
    struct conn_subscription *subscription =
        conn_subscription_find(conn, dispatch_subscription_of(request));
    bool failed = request->error && !(subscription && request->error == PE_UNKNOWN_SUBSCRIPTION);
    bool written = failed ? conn_send_error(conn, OP_UNSUBSCRIBE, request->correlation,
                                            request->error, request->text)
                          : conn_send_empty(conn, OP_UNSUBSCRIBE, request->correlation);
    if (!written)
        return false;
    if (subscription)
        conn_subscription_remove(conn, subscription);
    conn_finish(conn, request);
    return true;
}

void conn_finish(struct conn *conn, struct request *request)
{
    struct core *core = conn->core;
    ASSERT(conn->requests > 0);
    conn->requests--;
    if (request->op == OP_PRODUCE)
        conn->publishes -= request->frame_count;
    if (request->buffer)
        conn_unpin(conn, TAKE(request->buffer));
    ASSERT(conn->pinned_bytes >= request->freed_bytes);
    conn->pinned_bytes -= request->freed_bytes;
    if (request->reply)
        conn->pinned_bytes -= request->reply->capacity;
    request_drop(core, request);
    conn_wants_turn(conn); // it may read again
}

void request_drop(struct core *core, struct request *request)
{
    if (request->buffer)
        buffer_unref(&core->buffers, TAKE(request->buffer));
    if (request->reply)
        buffer_unref(&core->buffers, TAKE(request->reply));
    request_release(&core->requests, request);
}

void conn_drop_answers(struct conn *conn)
{
    struct list *lists[] = {&conn->acks, &conn->answers};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        for (struct list *node; (node = list_pop_front(lists[i]));)
            request_drop(conn->core, CONTAINER_OF(node, struct request, link));
    }
}
