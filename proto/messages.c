/* Messages about the connection and the broker: error, HELLO, PRODUCER_INIT, STATUS, GOAWAY, and
 * those without a meta. Topics are in messages_topic.c, publishing in messages_produce.c, reading
 * in messages_fetch.c.
 *
 * Every read_X() runs the same way: a bounded reader over the meta takes the fields in the order
 * of their byte table, repeated elements are walked once to see that all are there, and the end
 * decides: left-over or missing bytes are MALFORMED, complete ones with a value that isn't
 * allowed INVALID_ARGUMENT. */
#include "proto/messages_private.h"

uint16_t read_empty(const struct frame *frame)
{
    struct reader r = meta_reader(frame);
    return meta_result(&r, true);
}

/* ---- error ---- */

void write_error(struct writer *w, uint16_t error, const char *text)
{
    write_u16(w, error);
    write_u8(w, proto_error_is_retriable(error));
    write_u8(w, 0);
    write_text(w, proto_error_name(error));
    write_text(w, text ? text : proto_error_text(error));
}

uint16_t read_error(const struct frame *frame, struct msg_error *m)
{
    struct reader r = meta_reader(frame);
    bool allowed = true;
    walk_error(&r, m, &allowed);
    return meta_result(&r, allowed);
}

/* The number may be one that this side doesn't know; 0 would be an error that is none. */
void walk_error(struct reader *r, struct msg_error *m, bool *allowed)
{
    m->error = read_u16(r);
    uint8_t retriable = read_u8(r);
    uint8_t reserved = read_u8(r);
    m->retriable = retriable == 1;
    m->name = read_string(r);
    m->text = read_string(r);
    *allowed = *allowed && m->error != PE_NONE && retriable <= 1 && reserved == 0 &&
               slice_is_utf8(m->name) && slice_is_utf8(m->text);
}

/* ---- HELLO ---- */

void write_hello(struct writer *w, const struct msg_hello *m)
{
    write_u16(w, m->version_min);
    write_u16(w, m->version_max);
    write_string(w, m->client_id);
    write_string(w, m->software);
}

uint16_t read_hello(const struct frame *frame, struct msg_hello *m)
{
    struct reader r = meta_reader(frame);
    m->version_min = read_u16(&r);
    m->version_max = read_u16(&r);
    m->client_id = read_string(&r);
    m->software = read_string(&r);
    return meta_result(&r, m->version_min >= 1 && m->version_min <= m->version_max &&
                               m->client_id.len <= HELLO_TEXT_BYTES_MAX &&
                               m->software.len <= HELLO_TEXT_BYTES_MAX &&
                               slice_is_utf8(m->client_id) && slice_is_utf8(m->software));
}

void write_hello_reply(struct writer *w, const struct msg_hello_reply *m)
{
    write_u16(w, m->version);
    write_u16(w, 0);
    write_bytes(w, m->store_id, sizeof(m->store_id));
    write_u32(w, m->request_bytes_max);
    write_u32(w, m->record_bytes_max);
    write_u32(w, m->batch_bytes_max);
    write_u32(w, m->publishes_max);
    write_u32(w, m->subscription_credit_min);
    write_string(w, m->software);
}

uint16_t read_hello_reply(const struct frame *frame, struct msg_hello_reply *m)
{
    struct reader r = meta_reader(frame);
    m->version = read_u16(&r);
    uint16_t reserved = read_u16(&r);
    const uint8_t *store_id = read_bytes(&r, sizeof(m->store_id));
    if (store_id)
        memcpy(m->store_id, store_id, sizeof(m->store_id));
    m->request_bytes_max = read_u32(&r);
    m->record_bytes_max = read_u32(&r);
    m->batch_bytes_max = read_u32(&r);
    m->publishes_max = read_u32(&r);
    m->subscription_credit_min = read_u32(&r);
    m->software = read_string(&r);
    return meta_result(&r, m->version >= 1 && reserved == 0 && slice_is_utf8(m->software));
}

/* ---- PRODUCER_INIT ---- */

void write_producer_init(struct writer *w, const struct msg_producer_init *m)
{
    write_u64(w, m->producer_id);
    write_u16(w, m->epoch);
}

uint16_t read_producer_init(const struct frame *frame, struct msg_producer_init *m)
{
    struct reader r = meta_reader(frame);
    m->producer_id = read_u64(&r);
    m->epoch = read_u16(&r);
    return meta_result(&r, m->producer_id <= INT64_MAX || m->producer_id == UINT64_MAX);
}

void write_producer_init_reply(struct writer *w, const struct msg_producer_init_reply *m)
{
    write_u64(w, m->producer_id);
    write_u16(w, m->epoch);
}

/* Ids and epochs go into fields of the batch that are signed, so half of their range is all there
 * is. */
uint16_t read_producer_init_reply(const struct frame *frame, struct msg_producer_init_reply *m)
{
    struct reader r = meta_reader(frame);
    m->producer_id = read_u64(&r);
    m->epoch = read_u16(&r);
    return meta_result(&r, m->producer_id <= INT64_MAX && m->epoch <= INT16_MAX);
}

/* ---- STATUS ---- */

void write_status_reply_begin(struct writer *w, bool ready, bool can_produce, bool can_consume,
                              const char *reason, uint16_t value_count)
{
    write_u8(w, ready);
    write_u8(w, can_produce);
    write_u8(w, can_consume);
    write_u8(w, 0);
    write_text(w, reason);
    write_u16(w, value_count);
}

void write_status_value(struct writer *w, const char *name, uint64_t value)
{
    write_text(w, name);
    write_u64(w, value);
}

uint16_t read_status_reply(const struct frame *frame, struct msg_status_reply *m)
{
    struct reader r = meta_reader(frame);
    uint8_t ready = read_u8(&r);
    uint8_t can_produce = read_u8(&r);
    uint8_t can_consume = read_u8(&r);
    uint8_t reserved = read_u8(&r);
    m->ready = ready == 1;
    m->can_produce = can_produce == 1;
    m->can_consume = can_consume == 1;
    m->reason = read_string(&r);
    m->value_count = read_u16(&r);
    bool allowed = ready <= 1 && can_produce <= 1 && can_consume <= 1 && reserved == 0 &&
                   slice_is_utf8(m->reason);
    const uint8_t *first = r.at;
    read_count(&r, m->value_count, sizeof(uint16_t) + sizeof(uint64_t));
    for (uint32_t i = 0; i < m->value_count && !r.failed; i++) {
        allowed = slice_is_utf8(read_string(&r)) && allowed;
        read_u64(&r);
    }
    m->values = reader_between(first, &r);
    return meta_result(&r, allowed);
}

void read_status_value(struct msg_status_reply *m, struct slice *name, uint64_t *value)
{
    *name = read_string(&m->values);
    *value = read_u64(&m->values);
}

/* ---- GOAWAY ---- */

void write_goaway(struct writer *w, const struct msg_goaway *m)
{
    write_u32(w, m->deadline_ms);
    write_string(w, m->reason);
}

uint16_t read_goaway(const struct frame *frame, struct msg_goaway *m)
{
    struct reader r = meta_reader(frame);
    m->deadline_ms = read_u32(&r);
    m->reason = read_string(&r);
    return meta_result(&r, slice_is_utf8(m->reason));
}
