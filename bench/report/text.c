/* A report for people: a line for each kind of figure, and only for what was measured. */
#include <stdlib.h>

#include "base/bytes.h"
#include "bench/engine/run.h"
#include "bench/report/median.h"
#include "bench/report/report.h"

static void print_load(const struct report *report, FILE *file);
static void print_run(const struct report *report, FILE *file);
static void print_latency(const char *what, const struct run_latency *latency, FILE *file);
static void print_transactions(const struct transactions_figures *transactions, FILE *file);
static void print_claim(const json_t *claim, FILE *file);
static void print_limits(const struct report *report, FILE *file);
static void print_broker(const struct report *report, FILE *file);
static void print_ack(const struct driver_session *session, FILE *file);

void report_text(const struct report *report, FILE *file)
{
    print_load(report, file);
    print_transactions(&report->transactions, file);
    print_run(report, file);
    print_claim(report->claim, file);
    print_limits(report, file);
    print_broker(report, file);
    print_ack(report->session, file);
    for (uint32_t i = 0; i < min_u64(report->anomalies.count, ANOMALIES_MAX); i++)
        fprintf(file, "ANOMALY     %s\n", report->anomalies.texts[i]);
    if (report->anomalies.count > ANOMALIES_MAX)
        fprintf(file, "ANOMALY     and %u more\n", report->anomalies.count - ANOMALIES_MAX);
}

static void print_load(const struct report *report, FILE *file)
{
    if (!report->has_load)
        return;
    double each = report->records > 0 ? (double)report->bytes / (double)report->records : 0;
    fprintf(file, "%-11s %llu records of %.4g B in %.2f s\n", report->options->command_name,
            (unsigned long long)report->records, each, report->seconds);
    fprintf(file, "rate        %.3f GB/s   %.0f records/s\n", report_bytes_per_s(report) / 1e9,
            report_records_per_s(report));
}

static void print_latency(const char *what, const struct run_latency *latency, FILE *file)
{
    if (latency->count == 0)
        return;
    fprintf(file,
            "%-11s p50 %.1f p90 %.1f p99 %.1f p99.9 %.1f p99.99 %.1f max %.1f   (%llu samples)\n",
            what, latency->p50_us, latency->p90_us, latency->p99_us, latency->p99_9_us,
            latency->p99_99_us, latency->max_us, (unsigned long long)latency->count);
}

/* Of several windows: the spread of the rate and of both p99. */
static void print_repeats(const struct run_result *run, FILE *file)
{
    double rates[WINDOWS_MAX], p99s[WINDOWS_MAX];
    uint32_t timed = run_latencies(run, false, offsetof(struct run_latency, p99_us), p99s);
    if (run->window_count < 2)
        return;
    for (uint32_t i = 0; i < run->window_count; i++) {
        const struct run_window *window = &run->windows[i];
        uint64_t records = window->acked > 0 ? window->acked : window->received;
        rates[i] = (double)records / window->seconds;
    }
    struct spread rate = median_of(rates, run->window_count);
    fprintf(file, "%u repeats   %.0f..%.0f records/s", run->window_count, rate.min, rate.max);
    if (timed > 0) {
        struct spread p99 = median_of(p99s, timed);
        fprintf(file, ", p99 %.1f..%.1f us", p99.min, p99.max);
    }
    fprintf(file, "\n");
}

static void print_run(const struct report *report, FILE *file)
{
    const struct run_result *run = report->run;
    if (run == NULL)
        return;
    struct run_latency ack = run_latency_of((struct histogram *)&run->ack_ns),
                       delivery = run_latency_of((struct histogram *)&run->delivery_ns),
                       slip = run_latency_of((struct histogram *)&run->slip_ns);
    print_repeats(run, file);
    print_latency("ack us", &ack, file);
    print_latency("delivery us", &delivery, file);
    if (slip.count > 0)
        fprintf(file, "sent late   p50 %.1f p99 %.1f max %.1f us behind the schedule\n",
                slip.p50_us, slip.p99_us, slip.max_us);
}

