/* What is there: names, sizes, headers, first groups, CUTs.
 *
 * The happy path: list the directory, open and lock each segment, make everything durable that an
 * earlier process may have left in caches, read 12 KiB of each. Nothing is judged here beyond "this
 * file, seen on its own, is fine or not"; which files are needed is the walk's question.
 *
 * The locks: a process that was killed may have writes on their way to the device for as long as
 * that takes. Each of them holds its open file and so its flock(); a file that we could lock can't
 * change any more. */
#include "storage/recover_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "storage/disk_header.h"

#define LOCK_TRIES 100
#define LOCK_PAUSE_NS (20 * NS_PER_MS)
#define HEAD_BYTES (DISK_SEGMENT_DATA + DISK_BLOCK) // header twice, first group's first block

static int visit_name(void *context, const char *name, uint64_t size_bytes);
static bool is_material(const char *name);
static int file_order(const void *a, const void *b);
static int check_numbers(struct recover *recover);
static int open_all(struct recover *recover);
static int file_lock(struct recover *recover, int fd);
static int sync_all(struct recover *recover);
static int read_heads(struct recover *recover);
static int read_head(struct recover *recover, struct wal_file *file, uint8_t *bytes);
static enum file_fault file_judge(const struct recover *recover, const struct wal_file *file,
                                  int head_status, const struct segment_head *head);
static int read_cut(struct recover *recover, struct wal_file *file);
static void cut_parse(struct wal_file *file, const uint8_t *payload);
static void cuts_apply(struct recover *recover);
static void hole_add(struct recover *recover, const struct wal_file *file, uint32_t index);
static int fail(struct recover *recover, int status, const char *what, const char *name);

int recover_gather(struct recover *recover)
{
    int status = io_list(recover->wal->io, recover->wal->dir, visit_name, recover);
    if (status < 0)
        return fail(recover, status, "cannot be listed", "");
    if (recover->count > 0) // else there is no array either
        qsort(recover->files, recover->count, sizeof(*recover->files), file_order);
    status = check_numbers(recover);
    if (status == 0)
        status = open_all(recover);
    if (status == 0 && !recover->options->read_only)
        status = sync_all(recover);
    if (status == 0)
        status = read_heads(recover);
    if (status == 0)
        cuts_apply(recover);
    return status;
}

/* ---- names ---- */

static int visit_name(void *context, const char *name, uint64_t size_bytes)
{
    struct recover *recover = context;
    uint64_t number = disk_name_parse(name, ".wal");
    if (number == 0 && !is_material(name))
        return 0;
    if (recover->count == recover->capacity) {
        uint32_t capacity = recover->capacity * 2 + 64;
        struct wal_file *files = realloc(recover->files, capacity * sizeof(*files));
        if (files == NULL)
            return E_NO_MEMORY;
        recover->files = files;
        recover->capacity = capacity;
    }
    struct wal_file *file = &recover->files[recover->count++];
    *file = (struct wal_file){
        .pub = {.number = number, .size_bytes = size_bytes, .role = RECOVER_RAW, .fd = -1}};
    snprintf(file->pub.name, sizeof(file->pub.name), "%s", name);
    recover->numbered += number != 0;
    return 0;
}

/* What spares.c and recover_cut.c leave behind; other *.tmp belong to others. */
static bool is_material(const char *name)
{
    static const char *const prefixes[] = {"new-", "recycled-", "void-"};
    if (strcmp(name, RECOVER_CUT_NAME) == 0)
        return true;
    for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], len) == 0 && disk_name_parse(name + len, ".tmp") != 0)
            return true;
    }
    return false;
}

static int file_order(const void *a, const void *b)
{
    const struct wal_file *left = a;
    const struct wal_file *right = b;
    uint64_t l = left->pub.number - 1; // *.tmp (0) last
    uint64_t r = right->pub.number - 1;
    if (l != r)
        return l < r ? -1 : 1;
    return strcmp(left->pub.name, right->pub.name);
}

/* Numbers grow by one a file; far apart they were not made by us, and a row between them can't be
 * walked. */
static int check_numbers(struct recover *recover)
{
    if (recover->numbered == 0)
        return 0;
    uint64_t first = recover->files[0].pub.number;
    uint64_t last = recover_highest(recover);
    if (last - first < RECOVER_FILES_MAX && last < UINT64_MAX / 2)
        return 0;
    struct wal_file *file = &recover->files[recover->numbered - 1];
    recover->result->damage = DAMAGE_FOREIGN_FILE;
    return fail(recover, E_FOREIGN, "has a number far outside of the row", file->pub.name);
}

uint64_t recover_highest(const struct recover *recover)
{
    return recover->numbered == 0 ? 0 : recover->files[recover->numbered - 1].pub.number;
}

