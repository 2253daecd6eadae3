/* A parcel: one record batch on its way from send() to its report, with all that belongs to it in
 * one block of memory.
 *
 *     +--------+------+------------------------------+- - - - - -+------------------+
 *     | struct | head | batch: header, then records  |   free    | opaque pointers  |
 *     | parcel | room |                         ->   |           |  <-   (one each) |
 *     +--------+------+------------------------------+- - - - - -+------------------+
 *     block           builder.bytes                              block + block_bytes
 *
 * The headroom takes the frame's header and a PRODUCE meta of one batch, so a large batch is sent
 * from where its records were written. The opaque pointers grow down from the block's end, and not
 * at all when nobody wants reports.
 *
 * Life, and who may touch it:
 *
 *   phase   | where it is         | guarded by  | ends with
 *   --------+---------------------+-------------+--------------------------------------------------
 *   open    | lane->open          | lane->lock  | full, or taken to be sent
 *   closed  | lane->queue         | lane->lock  | lane_take(): its turn to be sealed and sent
 *   sealed  | lane->unacked       | I/O thread  | ack, refusal, expiry, or the producer's end
 *   done    | client->reports,    | I/O thread, | its report; the block is released
 *           |   or producer->done |   or poller | */
#ifndef SLUICE_CLIENT_PARCEL_H
#define SLUICE_CLIENT_PARCEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/copy.h"
#include "base/list.h"
#include "proto/batch.h"
#include "proto/messages.h"

struct lane;

#define PARCEL_HEADROOM                                                                            \
    (FRAME_HEADER_SIZE + PRODUCE_META_FIXED + PRODUCE_META_STAGED +                                \
     (uint32_t)sizeof(struct produce_item))
#define SEQUENCE_MODULUS (1u << 31)

struct parcel {
    struct list link;            // in lane->queue, lane->unacked or a list of done ones
    struct parcel *publish_next; // the next batch of the same PRODUCE frame
    struct lane *lane;
    uint32_t block_bytes;
    uint32_t batch_bytes_max;
    bool compressing;  // closed, and a sender is still compressing it (lane->lock)
    bool compressed;   // finished by that sender; only the identity is missing
    bool on_wire;      // in a PRODUCE without an answer, or about to be
    bool maybe_stored; // sent, and the answer was lost: the broker may have it
    bool sending;      // io_send() reads from it now: keep it
    bool done;         // has its result; reported once it is its lane's oldest and not `sending`
    uint32_t record_count;
    uint32_t reported_count; // by a poller that stopped in the middle
    uint32_t size;           // of the finished batch
    uint32_t base_sequence;
    uint64_t publish;      // number of the PRODUCE that carries it now; 0: not on the wire
    uint64_t opened_ns;    // first record accepted: the delivery timeout and linger count from here
    uint64_t record_index; // how many records the lane had accepted before
    int status;            // result, once done
    uint64_t offset;       // of the first record, when status is OK
    struct batch_builder builder; // builder.bytes is where the batch is
};

/* Where the batch begins in a block: behind the struct, the headroom directly in front of it. */
#define PARCEL_BATCH_PLACE ((uint32_t)((sizeof(struct parcel) + PARCEL_HEADROOM + 7) & ~(size_t)7))

static inline uint8_t *parcel_bytes(const struct parcel *parcel)
{
    return parcel->builder.bytes;
}

/* Record i's opaque pointer. Only when the lane's producer keeps them. */
static inline void **parcel_opaque(struct parcel *parcel, uint32_t i)
{
    return (void **)((uint8_t *)parcel + parcel->block_bytes) - 1 - i;
}

/* Asks for the lines that whoever handles the parcel next will touch: another processor has written them, or it was long ago. One
 * parcel after the other is handled, so the next one's lines come while this one's are worked on. Any address will do. */
static inline void parcel_fetch(const struct parcel *parcel)
{
    fetch_lines(parcel, PARCEL_BATCH_PLACE + BATCH_HEADER_SIZE);
}

/* Bytes of a block for a first record that takes record_bytes in the batch. */
uint32_t parcel_bytes_needed(uint32_t record_bytes, bool opaques);

/* The largest batch a block of block_bytes can hold, opaque pointers aside. */
static inline uint32_t parcel_batch_capacity(uint32_t block_bytes)
{
    return block_bytes - PARCEL_BATCH_PLACE;
}

/* Lays a new parcel into a block. */
struct parcel *parcel_init(void *block, uint32_t block_bytes, struct lane *lane);

/* Copies an open parcel into a larger block. Returns it at its new place; the old block is the
 * caller's. */
struct parcel *parcel_move(struct parcel *parcel, void *block, uint32_t block_bytes, bool opaques);

/* Compresses the records of a closed parcel (in place; scratch is only used meanwhile). */
void parcel_compress(struct parcel *parcel, uint8_t *scratch, uint32_t scratch_size);

/* Finishes the batch with its identity: from here on its bytes stay the same, also for a retry. */
void parcel_seal(struct parcel *parcel, uint64_t producer_id, uint16_t epoch, uint32_t sequence);

#endif
