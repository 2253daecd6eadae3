/* Building record batches in a caller's buffer.
 *
 * The happy path is: init, add until E_FULL or until it is time to send, finish. Adding computes
 * the record's exact size first (its length comes before it on the wire) and then writes without
 * further checks; finishing fills the header and computes the CRC-32C. Nothing here fails except
 * for lack of room, and then nothing changed. */
#include "proto/batch.h"

#include "base/hash.h"
#include "base/status.h"
#include "proto/lz4_frame.h"
#include "proto/record.h"

/* What a record will take, computed before it is written. */
struct plan {
    int64_t timestamp_delta;
    uint64_t body_size; // behind the length
    uint64_t size;      // with the length
};

static inline struct plan plan_record(const struct batch_builder *b, const struct record *record);
static uint64_t headers_size(const struct record *record);
static inline uint64_t bytes_size(struct slice bytes);
static inline uint8_t *put_record(uint8_t *to, const struct record *record, const struct plan *plan,
                                  uint32_t offset_delta);
static uint8_t *put_headers(uint8_t *to, const struct record *record);
static inline uint8_t *put_varint(uint8_t *to, int64_t value);
static uint8_t *put_long_varint(uint8_t *to, uint64_t raw);
static inline uint8_t *put_bytes(uint8_t *to, struct slice bytes);
static uint32_t compress_records(const struct batch_builder *b, uint8_t *scratch,
                                 uint32_t scratch_size);

void batch_builder_init(struct batch_builder *b, uint8_t *bytes, uint32_t capacity)
{
    ASSERT(capacity >= BATCH_HEADER_SIZE && capacity <= INT32_MAX);
    *b = (struct batch_builder){.bytes = bytes, .capacity = capacity, .len = BATCH_HEADER_SIZE};
}

uint32_t batch_builder_record_size(const struct batch_builder *b, const struct record *record)
{
    return (uint32_t)min_u64(plan_record(b, record).size, UINT32_MAX);
}

int batch_builder_add(struct batch_builder *b, const struct record *record)
{
    struct plan plan = plan_record(b, record);
    if (UNLIKELY(b->len + plan.size > b->capacity))
        return E_FULL;
    uint8_t *end = put_record(b->bytes + b->len, record, &plan, b->record_count);
    if (b->record_count == 0)
        b->base_timestamp = b->max_timestamp = record->timestamp_ms;
    else if (record->timestamp_ms > b->max_timestamp)
        b->max_timestamp = record->timestamp_ms;
    b->len = (uint32_t)(end - b->bytes);
    b->record_count++;
    return E_OK;
}

uint32_t batch_builder_finish(struct batch_builder *b, enum batch_codec codec, uint64_t producer_id,
                              uint16_t producer_epoch, uint32_t base_sequence, uint8_t *scratch,
                              uint32_t scratch_size, uint8_t **out)
{
    ASSERT(b->record_count > 0);
    ASSERT(codec == CODEC_NONE || codec == CODEC_LZ4);
    uint32_t size = codec == CODEC_LZ4 ? compress_records(b, scratch, scratch_size) : 0;
    bool compressed = size > 0;
    *out = compressed ? scratch : b->bytes;
    if (!compressed)
        size = b->len;
    struct batch_header header = {
        .batch_length = be32_make(size - BATCH_LENGTH_OVERHEAD),
        .leader_epoch = be32_make(UINT32_MAX),
        .magic = 2,
        .attributes = be16_make(compressed ? CODEC_LZ4 : CODEC_NONE),
        .last_offset_delta = be32_make(b->record_count - 1),
        .base_timestamp = be64_make((uint64_t)b->base_timestamp),
        .max_timestamp = be64_make((uint64_t)b->max_timestamp),
        .record_count = be32_make(b->record_count),
    };
    memcpy(*out, &header, sizeof(header));
    batch_set_producer(*out, producer_id, producer_epoch, base_sequence); // and the CRC
    return size;
}

/* A compressed batch that isn't smaller is thrown away, so the room of the plain one is enough. */
uint32_t batch_compress_bound(uint32_t len)
{
    return len;
}

