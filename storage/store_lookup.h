/* Which file holds an offset of a partition, by looking at as few indexes as possible. See store_lookup.c. */
#ifndef SLUICE_STORAGE_STORE_LOOKUP_H
#define SLUICE_STORAGE_STORE_LOOKUP_H

#include "storage/store_private.h"

struct lookup {
    /* in */
    uint32_t topic_id, partition;
    uint64_t offset;
    /* own: the file that is searched ends behind low_lsn and begins before high_lsn */
    uint64_t low_lsn, high_lsn;
    uint64_t guess_lsn;  // look at this file first; UINT64_MAX: no guess
    uint32_t steps_near; // after a guess that was too low: so many neighbours before halving
    uint64_t round_lsn;  // where this round of probes began
    uint64_t probe_lsn;  // the file being looked at, or behind it the next one
    bool in_round;       // files from round_lsn up to probe_lsn don't hold the partition
    struct image_load load;
    void *owner; // the caller's: for load.done
    /* out */
    struct place place;
    const struct index_image *image; // valid until control goes back to the loop
    const struct disk_index_partition *entries;
    uint64_t next_offset; // of what was seen, the lowest first offset behind `offset`
};

/* hint: as in struct store_read. */
void lookup_init(struct lookup *lookup, const struct partition *partition, uint64_t offset,
                 uint32_t hint);

enum lookup_result {
    LOOKUP_FOUND,
    LOOKUP_PENDING, // lookup->load.done will be called: then call lookup_step() again
    LOOKUP_ABSENT,  // no file holds the offset
    LOOKUP_FAILED,  // lookup->load.status says why
};
/* lookup->load.done is set by the caller. */
enum lookup_result lookup_step(struct store *store, struct lookup *lookup);

/* Remembers which file it was, for struct store_read's hint: a position in the log in MiB, rounded up, since a file
 * shorter than that is rare. */
#define LOOKUP_HINT_FILE 0x80000000u
static inline uint32_t lookup_hint(uint64_t base_lsn)
{
    return LOOKUP_HINT_FILE | (uint32_t)(((base_lsn + (1 << 20) - 1) >> 20) & 0x7fffffff);
}

#endif
