/* Messages of publishing: PRODUCE, its ACK, and its failure.
 *
 * read_produce() runs once per publish on the broker's hottest path: the items are taken in
 * place, as an array of byte-order structs, and one pass over them adds up their sizes. The sum
 * must be the frame's data exactly, so that each batch's place is known before any byte of it is
 * looked at. */
#include "proto/messages_private.h"

#define ACK_FIXED 32
#define PRODUCE_RESULT_BYTES 10

struct produce_fixed { // at the head of PRODUCE's meta
    le16 batch_count;
    le16 flags;
    le32 reserved;
};
static_assert(sizeof(struct produce_fixed) == PRODUCE_META_FIXED, "wire");

struct produce_staged { // behind it when flags & PRODUCE_STAGED
    le32 coordinator;
    le32 reserved;
    le64 open_lsn;
};
static_assert(sizeof(struct produce_staged) == PRODUCE_META_STAGED, "wire");

static uint16_t check_produce_items(const struct frame *frame, const struct msg_produce *m,
                                    bool allowed);
static void walk_ack_offsets(struct reader *r, struct msg_ack *m);

/* ---- PRODUCE ---- */

uint16_t read_produce(const struct frame *frame, struct msg_produce *m)
{
    struct reader r = reader_make(frame->meta, frame->meta_length);
    const struct produce_fixed *fixed = (const void *)read_bytes(&r, sizeof(*fixed));
    if (UNLIKELY(!fixed))
        return PE_MALFORMED;
    m->batch_count = le16_get(fixed->batch_count);
    m->flags = le16_get(fixed->flags);
    m->coordinator = 0;
    m->open_lsn = 0;
    bool allowed = le32_get(fixed->reserved) == 0 && !(m->flags & ~PRODUCE_STAGED) &&
                   m->batch_count > 0 && m->batch_count <= PRODUCE_BATCH_COUNT_MAX;
    if (m->flags & PRODUCE_STAGED) {
        const struct produce_staged *staged = (const void *)read_bytes(&r, sizeof(*staged));
        if (!staged)
            return PE_MALFORMED;
        allowed = allowed && le32_get(staged->reserved) == 0;
        m->coordinator = le32_get(staged->coordinator);
        m->open_lsn = le64_get(staged->open_lsn);
    }
    if (UNLIKELY(reader_remaining(&r) != m->batch_count * sizeof(struct produce_item)))
        return PE_MALFORMED;
    m->items = (const void *)r.at;
    m->batches = frame->data;
    return check_produce_items(frame, m, allowed);
}

/* The verdict: as in meta_result(), the shape first. */
static uint16_t check_produce_items(const struct frame *frame, const struct msg_produce *m,
                                    bool allowed)
{
    uint64_t sum = 0;
    uint32_t reserved = 0;
    for (uint32_t i = 0; i < m->batch_count; i++) {
        sum += le32_get(m->items[i].batch_bytes);
        reserved |= le32_get(m->items[i].reserved);
    }
    if (UNLIKELY(sum != frame->data_length))
        return PE_MALFORMED;
    return LIKELY(allowed && reserved == 0) ? PE_NONE : PE_INVALID_ARGUMENT;
}

void write_produce_begin(struct writer *w, uint16_t batch_count, uint16_t flags)
{
    struct produce_fixed fixed = {.batch_count = le16_make(batch_count), .flags = le16_make(flags)};
    write_bytes(w, &fixed, sizeof(fixed));
}

void write_produce_staged(struct writer *w, uint32_t coordinator, uint64_t open_lsn)
{
    struct produce_staged staged = {.coordinator = le32_make(coordinator),
                                    .open_lsn = le64_make(open_lsn)};
    write_bytes(w, &staged, sizeof(staged));
}

void write_produce_item(struct writer *w, uint32_t topic_id, uint32_t partition,
                        uint32_t batch_bytes)
{
    struct produce_item item = {.topic_id = le32_make(topic_id),
                                .partition = le32_make(partition),
                                .batch_bytes = le32_make(batch_bytes)};
    write_bytes(w, &item, sizeof(item));
}

/* ---- ACK ---- */

void write_ack_begin(struct writer *w, uint64_t first, uint64_t last, uint32_t shard,
                     uint64_t durable_lsn, uint32_t offset_count)
{
    write_u64(w, first);
    write_u64(w, last);
    write_u64(w, durable_lsn);
    write_u32(w, shard);
    write_u32(w, offset_count);
}

/* Each publish has at least one batch, so there are at least as many offsets as publishes: a
 * receiver may walk first..last without fear of a range that nothing stands behind. */
uint16_t read_ack(const struct frame *frame, struct msg_ack *m)
{
    struct reader r = meta_reader(frame);
    m->first = read_u64(&r);
    m->last = read_u64(&r);
    m->durable_lsn = read_u64(&r);
    m->shard = read_u32(&r);
    m->offset_count = read_u32(&r);
    walk_ack_offsets(&r, m);
    return meta_result(&r, m->first >= 1 && m->first <= m->last &&
                               m->last - m->first < m->offset_count);
}

static void walk_ack_offsets(struct reader *r, struct msg_ack *m)
{
    const uint8_t *first = r->at;
    read_count(r, m->offset_count, 1);
    for (uint32_t i = 0; i < m->offset_count && !r->failed; i++)
        read_zigzag(r);
    m->offsets = reader_between(first, r);
    m->offset_last = 0;
}

uint64_t read_ack_offset(struct msg_ack *m)
{
    m->offset_last += (uint64_t)read_zigzag(&m->offsets);
    return m->offset_last;
}

/* ---- PRODUCE's failure ---- */

void write_produce_failure_begin(struct writer *w, uint16_t error, const char *text,
                                 uint16_t batch_count)
{
    write_error(w, error, text);
    write_u16(w, batch_count);
}

void write_produce_result(struct writer *w, const struct msg_produce_result *m)
{
    write_u16(w, m->error);
    write_u64(w, m->base_offset);
}

/* A frame that was refused before its items were known has an error and nothing else. */
uint16_t read_produce_failure(const struct frame *frame, struct msg_produce_failure *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    walk_error(&r, &m->first, &allowed);
    m->batch_count = reader_is_done(&r) ? 0 : read_u16(&r);
    const uint8_t *results = r.at;
    read_bytes(&r, (size_t)m->batch_count * PRODUCE_RESULT_BYTES);
    m->results = reader_between(results, &r);
    return meta_result(&r, allowed);
}

void read_produce_result(struct msg_produce_failure *m, struct msg_produce_result *result)
{
    result->error = read_u16(&m->results);
    result->base_offset = read_u64(&m->results);
}
