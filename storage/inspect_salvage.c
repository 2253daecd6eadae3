/* Giving up a range of LSNs, when recovery refuses and there is no copy to put back.
 *
 * The happy path: recovery runs read-only and refuses; it runs again, still read-only, with the
 * operator's hole, and now reaches the end of what was proven; only then it runs for real and
 * writes the CUT that records the hole. What is lost is exactly the entries that lay in [from, to),
 * and what depended on them; docs/disk-format.md says what that means for partitions, transactions
 * and producers.
 *
 * It refuses a range that does not begin where the damage does, one that would give up what lies
 * behind an intact log's end, and damage that no hole can cure (files of another store or of a
 * newer version: take those away first). Of an intact log it gives up groups all the same: their
 * entries may be what the broker refuses. */
#include "storage/inspect_private.h"

#include <stdio.h>
#include <stdlib.h>

static int salvage_shard(const struct inspect_dir *place, uint32_t shard,
                         const struct recover_hole *hole, bool dry_run,
                         struct recover_result *result, char text[512]);
static int checkpoints_read(const struct inspect_dir *place, uint32_t shard,
                            struct checkpoint_set *set, char text[512]);
static int run(const struct wal_options *options, struct recover_options *recover,
               const struct recover_hole *hole, bool read_only, struct recover_result *result);
static int explain(const struct recover_result *before, const struct recover_result *after,
                   const struct recover_hole *hole, int status, char text[512]);

int inspect_salvage(struct io *io, const char *dir, uint32_t shard, uint64_t from_lsn,
                    uint64_t to_lsn, bool dry_run, struct recover_result *result, char text[512])
{
    struct inspect_dir place;
    struct recover_hole hole = {from_lsn, to_lsn};
    *result = (struct recover_result){.damage = DAMAGE_NONE};
    int status = inspect_dir_open(&place, io, dir, text);
    if (status < 0)
        return status;
    if (shard >= place.head.identity.shard_count) {
        snprintf(text, 512, "there is no shard %u: allowed 0..%u", shard,
                 place.head.identity.shard_count - 1);
        status = E_INVALID;
    } else if (from_lsn >= to_lsn || from_lsn % DISK_BLOCK != 0 || to_lsn % DISK_BLOCK != 0) {
        snprintf(text, 512, "from %llu, to %llu: from < to, both multiples of %d",
                 (unsigned long long)from_lsn, (unsigned long long)to_lsn, DISK_BLOCK);
        status = E_INVALID;
    } else {
        status = salvage_shard(&place, shard, &hole, dry_run, result, text);
    }
    inspect_dir_close(&place);
    return status;
}

static int salvage_shard(const struct inspect_dir *place, uint32_t shard,
                         const struct recover_hole *hole, bool dry_run,
                         struct recover_result *result, char text[512])
{
    struct wal_options options;
    struct recover_options recover;
    struct recover_result before;
    struct random random;
    char wal_dir[INSPECT_PATH_MAX];
    struct checkpoint_set set = {0};
    int status = checkpoints_read(place, shard, &set, text);
    if (status < 0)
        return status;
    snprintf(wal_dir, sizeof(wal_dir), "%.4000s/shard-%03u/wal", place->dir, shard);
    inspect_wal_options(place, shard, wal_dir, &options);
    inspect_recover_options(&set, &recover);
    random_init(&random, random_seed_system());
    options.random = &random;
    status = run(&options, &recover, NULL, true, &before);
    *result = before;
    /* Its groups are; what the entries in them say may still be what the broker refuses. */
    if (status == 0 && hole->to_lsn > before.end_lsn) {
        snprintf(text, 512,
                 "the log of shard %u is intact up to LSN %llu: nothing to give up behind", shard,
                 (unsigned long long)before.end_lsn);
        return E_INVALID;
    }
    if (status < 0 && status != E_CORRUPT) {
        snprintf(text, 512, "%.380s: %.120s", before.path, before.text);
        return status;
    }
    status = run(&options, &recover, hole, true, result);
    if (status == 0 && !dry_run)
        status = run(&options, &recover, hole, false, result);
    return explain(&before, result, hole, status, text);
}

static int checkpoints_read(const struct inspect_dir *place, uint32_t shard,
                            struct checkpoint_set *set, char text[512])
{
    char path[INSPECT_PATH_MAX];
    struct checkpoint_identity identity = {.shard_id = shard, .no_direct = place->no_direct};
    memcpy(identity.store_id, place->head.identity.store_id, sizeof(identity.store_id));
    snprintf(path, sizeof(path), "%.4000s/shard-%03u/checkpoint", place->dir, shard);
    int status = checkpoint_scan(place->io, path, &identity, set);
    if (status == 0 && set->count == 0 && set->bad_count > 0)
        status = E_CORRUPT;
    if (status < 0)
        snprintf(text, 512,
                 "%.300s: %.100s: without a checkpoint no part of the log can be given up",
                 set->bad_path[0] ? set->bad_path : path,
                 set->bad_why ? set->bad_why : status_text(status));
    return status;
}

static int run(const struct wal_options *options, struct recover_options *recover,
               const struct recover_hole *hole, bool read_only, struct recover_result *result)
{
    struct recover_log log;
    recover->hole = hole;
    recover->read_only = read_only;
    int status = recover_run(options, recover, result, &log);
    if (status == 0)
        recover_log_free(options->io, &log);
    return status;
}

static int explain(const struct recover_result *before, const struct recover_result *after,
                   const struct recover_hole *hole, int status, char text[512])
{
    if (status == 0)
        snprintf(text, 512, "LSN %llu..%llu is given up; the log goes on to %llu",
                 (unsigned long long)hole->from_lsn, (unsigned long long)hole->to_lsn,
                 (unsigned long long)after->end_lsn);
    else if (status != E_CORRUPT)
        snprintf(text, 512, "%.380s: %.120s", after->path, after->text);
    else if (after->lsn_from < hole->to_lsn) {
        snprintf(text, 512, "the damage begins at LSN %llu, not at %llu",
                 (unsigned long long)before->lsn_from, (unsigned long long)hole->from_lsn);
        return E_INVALID;
    } else
        snprintf(text, 512, "behind %llu there is more damage, LSN %llu..%llu: %.200s",
                 (unsigned long long)hole->to_lsn, (unsigned long long)after->lsn_from,
                 (unsigned long long)after->lsn_to, after->text);
    return status;
}
