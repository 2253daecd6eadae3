/* One record inside a batch, on the paths that cost per record: signed varints and the parser.
 * Only batch*.[ch] include this.
 *
 *   length  attributes  timestamp  offset   key      key  value    value  header   headers:
 *   varint  1 byte      varint     varint   varint        varint          varint   key, value
 *
 * All varints are zigzag; length counts what follows it; a key or value of length -1 is null.
 * Five bytes at most make 32 bits and ten 64; within that, padded forms are read, as Kafka's own
 * readers do. */
#ifndef SLUICE_PROTO_RECORD_H
#define SLUICE_PROTO_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "proto/cursor.h"

#define RECORD_BYTES_MIN 7      // length, attributes, five varints of one byte
#define RECORD_BODY_BYTES_MIN 6 // the same without the length
#define RECORD_HEADER_BYTES_MIN 2

struct record_fields {
    int64_t timestamp_delta;
    int32_t offset_delta;
    uint32_t header_count;
    uint64_t payload_bytes;  // key, value, headers
    struct slice key, value; // bytes NULL: null
    const uint8_t *headers;  // header_count of them,
    const uint8_t *end;      // up to here, where the next record begins
};

static inline int64_t zigzag_decode(uint64_t value)
{
    return (int64_t)((value >> 1) ^ -(value & 1));
}

static inline uint64_t zigzag_encode(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

/* Bytes of a varint: 7 bits each, one for zero. (bits * 9 + 64) / 64 is ceil(bits / 7) for
 * 1..64. */
static inline uint32_t varint_size(uint64_t value)
{
    uint32_t bits = 64 - (uint32_t)__builtin_clzll(value | 1);
    return (bits * 9 + 64) >> 6;
}

/* What was taken, and where to go on; at NULL: it isn't there. Returned by value, so that the
 * position stays in a register: handed around by address it would cost 2.5 times as much per
 * record. */
struct taken {
    const uint8_t *at;
    uint64_t raw; // zigzag
};

/* Any varint of at most `bits` bits. Longer ones are rare enough not to be inlined. */
struct taken record_take_long_varint(const uint8_t *at, const uint8_t *end, unsigned bits);

/* One and two bytes are nearly all there are. */
static inline struct taken record_take_varint(const uint8_t *at, const uint8_t *end, unsigned bits)
{
    if (LIKELY(at < end && at[0] < 0x80))
        return (struct taken){at + 1, at[0]};
    if (LIKELY(end - at >= 2 && at[1] < 0x80))
        return (struct taken){at + 2, (at[0] & 0x7fu) | (uint64_t)at[1] << 7};
    return record_take_long_varint(at, end, bits);
}

/* A nullable byte string. Returns the position behind it, or NULL. Lengths are even in zigzag; of
 * the odd ones only 1, which is -1, has a meaning. */
static inline const uint8_t *record_take_bytes(const uint8_t *at, const uint8_t *end,
                                               struct slice *bytes)
{
    struct taken len = record_take_varint(at, end, 32);
    *bytes = (struct slice){NULL, 0};
    if (UNLIKELY(!len.at))
        return NULL;
    if (len.raw & 1)
        return len.raw == 1 ? len.at : NULL;
    if (UNLIKELY(len.raw >> 1 > (uint64_t)(end - len.at)))
        return NULL;
    *bytes = (struct slice){len.at, (uint32_t)(len.raw >> 1)};
    return len.at + (len.raw >> 1);
}

/* Walks `count` headers from `at`, which must end the record at `end`. Returns the bytes of their
 * keys and values, or -1. */
int64_t record_walk_headers(const uint8_t *at, const uint8_t *end, uint32_t count);

/* Takes the record at `at`. False when it isn't well-formed or doesn't end before `end`. */
static inline bool record_parse(const uint8_t *at, const uint8_t *end, struct record_fields *f)
{
    struct taken taken = record_take_varint(at, end, 32);
    uint64_t len = taken.raw >> 1;
    if (UNLIKELY(!taken.at || taken.raw & 1 || len < RECORD_BODY_BYTES_MIN ||
                 len > (uint64_t)(end - taken.at)))
        return false;
    f->end = end = taken.at + len;
    taken = record_take_varint(taken.at + 1, end, 64); // behind the attributes: none are defined
    f->timestamp_delta = zigzag_decode(taken.raw);
    if (UNLIKELY(!taken.at))
        return false;
    taken = record_take_varint(taken.at, end, 32);
    f->offset_delta = (int32_t)zigzag_decode(taken.raw);
    if (UNLIKELY(!taken.at))
        return false;
    at = record_take_bytes(taken.at, end, &f->key);
    if (UNLIKELY(!at))
        return false;
    at = record_take_bytes(at, end, &f->value);
    if (UNLIKELY(!at))
        return false;
    f->payload_bytes = (uint64_t)f->key.len + f->value.len;
    taken = record_take_varint(at, end, 32);
    if (UNLIKELY(!taken.at || taken.raw & 1 ||
                 taken.raw >> 1 > (uint64_t)(end - taken.at) / RECORD_HEADER_BYTES_MIN))
        return false;
    f->header_count = (uint32_t)(taken.raw >> 1);
    f->headers = taken.at;
    if (LIKELY(taken.raw == 0))
        return taken.at == end;
    int64_t headers_bytes = record_walk_headers(taken.at, end, f->header_count);
    f->payload_bytes += (uint64_t)headers_bytes;
    return headers_bytes >= 0;
}

#endif
