/* Writing a checkpoint beside everything else a shard does.
 *
 * The happy path: checkpoint_begin() freezes the tables; then one short step a turn, each the
 * answer to the completion of the one before:
 *
 *     OPEN -> BODY (256 KiB a step) -> GROW -> HEADER -> SYNC -> DURABLE -> RENAME -> SYNC_DIR
 *          -> CLOSE -> RETIRE -> SYNC_RETIRED -> done
 *
 * DURABLE waits until the log is durable up to the checkpoint's LSN: a checkpoint ahead of the log
 * would prove bytes that were never safe. RETIRE turns the third newest into the next spare and
 * syncs the directory before that spare is written to, so a power cut can't show old name and new
 * bytes together.
 *
 * Failure modes: NO_SPACE (no spare, or the state outgrew it by more than a quarter while the disk
 * is full): the spare stays, the caller tries again later. NO_MEMORY: a page of state could not be
 * copied aside, the frozen view is lost; same. IO: final; the old checkpoints are untouched. A
 * failed fdatasync is not repeated on what was written: another attempt writes every byte again.
 * Trouble while retiring only leaves a file too many: a warning. */
#include "storage/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/plant.h"
#include "storage/checkpoint_private.h"

/* A table is read into at least this much room, so a piece may overhang: the rest opens the next
 * one. */
#define TABLE_READ_MIN ((uint32_t)sizeof(struct disk_table))
#define BUFFER_BYTES (CHECKPOINT_PIECE_BYTES + DISK_BLOCK)
static_assert(BUFFER_BYTES - CHECKPOINT_PIECE_BYTES >= TABLE_READ_MIN, "room for the overhang");
static_assert(CHECKPOINT_PIECE_BYTES % DISK_BLOCK == 0, "pieces are written with O_DIRECT");

enum writer_step {
    STEP_IDLE,
    STEP_OPEN,
    STEP_BODY,
    STEP_GROW,
    STEP_HEADER,
    STEP_SYNC,
    STEP_DURABLE,
    STEP_RENAME,
    STEP_SYNC_DIR,
    STEP_CLOSE,
    STEP_RETIRE,
    STEP_SYNC_RETIRED,
    STEP_FAIL_CLOSE,
};

struct checkpoint_writer {
    struct io *io;
    const char *dir;
    struct checkpoint_identity identity;
    struct checkpoint_dir files;
    uint8_t *buffer;

    /* ---- the one that is being written ---- */
    enum writer_step step; // what op is about, or what comes next when none is in flight
    struct io_op op;
    int fd;
    uint32_t spare; // slot
    struct checkpoint_head head;
    struct table *tables[CHECKPOINT_TABLES_MAX];
    uint32_t table_count;
    uint32_t table_next; // snapshots below this one are ended
    uint64_t body_bytes; // announced
    uint64_t body_read;  // from the tables
    uint64_t file_at;    // where the next write goes
    uint64_t file_end;   // size the file shall have
    uint64_t hash;
    uint32_t filled; // of the buffer
    uint32_t piece;  // of the buffer, in flight
    int failure;
    checkpoint_done_fn done;
    void *context;
    char path[CHECKPOINT_PATH_MAX];
    char path_to[CHECKPOINT_PATH_MAX];
};

static void op_done(struct io_op *op);
static void step_open(struct checkpoint_writer *writer);
static void step_body(struct checkpoint_writer *writer);
static void step_grow(struct checkpoint_writer *writer);
static void step_header(struct checkpoint_writer *writer);
static void step_sync(struct checkpoint_writer *writer);
static void step_rename(struct checkpoint_writer *writer);
static void step_sync_dir(struct checkpoint_writer *writer);
static void step_close(struct checkpoint_writer *writer);
static void step_retire(struct checkpoint_writer *writer);
static void step_retired(struct checkpoint_writer *writer);
static void fail(struct checkpoint_writer *writer, int status);
static void snapshots_begin(struct checkpoint_writer *writer);
static void snapshots_end(struct checkpoint_writer *writer);
static void spare_choose(struct checkpoint_writer *writer);
static bool body_fill(struct checkpoint_writer *writer);
static void body_write(struct checkpoint_writer *writer);
static void grow_begin(struct checkpoint_writer *writer);
static void grow_write(struct checkpoint_writer *writer);
static void header_write(struct checkpoint_writer *writer);
static void files_shift(struct checkpoint_writer *writer);
static void finish(struct checkpoint_writer *writer, int status);

