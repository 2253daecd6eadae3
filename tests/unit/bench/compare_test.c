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

Test(bench_compare, one_and_one_point_nought_are_one_setting)
{
    json_t *other = result(1000, 50);
    write_to(old_path, result(1000, 50));
    json_object_set_new(json_object_get(other, "settings"), "producers", json_real(2.0));
    write_to(new_path, other);
    cr_expect_eq(compare(NULL, NULL), 0);
}

static json_t *with_fact(json_t *json, const char *name, const char *value)
{
    json_object_set_new(json, "durability",
                        json_pack("{s:s, s:[{s:s, s:s, s:b}]}", "ack_means", "fdatasync", "facts",
                                  "name", name, "value", value, "fetched", 1));
    return json;
}

Test(bench_compare, other_servers_are_refused_but_for_their_version)
{
    write_to(old_path, with_fact(result(1000, 50), "cores", "1"));
    write_to(new_path, with_fact(result(1000, 50), "cores", "2"));
    cr_expect_eq(compare(NULL, NULL), 2);
    cr_expect_eq(compare("--any", NULL), 0);
    write_to(new_path, with_fact(result(1000, 50), "cores", "1"));
    cr_expect_eq(compare(NULL, NULL), 0);
    json_t *other = with_fact(result(1000, 50), "cores", "1");
    json_object_set_new(json_object_get(other, "durability"), "ack_means", json_string("nothing"));
    write_to(new_path, other);
    cr_expect_eq(compare(NULL, NULL), 2);
    write_to(old_path, with_fact(result(1000, 50), "redis_version", "7.0"));
    write_to(new_path, with_fact(result(1000, 50), "redis_version", "7.2"));
    cr_expect_eq(compare(NULL, NULL), 0);
}

Test(bench_compare, a_figure_that_is_gone_is_worse)
{
    json_t *other = result(1000, 50);
    json_object_set_new(json_object_get(other, "latency_us"), "p99", json_null());
    write_to(old_path, result(1000, 50));
    write_to(new_path, json_incref(other));
    cr_expect_eq(compare(NULL, NULL), 1);
    write_to(old_path, other);
    write_to(new_path, result(1000, 50));
    cr_expect_eq(compare(NULL, NULL), 0, "one that is new is not");
}

static json_t *with_claim(json_t *json, bool holds)
{
    json_object_set_new(json, "claim", json_pack("{s:s, s:b}", "name", "x", "holds", holds));
    return json;
}

Test(bench_compare, a_claim_that_held_must_hold)
{
    write_to(old_path, with_claim(result(1000, 50), true));
    write_to(new_path, with_claim(result(1000, 50), false));
    cr_expect_eq(compare(NULL, NULL), 1);
    write_to(new_path, result(1000, 50));
    cr_expect_eq(compare(NULL, NULL), 1);
    write_to(old_path, with_claim(result(1000, 50), false));
    write_to(new_path, with_claim(result(1000, 50), false));
    cr_expect_eq(compare(NULL, NULL), 0);
}

static json_t *with_device_bytes(json_t *json, double each, const char *source)
{
    json_object_set_new(json, "ratios",
                        json_pack("{s:f, s:s?}", "device_bytes_per_payload_byte", each,
                                  "device_bytes_source", source));
    return json;
}

Test(bench_compare, what_was_measured_in_another_way_is_not_judged)
{
    write_to(old_path, with_device_bytes(result(1000, 50), 1, NULL));
    write_to(new_path, with_device_bytes(result(1000, 50), 2, "device"));
    cr_expect_eq(compare(NULL, NULL), 0);
    write_to(old_path, with_device_bytes(result(1000, 50), 1, "device"));
    cr_expect_eq(compare(NULL, NULL), 1);
}

Test(bench_compare, help_is_told)
{
    cr_expect_eq(compare("--help", NULL), 0);
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
