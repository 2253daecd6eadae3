/* The JSON of a report: its keys are an interface, and what was not measured is null. */
#include "bench/report/report.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/claim/claim.h"
#include "bench/engine/run.h"
#include "bench/report/costs.h"
#include "bench/report/median.h"

static struct bench_options options = {
    .command_name = "publish", .driver = "sluice", .topic = "t\"1", .rate = 1000};
static struct report report;
static struct run_result run;

static void three_windows(void);

static void reset(void)
{
    report = (struct report){.options = &options};
    memset(&run, 0, sizeof(run));
}

/* The value at a path of keys, as JSON text: "limits.fraction". */
static void expect(const char *path, const char *text)
{
    char keys[128], *rest = keys;
    snprintf(keys, sizeof(keys), "%s", path);
    json_t *root = report_json(&report), *value = root;
    for (char *key; (key = strsep(&rest, ".")) != NULL;)
        value = *key >= '0' && *key <= '9' ? json_array_get(value, (size_t)atoi(key))
                                           : json_object_get(value, key);
    cr_assert_not_null(value, "%s is not there", path);
    char *found = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(7));
    cr_expect_str_eq(found, text, "%s is %s, not %s", path, found, text);
    free(found);
    json_decref(root);
}

/* What people are shown. */
static void text_is(const char *expected)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    report_text(&report, file);
    fclose(file);
    cr_assert_str_eq(text, expected, "%s", text);
    free(text);
}

Test(bench_report, what_was_not_measured_is_null, .init = reset)
{
    static const char *const nulls[] = {
        "records",           "bytes",          "seconds",
        "records_per_s",     "bytes_per_s",    "latency_us.p50",
        "latency_us.p99_99", "latency_us.max", "limits.socket_bytes_per_s",
        "limits.fraction",   "broker.cpu_s",   "broker.rss_bytes",
        "broker.fdatasyncs", "claim",          "transactions.commits",
        "durability",        "label",          "ratios.bytes_per_fdatasync",
    };
    for (size_t i = 0; i < ARRAY_COUNT(nulls); i++)
        expect(nulls[i], "null");
    expect("command", "\"publish\"");
    expect("driver", "\"sluice\"");
    expect("anomalies", "[]");
    expect("failed", "false");
}

Test(bench_report, a_claim_says_whether_it_holds_and_why, .init = reset)
{
    static struct bench_options claims = {
        .command_name = "claim", .claim = "cold-start", .driver = "sluice", .topic = "t"};
    report.options = &claims;
    claim_set(&report, false,
              json_pack("{s:f, s:i, s:{s:i}}", "x_ms", 20.5, "lag", 3, "y", "z", 1));
    expect("claim.name", "\"cold-start\"");
    expect("claim.holds", "false");
    expect("claim.x_ms", "20.5");
    expect("claim.lag", "3");
    text_is("claim       cold-start: DOES NOT HOLD\n"
            "  x_ms                             20.5\n"
            "  lag                              3\n"
            "  y                                {\"z\":1}\n");
    json_decref(report.claim);
}

Test(bench_report, a_claim_does_not_judge_by_a_latency_that_was_not_measured, .init = reset)
{
    three_windows();
    claim_check_timed(&report, &run);
    cr_expect_eq(report.anomalies.count, 0);
    run.windows[2].ack = (struct run_latency){0};
    claim_check_timed(&report, &run);
    cr_expect_eq(report.anomalies.count, 1);
}

Test(bench_report, rates_are_amounts_by_time, .init = reset)
{
    report.has_load = true;
    report.records = 3000;
    report.bytes = 6000000000;
    report.seconds = 1.5;
    expect("records", "3000");
    expect("seconds", "1.5");
    expect("records_per_s", "2000");
    expect("bytes_per_s", "4000000000");
}

Test(bench_report, fraction_is_of_the_pipeline, .init = reset)
{
    report.has_load = true;
    report.records = 3;
    report.bytes = 3000;
    report.seconds = 1;
    cr_expect_not(report_fraction(&report).known);
    report.limits.pipeline_bytes_per_s = figure_of(12000);
    expect("limits.fraction", "0.25");
}

Test(bench_report, latencies_are_microseconds, .init = reset)
{
    run.window_count = 1;
    histogram_add(&run.ack_ns, 10);
    run.windows[0].ack = run_latency_of(&run.ack_ns);
    report.run = &run;
    expect("latency_us.p50", "0.01");
    expect("latency_us.max", "0.01");
    expect("latency_us.samples", "1");
}

