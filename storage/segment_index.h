/* The index of each closed segment: in memory while it is fresh, then in <number>.idx and the cache.
 *
 *     SEALED    the log rolled: image in memory, entries not yet visible are still known in LSN order
 *     WRITING   durable to its end: the image goes to <number>.idx.tmp, fdatasync, rename
 *     STORED    in its file, maybe in the cache
 *     UNKNOWN   after a start, or when writing failed: the file is tried, else the segment is scanned
 *
 * An .idx file is a convenience: nothing is lost with it. It is therefore written without hurry, its directory entry is
 * not made durable, and one that is missing, cut short, damaged, or of another life of its segment is made anew by
 * reading the segment. One file is written and one loaded (or made anew) at a time. */
#ifndef SLUICE_STORAGE_SEGMENT_INDEX_H
#define SLUICE_STORAGE_SEGMENT_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "base/list.h"
#include "storage/archive.h"
#include "storage/index.h"
#include "storage/segment.h"
#include "storage/segment_scan.h"

#define SEALED_MAX 4u // open indexes not wholly visible; beyond it appends get FULL

struct store;

enum segment_index_state {
    SEGMENT_INDEX_UNKNOWN,
    SEGMENT_INDEX_SEALED,
    SEGMENT_INDEX_WRITING,
    SEGMENT_INDEX_STORED,
};

/* A wish for an image. Embedded in the caller's object. */
struct image_load {
    struct list link;
    void (*done)(struct image_load *load);
    /* out */
    int status; // 0; CORRUPT: the segment or archive file is damaged (logged); IO; NO_MEMORY
    const struct index_image *image; // valid until control goes back to the loop
    /* own */
    struct archive_image_load archive;
};

struct segment_index { // segment->index
    struct segment *segment;
    enum segment_index_state state;
    struct list sealed_link;  // in segment_indexes.sealed while `open` is kept
    struct list work_link;    // in to_write or to_load
    struct index_open *open;  // entries in LSN order, until all are visible
    uint32_t visible;         // of these
    struct index_image image; // SEALED, WRITING: the only copy; else empty
    struct list loads;        // who waits for the image
    uint64_t append_ms_last;  // when sealed in this life of the process; 0: the image knows
    uint64_t lowest;          // position of its entries; UINT64_MAX: has none; 0: not known yet
    int cold_fd;              // buffered, for reads of what is closed; -1
    uint64_t expire_look_ms;  // retention: nothing in it expires before; 0: look
    /* recycling: a batch that is still wanted was seen here; look again when this is gone */
    uint32_t keeper_topic_id, keeper_partition;
    uint64_t keeper_end;
    bool is_dead; // nothing in it is wanted any more: stays so
};

enum index_job_step {
    INDEX_JOB_IDLE,
    INDEX_JOB_OPEN,
    INDEX_JOB_READ,
    INDEX_JOB_WRITE,
    INDEX_JOB_SYNC,
    INDEX_JOB_CLOSE,
    INDEX_JOB_RENAME,
    INDEX_JOB_SCAN,
};

struct index_job { // writes or loads one file at a time
    struct store *store;
    struct segment_index *index;
    enum index_job_step step;
    struct io_op op;
    int fd;
    int status;
    uint8_t *bytes; // being read
    uint64_t len;
    uint64_t progress;
    uint8_t *buffer; // of a scan: the jumbo read buffer
    struct segment_scan scan;
    struct index_builder *builder;
    char path[SEGMENT_PATH_MAX];
    char path_tmp[SEGMENT_PATH_MAX];
};

struct segment_indexes {
    struct store *store;
    struct list sealed; // oldest first
    struct list to_write;
    struct list to_load;
    struct index_open *spares[SEALED_MAX];
    uint32_t spare_count;
    struct segment_index *spare_handle; // so that a roll never needs memory
    struct index_job writer;
    struct index_job loader;
};

MUST_USE int segment_indexes_init(struct segment_indexes *indexes, struct store *store);
/* Nothing may be in flight. Frees what the segments carry too. */
void segment_indexes_deinit(struct segment_indexes *indexes);
bool segment_indexes_are_idle(const struct segment_indexes *indexes);
int segment_indexes_turn(struct segment_indexes *indexes);

/* True when the log may roll: an empty open index and memory for a handle are there. */
bool segment_indexes_can_roll(struct segment_indexes *indexes);
struct index_open *segment_indexes_take(struct segment_indexes *indexes);

/* The segment's handle; made when it has none. NULL: out of memory. */
struct segment_index *segment_index_of(struct segment_indexes *indexes, struct segment *segment);

/* The log has left this segment: takes its open index over and makes the image. */
void segment_index_seal(struct segment_indexes *indexes, struct segment *segment,
                        struct index_open *open, uint32_t visible, uint64_t append_ms_last);
/* All entries of the oldest sealed one are visible: its open index becomes a spare. */
void segment_index_all_visible(struct segment_indexes *indexes, struct segment_index *index);
/* The segment is durable to its end: the file may be written. */
void segment_index_closed(struct segment_indexes *indexes, struct segment *segment);

/* 1: load->image is set; 0: started, done is called once from io_poll() or store_turn(). The segment is pinned. */
MUST_USE int segment_index_load(struct segment_indexes *indexes, struct segment *segment,
                                struct image_load *load);
/* The image if it is in memory, else NULL. */
const struct index_image *segment_index_image(struct segment_indexes *indexes,
                                              struct segment *segment);

/* True when nothing of the handle is in use, so that the segment may be recycled. */
bool segment_index_is_idle(const struct segment_index *index);
/* Before the segment is recycled: deletes the file, closes the descriptor, frees the handle. */
void segment_index_drop(struct segment_indexes *indexes, struct segment *segment);

/* Puts the batches that lie in the open segment below the checkpoint before those that the open index has from the
 * replay. The groups there must lead to the checkpoint, and their batches to where the partitions stand. Blocking, at
 * start. Returns 0; CORRUPT (*at_lsn: from there on, up to the checkpoint), IO, NO_MEMORY. */
MUST_USE int segment_index_lead(struct segment_indexes *indexes, struct segment *segment,
                                const struct wal_position *checkpoint, uint64_t *at_lsn);

/* Deletes .idx files of segments that are gone, and *.idx.tmp. Blocking, at start. */
int segment_indexes_tidy(struct segment_indexes *indexes);

/* ---- small things that nobody waits for, one after the other ---- */

void store_chore_close(struct store *store, int fd);
void store_chore_unlink(struct store *store, const char *path);

#endif
