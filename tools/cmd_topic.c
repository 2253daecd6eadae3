/* sluicectl topic create | list | describe | alter | delete */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "tools/ctl.h"

#define SETTINGS_MAX 32

struct change { // options of create and alter
    const char *name;
    uint64_t partitions; // 0: not given
    struct sluice_setting settings[SETTINGS_MAX];
    uint32_t setting_count;
};

static int parse_change(struct ctl *ctl, int argc, char **argv, struct change *change);
static int parse_name(struct ctl *ctl, int argc, char **argv, const char **name);
static int finish(struct ctl *ctl, struct sluice_client *client, int status, const char *name,
                  const char *done);

int cmd_topic_create(struct ctl *ctl, int argc, char **argv)
{
    struct change change = {0};
    int exit_code = parse_change(ctl, argc, argv, &change);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    uint32_t partitions = change.partitions ? (uint32_t)change.partitions : 1;
    int status =
        sluice_topic_create(client, change.name, partitions, change.settings, change.setting_count);
    return finish(ctl, client, status, change.name, "created");
}

int cmd_topic_alter(struct ctl *ctl, int argc, char **argv)
{
    struct change change = {0};
    int exit_code = parse_change(ctl, argc, argv, &change);
    if (exit_code)
        return exit_code;
    if (change.partitions == 0 && change.setting_count == 0)
        return ctl_usage(ctl, "nothing to alter: give --partitions or --set");
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    int status = sluice_topic_alter(client, change.name, (uint32_t)change.partitions,
                                    change.settings, change.setting_count);
    return finish(ctl, client, status, change.name, "altered");
}

int cmd_topic_delete(struct ctl *ctl, int argc, char **argv)
{
    const char *name;
    int exit_code = parse_name(ctl, argc, argv, &name);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    return finish(ctl, client, sluice_topic_delete(client, name), name, "deleted");
}

static int finish(struct ctl *ctl, struct sluice_client *client, int status, const char *name,
                  const char *done)
{
    int exit_code = EXIT_DONE;
    if (status) {
        exit_code = ctl_fail_status(ctl, status, name);
    } else if (ctl->json) {
        struct json json;
        json_begin(&json, stdout);
        json_string(&json, "topic", name);
        json_string(&json, "result", done);
        json_end(&json);
    } else {
        printf("topic %s %s\n", name, done);
    }
    sluice_client_free(client);
    return exit_code;
}

static int parse_setting(struct ctl *ctl, struct change *change, char *text)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return ctl_usage(ctl, "--set %s: want KEY=VALUE", text);
    if (change->setting_count == SETTINGS_MAX)
        return ctl_usage(ctl, "--set: at most %d", SETTINGS_MAX);
    *equals = 0;
    change->settings[change->setting_count++] = (struct sluice_setting){text, equals + 1};
    return EXIT_DONE;
}

static int parse_change(struct ctl *ctl, int argc, char **argv, struct change *change)
{
    static const struct option options[] = {{"partitions", required_argument, NULL, 'p'},
                                            {"set", required_argument, NULL, 's'},
                                            CTL_OPTIONS};
    int option, exit_code = EXIT_DONE;
    while (exit_code == EXIT_DONE &&
           (option = ctl_option(ctl, argc, argv, options, &exit_code)) != -1) {
        if (option == 's')
            exit_code = parse_setting(ctl, change, optarg);
        else if (option == 'p' && !ctl_parse_u64(optarg, 1, 16384, &change->partitions))
            exit_code = ctl_usage(ctl, "--partitions %s: allowed 1..16384", optarg);
    }
    if (exit_code == EXIT_DONE)
        exit_code = ctl_words(ctl, argc, argv, 1, "NAME");
    if (exit_code == EXIT_DONE)
        change->name = argv[optind];
    return exit_code;
}

static int parse_name(struct ctl *ctl, int argc, char **argv, const char **name)
{
    static const struct option options[] = {CTL_OPTIONS};
    int exit_code;
    if (ctl_option(ctl, argc, argv, options, &exit_code) != -1)
        return exit_code;
    if (ctl_words(ctl, argc, argv, 1, "NAME"))
        return EXIT_USAGE;
    *name = argv[optind];
    return EXIT_DONE;
}

