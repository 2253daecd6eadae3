/* The memory disk. See sim_disk.h for its model; here are its tables and what a crash makes of
 * them. */
#include "tests/sim/sim_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static void *grow(void *items, uint32_t count, uint32_t *capacity, size_t size);
static struct sim_name *name_find(struct sim_names *names, const char *path);
static void name_set(struct sim_disk *disk, struct sim_names *names, const char *path,
                     struct sim_file *file);
static void dir_op_add(struct sim_disk *disk, const struct sim_dir_op *op);
static void dir_op_apply(struct sim_disk *disk, const struct sim_dir_op *op);
static void dir_op_free(struct sim_disk *disk, struct sim_dir_op *op);
static bool dir_op_is_in(const struct sim_dir_op *op, const char *dir);
static void file_free(struct sim_disk *disk, struct sim_file *file);
static void file_reserve(struct sim_file *file, uint64_t block_count);
static void durable_set(struct sim_file *file, uint64_t block, uint8_t *bytes);
static void block_set(uint8_t **place, const uint8_t *bytes);
static void block_share(uint8_t **place, uint8_t *block);
static void block_drop(uint8_t *block);
static void observe(struct sim_disk *disk, struct sim_event event);
static struct sim_file *file_new(struct sim_disk *disk, bool is_dir);
static void file_crash(struct sim_disk *disk, struct sim_file *file);
static void version_crash(struct sim_disk *disk, struct sim_file *file,
                          const struct sim_version *version);
static void file_see_durable(struct sim_file *file);
static void image_end(struct sim_disk *disk, struct sim_disk *image);

struct sim_disk *sim_disk_new(uint64_t seed, uint64_t capacity_bytes)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));
    ASSERT(disk != NULL);
    random_init(&disk->random, seed);
    disk->capacity_blocks = capacity_bytes / SIM_BLOCK;
    disk->crash_keep_percent = 50;
    disk->sequence = 1;
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    while (disk->dir_op_count > 0)
        dir_op_free(disk, &disk->dir_ops[--disk->dir_op_count]);
    while (disk->seen.count > 0)
        name_set(disk, &disk->seen, disk->seen.names[0].path, NULL);
    while (disk->durable.count > 0)
        name_set(disk, &disk->durable, disk->durable.names[0].path, NULL);
    free(disk->seen.names);
    free(disk->durable.names);
    free(disk->dir_ops);
    free(disk->files);
    free(disk->lied);
    free(disk);
}

static void *grow(void *items, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity * 2 + 16;
    void *bigger = realloc(items, *capacity * size);
    ASSERT(bigger != NULL);
    return bigger;
}

/* ---- names ---- */

static struct sim_name *name_find(struct sim_names *names, const char *path)
{
    for (uint32_t i = 0; i < names->count; i++)
        if (strcmp(names->names[i].path, path) == 0)
            return &names->names[i];
    return NULL;
}

/* file NULL: takes the name away. */
static void name_set(struct sim_disk *disk, struct sim_names *names, const char *path,
                     struct sim_file *file)
{
    struct sim_name *name = name_find(names, path);
    if (file)
        file->references++;
    if (name) {
        struct sim_file *old = name->file;
        char *old_path = name->path;
        if (file) {
            name->file = file;
        } else {
            *name = names->names[--names->count];
            free(old_path);
        }
        sim_file_release(disk, old);
    } else if (file) {
        names->names = grow(names->names, names->count, &names->capacity, sizeof(*names->names));
        names->names[names->count++] = (struct sim_name){.path = strdup(path), .file = file};
    }
}

struct sim_file *sim_disk_find(struct sim_disk *disk, const char *path)
{
    struct sim_name *name = name_find(&disk->seen, path);
    return name ? name->file : NULL;
}

static void observe(struct sim_disk *disk, struct sim_event event)
{
    if (disk->observe)
        disk->observe(disk->observe_context, &event);
}

static struct sim_file *file_new(struct sim_disk *disk, bool is_dir)
{
    struct sim_file *file = calloc(1, sizeof(*file));
    ASSERT(file != NULL);
    file->is_dir = is_dir;
    file->id = ++disk->file_count;
    if (disk->keeps_previous)
        file->previous = calloc(1, sizeof(*file->previous));
    ASSERT(file->previous != NULL || !disk->keeps_previous);
    disk->files =
        grow(disk->files, disk->files_alive, &disk->files_capacity, sizeof(struct sim_file *));
    disk->files[disk->files_alive++] = file;
    return file;
}

