/* sluicectl: the admin tool. Finds the command in one table and runs it.
 *
 * A command may be two words ("topic create"). Help exists at each level: sluicectl --help, sluicectl topic
 * --help, sluicectl topic create --help. */
#include <string.h>

#include "tools/ctl.h"

struct command {
    const char *group; // "topic", or NULL
    const char *name;
    command_fn run;
    const char *arguments;
    const char *summary;
    const char *help; // options, one per line
};

#define TOPIC_SET                                                                                  \
    "  --set KEY=VALUE     setting, may be repeated: retention_ms (7d, none), retention_bytes\n"   \
    "                      (10GiB, none), batch_bytes_max, validation (records|header),\n"         \
    "                      timestamp_type (create|append)\n"

static const struct command commands[] = {
    {NULL, "status", cmd_status, "",
     "is the broker well? exit 0 only when produce and consume work", ""},
    {"topic", "create", cmd_topic_create, "NAME [--partitions N] [--set k=v]...", "make a topic",
     "  --partitions N      1..16384, default 1\n" TOPIC_SET},
    {"topic", "list", cmd_topic_list, "", "all topics", ""},
    {"topic", "describe", cmd_topic_describe, "NAME", "settings, and offsets of each partition",
     ""},
    {"topic", "alter", cmd_topic_alter, "NAME [--partitions N] [--set k=v]...",
     "more partitions, other settings",
     "  --partitions N      more than now; keys may then map to other partitions\n" TOPIC_SET},
    {"topic", "delete", cmd_topic_delete, "NAME", "delete a topic with all its records", ""},
    {NULL, "produce", cmd_produce, "TOPIC [options]",
     "publish records from a file or standard input",
     "  --file FILE         instead of standard input\n"
     "  --key K             the same key for each record\n"
     "  --key-separator S   key and value are what stands before and after the first S\n"
     "  --header k=v        header of each record, may be repeated\n"
     "  --delimiter D       between records, default \\n (the last may lack it); \\n \\t \\0 "
     "\\xNN\n"
     "  --framing length    instead: 4-byte big-endian length, then the value's bytes\n"
     "  --partition P       instead of the key's, or any, partition\n"
     "  --compression C     none (default) or lz4\n"
     "  --transaction       all records or none: committed at the end of the input, aborted on\n"
     "                      failure; after a kill it ends by itself within 15 minutes\n"
     "Ends with \"N records acked\"; exit 0 only when all are. A topic is not made by publishing "
     "to it.\n"},
    {NULL, "consume", cmd_consume, "TOPIC [options]", "print records as they come",
     "  --from WHERE        beginning, end (default), an offset, @MS or @RFC3339 time\n"
     "  --group G           as a member of G, from its committed offsets (--from: where there are\n"
     "                      none); what was printed is committed\n"
     "  --partition P       only this one\n"
     "  --count N           stop after N records\n"
     "  --until-end         stop at the ends as they were at the start\n"
     "  --format FMT        default \"%v\\n\": %t topic %p partition %o offset %T time %k key\n"
     "                      %v value %h headers %% percent; \\n \\t \\0 \\xNN; nothing is added\n"
     "  --delimiter D       value and D instead of a format\n"
     "  --framing length    4-byte big-endian length, then the value's bytes\n"
     "Runs until SIGINT (exit 0) if nothing stops it.\n"},
    {"group", "list", cmd_group_list, "",
     "all consumer groups: name, state, members, committed offsets", ""},
    {"group", "describe", cmd_group_describe, "GROUP",
     "members with their partitions, offsets and how far behind they are", ""},
    {"group", "reset", cmd_group_reset, "GROUP --to WHERE [--topic T [--partition P]] [--dry-run]",
     "set a group's offsets; refused while it has members",
     "  --to WHERE          beginning, end, an offset, @MS or @RFC3339 time\n"
     "  --topic T           all partitions of T; default: all that the group has offsets of\n"
     "  --partition P       of T, only this one\n"
     "  --dry-run           only say what would be set\n"
     "Prints topic, partition, offset before and after.\n"},
    {"group", "delete", cmd_group_delete, "GROUP",
     "delete a group with its offsets; refused while it has members", ""},
    {"txn", "list", cmd_txn_list, "", "all transactional ids: id, state, age and time-out in ms",
     ""},
    {"txn", "describe", cmd_txn_describe, "ID", "what a transaction holds, by partition", ""},
    {"txn", "commit", cmd_txn_commit, "ID --force",
     "commit a prepared transaction in place of its program",
     "  --force             the other systems that take part have committed\n"},
    {"txn", "abort", cmd_txn_abort, "ID [--force]", "abort a transaction in place of its program",
     "  --force             also a prepared one: the other systems have aborted\n"},
    {"wal", "inspect", cmd_wal_inspect, "DIR [--shard N] [--verify] [--groups]",
     "what lies in a data directory; never writes; 0 intact, 3 damaged",
     "  --shard N           only this shard\n"
     "  --verify            check every checksum, not only headers\n"
     "  --groups            each group of the log\n"
     "The broker must be stopped.\n"},
    {"wal", "salvage", cmd_wal_salvage, "DIR --shard N --from LSN --to LSN --yes",
     "give up a damaged range of a log, so that the broker starts again",
     "  --shard N           the shard\n"
     "  --from LSN          first byte given up: what `wal inspect` names as the damage\n"
     "  --to LSN            one behind the last byte given up\n"
     "  --yes               without it only says what would be lost\n"
     "Everything from --from on that is not copied is lost for good. The broker must be "
     "stopped.\n"},
};

