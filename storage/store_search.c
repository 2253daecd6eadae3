/* Offsets by timestamp: the first batch whose highest timestamp is at or above the one asked for.
 *
 * Producers' timestamps need not rise, so files are asked one after the other, oldest first; each directory knows the
 * highest timestamp of the partition in it, so only one file's batches are looked at. That is a read of an index
 * image per file that isn't cached: for tools and for consumers that start, not for the data path.
 *
 * Failure modes: those of reading index images. */
#include "storage/store_read.h"

#include "base/status.h"

static bool search_files(struct read_job *job);
static bool search_image(struct read_job *job, const struct index_image *image);
static void search_open(struct read_job *job);
static bool search_found(struct read_job *job, const struct index_entry *entry);

/* Starts and goes on after each image that had to be loaded. */
void search_run(struct read_job *job)
{
    struct partition *partition = job->read->partition;
    if (!job->in_lookup) {
        job->in_lookup = true;
        job->search_lsn = 0;
        job->read->bytes = 0;
        job->read->next_offset = partition->visible_end;
    }
    if (!search_files(job))
        return;
    if (job->read->bytes == 0)
        search_open(job);
    if (job->read->bytes == 0)
        job->read->next_offset = partition->visible_end;
    job_finish(job, 0);
}

/* False: waits, or has ended with an error. */
static bool search_files(struct read_job *job)
{
    struct store *store = job->store;
    uint32_t i;
    while ((i = places_first_behind(store, job->search_lsn)) < places_count(store)) {
        struct place place = places_at(store, i);
        if (place_image(store, place, &job->lookup.load) == 0)
            return false;
        if (job->lookup.load.status != 0) {
            job_finish(job, job->lookup.load.status);
            return false;
        }
        if (search_image(job, job->lookup.load.image))
            return true;
        job->search_lsn = place.end_lsn;
    }
    return true;
}

static bool search_image(struct read_job *job, const struct index_image *image)
{
    const struct disk_index_partition *p =
        index_image_partition(image, job->topic_id, job->partition);
    if (!p || le64_get(p->end_offset) <= job->read->partition->log_start)
        return false;
    uint32_t end = le32_get(p->entry_start) + le32_get(p->entry_count);
    for (uint32_t i = index_image_find_time(image, p, job->timestamp); i < end; i++) {
        struct index_entry entry = index_image_at(image, i);
        if (search_found(job, &entry))
            return true;
    }
    return false;
}

static void search_open(struct read_job *job)
{
    const struct index_open *open = job->store->open;
    uint32_t i = index_open_find_time(open, job->read->partition, job->timestamp);
    for (; i != INDEX_NONE; i = index_open_next(open, i)) {
        struct index_entry entry = index_open_at(open, i);
        if (search_found(job, &entry))
            return;
    }
}

static bool search_found(struct read_job *job, const struct index_entry *entry)
{
    const struct partition *partition = job->read->partition;
    if (entry->max_timestamp < job->timestamp ||
        entry->base_offset + entry->record_count <= partition->log_start ||
        entry->base_offset >= partition->visible_end)
        return false;
    job->read->bytes = 1;
    job->read->next_offset = entry->base_offset;
    *job->found_timestamp = entry->max_timestamp;
    return true;
}
