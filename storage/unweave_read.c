/* Fetching one band, and checking it.
 *
 * Happy path: for each piece of a source of which something is wanted one read of that stretch
 * (O_DIRECT from segments), some at a time; what arrives is copied to its places in the band. When
 * all is there each batch is checked against its own CRC-32C and against the index, before a byte
 * of it is written: a run never spreads damage. What was staged gets its base offset here: archive
 * files hold batches as they are delivered.
 *
 * Failure modes: a read error or a damaged batch ends the run; file, place and partition are
 * logged. Nothing is lost by it: the sources stay. */
#include "storage/unweave_private.h"

#include "base/log.h"
#include "proto/batch.h"
#include "storage/segment_scan.h"

#define COPIES_MAX 2u                      // reads dealt out in one step: below 100 us
#define VERIFY_BYTES ((uint32_t)(1 * MIB)) // checked in one step: about 50 us

static int reads_collect(struct unweave *unweave, int *work);
static void reads_start(struct unweave *unweave, int *work);
static bool pieces_skip_unwanted(struct unweave *unweave);
static bool reads_are_free(const struct unweave *unweave);
static struct unweave_read *read_free(struct unweave *unweave);
static void read_start(struct unweave *unweave, struct unweave_read *read, uint32_t piece);
static struct unweave_input *input_of_piece(struct unweave *unweave, uint32_t piece);
static void segment_read_done(struct io_op *op);
static void archive_read_done(struct archive_read *archive_read);
static int read_failed(struct unweave *unweave, const struct unweave_read *read);
static void deal_out(struct unweave *unweave, const struct unweave_read *read);
static const char *batch_fault(const struct unweave *unweave, const uint8_t *bytes,
                               const struct index_entry *entry);
static int batch_damaged(struct unweave *unweave, uint32_t i, const char *why);

int unweave_read_step(struct unweave *unweave, int *work)
{
    int status = reads_collect(unweave, work);
    if (status != 0)
        return status;
    reads_start(unweave, work);
    return unweave->piece_next == unweave->piece_count && reads_are_free(unweave);
}

int unweave_verify_step(struct unweave *unweave)
{
    for (uint32_t bytes = 0; bytes < VERIFY_BYTES; unweave->verify_next++) {
        if (unweave->verify_next == unweave->merge.entry_out)
            return 1;
        struct index_entry entry = index_image_at(&unweave->out, unweave->verify_next);
        uint8_t *batch = unweave->band + (entry.position - unweave->band_at);
        const char *why = batch_fault(unweave, batch, &entry);
        if (why)
            return batch_damaged(unweave, unweave->verify_next, why);
        if (batch_is_staged(batch))
            batch_set_head(batch, entry.base_offset, STORED_LEADER_EPOCH);
        bytes += entry.size;
    }
    return 0;
}

/* ---- starting ---- */

static void reads_start(struct unweave *unweave, int *work)
{
    uint32_t room = unweave_room(unweave, 4, UNWEAVE_READS_MAX);
    for (struct unweave_read *read; room > 0 && (read = read_free(unweave)); room--) {
        if (!pieces_skip_unwanted(unweave))
            return;
        read_start(unweave, read, unweave->piece_next++);
        (*work)++;
    }
    pieces_skip_unwanted(unweave);
}

static bool pieces_skip_unwanted(struct unweave *unweave)
{
    while (unweave->piece_next < unweave->piece_count &&
           unweave->pieces[unweave->piece_next].fragments == UNWEAVE_NO_FRAGMENT)
        unweave->piece_next++;
    return unweave->piece_next < unweave->piece_count;
}

static bool reads_are_free(const struct unweave *unweave)
{
    for (uint32_t i = 0; i < UNWEAVE_READS_MAX; i++)
        if (unweave->reads[i].state != UNWEAVE_READ_FREE)
            return false;
    return true;
}

static struct unweave_read *read_free(struct unweave *unweave)
{
    for (uint32_t i = 0; i < UNWEAVE_READS_MAX; i++)
        if (unweave->reads[i].state == UNWEAVE_READ_FREE)
            return &unweave->reads[i];
    return NULL;
}

/* O_DIRECT wants whole blocks; the pieces' borders are block borders. */
static void read_start(struct unweave *unweave, struct unweave_read *read, uint32_t piece)
{
    const struct unweave_piece *wanted = &unweave->pieces[piece];
    struct unweave_input *input = input_of_piece(unweave, piece);
    read->state = UNWEAVE_READ_FLYING;
    read->piece = piece;
    read->low = (uint32_t)align_down(wanted->low, DISK_BLOCK);
    read->len = (uint32_t)align_up(wanted->high, DISK_BLOCK) - read->low;
    uint64_t at = (uint64_t)(piece - input->piece_first) * UNWEAVE_PIECE_BYTES + read->low;
    unweave->archives->stats.read_bytes += read->len;
    unweave_io_begin(unweave);
    if (input->segment) {
        io_read(unweave->archives->options.io, &read->op, input->segment->fd, read->buffer,
                read->len, at, segment_read_done);
        return;
    }
    read->archive.archive = input->archive;
    read->archive.offset = at;
    read->archive.buffer = read->buffer;
    read->archive.len = read->len;
    read->archive.done = archive_read_done;
    archive_read_start(unweave->archives, &read->archive);
}

