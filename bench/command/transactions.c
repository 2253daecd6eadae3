/* `sluice-bench transactions`.
 *
 * The happy path is that of publish: bare limits and the bare latencies (if wanted), connect, make the topic, start the
 * producers, warm up, measure, stop, bare rates again, report. Counted are commits that were answered in the measured
 * time: then everything in them is durable and visible. Afterwards the topic must have grown by exactly the records of
 * committed transactions. */
#include "bench/command/transactions.h"

#include "bench/command/around.h"
#include "bench/engine/growth.h"
#include "bench/engine/place.h"
#include "bench/engine/resources.h"
#include "bench/engine/txn_load.h"

static int run_transactions(struct driver_session *session, struct txn_load *load,
                            struct report *report);

static int measure(struct driver_session *session, struct report *report)
{
    struct growth growth;
    if (growth_begin(&growth, session))
        return -1;
    struct txn_load *load = txn_load_new(session, session->options->abort_percent);
    if (load == NULL)
        return -1;
    int status = run_transactions(session, load, report);
    if (status == 0)
        growth_check(&growth, session, txn_load_totals(load).records, report);
    if (status == 0 && report->transactions.commits.value == 0)
        anomaly(report, "nothing was committed in the measured time");
    txn_load_free(load);
    return status;
}

int transactions_main(struct bench_options *options)
{
    return measure_around(options, measure);
}

static int run_transactions(struct driver_session *session, struct txn_load *load,
                            struct report *report)
{
    static struct histogram latency_ns;
    const struct bench_options *options = report->options;
    struct resources resources_before, resources_after;
    if (txn_load_start(load))
        return -1;
    uint64_t begin_ns = now_ns() + options->warm_up_ns, end_ns = begin_ns + options->duration_ns;
    sleep_until_ns(begin_ns);
    txn_load_slot(load, TXN_SLOT_FIRST);
    struct txn_totals before = txn_load_totals(load);
    uint64_t begun_ns = now_ns();
    resources_take(session, &resources_before);
    sleep_until_ns(end_ns);
    txn_load_slot(load, TXN_SLOT_NONE);
    struct txn_totals after = txn_load_totals(load);
    uint64_t ended_ns = now_ns();
    resources_take(session, &resources_after);
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
    report_take_resources(report, &resources_before, &resources_after);
    return 0;
}
