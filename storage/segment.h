/* One segment file: its name, header, place in the log, and the descriptors it is used through. */
#ifndef SLUICE_STORAGE_SEGMENT_H
#define SLUICE_STORAGE_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "storage/format.h"

#define SEGMENT_PATH_MAX 4200

enum segment_state {
    SEGMENT_PREPARING, // spare: exists durably under its number, zeros are still being written
    SEGMENT_READY,     // spare: may be entered
    SEGMENT_OPEN,      // groups are being written
    SEGMENT_CLOSED,    // its successor was entered and all its bytes are durable
};

struct segment {
    uint64_t number;
    uint64_t generation;
    uint64_t base_lsn;   // of its first group (OPEN, CLOSED)
    uint64_t end_lsn;    // one behind its last group (CLOSED); where the next group goes (OPEN)
    enum segment_state state;
    int fd;              // O_DIRECT, read and write
    uint32_t pins;       // reads in flight: not recycled while > 0
    void *index;         // the store's: closed segment's index handle
    char path[SEGMENT_PATH_MAX];
};

/* Where an LSN of this segment lies in the file. */
static inline uint64_t segment_offset(const struct segment *segment, uint64_t lsn)
{
    ASSERT(lsn >= segment->base_lsn);
    return DISK_SEGMENT_DATA + (lsn - segment->base_lsn);
}

#endif
