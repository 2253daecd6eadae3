/* A report as one JSON object; the schema is in bench/README.md. */
#include <string.h>
#include <time.h>

#include "bench/engine/run.h"
#include "bench/report/costs.h"
#include "bench/report/median.h"
#include "bench/report/values.h"

#define SCHEMA 4 // raised when a key changes its meaning or goes

static const double curve[] = {0,     0.1,   0.25,   0.5,    0.75,    0.9,     0.95, 0.99,
                               0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 1};

static json_t *text_json(const char *text);
static json_t *latency_json(const struct run_latency *latency);
static void put_load(const struct report *report, json_t *root);
static void put_run(const struct report *report, json_t *root);
static json_t *limits_json(const struct report *report);
static json_t *bare_json(const struct limits_figures *limits);
static json_t *broker_json(const struct broker_figures *broker);
static json_t *ratios_json(const struct report *report);
static json_t *transactions_json(const struct transactions_figures *transactions);
static json_t *durability_json(const struct driver_session *session);
static json_t *settings_json(const struct report *report);
static json_t *anomalies_json(const struct anomalies *anomalies);

json_t *report_json(const struct report *report)
{
    const struct bench_options *options = report->options;
    char now[32];
    time_t seconds = time(NULL);
    struct tm utc;
    strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
    json_t *root = json_object();
    put(root, "schema", json_integer(SCHEMA));
    put(root, "command", json_string(options->command_name));
    put(root, "driver", json_string(options->driver));
    put(root, "label", options->label ? text_json(options->label) : json_null());
    put(root, "time", json_string(now));
    put(root, "failed", json_boolean(report->anomalies.count > 0));
    put_load(report, root);
    put_run(report, root);
    put(root, "limits", limits_json(report));
    put(root, "bare_us", bare_json(&report->limits));
    put(root, "broker", broker_json(&report->broker));
    put(root, "ratios", ratios_json(report));
    put(root, "transactions", transactions_json(&report->transactions));
    put(root, "claim", report->claim ? json_incref(report->claim) : json_null());
    put(root, "durability", durability_json(report->session));
    put(root, "settings", settings_json(report));
    put(root, "machine", machine_json(options));
    put(root, "anomalies", anomalies_json(&report->anomalies));
    if (report->more)
        json_object_update(root, report->more);
    return root;
}

/* ---- small things ---- */

/* JSON is UTF-8; a path or an error text need not be. */
static json_t *text_json(const char *text)
{
    json_t *string = json_string(text);
    return string ? string : json_string("(a text that is not UTF-8)");
}

/* ---- load ---- */

static void put_load(const struct report *report, json_t *root)
{
    bool known = report->has_load;
    put(root, "records", figure_json((struct figure){known, (double)report->records}));
    put(root, "bytes", figure_json((struct figure){known, (double)report->bytes}));
    put(root, "seconds", figure_json((struct figure){known, report->seconds}));
    put(root, "records_per_s",
        figure_json((struct figure){known, known ? report_records_per_s(report) : 0}));
    put(root, "bytes_per_s",
        figure_json((struct figure){known, known ? report_bytes_per_s(report) : 0}));
}

static json_t *latency_json(const struct run_latency *latency)
{
    bool known = latency->count > 0;
    json_t *object = json_object();
    put(object, "p50", figure_json((struct figure){known, latency->p50_us}));
    put(object, "p90", figure_json((struct figure){known, latency->p90_us}));
    put(object, "p99", figure_json((struct figure){known, latency->p99_us}));
    put(object, "p99_9", figure_json((struct figure){known, latency->p99_9_us}));
    put(object, "p99_99", figure_json((struct figure){known, latency->p99_99_us}));
    put(object, "max", figure_json((struct figure){known, latency->max_us}));
    put(object, "mean", figure_json((struct figure){known, latency->mean_us}));
    put(object, "samples", json_integer((json_int_t)latency->count));
    return object;
}

static json_t *percentiles_json(struct histogram *histogram)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < ARRAY_COUNT(curve) && histogram_count(histogram) > 0; i++)
        json_array_append_new(
            rows,
            json_pack("[f, f]", curve[i], (double)histogram_quantile(histogram, curve[i]) / 1e3));
    return rows;
}

