/* Requests with one reply: kept in one list from start to completion, found by correlation id.
 *
 * The happy path: calls_start() queues the frame (or connection_up() does, later), calls_reply()
 * completes. A call ends otherwise at its deadline; when the connection breaks and it can't be
 * repeated; when the client ends. There are few at a time, so the list is walked. */
#include "client/calls.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/client_private.h"
#include "proto/messages.h"

static void send_call(struct sluice_client *client, struct call *call);
static void complete(struct call *call, int status, const struct frame *reply);
static void request_done(struct call *call, int status, const struct frame *reply);
static int copy_reply(struct request *request, const struct frame *reply);
static void copy_error(struct request *request, const struct frame *reply);

void calls_start(struct sluice_client *client, struct call *call)
{
    call->sent = false;
    list_push_back(&client->calls, &call->link);
    if (connection_is_up(&client->connection))
        send_call(client, call);
}

void calls_cancel(struct call *call)
{
    if (call->link.next)
        list_remove(&call->link);
}

void calls_connected(struct sluice_client *client)
{
    LIST_EACH(link, &client->calls)
    {
        struct call *call = CONTAINER_OF(link, struct call, link);
        if (!call->sent && connection_is_up(&client->connection))
            send_call(client, call);
    }
}

void calls_lost(struct sluice_client *client)
{
    struct list given_up;
    list_init(&given_up);
    LIST_EACH(link, &client->calls)
    {
        struct call *call = CONTAINER_OF(link, struct call, link);
        if (call->sent && !call->repeatable) {
            list_remove(&call->link);
            list_push_back(&given_up, &call->link);
        }
        call->sent = false;
    }
    struct list *link;
    while ((link = list_pop_front(&given_up)))
        complete(CONTAINER_OF(link, struct call, link), SLUICE_E_CLOSED, NULL);
}

void calls_reply(struct sluice_client *client, const struct frame *frame)
{
    LIST_EACH(link, &client->calls)
    {
        struct call *call = CONTAINER_OF(link, struct call, link);
        if (!call->sent || call->correlation != frame->correlation || call->op != frame->op)
            continue;
        int status = SLUICE_OK;
        struct msg_error error;
        if (frame->flags & FRAME_ERROR)
            status = read_error(frame, &error) == PE_NONE ? error_from_broker(error.error)
                                                          : SLUICE_E_PROTOCOL;
        complete(call, status, frame);
        return;
    }
}

void calls_expire(struct sluice_client *client)
{
    int status = connection_is_up(&client->connection) ? SLUICE_E_TIMED_OUT : SLUICE_E_CONNECT;
    bool again;
    do {
        again = false;
        LIST_EACH(link, &client->calls)
        {
            struct call *call = CONTAINER_OF(link, struct call, link);
            if (call->deadline_ns > client->now_ns)
                continue;
            complete(call, status, NULL);
            again = true; // done() may have changed the list
            break;
        }
    } while (again);
}

bool calls_are_out(struct sluice_client *client)
{
    LIST_EACH(link, &client->calls)
    {
        if (CONTAINER_OF(link, struct call, link)->sent)
            return true;
    }
    return false;
}

uint64_t calls_wake_ns(struct sluice_client *client)
{
    uint64_t wake_ns = UINT64_MAX;
    LIST_EACH(link, &client->calls)
    wake_ns = min_u64(wake_ns, CONTAINER_OF(link, struct call, link)->deadline_ns);
    return wake_ns;
}

void calls_end(struct sluice_client *client, int status)
{
    while (!list_is_empty(&client->calls))
        complete(CONTAINER_OF(client->calls.next, struct call, link), status, NULL);
}

static void send_call(struct sluice_client *client, struct call *call)
{
    uint8_t *frame = connection_reserve(client, call->meta_bytes);
    if (!frame)
        return; // the connection is being closed; the next one sends it
    call->sent = true;
    call->correlation = ++client->correlation;
    memcpy(frame + FRAME_HEADER_SIZE, call->meta, call->meta_bytes);
    connection_queue(client, call->op, call->correlation, call->meta_bytes);
}

static void complete(struct call *call, int status, const struct frame *reply)
{
    list_remove(&call->link);
    call->done(call, status, reply);
}

/* ---- the waiting side ---- */

int request_begin(struct request *request, struct sluice_client *client, enum op op,
                  uint32_t meta_bytes)
{
    memset(request, 0, sizeof(*request));
    error_set("%s", "");
    request->client = client;
    request->call.meta = malloc(meta_bytes > 0 ? meta_bytes : 1);
    if (!request->call.meta)
        return SLUICE_E_NO_MEMORY;
    sem_init(&request->finished, 0, 0);
    list_init(&request->call.link);
    request->call.op = op;
    request->call.repeatable = true;
    request->call.done = request_done;
    request->meta = writer_make(request->call.meta, meta_bytes);
    return SLUICE_OK;
}

int request_wait(struct request *request)
{
    int status = request_ready(request);
    if (status != SLUICE_OK)
        return status;
    client_command(request->client, COMMAND_CALL, &request->call);
    return request_finish(request);
}

int request_ready(struct request *request)
{
    struct sluice_client *client = request->client;
    if (client_is_io_thread(client)) {
        error_set("not from a report or log callback");
        return SLUICE_E_INVALID;
    }
    if (request->meta.failed) {
        error_set("a name or the number of arguments is too long");
        return SLUICE_E_INVALID;
    }
    request->call.meta_bytes = writer_length(&request->meta);
    request->call.deadline_ns = request->deadline_ns
                                    ? request->deadline_ns
                                    : client_deadline(client, client->request_timeout_ms);
    return SLUICE_OK;
}

int request_finish(struct request *request)
{
    while (sem_wait(&request->finished) != 0)
        continue; // a signal handler ran
    if (request->status != SLUICE_OK)
        error_set("%s", request->error_text);
    return request->status;
}

void request_end(struct request *request)
{
    if (!request->call.meta)
        return; // it never began
    sem_destroy(&request->finished);
    free(request->call.meta);
    free(request->reply_bytes);
}

static void request_done(struct call *call, int status, const struct frame *reply)
{
    struct request *request = CONTAINER_OF(call, struct request, call);
    struct sluice_client *client = request->client;
    if (status == SLUICE_OK)
        status = copy_reply(request, reply);
    else if (reply)
        copy_error(request, reply);
    else if (client->connection.state != CONNECTION_UP)
        snprintf(request->error_text, sizeof(request->error_text), "%s: %s", client->server,
                 client->connection.last_error);
    request->status = status;
    sem_post(&request->finished); // the request may be gone when this returns
}

static int copy_reply(struct request *request, const struct frame *reply)
{
    request->reply = *reply;
    request->reply_bytes = malloc((size_t)reply->meta_length + reply->data_length + 1);
    if (!request->reply_bytes)
        return SLUICE_E_NO_MEMORY;
    memcpy(request->reply_bytes, reply->meta, reply->meta_length);
    request->reply.meta = request->reply_bytes;
    request->reply.data = request->reply_bytes + reply->meta_length;
    if (reply->data_length > 0)
        memcpy(request->reply_bytes + reply->meta_length, reply->data, reply->data_length);
    return SLUICE_OK;
}

static void copy_error(struct request *request, const struct frame *reply)
{
    struct msg_error error;
    if (read_error(reply, &error) == PE_NONE)
        snprintf(request->error_text, sizeof(request->error_text), "%.*s", (int)error.text.len,
                 (const char *)error.text.bytes);
}
