/* base/io.h: the loop itself, on both kernel backends: order, time, waking, cancel, choice of
 * backend. */
#include "tests/unit/base/io_fixture.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/fault.h"

static uint64_t now_ns(void)
{
    return clock_mono_ns(clock_system());
}

/* ---- polling ---- */

IO_TEST(io, a_poll_with_nothing_to_do_returns_at_once)
{
    uint64_t begin_ns = now_ns();
    for (int i = 0; i < 100; i++)
        cr_assert_eq(io_poll(io, 0), 0);
    cr_assert_lt(now_ns() - begin_ns, NS_PER_S);
}

IO_TEST(io, a_poll_ends_when_its_timeout_has_passed)
{
    uint64_t begin_ns = now_ns();
    cr_assert_eq(io_poll(io, 20 * NS_PER_MS), 0);
    cr_assert_geq(now_ns() - begin_ns, 19 * NS_PER_MS);
    cr_assert_lt(now_ns() - begin_ns, 5 * NS_PER_S);
}

IO_TEST(io, nothing_completes_inside_the_start)
{
    struct probe timer = {0}, close_bad = {0};
    io_timer(io, &timer.op, 0, probe_done);
    io_close(io, &close_bad.op, 1 << 19, probe_done);
    cr_assert_eq(timer.done_count + close_bad.done_count, 0);
    cr_assert(io_op_is_active(&timer.op));
    cr_assert_eq(probe_wait(io, &timer), 0);
    cr_assert_eq(probe_wait(io, &close_bad), E_INVALID);
    cr_assert_eq(close_bad.op.os_error, EBADF);
}

struct chain {
    struct io *io;
    struct io_op op;
    int left;
};

static void chain_done(struct io_op *op)
{
    struct chain *chain = CONTAINER_OF(op, struct chain, op);
    cr_assert(!io_op_is_active(op));
    if (--chain->left > 0)
        io_timer(chain->io, op, 0, chain_done);
}

IO_TEST(io, an_operation_restarted_in_its_done_waits_for_the_next_poll)
{
    struct chain chain = {.io = io, .left = 5};
    io_timer(io, &chain.op, 0, chain_done);
    for (int left = 4; left >= 0; left--) {
        cr_assert_eq(io_poll(io, 0), 1);
        cr_assert_eq(chain.left, left);
    }
    cr_assert_eq(io_poll(io, 0), 0);
}

struct nest {
    struct io *io;
    struct io_op op;
    struct probe *others;
    int other_count;
};

static void nest_done(struct io_op *op)
{
    struct nest *nest = CONTAINER_OF(op, struct nest, op);
    for (int i = 0; i < nest->other_count; i++)
        probe_wait(nest->io, &nest->others[i]);
}

IO_TEST(io, a_done_may_poll_and_everything_still_comes_once)
{
    struct probe others[20] = {0};
    struct nest nest = {.io = io, .others = others, .other_count = 20};
    io_timer(io, &nest.op, 0, nest_done);
    for (int i = 0; i < 20; i++) {
        if (i % 2 == 0)
            io_timer(io, &others[i].op, 0, probe_done);
        else
            io_unlink(io, &others[i].op, "/nonexistent/file", probe_done);
    }
    while (io_op_is_active(&nest.op))
        (void)io_poll(io, NS_PER_S);
    (void)io_poll(io, 0);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(others[i].done_count, 1);
}

IO_TEST(io, more_operations_than_the_rings_hold_all_complete_once)
{
    enum { COUNT = 40 * IO_TEST_OPS };
    struct probe *probes = calloc(COUNT, sizeof *probes);
    static char byte[COUNT];
    int fd = io_open_wait(io, "/dev/zero", O_RDONLY, 0);
    cr_assert_geq(fd, 0);
    memset(byte, 'x', sizeof byte);
    for (int i = 0; i < COUNT; i++)
        io_read(io, &probes[i].op, fd, &byte[i], 1, 0, probe_done);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(probe_wait(io, &probes[i]), 1);
    cr_assert_null(memchr(byte, 'x', sizeof byte));
    cr_assert_eq(io_close_wait(io, fd), 0);
    free(probes);
}

