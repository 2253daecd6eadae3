/* sluicectl wal inspect | salvage: on the data directory of a broker that is stopped. Inspect never writes; salvage writes
 * one record that gives up a range which recovery refuses, and only with --yes. */
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "storage/inspect.h"
#include "tools/ctl.h"

static const char *const kinds[] = {
    [INSPECT_STORE] = "store",     [INSPECT_CHECKPOINT] = "checkpoint",
    [INSPECT_SEGMENT] = "segment", [INSPECT_LEFTOVER] = "leftover",
    [INSPECT_GROUP] = "group",     [INSPECT_INDEX] = "index",
    [INSPECT_ARCHIVE] = "archive", [INSPECT_LOG] = "log",
};

static void report_text(void *context, const struct inspect_item *item);
static void report_json(void *context, const struct inspect_item *item);
static struct io *make_io(const struct ctl *ctl);

static int exit_of(int status)
{
    switch (status) {
    case 0:
        return EXIT_DONE;
    case E_CORRUPT:
    case E_FOREIGN:
    case E_NEWER:
        return EXIT_DAMAGED;
    default:
        return EXIT_FAILED;
    }
}

int cmd_wal_inspect(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"shard", required_argument, NULL, 's'},
                                            {"verify", no_argument, NULL, 'v'},
                                            {"groups", no_argument, NULL, 'g'},
                                            CTL_OPTIONS};
    struct inspect_options inspect = {.shard = INSPECT_ALL_SHARDS, .context = ctl};
    int option, exit_code = EXIT_DONE;
    while (exit_code == EXIT_DONE &&
           (option = ctl_option(ctl, argc, argv, options, &exit_code)) != -1) {
        uint64_t shard;
        if (option == 's' && !ctl_parse_u64(optarg, 0, 63, &shard))
            exit_code = ctl_usage(ctl, "--shard %s: allowed 0..63", optarg);
        else if (option == 's')
            inspect.shard = (uint32_t)shard;
        inspect.verify |= option == 'v';
        inspect.groups |= option == 'g';
    }
    if (exit_code == EXIT_DONE)
        exit_code = ctl_words(ctl, argc, argv, 1, "DIR");
    if (exit_code != EXIT_DONE)
        return exit_code;
    struct io *io = make_io(ctl);
    if (!io)
        return EXIT_FAILED;
    inspect.dir = argv[optind];
    inspect.report = ctl->json ? report_json : report_text;
    char text[512] = "";
    int status = inspect_run(io, &inspect, text);
    io_free(io);
    if (status == 0 && !ctl->json)
        printf("intact\n");
    else if (status)
        ctl_fail(ctl, "%s: %s%s%s", inspect.dir, status_text(status), *text ? ": " : "", text);
    return exit_of(status);
}

static struct io *make_io(const struct ctl *ctl)
{
    struct io *io;
    log_set_level(
        LOG_LEVEL_ERROR); // the findings are the output; recovery's own lines would double them
    int status = io_new(&(struct io_options){.backend = IO_BACKEND_EPOLL, .ops_max = 64}, &io);
    if (status == 0)
        return io;
    ctl_fail(ctl, "%s", status_text(status));
    return NULL;
}

static void report_text(void *context, const struct inspect_item *item)
{
    printf("%-10s", kinds[item->kind]);
    if (item->shard != UINT32_MAX)
        printf(" shard %u", item->shard);
    if (item->path && *item->path)
        printf(" %s", item->path);
    if (item->role)
        printf(" %s", item->role);
    if (item->lsn_to > item->lsn_from || item->kind == INSPECT_CHECKPOINT)
        printf(" lsn %llu..%llu", (unsigned long long)item->lsn_from,
               (unsigned long long)max_u64(item->lsn_from, item->lsn_to));
    if (item->kind == INSPECT_GROUP)
        printf(" number %llu offset %llu", (unsigned long long)item->group_number,
               (unsigned long long)item->offset);
    if (item->groups)
        printf(" groups %llu entries %llu", (unsigned long long)item->groups,
               (unsigned long long)item->entries);
    if (item->batches)
        printf(" batches %llu", (unsigned long long)item->batches);
    if (item->status)
        printf(" %s: %s", item->is_damage ? "DAMAGED" : "unusable", status_name(item->status));
    if (item->text && *item->text)
        printf(" (%s)", item->text);
    if (item->status && item->offset)
        printf(" at offset %llu", (unsigned long long)item->offset);
    printf("\n");
}

