/* The life of a load, and its clock. */
#include "bench/engine/run.h"

#include <stdlib.h>
#include <string.h>

#include "bench/engine/consumers.h"
#include "bench/engine/growth.h"
#include "bench/engine/place.h"
#include "bench/engine/txn_load.h"
#include "bench/engine/watch.h"

#define SLICE_NS NS_PER_S
#define SLICES_OF_WINDOW_MIN 10u            // of a short one
#define DELIVERY_TIMEOUT_NS (20 * NS_PER_S) // without any record, while some are still to come
#define START_NS (20 * NS_PER_MS)           // for the threads to come up, when there is no warm-up
#define CATCH_UP_SLICE_NS (100 * NS_PER_MS)

struct run {
    struct driver_session *session;
    const struct bench_options *options;
    struct publishers *publishers; // NULL: nobody publishes
    struct consumers *consumers;   // NULL: nobody reads
    struct txn_load *transactions; // NULL: there are none
    struct windows windows;
    bool may_overload;
    uint64_t delivery_timeout_ns;
    struct run_result *result;
    struct histogram acked_ns, acked_before_ns; // of the current window, now and a slice ago
};

struct moment { // of the counters
    uint64_t at_ns;
    uint64_t acked;
    uint64_t commits, aborts;
    struct consume_totals received;
};

static int begin(struct run *run, const struct run_plan *plan);
static void end(struct run *run, struct report *report);
static void measure_window(struct run *run, uint32_t index, struct moment *moment);
static struct moment look(struct run *run);
static void acks_of(struct run *run, uint32_t window, struct histogram *latency_ns);
static void note_slice(struct run *run, uint32_t window, const struct moment *before,
                       const struct moment *now);

int run_load(struct driver_session *session, const struct run_plan *plan, struct report *report,
             struct run_result *result)
{
    struct run *run = calloc(1, sizeof(*run));
    struct growth growth;
    struct watch watch;
    if (run == NULL)
        return driver_complain(session, "out of memory");
    watch_begin(&watch, session);
    memset(result, 0, sizeof(*result));
    *run = (struct run){.session = session,
                        .options = session->options,
                        .may_overload = plan->may_overload,
                        .delivery_timeout_ns = plan->delivery_timeout_ns ? plan->delivery_timeout_ns
                                                                         : DELIVERY_TIMEOUT_NS,
                        .result = result};
    result->record_bytes = run->options->record_bytes;
    bool is_growing = plan->is_publishing || plan->is_transactional;
    if (is_growing)
        result->latency_from = plan->rate > 0 ? "due" : plan->is_transactional ? "commit" : "send";
    int status = is_growing ? growth_begin(&growth, session) : 0;
    if (status == 0)
        status = begin(run, plan);
    if (status == 0) {
        sleep_until_ns(run->windows.begin_ns);
        struct moment moment = look(run);
        for (uint32_t i = 0; i < run->windows.count; i++)
            measure_window(run, i, &moment);
        end(run, report);
    }
    if (status == 0 && is_growing)
        growth_check(&growth, session, look(run).acked, report);
    if (run->publishers)
        publishers_free(run->publishers);
    if (run->transactions)
        txn_load_free(run->transactions);
    if (run->consumers)
        consumers_free(run->consumers);
    watch_end(&watch);
    free(run);
    return status;
}

static int begin(struct run *run, const struct run_plan *plan)
{
    const struct bench_options *options = run->options;
    if (plan->consumer_count > 0) {
        run->consumers = consumers_new(run->session, plan->consumer_count, DRIVER_FROM_END);
        if (run->consumers == NULL)
            return -1;
    }
    if (plan->is_publishing) {
        run->publishers = publishers_new(run->session, plan->rate);
        if (run->publishers == NULL)
            return -1;
    }
    if (plan->is_transactional) {
        run->transactions = txn_load_new(run->session, options->abort_percent);
        if (run->transactions == NULL)
            return -1;
    }
    run->windows = (struct windows){.begin_ns = now_ns() + max_u64(options->warm_up_ns, START_NS),
                                    .length_ns = options->duration_ns,
                                    .count = options->repeat_count};
    if (run->consumers)
        consumers_start(run->consumers, &run->windows, UINT64_MAX);
    if (run->transactions)
        return txn_load_start(run->transactions, &run->windows);
    return run->publishers ? publishers_start(run->publishers, &run->windows) : 0;
}

static void note_not_sent(struct run *run, const char *what, uint64_t count, struct report *report)
{
    run->result->not_sent = count;
    if (count > 0 && !run->may_overload)
        anomaly(report,
                "%llu %s were due and never sent: the rate is too high, latencies are lower bounds",
                (unsigned long long)count, what);
}

