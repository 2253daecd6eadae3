/* The read-ahead window of recovery.
 *
 * The happy path: the range lies in the buffer. Otherwise the window moves: what it already holds
 * from the range on is kept, the rest of the buffer is filled by up to FILE_READER_READS_MAX reads
 * in flight together, and then their results are looked at. Reads are block-aligned, so that they
 * work with O_DIRECT.
 *
 * Under ASan what lies behind the range is poisoned: the buffer is so long that a length from disk
 * which was not checked would hardly ever leave it. */
#include "storage/file_reader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/poison.h"
#include "storage/format.h"

#define HUGE_PAGE_BYTES (2 * MIB)
#define POISONED ((uint64_t)(64 * KIB)) // behind the range: see arena.c
#define POISON_UNIT 8                   // so many bytes share a mark

static int range_find(struct file_reader *reader, uint64_t offset, uint32_t len, uint8_t **bytes);
static uint64_t guard_end(const struct file_reader *reader, uint64_t end);
static void range_end(struct file_reader *reader, uint64_t end);
static void window_move(struct file_reader *reader, uint64_t offset);
static int window_fill(struct file_reader *reader, uint64_t need);
static int reads_run(struct file_reader *reader);
static void read_done(struct io_op *op);

int file_reader_init(struct file_reader *reader, struct io *io, uint64_t range_bytes_max)
{
    /* Twice what is in flight, so that a range that begins near the window's end costs no second
     * fill. */
    uint64_t capacity =
        range_bytes_max + DISK_BLOCK + FILE_READER_READS_MAX * FILE_READER_PIECE_BYTES;
    *reader =
        (struct file_reader){.io = io, .fd = -1, .capacity = align_up(capacity, HUGE_PAGE_BYTES)};
    reader->range_end = reader->capacity;
    reader->buffer = aligned_alloc(HUGE_PAGE_BYTES, reader->capacity);
    if (reader->buffer == NULL)
        return E_NO_MEMORY;
    (void)madvise(reader->buffer, reader->capacity, MADV_HUGEPAGE); // best effort
    return 0;
}

void file_reader_deinit(struct file_reader *reader)
{
    if (reader->buffer != NULL)
        range_end(reader, reader->capacity);
    free(reader->buffer);
    reader->buffer = NULL;
}

void file_reader_open(struct file_reader *reader, int fd, uint64_t file_bytes)
{
    reader->fd = fd;
    reader->file_bytes = file_bytes;
    reader->offset = 0;
    reader->len = 0;
    reader->reads = 1;
}

int file_reader_bytes(struct file_reader *reader, uint64_t offset, uint32_t len, uint8_t **bytes)
{
    int status = range_find(reader, offset, len, bytes);
    if (status == 0)
        range_end(reader, (uint64_t)(*bytes - reader->buffer) + len);
    return status;
}

static uint64_t guard_end(const struct file_reader *reader, uint64_t end)
{
    return align_down(min_u64(end + POISONED, reader->capacity), POISON_UNIT);
}

/* Nobody may touch what lies behind `end` in the buffer. Mostly it moves on by a little, and so does the poison. */
static void range_end(struct file_reader *reader, uint64_t end)
{
    uint64_t last = reader->range_end;
    uint64_t last_stop = guard_end(reader, last), stop = guard_end(reader, end);
    if (end < last || end > last_stop) {
        unpoison(reader->buffer + last, last_stop - last);
        poison(reader->buffer + end, stop - end);
    } else {
        unpoison(reader->buffer + last, end - last);
        poison(reader->buffer + last_stop, stop - last_stop);
    }
    reader->range_end = end;
}

static int range_find(struct file_reader *reader, uint64_t offset, uint32_t len, uint8_t **bytes)
{
    if (offset > reader->file_bytes || len > reader->file_bytes - offset)
        return E_TRUNCATED;
    bool here = offset >= reader->offset && offset + len <= reader->offset + reader->len;
    if (!here) {
        range_end(reader, reader->capacity);
        window_move(reader, align_down(offset, DISK_BLOCK));
        int status = window_fill(reader, offset + len - reader->offset);
        if (status < 0)
            return status;
        if (offset + len > reader->offset + reader->len)
            return E_TRUNCATED; // shorter than its size said
    }
    *bytes = reader->buffer + (offset - reader->offset);
    return 0;
}

/* Makes buffer[0] stand for `offset`, keeping what is there already. */
static void window_move(struct file_reader *reader, uint64_t offset)
{
    uint64_t end = reader->offset + reader->len;
    if (offset >= reader->offset && offset < end) {
        uint64_t skip = offset - reader->offset;
        memmove(reader->buffer, reader->buffer + skip, reader->len - skip);
        reader->len = align_down(reader->len - skip, DISK_BLOCK);
    } else {
        reader->len = 0;
    }
    reader->offset = offset;
}

/* At least `need` bytes, in whole volleys. */
static int window_fill(struct file_reader *reader, uint64_t need)
{
    while (reader->len < need) {
        uint64_t before = reader->len;
        int status = reads_run(reader);
        if (status < 0)
            return status;
        if (reader->len == before)
            break;
    }
    return 0;
}

/* One volley: reads one behind the other, all in flight together. */
static int reads_run(struct file_reader *reader)
{
    struct io_op ops[FILE_READER_READS_MAX] = {0};
    uint32_t count = 0;
    uint64_t len = reader->len;
    uint64_t limit =
        min_u64(reader->capacity, align_up(reader->file_bytes, DISK_BLOCK) - reader->offset);
    while (count < reader->reads && len < limit) {
        uint32_t piece = (uint32_t)min_u64(limit - len, FILE_READER_PIECE_BYTES);
        io_read(reader->io, &ops[count++], reader->fd, reader->buffer + len, piece,
                reader->offset + len, read_done);
        len += piece;
    }
    reader->reads = (uint32_t)min_u64(2 * reader->reads, FILE_READER_READS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        while (io_op_is_active(&ops[i]))
            (void)io_poll(reader->io, UINT64_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].result < 0) {
            reader->os_error = ops[i].os_error;
            return ops[i].result;
        }
        reader->len += (uint32_t)ops[i].result;
        if ((uint32_t)ops[i].result < ops[i].len)
            break; // the end of the file
    }
    return 0;
}

static void read_done(struct io_op *op)
{
    (void)op; // reads_run() looks at them all
}
