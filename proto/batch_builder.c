/* Building record batches in a caller's buffer.
 *
 * The happy path is: init, add until E_FULL or until it is time to send, finish. Adding is in
 * batch_append.h, inline; finishing fills the header and computes the CRC-32C, or what is missing of
 * it. Nothing here fails except for lack of room, and then nothing changed. */
#include "proto/batch.h"

#include "base/hash.h"
#include "proto/batch_append.h"
#include "proto/lz4_frame.h"

#define CRC_COVERS_FROM offsetof(struct batch_header, attributes)
#define SUM_BYTES 4096 // summed at a time: much more than a call costs, and surely in the cache

static void set_producer_early(struct batch_builder *b, uint64_t producer_id,
                               uint16_t producer_epoch, uint32_t base_sequence);
static uint32_t compress_records(const struct batch_builder *b, uint8_t *scratch,
                                 uint32_t scratch_size);

void batch_builder_init(struct batch_builder *b, uint8_t *bytes, uint32_t capacity)
{
    ASSERT(capacity >= BATCH_HEADER_SIZE && capacity <= INT32_MAX);
    *b = (struct batch_builder){.bytes = bytes,
                                .capacity = capacity,
                                .len = BATCH_HEADER_SIZE,
                                .summed = BATCH_HEADER_SIZE,
                                .sum_at = UINT32_MAX};
}

void batch_builder_sum_early(struct batch_builder *b)
{
    ASSERT(b->record_count == 0);
    b->sum_at = BATCH_HEADER_SIZE + SUM_BYTES;
}

uint32_t batch_builder_record_size(const struct batch_builder *b, const struct record *record)
{
    return (uint32_t)min_u64(record_plan(b, record).size, UINT32_MAX);
}

int batch_builder_add(struct batch_builder *b, const struct record *record)
{
    return batch_append(b, record);
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
    /* In place: a header that is put together elsewhere and copied has to wait for its own stores. */
    struct batch_header *header = (struct batch_header *)*out;
    header->base_offset = be64_make(0);
    header->batch_length = be32_make(size - BATCH_LENGTH_OVERHEAD);
    header->leader_epoch = be32_make(UINT32_MAX);
    header->magic = 2;
    header->attributes = be16_make(b->attributes | (compressed ? CODEC_LZ4 : CODEC_NONE));
    header->last_offset_delta = be32_make(b->record_count - 1);
    header->base_timestamp = be64_make((uint64_t)b->base_timestamp);
    header->max_timestamp = be64_make((uint64_t)b->max_timestamp);
    header->record_count = be32_make(b->record_count);
    if (compressed || b->summed == BATCH_HEADER_SIZE)
        batch_set_producer(*out, producer_id, producer_epoch, base_sequence); // and the CRC
    else
        set_producer_early(b, producer_id, producer_epoch, base_sequence);
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

/* batch_set_producer() for a batch whose records are summed already, but for the last few: the CRC
 * begins with the header's fields, which come last. */
static void set_producer_early(struct batch_builder *b, uint64_t producer_id,
                               uint16_t producer_epoch, uint32_t base_sequence)
{
    struct batch_header *header = (struct batch_header *)b->bytes;
    header->producer_id = be64_make(producer_id);
    header->producer_epoch = be16_make(producer_epoch);
    header->base_sequence = be32_make(base_sequence);
    batch_builder_sum(b);
    uint32_t fields = hash_crc32c(&header->attributes, BATCH_HEADER_SIZE - CRC_COVERS_FROM);
    uint32_t crc = hash_crc32c_combine(fields, b->crc, b->len - BATCH_HEADER_SIZE);
    header->crc = be32_make(crc);
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

/* ---- for batch_append.h ---- */

uint64_t record_headers_size(const struct record *record)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < record->header_count; i++) {
        uint32_t key_len = record->headers[i].key.len;
        size += record_varint_size(zigzag_encode(key_len)) + (uint64_t)key_len;
        size += record_bytes_size(record->headers[i].value);
    }
    return size;
}

/* A header's key is never null. */
uint8_t *record_put_headers(uint8_t *to, const struct record *record)
{
    for (uint32_t i = 0; i < record->header_count; i++) {
        struct slice key = record->headers[i].key;
        to = record_put_varint(to, zigzag_encode(key.len));
        if (key.len > 0)
            memcpy(to, key.bytes, key.len);
        to = record_put_bytes(to + key.len, record->headers[i].value);
    }
    return to;
}

uint8_t *record_put_long_varint(uint8_t *to, uint64_t raw)
{
    while (raw >= 0x80) {
        *to++ = (uint8_t)(raw | 0x80);
        raw >>= 7;
    }
    *to++ = (uint8_t)raw;
    return to;
}

void batch_builder_sum(struct batch_builder *b)
{
    b->crc = hash_crc32c_extend(b->crc, b->bytes + b->summed, b->len - b->summed);
    b->summed = b->len;
    b->sum_at = b->len + SUM_BYTES;
}
