/* A shard's log: the verdict of recovery, each numbered file, and on demand each group.
 *
 * The verdict comes first, because it says which role each file has; when recovery refuses there
 * are no roles, and a file is shown as far as its groups make sense by themselves. */
#include "storage/inspect_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/batch.h"
#include "storage/disk_header.h"
#include "storage/index.h"
#include "storage/recover_private.h"
#include "storage/segment_scan.h"

struct names {
    struct {
        uint64_t number;
        uint64_t size_bytes;
        char name[64];
    } * items;
    uint32_t count, capacity;
};

struct scan { // of one file
    struct inspect_shard *shard;
    struct segment segment;
    struct inspect_item item;
    uint8_t bad_copies;   // of the header, see segment.h
    const char *bad_text; // of the first entry that is damaged; NULL: none
    uint64_t bad_lsn;
};

static int verdict(struct inspect_shard *shard, struct recover_log *log);
static int names_list(struct inspect_shard *shard, struct names *names);
static int names_visit(void *context, const char *name, uint64_t size_bytes);
static int names_order(const void *a, const void *b);
static const struct recover_file *file_role(const struct recover_log *log, uint64_t number);
static int inspect_file(struct inspect_shard *shard, const struct recover_log *log,
                        const char *name, uint64_t number, uint64_t size_bytes);
static int file_head(struct scan *scan, uint64_t number, uint64_t size_bytes);
static void header_copy_tell(struct scan *scan);
static int file_groups(struct scan *scan, const struct recover_file *file);
static int visit_group(void *context, const struct group_head *head, uint8_t *bytes);
static int visit_entry(void *context, const struct wal_view *view);
static const char *entry_fault(const struct wal_view *view);
static int inspect_index(struct inspect_shard *shard, const struct recover_file *file);

int inspect_log(struct inspect_shard *shard)
{
    struct recover_log log = {0};
    struct names names = {0};
    int status = verdict(shard, &log);
    if (status == 0)
        status = names_list(shard, &names);
    for (uint32_t i = 0; i < names.count && status == 0; i++)
        status = inspect_file(shard, &log, names.items[i].name, names.items[i].number,
                              names.items[i].size_bytes);
    for (uint32_t i = 0; i < log.count && status == 0 && shard->options->verify; i++)
        if (log.files[i].role == RECOVER_LIVE)
            status = inspect_index(shard, &log.files[i]);
    free(names.items);
    recover_log_free(shard->place->io, &log);
    return status;
}

/* Recovery as at a start, but reading only. Without an intact checkpoint, and with a damaged one,
 * it would be told to begin where nothing may be left; then only the checkpoints are to blame. */
static int verdict(struct inspect_shard *shard, struct recover_log *log)
{
    struct wal_options options;
    struct recover_options recover;
    if (shard->checkpoints.count == 0 && shard->worst < 0)
        return 0;
    struct recover_result *result = calloc(1, sizeof(*result));
    if (result == NULL)
        return E_NO_MEMORY;
    inspect_path(shard, "wal", "");
    inspect_wal_options(shard->place, shard->shard, shard->path, &options);
    inspect_recover_options(&shard->checkpoints, &recover);
    int status = recover_run(&options, &recover, result, log);
    bool damaged = status == E_CORRUPT || status == E_FOREIGN || status == E_NEWER;
    if (status == 0 || damaged)
        inspect_report(
            shard, &(struct inspect_item){.kind = INSPECT_LOG,
                                          .path = damaged ? result->path : NULL,
                                          .status = status,
                                          .is_damage = damaged,
                                          .text = damaged ? result->text : "",
                                          .lsn_from = damaged ? result->lsn_from : recover.from.lsn,
                                          .lsn_to = damaged ? result->lsn_to : result->end_lsn,
                                          .offset = result->offset,
                                          .groups = result->groups,
                                          .entries = result->entries,
                                          .result = result});
    free(result);
    return damaged ? 0 : status;
}

/* ---- files ---- */

static int names_list(struct inspect_shard *shard, struct names *names)
{
    inspect_path(shard, "wal", "");
    int status = io_list(shard->place->io, shard->path, names_visit, names);
    if (status == 0 && names->count > 0)
        qsort(names->items, names->count, sizeof(*names->items), names_order);
    return status;
}

static int names_visit(void *context, const char *name, uint64_t size_bytes)
{
    struct names *names = context;
    size_t len = strlen(name);
    uint64_t number = disk_name_parse(name, ".wal");
    bool is_tmp = len > 4 && strcmp(name + len - 4, ".tmp") == 0;
    if (number == 0 && !is_tmp)
        return 0;
    if (names->count == names->capacity) {
        names->capacity = names->capacity * 2 + 64;
        void *items = realloc(names->items, names->capacity * sizeof(*names->items));
        if (items == NULL)
            return E_NO_MEMORY;
        names->items = items;
    }
    names->items[names->count].number = number;
    names->items[names->count].size_bytes = size_bytes;
    snprintf(names->items[names->count++].name, sizeof(names->items->name), "%.63s", name);
    return 0;
}

