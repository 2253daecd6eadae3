/* A connection that never waits by itself.
 *
 * hiredis connects and parses. Its own output buffer is not used: it is freed and made anew each time it ran empty, and moved
 * after each write that was not whole, which shows at this rate. Nor its replies as objects: an ack would be two allocations,
 * a record that is read about ten. The parser calls the functions of producer.c and consumer.c instead.
 *
 * A connection that ended or broke is not opened again: what was in flight is in doubt, and a measurement that has
 * lost its server is none. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/address.h"
#include "bench/driver/redis/redis.h"

static int lost(struct redis_connection *connection, const char *what, const char *why);
static int send_some(struct redis_connection *connection);
static int receive_some(struct redis_connection *connection);

int redis_connection_open(struct driver_session *session, struct redis_connection *connection,
                          size_t out_size, size_t in_size, redisReplyObjectFunctions *functions,
                          void *context)
{
    *connection = (struct redis_connection){.session = session,
                                            .out_size = out_size,
                                            .in_size = in_size,
                                            .out = malloc(out_size),
                                            .in = malloc(in_size)};
    if (connection->out == NULL || connection->in == NULL)
        return driver_fail(session, "out of memory");
    connection->context = redis_connect(session);
    if (connection->context == NULL)
        return DRIVER_FAILED;
    int fd = connection->context->fd;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        return driver_fail(session, "O_NONBLOCK: %s", strerror(errno));
    connection->context->reader->fn = functions;
    connection->context->reader->privdata = context;
    return 0;
}

void redis_connection_close(struct redis_connection *connection)
{
    if (connection->context)
        redisFree(connection->context);
    free(connection->out);
    free(connection->in);
}

char *redis_connection_reserve(struct redis_connection *connection, size_t size)
{
    size_t pending = connection->out_end - connection->out_begin, held = connection->out_held;
    if (connection->out_size - pending - held < size)
        return NULL;
    if (connection->out_size - connection->out_end - held < size) {
        memmove(connection->out, connection->out + connection->out_begin, pending + held);
        connection->out_begin = 0;
        connection->out_end = pending;
    }
    return connection->out + connection->out_end + held;
}

void redis_connection_release(struct redis_connection *connection)
{
    connection->out_end += connection->out_held;
    connection->out_held = 0;
}

int redis_connection_exchange(struct redis_connection *connection)
{
    int sent = send_some(connection);
    int received = sent < 0 ? sent : receive_some(connection);
    return received < 0 ? received : sent + received;
}

static int send_some(struct redis_connection *connection)
{
    size_t pending = connection->out_end - connection->out_begin;
    if (pending == 0)
        return 0;
    ssize_t sent = send(connection->context->fd, connection->out + connection->out_begin, pending,
                        MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (sent < 0)
        return lost(connection, "sending", strerror(errno));
    connection->out_begin += (size_t)sent;
    if (connection->out_begin == connection->out_end && connection->out_held == 0)
        connection->out_begin = connection->out_end = 0;
    return (int)sent;
}

static int receive_some(struct redis_connection *connection)
{
    ssize_t got = recv(connection->context->fd, connection->in, connection->in_size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got < 0)
        return lost(connection, "receiving", strerror(errno));
    if (got == 0)
        return lost(connection, "receiving", "the server closed the connection");
    redisReader *reader = connection->context->reader;
    if (redisReaderFeed(reader, connection->in, (size_t)got) != REDIS_OK)
        return lost(connection, "receiving", reader->errstr);
    return (int)got;
}

int redis_connection_wait(struct redis_connection *connection, uint64_t timeout_us)
{
    struct pollfd wanted = {.fd = connection->context->fd, .events = POLLIN};
    if (connection->out_end > connection->out_begin)
        wanted.events |= POLLOUT;
    struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                               .tv_nsec = (long)(timeout_us % 1000000 * NS_PER_US)};
    if (ppoll(&wanted, 1, &timeout, NULL) < 0 && errno != EINTR)
        return lost(connection, "waiting", strerror(errno));
    return 0;
}

int redis_connection_reply(struct redis_connection *connection)
{
    redisReader *reader = connection->context->reader;
    void *reply = NULL;
    if (redisReaderGetReply(reader, &reply) != REDIS_OK)
        return lost(connection, "understanding a reply", reader->errstr);
    return reply != NULL;
}

static int lost(struct redis_connection *connection, const char *what, const char *why)
{
    const redisContext *context = connection->context;
    return driver_fail(connection->session, "the connection to %s:%d is lost: %s: %s",
                       context->tcp.host, context->tcp.port, what, why);
}
