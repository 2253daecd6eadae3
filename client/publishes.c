/* The ring of publishes.h. It begins small and doubles when more are in flight; only that can fail.
 */
#include "client/publishes.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "client/parcel.h"

#define SLOT_COUNT_FIRST 1024u

static bool grow(struct publishes *publishes);
static void free_ghosts(struct publishes *publishes);
static struct publish *slot_of(struct publishes *publishes, uint64_t number);

int publishes_init(struct publishes *publishes)
{
    memset(publishes, 0, sizeof(*publishes));
    publishes->slots = calloc(SLOT_COUNT_FIRST, sizeof(struct publish));
    if (!publishes->slots)
        return E_NO_MEMORY;
    publishes->slot_count = SLOT_COUNT_FIRST;
    publishes->oldest = publishes->next = 1;
    return 0;
}

void publishes_deinit(struct publishes *publishes)
{
    if (publishes->slots)
        free_ghosts(publishes);
    free(publishes->slots);
}

void publishes_reset(struct publishes *publishes)
{
    free_ghosts(publishes);
    memset(publishes->slots, 0, publishes->slot_count * sizeof(struct publish));
    publishes->oldest = publishes->next = 1;
}

uint64_t publishes_add(struct publishes *publishes, struct parcel *first, uint32_t batch_count,
                       uint32_t limit)
{
    uint32_t in_flight = publishes_in_flight(publishes);
    if (in_flight >= min_u64(limit, PUBLISHES_MAX))
        return 0;
    if (in_flight == publishes->slot_count && !grow(publishes))
        return 0;
    uint64_t number = publishes->next++;
    *slot_of(publishes, number) = (struct publish){.first = first, .batch_count = batch_count};
    for (struct parcel *parcel = first; parcel; parcel = parcel->publish_next)
        parcel->publish = number;
    return number;
}

struct publish *publishes_find(struct publishes *publishes, uint64_t number)
{
    if (number < publishes->oldest || number >= publishes->next)
        return NULL;
    struct publish *publish = slot_of(publishes, number);
    return publish->batch_count > 0 ? publish : NULL;
}

void publishes_settle(struct publishes *publishes, uint64_t number)
{
    *slot_of(publishes, number) = (struct publish){0};
    while (publishes->oldest < publishes->next &&
           slot_of(publishes, publishes->oldest)->batch_count == 0)
        publishes->oldest++;
}

int publishes_disown(struct publishes *publishes, struct parcel *parcel)
{
    struct publish *publish = publishes_find(publishes, parcel->publish);
    ASSERT(publish);
    struct parcel *ghost = calloc(1, sizeof(*ghost));
    if (!ghost)
        return E_NO_MEMORY;
    list_init(&ghost->link);
    ghost->publish = parcel->publish;
    ghost->publish_next = parcel->publish_next;
    struct parcel **place = &publish->first;
    while (*place != parcel)
        place = &(*place)->publish_next;
    *place = ghost;
    parcel->publish = 0;
    return 0;
}

void publishes_free_ghost(struct parcel *ghost)
{
    ASSERT(ghost->lane == NULL);
    free(ghost);
}

static void free_ghosts(struct publishes *publishes)
{
    for (uint64_t number = publishes->oldest; number < publishes->next; number++) {
        struct parcel *parcel = slot_of(publishes, number)->first;
        while (parcel) {
            struct parcel *next = parcel->publish_next;
            if (parcel->lane == NULL)
                publishes_free_ghost(parcel);
            parcel = next;
        }
    }
}

static struct publish *slot_of(struct publishes *publishes, uint64_t number)
{
    return &publishes->slots[number & (publishes->slot_count - 1)];
}

static bool grow(struct publishes *publishes)
{
    struct publishes larger = *publishes;
    larger.slot_count *= 2;
    larger.slots = calloc(larger.slot_count, sizeof(struct publish));
    if (!larger.slots)
        return false;
    for (uint64_t number = publishes->oldest; number < publishes->next; number++)
        *slot_of(&larger, number) = *slot_of(publishes, number);
    free(publishes->slots);
    *publishes = larger;
    return true;
}
