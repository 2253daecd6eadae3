/* Values of a result by their path of keys: "limits.fraction". */
#ifndef SLUICE_BENCH_REPORT_JSON_PATH_H
#define SLUICE_BENCH_REPORT_JSON_PATH_H

#include <jansson.h>

/* Borrowed; NULL: there is none. */
json_t *json_at(json_t *root, const char *path);

/* Reads a result. NULL after a message that begins with `who`: no file, no JSON, no result of sluice-bench. */
json_t *json_result_load(const char *who, const char *path);

#endif