IO_TEST(io, completions_beyond_the_completion_ring_are_kept)
{
    enum { COUNT = 10 * IO_TEST_OPS };
    struct probe *probes = calloc(COUNT, sizeof *probes);
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < COUNT; i++)
        io_readable(io, &probes[i].op, pair[0], probe_done);
    probe_stays(io, &probes[COUNT - 1]);
    cr_assert_eq(write(pair[1], "x", 1), 1); // all of them end at the same moment
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(probe_wait(io, &probes[i]), 0);
    cr_assert_eq(io_close_wait(io, pair[0]), 0);
    close(pair[1]);
    free(probes);
}

/* ---- timers ---- */

IO_TEST(io, timers_fire_in_the_order_of_their_deadlines)
{
    struct probe timers[4] = {0};
    static const int delay_ms[4] = {30, 10, 20, 10};
    static const int place[4] = {4, 1, 3, 2}; // equal deadlines: in the order of their start
    uint64_t begin_ns = now_ns();
    for (int i = 0; i < 4; i++)
        io_timer(io, &timers[i].op, begin_ns + (uint64_t)delay_ms[i] * NS_PER_MS, probe_done);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(probe_wait(io, &timers[i]), 0);
        cr_assert_eq(timers[i].op.os_error, 0);
    }
    for (int i = 0; i < 4; i++)
        cr_assert_eq(timers[i].place, place[i], "timer %d came as %d", i, timers[i].place);
}

IO_TEST(io, a_timer_ends_a_longer_wait_and_never_fires_early)
{
    for (int i = 0; i < 20; i++) {
        struct probe timer = {0};
        uint64_t deadline_ns = now_ns() + (uint64_t)i * 300 * NS_PER_US;
        io_timer(io, &timer.op, deadline_ns, probe_done);
        while (io_op_is_active(&timer.op))
            (void)io_poll(io, UINT64_MAX);
        cr_assert_geq(now_ns(), deadline_ns);
        cr_assert_lt(now_ns(), deadline_ns + NS_PER_S);
    }
}

IO_TEST(io, a_canceled_timer_says_so_from_the_next_poll)
{
    struct probe timer = {0}, other = {0};
    io_timer(io, &timer.op, UINT64_MAX - 1, probe_done);
    io_timer(io, &other.op, now_ns() + 5 * NS_PER_MS, probe_done);
    io_cancel(io, &timer.op);
    io_cancel(io, &timer.op); // the second one changes nothing
    cr_assert_eq(timer.done_count, 0);
    cr_assert_eq(io_poll(io, UINT64_MAX), 1);
    cr_assert_eq(timer.done_count, 1);
    cr_assert_eq(timer.op.result, E_CANCELED);
    cr_assert_eq(probe_wait(io, &other), 0);
    io_cancel(io, &timer.op); // and on an inactive one neither
    cr_assert_eq(io_poll(io, 0), 0);
    cr_assert_eq(timer.done_count, 1);
}

/* ---- waking ---- */

struct waker {
    struct io *target;
    _Atomic bool go;
    bool with_ring;
    enum io_backend backend;
};

static void *wake_when_asleep(void *argument)
{
    struct waker *waker = argument;
    struct io *from = waker->with_ring ? io_open_backend(waker->backend) : NULL;
    while (!io_sleeping(waker->target))
        usleep(100);
    usleep(5000);
    io_wake(waker->target, from);
    if (from) {
        (void)io_poll(from, 0); // the message leaves
        io_free(from);
    }
    return NULL;
}

static void check_wake(struct io *io, bool with_ring)
{
    struct waker waker = {.target = io, .with_ring = with_ring};
    waker.backend = strcmp(io_name(io), "uring") == 0 ? IO_BACKEND_URING : IO_BACKEND_EPOLL;
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        uint64_t begin_ns = now_ns();
        cr_assert(!io_sleeping(io));
        cr_assert_eq(pthread_create(&thread, NULL, wake_when_asleep, &waker), 0);
        cr_assert_eq(io_poll(io, IO_TEST_PATIENCE_NS), 0);
        cr_assert_lt(now_ns() - begin_ns, IO_TEST_PATIENCE_NS / 2, "woken, not timed out");
        cr_assert_eq(pthread_join(thread, NULL), 0);
        (void)io_poll(io, 0);
    }
}

