/* A loopback connection: listen on any free port, connect, accept, tune both ends. Blocking. */
#include "bench/bare/socket_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"

static int connect_to(int listener, struct socket_pair *pair);

int socket_pair_open(struct socket_pair *pair)
{
    struct address address;
    *pair = (struct socket_pair){.receive_fd = -1, .send_fd = -1};
    if (address_parse("127.0.0.1:0", &address))
        return -1;
    int listener = address_listen(&address, 1, false);
    int status = listener < 0 ? -1 : connect_to(listener, pair);
    if (status < 0) {
        fprintf(stderr, "sluice-bench: limits: loopback connection: %s\n", strerror(errno));
        socket_pair_close(pair);
    }
    if (listener >= 0)
        close(listener);
    return status;
}

static int connect_to(int listener, struct socket_pair *pair)
{
    struct address address;
    if (address_of_socket(listener, &address) ||
        fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) & ~O_NONBLOCK) < 0)
        return -1;
    pair->send_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pair->send_fd < 0 || connect(pair->send_fd, &address.sockaddr.any, address.len) < 0)
        return -1;
    pair->receive_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (pair->receive_fd < 0)
        return -1;
    address_tune_socket(pair->send_fd);
    address_tune_socket(pair->receive_fd);
    return 0;
}

void socket_pair_close(struct socket_pair *pair)
{
    if (pair->receive_fd >= 0)
        close(pair->receive_fd);
    if (pair->send_fd >= 0)
        close(pair->send_fd);
    *pair = (struct socket_pair){.receive_fd = -1, .send_fd = -1};
}

int socket_send_all(int fd, const void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t sent = send(fd, (const char *)bytes + done, size - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -1;
        done += (size_t)sent;
    }
    return 0;
}

int socket_recv_all(int fd, void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = recv(fd, (char *)bytes + done, size - done, MSG_WAITALL);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}