struct checkpoint_writer *checkpoint_writer_new(struct io *io, const char *dir,
                                                const struct checkpoint_identity *identity)
{
    struct checkpoint_writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return NULL;
    writer->io = io;
    writer->dir = dir;
    writer->identity = *identity;
    writer->fd = -1;
    writer->buffer = aligned_alloc(DISK_BLOCK, BUFFER_BYTES);
    if (!writer->buffer || checkpoint_dir_read(io, dir, &writer->files) != 0) {
        checkpoint_writer_free(writer);
        return NULL;
    }
    return writer;
}

void checkpoint_writer_free(struct checkpoint_writer *writer)
{
    if (!writer)
        return;
    while (io_op_is_active(&writer->op))
        io_poll(writer->io, UINT64_MAX);
    if (writer->step == STEP_OPEN)
        writer->fd = writer->op.result;
    if (writer->fd >= 0 && writer->step != STEP_RETIRE && writer->step != STEP_FAIL_CLOSE)
        io_close_wait(writer->io, writer->fd);
    snapshots_end(writer);
    free(writer->buffer);
    free(writer);
}

void checkpoint_begin(struct checkpoint_writer *writer, const struct checkpoint_head *head,
                      struct table *const *tables, uint32_t table_count, checkpoint_done_fn done,
                      void *context)
{
    ASSERT(!checkpoint_is_running(writer));
    ASSERT(table_count <= CHECKPOINT_TABLES_MAX);
    ASSERT(writer->files.kept_count == 0 || head->number > writer->files.kept[0].number);
    writer->head = *head;
    writer->table_count = table_count;
    memcpy(writer->tables, tables, table_count * sizeof(*tables));
    writer->done = done;
    writer->context = context;
    writer->file_at = DISK_BLOCK;
    writer->body_read = writer->hash = 0;
    writer->filled = writer->piece = 0;
    writer->failure = 0;
    snapshots_begin(writer);
    spare_choose(writer);
    writer->step = STEP_OPEN;
    io_open(writer->io, &writer->op, writer->path,
            O_RDWR | O_CREAT | checkpoint_open_flags(&writer->identity), 0600, op_done);
}

bool checkpoint_is_running(const struct checkpoint_writer *writer)
{
    return writer->step != STEP_IDLE;
}

int checkpoint_turn(struct checkpoint_writer *writer, uint64_t durable_lsn)
{
    static void (*const steps[])(struct checkpoint_writer *) = {
        [STEP_OPEN] = step_open,
        [STEP_BODY] = step_body,
        [STEP_GROW] = step_grow,
        [STEP_HEADER] = step_header,
        [STEP_SYNC] = step_sync,
        [STEP_DURABLE] = step_rename,
        [STEP_RENAME] = step_sync_dir,
        [STEP_SYNC_DIR] = step_close,
        [STEP_CLOSE] = step_retire,
        [STEP_RETIRE] = step_retired,
        [STEP_SYNC_RETIRED] = step_retired,
        [STEP_FAIL_CLOSE] = step_retired,
    };
    if (writer->step == STEP_IDLE || io_op_is_active(&writer->op))
        return 0;
    if (writer->step == STEP_DURABLE && durable_lsn < writer->head.position.lsn)
        return 0;
    steps[writer->step](writer);
    return 1;
}

/* The next turn looks at op.result: so a step runs where the caller expects work, not inside any
 * io_poll(). */
static void op_done(struct io_op *op)
{
    (void)op;
}

/* ---- the steps: each begins with the result of the one that it is named behind ---- */

static void step_open(struct checkpoint_writer *writer)
{
    if (writer->op.result < 0) {
        fail(writer, writer->op.result);
        return;
    }
    /* A write of a process that was killed may still be on its way into this very file; it holds
     * the lock. */
    writer->fd = writer->op.result;
    if (io_lock_fd(writer->io, writer->fd) == E_LOCKED)
        return;
    writer->files.spare_exists[writer->spare] = true;
    writer->step = STEP_BODY;
    writer->op.result = 0;
    step_body(writer);
}

static void step_body(struct checkpoint_writer *writer)
{
    if (writer->op.result < 0) {
        fail(writer, writer->op.result);
        return;
    }
    writer->filled -= writer->piece;
    memmove(writer->buffer, writer->buffer + CHECKPOINT_PIECE_BYTES, writer->filled);
    if (!body_fill(writer))
        fail(writer, E_NO_MEMORY);
    else if (writer->filled > 0)
        body_write(writer);
    else
        grow_begin(writer);
}

static void step_grow(struct checkpoint_writer *writer)
{
    if (writer->op.result < 0) { // room for later is a wish; the checkpoint itself fits
        LOG_WARN("checkpoint.file_not_grown", LOG_STR("path", writer->path),
                 LOG_STATUS(writer->op.result));
        writer->file_end = writer->file_at;
    }
    if (writer->file_at < writer->file_end)
        grow_write(writer);
    else
        header_write(writer);
}