static struct unweave_input *input_of_piece(struct unweave *unweave, uint32_t piece)
{
    bool is_older = unweave->older_count > 0 && piece >= unweave->older[0].piece_first;
    struct unweave_input *inputs = is_older ? unweave->older : unweave->inputs;
    uint32_t i = (is_older ? unweave->older_count : unweave->input_count) - 1;
    while (inputs[i].piece_first > piece)
        i--;
    return &inputs[i];
}

/* ---- completing ---- */

static void segment_read_done(struct io_op *op)
{
    struct unweave_read *read = CONTAINER_OF(op, struct unweave_read, op);
    read->status = op->result < 0 ? op->result : 0;
    read->os_error = op->os_error;
    if (op->result >= 0 && (uint32_t)op->result != read->len)
        read->status = E_CORRUPT;
    read->state = UNWEAVE_READ_DONE;
    unweave_io_end(read->unweave);
}

static void archive_read_done(struct archive_read *archive_read)
{
    struct unweave_read *read = CONTAINER_OF(archive_read, struct unweave_read, archive);
    read->status = archive_read->status;
    read->os_error = archive_read->os_error;
    read->state = UNWEAVE_READ_DONE;
    unweave_io_end(read->unweave);
}

static int reads_collect(struct unweave *unweave, int *work)
{
    uint32_t copies = 0;
    for (uint32_t i = 0; i < UNWEAVE_READS_MAX && copies < COPIES_MAX; i++) {
        struct unweave_read *read = &unweave->reads[i];
        if (read->state != UNWEAVE_READ_DONE)
            continue;
        read->state = UNWEAVE_READ_FREE;
        if (read->status != 0)
            return read_failed(unweave, read);
        deal_out(unweave, read);
        copies++;
        (*work)++;
    }
    return 0;
}

static int read_failed(struct unweave *unweave, const struct unweave_read *read)
{
    const struct unweave_input *input = input_of_piece(unweave, read->piece);
    uint64_t at = (uint64_t)(read->piece - input->piece_first) * UNWEAVE_PIECE_BYTES + read->low;
    LOG_ERROR("archive.source_unreadable",
              LOG_STR("path", input->segment ? input->segment->path : input->archive->path),
              LOG_U64("offset", at), LOG_U64("bytes", read->len), LOG_STATUS(read->status),
              LOG_I64("errno", read->os_error));
    return read->status;
}

static void deal_out(struct unweave *unweave, const struct unweave_read *read)
{
    uint32_t next = unweave->pieces[read->piece].fragments;
    while (next != UNWEAVE_NO_FRAGMENT) {
        const struct unweave_fragment *fragment = &unweave->fragments[next];
        memcpy(unweave->band + fragment->to, read->buffer + (fragment->from - read->low),
               fragment->len);
        next = fragment->next;
    }
}

/* ---- checking ---- */

/* Base offset and leader epoch lie outside the CRC: the offset is held against the index (in a
 * segment it may be lacking), the epoch against the only one there is. */
static const char *batch_fault(const struct unweave *unweave, const uint8_t *bytes,
                               const struct index_entry *entry)
{
    struct batch_info info;
    if (!batch_peek(bytes, entry->size, &info) || info.size != entry->size)
        return "no batch of that size where the index says";
    bool is_staged = info.base_offset == STAGED_OFFSET && !unweave->is_rewrite;
    if ((info.base_offset != entry->base_offset && !is_staged) ||
        info.record_count != entry->record_count)
        return "another batch than the index says";
    if (!stored_epoch_is_good(bytes))
        return "batch of another leader epoch than is ever stored";
    return batch_is_intact(bytes, entry->size) ? NULL : "batch fails its checksum";
}

/* Where it came from is found again by its offset: this happens once. */
static int batch_damaged(struct unweave *unweave, uint32_t i, const char *why)
{
    uint32_t d = 0;
    while (d + 1 < unweave->partition_count &&
           le32_get(index_image_directory(&unweave->out)[d + 1].entry_start) <= i &&
           le32_get(index_image_directory(&unweave->out)[d + 1].entry_count) > 0)
        d++;
    const struct disk_index_partition *p = &index_image_directory(&unweave->out)[d];
    uint32_t topic_id = le32_get(p->topic_id), partition = le32_get(p->partition);
    uint64_t offset = index_image_at(&unweave->out, i).base_offset;
    for (uint32_t n = 0; n < unweave->input_count; n++) {
        struct unweave_input *input = &unweave->inputs[n];
        p = index_image_partition(&input->image, topic_id, partition);
        uint32_t at = p ? index_image_find(&input->image, p, offset) : INDEX_NONE;
        if (at == INDEX_NONE || index_image_at(&input->image, at).base_offset != offset)
            continue;
        uint64_t position = index_image_at(&input->image, at).position;
        input = unweave_holder(unweave, input, position);
        LOG_ERROR("archive.source_damaged", LOG_STR("why", why),
                  LOG_STR("path", input->segment ? input->segment->path : input->archive->path),
                  LOG_U64("offset", input->file_at + (position - input->origin)),
                  LOG_U64("position", position),
                  LOG_U64("bytes", index_image_at(&unweave->out, i).size),
                  LOG_U64("topic_id", topic_id), LOG_U64("partition", partition),
                  LOG_U64("base_offset", offset));
    }
    return E_CORRUPT;
}
