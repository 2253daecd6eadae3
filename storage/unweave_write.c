/* The output file of a run: header, batches band by band, index, footer, in one sequential O_DIRECT
 * write.
 *
 * At most ARCHIVE_UNSYNCED_BYTES are not yet synced: what a device has buffered is what the log's
 * next fdatasync waits for. What of a band does not fill a block is carried to the front of the
 * next one.
 *
 * Failure modes: a full disk: the reserve is given back, once, and the writes are repeated (they
 * failed, so nothing is known of them); without a reserve the run ends with NO_SPACE. A failed
 * fdatasync is final for this file: the run ends, the file is deleted, another run starts from the
 * sources. */
#include "storage/unweave_private.h"

#include "base/log.h"

#define SYNC_BYTES (ARCHIVE_UNSYNCED_BYTES / 2) // the other half is written meanwhile
#define INDEX_COPY_BYTES ((uint64_t)(1 * MIB))  // in one step

static void writes_start(struct unweave *unweave, int *work);
static uint32_t write_len(const struct unweave *unweave);
static void write_start(struct unweave *unweave, struct unweave_write *write, uint32_t len);
static struct unweave_write *write_free(struct unweave *unweave);
static void write_done(struct io_op *op);
static void sync_start(struct unweave *unweave);
static void sync_done(struct io_op *op);
static int writes_failed(struct unweave *unweave);
static void footer_put(struct unweave *unweave);

void unweave_header_make(struct unweave *unweave)
{
    struct disk_archive *header = (struct disk_archive *)unweave->band;
    struct disk_expect expect = archive_expect(&unweave->archives->options, unweave->number);
    memset(header, 0, sizeof(*header));
    disk_header_make(&header->common, &expect, unweave->archives->wall_ms);
    disk_header_seal(header);
    unweave->band_at = 0;
    unweave->band_fill = DISK_BLOCK;
}

/* Whole blocks of the band; the last one is filled up with zeros. */
void unweave_write_begin(struct unweave *unweave, bool is_last)
{
    unweave->write_at = 0;
    unweave->write_end = (uint32_t)align_down(unweave->band_fill, DISK_BLOCK);
    if (!is_last || unweave->write_end == unweave->band_fill)
        return;
    unweave->write_end += DISK_BLOCK;
    memset(unweave->band + unweave->band_fill, 0, unweave->write_end - unweave->band_fill);
    unweave->band_fill = unweave->write_end;
}

/* 1: all written (not all synced); the rest is carried. 0: not yet. < 0: NO_SPACE and such. */
int unweave_write_step(struct unweave *unweave, int *work)
{
    if (unweave->write_status != 0)
        return unweave->in_flight > 0 ? 0 : writes_failed(unweave);
    writes_start(unweave, work);
    if (unweave->in_flight > 0 || unweave->write_at < unweave->write_end)
        return 0;
    uint32_t carried = unweave->band_fill - unweave->write_end;
    memmove(unweave->band, unweave->band + unweave->write_end, carried);
    unweave->band_at += unweave->write_end;
    unweave->band_fill = carried;
    return 1;
}

/* Syncs go beside the writes: what one covers is what had ended when it was started. */
static void writes_start(struct unweave *unweave, int *work)
{
    uint32_t room = unweave_room(unweave, 2, UNWEAVE_WRITES_MAX + 1);
    for (; room > 0; room--, (*work)++) {
        uint32_t len = write_len(unweave);
        bool has_window = unweave->unsynced + len <= ARCHIVE_UNSYNCED_BYTES;
        struct unweave_write *write = len > 0 && has_window ? write_free(unweave) : NULL;
        if (unweave->syncing == 0 &&
            (unweave->written >= SYNC_BYTES || (unweave->written > 0 && !has_window)))
            sync_start(unweave);
        else if (write)
            write_start(unweave, write, len);
        else
            return;
    }
}

/* Smaller writes while groups are queued: what is in front of them at the device is this. */
static uint32_t write_len(const struct unweave *unweave)
{
    bool is_busy = unweave->archives->pressure == ARCHIVE_BUSY;
    uint32_t most = is_busy ? UNWEAVE_PIECE_BYTES : UNWEAVE_WRITE_BYTES;
    return (uint32_t)min_u64(unweave->write_end - unweave->write_at, most);
}

static void write_start(struct unweave *unweave, struct unweave_write *write, uint32_t len)
{
    write->at = unweave->write_at;
    unweave_io_begin(unweave);
    io_write(unweave->archives->options.io, &write->op, unweave->fd, unweave->band + write->at, len,
             unweave->band_at + write->at, write_done);
    unweave->write_at += len;
    unweave->unsynced += len;
    ASSERT(unweave->unsynced <= ARCHIVE_UNSYNCED_BYTES);
}

