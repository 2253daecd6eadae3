#include "bench/command/around.h"

#include "bench/bare/limits.h"

#define LIMITS_CHANGE_MAX 0.25

static int measure_alone(struct report *report, measure_fn measure)
{
    static struct driver_session session; // the report refers to it
    if (driver_session_open(&session, report->options))
        return -1;
    report->session = &session;
    report->partition_count = session.partition_count;
    if (report->options->partition_count &&
        report->options->partition_count != session.partition_count)
        anomaly(report, "the topic was there with %u partitions, not %u", session.partition_count,
                report->options->partition_count);
    int status = measure(&session, report);
    driver_session_close(&session);
    return status;
}

static int measure_with_limits(struct report *report, measure_fn measure)
{
    struct limits limits;
    struct limits_figures before = {0}, after = {0};
    if (limits_open(&limits, report->options))
        return -1;
    int status = limits_measure_rates(&limits, &before);
    if (status == 0)
        status = limits_measure_latencies(&limits, &before);
    if (status == 0)
        status = measure_alone(report, measure);
    if (status == 0)
        status = limits_measure_rates(&limits, &after);
    limits_close(&limits);
    if (status)
        return -1;
    double change = limits_mean(&before, &after, &report->limits);
    if (change > LIMITS_CHANGE_MAX)
        anomaly(
            report,
            "the bare limits changed by %.0f %% during the run (pipeline %.2f, then %.2f GB/s): "
            "the machine is not quiet",
            100 * change, before.pipeline_bytes_per_s.value / 1e9,
            after.pipeline_bytes_per_s.value / 1e9);
    return 0;
}

int measure_around(const struct bench_options *options, measure_fn measure)
{
    static struct report report;
    report = (struct report){.options = options};
    int status = options->limits_dir ? measure_with_limits(&report, measure)
                                     : measure_alone(&report, measure);
    return status ? 1 : report_finish(&report);
}
