/* broker/http.h over real sockets: the pages, and that requests of any kind end with an answer or a
 * closed connection. */
#include "broker/http.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "broker/broker.h"

static struct broker broker;
static struct config config;
static struct http *http;
static struct address bound;

static void start(void)
{
    struct address any;
    config_defaults(&config);
    broker.config = &config;
    broker.shard_count = 1;
    broker.gauges[0].reason = "";
    broker.is_ready = true;
    cr_assert(eq(int, address_parse("127.0.0.1:0", &any), 0));
    cr_assert(eq(int, http_start(&broker, &any, &bound, &http), 0));
}

static void stop(void)
{
    http_stop(http);
}
TestSuite(http, .init = start, .fini = stop);

static int dial(void)
{
    int fd = socket(bound.sockaddr.any.sa_family, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    cr_assert(eq(int, connect(fd, &bound.sockaddr.any, bound.len), 0));
    return fd;
}

/* Everything until the other side closes. */
static const char *read_all(int fd)
{
    static char text[65536];
    size_t len = 0;
    ssize_t got;
    while (len < sizeof(text) - 1 && (got = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
        len += (size_t)got;
    text[len] = 0;
    close(fd);
    return text;
}

static const char *ask(const char *request)
{
    int fd = dial();
    cr_assert(eq(sz, (size_t)send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request)));
    return read_all(fd);
}

#define CLOSE " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"

static bool says(const char *answer, const char *status_line, const char *body)
{
    const char *end = strstr(answer, "\r\n\r\n");
    return strncmp(answer, status_line, strlen(status_line)) == 0 && end &&
           strcmp(end + 4, body) == 0;
}
#define EXPECT(request, status_line, body)                                                         \
    do {                                                                                           \
        const char *answer = ask(request);                                                         \
        cr_expect(says(answer, "HTTP/1.1 " status_line, body), "%s", answer);                      \
    } while (0)

Test(http, health_does_not_depend_on_being_ready)
{
    broker.is_ready = false;
    EXPECT("GET /healthz" CLOSE "\r\n", "200", "ok\n");
}

Test(http, readiness_is_503_with_the_reason_until_it_is_there)
{
    EXPECT("GET /readyz" CLOSE "\r\n", "200", "ready\n");
    broker.gauges[0].reason = "the disk is full";
    EXPECT("GET /readyz" CLOSE "\r\n", "503", "not ready: the disk is full\n");
    broker.is_ready = false;
    EXPECT("GET /readyz" CLOSE "\r\n", "503", "not ready: starting\n");
}

Test(http, head_is_a_get_without_its_body)
{
    EXPECT("HEAD /healthz" CLOSE "\r\n", "200", "");
}

Test(http, metrics_are_prometheus_text)
{
    const char *answer = ask("GET /metrics" CLOSE "\r\n");
    cr_expect_not_null(strstr(answer, "text/plain; version=0.0.4"));
    cr_expect_not_null(strstr(answer, "\nsluice_ready 1\n"));
}

Test(http, other_pages_and_methods_are_refused)
{
    EXPECT("GET /" CLOSE "\r\n", "404", "/healthz, /readyz, /metrics\n");
    EXPECT("GET /healthz/" CLOSE "\r\n", "404", "/healthz, /readyz, /metrics\n");
    EXPECT("DELETE /healthz" CLOSE "\r\n", "405", "GET and HEAD only\n");
    EXPECT("POST /metrics" CLOSE "Content-Length: 3\r\n\r\nabc", "405", "GET and HEAD only\n");
}

Test(http, a_body_that_is_announced_as_too_large_is_refused_before_it_comes)
{
    EXPECT("POST /metrics" CLOSE "Content-Length: 65537\r\n\r\n", "413", "at most 64 KiB\n");
}

/* Nothing says how much it will be: so it is cut off at the bound, with no answer. */
Test(http, a_body_without_a_length_is_cut_off)
{
    static const char head[] = "POST /metrics" CLOSE "Transfer-Encoding: chunked\r\n\r\n";
    char chunk[4096 + 8];
    int fd = dial();
    size_t sent = 0;
    cr_assert(eq(sz, (size_t)send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL), sizeof(head) - 1));
    memcpy(chunk, "1000\r\n", 6);
    memset(chunk + 6, 'x', 4096);
    memcpy(chunk + 6 + 4096, "\r\n", 2);
    while (sent < 64 * MIB && send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL) == sizeof(chunk))
        sent += 4096;
    cr_expect(lt(sz, sent, 64 * MIB), "somebody reads on and on");
    cr_expect_str_eq(read_all(fd), "");
}

Test(http, a_small_body_without_a_length_is_read_and_answered)
{
    EXPECT("POST /metrics" CLOSE "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "405",
           "GET and HEAD only\n");
}

Test(http, what_is_no_http_is_not_waited_for)
{
    cr_expect_not_null(strstr(ask("\x01\x02 nonsense\r\n\r\n"), "400"));
}

Test(http, headers_without_end_are_refused)
{
    int fd = dial();
    char line[1024 + 4];
    memset(line, 'x', sizeof(line));
    memcpy(line, "A: ", 3);
    memcpy(line + sizeof(line) - 2, "\r\n", 2);
    static const char head[] = "GET /healthz HTTP/1.1\r\n";
    cr_assert(eq(sz, (size_t)send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL), sizeof(head) - 1));
    size_t sent = 0;
    while (sent < 16 * MIB && send(fd, line, sizeof(line), MSG_NOSIGNAL) > 0)
        sent += sizeof(line);
    cr_expect(lt(sz, sent, 16 * MIB));
    cr_expect_null(strstr(read_all(fd), " 200 "));
}

Test(http, an_address_in_use_is_an_error)
{
    struct http *second;
    struct address other;
    cr_assert(eq(int, http_start(&broker, &bound, &other, &second), E_EXISTS));
    http_stop(NULL); // what was never started
}
