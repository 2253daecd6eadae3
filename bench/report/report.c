/* The two faces of a report: a table for people, one JSON object for scripts.
 *
 * The JSON is written by hand: fixed keys, numbers and a list of texts need no library. Writing can
 * fail (no such directory, disk full); then the run exits with 1 although it measured. */
#include "bench/report/report.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
static const char *const quantile_names[] = {"p50", "p90", "p99", "p99_9", "p99_99"};

static void print_load(struct report *report);
static void print_latency(struct report *report);
static void print_transactions(const struct report *report);
static void print_claim(const struct claim_figures *claim);
static void print_limits(struct report *report);
static void print_broker(struct report *report);
static void json_number(FILE *file, const char *key, struct figure figure, bool last);
static void json_text(FILE *file, const char *text);
static void json_load(struct report *report, FILE *file);
static void json_latency(struct report *report, FILE *file);
static void json_groups(struct report *report, FILE *file);
static void json_transactions(const struct report *report, FILE *file);
static void json_claim(const struct claim_figures *claim, FILE *file);
static void json_settings(const struct report *report, FILE *file);
static void json_anomalies(const struct anomalies *anomalies, FILE *file);
static const char *word(bool value);

void anomaly(struct report *report, const char *format, ...)
{
    struct anomalies *anomalies = &report->anomalies;
    if (anomalies->count++ >= ANOMALIES_MAX)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(anomalies->texts[anomalies->count - 1], ANOMALY_TEXT_MAX, format, arguments);
    va_end(arguments);
}

struct figure report_fraction(const struct report *report)
{
    struct figure pipeline = report->limits.pipeline_bytes_per_s;
    if (!report->has_load || !pipeline.known || pipeline.value <= 0 || report->seconds <= 0)
        return (struct figure){0};
    return figure_of((double)report->bytes / report->seconds / pipeline.value);
}

int report_print(struct report *report)
{
    const char *path = report->options->output_path;
    if (path && strcmp(path, "-") == 0)
        return 0;
    print_load(report);
    print_transactions(report);
    print_latency(report);
    print_claim(&report->claim);
    print_limits(report);
    print_broker(report);
    for (uint32_t i = 0; i < min_u64(report->anomalies.count, ANOMALIES_MAX); i++)
        printf("ANOMALY     %s\n", report->anomalies.texts[i]);
    if (report->anomalies.count > ANOMALIES_MAX)
        printf("ANOMALY     and %u more\n", report->anomalies.count - ANOMALIES_MAX);
    if (fflush(stdout) == 0)
        return 0;
    fprintf(stderr, "sluice-bench: standard output: %s\n", strerror(errno));
    return 1;
}

int report_write_json(struct report *report)
{
    const char *path = report->options->output_path;
    if (!path)
        return 0;
    FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    if (file)
        report_json(report, file);
    bool failed = !file || fflush(file) != 0;
    if (file && file != stdout)
        failed |= fclose(file) != 0;
    if (failed)
        fprintf(stderr, "sluice-bench: %s: %s\n", path, strerror(errno));
    return failed;
}

/* ---- for people ---- */

static double rate_of(const struct report *report, uint64_t amount)
{
    return report->seconds > 0 ? (double)amount / report->seconds : 0;
}

static void print_load(struct report *report)
{
    if (!report->has_load)
        return;
    double each = report->records > 0 ? (double)report->bytes / (double)report->records : 0;
    printf("%-11s %llu records of %.4g B in %.2f s\n", report->options->command_name,
           (unsigned long long)report->records, each, report->seconds);
    printf("rate        %.3f GB/s   %.0f records/s\n", rate_of(report, report->bytes) / 1e9,
           rate_of(report, report->records));
}

static void print_latency(struct report *report)
{
    if (!report->latency_ns || histogram_count(report->latency_ns) == 0)
        return;
    printf("latency us ");
    for (size_t i = 0; i < ARRAY_COUNT(quantiles); i++)
        printf(" %s %.1f", quantile_names[i],
               (double)histogram_quantile(report->latency_ns, quantiles[i]) / 1e3);
    printf(" max %.1f   (%llu samples)\n", (double)counter_get(&report->latency_ns->max) / 1e3,
           (unsigned long long)histogram_count(report->latency_ns));
}

static void print_transactions(const struct report *report)
{
    const struct transactions_figures *transactions = &report->transactions;
    if (transactions->commits.known)
        printf("commits     %.0f/s   %.0f in all, %.0f aborts\n", transactions->commits_per_s.value,
               transactions->commits.value, transactions->aborts.value);
}

