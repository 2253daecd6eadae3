/* Reading a file front to back at device speed, blocking: for recovery and inspection.
 *
 * file_reader_bytes() gives a contiguous view of any range near the last one; the reader fills its
 * buffer ahead, in several reads at once (a single O_DIRECT read at a time reaches a third of the
 * device's rate): one behind an open, and twice as many each time, since often a look is all. */
#ifndef SLUICE_STORAGE_FILE_READER_H
#define SLUICE_STORAGE_FILE_READER_H

#include <stdint.h>

#include "base/io.h"

#define FILE_READER_PIECE_BYTES ((uint32_t)(1 * MIB))
#define FILE_READER_READS_MAX 8

struct file_reader {
    struct io *io;
    uint8_t *buffer; // huge pages
    uint64_t capacity;
    int fd;
    uint64_t file_bytes;
    uint64_t offset;    // in the file, of buffer[0]; block-aligned
    uint64_t len;       // bytes in the buffer
    uint64_t range_end; // in the buffer, of the range that was asked for last
    uint32_t reads;     // at once, next time
    int os_error;       // of a failed read
};

/* range_bytes_max: the longest range that will be asked for; memory is touched only as far as it is
 * needed. Returns 0 or NO_MEMORY. */
MUST_USE int file_reader_init(struct file_reader *reader, struct io *io, uint64_t range_bytes_max);
void file_reader_deinit(struct file_reader *reader);

/* From here on reads this file. */
void file_reader_open(struct file_reader *reader, int fd, uint64_t file_bytes);

/* The bytes [offset, offset + len) of the file, valid until the next call; len > 0. Returns 0;
 * TRUNCATED: the file ends before; IO and others from the read. */
MUST_USE int file_reader_bytes(struct file_reader *reader, uint64_t offset, uint32_t len,
                               uint8_t **bytes);

#endif
