/* What the message codecs share. Only messages*.c include this. */
#ifndef SLUICE_PROTO_MESSAGES_PRIVATE_H
#define SLUICE_PROTO_MESSAGES_PRIVATE_H

#include "proto/messages_group.h"

/* Over the meta of a frame that must carry no data; failed from the start when it does. */
static inline struct reader meta_reader(const struct frame *frame)
{
    struct reader r = reader_make(frame->meta, frame->meta_length);
    if (frame->data_length > 0) {
        r.failed = true;
        r.at = r.end;
    }
    return r;
}

/* The verdict at a decoder's end: the shape first, since values of a broken shape mean nothing. */
static inline uint16_t meta_result(const struct reader *r, bool values_allowed)
{
    if (!reader_is_done(r))
        return PE_MALFORMED;
    return values_allowed ? PE_NONE : PE_INVALID_ARGUMENT;
}

/* The bytes of `length` elements are there: [at, end) of a walk, as the reader handed to the
 * caller. */
static inline struct reader reader_between(const uint8_t *at, const struct reader *walked)
{
    return (struct reader){.at = walked->failed ? walked->end : at, .end = walked->at};
}

/* A name that is given, or ("or_none") left empty: text of at most bytes_max bytes; *allowed
 * becomes false when it is none. */
static inline struct slice read_name_or_none(struct reader *r, uint32_t bytes_max, bool *allowed)
{
    struct slice name = read_string(r);
    *allowed = *allowed && name.len <= bytes_max && slice_is_utf8(name);
    return name;
}

static inline struct slice read_name(struct reader *r, uint32_t bytes_max, bool *allowed)
{
    struct slice name = read_name_or_none(r, bytes_max, allowed);
    *allowed = *allowed && name.len > 0;
    return name;
}

/* A whole array of structs, in place; NULL (and failed) when it is not all there. In 64 bits the
 * product of a u32 count and a small size doesn't wrap. */
static inline const void *read_items(struct reader *r, uint32_t count, size_t item_size)
{
    static_assert(sizeof(size_t) == 8, "count * size fits");
    return read_bytes(r, count * item_size);
}

/* le32 item_count, le32 reserved: the head of most messages that are an array. */
static inline void write_item_count(struct writer *w, uint32_t item_count)
{
    write_u32(w, item_count);
    write_u32(w, 0);
}

static inline uint32_t read_item_count(struct reader *r, uint32_t *reserved)
{
    uint32_t count = read_u32(r);
    *reserved = read_u32(r);
    return count;
}

/* Walks settings; *allowed becomes false when a key or value is no text. (messages_topic.c) */
void walk_settings(struct reader *r, struct msg_settings *m, bool *allowed);

/* The fields of a struct msg_error, without a demand on what follows. (messages.c) */
void walk_error(struct reader *r, struct msg_error *m, bool *allowed);

/* 1..TXN_ITEM_COUNT_MAX items, and no offset that is no place in a partition. (messages_txn.c) */
bool offset_items_are_valid(const struct offset_item *items, uint32_t count);

#endif
