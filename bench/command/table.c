/* `sluice-bench table`: a row for each label, in the order of the files; results of one label are repeats, of which each column has the median. A run
 * with an anomaly is counted and has no part in it. What none of them measured has no column. In Markdown, so that it can be read as it is and pasted. */
#include "bench/command/table.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "bench/report/json_path.h"
#include "bench/report/median.h"

struct column {
    const char *title;
    const char *path;
    double scale; // of the value
    int decimals;
};

static const struct column columns[] = {
    {"records/s", "records_per_s", 1, 0},
    {"MB/s", "bytes_per_s", 1e-6, 1},
    {"% of the bare pipeline", "limits.fraction", 100, 0},
    {"% of the bare disk read", "limits.read_fraction", 100, 0},
    {"ack p50 us", "latency_us.p50", 1, 0},
    {"p99", "latency_us.p99", 1, 0},
    {"p99.9", "latency_us.p99_9", 1, 0},
    {"delivery p50 us", "delivery_us.p50", 1, 0},
    {"p99", "delivery_us.p99", 1, 0},
    {"server CPU ns a record", "ratios.broker_cpu_ns_per_record", 1, 0},
    {"client CPU ns", "ratios.client_cpu_ns_per_record", 1, 0},
    {"server RSS MiB", "broker.rss_bytes", 1.0 / (1 << 20), 0},
    {"flushes/s", NULL, 1, 0},                    // of the disk
    {"bytes written a payload byte", NULL, 1, 2}, // to the disk
};
#define COLUMN_COUNT ARRAY_COUNT(columns)
#define FLUSHES_COLUMN (COLUMN_COUNT - 2)
#define WRITTEN_COLUMN (COLUMN_COUNT - 1)

struct results {
    json_t **all;
    int count;
    bool is_used[COLUMN_COUNT]; // at least one of them has it
};

static bool is_first_of_label(const struct results *results, int index);
static void look_at_columns(struct results *results);
static void print_head(const struct results *results);
static void print_row(const struct results *results, int first);

static const char *label_of(json_t *result)
{
    const char *label = json_string_value(json_at(result, "label"));
    return label ? label : json_string_value(json_at(result, "command"));
}

int table_main(int argc, char **argv)
{
    struct results results = {.all = calloc((size_t)argc, sizeof(json_t *))};
    bool is_help = argc > 1 && strcmp(argv[1], "--help") == 0;
    int status = argc < 2 || argv[1][0] == '-' || results.all == NULL ? 2 : 0;
    if (status)
        fprintf(
            is_help ? stdout : stderr,
            "usage: sluice-bench table RESULT.json...\n"
            "medians of each label, as Markdown, without those that failed; exit 1 when one did\n");
    if (is_help) {
        free(results.all);
        return 0;
    }
    for (int i = 1; i < argc && status == 0; i++) {
        results.all[results.count] = json_result_load("sluice-bench table", argv[i]);
        status = results.all[results.count] ? 0 : 2;
        results.count += status == 0;
    }
    if (status == 0) {
        look_at_columns(&results);
        print_head(&results);
        for (int i = 0; i < results.count; i++) {
            if (is_first_of_label(&results, i))
                print_row(&results, i);
            if (json_is_true(json_at(results.all[i], "failed")))
                status = 1;
        }
    }
    for (int i = 0; i < results.count; i++)
        json_decref(results.all[i]);
    free(results.all);
    return status;
}

static bool is_first_of_label(const struct results *results, int index)
{
    for (int i = 0; i < index; i++) {
        if (strcmp(label_of(results->all[i]), label_of(results->all[index])) == 0)
            return false;
    }
    return true;
}

/* Of the disk that the server's files lie on: whoever wrote to it. */
static bool disk_value(json_t *result, size_t column, double *value)
{
    json_t *amount =
        json_at(result, column == FLUSHES_COLUMN ? "disk.flushes" : "disk.write_bytes");
    json_t *by = json_at(result, column == FLUSHES_COLUMN ? "seconds" : "bytes");
    if (!json_is_number(amount) || !json_is_number(by) || json_number_value(by) <= 0)
        return false;
    *value = json_number_value(amount) / json_number_value(by);
    return true;
}

static bool value_of(json_t *result, size_t column, double *value)
{
    if (json_is_true(json_at(result, "failed")))
        return false;
    if (columns[column].path == NULL)
        return disk_value(result, column, value);
    json_t *found = json_at(result, columns[column].path);
    *value = json_number_value(found);
    return json_is_number(found);
}

static void look_at_columns(struct results *results)
{
    double value;
    for (size_t c = 0; c < COLUMN_COUNT; c++) {
        for (int i = 0; i < results->count; i++)
            results->is_used[c] |= value_of(results->all[i], c, &value);
    }
}

static void print_head(const struct results *results)
{
    printf("| | an ack means | runs |");
    for (size_t c = 0; c < COLUMN_COUNT; c++) {
        if (results->is_used[c])
            printf(" %s |", columns[c].title);
    }
    printf("\n|---|---|---|");
    for (size_t c = 0; c < COLUMN_COUNT; c++)
        printf("%s", results->is_used[c] ? "---|" : "");
    printf("\n");
}

static void print_row(const struct results *results, int first)
{
    const char *label = label_of(results->all[first]);
    const char *means = json_string_value(json_at(results->all[first], "durability.ack_means"));
    double *values = calloc((size_t)results->count, sizeof(double));
    int runs = 0, failed = 0;
    for (int i = first; i < results->count; i++) {
        bool is_of_it = strcmp(label_of(results->all[i]), label) == 0;
        runs += is_of_it;
        failed += is_of_it && json_is_true(json_at(results->all[i], "failed"));
    }
    printf("| %s | %s | %d", label, means ? means : "", runs);
    if (failed > 0)
        printf(", %d failed", failed);
    printf(" |");
    for (size_t c = 0; c < COLUMN_COUNT && values; c++) {
        uint32_t count = 0;
        for (int i = first; i < results->count; i++) {
            double value;
            if (strcmp(label_of(results->all[i]), label) == 0 &&
                value_of(results->all[i], c, &value))
                values[count++] = value * columns[c].scale;
        }
        if (!results->is_used[c])
            continue;
        if (count > 0)
            printf(" %.*f |", columns[c].decimals, median_of(values, count).median);
        else
            printf(" |");
    }
    printf("\n");
    free(values);
}