static json_t *window_json(const struct run_result *run, const struct run_window *window)
{
    uint64_t records = window->acked > 0 ? window->acked : window->received;
    uint64_t bytes = window->acked > 0 ? window->acked * run->record_bytes : window->received_bytes;
    json_t *object = json_object();
    put(object, "seconds", json_real(window->seconds));
    put(object, "records_per_s", number_json((double)records / window->seconds));
    put(object, "bytes_per_s", number_json((double)bytes / window->seconds));
    put(object, "received_per_s", number_json((double)window->received / window->seconds));
    put(object, "latency_us", latency_json(&window->ack));
    put(object, "delivery_us", latency_json(&window->delivery));
    put(object, "client_cpu_s",
        figure_json(
            figure_between(window->before.client_cpu_us, window->after.client_cpu_us, 1e-6)));
    put(object, "broker_cpu_s",
        figure_json(
            figure_between(window->before.server.cpu_us, window->after.server.cpu_us, 1e-6)));
    return object;
}

static json_t *series_json(const struct run_result *run)
{
    json_t *rows = json_array();
    for (uint32_t i = 0; i < run->slice_count; i++) {
        const struct run_slice *slice = &run->slices[i];
        double seconds = slice->end_s - slice->begin_s;
        if (seconds <= 0)
            continue;
        bool is_timed = slice->max_us > 0;
        json_t *row = json_object();
        put(row, "begin_s", json_real(slice->begin_s));
        put(row, "end_s", json_real(slice->end_s));
        put(row, "records_per_s", json_real((double)slice->acked / seconds));
        put(row, "received_per_s", json_real((double)slice->received / seconds));
        put(row, "p50_us", figure_json((struct figure){is_timed, slice->p50_us}));
        put(row, "p99_us", figure_json((struct figure){is_timed, slice->p99_us}));
        put(row, "max_us", figure_json((struct figure){is_timed, slice->max_us}));
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *range_json(double *values, uint32_t count)
{
    if (count == 0)
        return json_null();
    struct spread spread = median_of(values, count);
    return json_pack("{s:f, s:f}", "min", spread.min, "max", spread.max);
}

static json_t *latency_range_json(const struct run_result *run, size_t at)
{
    double values[WINDOWS_MAX];
    uint32_t count = run_latencies(run, false, at, values);
    return range_json(values, count);
}

static json_t *spread_json(const struct run_result *run)
{
    double rates[WINDOWS_MAX];
    json_t *object = json_object();
    for (uint32_t i = 0; i < run->window_count; i++) {
        const struct run_window *window = &run->windows[i];
        rates[i] = (double)(window->acked > 0 ? window->acked : window->received) / window->seconds;
    }
    put(object, "records_per_s", range_json(rates, run->window_count));
    put(object, "p50_us", latency_range_json(run, offsetof(struct run_latency, p50_us)));
    put(object, "p99_us", latency_range_json(run, offsetof(struct run_latency, p99_us)));
    return object;
}

static void put_client(const struct run_result *run, json_t *root)
{
    const struct resources *before = &run->windows[0].before,
                           *after = &run->windows[run->window_count - 1].after;
    json_t *client = json_object(), *disk = json_object();
    put(client, "cpu_s",
        figure_json(figure_between(before->client_cpu_us, after->client_cpu_us, 1e-6)));
    put(client, "rss_bytes", json_integer((json_int_t)after->client_rss_bytes));
    put(disk, "writes", figure_json(figure_between(before->disk_writes, after->disk_writes, 1)));
    put(disk, "write_bytes",
        figure_json(figure_between(before->disk_write_bytes, after->disk_write_bytes, 1)));
    put(disk, "flushes", figure_json(figure_between(before->disk_flushes, after->disk_flushes, 1)));
    put(root, "client", client);
    put(root, "disk", disk);
}

/* The median of the repeats that have samples, for each figure by itself, and the greatest maximum; `repeats` has them all. */
static struct run_latency median_latency(const struct run_result *run, bool is_delivery)
{
    struct run_latency median = {0};
    double *const members[] = {&median.p50_us,    &median.p90_us, &median.p99_us, &median.p99_9_us,
                               &median.p99_99_us, &median.max_us, &median.mean_us};
    for (size_t m = 0; m < ARRAY_COUNT(members); m++) {
        size_t at = (size_t)((char *)members[m] - (char *)&median);
        double values[WINDOWS_MAX];
        uint32_t count = run_latencies(run, is_delivery, at, values);
        if (count > 0)
            *members[m] = at == offsetof(struct run_latency, max_us)
                              ? median_of(values, count).max
                              : median_of(values, count).median;
    }
    for (uint32_t i = 0; i < run->window_count; i++)
        median.count += is_delivery ? run->windows[i].delivery.count : run->windows[i].ack.count;
    return median;
}

static void put_run(const struct report *report, json_t *root)
{
    const struct run_result *run = report->run;
    struct run_latency ack = {0};
    if (run)
        ack = median_latency(run, false);
    put(root, "latency_us", latency_json(&ack));
    if (run == NULL || run->window_count == 0)
        return;
    struct run_latency delivery = median_latency(run, true),
                       slip = run_latency_of((struct histogram *)&run->slip_ns);
    put(root, "latency_from", run->latency_from ? json_string(run->latency_from) : json_null());
    put(root, "delivery_us", latency_json(&delivery));
    put(root, "schedule_slip_us", latency_json(&slip));
    put(root, "percentiles_us", percentiles_json((struct histogram *)&run->ack_ns));
    put(root, "delivery_percentiles_us", percentiles_json((struct histogram *)&run->delivery_ns));
    json_t *repeats = json_array();
    for (uint32_t i = 0; i < run->window_count; i++)
        json_array_append_new(repeats, window_json(run, &run->windows[i]));
    put(root, "repeats", repeats);
    put(root, "spread", spread_json(run));
    put(root, "series", series_json(run));
    put_client(run, root);
}

/* ---- what it is compared with, and what it cost ---- */

static json_t *limits_json(const struct report *report)
{
    const struct limits_figures *limits = &report->limits;
    json_t *object = json_object();
    put(object, "socket_bytes_per_s", figure_json(limits->socket_bytes_per_s));
    put(object, "wal_bytes_per_s", figure_json(limits->wal_bytes_per_s));
    put(object, "pipeline_bytes_per_s", figure_json(limits->pipeline_bytes_per_s));
    put(object, "read_bytes_per_s", figure_json(limits->read_bytes_per_s));
    put(object, "fraction", figure_json(report_fraction(report)));
    put(object, "read_fraction", figure_json(report_read_fraction(report)));
    return object;
}

static json_t *bare_json(const struct limits_figures *limits)
{
    json_t *object = json_object();
    put(object, "write_sync_p50", figure_json(limits->write_sync_p50_us));
    put(object, "write_sync_p99", figure_json(limits->write_sync_p99_us));
    put(object, "round_trip_p50", figure_json(limits->round_trip_p50_us));
    put(object, "round_trip_p99", figure_json(limits->round_trip_p99_us));
    return object;
}

static json_t *broker_json(const struct broker_figures *broker)
{
    json_t *object = json_object();
    put(object, "cpu_s", figure_json(broker->cpu_s));
    put(object, "rss_bytes", figure_json(broker->rss_bytes));
    put(object, "fdatasyncs", figure_json(broker->fdatasyncs));
    put(object, "device_bytes", figure_json(broker->device_bytes));
    return object;
}

static json_t *ratios_json(const struct report *report)
{
    const struct run_result *run = report->run;
    struct costs costs = {
        .records = (double)report->records,
        .bytes = (double)report->bytes,
        .seconds = report->seconds,
        .broker_cpu_s = report->broker.cpu_s,
        .log_fdatasyncs = report->broker.fdatasyncs,
        .log_bytes = report->broker.device_bytes,
    };
    if (run && run->window_count > 0) {
        const struct resources *before = &run->windows[0].before,
                               *after = &run->windows[run->window_count - 1].after;
        costs.client_cpu_s = figure_between(before->client_cpu_us, after->client_cpu_us, 1e-6);
        costs.disk_flushes = figure_between(before->disk_flushes, after->disk_flushes, 1);
        costs.disk_bytes = figure_between(before->disk_write_bytes, after->disk_write_bytes, 1);
    }
    return costs_json(&costs);
}

static json_t *transactions_json(const struct transactions_figures *transactions)
{
    json_t *object = json_object();
    put(object, "commits", figure_json(transactions->commits));
    put(object, "commits_per_s", figure_json(transactions->commits_per_s));
    put(object, "aborts", figure_json(transactions->aborts));
    return object;
}

/* ---- what was measured, and how ---- */

static json_t *durability_json(const struct driver_session *session)
{
    if (session == NULL)
        return json_null();
    json_t *facts = json_array();
    for (uint32_t i = 0; i < session->fact_count; i++)
        json_array_append_new(facts, json_pack("{s:o, s:o, s:b}", "name",
                                               text_json(session->facts[i].name), "value",
                                               text_json(session->facts[i].value), "fetched",
                                               session->facts[i].is_fetched));
    return json_pack("{s:s, s:s?, s:o}", "library", session->driver->library, "ack_means",
                     session->ack_means, "facts", facts);
}

/* A number that was said, or null: the default of the library, or nothing that the command uses. */
static json_t *said_json(uint64_t value)
{
    return value > 0 ? json_integer((json_int_t)value) : json_null();
}

static json_t *cpus_json(const struct bench_options *options)
{
    return options->cpu_receive == CPU_ANY
               ? json_string("any")
               : json_pack("[i, i]", options->cpu_receive, options->cpu_send);
}

/* Of the options that only some commands look at: null for the others. */
static void put_special_settings(const struct bench_options *options, json_t *object)
{
    bool is_claim = options->command == BENCH_CLAIM, is_sweep = options->command == BENCH_SWEEP;
    bool limits = options->limits_dir != NULL;
    put(object, "p99_limit_us",
        options->p99_ns > 0 ? number_json((double)options->p99_ns / 1e3) : json_null());
    put(object, "steps", said_json(is_sweep ? options->step_count : 0));
    put(object, "fill_bytes", said_json(is_claim ? options->fill_bytes : 0));
    put(object, "hold_s", is_claim ? number_json((double)options->hold_ns / 1e9) : json_null());
    put(object, "idle", said_json(is_claim ? options->idle_count : 0));
    put(object, "broker_cores", said_json(is_claim ? options->core_count : 0));
    put(object, "broker_io", is_claim && options->io ? json_string(options->io) : json_null());
    put(object, "limits_connections", said_json(limits ? options->connection_count : 0));
    put(object, "limits_wal_set_bytes", said_json(limits ? options->wal_set_bytes : 0));
    put(object, "limits_cpus", limits ? cpus_json(options) : json_null());
}

/* What was asked for, so that a file explains itself and comparisons can refuse unequal runs. */
static json_t *settings_json(const struct report *report)
{
    const struct bench_options *options = report->options;
    json_t *object = json_object();
    put(object, "topic", text_json(options->topic));
    put(object, "partitions", json_integer(report->partition_count));
    put(object, "retention_bytes", said_json(options->retention_bytes));
    put(object, "record_bytes", json_integer((json_int_t)options->record_bytes));
    put(object, "batch_bytes", json_integer((json_int_t)options->batch_bytes));
    put(object, "producers", json_integer(options->producer_count));
    put(object, "threads", json_integer(options->thread_count));
    put(object, "clients", json_integer(options->client_count));
    put(object, "consumers", json_integer(options->consumer_count));
    put(object, "rate", json_integer((json_int_t)options->rate));
    put(object, "arrivals", json_string(options->is_poisson ? "poisson" : "uniform"));
    put(object, "closed_loop", json_integer(options->closed_loop));
    put(object, "warm_up_s", json_real((double)options->warm_up_ns / 1e9));
    put(object, "duration_s", json_real((double)options->duration_ns / 1e9));
    put(object, "repeats", json_integer(options->repeat_count));
    put(object, "compression", json_string(options->compression_lz4 ? "lz4" : "none"));
    put(object, "compressible", json_boolean(options->compressible));
    put(object, "idempotent", json_boolean(!options->not_idempotent));
    put(object, "own_request", json_boolean(options->own_request));
    put(object, "sustained", json_boolean(options->is_sustained));
    put(object, "send_many", json_integer(options->send_many));
    put(object, "checked", json_boolean(!options->unchecked));
    put(object, "records_each", json_integer(options->records_each));
    put(object, "abort_percent", json_integer(options->abort_percent));
    put(object, "linger_us", json_integer(options->linger_us));
    put(object, "in_flight", said_json(options->batches_in_flight));
    put(object, "buffer_bytes", said_json(options->buffer_bytes));
    put(object, "sample", said_json(options->sample_stride));
    put_special_settings(options, object);
    return object;
}

static json_t *anomalies_json(const struct anomalies *anomalies)
{
    json_t *texts = json_array();
    for (uint32_t i = 0; i < min_u64(anomalies->count, ANOMALIES_MAX); i++)
        json_array_append_new(texts, text_json(anomalies->texts[i]));
    if (anomalies->count > ANOMALIES_MAX)
        json_array_append_new(texts, json_sprintf("and %u more", anomalies->count - ANOMALIES_MAX));
    return texts;
}