static void print_claim(const struct claim_figures *claim)
{
    if (!claim->known)
        return;
    printf("claim       %s: %s\n", claim->name, claim->holds ? "holds" : "DOES NOT HOLD");
    printf(
        "others      commit p99 %.1f us without, %.1f us with (%+.1f %%)   begin to consumer p99 "
        "%.1f us without, %.1f us with (%+.1f %%)\n",
        claim->commit_p99_without_us, claim->commit_p99_with_us, claim->commit_change_percent,
        claim->delivery_p99_without_us, claim->delivery_p99_with_us,
        claim->delivery_change_percent);
    printf(
        "aborts      %llu; committed %llu records, received %llu; %llu bytes of committed batches, "
        "%llu sent; gaps %llu, lag %llu\n",
        (unsigned long long)claim->aborts, (unsigned long long)claim->committed_records,
        (unsigned long long)claim->received_records,
        (unsigned long long)claim->committed_batch_bytes,
        (unsigned long long)claim->received_batch_bytes, (unsigned long long)claim->gaps,
        (unsigned long long)claim->lag);
}

static void print_limits(struct report *report)
{
    const struct limits_figures *limits = &report->limits;
    struct figure fraction = report_fraction(report);
    if (limits->pipeline_bytes_per_s.known)
        printf("limits      socket %.2f GB/s   WAL %.2f GB/s   pipeline %.2f GB/s\n",
               limits->socket_bytes_per_s.value / 1e9, limits->wal_bytes_per_s.value / 1e9,
               limits->pipeline_bytes_per_s.value / 1e9);
    if (limits->write_sync_p50_us.known)
        printf("bare us     4 KiB write + fdatasync p50 %.1f p99 %.1f   4 KiB round trip p50 %.1f "
               "p99 %.1f\n",
               limits->write_sync_p50_us.value, limits->write_sync_p99_us.value,
               limits->round_trip_p50_us.value, limits->round_trip_p99_us.value);
    if (fraction.known)
        printf("fraction    %.1f %% of the bare pipeline\n", 100 * fraction.value);
}

static void print_broker(struct report *report)
{
    const struct broker_figures *broker = &report->broker;
    if (!broker->cpu_s.known && !broker->fdatasyncs.known && !broker->rss_bytes.known)
        return;
    printf("broker     ");
    if (broker->cpu_s.known)
        printf(" CPU %.2f s", broker->cpu_s.value);
    if (broker->rss_bytes.known)
        printf("   RSS %.1f MiB", broker->rss_bytes.value / (double)MIB);
    if (broker->fdatasyncs.known)
        printf("   %.0f fdatasyncs", broker->fdatasyncs.value);
    if (broker->device_bytes.known)
        printf("   %.3f GB to the log", broker->device_bytes.value / 1e9);
    printf("\n");
}

/* ---- JSON ---- */

void report_json(struct report *report, FILE *file)
{
    fprintf(file, "{\"command\": ");
    json_text(file, report->options->command_name);
    fprintf(file, ", \"driver\": ");
    json_text(file, report->options->driver);
    fprintf(file, ",\n ");
    json_load(report, file);
    json_latency(report, file);
    json_groups(report, file);
    json_transactions(report, file);
    json_claim(&report->claim, file);
    json_settings(report, file);
    json_anomalies(&report->anomalies, file);
    fprintf(file, "}\n");
}

static void json_load(struct report *report, FILE *file)
{
    bool known = report->has_load;
    json_number(file, "records", (struct figure){known, (double)report->records}, false);
    json_number(file, "bytes", (struct figure){known, (double)report->bytes}, false);
    json_number(file, "seconds", (struct figure){known, report->seconds}, false);
    json_number(file, "records_per_s", (struct figure){known, rate_of(report, report->records)},
                false);
    json_number(file, "bytes_per_s", (struct figure){known, rate_of(report, report->bytes)}, false);
    fprintf(file, "\n ");
}

static void json_latency(struct report *report, FILE *file)
{
    struct histogram *latency = report->latency_ns;
    bool known = latency && histogram_count(latency) > 0;
    fprintf(file, "\"latency_us\": {");
    for (size_t i = 0; i < ARRAY_COUNT(quantiles); i++) {
        double ns = known ? (double)histogram_quantile(latency, quantiles[i]) : 0;
        json_number(file, quantile_names[i], (struct figure){known, ns / 1e3}, false);
    }
    double max_ns = known ? (double)counter_get(&latency->max) : 0;
    json_number(file, "max", (struct figure){known, max_ns / 1e3}, true);
    fprintf(file, "},\n ");
}

static void json_groups(struct report *report, FILE *file)
{
    const struct limits_figures *limits = &report->limits;
    const struct broker_figures *broker = &report->broker;
    fprintf(file, "\"limits\": {");
    json_number(file, "socket_bytes_per_s", limits->socket_bytes_per_s, false);
    json_number(file, "wal_bytes_per_s", limits->wal_bytes_per_s, false);
    json_number(file, "pipeline_bytes_per_s", limits->pipeline_bytes_per_s, false);
    json_number(file, "fraction", report_fraction(report), true);
    fprintf(file, "},\n \"bare_us\": {");
    json_number(file, "write_sync_p50", limits->write_sync_p50_us, false);
    json_number(file, "write_sync_p99", limits->write_sync_p99_us, false);
    json_number(file, "round_trip_p50", limits->round_trip_p50_us, false);
    json_number(file, "round_trip_p99", limits->round_trip_p99_us, true);
    fprintf(file, "},\n \"broker\": {");
    json_number(file, "cpu_s", broker->cpu_s, false);
    json_number(file, "rss_bytes", broker->rss_bytes, false);
    json_number(file, "fdatasyncs", broker->fdatasyncs, false);
    json_number(file, "device_bytes", broker->device_bytes, true);
    fprintf(file, "},\n ");
}

