/* The checkpoint directory: which files there are, and the spares that future checkpoints are
 * written into.
 *
 *     0000000000000007.ckpt   kept
 *     0000000000000006.ckpt   kept
 *     spare-1.tmp             blocks for the next one
 *
 * There are CHECKPOINT_FILES in all from the start, so that a checkpoint can be made on a full
 * disk: it overwrites the spare and needs no new blocks. (Rejected: a reserve that is deleted when
 * space runs out. What is given back to the file system in that moment may be taken by anyone.)
 *
 * Failure modes: no space for a spare is a warning; it is tried again at the next start, and the
 * writer makes a file of its own when there is none. */
#include "storage/checkpoint_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define NAMES_MAX 64 // files looked at in one go; more are found in the next

enum entry_kind { ENTRY_CHECKPOINT_FILE, ENTRY_SPARE_FILE, ENTRY_OTHER_TMP };

struct entry {
    enum entry_kind kind;
    uint64_t number; // of a checkpoint; slot of a spare
    uint64_t bytes;
    char name[64];
};

struct listing {
    struct entry entries[NAMES_MAX];
    uint32_t count;
};

static int listing_read(struct io *io, const char *dir, struct listing *listing);
static int visit(void *context, const char *name, uint64_t size_bytes);
static bool classify(const char *name, struct entry *entry);
static bool is_kept(const struct checkpoint_set *set, const struct entry *entry);
static int tidy_entry(struct io *io, const char *dir, const struct entry *entry,
                      struct checkpoint_dir *files);
static void kept_add(struct checkpoint_dir *files, const struct entry *entry);
static void spare_note(struct checkpoint_dir *files, uint32_t slot, uint64_t bytes);
static uint32_t file_count(const struct checkpoint_dir *files);
static uint32_t slot_free(const struct checkpoint_dir *files);
static void spares_add(struct io *io, const char *dir, const struct checkpoint_identity *identity,
                       struct checkpoint_dir *files);
static int spare_make(struct io *io, const char *path, uint32_t flags);
static int spare_fill(struct io *io, int fd);

int checkpoint_tidy(struct io *io, const char *dir, const struct checkpoint_identity *identity,
                    const struct checkpoint_set *set)
{
    struct checkpoint_dir files = {0};
    struct listing listing;
    /* A rename that a killed process did not sync may be visible and yet not durable: what is about
     * to be retired could be needed after a power cut. */
    int status = io_sync_dir_wait(io, dir);
    if (status == 0)
        status = listing_read(io, dir, &listing);
    for (uint32_t i = 0; status == 0 && i < listing.count; i++) {
        struct entry *entry = &listing.entries[i];
        if (is_kept(set, entry))
            kept_add(&files, entry);
        else if (entry->kind == ENTRY_SPARE_FILE)
            spare_note(&files, (uint32_t)entry->number, entry->bytes);
    }
    for (uint32_t i = 0; status == 0 && i < listing.count; i++)
        if (!is_kept(set, &listing.entries[i]) && listing.entries[i].kind != ENTRY_SPARE_FILE)
            status = tidy_entry(io, dir, &listing.entries[i], &files);
    if (status == 0)
        spares_add(io, dir, identity, &files);
    return status == 0 ? io_sync_dir_wait(io, dir) : status;
}

int checkpoint_dir_read(struct io *io, const char *dir, struct checkpoint_dir *files)
{
    struct listing listing;
    *files = (struct checkpoint_dir){0};
    int status = listing_read(io, dir, &listing);
    for (uint32_t i = 0; status == 0 && i < listing.count; i++) {
        const struct entry *entry = &listing.entries[i];
        if (entry->kind == ENTRY_CHECKPOINT_FILE) {
            kept_add(files, entry);
        } else if (entry->kind == ENTRY_SPARE_FILE) {
            spare_note(files, (uint32_t)entry->number, entry->bytes);
        }
    }
    return status;
}

char *checkpoint_path(char path[CHECKPOINT_PATH_MAX], const char *dir, uint64_t number)
{
    snprintf(path, CHECKPOINT_PATH_MAX, "%s/%016llx.ckpt", dir, (unsigned long long)number);
    return path;
}

char *checkpoint_spare_path(char path[CHECKPOINT_PATH_MAX], const char *dir, uint32_t slot)
{
    snprintf(path, CHECKPOINT_PATH_MAX, "%s/spare-%u.tmp", dir, slot);
    return path;
}

uint64_t checkpoint_capacity_for(uint64_t needed)
{
    return align_up(needed + needed / 4, CHECKPOINT_CAPACITY_STEP);
}

/* ---- listing ---- */

static int listing_read(struct io *io, const char *dir, struct listing *listing)
{
    listing->count = 0;
    return io_list(io, dir, visit, listing);
}

static int visit(void *context, const char *name, uint64_t size_bytes)
{
    struct listing *listing = context;
    struct entry entry = {.bytes = size_bytes};
    if (listing->count == NAMES_MAX || !classify(name, &entry))
        return 0;
    snprintf(entry.name, sizeof(entry.name), "%s", name);
    listing->entries[listing->count++] = entry;
    return 0;
}

