/* Connections, and errors in the server's words.
 *
 * Set-up is by the library's calls, which wait for their answers up to WAIT_S. Afterwards frames are read through the library, whose
 * heartbeats are off, so that what a producer writes by itself is never interleaved with something of the library's. */
#include "bench/driver/rabbitmq/link.h"

#include <amqp_tcp_socket.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SERVER_DEFAULT "127.0.0.1:5672"
#define WAIT_S 10
#define FRAME_BYTES_MAX 131072 // the server's default; it may want less

static int closed_by_server(struct rabbit_link *link, const char *what, amqp_method_t method);

/* ---- open and close ---- */

int rabbit_link_open(struct rabbit_link *link, struct driver_session *session)
{
    const char *server = session->options->server ? session->options->server : SERVER_DEFAULT;
    const char *colon = strrchr(server, ':');
    struct timeval patience = {.tv_sec = WAIT_S};
    char host[128];
    *link = (struct rabbit_link){.session = session, .fd = -1};
    if (colon == NULL || (size_t)(colon - server) >= sizeof(host) || atoi(colon + 1) <= 0)
        return driver_fail(session, "--server %s: want HOST:PORT", server);
    snprintf(host, sizeof(host), "%.*s", (int)(colon - server), server);
    link->connection = amqp_new_connection();
    amqp_socket_t *socket = link->connection ? amqp_tcp_socket_new(link->connection) : NULL;
    if (socket == NULL)
        return driver_fail(session, "connecting: out of memory");
    int status = amqp_socket_open_noblock(socket, host, atoi(colon + 1), &patience);
    if (status != AMQP_STATUS_OK)
        return driver_fail(session, "connecting to %s: %s", server, amqp_error_string2(status));
    (void)amqp_set_handshake_timeout(link->connection, &patience);
    (void)amqp_set_rpc_timeout(link->connection, &patience);
    amqp_rpc_reply_t reply = amqp_login(link->connection, "/", 0, FRAME_BYTES_MAX, 0,
                                        AMQP_SASL_METHOD_PLAIN, "guest", "guest");
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        return rabbit_link_status(link, "logging in as guest", reply.library_error);
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        return closed_by_server(link, "logging in as guest", reply.reply);
    link->fd = amqp_get_sockfd(link->connection);
    amqp_channel_open(link->connection, RABBIT_CHANNEL);
    return rabbit_link_answer(link, "opening a channel");
}

void rabbit_link_close(struct rabbit_link *link)
{
    if (link->connection == NULL)
        return;
    if (!link->is_broken && link->fd >= 0)
        (void)amqp_connection_close(link->connection, AMQP_REPLY_SUCCESS);
    (void)amqp_destroy_connection(link->connection);
    link->connection = NULL;
}

/* ---- errors ---- */

int rabbit_link_status(struct rabbit_link *link, const char *what, int status)
{
    if (status >= 0)
        return 0;
    link->is_broken = true;
    return driver_fail(link->session, "%s: %s", what, amqp_error_string2(status));
}

int rabbit_link_answer(struct rabbit_link *link, const char *what)
{
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(link->connection);
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        return closed_by_server(link, what, reply.reply);
    return rabbit_link_status(
        link, what, reply.library_error ? reply.library_error : AMQP_STATUS_CONNECTION_CLOSED);
}

/* Both closes have the same two words in them. */
static int closed_by_server(struct rabbit_link *link, const char *what, amqp_method_t method)
{
    int code = 0;
    amqp_bytes_t text = amqp_empty_bytes;
    link->is_broken = true;
    if (method.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = method.decoded;
        code = close->reply_code;
        text = close->reply_text;
    } else if (method.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = method.decoded;
        code = close->reply_code;
        text = close->reply_text;
    } else {
        return driver_fail(link->session, "%s: the server answered with method 0x%08x", what,
                           method.id);
    }
    return driver_fail(link->session, "%s: the server says %d: %.*s", what, code, (int)text.len,
                       (const char *)text.bytes);
}

/* ---- frames ---- */

/* What may come at any time, whatever is being done. */
static int check_method(struct rabbit_link *link, amqp_method_t method)
{
    switch (method.id) {
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
        return closed_by_server(link, "closed", method);
    case AMQP_CONNECTION_BLOCKED_METHOD: {
        const amqp_connection_blocked_t *blocked = method.decoded;
        link->is_broken = true;
        return driver_fail(link->session, "the server takes no more records: %.*s",
                           (int)blocked->reason.len, (const char *)blocked->reason.bytes);
    }
    case AMQP_BASIC_CANCEL_METHOD:
        link->is_broken = true;
        return driver_fail(link->session, "the server has ended the consumer");
    default:
        return 1;
    }
}

int rabbit_link_next(struct rabbit_link *link, amqp_frame_t *frame)
{
    struct timeval none = {0};
    if (link->is_broken)
        return DRIVER_FAILED;
    int status = amqp_simple_wait_frame_noblock(link->connection, frame, &none);
    if (status == AMQP_STATUS_TIMEOUT)
        return 0;
    if (status != AMQP_STATUS_OK)
        return rabbit_link_status(link, "receiving", status);
    return frame->frame_type == AMQP_FRAME_METHOD ? check_method(link, frame->payload.method) : 1;
}

void rabbit_link_release(struct rabbit_link *link)
{
    amqp_maybe_release_buffers(link->connection);
}

void rabbit_link_wait(struct rabbit_link *link, bool to_write, uint64_t timeout_ns)
{
    struct pollfd pollfd = {.fd = link->fd, .events = (short)(POLLIN | (to_write ? POLLOUT : 0))};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % NS_PER_S)};
    if (amqp_frames_enqueued(link->connection) || amqp_data_in_buffer(link->connection))
        return;
    (void)ppoll(&pollfd, 1, &timeout, NULL);
}

ssize_t rabbit_link_write(struct rabbit_link *link, const void *bytes, size_t length)
{
    if (link->is_broken)
        return DRIVER_FAILED;
    ssize_t sent = send(link->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    link->is_broken = true;
    return driver_fail(link->session, "sending: %s", strerror(errno));
}
