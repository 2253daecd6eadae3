/* A whole archive file, checked from its first byte to its last: for tools. Blocking, never writes.
 *
 * Header and footer, that the parts lie where the footer says, the index with its checksums, then
 * each batch where its entry says: without gaps, with the right offset and count, its CRC-32C
 * right; zeros in between. The first thing that is wrong is reported with its offset in the
 * file. */
#include "storage/archive_private.h"

#include <fcntl.h>
#include <stdlib.h>

#include "proto/batch.h"

#define WINDOW_BYTES (4 * MIB) // grows when a batch is larger

struct verify {
    struct io *io;
    int fd;
    struct archives_options options; // identity only
    struct archive_report *report;
    uint64_t index_offset, index_bytes;
    struct index_image image;
    uint8_t *window;
    uint64_t window_at;
    uint32_t window_len, window_capacity;
};

static int verify_file(struct verify *verify, uint64_t number);
static int verify_frame(struct verify *verify, uint64_t number);
static int verify_block(struct verify *verify, uint64_t number, uint64_t offset, uint8_t *block);
static int verify_index(struct verify *verify, uint64_t number);
static int verify_index_identity(struct verify *verify, uint64_t number);
static int verify_batches(struct verify *verify);
static int verify_batch(struct verify *verify, const struct index_entry *entry);
static int verify_zeros(struct verify *verify, uint64_t from, uint64_t to);
static int window_get(struct verify *verify, uint64_t offset, uint32_t len, const uint8_t **bytes);
static int window_grow(struct verify *verify, uint32_t len);
static int damaged(struct verify *verify, uint64_t offset, const char *why);

int archive_verify(struct io *io, const char *path, const uint8_t store_id[16], uint32_t shard_id,
                   uint64_t number, struct archive_report *report)
{
    struct verify verify = {.io = io, .report = report, .options = {.shard_id = shard_id}};
    memset(report, 0, sizeof(*report));
    memcpy(verify.options.store_id, store_id, sizeof(verify.options.store_id));
    verify.fd = io_open_wait(io, path, O_RDONLY, 0);
    if (verify.fd < 0) {
        report->why = status_text(verify.fd);
        return verify.fd;
    }
    int status = verify_file(&verify, number);
    if (status != 0 && !report->why)
        report->why = status_text(status);
    io_close_wait(io, verify.fd);
    index_image_free(&verify.image);
    free(verify.window);
    return status;
}

static int verify_file(struct verify *verify, uint64_t number)
{
    int status = io_file_size(verify->io, verify->fd, &verify->report->file_bytes);
    if (status == 0)
        status = verify_frame(verify, number);
    if (status == 0)
        status = verify_index(verify, number);
    if (status == 0)
        status = verify_batches(verify);
    if (status == 0) {
        verify->report->offset = 0;
        verify->report->why = NULL;
    }
    return status;
}

/* ---- header and footer ---- */

static int verify_frame(struct verify *verify, uint64_t number)
{
    struct archive_report *report = verify->report;
    struct archive archive = {.number = number, .file_bytes = report->file_bytes};
    uint8_t block[DISK_BLOCK];
    if (report->file_bytes < 2 * DISK_BLOCK || report->file_bytes % DISK_BLOCK != 0)
        return damaged(verify, report->file_bytes, "cut short: not a whole number of blocks");
    int status = verify_block(verify, number, 0, block);
    if (status == 0)
        status = verify_block(verify, number, report->file_bytes - DISK_BLOCK, block);
    if (status != 0)
        return status;
    report->data_bytes = le64_get(((struct disk_archive_footer *)block)->data_bytes);
    if (report->data_bytes > report->file_bytes)
        return damaged(verify, report->file_bytes - DISK_BLOCK, "footer gives impossible sizes");
    archive.data_bytes = report->data_bytes;
    report->offset = report->file_bytes - DISK_BLOCK;
    status = archive_footer_check(&verify->options, block, &archive, &report->why);
    verify->index_offset = archive.index_offset;
    verify->index_bytes = archive.index_bytes;
    return status;
}

static int verify_block(struct verify *verify, uint64_t number, uint64_t offset, uint8_t *block)
{
    struct disk_expect expect = archive_expect(&verify->options, number);
    int got = io_read_wait(verify->io, verify->fd, block, DISK_BLOCK, offset);
    verify->report->offset = offset;
    if (got < 0)
        return got;
    if (got != DISK_BLOCK)
        return damaged(verify, offset, "ends inside a block");
    return disk_header_check(block, &expect, &verify->report->why);
}

/* ---- index ---- */

