/* Ending the log where it stands: one file whose first group is a CUT.
 *
 * The happy path: take a file that the log can miss, write header and CUT group into it, fdatasync,
 * rename it to the number above all others, sync the directory. Before the rename nothing has
 * changed for a recovery that runs again; after it, the CUT decides. There is no state between, so
 * recovery may crash anywhere.
 *
 * Where the file comes from, in this order: what an earlier attempt left (cut.tmp), other raw
 * material, the newest spare that isn't the successor of the file that holds E (that one recovery
 * demands), a new file. So a disk that is full stops a CUT only when the log has no third file.
 *
 * Why the void files are named by number: groups in them are intact and carry current generations;
 * only the CUT says that they were never part of the log. */
#include "storage/recover_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

struct cut_file {
    char path[SEGMENT_PATH_MAX]; // *.tmp
    int fd;
    bool written;
    uint32_t void_count;
    uint32_t hole_count;
    struct hole holes[DISK_HOLES_MAX];
};

static uint64_t last_number(const struct recover *recover);
static void holes_carry(const struct recover *recover, struct cut_file *cut);
static int material_take(struct recover *recover, struct cut_file *cut);
static struct wal_file *spare_find(struct recover *recover);
static int material_open(struct recover *recover, struct wal_file *file, struct cut_file *cut);
static int spare_retire(struct recover *recover, struct wal_file *file, struct cut_file *cut);
static int file_make(struct recover *recover, struct cut_file *cut);
static uint8_t *cut_blocks_make(struct recover *recover, const struct cut_file *cut,
                                struct segment_head *head, struct group_head *group, uint32_t *len);
static uint32_t payload_bytes_of(const struct cut_file *cut);
static void payload_fill(const struct recover *recover, const struct cut_file *cut,
                         uint8_t *payload);
static int cut_publish(struct recover *recover, const struct cut_file *cut, uint64_t number,
                       const uint8_t *blocks, uint32_t len);
static int place_move(struct recover *recover, const struct cut_file *cut,
                      const struct segment_head *head, const struct group_head *group);
static int fail(struct recover *recover, int status, const char *path, const char *what);

int recover_cut(struct recover *recover)
{
    struct cut_file cut = {.fd = -1};
    struct segment_head head;
    struct group_head group;
    uint32_t len;
    uint64_t void_count =
        max_u64(recover_highest(recover), last_number(recover)) - last_number(recover);
    if (void_count > RECOVER_FILES_MAX)
        return E_CORRUPT;
    cut.void_count = (uint32_t)void_count;
    holes_carry(recover, &cut);
    int status = material_take(recover, &cut);
    if (status < 0)
        return status;
    (void)io_lock_fd(recover->wal->io, cut.fd);
    uint8_t *blocks = cut_blocks_make(recover, &cut, &head, &group, &len);
    if (blocks == NULL)
        status = E_NO_MEMORY;
    if (status == 0)
        status = cut_publish(recover, &cut, head.number, blocks, len);
    if (status == 0)
        status = place_move(recover, &cut, &head, &group);
    if (status < 0)
        (void)io_close_wait(recover->wal->io, cut.fd);
    free(blocks);
    return status;
}

/* Of the file that the log ends in; of a log whose first file is gone, the number before that. */
static uint64_t last_number(const struct recover *recover)
{
    const struct wal_file *file = recover->place.file;
    return file ? file->pub.number : recover_start_number(recover) - 1;
}

/* A hole stays on record in the CUT that told of it; only of CUTs that are void now it must be told
 * again. */
static void holes_carry(const struct recover *recover, struct cut_file *cut)
{
    for (uint32_t i = 0; i < recover->hole_count; i++) {
        const struct hole *hole = &recover->holes[i];
        if (hole->owner == 0 || hole->owner > last_number(recover))
            cut->holes[cut->hole_count++] = *hole;
    }
}

/* ---- the file ---- */

static int material_take(struct recover *recover, struct cut_file *cut)
{
    recover_path(recover, RECOVER_CUT_NAME, cut->path);
    for (uint32_t i = recover->numbered; i < recover->count; i++) {
        struct wal_file *file = &recover->files[i];
        if (file->pub.size_bytes == recover->wal->segment_bytes)
            return material_open(recover, file, cut);
    }
    struct wal_file *spare = spare_find(recover);
    return spare ? spare_retire(recover, spare, cut) : file_make(recover, cut);
}

