/* Reading archive files: descriptors on demand, the least recently used closed first.
 *
 * Happy path: the file is open, and a read is one io_read(). Otherwise the read waits in the file's
 * list while it is opened; when there are too many descriptors an idle one is closed at the same
 * time. When all are busy the limit is passed by as many as are being read at once, which the
 * number of read slots bounds.
 *
 * Failure modes: a file that can't be opened fails all reads that wait for it, and the next read
 * tries again. A read that ends early is damage: the size was right at start. */
#include "storage/archive_private.h"

#include <fcntl.h>

#include "base/log.h"

static void read_begin(struct archive_read *read);
static void read_done(struct io_op *op);
static void read_finish(struct archive_read *read, int status, int os_error);
static void file_open(struct archive *archive);
static void file_opened(struct io_op *op);
static void file_closed(struct io_op *op);
static void open_failed(struct archive *archive, int status, int os_error);
static void evict_one(struct archives *archives);

void archive_read_start(struct archives *archives, struct archive_read *read)
{
    struct archive *archive = read->archive;
    read->archives = archives;
    archive_pin(archive);
    if (archive->fd_state == ARCHIVE_FD_OPEN) {
        list_remove(&archive->fd_link);
        list_push_front(&archives->open_files, &archive->fd_link);
        read_begin(read);
        return;
    }
    list_push_back(&archive->waiting, &read->link);
    if (archive->fd_state == ARCHIVE_FD_CLOSED)
        file_open(archive);
}

void archive_pin(struct archive *archive)
{
    archive->pins++;
}

void archive_unpin(struct archive *archive)
{
    ASSERT(archive->pins > 0);
    archive->pins--;
}

void archive_close(struct archive *archive)
{
    struct archives *archives = archive->archives;
    ASSERT(archive->fd_state == ARCHIVE_FD_OPEN && archive->pins == 0);
    list_remove(&archive->fd_link);
    archive->fd_state = ARCHIVE_FD_CLOSING;
    archives->ops++;
    io_close(archives->options.io, &archive->fd_op, archive->fd, file_closed);
}

/* ---- reads ---- */

static void read_begin(struct archive_read *read)
{
    read->archives->ops++;
    io_read(read->archives->options.io, &read->op, read->archive->fd, read->buffer, read->len,
            read->offset, read_done);
}

static void read_done(struct io_op *op)
{
    struct archive_read *read = CONTAINER_OF(op, struct archive_read, op);
    int status = op->result < 0 ? op->result : 0;
    read->archives->ops--;
    if (status == 0 && (uint32_t)op->result != read->len)
        status = E_CORRUPT;
    if (status != 0)
        LOG_ERROR("archive.read_failed", LOG_STR("path", read->archive->path),
                  LOG_U64("offset", read->offset), LOG_U64("bytes", read->len), LOG_STATUS(status),
                  LOG_I64("errno", op->os_error));
    read_finish(read, status, op->os_error);
}

static void read_finish(struct archive_read *read, int status, int os_error)
{
    if (status == E_CORRUPT || status == E_NOT_FOUND)
        read->archives->stats.damage = status;
    read->status = status;
    read->os_error = os_error;
    archive_unpin(read->archive);
    read->done(read);
}

/* ---- descriptors ---- */

static void file_open(struct archive *archive)
{
    struct archives *archives = archive->archives;
    if (archives->fd_count >= archives->options.fds_max)
        evict_one(archives);
    archive->fd_state = ARCHIVE_FD_OPENING;
    archives->fd_count++;
    archives->ops++;
    io_open(archives->options.io, &archive->fd_op, archive->path, O_RDONLY, 0, file_opened);
}

static void file_opened(struct io_op *op)
{
    struct archive *archive = CONTAINER_OF(op, struct archive, fd_op);
    struct archives *archives = archive->archives;
    archives->ops--;
    if (op->result < 0) {
        open_failed(archive, op->result, op->os_error);
        return;
    }
    archive->fd = op->result;
    archive->fd_state = ARCHIVE_FD_OPEN;
    list_push_front(&archives->open_files, &archive->fd_link);
    for (struct list *link; (link = list_pop_front(&archive->waiting));)
        read_begin(CONTAINER_OF(link, struct archive_read, link));
}

static void open_failed(struct archive *archive, int status, int os_error)
{
    struct list waiting;
    LOG_ERROR("archive.open_failed", LOG_STR("path", archive->path), LOG_STATUS(status),
              LOG_I64("errno", os_error));
    archive->fd_state = ARCHIVE_FD_CLOSED;
    archive->archives->fd_count--;
    /* A done() may read again at once: that one belongs to the next attempt. */
    list_init(&waiting);
    for (struct list *link; (link = list_pop_front(&archive->waiting));)
        list_push_back(&waiting, link);
    for (struct list *link; (link = list_pop_front(&waiting));)
        read_finish(CONTAINER_OF(link, struct archive_read, link), status, os_error);
}

static void file_closed(struct io_op *op)
{
    struct archive *archive = CONTAINER_OF(op, struct archive, fd_op);
    archive->fd = -1;
    archive->fd_state = ARCHIVE_FD_CLOSED;
    archive->archives->fd_count--;
    archive->archives->ops--;
    if (!list_is_empty(&archive->waiting))
        file_open(archive);
}

static void evict_one(struct archives *archives)
{
    for (struct list *link = archives->open_files.prev; link != &archives->open_files;
         link = link->prev) {
        struct archive *archive = CONTAINER_OF(link, struct archive, fd_link);
        if (archive->pins == 0) {
            archive_close(archive);
            return;
        }
    }
}
