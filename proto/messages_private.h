/* What the message codecs share. Only messages*.c include this. */
#ifndef SLUICE_PROTO_MESSAGES_PRIVATE_H
#define SLUICE_PROTO_MESSAGES_PRIVATE_H

#include "proto/messages.h"

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

/* Walks settings; *allowed becomes false when a key or value is no text. (messages_topic.c) */
void walk_settings(struct reader *r, struct msg_settings *m, bool *allowed);

/* The fields of a struct msg_error, without a demand on what follows. (messages.c) */
void walk_error(struct reader *r, struct msg_error *m, bool *allowed);

#endif
