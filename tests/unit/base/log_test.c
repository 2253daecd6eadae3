/* base/log.h: the way of a line from a caller to the descriptor. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"

static int pipe_fds[2];

static void open_pipe(void)
{
    cr_assert_eq(pipe(pipe_fds), 0);
}

TestSuite(log, .init = open_pipe);

static void start_log(enum log_level level)
{
    const struct log_options options = {
        .level = level,
        .format = LOG_FORMAT_TEXT,
        .fd = pipe_fds[1],
    };
    cr_assert_eq(log_start(&options), 0);
}

static char text_read[1 << 22];

static void *read_until_end(void *context)
{
    size_t len = 0;
    ssize_t n;
    while ((n = read(pipe_fds[0], text_read + len, sizeof(text_read) - 1 - len)) > 0)
        len += (size_t)n;
    text_read[len] = '\0';
    return NULL;
}

/* Everything written; call after log_stop(). */
static const char *read_all(void)
{
    close(pipe_fds[1]);
    read_until_end(NULL);
    return text_read;
}

static unsigned count_lines(const char *text, const char *with)
{
    unsigned count = 0;
    for (const char *at = strstr(text, with); at != NULL; at = strstr(at + 1, with))
        count++;
    return count;
}

Test(log, a_line_arrives_by_itself)
{
    start_log(LOG_LEVEL_INFO);
    LOG_INFO("test.line_written", LOG_U64("n", 1));
    struct pollfd poll_fd = {.fd = pipe_fds[0], .events = POLLIN};
    cr_assert_eq(poll(&poll_fd, 1, 10000), 1, "the log thread sleeps over a line");
    log_stop();
    cr_assert_not_null(strstr(read_all(), " INFO test.line_written n=1\n"));
}

Test(log, lines_of_one_thread_keep_their_order_and_stop_writes_them_all)
{
    start_log(LOG_LEVEL_INFO);
    for (uint64_t i = 0; i < 500; i++) {
        log_write(&(struct log_site){0}, LOG_LEVEL_INFO, "test.counted", &LOG_U64("i", i), 1);
    }
    log_stop();
    const char *at = read_all();
    char expected[64];
    for (int i = 0; i < 500; i++) {
        snprintf(expected, sizeof(expected), "test.counted i=%d\n", i);
        at = strstr(at, expected);
        cr_assert_not_null(at, "line %d is missing or out of order", i);
    }
    cr_assert_eq(log_dropped(), 0);
}

Test(log, a_level_below_the_setting_is_not_written)
{
    start_log(LOG_LEVEL_WARN);
    LOG_INFO("test.quiet");
    LOG_WARN("test.loud");
    log_set_level(LOG_LEVEL_DEBUG);
    LOG_DEBUG("test.debug");
    log_stop();
    const char *text = read_all();
    cr_assert_null(strstr(text, "test.quiet"));
    cr_assert_not_null(strstr(text, "test.loud"));
    cr_assert_not_null(strstr(text, "test.debug"));
}

static unsigned evaluated;

static uint64_t evaluate(void)
{
    return ++evaluated;
}

Test(log, debug_lines_that_are_off_do_not_even_evaluate_their_fields)
{
    start_log(LOG_LEVEL_INFO);
    LOG_DEBUG("test.debug", LOG_U64("n", evaluate()));
    cr_assert_eq(evaluated, 0);
    log_stop();
}

Test(log, json_is_chosen_at_start)
{
    const struct log_options options = {.format = LOG_FORMAT_JSON, .fd = pipe_fds[1]};
    cr_assert_eq(log_start(&options), 0);
    LOG_ERROR("test.failed", LOG_STR("why", "a \"b\""));
    log_stop();
    cr_assert_not_null(strstr(
        read_all(), "\"level\":\"error\",\"event\":\"test.failed\",\"why\":\"a \\\"b\\\"\"}\n"));
}

