/* The inside of the read path: store_read.c (calls and jobs), store_window.c (one read of a file), store_search.c
 * (timestamps), store_slots.c (memory). */
#ifndef SLUICE_STORAGE_STORE_READ_H
#define SLUICE_STORAGE_STORE_READ_H

#include "storage/store_lookup.h"
#include "storage/store_private.h"

#define READ_BATCHES_MAX 256u // of one window: 8 KiB of places in each job
#define READ_GAP_BYTES                                                                             \
    ((uint64_t)(64 * KIB)) // of other partitions' batches worth reading over: 10 us

struct read_job {
    struct list link; // free, or waiting for the large buffer
    struct store *store;
    struct store_read *read;
    uint32_t topic_id, partition, incarnation; // the partition may be dropped meanwhile
    bool is_starting;                          // inside store_read(): an end is told by its result
    bool is_ended;
    bool in_lookup;
    bool has_retried; // no file held the offset: looked again, since files may have changed places
    bool uses_jumbo;

    /* ---- search by timestamp ---- */
    bool is_search;
    int64_t timestamp;
    int64_t *found_timestamp;
    uint64_t search_lsn; // files that end at or below have been asked

    /* ---- window ---- */
    struct lookup lookup;
    struct segment *source; // where the window lies; or
    struct archive *archive;
    uint64_t source_end;     // LSN: what lies behind is in another segment
    struct segment *segment; // pinned: source, while it is read
    struct index_entry entries[READ_BATCHES_MAX];
    uint32_t entry_count;
    uint64_t window_start, window_end; // positions
    uint64_t window_bytes_wanted;
    uint32_t window_len; // start and length are whole blocks, unless it is read to the caller's
    uint8_t *piece;      // READ_PIECE_BYTES of its own
    uint8_t *buffer;     // piece, the large one, or the caller's
    struct io_op op;
    struct archive_read archive_read;
};

struct read_jobs {
    struct store *store;
    struct read_job *jobs;
    struct list free;
    uint32_t active;
    uint8_t *jumbo;
    uint32_t jumbo_bytes;
    bool jumbo_is_taken;
    struct list jumbo_waiting;
};

/* The largest batch at any place in a block, and the largest group (for scans of segments). */
static inline uint32_t read_jumbo_bytes(uint32_t batch_bytes_max)
{
    uint64_t group = max_u64(GROUP_BYTES_MAX, (uint64_t)batch_bytes_max + 4096);
    return (uint32_t)(align_up(group, DISK_BLOCK) + DISK_BLOCK);
}

/* ---- store_read.c ---- */

/* Goes on from the start; also after each wait, since everything may have changed. */
void job_run(struct read_job *job);
/* True when the partition was dropped: the job has ended then. */
bool job_is_stale(struct read_job *job);
void job_finish(struct read_job *job, int status);
/* False when it doesn't fit; if it is the first one the caller learns how much room it needs. */
bool read_batch_add(struct store_read *read, const uint8_t *bytes, const struct index_entry *entry);

/* ---- store_window.c ---- */

/* Collect the batches from here on; false when the first one lies in no file, or (the second) does not hold the offset. */
bool read_gather_open(struct read_job *job, uint32_t i);
bool read_gather_image(struct read_job *job);
/* Brings what was gathered and ends the job. */
void read_window(struct read_job *job);

/* ---- store_search.c ---- */

void search_run(struct read_job *job);

#endif