IO_TEST(io, a_thread_without_a_ring_wakes_a_waiting_poll)
{
    check_wake(io, false);
}

IO_TEST(io, another_ring_wakes_a_waiting_poll)
{
    check_wake(io, true);
}

IO_TEST(io, a_wake_before_the_wait_is_not_lost)
{
    uint64_t begin_ns = now_ns();
    io_wake(io, NULL);
    (void)io_poll(io, IO_TEST_PATIENCE_NS);
    io_wake(io, io);
    (void)io_poll(io, IO_TEST_PATIENCE_NS);
    cr_assert_lt(now_ns() - begin_ns, IO_TEST_PATIENCE_NS / 2);
    cr_assert_eq(io_poll(io, 10 * NS_PER_MS), 0);
    cr_assert_geq(now_ns() - begin_ns, 9 * NS_PER_MS, "and does not wake twice");
}

IO_TEST(io, many_wakes_before_a_wait_do_not_outlive_it)
{
    for (int i = 0; i < 1000; i++)
        io_wake(io, NULL);
    for (int i = 0; i < 3; i++)
        (void)io_poll(io, 0);
    uint64_t begin_ns = now_ns();
    (void)io_poll(io, 10 * NS_PER_MS);
    cr_assert_geq(now_ns() - begin_ns, 9 * NS_PER_MS);
}

IO_TEST(io, sleep_is_announced_and_taken_back)
{
    cr_assert(!io_sleeping(io));
    io_prepare_wait(io);
    cr_assert(io_sleeping(io));
    (void)io_poll(io, 0);
    cr_assert(!io_sleeping(io));
    io_prepare_wait(io);
    io_wake(io, NULL);
    cr_assert(!io_sleeping(io), "one wake is enough");
}

/* ---- one owner ---- */

static void *poll_as_a_stranger(void *argument)
{
    struct probe probe = {0};
    io_unlink(argument, &probe.op, "/nonexistent/file", probe_done);
    (void)io_poll(argument, NS_PER_S);
    return NULL;
}

static void poll_with_a_stranger(enum io_backend backend)
{
    pthread_t thread;
    struct io *io = io_open_backend(backend);
    cr_assert_eq(pthread_create(&thread, NULL, poll_as_a_stranger, io), 0);
    pthread_join(thread, NULL);
}

Test(io_uring, polling_in_another_thread_aborts, .signal = SIGABRT)
{
    poll_with_a_stranger(IO_BACKEND_URING);
}

Test(io_epoll, polling_in_another_thread_aborts, .signal = SIGABRT)
{
    poll_with_a_stranger(IO_BACKEND_EPOLL);
}

static void *make_use_and_leave(void *argument)
{
    struct io *io = io_open_backend(*(enum io_backend *)argument);
    cr_assert_eq(io_unlink_wait(io, "/nonexistent/file"), E_NOT_FOUND);
    return io;
}

/* Also when the thread that frees has a ring of its own. */
IO_TEST(io, after_its_thread_has_ended_another_may_free_it)
{
    enum io_backend backend =
        strcmp(io_name(io), "uring") == 0 ? IO_BACKEND_URING : IO_BACKEND_EPOLL;
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        void *made;
        cr_assert_eq(pthread_create(&thread, NULL, make_use_and_leave, &backend), 0);
        pthread_join(thread, &made);
        io_free(made);
        cr_assert_eq(io_unlink_wait(io, "/nonexistent/file"), E_NOT_FOUND, "ours still works");
    }
}

/* ---- choice ---- */

static struct io *open_with(enum io_backend backend, int *status)
{
    struct io *io = NULL;
    struct io_options options = {.backend = backend, .ops_max = IO_TEST_OPS};
    *status = io_new(&options, &io);
    return io;
}

/* Runs with standard error in a file; returns what was written there. */
static void capture(void (*body)(void), char *text, size_t size)
{
    FILE *file = tmpfile();
    int saved = dup(2);
    fflush(stderr);
    dup2(fileno(file), 2);
    body();
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    ssize_t len = pread(fileno(file), text, size - 1, 0);
    text[len < 0 ? 0 : len] = '\0';
    fclose(file);
}