static void json_transactions(const struct report *report, FILE *file)
{
    const struct transactions_figures *transactions = &report->transactions;
    fprintf(file, "\"transactions\": {");
    json_number(file, "commits", transactions->commits, false);
    json_number(file, "commits_per_s", transactions->commits_per_s, false);
    json_number(file, "aborts", transactions->aborts, true);
    fprintf(file, "},\n ");
}

static void json_claim(const struct claim_figures *claim, FILE *file)
{
    if (!claim->known) {
        fprintf(file, "\"claim\": null,\n ");
        return;
    }
    fprintf(file, "\"claim\": {\"name\": ");
    json_text(file, claim->name);
    fprintf(file,
            ", \"holds\": %s, \"commit_p99_without_us\": %.6g, \"commit_p99_with_us\": %.6g, "
            "\"commit_change_percent\": %.3g, \"delivery_p99_without_us\": %.6g, "
            "\"delivery_p99_with_us\": %.6g, \"delivery_change_percent\": %.3g, ",
            word(claim->holds), claim->commit_p99_without_us, claim->commit_p99_with_us,
            claim->commit_change_percent, claim->delivery_p99_without_us,
            claim->delivery_p99_with_us, claim->delivery_change_percent);
    fprintf(file,
            "\"aborts\": %llu, \"committed_records\": %llu, \"received_records\": %llu, "
            "\"received_value_bytes\": %llu, \"committed_batch_bytes\": %llu, "
            "\"received_batch_bytes\": %llu, \"gaps\": %llu, \"lag\": %llu},\n ",
            (unsigned long long)claim->aborts, (unsigned long long)claim->committed_records,
            (unsigned long long)claim->received_records,
            (unsigned long long)claim->received_value_bytes,
            (unsigned long long)claim->committed_batch_bytes,
            (unsigned long long)claim->received_batch_bytes, (unsigned long long)claim->gaps,
            (unsigned long long)claim->lag);
}

static const char *word(bool value)
{
    return value ? "true" : "false";
}

/* What was asked for, so that a file explains itself and comparisons can refuse unequal runs. */
static void json_settings(const struct report *report, FILE *file)
{
    const struct bench_options *options = report->options;
    fprintf(file, "\"settings\": {\"topic\": ");
    json_text(file, options->topic);
    fprintf(file,
            ", \"partitions\": %u, \"record_bytes\": %llu, \"batch_bytes\": %llu, "
            "\"producers\": %u, \"clients\": %u, \"rate\": %llu, \"warm_up_s\": %g, "
            "\"compression\": \"%s\", \"compressible\": %s, \"idempotent\": %s, "
            "\"own_request\": %s, \"send_many\": %u, \"lone\": %s, \"verify\": %s, "
            "\"records_each\": %u, \"abort_percent\": %u},\n ",
            report->partition_count, (unsigned long long)options->record_bytes,
            (unsigned long long)options->batch_bytes, options->producer_count,
            options->client_count, (unsigned long long)options->rate,
            (double)options->warm_up_ns / 1e9, options->compression_lz4 ? "lz4" : "none",
            word(options->compressible), word(!options->not_idempotent), word(options->own_request),
            options->send_many, word(options->lone), word(options->verify), options->records_each,
            options->abort_percent);
}

static void json_anomalies(const struct anomalies *anomalies, FILE *file)
{
    fprintf(file, "\"anomalies\": [");
    for (uint32_t i = 0; i < min_u64(anomalies->count, ANOMALIES_MAX); i++) {
        fprintf(file, "%s", i > 0 ? ", " : "");
        json_text(file, anomalies->texts[i]);
    }
    if (anomalies->count > ANOMALIES_MAX)
        fprintf(file, ", \"and %u more\"", anomalies->count - ANOMALIES_MAX);
    fprintf(file, "]");
}

static void json_number(FILE *file, const char *key, struct figure figure, bool last)
{
    if (!figure.known)
        fprintf(file, "\"%s\": null", key);
    else if (figure.value == (double)(int64_t)figure.value)
        fprintf(file, "\"%s\": %lld", key, (long long)figure.value);
    else
        fprintf(file, "\"%s\": %.6g", key, figure.value);
    fprintf(file, "%s", last ? "" : ", ");
}

static void json_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(file, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(file, "\\u%04x", c);
        else
            fputc(c, file);
    }
    fputc('"', file);
}
