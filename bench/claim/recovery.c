/* `sluice-bench claim recovery`: kill -9 under full load, and ready again.
 *
 * --fill bytes are published to --partitions (10,000) at the top rate, the broker is killed in the middle of it, and started again; --repeat times on the same
 * store. Every record that was acked must be there. It holds when every start was ready within a second. */
#include <stdio.h>

#include "bench/claim/claim.h"
#include "bench/claim/private_broker.h"
#include "bench/engine/place.h"
#include "bench/engine/publishers.h"
#include "bench/report/median.h"

#define READY_MS_MAX 1000
#define LOOK_NS (20 * NS_PER_MS)
#define SILENCE_NS (60 * NS_PER_S)

struct crash {
    const struct bench_options *options;
    struct private_broker *broker;
    struct report *report;
    double ready_ms;
    uint64_t acked, stored; // of the round, and what the topic has grown by
};

/* Until so much was acked; then the broker dies, while as much is on its way as the clients can have. */
static int publish_and_kill(struct crash *crash, struct driver_session *session)
{
    struct windows windows = {.begin_ns = now_ns(), .length_ns = NS_PER_S, .count = 1};
    struct publishers *publishers = publishers_new(session, 0);
    if (publishers == NULL)
        return -1;
    uint64_t wanted = crash->options->fill_bytes / crash->options->record_bytes, seen = 0;
    int status = publishers_start(publishers, &windows);
    uint64_t heard = now_ns();
    while (status == 0 && seen < wanted && now_ns() - heard < SILENCE_NS) {
        uint64_t acked = publishers_totals(publishers).acked;
        heard = acked != seen ? now_ns() : heard;
        seen = acked;
        sleep_until_ns(now_ns() + LOOK_NS);
    }
    broker_kill(&crash->broker->process);
    if (status == 0 && seen < wanted) {
        fprintf(stderr, "sluice-bench: nothing was acked for %d s\n", (int)(SILENCE_NS / NS_PER_S));
        status = -1;
    }
    if (status == 0)
        status = private_broker_start(crash->broker);
    crash->ready_ms = 1000 * crash->broker->process.ready_s;
    publishers_stop(publishers); // what was on its way is sent again, once
    crash->acked = publishers_totals(publishers).acked;
    publishers_check(publishers, crash->report);
    publishers_free(publishers);
    return status;
}

static int one_crash(struct crash *crash)
{
    struct driver_session session;
    struct bench_options options = *crash->options;
    uint64_t before, after;
    options.server = crash->broker->process.address;
    options.repeat_count = 1;
    if (driver_session_open(&session, &options))
        return -1;
    int status = session.driver->count(&session, &before);
    if (status == 0)
        status = publish_and_kill(crash, &session);
    if (status == 0)
        status = session.driver->count(&session, &after);
    if (status == DRIVER_FAILED && session.error[0])
        driver_complain(&session, "recovery");
    driver_session_close(&session);
    crash->stored = status == 0 ? after - before : 0;
    return status;
}

static int run(struct bench_options *options, struct report *report)
{
    static const char *const settings[] = {"retention_bytes=none", NULL};
    double ready_ms[32];
    uint64_t acked = 0, stored = 0;
    struct private_broker broker;
    int status = private_broker_open(&broker, options, settings);
    for (uint32_t i = 0; i < options->repeat_count && status == 0; i++) {
        struct crash crash = {.options = options, .broker = &broker, .report = report};
        status = one_crash(&crash);
        if (status)
            break;
        ready_ms[i] = crash.ready_ms;
        acked += crash.acked;
        stored += crash.stored;
        fprintf(report_progress(options),
                "crash %-5u ready again after %.1f ms; %llu records acked, %llu stored\n", i + 1,
                crash.ready_ms, (unsigned long long)crash.acked, (unsigned long long)crash.stored);
        fflush(report_progress(options));
        if (crash.acked != crash.stored)
            anomaly(report, "%llu records were acked and %llu are stored",
                    (unsigned long long)crash.acked, (unsigned long long)crash.stored);
    }
    if (status == 0) {
        struct spread spread = median_of(ready_ms, options->repeat_count);
        claim_set(report, spread.max <= READY_MS_MAX && acked == stored,
                  json_pack("{s:f, s:f, s:f, s:I, s:I, s:i}", "ready_ms", spread.median,
                            "ready_ms_min", spread.min, "ready_ms_max", spread.max, "acked",
                            (json_int_t)acked, "stored", (json_int_t)stored, "partitions",
                            (int)options->partition_count));
    }
    private_broker_deinit(&broker);
    return status;
}

const struct claim claim_recovery = {
    "recovery", "kill -9 under load with 10,000 partitions: ready within a second", run};
