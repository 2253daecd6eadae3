/* The parts of parsing a record that are too rare or too long to be inlined: see record.h. */
#include "proto/record.h"

struct taken record_take_long_varint(const uint8_t *at, const uint8_t *end, unsigned bits)
{
    uint64_t sum = 0;
    for (unsigned shift = 0; shift < bits && at < end; shift += 7) {
        uint64_t byte = *at++;
        sum |= (byte & 0x7f) << shift;
        if (byte >= 0x80)
            continue;
        if (shift + 7 > bits && byte >> (bits - shift) != 0)
            break;
        return (struct taken){at, sum};
    }
    return (struct taken){NULL, 0};
}

/* A header's key is never null. */
int64_t record_walk_headers(const uint8_t *at, const uint8_t *end, uint32_t count)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice key, value;
        at = record_take_bytes(at, end, &key);
        if (!at || !key.bytes)
            return -1;
        at = record_take_bytes(at, end, &value);
        if (!at)
            return -1;
        sum += (int64_t)key.len + value.len;
    }
    return at == end ? sum : -1;
}