static void step_header(struct checkpoint_writer *writer)
{
    if (writer->op.result < 0) {
        fail(writer, writer->op.result);
        return;
    }
    if (PLANTED(CHECKPOINT_UNSYNCED)) {
        writer->step = STEP_DURABLE;
        return;
    }
    writer->step = STEP_SYNC;
    io_fdatasync(writer->io, &writer->op, writer->fd, op_done);
}

static void step_sync(struct checkpoint_writer *writer)
{
    if (writer->op.result < 0)
        fail(writer, writer->op.result);
    else
        writer->step = STEP_DURABLE;
}

static void step_rename(struct checkpoint_writer *writer)
{
    int fault = fault_check(FAULT_CHECKPOINT_RENAME);
    if (fault != 0) {
        fail(writer, status_from_errno(fault));
        return;
    }
    writer->step = STEP_RENAME;
    checkpoint_path(writer->path_to, writer->dir, writer->head.number);
    io_rename(writer->io, &writer->op, writer->path, writer->path_to, op_done);
}

static void step_sync_dir(struct checkpoint_writer *writer)
{
    if (writer->op.result < 0) {
        fail(writer, writer->op.result);
        return;
    }
    writer->step = STEP_SYNC_DIR;
    io_sync_dir(writer->io, &writer->op, writer->dir, op_done);
}

static void step_close(struct checkpoint_writer *writer)
{
    if (writer->op.result < 0) {
        fail(writer, writer->op.result);
        return;
    }
    writer->step = STEP_CLOSE;
    io_close(writer->io, &writer->op, writer->fd, op_done);
}

static void step_retire(struct checkpoint_writer *writer)
{
    writer->fd = -1;
    if (writer->files.kept_count < CHECKPOINT_KEPT) {
        files_shift(writer);
        finish(writer, 0);
        return;
    }
    checkpoint_path(writer->path, writer->dir, writer->files.kept[CHECKPOINT_KEPT - 1].number);
    checkpoint_spare_path(writer->path_to, writer->dir, writer->spare);
    writer->step = STEP_RETIRE;
    io_rename(writer->io, &writer->op, writer->path, writer->path_to, op_done);
}

static void step_retired(struct checkpoint_writer *writer)
{
    int status = writer->op.result;
    if (writer->step == STEP_FAIL_CLOSE) {
        writer->fd = -1;
        finish(writer, writer->failure);
        return;
    }
    if (writer->step == STEP_RETIRE && status == 0) {
        writer->step = STEP_SYNC_RETIRED;
        io_sync_dir(writer->io, &writer->op, writer->dir, op_done);
        return;
    }
    if (status < 0)
        LOG_WARN("checkpoint.not_retired", LOG_STR("path", writer->path), LOG_STATUS(status));
    uint64_t bytes = writer->files.kept[CHECKPOINT_KEPT - 1].bytes;
    files_shift(writer);
    writer->files.spare_exists[writer->spare] = status == 0;
    writer->files.spare_bytes[writer->spare] = bytes;
    finish(writer, 0);
}

/* ---- failing ---- */

static void fail(struct checkpoint_writer *writer, int status)
{
    LOG_WARN("checkpoint.failed", LOG_U64("number", writer->head.number),
             LOG_STR("path", writer->path), LOG_STATUS(status),
             LOG_I64("errno", writer->op.os_error));
    snapshots_end(writer);
    writer->failure = status;
    /* How far it goes is not known any more, nor, after a rename, whether it still has this
     * name. */
    writer->files.spare_bytes[writer->spare] = 0;
    if (writer->fd < 0) {
        finish(writer, status);
        return;
    }
    writer->step = STEP_FAIL_CLOSE;
    io_close(writer->io, &writer->op, writer->fd, op_done);
}

static void finish(struct checkpoint_writer *writer, int status)
{
    struct checkpoint_head head = writer->head;
    writer->step = STEP_IDLE;
    writer->done(writer->context, status, &head);
}

/* ---- tables ---- */

static void snapshots_begin(struct checkpoint_writer *writer)
{
    writer->body_bytes = 0;
    writer->table_next = 0;
    for (uint32_t i = 0; i < writer->table_count; i++) {
        table_snapshot_begin(writer->tables[i]);
        writer->body_bytes += table_snapshot_bytes(writer->tables[i]);
    }
}

static void snapshots_end(struct checkpoint_writer *writer)
{
    for (; writer->table_next < writer->table_count; writer->table_next++)
        table_snapshot_end(writer->tables[writer->table_next]);
}