static struct unweave_write *write_free(struct unweave *unweave)
{
    for (uint32_t i = 0; i < UNWEAVE_WRITES_MAX; i++)
        if (!io_op_is_active(&unweave->writes[i].op))
            return &unweave->writes[i];
    return NULL;
}

static void write_done(struct io_op *op)
{
    struct unweave_write *write = CONTAINER_OF(op, struct unweave_write, op);
    struct unweave *unweave = write->unweave;
    unweave_io_end(unweave);
    if (op->result >= 0) {
        unweave->written += op->len;
        return;
    }
    LOG_WARN("archive.write_failed", LOG_STR("path", unweave->tmp_path),
             LOG_U64("offset", op->offset), LOG_STATUS(op->result), LOG_I64("errno", op->os_error));
    if (unweave->write_status == 0 || op->result != E_NO_SPACE)
        unweave->write_status = op->result;
    unweave->write_failed_at = (uint32_t)min_u64(unweave->write_failed_at, write->at);
}

static void sync_start(struct unweave *unweave)
{
    unweave->syncing = unweave->written;
    unweave->written = 0;
    unweave_io_begin(unweave);
    io_fdatasync(unweave->archives->options.io, &unweave->op, unweave->fd, sync_done);
}

static void sync_done(struct io_op *op)
{
    struct unweave *unweave = CONTAINER_OF(op, struct unweave, op);
    unweave_io_end(unweave);
    unweave->unsynced -= unweave->syncing;
    unweave->syncing = 0;
    if (op->result < 0) {
        /* Never taken for a full disk: what it was about must not be written over and synced
         * again. */
        unweave->write_status = E_IO;
        LOG_WARN("archive.sync_failed", LOG_STR("path", unweave->tmp_path), LOG_STATUS(op->result),
                 LOG_I64("errno", op->os_error));
    }
}

/* Back to the first that failed, when there is a reserve. */
static int writes_failed(struct unweave *unweave)
{
    int status = unweave->write_status;
    if (status != E_NO_SPACE || !archive_reserve_release(unweave->archives))
        return status;
    unweave->unsynced = unweave->written;
    unweave->write_at = unweave->write_failed_at;
    unweave->write_failed_at = UINT32_MAX;
    unweave->write_status = 0;
    unweave->step = UNWEAVE_RESERVE;
    return 0;
}

/* ---- index and footer ---- */

void unweave_index_begin(struct unweave *unweave)
{
    ASSERT(unweave->band_fill == 0 && unweave->band_at % DISK_BLOCK == 0);
    index_image_seal(&unweave->out);
    unweave->index_copied = 0;
    unweave->footer_done = false;
}

/* 1: the buffer is full, or the footer is in it. */
int unweave_index_step(struct unweave *unweave)
{
    uint64_t left = unweave->out.len - unweave->index_copied;
    uint64_t room = unweave->band_capacity - unweave->band_fill;
    uint64_t len = min_u64(min_u64(left, room), INDEX_COPY_BYTES);
    memcpy(unweave->band + unweave->band_fill, unweave->out.bytes + unweave->index_copied, len);
    unweave->index_copied += len;
    unweave->band_fill += (uint32_t)len;
    if (unweave->index_copied < unweave->out.len)
        return unweave->band_fill == unweave->band_capacity;
    uint32_t padded = (uint32_t)align_up(unweave->band_fill, DISK_BLOCK);
    if (padded + DISK_BLOCK > unweave->band_capacity)
        return 1; // in the next one
    memset(unweave->band + unweave->band_fill, 0, padded - unweave->band_fill);
    unweave->band_fill = padded;
    footer_put(unweave);
    return 1;
}

static void footer_put(struct unweave *unweave)
{
    struct disk_archive_footer *footer =
        (struct disk_archive_footer *)(unweave->band + unweave->band_fill);
    struct disk_expect expect = archive_expect(&unweave->archives->options, unweave->number);
    memset(footer, 0, sizeof(*footer));
    disk_header_make(&footer->common, &expect, unweave->archives->wall_ms);
    footer->data_bytes = le64_make(unweave->data_bytes);
    footer->index_offset = le64_make(align_up(DISK_BLOCK + unweave->data_bytes, DISK_BLOCK));
    footer->index_bytes = le64_make(unweave->out.len);
    disk_header_seal(footer);
    unweave->band_fill += DISK_BLOCK;
    unweave->footer_done = true;
}