static void end_transactions(struct run *run, struct report *report)
{
    txn_load_stop(run->transactions);
    txn_load_slip(run->transactions, &run->result->slip_ns);
    txn_load_check(run->transactions, report);
    note_not_sent(run, "transactions", txn_load_not_begun(run->transactions), report);
}

/* Afterwards every record that was acked has been read by each consumer, or that is an anomaly. */
static void end(struct run *run, struct report *report)
{
    struct run_result *result = run->result;
    if (run->publishers)
        publishers_stop(run->publishers);
    if (run->publishers && run->consumers) {
        uint64_t acked = publishers_totals(run->publishers).acked;
        if (!consumers_wait(run->consumers, acked, run->delivery_timeout_ns))
            anomaly(report, "not every consumer got all of the %llu records that were acked",
                    (unsigned long long)acked);
    }
    if (run->consumers) {
        consumers_stop(run->consumers);
        consumers_check(run->consumers, report);
    }
    if (run->publishers) {
        publishers_slip(run->publishers, &result->slip_ns);
        publishers_check(run->publishers, report);
        note_not_sent(run, "records", publishers_not_sent(run->publishers), report);
    }
    if (run->transactions)
        end_transactions(run, report);
    for (uint32_t i = 0; i < run->windows.count; i++) {
        struct run_window *window = &result->windows[i];
        static struct histogram ack_ns, delivery_ns;
        memset(&ack_ns, 0, sizeof(ack_ns));
        memset(&delivery_ns, 0, sizeof(delivery_ns));
        acks_of(run, i, &ack_ns);
        if (run->consumers)
            consumers_latency(run->consumers, i, &delivery_ns);
        window->ack = run_latency_of(&ack_ns);
        window->delivery = run_latency_of(&delivery_ns);
        histogram_merge(&result->ack_ns, &ack_ns);
        histogram_merge(&result->delivery_ns, &delivery_ns);
    }
}

/* ---- catching up ---- */

/* Until all have their target, the time is over, or nothing comes any more. Returns when that was. */
static uint64_t follow(struct run *run, struct report *report, uint64_t end_ns)
{
    struct moment last = {.at_ns = run->windows.begin_ns};
    uint64_t heard_ns = last.at_ns;
    for (;;) {
        sleep_until_ns(min_u64(last.at_ns + CATCH_UP_SLICE_NS, end_ns));
        uint64_t done_ns = consumers_done_ns(run->consumers);
        struct moment now = look(run);
        note_slice(run, 0, &last, &now);
        if (done_ns > 0)
            return done_ns;
        if (now.received.records != last.received.records)
            heard_ns = now.at_ns;
        last = now;
        if (now.at_ns >= end_ns)
            return now.at_ns;
        if (now.at_ns - heard_ns > DELIVERY_TIMEOUT_NS) {
            anomaly(report, "the end was not reached: nothing came for %d s",
                    (int)(DELIVERY_TIMEOUT_NS / NS_PER_S));
            return heard_ns;
        }
    }
}

int run_catch_up(struct driver_session *session, uint32_t consumer_count, struct report *report,
                 struct run_result *result)
{
    uint64_t target, duration_ns = session->options->duration_ns;
    memset(result, 0, sizeof(*result));
    result->record_bytes = session->options->record_bytes;
    if (session->driver->available(session, &target))
        return driver_complain(session, "counting the topic's records");
    if (target == 0) {
        (void)driver_fail(session, "topic %s is empty: publish first", session->options->topic);
        return driver_complain(session, "reading");
    }
    struct run *run = calloc(1, sizeof(*run));
    if (run == NULL)
        return driver_complain(session, "out of memory");
    *run = (struct run){.session = session, .options = session->options, .result = result};
    struct run_window *window = &result->windows[0];
    resources_take(session, &window->before);
    run->windows.begin_ns = now_ns();
    run->consumers = consumers_new(session, consumer_count, DRIVER_FROM_BEGINNING);
    if (run->consumers == NULL) {
        free(run);
        return -1;
    }
    struct watch watch;
    watch_begin(&watch, session);
    consumers_start(run->consumers, NULL, target);
    uint64_t end_ns =
        follow(run, report, duration_ns > 0 ? run->windows.begin_ns + duration_ns : UINT64_MAX);
    consumers_stop(run->consumers);
    resources_take(session, &window->after);
    struct consume_totals totals = consumers_totals(run->consumers);
    window->seconds = (double)(end_ns - run->windows.begin_ns) / (double)NS_PER_S;
    window->received = totals.records;
    window->received_bytes = totals.bytes;
    result->window_count = 1;
    consumers_check(run->consumers, report);
    consumers_free(run->consumers);
    watch_end(&watch);
    free(run);
    return 0;
}

/* ---- windows and slices ---- */