static void three_windows(void)
{
    run.record_bytes = 100;
    run.window_count = 3;
    for (uint64_t i = 0; i < 3; i++) {
        struct run_window *window = &run.windows[i];
        *window = (struct run_window){
            .seconds = 2,
            .acked = (uint64_t[]){4000, 1000, 2000}[i],
            .ack = {.count = 10, .p50_us = (double[]){7, 5, 9}[i], .p99_us = 50},
            .before = {.client_cpu_us = 1000 * i, .server = {.cpu_us = UNKNOWN}},
            .after = {.client_cpu_us = 1000 * (i + 1), .server = {.cpu_us = UNKNOWN}},
        };
        window->before.server.fdatasyncs = 10 * i;
        window->after.server.fdatasyncs = 10 * (i + 1);
    }
    run.latency_from = "due";
    report_take_run(&report, &run);
}

Test(bench_report, where_the_disk_was_measured_ratios_are_of_the_disk, .init = reset)
{
    three_windows();
    expect("ratios.device_bytes_source", "\"log\"");
    expect("ratios.fdatasyncs_source", "\"log\"");
    run.windows[2].after.disk_write_bytes = 1400000;
    run.windows[2].after.disk_flushes = 60;
    expect("ratios.device_bytes_per_payload_byte", "2");
    expect("ratios.device_bytes_source", "\"device\"");
    expect("ratios.fdatasyncs_per_s", "10");
    expect("ratios.bytes_per_fdatasync", "11666.67");
    expect("ratios.fdatasyncs_source", "\"device\"");
    report.broker.fdatasyncs.known = report.broker.device_bytes.known = false; // another driver
    expect("ratios.device_bytes_per_payload_byte", "2");
    run.windows[0].before.disk_flushes = UNKNOWN; // before Linux 5.5
    expect("ratios.fdatasyncs_source", "null");
    expect("ratios.fdatasyncs_per_s", "null");
}

Test(bench_report, settings_are_what_was_said_and_null_where_they_mean_nothing, .init = reset)
{
    static struct bench_options said = {.command = BENCH_PUBLISH,
                                        .command_name = "publish",
                                        .driver = "sluice",
                                        .topic = "t",
                                        .linger_us = 5,
                                        .step_count = 8,
                                        .fill_bytes = 10};
    report.options = &said;
    expect("settings.linger_us", "5");
    static const char *const nulls[] = {"in_flight",   "buffer_bytes", "sample",
                                        "steps",       "p99_limit_us", "fill_bytes",
                                        "hold_s",      "broker_io",    "limits_connections",
                                        "limits_cpus", "broker_cores"};
    for (size_t i = 0; i < ARRAY_COUNT(nulls); i++) {
        char path[64];
        snprintf(path, sizeof(path), "settings.%s", nulls[i]);
        expect(path, "null");
    }
    said.batches_in_flight = 3;
    said.buffer_bytes = 65536;
    said.limits_dir = ".";
    said.cpu_send = 1;
    expect("settings.in_flight", "3");
    expect("settings.buffer_bytes", "65536");
    expect("settings.limits_cpus", "[0,1]");
    said.command = BENCH_CLAIM;
    said.io = "epoll";
    expect("settings.fill_bytes", "10");
    expect("settings.broker_io", "\"epoll\"");
}

Test(bench_report, waits_for_log_files_are_an_anomaly_unless_they_are_what_is_measured,
     .init = reset)
{
    static struct bench_options sustained = {
        .command = BENCH_PUBLISH, .command_name = "publish", .driver = "sluice", .topic = "t"};
    struct resources before = {0}, after = {.server = {.waits_for_spare = 3}};
    report.options = &sustained;
    report_take_resources(&report, &before, &after);
    cr_expect_eq(report.anomalies.count, 1);
    sustained.is_sustained = true;
    report_take_resources(&report, &before, &after);
    cr_expect_eq(report.anomalies.count, 1);
}

Test(bench_report, what_is_read_from_a_cold_disk_is_a_fraction_of_the_bare_read, .init = reset)
{
    static struct bench_options cold = {
        .command = BENCH_CONSUME, .command_name = "consume", .driver = "sluice", .topic = "t"};
    report = (struct report){
        .options = &cold, .has_load = true, .records = 10, .bytes = 3000, .seconds = 2};
    report.limits.read_bytes_per_s = figure_of(2000);
    expect("limits.read_bytes_per_s", "2000");
    expect("limits.read_fraction", "null");
    cold.is_cold = true;
    expect("limits.read_fraction", "0.75");
}

