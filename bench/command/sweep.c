/* `sluice-bench sweep`.
 *
 * First the top rate: as fast as the library takes records. Then --steps rates up to it, each an open loop: that is the curve. With --p99
 * the highest rate that holds it is searched between the last step that did and the first that did not, by halving.
 *
 * A rate holds when all that was due has been sent, at least 98 % of it was acked in the same time (so no queue was growing), and
 * the p99 is within the bound. */
#include "bench/command/sweep.h"

#include <math.h>
#include <stdio.h>

#include "bench/command/around.h"
#include "bench/engine/run.h"

#define KEPT_MIN 0.98
#define HALVINGS 6 // the interval becomes a 64th of a step

struct search {
    struct driver_session *session;
    struct report *report;
    json_t *curve;
    double fails;  // the lowest rate that did not hold; INFINITY: none yet
    double holds;  // the highest below it that did; 0: none yet
    double p99_us; // of that one
};

static int try_rate(struct search *search, double rate, struct run_result *result);
static bool does_hold(const struct bench_options *options, const struct run_result *result,
                      double rate);
static void narrow(struct search *search);
static json_t *curve_row(double rate, double acked_per_s, const struct run_latency *latency,
                         bool holds);
static void tell_highest(const struct search *search);

/* Its figures are the report's: the load of a sweep is what could be carried at all. */
static int measure_top(struct search *search, double *rate)
{
    static struct run_result top;
    struct run_plan plan = {.is_publishing = true};
    if (run_load(search->session, &plan, search->report, &top))
        return -1;
    report_take_run(search->report, &top);
    *rate = report_records_per_s(search->report);
    return 0;
}

static int find_highest(struct search *search)
{
    static struct run_result result;
    for (int i = 0; i < HALVINGS && isfinite(search->fails); i++) {
        if (try_rate(search, (search->holds + search->fails) / 2, &result))
            return -1;
    }
    return 0;
}

static int measure(struct driver_session *session, struct report *report)
{
    static struct run_result result;
    const struct bench_options *options = session->options;
    struct search search = {
        .session = session, .report = report, .curve = json_array(), .fails = INFINITY};
    double top;
    if (measure_top(&search, &top))
        return -1;
    for (uint32_t i = 1; i <= options->step_count && top > 0; i++) {
        if (try_rate(&search, top * i / options->step_count, &result))
            return -1;
    }
    if (options->p99_ns > 0 && find_highest(&search))
        return -1;
    report->more = json_pack("{s:o}", "curve", search.curve);
    if (options->p99_ns > 0)
        tell_highest(&search);
    return 0;
}

static void tell_highest(const struct search *search)
{
    const struct bench_options *options = search->session->options;
    FILE *file = report_progress(options);
    double limit_us = (double)options->p99_ns / 1e3;
    bool is_found = search->holds > 0;
    json_object_set_new(search->report->more, "highest_rate",
                        is_found
                            ? json_pack("{s:f, s:f, s:f}", "p99_limit_us", limit_us,
                                        "records_per_s", search->holds, "p99_us", search->p99_us)
                            : json_null());
    if (is_found)
        fprintf(file, "highest     %.0f records/s (%.3f GB/s) with p99 %.1f us, at most %.1f us\n",
                search->holds, search->holds * (double)options->record_bytes / 1e9, search->p99_us,
                limit_us);
    else
        fprintf(file, "highest     none with a p99 of at most %.1f us\n", limit_us);
}

int sweep_main(struct bench_options *options)
{
    return measure_around(options, measure);
}

static int try_rate(struct search *search, double rate, struct run_result *result)
{
    const struct bench_options *options = search->session->options;
    struct run_plan plan = {
        .rate = max_u64(1, (uint64_t)rate), .is_publishing = true, .may_overload = true};
    if (run_load(search->session, &plan, search->report, result))
        return -1;
    struct run_latency latency = run_latency_of(&result->ack_ns);
    double seconds = 0, acked = 0;
    for (uint32_t i = 0; i < result->window_count; i++) {
        seconds += result->windows[i].seconds;
        acked += (double)result->windows[i].acked;
    }
    bool holds = does_hold(options, result, rate);
    FILE *file = report_progress(options);
    fprintf(file, "offered     %.0f records/s   acked %.0f", rate, acked / seconds);
    if (latency.count > 0)
        fprintf(file, "   p50 %.1f p99 %.1f p99.9 %.1f us", latency.p50_us, latency.p99_us,
                latency.p99_9_us);
    fprintf(file, "%s\n", holds ? "" : "   does not hold");
    fflush(file);
    json_array_append_new(search->curve, curve_row(rate, acked / seconds, &latency, holds));
    narrow(search);
    return 0;
}

static json_t *curve_row(double rate, double acked_per_s, const struct run_latency *latency,
                         bool holds)
{
    const struct {
        const char *key;
        double value;
    } latencies[] = {{"p50_us", latency->p50_us},
                     {"p99_us", latency->p99_us},
                     {"p99_9_us", latency->p99_9_us},
                     {"max_us", latency->max_us}};
    json_t *row = json_pack("{s:f, s:f, s:b}", "offered_per_s", rate, "records_per_s", acked_per_s,
                            "holds", holds);
    for (size_t i = 0; i < ARRAY_COUNT(latencies); i++)
        json_object_set_new(row, latencies[i].key,
                            latency->count > 0 ? json_real(latencies[i].value) : json_null());
    return row;
}

/* On a machine that others use a rate may fail and a higher one hold: what counts lies below the lowest that failed. */
static void narrow(struct search *search)
{
    size_t i;
    json_t *row;
    search->fails = INFINITY;
    search->holds = search->p99_us = 0;
    json_array_foreach(search->curve, i, row)
    {
        if (!json_is_true(json_object_get(row, "holds")))
            search->fails =
                fmin(search->fails, json_real_value(json_object_get(row, "offered_per_s")));
    }
    json_array_foreach(search->curve, i, row)
    {
        double rate = json_real_value(json_object_get(row, "offered_per_s"));
        if (rate < search->fails && rate > search->holds) {
            search->holds = rate;
            search->p99_us = json_real_value(json_object_get(row, "p99_us"));
        }
    }
}

static bool does_hold(const struct bench_options *options, const struct run_result *result,
                      double rate)
{
    double seconds = 0, acked = 0;
    for (uint32_t i = 0; i < result->window_count; i++) {
        seconds += result->windows[i].seconds;
        acked += (double)result->windows[i].acked;
    }
    double p99_us = (double)histogram_quantile((struct histogram *)&result->ack_ns, 0.99) / 1e3;
    return result->not_sent == 0 && histogram_count((struct histogram *)&result->ack_ns) > 0 &&
           acked >= KEPT_MIN * rate * seconds &&
           (options->p99_ns == 0 || p99_us * 1e3 <= (double)options->p99_ns);
}
