/* Record batches: the gate, the sizes, the iterator, and LZ4 behind it.
 *
 * Input: first byte: 1 = give the batch a right length and CRC, 2 = staged, 4 = a small buffer, 8
 * = the rest is the records of a batch whose header is made here; the rest is the batch. Held
 * against: what the gate lets pass uncompressed can be read to its last record with the values it
 * promised; sizes agree with what comes out; nothing is read or written outside blocks of exactly
 * their size. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/status.h"
#include "proto/batch.h"
#include "proto/lz4_frame.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/proto/read_any.h"

enum { FLAG_SEAL = 1, FLAG_STAGED = 2, FLAG_SMALL = 4, FLAG_RECORDS = 8, FLAG_LZ4 = 16 };

#define CONTENT_MAX (1u << 15)
#define CONTENT_SMALL 100u

static const struct batch_limits limits = {.batch_bytes_max = 1u << 16, .record_bytes_max = 1000};

static uint8_t *make_batch(const uint8_t *data, size_t size, uint8_t flags, size_t *len);
static int read_records(const uint8_t *batch, size_t len, uint32_t capacity, uint32_t *count);
static void check_record(struct record_view *record, const struct batch_info *info);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_info info;
    const char *why;
    uint32_t count = 0;
    size_t len;
    if (size < 1)
        return 0;
    uint8_t flags = data[0];
    uint32_t capacity = flags & FLAG_SMALL ? CONTENT_SMALL : CONTENT_MAX;
    uint8_t *batch = make_batch(data + 1, size - 1, flags, &len);

    memory_bound_begin();
    uint16_t error = batch_check(batch, len, &limits, flags & FLAG_STAGED, &info, &why);
    ASSERT((error == PE_NONE) == (why == NULL));
    int64_t needed = batch_records_size(batch, len, capacity);
    ASSERT(needed <= (int64_t)capacity + LZ4_FRAME_SLACK);
    int status = read_records(batch, len, capacity, &count);
    if (error == PE_NONE) {
        ASSERT(batch_is_intact(batch, len));
        if ((info.attributes & BATCH_CODEC_MASK) == CODEC_NONE)
            ASSERT(status == E_OK && count == info.record_count);
    }
    if (status == E_OK && needed >= 0) { // what the size promised is enough
        uint32_t again = 0;
        ASSERT(read_records(batch, len, (uint32_t)needed, &again) == E_OK);
        ASSERT(again == count);
    }
    memory_bound_end(size, 0);
    return 0;
}

/* A block of exactly the batch's size. */
static uint8_t *make_batch(const uint8_t *data, size_t size, uint8_t flags, size_t *len)
{
    size_t head = flags & FLAG_RECORDS ? BATCH_HEADER_SIZE : 0;
    *len = head + size;
    uint8_t *batch = exact_block(0, *len);
    memset(batch, 0, head);
    if (size > 0)
        memcpy(batch + head, data, size);
    struct batch_header *header = (struct batch_header *)batch;
    if (head > 0) {
        uint32_t count = size > 0 ? data[size - 1] : 1;
        header->magic = 2;
        header->attributes = be16_make(flags & FLAG_LZ4 ? CODEC_LZ4 : CODEC_NONE);
        header->record_count = be32_make(count);
        header->last_offset_delta = be32_make(count - 1);
    }
    if ((flags & FLAG_SEAL || head > 0) && *len >= BATCH_HEADER_SIZE && *len < (1u << 20)) {
        header->batch_length = be32_make((uint32_t)*len - BATCH_LENGTH_OVERHEAD);
        batch_set_producer(batch, be64_get(header->producer_id), be16_get(header->producer_epoch),
                           be32_get(header->base_sequence));
    }
    return batch;
}

static int read_records(const uint8_t *batch, size_t len, uint32_t capacity, uint32_t *count)
{
    struct batch_iterator it;
    struct record_view record;
    uint8_t *buffer = exact_block(1, capacity);
    int status = batch_iterator_init(&it, batch, len, buffer, capacity);
    if (status == E_OK) {
        while ((status = batch_iterator_next(&it, &record)) == 1) {
            check_record(&record, &it.info);
            ++*count;
        }
    }
    ASSERT(status == E_OK || status == E_CORRUPT || status == E_TOO_LARGE ||
           status == E_UNSUPPORTED);
    return status;
}

static void check_record(struct record_view *record, const struct batch_info *info)
{
    struct record_header header;
    ASSERT(record->offset - info->base_offset < info->record_count);
    touch_slice(record->key);
    touch_slice(record->value);
    for (uint32_t i = 0; i < record->header_count; i++) {
        record_view_header(record, &header);
        ASSERT(header.key.bytes);
        touch_slice(header.key);
        touch_slice(header.value);
    }
    ASSERT(record->headers.at == record->headers.end);
}
