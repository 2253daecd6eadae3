/* The command line of sluice-bench: what is taken, and that what is not allowed is refused. */
#include "bench/options.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <sched.h>
#include <string.h>

#include "bench/driver/driver.h"

#define PARSE(which, ...) parse(which, (const char *[]){"x", __VA_ARGS__, NULL})

static struct bench_options options;

static int parse(enum bench_command command, const char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    options = (struct bench_options){.command = command};
    return options_parse(&options, argc, (char **)argv);
}

Test(bench_options, units_of_sizes_and_times_are_understood)
{
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--record-size", "2KiB", "--batch-size=1MiB", "--duration",
                       "0.5", "--warm-up", "250ms", "--rate", "1000"),
                 OPTIONS_OK);
    cr_expect_eq(options.record_bytes, 2048);
    cr_expect_eq(options.batch_bytes, MIB);
    cr_expect_eq(options.duration_ns, NS_PER_S / 2);
    cr_expect_eq(options.warm_up_ns, NS_PER_S / 4);
    cr_expect_eq(options.rate, 1000);
}

Test(bench_options, plain_numbers_of_times_are_seconds)
{
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--duration", "3"), OPTIONS_OK);
    cr_expect_eq(options.duration_ns, 3 * NS_PER_S);
}

Test(bench_options, rate_max_is_no_rate)
{
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--rate", "5", "--rate", "max"), OPTIONS_OK);
    cr_expect_eq(options.rate, 0);
}

Test(bench_options, a_loop_is_open_unless_another_one_is_asked_for)
{
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--producers", "2"), OPTIONS_OK);
    cr_expect_eq(options.rate, 10000);
    cr_assert_eq(PARSE(BENCH_END_TO_END, "--consumers", "2"), OPTIONS_OK);
    cr_expect_eq(options.rate, 10000);
    cr_assert_eq(PARSE(BENCH_TRANSACTIONS, "--records", "2"), OPTIONS_OK);
    cr_expect_eq(options.rate, 1000);
    static const char *const others[][2] = {
        {"--rate", "max"}, {"--closed-loop", "8"}, {"--send-many", "64"}};
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        cr_assert_eq(PARSE(BENCH_PUBLISH, others[i][0], others[i][1]), OPTIONS_OK);
        cr_expect_eq(options.rate, 0, "%s", others[i][0]);
    }
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--lone"), OPTIONS_OK);
    cr_expect_eq(options.rate, 0);
    cr_assert_eq(PARSE(BENCH_SWEEP, "--steps", "3"), OPTIONS_OK);
    cr_expect_eq(options.rate, 0);
}

Test(bench_options, producers_share_threads_and_alone_is_a_closed_loop_of_one)
{
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--producers", "3"), OPTIONS_OK);
    cr_expect_eq(options.thread_count, 3);
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--producers", "5000", "--arrivals", "poisson"), OPTIONS_OK);
    cr_expect_eq(options.thread_count, 64);
    cr_expect(options.is_poisson);
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--lone"), OPTIONS_OK);
    cr_expect_eq(options.closed_loop, 1);
}

Test(bench_options, processors_are_two_numbers_or_any)
{
    char both[32];
    int cpu = sched_getcpu(); // one that this process may use
    snprintf(both, sizeof(both), "%d,%d", cpu, cpu);
    cr_assert_eq(PARSE(BENCH_LIMITS, "--cpus", both), OPTIONS_OK);
    cr_expect_eq(options.cpu_receive, cpu);
    cr_expect_eq(options.cpu_send, cpu);
    cr_expect_eq(PARSE(BENCH_LIMITS, "--cpus", "1023,1023"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_LIMITS, "--cpus", "5000,5000"), OPTIONS_USAGE);
    cr_assert_eq(PARSE(BENCH_LIMITS, "--cpus", "any"), OPTIONS_OK);
    cr_expect_eq(options.cpu_send, CPU_ANY);
    cr_expect_eq(PARSE(BENCH_LIMITS, "--cpus", "1"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_LIMITS, "--cpus", "1,-2"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_LIMITS, "--cpus", "1,2x"), OPTIONS_USAGE);
}