struct sim_file *sim_disk_create(struct sim_disk *disk, const char *path, bool is_dir)
{
    struct sim_file *file = file_new(disk, is_dir);
    observe(disk, (struct sim_event){SIM_CREATE, .file = file->id, .path = path, .is_dir = is_dir});
    name_set(disk, &disk->seen, path, file);
    dir_op_add(disk, &(struct sim_dir_op){.changes = {{(char *)(uintptr_t)path, file}},
                                          .change_count = 1});
    return file;
}

int sim_disk_rename(struct sim_disk *disk, const char *from, const char *to)
{
    struct sim_file *file = sim_disk_find(disk, from);
    if (file == NULL)
        return ENOENT;
    observe(disk, (struct sim_event){SIM_RENAME, .path = from, .path_to = to});
    dir_op_add(disk, &(struct sim_dir_op){.changes = {{(char *)(uintptr_t)to, file},
                                                      {(char *)(uintptr_t)from, NULL}},
                                          .change_count = 2});
    name_set(disk, &disk->seen, to, file);
    name_set(disk, &disk->seen, from, NULL);
    return 0;
}

int sim_disk_unlink(struct sim_disk *disk, const char *path)
{
    if (sim_disk_find(disk, path) == NULL)
        return ENOENT;
    observe(disk, (struct sim_event){SIM_UNLINK, .path = path});
    dir_op_add(disk, &(struct sim_dir_op){.changes = {{(char *)(uintptr_t)path, NULL}},
                                          .change_count = 1});
    name_set(disk, &disk->seen, path, NULL);
    return 0;
}

static void dir_op_add(struct sim_disk *disk, const struct sim_dir_op *op)
{
    disk->dir_ops =
        grow(disk->dir_ops, disk->dir_op_count, &disk->dir_op_capacity, sizeof(*disk->dir_ops));
    struct sim_dir_op *copy = &disk->dir_ops[disk->dir_op_count++];
    *copy = *op;
    copy->sequence = ++disk->sequence;
    for (uint32_t i = 0; i < copy->change_count; i++) {
        copy->changes[i].path = strdup(op->changes[i].path);
        if (copy->changes[i].file)
            copy->changes[i].file->references++;
    }
}

static void dir_op_apply(struct sim_disk *disk, const struct sim_dir_op *op)
{
    for (uint32_t i = 0; i < op->change_count; i++)
        name_set(disk, &disk->durable, op->changes[i].path, op->changes[i].file);
}

static void dir_op_free(struct sim_disk *disk, struct sim_dir_op *op)
{
    for (uint32_t i = 0; i < op->change_count; i++) {
        free(op->changes[i].path);
        if (op->changes[i].file)
            sim_file_release(disk, op->changes[i].file);
    }
}

static bool dir_op_is_in(const struct sim_dir_op *op, const char *dir)
{
    const char *path = op->changes[0].path;
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    return strlen(dir) == len && strncmp(path, dir, len) == 0;
}

void sim_disk_sync_dir(struct sim_disk *disk, const char *path, uint64_t sequence)
{
    uint32_t kept = 0;
    observe(disk, (struct sim_event){SIM_SYNC_DIR, .path = path, .sequence = sequence});
    for (uint32_t i = 0; i < disk->dir_op_count; i++) {
        struct sim_dir_op op = disk->dir_ops[i];
        if (op.sequence > sequence || !dir_op_is_in(&op, path)) {
            disk->dir_ops[kept++] = op;
            continue;
        }
        dir_op_apply(disk, &op);
        dir_op_free(disk, &op);
    }
    disk->dir_op_count = kept;
}

/* As a journal does before it says that there is no space: the blocks of files that were deleted
 * come back. */
static void dir_ops_commit(struct sim_disk *disk)
{
    for (uint32_t i = 0; i < disk->dir_op_count; i++) {
        dir_op_apply(disk, &disk->dir_ops[i]);
        dir_op_free(disk, &disk->dir_ops[i]);
    }
    disk->dir_op_count = 0;
}

/* Who holds this file, but for names that are seen and descriptors? */
static uint32_t references_unseen(const struct sim_disk *disk, const struct sim_file *file)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < disk->durable.count; i++)
        count += disk->durable.names[i].file == file;
    for (uint32_t i = 0; i < disk->dir_op_count; i++)
        for (uint32_t k = 0; k < disk->dir_ops[i].change_count; k++)
            count += disk->dir_ops[i].changes[k].file == file;
    return count;
}

