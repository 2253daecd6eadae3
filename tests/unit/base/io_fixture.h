/* Each I/O test runs twice, once per kernel backend: IO_TEST(suite, sentence) { ... uses `io` ... }
 * Where the kernel refuses io_uring, that half is skipped. */
#ifndef SLUICE_TESTS_IO_FIXTURE_H
#define SLUICE_TESTS_IO_FIXTURE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

/* The smallest rings that io_new() allows, so that many tests overrun them. */
#define IO_TEST_OPS 64

/* Far beyond what any step takes; a test that needs it has failed. */
#define IO_TEST_PATIENCE_NS (10 * NS_PER_S)

__attribute__((unused)) static struct io *io_open_backend(enum io_backend backend)
{
    struct io *io = NULL;
    struct io_options options = {.backend = backend, .ops_max = IO_TEST_OPS, .file_threads = 3};
    int status = io_new(&options, &io);
    if (status == E_UNSUPPORTED && backend == IO_BACKEND_URING)
        cr_skip_test("the kernel refuses io_uring here");
    cr_assert_eq(status, 0, "%s", status_name(status));
    return io;
}

static inline void io_run_test(enum io_backend backend, void (*body)(struct io *io))
{
    struct io *io = io_open_backend(backend);
    body(io);
    io_free(io);
}

#define IO_TEST(suite, sentence)                                                                   \
    static void suite##_##sentence(struct io *io);                                                 \
    Test(suite##_uring, sentence)                                                                  \
    {                                                                                              \
        io_run_test(IO_BACKEND_URING, suite##_##sentence);                                         \
    }                                                                                              \
    Test(suite##_epoll, sentence)                                                                  \
    {                                                                                              \
        io_run_test(IO_BACKEND_EPOLL, suite##_##sentence);                                         \
    }                                                                                              \
    static void suite##_##sentence(struct io *io)

/* An operation that counts how often, and notes when, it was delivered. */
struct probe {
    struct io_op op;
    int done_count;
    int place; // 1 = delivered first of all probes
};

static int probe_place_next = 1;

static inline void probe_done(struct io_op *op)
{
    struct probe *probe = CONTAINER_OF(op, struct probe, op);
    probe->done_count++;
    probe->place = probe_place_next++;
}

/* Polls until the probe is delivered. */
__attribute__((unused)) static int probe_wait(struct io *io, struct probe *probe)
{
    uint64_t give_up_ns = clock_mono_ns(clock_system()) + IO_TEST_PATIENCE_NS;
    while (io_op_is_active(&probe->op)) {
        (void)io_poll(io, 100 * NS_PER_MS);
        cr_assert_lt(clock_mono_ns(clock_system()), give_up_ns, "never delivered");
    }
    cr_assert_eq(probe->done_count, 1);
    return probe->op.result;
}

/* Polls for a while and demands that nothing happens to the probe. */
__attribute__((unused)) static void probe_stays(struct io *io, struct probe *probe)
{
    uint64_t end_ns = clock_mono_ns(clock_system()) + 20 * NS_PER_MS;
    while (clock_mono_ns(clock_system()) < end_ns)
        (void)io_poll(io, NS_PER_MS);
    cr_assert(io_op_is_active(&probe->op));
    cr_assert_eq(probe->done_count, 0);
}

__attribute__((unused)) static int open_descriptor_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* The file threads of the epoll backend, and the kernel behind a canceled operation, give a descriptor
 * back a moment after the completion; what leaked never comes back. So does what was open for a moment when the test counted: fewer
 * than before is no leak. */
__attribute__((unused)) static void expect_descriptor_count(int expected)
{
    for (int i = 0; i < 2000 && open_descriptor_count() > expected; i++)
        usleep(1000);
    int count = open_descriptor_count();
    cr_assert_leq(count, expected, "%d descriptors, %d before", count, expected);
}

#endif
