/* sluicectl consume: prints records of all partitions, or one, until told to stop.
 *
 * --until-end notes each partition's visible end at the start and is done when every position has reached its own.
 * SIGINT and SIGTERM end the loop cleanly (exit 0). Output is flushed whenever nothing more is waiting. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tools/consume_group.h"
#include "tools/ctl.h"
#include "tools/format.h"

#define MESSAGES_PER_POLL 512
#define POLL_MS 200

struct consume {
    struct ctl *ctl;
    const char *topic;
    struct where from;
    struct consume_group group;
    uint32_t partition; // or ANY
    uint64_t count_max; // UINT64_MAX: no limit
    bool until_end;
    const char *format;
    long format_len;
    char *delimiter;
    long delimiter_len;
    bool framing_length;
    uint32_t partition_count;
    uint64_t *begins, *ends; // until_end: by partition
    uint64_t printed, bytes;
};

static volatile sig_atomic_t stopped;

static int parse(struct consume *c, int argc, char **argv);
static int run(struct consume *c, struct sluice_client *client);
static int run_in_group(struct consume *c, struct sluice_client *client);
static int note_ends(struct consume *c, struct sluice_client *client);
static bool is_at_end(struct consume *c, struct sluice_consumer *consumer);
static int loop(struct consume *c, struct sluice_consumer *consumer);
static void print_message(struct consume *c, const struct sluice_message *message);

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

int cmd_consume(struct ctl *ctl, int argc, char **argv)
{
    struct consume c = {.ctl = ctl,
                        .from.start = SLUICE_START_END,
                        .partition = SLUICE_PARTITION_ANY,
                        .count_max = UINT64_MAX,
                        .format = "%v\n",
                        .format_len = 3};
    int exit_code = parse(&c, argc, argv);
    if (exit_code)
        return exit_code;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    exit_code = run(&c, client);
    sluice_client_free(client);
    free(c.begins);
    free(c.ends);
    return exit_code;
}

static int run(struct consume *c, struct sluice_client *client)
{
    if (c->until_end) {
        int exit_code = note_ends(c, client);
        if (exit_code)
            return exit_code;
    }
    if (c->group.name)
        return run_in_group(c, client);
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    int status = sluice_consumer_new(client, &options, &consumer);
    if (status)
        return ctl_fail_status(c->ctl, status, "starting the consumer");
    int exit_code = EXIT_FAILED;
    status =
        sluice_consumer_subscribe(consumer, c->topic, c->partition, c->from.start, c->from.value);
    if (status)
        ctl_fail_status(c->ctl, status, c->topic);
    else
        exit_code = loop(c, consumer);
    sluice_consumer_free(consumer);
    return exit_code;
}

static int run_in_group(struct consume *c, struct sluice_client *client)
{
    c->group.ctl = c->ctl;
    c->group.topic = c->topic;
    int exit_code = consume_group_join(&c->group, client, &c->from);
    if (exit_code == EXIT_DONE)
        exit_code = loop(c, c->group.consumer);
    return consume_group_end(&c->group, exit_code);
}

static int note_ends(struct consume *c, struct sluice_client *client)
{
    struct sluice_topic *topics;
    uint32_t count;
    int status = sluice_topic_list(client, &c->topic, 1, &topics, &count);
    if (status)
        return ctl_fail_status(c->ctl, status, c->topic);
    c->partition_count = topics[0].partition_count;
    sluice_topics_free(topics, count);
    c->begins = calloc(c->partition_count, sizeof(*c->begins));
    c->ends = calloc(c->partition_count, sizeof(*c->ends));
    if (!c->begins || !c->ends)
        return ctl_fail(c->ctl, "out of memory");
    for (uint32_t i = 0; i < c->partition_count && status == 0; i++) {
        status = sluice_offset(client, c->topic, i, SLUICE_START_END, 0, &c->ends[i]);
        if (status == 0)
            status = sluice_offset(client, c->topic, i, SLUICE_START_BEGINNING, 0, &c->begins[i]);
    }
    return status ? ctl_fail_status(c->ctl, status, c->topic) : EXIT_DONE;
}

static bool is_at_end(struct consume *c, struct sluice_consumer *consumer)
{
    for (uint32_t i = 0; i < c->partition_count; i++) {
        if (c->partition != SLUICE_PARTITION_ANY && c->partition != i)
            continue;
        uint64_t position, visible_end;
        if (c->group.name) {
            if (!consume_group_is_at(&c->group, i, c->begins[i], c->ends[i]))
                return false;
            continue;
        }
        if (sluice_consumer_position(consumer, c->topic, i, &position, &visible_end) ||
            position < c->ends[i])
            return false;
    }
    return true;
}

/* Records that came behind the end noted at the start are not printed. */
static bool is_wanted(const struct consume *c, const struct sluice_message *message)
{
    return !c->until_end || message->partition >= c->partition_count ||
           message->offset < c->ends[message->partition];
}