static void report_json(void *context, const struct inspect_item *item)
{
    struct json json;
    json_begin(&json, stdout);
    json_string(&json, "kind", kinds[item->kind]);
    if (item->shard != UINT32_MAX)
        json_u64(&json, "shard", item->shard);
    if (item->path)
        json_string(&json, "path", item->path);
    if (item->role)
        json_string(&json, "role", item->role);
    json_string(&json, "status", item->status ? status_name(item->status) : "OK");
    json_bool(&json, "damaged", item->is_damage);
    json_string(&json, "text", item->text ? item->text : "");
    json_u64(&json, "number", item->number);
    json_u64(&json, "size_bytes", item->size_bytes);
    json_u64(&json, "lsn_from", item->lsn_from);
    json_u64(&json, "lsn_to", item->lsn_to);
    json_u64(&json, "offset_bytes", item->offset);
    json_u64(&json, "groups", item->groups);
    json_u64(&json, "entries", item->entries);
    json_u64(&json, "batches", item->batches);
    if (item->result) {
        json_u64(&json, "end_lsn", item->result->end_lsn);
        json_u64(&json, "proven_lsn", item->result->proven_lsn);
        json_string(&json, "damage", damage_kind_name(item->result->damage));
    }
    json_end(&json);
}

/* ---- salvage ---- */

struct salvage {
    uint64_t shard, from, to;
    bool yes, has_shard, has_from, has_to;
};

static int parse_number(const struct ctl *ctl, const char *option, uint64_t max, uint64_t *value,
                        bool *has)
{
    *has = ctl_parse_u64(optarg, 0, max, value);
    if (*has)
        return EXIT_DONE;
    return ctl_usage(ctl, "%s %s: allowed 0..%llu", option, optarg, (unsigned long long)max);
}

static int parse_salvage(struct ctl *ctl, int argc, char **argv, struct salvage *salvage)
{
    static const struct option options[] = {{"shard", required_argument, NULL, 's'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"to", required_argument, NULL, 't'},
                                            {"yes", no_argument, NULL, 'y'},
                                            CTL_OPTIONS};
    int option, exit_code = EXIT_DONE;
    while (exit_code == EXIT_DONE &&
           (option = ctl_option(ctl, argc, argv, options, &exit_code)) != -1) {
        if (option == 's')
            exit_code = parse_number(ctl, "--shard", 63, &salvage->shard, &salvage->has_shard);
        else if (option == 'f')
            exit_code = parse_number(ctl, "--from", INT64_MAX, &salvage->from, &salvage->has_from);
        else if (option == 't')
            exit_code = parse_number(ctl, "--to", INT64_MAX, &salvage->to, &salvage->has_to);
        salvage->yes |= option == 'y';
    }
    if (exit_code == EXIT_DONE && !(salvage->has_shard && salvage->has_from && salvage->has_to))
        exit_code = ctl_usage(ctl, "--shard, --from and --to are needed: `wal inspect` names them");
    if (exit_code == EXIT_DONE)
        exit_code = ctl_words(ctl, argc, argv, 1, "DIR");
    return exit_code;
}

int cmd_wal_salvage(struct ctl *ctl, int argc, char **argv)
{
    struct salvage salvage = {0};
    int exit_code = parse_salvage(ctl, argc, argv, &salvage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    struct io *io = make_io(ctl);
    if (!io)
        return EXIT_FAILED;
    struct recover_result result = {0};
    char text[512] = "";
    int status = inspect_salvage(io, argv[optind], (uint32_t)salvage.shard, salvage.from,
                                 salvage.to, !salvage.yes, &result, text);
    io_free(io);
    if (status) {
        ctl_fail(ctl, "%s: %s%s%s", argv[optind], status_text(status), *text ? ": " : "", text);
        return exit_of(status);
    }
    printf("%s\n", text);
    if (salvage.yes)
        return EXIT_DONE;
    ctl_fail(ctl, "nothing was written: repeat with --yes to give these bytes up");
    return EXIT_FAILED;
}