/* The newest behind the successor. One that somebody made longer can't be made shorter again, and a segment that is too long
 * is none. */
static struct wal_file *spare_find(struct recover *recover)
{
    uint64_t successor = last_number(recover) + 1;
    for (uint32_t i = recover->numbered; i-- > 0 && recover->files[i].pub.number > successor;) {
        struct wal_file *file = &recover->files[i];
        if (file->pub.fd >= 0 && file->pub.size_bytes <= recover->wal->segment_bytes)
            return file;
    }
    return NULL;
}

static int material_open(struct recover *recover, struct wal_file *file, struct cut_file *cut)
{
    recover_path(recover, file->pub.name, cut->path);
    cut->written = strncmp(file->pub.name, "recycled-", 9) == 0;
    cut->fd = io_open_wait(recover->wal->io, cut->path,
                           segment_open_flags(recover->wal->no_direct, false), 0);
    if (cut->fd < 0)
        return fail(recover, cut->fd, cut->path, "cannot be opened");
    file->pub.number = UINT64_MAX; // used up: see place_move()
    return 0;
}

/* The number is freed durably before the header changes. */
static int spare_retire(struct recover *recover, struct wal_file *file, struct cut_file *cut)
{
    char path[SEGMENT_PATH_MAX];
    recover_path(recover, file->pub.name, path);
    int status = io_rename_wait(recover->wal->io, path, cut->path);
    if (status == 0)
        status = io_sync_dir_wait(recover->wal->io, recover->wal->dir);
    if (status < 0)
        return fail(recover, status, path, "cannot be renamed");
    cut->fd = file->pub.fd;
    cut->written = file->pub.written && file->fault == FILE_FINE &&
                   file->pub.size_bytes == recover->wal->segment_bytes;
    file->pub.fd = -1;
    file->pub.name[0] = '\0'; // gone; its number still counts for recover_highest()
    if (file->pub.size_bytes == recover->wal->segment_bytes)
        return 0;
    status = io_allocate(recover->wal->io, cut->fd, recover->wal->segment_bytes);
    return status < 0 ? fail(recover, status, cut->path, "cannot be extended") : 0;
}

static int file_make(struct recover *recover, struct cut_file *cut)
{
    cut->fd = io_open_wait(recover->wal->io, cut->path,
                           segment_open_flags(recover->wal->no_direct, false) | O_CREAT, 0640);
    if (cut->fd < 0)
        return fail(recover, cut->fd, cut->path, "cannot be made");
    int status = io_allocate(recover->wal->io, cut->fd, recover->wal->segment_bytes);
    if (status < 0)
        return fail(recover, status, cut->path, "cannot be made: free the size of a segment");
    return 0;
}

/* ---- its bytes ---- */

static uint8_t *cut_blocks_make(struct recover *recover, const struct cut_file *cut,
                                struct segment_head *head, struct group_head *group, uint32_t *len)
{
    const struct wal_options *wal = recover->wal;
    const struct place *place = &recover->place;
    uint64_t highest = max_u64(recover_highest(recover), last_number(recover));
    uint32_t payload = (uint32_t)sizeof(struct disk_entry) + payload_bytes_of(cut);
    uint32_t total = group_total_bytes(payload);
    *len = DISK_SEGMENT_DATA + total;
    uint8_t *blocks = aligned_alloc(DISK_BLOCK, *len);
    if (blocks == NULL)
        return NULL;
    memset(blocks, 0, *len);
    *head = (struct segment_head){.shard_id = wal->shard_id,
                                  .number = highest + 1,
                                  .generation = random_u64(wal->random),
                                  .segment_bytes = wal->segment_bytes,
                                  .written = cut->written};
    memcpy(head->store_id, wal->store_id, sizeof(head->store_id));
    segment_head_make(blocks, head, place->append_time_ms);
    *group = (struct group_head){.type = GROUP_CUT,
                                 .payload_bytes = payload,
                                 .entry_count = 1,
                                 .lsn = place->lsn,
                                 .number = place->number + 1,
                                 .append_time_ms = place->append_time_ms,
                                 .chain = place->chain};
    uint8_t *bytes = blocks + DISK_SEGMENT_DATA;
    payload_fill(recover, cut, bytes + GROUP_HEADER_BYTES);
    group->chain = group_stamp_replicated(bytes, group, group_payload_checksum(bytes, payload));
    group_stamp_local(bytes, head->generation, place->lsn);
    return blocks;
}

