/* What a run found, for people (text.c) and as JSON (json.c), whose keys are an interface: scripts compare runs by them. README.md of
 * bench has the schema. What was not measured is null, never 0. */
#ifndef SLUICE_BENCH_REPORT_REPORT_H
#define SLUICE_BENCH_REPORT_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/histogram.h"
#include "bench/options.h"

/* A number that may not have been measured. */
struct figure {
    bool known;
    double value;
};

static inline struct figure figure_of(double value)
{
    return (struct figure){true, value};
}

struct limits_figures {
    struct figure socket_bytes_per_s;
    struct figure wal_bytes_per_s;
    struct figure pipeline_bytes_per_s;
    struct figure read_bytes_per_s; // of the disk, past the page cache
    struct figure write_sync_p50_us, write_sync_p99_us;
    struct figure round_trip_p50_us, round_trip_p99_us;
};

struct broker_figures { // of the measured time, as the broker itself counts
    struct figure cpu_s;
    struct figure rss_bytes; // at the end
    struct figure fdatasyncs;
    struct figure device_bytes; // written to the log, with headers and padding
    struct figure
        waits_for_spare; // appends that found no prepared file; reported as an anomaly only
};

struct transactions_figures { // of the measured time
    struct figure commits;    // answered
    struct figure commits_per_s;
    struct figure aborts; // asked for
};

#define ANOMALIES_MAX 32
#define ANOMALY_TEXT_MAX 256

struct anomalies {
    char texts[ANOMALIES_MAX][ANOMALY_TEXT_MAX];
    uint32_t count; // may exceed what is kept
};

struct driver_session;
struct run_result;

struct report {
    const struct bench_options *options;
    const struct driver_session *session; // what the broker says of itself; NULL: none was asked
    uint32_t partition_count;             // that the topic has; 0: no topic was used
    bool has_load;                        // records .. bytes_per_s
    uint64_t records;
    uint64_t bytes;
    double seconds;
    const struct run_result *run; // windows, series, both latencies; NULL: a command without them
    struct limits_figures limits;
    struct broker_figures broker;
    struct transactions_figures transactions;
    json_t *claim; // {name, holds, and what it is judged by}; NULL: another command
    json_t *
        more; // an object whose members are added to the JSON: what only one command has; NULL: none
    struct anomalies anomalies;
};

/* Notes something that should not have happened. Thread: main. */
void anomaly(struct report *report, const char *format, ...) PRINTF_LIKE(2, 3);

/* bytes_per_s as a fraction of the bare pipeline. */
struct figure report_fraction(const struct report *report);

/* The same of the bare disk read, where the broker's files were read from a cold disk. */
struct figure report_read_fraction(const struct report *report);

/* Where a command tells how far it is: standard output, or standard error when that is for a file's content. */
FILE *report_progress(const struct bench_options *options);

/* The median of the windows' rates; of a command without windows amount / seconds. */
double report_records_per_s(const struct report *report);
double report_bytes_per_s(const struct report *report);

/* Takes figures of a run over: amounts, and what broker, client and disk did in the windows. */
void report_take_run(struct report *report, const struct run_result *run);

/* What the broker did between two moments. */
struct resources;
void report_take_resources(struct report *report, const struct resources *before,
                           const struct resources *after);

/* Before a run: can the files be written that were asked for? Returns 0, or -1 after a message. Leaves them as they are. */
MUST_USE int report_check_files(const struct bench_options *options);

/* Prints, and writes the files that were asked for. Returns the exit code of the command: 0; 1 with an anomaly, or after a message
 * on standard error (a file can't be written). */
int report_finish(struct report *report);

/* ---- parts of it, each in a file of its own ---- */

void report_text(const struct report *report, FILE *file); // text.c
json_t *report_json(const struct report *report);          // json.c; the caller's
json_t *machine_json(const struct bench_options *options); // machine.c: what this was measured on
int report_html(json_t *result, FILE *file);               // html.c; 0, or -1: it can't be written

#endif
