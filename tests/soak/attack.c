#include "tests/soak/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/random.h"
#include "client/include/sluice.h"
#include "proto/messages.h"
#include "tests/integration/history_client.h"

#define HELLO_DEADLINE_S 10.0 // the broker's, from accept to a whole HELLO
#define FRAME_DEADLINE_S 30.0 // and from a frame's first byte to its last
#define SLACK_S 2.5
#define PHASES 4

struct raw {
    int fd; // -1: closed
    double since;
    uint32_t phase;
    uint32_t sent; // slowloris: bytes
    bool is_told;  // that it is overdue
};

static struct address address;

static pid_t start(struct attack *attack, void (*run)(struct attack *attack))
{
    fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid > 0 ? pid : 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL); // never outlives the test
    if (getppid() != parent)
        _exit(1);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (address_parse(attack->server, &address))
        _exit(1);
    run(attack);
    for (;;)
        pause();
}

static int connect_raw(bool waits)
{
    int flags = SOCK_STREAM | SOCK_CLOEXEC | (waits ? 0 : SOCK_NONBLOCK);
    int fd = socket(address.sockaddr.any.sa_family, flags, 0);
    if (fd >= 0 && connect(fd, &address.sockaddr.any, address.len) && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static uint32_t make_hello(uint8_t *bytes, size_t size)
{
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, (uint32_t)size - FRAME_HEADER_SIZE);
    write_hello(&w, &(struct msg_hello){.version_min = PROTO_VERSION_MIN,
                                        .version_max = PROTO_VERSION_MAX,
                                        .client_id = slice_of_text("storm"),
                                        .software = slice_of_text("soak")});
    return frame_seal(bytes, OP_HELLO, 0, 1, writer_length(&w), 0);
}

/* ---- a storm: as fast as it goes, again and again ---- */

static void settle(struct attack *attack, struct raw *raws, struct pollfd *polls, uint32_t count,
                   double until)
{
    uint8_t bytes[4096], hello[512];
    uint32_t length = make_hello(hello, sizeof(hello));
    while (now_s() < until) {
        for (uint32_t i = 0; i < count; i++)
            polls[i] = (struct pollfd){.fd = raws[i].fd,
                                       .events = (short)(raws[i].phase == 0 ? POLLOUT : POLLIN)};
        if (poll(polls, count, 50) <= 0)
            continue;
        for (uint32_t i = 0; i < count; i++) {
            if (raws[i].fd < 0 || !polls[i].revents)
                continue;
            if (raws[i].phase == 0) {
                raws[i].phase = 1;
                if (send(raws[i].fd, hello, length, MSG_NOSIGNAL) == (ssize_t)length)
                    atomic_fetch_add(&attack->connected, 1);
                continue;
            }
            ssize_t got = recv(raws[i].fd, bytes, sizeof(bytes), MSG_DONTWAIT);
            if (got > 0)
                atomic_fetch_add(&attack->answered, 1);
            if (got == 0 || (got < 0 && errno != EAGAIN)) {
                atomic_fetch_add(&attack->refused, 1);
                close(raws[i].fd);
                raws[i].fd = -1;
            }
        }
    }
}

static void storm(struct attack *attack)
{
    struct raw *raws = calloc(attack->count, sizeof(*raws));
    struct pollfd *polls = calloc(attack->count, sizeof(*polls));
    struct random random;
    random_init(&random, attack->seed);
    while (raws && polls) {
        double began = now_s();
        for (uint32_t i = 0; i < attack->count; i++) {
            raws[i] = (struct raw){.fd = connect_raw(false)};
            if (i % 500 == 499)
                settle(attack, raws, polls, i + 1, now_s() + 0.02);
        }
        settle(attack, raws, polls, attack->count, began + 2.0);
        for (uint32_t i = 0; i < attack->count; i++) {
            struct linger reset = {.l_onoff = (int)random_below(&random, 2)};
            if (raws[i].fd < 0)
                continue;
            (void)setsockopt(raws[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(raws[i].fd);
        }
    }
}

pid_t attack_storm(struct attack *attack)
{
    return start(attack, storm);
}

/* ---- slowloris: nothing, or a byte now and then, in each phase ---- */

/* What they all send the begin of: HELLO, a PUBLISH's header, its meta, and 200,000 bytes of data. */
struct slow_stream {
    uint8_t bytes[1024];
    uint32_t hello_bytes;
};

static void make_slow_stream(struct slow_stream *stream)
{
    uint32_t length = make_hello(stream->bytes, 512);
    struct writer w = writer_make(stream->bytes + length + FRAME_HEADER_SIZE, 256);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, 1, 0, 200000);
    (void)frame_seal(stream->bytes + length, OP_PRODUCE, 0, 1, writer_length(&w), 200000);
    stream->hello_bytes = length;
}

/* What a connection of a phase sends at once: 0 nothing, 1 the begin of HELLO, 2 HELLO and the begin of a header, 3 HELLO, a
 * header and the begin of its body. */
static void begin_slowly(const struct slow_stream *stream, struct raw *raw)
{
    uint32_t hello = stream->hello_bytes;
    uint32_t sends[PHASES] = {0, 7, hello + 5, hello + FRAME_HEADER_SIZE + 3};
    raw->sent = sends[raw->phase];
    (void)send(raw->fd, stream->bytes, raw->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The next byte; but HELLO never comes to its end. */
static void go_on_slowly(const struct slow_stream *stream, struct raw *raw)
{
    if (raw->phase == 0 || (raw->phase == 1 && raw->sent == stream->hello_bytes - 1))
        return;
    const uint8_t *next = &stream->bytes[min_u64(raw->sent, sizeof(stream->bytes) - 1)];
    if (send(raw->fd, next, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
        raw->sent++;
}

static void look_slowly(struct attack *attack, const struct slow_stream *stream, struct raw *raw)
{
    uint8_t bytes[4096];
    ssize_t got;
    if (raw->fd < 0)
        return;
    do {
        got = recv(raw->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    } while (got > 0);
    if (got == 0 || errno != EAGAIN) {
        atomic_fetch_add(&attack->closed, 1);
        close(raw->fd);
        raw->fd = -1;
        return;
    }
    double allowed_s = (raw->phase < 2 ? HELLO_DEADLINE_S : FRAME_DEADLINE_S) + SLACK_S;
    if (now_s() - raw->since > allowed_s && !raw->is_told) {
        raw->is_told = true;
        atomic_fetch_add(&attack->overdue, 1);
    }
    go_on_slowly(stream, raw);
}

static void be_slow(struct attack *attack)
{
    struct raw *raws = calloc(attack->count, sizeof(*raws));
    struct slow_stream stream = {0};
    if (!raws)
        return;
    make_slow_stream(&stream);
    for (uint32_t i = 0; i < attack->count; i++) {
        raws[i] = (struct raw){.fd = connect_raw(true), .phase = i % PHASES};
        raws[i].since = now_s();
        if (raws[i].fd < 0)
            continue;
        atomic_fetch_add(&attack->connected, 1);
        begin_slowly(&stream, &raws[i]);
    }
    for (;;) {
        for (uint32_t i = 0; i < attack->count; i++)
            look_slowly(attack, &stream, &raws[i]);
        usleep(300000);
    }
}

pid_t attack_slowly(struct attack *attack)
{
    return start(attack, be_slow);
}

/* ---- consumers with a closed or a nearly closed window ---- */

static uint32_t ask_topic_id(struct attack *attack)
{
    struct sluice_client_options options = {.size = sizeof(options), .server = attack->server};
    struct sluice_client *client;
    struct sluice_topic *topics;
    const char *name = attack->topic;
    uint32_t count, id = 0;
    if (sluice_client_new(&options, &client))
        return 0;
    if (sluice_topic_list(client, &name, 1, &topics, &count) == SLUICE_OK) {
        id = count ? topics[0].topic_id : 0;
        sluice_topics_free(topics, count);
    }
    sluice_client_free(client);
    return id;
}

static void subscribe_raw(const struct attack *attack, int fd, uint32_t topic_id)
{
    uint8_t bytes[2048];
    uint32_t length = make_hello(bytes, 512);
    struct writer w = writer_make(bytes + length + FRAME_HEADER_SIZE, 1024);
    write_fetch_begin(&w, 0, 0, UINT64_MAX, attack->partitions);
    for (uint32_t p = 0; p < attack->partitions; p++)
        write_fetch_item(&w, topic_id, p, START_BEGINNING, 0, 0);
    length += frame_seal(bytes + length, OP_SUBSCRIBE, 0, 2, writer_length(&w), 0);
    if (send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length)
        return;
}

static void never_read(struct attack *attack)
{
    uint32_t topic_id = ask_topic_id(attack);
    int *fds = calloc(attack->count, sizeof(*fds));
    uint8_t bytes[2048];
    while (fds && topic_id) {
        for (uint32_t i = 0; i < attack->count; i++) {
            int small = 4096;
            fds[i] = connect_raw(true);
            if (fds[i] < 0)
                continue;
            (void)setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
            atomic_fetch_add(&attack->connected, 1);
            subscribe_raw(attack, fds[i], topic_id);
        }
        for (int turn = 0; turn < 40; turn++) { // every other one reads a little
            for (uint32_t i = 0; i < attack->count; i += 2)
                (void)recv(fds[i], bytes, sizeof(bytes), MSG_DONTWAIT);
            usleep(50000);
        }
        for (uint32_t i = 0; i < attack->count; i++) {
            if (fds[i] >= 0)
                close(fds[i]);
        }
    }
}

pid_t attack_without_reading(struct attack *attack)
{
    return start(attack, never_read);
}