static uint32_t payload_bytes_of(const struct cut_file *cut)
{
    return (uint32_t)(sizeof(struct disk_cut) + cut->void_count * sizeof(le64) +
                      cut->hole_count * sizeof(struct disk_hole));
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static void payload_fill(const struct recover *recover, const struct cut_file *cut,
                         uint8_t *payload)
{
    const struct place *place = &recover->place;
    struct disk_entry entry = {.payload_bytes = le32_make(payload_bytes_of(cut)),
                               .type = ENTRY_CUT};
    struct disk_cut disk = {.end_lsn = le64_make(place->lsn),
                            .chain = le64_make(place->chain),
                            .group_number = le64_make(place->number),
                            .void_count = le32_make(cut->void_count),
                            .hole_count = le32_make(cut->hole_count)};
    uint8_t *at = put(payload, &entry, sizeof(entry));
    at = put(at, &disk, sizeof(disk));
    for (uint32_t i = 1; i <= cut->void_count; i++) {
        le64 number = le64_make(last_number(recover) + i);
        at = put(at, &number, sizeof(number));
    }
    for (uint32_t i = 0; i < cut->hole_count; i++) {
        const struct hole *hole = &cut->holes[i];
        struct disk_hole disk_hole = {.from_lsn = le64_make(hole->from_lsn),
                                      .to_lsn = le64_make(hole->to_lsn),
                                      .to_file = le64_make(hole->to_file),
                                      .to_offset = le64_make(hole->to_offset)};
        at = put(at, &disk_hole, sizeof(disk_hole));
    }
}

/* ---- its publication ---- */

static int cut_publish(struct recover *recover, const struct cut_file *cut, uint64_t number,
                       const uint8_t *blocks, uint32_t len)
{
    struct io *io = recover->wal->io;
    char path[SEGMENT_PATH_MAX];
    segment_path_make(path, recover->wal->dir, number);
    int status = io_write_wait(io, cut->fd, blocks, len, 0);
    if (status >= 0)
        status = io_fdatasync_wait(io, cut->fd);
    if (status >= 0)
        status = io_rename_wait(io, cut->path, path);
    if (status >= 0)
        status = io_sync_dir_wait(io, recover->wal->dir);
    return status < 0 ? fail(recover, status, cut->path, "cannot be written") : 0;
}

/* From here on the log stands in the new file, and everything between is void. */
static int place_move(struct recover *recover, const struct cut_file *cut,
                      const struct segment_head *head, const struct group_head *group)
{
    struct place *place = &recover->place;
    uint64_t from = last_number(recover);
    uint32_t total = group_total_bytes(group->payload_bytes);
    struct wal_file *files = malloc((recover->count + 1) * sizeof(*files));
    if (files == NULL)
        return E_NO_MEMORY;
    if (place->file && place->file->pub.end_lsn == 0)
        place->file->pub.end_lsn = place->lsn;
    uint32_t numbered = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < recover->numbered; i++) {
        struct wal_file *file = &recover->files[i];
        file->is_void = file->is_void || file->pub.number > from;
        if (file->pub.name[0] != '\0')
            files[count++] = *file;
    }
    struct wal_file *new_file = &files[count++];
    *new_file = (struct wal_file){.pub = {.number = head->number,
                                          .size_bytes = head->segment_bytes,
                                          .role = RECOVER_OPEN,
                                          .fd = cut->fd,
                                          .written = cut->written,
                                          .generation = head->generation,
                                          .base_lsn = place->lsn},
                                  .first_verdict = GROUP_VERDICT_TORN,
                                  .first = *group,
                                  .is_cut = true};
    snprintf(new_file->pub.name, sizeof(new_file->pub.name), "%016llx.wal",
             (unsigned long long)head->number);
    numbered = count;
    for (uint32_t i = recover->numbered; i < recover->count; i++)
        if (recover->files[i].pub.number != UINT64_MAX)
            files[count++] = recover->files[i];
    free(recover->files);
    recover->files = files;
    recover->numbered = numbered;
    recover->count = count;
    place->file = new_file;
    place->lsn += total;
    place->offset = DISK_SEGMENT_DATA + total;
    place->chain = group->chain;
    place->number = group->number;
    place->bare = true;
    return 0;
}

static int fail(struct recover *recover, int status, const char *path, const char *what)
{
    struct recover_result *result = recover->result;
    memcpy(result->path, path, strlen(path) + 1);
    snprintf(result->text, sizeof(result->text), "%s (%s)", what, status_text(status));
    return status;
}
