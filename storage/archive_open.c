/* Start-up: every archive file that the checkpoint names must be there and be itself; what it
 * doesn't name goes.
 *
 * Looked at: size, header block and footer block of each file; its batches and its index are
 * checked when they are read. Rows out of order or overlapping, a missing file, another's file
 * under its name: fail closed, before anything is deleted. */
#include "storage/archive_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct unnamed { // found in one pass over the directory; the next pass finds the rest
    struct archives *archives;
    uint32_t count;
    char names[32][64];
};

static int rows_load(struct archives *archives, char text[512]);
static struct archive *archive_from_row(struct archives *archives, uint32_t index);
static const char *row_check(const struct disk_archive_row *row);
static const char *order_check(const struct archives *archives, const struct archive *archive);
static bool number_is_known(const struct archives *archives, uint64_t number);
static int file_check(struct archives *archives, struct archive *archive, uint8_t *block,
                      const char **why);
static int file_look(struct archives *archives, int fd, struct archive *archive, uint8_t *block,
                     const char **why);
static int block_read(struct archives *archives, int fd, uint8_t *block, uint64_t offset,
                      const char **why);
static int unnamed_delete(struct archives *archives);
static int unnamed_visit(void *context, const char *name, uint64_t size_bytes);
static int file_delete(struct archives *archives, const char *name);
static int refuse(char text[512], const char *path, int status, const char *why);

int archives_open(struct archives *archives, bool read_only, char text[512])
{
    text[0] = 0;
    int status = rows_load(archives, text);
    if (status != 0)
        return status;
    for (uint32_t i = 0; i < archives->count; i++)
        archives->end_lsn = max_u64(archives->end_lsn, archives->used[i]->end_lsn);
    /* What was loaded is the newest checkpoint; what the older one says is not known. */
    archives->checkpoints_begun = 1;
    archives->checkpoint_newest =
        (struct archives_checkpoint){.number = 1, .end_lsn = archives->end_lsn};
    return read_only ? 0 : archives_tidy(archives, text);
}

int archives_tidy(struct archives *archives, char text[512])
{
    int status = unnamed_delete(archives);
    if (status != 0)
        refuse(text, archives->options.dir, status, status_text(status));
    return status;
}

int archive_footer_check(const struct archives_options *options, const uint8_t *block,
                         struct archive *archive, const char **why)
{
    const struct disk_archive_footer *footer = (const struct disk_archive_footer *)block;
    struct disk_expect expect = archive_expect(options, archive->number);
    int status = disk_header_check(block, &expect, why);
    if (status != 0)
        return status;
    if (le64_get(footer->staged_bytes) != 0) {
        *why = "holds staged batches, which this version does not know";
        return E_NEWER;
    }
    archive->index_offset = le64_get(footer->index_offset);
    archive->index_bytes = le64_get(footer->index_bytes);
    uint64_t data_end = DISK_BLOCK + archive->data_bytes;
    *why = "footer and checkpoint disagree about sizes";
    if (le64_get(footer->data_bytes) != archive->data_bytes ||
        archive->index_offset != align_up(data_end, DISK_BLOCK) ||
        archive->index_bytes < sizeof(struct disk_index) ||
        archive->index_bytes > archive->file_bytes ||
        align_up(archive->index_offset + archive->index_bytes, DISK_BLOCK) + DISK_BLOCK !=
            archive->file_bytes)
        return E_CORRUPT;
    return 0;
}

/* ---- rows ---- */

static int rows_load(struct archives *archives, char text[512])
{
    uint8_t *block = aligned_alloc(DISK_BLOCK, DISK_BLOCK);
    int status = block ? 0 : E_NO_MEMORY;
    for (uint32_t i = 0; status == 0 && i < table_row_count(archives->table); i++) {
        if (!table_row_is_used(archives->table, i))
            continue;
        struct archive *archive = archive_from_row(archives, i);
        if (!archive) {
            status = E_NO_MEMORY;
            break;
        }
        const char *why = row_check(table_row(archives->table, i));
        if (!why)
            why = order_check(archives, archive);
        if (why)
            status = E_CORRUPT;
        else if (!archive->dropped)
            status = file_check(archives, archive, block, &why);
        if (status != 0) {
            refuse(text, archive->path, status, why);
            archive_free(archive);
        } else if (archive->dropped) {
            list_push_back(&archives->dropped, &archive->dropped_link);
        } else {
            archives_insert(archives, archive);
        }
    }
    free(block);
    return status;
}

static struct archive *archive_from_row(struct archives *archives, uint32_t index)
{
    const struct disk_archive_row *row = table_row(archives->table, index);
    struct archive *archive = archive_new(archives, le64_get(row->number));
    if (!archive)
        return NULL;
    archive->row = index;
    archive->base_lsn = le64_get(row->base_lsn);
    archive->end_lsn = le64_get(row->end_lsn);
    archive->file_bytes = le64_get(row->file_bytes);
    archive->data_bytes = le64_get(row->data_bytes);
    archive->live_bytes = le64_get(row->live_bytes);
    archive->append_ms_last = le64_get(row->append_ms_last);
    archive->dropped = le64_get(row->dropped) != 0;
    archives->next_number = max_u64(archives->next_number, archive->number + 1);
    return archive;
}