static int help_all(FILE *file);
static int help_group(FILE *file, const char *group);
static int help_command(FILE *file, const struct command *command);
static const struct command *find(const char *group, const char *name);
static bool is_group(const char *word);
static int run_words(struct ctl *ctl, int argc, char **argv);

int main(int argc, char **argv)
{
    static const struct option options[] = {{"version", no_argument, NULL, 'V'}, CTL_OPTIONS};
    struct ctl ctl = {.command = "", .help = NULL};
    opterr = 0;
    int option;
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case CTL_OPTION_SERVER:
            ctl.server = optarg;
            break;
        case CTL_OPTION_JSON:
            ctl.json = true;
            break;
        case CTL_OPTION_HELP:
            return help_all(stdout);
        case 'V':
            printf("sluicectl %s\n", sluice_version());
            return EXIT_DONE;
        default:
            fprintf(stderr, "sluicectl: unknown option or missing value: %s\n", argv[optind - 1]);
            help_all(stderr);
            return EXIT_USAGE;
        }
    }
    return run_words(&ctl, argc - optind, argv + optind);
}

static int run_words(struct ctl *ctl, int argc, char **argv)
{
    if (argc == 0) {
        help_all(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[0], "help") == 0)
        return argc > 1 && is_group(argv[1]) ? help_group(stdout, argv[1]) : help_all(stdout);
    bool group = is_group(argv[0]);
    if (group && argc > 1 && strcmp(argv[1], "--help") == 0)
        return help_group(stdout, argv[0]);
    const struct command *command =
        group ? (argc > 1 ? find(argv[0], argv[1]) : NULL) : find(NULL, argv[0]);
    if (!command) {
        fprintf(stderr, "sluicectl: unknown command: %s%s%s\n", argv[0],
                group && argc > 1 ? " " : "", group && argc > 1 ? argv[1] : "");
        (void)(group ? help_group(stderr, argv[0]) : help_all(stderr));
        return EXIT_USAGE;
    }
    static char name[64];
    snprintf(name, sizeof(name), "%s%s%s", command->group ? command->group : "",
             command->group ? " " : "", command->name);
    ctl->command = name;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return help_command(stdout, command);
    }
    int skip = command->group ? 1 : 0;
    optind = 0; // glibc: starts anew
    return command->run(ctl, argc - skip, argv + skip);
}

static bool is_group(const char *word)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i].group && strcmp(commands[i].group, word) == 0)
            return true;
    }
    return false;
}

static const struct command *find(const char *group, const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        const struct command *command = &commands[i];
        bool same_group =
            group && command->group ? strcmp(group, command->group) == 0 : group == command->group;
        if (same_group && strcmp(name, command->name) == 0)
            return command;
    }
    return NULL;
}

static void help_line(FILE *file, const struct command *command)
{
    fprintf(file, "  %s%s%s %s\n        %s\n", command->group ? command->group : "",
            command->group ? " " : "", command->name, command->arguments, command->summary);
}

static int help_all(FILE *file)
{
    fprintf(file, "usage: sluicectl [--server A:P] [--json] COMMAND\n\n"
                  "  --server A:P   the broker; default $SLUICE_SERVER, else 127.0.0.1:7650\n"
                  "  --json         one JSON object per line\n"
                  "  --version      --help (also behind each command)\n\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        help_line(file, &commands[i]);
    fprintf(file, "\nexit: 0 done, 1 failed, 2 usage\n");
    return EXIT_DONE;
}

static int help_group(FILE *file, const char *group)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (commands[i].group && strcmp(commands[i].group, group) == 0)
            help_line(file, &commands[i]);
    }
    return EXIT_DONE;
}

static int help_command(FILE *file, const struct command *command)
{
    fprintf(file, "usage: sluicectl [--server A:P] [--json] %s%s%s %s\n%s\n%s",
            command->group ? command->group : "", command->group ? " " : "", command->name,
            command->arguments, command->summary, command->help);
    return EXIT_DONE;
}
