/* What all faces of a report share: figures that follow from others, and where they go. */
#include "bench/report/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/engine/run.h"
#include "bench/report/median.h"
#include "bench/report/values.h"

static int write_file(const struct report *report, const char *path, bool is_html, json_t *json);

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

/* ---- figures that follow ---- */

static uint64_t records_of(const struct run_window *window)
{
    return window->acked > 0 ? window->acked : window->received;
}

double report_records_per_s(const struct report *report)
{
    double rates[WINDOWS_MAX];
    if (report->run == NULL || report->run->window_count == 0)
        return report->seconds > 0 ? (double)report->records / report->seconds : 0;
    for (uint32_t i = 0; i < report->run->window_count; i++)
        rates[i] = (double)records_of(&report->run->windows[i]) / report->run->windows[i].seconds;
    return median_of(rates, report->run->window_count).median;
}

double report_bytes_per_s(const struct report *report)
{
    double each = report->records > 0 ? (double)report->bytes / (double)report->records : 0;
    return report_records_per_s(report) * each;
}

static struct figure fraction_of(const struct report *report, struct figure limit)
{
    if (!report->has_load || !limit.known || limit.value <= 0 || report->seconds <= 0)
        return (struct figure){0};
    return figure_of(report_bytes_per_s(report) / limit.value);
}

struct figure report_fraction(const struct report *report)
{
    return fraction_of(report, report->limits.pipeline_bytes_per_s);
}

struct figure report_read_fraction(const struct report *report)
{
    if (!report->options->is_cold)
        return (struct figure){0};
    return fraction_of(report, report->limits.read_bytes_per_s);
}

void report_take_run(struct report *report, const struct run_result *run)
{
    report->run = run;
    report->has_load = true;
    report->records = report->bytes = 0;
    report->seconds = 0;
    for (uint32_t i = 0; i < run->window_count; i++) {
        const struct run_window *window = &run->windows[i];
        report->records += records_of(window);
        report->bytes +=
            window->acked > 0 ? window->acked * run->record_bytes : window->received_bytes;
        report->seconds += window->seconds;
    }
    if (run->window_count == 0)
        return;
    report_take_resources(report, &run->windows[0].before,
                          &run->windows[run->window_count - 1].after);
    if (report->records == 0)
        anomaly(report, "nothing was acked or received in the measured time");
}

void report_take_resources(struct report *report, const struct resources *before,
                           const struct resources *after)
{
    report->broker = (struct broker_figures){
        .cpu_s = figure_between(before->server.cpu_us, after->server.cpu_us, 1e-6),
        .rss_bytes = figure_between(0, after->server.rss_bytes, 1),
        .fdatasyncs = figure_between(before->server.fdatasyncs, after->server.fdatasyncs, 1),
        .device_bytes = figure_between(before->server.device_bytes, after->server.device_bytes, 1),
        .waits_for_spare =
            figure_between(before->server.waits_for_spare, after->server.waits_for_spare, 1),
    };
    if (report->broker.waits_for_spare.known && report->broker.waits_for_spare.value > 0 &&
        !report->options->is_sustained)
        anomaly(report, "the broker waited %.0f times for a prepared log file",
                report->broker.waits_for_spare.value);
}

/* ---- where it goes ---- */

static bool is_stdout(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

static bool is_stdout_taken(const struct bench_options *options)
{
    return is_stdout(options->output_path) || is_stdout(options->html_path);
}

FILE *report_progress(const struct bench_options *options)
{
    return is_stdout_taken(options) ? stderr : stdout;
}

/* A file that is there is opened, unless that would be heard of at a pipe's other end; one that is not is made and removed. */
static int check_file(const char *path)
{
    struct stat info;
    if (path == NULL || is_stdout(path))
        return 0;
    bool is_there = stat(path, &info) == 0;
    int fd = -1, error = 0;
    if (is_there && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
        error = access(path, W_OK) ? errno : 0;
    } else {
        fd = open(path, O_WRONLY | O_CLOEXEC | (is_there ? 0 : O_CREAT), 0666);
        error = fd < 0 ? errno : 0;
    }
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && !is_there)
        unlink(path);
    if (error)
        fprintf(stderr, "sluice-bench: %s: %s\n", path, strerror(error));
    return error ? -1 : 0;
}

int report_check_files(const struct bench_options *options)
{
    return check_file(options->output_path) || check_file(options->html_path) ? -1 : 0;
}

int report_finish(struct report *report)
{
    const struct bench_options *options = report->options;
    int status = report->anomalies.count > 0;
    if (!is_stdout_taken(options)) {
        report_text(report, stdout);
        if (fflush(stdout) != 0) {
            fprintf(stderr, "sluice-bench: standard output: %s\n", strerror(errno));
            status = 1;
        }
    }
    json_t *json = report_json(report);
    if (json == NULL) {
        fprintf(stderr, "sluice-bench: out of memory\n");
        return 1;
    }
    if (options->output_path && write_file(report, options->output_path, false, json))
        status = 1;
    if (options->html_path && write_file(report, options->html_path, true, json))
        status = 1;
    json_decref(json);
    return status;
}

static int write_file(const struct report *report, const char *path, bool is_html, json_t *json)
{
    FILE *file = is_stdout(path) ? stdout : fopen(path, "we");
    bool has_failed = file == NULL;
    if (file && is_html)
        has_failed = report_html(json, file) != 0;
    else if (file)
        has_failed = json_dumpf(json, file, JSON_INDENT(1) | JSON_REAL_PRECISION(7)) != 0 ||
                     fputc('\n', file) == EOF;
    has_failed |= file && fflush(file) != 0;
    if (file && file != stdout)
        has_failed |= fclose(file) != 0;
    if (has_failed)
        fprintf(stderr, "sluice-bench: %s: %s\n", path, strerror(errno));
    return has_failed;
}
