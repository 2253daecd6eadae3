/* LZ4 frames around the records of a batch: what Kafka's clients write and read. Only batch*.c
 * include this.
 *
 * Written: version 1, independent blocks of 64 KiB, no checksums, no content size (FLG 0x60, BD
 * 0x40). Read: any block size, with or without checksums and content size; not dependent blocks
 * or dictionaries, which Java's reader refuses, too. The checksums inside are not verified, since
 * the batch's CRC-32C covers all. The format:
 * https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md */
#ifndef SLUICE_PROTO_LZ4_FRAME_H
#define SLUICE_PROTO_LZ4_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/* Compresses into dst. Returns the frame's size, or 0 when it would be longer than capacity.
 * Thread: any; 16 KiB of stack. */
uint32_t lz4_frame_encode(const uint8_t *src, uint32_t len, uint8_t *dst, uint32_t capacity);

/* An upper bound of the content, from the blocks' sizes alone: never more than 255 bytes for each
 * byte of input. Returns it, or CORRUPT (not exactly one whole frame) or UNSUPPORTED. */
MUST_USE int64_t lz4_frame_bound(const uint8_t *src, size_t len);

/* The exact size of the content, from the lengths of all literals and matches, without writing a
 * byte. Returns it, or CORRUPT, UNSUPPORTED, or TOO_LARGE as soon as it is above limit. */
MUST_USE int64_t lz4_frame_size(const uint8_t *src, size_t len, uint32_t limit);

/* Decompresses, never writing beyond capacity. Returns the content's size, or CORRUPT, UNSUPPORTED,
 * TOO_LARGE (the content doesn't fit).
 *
 * A block has to end with five literals, and its last match to begin twelve bytes before the end.
 * liblz4 holds a block to that only when its end is near the end of the room, so what breaks the
 * rule would be read or refused depending on the buffer. With LZ4_FRAME_SLACK bytes of capacity
 * behind the content the answer is always the same: it is read. (Blocks that need 14 are known; 64 is
 * how near to the end of the room its decoder begins to be careful at all.) */
#define LZ4_FRAME_SLACK 64
MUST_USE int64_t lz4_frame_decode(const uint8_t *src, size_t len, uint8_t *dst, uint32_t capacity);

#endif