uint64_t sim_disk_free_blocks(const struct sim_disk *disk)
{
    uint64_t free_blocks = disk->capacity_blocks > disk->allocated_blocks
                               ? disk->capacity_blocks - disk->allocated_blocks
                               : 0;
    for (uint32_t i = 0; i < disk->dir_op_count; i++) {
        const struct sim_file *file = disk->dir_ops[i].changes[0].file;
        if (file == NULL || references_unseen(disk, file) != file->references)
            continue;
        bool is_first = true;
        for (uint32_t k = 0; k < i && is_first; k++)
            is_first = disk->dir_ops[k].changes[0].file != file;
        for (uint64_t b = 0; is_first && b < file->block_count; b++)
            free_blocks += file->allocated[b];
    }
    for (uint32_t i = 0; i < disk->durable.count; i++) {
        const struct sim_file *file = disk->durable.names[i].file;
        bool is_pending = false;
        for (uint32_t k = 0; k < disk->dir_op_count; k++)
            is_pending |= disk->dir_ops[k].changes[0].file == file;
        if (is_pending || references_unseen(disk, file) != file->references)
            continue;
        for (uint64_t b = 0; b < file->block_count; b++)
            free_blocks += file->allocated[b];
    }
    return free_blocks;
}

/* ---- files ---- */

void sim_file_release(struct sim_disk *disk, struct sim_file *file)
{
    ASSERT(file->references > 0);
    if (--file->references == 0)
        file_free(disk, file);
}

static void file_free(struct sim_disk *disk, struct sim_file *file)
{
    uint32_t at = 0;
    while (disk->files[at] != file)
        at++;
    disk->files_alive--;
    memmove(&disk->files[at], &disk->files[at + 1],
            (disk->files_alive - at) * sizeof(*disk->files));
    for (uint64_t i = 0; i < file->block_count; i++) {
        block_drop(file->seen[i]);
        block_drop(file->durable[i]);
        if (file->previous)
            block_drop(file->previous[i]);
        disk->allocated_blocks -= file->allocated[i];
    }
    for (uint32_t i = 0; i < file->version_count; i++)
        block_drop(file->versions[i].bytes);
    free(file->seen);
    free(file->durable);
    free(file->previous);
    free(file->allocated);
    free(file->versions);
    free(file);
}

static void file_reserve(struct sim_file *file, uint64_t block_count)
{
    if (block_count <= file->block_count)
        return;
    uint64_t old = file->block_count;
    uint64_t count = max_u64(block_count, old * 2);
    file->seen = realloc(file->seen, count * sizeof(*file->seen));
    file->durable = realloc(file->durable, count * sizeof(*file->durable));
    file->allocated = realloc(file->allocated, count * sizeof(*file->allocated));
    ASSERT(file->seen && file->durable && file->allocated);
    memset(file->seen + old, 0, (count - old) * sizeof(*file->seen));
    memset(file->durable + old, 0, (count - old) * sizeof(*file->durable));
    memset(file->allocated + old, 0, (count - old) * sizeof(*file->allocated));
    if (file->previous) {
        file->previous = realloc(file->previous, count * sizeof(*file->previous));
        ASSERT(file->previous);
        memset(file->previous + old, 0, (count - old) * sizeof(*file->previous));
    }
    file->block_count = count;
}

bool sim_disk_allocate(struct sim_disk *disk, struct sim_file *file, uint64_t offset, uint64_t len)
{
    uint64_t first = offset / SIM_BLOCK;
    uint64_t end = (offset + len + SIM_BLOCK - 1) / SIM_BLOCK;
    uint64_t missing = 0;
    observe(disk, (struct sim_event){SIM_ALLOCATE, .file = file->id, .offset = offset, .len = len});
    file_reserve(file, end);
    for (uint64_t i = first; i < end; i++)
        missing += !file->allocated[i];
    if (disk->allocated_blocks + missing > disk->capacity_blocks)
        dir_ops_commit(disk);
    if (disk->allocated_blocks + missing > disk->capacity_blocks)
        return false;
    for (uint64_t i = first; i < end; i++)
        file->allocated[i] = true;
    disk->allocated_blocks += missing;
    return true;
}

static bool is_zero(const uint8_t *bytes)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, SIM_BLOCK - 1) == 0;
}

