/* One record inside a batch, on the paths that cost per record: signed varints and the parser. Only
 * batch*.c include this.
 *
 *   length   attributes  timestamp  offset   key     key    value   value   header   headers
 *   varint   1 byte      varint     varint   varint         varint          varint   key and value each
 *
 * All varints are zigzag; length counts what follows it; a key or value of length -1 is null. Five bytes
 * at most make 32 bits and ten 64; within that, padded forms are read, as Kafka's own readers do. */
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
    uint64_t payload_bytes;       // key, value, headers
    struct slice key, value;      // bytes NULL: null
    const uint8_t *headers;       // header_count of them,
    const uint8_t *end;           // up to here, where the next record begins
};

static inline int64_t zigzag_decode(uint64_t value)
{
    return (int64_t)((value >> 1) ^ -(value & 1));
}

static inline uint64_t zigzag_encode(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

/* Bytes of a varint: 7 bits each, one for zero. (bits * 9 + 64) / 64 is ceil(bits / 7) for 1..64. */
static inline uint32_t varint_size(uint64_t value)
{
    uint32_t bits = 64 - (uint32_t)__builtin_clzll(value | 1);
    return (bits * 9 + 64) >> 6;
}

/* A varint of several bytes with at most `bits` bits, or false. Rare enough not to be inlined. */
bool record_take_long_varint(const uint8_t **at, const uint8_t *end, unsigned bits,
                             uint64_t *value);

/* Moves *at behind a zigzag varint, or returns false. One and two bytes are nearly all there are. */
static inline bool record_take_varint(const uint8_t **at, const uint8_t *end, unsigned bits,
                                      int64_t *value)
{
    const uint8_t *p = *at;
    uint64_t raw;
    if (LIKELY(p < end && p[0] < 0x80)) {
        raw = p[0];
        *at = p + 1;
    } else if (LIKELY(end - p >= 2 && p[1] < 0x80)) {
        raw = (uint64_t)(p[0] & 0x7f) | (uint64_t)p[1] << 7;
        *at = p + 2;
    } else if (!record_take_long_varint(at, end, bits, &raw)) {
        return false;
    }
    *value = zigzag_decode(raw);
    return true;
}

/* A nullable byte string; adds its length to *total. */
static inline bool record_take_bytes(const uint8_t **at, const uint8_t *end, struct slice *bytes,
                                     uint64_t *total)
{
    int64_t len;
    if (UNLIKELY(!record_take_varint(at, end, 32, &len)))
        return false;
    if (len < 0) {
        *bytes = (struct slice){NULL, 0};
        return len == -1;
    }
    if (UNLIKELY(len > end - *at))
        return false;
    *bytes = (struct slice){*at, (uint32_t)len};
    *at += len;
    *total += (uint64_t)len;
    return true;
}

/* Walks header_count headers, which must end the record. */
bool record_walk_headers(struct record_fields *f);

/* Takes the record at `at`. False when it isn't well-formed or doesn't end before `end`. */
static inline bool record_parse(const uint8_t *at, const uint8_t *end, struct record_fields *f)
{
    int64_t len, offset_delta, header_count;
    if (UNLIKELY(!record_take_varint(&at, end, 32, &len)))
        return false;
    if (UNLIKELY(len < RECORD_BODY_BYTES_MIN || len > end - at))
        return false;
    f->end = at + len;
    f->payload_bytes = 0;
    at++; // attributes: none are defined
    if (UNLIKELY(!record_take_varint(&at, f->end, 64, &f->timestamp_delta) ||
                 !record_take_varint(&at, f->end, 32, &offset_delta) ||
                 !record_take_bytes(&at, f->end, &f->key, &f->payload_bytes) ||
                 !record_take_bytes(&at, f->end, &f->value, &f->payload_bytes) ||
                 !record_take_varint(&at, f->end, 32, &header_count)))
        return false;
    f->offset_delta = (int32_t)offset_delta;
    f->headers = at;
    if (UNLIKELY(header_count < 0 || header_count > (f->end - at) / RECORD_HEADER_BYTES_MIN))
        return false;
    f->header_count = (uint32_t)header_count;
    return LIKELY(header_count == 0) ? at == f->end : record_walk_headers(f);
}

#endif