static const char *row_check(const struct disk_archive_row *row)
{
    if (le64_get(row->base_lsn) >= le64_get(row->end_lsn))
        return "the checkpoint's row has an empty LSN range";
    if (le64_get(row->data_bytes) > le64_get(row->file_bytes) ||
        le64_get(row->live_bytes) > le64_get(row->data_bytes))
        return "the checkpoint's row has impossible sizes";
    if (le64_get(row->dropped) > 1)
        return "the checkpoint's row has an unknown state";
    return NULL;
}

/* Against those that were loaded before it. */
static const char *order_check(const struct archives *archives, const struct archive *archive)
{
    if (number_is_known(archives, archive->number))
        return "the checkpoint names it twice";
    if (archive->dropped)
        return NULL;
    uint32_t at = archives_place_above(archives, archive->base_lsn);
    bool overlaps_before = at > 0 && archives->used[at - 1]->end_lsn > archive->base_lsn;
    bool overlaps_behind = at < archives->count && archives->used[at]->base_lsn < archive->end_lsn;
    return overlaps_before || overlaps_behind ? "the checkpoint's rows overlap" : NULL;
}

static bool number_is_known(const struct archives *archives, uint64_t number)
{
    for (uint32_t i = 0; i < archives->count; i++)
        if (archives->used[i]->number == number)
            return true;
    LIST_EACH(link, &archives->dropped)
    {
        if (CONTAINER_OF(link, struct archive, dropped_link)->number == number)
            return true;
    }
    return false;
}

/* ---- files ---- */

static int file_check(struct archives *archives, struct archive *archive, uint8_t *block,
                      const char **why)
{
    uint32_t flags = O_RDONLY | (archives->options.no_direct ? 0 : O_DIRECT);
    int fd = io_open_wait(archives->options.io, archive->path, flags, 0);
    if (fd == E_NOT_FOUND) {
        *why = "the checkpoint names it, but it is missing";
        return E_CORRUPT;
    }
    if (fd < 0) {
        *why = status_text(fd);
        return fd;
    }
    int status = file_look(archives, fd, archive, block, why);
    io_close_wait(archives->options.io, fd);
    return status;
}

static int file_look(struct archives *archives, int fd, struct archive *archive, uint8_t *block,
                     const char **why)
{
    uint64_t size;
    struct disk_expect expect = archive_expect(&archives->options, archive->number);
    int status = io_file_size(archives->options.io, fd, &size);
    if (status != 0) {
        *why = status_text(status);
        return status;
    }
    status = block_read(archives, fd, block, 0, why);
    if (status == 0)
        status = disk_header_check(block, &expect, why);
    if (status != 0)
        return status;
    if (size != archive->file_bytes || size < 2 * DISK_BLOCK) {
        *why = "has another size than the checkpoint says";
        return E_CORRUPT;
    }
    status = block_read(archives, fd, block, size - DISK_BLOCK, why);
    return status != 0 ? status : archive_footer_check(&archives->options, block, archive, why);
}

static int block_read(struct archives *archives, int fd, uint8_t *block, uint64_t offset,
                      const char **why)
{
    int got = io_read_wait(archives->options.io, fd, block, DISK_BLOCK, offset);
    *why = got < 0 ? status_text(got) : "ends inside a block";
    if (got < 0)
        return got;
    return got == DISK_BLOCK ? 0 : E_CORRUPT;
}

/* ---- what nobody names ---- */

static int unnamed_delete(struct archives *archives)
{
    struct unnamed found = {.archives = archives};
    int status;
    do {
        found.count = 0;
        status = io_list(archives->options.io, archives->options.dir, unnamed_visit, &found);
        for (uint32_t i = 0; status == 0 && i < found.count; i++)
            status = file_delete(archives, found.names[i]);
    } while (status == 0 && found.count > 0);
    return status == 0 ? io_sync_dir_wait(archives->options.io, archives->options.dir) : status;
}

static int unnamed_visit(void *context, const char *name, uint64_t size_bytes)
{
    struct unnamed *found = context;
    uint64_t number = disk_name_parse(name, ".arc");
    size_t len = strlen(name);
    bool is_tmp = len > 4 && strcmp(name + len - 4, ".tmp") == 0;
    if (!is_tmp && (number == 0 || number_is_known(found->archives, number)))
        return 0;
    if (found->count == ARRAY_COUNT(found->names) || len >= sizeof(found->names[0]) ||
        archive_reserve_found(found->archives, name, size_bytes))
        return 0;
    strcpy(found->names[found->count++], name);
    return 0;
}

static int file_delete(struct archives *archives, const char *name)
{
    char path[ARCHIVE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", archives->options.dir, name);
    int status = io_unlink_wait(archives->options.io, path);
    LOG_INFO("archive.file_removed", LOG_STR("path", path), LOG_STATUS(status));
    archives->next_number = max_u64(archives->next_number, disk_name_parse(name, ".arc") + 1);
    return status;
}

static int refuse(char text[512], const char *path, int status, const char *why)
{
    snprintf(text, 512, "archive file %s: %s", path, why);
    LOG_ERROR("archive.refused", LOG_STR("path", path), LOG_STR("why", why), LOG_STATUS(status));
    return status;
}
