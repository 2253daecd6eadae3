/* The survey: how much of each archive file is still live, after log starts moved.
 *
 * One file at a time, oldest first: its directory is held against the log starts. A partition that
 * is wholly above or below costs one look; where the log start lies inside, the entries from there
 * on are summed. A file without a live batch is dropped.
 *
 * It takes its time: a round begins at most every SURVEY_ROUND_NS, a file is looked at each
 * SURVEY_FILE_NS, and in steps; a file that is dead some seconds longer costs nothing, while its
 * index may be megabytes to read. Under pressure it goes slower, but it goes: on a busy shard too
 * files have to be given back some time. The index is read past the cache, which is the readers'.
 *
 * Failure modes: a file that can't be read keeps its number until the next round; damage is told by
 * archive_image.c. */
#include "storage/archive_private.h"

#include "base/log.h"

#define SURVEY_ROUND_NS (2 * NS_PER_S)
#define SURVEY_FILE_NS (20 * NS_PER_MS)
#define SURVEY_FILE_BUSY_NS (200 * NS_PER_MS)
#define SURVEY_PARTITIONS 512u // looked at in one step: below 50 us

static struct archive *next_of_round(const struct archives *archives);
static void look_at(struct archives *archives, struct archive *archive);
static void image_done(struct archive_image_load *load);
static void count_some(struct archives *archives);
static void count_end(struct archives *archives);
static uint64_t live_bytes_of(const struct index_image *image, const struct disk_index_partition *p,
                              uint64_t log_start);

int archive_survey_turn(struct archives *archives)
{
    struct archive_survey *survey = &archives->survey;
    if (survey->state == SURVEY_COUNTING) {
        count_some(archives);
        return 1;
    }
    if (survey->state != SURVEY_RESTING || archives->now_ns < survey->next_ns)
        return 0;
    if (!survey->in_round && survey->round == archives->log_starts_moved)
        return 0;
    if (!survey->in_round)
        survey->round = archives->log_starts_moved;
    struct archive *archive = next_of_round(archives);
    survey->in_round = archive != NULL;
    if (archive)
        look_at(archives, archive);
    else
        survey->next_ns = archives->now_ns + SURVEY_ROUND_NS;
    return 1;
}

uint64_t archive_survey_deadline_ns(const struct archives *archives)
{
    const struct archive_survey *survey = &archives->survey;
    if (survey->state == SURVEY_COUNTING)
        return archives->now_ns;
    bool is_due = survey->in_round || survey->round < archives->log_starts_moved;
    return is_due && survey->state == SURVEY_RESTING ? survey->next_ns : UINT64_MAX;
}

void archive_survey_deinit(struct archives *archives)
{
    struct archive_survey *survey = &archives->survey;
    if (survey->state != SURVEY_COUNTING)
        return;
    index_image_free(&survey->load.own);
    archive_unpin(survey->load.archive);
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
    bool is_calm = archives->pressure == ARCHIVE_CALM;
    survey->next_ns = archives->now_ns + (is_calm ? SURVEY_FILE_NS : SURVEY_FILE_BUSY_NS);
    survey->state = SURVEY_LOADING;
    survey->load.archive = archive;
    survey->load.done = image_done;
    archive->surveyed = survey->round;
    archive_pin(archive);
    archive_image_start_private(archives, &survey->load);
}

static void image_done(struct archive_image_load *load)
{
    struct archive_survey *survey = CONTAINER_OF(load, struct archive_survey, load);
    survey->partition = 0;
    survey->live_bytes = 0;
    survey->state = SURVEY_COUNTING;
    if (load->status == 0)
        return;
    survey->state = SURVEY_RESTING;
    archive_unpin(load->archive);
}

static void count_some(struct archives *archives)
{
    struct archive_survey *survey = &archives->survey;
    const struct archives_options *options = &archives->options;
    const struct index_image *image = &survey->load.own;
    for (uint32_t i = 0; i < SURVEY_PARTITIONS; i++, survey->partition++) {
        if (survey->partition == image->partition_count) {
            count_end(archives);
            return;
        }
        const struct disk_index_partition *p = &image->directory[survey->partition];
        uint64_t log_start =
            options->log_start(options->context, le32_get(p->topic_id), le32_get(p->partition));
        survey->live_bytes += live_bytes_of(image, p, log_start);
    }
}

static void count_end(struct archives *archives)
{
    struct archive_survey *survey = &archives->survey;
    struct archive *archive = survey->load.archive;
    survey->state = SURVEY_RESTING;
    index_image_free(&survey->load.own);
    archive_unpin(archive);
    if (archive->dropped) // a run has rewritten it meanwhile
        return;
    archives_live_set(archives, archive, min_u64(survey->live_bytes, archive->data_bytes));
    if (survey->live_bytes > 0)
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