/* The count of those who share a block lies in front of its bytes. */
#define BLOCK_HEAD 64
static uint32_t *block_shares(uint8_t *block)
{
    return (uint32_t *)(void *)(block - BLOCK_HEAD);
}

static void block_drop(uint8_t *block)
{
    if (block && --*block_shares(block) == 0)
        free(block - BLOCK_HEAD);
}

static void block_share(uint8_t **place, uint8_t *block)
{
    if (block)
        ++*block_shares(block);
    block_drop(*place);
    *place = block;
}

/* A new one with these bytes; NULL: zeros. */
static void block_set(uint8_t **place, const uint8_t *bytes)
{
    uint8_t *block = NULL;
    if (bytes && !is_zero(bytes)) {
        block = malloc(BLOCK_HEAD + SIM_BLOCK);
        ASSERT(block != NULL);
        block += BLOCK_HEAD;
        *block_shares(block) = 1;
        memcpy(block, bytes, SIM_BLOCK);
    }
    block_drop(*place);
    *place = block;
}

/* Some bytes of it. */
static void block_change(uint8_t **place, const uint8_t *bytes, uint64_t at, uint64_t len)
{
    uint8_t block[SIM_BLOCK] = {0};
    if (*place)
        memcpy(block, *place, SIM_BLOCK);
    memcpy(block + at, bytes, len);
    block_set(place, block);
}

static struct sim_version *version_new(struct sim_file *file, uint64_t block, uint64_t sequence)
{
    file->versions =
        grow(file->versions, file->version_count, &file->version_capacity, sizeof(*file->versions));
    struct sim_version *version = &file->versions[file->version_count++];
    *version = (struct sim_version){.block = block, .sequence = sequence};
    return version;
}

void sim_file_add_version(struct sim_file *file, uint64_t block, const uint8_t *bytes,
                          uint64_t sequence)
{
    block_set(&version_new(file, block, sequence)->bytes, bytes);
}

void sim_file_forget(struct sim_file *file, uint64_t write)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < file->version_count; i++) {
        struct sim_version version = file->versions[i];
        if (version.sequence == 0 && (write == 0 || version.write == write))
            block_drop(version.bytes);
        else
            file->versions[kept++] = version;
    }
    file->version_count = kept;
}

uint64_t sim_file_write_start(struct sim_disk *disk, const struct sim_file *file,
                              const uint8_t *bytes, uint64_t offset, uint64_t len)
{
    uint64_t write = ++disk->write_count;
    observe(disk, (struct sim_event){SIM_WRITE_START, .file = file->id, .offset = offset,
                                     .len = len, .bytes = bytes, .write = write});
    return write;
}

void sim_file_write(struct sim_disk *disk, struct sim_file *file, const uint8_t *bytes,
                    uint64_t offset, uint64_t len)
{
    uint64_t sequence = ++disk->sequence;
    observe(disk, (struct sim_event){SIM_WRITE, .file = file->id, .offset = offset, .len = len,
                                     .bytes = bytes});
    while (len > 0) {
        uint64_t index = offset / SIM_BLOCK;
        uint64_t at = offset % SIM_BLOCK;
        uint64_t piece = min_u64(SIM_BLOCK - at, len);
        file_reserve(file, index + 1);
        if (piece == SIM_BLOCK)
            block_set(&file->seen[index], bytes);
        else
            block_change(&file->seen[index], bytes, at, piece);
        block_share(&version_new(file, index, sequence)->bytes, file->seen[index]);
        offset += piece;
        bytes += piece;
        len -= piece;
        file->size = max_u64(file->size, offset);
    }
}

static uint64_t read_blocks(const struct sim_file *file, uint8_t *const *blocks, uint8_t *bytes,
                            uint64_t offset, uint64_t len)
{
    uint64_t end = min_u64(file->size, offset + len);
    uint64_t done = 0;
    while (offset < end) {
        uint64_t index = offset / SIM_BLOCK;
        uint64_t at = offset % SIM_BLOCK;
        uint64_t piece = min_u64(SIM_BLOCK - at, end - offset);
        const uint8_t *block = index < file->block_count ? blocks[index] : NULL;
        __asm__("" : "+r"(piece)); // a compiler that knows how small it is copies word by word
        if (block)
            memcpy(bytes + done, block + at, piece);
        else
            memset(bytes + done, 0, piece);
        offset += piece;
        done += piece;
    }
    return done;
}

uint64_t sim_file_read(const struct sim_file *file, uint8_t *bytes, uint64_t offset, uint64_t len)
{
    return read_blocks(file, file->seen, bytes, offset, len);
}

