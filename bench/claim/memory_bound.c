/* `sluice-bench claim memory-bound`: everything at once, and the broker's memory stays within the bound that it printed.
 *
 * A thousand partitions, --producers (64) over 16 connections at the top rate with records of --record-size, four consumers that read it all, and
 * --idle connections beside. What is looked at is the most that was ever resident. It holds when that is at most the printed bound and 5 %, and
 * the bound below 500 MB. */
#include <stdio.h>

#include "bench/claim/claim.h"
#include "bench/claim/private_broker.h"
#include "bench/claim/raw_connections.h"
#include "bench/engine/run.h"
#include "bench/report/costs.h"

#define OVER_MAX 1.05
#define BOUND_MAX 500e6
#define CONSUMERS 4

static int measure_load(const struct private_broker *broker, const struct bench_options *common,
                        struct report *report, struct costs *costs)
{
    static struct run_result result;
    struct driver_session session;
    struct bench_options options = *common;
    options.server = broker->process.address;
    struct run_plan plan = {.is_publishing = true, .consumer_count = CONSUMERS};
    if (driver_session_open(&session, &options))
        return -1;
    int status = run_load(&session, &plan, report, &result);
    driver_session_close(&session);
    if (status)
        return status;
    report_take_run(report, &result);
    report->run = NULL; // its figures are not the claim's: the load is as heavy as it can be
    costs_add_run(costs, &result);
    return 0;
}

static int measure(const struct bench_options *options, struct private_broker *broker,
                   struct report *report)
{
    struct raw_connections connections;
    struct costs costs = {0};
    uint64_t bound, peak = 0;
    if (private_broker_value(broker, "memory_limit_bytes", &bound) ||
        raw_connections_open(&connections, broker->process.address, options->idle_count))
        return -1;
    int status = measure_load(broker, options, report, &costs);
    uint32_t lost = raw_connections_lost(&connections);
    raw_connections_close(&connections);
    if (status == 0)
        status = private_broker_value(broker, "process_rss_peak_bytes", &peak);
    if (status == 0)
        claim_set(
            report,
            (double)peak <= OVER_MAX * (double)bound && (double)bound < BOUND_MAX && lost == 0,
            json_pack("{s:I, s:I, s:f, s:i, s:i, s:o}", "bound_bytes", (json_int_t)bound,
                      "rss_peak_bytes", (json_int_t)peak, "peak_of_bound",
                      (double)peak / (double)bound, "idle_connections", (int)options->idle_count,
                      "lost", (int)lost, "ratios", costs_row_json(&costs)));
    return status;
}

static int run(struct bench_options *options, struct report *report)
{
    static const char *const settings[] = {"retention_bytes=64MiB", NULL};
    struct private_broker broker;
    int status = private_broker_open(&broker, options, settings);
    if (status == 0)
        status = measure(options, &broker, report);
    private_broker_deinit(&broker);
    return status;
}

const struct claim claim_memory_bound = {
    "memory-bound", "under everything at once memory stays within the printed bound", run};
