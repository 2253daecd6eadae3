/* What loads cost both sides and the disk, as ratios: per record, per byte, per second. */
#ifndef SLUICE_BENCH_REPORT_COSTS_H
#define SLUICE_BENCH_REPORT_COSTS_H

#include "bench/engine/run.h"
#include "bench/report/report.h"

struct costs {
    uint32_t load_count; // that were added; 0: all figures are unknown
    double records, bytes, seconds;
    struct figure client_cpu_s, broker_cpu_s;
    struct figure log_fdatasyncs, log_bytes; // as the broker counts
    struct figure disk_flushes, disk_bytes;  // as the disk does, whoever asked for them
    struct figure broker_rss_bytes;          // the most that was seen at the end of a load
};

/* One more load. A figure that is unknown of one of them is unknown of all. */
void costs_add(struct costs *costs, const struct resources *before, const struct resources *after,
               double records, double bytes, double seconds);

/* All windows of a run. */
void costs_add_run(struct costs *costs, const struct run_result *run);

/* `ratios` of the schema; the caller's. */
json_t *costs_json(const struct costs *costs);

/* The same, with the memory of the broker: what rows of claims carry. */
json_t *costs_row_json(const struct costs *costs);

#endif