/* ---- lies ---- */

static bool is_same(const uint8_t *a, const uint8_t *b)
{
    static const uint8_t zeros[SIM_BLOCK];
    return a == b || memcmp(a ? a : zeros, b ? b : zeros, SIM_BLOCK) == 0;
}

/* Where a reader of this block could be given the past; NULL: nowhere. */
static uint8_t *const *stale_of(const struct sim_file *file, uint64_t block)
{
    if (file->previous == NULL || block >= file->block_count)
        return NULL;
    if (!is_same(file->durable[block], file->seen[block]))
        return &file->durable[block];
    if (!is_same(file->previous[block], file->seen[block]))
        return &file->previous[block];
    return NULL;
}

uint32_t sim_file_stale_blocks(const struct sim_file *file, uint64_t offset, uint64_t len)
{
    uint32_t count = 0;
    for (uint64_t at = offset; at < min_u64(offset + len, file->size);
         at = (at / SIM_BLOCK + 1) * SIM_BLOCK)
        count += stale_of(file, at / SIM_BLOCK) != NULL;
    return count;
}

uint64_t sim_file_read_stale(struct sim_disk *disk, const struct sim_file *file, uint8_t *bytes,
                             uint64_t offset, uint64_t len, uint32_t only)
{
    uint64_t done = sim_file_read(file, bytes, offset, len);
    uint32_t count = 0;
    for (uint64_t at = offset, piece; at < offset + done; at += piece) {
        uint8_t *const *stale = stale_of(file, at / SIM_BLOCK);
        piece = min_u64(SIM_BLOCK - at % SIM_BLOCK, offset + done - at);
        if (stale == NULL || (only != UINT32_MAX && only != count++))
            continue;
        if (*stale)
            memcpy(bytes + (at - offset), *stale + at % SIM_BLOCK, piece);
        else
            memset(bytes + (at - offset), 0, piece);
        sim_disk_note_lie(disk, file, at, piece);
    }
    return done;
}

void sim_disk_note_lie(struct sim_disk *disk, const struct sim_file *file, uint64_t offset,
                       uint64_t len)
{
    for (uint64_t block = offset / SIM_BLOCK; block * SIM_BLOCK < offset + len; block++) {
        disk->lied = grow(disk->lied, disk->lied_count, &disk->lied_capacity, sizeof(*disk->lied));
        disk->lied[disk->lied_count++] = (struct sim_lied){file->id, block};
    }
}

bool sim_disk_has_lied(const struct sim_disk *disk, const struct sim_file *file, uint64_t block)
{
    for (uint32_t i = 0; i < disk->lied_count; i++)
        if (disk->lied[i].file == file->id && disk->lied[i].block == block)
            return true;
    return false;
}

/* ---- what becomes of bytes ---- */

/* On stable storage from now on. What is written once more as it was leaves the one before in its place. */
static void durable_set(struct sim_file *file, uint64_t block, uint8_t *bytes)
{
    if (file->previous && !is_same(file->durable[block], bytes))
        block_share(&file->previous[block], file->durable[block]);
    block_share(&file->durable[block], bytes);
}

void sim_file_extend(struct sim_disk *disk, struct sim_file *file, uint64_t size)
{
    observe(disk, (struct sim_event){SIM_EXTEND, .file = file->id, .len = size});
    file->size = max_u64(file->size, size);
}

void sim_file_truncate(struct sim_disk *disk, struct sim_file *file, uint64_t size)
{
    observe(disk, (struct sim_event){SIM_TRUNCATE, .file = file->id, .len = size});
    file->size = size;
    file->size_durable = size;
    for (uint64_t i = (size + SIM_BLOCK - 1) / SIM_BLOCK; i < file->block_count; i++) {
        block_share(&file->seen[i], NULL);
        durable_set(file, i, NULL);
        disk->allocated_blocks -= file->allocated[i];
        file->allocated[i] = false;
    }
}

/* A lost version is over when a later one of its block is safe: it can't come up above that. */
static bool is_superseded(const struct sim_file *file, uint32_t i, uint64_t sequence)
{
    const struct sim_version *version = &file->versions[i];
    for (uint32_t later = i + 1; version->lost && later < file->version_count; later++)
        if (file->versions[later].block == version->block && !file->versions[later].lost &&
            file->versions[later].sequence != 0 && file->versions[later].sequence <= sequence)
            return true;
    return false;
}

