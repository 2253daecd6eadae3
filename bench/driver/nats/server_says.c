/* What a running server tells of itself beyond its streams.
 *
 * A connection begins with a line of the server's, INFO and JSON, that has its version and identity. Settings are told by its
 * monitoring port only, if it has one: it is looked for at $NATS_MONITOR (A:P), else at port 8222 of the same host, and believed only if the
 * identity is the same. 2.9 has no setting for flushing; later versions tell theirs as jetstream.config.sync_interval, in ns, and
 * sync_always. */
#include <inttypes.h>
#include <jansson.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench/driver/nats/jetstream.h"

#define ANSWER_MAX (64 * 1024)
#define ANSWER_S 3 // to be told; nothing depends on it
#define MONITOR_PORT "8222"
#define SYNC_SETTING_MINOR 10 // 2.10 was the first with a setting

static int dial(const char *host, const char *port);
static json_t *read_info(const char *host, const char *port, char *answer);
static json_t *read_varz(const char *host, const char *port, char *answer);
static bool split(const char *text, char *host, size_t host_size, char *port, size_t port_size);
static void describe_sync(struct driver_session *session, const json_t *varz, const char *version,
                          char *sync);

int jetstream_ask_server(struct driver_session *session, char *sync)
{
    const char *server = session->options->server ? session->options->server : JETSTREAM_SERVER;
    const char *monitor = getenv("NATS_MONITOR");
    char host[128], port[16], monitor_host[128], monitor_port[16] = MONITOR_PORT;
    if (!split(server, host, sizeof(host), port, sizeof(port)))
        return driver_fail(session, "--server %s: want HOST:PORT", server);
    snprintf(monitor_host, sizeof(monitor_host), "%s", host);
    if (monitor &&
        !split(monitor, monitor_host, sizeof(monitor_host), monitor_port, sizeof(monitor_port)))
        return driver_fail(session, "NATS_MONITOR=%s: want HOST:PORT", monitor);
    char *answer = malloc(ANSWER_MAX);
    if (answer == NULL)
        return driver_fail(session, "out of memory");
    json_t *info = read_info(host, port, answer), *varz = NULL;
    const char *version = json_string_value(json_object_get(info, "version"));
    const char *id = json_string_value(json_object_get(info, "server_id"));
    if (version && id) {
        driver_fact(session, true, "version", "%s", version);
        varz = read_varz(monitor_host, monitor_port, answer);
        const char *other = json_string_value(json_object_get(varz, "server_id"));
        bool is_same = other && strcmp(id, other) == 0;
        describe_sync(session, is_same ? varz : NULL, version, sync);
    } else {
        (void)driver_fail(session, "%s: no INFO with a version at the begin of a connection",
                          server);
    }
    int status = version && id ? 0 : DRIVER_FAILED;
    json_decref(info);
    json_decref(varz);
    free(answer);
    return status;
}

/* In words, and as a fact: fetched only if the server itself has told. */
static void describe_sync(struct driver_session *session, const json_t *varz, const char *version,
                          char *sync)
{
    const json_t *config = json_object_get(json_object_get(varz, "jetstream"), "config");
    const json_t *interval = json_object_get(config, "sync_interval");
    unsigned major = 0, minor = 0;
    bool has_setting = sscanf(version, "%u.%u", &major, &minor) != 2 || major > 2 ||
                       (major == 2 && minor >= SYNC_SETTING_MINOR);
    driver_fact(session, config != NULL, "monitoring_port", "%s", config ? "asked" : "none found");
    if (!has_setting) {
        snprintf(sync, 80, "fsync every 2 minutes, which 2.9 and before can't change");
        driver_fact(session, false, "sync_interval", "2m (built in)");
    } else if (json_is_true(json_object_get(config, "sync_always"))) {
        snprintf(sync, 80, "fsync before ack");
        driver_fact(session, true, "sync_always", "true");
    } else if (json_is_integer(interval)) {
        double seconds = (double)json_integer_value(interval) / 1e9;
        snprintf(sync, 80, "fsync every %g s", seconds);
        driver_fact(session, true, "sync_interval", "%g s", seconds);
    } else {
        snprintf(sync, 80, "fsync every sync_interval, which was not told");
        driver_fact(session, false, "sync_interval", "not told (2m unless set)");
    }
}

/* ---- over a socket ---- */

static bool split(const char *text, char *host, size_t host_size, char *port, size_t port_size)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || colon[1] == '\0' || (size_t)(colon - text) >= host_size ||
        strlen(colon + 1) >= port_size)
        return false;
    snprintf(host, host_size, "%.*s", (int)(colon - text), text);
    snprintf(port, port_size, "%s", colon + 1);
    return true;
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct timeval patience = {.tv_sec = ANSWER_S};
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        if (connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* Up to the end of the connection, or to the first line's end. */
static size_t read_answer(int fd, char *answer, bool to_line)
{
    size_t length = 0;
    while (length < ANSWER_MAX - 1) {
        ssize_t got = recv(fd, answer + length, ANSWER_MAX - 1 - length, 0);
        if (got <= 0)
            break;
        length += (size_t)got;
        if (to_line && memchr(answer, '\n', length))
            break;
    }
    answer[length] = '\0';
    return length;
}

static json_t *read_info(const char *host, const char *port, char *answer)
{
    int fd = dial(host, port);
    if (fd < 0)
        return NULL;
    read_answer(fd, answer, true);
    close(fd);
    answer[strcspn(answer, "\r\n")] = '\0';
    return strncmp(answer, "INFO ", 5) == 0 ? json_loads(answer + 5, 0, NULL) : NULL;
}

static json_t *read_varz(const char *host, const char *port, char *answer)
{
    static const char request[] = "GET /varz HTTP/1.0\r\n\r\n";
    int fd = dial(host, port);
    if (fd < 0)
        return NULL;
    bool sent = send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == sizeof(request) - 1;
    if (sent)
        read_answer(fd, answer, false);
    close(fd);
    const char *body = sent ? strstr(answer, "\r\n\r\n") : NULL;
    return body ? json_loads(body + 4, 0, NULL) : NULL;
}
