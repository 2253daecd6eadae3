/* The set of archive files: which there are, in which order, and when one may go.
 *
 * Happy path: a run adds a row (archives_row_add); log starts move, the survey lowers live_bytes;
 * at 0, or when the batches were rewritten elsewhere, archives_drop() marks the row and takes the
 * file out of the order; when two checkpoints that were begun after that are the kept ones, the
 * file is unlinked and the row deleted.
 *
 * Why two: start-up loads the newer checkpoint, or the older when the newer is damaged. Whatever
 * the older one names as in use must still be there. A row says `dropped` before the file goes, so
 * between unlink and the next checkpoint the missing file of a dropped row is no damage.
 *
 * Failure modes: an unlink that fails is told and tried again at the next start, where the file has
 * no name left. */
#include "storage/archive_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "storage/unweave.h"

#define FILE_COUNT_DEFAULT 65536u

static void options_default(struct archives_options *options);
static void order_remove(struct archives *archives, const struct archive *archive);
static int unlink_turn(struct archives *archives);
static struct archive *unlink_choose(struct archives *archives);
static void unlink_done(struct io_op *op);
static void close_all(struct archives *archives);
static void row_fill(struct disk_archive_row *row, const struct archive *archive);

size_t archives_arena_bytes(const struct archives_options *options)
{
    struct archives_options filled = *options;
    options_default(&filled);
    return align_up(filled.job_bytes, DISK_BLOCK) + DISK_BLOCK;
}

struct archives *archives_new(const struct archives_options *options)
{
    struct archives *archives = calloc(1, sizeof(*archives));
    if (!archives)
        return NULL;
    archives->options = *options;
    options_default(&archives->options);
    list_init(&archives->dropped);
    list_init(&archives->open_files);
    archives->next_number = 1;
    archives->log_starts_moved = 1; // live bytes of a checkpoint may be older than its log starts
    archives->used = calloc(archives->options.file_count_max, sizeof(*archives->used));
    archives->table = table_new(&(struct table_options){
        .id = TABLE_ARCHIVES,
        .row_bytes = sizeof(struct disk_archive_row),
        .row_count_max = archives->options.file_count_max,
    });
    archives->unweave = unweave_new(archives);
    if (archives->used && archives->table && archives->unweave)
        return archives;
    archives_free(archives);
    return NULL;
}

void archives_free(struct archives *archives)
{
    if (!archives)
        return;
    ASSERT(archives->ops == 0);
    archive_survey_deinit(archives);
    close_all(archives);
    for (uint32_t i = 0; i < archives->count; i++)
        archive_free(archives->used[i]);
    LIST_EACH(link, &archives->dropped)
    archive_free(CONTAINER_OF(link, struct archive, dropped_link));
    unweave_free(archives->unweave);
    archive_reserve_deinit(archives);
    table_free(archives->table);
    free(archives->used);
    free(archives);
}

struct table *archives_table(struct archives *archives)
{
    return archives->table;
}

void archives_quiesce(struct archives *archives)
{
    archives->quiesced = true;
    while (archives->ops > 0)
        io_poll(archives->options.io, UINT64_MAX);
    unweave_give_up(archives->unweave);
}

static void options_default(struct archives_options *options)
{
    if (options->file_count_max == 0)
        options->file_count_max = FILE_COUNT_DEFAULT;
    if (options->fds_max == 0)
        options->fds_max = ARCHIVE_FDS_MAX;
    if (options->job_bytes == 0)
        options->job_bytes = ARCHIVE_JOB_BYTES;
}

/* ---- the turn ---- */

int archives_turn(struct archives *archives, uint64_t now_ns, enum archive_pressure pressure)
{
    ASSERT(!archives->quiesced);
    archives->now_ns = now_ns;
    archives->pressure = pressure;
    int work = unweave_turn(archives->unweave);
    work += unlink_turn(archives);
    work += archive_survey_turn(archives);
    work += archive_reserve_turn(archives);
    return work;
}

uint64_t archives_deadline_ns(const struct archives *archives)
{
    return min_u64(unweave_deadline_ns(archives->unweave), archive_survey_deadline_ns(archives));
}

