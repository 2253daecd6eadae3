/* Structured logging that never blocks the caller.
 *
 *     LOG_WARN("wal.sync_slow", LOG_U64("shard", id), LOG_U64("took_us", us), LOG_STR("file", path));
 *
 * gives   2026-11-20T23:44:46.123Z WARN wal.sync_slow shard=0 took_us=5200 file=/d/1.wal
 * or      {"time":"2026-11-20T23:44:46.123Z","level":"warn","event":"wal.sync_slow","shard":0,...}
 *
 * The line is formatted on the caller's stack and pushed into one MPSC ring; a log thread writes it to
 * standard error. A full ring drops the line and counts it (log_dropped). Each call site may write
 * LOG_BURST lines per LOG_PERIOD; what is suppressed is counted and told in the site's next line as
 * suppressed=N. Before log_start() and after log_stop() lines are written directly.
 *
 * Event names: "module.what_happened", past tense. Thread: any; wait-free but for the formatting. */
#ifndef SLUICE_BASE_LOG_H
#define SLUICE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_options {
    enum log_level level;
    enum log_format format;
    int fd; // where lines go; normally 2
};

/* Starts the log thread. Returns 0 or NO_MEMORY. Thread: main, once. */
MUST_USE int log_start(const struct log_options *options);

/* Writes what is queued and stops the thread. When nobody takes the lines (a full pipe) it gives up
 * after 2 s and counts them as dropped, so that a drain ends. Thread: main. */
void log_stop(void);

/* May be called at any time from any thread. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
MUST_USE int log_level_parse(const char *text, enum log_level *level); // debug|info|warn|error
uint64_t log_dropped(void);

/* Writes a line at once, bypassing ring, level and rate limit: for the ready line and for death. */
void log_direct(const char *line);

struct log_field {
    const char *key;
    enum {
        LOG_FIELD_U64,
        LOG_FIELD_I64,
        LOG_FIELD_HEX,
        LOG_FIELD_STR,
        LOG_FIELD_BOOL,
        LOG_FIELD_F64,
    } kind;
    union {
        uint64_t u64;
        int64_t i64;
        const char *str; // NULL prints as "-" (JSON: null); anything else is escaped as needed
        bool boolean;
        double f64;
    };
};

#define LOG_U64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_U64, .u64 = (v)})
#define LOG_I64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_I64, .i64 = (v)})
#define LOG_HEX(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_HEX, .u64 = (v)})
#define LOG_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .str = (v)})
#define LOG_BOOL(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_BOOL, .boolean = (v)})
#define LOG_F64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_F64, .f64 = (v)})
/* A status: its name, e.g. status=NO_SPACE. */
#define LOG_STATUS(v) LOG_STR("status", status_name(v))

/* Rate-limit state of one call site; zero is its initial state. */
struct log_site {
    _Atomic uint64_t window_start_ns;
    _Atomic uint32_t count;
    _Atomic uint32_t suppressed;
};

#define LOG_BURST 20 // lines per site and period
#define LOG_PERIOD_NS (10 * NS_PER_S)
#define LOG_LINE_MAX 1024 // bytes; longer lines are cut and end in "..." (JSON: "truncated":true)

void log_write(struct log_site *site, enum log_level level, const char *event,
               const struct log_field *fields, size_t field_count);

#define LOG_AT(level, event, ...)                                                                  \
    do {                                                                                           \
        static struct log_site log_site_;                                                          \
        const struct log_field log_fields_[] = {__VA_ARGS__ __VA_OPT__(, ){0}};                    \
        log_write(&log_site_, (level), (event), log_fields_, ARRAY_COUNT(log_fields_) - 1);        \
    } while (0)

#define LOG_DEBUG(event, ...)                                                                      \
    do {                                                                                           \
        if (log_get_level() <= LOG_LEVEL_DEBUG)                                                    \
            LOG_AT(LOG_LEVEL_DEBUG, event, __VA_ARGS__);                                           \
    } while (0)
#define LOG_INFO(event, ...) LOG_AT(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define LOG_WARN(event, ...) LOG_AT(LOG_LEVEL_WARN, event, __VA_ARGS__)
#define LOG_ERROR(event, ...) LOG_AT(LOG_LEVEL_ERROR, event, __VA_ARGS__)

#endif
