/* sluice-bench: measures a broker, and the machine it runs on.
 *
 * The first word is a command of the table; its options are in options.c. Exit: 0 measured, and
 * nothing unexpected; 1 an anomaly (it is in the output), or nothing could be measured; 2 usage. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bench/command/claim.h"
#include "bench/command/compare.h"
#include "bench/command/consume.h"
#include "bench/bare/limits.h"
#include "bench/command/end_to_end.h"
#include "bench/command/publish.h"
#include "bench/command/sweep.h"
#include "bench/command/table.h"
#include "bench/command/transactions.h"
#include "bench/engine/undo.h"
#include "bench/report/report.h"

struct command {
    const char *name;
    enum bench_command command;
    int (*run)(struct bench_options *options);
    const char *summary;
};

static const struct command commands[] = {
    {"limits", BENCH_LIMITS, limits_main,
     "the bare limits of this machine: loopback socket, log, both in a pipeline"},
    {"publish", BENCH_PUBLISH, publish_main, "durable publishing: rate, and latency of acks"},
    {"consume", BENCH_CONSUME, consume_main, "reading a topic: rate"},
    {"end-to-end", BENCH_END_TO_END, end_to_end_main,
     "publishing and reading at once: latency from due to the consumer"},
    {"sweep", BENCH_SWEEP, sweep_main, "latency against load, and the highest rate of a p99"},
    {"transactions", BENCH_TRANSACTIONS, transactions_main,
     "commits a second, and latency of a commit"},
    {"claim", BENCH_CLAIM, claim_main, "shows whether something holds that is said of the broker"},
};

struct job {
    const struct command *command;
    struct bench_options *options;
};

static int run(const struct command *command, struct bench_options *options);
static int help(FILE *file);
static int help_command(const struct command *command);
static const struct command *find(const char *name);

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0))
        return help(stdout);
    if (argc >= 2 && strcmp(argv[1], "compare") == 0)
        return compare_main(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "table") == 0)
        return table_main(argc - 1, argv + 1);
    const struct command *command = argc >= 2 ? find(argv[1]) : NULL;
    if (!command) {
        if (argc >= 2)
            fprintf(stderr, "sluice-bench: unknown command: %s\n", argv[1]);
        help(stderr);
        return 2;
    }
    struct bench_options options = {.command = command->command};
    switch (options_parse(&options, argc - 1, argv + 1)) {
    case OPTIONS_OK:
        return report_check_files(&options) ? 1 : run(command, &options);
    case OPTIONS_HELP:
        return help_command(command);
    default:
        return 2;
    }
}

static int run_job(void *context)
{
    const struct job *job = context;
    return job->command->run(job->options);
}

/* What makes files of gigabytes or starts brokers has somebody who undoes that, however it ends. */
static int run(const struct command *command, struct bench_options *options)
{
    struct job job = {command, options};
    bool makes_things = options->limits_dir || command->command == BENCH_CLAIM;
    return makes_things ? undo_run(run_job, &job) : run_job(&job);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int help(FILE *file)
{
    fprintf(file, "usage: sluice-bench COMMAND [options]\n\n");
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        fprintf(file, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(file, "  %-12s %s\n", "compare", "OLD.json NEW.json: is the newer result worse?");
    fprintf(file, "  %-12s %s\n", "table", "RESULT.json...: medians of each label, as Markdown");
    fprintf(file, "\nsluice-bench COMMAND --help names the options\n");
    return 0;
}

static int help_command(const struct command *command)
{
    bool is_claim = command->command == BENCH_CLAIM;
    printf("usage: sluice-bench %s%s [options]\n%s\n\n", command->name, is_claim ? " NAME" : "",
           command->summary);
    if (is_claim) {
        claim_list(stdout);
        printf("\n");
    }
    options_help(command->command);
    return 0;
}
