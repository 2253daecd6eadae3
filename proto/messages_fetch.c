/* Messages of reading: FETCH and SUBSCRIBE, DELIVER, CREDIT, UNSUBSCRIBE, OFFSETS.
 *
 * Their items are arrays of byte-order structs, taken in place. One pass checks every item before a
 * caller sees the first, so a request is either wholly well-formed or not looked at. */
#include "proto/messages_private.h"

#define FETCH_FIXED 24

static bool fetch_items_are_valid(const struct fetch_item *items, uint32_t count);
static uint16_t check_deliver_items(const struct frame *frame, const struct msg_deliver *m);

/* ---- FETCH, SUBSCRIBE ---- */

void write_fetch_begin(struct writer *w, uint32_t bytes_max, uint32_t wait_ms, uint64_t credit,
                       uint32_t item_count)
{
    write_u32(w, bytes_max);
    write_u32(w, wait_ms);
    write_u64(w, credit);
    write_item_count(w, item_count);
}

void write_fetch_item(struct writer *w, uint32_t topic_id, uint32_t partition, uint8_t start,
                      uint32_t bytes_max, uint64_t value)
{
    struct fetch_item item = {.topic_id = le32_make(topic_id),
                              .partition = le32_make(partition),
                              .start = start,
                              .bytes_max = le32_make(bytes_max),
                              .value = le64_make(value)};
    write_bytes(w, &item, sizeof(item));
}

uint16_t read_fetch(const struct frame *frame, struct msg_fetch *m)
{
    struct reader r = meta_reader(frame);
    uint32_t reserved;
    m->bytes_max = read_u32(&r);
    m->wait_ms = read_u32(&r);
    m->credit = read_u64(&r);
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    if (!reader_is_done(&r))
        return PE_MALFORMED;
    return meta_result(&r, m->wait_ms <= FETCH_WAIT_MS_MAX && reserved == 0 &&
                               fetch_items_are_valid(m->items, m->item_count));
}

static bool fetch_items_are_valid(const struct fetch_item *items, uint32_t count)
{
    bool valid = count >= 1 && count <= FETCH_ITEM_COUNT_MAX;
    for (uint32_t i = 0; i < count && valid; i++) {
        const uint8_t *reserved = items[i].reserved;
        valid = items[i].start <= START_TIMESTAMP && !(reserved[0] | reserved[1] | reserved[2]);
    }
    return valid;
}

/* ---- DELIVER, and FETCH's reply ---- */

void write_deliver_begin(struct writer *w, uint32_t item_count)
{
    write_item_count(w, item_count);
}

uint16_t read_deliver(const struct frame *frame, struct msg_deliver *m)
{
    struct reader r = reader_make(frame->meta, frame->meta_length);
    uint32_t reserved;
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    m->batches = frame->data;
    if (!reader_is_done(&r))
        return PE_MALFORMED;
    if (reserved != 0 || m->item_count > FETCH_ITEM_COUNT_MAX)
        return PE_INVALID_ARGUMENT;
    return check_deliver_items(frame, m);
}

static uint16_t check_deliver_items(const struct frame *frame, const struct msg_deliver *m)
{
    uint64_t sum = 0;
    bool allowed = true;
    for (uint32_t i = 0; i < m->item_count; i++) {
        const struct deliver_item *item = &m->items[i];
        uint32_t bytes = le32_get(item->bytes);
        sum += bytes;
        allowed = allowed && !(le16_get(item->flags) & ~DELIVER_END) &&
                  (le16_get(item->error) == PE_NONE || bytes == 0);
    }
    if (sum != frame->data_length)
        return PE_MALFORMED;
    return allowed ? PE_NONE : PE_INVALID_ARGUMENT;
}

/* ---- CREDIT, UNSUBSCRIBE ---- */

void write_credit(struct writer *w, const struct msg_credit *m)
{
    write_u64(w, m->subscription);
    write_u64(w, m->bytes);
}

uint16_t read_credit(const struct frame *frame, struct msg_credit *m)
{
    struct reader r = meta_reader(frame);
    m->subscription = read_u64(&r);
    m->bytes = read_u64(&r);
    return meta_result(&r, true);
}

/* ---- OFFSETS ---- */

void write_offsets_begin(struct writer *w, uint32_t item_count)
{
    write_item_count(w, item_count);
}

uint16_t read_offsets(const struct frame *frame, struct msg_offsets *m)
{
    struct reader r = meta_reader(frame);
    uint32_t reserved;
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    if (!reader_is_done(&r))
        return PE_MALFORMED;
    return meta_result(&r, reserved == 0 && fetch_items_are_valid(m->items, m->item_count));
}

uint16_t read_offsets_reply(const struct frame *frame, struct msg_offsets_reply *m)
{
    struct reader r = meta_reader(frame);
    uint32_t reserved;
    m->item_count = read_item_count(&r, &reserved);
    m->items = read_items(&r, m->item_count, sizeof(*m->items));
    return meta_result(&r, reserved == 0 && m->item_count <= FETCH_ITEM_COUNT_MAX);
}
