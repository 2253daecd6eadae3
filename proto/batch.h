/* The record batch: Kafka's record batch v2 (magic 2), one layout from producer to disk to
 * consumer.
 *
 * Base offset and leader epoch lie outside the CRC-32C, so the shard sets them without touching
 * the rest. Byte tables: docs/protocol.md, "The record batch". All fields are big-endian; varints
 * are zigzag. */
#ifndef SLUICE_PROTO_BATCH_H
#define SLUICE_PROTO_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/check.h"
#include "proto/cursor.h"
#include "proto/errors.h"

#define BATCH_HEADER_SIZE 61
#define BATCH_HEAD_SIZE 16       // base offset, length, leader epoch: what the shard may set
#define BATCH_LENGTH_OVERHEAD 12 // total size = batch_length + 12

struct batch_header {
    be64 base_offset;
    be32 batch_length;
    be32 leader_epoch;
    uint8_t magic; // 2
    be32 crc;      // CRC-32C of everything from `attributes` to the end
    be16 attributes;
    be32 last_offset_delta;
    be64 base_timestamp;
    be64 max_timestamp;
    be64 producer_id; // UINT64_MAX: none
    be16 producer_epoch;
    be32 base_sequence;
    be32 record_count;
} __attribute__((packed));
static_assert(sizeof(struct batch_header) == BATCH_HEADER_SIZE, "kafka record batch v2");
static_assert(offsetof(struct batch_header, attributes) == 21, "kafka record batch v2");
static_assert(offsetof(struct batch_header, record_count) == 57, "kafka record batch v2");

enum batch_codec {
    CODEC_NONE = 0,
    CODEC_GZIP = 1,
    CODEC_SNAPPY = 2,
    CODEC_LZ4 = 3,
    CODEC_ZSTD = 4
};
enum batch_attributes {
    BATCH_CODEC_MASK = 7,
    BATCH_LOG_APPEND_TIME = 8,
    BATCH_TRANSACTIONAL = 16,
    BATCH_CONTROL = 32,
};

#define PRODUCER_NONE UINT64_MAX

/* The header's fields in host order. */
struct batch_info {
    uint64_t base_offset;
    uint32_t size; // whole batch in bytes
    uint32_t record_count;
    uint16_t attributes;
    int64_t base_timestamp;
    int64_t max_timestamp;
    uint64_t producer_id; // PRODUCER_NONE
    uint16_t producer_epoch;
    uint32_t base_sequence;
};

struct batch_limits {
    uint32_t batch_bytes_max;
    uint32_t record_bytes_max;
};

/* Everything that can be said without decompressing: exactly one batch in `len` bytes, magic,
 * lengths, counts, known codec, no control or (unless `staged`) transactional bit, timestamps,
 * CRC-32C, for an uncompressed batch a walk over its records, for LZ4 one over the frame's
 * blocks. Base offset and leader epoch may have any value. Returns PE_NONE, or a proto_error and
 * *why (static text); then *info isn't set. */
uint16_t batch_check(const uint8_t *bytes, size_t len, const struct batch_limits *limits,
                     bool staged, struct batch_info *info, const char **why);

/* Header fields only, of a batch that was checked before. False when bytes can't be a batch;
 * info->size may be more than what is available. */
bool batch_peek(const uint8_t *bytes, size_t available, struct batch_info *info);

/* CRC-32C and framing again, on what comes back from disk or wire. */
bool batch_is_intact(const uint8_t *bytes, size_t len);

/* Sets base offset and leader epoch in place. */
void batch_set_head(uint8_t *bytes, uint64_t base_offset, uint32_t leader_epoch);

/* ---- building ---- */

struct record_header { // of a record, not of the protocol
    struct slice key;
    struct slice value; // bytes NULL: null
};
struct record {
    int64_t timestamp_ms;
    struct slice key;   // bytes NULL: null
    struct slice value; // bytes NULL: null
    const struct record_header *headers;
    uint32_t header_count;
};