uint64_t record_payload_size(const struct record *record)
{
    uint64_t size = (uint64_t)record->key.len + record->value.len;
    for (uint32_t i = 0; i < record->header_count; i++)
        size += (uint64_t)record->headers[i].key.len + record->headers[i].value.len;
    return size;
}

/* Size of the compressed batch, or 0 when it would not be smaller. */
static uint32_t compress_records(const struct batch_builder *b, uint8_t *scratch,
                                 uint32_t scratch_size)
{
    ASSERT(scratch_size >= batch_compress_bound(b->len));
    uint32_t len = b->len - BATCH_HEADER_SIZE;
    uint32_t compressed =
        lz4_frame_encode(b->bytes + BATCH_HEADER_SIZE, len, scratch + BATCH_HEADER_SIZE, len - 1);
    return compressed > 0 ? BATCH_HEADER_SIZE + compressed : 0;
}

/* ---- sizes ---- */

/* The first record's timestamp is the base. The subtraction is done unsigned, since it must not be
 * undefined for what an application may have set; the gate refuses such a batch. */
static inline struct plan plan_record(const struct batch_builder *b, const struct record *record)
{
    uint64_t base = (uint64_t)(b->record_count > 0 ? b->base_timestamp : record->timestamp_ms);
    struct plan plan = {.timestamp_delta = (int64_t)((uint64_t)record->timestamp_ms - base)};
    plan.body_size = 1 + varint_size(zigzag_encode(plan.timestamp_delta)) +
                     varint_size(zigzag_encode(b->record_count)) + bytes_size(record->key) +
                     bytes_size(record->value) + varint_size(zigzag_encode(record->header_count));
    if (UNLIKELY(record->header_count > 0))
        plan.body_size += headers_size(record);
    plan.size = plan.body_size + varint_size(zigzag_encode((int64_t)plan.body_size));
    return plan;
}

static uint64_t headers_size(const struct record *record)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < record->header_count; i++) {
        uint32_t key_len = record->headers[i].key.len;
        size += varint_size(zigzag_encode(key_len)) + (uint64_t)key_len;
        size += bytes_size(record->headers[i].value);
    }
    return size;
}

static inline uint64_t bytes_size(struct slice bytes)
{
    return bytes.bytes ? varint_size(zigzag_encode(bytes.len)) + (uint64_t)bytes.len : 1;
}

/* ---- writing what was sized ---- */

static inline uint8_t *put_record(uint8_t *to, const struct record *record, const struct plan *plan,
                                  uint32_t offset_delta)
{
    to = put_varint(to, (int64_t)plan->body_size);
    *to++ = 0; // attributes
    to = put_varint(to, plan->timestamp_delta);
    to = put_varint(to, offset_delta);
    to = put_bytes(to, record->key);
    to = put_bytes(to, record->value);
    to = put_varint(to, record->header_count);
    return LIKELY(record->header_count == 0) ? to : put_headers(to, record);
}

/* A header's key is never null. */
static uint8_t *put_headers(uint8_t *to, const struct record *record)
{
    for (uint32_t i = 0; i < record->header_count; i++) {
        struct slice key = record->headers[i].key;
        to = put_varint(to, key.len);
        if (key.len > 0)
            memcpy(to, key.bytes, key.len);
        to = put_bytes(to + key.len, record->headers[i].value);
    }
    return to;
}

static inline uint8_t *put_varint(uint8_t *to, int64_t value)
{
    uint64_t raw = zigzag_encode(value);
    if (LIKELY(raw < 0x80)) {
        to[0] = (uint8_t)raw;
        return to + 1;
    }
    if (LIKELY(raw < 0x4000)) {
        to[0] = (uint8_t)(raw | 0x80);
        to[1] = (uint8_t)(raw >> 7);
        return to + 2;
    }
    return put_long_varint(to, raw);
}

static uint8_t *put_long_varint(uint8_t *to, uint64_t raw)
{
    while (raw >= 0x80) {
        *to++ = (uint8_t)(raw | 0x80);
        raw >>= 7;
    }
    *to++ = (uint8_t)raw;
    return to;
}

static inline uint8_t *put_bytes(uint8_t *to, struct slice bytes)
{
    if (!bytes.bytes)
        return put_varint(to, -1);
    to = put_varint(to, bytes.len);
    memcpy(to, bytes.bytes, bytes.len);
    return to + bytes.len;
}
