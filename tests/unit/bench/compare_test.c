/* Is a result worse than another? */
#include "bench/command/compare.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[] = "/tmp/sluice-compare-XXXXXX";
static char old_path[64], new_path[64];

static void set_up(void)
{
    cr_redirect_stdout();
    cr_redirect_stderr();
    cr_assert_not_null(mkdtemp(directory));
    snprintf(old_path, sizeof(old_path), "%s/old", directory);
    snprintf(new_path, sizeof(new_path), "%s/new", directory);
}

static void tear_down(void)
{
    unlink(old_path);
    unlink(new_path);
    rmdir(directory);
}

TestSuite(bench_compare, .init = set_up, .fini = tear_down);

static json_t *result(double rate, double p99)
{
    return json_pack("{s:s, s:s, s:b, s:f, s:{s:f}, s:{s:i, s:s}}", "command", "publish", "driver",
                     "sluice", "failed", 0, "records_per_s", rate, "latency_us", "p99", p99,
                     "settings", "producers", 2, "topic", "a");
}

static void write_to(const char *path, json_t *json)
{
    cr_assert_eq(json_dump_file(json, path, 0), 0);
    json_decref(json);
}

static int compare(const char *option, const char *value)
{
    char name[] = "compare";
    char *argv[] = {name, old_path, new_path, (char *)option, (char *)value, NULL};
    return compare_main(option ? value ? 5 : 4 : 3, argv);
}

Test(bench_compare, what_is_as_good_or_better_passes)
{
    write_to(old_path, result(1000, 50));
    write_to(new_path, result(2000, 20));
    cr_expect_eq(compare(NULL, NULL), 0);
    write_to(new_path, result(950, 54));
    cr_expect_eq(compare(NULL, NULL), 0, "within ten percent");
}

Test(bench_compare, a_lower_rate_and_a_higher_latency_are_worse)
{
    write_to(old_path, result(1000, 50));
    write_to(new_path, result(880, 50));
    cr_expect_eq(compare(NULL, NULL), 1);
    cr_expect_eq(compare("--threshold", "15"), 0);
    write_to(new_path, result(1000, 56));
    cr_expect_eq(compare(NULL, NULL), 1);
}

static json_t *with_fraction(json_t *json, double fraction)
{
    json_object_set_new(json, "limits", json_pack("{s:f}", "fraction", fraction));
    return json;
}

Test(bench_compare, with_limits_a_rate_is_judged_by_its_fraction)
{
    write_to(old_path, with_fraction(result(1000, 50), 0.5));
    write_to(new_path, with_fraction(result(500, 50), 0.5));
    cr_expect_eq(compare(NULL, NULL), 0, "the machine was half as fast");
    write_to(new_path, with_fraction(result(1000, 50), 0.4));
    cr_expect_eq(compare(NULL, NULL), 1);
}

static json_t *with_spread(json_t *json, double min, double max)
{
    json_object_set_new(json, "repeats", json_pack("[{}, {}, {}]"));
    json_object_set_new(json, "spread",
                        json_pack("{s:{s:f, s:f}}", "records_per_s", "min", min, "max", max));
    return json;
}

Test(bench_compare, ranges_that_touch_are_no_difference)
{
    write_to(old_path, with_spread(result(1000, 50), 800, 1200));
    write_to(new_path, with_spread(result(700, 50), 600, 850));
    cr_expect_eq(compare(NULL, NULL), 0);
    write_to(new_path, with_spread(result(700, 50), 600, 790));
    cr_expect_eq(compare(NULL, NULL), 1);
}

Test(bench_compare, a_run_with_anomalies_is_no_result)
{
    json_t *failed = result(1000, 50);
    json_object_set_new(failed, "failed", json_true());
    write_to(old_path, result(1000, 50));
    write_to(new_path, failed);
    cr_expect_eq(compare(NULL, NULL), 1);
}

Test(bench_compare, other_settings_are_refused_but_for_the_topic)
{
    json_t *other = result(1000, 50);
    write_to(old_path, result(1000, 50));
    json_object_set_new(json_object_get(other, "settings"), "topic", json_string("b"));
    write_to(new_path, json_incref(other));
    cr_expect_eq(compare(NULL, NULL), 0);
    json_object_set_new(json_object_get(other, "settings"), "producers", json_integer(3));
    write_to(new_path, other);
    cr_expect_eq(compare(NULL, NULL), 2);
    cr_expect_eq(compare("--any", NULL), 0);
}

Test(bench_compare, what_is_no_result_is_refused)
{
    write_to(old_path, result(1000, 50));
    write_to(new_path, json_pack("{s:i}", "a", 1));
    cr_expect_eq(compare(NULL, NULL), 2);
    FILE *file = fopen(new_path, "w");
    fputs("{", file);
    fclose(file);
    cr_expect_eq(compare(NULL, NULL), 2);
    unlink(new_path);
    cr_expect_eq(compare(NULL, NULL), 2);
}

Test(bench_compare, a_bad_command_line_is_usage)
{
    write_to(old_path, result(1000, 50));
    write_to(new_path, result(1000, 50));
    cr_expect_eq(compare("--threshold", "-1"), 2);
    cr_expect_eq(compare("--threshold", "nan"), 2);
    cr_expect_eq(compare("--threshold", ""), 2);
    cr_expect_eq(compare("--threshold", NULL), 2);
    cr_expect_eq(compare("third.json", NULL), 2);
}