static int count_of(const char *text, const char *word)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, word)); at++)
        count++;
    return count;
}

static void open_three_with_auto(void)
{
    for (int i = 0; i < 3; i++) {
        int status;
        struct io *io = open_with(IO_BACKEND_AUTO, &status);
        cr_assert_eq(status, 0);
        cr_assert_str_eq(io_name(io), "epoll");
        io_free(io);
    }
}

Test(io_choice, a_refused_ring_means_epoll_and_one_warning_line)
{
    static char text[8192];
    fault_arm(FAULT_IO_RING_REFUSED, 1, UINT64_MAX, EPERM);
    capture(open_three_with_auto, text, sizeof text);
    cr_assert_eq(count_of(text, "io.uring_refused"), 1, "%s", text);
    cr_assert_eq(count_of(text, "WARN"), 1, "%s", text);
    cr_assert_not_null(strstr(text, "seccomp"), "says what to do: %s", text);
    cr_assert_not_null(strstr(text, "os_error=1"), "and why: %s", text);
}

static void demand_uring(void)
{
    int status;
    struct io *io = open_with(IO_BACKEND_URING, &status);
    cr_assert_eq(status, E_UNSUPPORTED);
    cr_assert_null(io);
}

Test(io_choice, a_refused_ring_that_was_demanded_is_an_error_with_its_reason)
{
    static char text[8192];
    static const int os_errors[] = {EPERM, ENOSYS, ENOMEM};
    static const char *const hints[] = {"seccomp", "built without", "ulimit -l"};
    for (int i = 0; i < 3; i++) {
        fault_disarm_all();
        fault_arm(FAULT_IO_RING_REFUSED, 1, UINT64_MAX, os_errors[i]);
        capture(demand_uring, text, sizeof text);
        cr_assert_eq(count_of(text, "ERROR"), 1, "%s", text);
        cr_assert_not_null(strstr(text, hints[i]), "%s", text);
    }
}

Test(io_choice, auto_takes_the_ring_where_there_is_one)
{
    int status;
    io_free(io_open_backend(IO_BACKEND_URING)); // skips where there is none
    struct io *io = open_with(IO_BACKEND_AUTO, &status);
    cr_assert_eq(status, 0);
    cr_assert_str_eq(io_name(io), "uring");
    io_free(io);
}

Test(io_choice, making_and_freeing_leaks_no_descriptor)
{
    io_free(io_open_backend(IO_BACKEND_EPOLL));
    int before = open_descriptor_count();
    for (int i = 0; i < 20; i++) {
        int status;
        io_free(io_open_backend(IO_BACKEND_EPOLL));
        struct io *io = open_with(IO_BACKEND_AUTO, &status);
        (void)io_poll(io, 0);
        io_free(io);
    }
    expect_descriptor_count(before);
}

/* As in a container: io_uring_setup() gives EPERM, and what the filter's author did not know,
 * ENOSYS. */
static void install_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = ARRAY_COUNT(code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        cr_skip_test("no seccomp here");
}

Test(io_choice, under_a_containers_filter_epoll_serves_and_keeps_time)
{
    int status;
    install_filter();
    struct io *io = open_with(IO_BACKEND_URING, &status);
    cr_assert_eq(status, E_UNSUPPORTED);
    io = open_with(IO_BACKEND_AUTO, &status);
    cr_assert_eq(status, 0);
    cr_assert_str_eq(io_name(io), "epoll");
    for (int i = 1; i <= 10; i++) {
        struct probe timer = {0};
        int polls = 0;
        uint64_t deadline_ns = now_ns() + NS_PER_MS + (uint64_t)i * 100 * NS_PER_US;
        io_timer(io, &timer.op, deadline_ns, probe_done);
        for (; io_op_is_active(&timer.op); polls++)
            (void)io_poll(io, UINT64_MAX);
        cr_assert_geq(now_ns(), deadline_ns);
        cr_assert_leq(polls, 3, "waits are rounded up, not spun away: %d polls", polls);
    }
    io_free(io);
}