/* ---- what there is ---- */

uint32_t archives_count(const struct archives *archives)
{
    return archives->count;
}

struct archive *archives_at(const struct archives *archives, uint32_t index)
{
    ASSERT(index < archives->count);
    return archives->used[index];
}

uint64_t archive_number(const struct archive *archive)
{
    return archive->number;
}

uint64_t archive_base_lsn(const struct archive *archive)
{
    return archive->base_lsn;
}

uint64_t archive_end_lsn(const struct archive *archive)
{
    return archive->end_lsn;
}

uint64_t archive_data_bytes(const struct archive *archive)
{
    return archive->data_bytes;
}

uint64_t archive_live_bytes(const struct archive *archive)
{
    return archive->live_bytes;
}

uint64_t archive_append_ms_last(const struct archive *archive)
{
    return archive->append_ms_last;
}

uint64_t archives_end_lsn(const struct archives *archives)
{
    return archives->end_lsn;
}

uint64_t archives_safe_lsn(const struct archives *archives)
{
    return archives->checkpoint_older.end_lsn;
}

struct archives_stats archives_stats(const struct archives *archives)
{
    struct archives_stats stats = archives->stats;
    stats.files = archives->count;
    for (uint32_t i = 0; i < archives->count; i++) {
        stats.file_bytes += archives->used[i]->file_bytes;
        stats.live_bytes += archives->used[i]->live_bytes;
    }
    LIST_EACH(link, &archives->dropped)
    stats.dropped_files++;
    stats.fds_open = archives->fd_count;
    stats.has_reserve = archives->reserve.state == RESERVE_READY;
    return stats;
}

/* ---- what checkpoints know ---- */

void archives_checkpoint_begin(struct archives *archives)
{
    archives->checkpoint_running = (struct archives_checkpoint){
        .number = ++archives->checkpoints_begun,
        .end_lsn = archives->end_lsn,
    };
}

void archives_checkpoint_done(struct archives *archives)
{
    ASSERT(archives->checkpoint_running.number > archives->checkpoint_newest.number);
    archives->checkpoint_older = archives->checkpoint_newest;
    archives->checkpoint_newest = archives->checkpoint_running;
}

void archives_log_start_moved(struct archives *archives)
{
    archives->log_starts_moved++;
}

/* ---- coming and going ---- */

struct archive *archive_new(struct archives *archives, uint64_t number)
{
    char path[ARCHIVE_PATH_MAX];
    archive_path(path, archives->options.dir, number);
    struct archive *archive = calloc(1, sizeof(*archive) + strlen(path) + 1);
    if (!archive)
        return NULL;
    strcpy(archive->path, path);
    archive->archives = archives;
    archive->row = TABLE_ROW_NONE;
    archive->number = number;
    archive->fd = -1;
    list_init(&archive->dropped_link);
    list_init(&archive->fd_link);
    list_init(&archive->waiting);
    return archive;
}

void archive_free(struct archive *archive)
{
    ASSERT(archive->pins == 0 && archive->fd_state == ARCHIVE_FD_CLOSED);
    free(archive);
}

bool archives_row_add(struct archives *archives, struct archive *archive)
{
    struct disk_archive_row *row = table_row_new(archives->table, &archive->row);
    if (!row)
        return false;
    row_fill(row, archive);
    return true;
}

void archives_insert(struct archives *archives, struct archive *archive)
{
    ASSERT(archives->count < archives->options.file_count_max);
    uint32_t at = archives_place_above(archives, archive->base_lsn);
    memmove(&archives->used[at + 1], &archives->used[at],
            (archives->count - at) * sizeof(archives->used[0]));
    archives->used[at] = archive;
    archives->count++;
}

void archives_drop(struct archives *archives, struct archive *archive)
{
    ASSERT(!archive->dropped);
    order_remove(archives, archive);
    archive->dropped = true;
    archive->dropped_after = archives->checkpoints_begun;
    list_push_back(&archives->dropped, &archive->dropped_link);
    struct disk_archive_row *row = table_row_mut(archives->table, archive->row);
    row->dropped = le64_make(1);
}