struct wal_file *recover_file_find(struct recover *recover, uint64_t number)
{
    uint32_t low = 0;
    uint32_t high = recover->numbered;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (recover->files[middle].pub.number < number)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < recover->numbered && recover->files[low].pub.number == number;
    return found ? &recover->files[low] : NULL;
}

struct wal_file *recover_file_after(struct recover *recover, const struct wal_file *file)
{
    for (const struct wal_file *next = file + 1; next < recover->files + recover->numbered; next++)
        if (!next->is_void)
            return recover->files + (next - recover->files);
    return NULL;
}

void recover_path(const struct recover *recover, const char *name, char *path)
{
    int len = snprintf(path, SEGMENT_PATH_MAX, "%s/%s", recover->wal->dir, name);
    ASSERT(len > 0 && len < SEGMENT_PATH_MAX);
}

/* ---- opening ---- */

static int open_all(struct recover *recover)
{
    uint32_t flags = segment_open_flags(recover->wal->no_direct, recover->options->read_only);
    for (uint32_t i = 0; i < recover->numbered; i++) {
        struct wal_file *file = &recover->files[i];
        char path[SEGMENT_PATH_MAX];
        recover_path(recover, file->pub.name, path);
        int fd = io_open_wait(recover->wal->io, path, flags, 0);
        if (fd < 0)
            return fail(recover, fd, "cannot be opened", file->pub.name);
        file->pub.fd = fd;
        int status = recover->options->read_only ? 0 : file_lock(recover, fd);
        if (status < 0)
            return fail(recover, status, "is still being written by a process that ended",
                        file->pub.name);
    }
    return 0;
}

/* io_poll() with nothing in flight is a pause. */
static int file_lock(struct recover *recover, int fd)
{
    int status = io_lock_fd(recover->wal->io, fd);
    for (int i = 0; i < LOCK_TRIES && status == E_LOCKED; i++) {
        (void)io_poll(recover->wal->io, LOCK_PAUSE_NS);
        status = io_lock_fd(recover->wal->io, fd);
    }
    return status;
}

static int sync_all(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->numbered; i++) {
        int status = io_fdatasync_wait(recover->wal->io, recover->files[i].pub.fd);
        if (status < 0)
            return fail(recover, status, "cannot be made durable", recover->files[i].pub.name);
    }
    int status = io_sync_dir_wait(recover->wal->io, recover->wal->dir);
    return status < 0 ? fail(recover, status, "cannot be made durable", "") : 0;
}

/* ---- heads ---- */

static int read_heads(struct recover *recover)
{
    uint8_t *bytes = aligned_alloc(DISK_BLOCK, HEAD_BYTES);
    int status = bytes ? 0 : E_NO_MEMORY;
    for (uint32_t i = 0; i < recover->numbered && status == 0; i++)
        status = read_head(recover, &recover->files[i], bytes);
    free(bytes);
    return status;
}

static int read_head(struct recover *recover, struct wal_file *file, uint8_t *bytes)
{
    struct segment_head head = {0};
    memset(bytes, 0, HEAD_BYTES);
    int len = io_read_wait(recover->wal->io, file->pub.fd, bytes, HEAD_BYTES, 0);
    if (len < 0)
        return fail(recover, len, "cannot be read", file->pub.name);
    int status = segment_head_parse(bytes, &head);
    file->fault = file_judge(recover, file, status, &head);
    if (file->fault != FILE_FINE)
        return 0;
    if (head.bad_copies != 0) // the other one is enough
        LOG_WARN("wal.header_copy_damaged", LOG_STR("dir", recover->wal->dir),
                 LOG_STR("file", file->pub.name),
                 LOG_U64("offset", head.bad_copies == 1 ? 0 : DISK_BLOCK));
    file->pub.generation = head.generation;
    file->pub.written = head.written;
    file->first_verdict = group_head_parse(bytes + DISK_SEGMENT_DATA, head.generation,
                                           file->pub.size_bytes - DISK_SEGMENT_DATA, &file->first);
    if (file->first_verdict != GROUP_VERDICT_TORN)
        return 0;
    recover->proven_lsn = max_u64(recover->proven_lsn, file->first.durable_lsn);
    return file->first.type == GROUP_CUT ? read_cut(recover, file) : 0;
}

static enum file_fault file_judge(const struct recover *recover, const struct wal_file *file,
                                  int head_status, const struct segment_head *head)
{
    const struct wal_options *wal = recover->wal;
    if (head_status == E_NEWER)
        return FILE_NEWER;
    if (head_status < 0)
        return file->pub.size_bytes < DISK_SEGMENT_DATA ? FILE_WRONG_SIZE : FILE_BAD_HEADER;
    if (memcmp(head->store_id, wal->store_id, sizeof(head->store_id)) != 0 ||
        head->shard_id != wal->shard_id || head->number != file->pub.number ||
        head->segment_bytes != wal->segment_bytes)
        return FILE_FOREIGN;
    return file->pub.size_bytes == wal->segment_bytes ? FILE_FINE : FILE_WRONG_SIZE;
}

