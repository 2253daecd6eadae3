/* Reading checkpoints: at start-up and by tools, blocking.
 *
 * checkpoint_scan() looks at every checkpoint file wholly: header, structure of the body, checksum
 * over all of it, in pieces of CHECKPOINT_PIECE_BYTES. checkpoint_load() walks the same way and
 * hands each table its rows; it checks everything again, since the file may have changed in
 * between.
 *
 * Failure modes: a file that fails a check is counted, and named, and the scan goes on; what to do
 * when too few are left is the caller's business. A file of another store or of a newer format ends
 * the scan: nothing may be touched then. Nothing here writes. */
#include "storage/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "storage/checkpoint_private.h"

struct stream { // the body, read piece by piece
    struct io *io;
    int fd;
    uint8_t *buffer;
    uint32_t at, end; // of the buffer
    uint64_t file_at;
    uint64_t file_left; // not yet read
    uint64_t body_left; // not yet consumed, without padding
    uint64_t hash;
};

/* Consumes the rows of one table from the stream: le64_get(header->row_count) * row_bytes. */
struct walk {
    struct table *const *tables; // NULL: only look
    uint32_t table_count;
    uint32_t seen_ids[CHECKPOINT_TABLES_MAX];
    uint32_t seen_count;
    const char *why;
};

struct numbers {
    uint64_t values[ARRAY_COUNT(((struct checkpoint_set *)0)->heads)]; // highest first
    uint32_t count;
};

static int visit(void *context, const char *name, uint64_t size_bytes);
static int scan_file(struct io *io, const char *dir, const struct checkpoint_identity *identity,
                     uint64_t number, struct checkpoint_set *set);
static int file_read(struct io *io, const char *path, const struct checkpoint_identity *identity,
                     uint64_t number, struct checkpoint_head *head, struct walk *walk);
static int file_walk(struct stream *stream, const struct checkpoint_identity *identity,
                     uint64_t number, struct checkpoint_head *head, struct walk *walk);
static int header_read(struct stream *stream, struct disk_checkpoint *header);
static struct checkpoint_head head_of(const struct disk_checkpoint *header);
static int tables_walk(struct stream *stream, const struct disk_checkpoint *header,
                       struct walk *walk);
static int table_walk(struct stream *stream, struct walk *walk);
static const char *table_check(const struct disk_table *header, uint64_t bytes_left,
                               struct walk *walk);
static int table_fill(struct stream *stream, const struct disk_table *header, struct table *table,
                      const char **why);
static struct table *table_find(const struct walk *walk, uint32_t id);
static int stream_take(struct stream *stream, uint8_t *bytes, uint64_t len);
static int stream_refill(struct stream *stream);

int checkpoint_scan(struct io *io, const char *dir, const struct checkpoint_identity *identity,
                    struct checkpoint_set *set)
{
    struct numbers numbers = {0};
    memset(set, 0, sizeof(*set));
    int status = io_list(io, dir, visit, &numbers);
    for (uint32_t i = 0; status == 0 && i < numbers.count; i++)
        status = scan_file(io, dir, identity, numbers.values[i], set);
    return status;
}

int checkpoint_load(struct io *io, const char *dir, uint64_t number,
                    const struct checkpoint_identity *identity, struct table *const *tables,
                    uint32_t table_count, const char **why)
{
    char path[CHECKPOINT_PATH_MAX];
    struct checkpoint_head head;
    struct walk walk = {.tables = tables, .table_count = table_count};
    int status = file_read(io, checkpoint_path(path, dir, number), identity, number, &head, &walk);
    *why = walk.why;
    return status;
}

/* Keeps the highest numbers, sorted. More files than there is room for are older than any of
 * use. */
static int visit(void *context, const char *name, uint64_t size_bytes)
{
    struct numbers *numbers = context;
    uint64_t number = disk_name_parse(name, ".ckpt");
    (void)size_bytes;
    if (number == 0)
        return 0;
    uint32_t at = numbers->count;
    while (at > 0 && numbers->values[at - 1] < number)
        at--;
    if (at == ARRAY_COUNT(numbers->values))
        return 0;
    if (numbers->count < ARRAY_COUNT(numbers->values))
        numbers->count++;
    for (uint32_t i = numbers->count - 1; i > at; i--)
        numbers->values[i] = numbers->values[i - 1];
    numbers->values[at] = number;
    return 0;
}