static int loop(struct consume *c, struct sluice_consumer *consumer)
{
    static struct sluice_message messages[MESSAGES_PER_POLL];
    struct progress progress;
    progress_begin(&progress);
    int exit_code = EXIT_DONE;
    while (!stopped && c->printed < c->count_max && exit_code == EXIT_DONE) {
        if (c->until_end && is_at_end(c, consumer))
            break;
        consume_group_turn(&c->group);
        uint64_t wanted = c->count_max - c->printed;
        int max = wanted < MESSAGES_PER_POLL ? (int)wanted : MESSAGES_PER_POLL;
        int got = sluice_consumer_poll(consumer, messages, max, POLL_MS);
        if (got < 0) {
            const char *topic;
            uint32_t partition;
            sluice_consumer_error(consumer, &topic, &partition);
            char what[300];
            if (partition == SLUICE_PARTITION_ANY) // about all of them
                snprintf(what, sizeof(what), "%s", c->topic);
            else
                snprintf(what, sizeof(what), "%s partition %u", topic, partition);
            exit_code = ctl_fail_status(c->ctl, got, what);
            break;
        }
        for (int i = 0; i < got; i++) {
            if (is_wanted(c, &messages[i]))
                print_message(c, &messages[i]);
        }
        if (got < max)
            fflush(stdout);
        if (ferror(stdout))
            exit_code = ctl_fail(c->ctl, "writing to standard output: %s", strerror(errno));
        progress_show(&progress, "received", c->printed, c->bytes);
    }
    progress_end(&progress);
    if (fflush(stdout) && exit_code == EXIT_DONE)
        exit_code = ctl_fail(c->ctl, "writing to standard output: %s", strerror(errno));
    return exit_code;
}

static void print_message(struct consume *c, const struct sluice_message *message)
{
    c->printed++;
    c->bytes += message->value_len;
    if (c->group.name)
        consume_group_printed(&c->group, message);
    if (c->ctl->json) {
        format_print_json(stdout, message);
        return;
    }
    if (!c->framing_length && !c->delimiter) {
        format_print(stdout, c->format, c->format_len, message);
        return;
    }
    if (c->framing_length) {
        uint32_t len = __builtin_bswap32((uint32_t)message->value_len);
        fwrite(&len, 1, sizeof(len), stdout);
    }
    if (message->value)
        fwrite(message->value, 1, message->value_len, stdout);
    if (c->delimiter)
        fwrite(c->delimiter, 1, (size_t)c->delimiter_len, stdout);
}

/* ---- options ---- */

static int parse_format(struct consume *c, char *text)
{
    const char *why;
    c->format = text;
    c->format_len = format_compile(text, &why);
    return c->format_len < 0 ? ctl_usage(c->ctl, "--format: %s", why) : EXIT_DONE;
}

static int parse_option(struct consume *c, int option)
{
    uint64_t number;
    switch (option) {
    case 'f':
        return where_parse(c->ctl, "--from", optarg, &c->from);
    case 'p':
        if (!ctl_parse_u64(optarg, 0, 16383, &number))
            return ctl_usage(c->ctl, "--partition %s: allowed 0..16383", optarg);
        c->partition = (uint32_t)number;
        return EXIT_DONE;
    case 'n':
        if (!ctl_parse_u64(optarg, 0, UINT64_MAX - 1, &c->count_max))
            return ctl_usage(c->ctl, "--count %s: want a number", optarg);
        return EXIT_DONE;
    case 'u':
        c->until_end = true;
        return EXIT_DONE;
    case 'F':
        return parse_format(c, optarg);
    case 'd':
        c->delimiter = optarg;
        c->delimiter_len = text_unescape(optarg);
        return c->delimiter_len <= 0
                   ? ctl_usage(c->ctl, "--delimiter: want at least one byte; \\n \\t \\0 \\xNN")
                   : EXIT_DONE;
    case 'l':
        if (strcmp(optarg, "length") != 0)
            return ctl_usage(c->ctl, "--framing %s: only \"length\" is known", optarg);
        c->framing_length = true;
        return EXIT_DONE;
    default:
        c->group.name = optarg;
        return EXIT_DONE;
    }
}

static int parse(struct consume *c, int argc, char **argv)
{
    static const struct option options[] = {{"from", required_argument, NULL, 'f'},
                                            {"partition", required_argument, NULL, 'p'},
                                            {"count", required_argument, NULL, 'n'},
                                            {"until-end", no_argument, NULL, 'u'},
                                            {"format", required_argument, NULL, 'F'},
                                            {"delimiter", required_argument, NULL, 'd'},
                                            {"framing", required_argument, NULL, 'l'},
                                            {"group", required_argument, NULL, 'g'},
                                            CTL_OPTIONS};
    int option, exit_code = EXIT_DONE;
    while (exit_code == EXIT_DONE &&
           (option = ctl_option(c->ctl, argc, argv, options, &exit_code)) != -1) {
        if (option != '?')
            exit_code = parse_option(c, option);
    }
    if (exit_code == EXIT_DONE && c->delimiter && c->framing_length)
        exit_code = ctl_usage(c->ctl, "--delimiter and --framing exclude each other");
    if (exit_code == EXIT_DONE && c->group.name && c->partition != SLUICE_PARTITION_ANY)
        exit_code = ctl_usage(c->ctl, "--group and --partition exclude each other");
    if (exit_code == EXIT_DONE && c->group.name && c->from.start == SLUICE_START_OFFSET)
        exit_code = ctl_usage(c->ctl, "--group goes with --from beginning, end, or @TIME");
    if (exit_code == EXIT_DONE)
        exit_code = ctl_words(c->ctl, argc, argv, 1, "TOPIC");
    c->topic = argv[optind];
    return exit_code;
}
