/* `sluice-bench claim flat-partitions`: one log for all partitions of a shard, so their number costs nothing.
 *
 * 1, 10, 100, 1,000 and 10,000 partitions in turns, --repeat rounds, each in a new topic that keeps 1 GiB, or 1 MiB of each partition
 * if that is more. The log (16 GiB) has room for it, so no archive is made; the topic is deleted afterwards. Each turn measures the top rate, and acks at 30 % of the top rate of one
 * partition, so that all meet the same load. It holds when the median top rates are at least 90 % of that of one partition, and the median
 * p99 at most 1.5 times, of loads whose records were all sent. */
#include <stdio.h>

#include "bench/claim/claim.h"
#include "bench/claim/private_broker.h"
#include "bench/driver/sluice.h"
#include "bench/engine/run.h"
#include "bench/report/costs.h"
#include "bench/report/median.h"

#define LOAD_OF_TOP 0.3
#define RATE_MIN 0.9
#define P99_MAX 1.5
#define KEPT_BYTES (1 * GIB) // of a topic
#define KEPT_EACH_MIN MIB    // that a broker takes

static const uint32_t counts[] = {1, 10, 100, 1000, 10000};

struct figures {
    double rate[WINDOWS_MAX], p50_us[WINDOWS_MAX], p99_us[WINDOWS_MAX];
    uint64_t not_sent;  // of the load at 30 %, in all rounds: then p99 is a lower bound
    struct costs costs; // of the top rate
};

/* The broker that is measured: one of our own, or --server. */
struct subject {
    struct private_broker own;
    const char *server;
    struct report *report;
    double top; // rate of one partition
};

static int measure_one(struct subject *subject, uint32_t partitions, uint64_t rate,
                       struct run_result *result)
{
    struct driver_session session;
    struct bench_options options = *subject->report->options;
    char topic[64];
    snprintf(topic, sizeof(topic), "flat-%u", partitions);
    options.server = subject->server;
    options.topic = topic;
    options.partition_count = partitions;
    options.retention_bytes = max_u64(KEPT_BYTES / partitions, KEPT_EACH_MIN);
    options.repeat_count = 1;
    options.rate = rate;
    struct run_plan plan = {.rate = rate, .is_publishing = true, .may_overload = true};
    if (subject->own.place[0] && private_broker_wait_for_spares(&subject->own))
        return -1;
    if (driver_session_open(&session, &options))
        return -1;
    int status = run_load(&session, &plan, subject->report, result);
    int deleted = sluice_topic_delete(sluice_of(&session, 0), topic);
    if (status == 0 && deleted)
        status = sluice_complain("deleting the topic", deleted);
    driver_session_close(&session);
    return status;
}

static int measure_round(struct subject *subject, uint32_t round, struct figures *figures)
{
    FILE *progress = report_progress(subject->report->options);
    static struct run_result result;
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        if (measure_one(subject, counts[i], 0, &result))
            return -1;
        figures[i].rate[round] = (double)result.windows[0].acked / result.windows[0].seconds;
        costs_add_run(&figures[i].costs, &result);
        if (round == 0 && i == 0)
            subject->top = figures[i].rate[0];
        uint64_t rate = max_u64(1, (uint64_t)(LOAD_OF_TOP * subject->top));
        if (measure_one(subject, counts[i], rate, &result))
            return -1;
        claim_check_timed(subject->report, &result);
        figures[i].not_sent += result.not_sent;
        figures[i].p50_us[round] = result.windows[0].ack.p50_us;
        figures[i].p99_us[round] = result.windows[0].ack.p99_us;
        fprintf(progress,
                "round %-5u %6u partitions   %.0f records/s   p99 %.1f us at %llu records/s\n",
                round + 1, counts[i], figures[i].rate[round], figures[i].p99_us[round],
                (unsigned long long)rate);
        fflush(progress);
    }
    return 0;
}

static void judge(const struct bench_options *options, double top, struct figures *figures,
                  struct report *report)
{
    json_t *rows = json_array();
    double rate_of_one = 0, p99_of_one = 0, least = 1, most = 1;
    bool is_kept = true;
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        struct spread rate = median_of(figures[i].rate, options->repeat_count);
        struct spread p50 = median_of(figures[i].p50_us, options->repeat_count);
        struct spread p99 = median_of(figures[i].p99_us, options->repeat_count);
        if (i == 0) {
            rate_of_one = rate.median;
            p99_of_one = p99.median;
        }
        double of_rate = rate_of_one > 0 ? rate.median / rate_of_one : 0;
        double of_p99 = p99_of_one > 0 ? p99.median / p99_of_one : 0;
        least = of_rate < least ? of_rate : least;
        most = of_p99 > most ? of_p99 : most;
        is_kept &= figures[i].not_sent == 0;
        json_array_append_new(
            rows, json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:f, s:f, s:o}", "partitions",
                            (int)counts[i], "records_per_s", rate.median, "records_per_s_min",
                            rate.min, "records_per_s_max", rate.max, "p50_us", p50.median, "p99_us",
                            p99.median, "p99_us_max", p99.max, "not_sent",
                            (json_int_t)figures[i].not_sent, "rate_of_one", of_rate, "p99_of_one",
                            of_p99, "ratios", costs_row_json(&figures[i].costs)));
    }
    report->more = json_pack("{s:o}", "partitions", rows);
    claim_set(report, least >= RATE_MIN && most <= P99_MAX && is_kept,
              json_pack("{s:f, s:f, s:f}", "least_rate_of_one", least, "greatest_p99_of_one", most,
                        "p99_at_records_per_s", LOAD_OF_TOP * top));
}

static int run(struct bench_options *options, struct report *report)
{
    static struct figures figures[ARRAY_COUNT(counts)];
    static const char *const settings[] = {"wal_bytes_budget=16GiB", NULL};
    struct subject subject = {.server = options->server, .report = report};
    int status = 0;
    if (subject.server == NULL) {
        status = private_broker_open(&subject.own, options, settings);
        subject.server = subject.own.process.address;
    }
    for (uint32_t round = 0; round < options->repeat_count && status == 0; round++)
        status = measure_round(&subject, round, figures);
    if (status == 0)
        judge(options, subject.top, figures, report);
    private_broker_deinit(&subject.own);
    return status;
}

const struct claim claim_flat_partitions = {"flat-partitions",
                                            "10,000 partitions are as fast as one", run};