Test(bench_report, costs_of_several_loads_are_sums_and_what_one_lacks_all_lack)
{
    struct costs costs = {0};
    struct resources before = {.client_cpu_us = 1000, .server = {.cpu_us = 500}},
                     after = {.client_cpu_us = 3000, .server = {.cpu_us = 1500, .rss_bytes = 7}};
    before.disk_flushes = after.disk_flushes = UNKNOWN;
    costs_add(&costs, &before, &after, 1000, 100000, 1);
    after.server.rss_bytes = 5;
    costs_add(&costs, &before, &after, 1000, 100000, 1);
    json_t *json = costs_row_json(&costs);
    cr_expect_eq(json_integer_value(json_object_get(json, "client_cpu_ns_per_record")), 2000);
    cr_expect_eq(json_integer_value(json_object_get(json, "broker_cpu_ns_per_record")), 1000);
    cr_expect_eq(json_integer_value(json_object_get(json, "broker_rss_bytes")), 7);
    json_decref(json);
    after.server.cpu_us = UNKNOWN;
    costs_add(&costs, &before, &after, 1000, 100000, 1);
    json = costs_row_json(&costs);
    cr_expect(json_is_null(json_object_get(json, "broker_cpu_ns_per_record")));
    cr_expect_eq(json_integer_value(json_object_get(json, "client_cpu_ns_per_record")), 2000);
    json_decref(json);
}

Test(bench_report, of_repeats_the_median_is_told_and_the_spread, .init = reset)
{
    three_windows();
    expect("records", "7000");
    expect("bytes", "700000");
    expect("seconds", "6");
    expect("records_per_s", "1000");
    expect("bytes_per_s", "100000");
    expect("latency_us.p50", "7");
    expect("latency_us.samples", "30");
    expect("spread.records_per_s", "{\"min\":500.0,\"max\":2000.0}");
    expect("spread.p50_us.max", "9.0");
    run.windows[1].ack.max_us = 90;
    expect("latency_us.max", "90");
    expect("repeats.1.records_per_s", "500");
    expect("repeats.2.latency_us.p50", "9");
    expect("latency_from", "\"due\"");
}

Test(bench_report, a_repeat_without_samples_is_in_no_median_and_no_spread, .init = reset)
{
    three_windows();
    run.windows[1].ack = (struct run_latency){0};
    expect("latency_us.p50", "8");
    expect("latency_us.p99", "50");
    expect("spread.p50_us", "{\"min\":7.0,\"max\":9.0}");
    expect("spread.p99_us", "{\"min\":50.0,\"max\":50.0}");
    expect("repeats.1.latency_us.p50", "null");
    text_is("publish     7000 records of 100 B in 6.00 s\n"
            "rate        0.000 GB/s   1000 records/s\n"
            "3 repeats   500..2000 records/s, p99 50.0..50.0 us\n"
            "broker        RSS 0.0 MiB   30 fdatasyncs   0.000 GB to the log\n");
}

Test(bench_report, where_no_repeat_has_samples_the_spread_is_null, .init = reset)
{
    three_windows();
    for (int i = 0; i < 3; i++)
        run.windows[i].ack = (struct run_latency){0};
    expect("latency_us.p50", "null");
    expect("spread.records_per_s.min", "500.0");
    expect("spread.p50_us", "null");
    expect("spread.p99_us", "null");
    text_is("publish     7000 records of 100 B in 6.00 s\n"
            "rate        0.000 GB/s   1000 records/s\n"
            "3 repeats   500..2000 records/s\n"
            "broker        RSS 0.0 MiB   30 fdatasyncs   0.000 GB to the log\n");
}

Test(bench_report, costs_are_of_all_windows_and_null_where_nobody_tells, .init = reset)
{
    three_windows();
    expect("broker.fdatasyncs", "30");
    expect("broker.cpu_s", "null");
    expect("ratios.fdatasyncs_per_s", "5");
    expect("ratios.bytes_per_fdatasync", "23333.33");
    expect("ratios.broker_cpu_ns_per_record", "null");
    expect("client.cpu_s", "0.003");
    expect("ratios.client_cpu_ns_per_record", "428.5714");
}

Test(bench_report, texts_are_escaped_and_need_not_be_utf_8, .init = reset)
{
    anomaly(&report, "a \"b\"\n\\");
    anomaly(&report, "\xff");
    expect("settings.topic", "\"t\\\"1\"");
    expect("anomalies.0", "\"a \\\"b\\\"\\n\\\\\"");
    expect("anomalies.1", "\"(a text that is not UTF-8)\"");
    expect("failed", "true");
}

Test(bench_report, too_many_anomalies_are_counted, .init = reset)
{
    for (int i = 0; i < ANOMALIES_MAX + 3; i++)
        anomaly(&report, "number %d", i);
    expect("anomalies.31", "\"number 31\"");
    expect("anomalies.32", "\"and 3 more\"");
}