static void log_from_one_site(int times)
{
    for (int i = 0; i < times; i++)
        LOG_INFO("test.repeated");
}

Test(log, a_site_is_limited_to_its_burst)
{
    start_log(LOG_LEVEL_INFO);
    log_from_one_site(1000);
    LOG_INFO("test.elsewhere");
    log_stop();
    const char *text = read_all();
    cr_assert_eq(count_lines(text, "test.repeated"), LOG_BURST);
    cr_assert_eq(count_lines(text, "test.elsewhere"), 1, "sites are limited one by one");
    cr_assert_eq(log_dropped(), 0, "what is suppressed is not dropped");
}

Test(log, the_next_period_tells_what_was_suppressed)
{
    start_log(LOG_LEVEL_INFO);
    struct log_site site = {0};
    for (int i = 0; i < 50; i++)
        log_write(&site, LOG_LEVEL_INFO, "test.repeated", NULL, 0);
    cr_assert_eq(atomic_load(&site.suppressed), 50 - LOG_BURST);
    uint64_t a_period_ago = clock_mono_ns(clock_system()) - LOG_PERIOD_NS;
    atomic_store(&site.window_start_ns, a_period_ago);
    log_write(&site, LOG_LEVEL_INFO, "test.again", NULL, 0);
    log_write(&site, LOG_LEVEL_INFO, "test.and_again", NULL, 0);
    log_stop();
    const char *text = read_all();
    cr_assert_not_null(strstr(text, "test.again suppressed=30\n"));
    cr_assert_not_null(strstr(text, "test.and_again\n"));
}

static void flood(unsigned lines)
{
    char filler[900];
    memset(filler, 'x', sizeof(filler) - 1);
    filler[sizeof(filler) - 1] = '\0';
    for (unsigned i = 0; i < lines; i++)
        log_write(&(struct log_site){0}, LOG_LEVEL_INFO, "test.flood", &LOG_STR("f", filler), 1);
}

Test(log, a_full_ring_drops_and_counts_and_never_blocks)
{
    start_log(LOG_LEVEL_INFO); // nobody reads the pipe: 64 KiB, then the log thread waits
    uint64_t before = clock_mono_ns(clock_system());
    flood(3000);
    cr_assert_lt(clock_mono_ns(clock_system()) - before, 5 * NS_PER_S);
    uint64_t dropped = log_dropped();
    cr_assert(dropped > 1000 && dropped < 3000, "%llu dropped", (unsigned long long)dropped);
}

Test(log, lost_lines_are_reported_and_the_books_balance)
{
    start_log(LOG_LEVEL_INFO);
    flood(2000);
    uint64_t dropped = log_dropped();
    cr_assert_gt(dropped, 0);
    pthread_t reader;
    cr_assert_eq(pthread_create(&reader, NULL, read_until_end, NULL), 0);
    log_stop();
    close(pipe_fds[1]);
    pthread_join(reader, NULL);
    cr_assert_eq(log_dropped(), dropped, "what was queued was written");
    cr_assert_eq(count_lines(text_read, "test.flood f="), 2000 - dropped);
    char expected[64];
    snprintf(expected, sizeof(expected), "WARN log.lines_dropped lines=%u\n", (unsigned)dropped);
    cr_assert_not_null(strstr(text_read, expected));
}

Test(log, stop_gives_up_on_a_reader_that_does_not_read)
{
    start_log(LOG_LEVEL_INFO);
    flood(500);
    uint64_t before = clock_mono_ns(clock_system());
    log_stop();
    uint64_t took = clock_mono_ns(clock_system()) - before;
    cr_assert(took > NS_PER_S && took < 20 * NS_PER_S, "took %llu ns", (unsigned long long)took);
    unsigned written = count_lines(read_all(), "test.flood f=");
    cr_assert_eq(written + log_dropped(), 500);
    cr_assert_gt(written, 0);
}

