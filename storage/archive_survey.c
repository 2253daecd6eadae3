/* The survey: how much of each archive file is still live, after log starts moved.
 *
 * One file at a time, oldest first: its directory is held against the log starts. A partition that
 * is wholly above or below costs one look; where the log start lies inside, the entries from there
 * on are summed. A file without a live batch is dropped. A round begins at most every
 * SURVEY_ROUND_NS and goes over a file each SURVEY_FILE_NS, since a file that is dead some seconds
 * longer costs nothing and an image of a file may be megabytes to read.
 *
 * Not in a moment of pressure: groups come first. A file that can't be read keeps its number; the
 * damage is told by archive_image.c. */
#include "storage/archive_private.h"

#include "base/log.h"

#define SURVEY_ROUND_NS (2 * NS_PER_S)
#define SURVEY_FILE_NS (20 * NS_PER_MS)

static struct archive *next_of_round(const struct archives *archives);
static void look_at(struct archives *archives, struct archive *archive);
static void image_done(struct archive_image_load *load);
static void count_live(struct archives *archives, struct archive *archive,
                       const struct index_image *image);
static uint64_t live_bytes_of(const struct index_image *image, const struct disk_index_partition *p,
                              uint64_t log_start);

int archive_survey_turn(struct archives *archives)
{
    struct archive_survey *survey = &archives->survey;
    if (survey->active || archives->pressure != ARCHIVE_CALM || archives->now_ns < survey->next_ns)
        return 0;
    if (!survey->in_round && survey->round == archives->log_starts_moved)
        return 0;
    if (!survey->in_round)
        survey->round = archives->log_starts_moved;
    struct archive *archive = next_of_round(archives);
    survey->in_round = archive != NULL;
    survey->next_ns = archives->now_ns + (archive ? SURVEY_FILE_NS : SURVEY_ROUND_NS);
    if (archive)
        look_at(archives, archive);
    return 1;
}

uint64_t archive_survey_deadline_ns(const struct archives *archives)
{
    const struct archive_survey *survey = &archives->survey;
    bool is_due = survey->in_round || survey->round < archives->log_starts_moved;
    bool may_run = !survey->active && archives->pressure == ARCHIVE_CALM;
    return is_due && may_run ? survey->next_ns : UINT64_MAX;
}

static struct archive *next_of_round(const struct archives *archives)
{
    for (uint32_t i = 0; i < archives->count; i++)
        if (archives->used[i]->surveyed < archives->survey.round)
            return archives->used[i];
    return NULL;
}

static void look_at(struct archives *archives, struct archive *archive)
{
    struct archive_survey *survey = &archives->survey;
    survey->active = true;
    survey->load.archive = archive;
    survey->load.done = image_done;
    archive_pin(archive);
    const struct index_image *cached =
        index_cache_get(archives->options.cache, archive_image_key(archive));
    if (cached) {
        survey->load.status = 0;
        survey->load.image = cached;
        image_done(&survey->load);
        return;
    }
    /* What readers don't use is not put into their way. */
    archive_image_start_private(archives, &survey->load);
}

static void image_done(struct archive_image_load *load)
{
    struct archive *archive = load->archive;
    struct archives *archives = archive->archives;
    struct archive_survey *survey = &archives->survey;
    survey->active = false;
    archive->surveyed = survey->round;
    archive_unpin(archive);
    if (load->status == 0 && !archive->dropped) // a run may have rewritten it meanwhile
        count_live(archives, archive, load->image ? load->image : &load->own);
    if (!load->image)
        index_image_free(&load->own);
}

static void count_live(struct archives *archives, struct archive *archive,
                       const struct index_image *image)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < image->partition_count; i++) {
        const struct disk_index_partition *p = &image->directory[i];
        uint64_t log_start = archives->options.log_start(
            archives->options.context, le32_get(p->topic_id), le32_get(p->partition));
        live += live_bytes_of(image, p, log_start);
    }
    archives_live_set(archives, archive, min_u64(live, archive->data_bytes));
    if (live > 0)
        return;
    LOG_INFO("archive.dead", LOG_STR("path", archive->path), LOG_U64("bytes", archive->file_bytes));
    archives_drop(archives, archive);
}

static uint64_t live_bytes_of(const struct index_image *image, const struct disk_index_partition *p,
                              uint64_t log_start)
{
    if (log_start <= le64_get(p->first_offset))
        return le64_get(p->bytes);
    uint32_t i = index_image_find(image, p, log_start);
    if (i == INDEX_NONE)
        return 0;
    uint64_t bytes = 0;
    for (uint32_t end = le32_get(p->entry_start) + le32_get(p->entry_count); i < end; i++)
        bytes += le32_get(image->entries[i].size);
    return bytes;
}
