/* One log line, made in a buffer of fixed size: text or JSON. Only for log.c and its tests. */
#ifndef SLUICE_BASE_LOG_FORMAT_H
#define SLUICE_BASE_LOG_FORMAT_H

#include "base/log.h"

struct log_line {
    enum log_level level;
    uint64_t wall_ms;
    const char *event;
    const struct log_field *fields;
    size_t field_count;
    uint32_t suppressed; // lines of this site that were not written; 0 shows nothing
};

/* Writes the line with its newline into text (LOG_LINE_MAX bytes, not terminated by NUL). Returns its
 * length. Always one well-formed line: what doesn't fit is left out at the end, and then the line
 * says so, with "..." or "truncated":true. Thread: any. */
size_t log_format_line(enum log_format format, const struct log_line *line, char *text);

#endif