void sim_file_sync(struct sim_disk *disk, struct sim_file *file, uint64_t sequence)
{
    uint32_t kept = 0;
    observe(disk, (struct sim_event){SIM_SYNC, .file = file->id, .sequence = sequence});
    for (uint32_t i = 0; i < file->version_count; i++) {
        struct sim_version version = file->versions[i];
        if (is_superseded(file, i, sequence)) {
            block_drop(version.bytes);
            continue;
        }
        if (version.sequence == 0 || version.sequence > sequence || version.lost) {
            file->versions[kept++] = version;
            continue;
        }
        durable_set(file, version.block, version.bytes);
        block_drop(version.bytes);
    }
    file->version_count = kept;
    file->size_durable = file->size;
}

/* What is read of this block: its newest version, or what is durable. */
static void see_newest(struct sim_file *file, uint64_t block)
{
    uint8_t *newest = file->durable[block];
    for (uint32_t i = 0; i < file->version_count; i++)
        if (file->versions[i].block == block && file->versions[i].sequence != 0)
            newest = file->versions[i].bytes;
    block_share(&file->seen[block], newest);
}

static void version_drop(struct sim_file *file, uint32_t i)
{
    uint64_t block = file->versions[i].block;
    block_drop(file->versions[i].bytes);
    memmove(&file->versions[i], &file->versions[i + 1],
            (file->version_count - i - 1) * sizeof(*file->versions));
    file->version_count--;
    see_newest(file, block);
}

void sim_file_sync_failed(struct sim_disk *disk, struct sim_file *file, uint64_t sequence,
                          bool direct)
{
    for (uint32_t i = file->version_count; i-- > 0;) {
        struct sim_version *version = &file->versions[i];
        if (version->sequence == 0 || version->sequence > sequence)
            continue;
        if (!direct)
            version->lost = true;
        else if (random_below(&disk->random, 2) == 0)
            version_drop(file, i);
    }
}

/* ---- the power goes ---- */

static bool lucky(struct sim_disk *disk)
{
    return random_below(&disk->random, 100) < disk->crash_keep_percent;
}

void sim_disk_crash(struct sim_disk *disk)
{
    for (uint32_t i = 0; i < disk->dir_op_count; i++) {
        if (lucky(disk))
            dir_op_apply(disk, &disk->dir_ops[i]);
        dir_op_free(disk, &disk->dir_ops[i]);
    }
    disk->dir_op_count = 0;
    while (disk->seen.count > 0)
        name_set(disk, &disk->seen, disk->seen.names[0].path, NULL);
    for (uint32_t i = 0; i < disk->durable.count; i++) {
        struct sim_name *name = &disk->durable.names[i];
        file_crash(disk, name->file);
        name_set(disk, &disk->seen, name->path, name->file);
    }
}

static void file_crash(struct sim_disk *disk, struct sim_file *file)
{
    uint64_t size = file->size_durable;
    for (uint32_t i = 0; i < file->version_count; i++) {
        struct sim_version *version = &file->versions[i];
        if (lucky(disk)) {
            version_crash(disk, file, version);
            size = max_u64(size, (version->block + 1) * SIM_BLOCK);
        }
        block_drop(version->bytes);
    }
    file->version_count = 0;
    file->size = file->size_durable = min_u64(size, max_u64(file->size, file->size_durable));
    file->lock = NULL;
    file_see_durable(file);
}

/* Whole, some sectors of it, or garbage in some sectors. */
static void version_crash(struct sim_disk *disk, struct sim_file *file,
                          const struct sim_version *version)
{
    uint8_t block[SIM_BLOCK] = {0};
    file_reserve(file, version->block + 1);
    if (file->durable[version->block])
        memcpy(block, file->durable[version->block], SIM_BLOCK);
    uint64_t kind = random_below(&disk->random, 8); // 0..4 whole, 5..6 sectors, 7 garbage
    for (uint32_t sector = 0; sector < SIM_BLOCK / 512; sector++) {
        uint8_t *at = block + sector * 512;
        bool here = kind < 5 || random_below(&disk->random, 2) == 0;
        if (here && version->bytes)
            memcpy(at, version->bytes + sector * 512, 512);
        else if (here)
            memset(at, 0, 512);
        else if (kind == 7)
            for (int i = 0; i < 512; i++)
                at[i] = (uint8_t)random_u32(&disk->random);
    }
    uint8_t *fresh = NULL;
    block_set(&fresh, block);
    durable_set(file, version->block, fresh);
    block_drop(fresh);
}

