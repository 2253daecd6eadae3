/* `sluice-bench claim durability-price`: what it costs that an ack means fdatasync.
 *
 * Two brokers, one as it is, one with durability = relaxed, whose acks mean "handed to the kernel". They take turns, --repeat rounds, each
 * with the top rate and with lone records. One of them rests while the other is measured. It holds when the durable one reaches 80 % of the
 * other's median top rate: group commit hides the rest. */
#include <stdio.h>

#include "bench/claim/claim.h"
#include "bench/claim/private_broker.h"
#include "bench/engine/run.h"
#include "bench/report/costs.h"
#include "bench/report/median.h"

#define RATE_MIN 0.8

struct side {
    const char *name;
    struct private_broker broker;
    double rate[WINDOWS_MAX], bytes_per_s[WINDOWS_MAX];
    double lone_p50_us[WINDOWS_MAX], lone_p99_us[WINDOWS_MAX];
    struct costs costs; // of the top rate
};

static int measure_load(const struct side *side, const struct bench_options *common, bool lone,
                        struct report *report, struct run_result *result)
{
    struct driver_session session;
    struct bench_options options = *common;
    options.server = side->broker.process.address;
    options.repeat_count = 1;
    options.closed_loop = lone;
    if (lone)
        options.producer_count = options.thread_count = 1;
    struct run_plan plan = {.is_publishing = true};
    if (driver_session_open(&session, &options))
        return -1;
    int status = run_load(&session, &plan, report, result);
    driver_session_close(&session);
    return status;
}

static int measure_side(struct side *side, const struct bench_options *options, uint32_t round,
                        struct report *report)
{
    static struct run_result result;
    const struct run_window *window = &result.windows[0];
    if (private_broker_wait_for_spares(&side->broker) ||
        measure_load(side, options, false, report, &result))
        return -1;
    side->rate[round] = (double)window->acked / window->seconds;
    costs_add_run(&side->costs, &result);
    side->bytes_per_s[round] = side->rate[round] * (double)options->record_bytes;
    if (measure_load(side, options, true, report, &result))
        return -1;
    claim_check_timed(report, &result);
    side->lone_p50_us[round] = window->ack.p50_us;
    side->lone_p99_us[round] = window->ack.p99_us;
    fprintf(report_progress(options),
            "round %-5u %-8s %.0f records/s, %.3f GB/s   lone p50 %.1f p99 %.1f us\n", round + 1,
            side->name, side->rate[round], side->bytes_per_s[round] / 1e9, side->lone_p50_us[round],
            side->lone_p99_us[round]);
    fflush(report_progress(options));
    return 0;
}

static json_t *side_json(struct side *side, uint32_t rounds)
{
    struct spread rate = median_of(side->rate, rounds),
                  bytes = median_of(side->bytes_per_s, rounds);
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "records_per_s", rate.median,
                     "records_per_s_min", rate.min, "records_per_s_max", rate.max, "bytes_per_s",
                     bytes.median, "lone_p50_us", median_of(side->lone_p50_us, rounds).median,
                     "lone_p99_us", median_of(side->lone_p99_us, rounds).median, "ratios",
                     costs_row_json(&side->costs));
}

static int run(struct bench_options *options, struct report *report)
{
    static struct side sides[2] = {{.name = "sync"}, {.name = "relaxed"}};
    static const char *const settings[2][3] = {
        {"retention_bytes=64MiB", NULL}, {"retention_bytes=64MiB", "durability=relaxed", NULL}};
    uint32_t rounds = options->repeat_count;
    int status = 0;
    for (int i = 0; i < 2 && status == 0; i++)
        status = private_broker_init(&sides[i].broker, options, settings[i]) ||
                         private_broker_start(&sides[i].broker)
                     ? -1
                     : 0;
    for (uint32_t round = 0; round < rounds && status == 0; round++) {
        for (int i = 0; i < 2 && status == 0; i++)
            status = measure_side(&sides[(round + (uint32_t)i) % 2], options, round, report);
    }
    if (status == 0) {
        double sync = median_of(sides[0].rate, rounds).median,
               relaxed = median_of(sides[1].rate, rounds).median;
        double ratio = relaxed > 0 ? sync / relaxed : 0;
        claim_set(report, ratio >= RATE_MIN,
                  json_pack("{s:f, s:o, s:o}", "rate_of_relaxed", ratio, "sync",
                            side_json(&sides[0], rounds), "relaxed", side_json(&sides[1], rounds)));
    }
    for (int i = 0; i < 2; i++)
        private_broker_deinit(&sides[i].broker);
    return status;
}

const struct claim claim_durability_price = {
    "durability-price", "fdatasync before the ack costs less than a fifth of the rate", run};
