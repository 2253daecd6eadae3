/* Record batches built byte by byte, field after field as docs/protocol.md lists them, without the
 * builder: what batch.h is compared with, and what bad batches are made of. */
#ifndef SLUICE_TESTS_PROTO_BATCH_BYTES_H
#define SLUICE_TESTS_PROTO_BATCH_BYTES_H

#include <stdint.h>
#include <string.h>

/* Big-endian fields and zigzag varints, appended; nothing is checked. */
struct bytes {
    uint8_t b[8192];
    uint32_t len;
};

static inline void put_be(struct bytes *to, uint64_t value, unsigned width)
{
    while (width-- > 0)
        to->b[to->len++] = (uint8_t)(value >> (8 * width));
}

static inline void put_raw(struct bytes *to, const void *bytes, size_t len)
{
    memcpy(to->b + to->len, bytes, len);
    to->len += (uint32_t)len;
}

static inline void put_zigzag(struct bytes *to, int64_t value)
{
    uint64_t raw = value < 0 ? ~(uint64_t)value * 2 + 1 : (uint64_t)value * 2;
    for (; raw > 127; raw /= 128)
        to->b[to->len++] = (uint8_t)(raw % 128 + 128);
    to->b[to->len++] = (uint8_t)raw;
}

/* NULL: null. */
static inline void put_string(struct bytes *to, const char *s)
{
    put_zigzag(to, s ? (int64_t)strlen(s) : -1);
    if (s)
        put_raw(to, s, strlen(s));
}

/* Length and body of a record. */
static inline void put_record(struct bytes *to, const struct bytes *body)
{
    put_zigzag(to, body->len);
    put_raw(to, body->b, body->len);
}

/* A record without headers. */
static inline void put_plain_record(struct bytes *to, int64_t timestamp_delta, int64_t offset_delta,
                                    const char *key, const char *value)
{
    struct bytes body = {.len = 0};
    put_be(&body, 0, 1);
    put_zigzag(&body, timestamp_delta);
    put_zigzag(&body, offset_delta);
    put_string(&body, key);
    put_string(&body, value);
    put_zigzag(&body, 0);
    put_record(to, &body);
}

/* CRC-32C bit by bit (reversed polynomial), from its definition. */
static inline uint32_t slow_crc32c(const uint8_t *bytes, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

struct header_fields {
    uint64_t base_offset;
    uint32_t leader_epoch;
    uint8_t magic;
    uint16_t attributes;
    uint32_t last_offset_delta;
    int64_t base_timestamp, max_timestamp;
    uint64_t producer_id;
    uint16_t producer_epoch;
    uint32_t base_sequence;
    uint32_t record_count;
};

/* Header and records as one batch, with the length and CRC that belong to them. */
static inline void put_batch(struct bytes *to, const struct header_fields *h,
                             const struct bytes *records)
{
    struct bytes tail = {.len = 0};
    put_be(&tail, h->attributes, 2);
    put_be(&tail, h->last_offset_delta, 4);
    put_be(&tail, (uint64_t)h->base_timestamp, 8);
    put_be(&tail, (uint64_t)h->max_timestamp, 8);
    put_be(&tail, h->producer_id, 8);
    put_be(&tail, h->producer_epoch, 2);
    put_be(&tail, h->base_sequence, 4);
    put_be(&tail, h->record_count, 4);
    put_raw(&tail, records->b, records->len);
    put_be(to, h->base_offset, 8);
    put_be(to, 9 + tail.len, 4);
    put_be(to, h->leader_epoch, 4);
    put_be(to, h->magic, 1);
    put_be(to, slow_crc32c(tail.b, tail.len), 4);
    put_raw(to, tail.b, tail.len);
}

#endif
