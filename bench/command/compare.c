/* `sluice-bench compare`.
 *
 * Each figure of the table that both files have is compared in its direction. Worse means: by more than the threshold, and, when both runs
 * were repeated, with ranges from least to greatest that do not touch: on a shared machine two medians differ by themselves.
 *
 * Where both runs measured the machine's limits, rates are judged as a fraction of them and shown as they are: what the machine did
 * at that hour is in both sides of the fraction. A figure that only the old result has, and a claim that held and does not any more, are worse, too.
 * Results of other commands, drivers, settings or servers are refused, unless --any. */
#include "bench/command/compare.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "bench/report/json_path.h"

#define THRESHOLD_PERCENT 10

enum direction { HIGHER_IS_BETTER, LOWER_IS_BETTER };

struct figure_row {
    const char *path; // keys, separated by dots
    enum direction direction;
    bool by_fraction;   // shown only, where both have limits.fraction
    const char *spread; // its least and greatest; NULL: there are none
    const char
        *source; // how it was measured, which must be the same in both; NULL: there is one way
};

static const struct figure_row rows[] = {
    {"limits.fraction", HIGHER_IS_BETTER, false, NULL, NULL},
    {"records_per_s", HIGHER_IS_BETTER, true, "spread.records_per_s", NULL},
    {"bytes_per_s", HIGHER_IS_BETTER, true, NULL, NULL},
    {"latency_us.p50", LOWER_IS_BETTER, false, "spread.p50_us", NULL},
    {"latency_us.p99", LOWER_IS_BETTER, false, "spread.p99_us", NULL},
    {"latency_us.p99_9", LOWER_IS_BETTER, false, NULL, NULL},
    {"delivery_us.p50", LOWER_IS_BETTER, false, NULL, NULL},
    {"delivery_us.p99", LOWER_IS_BETTER, false, NULL, NULL},
    {"transactions.commits_per_s", HIGHER_IS_BETTER, false, NULL, NULL},
    {"highest_rate.records_per_s", HIGHER_IS_BETTER, false, NULL, NULL},
    {"ratios.broker_cpu_ns_per_record", LOWER_IS_BETTER, false, NULL, NULL},
    {"ratios.client_cpu_ns_per_record", LOWER_IS_BETTER, false, NULL, NULL},
    {"ratios.device_bytes_per_payload_byte", LOWER_IS_BETTER, false, NULL,
     "ratios.device_bytes_source"},
    {"broker.rss_bytes", LOWER_IS_BETTER, false, NULL, NULL},
};

struct comparison {
    const char *paths[2];
    json_t *results[2]; // old, new
    double threshold_percent;
    bool any;
};

static int help(FILE *file);
static int parse(struct comparison *comparison, int argc, char **argv);
static int load(struct comparison *comparison);
static bool are_alike(const struct comparison *comparison);
static bool compare_row(const struct comparison *comparison, const struct figure_row *row);
static bool compare_claims(const struct comparison *comparison);

int compare_main(int argc, char **argv)
{
    struct comparison comparison = {.threshold_percent = THRESHOLD_PERCENT};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return help(stdout);
    }
    int status = parse(&comparison, argc, argv);
    if (status == 0)
        status = load(&comparison);
    if (status == 0 && !comparison.any && !are_alike(&comparison))
        status = 2;
    if (status == 0) {
        printf("%-38s %14s %14s %9s\n", "", "old", "new", "change");
        for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
            status |= compare_row(&comparison, &rows[i]);
        status |= compare_claims(&comparison);
        for (int i = 0; i < 2; i++) {
            if (json_is_true(json_object_get(comparison.results[i], "failed"))) {
                printf("%s: the run had anomalies: it is no result\n", comparison.paths[i]);
                status = 1;
            }
        }
    }
    json_decref(comparison.results[0]);
    json_decref(comparison.results[1]);
    return status;
}

static int help(FILE *file)
{
    fprintf(file,
            "usage: sluice-bench compare OLD.json NEW.json [--threshold PERCENT] [--any]\n"
            "is the newer result worse? exit 0 no, 1 yes, 2 they cannot be compared\n\n"
            "  --threshold PERCENT  how much worse a figure may be, 0..1000; default %d\n"
            "  --any                also results of other commands, drivers, settings or servers\n",
            THRESHOLD_PERCENT);
    return 0;
}

static int usage(void)
{
    (void)help(stderr);
    return 2;
}

static int parse(struct comparison *comparison, int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        char *end;
        if (strcmp(argv[i], "--any") == 0) {
            comparison->any = true;
        } else if (strcmp(argv[i], "--threshold") == 0 && i + 1 < argc) {
            comparison->threshold_percent = strtod(argv[++i], &end);
            if (*argv[i] == '\0' || *end || !(comparison->threshold_percent >= 0) ||
                comparison->threshold_percent > 1000) {
                fprintf(stderr, "sluice-bench compare: --threshold %s: allowed 0..1000\n", argv[i]);
                return usage();
            }
        } else if (argv[i][0] == '-' || count == 2) {
            fprintf(stderr, "sluice-bench compare: unexpected: %s\n", argv[i]);
            return usage();
        } else {
            comparison->paths[count++] = argv[i];
        }
    }
    return count == 2 ? 0 : usage();
}

static int load(struct comparison *comparison)
{
    for (int i = 0; i < 2; i++) {
        comparison->results[i] = json_result_load("sluice-bench compare", comparison->paths[i]);
        if (comparison->results[i] == NULL)
            return 2;
    }
    return 0;
}

/* ---- may they be compared? ---- */

