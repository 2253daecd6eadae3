/* sluicectl txn list | describe | commit | abort
 *
 * Ending by hand is for transactions whose program can't. An open one may be aborted; committed only
 * by its program, which alone knows that it is complete. A prepared one is part of something larger,
 * whose other parts may have been decided: so that needs --force. */
#include <string.h>

#include "tools/ctl.h"

static const char *const states[] = {"empty",    "open",       "preparing",
                                     "prepared", "committing", "aborting"};

static int parse_id(struct ctl *ctl, int argc, char **argv, const char **id, bool *force);
static void list_one(struct ctl *ctl, struct sluice_client *client, const struct sluice_txn *txn);
static void put_txn(struct json *json, const struct sluice_txn *txn);
static void show_description(struct ctl *ctl, const struct sluice_txn_description *d);
static int end(struct ctl *ctl, int argc, char **argv, bool commit);
static int end_found(struct ctl *ctl, struct sluice_client *client, const char *id, bool commit,
                     bool force);

int cmd_txn_list(struct ctl *ctl, int argc, char **argv)
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
    struct sluice_txn *txns;
    uint32_t count;
    int status = sluice_txn_list(client, &txns, &count);
    if (status) {
        sluice_client_free(client);
        return ctl_fail_status(ctl, status, "asking the broker");
    }
    for (uint32_t i = 0; i < count; i++)
        list_one(ctl, client, &txns[i]);
    sluice_txns_free(txns, count);
    sluice_client_free(client);
    return EXIT_DONE;
}

/* What is staged is asked for one by one, where something is open. */
static void list_one(struct ctl *ctl, struct sluice_client *client, const struct sluice_txn *txn)
{
    struct sluice_txn_description d = {.txn = *txn};
    bool is_open = txn->name.open_lsn != 0;
    bool is_known = is_open && sluice_txn_describe(client, txn->name.id, &d) == SLUICE_OK;
    if (ctl->json) {
        struct json json;
        json_begin(&json, stdout);
        put_txn(&json, txn);
        json_u64(&json, "partitions", d.part_count);
        json_u64(&json, "staged_bytes", d.batch_bytes);
        json_end(&json);
    } else {
        printf("%s\t%s\t%llu\t%u\t%llu:%u\t%u\t%llu\n", txn->name.id, states[txn->state],
               (unsigned long long)txn->age_ms, txn->timeout_ms,
               (unsigned long long)txn->producer_id, txn->epoch, d.part_count,
               (unsigned long long)d.batch_bytes);
    }
    if (is_known)
        sluice_txn_description_free(&d);
}

int cmd_txn_describe(struct ctl *ctl, int argc, char **argv)
{
    const char *id;
    int exit_code = parse_id(ctl, argc, argv, &id, NULL);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    struct sluice_txn_description d;
    int status = sluice_txn_describe(client, id, &d);
    if (status) {
        exit_code = ctl_fail_status(ctl, status, id);
    } else {
        show_description(ctl, &d);
        sluice_txn_description_free(&d);
    }
    sluice_client_free(client);
    return exit_code;
}

int cmd_txn_commit(struct ctl *ctl, int argc, char **argv)
{
    return end(ctl, argc, argv, true);
}

int cmd_txn_abort(struct ctl *ctl, int argc, char **argv)
{
    return end(ctl, argc, argv, false);
}

static int parse_id(struct ctl *ctl, int argc, char **argv, const char **id, bool *force)
{
    static const struct option with_force[] = {{"force", no_argument, NULL, 'f'}, CTL_OPTIONS};
    static const struct option without[] = {CTL_OPTIONS};
    int option, exit_code = EXIT_DONE;
    while (exit_code == EXIT_DONE &&
           (option = ctl_option(ctl, argc, argv, force ? with_force : without, &exit_code)) != -1) {
        if (option == '?')
            return exit_code;
        *force = true;
    }
    if (exit_code == EXIT_DONE)
        exit_code = ctl_words(ctl, argc, argv, 1, "ID");
    *id = argv[optind];
    return exit_code;
}

/* ---- showing ---- */