/* ---- list and describe ---- */

static void put_topic(struct json *json, const struct sluice_topic *topic)
{
    json_string(json, "topic", topic->name);
    json_u64(json, "topic_id", topic->topic_id);
    json_u64(json, "partitions", topic->partition_count);
    json_u64(json, "created_ms", topic->created_ms);
    json_open(json, "settings", '{');
    for (uint32_t i = 0; i < topic->setting_count; i++)
        json_string(json, topic->settings[i].key, topic->settings[i].value);
    json_close(json, '}');
}

int cmd_topic_list(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {CTL_OPTIONS};
    int exit_code;
    if (ctl_option(ctl, argc, argv, options, &exit_code) != -1)
        return exit_code;
    if (ctl_words(ctl, argc, argv, 0, ""))
        return EXIT_USAGE;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    struct sluice_topic *topics;
    uint32_t count;
    int status = sluice_topic_list(client, NULL, 0, &topics, &count);
    sluice_client_free(client);
    if (status)
        return ctl_fail_status(ctl, status, "asking the broker");
    for (uint32_t i = 0; i < count; i++) {
        if (ctl->json) {
            struct json json;
            json_begin(&json, stdout);
            put_topic(&json, &topics[i]);
            json_end(&json);
        } else {
            printf("%s\t%u\n", topics[i].name, topics[i].partition_count);
        }
    }
    sluice_topics_free(topics, count);
    return EXIT_DONE;
}

struct range {
    uint64_t start, end;
};

static int find_range(struct sluice_client *client, const char *name, uint32_t partition,
                      struct range *range)
{
    int status = sluice_offset(client, name, partition, SLUICE_START_BEGINNING, 0, &range->start);
    return status ? status
                  : sluice_offset(client, name, partition, SLUICE_START_END, 0, &range->end);
}

static int describe_json(struct sluice_client *client, const struct sluice_topic *topic)
{
    struct json json;
    json_begin(&json, stdout);
    put_topic(&json, topic);
    json_open(&json, "offsets", '[');
    int status = 0;
    for (uint32_t i = 0; i < topic->partition_count && status == 0; i++) {
        struct range range = {0};
        status = find_range(client, topic->name, i, &range);
        json_open(&json, NULL, '{');
        json_u64(&json, "partition", i);
        json_u64(&json, "log_start", range.start);
        json_u64(&json, "visible_end", range.end);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_end(&json);
    return status;
}

static int describe_text(struct sluice_client *client, const struct sluice_topic *topic)
{
    char created[UNITS_TEXT_MAX];
    printf("topic       %s\nid          %u\npartitions  %u\ncreated     %s\n", topic->name,
           topic->topic_id, topic->partition_count, units_format_time(topic->created_ms, created));
    for (uint32_t i = 0; i < topic->setting_count; i++)
        printf("%s = %s\n", topic->settings[i].key, topic->settings[i].value);
    printf("partition  log_start  visible_end  records\n");
    for (uint32_t i = 0; i < topic->partition_count; i++) {
        struct range range;
        int status = find_range(client, topic->name, i, &range);
        if (status)
            return status;
        printf("%9u  %9llu  %11llu  %7llu\n", i, (unsigned long long)range.start,
               (unsigned long long)range.end, (unsigned long long)(range.end - range.start));
    }
    return 0;
}

int cmd_topic_describe(struct ctl *ctl, int argc, char **argv)
{
    const char *name;
    int exit_code = parse_name(ctl, argc, argv, &name);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    struct sluice_topic *topics;
    uint32_t count;
    int status = sluice_topic_list(client, &name, 1, &topics, &count);
    if (status == 0) {
        status = (ctl->json ? describe_json : describe_text)(client, &topics[0]);
        sluice_topics_free(topics, count);
    }
    exit_code = status ? ctl_fail_status(ctl, status, name) : EXIT_DONE;
    sluice_client_free(client);
    return exit_code;
}
