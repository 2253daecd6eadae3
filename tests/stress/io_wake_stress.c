/* Waking a loop that goes to sleep all the time: io_wake_stress [uring|epoll [SECONDS]]
 *
 * Three phases, of SECONDS each. Numbers: producers publish numbers and call io_wake() only when
 * io_sleeping() says so. Each waits for the owner to see its number before it goes on, so the owner
 * runs dry and sleeps after nearly every one; a wake-up lost between "nothing there" and "asleep"
 * shows as a wait that runs into its timeout. Half of the producers are loops of their own that
 * wake with their io. Files: only file operations, whose threads (on epoll) have to wake the owner
 * in the same way. Both: all of it together, with timers.
 *
 * Made for ThreadSanitizer with the epoll backend; it cannot see the kernel's side of a ring. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

#define PRODUCER_COUNT 4
#define FILE_OP_COUNT 3
#define WAIT_NS_MAX (20 * NS_PER_S) // reached only when a wake-up was lost

struct producer {
    pthread_t thread;
    bool has_io;
    _Alignas(CACHE_LINE) _Atomic uint64_t published; // producer
    uint64_t plain;                                  // written before, read after `published`
    _Alignas(CACHE_LINE) _Atomic uint64_t seen;      // owner
};

struct file_op {
    struct io_op op;
    uint64_t rounds;
    char buf[64];
};

static struct producer producers[PRODUCER_COUNT];
static struct file_op file_ops[FILE_OP_COUNT];
static enum io_backend backend;
static struct io *io;
static int file = -1;
static uint64_t number_count;
static uint64_t timer_count;
static _Atomic bool stopping;
static bool draining;

static struct io *open_io(void);
static void *produce(void *argument);
static void wait_until_seen(struct producer *producer, struct io *own, uint64_t number);
static bool run_phase(const char *name, uint64_t seconds, bool with_numbers, bool with_files);
static void drain(struct io_op *timer);
static bool run_owner(uint64_t end_ns);
static uint64_t look(void);
static void start_file_op(struct file_op *file_op);
static void file_op_done(struct io_op *op);
static void timer_done(struct io_op *op);

static uint64_t now_ns(void)
{
    return clock_mono_ns(clock_system());
}

int main(int argc, char **argv)
{
    char path[] = "/tmp/io_wake_stress_XXXXXX";
    uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 2;

    backend = argc > 1 && strcmp(argv[1], "uring") == 0 ? IO_BACKEND_URING : IO_BACKEND_EPOLL;
    io = open_io();
    file = mkstemp(path);
    if (!io || file < 0)
        return 1;
    unlink(path);
    bool passed = run_phase("numbers", seconds, true, false) &&
                  run_phase("files", seconds, false, true) &&
                  run_phase("both", seconds, true, true);
    close(file);
    if (passed)
        io_free(io);
    return passed ? 0 : 1;
}

static bool run_phase(const char *name, uint64_t seconds, bool with_numbers, bool with_files)
{
    struct io_op timer = {0};
    int producer_count = with_numbers ? PRODUCER_COUNT : 0;
    /* Alone, one: a second one in flight would soon hide that the first one was slept over. */
    int file_op_count = !with_files ? 0 : with_numbers ? FILE_OP_COUNT : 1;
    uint64_t file_rounds = 0;

    draining = false;
    atomic_store(&stopping, false);
    for (int i = 0; i < file_op_count; i++)
        start_file_op(&file_ops[i]);
    if (with_numbers && with_files) // alone, a timer would hide a lost wake-up
        io_timer(io, &timer, now_ns(), timer_done);
    for (int i = 0; i < producer_count; i++) {
        producers[i].has_io = i % 2 == 1;
        pthread_create(&producers[i].thread, NULL, produce, &producers[i]);
    }
    bool passed = run_owner(now_ns() + seconds * NS_PER_S);
    for (int i = 0; i < producer_count; i++)
        pthread_join(producers[i].thread, NULL);
    drain(&timer);
    for (int i = 0; i < FILE_OP_COUNT; i++)
        file_rounds += file_ops[i].rounds;
    printf("%s: numbers %lu, file operations %lu, timers %lu\n", name, (unsigned long)number_count,
           (unsigned long)file_rounds, (unsigned long)timer_count);
    return passed && (!with_numbers || number_count > 0) && (!with_files || file_rounds > 0);
}

