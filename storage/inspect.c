/* The walk over a data directory: identity, then shard by shard checkpoints, log, archive files.
 *
 * The happy path: take LOCK if it is there, read DIR/store, let each part report what it sees.
 * Damage of one part never stops the others: the operator wants to see all of it at once.
 *
 * It can fail with LOCKED (the broker runs), NOT_FOUND (no store there), or when a directory can't
 * be read. */
#include "storage/inspect_private.h"

#include <stdio.h>
#include <stdlib.h>

static int find_lock(void *context, const char *name, uint64_t size_bytes);
static int take_lock(struct inspect_dir *place, char text[512]);
static int read_head(struct inspect_dir *place, char text[512]);
static int inspect_shard(const struct inspect_dir *place, const struct inspect_options *options,
                         uint32_t number, int *worst);
static int inspect_checkpoints(struct inspect_shard *shard);
static void report_store(const struct inspect_dir *place, const struct inspect_options *options);

int inspect_run(struct io *io, const struct inspect_options *options, char text[512])
{
    struct inspect_dir place;
    int worst = 0;
    int status = inspect_dir_open(&place, io, options->dir, text);
    if (status < 0)
        return status;
    uint32_t count = place.head.identity.shard_count;
    report_store(&place, options);
    if (options->shard != INSPECT_ALL_SHARDS && options->shard >= count) {
        snprintf(text, 512, "there is no shard %u: allowed 0..%u", options->shard, count - 1);
        status = E_INVALID;
    }
    for (uint32_t i = 0; i < count && status == 0 && place.head.is_ready; i++)
        if (options->shard == INSPECT_ALL_SHARDS || options->shard == i)
            status = inspect_shard(&place, options, i, &worst);
    if (status < 0 && text[0] == '\0')
        snprintf(text, 512, "%.400s: %s", options->dir, status_text(status));
    inspect_dir_close(&place);
    return status < 0 ? status : worst;
}

/* ---- the directory ---- */

int inspect_dir_open(struct inspect_dir *place, struct io *io, const char *dir, char text[512])
{
    *place = (struct inspect_dir){.io = io, .dir = dir, .lock_fd = -1};
    text[0] = '\0';
    int status = take_lock(place, text);
    if (status == 0)
        status = read_head(place, text);
    if (status < 0)
        inspect_dir_close(place);
    return status;
}

void inspect_dir_close(struct inspect_dir *place)
{
    if (place->lock_fd >= 0)
        (void)io_close_wait(place->io, place->lock_fd);
    place->lock_fd = -1;
}

static int find_lock(void *context, const char *name, uint64_t size_bytes)
{
    (void)size_bytes;
    if (strcmp(name, "LOCK") == 0)
        *(bool *)context = true;
    return 0;
}

/* Made by the broker; where it is missing, or may not be opened, there is nothing to wait for. */
static int take_lock(struct inspect_dir *place, char text[512])
{
    char path[INSPECT_PATH_MAX];
    bool found = false;
    int status = io_list(place->io, place->dir, find_lock, &found);
    if (status < 0) {
        snprintf(text, 512, "%.400s: %s", place->dir, status_text(status));
        return status;
    }
    if (!found)
        return 0;
    snprintf(path, sizeof(path), "%.4200s/LOCK", place->dir);
    int fd = io_lock_file(place->io, path);
    if (fd == E_LOCKED) {
        snprintf(text, 512, "%.400s is in use by a broker: stop it first", place->dir);
        return fd;
    }
    place->lock_fd = fd;
    return 0;
}

static int read_head(struct inspect_dir *place, char text[512])
{
    uint8_t *block = aligned_alloc(DISK_BLOCK, DISK_BLOCK);
    if (block == NULL)
        return E_NO_MEMORY;
    int status = store_head_read(place->io, place->dir, false, block, &place->head, text);
    if (status == E_NO_DIRECT) {
        place->no_direct = true;
        status = store_head_read(place->io, place->dir, true, block, &place->head, text);
    }
    free(block);
    return status;
}

static void report_store(const struct inspect_dir *place, const struct inspect_options *options)
{
    char path[INSPECT_PATH_MAX];
    snprintf(path, sizeof(path), "%.4200s/store", place->dir);
    struct inspect_item item = {.kind = INSPECT_STORE,
                                .shard = UINT32_MAX,
                                .path = path,
                                .text = "",
                                .number = place->head.identity.shard_count,
                                .size_bytes = place->head.identity.segment_bytes,
                                .role = place->head.is_ready ? "ready" : "making"};
    options->report(options->context, &item);
}

