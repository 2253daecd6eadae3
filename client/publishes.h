/* The PRODUCE frames of one connection that have no answer yet, by publish number: dense from 1, so
 * a ring.
 *
 * A number that was answered out of turn stays as an empty slot until it is the oldest. */
#ifndef SLUICE_CLIENT_PUBLISHES_H
#define SLUICE_CLIENT_PUBLISHES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct parcel;

struct publish {
    struct parcel *first; // its batches in frame order, by publish_next; NULL: answered
    uint32_t batch_count;
};

struct publishes {
    struct publish *slots; // slot_count of them, power of two; number & (slot_count - 1)
    uint32_t slot_count;
    uint64_t oldest; // lowest number without an answer; == next: none
    uint64_t next;   // number of the next PRODUCE
};

#define PUBLISHES_MAX (1u << 17) // more are never in flight, whatever the broker allows

MUST_USE int publishes_init(struct publishes *publishes);
void publishes_deinit(struct publishes *publishes);

/* Forgets everything and begins at 1 again: a new connection. The chains' parcels are the caller's
 * to take out before; only ghosts are freed. */
void publishes_reset(struct publishes *publishes);

static inline uint32_t publishes_in_flight(const struct publishes *publishes)
{
    return (uint32_t)(publishes->next - publishes->oldest);
}

/* Takes the next number for a chain of batches. The chain's parcels get the number. Returns it, or
 * 0 when there is no room (limit, or no memory to grow). */
uint64_t publishes_add(struct publishes *publishes, struct parcel *first, uint32_t batch_count,
                       uint32_t limit);

/* The slot of a number that has no answer yet, or NULL: the peer made it up. */
struct publish *publishes_find(struct publishes *publishes, uint64_t number);

/* The parcel goes away before its publish is answered (expired, or its producer is freed): a ghost
 * that belongs to nobody (lane NULL) takes its place in the chain. Returns 0 or NO_MEMORY. */
MUST_USE int publishes_disown(struct publishes *publishes, struct parcel *parcel);
void publishes_free_ghost(struct parcel *ghost);

/* The number was answered: its slot is empty from now on. */
void publishes_settle(struct publishes *publishes, uint64_t number);

#endif
