/* What goes into a run.
 *
 * Segments: as many of those offered as a run may have, by bytes and by batches. A run of small
 * batches takes half as many: it reads its sources once for each band (unweave_private.h).
 *
 * Which files are rewritten: the newest archive files together with the run that follows them in
 * the log, others among themselves after a run that went well; always neighbours, so that files
 * never overlap in LSN and a reader never has to merge. */
#include "storage/unweave_private.h"

#include <stdlib.h>

#include "base/status.h"

#define SMALL_BATCH_BYTES ((uint64_t)(32 * KIB)) // below: half a run
#define REWRITE_INDEX_BYTES_MAX (8 * MIB)        // of index of the archive files in one run

struct offer { // what a run would take
    uint32_t segments;
    uint64_t bytes;
};

static struct offer offer_within(const struct unweave_source *sources, uint32_t count,
                                 uint64_t bytes_max);
static uint32_t segments_choose(const struct unweave_source *sources, uint32_t count);
static bool is_sparse(const struct archive *archive);
static uint32_t tail_choose(const struct archives *archives, uint64_t bytes);
static void run_begin(struct unweave *unweave, bool is_rewrite);
static void input_add_segment(struct unweave *unweave, struct unweave_source *source);
static void input_add_archive(struct unweave *unweave, struct archive *archive);
static int older_make(struct unweave *unweave, const struct unweave_older *older);
static struct unweave_input segment_input(struct segment *segment);
static void input_add(struct unweave *unweave, struct unweave_input input, uint64_t base_lsn,
                      uint64_t end_lsn);
static uint32_t input_place(struct unweave_input *input, uint32_t piece_first);
static int rewrite_choose(const struct archives *archives, uint32_t *first);

int archives_unweave(struct archives *archives, struct unweave_source *sources, uint32_t count,
                     const struct unweave_older *older, uint64_t now_wall_ms)
{
    struct unweave *unweave = archives->unweave;
    ASSERT(count > 0 && !archives->quiesced);
    if (unweave_is_running(unweave) || archives->count == archives->options.file_count_max ||
        table_used_count(archives->table) == archives->options.file_count_max)
        return E_FULL;
    if (sources[0].segment->base_lsn < archives->end_lsn)
        return E_INVALID;
    uint32_t segments = segments_choose(sources, count);
    uint64_t bytes = offer_within(sources, segments, UINT64_MAX).bytes;
    uint32_t tail = tail_choose(archives, bytes);
    int status = older_make(unweave, older);
    if (status < 0)
        return status;
    archives->wall_ms = now_wall_ms;
    run_begin(unweave, false);
    for (uint32_t i = archives->count - tail; i < archives->count; i++)
        input_add_archive(unweave, archives->used[i]);
    for (uint32_t i = 0; i < segments; i++)
        input_add_segment(unweave, &sources[i]);
    for (uint32_t i = 0; i < unweave->older_count; i++)
        unweave->piece_count += input_place(&unweave->older[i], unweave->piece_count);
    return (int)segments;
}

/* A log of small segments may have a thousand of them. */
static int older_make(struct unweave *unweave, const struct unweave_older *older)
{
    if (!older || older->count == 0)
        return 0;
    unweave->older = malloc(older->count * sizeof(*unweave->older));
    if (!unweave->older)
        return E_NO_MEMORY;
    for (uint32_t i = 0; i < older->count; i++) {
        older->segments[i]->pins++;
        unweave->older[i] = segment_input(older->segments[i]);
    }
    unweave->older_count = older->count;
    return 0;
}

static uint32_t segments_choose(const struct unweave_source *sources, uint32_t count)
{
    struct offer offer = offer_within(sources, count, ARCHIVE_RUN_BYTES_MAX);
    uint64_t batches = 0;
    for (uint32_t i = 0; i < offer.segments; i++)
        batches += sources[i].image.entry_count;
    if (offer.bytes < batches * SMALL_BATCH_BYTES)
        offer = offer_within(sources, count, ARCHIVE_RUN_BYTES_MAX / 2);
    return offer.segments;
}

/* As many as fit, at least one. */
static struct offer offer_within(const struct unweave_source *sources, uint32_t count,
                                 uint64_t bytes_max)
{
    struct offer offer = {0};
    uint64_t entries = 0;
    while (offer.segments < count && offer.segments < ARCHIVE_RUN_SEGMENTS_MAX) {
        const struct unweave_source *source = &sources[offer.segments];
        uint64_t bytes = source->segment->end_lsn - source->segment->base_lsn;
        entries += source->image.entry_count;
        if (offer.segments > 0 &&
            (offer.bytes + bytes > bytes_max || entries > ARCHIVE_RUN_ENTRIES_MAX))
            break;
        offer.bytes += bytes;
        offer.segments++;
    }
    return offer;
}

static bool is_sparse(const struct archive *archive)
{
    return archive->live_bytes < archive->data_bytes / 2;
}