static int verify_index(struct verify *verify, uint64_t number)
{
    uint64_t at = 0;
    uint8_t *bytes = malloc(verify->index_bytes);
    if (!bytes)
        return E_NO_MEMORY;
    int status = 0;
    while (status == 0 && at < verify->index_bytes) {
        uint32_t len = (uint32_t)min_u64(verify->index_bytes - at, WINDOW_BYTES);
        int got = io_read_wait(verify->io, verify->fd, bytes + at, len, verify->index_offset + at);
        if (got != (int)len)
            status = got < 0 ? got : damaged(verify, verify->index_offset, "index cut short");
        at += len;
    }
    if (status == 0)
        status = index_image_parse(bytes, verify->index_bytes, NULL, &verify->image);
    if (status != 0) {
        free(bytes);
        verify->report->offset = verify->index_offset;
        verify->report->why = verify->report->why ? verify->report->why : "index fails its check";
        return status;
    }
    return verify_index_identity(verify, number);
}

static int verify_index_identity(struct verify *verify, uint64_t number)
{
    const struct disk_index *header = (const struct disk_index *)verify->image.bytes;
    struct archive_report *report = verify->report;
    report->base_lsn = le64_get(header->base_lsn);
    report->end_lsn = le64_get(header->end_lsn);
    report->partition_count = verify->image.partition_count;
    report->batch_count = verify->image.entry_count;
    if (le64_get(header->common.number) != number ||
        le32_get(header->common.shard_id) != verify->options.shard_id ||
        memcmp(header->common.store_id, verify->options.store_id, 16) != 0)
        return damaged(verify, verify->index_offset, "index of another file");
    return 0;
}

/* ---- batches ---- */

static int verify_batches(struct verify *verify)
{
    uint64_t at = DISK_BLOCK;
    for (uint32_t i = 0; i < verify->image.entry_count; i++) {
        struct index_entry entry = index_image_at(&verify->image, i);
        if (entry.position != at || entry.size > DISK_BLOCK + verify->report->data_bytes - at)
            return damaged(verify, at, "index leaves a gap between batches");
        int status = verify_batch(verify, &entry);
        if (status != 0)
            return status;
        at += entry.size;
    }
    if (at != DISK_BLOCK + verify->report->data_bytes)
        return damaged(verify, at, "bytes that no index entry names");
    int status = verify_zeros(verify, at, verify->index_offset);
    if (status == 0)
        status = verify_zeros(verify, verify->index_offset + verify->index_bytes,
                              verify->report->file_bytes - DISK_BLOCK);
    return status;
}

static int verify_batch(struct verify *verify, const struct index_entry *entry)
{
    const uint8_t *bytes;
    struct batch_info info;
    int status = window_get(verify, entry->position, entry->size, &bytes);
    if (status != 0)
        return status;
    if (!batch_peek(bytes, entry->size, &info) || info.size != entry->size ||
        info.base_offset != entry->base_offset || info.record_count != entry->record_count)
        return damaged(verify, entry->position, "another batch than the index says");
    if (!stored_epoch_is_good(bytes))
        return damaged(verify, entry->position,
                       "batch of another leader epoch than is ever stored");
    if (!batch_is_intact(bytes, entry->size))
        return damaged(verify, entry->position, "batch fails its checksum");
    return 0;
}

static int verify_zeros(struct verify *verify, uint64_t from, uint64_t to)
{
    const uint8_t *bytes;
    if (from == to)
        return 0;
    int status = window_get(verify, from, (uint32_t)(to - from), &bytes);
    for (uint64_t i = 0; status == 0 && i < to - from; i++)
        if (bytes[i] != 0)
            return damaged(verify, from + i, "padding is not zero");
    return status;
}

/* ---- reading in large pieces ---- */

static int window_get(struct verify *verify, uint64_t offset, uint32_t len, const uint8_t **bytes)
{
    bool inside =
        offset >= verify->window_at && offset + len <= verify->window_at + verify->window_len;
    if (!inside) {
        int status = len > verify->window_capacity ? window_grow(verify, len) : 0;
        if (status != 0)
            return status;
        int got =
            io_read_wait(verify->io, verify->fd, verify->window, verify->window_capacity, offset);
        if (got < 0)
            return got;
        verify->window_at = offset;
        verify->window_len = (uint32_t)got;
        if ((uint32_t)got < len)
            return damaged(verify, offset, "cut short");
    }
    *bytes = verify->window + (offset - verify->window_at);
    return 0;
}

static int window_grow(struct verify *verify, uint32_t len)
{
    uint32_t capacity = (uint32_t)max_u64(len, WINDOW_BYTES);
    uint8_t *window = realloc(verify->window, capacity);
    if (!window)
        return E_NO_MEMORY;
    verify->window = window;
    verify->window_capacity = capacity;
    return 0;
}

static int damaged(struct verify *verify, uint64_t offset, const char *why)
{
    verify->report->offset = offset;
    verify->report->why = why;
    return E_CORRUPT;
}
