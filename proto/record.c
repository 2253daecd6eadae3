/* The parts of parsing a record that are too rare or too long to be inlined: see record.h. */
#include "proto/record.h"

bool record_take_long_varint(const uint8_t **at, const uint8_t *end, unsigned bits,
                             uint64_t *value)
{
    const uint8_t *p = *at;
    uint64_t sum = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        if (p == end)
            return false;
        uint64_t byte = *p++;
        sum |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            *at = p;
            *value = sum;
            return shift + 7 <= bits || byte >> (bits - shift) == 0;
        }
    }
    return false;
}

/* A header's key is never null. */
bool record_walk_headers(struct record_fields *f)
{
    const uint8_t *at = f->headers;
    for (uint32_t i = 0; i < f->header_count; i++) {
        struct slice key, value;
        if (!record_take_bytes(&at, f->end, &key, &f->payload_bytes) || !key.bytes ||
            !record_take_bytes(&at, f->end, &value, &f->payload_bytes))
            return false;
    }
    return at == f->end;
}
