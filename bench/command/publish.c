/* `sluice-bench publish`.
 *
 * The happy path is: bare limits (if wanted), connect, make the topic, start the producers, let them
 * warm up, count the acked records of the measured time, stop, wait for what is in flight, bare
 * limits again (the machine may have changed meanwhile: then that is an anomaly), report.
 *
 * Only acked records count, and an ack means durable. After the run the topic must have grown by
 * exactly as many records as were acked; anything else is an anomaly, and so is a broker that had to
 * wait for prepared log files: then its preparation was measured, not its log. */
#include "bench/command/publish.h"

#include <stdlib.h>

#include "bench/bare/limits.h"
#include "bench/engine/load.h"
#include "bench/engine/place.h"

#define LIMITS_CHANGE_MAX 0.25 // more between before and after: the fraction means little

static int measure_around(struct report *report);
static int measure(struct report *report);
static int run_load(struct session *session, struct load *load, struct report *report);

int publish_main(struct bench_options *options)
{
    static struct report report;
    report.options = options;
    int status = options->limits_dir ? measure_around(&report) : measure(&report);
    if (status)
        return 1;
    return report_print(&report) | report_write_json(&report);
}

static int measure_around(struct report *report)
{
    struct limits limits;
    struct limits_figures before = {0}, after = {0};
    if (limits_open(&limits, report->options))
        return -1;
    int status = limits_measure_rates(&limits, &before);
    if (status == 0)
        status = measure(report);
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

static int measure(struct report *report)
{
    struct session session;
    if (session_open(&session, report))
        return -1;
    int status = -1;
    uint64_t *ends = calloc(session.partition_count, sizeof(*ends));
    struct load *load = NULL;
    if (ends && session_ends(&session, ends) == 0 && (load = load_new(&session)) != NULL &&
        run_load(&session, load, report) == 0) {
        session_check_growth(&session, ends, load_totals(load).acked, report);
        status = 0;
        if (report->records == 0)
            anomaly(report, "nothing was acked in the measured time");
    }
    if (load)
        load_free(load);
    free(ends);
    session_close(&session);
    return status;
}

static int run_load(struct session *session, struct load *load, struct report *report)
{
    static struct histogram latency_ns;
    const struct bench_options *options = report->options;
    struct broker_figures figures_before, figures_after;
    uint64_t begin = now_ns() + options->warm_up_ns, end = begin + options->duration_ns;
    if (load_start(load, begin, end))
        return -1;
    sleep_until_ns(begin);
    struct load_totals before = load_totals(load);
    uint64_t begun = now_ns();
    session_figures(session, &figures_before);
    sleep_until_ns(end);
    struct load_totals after = load_totals(load);
    uint64_t ended = now_ns();
    session_figures(session, &figures_after);
    load_stop(load);

    report->has_load = true;
    report->records = after.acked - before.acked;
    report->bytes = report->records * options->record_bytes;
    report->seconds = (double)(ended - begun) / 1e9;
    report->latency_ns = &latency_ns;
    load_summarise(load, report, &latency_ns);
    session_figures_between(&figures_before, &figures_after, &report->broker);
    if (report->broker.waits_for_spare.known && report->broker.waits_for_spare.value > 0)
        anomaly(report, "the broker waited %.0f times for a prepared log file",
                report->broker.waits_for_spare.value);
    return 0;
}