static struct moment look(struct run *run)
{
    struct moment moment = {.at_ns = now_ns()};
    if (run->publishers)
        moment.acked = publishers_totals(run->publishers).acked;
    if (run->transactions) {
        struct txn_totals totals = txn_load_totals(run->transactions);
        moment.acked = totals.records;
        moment.commits = totals.commits;
        moment.aborts = totals.aborts;
    }
    if (run->consumers)
        moment.received = consumers_totals(run->consumers);
    return moment;
}

static void acks_of(struct run *run, uint32_t window, struct histogram *latency_ns)
{
    if (run->publishers)
        publishers_latency(run->publishers, window, latency_ns);
    if (run->transactions)
        txn_load_latency(run->transactions, window, latency_ns);
}

/* *moment: the end of the last window, then of this one, so that nothing falls between them. */
static void measure_window(struct run *run, uint32_t index, struct moment *moment)
{
    struct run_window *window = &run->result->windows[index];
    struct moment first = *moment, last = *moment;
    uint64_t begin_ns = run->windows.begin_ns + index * run->windows.length_ns,
             end_ns = begin_ns + run->windows.length_ns,
             slice_ns = min_u64(SLICE_NS, run->windows.length_ns / SLICES_OF_WINDOW_MIN);
    resources_take(run->session, &window->before);
    memset(&run->acked_before_ns, 0, sizeof(run->acked_before_ns));
    for (uint64_t at = begin_ns; at < end_ns;) {
        at = min_u64(at + slice_ns, end_ns);
        sleep_until_ns(at);
        struct moment now = look(run);
        note_slice(run, index, &last, &now);
        last = now;
    }
    resources_take(run->session, &window->after);
    window->seconds = (double)(last.at_ns - first.at_ns) / (double)NS_PER_S;
    window->acked = last.acked - first.acked;
    window->commits = last.commits - first.commits;
    window->aborts = last.aborts - first.aborts;
    window->received = last.received.records - first.received.records;
    window->received_bytes = last.received.bytes - first.received.bytes;
    run->result->window_count = index + 1;
    *moment = last;
}

/* What was added to *now since *before. The largest value of a slice is known as well as its bucket. */
static void difference(struct histogram *now, struct histogram *before, struct histogram *between)
{
    memset(between, 0, sizeof(*between));
    for (uint32_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++)
        counter_set(&between->buckets[i],
                    counter_get(&now->buckets[i]) - counter_get(&before->buckets[i]));
    counter_set(&between->max, counter_get(&now->max));
}

static void note_slice(struct run *run, uint32_t window, const struct moment *before,
                       const struct moment *now)
{
    struct run_result *result = run->result;
    if (result->slice_count == SLICES_MAX)
        return;
    struct run_slice *slice = &result->slices[result->slice_count++];
    double begin_ns = (double)run->windows.begin_ns;
    *slice = (struct run_slice){.begin_s = ((double)before->at_ns - begin_ns) / (double)NS_PER_S,
                                .end_s = ((double)now->at_ns - begin_ns) / (double)NS_PER_S,
                                .acked = now->acked - before->acked,
                                .received = now->received.records - before->received.records};
    if (run->publishers == NULL && run->transactions == NULL)
        return;
    static struct histogram between;
    memset(&run->acked_ns, 0, sizeof(run->acked_ns));
    acks_of(run, window, &run->acked_ns);
    difference(&run->acked_ns, &run->acked_before_ns, &between);
    slice->p50_us = (double)histogram_quantile(&between, 0.5) / 1e3;
    slice->p99_us = (double)histogram_quantile(&between, 0.99) / 1e3;
    slice->max_us = (double)histogram_quantile(&between, 1) / 1e3;
    memcpy(&run->acked_before_ns, &run->acked_ns, sizeof(run->acked_ns));
}

struct run_latency run_latency_of(struct histogram *histogram)
{
    uint64_t count = histogram_count(histogram);
    if (count == 0)
        return (struct run_latency){0};
    return (struct run_latency){
        .count = count,
        .p50_us = (double)histogram_quantile(histogram, 0.5) / 1e3,
        .p90_us = (double)histogram_quantile(histogram, 0.9) / 1e3,
        .p99_us = (double)histogram_quantile(histogram, 0.99) / 1e3,
        .p99_9_us = (double)histogram_quantile(histogram, 0.999) / 1e3,
        .p99_99_us = (double)histogram_quantile(histogram, 0.9999) / 1e3,
        .max_us = (double)counter_get(&histogram->max) / 1e3,
        .mean_us = (double)counter_get(&histogram->sum) / (double)count / 1e3,
    };
}

uint32_t run_latencies(const struct run_result *run, bool of_delivery, size_t at,
                       double values[WINDOWS_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < run->window_count; i++) {
        const struct run_latency *latency =
            of_delivery ? &run->windows[i].delivery : &run->windows[i].ack;
        if (latency->count > 0)
            memcpy(&values[count++], (const char *)latency + at, sizeof(double));
    }
    return count;
}
