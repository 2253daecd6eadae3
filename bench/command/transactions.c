/* `sluice-bench transactions`.
 *
 * The happy path is that of publish: bare limits and the bare latencies (if wanted), connect, make the topic, start the
 * producers, warm up, measure, stop, bare rates again, report. Counted are commits that were answered in the measured
 * time: then everything in them is durable and visible. Afterwards the topic must have grown by exactly the records of
 * committed transactions. */
#include "bench/command/transactions.h"

#include <stdlib.h>

#include "bench/bare/limits.h"
#include "bench/engine/place.h"
#include "bench/engine/txn_load.h"

#define LIMITS_CHANGE_MAX 0.25 // more between before and after: the machine is not quiet

static int measure_around(struct report *report);
static int measure(struct report *report);
static int run_load(struct session *session, struct txn_load *load, struct report *report);

int transactions_main(struct bench_options *options)
{
    static struct report report;
    report.options = options;
    if (options->limits_dir ? measure_around(&report) : measure(&report))
        return 1;
    return report_finish(&report);
}

static int measure_around(struct report *report)
{
    struct limits limits;
    struct limits_figures before = {0}, after = {0};
    if (limits_open(&limits, report->options))
        return -1;
    int status = limits_measure_rates(&limits, &before);
    if (status == 0)
        status = limits_measure_latencies(&limits, &before);
    if (status == 0)
        status = measure(report);
    if (status == 0)
        status = limits_measure_rates(&limits, &after);
    limits_close(&limits);
    if (status)
        return -1;
    double change = limits_mean(&before, &after, &report->limits);
    if (change > LIMITS_CHANGE_MAX)
        anomaly(report, "the bare limits changed by %.0f %% during the run", 100 * change);
    return 0;
}

static int measure(struct report *report)
{
    struct session session;
    if (session_open(&session, report))
        return -1;
    int status = -1;
    uint64_t *ends = calloc(session.partition_count, sizeof(*ends));
    struct txn_load *load = NULL;
    if (ends && session_ends(&session, ends) == 0 &&
        (load = txn_load_new(&session, report->options->abort_percent)) != NULL &&
        run_load(&session, load, report) == 0) {
        session_check_growth(&session, ends, txn_load_totals(load).records, report);
        status = 0;
        if (report->transactions.commits.value == 0)
            anomaly(report, "nothing was committed in the measured time");
    }
    if (load)
        txn_load_free(load);
    free(ends);
    session_close(&session);
    return status;
}

static int run_load(struct session *session, struct txn_load *load, struct report *report)
{
    static struct histogram latency_ns;
    const struct bench_options *options = report->options;
    struct broker_figures figures_before, figures_after;
    if (txn_load_start(load))
        return -1;
    uint64_t begin_ns = now_ns() + options->warm_up_ns, end_ns = begin_ns + options->duration_ns;
    sleep_until_ns(begin_ns);
    txn_load_slot(load, TXN_SLOT_FIRST);
    struct txn_totals before = txn_load_totals(load);
    uint64_t begun_ns = now_ns();
    session_figures(session, &figures_before);
    sleep_until_ns(end_ns);
    txn_load_slot(load, TXN_SLOT_NONE);
    struct txn_totals after = txn_load_totals(load);
    uint64_t ended_ns = now_ns();
    session_figures(session, &figures_after);
    txn_load_stop(load);

    report->has_load = true;
    report->records = after.records - before.records;
    report->bytes = report->records * options->record_bytes;
    report->seconds = (double)(ended_ns - begun_ns) / 1e9;
    report->latency_ns = &latency_ns;
    report->transactions = (struct transactions_figures){
        .commits = figure_of((double)(after.commits - before.commits)),
        .commits_per_s = figure_of((double)(after.commits - before.commits) / report->seconds),
        .aborts = figure_of((double)(after.aborts - before.aborts)),
    };
    txn_load_latency(load, TXN_SLOT_FIRST, &latency_ns);
    txn_load_check(load, report);
    session_figures_between(&figures_before, &figures_after, &report->broker);
    return 0;
}