Test(log, a_closed_pipe_loses_lines_not_the_process)
{
    start_log(LOG_LEVEL_INFO);
    close(pipe_fds[0]);
    LOG_INFO("test.unheard");
    log_stop();
    cr_assert_geq(log_dropped(), 1);
}

#define WRITER_COUNT 4
#define LINES_PER_WRITER 400

static _Atomic unsigned written_count;

static void *write_lines(void *context)
{
    for (uint64_t i = 0; i < LINES_PER_WRITER; i++) {
        const struct log_field fields[] = {
            LOG_U64("writer", (uint64_t)(uintptr_t)context),
            LOG_U64("i", i),
        };
        log_write(&(struct log_site){0}, LOG_LEVEL_INFO, "test.shared", fields, 2);
        atomic_fetch_add(&written_count, 1);
    }
    return NULL;
}

/* Lines go to the ring before the stop and directly after it; none may be lost in between. */
Test(log, stopping_while_others_write_loses_nothing)
{
    pthread_t reader, writers[WRITER_COUNT];
    cr_assert_eq(pthread_create(&reader, NULL, read_until_end, NULL), 0);
    start_log(LOG_LEVEL_INFO);
    for (uintptr_t i = 0; i < WRITER_COUNT; i++)
        cr_assert_eq(pthread_create(&writers[i], NULL, write_lines, (void *)i), 0);
    while (atomic_load(&written_count) < 200)
        usleep(100);
    log_stop();
    for (int i = 0; i < WRITER_COUNT; i++)
        pthread_join(writers[i], NULL);
    close(pipe_fds[1]);
    pthread_join(reader, NULL);
    unsigned seen = count_lines(text_read, "test.shared writer=");
    cr_assert_eq(seen + log_dropped(), WRITER_COUNT * LINES_PER_WRITER);
    cr_assert_geq(seen, 200);
}

Test(log, before_the_start_lines_are_written_directly)
{
    cr_assert_eq(dup2(pipe_fds[1], STDERR_FILENO), STDERR_FILENO);
    LOG_WARN("test.early", LOG_STATUS(E_NO_SPACE));
    log_direct("ready listen=127.0.0.1:7650");
    log_direct("with its own end\n");
    close(STDERR_FILENO);
    const char *text = read_all();
    cr_assert_not_null(strstr(text, " WARN test.early status=NO_SPACE\n"));
    cr_assert_not_null(strstr(text, "\nready listen=127.0.0.1:7650\nwith its own end\n"));
}

Test(log, after_the_stop_lines_are_written_directly_and_a_start_is_possible)
{
    start_log(LOG_LEVEL_INFO);
    log_stop();
    log_stop();
    LOG_INFO("test.late");
    start_log(LOG_LEVEL_INFO);
    LOG_INFO("test.second_life");
    log_stop();
    const char *text = read_all();
    cr_assert_not_null(strstr(text, "test.late\n"));
    cr_assert_not_null(strstr(text, "test.second_life\n"));
}

Test(log, direct_lines_pass_level_and_limit)
{
    start_log(LOG_LEVEL_ERROR);
    for (int i = 0; i < LOG_BURST + 5; i++)
        log_direct("direct");
    log_stop();
    cr_assert_eq(count_lines(read_all(), "direct\n"), LOG_BURST + 5);
}

Test(log, levels_are_read_by_name)
{
    enum log_level level;
    cr_assert_eq(log_level_parse("debug", &level), 0);
    cr_assert_eq(level, LOG_LEVEL_DEBUG);
    cr_assert_eq(log_level_parse("error", &level), 0);
    cr_assert_eq(level, LOG_LEVEL_ERROR);
    cr_assert_eq(log_level_parse("ERROR", &level), E_INVALID);
    cr_assert_eq(log_level_parse("", &level), E_INVALID);
    cr_assert_eq(log_level_parse("warning", &level), E_INVALID);
}