void archives_live_set(struct archives *archives, struct archive *archive, uint64_t live_bytes)
{
    if (archive->live_bytes == live_bytes)
        return;
    archive->live_bytes = live_bytes;
    struct disk_archive_row *row = table_row_mut(archives->table, archive->row);
    row->live_bytes = le64_make(live_bytes);
}

static void row_fill(struct disk_archive_row *row, const struct archive *archive)
{
    row->number = le64_make(archive->number);
    row->file_bytes = le64_make(archive->file_bytes);
    row->base_lsn = le64_make(archive->base_lsn);
    row->end_lsn = le64_make(archive->end_lsn);
    row->data_bytes = le64_make(archive->data_bytes);
    row->live_bytes = le64_make(archive->live_bytes);
    row->dropped = le64_make(archive->dropped);
    row->append_ms_last = le64_make(archive->append_ms_last);
}

uint32_t archives_place_above(const struct archives *archives, uint64_t base_lsn)
{
    uint32_t low = 0, high = archives->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (archives->used[middle]->base_lsn <= base_lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void order_remove(struct archives *archives, const struct archive *archive)
{
    uint32_t at = archives_place_above(archives, archive->base_lsn);
    ASSERT(at > 0 && archives->used[at - 1] == archive);
    archives->count--;
    memmove(&archives->used[at - 1], &archives->used[at],
            (archives->count + 1 - at) * sizeof(archives->used[0]));
}

/* ---- unlinking: one at a time, the deletion of a large file keeps a disk busy ---- */

static int unlink_turn(struct archives *archives)
{
    if (archives->unlinking)
        return 0;
    struct archive *archive = unlink_choose(archives);
    if (!archive)
        return 0;
    if (archive->fd_state != ARCHIVE_FD_CLOSED) {
        archive_close(archive);
        return 1;
    }
    archives->unlinking = archive;
    archives->ops++;
    io_unlink(archives->options.io, &archives->unlink_op, archive->path, unlink_done);
    return 1;
}

static struct archive *unlink_choose(struct archives *archives)
{
    LIST_EACH(link, &archives->dropped)
    {
        struct archive *archive = CONTAINER_OF(link, struct archive, dropped_link);
        bool is_closing =
            archive->fd_state == ARCHIVE_FD_OPENING || archive->fd_state == ARCHIVE_FD_CLOSING;
        if (archives->checkpoint_older.number > archive->dropped_after && archive->pins == 0 &&
            !is_closing)
            return archive;
    }
    return NULL;
}

static void unlink_done(struct io_op *op)
{
    struct archives *archives = CONTAINER_OF(op, struct archives, unlink_op);
    struct archive *archive = TAKE(archives->unlinking);
    archives->ops--;
    if (op->result < 0 && op->result != E_NOT_FOUND)
        LOG_WARN("archive.unlink_failed", LOG_STR("path", archive->path), LOG_STATUS(op->result));
    else
        archives->stats.unlinked_files++;
    index_cache_drop(archives->options.cache, archive_image_key(archive));
    list_remove(&archive->dropped_link);
    table_row_delete(archives->table, archive->row);
    archive_free(archive);
}

static void close_all(struct archives *archives)
{
    LIST_EACH(link, &archives->open_files)
    {
        struct archive *archive = CONTAINER_OF(link, struct archive, fd_link);
        io_close_wait(archives->options.io, archive->fd);
        archive->fd_state = ARCHIVE_FD_CLOSED;
        list_remove(&archive->fd_link);
    }
}

/* ---- names ---- */

char *archive_path(char path[ARCHIVE_PATH_MAX], const char *dir, uint64_t number)
{
    snprintf(path, ARCHIVE_PATH_MAX, "%s/%016llx.arc", dir, (unsigned long long)number);
    return path;
}

char *archive_tmp_path(char path[ARCHIVE_PATH_MAX], const char *dir, uint64_t number)
{
    snprintf(path, ARCHIVE_PATH_MAX, "%s/%016llx.tmp", dir, (unsigned long long)number);
    return path;
}
