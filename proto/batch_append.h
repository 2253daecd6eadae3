/* Adding one record to a batch, inline: a producer does this for every record it sends, and a call
 * for each step would cost as much as the steps.
 *
 * The record's length comes before it on the wire, so its exact size is computed first; then it is
 * written without further checks. Only batch_builder.c and the code that fills a producer's batches
 * include this; all others call batch_builder_add(). */
#ifndef SLUICE_PROTO_BATCH_APPEND_H
#define SLUICE_PROTO_BATCH_APPEND_H

#include <string.h>

#include "base/copy.h"
#include "base/status.h"
#include "proto/batch.h"
#include "proto/record.h"

/* What a record will take, computed before it is written. */
struct record_plan {
    uint64_t timestamp_delta; // zigzag
    uint64_t body_size;       // behind the length
    uint64_t size;            // with the length
};

/* The parts that are too rare or too long to be inlined. */
uint64_t record_headers_size(const struct record *record);
uint8_t *record_put_headers(uint8_t *to, const struct record *record);
uint8_t *record_put_long_varint(uint8_t *to, uint64_t raw);
void batch_builder_sum(struct batch_builder *b);

/* One and two bytes are nearly all there are. */
static inline uint32_t record_varint_size(uint64_t raw)
{
    if (LIKELY(raw < 0x80))
        return 1;
    return LIKELY(raw < 0x4000) ? 2 : varint_size(raw);
}

static inline uint64_t record_bytes_size(struct slice bytes)
{
    return bytes.bytes ? record_varint_size(zigzag_encode(bytes.len)) + (uint64_t)bytes.len : 1;
}

/* The first record's timestamp is the base. The subtraction is done unsigned, since it must not be
 * undefined for what an application may have set; the gate refuses such a batch. */
static inline struct record_plan record_plan(const struct batch_builder *b,
                                             const struct record *record)
{
    uint64_t base = (uint64_t)(b->record_count > 0 ? b->base_timestamp : record->timestamp_ms);
    struct record_plan plan;
    plan.timestamp_delta = zigzag_encode((int64_t)((uint64_t)record->timestamp_ms - base));
    plan.body_size = 1 + record_varint_size(plan.timestamp_delta) +
                     record_varint_size(zigzag_encode(b->record_count)) +
                     record_bytes_size(record->key) + record_bytes_size(record->value) +
                     record_varint_size(zigzag_encode(record->header_count));
    if (UNLIKELY(record->header_count > 0))
        plan.body_size += record_headers_size(record);
    plan.size = plan.body_size + record_varint_size(zigzag_encode((int64_t)plan.body_size));
    return plan;
}

/* raw: zigzag. */
static inline uint8_t *record_put_varint(uint8_t *to, uint64_t raw)
{
    if (LIKELY(raw < 0x80)) {
        to[0] = (uint8_t)raw;
        return to + 1;
    }
    if (LIKELY(raw < 0x4000)) {
        to[0] = (uint8_t)(raw | 0x80);
        to[1] = (uint8_t)(raw >> 7);
        return to + 2;
    }
    return record_put_long_varint(to, raw);
}

static inline uint8_t *record_put_bytes(uint8_t *to, struct slice bytes)
{
    if (!bytes.bytes)
        return record_put_varint(to, zigzag_encode(-1));
    to = record_put_varint(to, zigzag_encode(bytes.len));
    if (bytes.len < COPY_COLD_BYTES_MIN)
        memcpy(to, bytes.bytes, bytes.len);
    else
        copy_cold(to, bytes.bytes, bytes.len);
    return to + bytes.len;
}

static inline uint8_t *record_put(uint8_t *to, const struct record *record,
                                  const struct record_plan *plan, uint32_t offset_delta)
{
    to = record_put_varint(to, zigzag_encode((int64_t)plan->body_size));
    *to++ = 0; // attributes
    to = record_put_varint(to, plan->timestamp_delta);
    to = record_put_varint(to, zigzag_encode(offset_delta));
    to = record_put_bytes(to, record->key);
    to = record_put_bytes(to, record->value);
    to = record_put_varint(to, zigzag_encode(record->header_count));
    return LIKELY(record->header_count == 0) ? to : record_put_headers(to, record);
}

/* batch_builder_add(). */
static inline int batch_append(struct batch_builder *b, const struct record *record)
{
    struct record_plan plan = record_plan(b, record);
    if (UNLIKELY(b->len + plan.size > b->capacity))
        return E_FULL;
    uint8_t *end = record_put(b->bytes + b->len, record, &plan, b->record_count);
    if (b->record_count == 0)
        b->base_timestamp = b->max_timestamp = record->timestamp_ms;
    else if (record->timestamp_ms > b->max_timestamp)
        b->max_timestamp = record->timestamp_ms;
    b->len = (uint32_t)(end - b->bytes);
    b->record_count++;
    if (UNLIKELY(b->len >= b->sum_at))
        batch_builder_sum(b);
    return E_OK;
}

#endif
