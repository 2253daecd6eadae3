/* One segment file: its name, header, place in the log, and the descriptors it is used through. */
#ifndef SLUICE_STORAGE_SEGMENT_H
#define SLUICE_STORAGE_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "storage/format.h"

#define SEGMENT_PATH_MAX 4200

/* Life of a file: RAW -> (header, number) -> PREPARING or READY -> OPEN -> CLOSED -> RAW -> ... for
 * ever. */
enum segment_state {
    SEGMENT_RAW, // material for a spare: still under its old number, or *.tmp, or not made yet
    SEGMENT_PREPARING, // spare: exists durably under its number, zeros are still being written
    SEGMENT_READY,     // spare: may be entered
    SEGMENT_OPEN,      // groups are being written
    SEGMENT_CLOSED,    // its successor was entered and all its bytes are durable
};

struct segment_hole { // what `wal salvage` gave up
    uint64_t from_lsn, to_lsn;
};

struct segment {
    uint64_t number;
    uint64_t generation;
    uint64_t base_lsn; // of its first group (OPEN, CLOSED)
    uint64_t end_lsn;  // one behind its last group (CLOSED); where the next group goes (OPEN)
    enum segment_state state;
    bool written;                     // every block was written once: recycled without zeroing
    bool is_too_long;                 // RAW: longer than a segment, is deleted and not used again
    int fd;                           // O_DIRECT, read and write, locked; -1: not open (RAW)
    uint32_t pins;                    // reads in flight: not recycled while > 0
    void *index;                      // the store's: closed segment's index handle
    const struct segment_hole *holes; // of the whole log; they live as long as it does
    uint32_t hole_count;
    char path[SEGMENT_PATH_MAX];
};

/* Where an LSN of this segment lies in the file. */
static inline uint64_t segment_offset(const struct segment *segment, uint64_t lsn)
{
    ASSERT(lsn >= segment->base_lsn);
    return DISK_SEGMENT_DATA + (lsn - segment->base_lsn);
}

/* ---- holes: what `wal salvage` gave up is stepped over by whoever reads a segment ---- */

/* lsn, or where the segment goes on when lsn lies in a hole; its end if that is not in it. */
uint64_t segment_step_over(const struct segment *segment, uint64_t lsn);
/* Where the next hole at or behind lsn begins; UINT64_MAX: there is none. */
uint64_t segment_next_hole(const struct segment *segment, uint64_t lsn);

bool segment_hole_has(const struct segment_hole *holes, uint32_t hole_count, uint64_t lsn);

/* ---- names: <16 hex>.wal ---- */

/* Writes DIR/<number>.wal into path (SEGMENT_PATH_MAX). */
void segment_path_make(char *path, const char *dir, uint64_t number);

/* ---- header ---- */

struct segment_head {
    uint8_t store_id[16];
    uint32_t shard_id;
    uint64_t number;
    uint64_t generation;
    uint64_t segment_bytes;
    bool written;       // DISK_SEGMENT_WRITTEN
    uint8_t bad_copies; // parsed: bit 0, the first is damaged; bit 1, the second
};

/* Fills DISK_SEGMENT_DATA bytes: both copies. created_ms: 0 when it is not known. */
void segment_head_make(uint8_t *blocks, const struct segment_head *head, uint64_t created_ms);

/* Believes the first copy that is intact; head->bad_copies says which are not. Returns 0; CORRUPT: both are bad; NEWER. The caller
 * compares what it says with what it should say. */
MUST_USE int segment_head_parse(const uint8_t *blocks, struct segment_head *head);

/* Open flags of a segment: O_DIRECT unless no_direct. */
uint32_t segment_open_flags(bool no_direct, bool read_only);

#endif