static int scan_file(struct io *io, const char *dir, const struct checkpoint_identity *identity,
                     uint64_t number, struct checkpoint_set *set)
{
    char path[CHECKPOINT_PATH_MAX];
    struct walk walk = {0};
    struct checkpoint_head *head = &set->heads[set->count];
    int status = file_read(io, checkpoint_path(path, dir, number), identity, number, head, &walk);
    if (status == 0) {
        set->count++;
        return 0;
    }
    LOG_WARN("checkpoint.bad", LOG_STR("path", path), LOG_STR("why", walk.why), LOG_STATUS(status));
    if (status != E_CORRUPT || set->bad_count == 0) {
        snprintf(set->bad_path, sizeof(set->bad_path), "%s", path);
        set->bad_why = walk.why;
    }
    set->bad_count++;
    return status == E_CORRUPT ? 0 : status;
}

/* ---- one file ---- */

static int file_read(struct io *io, const char *path, const struct checkpoint_identity *identity,
                     uint64_t number, struct checkpoint_head *head, struct walk *walk)
{
    struct stream stream = {.io = io};
    walk->why = "can't be read";
    stream.buffer = aligned_alloc(DISK_BLOCK, CHECKPOINT_PIECE_BYTES);
    if (!stream.buffer)
        return E_NO_MEMORY;
    stream.fd = io_open_wait(io, path, O_RDONLY | checkpoint_open_flags(identity), 0);
    int status = stream.fd;
    if (stream.fd >= 0) {
        status = file_walk(&stream, identity, number, head, walk);
        io_close_wait(io, stream.fd);
    }
    free(stream.buffer);
    return status;
}

static int file_walk(struct stream *stream, const struct checkpoint_identity *identity,
                     uint64_t number, struct checkpoint_head *head, struct walk *walk)
{
    struct disk_checkpoint header;
    uint64_t file_bytes;
    struct disk_expect expect = checkpoint_expect(identity, number);
    int status = io_file_size(stream->io, stream->fd, &file_bytes);
    if (status == 0)
        status = header_read(stream, &header);
    if (status != 0) {
        walk->why = status == E_CORRUPT ? "shorter than its header" : "can't be read";
        return status;
    }
    status = disk_header_check(&header, &expect, &walk->why);
    if (status != 0)
        return status;
    uint64_t body_bytes = le64_get(header.body_bytes);
    if (body_bytes > file_bytes || align_up(body_bytes, DISK_BLOCK) > file_bytes - DISK_BLOCK) {
        walk->why = "shorter than its header says";
        return E_CORRUPT;
    }
    *head = head_of(&header);
    stream->file_at = DISK_BLOCK;
    stream->file_left = align_up(body_bytes, DISK_BLOCK);
    stream->body_left = body_bytes;
    return tables_walk(stream, &header, walk);
}

static int header_read(struct stream *stream, struct disk_checkpoint *header)
{
    int got = io_read_wait(stream->io, stream->fd, stream->buffer, DISK_BLOCK, 0);
    if (got < 0)
        return got;
    if (got < DISK_BLOCK)
        return E_CORRUPT;
    memcpy(header, stream->buffer, sizeof(*header));
    return 0;
}

static struct checkpoint_head head_of(const struct disk_checkpoint *header)
{
    return (struct checkpoint_head){
        .number = le64_get(header->common.number),
        .position =
            {
                .lsn = le64_get(header->lsn),
                .chain = le64_get(header->chain),
                .group_number = le64_get(header->group_number),
                .append_time_ms = le64_get(header->append_time_ms),
                .file_number = le64_get(header->wal_file),
            },
        .wal_first_file = le64_get(header->wal_first_file),
        .clean = le32_get(header->clean) == 1,
    };
}

/* ---- the body ---- */