Test(bench_report, what_one_command_adds_is_added, .init = reset)
{
    report.more = json_pack("{s:[i, i]}", "curve", 1, 2);
    expect("curve", "[1,2]");
    json_decref(report.more);
}

Test(bench_report, a_file_that_cannot_be_written_fails, .init = reset)
{
    static struct bench_options bad = {.command_name = "publish",
                                       .driver = "sluice",
                                       .topic = "t",
                                       .output_path = "/no/such/dir/x"};
    report.options = &bad;
    cr_expect_eq(report_finish(&report), 1);
}

Test(bench_report, files_are_looked_at_before_the_run_and_left_as_they_are,
     .init = cr_redirect_stderr)
{
    char path[] = "/tmp/sluice-report-XXXXXX", text[8] = "";
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, "old", 3), 3);
    struct bench_options files = {.output_path = path, .html_path = "-"};
    cr_expect_eq(report_check_files(&files), 0);
    cr_expect_eq(pread(fd, text, sizeof(text) - 1, 0), 3);
    close(fd);
    unlink(path);
    cr_expect_eq(report_check_files(&files), 0);
    cr_expect_neq(access(path, F_OK), 0, "a file that was not there was left");
    files.html_path = "/no/such/dir/x";
    cr_expect_eq(report_check_files(&files), -1);
    files = (struct bench_options){.output_path = "/tmp"};
    cr_expect_eq(report_check_files(&files), -1, "a directory");
}

Test(bench_report, people_see_only_what_was_measured, .init = reset)
{
    text_is("");
}

Test(bench_report, people_see_a_line_for_each_kind_of_figure, .init = reset)
{
    run.window_count = 1;
    run.windows[0] = (struct run_window){.seconds = 2, .acked = 3000};
    histogram_add(&run.ack_ns, 10);
    report.run = &run;
    report.has_load = true;
    report.records = 3000;
    report.bytes = 3000000;
    report.seconds = 2;
    report.limits.socket_bytes_per_s = figure_of(4e9);
    report.limits.wal_bytes_per_s = figure_of(3e9);
    report.limits.pipeline_bytes_per_s = figure_of(3e6);
    report.broker.cpu_s = figure_of(1.5);
    report.broker.fdatasyncs = figure_of(12);
    anomaly(&report, "a spare was waited for");
    text_is("publish     3000 records of 1000 B in 2.00 s\n"
            "rate        0.002 GB/s   1500 records/s\n"
            "ack us      p50 0.0 p90 0.0 p99 0.0 p99.9 0.0 p99.99 0.0 max 0.0   (1 samples)\n"
            "limits      socket 4.00 GB/s   WAL 3.00 GB/s   pipeline 0.00 GB/s\n"
            "fraction    50.0 % of the bare pipeline\n"
            "broker      CPU 1.50 s (500000 ns a record)   12 fdatasyncs\n"
            "ANOMALY     a spare was waited for\n");
}

Test(bench_report, json_on_standard_output_stands_alone, .init = cr_redirect_stdout)
{
    static struct bench_options both = {
        .command_name = "publish", .driver = "sluice", .topic = "t", .output_path = "-"};
    reset();
    report.options = &both;
    report.has_load = true;
    cr_assert_eq(report_finish(&report), 0);
    fflush(stdout);
    json_error_t error;
    json_t *found = json_loadf(cr_get_redirected_stdout(), 0, &error);
    cr_assert_not_null(found, "%s", error.text);
    json_decref(found);
}

/* The page holds the result as one script that no text of the result can end. */
Test(bench_report, a_page_holds_the_result, .init = reset)
{
    char *text = NULL;
    size_t size;
    anomaly(&report, "</script><script>alert(1)</script>");
    json_t *json = report_json(&report);
    FILE *file = open_memstream(&text, &size);
    cr_assert_eq(report_html(json, file), 0);
    fclose(file);
    cr_expect_null(strstr(text, "alert(1)</script>"));
    cr_expect_not_null(strstr(text, "const result = {\"schema\":"));
    cr_expect_not_null(strstr(text, "</html>"));
    free(text);
    json_decref(json);
}

Test(bench_report, a_median_of_an_even_count_is_the_mean_of_the_middle)
{
    struct spread spread = median_of((double[]){9, 1, 4, 2}, 4);
    cr_expect_float_eq(spread.median, 3, 1e-9);
    cr_expect_float_eq(spread.min, 1, 1e-9);
    cr_expect_float_eq(spread.max, 9, 1e-9);
}
