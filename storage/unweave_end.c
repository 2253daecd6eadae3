/* How a run ends.
 *
 * Well: the new file's row is added and the rows of the files that it replaces say `dropped`, all in
 * one turn, so a checkpoint sees all of it or nothing. Badly: nothing has changed; the file that was
 * begun is deleted, or at the next start, since nobody names it. */
#include "storage/unweave_private.h"

#include <stdlib.h>

#include "base/log.h"

static struct archive *archive_of_run(struct unweave *unweave);
static void inputs_release(struct unweave *unweave, bool superseded);

void unweave_install(struct unweave *unweave)
{
    struct archives *archives = unweave->archives;
    struct archive *archive = archive_of_run(unweave);
    if (!archive) {
        snprintf(unweave->tmp_path, sizeof(unweave->tmp_path), "%s", unweave->path);
        unweave_fail(unweave, E_NO_MEMORY);
        return;
    }
    inputs_release(unweave, true);
    archives_insert(archives, archive);
    archives->next_number++;
    archives->stats.runs++;
    archives->stats.run_bytes += archive->data_bytes;
    LOG_INFO("archive.run_made", LOG_STR("path", archive->path),
             LOG_U64("base_lsn", archive->base_lsn), LOG_U64("end_lsn", archive->end_lsn),
             LOG_U64("bytes", archive->data_bytes), LOG_U64("batches", unweave->entry_count),
             LOG_U64("partitions", unweave->partition_count),
             LOG_U64("took_ms", (archives->now_ns - unweave->begun_ns) / NS_PER_MS));
    unweave_report(unweave, 0);
}

static struct archive *archive_of_run(struct unweave *unweave)
{
    struct archive *archive = archive_new(unweave->archives, unweave->number);
    if (!archive)
        return NULL;
    archive->base_lsn = unweave->base_lsn;
    archive->end_lsn = unweave->end_lsn;
    archive->append_ms_last = unweave->append_ms_last;
    archive->data_bytes = archive->live_bytes = unweave->data_bytes;
    archive->index_offset = align_up(DISK_BLOCK + unweave->data_bytes, DISK_BLOCK);
    archive->index_bytes = unweave->out.len;
    archive->file_bytes = unweave->band_at;
    archive->surveyed = unweave->log_starts_moved;
    if (archives_row_add(unweave->archives, archive))
        return archive;
    archive_free(archive);
    return NULL;
}

void unweave_fail(struct unweave *unweave, int status)
{
    LOG_WARN("archive.run_failed", LOG_U64("number", unweave->number),
             LOG_U64("base_lsn", unweave->base_lsn), LOG_U64("end_lsn", unweave->end_lsn),
             LOG_STATUS(status));
    if (status == E_CORRUPT)
        unweave->archives->stats.damage = status;
    unweave->archives->stats.failed_runs++;
    unweave->failure = status;
    unweave->step = UNWEAVE_FAIL_DRAIN;
}

/* superseded: the run holds what they held. */
static void inputs_release(struct unweave *unweave, bool superseded)
{
    for (uint32_t i = 0; i < unweave->input_count; i++) {
        struct unweave_input *input = &unweave->inputs[i];
        index_image_free(&input->image);
        if (input->segment) {
            input->segment->pins--;
        } else {
            archive_unpin(input->archive);
            if (superseded && !input->archive->dropped) // the survey may have found it dead
                archives_drop(unweave->archives, input->archive);
        }
    }
    unweave->input_count = 0;
    for (uint32_t i = 0; i < unweave->older_count; i++)
        unweave->older[i].segment->pins--;
    unweave->older_count = 0;
    free(TAKE(unweave->older));
}

void unweave_report(struct unweave *unweave, int status)
{
    struct archives *archives = unweave->archives;
    uint64_t end_lsn = unweave->end_lsn;
    inputs_release(unweave, status == 0);
    unweave_give_up(unweave);
    unweave->step = UNWEAVE_IDLE;
    if (status == 0)
        archives->end_lsn = max_u64(archives->end_lsn, end_lsn);
    if (unweave->is_rewrite)
        return;
    unweave->rewrite_wanted = status == 0;
    archives->options.on_run(archives->options.context, status, end_lsn);
}

void unweave_give_up(struct unweave *unweave)
{
    inputs_release(unweave, false);
    index_image_free(&unweave->out);
    free(TAKE(unweave->log_starts));
    free(TAKE(unweave->pieces));
    free(TAKE(unweave->fragments));
    if (unweave->step == UNWEAVE_OPEN && unweave->op.result >= 0)
        unweave->fd = unweave->op.result;
    bool is_closed = unweave->step == UNWEAVE_CLOSE || unweave->step == UNWEAVE_FAIL_CLOSE;
    if (unweave->fd >= 0 && !is_closed)
        io_close_wait(unweave->archives->options.io, unweave->fd);
    unweave->fd = -1;
    unweave->tmp_path[0] = 0;
}