/* Ends what is in flight, so that the next phase begins with nothing. */
static void drain(struct io_op *timer)
{
    draining = true;
    io_cancel(io, timer);
    for (int i = 0; i < FILE_OP_COUNT; i++) {
        while (io_op_is_active(&file_ops[i].op) || io_op_is_active(timer))
            (void)io_poll(io, NS_PER_S);
    }
}

static struct io *open_io(void)
{
    struct io *made = NULL;
    struct io_options options = {.backend = backend, .ops_max = 64, .file_threads = 2};
    int status = io_new(&options, &made);
    if (status != 0)
        fprintf(stderr, "io_new: %s\n", status_text(status));
    return made;
}

/* ---- producers ---- */

static void *produce(void *argument)
{
    struct producer *producer = argument;
    struct io *own = producer->has_io ? open_io() : NULL;

    for (uint64_t number = atomic_load(&producer->published) + 1; !atomic_load(&stopping);
         number++) {
        producer->plain = number * 3;
        atomic_store_explicit(&producer->published, number, memory_order_release);
        if (io_sleeping(io)) {
            io_wake(io, own);
            if (own)
                (void)io_poll(own, 0); // a ring's message leaves with its next poll
        }
        wait_until_seen(producer, own, number);
    }
    io_free(own);
    return NULL;
}

static void wait_until_seen(struct producer *producer, struct io *own, uint64_t number)
{
    while (atomic_load_explicit(&producer->seen, memory_order_acquire) != number &&
           !atomic_load(&stopping)) {
        if (own)
            (void)io_poll(own, 50 * NS_PER_US);
        else
            sched_yield();
    }
}

/* ---- owner ---- */

/* Returns false after a lost wake-up. */
static bool run_owner(uint64_t end_ns)
{
    bool passed = true;

    while (passed && now_ns() < end_ns) {
        io_prepare_wait(io);
        uint64_t count = look();
        number_count += count;
        uint64_t begin_ns = now_ns();
        (void)io_poll(io, count > 0 ? 0 : WAIT_NS_MAX);
        passed = now_ns() - begin_ns < WAIT_NS_MAX / 2;
    }
    atomic_store(&stopping, true);
    if (!passed)
        fprintf(stderr, "a wake-up was lost\n");
    return passed;
}

static uint64_t look(void)
{
    uint64_t count = 0;

    for (int i = 0; i < PRODUCER_COUNT; i++) {
        struct producer *producer = &producers[i];
        uint64_t number = atomic_load_explicit(&producer->published, memory_order_acquire);
        if (number == atomic_load_explicit(&producer->seen, memory_order_relaxed))
            continue;
        ASSERT(producer->plain == number * 3);
        atomic_store_explicit(&producer->seen, number, memory_order_release);
        count++;
    }
    return count;
}

static void start_file_op(struct file_op *file_op)
{
    size_t index = (size_t)(file_op - file_ops);
    uint64_t offset = index * sizeof file_op->buf;

    switch (file_op->rounds % 3) {
    case 0:
        memset(file_op->buf, (int)(file_op->rounds & 0x7f), sizeof file_op->buf);
        io_write(io, &file_op->op, file, file_op->buf, sizeof file_op->buf, offset, file_op_done);
        break;
    case 1:
        memset(file_op->buf, 0xff, sizeof file_op->buf);
        io_read(io, &file_op->op, file, file_op->buf, sizeof file_op->buf, offset, file_op_done);
        break;
    default:
        io_unlink(io, &file_op->op, "/nonexistent/file", file_op_done);
        break;
    }
}

static void file_op_done(struct io_op *op)
{
    struct file_op *file_op = CONTAINER_OF(op, struct file_op, op);
    int expected = file_op->rounds % 3 == 2 ? E_NOT_FOUND : (int)sizeof file_op->buf;

    ASSERT(op->result == expected);
    if (file_op->rounds % 3 == 1)
        ASSERT(file_op->buf[63] == (char)((file_op->rounds - 1) & 0x7f));
    file_op->rounds++;
    if (!draining)
        start_file_op(file_op);
}

static void timer_done(struct io_op *op)
{
    timer_count++;
    if (!draining)
        io_timer(io, op, now_ns() + NS_PER_MS, timer_done);
}