/* What record_bytes_max limits: the bytes of key, value, and the headers' keys and values. */
uint64_t record_payload_size(const struct record *record);

/* Appends records to a caller's buffer of at most INT32_MAX bytes. Nothing is allocated. */
struct batch_builder {
    uint8_t *bytes;
    uint32_t capacity;
    uint32_t len; // BATCH_HEADER_SIZE when empty
    uint32_t record_count;
    uint16_t attributes; // besides the codec: BATCH_TRANSACTIONAL, or 0
    int64_t base_timestamp;
    int64_t max_timestamp;
    /* The records' CRC-32C as far as it has been computed: their first bytes up to `summed`. */
    uint32_t crc;
    uint32_t summed;
    uint32_t sum_at; // length at which it goes on; UINT32_MAX: all of it is left to finish()
};
void batch_builder_init(struct batch_builder *b, uint8_t *bytes, uint32_t capacity);
/* For a batch that will not be compressed: computes the CRC on the way, every 4 KiB, while the
 * records are in the cache of whoever adds them. */
void batch_builder_sum_early(struct batch_builder *b);
/* Exact bytes this record would add now; UINT32_MAX: more than any batch holds. */
uint32_t batch_builder_record_size(const struct batch_builder *b, const struct record *record);
/* 0, or E_FULL when it doesn't fit (nothing changed). */
MUST_USE int batch_builder_add(struct batch_builder *b, const struct record *record);

/* Fills the header and CRC of a batch of at least one record. CODEC_LZ4 compresses the records
 * into `scratch` (at least batch_compress_bound(len)) as an LZ4 frame with independent 64 KiB
 * blocks; when that isn't smaller the batch stays uncompressed. *out is the batch (in builder's
 * bytes or scratch). Returns its size. */
uint32_t batch_builder_finish(struct batch_builder *b, enum batch_codec codec, uint64_t producer_id,
                              uint16_t producer_epoch, uint32_t base_sequence, uint8_t *scratch,
                              uint32_t scratch_size, uint8_t **out);
uint32_t batch_compress_bound(uint32_t len);
/* Rewrites the producer identity (and so the CRC) of a finished batch, for a new epoch. */
void batch_set_producer(uint8_t *batch, uint64_t producer_id, uint16_t producer_epoch,
                        uint32_t base_sequence);

/* ---- reading ---- */

/* Bytes of buffer that are enough for the records of a batch uncompressed, which may be `limit`
 * bytes. For LZ4 the frame is walked: the sum of its blocks' bounds, or, when that is above the
 * limit, the exact size and what decoding wants besides (some bytes: lz4_frame.h). Returns the size,
 * or < 0: CORRUPT, TOO_LARGE (the records are more than limit), UNSUPPORTED (codec). */
int64_t batch_records_size(const uint8_t *batch, size_t len, uint32_t limit);

struct batch_iterator {
    struct batch_info info;
    struct reader records;
    uint32_t index; // of the next record
};
/* Opens an intact batch; compressed records go into `buffer` (batch_records_size() bytes or more;
 * unused and may be NULL for others). Slices of records point into the batch or the buffer. A
 * control batch (never made by Sluice) has no records. Returns 0, CORRUPT, TOO_LARGE,
 * UNSUPPORTED. */
MUST_USE int batch_iterator_init(struct batch_iterator *it, const uint8_t *batch, size_t len,
                                 uint8_t *buffer, uint32_t buffer_size);
struct record_view {
    uint64_t offset;
    int64_t timestamp_ms;
    struct slice key, value; // bytes NULL: null
    uint64_t payload_bytes;  // as record_payload_size()
    uint32_t header_count;
    struct reader headers; // record_view_header() header_count times
};
/* 1: a record; 0: the end; CORRUPT. With LOG_APPEND_TIME all records have the batch's max
 * timestamp. */
MUST_USE int batch_iterator_next(struct batch_iterator *it, struct record_view *record);
void record_view_header(struct record_view *record, struct record_header *header);

#endif