static int names_order(const void *a, const void *b)
{
    uint64_t l = *(const uint64_t *)a - 1; // number comes first; *.tmp (0) last
    uint64_t r = *(const uint64_t *)b - 1;
    return l < r ? -1 : l > r;
}

static const struct recover_file *file_role(const struct recover_log *log, uint64_t number)
{
    for (uint32_t i = 0; i < log->count; i++)
        if (log->files[i].number == number)
            return &log->files[i];
    return NULL;
}

static int inspect_file(struct inspect_shard *shard, const struct recover_log *log,
                        const char *name, uint64_t number, uint64_t size_bytes)
{
    static const char *const roles[] = {[RECOVER_LIVE] = "live",
                                        [RECOVER_OPEN] = "open",
                                        [RECOVER_SPARE] = "spare",
                                        [RECOVER_RAW] = "raw"};
    const struct recover_file *file = number ? file_role(log, number) : NULL;
    inspect_path(shard, "wal", name);
    struct scan scan = {
        .shard = shard,
        .segment = {.fd = -1, .number = number, .holes = log->holes, .hole_count = log->hole_count},
        .item = {.kind = number ? INSPECT_SEGMENT : INSPECT_LEFTOVER,
                 .number = number,
                 .size_bytes = size_bytes,
                 .role = file     ? roles[file->role]
                         : number ? "unknown"
                                  : "raw"}};
    int status = number ? file_head(&scan, number, size_bytes) : 0;
    bool in_log = file == NULL || file->role == RECOVER_LIVE || file->role == RECOVER_OPEN;
    if (status == 0 && scan.item.status == 0 && number != 0 && in_log)
        status = file_groups(&scan, file);
    if (scan.segment.fd >= 0)
        (void)io_close_wait(shard->place->io, scan.segment.fd);
    header_copy_tell(&scan);
    if (status == 0)
        inspect_report(shard, &scan.item);
    return status;
}

/* The other copy is as good, so a start goes on; but there is no third. */
static void header_copy_tell(struct scan *scan)
{
    if (scan->item.status != 0 || scan->bad_copies == 0)
        return;
    scan->item.status = E_CORRUPT;
    scan->item.text = "one of the two copies of its header is damaged";
    scan->item.offset = scan->bad_copies == 1 ? 0 : DISK_BLOCK;
}

/* Opens the file and judges its header. What is wrong with a file that the log does not need is no
 * damage. */
static int file_head(struct scan *scan, uint64_t number, uint64_t size_bytes)
{
    struct inspect_shard *shard = scan->shard;
    struct io *io = shard->place->io;
    struct segment_head head = {0};
    uint8_t *bytes = aligned_alloc(DISK_BLOCK, DISK_SEGMENT_DATA + DISK_BLOCK);
    if (bytes == NULL)
        return E_NO_MEMORY;
    memset(bytes, 0, DISK_SEGMENT_DATA + DISK_BLOCK);
    int fd = io_open_wait(io, shard->path, segment_open_flags(shard->place->no_direct, true), 0);
    int len = fd < 0 ? fd : io_read_wait(io, fd, bytes, DISK_SEGMENT_DATA + DISK_BLOCK, 0);
    scan->segment.fd = fd;
    scan->item.status = len < 0 ? len : segment_head_parse(bytes, &head);
    const struct store_identity *identity = &shard->place->head.identity;
    bool ours = memcmp(head.store_id, identity->store_id, sizeof(head.store_id)) == 0 &&
                head.shard_id == shard->shard && head.number == number;
    if (scan->item.status == 0 && !ours)
        scan->item.status = E_FOREIGN;
    if (scan->item.status == 0 && size_bytes != identity->segment_bytes)
        scan->item.status = E_TRUNCATED;
    scan->item.is_damage = scan->item.status < 0 && strcmp(scan->item.role, "raw") != 0;
    scan->item.generation = scan->segment.generation = head.generation;
    scan->bad_copies = head.bad_copies;
    struct group_head first;
    if (scan->item.status == 0 && group_head_parse(bytes + DISK_SEGMENT_DATA, head.generation,
                                                   size_bytes, &first) == GROUP_VERDICT_TORN)
        scan->segment.base_lsn = first.lsn;
    free(bytes);
    return 0;
}

/* ---- groups ---- */

/* Of a file whose end is known, all groups up to there must be good. */
static int file_groups(struct scan *scan, const struct recover_file *file)
{
    struct inspect_shard *shard = scan->shard;
    const struct inspect_options *options = shard->options;
    if (file)
        scan->segment.base_lsn = file->base_lsn;
    uint64_t from_lsn = scan->segment.base_lsn;
    struct wal_position at;
    uint64_t to_lsn = file ? file->end_lsn : UINT64_MAX;
    scan->item.lsn_from = from_lsn;
    scan->item.lsn_to = file ? file->end_lsn : from_lsn;
    scan->segment.end_lsn = to_lsn;
    if (!options->verify && !options->groups)
        return 0;
    int status = recover_scan_groups(shard->place->io, &scan->segment,
                                     shard->place->head.identity.segment_bytes, from_lsn, to_lsn,
                                     visit_group, scan, &at);
    scan->item.lsn_to = at.lsn;
    if (status == E_CORRUPT && file) {
        scan->item.status = E_CORRUPT;
        scan->item.is_damage = true;
        scan->item.text = "a group in it is damaged";
        scan->item.offset = segment_offset(&scan->segment, at.lsn);
        scan->item.lsn_from = at.lsn;
        scan->item.lsn_to = file->end_lsn;
    } else if (status == 0 && scan->bad_text) {
        scan->item.status = E_CORRUPT;
        scan->item.is_damage = true;
        scan->item.text = scan->bad_text;
        scan->item.offset = segment_offset(&scan->segment, scan->bad_lsn);
        scan->item.lsn_from = scan->bad_lsn;
    }
    return status == E_CORRUPT ? 0 : status;
}

