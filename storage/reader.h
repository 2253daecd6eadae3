/* Reading a file front to back at device speed, blocking: for recovery and inspection.
 *
 * reader_bytes() gives a contiguous view of any range near the last one; the reader fills its buffer ahead, in
 * several reads at once (a single O_DIRECT read at a time reaches a third of the device's rate). */
#ifndef SLUICE_STORAGE_READER_H
#define SLUICE_STORAGE_READER_H

#include <stdint.h>

#include "base/io.h"

#define READER_PIECE_BYTES ((uint32_t)(1 * MIB))
#define READER_READS_MAX 8

struct reader {
    struct io *io;
    uint8_t *buffer;    // huge pages
    uint64_t capacity;
    int fd;
    uint64_t file_bytes;
    uint64_t offset;    // in the file, of buffer[0]; block-aligned
    uint64_t len;       // bytes in the buffer
    int os_error;       // of a failed read
};

/* range_bytes_max: the longest range that will be asked for; memory is touched only as far as it is needed. Returns 0
 * or NO_MEMORY. */
MUST_USE int reader_init(struct reader *reader, struct io *io, uint64_t range_bytes_max);
void reader_deinit(struct reader *reader);

/* From here on reads this file. */
void reader_open(struct reader *reader, int fd, uint64_t file_bytes);

/* The bytes [offset, offset + len) of the file, valid until the next call; len > 0. Returns 0; TRUNCATED: the file ends
 * before; IO and others from the read. */
MUST_USE int reader_bytes(struct reader *reader, uint64_t offset, uint32_t len, uint8_t **bytes);

#endif