static int tables_walk(struct stream *stream, const struct disk_checkpoint *header,
                       struct walk *walk)
{
    uint32_t table_count = le32_get(header->table_count);
    if (table_count > CHECKPOINT_TABLES_MAX) {
        walk->why = "has more tables than there can be";
        return E_CORRUPT;
    }
    for (uint32_t i = 0; i < table_count; i++) {
        int status = table_walk(stream, walk);
        if (status != 0)
            return status;
    }
    if (stream->body_left != 0 || stream->file_left != 0) {
        walk->why = "body is longer than its tables";
        return E_CORRUPT;
    }
    walk->why = "body checksum is wrong";
    return stream->hash == le64_get(header->body_checksum) ? 0 : E_CORRUPT;
}

static int table_walk(struct stream *stream, struct walk *walk)
{
    struct disk_table header;
    walk->why = "body ends inside a table";
    int status = stream_take(stream, (uint8_t *)&header, sizeof(header));
    if (status != 0)
        return status;
    if ((walk->why = table_check(&header, stream->body_left, walk)))
        return E_CORRUPT;
    uint64_t rows_bytes = le64_get(header.row_count) * le32_get(header.row_bytes);
    walk->why = "can't be read";
    if (!walk->tables)
        return stream_take(stream, NULL, rows_bytes);
    struct table *table = table_find(walk, le32_get(header.table_id));
    if (!table) {
        walk->why = "holds a table that this version does not know";
        return E_CORRUPT;
    }
    return table_fill(stream, &header, table, &walk->why);
}

static const char *table_check(const struct disk_table *header, uint64_t bytes_left,
                               struct walk *walk)
{
    uint32_t id = le32_get(header->table_id);
    uint32_t row_bytes = le32_get(header->row_bytes);
    if (row_bytes < 16 || row_bytes > 4096 || row_bytes % 8 != 0)
        return "table rows have an impossible size";
    if (le64_get(header->row_count) > bytes_left / row_bytes)
        return "table rows cut short";
    for (uint32_t i = 0; i < walk->seen_count; i++)
        if (walk->seen_ids[i] == id)
            return "holds the same table twice";
    walk->seen_ids[walk->seen_count++] = id;
    return NULL;
}

static int table_fill(struct stream *stream, const struct disk_table *header, struct table *table,
                      const char **why)
{
    uint64_t len = sizeof(*header) + le64_get(header->row_count) * le32_get(header->row_bytes);
    uint8_t *image = malloc(len);
    if (!image) {
        *why = "no memory for a table";
        return E_NO_MEMORY;
    }
    memcpy(image, header, sizeof(*header));
    int status = stream_take(stream, image + sizeof(*header), len - sizeof(*header));
    if (status == 0) {
        int64_t used = table_load(table, image, len, why);
        status = used < 0 ? (int)used : 0;
    }
    free(image);
    return status;
}

static struct table *table_find(const struct walk *walk, uint32_t id)
{
    for (uint32_t i = 0; i < walk->table_count; i++)
        if ((uint32_t)table_id_of(walk->tables[i]) == id)
            return walk->tables[i];
    return NULL;
}

/* ---- the stream ---- */

/* `bytes` NULL: passes over them. */
static int stream_take(struct stream *stream, uint8_t *bytes, uint64_t len)
{
    if (len > stream->body_left)
        return E_CORRUPT;
    stream->body_left -= len;
    while (len > 0) {
        if (stream->at == stream->end) {
            int status = stream_refill(stream);
            if (status != 0)
                return status;
        }
        uint32_t now = (uint32_t)min_u64(len, stream->end - stream->at);
        if (bytes)
            memcpy(bytes, stream->buffer + stream->at, now);
        bytes = bytes ? bytes + now : NULL;
        stream->at += now;
        len -= now;
    }
    return 0;
}

static int stream_refill(struct stream *stream)
{
    uint32_t want = (uint32_t)min_u64(stream->file_left, CHECKPOINT_PIECE_BYTES);
    int got = io_read_wait(stream->io, stream->fd, stream->buffer, want, stream->file_at);
    if (got < 0)
        return got;
    if ((uint32_t)got != want)
        return E_CORRUPT;
    stream->hash = checkpoint_chain(stream->hash, stream->buffer, want);
    stream->file_at += want;
    stream->file_left -= want;
    stream->at = 0;
    stream->end = want;
    return 0;
}
