/* The JSON of a report: its keys are an interface, and what was not measured is null. */
#include "bench/report/report.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>

static struct bench_options options = {
    .command_name = "publish", .driver = "sluice", .topic = "t\"1"};
static struct report report;

static char *json(void)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    report_json(&report, file);
    fclose(file);
    return text;
}

static void reset(void)
{
    report = (struct report){.options = &options};
}

static void expect_has(const char *part)
{
    char *text = json();
    cr_expect_not_null(strstr(text, part), "%s is not in\n%s", part, text);
    free(text);
}

Test(bench_report, what_was_not_measured_is_null, .init = reset)
{
    expect_has("\"command\": \"publish\", \"driver\": \"sluice\"");
    expect_has("\"records\": null, \"bytes\": null, \"seconds\": null, \"records_per_s\": null, "
               "\"bytes_per_s\": null");
    expect_has("\"latency_us\": {\"p50\": null, \"p90\": null, \"p99\": null, \"p99_9\": null, "
               "\"p99_99\": null, \"max\": null}");
    expect_has("\"limits\": {\"socket_bytes_per_s\": null, \"wal_bytes_per_s\": null, "
               "\"pipeline_bytes_per_s\": null, \"fraction\": null}");
    expect_has("\"broker\": {\"cpu_s\": null, \"rss_bytes\": null, \"fdatasyncs\": null, "
               "\"device_bytes\": null}");
    expect_has("\"transactions\": {\"commits\": null, \"commits_per_s\": null, \"aborts\": null}");
    expect_has("\"claim\": null");
    expect_has("\"anomalies\": []");
}

Test(bench_report, a_claim_says_whether_it_holds_and_why, .init = reset)
{
    report.claim = (struct claim_figures){.name = "open-transaction",
                                          .known = true,
                                          .commit_p99_without_us = 100,
                                          .commit_p99_with_us = 120,
                                          .commit_change_percent = 20,
                                          .committed_records = 5,
                                          .received_records = 5,
                                          .lag = 3};
    expect_has("\"claim\": {\"name\": \"open-transaction\", \"holds\": false, "
               "\"commit_p99_without_us\": 100, \"commit_p99_with_us\": 120, "
               "\"commit_change_percent\": 20");
    expect_has("\"committed_records\": 5, \"received_records\": 5");
    expect_has("\"lag\": 3}");
}

Test(bench_report, rates_are_amounts_by_time, .init = reset)
{
    report.has_load = true;
    report.records = 3000;
    report.bytes = 6000000000;
    report.seconds = 1.5;
    expect_has(
        "\"records\": 3000, \"bytes\": 6000000000, \"seconds\": 1.5, \"records_per_s\": 2000, "
        "\"bytes_per_s\": 4000000000");
}

Test(bench_report, fraction_is_of_the_pipeline, .init = reset)
{
    report.has_load = true;
    report.bytes = 3000;
    report.seconds = 1;
    cr_expect_not(report_fraction(&report).known);
    report.limits.pipeline_bytes_per_s = figure_of(12000);
    expect_has("\"fraction\": 0.25");
}

Test(bench_report, latencies_are_microseconds, .init = reset)
{
    static struct histogram latency_ns;
    histogram_add(&latency_ns, 10);
    report.latency_ns = &latency_ns;
    expect_has("\"p50\": 0.01,");
    expect_has("\"max\": 0.01}");
}

Test(bench_report, texts_are_escaped, .init = reset)
{
    anomaly(&report, "a \"b\"\n\\");
    expect_has("\"topic\": \"t\\\"1\"");
    expect_has("\"anomalies\": [\"a \\\"b\\\"\\u000a\\\\\"]");
}

Test(bench_report, too_many_anomalies_are_counted, .init = reset)
{
    for (int i = 0; i < ANOMALIES_MAX + 3; i++)
        anomaly(&report, "number %d", i);
    expect_has("\"number 31\", \"and 3 more\"]");
}

Test(bench_report, a_file_that_cannot_be_written_fails, .init = reset)
{
    static struct bench_options bad = {.command_name = "publish",
                                       .driver = "sluice",
                                       .topic = "t",
                                       .output_path = "/no/such/dir/x"};
    report.options = &bad;
    cr_expect_eq(report_write_json(&report), 1);
}

/* What print functions wrote to standard output. */
static void print_is(const char *expected)
{
    cr_assert_eq(report_print(&report), 0);
    fflush(stdout);
    cr_assert_stdout_eq_str(expected);
}

static void reset_and_redirect(void)
{
    reset();
    cr_redirect_stdout();
}

Test(bench_report, people_see_only_what_was_measured, .init = reset_and_redirect)
{
    print_is("");
}

Test(bench_report, people_see_a_line_for_each_kind_of_figure, .init = reset_and_redirect)
{
    static struct histogram latency_ns;
    histogram_add(&latency_ns, 10);
    report.latency_ns = &latency_ns;
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
    print_is("publish     3000 records of 1000 B in 2.00 s\n"
             "rate        0.002 GB/s   1500 records/s\n"
             "latency us  p50 0.0 p90 0.0 p99 0.0 p99_9 0.0 p99_99 0.0 max 0.0   (1 samples)\n"
             "limits      socket 4.00 GB/s   WAL 3.00 GB/s   pipeline 0.00 GB/s\n"
             "fraction    50.0 % of the bare pipeline\n"
             "broker      CPU 1.50 s   12 fdatasyncs\n"
             "ANOMALY     a spare was waited for\n");
}

Test(bench_report, json_on_standard_output_stands_alone, .init = reset_and_redirect)
{
    static struct bench_options both = {
        .command_name = "publish", .driver = "sluice", .topic = "t", .output_path = "-"};
    report.options = &both;
    report.has_load = true;
    print_is("");
}
