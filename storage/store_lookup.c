/* Finding the file of an offset.
 *
 * Files follow each other in the log, and a partition's offsets rise with the LSN, so the file is found by halving. What
 * makes it interesting is that a file which holds nothing of the partition does not tell in which direction to go:
 * then its neighbour is asked, until one tells or the border is reached.
 *
 * Costs. Looking at a file means having its index image: a few hundred KiB, cached within the budget. A reader that goes
 * on where it was has a hint and asks one file or two. One that comes to the tail finds the newest file with its
 * partition in closed_lsn. Only one that starts somewhere in the middle searches: log2(files) images when its partition
 * is in most of them; when it is rare, at the worst all of them, once: 4,000 archive files (1 TB) are 4,000 reads
 * of 0.3 ms. Nothing per file and partition is kept in memory, since 10,000 partitions times 4,000 files would be
 * 640 MB.
 *
 * Failure modes: an image can't be had (LOOKUP_FAILED); no file holds the offset (LOOKUP_ABSENT), which the caller judges:
 * the log start may have moved meanwhile, else data is missing. */
#include "storage/store_lookup.h"

#include "base/status.h"

#define STEPS_NEAR 4u

static bool place_next(struct store *store, struct lookup *lookup, struct place *place);
static uint32_t place_first(struct store *store, struct lookup *lookup, uint32_t low,
                            uint32_t high);
static enum lookup_result judge(struct lookup *lookup, struct place place);
static uint32_t first_segment(const struct store *store, uint32_t count);
static void archive_loaded(struct archive_image_load *archive);

void lookup_init(struct lookup *lookup, const struct partition *partition, uint64_t offset,
                 uint32_t hint)
{
    lookup->topic_id = partition->topic_id;
    lookup->partition = partition->partition;
    lookup->offset = offset;
    lookup->low_lsn = 0;
    lookup->high_lsn = UINT64_MAX;
    lookup->guess_lsn = UINT64_MAX;
    lookup->steps_near = 0;
    lookup->next_offset = UINT64_MAX;
    lookup->in_round = false;
    if (hint != INDEX_NONE && (hint & LOOKUP_HINT_FILE))
        lookup->guess_lsn = (uint64_t)(hint & ~LOOKUP_HINT_FILE) << 20;
    else if (partition->closed_lsn > 0)
        lookup->guess_lsn = partition->closed_lsn - 1;
}

enum lookup_result lookup_step(struct store *store, struct lookup *lookup)
{
    struct place place;
    while (place_next(store, lookup, &place)) {
        int ready = place_image(store, place, &lookup->load);
        if (ready == 0)
            return LOOKUP_PENDING;
        if (lookup->load.status != 0)
            return LOOKUP_FAILED;
        if (judge(lookup, place) == LOOKUP_FOUND)
            return LOOKUP_FOUND;
    }
    return LOOKUP_ABSENT;
}

/* Which file to look at now. The set may have changed since the last step, so all is kept as LSNs. */
static bool place_next(struct store *store, struct lookup *lookup, struct place *place)
{
    while (lookup->low_lsn < lookup->high_lsn) {
        uint32_t low = places_first_behind(store, lookup->low_lsn);
        uint32_t high = places_first_from(store, lookup->high_lsn);
        if (low >= high)
            return false;
        uint32_t i = lookup->in_round ? places_first_behind(store, lookup->probe_lsn)
                                      : place_first(store, lookup, low, high);
        if (i < high) {
            *place = places_at(store, i);
            lookup->probe_lsn = place->base_lsn;
            if (!lookup->in_round)
                lookup->round_lsn = place->base_lsn;
            lookup->in_round = true;
            return true;
        }
        lookup->high_lsn = lookup->round_lsn; // from there on nobody holds the partition
        lookup->in_round = false;
    }
    return false;
}