static void put_txn(struct json *json, const struct sluice_txn *txn)
{
    json_string(json, "transactional_id", txn->name.id);
    json_string(json, "state", states[txn->state]);
    json_u64(json, "producer_id", txn->producer_id);
    json_u64(json, "epoch", txn->epoch);
    json_u64(json, "coordinator", txn->name.coordinator);
    json_u64(json, "open_lsn", txn->name.open_lsn);
    json_u64(json, "age_ms", txn->age_ms);
    json_u64(json, "timeout_ms", txn->timeout_ms);
    json_open(json, "shards", '[');
    for (uint32_t shard = 0; shard < 64; shard++) {
        if (txn->shards >> shard & 1)
            json_u64(json, NULL, shard);
    }
    json_close(json, ']');
}

static void show_json(const struct sluice_txn_description *d)
{
    struct json json;
    json_begin(&json, stdout);
    put_txn(&json, &d->txn);
    json_u64(&json, "staged_bytes", d->batch_bytes);
    json_u64(&json, "staged_offsets", d->offset_count);
    json_open(&json, "partitions", '[');
    for (uint32_t i = 0; i < d->part_count; i++) {
        const struct sluice_txn_part *part = &d->parts[i];
        json_open(&json, NULL, '{');
        json_string(&json, "topic", part->topic ? part->topic : "");
        json_u64(&json, "topic_id", part->topic_id);
        json_u64(&json, "partition", part->partition);
        json_u64(&json, "batches", part->batch_count);
        json_u64(&json, "records", part->record_count);
        json_u64(&json, "bytes", part->bytes);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_end(&json);
}

static void show_description(struct ctl *ctl, const struct sluice_txn_description *d)
{
    if (ctl->json) {
        show_json(d);
        return;
    }
    const struct sluice_txn *txn = &d->txn;
    printf("id              %s\nstate           %s\nname            %u/%llu\n"
           "producer        %llu, epoch %u\nage             %llu ms of %u\n"
           "staged bytes    %llu\nstaged offsets  %u\n",
           txn->name.id, states[txn->state], txn->name.coordinator,
           (unsigned long long)txn->name.open_lsn, (unsigned long long)txn->producer_id, txn->epoch,
           (unsigned long long)txn->age_ms, txn->timeout_ms, (unsigned long long)d->batch_bytes,
           d->offset_count);
    printf("topic\tpartition\tbatches\trecords\tbytes\n");
    for (uint32_t i = 0; i < d->part_count; i++)
        printf("%s\t%u\t%u\t%u\t%llu\n", d->parts[i].topic ? d->parts[i].topic : "(deleted)",
               d->parts[i].partition, d->parts[i].batch_count, d->parts[i].record_count,
               (unsigned long long)d->parts[i].bytes);
}

/* ---- ending ---- */

static int end(struct ctl *ctl, int argc, char **argv, bool commit)
{
    const char *id;
    bool force = false;
    int exit_code = parse_id(ctl, argc, argv, &id, &force);
    if (exit_code)
        return exit_code;
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    exit_code = end_found(ctl, client, id, commit, force);
    sluice_client_free(client);
    return exit_code;
}

/* Ended is what was looked at: by its name, not by its id, under which another one may have begun. */
static int end_found(struct ctl *ctl, struct sluice_client *client, const char *id, bool commit,
                     bool force)
{
    struct sluice_txn_description d;
    int status = sluice_txn_describe(client, id, &d);
    if (status)
        return ctl_fail_status(ctl, status, id);
    struct sluice_txn txn = d.txn;
    sluice_txn_description_free(&d);
    if (txn.name.open_lsn == 0)
        return ctl_fail(ctl, "%s: no transaction is open", id);
    if (txn.state == SLUICE_TXN_PREPARED && !force)
        return ctl_fail(ctl, "%s is prepared: other systems may have decided about it; --force",
                        id);
    if (txn.state == SLUICE_TXN_OPEN && commit)
        return ctl_fail(ctl, "%s is open: only its program knows when it is complete", id);
    status = sluice_txn_end(client, &txn.name, commit);
    if (status)
        return ctl_fail_status(ctl, status, id);
    const char *done = commit ? "committed" : "aborted";
    if (ctl->json) {
        struct json json;
        json_begin(&json, stdout);
        json_string(&json, "transactional_id", id);
        json_string(&json, "result", done);
        json_end(&json);
    } else {
        printf("transaction of %s %s\n", id, done);
    }
    return EXIT_DONE;
}
