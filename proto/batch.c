/* Checking and patching record batches: what the broker does with what producers send.
 *
 * batch_check() is the gate; its happy path is: framing, size, CRC-32C, header fields, then a
 * walk over the records (uncompressed: about 5 ns each) or over the block lengths of an LZ4
 * frame. Records that are compressed otherwise are trusted as far as the CRC reaches, since
 * decompressing is the consumer's work. The order of checks is part of the answer: the CRC comes
 * before any field that it covers, so that a damaged batch is called damaged (and may be sent
 * again) and not ill-formed.
 *
 * batch_is_intact() is the same without the rules, for bytes that passed them once: it finds
 * damage of disk and wire. */
#include "proto/batch.h"

#include "base/hash.h"
#include "proto/lz4_frame.h"
#include "proto/record.h"

#define CRC_COVERS_FROM offsetof(struct batch_header, attributes)

enum { BATCH_DELETE_HORIZON = 64 }; // set by Kafka's log cleaner only

struct verdict {
    uint16_t error; // PE_NONE: goes on
    const char *why;
};

static struct verdict check_framing(const uint8_t *bytes, size_t len,
                                    const struct batch_limits *limits);
static struct verdict check_attributes(const struct batch_info *info, bool staged);
static struct verdict check_count(const struct batch_header *header);
static struct verdict check_producer(const struct batch_info *info);
static struct verdict check_timestamps(const struct batch_info *info);
static struct verdict check_records(const uint8_t *bytes, const struct batch_info *info,
                                    const struct batch_limits *limits);
static struct verdict walk_records(const uint8_t *bytes, const struct batch_info *info,
                                   uint32_t record_bytes_max);
static struct verdict check_lz4(const uint8_t *bytes, const struct batch_info *info);
static struct verdict refuse(uint16_t error, const char *why);
static const struct verdict pass = {PE_NONE, NULL};
static uint32_t compute_crc(const uint8_t *bytes, uint32_t size);

uint16_t batch_check(const uint8_t *bytes, size_t len, const struct batch_limits *limits,
                     bool staged, struct batch_info *info, const char **why)
{
    struct batch_info found;
    struct verdict v = check_framing(bytes, len, limits);
    if (v.error == PE_NONE) {
        ASSERT(batch_peek(bytes, len, &found));
        v = check_attributes(&found, staged);
    }
    if (v.error == PE_NONE)
        v = check_count((const struct batch_header *)bytes);
    if (v.error == PE_NONE)
        v = check_producer(&found);
    if (v.error == PE_NONE)
        v = check_timestamps(&found);
    if (v.error == PE_NONE)
        v = check_records(bytes, &found, limits);
    *why = v.why;
    if (v.error == PE_NONE)
        *info = found;
    return v.error;
}

bool batch_peek(const uint8_t *bytes, size_t available, struct batch_info *info)
{
    const struct batch_header *header = (const struct batch_header *)bytes;
    if (available < BATCH_HEADER_SIZE || header->magic != 2)
        return false;
    uint32_t length = be32_get(header->batch_length);
    if (length < BATCH_HEADER_SIZE - BATCH_LENGTH_OVERHEAD ||
        length > INT32_MAX - BATCH_LENGTH_OVERHEAD)
        return false;
    *info = (struct batch_info){
        .base_offset = be64_get(header->base_offset),
        .size = length + BATCH_LENGTH_OVERHEAD,
        .record_count = be32_get(header->record_count),
        .attributes = be16_get(header->attributes),
        .base_timestamp = (int64_t)be64_get(header->base_timestamp),
        .max_timestamp = (int64_t)be64_get(header->max_timestamp),
        .producer_id = be64_get(header->producer_id),
        .producer_epoch = be16_get(header->producer_epoch),
        .base_sequence = be32_get(header->base_sequence),
    };
    return true;
}

bool batch_is_intact(const uint8_t *bytes, size_t len)
{
    struct batch_info info;
    if (!batch_peek(bytes, len, &info) || info.size != len)
        return false;
    const struct batch_header *header = (const struct batch_header *)bytes;
    return compute_crc(bytes, info.size) == be32_get(header->crc);
}

void batch_set_head(uint8_t *bytes, uint64_t base_offset, uint32_t leader_epoch)
{
    struct batch_header *header = (struct batch_header *)bytes;
    header->base_offset = be64_make(base_offset);
    header->leader_epoch = be32_make(leader_epoch);
}

void batch_set_producer(uint8_t *batch, uint64_t producer_id, uint16_t producer_epoch,
                        uint32_t base_sequence)
{
    struct batch_header *header = (struct batch_header *)batch;
    header->producer_id = be64_make(producer_id);
    header->producer_epoch = be16_make(producer_epoch);
    header->base_sequence = be32_make(base_sequence);
    uint32_t size = be32_get(header->batch_length) + BATCH_LENGTH_OVERHEAD;
    header->crc = be32_make(compute_crc(batch, size));
}

/* ---- the rules ---- */

static struct verdict check_framing(const uint8_t *bytes, size_t len,
                                    const struct batch_limits *limits)
{
    struct batch_info info;
    if (len < BATCH_HEADER_SIZE)
        return refuse(PE_INVALID_RECORD, "fewer bytes than the batch header's 61");
    if (len > limits->batch_bytes_max)
        return refuse(PE_BATCH_TOO_LARGE, NULL);
    if (!batch_peek(bytes, len, &info))
        return refuse(PE_INVALID_RECORD, "magic is not 2, or the batch length is out of range");
    if (info.size != len)
        return refuse(PE_INVALID_RECORD, "batch length + 12 is not the number of bytes given");
    if (!batch_is_intact(bytes, len))
        return refuse(PE_CORRUPT_BATCH, NULL);
    return pass;
}