/* Fills the buffer up to a piece, or to the end of the body. False: a frozen view was lost. */
static bool body_fill(struct checkpoint_writer *writer)
{
    while (writer->filled < CHECKPOINT_PIECE_BYTES && writer->table_next < writer->table_count) {
        struct table *table = writer->tables[writer->table_next];
        uint64_t room = max_u64(CHECKPOINT_PIECE_BYTES - writer->filled, TABLE_READ_MIN);
        uint32_t len = table_snapshot_read(table, writer->buffer + writer->filled, (uint32_t)room);
        writer->filled += len;
        writer->body_read += len;
        if (len == 0) {
            table_snapshot_end(table);
            writer->table_next++;
        }
    }
    return writer->table_next < writer->table_count || writer->body_read == writer->body_bytes;
}

static void body_write(struct checkpoint_writer *writer)
{
    uint32_t padded = (uint32_t)align_up(writer->filled, DISK_BLOCK);
    if (writer->filled < CHECKPOINT_PIECE_BYTES)
        memset(writer->buffer + writer->filled, 0, padded - writer->filled);
    uint32_t len = (uint32_t)min_u64(padded, CHECKPOINT_PIECE_BYTES);
    writer->piece = (uint32_t)min_u64(writer->filled, CHECKPOINT_PIECE_BYTES);
    writer->hash = checkpoint_chain(writer->hash, writer->buffer, len);
    io_write(writer->io, &writer->op, writer->fd, writer->buffer, len, writer->file_at, op_done);
    writer->file_at += len;
}

/* ---- room for the future ---- */

/* The file of a true spare is not shorter than what lies in it; one that had to be grown gets room
 * at once, while there is space. */
static void grow_begin(struct checkpoint_writer *writer)
{
    uint64_t has = writer->files.spare_bytes[writer->spare];
    writer->file_end = writer->file_at;
    if (has < writer->file_at)
        writer->file_end = checkpoint_capacity_for(writer->file_at);
    memset(writer->buffer, 0, CHECKPOINT_PIECE_BYTES);
    writer->step = STEP_GROW;
    writer->op.result = 0;
    step_grow(writer);
}

static void grow_write(struct checkpoint_writer *writer)
{
    uint32_t len = (uint32_t)min_u64(writer->file_end - writer->file_at, CHECKPOINT_PIECE_BYTES);
    io_write(writer->io, &writer->op, writer->fd, writer->buffer, len, writer->file_at, op_done);
    writer->file_at += len;
}

static void header_write(struct checkpoint_writer *writer)
{
    const struct wal_position *position = &writer->head.position;
    struct disk_checkpoint *header = (struct disk_checkpoint *)writer->buffer;
    struct disk_expect expect = checkpoint_expect(&writer->identity, writer->head.number);
    memset(header, 0, sizeof(*header));
    disk_header_make(&header->common, &expect, position->append_time_ms);
    header->lsn = le64_make(position->lsn);
    header->chain = le64_make(position->chain);
    header->group_number = le64_make(position->group_number);
    header->append_time_ms = le64_make(position->append_time_ms);
    header->wal_first_file = le64_make(writer->head.wal_first_file);
    header->wal_file = le64_make(position->file_number);
    header->body_bytes = le64_make(writer->body_bytes);
    header->body_checksum = le64_make(writer->hash);
    header->clean = le32_make(writer->head.clean);
    header->table_count = le32_make(writer->table_count);
    disk_header_seal(header);
    writer->step = STEP_HEADER;
    io_write(writer->io, &writer->op, writer->fd, header, DISK_BLOCK, 0, op_done);
}

/* ---- files ---- */

/* A spare if there is one, the largest; else a new file in the first free slot. */
static void spare_choose(struct checkpoint_writer *writer)
{
    struct checkpoint_dir *files = &writer->files;
    uint32_t best = 0;
    for (uint32_t slot = 1; slot < CHECKPOINT_FILES; slot++)
        if (files->spare_exists[slot] &&
            (!files->spare_exists[best] || files->spare_bytes[slot] > files->spare_bytes[best]))
            best = slot;
    writer->spare = best;
    checkpoint_spare_path(writer->path, writer->dir, best);
    if (!files->spare_exists[best])
        files->spare_bytes[best] = 0;
}

static void files_shift(struct checkpoint_writer *writer)
{
    struct checkpoint_dir *files = &writer->files;
    uint64_t bytes = max_u64(files->spare_bytes[writer->spare], writer->file_end);
    files->kept[1] = files->kept[0];
    files->kept[0] = (struct checkpoint_file){.number = writer->head.number, .bytes = bytes};
    if (files->kept_count < CHECKPOINT_KEPT)
        files->kept_count++;
    files->spare_exists[writer->spare] = false;
}
