/* sluicectl group list | describe | reset | delete
 *
 * A reset works out the new offsets first, for each partition its own, shows them, and then sets all
 * of them; the broker refuses while the group has members, whose next commit would undo it. */
#include <stdlib.h>
#include <string.h>

#include "tools/ctl.h"
#include "tools/where.h"

struct reset {
    const char *group;
    const char *topic; // NULL: all that the group has offsets of
    uint32_t partition;
    struct where to;
    bool has_to;
    bool dry_run;
};

struct targets { // a list that grows
    struct sluice_partition_offset *items;
    uint32_t count;
};

static const char *const states[] = {"empty", "rebalancing", "stable"};

static int parse_group(struct ctl *ctl, int argc, char **argv, const char **group);
static void describe_json(struct sluice_client *client, const char *group,
                          const struct sluice_group_description *d);
static void describe_text(struct sluice_client *client, const char *group,
                          const struct sluice_group_description *d);
static int parse_reset(struct ctl *ctl, int argc, char **argv, struct reset *reset);
static int do_reset(struct ctl *ctl, struct sluice_client *client, const struct reset *reset);
static int find_targets(struct sluice_client *client, const struct reset *reset,
                        const struct sluice_group_description *d, struct targets *targets);
static int add_target(struct targets *targets, const char *topic, uint32_t partition);
static void show_reset(struct ctl *ctl, const struct reset *reset,
                       const struct sluice_group_description *d, const struct targets *targets);
static int finish(struct ctl *ctl, struct sluice_client *client, int status, const char *group,
                  const char *done);

int cmd_group_list(struct ctl *ctl, int argc, char **argv)
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
    struct sluice_group *groups;
    uint32_t count;
    int status = sluice_group_list(client, &groups, &count);
    sluice_client_free(client);
    if (status)
        return ctl_fail_status(ctl, status, "asking the broker");
    for (uint32_t i = 0; i < count; i++) {
        const struct sluice_group *group = &groups[i];
        if (!ctl->json) {
            printf("%s\t%s\t%u\t%u\n", group->name, states[group->state], group->member_count,
                   group->offset_count);
            continue;
        }
        struct json json;
        json_begin(&json, stdout);
        json_string(&json, "group", group->name);
        json_string(&json, "state", states[group->state]);
        json_u64(&json, "generation", group->generation);
        json_u64(&json, "members", group->member_count);
        json_u64(&json, "offsets", group->offset_count);
        json_end(&json);
    }
    sluice_groups_free(groups, count);
    return EXIT_DONE;
}

int cmd_group_describe(struct ctl *ctl, int argc, char **argv)
{
    const char *group;
    int exit_code = parse_group(ctl, argc, argv, &group);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    struct sluice_group_description d;
    int status = sluice_group_describe(client, group, &d);
    if (status)
        exit_code = ctl_fail_status(ctl, status, group);
    else
        (ctl->json ? describe_json : describe_text)(client, group, &d);
    if (!status)
        sluice_group_description_free(&d);
    sluice_client_free(client);
    return exit_code;
}

int cmd_group_reset(struct ctl *ctl, int argc, char **argv)
{
    struct reset reset = {.partition = SLUICE_PARTITION_ANY};
    int exit_code = parse_reset(ctl, argc, argv, &reset);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    exit_code = do_reset(ctl, client, &reset);
    sluice_client_free(client);
    return exit_code;
}

int cmd_group_delete(struct ctl *ctl, int argc, char **argv)
{
    const char *group;
    int exit_code = parse_group(ctl, argc, argv, &group);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    return finish(ctl, client, sluice_group_delete(client, group), group, "deleted");
}

static int parse_group(struct ctl *ctl, int argc, char **argv, const char **group)
{
    static const struct option options[] = {CTL_OPTIONS};
    int exit_code;
    if (ctl_option(ctl, argc, argv, options, &exit_code) != -1)
        return exit_code;
    if (ctl_words(ctl, argc, argv, 1, "GROUP"))
        return EXIT_USAGE;
    *group = argv[optind];
    return EXIT_DONE;
}

static int finish(struct ctl *ctl, struct sluice_client *client, int status, const char *group,
                  const char *done)
{
    int exit_code = EXIT_DONE;
    if (status) {
        exit_code = ctl_fail_status(ctl, status, group);
    } else if (ctl->json) {
        struct json json;
        json_begin(&json, stdout);
        json_string(&json, "group", group);
        json_string(&json, "result", done);
        json_end(&json);
    } else {
        printf("group %s %s\n", group, done);
    }
    sluice_client_free(client);
    return exit_code;
}

/* ---- describe ---- */

/* How far behind; false: not known, as the topic is gone. */
static bool find_lag(struct sluice_client *client, const struct sluice_group_offset *offset,
                     uint64_t *end, uint64_t *lag)
{
    if (!offset->topic ||
        sluice_offset(client, offset->topic, offset->partition, SLUICE_START_END, 0, end))
        return false;
    *lag = *end > offset->offset ? *end - offset->offset : 0;
    return true;
}