static struct verdict check_attributes(const struct batch_info *info, bool staged)
{
    if ((info->attributes & BATCH_CODEC_MASK) > CODEC_ZSTD)
        return refuse(PE_UNSUPPORTED_COMPRESSION, "compression types 5 to 7 don't exist");
    if (info->attributes & BATCH_CONTROL)
        return refuse(PE_INVALID_RECORD, "control batches are not taken from clients");
    if (info->attributes & BATCH_DELETE_HORIZON)
        return refuse(PE_INVALID_RECORD, "the delete horizon is not taken from clients");
    if (info->attributes & BATCH_TRANSACTIONAL && !staged)
        return refuse(PE_INVALID_RECORD, "the transactional bit is set outside a transaction");
    if (info->attributes & BATCH_LOG_APPEND_TIME)
        return refuse(PE_INVALID_TIMESTAMP, "log append time is set by the broker only");
    return pass;
}

static struct verdict check_count(const struct batch_header *header)
{
    uint32_t count = be32_get(header->record_count);
    if (count == 0 || count > INT32_MAX)
        return refuse(PE_INVALID_RECORD, "the record count is not in 1..2147483647");
    if (be32_get(header->last_offset_delta) != count - 1)
        return refuse(PE_INVALID_RECORD, "the last offset delta is not the record count - 1");
    return pass;
}

/* All three fields are signed on the wire; -1 is "none" and makes the others meaningless. */
static struct verdict check_producer(const struct batch_info *info)
{
    if (info->producer_id == PRODUCER_NONE)
        return pass;
    if (info->producer_id > INT64_MAX)
        return refuse(PE_INVALID_RECORD, "the producer id is negative");
    if (info->producer_epoch > INT16_MAX || info->base_sequence > INT32_MAX)
        return refuse(PE_INVALID_RECORD, "a producer id without producer epoch and base sequence");
    return pass;
}

static struct verdict check_timestamps(const struct batch_info *info)
{
    if (info->base_timestamp < 0)
        return refuse(PE_INVALID_TIMESTAMP, "the base timestamp is negative");
    if (info->max_timestamp < info->base_timestamp)
        return refuse(PE_INVALID_TIMESTAMP, "the max timestamp is below the base timestamp");
    return pass;
}

static struct verdict check_records(const uint8_t *bytes, const struct batch_info *info,
                                    const struct batch_limits *limits)
{
    switch (info->attributes & BATCH_CODEC_MASK) {
    case CODEC_NONE:
        return walk_records(bytes, info, limits->record_bytes_max);
    case CODEC_LZ4:
        return check_lz4(bytes, info);
    default:
        return pass;
    }
}

static struct verdict walk_records(const uint8_t *bytes, const struct batch_info *info,
                                   uint32_t record_bytes_max)
{
    const uint8_t *at = bytes + BATCH_HEADER_SIZE;
    const uint8_t *end = bytes + info->size;
    int64_t max_timestamp = 0;
    if (info->record_count > (uint64_t)(end - at) / RECORD_BYTES_MIN)
        return refuse(PE_INVALID_RECORD, "the record count is more than the bytes can hold");
    for (uint32_t i = 0; i < info->record_count; i++) {
        struct record_fields f;
        int64_t timestamp;
        if (UNLIKELY(!record_parse(at, end, &f)))
            return refuse(PE_INVALID_RECORD, "a record's lengths don't fit together");
        if (UNLIKELY((uint32_t)f.offset_delta != i))
            return refuse(PE_INVALID_RECORD, "a record's offset delta is not its place");
        if (UNLIKELY(f.payload_bytes > record_bytes_max))
            return refuse(PE_RECORD_TOO_LARGE, NULL);
        if (UNLIKELY(__builtin_add_overflow(info->base_timestamp, f.timestamp_delta, &timestamp) ||
                     timestamp < 0))
            return refuse(PE_INVALID_TIMESTAMP, "a record's timestamp is negative");
        max_timestamp = timestamp > max_timestamp ? timestamp : max_timestamp;
        at = f.end;
    }
    if (at != end)
        return refuse(PE_INVALID_RECORD, "there are bytes behind the last record");
    if (max_timestamp != info->max_timestamp)
        return refuse(PE_INVALID_TIMESTAMP, "the max timestamp is not that of the records");
    return pass;
}

/* A count that the content can't hold would move offsets for records that nobody ever sees. */
static struct verdict check_lz4(const uint8_t *bytes, const struct batch_info *info)
{
    int64_t bound = lz4_frame_bound(bytes + BATCH_HEADER_SIZE, info->size - BATCH_HEADER_SIZE);
    if (bound < 0)
        return refuse(PE_INVALID_RECORD, "not one LZ4 frame of independent blocks");
    if (info->record_count > (uint64_t)bound / RECORD_BYTES_MIN)
        return refuse(PE_INVALID_RECORD, "the record count is more than the LZ4 blocks can hold");
    return pass;
}

static struct verdict refuse(uint16_t error, const char *why)
{
    return (struct verdict){error, why ? why : proto_error_text(error)};
}

/* ---- the checksum ---- */

static uint32_t compute_crc(const uint8_t *bytes, uint32_t size)
{
    return hash_crc32c(bytes + CRC_COVERS_FROM, size - CRC_COVERS_FROM);
}
