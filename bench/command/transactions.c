/* `sluice-bench transactions`: counted are commits that were answered in the measured time: then everything in them is durable and
 * visible. Afterwards the topic must have grown by exactly the records of committed transactions. */
#include "bench/command/transactions.h"

#include "bench/command/around.h"
#include "bench/engine/run.h"
#include "bench/report/median.h"

static void take_transactions(struct report *report, const struct run_result *result)
{
    double rates[WINDOWS_MAX], commits = 0, aborts = 0;
    for (uint32_t i = 0; i < result->window_count; i++) {
        const struct run_window *window = &result->windows[i];
        rates[i] = (double)window->commits / window->seconds;
        commits += (double)window->commits;
        aborts += (double)window->aborts;
    }
    report->transactions = (struct transactions_figures){
        .commits = figure_of(commits),
        .commits_per_s = figure_of(median_of(rates, result->window_count).median),
        .aborts = figure_of(aborts),
    };
}

static int measure(struct driver_session *session, struct report *report)
{
    static struct run_result result;
    struct run_plan plan = {.rate = session->options->rate, .is_transactional = true};
    if (run_load(session, &plan, report, &result))
        return -1;
    report_take_run(report, &result);
    take_transactions(report, &result);
    return 0;
}

int transactions_main(struct bench_options *options)
{
    return measure_around(options, measure);
}
