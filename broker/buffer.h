/* I/O buffers of a core: leased when bytes arrive, pinned by the requests whose frames lie in them.
 *
 * Counted references, owner core only. No free buffer = NULL = stop reading (or: wait with
 * delivering). */
#ifndef SLUICE_BROKER_BUFFER_H
#define SLUICE_BROKER_BUFFER_H

#include <stdint.h>

#include "base/pool.h"

enum buffer_class { BUFFER_SMALL, BUFFER_MEDIUM, BUFFER_LARGE, BUFFER_JUMBO, BUFFER_CLASS_COUNT };

struct buffer {
    uint8_t *bytes; // 4 KiB aligned
    uint32_t capacity;
    uint32_t references;
    uint32_t used; // the holder's: bytes filled, of what waits to be sent
    uint8_t class; // enum buffer_class
    uint16_t core; // owner
    struct buffer *next_free;
};

struct buffers { // one per core
    struct {
        struct buffer *free_list;
        uint32_t free_count, free_count_min, count;
    } classes[BUFFER_CLASS_COUNT];
    uint16_t core;
    uint64_t freed; // buffers ever given back: tells those who wait that trying again may help
    bool missed;    // there was none to receive or answer with; cleared by who has taken note
};

/* What a buffer is wanted for. Who waits patiently leaves some for those whose progress frees
 * others: without a free buffer for acks, the buffers of acked publishes could never be freed; and
 * slow consumers could take all. */
enum buffer_use {
    BUFFER_FOR_REPLY,    // acks and answers: may take the last one
    BUFFER_FOR_RECEIVE,  // leaves an eighth of the SMALL ones
    BUFFER_FOR_DELIVERY, // leaves half of each class
};

size_t buffers_arena_bytes(uint32_t request_bytes_max);
void buffers_init(struct buffers *buffers, uint16_t core, uint32_t request_bytes_max,
                  struct arena *arena);

/* The smallest free buffer that holds `bytes` (a larger class is tried when the fitting one is
 * empty, JUMBO never serves smaller needs). references = 1. NULL: none. */
struct buffer *buffer_acquire(struct buffers *buffers, uint32_t bytes); // BUFFER_FOR_REPLY
struct buffer *buffer_acquire_for(struct buffers *buffers, uint32_t bytes, enum buffer_use use);
void buffer_ref(struct buffer *buffer);
void buffer_unref(struct buffers *buffers, struct buffer *buffer); // the last one frees it

#endif
