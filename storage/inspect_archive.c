/* A shard's archive files: those that are there, and those that should be. The manifest is the
 * newest valid checkpoint: a file that it names and that is missing is damage; one that it does not
 * name is about to be deleted by the next start, whatever it holds. */
#include "storage/inspect_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/archive.h"
#include "storage/disk_header.h"

struct archive_names {
    uint64_t *numbers;
    uint32_t count, capacity;
};

static int names_add(struct archive_names *names, uint64_t number);
static int names_visit(void *context, const char *name, uint64_t size_bytes);
static bool names_has(const struct archive_names *names, uint64_t number);
static int names_of_checkpoint(struct inspect_shard *shard, struct archive_names *names);
static int body_read(struct io *io, int fd, uint8_t **bytes);
static int rows_collect(const uint8_t *bytes, uint64_t len, struct archive_names *names);
static int inspect_archive(struct inspect_shard *shard, uint64_t number, bool is_named);
static int archive_head(struct inspect_shard *shard, uint64_t number,
                        struct archive_report *report);

int inspect_archives(struct inspect_shard *shard)
{
    struct archive_names there = {0};
    struct archive_names named = {0};
    inspect_path(shard, "archive", "");
    int status = io_list(shard->place->io, shard->path, names_visit, &there);
    if (status == 0)
        status = names_of_checkpoint(shard, &named);
    for (uint32_t i = 0; i < named.count && status == 0; i++)
        status = inspect_archive(shard, named.numbers[i], true);
    for (uint32_t i = 0; i < there.count && status == 0; i++)
        if (!names_has(&named, there.numbers[i]))
            status = inspect_archive(shard, there.numbers[i], false);
    free(there.numbers);
    free(named.numbers);
    return status;
}

/* ---- names ---- */

static int names_add(struct archive_names *names, uint64_t number)
{
    if (names->count == names->capacity) {
        uint32_t capacity = names->capacity * 2 + 64;
        uint64_t *numbers = realloc(names->numbers, capacity * sizeof(*numbers));
        if (numbers == NULL)
            return E_NO_MEMORY;
        names->numbers = numbers;
        names->capacity = capacity;
    }
    names->numbers[names->count++] = number;
    return 0;
}

static int names_visit(void *context, const char *name, uint64_t size_bytes)
{
    uint64_t number = disk_name_parse(name, ".arc");
    (void)size_bytes;
    return number ? names_add(context, number) : 0;
}

static bool names_has(const struct archive_names *names, uint64_t number)
{
    for (uint32_t i = 0; i < names->count; i++)
        if (names->numbers[i] == number)
            return true;
    return false;
}

/* The rows of TABLE_ARCHIVES, straight from the file: checkpoint_scan() has verified it. */
static int names_of_checkpoint(struct inspect_shard *shard, struct archive_names *names)
{
    struct io *io = shard->place->io;
    char name[32];
    uint8_t *bytes;
    if (shard->checkpoints.count == 0)
        return 0;
    snprintf(name, sizeof(name), "%016llx.ckpt",
             (unsigned long long)shard->checkpoints.heads[0].number);
    inspect_path(shard, "checkpoint", name);
    int fd = io_open_wait(io, shard->path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    int status = body_read(io, fd, &bytes);
    if (status >= 0)
        status = rows_collect(bytes, (uint64_t)status, names);
    (void)io_close_wait(io, fd);
    free(bytes);
    return status;
}

/* Header and body. The file may be longer: it has been longer, or has been damaged. Returns their bytes. */
static int body_read(struct io *io, int fd, uint8_t **bytes)
{
    struct disk_checkpoint head = {.checksum = le64_make(0)};
    *bytes = NULL;
    int status = io_read_wait(io, fd, &head, sizeof(head), 0);
    uint64_t len = sizeof(head) + le64_get(head.body_bytes);
    if (status < 0)
        return status;
    *bytes = len <= INT32_MAX ? malloc(len) : NULL;
    return *bytes ? io_read_wait(io, fd, *bytes, (uint32_t)len, 0) : E_NO_MEMORY;
}

static int rows_collect(const uint8_t *bytes, uint64_t len, struct archive_names *names)
{
    const struct disk_checkpoint *head = (const struct disk_checkpoint *)bytes;
    if (len < DISK_BLOCK)
        return 0;
    uint64_t end = min_u64(len, DISK_BLOCK + le64_get(head->body_bytes));
    uint64_t at = DISK_BLOCK;
    for (uint32_t i = 0; i < le32_get(head->table_count) && at + sizeof(struct disk_table) <= end;
         i++) {
        const struct disk_table *table = (const struct disk_table *)(bytes + at);
        uint64_t row_bytes = le32_get(table->row_bytes);
        uint64_t rows = le64_get(table->row_count);
        at += sizeof(*table);
        if (row_bytes == 0 || rows > (end - at) / row_bytes)
            return 0;
        for (uint64_t n = 0; n < rows && le32_get(table->table_id) == TABLE_ARCHIVES; n++) {
            const struct disk_archive_row *row =
                (const struct disk_archive_row *)(bytes + at + n * row_bytes);
            if (row_bytes != sizeof(*row) || le64_get(row->dropped) != 0 ||
                le64_get(row->number) == 0 || le64_get(row->file_bytes) == 0)
                continue;
            int status = names_add(names, le64_get(row->number));
            if (status < 0)
                return status;
        }
        at = align_up(at + rows * row_bytes, 8);
    }
    return 0;
}

/* ---- files ---- */

static int inspect_archive(struct inspect_shard *shard, uint64_t number, bool is_named)
{
    struct archive_report report = {0};
    char name[32];
    snprintf(name, sizeof(name), "%016llx.arc", (unsigned long long)number);
    inspect_path(shard, "archive", name);
    int status = shard->options->verify ? archive_verify(shard->place->io, shard->path,
                                                         shard->place->head.identity.store_id,
                                                         shard->shard, number, &report)
                                        : archive_head(shard, number, &report);
    if (status == E_NO_MEMORY)
        return status;
    if (status == E_NOT_FOUND)
        report.why = "is missing, but the newest checkpoint names it";
    inspect_report(shard, &(struct inspect_item){.kind = INSPECT_ARCHIVE,
                                                 .number = number,
                                                 .size_bytes = report.file_bytes,
                                                 .role = is_named ? "live" : "raw",
                                                 .status = status,
                                                 .is_damage = status < 0 && is_named,
                                                 .text = report.why,
                                                 .lsn_from = report.base_lsn,
                                                 .lsn_to = report.end_lsn,
                                                 .offset = report.offset,
                                                 .batches = report.batch_count});
    return 0;
}

/* The first block only: whose it is and whether it can be read. */
static int archive_head(struct inspect_shard *shard, uint64_t number, struct archive_report *report)
{
    struct io *io = shard->place->io;
    uint8_t block[DISK_BLOCK];
    struct disk_expect expect = {.magic = DISK_MAGIC_ARCHIVE,
                                 .store_id = shard->place->head.identity.store_id,
                                 .shard_id = shard->shard,
                                 .number = number};
    int fd = io_open_wait(io, shard->path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    int status = io_file_size(io, fd, &report->file_bytes);
    if (status == 0)
        status = io_read_wait(io, fd, block, DISK_BLOCK, 0);
    (void)io_close_wait(io, fd);
    if (status < 0)
        return status;
    if (status < DISK_BLOCK) {
        report->why = "is shorter than its header";
        return E_CORRUPT;
    }
    return disk_header_check(block, &expect, &report->why);
}