/* False: not one of ours; left alone. */
static bool classify(const char *name, struct entry *entry)
{
    size_t len = strlen(name);
    if (len >= sizeof(entry->name))
        return false;
    entry->number = disk_name_parse(name, ".ckpt");
    entry->kind = ENTRY_CHECKPOINT_FILE;
    if (entry->number != 0)
        return true;
    for (uint32_t slot = 0; slot < CHECKPOINT_FILES; slot++) {
        char spare[32];
        snprintf(spare, sizeof(spare), "spare-%u.tmp", slot);
        if (strcmp(name, spare) == 0) {
            entry->kind = ENTRY_SPARE_FILE;
            entry->number = slot;
            return true;
        }
    }
    entry->kind = ENTRY_OTHER_TMP;
    return len > 4 && strcmp(name + len - 4, ".tmp") == 0;
}

static bool is_kept(const struct checkpoint_set *set, const struct entry *entry)
{
    for (uint32_t i = 0; i < set->count && i < CHECKPOINT_KEPT; i++)
        if (entry->kind == ENTRY_CHECKPOINT_FILE && set->heads[i].number == entry->number)
            return true;
    return false;
}

static void kept_add(struct checkpoint_dir *files, const struct entry *entry)
{
    struct checkpoint_file file = {.number = entry->number, .bytes = entry->bytes};
    uint32_t at = 0;
    while (at < files->kept_count && files->kept[at].number > file.number)
        at++;
    if (at == CHECKPOINT_KEPT)
        return;
    if (files->kept_count < CHECKPOINT_KEPT)
        files->kept_count++;
    for (uint32_t i = files->kept_count - 1; i > at; i--)
        files->kept[i] = files->kept[i - 1];
    files->kept[at] = file;
}

/* ---- tidying ---- */

/* Neither kept nor a spare. While there are not enough files it becomes a spare: a disk that is full
 * now would not give its blocks again. */
static int tidy_entry(struct io *io, const char *dir, const struct entry *entry,
                      struct checkpoint_dir *files)
{
    char path[CHECKPOINT_PATH_MAX], spare[CHECKPOINT_PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, entry->name);
    if (entry->kind == ENTRY_CHECKPOINT_FILE && file_count(files) < CHECKPOINT_FILES) {
        uint32_t slot = slot_free(files);
        int renamed = io_rename_wait(io, path, checkpoint_spare_path(spare, dir, slot));
        if (renamed == 0)
            spare_note(files, slot, entry->bytes);
        return renamed;
    }
    int status = io_unlink_wait(io, path);
    LOG_INFO("checkpoint.file_removed", LOG_STR("path", path), LOG_STATUS(status));
    return status;
}

static void spares_add(struct io *io, const char *dir, const struct checkpoint_identity *identity,
                       struct checkpoint_dir *files)
{
    uint32_t flags = checkpoint_open_flags(identity);
    while (file_count(files) < CHECKPOINT_FILES) {
        char path[CHECKPOINT_PATH_MAX];
        uint32_t slot = slot_free(files);
        int status = spare_make(io, checkpoint_spare_path(path, dir, slot), flags);
        if (status != 0) {
            LOG_WARN("checkpoint.spare_not_made", LOG_STR("path", path), LOG_STATUS(status));
            return;
        }
        spare_note(files, slot, CHECKPOINT_CAPACITY_STEP);
    }
}

static void spare_note(struct checkpoint_dir *files, uint32_t slot, uint64_t bytes)
{
    files->spare_exists[slot] = true;
    files->spare_bytes[slot] = bytes;
}

static uint32_t file_count(const struct checkpoint_dir *files)
{
    uint32_t count = files->kept_count;
    for (uint32_t slot = 0; slot < CHECKPOINT_FILES; slot++)
        count += files->spare_exists[slot];
    return count;
}

/* There is one while there are fewer than CHECKPOINT_FILES files. */
static uint32_t slot_free(const struct checkpoint_dir *files)
{
    uint32_t slot = 0;
    while (files->spare_exists[slot])
        slot++;
    ASSERT(slot < CHECKPOINT_FILES);
    return slot;
}

static int spare_make(struct io *io, const char *path, uint32_t flags)
{
    int fd = io_open_wait(io, path, O_RDWR | O_CREAT | flags, 0600);
    if (fd < 0)
        return fd;
    int status = spare_fill(io, fd);
    io_close_wait(io, fd);
    return status;
}

static int spare_fill(struct io *io, int fd)
{
    uint8_t *zeros = aligned_alloc(DISK_BLOCK, CHECKPOINT_PIECE_BYTES);
    if (!zeros)
        return E_NO_MEMORY;
    memset(zeros, 0, CHECKPOINT_PIECE_BYTES);
    int status = 0;
    for (uint64_t at = 0; at < CHECKPOINT_CAPACITY_STEP && status >= 0;
         at += CHECKPOINT_PIECE_BYTES)
        status = io_write_wait(io, fd, zeros, CHECKPOINT_PIECE_BYTES, at);
    free(zeros);
    return status < 0 ? status : io_fdatasync_wait(io, fd);
}
