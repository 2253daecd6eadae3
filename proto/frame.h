/* Frames of the native protocol: header, checksum, splitting a byte stream. docs/protocol.md is
 * normative; this is its table in C.
 *
 *    0        4     6  7  8            16           20         24           32
 *   +--------+-----+--+--+------------+------------+----------+------------+------ - - ------ - -
 *   | length | op  |v |f | correlation| meta_length| reserved | checksum   | meta   | data
 *   +--------+-----+--+--+------------+------------+----------+------------+------ - - ------ - -
 *
 * length counts the whole frame, header included. The checksum is the XXH3-64 of the meta, seeded
 * with the XXH3-64 of bytes 0..23; data is record batches only, and each batch carries its own
 * CRC-32C. */
#ifndef SLUICE_PROTO_FRAME_H
#define SLUICE_PROTO_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/check.h"
#include "proto/errors.h"

#define PROTO_VERSION_MIN 1
#define PROTO_VERSION_MAX 1

#define FRAME_HEADER_SIZE 32
#define FRAME_BYTES_MAX_BEFORE_HELLO ((uint32_t)(64 * KIB))

enum op {
#define OP(name, number, version_min, version_max, sender) OP_##name = (number),
#include "proto/ops.def"
#undef OP
};

enum frame_flags {
    FRAME_REPLY = 1, // answers the request with the same correlation id
    FRAME_ERROR =
        2, // with REPLY only: the meta is a struct msg_error (for PRODUCE: msg_produce_failure)
    FRAME_PUSH = 4, // sent by the broker without a request: ACK, DELIVER, GOAWAY
};

struct frame_header {
    le32 length;
    le16 op;
    uint8_t version;
    uint8_t flags;
    le64 correlation;
    le32 meta_length;
    le32 reserved; // 0
    le64 checksum;
};
static_assert(sizeof(struct frame_header) == FRAME_HEADER_SIZE, "wire");
static_assert(offsetof(struct frame_header, checksum) == 24, "wire");

/* A decoded view into received bytes; valid as long as those. */
struct frame {
    uint32_t length;
    uint16_t op;
    uint8_t version;
    uint8_t flags;
    uint64_t correlation;
    const uint8_t *meta;
    uint32_t meta_length;
    const uint8_t *data;
    uint32_t data_length;
};

/* Looks at the first `available` bytes of a stream. Returns > 0: the length of the whole frame
 * that starts here (may exceed `available`; then read on); 0: fewer than 4 bytes, not known yet;
 * < 0: -(enum proto_error): MALFORMED (length below the header's or meta_length beyond the frame,
 * once 32 bytes are there), REQUEST_TOO_LARGE (length > length_max). */
MUST_USE int64_t frame_peek(const uint8_t *bytes, size_t available, uint32_t length_max);

/* Decodes a complete frame (frame_peek() said so) and verifies its checksum and reserved fields.
 * Returns PE_NONE or PE_MALFORMED. */
MUST_USE uint16_t frame_decode(const uint8_t *bytes, struct frame *frame);

/* Writes header and checksum in front of `meta_length` meta bytes that already lie at bytes +
 * FRAME_HEADER_SIZE; data_length bytes of data follow later (they are not touched). Returns the
 * frame's length. */
uint32_t frame_seal(uint8_t *bytes, uint16_t op, uint8_t flags, uint64_t correlation,
                    uint32_t meta_length, uint32_t data_length);

const char *op_name(uint16_t op); // "PRODUCE"; "UNKNOWN"
bool op_is_known(uint16_t op);
bool op_version_is_supported(uint16_t op, uint8_t version);

#endif