/* ---- CUTs ---- */

static int read_cut(struct recover *recover, struct wal_file *file)
{
    uint8_t *bytes;
    file_reader_open(&recover->reader, file->pub.fd, file->pub.size_bytes);
    uint32_t total = group_total_bytes(file->first.payload_bytes);
    if (total > GROUP_BYTES_MAX)
        return 0; // no CUT of ours; the walk will stumble over it
    int status = file_reader_bytes(&recover->reader, DISK_SEGMENT_DATA, total, &bytes);
    if (status < 0)
        return fail(recover, status, "cannot be read", file->pub.name);
    if (group_payload_is_good(bytes, &file->first))
        cut_parse(file, bytes + GROUP_HEADER_BYTES);
    return 0;
}

/* The payload is one entry: cut, void numbers, holes. A checksum vouches for it, lengths are
 * checked all the same. */
static void cut_parse(struct wal_file *file, const uint8_t *payload)
{
    struct disk_entry entry;
    struct disk_cut cut;
    if (file->first.payload_bytes < sizeof(entry) + sizeof(cut))
        return;
    memcpy(&entry, payload, sizeof(entry));
    memcpy(&cut, payload + sizeof(entry), sizeof(cut));
    uint64_t voids = le32_get(cut.void_count);
    uint64_t holes = le32_get(cut.hole_count);
    uint64_t need = sizeof(cut) + voids * sizeof(le64) + holes * sizeof(struct disk_hole);
    if (entry.type != ENTRY_CUT || holes > DISK_HOLES_MAX || voids > RECOVER_FILES_MAX ||
        le32_get(entry.payload_bytes) != need || le64_get(cut.end_lsn) != file->first.lsn ||
        sizeof(entry) + need > file->first.payload_bytes)
        return;
    file->voids = malloc((voids + 1) * sizeof(*file->voids) + holes * sizeof(struct disk_hole));
    if (file->voids == NULL)
        return;
    memcpy(file->voids, payload + sizeof(entry) + sizeof(cut), need - sizeof(cut));
    file->cut = cut;
    file->is_cut = true;
}

/* Newest first: what a CUT declares void says nothing any more, neither about groups nor about
 * other files. */
static void cuts_apply(struct recover *recover)
{
    for (uint32_t i = recover->numbered; i > 0; i--) {
        struct wal_file *file = &recover->files[i - 1];
        if (!file->is_cut || file->is_void)
            continue;
        uint32_t voids = le32_get(file->cut.void_count);
        for (uint32_t n = 0; n < voids; n++) {
            struct wal_file *gone = recover_file_find(recover, file->voids[n]);
            if (gone && gone != file)
                gone->is_void = true;
        }
        for (uint32_t n = 0; n < le32_get(file->cut.hole_count); n++)
            hole_add(recover, file, n);
    }
}

/* Every step over a hole leads on, and to a place where a group can be; what does not is no hole of
 * ours. */
static void hole_add(struct recover *recover, const struct wal_file *file, uint32_t index)
{
    struct disk_hole disk;
    const uint8_t *holes = (const uint8_t *)(file->voids + le32_get(file->cut.void_count));
    memcpy(&disk, holes + index * sizeof(disk), sizeof(disk));
    struct hole hole = {.from_lsn = le64_get(disk.from_lsn),
                        .to_lsn = le64_get(disk.to_lsn),
                        .to_file = le64_get(disk.to_file),
                        .to_offset = le64_get(disk.to_offset),
                        .owner = file->pub.number};
    bool leads_on = hole.from_lsn < hole.to_lsn && hole.to_offset % DISK_BLOCK == 0;
    bool in_file = hole.to_offset >= DISK_SEGMENT_DATA &&
                   hole.to_offset < recover->wal->segment_bytes &&
                   hole.to_lsn >= hole.to_offset - DISK_SEGMENT_DATA;
    if (leads_on && (hole.to_file == 0 || in_file) && recover->hole_count < DISK_HOLES_MAX)
        recover->holes[recover->hole_count++] = hole;
}

/* ---- the rest ---- */

void recover_files_free(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->count; i++) {
        if (recover->files[i].pub.fd >= 0)
            (void)io_close_wait(recover->wal->io, recover->files[i].pub.fd);
        free(recover->files[i].voids);
    }
    free(recover->files);
    recover->files = NULL;
    recover->count = recover->numbered = 0;
}

static int fail(struct recover *recover, int status, const char *what, const char *name)
{
    struct recover_result *result = recover->result;
    snprintf(result->path, sizeof(result->path), "%s%s%s", recover->wal->dir, *name ? "/" : "",
             name);
    snprintf(result->text, sizeof(result->text), "%s (%s)", what, status_text(status));
    return status;
}
