/* Three pages. A request that announces too large a body is refused before it sends it; one that
 * doesn't say how much is cut off at the bound. */
#include "broker/http.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "broker/broker.h"

struct http {
    struct MHD_Daemon *daemon;
    struct broker *broker;
};

struct page {
    const char *path;
    enum MHD_Result (*serve)(struct broker *broker, struct MHD_Connection *connection);
};

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_bytes, void **state);
static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code);
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *text);
static enum MHD_Result serve_health(struct broker *broker, struct MHD_Connection *connection);
static enum MHD_Result serve_ready(struct broker *broker, struct MHD_Connection *connection);
static enum MHD_Result serve_metrics(struct broker *broker, struct MHD_Connection *connection);

static const struct page pages[] = {
    {"/healthz", serve_health},
    {"/readyz", serve_ready},
    {"/metrics", serve_metrics},
};

int http_start(struct broker *broker, const struct address *address, struct address *bound,
               struct http **http_out)
{
    int fd = address_listen(address, HTTP_CONNECTIONS_MAX, false);
    if (fd < 0)
        return fd;
    int status = address_of_socket(fd, bound);
    struct http *http = calloc(1, sizeof(*http));
    if (status != 0 || !http) {
        close(fd);
        free(http);
        return status ? status : E_NO_MEMORY;
    }
    http->broker = broker;
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, on_request, http,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        HTTP_CONNECTION_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)(512 * KIB),
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_END);
    if (!http->daemon) {
        close(fd);
        free(http);
        return E_IO;
    }
    *http_out = http;
    return 0;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    MHD_stop_daemon(http->daemon); // closes the listening socket
    free(http);
}

/* ---- a request: called once with its headers, then for each part of its body, then at the end
 * ---- */

struct request_state {
    uint64_t body_bytes;
};

static uint64_t announced_bytes(struct MHD_Connection *connection)
{
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length ? strtoull(length, NULL, 10) : 0;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_bytes, void **state)
{
    struct http *http = context;
    struct request_state *request = *state;
    if (!request) {
        request = calloc(1, sizeof(*request));
        *state = request;
        if (announced_bytes(connection) > HTTP_BODY_BYTES_MAX)
            return answer(connection, MHD_HTTP_CONTENT_TOO_LARGE, "at most 64 KiB\n");
        return request ? MHD_YES : MHD_NO;
    }
    if (*body_bytes > 0) {
        request->body_bytes += *body_bytes;
        *body_bytes = 0;
        return request->body_bytes <= HTTP_BODY_BYTES_MAX ? MHD_YES : MHD_NO;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    for (size_t i = 0; i < ARRAY_COUNT(pages); i++) {
        if (strcmp(url, pages[i].path) == 0)
            return pages[i].serve(http->broker, connection);
    }
    return answer(connection, MHD_HTTP_NOT_FOUND, "/healthz, /readyz, /metrics\n");
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    free(TAKE(*state));
}

static enum MHD_Result send_response(struct MHD_Connection *connection, unsigned status,
                                     struct MHD_Response *response, const char *type)
{
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *text)
{
    return send_response(connection, status,
                         MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                                         MHD_RESPMEM_MUST_COPY),
                         "text/plain; charset=utf-8");
}

/* ---- pages ---- */

/* Never depends on disk, peers or load: a broker that recovers or waits for its disk is alive. */
static enum MHD_Result serve_health(struct broker *broker, struct MHD_Connection *connection)
{
    return answer(connection, MHD_HTTP_OK, "ok\n");
}

static enum MHD_Result serve_ready(struct broker *broker, struct MHD_Connection *connection)
{
    const char *reason;
    char text[128];
    if (metrics_can_produce(broker, &reason))
        return answer(connection, MHD_HTTP_OK, "ready\n");
    snprintf(text, sizeof(text), "not ready: %s\n", reason);
    return answer(connection, MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static enum MHD_Result serve_metrics(struct broker *broker, struct MHD_Connection *connection)
{
    size_t length;
    char *text = metrics_text(broker, &length);
    if (!text)
        return answer(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    return send_response(connection, MHD_HTTP_OK,
                         MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE),
                         "text/plain; version=0.0.4; charset=utf-8");
}
