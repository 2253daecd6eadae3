/* Parsing, printing and preparing of TCP socket addresses.
 *
 * Accepted: "1.2.3.4:80", "[::1]:80", "localhost:80" (127.0.0.1). A port is 1 to 5 digits up to
 * 65535; 0 means any free one when listening. Everything else is INVALID: no resolver is asked,
 * since that blocks and depends on the machine. */
#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"

#define HOST_MAX 48 // INET6_ADDRSTRLEN and a little

static int parse_port(const char *text, uint16_t *port);
static int split_host(const char *text, char *host, const char **port_text, bool *is_v6);
static int listen_on(int fd, const struct address *address, int backlog, bool shared);
static int set_int(int fd, int level, int option, int value);

int address_parse(const char *text, struct address *address)
{
    char host[HOST_MAX];
    const char *port_text;
    uint16_t port;
    bool is_v6;

    memset(address, 0, sizeof *address);
    if (split_host(text, host, &port_text, &is_v6) != 0 || parse_port(port_text, &port) != 0)
        return E_INVALID;
    if (is_v6) {
        address->sockaddr.v6.sin6_family = AF_INET6;
        address->sockaddr.v6.sin6_port = htons(port);
        address->len = sizeof address->sockaddr.v6;
        return inet_pton(AF_INET6, host, &address->sockaddr.v6.sin6_addr) == 1 ? 0 : E_INVALID;
    }
    const char *numeric = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    address->sockaddr.v4.sin_family = AF_INET;
    address->sockaddr.v4.sin_port = htons(port);
    address->len = sizeof address->sockaddr.v4;
    return inet_pton(AF_INET, numeric, &address->sockaddr.v4.sin_addr) == 1 ? 0 : E_INVALID;
}

char *address_format(const struct address *address, char *text)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->sockaddr.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->sockaddr.v6.sin6_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_MAX, "[%s]:%u", host,
                 (unsigned)ntohs(address->sockaddr.v6.sin6_port));
    } else if (address->sockaddr.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->sockaddr.v4.sin_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_MAX, "%s:%u", host,
                 (unsigned)ntohs(address->sockaddr.v4.sin_port));
    } else {
        snprintf(text, ADDRESS_TEXT_MAX, "unknown");
    }
    return text;
}

bool address_is_loopback(const struct address *address)
{
    if (address->sockaddr.any.sa_family == AF_INET)
        return ntohl(address->sockaddr.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    if (address->sockaddr.any.sa_family != AF_INET6)
        return false;
    const struct in6_addr *v6 = &address->sockaddr.v6.sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(v6)) // ::ffff:127.0.0.1, as a dual-stack listener sees IPv4 peers
        return v6->s6_addr[12] == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(v6);
}

int address_listen(const struct address *address, int backlog, bool shared)
{
    int family = address->sockaddr.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return status_from_errno(errno);
    int os_error = listen_on(fd, address, backlog, shared);
    if (os_error != 0) {
        close(fd);
        return status_from_errno(os_error);
    }
    return fd;
}

int address_of_socket(int fd, struct address *address)
{
    socklen_t len = sizeof address->sockaddr;

    memset(address, 0, sizeof *address);
    if (getsockname(fd, &address->sockaddr.any, &len) != 0)
        return status_from_errno(errno);
    address->len = len;
    return 0;
}

int address_of_peer(int fd, struct address *address)
{
    socklen_t len = sizeof address->sockaddr;

    memset(address, 0, sizeof *address);
    if (getpeername(fd, &address->sockaddr.any, &len) != 0)
        return status_from_errno(errno);
    address->len = len;
    return 0;
}

void address_tune_socket(int fd)
{
    (void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) != 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    /* A vanished peer is noticed after 60 s: idle by probes, busy by unacknowledged data. */
    (void)set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    (void)set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    (void)set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    (void)set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    (void)set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 60 * 1000);
}

void address_end_sending(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

bool address_peer_has_ended(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLRDHUP};
    return poll(&look, 1, 0) == 1;
}

/* Splits "host:port" or "[host]:port". The host is copied, the port's text is not. */
static int split_host(const char *text, char *host, const char **port_text, bool *is_v6)
{
    *is_v6 = text[0] == '[';
    const char *begin = *is_v6 ? text + 1 : text;
    const char *end = strchr(begin, *is_v6 ? ']' : ':');
    if (!end || end == begin || end - begin >= HOST_MAX)
        return E_INVALID;
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    const char *colon = *is_v6 ? end + 1 : end;
    if (*colon != ':')
        return E_INVALID;
    *port_text = colon + 1;
    return 0;
}

static int parse_port(const char *text, uint16_t *port)
{
    uint32_t value = 0;
    size_t digits = 0;

    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 5; digits++)
        value = value * 10 + (uint32_t)(text[digits] - '0');
    if (digits == 0 || text[digits] != '\0' || value > UINT16_MAX)
        return E_INVALID;
    *port = (uint16_t)value;
    return 0;
}

/* Returns errno, or 0. */
static int listen_on(int fd, const struct address *address, int backlog, bool shared)
{
    /* Without SO_REUSEADDR a restart would wait for old connections in TIME_WAIT. */
    if (set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0)
        return errno;
    if (shared && set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0)
        return errno;
    if (bind(fd, &address->sockaddr.any, address->len) != 0)
        return errno;
    return listen(fd, backlog) == 0 ? 0 : errno;
}

static int set_int(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value);
}