/* How many of the newest files are rewritten with a run of `bytes`. */
static uint32_t tail_choose(const struct archives *archives, uint64_t bytes)
{
    uint64_t index_bytes = 0;
    uint32_t count = 0;
    while (count < archives->count && count < UNWEAVE_ARCHIVES_MAX) {
        const struct archive *archive = archives->used[archives->count - 1 - count];
        bytes += archive->live_bytes;
        index_bytes += archive->index_bytes;
        if (!is_sparse(archive) || bytes > ARCHIVE_RUN_BYTES_MAX ||
            index_bytes > REWRITE_INDEX_BYTES_MAX)
            break;
        count++;
    }
    return count;
}

/* The first row of neighbours that are mostly dead. Returns how many; a single one is enough. */
static int rewrite_choose(const struct archives *archives, uint32_t *first)
{
    for (uint32_t i = 0; i < archives->count; i++) {
        if (!is_sparse(archives->used[i]))
            continue;
        uint64_t bytes = 0, index_bytes = 0;
        int count = 0;
        for (*first = i; i < archives->count && count < UNWEAVE_ARCHIVES_MAX; i++, count++) {
            bytes += archives->used[i]->live_bytes;
            index_bytes += archives->used[i]->index_bytes;
            if (!is_sparse(archives->used[i]) ||
                (count > 0 &&
                 (bytes > ARCHIVE_RUN_BYTES_MAX || index_bytes > REWRITE_INDEX_BYTES_MAX)))
                break;
        }
        return count;
    }
    return 0;
}

bool unweave_rewrite_begin(struct unweave *unweave)
{
    uint32_t first;
    unweave->rewrite_wanted = false;
    int count = rewrite_choose(unweave->archives, &first);
    if (count == 0 ||
        table_used_count(unweave->archives->table) == unweave->archives->options.file_count_max)
        return false;
    run_begin(unweave, true);
    for (int i = 0; i < count; i++)
        input_add_archive(unweave, unweave->archives->used[first + (uint32_t)i]);
    return true;
}

static void run_begin(struct unweave *unweave, bool is_rewrite)
{
    unweave->is_rewrite = is_rewrite;
    unweave->begun_ns = unweave->archives->now_ns;
    unweave->number = unweave->archives->next_number;
    unweave->base_lsn = UINT64_MAX;
    unweave->end_lsn = unweave->append_ms_last = 0;
    unweave->log_starts_moved = unweave->archives->log_starts_moved;
    unweave->failure = 0;
    unweave->input_count = unweave->load_next = 0;
    unweave->partition_count = unweave->entry_count = unweave->piece_count = 0;
    unweave->data_bytes = 0;
    unweave->unsynced = unweave->written = unweave->syncing = 0;
    unweave->all_planned = unweave->footer_done = false;
    unweave->write_status = 0;
    unweave->write_failed_at = UINT32_MAX;
    unweave->step = UNWEAVE_LOAD;
}

static void input_add_segment(struct unweave *unweave, struct unweave_source *source)
{
    struct segment *segment = source->segment;
    struct unweave_input input = segment_input(segment);
    segment->pins++;
    input.image = source->image;
    input_add(unweave, input, segment->base_lsn, segment->end_lsn);
    source->image = (struct index_image){0};
}

static struct unweave_input segment_input(struct segment *segment)
{
    return (struct unweave_input){.segment = segment,
                                  .origin = segment->base_lsn,
                                  .end = segment->end_lsn,
                                  .file_at = DISK_SEGMENT_DATA};
}

static void input_add_archive(struct unweave *unweave, struct archive *archive)
{
    archive_pin(archive);
    input_add(unweave,
              (struct unweave_input){
                  .archive = archive,
                  .origin = DISK_BLOCK,
                  .end = DISK_BLOCK + archive->data_bytes,
                  .file_at = DISK_BLOCK,
              },
              archive->base_lsn, archive->end_lsn);
    unweave->append_ms_last = max_u64(unweave->append_ms_last, archive->append_ms_last);
}

/* Returns how many pieces it has. */
static uint32_t input_place(struct unweave_input *input, uint32_t piece_first)
{
    uint64_t bytes = input->file_at + (input->end - input->origin);
    input->piece_first = piece_first;
    return (uint32_t)(bytes / UNWEAVE_PIECE_BYTES) + 1;
}

static void input_add(struct unweave *unweave, struct unweave_input input, uint64_t base_lsn,
                      uint64_t end_lsn)
{
    unweave->piece_count += input_place(&input, unweave->piece_count);
    unweave->base_lsn = min_u64(unweave->base_lsn, base_lsn);
    unweave->end_lsn = max_u64(unweave->end_lsn, end_lsn);
    if (input.segment)
        unweave->append_ms_last = max_u64(unweave->append_ms_last, input.image.append_ms_last);
    unweave->inputs[unweave->input_count++] = input;
}
