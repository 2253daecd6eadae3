#include "bench/claim/raw_connections.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "proto/frame.h"
#include "proto/messages.h"

#define ANSWER_MS 30000
#define ANSWER_BYTES_MAX 4096
#define DESCRIPTORS_BESIDE 256 // of this program, and the broker's of its files

static int open_one(const struct address *address, int *fd);
static int hear_answer(int fd);

static int allow_descriptors(uint32_t count)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= (rlim_t)count + DESCRIPTORS_BESIDE)
        return 0;
    fprintf(stderr,
            "sluice-bench: %u connections need %u descriptors, %llu are allowed (ulimit -Hn)\n",
            count, count + DESCRIPTORS_BESIDE, (unsigned long long)limit.rlim_cur);
    return -1;
}

int raw_connections_open(struct raw_connections *connections, const char *server, uint32_t count)
{
    struct address address;
    *connections = (struct raw_connections){.fds = calloc(count, sizeof(int))};
    if (connections->fds == NULL || address_parse(server, &address) || allow_descriptors(count)) {
        free(connections->fds);
        return -1;
    }
    int status = 0;
    while (connections->count < count && status == 0) {
        status = open_one(&address, &connections->fds[connections->count]);
        connections->count += status == 0;
    }
    for (uint32_t i = 0; i < connections->count && status == 0; i++)
        status = hear_answer(connections->fds[i]);
    if (status == 0)
        return 0;
    fprintf(stderr, "sluice-bench: connection %u of %u: %s\n", connections->count, count,
            strerror(errno));
    raw_connections_close(connections);
    return -1;
}

void raw_connections_close(struct raw_connections *connections)
{
    for (uint32_t i = 0; i < connections->count; i++)
        close(connections->fds[i]);
    free(connections->fds);
    *connections = (struct raw_connections){.fds = NULL};
}

uint32_t raw_connections_lost(const struct raw_connections *connections)
{
    uint32_t lost = 0;
    for (uint32_t i = 0; i < connections->count; i++) {
        char byte;
        ssize_t got = recv(connections->fds[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        lost += got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    }
    return lost;
}

static int open_one(const struct address *address, int *fd)
{
    uint8_t bytes[512];
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, sizeof(bytes) - FRAME_HEADER_SIZE);
    write_hello(&w, &(struct msg_hello){.version_min = PROTO_VERSION_MIN,
                                        .version_max = PROTO_VERSION_MAX,
                                        .client_id = slice_of_text("idle"),
                                        .software = slice_of_text("sluice-bench")});
    uint32_t length = frame_seal(bytes, OP_HELLO, 0, 1, writer_length(&w), 0);
    *fd = socket(address->sockaddr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return -1;
    if (connect(*fd, &address->sockaddr.any, address->len) == 0 &&
        send(*fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length)
        return 0;
    close(*fd);
    return -1;
}

/* All of it: what stays in a socket's buffer would be counted as the cost of the connection. */
static int hear_answer(int fd)
{
    uint8_t bytes[ANSWER_BYTES_MAX];
    uint32_t have = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, ANSWER_MS) <= 0)
            return -1;
        ssize_t got = recv(fd, bytes + have, sizeof(bytes) - have, 0);
        if (got <= 0)
            return -1;
        have += (uint32_t)got;
        int64_t length = frame_peek(bytes, have, sizeof(bytes));
        if (length < 0 || length > (int64_t)sizeof(bytes)) {
            errno = EPROTO;
            return -1;
        }
        if (length > 0 && have >= (uint64_t)length)
            return 0;
    }
}
