/* Bounded reading and writing of wire fields. A cursor that once failed stays failed and reads
 * zeros, so a decoder checks once at its end: nothing is ever read or written beyond `end`. */
#ifndef SLUICE_PROTO_CURSOR_H
#define SLUICE_PROTO_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/check.h"

/* A slice of received bytes; not NUL-terminated. */
struct slice {
    const uint8_t *bytes;
    uint32_t len;
};

struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_make(const void *bytes, size_t len)
{
    return (struct reader){.at = bytes, .end = (const uint8_t *)bytes + len};
}

static inline size_t reader_remaining(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

/* len bytes in place, or NULL (and failed). */
const uint8_t *read_bytes(struct reader *r, size_t len);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
uint64_t read_varint(struct reader *r); // unsigned LEB128, at most 10 bytes, no overlong form
int64_t read_zigzag(struct reader *r);
struct slice read_string(struct reader *r); // u16 length, bytes

/* A count of elements that take at least element_bytes_min (>= 1) each: fails when they can't fit
 * into what remains, so that a count never makes anybody loop or allocate beyond the input. */
uint32_t read_count(struct reader *r, uint32_t count, size_t element_bytes_min);

/* True when nothing failed and nothing is left over. */
static inline bool reader_is_done(const struct reader *r)
{
    return !r->failed && r->at == r->end;
}

struct writer {
    uint8_t *start;
    uint8_t *at;
    uint8_t *end;
    bool failed; // did not fit
};

static inline struct writer writer_make(void *bytes, size_t capacity)
{
    return (struct writer){.start = bytes, .at = bytes, .end = (uint8_t *)bytes + capacity};
}

static inline uint32_t writer_length(const struct writer *w)
{
    return (uint32_t)(w->at - w->start);
}

void write_bytes(struct writer *w, const void *bytes, size_t len);
void write_u8(struct writer *w, uint8_t value);
void write_u16(struct writer *w, uint16_t value);
void write_u32(struct writer *w, uint32_t value);
void write_u64(struct writer *w, uint64_t value);
void write_varint(struct writer *w, uint64_t value);
void write_zigzag(struct writer *w, int64_t value);
void write_string(struct writer *w, struct slice s); // fails above 65535 bytes
void write_text(struct writer *w, const char *text); // NUL-terminated, as write_string

static inline struct slice slice_of_text(const char *text)
{
    return (struct slice){(const uint8_t *)text, (uint32_t)strlen(text)};
}

bool slice_equals(struct slice a, struct slice b);
bool slice_is_utf8(struct slice s); // well-formed, without NUL

#endif
