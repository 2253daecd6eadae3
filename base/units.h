/* Sizes and durations as users write them: "64MiB", "10s", "7d"; dates as RFC 3339. */
#ifndef SLUICE_BASE_UNITS_H
#define SLUICE_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/* Plain digits are bytes; suffixes B, KiB, MiB, GiB, TiB. Returns 0 or INVALID. */
MUST_USE int units_parse_size(const char *text, uint64_t *bytes);
/* Plain digits are ms; suffixes ms, s, m, h, d. Returns 0 or INVALID. */
MUST_USE int units_parse_duration(const char *text, uint64_t *ms);
MUST_USE int units_parse_u64(const char *text, uint64_t *value); // digits only, no sign, no overflow
/* ms since the epoch (digits), or RFC 3339 ("2026-11-20T23:44:46.5Z", "...+02:00"). */
MUST_USE int units_parse_time(const char *text, uint64_t *epoch_ms);

#define UNITS_TEXT_MAX 40
char *units_format_size(uint64_t bytes, char *text);       // "64MiB" where exact, else "1.3GiB"
char *units_format_duration(uint64_t ms, char *text);      // "7d", "1.5s"
char *units_format_time(uint64_t epoch_ms, char *text);    // RFC 3339, UTC, ms

#endif
