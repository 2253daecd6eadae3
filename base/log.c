/* The way of a log line: rate limit and formatting on the caller's thread, a slot of the ring, the log
 * thread, the descriptor.
 *
 * The happy path of a caller is: site may write, format, push, look whether the log thread sleeps
 * (an atomic exchange), and only then one futex call. The log thread gathers lines to one write of at
 * most PIPE_BUF bytes, which a pipe takes whole or not at all.
 *
 * It can fail when
 *   - the ring is full: the line is dropped and counted; the log thread reports the count once it
 *     has caught up;
 *   - nobody takes the lines: the log thread waits, never the callers; log_stop() waits 2 s;
 *   - the descriptor is closed or broken: lines are dropped and counted, the broker goes on.
 *
 * Sleeping without a lost wake-up: a caller publishes its line, then exchanges `asleep` for 0; the log
 * thread exchanges `asleep` for 1, then looks at the ring once more. Of two exchanges on one object
 * one is first: either the caller sees 1 and wakes, or the log thread's look sees the line. */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_format.h"
#include "base/ring_mpsc.h"
#include "base/status.h"

#define LOG_RING_SLOTS 1024 // x 1 KiB: a burst of 50 sites at their limit
#define LOG_CHUNK_MAX PIPE_BUF
#define LOG_STOP_NS_MAX (2 * NS_PER_S)
#define LOG_DIRECT_WAIT_MS 1000

static_assert(LOG_LINE_MAX <= LOG_CHUNK_MAX, "a chunk takes at least one line");

struct slot {
    uint32_t len;
    char text[LOG_LINE_MAX];
};

struct chunk {
    uint32_t len;
    uint32_t line_count;
    char text[LOG_CHUNK_MAX];
};

static bool site_allows(struct log_site *site, uint32_t *suppressed);
static void submit(const struct slot *slot);
static bool submit_to_ring(const struct slot *slot);
static void *log_thread(void *context);
static void drain(struct chunk *chunk);
static void report_dropped(struct chunk *chunk);
static void chunk_add(struct chunk *chunk, const struct slot *slot);
static void chunk_flush(struct chunk *chunk);
static bool chunk_write(const struct chunk *chunk);
static bool is_late(void);
static bool wait_writable(int timeout_ms);
static void sleep_until_woken(void);
static void wake(void);
static void write_direct(struct iovec *pieces, int count);

/* ---- settings: any thread ---- */
static _Atomic int level_now = LOG_LEVEL_INFO;
static _Atomic int format_now = LOG_FORMAT_TEXT;
static _Atomic int output_fd = STDERR_FILENO;
static _Atomic uint64_t dropped;
/* ---- callers and main ---- */
static _Atomic bool running;        // lines go to the ring
static _Atomic uint32_t submitting; // callers that may be using the ring
/* ---- callers and log thread ---- */
static struct ring_mpsc *ring;  // set while `running` or the thread lives
static _Atomic uint32_t asleep; // the futex
/* ---- main before the thread lives, then the log thread ---- */
static uint64_t dropped_reported;
/* ---- main and log thread ---- */
static pthread_t thread;
static _Atomic uint64_t stop_deadline_ns; // 0: go on