static void file_see_durable(struct sim_file *file)
{
    for (uint64_t i = 0; i < file->block_count; i++)
        block_share(&file->seen[i], file->durable[i]);
}

/* ---- one chosen image ---- */

uint32_t sim_disk_things(const struct sim_disk *disk)
{
    uint32_t count = disk->dir_op_count;
    for (uint32_t i = 0; i < disk->files_alive; i++)
        count += disk->files[i]->version_count;
    return count;
}

static struct sim_file *image_of(struct sim_disk *image, struct sim_file *file)
{
    if (file->image)
        return file->image;
    struct sim_file *copy = file_new(image, file->is_dir);
    file_reserve(copy, file->block_count);
    for (uint64_t b = 0; b < file->block_count; b++) {
        block_share(&copy->durable[b], file->durable[b]);
        copy->allocated[b] = file->allocated[b];
        image->allocated_blocks += file->allocated[b];
    }
    copy->size_durable = file->size_durable;
    copy->size = file->size;
    copy->references = 1; // until the image is done: names come and go
    return file->image = copy;
}

static void fill_sector(uint8_t *to, struct random *random)
{
    for (uint32_t i = 0; i < 512; i += 8) {
        uint64_t word = random_u64(random);
        memcpy(to + i, &word, 8);
    }
}

/* Sector by sector: what was there, what was written, or neither. */
static void version_tear(struct sim_file *file, const struct sim_version *version,
                         enum sim_fate fate, struct random *random)
{
    static const uint8_t zeros[SIM_BLOCK];
    uint8_t block[SIM_BLOCK];
    const uint8_t *old = file->durable[version->block] ? file->durable[version->block] : zeros;
    const uint8_t *new = version->bytes ? version->bytes : zeros;
    for (uint32_t sector = 0; sector < SIM_BLOCK / 512; sector++) {
        bool left = sector < SIM_BLOCK / 512 / 2;
        bool is_new = (fate == SIM_FATE_HALF_NEW && left) || (fate == SIM_FATE_HALF_OLD && !left) ||
                      fate == SIM_FATE_GARBAGE_RIGHT ||
                      (fate == SIM_FATE_MIXED && random_below(random, 2));
        bool is_garbage = (fate == SIM_FATE_GARBAGE_LEFT && left) ||
                          (fate == SIM_FATE_GARBAGE_RIGHT && !left) || fate == SIM_FATE_GARBAGE;
        uint8_t *to = block + sector * 512;
        if (is_garbage)
            fill_sector(to, random);
        else
            memcpy(to, (is_new ? new : old) + sector * 512, 512);
    }
    block_set(&file->durable[version->block], block);
}

static void version_keep(struct sim_file *file, const struct sim_version *version,
                         enum sim_fate fate, struct random *random)
{
    file_reserve(file, version->block + 1);
    if (fate == SIM_FATE_KEPT)
        block_share(&file->durable[version->block], version->bytes);
    else
        version_tear(file, version, fate, random);
    uint64_t end = (version->block + 1) * SIM_BLOCK;
    if (version->sequence == 0)
        file->size = max_u64(file->size, end);
    file->size_durable = max_u64(file->size_durable, min_u64(end, file->size));
}

static struct sim_disk *image_begin(struct sim_disk *disk, uint64_t seed)
{
    struct sim_disk *image = sim_disk_new(seed, disk->capacity_blocks * SIM_BLOCK);
    image->crash_keep_percent = disk->crash_keep_percent;
    image->is_memory = disk->is_memory;
    image->no_direct = disk->no_direct;
    for (uint32_t i = 0; i < disk->files_alive; i++)
        disk->files[i]->image = NULL;
    for (uint32_t i = 0; i < disk->durable.count; i++)
        name_set(image, &image->durable, disk->durable.names[i].path,
                 image_of(image, disk->durable.names[i].file));
    return image;
}

struct sim_disk *sim_disk_image(struct sim_disk *disk, const uint8_t *fates, uint32_t count,
                                uint64_t seed)
{
    struct sim_disk *image = image_begin(disk, seed);
    uint32_t thing = 0;
    for (uint32_t i = 0; i < disk->dir_op_count; i++, thing++) {
        struct sim_dir_op op = disk->dir_ops[i];
        for (uint32_t k = 0; k < op.change_count; k++)
            op.changes[k].file = op.changes[k].file ? image_of(image, op.changes[k].file) : NULL;
        if (thing < count && fates[thing] != SIM_FATE_LOST)
            dir_op_apply(image, &op);
    }
    for (uint32_t i = 0; i < disk->files_alive; i++) {
        struct sim_file *file = disk->files[i];
        for (uint32_t k = 0; k < file->version_count; k++, thing++)
            if (file->image && thing < count && fates[thing] != SIM_FATE_LOST)
                version_keep(file->image, &file->versions[k], fates[thing], &image->random);
    }
    image_end(disk, image);
    return image;
}