static void print_transactions(const struct transactions_figures *transactions, FILE *file)
{
    if (transactions->commits.known)
        fprintf(file, "commits     %.0f/s   %.0f in all, %.0f aborts\n",
                transactions->commits_per_s.value, transactions->commits.value,
                transactions->aborts.value);
}

static void print_object(const char *key, json_t *object, FILE *file)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(4));
    fprintf(file, "  %-32s %s\n", key, text ? text : "");
    free(text);
}

/* Its own figures as they are called in the JSON. */
static void print_claim(const json_t *claim, FILE *file)
{
    const char *key;
    json_t *value;
    if (claim == NULL)
        return;
    fprintf(file, "claim       %s: %s\n", json_string_value(json_object_get(claim, "name")),
            json_is_true(json_object_get(claim, "holds")) ? "holds" : "DOES NOT HOLD");
    json_object_foreach((json_t *)claim, key, value)
    {
        if (json_is_integer(value))
            fprintf(file, "  %-32s %lld\n", key, (long long)json_integer_value(value));
        else if (json_is_real(value))
            fprintf(file, "  %-32s %.6g\n", key, json_real_value(value));
        else if (json_is_object(value))
            print_object(key, value, file);
    }
}

static void print_limits(const struct report *report, FILE *file)
{
    const struct limits_figures *limits = &report->limits;
    struct figure fraction = report_fraction(report), of_read = report_read_fraction(report);
    if (limits->pipeline_bytes_per_s.known)
        fprintf(file, "limits      socket %.2f GB/s   WAL %.2f GB/s   pipeline %.2f GB/s\n",
                limits->socket_bytes_per_s.value / 1e9, limits->wal_bytes_per_s.value / 1e9,
                limits->pipeline_bytes_per_s.value / 1e9);
    if (limits->read_bytes_per_s.known)
        fprintf(file, "            disk read %.2f GB/s\n", limits->read_bytes_per_s.value / 1e9);
    if (limits->write_sync_p50_us.known)
        fprintf(file,
                "bare us     4 KiB write + fdatasync p50 %.1f p99 %.1f   4 KiB round trip p50 %.1f "
                "p99 %.1f\n",
                limits->write_sync_p50_us.value, limits->write_sync_p99_us.value,
                limits->round_trip_p50_us.value, limits->round_trip_p99_us.value);
    if (fraction.known)
        fprintf(file, "fraction    %.1f %% of the bare pipeline\n", 100 * fraction.value);
    if (of_read.known)
        fprintf(file, "            %.1f %% of the bare disk read\n", 100 * of_read.value);
}

static void print_broker(const struct report *report, FILE *file)
{
    const struct broker_figures *broker = &report->broker;
    if (!broker->cpu_s.known && !broker->fdatasyncs.known && !broker->rss_bytes.known)
        return;
    fprintf(file, "broker     ");
    if (broker->cpu_s.known)
        fprintf(file, " CPU %.2f s", broker->cpu_s.value);
    if (broker->cpu_s.known && report->records > 0)
        fprintf(file, " (%.0f ns a record)", broker->cpu_s.value * 1e9 / (double)report->records);
    if (broker->rss_bytes.known)
        fprintf(file, "   RSS %.1f MiB", broker->rss_bytes.value / (double)MIB);
    if (broker->fdatasyncs.known)
        fprintf(file, "   %.0f fdatasyncs", broker->fdatasyncs.value);
    if (broker->device_bytes.known)
        fprintf(file, "   %.3f GB to the log", broker->device_bytes.value / 1e9);
    fprintf(file, "\n");
}

static void print_ack(const struct driver_session *session, FILE *file)
{
    if (session == NULL || session->ack_means == NULL)
        return;
    fprintf(file, "an ack is   %s", session->ack_means);
    for (uint32_t i = 0; i < session->fact_count; i++)
        fprintf(file, "%s%s = %s%s", i == 0 ? " (" : ", ", session->facts[i].name,
                session->facts[i].value, session->facts[i].is_fetched ? "" : " asked for");
    fprintf(file, "%s\n", session->fact_count > 0 ? ")" : "");
}
