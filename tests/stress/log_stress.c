/* Threads that log while the log is started and stopped: log_stress [SECONDS, default 2]
 *
 * Every line must be written exactly once, through the ring or directly, or be counted as dropped;
 * and a line that finds the log thread asleep must wake it, else a round would never end. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

#define WRITER_COUNT 4
#define LINES_PER_ROUND 200

static int pipe_fds[2];
static _Atomic uint64_t lines_seen;

static void round_of_lines(uint64_t seed);
static void wait_for_lines(uint64_t count);
static void *write_lines(void *context);
static void *count_lines(void *context);

int main(int argc, char **argv)
{
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 2;
    alarm((unsigned)seconds + 120); // a lost wake-up fails too
    ASSERT(pipe(pipe_fds) == 0);
    pthread_t reader;
    ASSERT(pthread_create(&reader, NULL, count_lines, NULL) == 0);
    uint64_t end = clock_mono_ns(clock_system()) + seconds * NS_PER_S;
    uint64_t rounds = 0;
    while (rounds < 2 || clock_mono_ns(clock_system()) < end)
        round_of_lines(rounds++);
    close(pipe_fds[1]);
    pthread_join(reader, NULL);
    printf("%" PRIu64 " lines in %" PRIu64 " rounds, %" PRIu64 " dropped\n",
           atomic_load(&lines_seen), rounds, log_dropped());
    return 0;
}

/* One line alone, which needs a wake-up, then many threads; the log stops while they write. */
static void round_of_lines(uint64_t seed)
{
    uint64_t before = atomic_load(&lines_seen) + log_dropped();
    const struct log_options options = {.level = LOG_LEVEL_INFO, .fd = pipe_fds[1]};
    ASSERT(log_start(&options) == 0);
    log_write(&(struct log_site){0}, LOG_LEVEL_INFO, "test.alone", NULL, 0);
    wait_for_lines(before + 1);
    pthread_t writers[WRITER_COUNT];
    for (uint64_t i = 0; i < WRITER_COUNT; i++) {
        void *context = (void *)(uintptr_t)(seed * WRITER_COUNT + i);
        ASSERT(pthread_create(&writers[i], NULL, write_lines, context) == 0);
    }
    if (seed % 2 == 0)
        sched_yield();
    log_stop();
    for (int i = 0; i < WRITER_COUNT; i++)
        pthread_join(writers[i], NULL);
    wait_for_lines(before + 1 + WRITER_COUNT * LINES_PER_ROUND);
}

static void wait_for_lines(uint64_t count)
{
    while (atomic_load(&lines_seen) + log_dropped() < count)
        usleep(50);
    if (atomic_load(&lines_seen) + log_dropped() == count)
        return;
    fprintf(stderr, "expected %" PRIu64 " lines, found %" PRIu64 "\n", count,
            atomic_load(&lines_seen) + log_dropped());
    exit(1);
}

static void *write_lines(void *context)
{
    struct random random;
    random_init(&random, (uintptr_t)context);
    for (uint64_t i = 0; i < LINES_PER_ROUND; i++) {
        log_write(&(struct log_site){0}, LOG_LEVEL_INFO, "test.shared", &LOG_U64("i", i), 1);
        if (random_below(&random, 16) == 0)
            sched_yield();
    }
    return NULL;
}

static void *count_lines(void *context)
{
    char bytes[65536];
    ssize_t n;
    while ((n = read(pipe_fds[0], bytes, sizeof(bytes))) > 0) {
        uint64_t lines = 0;
        for (ssize_t i = 0; i < n; i++)
            lines += bytes[i] == '\n';
        /* A report of lost lines would be no line of ours; but a round's lines fit into the ring. */
        atomic_fetch_add(&lines_seen, lines);
    }
    return NULL;
}