int log_start(const struct log_options *options)
{
    ASSERT(!atomic_load(&running));
    log_set_level(options->level);
    atomic_store(&format_now, options->format);
    atomic_store(&output_fd, options->fd);
    ring = ring_mpsc_new(LOG_RING_SLOTS, sizeof(struct slot), 0);
    if (ring == NULL)
        return E_NO_MEMORY;
    atomic_store(&stop_deadline_ns, 0);
    atomic_store(&asleep, 0);
    dropped_reported = log_dropped(); // not in the thread: callers may be ahead of its first step

    /* Signals are for the threads that expect them; and a closed pipe must not end the process. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, log_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        ring_mpsc_free(ring);
        ring = NULL;
        return E_NO_MEMORY;
    }
    atomic_store(&running, true);
    return 0;
}

/* First no caller may come into the ring any more, then none may be in it, then the thread empties it
 * and ends: so every line is either in the ring before the end or written directly after it. */
void log_stop(void)
{
    if (!atomic_load(&running))
        return;
    atomic_store(&running, false);
    while (atomic_load(&submitting) > 0)
        sched_yield();
    atomic_store(&stop_deadline_ns, clock_mono_ns(clock_system()) + LOG_STOP_NS_MAX);
    wake();
    pthread_join(thread, NULL);
    ring_mpsc_free(ring);
    ring = NULL;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

int log_level_parse(const char *text, enum log_level *level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return E_INVALID;
}

uint64_t log_dropped(void)
{
    return atomic_load_explicit(&dropped, memory_order_relaxed);
}

void log_direct(const char *line)
{
    size_t len = strlen(line);
    bool ended = len > 0 && line[len - 1] == '\n';
    struct iovec pieces[] = {
        {.iov_base = (void *)(uintptr_t)line, .iov_len = len},
        {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1},
    };
    write_direct(pieces, ended ? 1 : 2);
}

void log_write(struct log_site *site, enum log_level level, const char *event,
               const struct log_field *fields, size_t field_count)
{
    uint32_t suppressed = 0;
    if (level < log_get_level() || !site_allows(site, &suppressed))
        return;
    const struct log_line line = {
        .level = level,
        .wall_ms = clock_wall_ms(clock_system()),
        .event = event,
        .fields = fields,
        .field_count = field_count,
        .suppressed = suppressed,
    };
    struct slot slot;
    enum log_format format =
        (enum log_format)atomic_load_explicit(&format_now, memory_order_relaxed);
    slot.len = (uint32_t)log_format_line(format, &line, slot.text);
    submit(&slot);
}

/* Threads that meet at the change of a period may let a line more or less through: one of them starts
 * the period, and what others counted before that is forgotten. */
static bool site_allows(struct log_site *site, uint32_t *suppressed)
{
    uint64_t now = clock_mono_ns(clock_system());
    uint64_t start = atomic_load_explicit(&site->window_start_ns, memory_order_relaxed);
    bool over = start == 0 || now - start >= LOG_PERIOD_NS;
    if (over && atomic_compare_exchange_strong_explicit(&site->window_start_ns, &start, now,
                                                        memory_order_relaxed, memory_order_relaxed))
        atomic_store_explicit(&site->count, 0, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&site->count, 1, memory_order_relaxed) >= LOG_BURST) {
        atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
        return false;
    }
    *suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    return true;
}

/* `submitting` is raised before `running` is read, both sequentially consistent: log_stop() either
 * sees us in the ring and waits, or we see that it has stopped. */
static void submit(const struct slot *slot)
{
    atomic_fetch_add(&submitting, 1);
    bool taken = atomic_load(&running) && submit_to_ring(slot);
    atomic_fetch_sub(&submitting, 1);
    if (taken)
        return;
    struct iovec piece = {.iov_base = (void *)(uintptr_t)slot->text, .iov_len = slot->len};
    write_direct(&piece, 1);
}

static bool submit_to_ring(const struct slot *slot)
{
    if (ring_mpsc_push(ring, slot))
        wake();
    else
        atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
    return true;
}

static void *log_thread(void *context)
{
    static struct chunk chunk;
    pthread_setname_np(pthread_self(), "sluice-log");
    for (;;) {
        bool stopping = atomic_load(&stop_deadline_ns) != 0; // before the last look at the ring
        drain(&chunk);
        report_dropped(&chunk);
        if (stopping)
            return NULL;
        sleep_until_woken();
    }
}

static void drain(struct chunk *chunk)
{
    struct slot slot;
    while (ring_mpsc_pop(ring, &slot))
        chunk_add(chunk, &slot);
    chunk_flush(chunk);
}

static void report_dropped(struct chunk *chunk)
{
    uint64_t now = log_dropped();
    if (now == dropped_reported)
        return;
    const struct log_line line = {
        .level = LOG_LEVEL_WARN,
        .wall_ms = clock_wall_ms(clock_system()),
        .event = "log.lines_dropped",
        .fields = &LOG_U64("lines", now - dropped_reported),
        .field_count = 1,
    };
    dropped_reported = now;
    struct slot slot;
    slot.len =
        (uint32_t)log_format_line((enum log_format)atomic_load(&format_now), &line, slot.text);
    chunk_add(chunk, &slot);
    chunk->line_count = 0; // if this line is lost too, nobody's line is
    chunk_flush(chunk);
}

static void chunk_add(struct chunk *chunk, const struct slot *slot)
{
    if (chunk->len + slot->len > LOG_CHUNK_MAX)
        chunk_flush(chunk);
    memcpy(chunk->text + chunk->len, slot->text, slot->len);
    chunk->len += slot->len;
    chunk->line_count++;
}

static void chunk_flush(struct chunk *chunk)
{
    if (chunk->len > 0 && !chunk_write(chunk))
        atomic_fetch_add_explicit(&dropped, chunk->line_count, memory_order_relaxed);
    chunk->len = 0;
    chunk->line_count = 0;
}

/* Waits for the reader as long as it takes, but not beyond the deadline of log_stop(). */
static bool chunk_write(const struct chunk *chunk)
{
    uint32_t done = 0;
    while (done < chunk->len) {
        bool late = is_late();
        if (!wait_writable(late ? 0 : 100)) {
            if (late)
                return false;
            continue;
        }
        ssize_t n = write(atomic_load(&output_fd), chunk->text + done, chunk->len - done);
        if (n > 0)
            done += (uint32_t)n;
        else if (n < 0 && errno != EINTR && errno != EAGAIN)
            return false;
    }
    return true;
}

static bool is_late(void)
{
    uint64_t deadline = atomic_load(&stop_deadline_ns);
    return deadline != 0 && clock_mono_ns(clock_system()) >= deadline;
}

/* True when a write wouldn't block, or would fail at once. */
static bool wait_writable(int timeout_ms)
{
    struct pollfd poll_fd = {.fd = atomic_load(&output_fd), .events = POLLOUT};
    return poll(&poll_fd, 1, timeout_ms) > 0;
}

static void sleep_until_woken(void)
{
    atomic_exchange(&asleep, 1);
    if (ring_mpsc_is_empty(ring) && atomic_load(&stop_deadline_ns) == 0)
        syscall(SYS_futex, &asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    atomic_store(&asleep, 0);
}

static void wake(void)
{
    if (atomic_exchange(&asleep, 0) == 1)
        syscall(SYS_futex, &asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* One system call for the line. A descriptor that takes nothing loses it after a second. */
static void write_direct(struct iovec *pieces, int count)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        ssize_t n;
        do {
            n = writev(atomic_load(&output_fd), pieces, count);
        } while (n < 0 && errno == EINTR);
        if (n >= 0)
            return;
        if (errno != EAGAIN || !wait_writable(LOG_DIRECT_WAIT_MS))
            break;
    }
    atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
}
