/* Reading records out of batches: what consumers do with what the broker delivers.
 *
 * The happy path is: batch_iterator_init() on an intact batch, which decompresses into the
 * caller's buffer when need be, then batch_iterator_next() until 0. The checks are bounds, not
 * rules: a batch that the broker let pass under header validation may hold anything behind its
 * CRC, so each length is held against what remains, and a batch that doesn't end where its count
 * says is CORRUPT. */
#include "proto/batch.h"

#include "base/status.h"
#include "proto/lz4_frame.h"
#include "proto/record.h"

static bool peek_whole(const uint8_t *batch, size_t len, struct batch_info *info);
static int records_open(struct batch_iterator *it, const uint8_t *records, size_t len,
                        uint8_t *buffer, uint32_t buffer_size);
static struct slice take_bytes(struct reader *r);

int64_t batch_records_size(const uint8_t *batch, size_t len, uint32_t limit)
{
    struct batch_info info;
    if (!peek_whole(batch, len, &info))
        return E_CORRUPT;
    const uint8_t *records = batch + BATCH_HEADER_SIZE;
    size_t records_len = len - BATCH_HEADER_SIZE;
    switch (info.attributes & BATCH_CODEC_MASK) {
    case CODEC_NONE:
        return records_len <= limit ? (int64_t)records_len : E_TOO_LARGE;
    case CODEC_LZ4: {
        int64_t bound = lz4_frame_bound(records, records_len);
        if (bound <= (int64_t)limit)
            return bound < 0 ? bound : bound + LZ4_FRAME_SLACK;
        int64_t size = lz4_frame_size(records, records_len, limit);
        return size < 0 ? size : size + LZ4_FRAME_SLACK;
    }
    default:
        return E_UNSUPPORTED;
    }
}

int batch_iterator_init(struct batch_iterator *it, const uint8_t *batch, size_t len,
                        uint8_t *buffer, uint32_t buffer_size)
{
    *it = (struct batch_iterator){0};
    if (!peek_whole(batch, len, &it->info))
        return E_CORRUPT;
    if (it->info.attributes & BATCH_CONTROL) {
        it->info.record_count = 0;
        return E_OK;
    }
    return records_open(it, batch + BATCH_HEADER_SIZE, len - BATCH_HEADER_SIZE, buffer,
                        buffer_size);
}

int batch_iterator_next(struct batch_iterator *it, struct record_view *record)
{
    struct record_fields f;
    if (it->index == it->info.record_count)
        return it->records.at == it->records.end ? 0 : E_CORRUPT;
    if (UNLIKELY(!record_parse(it->records.at, it->records.end, &f)))
        return E_CORRUPT;
    if (UNLIKELY((uint32_t)f.offset_delta != it->index))
        return E_CORRUPT;
    const struct batch_info *info = &it->info;
    bool append_time = info->attributes & BATCH_LOG_APPEND_TIME;
    *record = (struct record_view){
        .offset = info->base_offset + it->index,
        .timestamp_ms =
            append_time ? info->max_timestamp
                        : (int64_t)((uint64_t)info->base_timestamp + (uint64_t)f.timestamp_delta),
        .key = f.key,
        .value = f.value,
        .payload_bytes = f.payload_bytes,
        .header_count = f.header_count,
        .headers = {.at = f.headers, .end = f.end},
    };
    it->records.at = f.end;
    it->index++;
    return 1;
}

void record_view_header(struct record_view *record, struct record_header *header)
{
    header->key = take_bytes(&record->headers);
    header->value = take_bytes(&record->headers);
}

static bool peek_whole(const uint8_t *batch, size_t len, struct batch_info *info)
{
    return batch_peek(batch, len, info) && info->size == len;
}

static int records_open(struct batch_iterator *it, const uint8_t *records, size_t len,
                        uint8_t *buffer, uint32_t buffer_size)
{
    switch (it->info.attributes & BATCH_CODEC_MASK) {
    case CODEC_NONE:
        it->records = reader_make(records, len);
        return E_OK;
    case CODEC_LZ4: {
        int64_t size = buffer ? lz4_frame_decode(records, len, buffer, buffer_size) : E_TOO_LARGE;
        if (size < 0)
            return (int)size;
        it->records = reader_make(buffer, (size_t)size);
        return E_OK;
    }
    default:
        return E_UNSUPPORTED;
    }
}

/* The record was parsed whole, so its headers are well-formed; a caller that asks for more than
 * header_count of them gets nulls. */
static struct slice take_bytes(struct reader *r)
{
    struct slice bytes;
    const uint8_t *next = record_take_bytes(r->at, r->end, &bytes);
    r->at = next ? next : r->end;
    return bytes;
}