Test(bench_options, what_is_out_of_range_is_refused)
{
    static const char *const bad[][2] = {
        {"--partitions", "0"},    {"--partitions", "16385"}, {"--partitions", "-1"},
        {"--record-size", "0"},   {"--record-size", "5MiB"}, {"--record-size", "1KB"},
        {"--batch-size", "1023"}, {"--producers", "0"},      {"--producers", "10001"},
        {"--rate", "0"},          {"--rate", "fast"},        {"--duration", "0"},
        {"--duration", "-1"},     {"--duration", "nan"},     {"--compression", "zstd"},
        {"--driver", "other"},    {"--sample", "0"},         {"--in-flight", "0"},
        {"--wal-set", "1MiB"},    {"--unknown", "1"},        {"--partitions", ""},
        {"--arrivals", "normal"}, {"--repeat", "33"},        {"--closed-loop", "0"},
        {"--duration", "0.009"},  {"--duration", "5e-9"},    {"--rate", "1000000001"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        cr_expect_eq(PARSE(BENCH_PUBLISH, bad[i][0], bad[i][1]), OPTIONS_USAGE, "%s %s", bad[i][0],
                     bad[i][1]);
}

Test(bench_options, what_is_allowed_is_told, .init = cr_redirect_stderr)
{
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--rate", "abc"), OPTIONS_USAGE);
    cr_assert_eq(PARSE(BENCH_PUBLISH, "--duration", "0.001"), OPTIONS_USAGE);
    fflush(stderr);
    char text[1024];
    size_t len = fread(text, 1, sizeof(text) - 1, cr_get_redirected_stderr());
    text[len] = 0;
    cr_expect_not_null(strstr(text, "--rate abc: allowed 1..1000000000, or max\n"), "%s", text);
    cr_expect_not_null(strstr(text, "--duration 0.001: allowed 0.01..86400\n"), "%s", text);
}

Test(bench_options, a_sweep_chooses_its_rates_itself)
{
    cr_expect_eq(PARSE(BENCH_SWEEP, "--rate", "1000"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_SWEEP, "--closed-loop", "1"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_SWEEP, "--rate", "max"), OPTIONS_OK);
}

Test(bench_options, two_files_cannot_both_be_standard_output)
{
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--output", "-", "--html", "-"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--output", "-", "--html", "x"), OPTIONS_OK);
}

Test(bench_options, an_option_of_another_command_is_refused)
{
    cr_expect_eq(PARSE(BENCH_CONSUME, "--lone"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--from", "end"), OPTIONS_USAGE);
}

Test(bench_options, the_common_options_are_taken_by_every_command)
{
    static const enum bench_command commands[] = {BENCH_LIMITS,     BENCH_PUBLISH,
                                                  BENCH_CONSUME,    BENCH_TRANSACTIONS,
                                                  BENCH_END_TO_END, BENCH_SWEEP};
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        cr_expect_eq(PARSE(commands[i], "--server", "127.0.0.1:1", "--driver", "sluice", "--topic",
                           "t", "--partitions", "2", "--record-size", "100", "--batch-size",
                           "64KiB", "--producers", "3", "--rate", "max", "--duration", "1",
                           "--warm-up", "0", "--limits-dir", "/tmp", "--output", "-"),
                     OPTIONS_OK);
}

Test(bench_options, contradictions_are_refused)
{
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--lone", "--producers", "2"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--clients", "2"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_CONSUME, "--clients", "4", "--consumers", "4"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_CONSUME, "--clients", "2", "--producers", "9"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_END_TO_END, "--clients", "4", "--consumers", "4"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--buffer", "511KiB"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--buffer", "512KiB"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--buffer", "64GiB"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--buffer", "4KiB", "--batch-size", "1KiB"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_TRANSACTIONS, "--buffer", "512KiB", "--batch-size", "4MiB"),
                 OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--in-flight", "6"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--in-flight", "6", "--not-idempotent"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_END_TO_END, "--record-size", "23"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--closed-loop", "5", "--rate", "10"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--closed-loop", "5", "--producers", "1025"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_CONSUME, "--cold"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_CONSUME, "--cold", "--data-dir", ".", "--from", "end"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--send-many", "64", "--rate", "1000"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--send-many", "64", "--lone"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--send-many", "257"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--send-many", "256"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "stray"), OPTIONS_USAGE);
    if (driver_find("kafka"))
        cr_expect_eq(PARSE(BENCH_TRANSACTIONS, "--driver", "kafka"), OPTIONS_USAGE);
}