/* What no name leads to goes. */
static void image_end(struct sim_disk *disk, struct sim_disk *image)
{
    for (uint32_t i = 0; i < image->durable.count; i++) {
        struct sim_name *name = &image->durable.names[i];
        name->file->size = name->file->size_durable;
        file_see_durable(name->file);
        name_set(image, &image->seen, name->path, name->file);
    }
    for (uint32_t i = 0; i < disk->files_alive; i++) {
        struct sim_file *copy = disk->files[i]->image;
        disk->files[i]->image = NULL;
        if (copy)
            sim_file_release(image, copy);
    }
}

void sim_disk_settle(struct sim_disk *disk)
{
    uint32_t keep = disk->crash_keep_percent;
    for (uint32_t i = 0; i < disk->seen.count; i++)
        sim_file_sync(disk, disk->seen.names[i].file, UINT64_MAX);
    disk->crash_keep_percent = 100;
    sim_disk_crash(disk);
    disk->crash_keep_percent = keep;
}

struct sim_disk *sim_disk_copy(const struct sim_disk *disk, uint64_t seed)
{
    struct sim_disk *copy = sim_disk_new(seed, disk->capacity_blocks * SIM_BLOCK);
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        const struct sim_file *from = disk->seen.names[i].file;
        struct sim_file *to = sim_disk_create(copy, disk->seen.names[i].path, from->is_dir);
        file_reserve(to, from->block_count);
        to->size = to->size_durable = from->size;
        for (uint64_t b = 0; b < from->block_count; b++) {
            block_share(&to->seen[b], from->seen[b]);
            block_share(&to->durable[b], from->seen[b]);
            to->allocated[b] = from->allocated[b];
            copy->allocated_blocks += from->allocated[b];
        }
    }
    copy->is_memory = disk->is_memory;
    copy->no_direct = disk->no_direct;
    sim_disk_settle(copy);
    return copy;
}

/* ---- damage ---- */

void sim_disk_put(struct sim_disk *disk, const char *path, const void *bytes, uint64_t offset,
                  uint64_t len)
{
    struct sim_file *file = sim_disk_find(disk, path);
    if (file == NULL)
        file = sim_disk_create(disk, path, false);
    (void)sim_disk_allocate(disk, file, offset, len);
    sim_file_write(disk, file, bytes, offset, len);
    sim_disk_settle(disk);
}

void sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask)
{
    struct sim_file *file = sim_disk_find(disk, path);
    uint8_t byte;
    ASSERT(file != NULL && sim_file_read(file, &byte, offset, 1) == 1);
    byte ^= mask;
    sim_file_write(disk, file, &byte, offset, 1);
    sim_file_sync(disk, file, UINT64_MAX);
}

void sim_disk_resize(struct sim_disk *disk, const char *path, uint64_t size)
{
    struct sim_file *file = sim_disk_find(disk, path);
    ASSERT(file != NULL);
    sim_file_truncate(disk, file, size);
}

void sim_disk_remove(struct sim_disk *disk, const char *path)
{
    ASSERT(sim_disk_unlink(disk, path) == 0);
    sim_disk_settle(disk);
}

void sim_disk_move(struct sim_disk *disk, const char *from, const char *to)
{
    ASSERT(sim_disk_rename(disk, from, to) == 0);
    sim_disk_settle(disk);
}

/* Independent of the order in which names were made. */
uint64_t sim_disk_hash(const struct sim_disk *disk)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        const struct sim_file *file = disk->seen.names[i].file;
        uint64_t hash = hash_xxh3(disk->seen.names[i].path, strlen(disk->seen.names[i].path));
        hash = hash_xxh3_seeded(&file->size, sizeof(file->size), hash);
        for (uint64_t b = 0; b < file->block_count; b++)
            if (file->seen[b])
                hash = hash_xxh3_seeded(file->seen[b], SIM_BLOCK, hash ^ b);
        sum += hash;
    }
    return sum;
}
