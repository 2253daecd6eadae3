/* Bounded cursors over wire fields.
 *
 * The happy path of a read is: enough bytes left, take them, move on. When they are not there,
 * the reader fails for good: it stands at its end, so that whatever is read later sees no bytes
 * and gives zeros. A writer that ran out of room fails in the same way and writes nothing
 * further. The subtraction end - at is exact because `at` never passes `end`. */
#include "proto/cursor.h"

#define VARINT_BYTES_MAX 10

static const uint8_t *reader_fail(struct reader *r);
static uint8_t *writer_reserve(struct writer *w, size_t len);

const uint8_t *read_bytes(struct reader *r, size_t len)
{
    if (UNLIKELY(r->failed || len > reader_remaining(r)))
        return reader_fail(r);
    const uint8_t *bytes = r->at;
    r->at += len;
    return bytes;
}

uint8_t read_u8(struct reader *r)
{
    const uint8_t *bytes = read_bytes(r, 1);
    return bytes ? *bytes : 0;
}

uint16_t read_u16(struct reader *r)
{
    const uint8_t *bytes = read_bytes(r, 2);
    uint16_t value = 0;
    if (bytes)
        memcpy(&value, bytes, sizeof(value));
    return value;
}

uint32_t read_u32(struct reader *r)
{
    const uint8_t *bytes = read_bytes(r, 4);
    uint32_t value = 0;
    if (bytes)
        memcpy(&value, bytes, sizeof(value));
    return value;
}

uint64_t read_u64(struct reader *r)
{
    const uint8_t *bytes = read_bytes(r, 8);
    uint64_t value = 0;
    if (bytes)
        memcpy(&value, bytes, sizeof(value));
    return value;
}

/* The tenth byte may only hold bit 63; a last byte of 0 behind others says nothing, so there
 * would be two ways to write one number. Both fail. */
uint64_t read_varint(struct reader *r)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        uint8_t byte = read_u8(r);
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            if ((byte == 0 && i > 0) || (byte > 1 && i == VARINT_BYTES_MAX - 1))
                break;
            return value;
        }
    }
    reader_fail(r);
    return 0;
}

int64_t read_zigzag(struct reader *r)
{
    uint64_t value = read_varint(r);
    return (int64_t)((value >> 1) ^ -(value & 1));
}

struct slice read_string(struct reader *r)
{
    uint16_t len = read_u16(r);
    const uint8_t *bytes = read_bytes(r, len);
    return (struct slice){bytes, bytes ? len : 0};
}

uint32_t read_count(struct reader *r, uint32_t count, size_t element_bytes_min)
{
    ASSERT(element_bytes_min >= 1);
    if (LIKELY(count <= reader_remaining(r) / element_bytes_min))
        return count;
    reader_fail(r);
    return 0;
}

void write_bytes(struct writer *w, const void *bytes, size_t len)
{
    uint8_t *to = writer_reserve(w, len);
    if (to && len > 0)
        memcpy(to, bytes, len);
}

void write_u8(struct writer *w, uint8_t value)
{
    write_bytes(w, &value, sizeof(value));
}

void write_u16(struct writer *w, uint16_t value)
{
    write_bytes(w, &value, sizeof(value));
}

void write_u32(struct writer *w, uint32_t value)
{
    write_bytes(w, &value, sizeof(value));
}

void write_u64(struct writer *w, uint64_t value)
{
    write_bytes(w, &value, sizeof(value));
}

void write_varint(struct writer *w, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t len = 0;
    while (value >= 0x80) {
        bytes[len++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[len++] = (uint8_t)value;
    write_bytes(w, bytes, len);
}

void write_zigzag(struct writer *w, int64_t value)
{
    write_varint(w, ((uint64_t)value << 1) ^ (uint64_t)(value >> 63));
}

void write_string(struct writer *w, struct slice s)
{
    if (s.len > UINT16_MAX) {
        w->failed = true;
        return;
    }
    write_u16(w, (uint16_t)s.len);
    write_bytes(w, s.bytes, s.len);
}

void write_text(struct writer *w, const char *text)
{
    write_string(w, slice_of_text(text));
}

bool slice_equals(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.bytes, b.bytes, a.len) == 0);
}

static const uint8_t *reader_fail(struct reader *r)
{
    r->failed = true;
    r->at = r->end;
    return NULL;
}

static uint8_t *writer_reserve(struct writer *w, size_t len)
{
    if (UNLIKELY(w->failed || len > (size_t)(w->end - w->at))) {
        w->failed = true;
        return NULL;
    }
    uint8_t *to = w->at;
    w->at += len;
    return to;
}