static int visit_group(void *context, const struct group_head *head, uint8_t *bytes)
{
    struct scan *scan = context;
    int status = recover_visit_entries(head, bytes, scan->segment.number, visit_entry, scan);
    scan->item.groups++;
    if (scan->shard->options->groups)
        inspect_report(
            scan->shard,
            &(struct inspect_item){.kind = INSPECT_GROUP,
                                   .number = scan->segment.number,
                                   .status = status,
                                   .is_damage = status < 0,
                                   .lsn_from = head->lsn,
                                   .lsn_to = head->lsn + group_total_bytes(head->payload_bytes),
                                   .offset = segment_offset(&scan->segment, head->lsn),
                                   .entries = head->entry_count,
                                   .group_number = head->number,
                                   .append_time_ms = head->append_time_ms,
                                   .group_type = head->type});
    return status;
}

static int visit_entry(void *context, const struct wal_view *view)
{
    struct scan *scan = context;
    scan->item.entries++;
    scan->item.batches +=
        view->type == ENTRY_BATCH || view->type == ENTRY_STAGED || view->type == ENTRY_STAGED_MOVED;
    const char *fault = scan->shard->options->verify ? entry_fault(view) : NULL;
    if (fault && !scan->bad_text) {
        scan->bad_text = fault;
        scan->bad_lsn = view->lsn;
    }
    return 0;
}

/* What storage itself puts into an entry; the rest of the types is the broker's. */
static const char *entry_fault(const struct wal_view *view)
{
    struct batch_info info;
    uint64_t position;
    uint32_t batch_count;
    bool is_well_formed;
    switch (view->type) {
    case ENTRY_BATCH:
        return batch_is_intact(view->payload, view->payload_bytes)
                   ? NULL
                   : "a batch in it fails its CRC-32C";
    case ENTRY_STAGED:
    case ENTRY_STAGED_MOVED:
        if (!segment_scan_staged_batch(view, &position, &info))
            return "a staged batch in it is not well-formed";
        return batch_is_intact(view->payload + view->payload_bytes - info.size, info.size)
                   ? NULL
                   : "a staged batch in it fails its CRC-32C";
    case ENTRY_COMMIT:
    case ENTRY_ABORT:
        is_well_formed = segment_scan_commit(view, &batch_count);
        return is_well_formed && (view->type == ENTRY_COMMIT || batch_count == 0)
                   ? NULL
                   : "a COMMIT or ABORT in it is not well-formed";
    default:
        return NULL;
    }
}

/* ---- indexes ---- */

/* A bad or missing one is made anew from the segment. */
static int inspect_index(struct inspect_shard *shard, const struct recover_file *file)
{
    struct io *io = shard->place->io;
    char name[32];
    uint64_t size = 0;
    snprintf(name, sizeof(name), "%016llx.idx", (unsigned long long)file->number);
    inspect_path(shard, "wal", name);
    int fd = io_open_wait(io, shard->path, 0, 0);
    if (fd == E_NOT_FOUND)
        return 0;
    int status = fd < 0 ? fd : io_file_size(io, fd, &size);
    if (status == 0 && size > shard->place->head.identity.segment_bytes)
        status = E_CORRUPT; // an index is smaller than what it describes
    uint8_t *bytes = status == 0 ? malloc(size + 1) : NULL;
    if (status == 0)
        status = bytes ? io_read_wait(io, fd, bytes, (uint32_t)size, 0) : E_NO_MEMORY;
    struct index_image image = {0};
    struct index_identity identity = {.shard_id = shard->shard,
                                      .number = file->number,
                                      .generation = file->generation,
                                      .base_lsn = file->base_lsn,
                                      .end_lsn = file->end_lsn};
    memcpy(identity.store_id, shard->place->head.identity.store_id, sizeof(identity.store_id));
    if (status >= 0)
        status = index_image_parse(bytes, (uint64_t)status, &identity, &image);
    inspect_report(shard, &(struct inspect_item){.kind = INSPECT_INDEX,
                                                 .number = file->number,
                                                 .size_bytes = size,
                                                 .status = status,
                                                 .lsn_from = file->base_lsn,
                                                 .lsn_to = file->end_lsn,
                                                 .batches = status == 0 ? image.entry_count : 0});
    if (status == 0)
        index_image_free(&image);
    else
        free(bytes);
    if (fd >= 0)
        (void)io_close_wait(io, fd);
    return 0;
}