static void tell_difference(const char *what, const json_t *old, const json_t *new)
{
    char *texts[2] = {json_dumps(old, JSON_ENCODE_ANY), json_dumps(new, JSON_ENCODE_ANY)};
    fprintf(stderr, "sluice-bench compare: %s differs: %s and %s (--any compares all the same)\n",
            what, texts[0] ? texts[0] : "nothing", texts[1] ? texts[1] : "nothing");
    free(texts[0]);
    free(texts[1]);
}

/* What one of them does not have says nothing: an older result. 1 and 1.0 are one number. */
static bool is_alike(const char *what, const json_t *old, const json_t *new)
{
    if (old == NULL || new == NULL || json_equal(old, new) ||
        (json_is_number(old) && json_is_number(new) &&
         json_number_value(old) == json_number_value(new)))
        return true;
    tell_difference(what, old, new);
    return false;
}

/* The topic's name says nothing about the load. */
static bool are_settings_alike(json_t *old, json_t *new)
{
    bool alike = true;
    const char *key;
    json_t *value;
    json_object_foreach(old, key, value)
    {
        if (strcmp(key, "topic") != 0)
            alike &= is_alike(key, value, json_object_get(new, key));
    }
    return alike;
}

/* What the servers told of themselves; two versions of one are what is compared. */
static bool are_servers_alike(json_t *old, json_t *new)
{
    bool alike = true;
    size_t i, k;
    json_t *fact, *other;
    json_array_foreach(old, i, fact)
    {
        const char *name = json_string_value(json_object_get(fact, "name"));
        if (name == NULL || strstr(name, "version"))
            continue;
        json_array_foreach(new, k, other)
        {
            const char *other_name = json_string_value(json_object_get(other, "name"));
            if (other_name && strcmp(name, other_name) == 0)
                alike &=
                    is_alike(name, json_object_get(fact, "value"), json_object_get(other, "value"));
        }
    }
    return alike;
}

static bool are_alike(const struct comparison *comparison)
{
    static const char *const same[] = {"command", "driver", "claim.name", "durability.ack_means"};
    json_t *old = comparison->results[0], *new = comparison->results[1];
    bool alike = are_settings_alike(json_at(old, "settings"), json_at(new, "settings"));
    alike &= are_servers_alike(json_at(old, "durability.facts"), json_at(new, "durability.facts"));
    for (size_t i = 0; i < ARRAY_COUNT(same); i++)
        alike &= is_alike(same[i], json_at(old, same[i]), json_at(new, same[i]));
    return alike;
}

/* ---- figures ---- */

/* True when both runs have a least and a greatest value and the ranges have something in common. */
static bool ranges_touch(const struct comparison *comparison, const char *spread)
{
    double min[2], max[2];
    for (int i = 0; i < 2; i++) {
        json_t *range = spread ? json_at(comparison->results[i], spread) : NULL;
        if (range == NULL || json_array_size(json_at(comparison->results[i], "repeats")) < 2)
            return false;
        min[i] = json_number_value(json_object_get(range, "min"));
        max[i] = json_number_value(json_object_get(range, "max"));
    }
    return min[0] <= max[1] && min[1] <= max[0];
}

/* Older results told the log's own figure. */
static bool is_measured_alike(const struct comparison *comparison, const struct figure_row *row)
{
    const char *sources[2];
    for (int i = 0; i < 2; i++) {
        json_t *source = row->source ? json_at(comparison->results[i], row->source) : NULL;
        sources[i] = json_is_string(source) ? json_string_value(source) : "log";
    }
    return strcmp(sources[0], sources[1]) == 0;
}

/* Prints the row, if the old one has it. Returns true when it got worse. */
static bool compare_row(const struct comparison *comparison, const struct figure_row *row)
{
    json_t *old_value = json_at(comparison->results[0], row->path),
           *new_value = json_at(comparison->results[1], row->path);
    if (!json_is_number(old_value))
        return false;
    double old = json_number_value(old_value), new = json_number_value(new_value);
    if (!json_is_number(new_value)) {
        printf("%-38s %14.6g %14s %9s  WORSE\n", row->path, old, "none", "");
        return true;
    }
    double change = old > 0 ? 100 * (new - old) / old : 0;
    double worse = row->direction == HIGHER_IS_BETTER ? -change : change;
    bool has_fractions = json_is_number(json_at(comparison->results[0], "limits.fraction")) &&
                         json_is_number(json_at(comparison->results[1], "limits.fraction"));
    bool is_worse = worse > comparison->threshold_percent;
    const char *verdict = "";
    if (!is_measured_alike(comparison, row))
        verdict = "  (measured in another way)";
    else if (is_worse && row->by_fraction && has_fractions)
        verdict = "  (judged by the fraction)";
    else if (is_worse && ranges_touch(comparison, row->spread))
        verdict = "  (within the spread)";
    else if (is_worse)
        verdict = "  WORSE";
    printf("%-38s %14.6g %14.6g %+8.1f%%%s\n", row->path, old, new, change, verdict);
    return strcmp(verdict, "  WORSE") == 0;
}

static bool compare_claims(const struct comparison *comparison)
{
    json_t *old = json_at(comparison->results[0], "claim.holds"),
           *new = json_at(comparison->results[1], "claim.holds");
    if (!json_is_boolean(old))
        return false;
    bool is_worse = json_is_true(old) && !json_is_true(new);
    printf("%-38s %14s %14s %9s%s\n", "claim.holds", json_is_true(old) ? "yes" : "no",
           json_is_true(new) ? "yes" : "no", "", is_worse ? "  WORSE" : "");
    return is_worse;
}
