/* Lone writes and lone round trips: plain system calls, one at a time, on pinned threads.
 *
 * An error of the disk or the loopback ends the measurement with a message. */
#include "bench/bare/bare_latency.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/random.h"
#include "bench/engine/place.h"
#include "bench/bare/socket_pair.h"

#define REPLY_BYTES 64

struct job {
    const struct bare_latency_options *options;
    struct histogram *latency;
    uint8_t *block;
    int fd; // echo thread's end
    int (*measure)(struct job *job);
    int status;
};

static int run_on_thread(struct job *job, int (*measure)(struct job *job));
static void *job_main(void *context);
static int write_and_sync(struct job *job);
static int send_and_wait(struct job *job);
static int exchange(struct job *job, int fd);
static void *echo_main(void *context);
static int fail(const char *what, int os_error);

int write_sync_measure(const struct bare_latency_options *options, struct histogram *latency)
{
    struct job job = {.options = options, .latency = latency};
    return run_on_thread(&job, write_and_sync);
}

int round_trip_measure(const struct bare_latency_options *options, struct histogram *latency)
{
    struct job job = {.options = options, .latency = latency};
    return run_on_thread(&job, send_and_wait);
}

static int run_on_thread(struct job *job, int (*measure)(struct job *job))
{
    struct arena arena;
    pthread_t thread;
    if (arena_init(&arena, LATENCY_BLOCK_BYTES, true))
        return fail("memory", ENOMEM);
    job->measure = measure;
    job->block = arena_alloc(&arena, LATENCY_BLOCK_BYTES, LATENCY_BLOCK_BYTES);
    struct random random;
    random_init(&random, 2);
    for (size_t i = 0; i < LATENCY_BLOCK_BYTES / sizeof(uint32_t); i++)
        ((uint32_t *)job->block)[i] = random_u32(&random);
    int error = pthread_create(&thread, NULL, job_main, job);
    if (error == 0)
        pthread_join(thread, NULL);
    arena_deinit(&arena);
    return error ? fail("pthread_create", error) : job->status;
}

static void *job_main(void *context)
{
    struct job *job = context;
    job->status = job->measure(job);
    return NULL;
}

static int write_and_sync(struct job *job)
{
    const struct wal_set *set = job->options->wal_set;
    place_thread(job->options->cpu_receive);
    uint64_t begin = now_ns(), end = begin + job->options->duration_ns;
    for (uint64_t at = 0; begin < end; at += LATENCY_BLOCK_BYTES) {
        int fd = set->fds[at / WAL_FILE_BYTES % set->file_count];
        ssize_t written = pwrite(fd, job->block, LATENCY_BLOCK_BYTES, (off_t)(at % WAL_FILE_BYTES));
        if (written != (ssize_t)LATENCY_BLOCK_BYTES || fdatasync(fd) != 0)
            return fail("write and fdatasync", errno);
        uint64_t now = now_ns();
        histogram_add(job->latency, now - begin);
        begin = now;
    }
    return 0;
}

static int send_and_wait(struct job *job)
{
    struct socket_pair pair;
    pthread_t echo;
    if (socket_pair_open(&pair))
        return -1;
    job->fd = pair.receive_fd;
    int error = pthread_create(&echo, NULL, echo_main, job);
    if (error) {
        socket_pair_close(&pair);
        return fail("pthread_create", error);
    }
    place_thread(job->options->cpu_send);
    int status = exchange(job, pair.send_fd);
    shutdown(pair.send_fd, SHUT_RDWR);
    pthread_join(echo, NULL);
    socket_pair_close(&pair);
    return status;
}

static int exchange(struct job *job, int fd)
{
    uint8_t reply[REPLY_BYTES];
    uint64_t begin = now_ns(), end = begin + job->options->duration_ns;
    while (begin < end) {
        if (socket_send_all(fd, job->block, LATENCY_BLOCK_BYTES) ||
            socket_recv_all(fd, reply, sizeof(reply)))
            return fail("round trip", errno);
        uint64_t now = now_ns();
        histogram_add(job->latency, now - begin);
        begin = now;
    }
    return 0;
}

static void *echo_main(void *context)
{
    struct job *job = context;
    uint8_t block[LATENCY_BLOCK_BYTES];
    place_thread(job->options->cpu_receive);
    while (socket_recv_all(job->fd, block, sizeof(block)) == 0) {
        if (socket_send_all(job->fd, block, REPLY_BYTES))
            break;
    }
    return NULL;
}

static int fail(const char *what, int os_error)
{
    fprintf(stderr, "sluice-bench: limits: %s: %s\n", what, strerror(os_error));
    return -1;
}
