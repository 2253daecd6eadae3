/* `sluice-bench limits`, and the same measurements around a load.
 *
 * The order is socket, log, pipeline, reading, latencies, each for options->duration; all use the same set of
 * files, so that only the first pass over them is younger than a recycled log. */
#include "bench/bare/limits.h"

#include <math.h>

#include "bench/bare/bare_latency.h"
#include "bench/bare/flow.h"

#define AROUND_LOAD_NS NS_PER_S // of each measurement, when a load is what is measured

static int measure_rate(struct limits *limits, struct flow_options flow, struct figure *figure);
static void mean_figure(struct figure before, struct figure after, struct figure *mean,
                        double *change);

int limits_main(struct bench_options *options)
{
    static struct report report;
    struct limits limits;
    report.options = options;
    if (limits_open(&limits, options))
        return 1;
    int status = limits_measure_rates(&limits, &report.limits);
    if (status == 0)
        status = limits_measure_latencies(&limits, &report.limits);
    limits_close(&limits);
    if (status)
        return 1;
    return report_finish(&report);
}

int limits_open(struct limits *limits, const struct bench_options *options)
{
    bool alone = options->command == BENCH_LIMITS;
    *limits = (struct limits){
        .options = options,
        .warm_up_ns = alone ? options->warm_up_ns : 300 * NS_PER_MS,
        .duration_ns = alone ? options->duration_ns : AROUND_LOAD_NS,
    };
    return wal_set_open(&limits->wal_set, options->limits_dir, options->wal_set_bytes);
}

void limits_close(struct limits *limits)
{
    wal_set_close(&limits->wal_set);
}

int limits_measure_rates(struct limits *limits, struct limits_figures *figures)
{
    struct wal_set *log = &limits->wal_set;
    struct flow_options socket = {.from_socket = true}, write = {.wal_set = log},
                        pipeline = {.from_socket = true, .wal_set = log},
                        read = {.wal_set = log, .is_reading = true};
    if (measure_rate(limits, socket, &figures->socket_bytes_per_s) ||
        measure_rate(limits, write, &figures->wal_bytes_per_s) ||
        measure_rate(limits, pipeline, &figures->pipeline_bytes_per_s))
        return -1;
    if (!(limits->options->command & (BENCH_LIMITS | BENCH_CONSUME)))
        return 0;
    return measure_rate(limits, read, &figures->read_bytes_per_s);
}

static int measure_rate(struct limits *limits, struct flow_options flow, struct figure *figure)
{
    flow.connection_count = limits->options->connection_count;
    flow.warm_up_ns = limits->warm_up_ns;
    flow.duration_ns = limits->duration_ns;
    flow.cpu_receive = limits->options->cpu_receive;
    flow.cpu_send = limits->options->cpu_send;
    double bytes_per_s;
    if (flow_measure(&flow, &bytes_per_s))
        return -1;
    *figure = figure_of(bytes_per_s);
    return 0;
}

int limits_measure_latencies(struct limits *limits, struct limits_figures *figures)
{
    static struct histogram write_sync, round_trip;
    struct bare_latency_options options = {
        .wal_set = &limits->wal_set,
        .duration_ns = limits->duration_ns,
        .cpu_receive = limits->options->cpu_receive,
        .cpu_send = limits->options->cpu_send,
    };
    if (write_sync_measure(&options, &write_sync) || round_trip_measure(&options, &round_trip))
        return -1;
    figures->write_sync_p50_us = figure_of((double)histogram_quantile(&write_sync, 0.5) / 1e3);
    figures->write_sync_p99_us = figure_of((double)histogram_quantile(&write_sync, 0.99) / 1e3);
    figures->round_trip_p50_us = figure_of((double)histogram_quantile(&round_trip, 0.5) / 1e3);
    figures->round_trip_p99_us = figure_of((double)histogram_quantile(&round_trip, 0.99) / 1e3);
    return 0;
}

double limits_mean(const struct limits_figures *before, const struct limits_figures *after,
                   struct limits_figures *mean)
{
    double socket_change = 0, read_change = 0, change = 0;
    *mean = *before;
    mean_figure(before->socket_bytes_per_s, after->socket_bytes_per_s, &mean->socket_bytes_per_s,
                &socket_change);
    mean_figure(before->wal_bytes_per_s, after->wal_bytes_per_s, &mean->wal_bytes_per_s, &change);
    mean_figure(before->pipeline_bytes_per_s, after->pipeline_bytes_per_s,
                &mean->pipeline_bytes_per_s, &change);
    mean_figure(before->read_bytes_per_s, after->read_bytes_per_s, &mean->read_bytes_per_s,
                &read_change);
    return change;
}

static void mean_figure(struct figure before, struct figure after, struct figure *mean,
                        double *change)
{
    if (!before.known || !after.known)
        return;
    *mean = figure_of((before.value + after.value) / 2);
    if (mean->value > 0)
        *change = fmax(*change, fabs(after.value - before.value) / mean->value);
}