Test(bench_options, a_claim_has_a_name_and_defaults_of_its_own)
{
    cr_assert_eq(PARSE(BENCH_CLAIM, "open-transaction", "--topic", "t"), OPTIONS_OK);
    cr_expect_str_eq(options.claim, "open-transaction");
    cr_expect_eq(options.rate, 1000);
    cr_expect_eq(options.hold_ns, NS_PER_S);
    cr_expect_eq(PARSE(BENCH_CLAIM, "open-transaction", "--hold", "14m"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_CLAIM, "open-transaction", "--hold", "15m"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_CLAIM, "open-transaction", "--rate", "max"), OPTIONS_USAGE,
                 "without room there is no latency to speak of");
    cr_expect_eq(options.record_bytes, 100);
    cr_expect_eq(PARSE(BENCH_CLAIM, "open-transaction", "--record-size", "7"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_TRANSACTIONS, "open-transaction"), OPTIONS_USAGE);
    cr_assert_eq(PARSE(BENCH_CLAIM, "recovery", "--fill", "1GiB", "--io", "epoll"), OPTIONS_OK);
    cr_expect_eq(options.partition_count, 10000);
    cr_expect_eq(options.record_bytes, KIB);
    cr_expect_eq(options.fill_bytes, GIB);
    cr_expect_eq(PARSE(BENCH_CLAIM, "recovery", "--io", "select"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--fill", "1GiB"), OPTIONS_USAGE);
}

Test(bench_options, transactions_have_a_size_and_a_share_of_aborts)
{
    cr_assert_eq(PARSE(BENCH_TRANSACTIONS, "--records", "7", "--aborts", "30", "--clients", "1"),
                 OPTIONS_OK);
    cr_expect_eq(options.records_each, 7);
    cr_expect_eq(options.abort_percent, 30);
    cr_expect_eq(PARSE(BENCH_TRANSACTIONS, "--repeat", "3", "--arrivals", "poisson"), OPTIONS_OK);
    cr_expect_eq(PARSE(BENCH_TRANSACTIONS, "--aborts", "101"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_TRANSACTIONS, "--records", "0"), OPTIONS_USAGE);
    cr_expect_eq(PARSE(BENCH_PUBLISH, "--aborts", "1"), OPTIONS_USAGE);
}

Test(bench_options, reading_from_the_end_ends_by_itself)
{
    cr_assert_eq(PARSE(BENCH_CONSUME, "--from", "end"), OPTIONS_OK);
    cr_expect_gt(options.duration_ns, 0);
}

/* Help of a command names what it takes, and nothing else. */
Test(bench_options, help_lists_what_a_command_takes, .init = cr_redirect_stdout)
{
    options_help(BENCH_CONSUME);
    fflush(stdout);
    char text[8192];
    size_t len = fread(text, 1, sizeof(text) - 1, cr_get_redirected_stdout());
    text[len] = 0;
    cr_expect_not_null(strstr(text, "  --from beginning|end"));
    cr_expect_not_null(strstr(text, "  --topic "));
    cr_expect_null(strstr(text, "--lone"));
    cr_expect_eq(PARSE(BENCH_CONSUME, "--help"), OPTIONS_HELP);
}