/* ---- a shard ---- */

static int inspect_shard(const struct inspect_dir *place, const struct inspect_options *options,
                         uint32_t number, int *worst)
{
    struct inspect_shard *shard = calloc(1, sizeof(*shard));
    if (shard == NULL)
        return E_NO_MEMORY;
    shard->place = place;
    shard->options = options;
    shard->shard = number;
    int status = inspect_checkpoints(shard);
    if (status == 0)
        status = inspect_log(shard);
    if (status == 0)
        status = inspect_archives(shard);
    if (*worst == 0)
        *worst = shard->worst;
    free(shard);
    return status;
}

void inspect_report(struct inspect_shard *shard, const struct inspect_item *item)
{
    struct inspect_item copy = *item;
    copy.shard = shard->shard;
    copy.path = copy.path ? copy.path : shard->path;
    copy.text = copy.text ? copy.text : item->status < 0 ? status_text(item->status) : "";
    if (copy.is_damage && shard->worst == 0) // NOT_FOUND would say that there is no store
        shard->worst = item->status == E_NOT_FOUND ? E_CORRUPT : item->status;
    shard->options->report(shard->options->context, &copy);
}

void inspect_path(struct inspect_shard *shard, const char *folder, const char *name)
{
    snprintf(shard->path, sizeof(shard->path), "%.4200s/shard-%03u/%s%s%.100s", shard->place->dir,
             shard->shard, folder, *name ? "/" : "", name);
}

/* A bad one costs nothing as long as another is good. */
static int inspect_checkpoints(struct inspect_shard *shard)
{
    struct checkpoint_set *set = &shard->checkpoints;
    struct checkpoint_identity identity = {.shard_id = shard->shard,
                                           .no_direct = shard->place->no_direct};
    memcpy(identity.store_id, shard->place->head.identity.store_id, sizeof(identity.store_id));
    inspect_path(shard, "checkpoint", "");
    int status = checkpoint_scan(shard->place->io, shard->path, &identity, set);
    if (status < 0) {
        inspect_report(shard,
                       &(struct inspect_item){.kind = INSPECT_CHECKPOINT,
                                              .path = set->bad_path[0] ? set->bad_path : NULL,
                                              .status = status,
                                              .is_damage = true,
                                              .text = set->bad_why});
        return status == E_FOREIGN || status == E_NEWER ? 0 : status;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        const struct checkpoint_head *head = &set->heads[i];
        char name[32];
        snprintf(name, sizeof(name), "%016llx.ckpt", (unsigned long long)head->number);
        inspect_path(shard, "checkpoint", name);
        inspect_report(shard,
                       &(struct inspect_item){.kind = INSPECT_CHECKPOINT,
                                              .number = head->number,
                                              .role = head->clean ? "clean" : "running",
                                              .lsn_from = head->position.lsn,
                                              .group_number = head->position.group_number,
                                              .append_time_ms = head->position.append_time_ms});
    }
    if (set->bad_count > 0)
        inspect_report(shard, &(struct inspect_item){.kind = INSPECT_CHECKPOINT,
                                                     .path = set->bad_path,
                                                     .status = E_CORRUPT,
                                                     .is_damage = set->count == 0,
                                                     .text = set->bad_why});
    return 0;
}

/* ---- what recovery is told: the same as by store_open() ---- */

void inspect_recover_options(const struct checkpoint_set *set, struct recover_options *recover)
{
    *recover = (struct recover_options){.read_only = true};
    if (set->count > 0) {
        recover->has_checkpoint = true;
        recover->from = set->heads[0].position;
        recover->first_file = set->heads[0].wal_first_file;
        recover->clean = set->heads[0].clean && set->bad_count == 0;
    }
    for (uint32_t i = 0; i < set->count; i++)
        recover->proven_lsn = max_u64(recover->proven_lsn, set->heads[i].position.lsn);
}

void inspect_wal_options(const struct inspect_dir *place, uint32_t shard, const char *wal_dir,
                         struct wal_options *options)
{
    *options = (struct wal_options){.io = place->io,
                                    .dir = wal_dir,
                                    .shard_id = shard,
                                    .segment_bytes = place->head.identity.segment_bytes,
                                    .no_direct = place->no_direct};
    memcpy(options->store_id, place->head.identity.store_id, sizeof(options->store_id));
}
