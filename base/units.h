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
/* Digits only: no sign, no overflow. Returns 0 or INVALID. */
MUST_USE int units_parse_u64(const char *text, uint64_t *value);
/* ms since the epoch (digits), or RFC 3339 ("2026-11-20T23:44:46.5Z", "...+02:00"). */
MUST_USE int units_parse_time(const char *text, uint64_t *epoch_ms);

/* Each writes into text (UNITS_TEXT_MAX bytes) and returns it. Sizes are for people: "64MiB" where
 * exact, else "1.3GiB". Durations are exact, with at most one decimal: "7d", "1.5s", "61s". Times are
 * RFC 3339 in UTC with ms; after the year 9999 the number itself, which is read back as well. */
#define UNITS_TEXT_MAX 40
char *units_format_size(uint64_t bytes, char *text);
char *units_format_duration(uint64_t ms, char *text);
char *units_format_time(uint64_t epoch_ms, char *text);

#endif