/* Where a new round begins. */
static uint32_t place_first(struct store *store, struct lookup *lookup, uint32_t low, uint32_t high)
{
    if (lookup->guess_lsn != UINT64_MAX) {
        uint32_t i = places_first_behind(store, lookup->guess_lsn);
        lookup->guess_lsn = UINT64_MAX;
        lookup->steps_near = STEPS_NEAR;
        if (i >= low && i < high)
            return i;
    }
    if (lookup->steps_near > 0) {
        lookup->steps_near--;
        return low;
    }
    return low + (high - low) / 2;
}

static enum lookup_result judge(struct lookup *lookup, struct place place)
{
    const struct index_image *image = lookup->load.image;
    const struct disk_index_partition *p =
        index_image_partition(image, lookup->topic_id, lookup->partition);
    if (!p) {
        lookup->probe_lsn = place.end_lsn; // the neighbour
        return LOOKUP_ABSENT;
    }
    lookup->in_round = false;
    if (lookup->offset >= le64_get(p->end_offset)) {
        lookup->low_lsn = place.end_lsn;
    } else if (lookup->offset < le64_get(p->first_offset)) {
        lookup->high_lsn = lookup->round_lsn;
        lookup->steps_near = 0;
        lookup->next_offset = min_u64(lookup->next_offset, le64_get(p->first_offset));
    } else {
        lookup->place = place;
        lookup->image = image;
        lookup->entries = p;
        return LOOKUP_FOUND;
    }
    return LOOKUP_ABSENT;
}

/* ---- places ---- */

uint32_t closed_count(const struct store *store)
{
    uint32_t count = wal_segment_count(store->wal);
    while (count > 0 && wal_segment_at(store->wal, count - 1)->number >= store->open_file)
        count--;
    return count;
}

struct segment *open_segment(const struct store *store)
{
    return wal_segment_at(store->wal, closed_count(store));
}

struct segment *segment_holding(const struct store *store, uint64_t lsn)
{
    uint32_t low = 0, high = wal_segment_count(store->wal);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (wal_segment_at(store->wal, middle)->base_lsn <= lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? wal_segment_at(store->wal, low - 1) : NULL;
}

uint32_t places_count(const struct store *store)
{
    uint32_t closed = closed_count(store);
    return archives_count(store->archives) + closed - first_segment(store, closed);
}

struct place places_at(const struct store *store, uint32_t i)
{
    uint32_t archive_count = archives_count(store->archives);
    if (i < archive_count) {
        struct archive *archive = archives_at(store->archives, i);
        return (struct place){.base_lsn = archive_base_lsn(archive),
                              .end_lsn = archive_end_lsn(archive),
                              .archive = archive};
    }
    uint32_t closed = closed_count(store);
    struct segment *segment =
        wal_segment_at(store->wal, first_segment(store, closed) + i - archive_count);
    return (struct place){
        .base_lsn = segment->base_lsn, .end_lsn = segment->end_lsn, .segment = segment};
}

uint32_t places_first_behind(const struct store *store, uint64_t lsn)
{
    uint32_t low = 0, high = places_count(store);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (places_at(store, middle).end_lsn <= lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t places_first_from(const struct store *store, uint64_t lsn)
{
    uint32_t low = 0, high = places_count(store);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (places_at(store, middle).base_lsn < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first segment that is not in archive files. */
static uint32_t first_segment(const struct store *store, uint32_t count)
{
    uint64_t end_lsn = archives_end_lsn(store->archives);
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (wal_segment_at(store->wal, middle)->end_lsn <= end_lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int place_image(struct store *store, struct place place, struct image_load *load)
{
    if (place.segment)
        return segment_index_load(&store->indexes, place.segment, load);
    load->archive = (struct archive_image_load){.archive = place.archive, .done = archive_loaded};
    int ready = archive_image_start(store->archives, &load->archive);
    load->status = 0;
    load->image = load->archive.image;
    return ready;
}

static void archive_loaded(struct archive_image_load *archive)
{
    struct image_load *load = CONTAINER_OF(archive, struct image_load, archive);
    load->status = archive->status;
    load->image = archive->image;
    load->done(load);
}