static void put_member(struct json *json, const struct sluice_group_member *member)
{
    json_open(json, NULL, '{');
    json_string(json, "member", member->id);
    json_string(json, "instance_id", member->instance_id);
    json_u64(json, "generation", member->generation);
    json_u64(json, "session_timeout_ms", member->session_timeout_ms);
    json_u64(json, "idle_ms", member->idle_ms);
    json_open(json, "partitions", '[');
    for (uint32_t i = 0; i < member->partition_count; i++) {
        json_open(json, NULL, '{');
        json_string(json, "topic", member->partitions[i].topic ? member->partitions[i].topic : "");
        json_u64(json, "partition", member->partitions[i].partition);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_close(json, '}');
}

static void describe_json(struct sluice_client *client, const char *group,
                          const struct sluice_group_description *d)
{
    struct json json;
    json_begin(&json, stdout);
    json_string(&json, "group", group);
    json_string(&json, "state", states[d->state]);
    json_string(&json, "assignor", d->assignor == SLUICE_ASSIGNOR_RANGE ? "range" : "sticky");
    json_u64(&json, "generation", d->generation);
    json_open(&json, "members", '[');
    for (uint32_t i = 0; i < d->member_count; i++)
        put_member(&json, &d->members[i]);
    json_close(&json, ']');
    json_open(&json, "offsets", '[');
    for (uint32_t i = 0; i < d->offset_count; i++) {
        const struct sluice_group_offset *offset = &d->offsets[i];
        uint64_t end, lag;
        json_open(&json, NULL, '{');
        json_string(&json, "topic", offset->topic ? offset->topic : "");
        json_u64(&json, "topic_id", offset->topic_id);
        json_u64(&json, "partition", offset->partition);
        json_u64(&json, "offset", offset->offset);
        json_bool(&json, "pending", offset->pending);
        if (find_lag(client, offset, &end, &lag)) {
            json_u64(&json, "visible_end", end);
            json_u64(&json, "lag", lag);
        }
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_end(&json);
}

static void describe_text(struct sluice_client *client, const char *group,
                          const struct sluice_group_description *d)
{
    printf("group       %s\nstate       %s\nassignor    %s\ngeneration  %u\n", group,
           states[d->state], d->assignor == SLUICE_ASSIGNOR_RANGE ? "range" : "sticky",
           d->generation);
    for (uint32_t i = 0; i < d->member_count; i++) {
        const struct sluice_group_member *member = &d->members[i];
        printf("member %s%s%s, idle %u ms:", member->id, *member->instance_id ? " " : "",
               member->instance_id, member->idle_ms);
        for (uint32_t p = 0; p < member->partition_count; p++)
            printf(" %s/%u",
                   member->partitions[p].topic ? member->partitions[p].topic : "(deleted)",
                   member->partitions[p].partition);
        printf("\n");
    }
    printf("topic\tpartition\toffset\tvisible_end\tlag\n");
    for (uint32_t i = 0; i < d->offset_count; i++) {
        const struct sluice_group_offset *offset = &d->offsets[i];
        uint64_t end, lag;
        if (find_lag(client, offset, &end, &lag))
            printf("%s\t%u\t%llu\t%llu\t%llu\n", offset->topic, offset->partition,
                   (unsigned long long)offset->offset, (unsigned long long)end,
                   (unsigned long long)lag);
        else
            printf("(deleted %u)\t%u\t%llu\t-\t-\n", offset->topic_id, offset->partition,
                   (unsigned long long)offset->offset);
    }
}

/* ---- reset ---- */

static int parse_reset_option(struct ctl *ctl, struct reset *reset, int option)
{
    uint64_t number;
    switch (option) {
    case 'o':
        reset->has_to = true;
        return where_parse(ctl, "--to", optarg, &reset->to);
    case 't':
        reset->topic = optarg;
        return EXIT_DONE;
    case 'p':
        if (!ctl_parse_u64(optarg, 0, 16383, &number))
            return ctl_usage(ctl, "--partition %s: allowed 0..16383", optarg);
        reset->partition = (uint32_t)number;
        return EXIT_DONE;
    default:
        reset->dry_run = true;
        return EXIT_DONE;
    }
}

static int parse_reset(struct ctl *ctl, int argc, char **argv, struct reset *reset)
{
    static const struct option options[] = {{"to", required_argument, NULL, 'o'},
                                            {"topic", required_argument, NULL, 't'},
                                            {"partition", required_argument, NULL, 'p'},
                                            {"dry-run", no_argument, NULL, 'n'},
                                            CTL_OPTIONS};
    int option, exit_code = EXIT_DONE;
    while (exit_code == EXIT_DONE &&
           (option = ctl_option(ctl, argc, argv, options, &exit_code)) != -1) {
        if (option != '?')
            exit_code = parse_reset_option(ctl, reset, option);
    }
    if (exit_code == EXIT_DONE && !reset->has_to)
        exit_code = ctl_usage(ctl, "missing: --to beginning, end, an offset, or @TIME");
    if (exit_code == EXIT_DONE && reset->partition != SLUICE_PARTITION_ANY && !reset->topic)
        exit_code = ctl_usage(ctl, "--partition goes with --topic");
    if (exit_code == EXIT_DONE)
        exit_code = ctl_words(ctl, argc, argv, 1, "GROUP");
    reset->group = argv[optind];
    return exit_code;
}

/* A group that is not there yet can be given offsets of a topic that is named. */
static int do_reset(struct ctl *ctl, struct sluice_client *client, const struct reset *reset)
{
    struct sluice_group_description d = {0};
    struct targets targets = {0};
    int status = sluice_group_describe(client, reset->group, &d);
    if (status == SLUICE_E_UNKNOWN_GROUP && reset->topic)
        status = SLUICE_OK;
    if (status == SLUICE_OK && d.member_count > 0)
        status = SLUICE_E_GROUP_NOT_EMPTY;
    if (status == SLUICE_OK)
        status = find_targets(client, reset, &d, &targets);
    if (status == SLUICE_OK && !reset->dry_run)
        status = sluice_group_reset(client, reset->group, targets.items, targets.count);
    int exit_code = EXIT_DONE;
    if (status)
        exit_code = ctl_fail_status(ctl, status, reset->group);
    else
        show_reset(ctl, reset, &d, &targets);
    free(targets.items);
    sluice_group_description_free(&d);
    return exit_code;
}

static int find_targets(struct sluice_client *client, const struct reset *reset,
                        const struct sluice_group_description *d, struct targets *targets)
{
    int status = SLUICE_OK;
    if (reset->topic && reset->partition != SLUICE_PARTITION_ANY) {
        status = add_target(targets, reset->topic, reset->partition);
    } else if (reset->topic) {
        struct sluice_topic *topics;
        uint32_t count;
        status = sluice_topic_list(client, &reset->topic, 1, &topics, &count);
        uint32_t partitions = status ? 0 : topics[0].partition_count;
        if (!status)
            sluice_topics_free(topics, count);
        for (uint32_t p = 0; p < partitions && status == SLUICE_OK; p++)
            status = add_target(targets, reset->topic, p);
    } else {
        for (uint32_t i = 0; i < d->offset_count && status == SLUICE_OK; i++) {
            if (d->offsets[i].topic)
                status = add_target(targets, d->offsets[i].topic, d->offsets[i].partition);
        }
    }
    for (uint32_t i = 0; i < targets->count && status == SLUICE_OK; i++)
        status = sluice_offset(client, targets->items[i].topic, targets->items[i].partition,
                               reset->to.start, reset->to.value, &targets->items[i].offset);
    return status;
}

static int add_target(struct targets *targets, const char *topic, uint32_t partition)
{
    struct sluice_partition_offset *items =
        realloc(targets->items, (targets->count + 1) * sizeof(*items));
    if (!items)
        return SLUICE_E_NO_MEMORY;
    targets->items = items;
    items[targets->count++] =
        (struct sluice_partition_offset){.topic = topic, .partition = partition};
    return SLUICE_OK;
}

static const struct sluice_group_offset *find_before(const struct sluice_group_description *d,
                                                     const struct sluice_partition_offset *target)
{
    for (uint32_t i = 0; i < d->offset_count; i++) {
        const struct sluice_group_offset *offset = &d->offsets[i];
        if (offset->topic && strcmp(offset->topic, target->topic) == 0 &&
            offset->partition == target->partition)
            return offset;
    }
    return NULL;
}

static void show_reset(struct ctl *ctl, const struct reset *reset,
                       const struct sluice_group_description *d, const struct targets *targets)
{
    for (uint32_t i = 0; i < targets->count; i++) {
        const struct sluice_partition_offset *target = &targets->items[i];
        const struct sluice_group_offset *before = find_before(d, target);
        if (!ctl->json) {
            char text[32] = "-";
            if (before)
                snprintf(text, sizeof(text), "%llu", (unsigned long long)before->offset);
            printf("%s\t%u\t%s\t%llu\n", target->topic, target->partition, text,
                   (unsigned long long)target->offset);
            continue;
        }
        struct json json;
        json_begin(&json, stdout);
        json_string(&json, "topic", target->topic);
        json_u64(&json, "partition", target->partition);
        if (before)
            json_u64(&json, "before", before->offset);
        json_u64(&json, "offset", target->offset);
        json_bool(&json, "dry_run", reset->dry_run);
        json_end(&json);
    }
    if (!ctl->json)
        printf("%u offsets %s\n", targets->count, reset->dry_run ? "would be set" : "set");
}
